//! One HTTP request on a connection of its own, and what Go's client says when it gets no answer: the words
//! that users look for.
//!
//! Upstream: `net/http` (`Client.do`, `persistConn.readLoop`, `ReadResponse`), `crypto/tls` (`readRecordOrCCS`).
//!
//! Deviation: where a handshake fails on this side, and not by an alert of the server's, the TLS library's
//! own words are told, which are not Go's.

mod tap;
mod words;

use std::{error::Error, io, net::SocketAddr, pin::pin, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, StatusCode, Uri,
    header::{HOST, LOCATION},
};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use transport::{Body, Place};

use self::{
    tap::{Seen, Tap},
    words::Ends,
};
use super::attempt::dial_error;

/// Upstream reads no more of an answer.
const BODY_LIMIT: usize = 10 * 1024;
const NO_HEAD: &str = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
const NO_BODY: &str =
    "context deadline exceeded (Client.Timeout or context cancellation while reading body)";

/// An answer, whose body may have broken off.
pub(super) struct Answered {
    pub status: StatusCode,
    pub location: Option<String>,
    pub body: Result<String, String>,
}

pub(super) enum AskError {
    /// Nobody is there.
    Dial(String),
    /// Somebody is there who does not speak TLS but HTTP.
    NoTls(String),
    Other(String),
}

pub(super) async fn exchange(
    address: SocketAddr,
    uri: &Uri,
    headers: &HeaderMap,
    limit: Duration,
) -> Result<Answered, AskError> {
    let deadline = Instant::now() + limit;
    let request = request(uri, headers).map_err(AskError::Other)?;
    let late = || AskError::Other(NO_HEAD.to_owned());
    let stream = match Place::Here.connect(address, limit).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(late()),
        Err(error) => return Err(AskError::Dial(dial_error(address, &error))),
    };
    let ends = Ends { local: stream.local_addr().ok(), remote: address };
    if uri.scheme_str() != Some("https") {
        return speak(stream, request, ends, deadline).await.map_err(AskError::Other);
    }
    let stream = timeout_at(deadline, encrypt(stream, uri, ends)).await.map_err(|_| late())??;
    speak(stream, request, ends, deadline).await.map_err(AskError::Other)
}

/// HTTP/1.1 wants the path in the request line and the authority in `Host`.
fn request(uri: &Uri, headers: &HeaderMap) -> Result<Request<Body>, String> {
    let path = uri.path_and_query().map_or("/", |it| it.as_str());
    let request = Request::get(path).body(transport::empty());
    let mut request = request.map_err(|error| error.to_string())?;
    request.headers_mut().clone_from(headers);
    let host = uri.authority().and_then(|it| HeaderValue::from_str(it.as_str()).ok());
    if let Some(host) = host {
        request.headers_mut().entry(HOST).or_insert(host);
    }
    Ok(request)
}

async fn encrypt(
    stream: TcpStream,
    uri: &Uri,
    ends: Ends,
) -> Result<TlsStream<Tap<TcpStream>>, AskError> {
    let other = AskError::Other;
    let config = transport::tls::client_unverified(None).map_err(|it| other(it.to_string()))?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).map_err(|it| other(it.to_string()))?;
    let (stream, seen) = Tap::first_bytes(stream);
    let encrypted = TlsConnector::from(config).connect(name, stream).await;
    encrypted.map_err(|error| {
        let seen = seen.lock();
        match words::is_http(&seen) {
            true => AskError::NoTls("http: server gave HTTP response to HTTPS client".to_owned()),
            false => AskError::Other(words::of_tls(&seen, &error, ends)),
        }
    })
}

/// Sends the request; the connection is this task's own, and ends with the answer.
async fn speak<I>(
    stream: I,
    request: Request<Body>,
    ends: Ends,
    deadline: Instant,
) -> Result<Answered, String>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (stream, seen) = Tap::first_line(stream);
    let failed = |error: hyper::Error| of_http(&seen.lock(), &error, ends);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let asked = async {
        let response = timeout_at(deadline, sender.send_request(request)).await;
        let response = response.map_err(|_| NO_HEAD.to_owned())?.map_err(failed)?;
        let (head, body) = response.into_parts();
        let location = head.headers.get(LOCATION).and_then(|it| it.to_str().ok());
        let location = location.map(str::to_owned);
        let body = match timeout_at(deadline, read(body)).await {
            Ok(Ok(body)) => Ok(String::from_utf8_lossy(&body).into_owned()),
            Ok(Err(error)) => Err(of_body(&error, ends)),
            Err(_) => Err(NO_BODY.to_owned()),
        };
        Ok(Answered { status: head.status, location, body })
    };
    let (mut asked, mut connection) = (pin!(asked), pin!(connection));
    let mut is_open = true;
    loop {
        tokio::select! {
            biased;
            answered = &mut asked => return answered,
            // What went wrong with it is told to the request.
            _ = &mut connection, if is_open => is_open = false,
        }
    }
}

async fn read(body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let (mut body, mut whole) = (pin!(body), Vec::new());
    while whole.len() < BODY_LIMIT {
        let frame = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
        let Some(frame) = frame.transpose()? else { break };
        whole.extend(frame.into_data().unwrap_or_else(|_| Bytes::new()));
    }
    whole.truncate(BODY_LIMIT);
    Ok(whole)
}

fn of_http(seen: &Seen, error: &hyper::Error, ends: Ends) -> String {
    let cause = io_cause(error);
    let told = cause.and_then(|it| words::of_connection(it, ends));
    told.or_else(|| words::of_answer(seen)).unwrap_or_else(|| telemetry::chain(error).to_string())
}

fn of_body(error: &hyper::Error, ends: Ends) -> String {
    let told = io_cause(error).and_then(|it| words::of_connection(it, ends));
    told.unwrap_or_else(|| "unexpected EOF".to_owned())
}

fn io_cause(error: &hyper::Error) -> Option<&io::Error> {
    let mut cause = error.source();
    while let Some(it) = cause {
        if let Some(found) = it.downcast_ref() {
            return Some(found);
        }
        cause = it.source();
    }
    None
}

#[cfg(test)]
mod tests;
