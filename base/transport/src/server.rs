//! HTTP servers over TCP, TLS and Unix sockets.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use lifecycle::Scope;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
};
use tokio_rustls::TlsAcceptor;
use tower::Service;
use tracing::debug;

use crate::Body;

/// How long a client may take for its TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// The other end of a connection: a request extension.
#[derive(Clone, Debug)]
pub struct Peer {
    /// `None` for Unix sockets.
    pub address: Option<SocketAddr>,
    /// The address on this side that the client reached.
    pub local: Option<SocketAddr>,
    /// The client's certificate, already verified against the authority given to `tls::server`.
    pub certificate: Option<CertificateDer<'static>>,
}

/// Serves HTTP/1.1 and HTTP/2 (upgrades included) on `listener` until `scope` is cancelled.
///
/// Each request carries a [`Peer`] as an extension.
pub async fn serve<S>(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    service: S,
    scope: Scope,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let local = listener.local_addr().ok();
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: waiting is the only thing that helps.
                debug!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        crate::place::tune(&stream);
        let local = stream.local_addr().ok().or(local);
        let peer = Peer { address: Some(address), local, certificate: None };
        let (service, tls) = (service.clone(), tls.clone());
        let connection = async move {
            match tls {
                None => drive(stream, peer, service).await,
                Some(config) => {
                    let handshake = TlsAcceptor::from(config).accept(stream);
                    match tokio::time::timeout(HANDSHAKE_LIMIT, handshake).await {
                        Ok(Ok(stream)) => {
                            let certificates = stream.get_ref().1.peer_certificates();
                            let certificate = certificates.and_then(|chain| chain.first().cloned());
                            let certificate = certificate.map(CertificateDer::into_owned);
                            drive(stream, Peer { certificate, ..peer }, service).await;
                        }
                        Ok(Err(error)) => debug!(%error, %address, "TLS handshake failed"),
                        Err(_) => debug!(%address, "TLS handshake timed out"),
                    }
                }
            }
        };
        drop(scope.spawn("connection", connection));
    }
}

/// Serves HTTP on a Unix socket until `scope` is cancelled.
pub async fn serve_unix<S>(listener: UnixListener, service: S, scope: Scope)
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let peer = Peer { address: None, local: None, certificate: None };
        drop(scope.spawn("connection", drive(stream, peer, service.clone())));
    }
}

async fn drive<I, S>(stream: I, peer: Peer, service: S)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let service = tower::ServiceBuilder::new()
        .map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            request
        })
        .service(service);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(30));
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(1000);
    let connection = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
    if let Err(error) = connection.await {
        debug!(error, "connection ended");
    }
}
