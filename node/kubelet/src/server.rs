//! The kubelet's server on port 10250, and its health check on 10248.
//!
//! Upstream: `pkg/kubelet/server/server.go`.
//!
//! **Invariant:** on 10250 nothing is answered before the caller is known and allowed.
//!
//! Deviation: `/run`, `/checkpoint` and `/debug` are not served; `/explain` is ours.

mod auth;
mod channels;
mod container_logs;
mod idle;
mod metrics;
mod spdy;
mod stats;
mod streams;
mod websocket;

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use http::{HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::body::Incoming;
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::json;
use tower::Service;
use transport::{Body, Place};

use self::auth::Auth;
use crate::{certificates::Serving, context::Context, pod_workers::PodWorkers};

#[derive(Clone)]
pub(crate) struct Server {
    context: Arc<Context>,
    workers: Arc<PodWorkers>,
    auth: Arc<Auth>,
}

/// Opens both ports and serves until the scope ends.
pub(crate) fn start(
    context: &Arc<Context>,
    workers: &Arc<PodWorkers>,
    serving: Arc<Serving>,
) -> std::io::Result<()> {
    let config = &context.settings.config;
    let invalid =
        |it: std::net::AddrParseError| std::io::Error::new(std::io::ErrorKind::InvalidInput, it);
    let address = SocketAddr::new(config.address.parse().map_err(invalid)?, config.port);
    let tls = tls(&config.authentication.x509.client_ca_file, serving)?;
    let listener = Place::Here.listen(address)?;
    let server = Server {
        context: context.clone(),
        workers: workers.clone(),
        auth: Arc::new(Auth::new(context.clone())),
    };
    let scope = context.scope.clone();
    let main = transport::serve(listener, Some(tls), server, scope.clone());
    drop(scope.spawn("server", main));
    if config.healthz_port != 0 {
        let ip = config.healthz_bind_address.parse().map_err(invalid)?;
        let listener = Place::Here.listen(SocketAddr::new(ip, config.healthz_port))?;
        let health = tower::service_fn(|_: Request<Incoming>| async {
            Ok::<_, Infallible>(text(StatusCode::OK, "ok"))
        });
        drop(scope.spawn("healthz", transport::serve(listener, None, health, scope.clone())));
    }
    Ok(())
}

/// Client certificates are asked for, and the serving certificate is looked up for each connection.
fn tls(client_ca: &str, serving: Arc<Serving>) -> std::io::Result<Arc<ServerConfig>> {
    transport::tls::install_provider();
    let builder = ServerConfig::builder();
    let builder = if client_ca.is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        let pem = std::fs::read(client_ca).map_err(|error| {
            let message = format!("failed to read the client CA file `{client_ca}`: {error}");
            std::io::Error::new(error.kind(), message)
        })?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(std::io::Error::other)?;
            roots.add(certificate).map_err(std::io::Error::other)?;
        }
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated();
        builder.with_client_cert_verifier(verifier.build().map_err(std::io::Error::other)?)
    };
    let mut config = builder.with_cert_resolver(serving);
    // Upgrades need HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl Service<Request<Incoming>> for Server {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move { Ok(server.answer(request).await) })
    }
}

impl Server {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if let Err(refusal) = self.auth.check(&request).await {
            return refusal;
        }
        let path = request.uri().path().trim_matches('/').to_owned();
        let parts: Vec<&str> = path.split('/').collect();
        match (request.method(), parts.as_slice()) {
            (&Method::GET, ["healthz"]) => text(StatusCode::OK, "ok"),
            (&Method::GET, ["healthz", "ping" | "log" | "syncloop"]) => text(StatusCode::OK, "ok"),
            (&Method::GET, ["pods"]) => self.pods(),
            (&Method::GET, ["configz"]) => {
                json_answer(&json!({ "kubeletconfig": self.context.settings.config }))
            }
            (&Method::GET, ["containerLogs", namespace, pod, container]) => {
                self.container_logs(namespace, pod, container, request.uri().query()).await
            }
            (_, ["exec" | "attach" | "portForward", ..]) => self.stream(request, &parts).await,
            (&Method::GET, ["stats", "summary"]) => self.summary().await,
            (&Method::GET, ["explain", "pods", namespace, name]) => self.explain(namespace, name),
            (&Method::GET, ["metrics"]) => self.metrics(),
            (&Method::GET, ["metrics", "resource"]) => self.metrics_resource().await,
            (&Method::GET, ["metrics", "cadvisor"]) => self.metrics_cadvisor().await,
            (&Method::GET, ["metrics", "probes"]) => text(StatusCode::OK, ""),
            _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }

    fn explain(&self, namespace: &str, name: &str) -> Response<Body> {
        match self.context.timelines.find(namespace, name) {
            Some(timeline) => json_answer(&json!(timeline)),
            None => {
                let message = format!("pod \"{namespace}/{name}\" is not known to this kubelet\n");
                text(StatusCode::NOT_FOUND, message)
            }
        }
    }

    fn pods(&self) -> Response<Body> {
        json_answer(&json!({
            "kind": "PodList",
            "apiVersion": "v1",
            "metadata": {},
            "items": self.workers.pods(),
        }))
    }
}

fn text(status: StatusCode, body: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(transport::full(body.into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

fn json_answer(value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(transport::full(value.to_string()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// The values of a query parameter, decoded.
fn query_values(query: Option<&str>, name: &str) -> Vec<String> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
    };
    query
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key) == name).then(|| decode(value))
        })
        .collect()
}

fn query_flag(query: Option<&str>, name: &str) -> bool {
    query_values(query, name).first().is_some_and(|it| it == "1" || it == "true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_taken_from_the_query_in_order() {
        let query = Some("command=sh&command=-c&command=echo+a%26b&input=1&tty=false");
        assert_eq!(query_values(query, "command"), ["sh", "-c", "echo a&b"]);
        assert!(query_flag(query, "input") && !query_flag(query, "tty"));
    }
}
