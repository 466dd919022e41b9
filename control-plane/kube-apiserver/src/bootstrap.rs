//! What exists in every cluster from its first moment on.
//!
//! Each object is created if it is not there, so that a start after a crash half-way is no special
//! case. The `kubernetes` Service and its endpoints follow the configuration.
//!
//! Upstream: the controlplane controllers `kubernetesservice` and `systemnamespaces`.

use std::{net::IpAddr, sync::Arc, time::Duration};

use api_kube::labels;
use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    admission, aggregation, authn,
    authz::{self, Repair},
    custom_resources,
    decode::BODY_LIMIT,
    flow, registry,
    request::UserInfo,
    resources::{Resource, meta},
    server::{Server, timestamp},
};

/// Between a watch of the definitions that ended and the next.
const REWATCH: Duration = Duration::from_secs(1);

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("failed to write `{path}`: {message}")]
    Write { path: String, message: String },
    #[error("an authority of clients or proxies is no certificate")]
    Authority(#[source] std::io::Error),
    #[error("failed to ask what is served at `{path}`: {message}")]
    Delegate { path: String, message: String },
}

pub(crate) async fn ensure(server: &Arc<Server>) -> Result<(), StartError> {
    for name in NAMESPACES {
        let namespace =
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        create(server, &namespace).await?;
    }
    for object in &admission::priority_classes() {
        create(server, object).await?;
    }
    for service in aggregation::bootstrap_objects(&server.catalog()) {
        create(server, &service).await?;
    }
    ensure_flows(server).await?;
    ensure_trust(server).await?;
    ensure_tracking(server).await?;
    create(server, &server.services.default_range()).await?;
    ensure_service(server).await?;
    repair_services(server).await
}

/// The priority levels and what belongs to them, as far as they are the server's to change.
async fn ensure_flows(server: &Arc<Server>) -> Result<(), StartError> {
    let epoch = server.flow.epoch();
    if *server.told.lock() == Some(epoch) {
        return Ok(());
    }
    for object in flow::bootstrap_objects() {
        match stored(server, object) {
            None => create(server, object).await?,
            Some(mut stored)
                if flow::may_be_updated(&stored) && !flow::has_spec_of(&stored, object) =>
            {
                stored["spec"] = object["spec"].clone();
                let path = format!("{}/{}", path(server, object), meta(object, "name"));
                send(server, Method::PUT, path, &stored, &[StatusCode::CONFLICT]).await?;
            }
            Some(_) => {}
        }
    }
    let now = timestamp(server.clock.now());
    flow::tell_dangling(&server.store, &now).await.map_err(|error| StartError::Write {
        path: "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas".into(),
        message: telemetry::chain(&error).to_string(),
    })?;
    *server.told.lock() = Some(epoch);
    Ok(())
}

/// Only where something changed since the last time: there may be many.
async fn repair_services(server: &Server) -> Result<(), StartError> {
    let failed = |error: mvcc::CommitError| StartError::Write {
        path: "/apis/networking.k8s.io/v1/ipaddresses".into(),
        message: telemetry::chain(&error).to_string(),
    };
    let services = &server.services;
    let epoch = services.epoch();
    if *server.repaired.lock() != Some(epoch) {
        services.repair().await.map_err(failed)?;
        *server.repaired.lock() = Some(epoch);
    }
    Ok(())
}

/// The default roles and bindings, which a data directory of an older version may lack or have in
/// part. Once, at the start, as upstream does.
pub(crate) async fn ensure_roles(server: &Arc<Server>) -> Result<(), StartError> {
    for object in &authz::bootstrap_objects() {
        let Some(stored) = stored(server, object) else {
            create(server, object).await?;
            continue;
        };
        let path = format!("{}/{}", path(server, object), meta(object, "name"));
        match authz::repair(&stored, object) {
            Some(Repair::Replace(next)) => send(server, Method::PUT, path, &next, &[]).await?,
            Some(Repair::MakeAnew) => {
                send(server, Method::DELETE, path, &json!({}), &[]).await?;
                create(server, object).await?;
            }
            None => {}
        }
    }
    Ok(())
}

/// What an older version made of the APIServices of what is built in. Once, at the start.
pub(crate) async fn ensure_api_services(server: &Arc<Server>) -> Result<(), StartError> {
    for object in aggregation::bootstrap_objects(&server.catalog()) {
        let next = stored(server, &object).and_then(|it| aggregation::reconciled(&it, &object));
        if let Some(next) = next {
            let path = format!("{}/{}", path(server, &object), meta(&object, "name"));
            send(server, Method::PUT, path, &next, &[StatusCode::CONFLICT]).await?;
        }
    }
    Ok(())
}

