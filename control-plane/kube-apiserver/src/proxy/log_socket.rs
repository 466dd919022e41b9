//! A log over a WebSocket: browsers have no other way to follow one.
//!
//! First comes an empty message, which says that the log is open; then what is logged, as bytes or in
//! Base64, as the caller's protocol has it. What the caller sends is not listened to.
//!
//! Upstream: `Reader` of `k8s.io/apimachinery/pkg/util/httpstream/wsstream`.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Bytes, Error, Message, Utf8Bytes,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};
use transport::Body;

use super::{Config, upgrade::Tunnel};
use crate::status::Status;

const PLAIN: &str = "binary.k8s.io";
const ENCODED: &str = "base64.binary.k8s.io";
/// How long a caller may take to answer the end.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Whether a request is a WebSocket's handshake.
pub(super) fn is_asked(headers: &HeaderMap) -> bool {
    let has = |name, word: &str| {
        let texts = headers.get_all(name).iter().filter_map(|it| it.to_str().ok());
        texts.flat_map(|it| it.split(',')).any(|it| it.trim().eq_ignore_ascii_case(word))
    };
    has(header::UPGRADE, "websocket") && has(header::CONNECTION, "upgrade")
}

/// The protocol that the caller gets; none, if it asks for none.
fn protocol(headers: &HeaderMap) -> Result<Option<&'static str>, Status> {
    let given = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let given = given.filter_map(|it| it.to_str().ok()).flat_map(|it| it.split(','));
    let asked: Vec<&str> = given.map(str::trim).filter(|it| !it.is_empty()).collect();
    if asked.is_empty() {
        return Ok(None);
    }
    let known = asked.iter().find_map(|it| [PLAIN, ENCODED].into_iter().find(|known| known == it));
    known.map(Some).ok_or_else(|| {
        let message = format!(
            "requested protocol(s) are not supported: [{}]; supports [{PLAIN} {ENCODED}]",
            asked.join(" ")
        );
        Status::new(StatusCode::FORBIDDEN, "Forbidden", message)
    })
}

/// What is needed for the answer, read before a kubelet is asked for anything.
pub(super) struct Handshake {
    accept: HeaderValue,
    protocol: Option<&'static str>,
}

impl Handshake {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Status> {
        let protocol = protocol(headers)?;
        let key = headers.get(header::SEC_WEBSOCKET_KEY);
        let key = key.ok_or_else(|| Status::bad_request("missing Sec-WebSocket-Key"))?;
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
        Ok(Self { accept: accept.map_err(Status::internal)?, protocol })
    }

    /// Switches, and sends the log until it ends or the caller has gone.
    pub(super) fn answer(
        self,
        config: &Config,
        client: OnUpgrade,
        log: Incoming,
    ) -> Response<Body> {
        let mut response = Response::new(transport::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept);
        if let Some(protocol) = self.protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        }
        let (tunnel, is_encoded) = (Tunnel::default(), self.protocol == Some(ENCODED));
        response.extensions_mut().insert(tunnel.clone());
        let sending = async move {
            let _kept = tunnel;
            if let Err(error) = send(client, log, is_encoded).await {
                tracing::debug!(%error, "a log's WebSocket ended");
            }
        };
        drop(config.scope.spawn("log", sending));
        response
    }
}

async fn send(client: OnUpgrade, mut log: Incoming, is_encoded: bool) -> Result<(), Error> {
    let client = client.await.map_err(|it| Error::Io(std::io::Error::other(it)))?;
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(client), Role::Server, None).await;
    let (mut sink, mut stream) = socket.split();
    let message = |data: Bytes| {
        if is_encoded { Message::text(STANDARD.encode(data)) } else { Message::Binary(data) }
    };
    let telling = async {
        sink.send(message(Bytes::new())).await?;
        while let Some(Ok(frame)) = log.frame().await {
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                sink.send(message(data)).await?;
            }
        }
        let frame = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
        sink.send(Message::Close(Some(frame))).await
    };
    let mut gone = std::pin::pin!(async { while let Some(Ok(_)) = stream.next().await {} });
    tokio::select! {
        told = telling => told?,
        () = &mut gone => return Ok(()),
    }
    drop(tokio::time::timeout(CLOSE_LIMIT, gone).await);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_protocol_that_is_known_is_taken_and_none_is_needed() {
        let ask = |given: &[&str]| {
            let mut headers = HeaderMap::new();
            for it in given {
                headers.append(header::SEC_WEBSOCKET_PROTOCOL, it.parse().unwrap());
            }
            protocol(&headers)
        };
        assert_eq!(ask(&[]).unwrap(), None);
        assert_eq!(ask(&["other, base64.binary.k8s.io", "binary.k8s.io"]).unwrap(), Some(ENCODED));
        let error = ask(&["v5.channel.k8s.io"]).unwrap_err();
        assert_eq!(error.code, StatusCode::FORBIDDEN);
        assert!(error.message.contains("not supported: [v5.channel.k8s.io]"), "{}", error.message);
    }

    #[test]
    fn a_handshake_is_known_by_both_of_its_headers() {
        let headers = |connection: &str, upgrade: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONNECTION, connection.parse().unwrap());
            headers.insert(header::UPGRADE, upgrade.parse().unwrap());
            headers
        };
        assert!(is_asked(&headers("keep-alive, Upgrade", "WebSocket")));
        assert!(!is_asked(&headers("keep-alive", "websocket")));
        assert!(!is_asked(&headers("Upgrade", "SPDY/3.1")));
    }
}
