//! The gateway as an HTTP service, for `transport::serve`.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Body as HttpBody;
use transport::{Body, Peer};

use crate::{
    Gateway, Source,
    bodies::{BodyError, Charged},
    refusal,
};

/// The longest request that is read: user data and policies are far below.
const MAX_REQUEST: usize = 8 << 20;

/// How long the body of a request may take to arrive, if it never stalls.
const BODY_LIMIT: Duration = Duration::from_secs(60);

/// On which side of the region a listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    Host,
    /// Inside of the VPC with this id.
    Vpc(String),
}

/// See the module.
#[derive(Clone)]
pub struct GatewayService {
    gateway: Gateway,
    side: Side,
}

impl Gateway {
    /// The service for a listener on this side.
    pub fn service(&self, side: Side) -> GatewayService {
        GatewayService { gateway: self.clone(), side }
    }
}

impl Side {
    /// Where a request of this peer comes from.
    pub fn source(&self, peer: Option<&Peer>) -> Source {
        match self {
            Self::Host => Source::Host,
            Self::Vpc(vpc_id) => Source::Vpc {
                vpc_id: vpc_id.clone(),
                address: peer
                    .and_then(|it| it.address)
                    .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |it| it.ip()),
            },
        }
    }
}

impl<B> tower::Service<Request<B>> for GatewayService
where
    B: HttpBody<Data = Bytes> + Unpin + Send + 'static,
    B::Error: std::fmt::Display + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let source = this.side.source(request.extensions().get::<Peer>());
            let (parts, body) = request.into_parts();
            let peer = parts.extensions.get::<Peer>().and_then(|it| it.address);
            let peer = peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |it| it.ip());
            // Held until the call has come to its end, whether its client waits for that or not.
            let Some(charge) = this.gateway.bodies().call(peer) else {
                let answer = this.gateway.refuse(&parts, &source, &refusal::busy());
                return Ok(answer.map(transport::full));
            };
            let body = Charged::new(body, charge.clone());
            let arriving = transport::collect_request(body, MAX_REQUEST);
            let body = match tokio::time::timeout(BODY_LIMIT, arriving).await {
                Ok(Ok(Some(body))) => body,
                Err(_) | Ok(Err(BodyError::Stalled)) => {
                    let answer = this.gateway.refuse(&parts, &source, &refusal::too_slow());
                    return Ok(answer.map(transport::full));
                }
                Ok(Ok(None)) => {
                    let answer = this.gateway.refuse(&parts, &source, &refusal::too_large());
                    return Ok(answer.map(transport::full));
                }
                Ok(Err(BodyError::Busy)) => {
                    let answer = this.gateway.refuse(&parts, &source, &refusal::busy());
                    return Ok(answer.map(transport::full));
                }
                Ok(Err(BodyError::Broken(error))) => {
                    tracing::debug!(%error, "a request ended early");
                    let answer = this.gateway.refuse(&parts, &source, &refusal::cut_off());
                    return Ok(answer.map(transport::full));
                }
            };
            if let Some(answer) = this.gateway.pass_on(&parts, &body, &source).await {
                return Ok(answer);
            }
            let response = this.gateway.answer_held(&parts, &body, source, None, charge).await;
            Ok(response.map(transport::full))
        })
    }
}
