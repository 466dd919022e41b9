//! The HTTP side: who asks, with what right, and how far the answer may travel.
//!
//! Deviation: who asks by IPv6 where `http-protocol-ipv6` is not enabled is answered 403, as where the
//! endpoint is disabled; EC2 does not say what it does.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use clock::Clock;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use lifecycle::Scope;
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};
use transport::{Admission, Body, Place};

use crate::{
    Answer, InstanceMetadata, Metadata, lookup,
    refusal::Refusal,
    session::{Sessions, TTLS},
};

const PORT: u16 = 80;
/// What every answer but a token's travels with: Linux's default.
const FAR: u32 = 64;
const HEADER_LIMIT: Duration = Duration::from_secs(10);

/// The service of one VPC. Clones share the sessions.
pub struct Imds<M> {
    vpc: Arc<str>,
    metadata: Arc<M>,
    sessions: Sessions,
    clock: Clock,
}

impl<M> Clone for Imds<M> {
    fn clone(&self) -> Self {
        Self {
            vpc: self.vpc.clone(),
            metadata: self.metadata.clone(),
            sessions: self.sessions.clone(),
            clock: self.clock,
        }
    }
}

/// Serves the metadata of `vpc` at `address` (169.254.169.254, fd00:ec2::254) in its router until
/// `scope` is cancelled. The router must have been applied once: its addresses must be there.
pub async fn serve<M: Metadata>(
    router: Place,
    address: impl Into<IpAddr>,
    imds: Imds<M>,
    scope: Scope,
) -> io::Result<()> {
    let listener = router.listen(SocketAddr::from((address.into(), PORT)))?;
    imds.accept(listener, scope).await
}

impl<M: Metadata> Imds<M> {
    pub fn new(vpc: &str, metadata: Arc<M>, clock: Clock) -> Self {
        let sessions = Sessions::new(entropy::bytes());
        Self { vpc: vpc.into(), metadata, sessions, clock }
    }

