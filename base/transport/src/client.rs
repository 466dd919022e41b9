//! An HTTP client that dials from a [`Place`].
//!
//! One connection per request: the peers here are AWS endpoints and kubelets, called seldom enough
//! that a pool's stale connections would cost more than they save.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header::HOST};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{Body, BoxError, Place};

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HttpClient {
    place: Place,
    tls: Option<Arc<ClientConfig>>,
    limit: Duration,
    fixed: Option<SocketAddr>,
    name: Option<String>,
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("`{uri}` is not a URL that can be dialled")]
    BadUri { uri: Uri },
    #[error("failed to resolve `{host}`")]
    Resolve {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("failed to connect to `{address}`")]
    Connect {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("failed to speak HTTP with `{host}`")]
    Http {
        host: String,
        #[source]
        source: hyper::Error,
    },
    #[error("`{host}` did not answer within {limit:?}")]
    TimedOut { host: String, limit: Duration },
}

impl HttpClient {
    /// Dials from `place`; `tls` is used for `https` URLs; `limit` bounds the time to the
    /// response's head.
    pub fn new(place: Place, tls: Option<Arc<ClientConfig>>, limit: Duration) -> Self {
        Self { place, tls, limit, fixed: None, name: None }
    }

    /// Dials `address` whatever host the URL names.
    pub fn to(mut self, address: SocketAddr) -> Self {
        self.fixed = Some(address);
        self
    }

    /// Expects `name` in the server's certificate whatever host the URL names.
    pub fn expecting(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sends one request. Upgrades work: take them from the response with `hyper::upgrade::on`.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, SendError> {
        let uri = request.uri().clone();
        let host = uri.host().ok_or_else(|| SendError::BadUri { uri: uri.clone() })?.to_owned();
        match tokio::time::timeout(self.limit, self.exchange(request, &uri, &host)).await {
            Ok(result) => result,
            Err(_) => Err(SendError::TimedOut { host, limit: self.limit }),
        }
    }

    async fn exchange(
        &self,
        mut request: Request<Body>,
        uri: &Uri,
        host: &str,
    ) -> Result<Response<Incoming>, SendError> {
        let is_tls = uri.scheme_str() == Some("https");
        let addresses = self.addresses(uri, host, if is_tls { 443 } else { 80 }).await?;
        let (address, stream) = self.dial(host, &addresses).await?;
        let failed = |source| SendError::Connect { address, source };
        prepare(&mut request, uri);
        if !is_tls {
            return speak(stream, request, host).await;
        }
        let config = self.tls.clone().ok_or_else(|| SendError::BadUri { uri: uri.clone() })?;
        let host_name = self.name.as_deref().unwrap_or(host);
        let bare = host_name.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name =
            ServerName::try_from(bare).map_err(|_| SendError::BadUri { uri: uri.clone() })?;
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(failed)?;
        speak(stream, request, host).await
    }

    /// One address after the other, as a name may have some of a family that its server does not use.
    /// Each has its share of the time that is left. If none answers, that of the first one is told.
    async fn dial(
        &self,
        host: &str,
        addresses: &[SocketAddr],
    ) -> Result<(SocketAddr, TcpStream), SendError> {
        let (began, mut failure) = (Instant::now(), None);
        for (index, &address) in addresses.iter().enumerate() {
            let left = self.limit.saturating_sub(began.elapsed());
            let share = left / u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
            match self.place.connect(address, share).await {
                Ok(stream) => return Ok((address, stream)),
                Err(source) => {
                    failure.get_or_insert(SendError::Connect { address, source });
                }
            }
        }
        let source = io::Error::other("the name has no address");
        Err(failure.unwrap_or(SendError::Resolve { host: host.to_owned(), source }))
    }

    async fn addresses(
        &self,
        uri: &Uri,
        host: &str,
        default_port: u16,
    ) -> Result<Vec<SocketAddr>, SendError> {
        if let Some(address) = self.fixed {
            return Ok(vec![address]);
        }
        let failed = |source| SendError::Resolve { host: host.to_owned(), source };
        let port = uri.port_u16().unwrap_or(default_port);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        Ok(tokio::net::lookup_host((bare, port)).await.map_err(failed)?.collect())
    }
}

/// HTTP/1.1 wants the path in the request line and the authority in `Host`.
fn prepare(request: &mut Request<Body>, uri: &Uri) {
    if let Some(authority) = uri.authority()
        && let Ok(value) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().entry(HOST).or_insert(value);
    }
    let path = uri.path_and_query().map_or("/", |it| it.as_str());
    if let Ok(uri) = path.parse() {
        *request.uri_mut() = uri;
    }
}

async fn speak<I>(
    stream: I,
    request: Request<Body>,
    host: &str,
) -> Result<Response<Incoming>, SendError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |source| SendError::Http { host: host.to_owned(), source };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // The connection ends with the response's body or its upgrade, so it needs no owner.
    #[expect(clippy::disallowed_methods, reason = "ends with the response that it carries")]
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "client connection ended");
        }
    });
    sender.send_request(request).await.map_err(failed)
}

/// So that `HttpClient` can stand where a whole body is enough.
impl HttpClient {
    /// Sends, and reads the whole body (at most `limit` bytes).
    pub async fn fetch(
        &self,
        request: Request<Body>,
        limit: usize,
    ) -> Result<Response<Bytes>, BoxError> {
        let (head, body) = self.send(request).await?.into_parts();
        let read = tokio::time::timeout(self.limit, crate::collect(body, limit)).await?;
        let body = read?.ok_or("the response is too long")?;
        Ok(Response::from_parts(head, body))
    }
}
