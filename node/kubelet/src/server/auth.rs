//! Who calls, and whether they may: client certificates, TokenReview, SubjectAccessReview.
//!
//! Upstream: `pkg/kubelet/server/auth.go`.
//!
//! **Invariant:** an answer of the API server is kept no longer than configured; no answer is a no.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use http::{Method, Request, Response, StatusCode, header::AUTHORIZATION};
use hyper::body::Incoming;
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, api::PostParams};
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tracing::debug;
use transport::{Body, Peer};

use super::text;
use crate::context::Context;

const LIMIT: Duration = Duration::from_secs(10);
/// How many answers are kept.
const KEPT: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct User {
    pub name: String,
    pub groups: Vec<String>,
    pub uid: Option<String>,
    /// What else is known; authorizers decide by it too.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    fn new(name: String, groups: Vec<String>) -> Self {
        Self { name, groups, uid: None, extra: BTreeMap::new() }
    }

    fn reviewed(it: UserInfo) -> Self {
        let uid = it.uid.filter(|it| !it.is_empty());
        let extra = it.extra.unwrap_or_default();
        let own = Self::new(it.username.unwrap_or_default(), it.groups.unwrap_or_default());
        Self { uid, extra, ..own }
    }
}

/// The API server was asked and did not say yes or no.
#[derive(Clone, Copy, Debug)]
struct NoAnswer;

/// An answer and when it was given.
type Kept<T> = (Instant, T);
type AccessKey = (User, &'static str, &'static str);

pub(super) struct Auth {
    context: Arc<Context>,
    tokens: Mutex<HashMap<[u8; 32], Kept<Option<User>>>>,
    decisions: Mutex<HashMap<AccessKey, Kept<bool>>>,
}

impl Auth {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context, tokens: Mutex::default(), decisions: Mutex::default() }
    }

    pub(super) async fn check(&self, request: &Request<Incoming>) -> Result<(), Response<Body>> {
        let Some(user) = self.user(request).await else {
            return Err(text(StatusCode::UNAUTHORIZED, "Unauthorized"));
        };
        if self.context.settings.config.authorization.mode == "AlwaysAllow" {
            return Ok(());
        }
        let verb = verb(request.method());
        let subresources = subresources(request.uri().path());
        let listed = subresources.join(" ");
        for subresource in subresources {
            match self.is_allowed(&user, verb, subresource).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(NoAnswer) => {
                    let name = &user.name;
                    let message = format!(
                        "Authorization error (user={name}, verb={verb}, resource=nodes, subresource(s)=[{listed}])\n"
                    );
                    return Err(text(StatusCode::INTERNAL_SERVER_ERROR, message));
                }
            }
        }
        let message = format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{listed}])\n",
            user.name
        );
        Err(text(StatusCode::FORBIDDEN, message))
    }

    async fn user(&self, request: &Request<Incoming>) -> Option<User> {
        let peer = request.extensions().get::<Peer>();
        if let Some(certificate) = peer.and_then(|it| it.certificate.as_ref()) {
            return of_certificate(certificate);
        }
        let config = &self.context.settings.config.authentication;
        let bearer = request.headers().get(AUTHORIZATION).and_then(|it| it.to_str().ok());
        if let Some(token) = bearer.and_then(|it| it.strip_prefix("Bearer ")) {
            return if config.webhook.enabled { self.of_token(token.trim()).await } else { None };
        }
        config.anonymous.enabled.then(|| {
            let groups = vec!["system:unauthenticated".to_owned()];
            User::new("system:anonymous".to_owned(), groups)
        })
    }

    async fn of_token(&self, token: &str) -> Option<User> {
        let key: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let life = self.context.settings.config.authentication.webhook.cache_ttl.0;
        if let Some((at, user)) = self.tokens.lock().get(&key)
            && at.elapsed() < life
        {
            return user.clone();
        }
        let user = self.review(token).await.ok()?;
        let mut tokens = self.tokens.lock();
        if tokens.len() >= KEPT {
            tokens.clear();
        }
        tokens.insert(key, (Instant::now(), user.clone()));
        user
    }

    async fn review(&self, token: &str) -> Result<Option<User>, ()> {
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), audiences: None },
            ..TokenReview::default()
        };
        let api = Api::<TokenReview>::all(self.context.client.clone());
        let params = PostParams::default();
        let reply = tokio::time::timeout(LIMIT, api.create(&params, &review)).await;
        let reply = reply.map_err(drop)?.map_err(|error| {
            debug!(error = %telemetry::chain(&error), "a token was not reviewed");
        })?;
        let status = reply.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true));
        Ok(user.map(User::reviewed))
    }

    async fn is_allowed(
        &self,
        user: &User,
        verb: &'static str,
        sub: &'static str,
    ) -> Result<bool, NoAnswer> {
        let webhook = &self.context.settings.config.authorization.webhook;
        let key = (user.clone(), verb, sub);
        if let Some((at, is_allowed)) = self.decisions.lock().get(&key) {
            let life = if *is_allowed {
                webhook.cache_authorized_ttl.0
            } else {
                webhook.cache_unauthorized_ttl.0
            };
            if at.elapsed() < life {
                return Ok(*is_allowed);
            }
        }
        let is_allowed = self.access_review(user, verb, sub).await?;
        let mut decisions = self.decisions.lock();
        if decisions.len() >= KEPT {
            decisions.clear();
        }
        decisions.insert(key, (Instant::now(), is_allowed));
        Ok(is_allowed)
    }

    async fn access_review(&self, user: &User, verb: &str, sub: &str) -> Result<bool, NoAnswer> {
        let review = SubjectAccessReview {
            spec: review_of(user, verb, sub, &self.context.settings.node_name),
            ..SubjectAccessReview::default()
        };
        let api = Api::<SubjectAccessReview>::all(self.context.client.clone());
        let params = PostParams::default();
        let reply = tokio::time::timeout(LIMIT, api.create(&params, &review)).await;
        let reply = reply.map_err(|_| NoAnswer)?.map_err(|error| {
            debug!(error = %telemetry::chain(&error), "an access was not reviewed");
            NoAnswer
        })?;
        Ok(reply.status.is_some_and(|it| it.allowed))
    }
}

