//! A deadline for whatever is asked of the API server.
//!
//! A server that takes a request and never answers would hold up the task that asked, for ever: status,
//! events, leases. Watches alone may last; who wants less time than this says so where it asks.
//!
//! **Invariant:** no request outlasts [`LIMIT`], its answer included; of a watch it is the beginning of
//! the answer that is waited for no longer.

use std::time::Duration;

use http::{Request, Response};
use kube::{Client, client::Body};
use tower::BoxError;

const LIMIT: Duration = Duration::from_secs(30);

/// The client with the deadline.
pub(crate) fn client(inner: Client) -> Client {
    let namespace = inner.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let inner = inner.clone();
        async move {
            let is_watch = is_watch(&request);
            let answered = async {
                let response = inner.send(request).await?;
                if is_watch {
                    return Ok::<_, kube::Error>(response);
                }
                let (head, body) = response.into_parts();
                Ok(Response::from_parts(head, Body::from(body.collect_bytes().await?)))
            };
            match tokio::time::timeout(LIMIT, answered).await {
                Ok(answer) => answer.map_err(BoxError::from),
                Err(_) => Err("the API server did not answer in time".into()),
            }
        }
    });
    Client::new(service, namespace)
}

fn is_watch(request: &Request<Body>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|it| it == "watch=true" || it == "watch=1")
}
