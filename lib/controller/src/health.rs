//! `/healthz`, `/livez`, `/readyz` and `/metrics` of a component that runs alone.
//!
//! Served over TLS, with a certificate that the process makes for itself where it is given none. Health
//! is for everybody, as the kubelet's probes need it; metrics are for those whom the API server knows by
//! their token and lets `get` the path.
//!
//! Upstream: `k8s.io/component-base`, `apiserver/pkg/server/healthz`. Deviation: clients with certificates
//! are not known, only tokens are.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use clock::Clock;
use http::{Request, Response, StatusCode, header};
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec},
    authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};
use lifecycle::Scope;
use pki::{Ca, PkiError, Profile, Usage};
use transport::{Body, Place, tls};

use crate::{flags::ServingFlags, measures};

const LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
const METRICS: &str = "/metrics";
/// What the API server has to say who asks, and whether they may.
const LIMIT: Duration = Duration::from_secs(10);

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    #[error("failed to make a serving certificate")]
    Certificate(#[from] PkiError),
    #[error("failed to read {path}")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("failed to listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
}

/// What `/metrics` shows, and who says who may see it.
#[derive(Clone)]
pub struct Page {
    pub client: Client,
    pub render: Arc<dyn Fn() -> String + Send + Sync>,
}

/// Answers until `scope` is cancelled, if anything is to be served.
pub fn serve(
    flags: &ServingFlags,
    port: u16,
    component: &str,
    page: Page,
    clock: Clock,
    scope: &Scope,
) -> Result<(), HealthError> {
    let Some(address) = flags.address(port) else { return Ok(()) };
    let listen = |source| HealthError::Listen { address, source };
    let identity = match (&flags.tls_cert_file, &flags.tls_private_key_file) {
        (Some(certificate), Some(key)) => {
            tls::Identity { certificate_pem: read(certificate)?, key_pem: read(key)? }
        }
        _ => own_identity(component, clock)?,
    };
    let config = tls::server(&identity, None).map_err(listen)?;
    let listener = Place::Here.listen(address).map_err(listen)?;
    let service = tower::service_fn(move |request| handle(page.clone(), request));
    drop(scope.spawn("health", transport::serve(listener, Some(config), service, scope.child())));
    Ok(())
}

fn read(path: &std::path::Path) -> Result<String, HealthError> {
    let failed = |source| HealthError::Read { path: path.display().to_string(), source };
    std::fs::read_to_string(path).map_err(failed)
}

fn own_identity(component: &str, clock: Clock) -> Result<tls::Identity, HealthError> {
    let identity = Ca::new(&format!("{component}-ca"))?.issue(&Profile {
        cn: component.to_owned(),
        organizations: Vec::new(),
        sans: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        usages: vec![Usage::Server],
        not_after: clock.now() + LIFE,
    })?;
    Ok(identity)
}

