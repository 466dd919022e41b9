//! One connection to a backend, with failures worded as Go's `net` package words them: those are
//! the words that EKS users search for.

use std::{io, net::SocketAddr, sync::Arc};

use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use transport::Body;

use super::{Config, x509};

/// Why a backend gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("dial tcp {address}: {}", reason(source))]
    Connect {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("{}", tls_reason(source))]
    Tls {
        #[source]
        source: io::Error,
    },
    #[error("{source}")]
    Http {
        #[source]
        source: hyper::Error,
    },
}

/// How TLS is spoken with a backend, and the name that its certificate has to have: its address's
/// where there is none.
#[derive(Clone, Debug)]
pub(crate) struct Secure {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: Option<ServerName<'static>>,
}

impl From<Arc<ClientConfig>> for Secure {
    fn from(config: Arc<ClientConfig>) -> Self {
        Self { config, name: None }
    }
}

/// Sends one request over a connection of its own.
pub(super) async fn send(
    config: &Config,
    address: SocketAddr,
    tls: Option<Secure>,
    request: Request<Body>,
) -> Result<Response<Incoming>, DialError> {
    let connected = config.place.connect(address, config.dial_limit).await;
    let stream = connected.map_err(|source| DialError::Connect { address, source })?;
    let Some(tls) = tls else { return exchange(config, stream, request).await };
    let name = tls.name.unwrap_or_else(|| ServerName::from(address.ip()));
    let handshake = TlsConnector::from(tls.config).connect(name, stream);
    let shaken = match tokio::time::timeout(config.dial_limit, handshake).await {
        Ok(shaken) => shaken,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "net/http: TLS handshake timeout")),
    };
    exchange(config, shaken.map_err(|source| DialError::Tls { source })?, request).await
}

async fn exchange<I>(
    config: &Config,
    stream: I,
    request: Request<Body>,
) -> Result<Response<Incoming>, DialError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |source| DialError::Http { source };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let driven = async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a backend ended");
        }
    };
    drop(config.scope.spawn("backend connection", driven));
    sender.send_request(request).await.map_err(failed)
}

/// For dials of others: a handshake fails with an error of TLS inside.
pub(super) fn told(address: SocketAddr, error: &io::Error) -> String {
    match error.get_ref().and_then(|it| it.downcast_ref::<rustls::Error>()) {
        Some(_) => tls_reason(error),
        None => format!("dial tcp {address}: {}", reason(error)),
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "i/o timeout".into(),
        io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".into(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".into(),
        io::ErrorKind::ConnectionReset => "connect: connection reset by peer".into(),
        _ => error.to_string(),
    }
}

fn tls_reason(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|it| it.downcast_ref::<rustls::Error>());
    match inner {
        // A kubelet without a serving certificate yet.
        Some(rustls::Error::AlertReceived(rustls::AlertDescription::InternalError)) => {
            "remote error: tls: internal error".into()
        }
        Some(rustls::Error::InvalidCertificate(why)) => x509::told(why),
        _ => error.to_string(),
    }
}
