//! One listener for all of AWS: the registry's hosts go to the registry, the token issuers' host to
//! them, the channels of sessions to Systems Manager, the rest to the gateway.

use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use region_ecr::RegistryService;
use region_eks::IssuerService;
use region_gateway::GatewayService;
use region_ssm::ChannelService;
use tower::Service;
use transport::Body;

/// See the module.
#[derive(Clone)]
pub(crate) struct Front {
    gateway: GatewayService,
    registry: RegistryService,
    issuers: IssuerService,
    channels: ChannelService,
    call_takes: Duration,
}

impl Front {
    /// `call_takes` is how long a caller waits at least for an answer of the gateway.
    pub(crate) fn new(
        gateway: GatewayService,
        registry: RegistryService,
        issuers: IssuerService,
        channels: ChannelService,
        call_takes: Duration,
    ) -> Self {
        Self { gateway, registry, issuers, channels, call_takes }
    }
}

impl Service<Request<Incoming>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let authority = request.uri().authority().map(|it| it.as_str().to_owned());
        if self.registry.is_for_registry(request.headers(), authority.as_deref()) {
            self.registry.call(request)
        } else if self.issuers.is_asked(request.headers(), authority.as_deref()) {
            self.issuers.call(request)
        } else if self.channels.is_asked(request.method(), request.uri().path(), request.headers())
        {
            let answer = self.channels.answer(request);
            Box::pin(async move { Ok(answer) })
        } else {
            let (at_least, answer) = (self.call_takes, self.gateway.call(request));
            Box::pin(async move { tokio::join!(answer, tokio::time::sleep(at_least)).0 })
        }
    }
}
