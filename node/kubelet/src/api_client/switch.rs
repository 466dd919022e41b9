//! A client whose connection can be replaced under it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use kube::{Client, client::Body};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tower::{BoxError, Service};

/// The connection of the moment, and the end of its time.
#[derive(Clone)]
struct Generation {
    client: Client,
    over: CancellationToken,
}

pub(super) struct Switch {
    current: ArcSwap<Generation>,
}

impl Switch {
    pub(super) fn new(client: Client) -> Self {
        let first = Generation { client, over: CancellationToken::new() };
        Self { current: ArcSwap::from_pointee(first) }
    }

    /// From now on everything goes over `client`; what is under way over the last one ends.
    pub(super) fn replace(&self, client: Client) {
        let next = Generation { client, over: CancellationToken::new() };
        self.current.swap(Arc::new(next)).over.cancel();
    }
}

/// A client over whatever the switch holds.
pub(super) fn client(switch: &Arc<Switch>) -> Client {
    Client::new(Switched(switch.clone()), "default")
}

/// A client that reaches nobody.
pub(super) fn nowhere() -> Client {
    let service = tower::service_fn(|_: Request<Body>| async {
        Err::<Response<Body>, BoxError>("there is no API server: the kubelet runs alone".into())
    });
    Client::new(service, "default")
}

#[derive(Clone)]
struct Switched(Arc<Switch>);

impl Service<Request<Body>> for Switched {
    type Response = Response<Ending>;
    type Error = BoxError;
    type Future =
        Pin<Box<dyn Future<Output = Result<Response<Ending>, BoxError>> + Send + 'static>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let now = self.0.current.load_full();
        Box::pin(async move {
            let response = now.client.send(request).await?;
            let over = Box::pin(now.over.clone().cancelled_owned());
            Ok(response.map(|inner| Ending { inner, over }))
        })
    }
}

/// A body that ends with an error when its connection's time is over.
struct Ending {
    inner: Body,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl HttpBody for Ending {
    type Data = bytes::Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, BoxError>>> {
        if self.over.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err("the client certificate was replaced".into())));
        }
        Pin::new(&mut self.inner).poll_frame(context).map_err(BoxError::from)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::StreamExt;

    use super::*;

    /// Answers with its name, and then for ever with nothing.
    fn named(name: &'static str) -> Client {
        let service = tower::service_fn(move |_: Request<Body>| async move {
            let first = futures::stream::iter([Ok::<_, BoxError>(name.as_bytes().into())]);
            let rest = futures::stream::pending();
            Ok::<_, BoxError>(Response::new(StreamBody(Box::pin(first.chain(rest)))))
        });
        Client::new(service, "default")
    }

    type Chunks = futures::stream::BoxStream<'static, Result<bytes::Bytes, BoxError>>;

    struct StreamBody(Chunks);

    impl HttpBody for StreamBody {
        type Data = bytes::Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Self::Data>, BoxError>>> {
            self.0.poll_next_unpin(context).map(|it| it.map(|it| it.map(Frame::data)))
        }
    }

    async fn next(body: &mut Body) -> Result<bytes::Bytes, String> {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        frame.unwrap().map(|it| it.into_data().unwrap()).map_err(|it| it.to_string())
    }

    #[tokio::test]
    async fn a_replaced_connection_takes_new_requests_and_ends_what_hangs_on_the_old() {
        let switch = Arc::new(Switch::new(named("old")));
        let client = client(&switch);
        let ask = || async {
            let request = Request::get("/").body(Body::empty()).unwrap();
            client.send(request).await.unwrap().into_body()
        };
        let mut old = ask().await;
        assert_eq!(next(&mut old).await.unwrap(), "old");
        switch.replace(named("new"));
        let ended = tokio::time::timeout(Duration::from_secs(5), next(&mut old)).await.unwrap();
        assert!(ended.unwrap_err().contains("replaced"));
        assert_eq!(next(&mut ask().await).await.unwrap(), "new");
    }

    #[tokio::test]
    async fn without_an_api_server_every_request_fails_at_once() {
        let request = Request::get("/version").body(Body::empty()).unwrap();
        assert!(nowhere().send(request).await.is_err());
    }
}
