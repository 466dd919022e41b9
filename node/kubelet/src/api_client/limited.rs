//! A deadline for whatever is asked of the API server, and how much of it at once.
//!
//! A server that takes a request and never answers would hold up the task that asked, for ever: status,
//! events, leases. Watches alone may last; who wants less time than this says so where it asks.
//!
//! Each request that is under way has a connection of its own, with its buffers, on both sides; a
//! hundred pods that start together would open a hundred, and be served no sooner.
//!
//! **Invariant:** no request outlasts [`LIMIT`], its answer included; of a watch it is the beginning of
//! the answer that is waited for no longer.

use std::{sync::Arc, time::Duration};

use http::{Request, Response};
use kube::{Client, client::Body};
use tokio::{sync::Semaphore, time::Instant};
use tower::BoxError;

use crate::metrics::Metrics;

const LIMIT: Duration = Duration::from_secs(30);
/// Requests under way, without watches; a heartbeat waits for none of them.
const AT_ONCE: usize = 16;

/// The client with the deadline. Requests are counted.
pub(crate) fn client(inner: Client, metrics: Arc<Metrics>) -> Client {
    let namespace = inner.default_namespace().to_owned();
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (inner, room, metrics) = (inner.clone(), room.clone(), metrics.clone());
        async move {
            let (is_watch, method, begun) =
                (is_watch(&request), request.method().to_string(), Instant::now());
            let is_free = is_watch || is_heartbeat(&request);
            let answered = async {
                // Never closed.
                let _room = if is_free { None } else { room.acquire_owned().await.ok() };
                let response = inner.send(request).await?;
                if is_watch {
                    return Ok::<_, kube::Error>(response);
                }
                let (head, body) = response.into_parts();
                Ok(Response::from_parts(head, Body::from(body.collect_bytes().await?)))
            };
            let answered = tokio::time::timeout(LIMIT, answered).await;
            let code = match &answered {
                Ok(Ok(response)) => response.status().as_u16().to_string(),
                _ => "<error>".to_owned(),
            };
            let labels = [("code", code.as_str()), ("method", method.as_str())];
            metrics.add("rest_client_requests_total", &labels, 1.0);
            let labels = [("verb", method.as_str())];
            let took = begun.elapsed();
            metrics.observe("rest_client_request_duration_seconds", &labels, took);
            match answered {
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

/// The node's lease.
fn is_heartbeat(request: &Request<Body>) -> bool {
    request.uri().path().starts_with("/apis/coordination.k8s.io/")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;

    use super::*;

    /// A server that takes a second for each request, and the most that it had at once.
    fn slow() -> (Client, Arc<AtomicUsize>) {
        let (at_once, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let seen = most.clone();
        let service = tower::service_fn(move |_: Request<Body>| {
            let (at_once, most) = (at_once.clone(), most.clone());
            async move {
                most.fetch_max(at_once.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(1)).await;
                at_once.fetch_sub(1, Ordering::Relaxed);
                Ok::<_, BoxError>(Response::new(Body::empty()))
            }
        });
        (client(Client::new(service, "default"), Arc::default()), seen)
    }

    fn asked(path: &str) -> Request<Body> {
        Request::get(path).body(Body::empty()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_requests_are_under_way_and_all_are_answered() {
        let (client, most) = slow();
        let all = (0..50).map(|_| client.send(asked("/api/v1/namespaces/a/pods/b")));
        assert!(join_all(all).await.iter().all(Result::is_ok));
        assert_eq!(most.load(Ordering::Relaxed), AT_ONCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_and_a_watch_do_not_wait_for_what_is_under_way() {
        let (client, _) = slow();
        let all = join_all((0..200).map(|_| client.send(asked("/api/v1/pods"))));
        let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/a";
        let first = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let began = Instant::now();
            client.send(asked(lease)).await.unwrap();
            client.send(asked("/api/v1/nodes?watch=true")).await.unwrap();
            began.elapsed()
        };
        let (_, taken) = tokio::join!(all, first);
        assert_eq!(taken, Duration::from_secs(2));
    }
}
