//! The token webhook: `TokenReview` in, the mapped user out.
//!
//! Upstream: pkg/server. An unmapped or unproven principal is answered 403, a throttled STS 429.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use aws_wire::client::Exchange;
use bytes::Bytes;
use clock::Clock;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use hyper::body::Body as HttpBody;
use serde_json::{Value, json};
use tower::Service;
use transport::{Body, BoxError};

use crate::{
    Identity, Mappings, TokenError, TokenRules,
    mapping::{self, ExpandError},
    review,
    sts::{self, StsError},
};

const PATH: &str = "/authenticate";

/// What the webhook needs.
pub struct Config {
    /// The value of `x-k8s-aws-id`.
    pub cluster: String,
    pub rules: TokenRules,
    /// Where STS is asked: over sockets, or the region in this process.
    pub sts: Exchange,
    pub mappings: Arc<dyn Mappings>,
    pub clock: Clock,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator(Arc<Config>);

/// A user as the API server wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct User {
    username: String,
    groups: Vec<String>,
    identity: Identity,
}

/// Why a token is nobody's.
#[derive(Debug, thiserror::Error)]
pub enum RejectReason {
    #[error("the token is not one that may be asked about")]
    Token {
        #[source]
        source: TokenError,
    },
    #[error("{message}")]
    Sts { message: String, is_throttled: bool },
    #[error("ARN is not mapped: {arn}")]
    Unmapped { arn: String },
    #[error("the mapping of {arn} gives no name")]
    Expand {
        arn: String,
        #[source]
        source: ExpandError,
    },
}

impl Authenticator {
    pub fn new(config: Config) -> Self {
        Self(Arc::new(config))
    }

    /// The webhook as a service: `POST /authenticate`.
    pub fn service(&self) -> TokenService {
        TokenService(self.clone())
    }

    async fn authenticate(&self, token: &str) -> Result<User, RejectReason> {
        let Config { cluster, rules, sts, mappings, clock } = &*self.0;
        let url =
            rules.check(token, clock.now()).map_err(|source| RejectReason::Token { source })?;
        let identity = sts::caller_identity(sts, &url, cluster).await.map_err(|error| {
            let is_throttled = matches!(error, StsError::Throttled);
            RejectReason::Sts { message: error.to_string(), is_throttled }
        })?;
        let arn = identity.canonical_arn.clone();
        let Some(mapping) = mappings.find(&identity).await else {
            return Err(RejectReason::Unmapped { arn });
        };
        let failed = |source| RejectReason::Expand { arn: arn.clone(), source };
        let username = mapping::expand(&mapping.username, &identity, &**mappings).await;
        let username = username.map_err(failed)?;
        let mut groups = Vec::new();
        for group in &mapping.groups {
            let expanded = mapping::expand(group, &identity, &**mappings).await;
            groups.push(expanded.map_err(failed)?);
        }
        Ok(User { username, groups, identity })
    }

    async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let asked = match review::read(request, PATH).await {
            Ok(asked) => asked,
            Err(response) => return response,
        };
        let version = match asked.get("apiVersion").and_then(Value::as_str) {
            Some("authentication.k8s.io/v1") => "authentication.k8s.io/v1",
            _ => "authentication.k8s.io/v1beta1",
        };
        let answer = |status: Value| json!({"apiVersion": version, "kind": "TokenReview", "metadata": {}, "status": status});
        let token = asked.pointer("/spec/token").and_then(Value::as_str).unwrap_or_default();
        match self.authenticate(token).await {
            Ok(user) => {
                tracing::info!(arn = user.identity.arn, username = user.username, "access granted");
                let status = json!({"authenticated": true, "user": user.shown()});
                review::json(StatusCode::OK, &answer(status))
            }
            Err(reason) => {
                let error: &dyn std::error::Error = &reason;
                tracing::warn!(error, "access denied");
                let code = match reason {
                    RejectReason::Sts { is_throttled: true, .. } => StatusCode::TOO_MANY_REQUESTS,
                    _ => StatusCode::FORBIDDEN,
                };
                review::json(code, &answer(json!({"authenticated": false, "user": {}})))
            }
        }
    }
}

impl User {
    fn shown(&self) -> Value {
        let id = &self.identity;
        json!({
            "username": self.username,
            "uid": format!("aws-iam-authenticator:{}:{}", id.account, id.user_id),
            "groups": self.groups,
            "extra": {
                "arn": [id.arn],
                "canonicalArn": [id.canonical_arn],
                "sessionName": [id.session_name],
                "accessKeyId": [id.access_key_id],
                "principalId": [id.user_id],
                "sigs.k8s.io/aws-iam-authenticator/principalId": [id.user_id],
            },
        })
    }
}

/// The webhook, for a server or for the API server in this process.
#[derive(Clone)]
pub struct TokenService(Authenticator);

impl<B> Service<Request<B>> for TokenService
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let authenticator = self.0.clone();
        Box::pin(async move { Ok(authenticator.answer(request).await) })
    }
}

#[cfg(test)]
mod tests;
