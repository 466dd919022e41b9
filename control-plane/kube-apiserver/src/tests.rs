//! The whole server over an in-memory store, through its service and through kube-rs.

mod apply;
mod apply_owners;
mod cache;
mod clients;
mod codes;
mod conversion;
mod crud;
mod custom;
mod custom_forms;
mod definitions;
mod documentation;
mod every_resource;
mod explain;
mod field_validation;
mod health;
mod hostile;
mod managed_fields;
mod measures;
mod openapi;
pub(crate) mod protobuf;
mod protocol;
mod reviews;
mod services;
mod subresources;
mod swap;
mod two_servers;
mod walks;
mod watches;

use http::{Method, Request, StatusCode, header};
use serde_json::Value;
use tower::ServiceExt;

use crate::{ApiServer, Config, request::UserInfo};

/// A server, and requests to it as an administrator.
pub(crate) struct Cluster {
    pub(crate) api: ApiServer,
}

pub(crate) struct Upkeep(lifecycle::Scope);

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::over(mvcc::Store::memory()).await
    }

    pub(crate) async fn over(store: mvcc::Store) -> Self {
        let config = Config::new(store, clock::Clock::system());
        Self { api: ApiServer::start(config).await.unwrap() }
    }

    /// A server with other settings.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(mvcc::Store::memory(), clock::Clock::system());
        change(&mut config);
        Self { api: ApiServer::start(config).await.unwrap() }
    }

    /// A server that signs tokens for service accounts.
    pub(crate) async fn start_with_tokens() -> Self {
        let mut config = Config::new(mvcc::Store::memory(), clock::Clock::system());
        let key = pki::ServiceAccountKey::generate().unwrap();
        config.authn.service_accounts = Some(crate::authn::ServiceAccounts {
            issuer: "https://issuer".into(),
            audiences: vec!["https://issuer".into()],
            jwks_uri: "https://issuer/openid/v1/jwks".into(),
            keys: crate::authn::SigningKeys::new(vec![key]),
            legacy_keys: crate::authn::SigningKeys::default(),
        });
        Self { api: ApiServer::start(config).await.unwrap() }
    }

    /// What a server does beside answering, until the value goes.
    pub(crate) async fn upkeep(&self) -> Upkeep {
        let (api, scope) = (self.api.clone(), lifecycle::Scope::new());
        drop(scope.spawn("upkeep", async move { api.maintain().await }));
        tokio::task::yield_now().await;
        Upkeep(scope)
    }

    pub(crate) fn client(&self) -> kube::Client {
        self.api.client(UserInfo::master("admin"))
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(header::HeaderName, &str)],
        body: impl Into<bytes::Bytes>,
    ) -> (http::response::Parts, Value) {
        let (head, body) = self.exchange(method, path, headers, body).await;
        (head, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// An answer as it comes.
    pub(crate) async fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(header::HeaderName, &str)],
        body: impl Into<bytes::Bytes>,
    ) -> (http::response::Parts, bytes::Bytes) {
        let mut request = Request::builder().method(method.parse::<Method>().unwrap()).uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request.body(transport::full(body)).unwrap();
        let service = self.api.service_as(UserInfo::master("admin"));
        let (head, body) = service.oneshot(request).await.unwrap().into_parts();
        let body = transport::collect(body, 64 << 20).await.unwrap().unwrap();
        (head, body)
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.send("GET", path, &[], "").await.1
    }

    /// Whether there is anything at a path.
    pub(crate) async fn serves(&self, path: &str) -> bool {
        self.exchange("GET", path, &[], "").await.1 != "404 page not found\n"
    }

    /// An answer that is no single document: a finished watch.
    pub(crate) async fn text(&self, path: &str) -> String {
        let request = Request::get(path).body(transport::empty()).unwrap();
        let service = self.api.service_as(UserInfo::master("admin"));
        let body = service.oneshot(request).await.unwrap().into_body();
        let body = transport::collect(body, 64 << 20).await.unwrap().unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let (head, body) = self.send("POST", path, &[], body.to_string()).await;
        (head.status, body)
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let (head, body) = self.send("PUT", path, &[], body.to_string()).await;
        (head.status, body)
    }

    pub(crate) async fn patch(&self, path: &str, kind: &str, body: Value) -> (StatusCode, Value) {
        let media = format!("application/{kind}");
        let headers = [(header::CONTENT_TYPE, media.as_str())];
        let (head, body) = self.send("PATCH", path, &headers, body.to_string()).await;
        (head.status, body)
    }

    pub(crate) async fn delete(&self, path: &str) -> (StatusCode, Value) {
        let (head, body) = self.send("DELETE", path, &[], "").await;
        (head.status, body)
    }

    /// A service account for pods of `default`, as the controller manager makes it.
    pub(crate) async fn with_default_account(self) -> Self {
        let path = "/api/v1/namespaces/default/serviceaccounts";
        let account = serde_json::json!({"metadata": {"name": "default"}});
        assert_eq!(self.post(path, account).await.0, 201);
        self
    }
}
