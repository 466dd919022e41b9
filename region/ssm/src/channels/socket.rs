//! A channel's WebSocket: the token first, then messages in both directions.
//!
//! **Invariant:** the two directions never wait for each other.
//!
//! Deviation: on AWS the upgrade is signed too; here the token alone opens a channel.

use std::time::Duration;

use aws_ssm::channel::{CONTROL_CHANNEL, DATA_CHANNEL, OpenChannel};
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE},
};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use lifecycle::Scope;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};
use tracing::debug;
use transport::Body;

use super::{Channel, Opened};
use crate::Ssm;

/// How long a caller may take for its token, and to answer the end.
const LIMIT: Duration = Duration::from_secs(10);
/// How often an end that says nothing is asked whether it is there, and when it is not.
const PING: Duration = Duration::from_secs(30);
const GONE: Duration = Duration::from_secs(90);
/// The longest message: payloads have 1024 bytes, answers of commands more.
const LONGEST: usize = 256 * 1024;

/// Serves channels, beside the gateway. Cheap to clone.
#[derive(Clone)]
pub struct ChannelService {
    ssm: Ssm,
    scope: Scope,
}

impl ChannelService {
    pub fn new(ssm: Ssm, scope: Scope) -> Self {
        Self { ssm, scope }
    }

    /// Whether a request is for a channel's WebSocket; the calls beside it are the gateway's.
    pub fn is_asked(&self, method: &Method, path: &str, headers: &HeaderMap) -> bool {
        let upgrade = headers.get(UPGRADE).and_then(|it| it.to_str().ok()).unwrap_or_default();
        *method == Method::GET
            && upgrade.eq_ignore_ascii_case("websocket")
            && (path.starts_with(CONTROL_CHANNEL) || path.starts_with(DATA_CHANNEL))
    }

    pub fn answer(&self, mut request: Request<Incoming>) -> Response<Body> {
        let headers = request.headers();
        let version = headers.get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes);
        let accept = headers
            .get(SEC_WEBSOCKET_KEY)
            .filter(|_| version == Some(b"13"))
            .and_then(|it| HeaderValue::from_str(&derive_accept_key(it.as_bytes())).ok());
        let mut response = Response::new(transport::empty());
        let Some(accept) = accept else {
            *response.status_mut() = StatusCode::BAD_REQUEST;
            return response;
        };
        let candidates = channels(request.uri().path());
        let upgraded = hyper::upgrade::on(&mut request);
        let ssm = self.ssm.clone();
        drop(self.scope.spawn("session channel", async move {
            match tokio::time::timeout(LIMIT, upgraded).await {
                Ok(Ok(socket)) => serve(ssm, candidates, TokioIo::new(socket)).await,
                _ => debug!("a session channel was not upgraded"),
            }
        }));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let out = response.headers_mut();
        out.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        out.insert(UPGRADE, HeaderValue::from_static("websocket"));
        out.insert(SEC_WEBSOCKET_ACCEPT, accept);
        response
    }
}

/// The channels that a path may mean: of a data channel the token says which end it is.
pub(crate) fn channels(path: &str) -> Vec<Channel> {
    let id = |prefix: &str| path.strip_prefix(prefix).map(str::to_owned);
    match (id(CONTROL_CHANNEL), id(DATA_CHANNEL)) {
        (Some(instance), _) => vec![Channel::Control(instance)],
        (_, Some(session)) => vec![Channel::Client(session.clone()), Channel::Agent(session)],
        _ => Vec::new(),
    }
}

/// One connection from its token to its end.
pub(crate) async fn serve<S>(ssm: Ssm, candidates: Vec<Channel>, socket: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config =
        WebSocketConfig::default().max_message_size(Some(LONGEST)).max_frame_size(Some(LONGEST));
    let socket = WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await;
    let (mut sink, mut stream) = socket.split();
    let token = tokio::time::timeout(LIMIT, token(&mut stream)).await.ok().flatten();
    let opened = token.and_then(|token| ssm.hub().open(candidates, &token));
    let Some(opened) = opened else {
        debug!("a session channel without a good token");
        drop(tokio::time::timeout(LIMIT, sink.close()).await);
        return;
    };
    ssm.opened(&opened);
    let Opened { channel, number, inbox } = opened;
    let ended = Ended { ssm: &ssm, channel: &channel, number };
    tokio::select! {
        () = receive(&ssm, &channel, &mut stream) => {}
        () = send(inbox, &mut sink) => {}
    }
    drop(ended);
    // Read to its end: who still speaks would be cut off before the last that was said to it.
    let farewell = async {
        drop(sink.close().await);
        while let Some(Ok(_)) = stream.next().await {}
    };
    drop(tokio::time::timeout(LIMIT, farewell).await);
}

/// Says that the connection is over, however it ends.
struct Ended<'a> {
    ssm: &'a Ssm,
    channel: &'a Channel,
    number: u64,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.ssm.closed(self.channel, self.number);
    }
}

async fn token<S>(stream: &mut SplitStream<WebSocketStream<S>>) -> Option<String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let first = match stream.next().await?.ok()? {
            Message::Text(text) => text.as_bytes().to_vec(),
            Message::Binary(bytes) => bytes.to_vec(),
            Message::Close(_) => return None,
            _ => continue,
        };
        return serde_json::from_slice::<OpenChannel>(&first).ok().map(|it| it.token_value);
    }
}

async fn receive<S>(ssm: &Ssm, channel: &Channel, stream: &mut SplitStream<WebSocketStream<S>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let Ok(Some(Ok(message))) = tokio::time::timeout(GONE, stream.next()).await else { return };
        match message {
            Message::Binary(bytes) => {
                if let Err(error) = ssm.carry(channel, bytes.to_vec()).await {
                    debug!(?channel, %error, "a session channel is closed");
                    return;
                }
            }
            Message::Close(_) => return,
            _ => {}
        }
    }
}

/// Ends when the channel is forgotten, or taken by another connection.
async fn send<S>(
    mut inbox: mpsc::Receiver<Vec<u8>>,
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let message = match tokio::time::timeout(PING, inbox.recv()).await {
            Ok(Some(bytes)) => Message::Binary(bytes.into()),
            Ok(None) => return,
            Err(_) => Message::Ping(Vec::new().into()),
        };
        match tokio::time::timeout(GONE, sink.send(message)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}
