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

use crate::{Admission, Body};

/// How long a client may take for its TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// How long to wait when no connection can be accepted: file descriptors have run out, mostly, and
/// nothing else helps.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often a client over HTTP/2 is asked whether it is still there, and how long it may take to
/// say so: one that lost its power says nothing, and would hold its connection for ever.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_LIMIT: Duration = Duration::from_secs(20);

/// The other end of a connection: a request extension.
#[derive(Clone, Debug)]
pub struct Peer {
    /// `None` for Unix sockets.
    pub address: Option<SocketAddr>,
    /// The address on this side that the client reached.
    pub local: Option<SocketAddr>,
    /// The client's certificate, already verified against the authority given to `tls::server`.
    pub certificate: Option<CertificateDer<'static>>,
    /// What the client sent besides, by which an authority above vouches for it.
    pub intermediates: Vec<CertificateDer<'static>>,
}

/// Serves HTTP/1.1 and HTTP/2 (upgrades included) on `listener` until `scope` is cancelled.
///
/// Each request carries a [`Peer`] as an extension. Connections beyond what one listener may hold are
/// closed at once: see [`Admission`].
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
    serve_admitted(listener, tls, service, scope, Admission::of_process()).await;
}

async fn serve_admitted<S>(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    service: S,
    scope: Scope,
    admission: Admission,
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
                debug!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(admitted) = admission.admit(address.ip()) else {
            debug!(%address, "too many connections");
            continue;
        };
        crate::place::tune(&stream);
        let local = stream.local_addr().ok().or(local);
        let peer =
            Peer { address: Some(address), local, certificate: None, intermediates: Vec::new() };
        let (service, tls) = (service.clone(), tls.clone());
        let connection = async move {
            let _admitted = admitted;
            match tls {
                None => drive(stream, peer, service).await,
                Some(config) => {
                    let handshake = TlsAcceptor::from(config).accept(stream);
                    match tokio::time::timeout(HANDSHAKE_LIMIT, handshake).await {
                        Ok(Ok(stream)) => {
                            let certificates = stream.get_ref().1.peer_certificates();
                            let mut chain = certificates.unwrap_or_default().iter();
                            let certificate = chain.next().cloned().map(CertificateDer::into_owned);
                            let intermediates = chain.cloned().map(CertificateDer::into_owned);
                            let intermediates = intermediates.collect();
                            let peer = Peer { certificate, intermediates, ..peer };
                            drive(stream, peer, service).await;
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
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let peer =
            Peer { address: None, local: None, certificate: None, intermediates: Vec::new() };
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
    builder.http2().keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE_LIMIT);
    let connection = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
    if let Err(error) = connection.await {
        debug!(error, "connection ended");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::sys::{
        resource::{UsageWho, getrusage},
        socket::{AddressFamily, SockFlag, SockType, socket},
    };

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn processor_time() -> Duration {
        let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
        let micros = |it: nix::sys::time::TimeVal| {
            Duration::from_secs(it.tv_sec().unsigned_abs())
                + Duration::from_micros(it.tv_usec().unsigned_abs())
        };
        micros(usage.user_time()) + micros(usage.system_time())
    }

    #[tokio::test]
    async fn a_peer_with_all_its_connections_gets_no_other_until_one_ends() {
        let listener = crate::Place::Here.listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let service = tower::service_fn(|_: Request<Incoming>| async {
            Ok::<_, Infallible>(Response::new(crate::full("hello")))
        });
        let scope = Scope::new();
        let admission = Admission::new(2, 1);
        let serving = serve_admitted(listener, None, service, scope.clone(), admission);
        drop(scope.spawn("server", serving));
        let connect = || crate::Place::Here.connect(address, Duration::from_secs(5));
        // Whether the connection answers.
        let ask = async |stream: &mut tokio::net::TcpStream| {
            let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
            if stream.write_all(request).await.is_err() {
                return false;
            }
            let mut answer = [0; 64];
            matches!(stream.read(&mut answer).await, Ok(read) if read > 0)
        };
        let mut first = connect().await.unwrap();
        assert!(ask(&mut first).await);
        let mut second = connect().await.unwrap();
        assert!(!ask(&mut second).await, "the place is taken");
        assert!(ask(&mut first).await);
        drop(first);
        let again = async {
            while !ask(&mut connect().await.unwrap()).await {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), again).await.unwrap();
        scope.cancel();
    }

    #[tokio::test]
    async fn a_unix_socket_that_can_accept_nobody_is_not_asked_without_a_pause() {
        // It does not listen, so each accept(2) fails at once, as it does without a free descriptor.
        let (family, kind) = (AddressFamily::Unix, SockType::Stream);
        let socket = socket(family, kind, SockFlag::SOCK_NONBLOCK, None).unwrap();
        let listener = UnixListener::from_std(socket.into()).unwrap();
        let service = tower::service_fn(|_: Request<Incoming>| async {
            Ok::<_, Infallible>(Response::new(crate::empty()))
        });
        let before = processor_time();
        let serving = serve_unix(listener, service, Scope::new());
        assert!(tokio::time::timeout(Duration::from_millis(500), serving).await.is_err());
        let used = processor_time() - before;
        assert!(used < Duration::from_millis(200), "{used:?} of half a second");
    }
}
