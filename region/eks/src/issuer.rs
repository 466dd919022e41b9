//! The issuers of all clusters' service-account tokens, as public web pages:
//! `https://oidc.eks.REGION.amazonaws.com/id/ID`, with the discovery document and the keys.
//!
//! A cluster's keys are its API server's, read for each question; whoever asks may keep them for an
//! hour, and a new key is published a day before its first token.
//!
//! **Invariant:** no credentials are asked for, and nothing but public keys is told.
//! Deviation: an issuer does not answer (503) while its cluster's control plane starts; on AWS its
//! pages are served apart from the control plane.

use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, HOST},
};
use serde_json::{Value, json};
use tower::Service;
use transport::Body;

use crate::Eks;

const LIMIT: Duration = Duration::from_secs(5);
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=3600");

/// See the module.
#[derive(Clone)]
pub struct IssuerService {
    eks: Eks,
    host: String,
}

/// What an issuer publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Configuration,
    Keys,
}

impl IssuerService {
    pub fn new(eks: Eks) -> Self {
        let host = format!("oidc.eks.{}.amazonaws.com", eks.0.config.region);
        Self { eks, host }
    }

    /// Whether a request names the issuers' host.
    pub fn is_asked(&self, headers: &HeaderMap, authority: Option<&str>) -> bool {
        let host = headers.get(HOST).and_then(|it| it.to_str().ok());
        let host = host.or(authority).unwrap_or_default();
        let name = host.split(':').next().unwrap_or_default();
        name.trim_end_matches('.').eq_ignore_ascii_case(&self.host)
    }

    async fn answer(&self, method: &Method, path: &str) -> Response<Body> {
        if method != Method::GET && method != Method::HEAD {
            return told(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
        }
        let Some((id, page)) = page(path) else { return told(StatusCode::NOT_FOUND, "not found") };
        let clusters = self.eks.clusters();
        let Some(cluster) = clusters.iter().find(|it| it.id.to_uppercase() == id) else {
            return told(StatusCode::NOT_FOUND, "not found");
        };
        if page == Page::Configuration {
            let issuer = cluster.issuer(&self.eks.0.config.region);
            return document("application/json", configuration(&issuer).to_string());
        }
        match self.keys(&cluster.name).await {
            Some(keys) => document("application/jwk-set+json", keys),
            None => told(StatusCode::SERVICE_UNAVAILABLE, "the control plane does not answer"),
        }
    }

    /// What the cluster's API server publishes.
    async fn keys(&self, cluster: &str) -> Option<String> {
        let client = self.eks.0.planes.lock().get(cluster).cloned()?;
        let request = Request::get("/openid/v1/jwks").body(Vec::new()).ok()?;
        let answered = tokio::time::timeout(LIMIT, client.request_text(request)).await;
        match answered {
            Ok(Ok(text)) => Some(text),
            Ok(Err(error)) => {
                tracing::warn!(cluster, error = %telemetry::chain(&error), "no keys of the issuer");
                None
            }
            Err(_) => None,
        }
    }
}

/// The cluster's id, and which of its pages a path is.
fn page(path: &str) -> Option<(&str, Page)> {
    let (id, rest) = path.strip_prefix("/id/")?.split_once('/')?;
    match rest {
        ".well-known/openid-configuration" => Some((id, Page::Configuration)),
        "keys" => Some((id, Page::Keys)),
        _ => None,
    }
}

fn configuration(issuer: &str) -> Value {
    json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/keys"),
        "authorization_endpoint": "urn:kubernetes:programmatic_authorization",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "claims_supported": ["sub", "iss"],
        "id_token_signing_alg_values_supported": ["RS256"],
    })
}

fn document(media: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(transport::full(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response.headers_mut().insert(CACHE_CONTROL, CACHE);
    response
}

fn told(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(transport::full(text));
    *response.status_mut() = status;
    response
}

impl<B> Service<Request<B>> for IssuerService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (service, head) = (self.clone(), request.into_parts().0);
        Box::pin(async move { Ok(service.answer(&head.method, head.uri.path()).await) })
    }
}
