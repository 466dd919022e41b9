//! `/healthz` and `/readyz` on the loopback: the agent is well when each address that it listens on
//! answers as it does, which is `404` for `/`.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use transport::{Body, HttpClient, Place};

const LIMIT: Duration = Duration::from_secs(1);
const MOST: usize = 4096;

/// Answers a probe.
pub async fn answer(
    request: Request<Incoming>,
    addresses: Arc<[SocketAddr]>,
) -> Result<Response<Body>, Infallible> {
    let (status, text) = match request.uri().path() {
        "/healthz" | "/readyz" => match unwell(&addresses).await {
            None => (StatusCode::OK, String::new()),
            Some(reason) => (StatusCode::INTERNAL_SERVER_ERROR, reason),
        },
        _ => (StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
    };
    let mut response = Response::new(transport::full(text));
    *response.status_mut() = status;
    Ok(response)
}

/// What is wrong, if anything is.
async fn unwell(addresses: &[SocketAddr]) -> Option<String> {
    let client = HttpClient::new(Place::Here, None, LIMIT);
    for address in addresses {
        let request = Request::builder().uri(format!("http://{address}/"));
        let request = match request.body(transport::empty()) {
            Ok(request) => request,
            Err(error) => return Some(error.to_string()),
        };
        match client.fetch(request, MOST).await {
            Ok(response) if response.status() == StatusCode::NOT_FOUND => {}
            Ok(response) => return Some(format!("{address} answers {}\n", response.status())),
            Err(error) => return Some(format!("{address} does not answer: {error}\n")),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use lifecycle::Scope;
    use tower::service_fn;

    use super::*;

    async fn listen(scope: &Scope, status: StatusCode) -> SocketAddr {
        let listener = Place::Here.listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let service = service_fn(move |_: Request<Incoming>| async move {
            let mut response = Response::new(transport::empty());
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        });
        drop(scope.spawn("peer", transport::serve(listener, None, service, scope.clone())));
        address
    }

    #[tokio::test]
    async fn the_agent_is_well_when_all_its_addresses_are() {
        let scope = Scope::new();
        let own = listen(&scope, StatusCode::NOT_FOUND).await;
        let other = listen(&scope, StatusCode::OK).await;
        assert_eq!(unwell(&[own, own]).await, None);
        assert!(unwell(&[own, other]).await.is_some_and(|it| it.contains("answers 200")));
        let nobody = Place::Here.listen(([127, 0, 0, 1], 0).into()).unwrap().local_addr().unwrap();
        assert!(unwell(&[nobody]).await.is_some_and(|it| it.contains("does not answer")));
        scope.cancel();
    }
}