/// By which servers behind this one know whom it speaks for: the authorities that it trusts.
pub(crate) async fn ensure_trust(server: &Arc<Server>) -> Result<(), StartError> {
    let data = server.config.authn.published();
    if data.is_empty() {
        return Ok(());
    }
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": data,
        "metadata": {
            "name": "extension-apiserver-authentication", "namespace": "kube-system",
        },
    });
    match stored(server, &map) {
        None => create(server, &map).await,
        // What others have put beside ours stays.
        Some(mut known) => {
            let mut all = known["data"].as_object().cloned().unwrap_or_default();
            all.extend(data);
            if known["data"].as_object() == Some(&all) {
                return Ok(());
            }
            known["data"] = Value::Object(all);
            let path = format!("{}/{}", path(server, &map), meta(&map, "name"));
            send(server, Method::PUT, path, &known, &[StatusCode::CONFLICT]).await
        }
    }
}

/// Since when it is written down which tokens of Secrets are used.
///
/// Upstream: pkg/controlplane/controller/legacytokentracking.
async fn ensure_tracking(server: &Arc<Server>) -> Result<(), StartError> {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "data": { "since": authn::day(server.clock.now()) },
        "metadata": {
            "name": "kube-apiserver-legacy-service-account-token-tracking",
            "namespace": "kube-system",
        },
    });
    let Some(mut known) = stored(server, &map) else { return create(server, &map).await };
    let since = known["data"]["since"].as_str().unwrap_or_default();
    if since.parse::<jiff::civil::Date>().is_ok() {
        return Ok(());
    }
    known["data"]["since"] = map["data"]["since"].clone();
    let path = format!("{}/{}", path(server, &map), meta(&map, "name"));
    send(server, Method::PUT, path, &known, &[StatusCode::CONFLICT]).await
}

/// Writes, for ever, on Secrets on which day their tokens were last used.
pub(crate) async fn follow_legacy_tokens(server: &Arc<Server>) {
    let uses = server.authenticator.legacy_uses().clone();
    let gone = [StatusCode::NOT_FOUND, StatusCode::CONFLICT];
    loop {
        for used in uses.next().await {
            let patch = json!({ "metadata": { "uid": used.uid,
                "labels": { authn::LAST_USED: authn::day(server.clock.now()) } } });
            let path = format!("/api/v1/namespaces/{}/secrets/{}", used.namespace, used.name);
            if let Err(error) = send(server, Method::PATCH, path, &patch, &gone).await {
                tracing::warn!(%error, "the day on which a token was used is not written down");
            }
        }
    }
}

async fn ensure_service(server: &Arc<Server>) -> Result<(), StartError> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": { "component": "apiserver", "provider": "kubernetes" },
        },
        "spec": {
            "type": "ClusterIP", "sessionAffinity": "None", "ipFamilyPolicy": "SingleStack",
            "clusterIP": server.services.first_address().to_string(),
            "ports": [{
                "name": "https", "protocol": "TCP", "port": 443,
                "targetPort": server.config.endpoint_port,
            }],
        },
    });
    create(server, &service).await
}

/// The Endpoints and the EndpointSlice of `default/kubernetes`.
pub(crate) async fn ensure_endpoints(
    server: &Arc<Server>,
    addresses: &[IpAddr],
) -> Result<(), StartError> {
    let mut sorted: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    sorted.sort();
    let port = json!([{ "name": "https", "port": server.config.endpoint_port, "protocol": "TCP" }]);
    let each: Vec<Value> = sorted.iter().map(|it| json!({ "ip": it })).collect();
    let subsets =
        if each.is_empty() { json!([]) } else { json!([{ "addresses": each, "ports": port }]) };
    let skip = json!({ labels::SKIP_MIRROR: "true" });
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints", "subsets": subsets,
        "metadata": { "name": "kubernetes", "namespace": "default", "labels": skip },
    });
    let each: Vec<Value> = sorted
        .iter()
        .map(|it| json!({ "addresses": [it], "conditions": { "ready": true } }))
        .collect();
    let family = if addresses.iter().any(IpAddr::is_ipv6) { "IPv6" } else { "IPv4" };
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": { labels::SERVICE_NAME: "kubernetes" },
        },
        "endpoints": each, "ports": port,
    });
    put(server, &endpoints).await?;
    put(server, &slice).await
}

