//! `/healthz`, `/livez` and `/readyz` of a component that runs alone, for the kubelet's probes.
//!
//! Served over TLS with a certificate that the process makes for itself, as upstream's does where it is
//! given none. Nothing else is served, so nobody has to be told apart.
//!
//! Upstream: `k8s.io/component-base`, `apiserver/pkg/server/healthz`.

use std::{convert::Infallible, io, net::SocketAddr, time::Duration};

use clock::Clock;
use http::{Request, Response, StatusCode};
use lifecycle::Scope;
use pki::{Ca, PkiError, Profile, Usage};
use transport::{Body, Place, tls};

const LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    #[error("failed to make a serving certificate")]
    Certificate(#[from] PkiError),
    #[error("failed to listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
}

/// Answers until `scope` is cancelled.
pub fn serve(
    address: SocketAddr,
    component: &str,
    clock: Clock,
    scope: &Scope,
) -> Result<(), HealthError> {
    let listen = |source| HealthError::Listen { address, source };
    let identity = Ca::new(&format!("{component}-ca"))?.issue(&Profile {
        cn: component.to_owned(),
        organizations: Vec::new(),
        sans: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        usages: vec![Usage::Server],
        not_after: clock.now() + LIFE,
    })?;
    let config = tls::server(&identity, None).map_err(listen)?;
    let listener = Place::Here.listen(address).map_err(listen)?;
    let service = tower::service_fn(handle);
    drop(scope.spawn("health", transport::serve(listener, Some(config), service, scope.child())));
    Ok(())
}

async fn handle<B>(request: Request<B>) -> Result<Response<Body>, Infallible> {
    Ok(answer(&request))
}

fn answer<B>(request: &Request<B>) -> Response<Body> {
    let is_known = matches!(request.uri().path(), "/healthz" | "/livez" | "/readyz");
    let (status, text) = if is_known {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::NOT_FOUND, "404 page not found\n")
    };
    let mut response = Response::new(transport::full(text));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_answered_and_nothing_else_is_there() {
        let status = |path: &str| answer(&Request::get(path).body(()).unwrap()).status().as_u16();
        let statuses = ["/healthz", "/livez", "/readyz", "/metrics", "/"].map(status);
        assert_eq!(statuses, [200, 200, 200, 404, 404]);
    }
}