fn of_certificate(certificate: &CertificateDer<'_>) -> Option<User> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization().filter_map(|it| it.as_str().ok());
    let groups = groups.map(str::to_owned).chain(["system:authenticated".to_owned()]).collect();
    Some(User::new(name, groups))
}

fn review_of(user: &User, verb: &str, sub: &str, node: &str) -> SubjectAccessReviewSpec {
    let attributes = ResourceAttributes {
        verb: Some(verb.to_owned()),
        version: Some("v1".to_owned()),
        resource: Some("nodes".to_owned()),
        subresource: Some(sub.to_owned()),
        name: Some(node.to_owned()),
        ..ResourceAttributes::default()
    };
    SubjectAccessReviewSpec {
        user: Some(user.name.clone()),
        groups: Some(user.groups.clone()),
        uid: user.uid.clone(),
        extra: (!user.extra.is_empty()).then(|| user.extra.clone()),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    }
}

fn verb(method: &Method) -> &'static str {
    match method.as_str() {
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "GET" => "get",
        // Upstream has no word for the others, and nobody is allowed nothing.
        _ => "",
    }
}

/// Any of these is enough.
fn subresources(path: &str) -> &'static [&'static str] {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match first {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "healthz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        "statusz" => &["statusz", "proxy"],
        "flagz" => &["flagz", "proxy"],
        _ => &["proxy"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_known_of_a_caller_is_told_to_the_authorizer() {
        let told = serde_json::json!({
            "username": "system:serviceaccount:ns:sa", "uid": "u", "groups": ["g"],
            "extra": { "authentication.kubernetes.io/node-name": ["n"] },
        });
        let user = User::reviewed(serde_json::from_value(told).unwrap());
        let spec = review_of(&user, "get", "metrics", "node");
        assert_eq!(spec.uid.as_deref(), Some("u"));
        assert_eq!(spec.extra.unwrap()["authentication.kubernetes.io/node-name"], ["n"]);
        assert_ne!(
            user,
            User { extra: BTreeMap::new(), ..user.clone() },
            "it is a key of the cache"
        );
    }

    #[test]
    fn paths_are_guarded_by_their_own_subresource() {
        assert_eq!(subresources("/metrics/resource"), ["metrics"]);
        assert_eq!(subresources("/exec/ns/p/c"), ["proxy"]);
        assert_eq!(subresources("/pods"), ["pods", "proxy"]);
        assert_eq!(subresources("/runningpods/"), ["pods", "proxy"]);
        assert_eq!(subresources("/logs/../pods"), ["log"]);
        assert_eq!(subresources("/podsx"), ["proxy"]);
        assert_eq!(verb(&Method::POST), "create");
        assert_eq!(verb(&Method::HEAD), "");
    }
}