async fn handle<B>(page: Page, request: Request<B>) -> Result<Response<Body>, Infallible> {
    if request.uri().path() != METRICS {
        return Ok(answer(&request));
    }
    let token = bearer(&request).map(str::to_owned);
    let allowed = tokio::time::timeout(LIMIT, may_see(&page.client, token)).await;
    Ok(match allowed {
        Ok(Ok(Ok(()))) => respond(StatusCode::OK, (page.render)() + &of_the_process()),
        Ok(Ok(Err(status))) => respond(status, status.to_string()),
        Ok(Err(error)) => respond(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        Err(_) => respond(StatusCode::GATEWAY_TIMEOUT, "the API server did not answer".to_owned()),
    })
}

/// What every component counts.
fn of_the_process() -> String {
    let mut page = measures::render();
    telemetry::process::write_metrics(&mut page);
    page
}

fn bearer<B>(request: &Request<B>) -> Option<&str> {
    let header = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    header.strip_prefix("Bearer ").map(str::trim).filter(|it| !it.is_empty())
}

/// Asks the API server whose token it is, and whether they may; the inner error is the answer that they get.
async fn may_see(
    client: &Client,
    token: Option<String>,
) -> Result<Result<(), StatusCode>, kube::Error> {
    let Some(token) = token else { return Ok(Err(StatusCode::UNAUTHORIZED)) };
    let spec = TokenReviewSpec { token, audiences: None };
    let review = TokenReview { spec, ..TokenReview::default() };
    let parameters = PostParams::default();
    let review = Api::<TokenReview>::all(client.clone()).create(&parameters, &review).await?;
    let status = review.status.unwrap_or_default();
    let Some(user) = status.user.filter(|_| status.authenticated == Some(true)) else {
        return Ok(Err(StatusCode::UNAUTHORIZED));
    };
    let spec = SubjectAccessReviewSpec {
        user: user.username,
        groups: user.groups,
        uid: user.uid,
        extra: user.extra,
        non_resource_attributes: Some(NonResourceAttributes {
            path: Some(METRICS.to_owned()),
            verb: Some("get".to_owned()),
        }),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let reviews = Api::<SubjectAccessReview>::all(client.clone());
    let review = reviews.create(&parameters, &review).await?;
    let is_allowed = review.status.is_some_and(|it| it.allowed);
    Ok(if is_allowed { Ok(()) } else { Err(StatusCode::FORBIDDEN) })
}

fn answer<B>(request: &Request<B>) -> Response<Body> {
    let is_known = matches!(request.uri().path(), "/healthz" | "/livez" | "/readyz");
    let (status, text) = if is_known {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::NOT_FOUND, "404 page not found\n")
    };
    respond(status, text.to_owned())
}

fn respond(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(transport::full(text));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use parking_lot::Mutex;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn probes_are_answered_and_nothing_else_is_there() {
        let status = |path: &str| answer(&Request::get(path).body(()).unwrap()).status().as_u16();
        let statuses = ["/healthz", "/livez", "/readyz", "/"].map(status);
        assert_eq!(statuses, [200, 200, 200, 404]);
    }

    /// An API server that knows one token, of a user who may see metrics or not.
    fn page(may: bool, asked: Arc<Mutex<Vec<Value>>>) -> Page {
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let asked = asked.clone();
            async move {
                let is_token = request.uri().path().ends_with("tokenreviews");
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let mut review: Value = serde_json::from_slice(&body).unwrap();
                asked.lock().push(review["spec"].clone());
                review["status"] = if is_token {
                    let is_known = review["spec"]["token"] == "good";
                    json!({ "authenticated": is_known, "user": { "username": "prometheus" } })
                } else {
                    json!({ "allowed": may })
                };
                let body = Full::new(Bytes::from(review.to_string()));
                Ok::<_, Infallible>(Response::new(body))
            }
        });
        Page { client: Client::new(service, "default"), render: Arc::new(|| "pods 1\n".to_owned()) }
    }

    async fn ask(page: &Page, token: &str) -> (u16, String) {
        let request = Request::get("/metrics").header("authorization", token).body(()).unwrap();
        let response = handle(page.clone(), request).await.unwrap();
        let status = response.status().as_u16();
        let body = response
            .into_body()
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .ok()
            .unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn metrics_are_for_those_whom_the_api_server_knows_and_lets() {
        let asked = Arc::default();
        let open = page(true, Arc::clone(&asked));
        let (code, shown) = ask(&open, "Bearer good").await;
        assert_eq!((code, shown.starts_with("pods 1\n")), (200, true), "{shown}");
        assert!(
            shown.contains("\nprocess_cpu_seconds_total "),
            "and what every process has: {shown}"
        );
        let access = json!({ "user": "prometheus",
            "nonResourceAttributes": { "path": "/metrics", "verb": "get" } });
        assert_eq!(asked.lock()[1], access);
        assert_eq!(ask(&open, "Bearer bad").await.0, 401);
        assert_eq!(ask(&open, "").await.0, 401);
        assert_eq!(ask(&page(false, Arc::default()), "Bearer good").await.0, 403);
    }
}