    /// Serves on a listener that is there already.
    pub async fn accept(self, listener: TcpListener, scope: Scope) -> io::Result<()> {
        let admission = Admission::of_process();
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, mostly: waiting is the only thing that helps.
                    warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let source = peer.ip();
            let Some(admitted) = admission.admit(self.peer(source)) else { continue };
            let imds = self.clone();
            drop(scope.spawn("imds connection", async move {
                let _admitted = admitted;
                if let Err(error) = imds.converse(stream, source).await {
                    debug!(%error, %source, "connection ended");
                }
            }));
        }
    }

    /// Whose connection it counts as: its instance's. An instance has many addresses to ask from, by
    /// IPv6 more than can be counted.
    fn peer(&self, source: IpAddr) -> IpAddr {
        let instance = self.metadata.instance(&self.vpc, source);
        let first = instance.as_ref().and_then(|it| it.interfaces.first());
        first.map_or(source, |it| it.primary.into())
    }

    async fn converse(self, stream: TcpStream, source: IpAddr) -> Result<(), transport::BoxError> {
        let (stream, range) = Range::split(stream)?;
        let service = service_fn(move |request: Request<Incoming>| {
            let (imds, range) = (self.clone(), range.clone());
            async move { Ok::<_, Infallible>(imds.answer(&request, source, &range).await) }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT);
        Ok(builder.serve_connection(TokioIo::new(stream), service).await?)
    }

    async fn answer<B>(
        &self,
        request: &Request<B>,
        source: IpAddr,
        range: &Range,
    ) -> Response<Body> {
        let decided = self.decide(request, source).await;
        let reach = match &decided {
            Ok((_, Reach::Hops(hops))) => u32::from(*hops),
            _ => FAR,
        };
        if let Err(error) = range.limit(reach) {
            // Better no answer than one that travels too far.
            warn!(%error, "failed to set the hop limit");
            return Refusal::Internal.response();
        }
        let mut response = decided.map_or_else(Refusal::response, |(response, _)| response);
        let server = HeaderValue::from_static("EC2ws");
        response.headers_mut().insert(header::SERVER, server);
        response
    }

    /// The answer, and how far it may travel.
    async fn decide<B>(
        &self,
        request: &Request<B>,
        source: IpAddr,
    ) -> Result<(Response<Body>, Reach), Refusal> {
        let instance = self.metadata.instance(&self.vpc, source).ok_or(Refusal::NotFound)?;
        let is_reachable = source.is_ipv4() || instance.options.by_ipv6;
        if !instance.options.is_enabled || !is_reachable {
            return Err(Refusal::Forbidden);
        }
        let path = request.uri().path();
        match *request.method() {
            Method::PUT => {
                let response = self.put(path, request.headers(), &instance)?;
                Ok((response, Reach::Hops(instance.options.hop_limit)))
            }
            Method::GET | Method::HEAD => {
                self.authorize(request.headers(), &instance)?;
                Ok((self.get(path, &instance).await?, Reach::Far))
            }
            _ => Err(Refusal::MethodNotAllowed),
        }
    }

    fn put(
        &self,
        path: &str,
        headers: &HeaderMap,
        instance: &InstanceMetadata,
    ) -> Result<Response<Body>, Refusal> {
        let is_token = path.trim_end_matches('/').ends_with("/api/token");
        if !is_token {
            return Err(Refusal::MethodNotAllowed);
        }
        // A proxy that passes requests on would hand credentials to strangers.
        if headers.contains_key("x-forwarded-for") {
            return Err(Refusal::Forbidden);
        }
        let ttl = headers.get(api_imds::paths::TTL_HEADER).ok_or(Refusal::BadRequest)?;
        let ttl: u32 = parse(ttl).filter(|ttl| TTLS.contains(ttl)).ok_or(Refusal::BadRequest)?;
        let token = self.sessions.issue(&instance.identity.instance_id, ttl, self.clock.now());
        let mut response = plain(token.into());
        response.headers_mut().insert(api_imds::paths::TTL_HEADER, HeaderValue::from(ttl));
        Ok(response)
    }

    fn authorize(&self, headers: &HeaderMap, instance: &InstanceMetadata) -> Result<(), Refusal> {
        let Some(token) = headers.get(api_imds::paths::TOKEN_HEADER) else {
            let is_v1 = !instance.options.tokens_required;
            return if is_v1 { Ok(()) } else { Err(Refusal::Unauthorized) };
        };
        let token = token.to_str().map_err(|_| Refusal::Unauthorized)?;
        let left = self.sessions.check(token, &instance.identity.instance_id, self.clock.now());
        left.map(drop).ok_or(Refusal::Unauthorized)
    }

    async fn get(
        &self,
        path: &str,
        instance: &InstanceMetadata,
    ) -> Result<Response<Body>, Refusal> {
        match lookup(instance, path) {
            Answer::Text(text) => Ok(plain(text.into_bytes())),
            Answer::Json(text) => Ok(plain(text.into_bytes())),
            Answer::Bytes(bytes) => {
                let mut response = plain(bytes);
                let kind = HeaderValue::from_static("application/octet-stream");
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                Ok(response)
            }
            Answer::Credentials(role) => {
                Ok(plain(self.credentials(instance, &role).await.into_bytes()))
            }
            Answer::NotFound => Err(Refusal::NotFound),
        }
    }

    /// A role that cannot be assumed is told in the document, with status 200, as on EC2.
    async fn credentials(&self, instance: &InstanceMetadata, role: &str) -> String {
        let document = match self.metadata.credentials(instance, role).await {
            Ok(credentials) => serde_json::to_value(credentials).unwrap_or_default(),
            Err(error) => {
                warn!(
                    instance = instance.identity.instance_id,
                    role,
                    error = &error as &dyn std::error::Error,
                    "no credentials"
                );
                serde_json::json!({
                    "Code": error.code,
                    "Message": format!(
                        "EC2 cannot assume the role {role}.  Please see documentation at \
                         https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_iam-ec2.html."
                    ),
                    "LastUpdated": self.clock.now().to_string(),
                })
            }
        };
        serde_json::to_string_pretty(&document).unwrap_or_default()
    }
}

/// How far an answer may travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Far,
    Hops(u8),
}

/// The hop limit of one connection: a second handle on its socket.
///
/// **Invariant:** it never grows. It is the socket's, not an answer's: what is sent again travels as
/// far as the last answer may, and a token that must not get far would, behind one that may.
#[derive(Clone, Debug)]
struct Range {
    socket: Arc<std::net::TcpStream>,
    least: Arc<AtomicU32>,
}

impl Range {
    fn split(stream: TcpStream) -> io::Result<(TcpStream, Self)> {
        stream.set_nodelay(true)?;
        let stream = stream.into_std()?;
        let handle = stream.try_clone()?;
        let range = Self { socket: Arc::new(handle), least: Arc::new(AtomicU32::new(FAR)) };
        Ok((TcpStream::from_std(stream)?, range))
    }

    fn limit(&self, hops: u32) -> io::Result<()> {
        let before = self.least.fetch_min(hops.max(1), Ordering::SeqCst);
        transport::limit_hops(&self.socket, before.min(hops.max(1)))
    }
}

fn plain(body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(transport::full(body));
    let kind = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn parse(value: &HeaderValue) -> Option<u32> {
    value.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
