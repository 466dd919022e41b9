//! Small servers on loopback, as containers would run them.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::{Request, Response, request::Parts};
use hyper::body::Incoming;
use lifecycle::Scope;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Status,
    server::{Grpc, NamedService, UnaryService},
};
use tonic_prost::ProstCodec;
use transport::{Body, Place};

/// A port of loopback that somebody listens on.
pub(crate) fn listen() -> (TcpListener, u16) {
    let listener = Place::Here.listen(([127, 0, 0, 1], 0).into()).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A web server that answers until the scope ends. Returns its port.
pub(crate) fn web(
    scope: &Scope,
    is_tls: bool,
    answer: impl Fn(&Parts) -> Response<Body> + Clone + Send + 'static,
) -> u16 {
    let (listener, port) = listen();
    let tls = is_tls.then(|| {
        let ca = pki::Ca::new("nobody knows it").unwrap();
        let profile = pki::Profile {
            cn: "elsewhere.example.com".to_owned(),
            organizations: Vec::new(),
            sans: vec!["elsewhere.example.com".to_owned()],
            usages: vec![pki::Usage::Server],
            not_after: clock::Clock::system().now() + std::time::Duration::from_secs(3600),
        };
        transport::tls::server(&ca.issue(&profile).unwrap(), None).unwrap()
    });
    let service = tower::service_fn(move |request: Request<Incoming>| {
        ready(Ok::<_, Infallible>(answer(&request.into_parts().0)))
    });
    drop(scope.spawn("web", transport::serve(listener, tls, service, scope.clone())));
    port
}

pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(transport::full(body.to_owned())).unwrap()
}

// === gRPC health ===

#[derive(Clone, PartialEq, prost::Message)]
struct Asked {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Answered {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The health of services by name.
#[derive(Clone, Default)]
pub(crate) struct Health(pub Arc<Mutex<HashMap<String, i32>>>);

impl Health {
    pub(crate) fn serve(&self, scope: &Scope) -> u16 {
        let (listener, port) = listen();
        let server = tonic::transport::Server::builder()
            .add_service(self.clone())
            .serve_with_incoming(TcpListenerStream::new(listener));
        drop(scope.spawn("health", server));
        port
    }

    pub(crate) fn set(&self, service: &str, status: i32) {
        self.0.lock().insert(service.to_owned(), status);
    }
}

impl NamedService for Health {
    const NAME: &'static str = "grpc.health.v1.Health";
}

impl UnaryService<Asked> for Health {
    type Response = Answered;
    type Future = Ready<Result<tonic::Response<Answered>, Status>>;

    fn call(&mut self, request: tonic::Request<Asked>) -> Self::Future {
        let known = self.0.lock().get(&request.get_ref().service).copied();
        ready(match known {
            Some(status) => Ok(tonic::Response::new(Answered { status })),
            None => Err(Status::not_found("unknown service")),
        })
    }
}

impl tower::Service<Request<tonic::body::Body>> for Health {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<Answered, Asked>::default());
            Ok(grpc.unary(this, request).await)
        })
    }
}
