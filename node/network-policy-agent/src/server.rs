//! What others ask of the agent: `/healthz` and `/readyz` at one port, `/metrics` at another.

use std::{
    convert::Infallible,
    net::{AddrParseError, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::body::Incoming;
use lifecycle::Scope;
use linux_nftables::{Family, Nft};
use network_policy::TABLE;
use tower::service_fn;
use tracing::warn;
use transport::{Body, BoxError, Place};

use crate::metrics::Metrics;

/// `:8163` is all addresses, as Go reads it.
pub(crate) fn address(text: &str, is_ipv6: bool) -> Result<SocketAddr, AddrParseError> {
    let any = if is_ipv6 { "[::]" } else { "0.0.0.0" };
    match text.strip_prefix(':') {
        Some(port) => format!("{any}:{port}").parse(),
        None => text.parse(),
    }
}

pub(crate) fn serve_health(
    address: SocketAddr,
    is_synced: Arc<AtomicBool>,
    scope: &Scope,
) -> Result<(), BoxError> {
    let listener = Place::Here.listen(address)?;
    let service = service_fn(move |request: Request<Incoming>| {
        let is_ready = is_synced.load(Ordering::Relaxed);
        async move { Ok::<_, Infallible>(health(request.uri().path(), is_ready)) }
    });
    drop(scope.spawn("health", transport::serve(listener, None, service, scope.clone())));
    Ok(())
}

fn health(path: &str, is_ready: bool) -> Response<Body> {
    match (path, is_ready) {
        ("/healthz", _) | ("/readyz", true) => answer(StatusCode::OK, "ok"),
        ("/readyz", false) => {
            answer(StatusCode::SERVICE_UNAVAILABLE, "policies are not in place yet")
        }
        _ => answer(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

/// Upstream's `0` serves none.
pub(crate) fn serve_metrics(
    address: SocketAddr,
    metrics: Arc<Metrics>,
    scope: &Scope,
) -> Result<(), BoxError> {
    let listener = Place::Here.listen(address)?;
    let service = service_fn(move |request: Request<Incoming>| {
        let metrics = metrics.clone();
        async move {
            if request.uri().path() != "/metrics" {
                return Ok::<_, Infallible>(answer(StatusCode::NOT_FOUND, "404 page not found"));
            }
            read(&Nft::here(), &metrics).await;
            let mut response = answer(StatusCode::OK, metrics.render());
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            Ok(response)
        }
    });
    drop(scope.spawn("metrics", transport::serve(listener, None, service, scope.clone())));
    Ok(())
}

/// Takes over what the kernel has counted.
pub(crate) async fn read(nft: &Nft, metrics: &Metrics) {
    let nft = nft.clone();
    let read = tokio::task::spawn_blocking(move || nft.counts(Family::Inet, TABLE)).await;
    match read {
        Ok(Ok(counts)) => metrics.take(&counts),
        Ok(Err(error)) => warn!(error = %telemetry::chain(&error), "failed to read counters"),
        Err(error) => warn!(%error, "failed to read counters"),
    }
}

fn answer(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(transport::full(text.into()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_upstream_writes_them() {
        assert_eq!(address(":8163", false).unwrap(), "0.0.0.0:8163".parse().unwrap());
        assert_eq!(address(":8163", true).unwrap(), "[::]:8163".parse().unwrap());
        assert_eq!(address("127.0.0.1:1", true).unwrap(), "127.0.0.1:1".parse().unwrap());
    }

    #[test]
    fn it_is_ready_once_the_policies_are_in_place() {
        assert_eq!(health("/readyz", false).status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(health("/readyz", true).status(), StatusCode::OK);
        assert_eq!(health("/healthz", false).status(), StatusCode::OK);
    }
}