fn path(server: &Server, object: &Value) -> String {
    let (version, kind) = (object["apiVersion"].as_str(), object["kind"].as_str());
    let resource = server.catalog().of_kind(version.unwrap_or_default(), kind.unwrap_or_default());
    let (root, plural) = match resource.as_deref() {
        Some(it) if it.group.is_empty() => (format!("/api/{}", it.version), it.plural.clone()),
        Some(it) => (format!("/apis/{}/{}", it.group, it.version), it.plural.clone()),
        None => (String::new(), kind.unwrap_or_default().to_lowercase()),
    };
    match meta(object, "namespace") {
        "" => format!("{root}/{plural}"),
        namespace => format!("{root}/namespaces/{namespace}/{plural}"),
    }
}

/// Creates an object if it is not there.
async fn create(server: &Arc<Server>, object: &Value) -> Result<(), StartError> {
    if is_stored(server, object) {
        return Ok(());
    }
    send(server, Method::POST, path(server, object), object, &[StatusCode::CONFLICT]).await
}

async fn put(server: &Arc<Server>, object: &Value) -> Result<(), StartError> {
    if !is_stored(server, object) {
        return create(server, object).await;
    }
    let path = format!("{}/{}", path(server, object), meta(object, "name"));
    send(server, Method::PUT, path, object, &[]).await
}

/// Deletes an object of this resource, as anybody would.
pub(crate) async fn delete(
    server: &Arc<Server>,
    resource: &Resource,
    object: &Value,
) -> Result<(), StartError> {
    let root = format!("/apis/{}/{}", resource.group, resource.version);
    let space = match meta(object, "namespace") {
        "" => String::new(),
        namespace => format!("/namespaces/{namespace}"),
    };
    let path = format!("{root}{space}/{}/{}", resource.plural, meta(object, "name"));
    let options = serde_json::json!({ "kind": "DeleteOptions", "apiVersion": "v1" });
    send(server, Method::DELETE, path, &options, &[StatusCode::NOT_FOUND]).await
}

fn is_stored(server: &Server, object: &Value) -> bool {
    stored(server, object).is_some()
}

fn stored(server: &Server, object: &Value) -> Option<Value> {
    let (version, kind) = (object["apiVersion"].as_str(), object["kind"].as_str());
    let resource = server.catalog().of_kind(version.unwrap_or_default(), kind.unwrap_or_default());
    let key = resource?.key(meta(object, "namespace"), meta(object, "name"));
    server.store.get(&key).map(|record| registry::decode(&record))
}

pub(crate) async fn send(
    server: &Arc<Server>,
    method: Method,
    path: String,
    object: &Value,
    tolerated: &[StatusCode],
) -> Result<(), StartError> {
    let content = match method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    let mut request = Request::builder()
        .method(method)
        .uri(&path)
        .header(header::CONTENT_TYPE, content)
        .header(header::USER_AGENT, "kube-apiserver")
        .body(transport::full(object.to_string()))
        .map_err(|error| StartError::Write { path: path.clone(), message: error.to_string() })?;
    request.extensions_mut().insert(UserInfo::master("system:apiserver"));
    let response = server.clone().handle(request).await;
    let code = response.status();
    if code.is_success() || tolerated.contains(&code) {
        return Ok(());
    }
    let body = transport::collect(response.into_body(), BODY_LIMIT).await.ok().flatten();
    let message = String::from_utf8_lossy(&body.unwrap_or_default()).into_owned();
    Err(StartError::Write { path, message })
}

impl Server {
    /// What follows from a write that happened here. Definitions are served from the moment at which
    /// the write is answered, not only when this server sees it in its store.
    pub(crate) fn after_write(&self, resource: &Resource) {
        if custom_resources::is_definition(&resource.group, &resource.plural) {
            self.learn_definitions();
        }
    }

    pub(crate) fn learn_definitions(&self) {
        // Held while it is computed: of two definitions that are written at once, the catalogue
        // that is made last has both.
        let mut catalog = self.catalog.write();
        let delegated = self.delegates.resources();
        *catalog = custom_resources::catalog(&self.store, delegated, Some(&catalog));
    }

    /// Serves, for ever, what other servers over the same etcd define.
    pub(crate) async fn follow_definitions(&self) {
        let prefix = registry::prefix("apiextensions.k8s.io", "customresourcedefinitions", "");
        loop {
            let from = self.store.revision();
            self.learn_definitions();
            if let Ok(mut changes) = self.store.watch(&prefix, from) {
                while changes.next().await.is_some() {
                    self.learn_definitions();
                }
            }
            // The store has ended, or the watch fell behind: begin anew, but not in a hurry.
            tokio::time::sleep(REWATCH).await;
        }
    }
}
