//! Connections that are upgraded on both sides and then only carry bytes.
//!
//! The handshake is the client's own, passed on: key, protocols and answer are end to end, so any
//! protocol that the other end speaks works (WebSocket of every version, SPDY, a pod's own).

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, header};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use transport::Body;

use super::{Config, dial, forward};
use crate::status::Status;

/// Headers that say something about one of the two connections only.
const OWN: [HeaderName; 6] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::PROXY_AUTHORIZATION,
];

/// A tunnel, in the extensions of the answer that opened it. What it keeps is dropped when it ends.
#[derive(Clone, Default)]
pub(crate) struct Tunnel(Arc<Mutex<Vec<Box<dyn Send>>>>);

impl Tunnel {
    pub(crate) fn keep(&self, it: impl Send + 'static) {
        self.0.lock().push(Box::new(it));
    }
}

/// What the backend made of the handshake.
pub(super) enum Answer {
    Switched(Response<Body>),
    Refused(Response<Incoming>),
}

/// Hands the request's upgrade to `path` at `address`; the tunnel lives until either side ends.
pub(super) async fn tunnel(
    config: &Config,
    address: SocketAddr,
    tls: Option<dial::Secure>,
    path: &str,
    mut request: Request<Body>,
) -> Result<Answer, Status> {
    if !request.headers().contains_key(header::UPGRADE) {
        return Err(Status::bad_request("Upgrade request required"));
    }
    let method = request.method().clone();
    let client = hyper::upgrade::on(&mut request);
    let (mut head, _) = request.into_parts();
    forward::name_client(&mut head.headers, &head.extensions);
    let onward = handshake(method, path, address, &head.headers)?;
    let sent = dial::send(config, address, tls, onward).await;
    let mut answer = sent.map_err(|error| {
        let message = format!("error dialing backend: {error}");
        Status::new(StatusCode::INTERNAL_SERVER_ERROR, "", message)
    })?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Answer::Refused(answer));
    }
    let backend = hyper::upgrade::on(&mut answer);
    let mut response = Response::new(transport::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = end_to_end(answer.headers());
    let tunnel = Tunnel::default();
    response.extensions_mut().insert(tunnel.clone());
    let carried = async move {
        let _kept = tunnel;
        carry(client, backend).await;
    };
    drop(config.scope.spawn("tunnel", carried));
    Ok(Answer::Switched(response))
}

fn handshake(
    method: Method,
    path: &str,
    address: SocketAddr,
    headers: &HeaderMap,
) -> Result<Request<Body>, Status> {
    let mut onward = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, address.to_string())
        .body(transport::empty())
        .map_err(Status::internal)?;
    onward.headers_mut().extend(end_to_end(headers));
    Ok(onward)
}

fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in OWN {
        headers.remove(name);
    }
    headers
}

async fn carry(client: OnUpgrade, backend: OnUpgrade) {
    let (client, backend) = match tokio::try_join!(client, backend) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "an upgrade did not complete");
            return;
        }
    };
    let carried = transport::splice(TokioIo::new(client), TokioIo::new(backend));
    if let Err(error) = carried.await {
        tracing::debug!(%error, "a tunnel ended");
    }
}
