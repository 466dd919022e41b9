//! Dials a member: TCP, with TLS for `https`.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tonic::transport::{Endpoint, Uri};
use transport::Place;

use crate::Channel;

const DIAL_LIMIT: Duration = Duration::from_secs(5);
/// A member that vanished without a word is noticed after these.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Whom to trust and as whom to appear, in PEM.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    pub ca_pem: String,
    pub identity: Option<transport::tls::Identity>,
}

/// Why an endpoint cannot be dialled at all.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("`{endpoint}` is not an endpoint of etcd: `http://HOST:PORT` or `https://…` is needed")]
    Endpoint { endpoint: String },
    #[error("`{endpoint}` needs the certificate authority that signs etcd's certificates")]
    NoCa { endpoint: String },
    #[error("the certificates for etcd cannot be used")]
    Tls {
        #[source]
        source: io::Error,
    },
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A channel to the member at `endpoint`.
pub fn connect(endpoint: &str, tls: Option<&Tls>) -> Result<Channel, ConnectError> {
    let wrong = || ConnectError::Endpoint { endpoint: endpoint.to_owned() };
    let uri: Uri = endpoint.parse().map_err(|_| wrong())?;
    let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else { return Err(wrong()) };
    let config = match (uri.scheme_str(), tls) {
        (Some("http"), _) => None,
        (Some("https"), Some(tls)) => Some(client_config(tls)?),
        (Some("https"), None) => {
            return Err(ConnectError::NoCa { endpoint: endpoint.to_owned() });
        }
        _ => return Err(wrong()),
    };
    let host: Arc<str> = host.trim_start_matches('[').trim_end_matches(']').into();
    let connector = tower::service_fn(move |_: Uri| {
        let (host, config) = (host.clone(), config.clone());
        async move { dial(&host, port, config).await.map(TokioIo::new) }
    });
    // tonic insists on plain HTTP where it is not its own TLS that is used.
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    let named = Endpoint::from_shared(format!("http://{authority}")).map_err(|_| wrong())?;
    let kept = named.http2_keep_alive_interval(KEEPALIVE).keep_alive_timeout(KEEPALIVE);
    Ok(kept.keep_alive_while_idle(true).connect_with_connector_lazy(connector))
}

fn client_config(tls: &Tls) -> Result<Arc<ClientConfig>, ConnectError> {
    let made = transport::tls::client(&tls.ca_pem, tls.identity.as_ref());
    let mut config = ClientConfig::clone(&*made.map_err(|source| ConnectError::Tls { source })?);
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

async fn dial(
    host: &str,
    port: u16,
    config: Option<Arc<ClientConfig>>,
) -> io::Result<Box<dyn Stream>> {
    let mut found: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    // An IPv4 address first: etcd on a machine of ours listens on 127.0.0.1.
    found.sort_by_key(SocketAddr::is_ipv6);
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("`{host}` has no address"));
    for address in found {
        match Place::Here.connect(address, DIAL_LIMIT).await {
            Err(error) => last = error,
            Ok(stream) => {
                let Some(config) = config else { return Ok(Box::new(stream)) };
                let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
                return Ok(Box::new(TlsConnector::from(config).connect(name, stream).await?));
            }
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_endpoint_has_a_scheme_a_host_and_a_port() {
        for wrong in ["127.0.0.1:2379", "http://etcd", "ftp://etcd:1", "unix:///run/etcd"] {
            assert!(matches!(connect(wrong, None), Err(ConnectError::Endpoint { .. })), "{wrong}");
        }
        assert!(connect("http://127.0.0.1:2379", None).is_ok());
        let without = connect("https://127.0.0.1:2379", None);
        assert!(matches!(without, Err(ConnectError::NoCa { .. })));
    }
}
