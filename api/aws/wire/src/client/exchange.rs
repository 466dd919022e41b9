//! How a signed request gets its response: over sockets, or inside of this process.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use rustls::ClientConfig;
use tower::{Service, ServiceExt};
use transport::{Body, BoxError, HttpClient, Place};

/// The longest response that is read.
const MAX_RESPONSE: usize = 64 << 20;

type Send = dyn Fn(Request<Bytes>) -> BoxFuture<'static, Result<Response<Bytes>, BoxError>>
    + std::marker::Send
    + Sync;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Exchange(Arc<Send>);

impl Exchange {
    /// Over sockets made in `place`; `limit` bounds one attempt.
    pub fn http(place: Place, tls: Option<Arc<ClientConfig>>, limit: Duration) -> Self {
        let client = HttpClient::new(place, tls, limit);
        Self(Arc::new(move |request| {
            let client = client.clone();
            Box::pin(async move { client.fetch(request.map(transport::full), MAX_RESPONSE).await })
        }))
    }

    /// A server in this process. Bytes cross all the same.
    pub fn service<S>(service: S) -> Self
    where
        S: Service<Request<Bytes>, Response = Response<Body>, Error = Infallible>
            + Clone
            + std::marker::Send
            + Sync
            + 'static,
        S::Future: std::marker::Send,
    {
        Self(Arc::new(move |request| {
            let service = service.clone();
            Box::pin(async move {
                let Ok(response) = service.oneshot(request).await;
                let (head, body) = response.into_parts();
                let body = transport::collect(body, MAX_RESPONSE).await?;
                let body = body.ok_or("the response is too long")?;
                Ok(Response::from_parts(head, body))
            })
        }))
    }

    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, BoxError> {
        (self.0)(request).await
    }
}
