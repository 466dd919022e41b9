//! `/exec`, `/attach` and `/portForward`: the runtime streams, we connect the two ends.
//!
//! The runtime's streaming server speaks SPDY/3.1. Callers speak WebSocket (today's API server and
//! kubectl) or SPDY (older ones). SPDY is passed through byte for byte; port-forward's tunnel inside
//! a WebSocket is too; only exec and attach over WebSocket are translated (see [`super::websocket`]).

use std::net::SocketAddr;
use std::time::Duration;

use api_cri::v1;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{
        CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
    },
};
use hyper::{
    body::Incoming,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::debug;
use transport::{Body, HttpClient, Place};

use super::{Server, query_flag, query_values, text, websocket};
use crate::{cri::CriError, pod::PodExt};

const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const SPDY: &str = "SPDY/3.1";
const TUNNEL_PREFIX: &str = "SPDY/3.1+";
const PORT_FORWARD: &str = "portforward.k8s.io";
const DIAL_LIMIT: Duration = Duration::from_secs(30);

/// What the caller wants of an exec or attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// Which protocol was agreed on with the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Spdy,
    /// Exec and attach; v5 can close stdin.
    Channels {
        is_v5: bool,
    },
    Tunnel,
}

struct Refusal(Response<Body>);

fn refuse(status: StatusCode, message: impl Into<String>) -> Refusal {
    Refusal(text(status, message))
}

impl Server {
    pub(super) async fn stream(
        &self,
        request: Request<Incoming>,
        parts: &[&str],
    ) -> Response<Body> {
        match self.try_stream(request, parts).await {
            Ok(response) => response,
            Err(Refusal(response)) => response,
        }
    }

    async fn try_stream(
        &self,
        mut request: Request<Incoming>,
        parts: &[&str],
    ) -> Result<Response<Body>, Refusal> {
        let kind = parts[0];
        let (caller, protocol) = agree(request.headers(), kind).ok_or_else(|| {
            refuse(StatusCode::BAD_REQUEST, "unable to upgrade: no protocol that is spoken here\n")
        })?;
        let query = request.uri().query().map(str::to_owned);
        let wanted = wanted(kind, query.as_deref());
        if kind != "portForward" && !(wanted.stdin || wanted.stdout || wanted.stderr) {
            let message = "you must specify at least 1 of stdin, stdout, stderr\n";
            return Err(refuse(StatusCode::BAD_REQUEST, message));
        }
        let url = self.runtime_url(parts, query.as_deref(), wanted).await?;
        let (backend, answered) = dial(&url, kind, caller, request.headers()).await?;
        let client = hyper::upgrade::on(&mut request);
        let response = switching(request.headers(), caller, protocol, &answered);
        drop(self.context.scope.spawn("stream", connect(client, backend, caller, wanted)));
        Ok(response)
    }

    /// Asks the runtime where it streams.
    async fn runtime_url(
        &self,
        parts: &[&str],
        query: Option<&str>,
        wanted: Wanted,
    ) -> Result<String, Refusal> {
        let (namespace, name) = match parts {
            [_, namespace, name, ..] => (*namespace, *name),
            _ => return Err(refuse(StatusCode::NOT_FOUND, "404 page not found\n")),
        };
        let Some(pod) = self.workers.find(namespace, name) else {
            return Err(refuse(StatusCode::NOT_FOUND, "pod does not exist\n"));
        };
        let observed = self.workers.observed(&pod.uid()).unwrap_or_default();
        let runtime = &self.context.runtime;
        let failed = |error: CriError| refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
        if parts[0] == "portForward" {
            let sandbox = observed.ready_sandbox().ok_or_else(|| {
                let message = format!("not found (\"{}\")", pod.full_name());
                refuse(StatusCode::INTERNAL_SERVER_ERROR, message)
            })?;
            return runtime.port_forward(&sandbox.id).await.map_err(failed);
        }
        let container = parts.last().copied().unwrap_or_default();
        let running = observed.latest(container).filter(|it| it.is_running());
        let Some(running) = running else {
            let message = format!("container not found (\"{container}\")");
            return Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, message));
        };
        let Wanted { stdin, stdout, stderr, tty } = wanted;
        let container_id = running.id.clone();
        if parts[0] == "attach" {
            // A terminal is the container's, whatever the caller says.
            let tty = pod.find_container(container).is_some_and(|(_, it)| it.tty == Some(true));
            let stderr = stderr && !tty;
            let request = v1::AttachRequest { container_id, stdin, tty, stdout, stderr };
            return runtime.attach(request).await.map_err(failed);
        }
        let cmd = query_values(query, "command");
        let request = v1::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr };
        runtime.exec(request).await.map_err(failed)
    }
}

fn wanted(kind: &str, query: Option<&str>) -> Wanted {
    let flag = |short: &str, long: &str| query_flag(query, short) || query_flag(query, long);
    let tty = query_flag(query, "tty") && kind != "portForward";
    Wanted {
        stdin: flag("input", "stdin"),
        stdout: flag("output", "stdout"),
        // A terminal has one output.
        stderr: flag("error", "stderr") && !tty,
        tty,
    }
}

/// The protocol to use with the caller, and its name for the answer.
fn agree(headers: &HeaderMap, kind: &str) -> Option<(Caller, Option<&'static str>)> {
    let upgrade = headers.get(UPGRADE)?.to_str().ok()?;
    if upgrade.eq_ignore_ascii_case(SPDY) {
        return Some((Caller::Spdy, None));
    }
    if !upgrade.eq_ignore_ascii_case("websocket") {
        return None;
    }
    let offered: Vec<&str> = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(','))
        .map(str::trim)
        .collect();
    if kind == "portForward" {
        const NAME: &str = "SPDY/3.1+portforward.k8s.io";
        return offered.contains(&NAME).then_some((Caller::Tunnel, Some(NAME)));
    }
    const V5: &str = "v5.channel.k8s.io";
    const V4: &str = "v4.channel.k8s.io";
    if offered.contains(&V5) {
        Some((Caller::Channels { is_v5: true }, Some(V5)))
    } else if offered.contains(&V4) {
        Some((Caller::Channels { is_v5: false }, Some(V4)))
    } else {
        None
    }
}

/// Connects to the runtime's streaming server and switches to SPDY.
async fn dial(
    url: &str,
    kind: &str,
    caller: Caller,
    from: &HeaderMap,
) -> Result<(OnUpgrade, HeaderMap), Refusal> {
    let failed = |message: String| {
        let message = format!("error dialing the runtime's streaming server: {message}");
        refuse(StatusCode::INTERNAL_SERVER_ERROR, message)
    };
    let uri: Uri = url.parse().map_err(|_| failed(format!("`{url}` is no URL")))?;
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, SPDY)
        .header("content-length", "0")
        .body(transport::empty())
        .map_err(|error| failed(error.to_string()))?;
    let protocols: Vec<HeaderValue> = match caller {
        Caller::Spdy => from.get_all(&STREAM_PROTOCOL).iter().cloned().collect(),
        _ if kind == "portForward" => vec![HeaderValue::from_static(PORT_FORWARD)],
        _ => vec![HeaderValue::from_static("v4.channel.k8s.io")],
    };
    for protocol in protocols {
        request.headers_mut().append(STREAM_PROTOCOL, protocol);
    }
    let client = HttpClient::new(Place::Here, None, DIAL_LIMIT);
    let client = match local_address(url) {
        Some(address) => client.to(address),
        None => client,
    };
    let mut response =
        client.send(request).await.map_err(|error| failed(telemetry::chain(&error).to_string()))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(failed(format!("it answered {}", response.status())));
    }
    let headers = response.headers().clone();
    Ok((hyper::upgrade::on(&mut response), headers))
}

/// The runtime may listen on every address of the host: ours is as good as any.
fn local_address(url: &str) -> Option<SocketAddr> {
    let uri: Uri = url.parse().ok()?;
    let address: SocketAddr = format!("{}:{}", uri.host()?, uri.port_u16()?).parse().ok()?;
    address.ip().is_unspecified().then(|| SocketAddr::from(([127, 0, 0, 1], address.port())))
}

fn switching(
    headers: &HeaderMap,
    caller: Caller,
    protocol: Option<&'static str>,
    answered: &HeaderMap,
) -> Response<Body> {
    let mut response = Response::new(transport::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let out = response.headers_mut();
    out.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if caller == Caller::Spdy {
        out.insert(UPGRADE, HeaderValue::from_static(SPDY));
        for agreed in answered.get_all(&STREAM_PROTOCOL) {
            out.append(STREAM_PROTOCOL, agreed.clone());
        }
        return response;
    }
    out.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key)) {
        out.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(protocol) = protocol {
        out.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    response
}

async fn connect(client: OnUpgrade, backend: OnUpgrade, caller: Caller, wanted: Wanted) {
    let (client, backend) = match tokio::try_join!(client, backend) {
        Ok(both) => both,
        Err(error) => {
            debug!(%error, "a stream was not upgraded");
            return;
        }
    };
    let (mut client, mut backend): (TokioIo<Upgraded>, TokioIo<Upgraded>) =
        (TokioIo::new(client), TokioIo::new(backend));
    let result = match caller {
        Caller::Spdy => tokio::io::copy_bidirectional(&mut client, &mut backend).await.map(drop),
        Caller::Tunnel => websocket::tunnel(client, backend).await,
        Caller::Channels { is_v5 } => websocket::channels(client, backend, wanted, is_v5).await,
    };
    if let Err(error) = result {
        debug!(%error, prefix = TUNNEL_PREFIX, "a stream ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(upgrade: &'static str, protocols: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static(upgrade));
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocols));
        headers
    }

    #[test]
    fn the_newest_protocol_that_both_speak_is_agreed_on() {
        let of = |protocols, kind| agree(&headers("websocket", protocols), kind).map(|it| it.0);
        let v5 = Some(Caller::Channels { is_v5: true });
        assert_eq!(of("v4.channel.k8s.io, v5.channel.k8s.io", "exec"), v5);
        let v4 = Some(Caller::Channels { is_v5: false });
        assert_eq!(of("v4.channel.k8s.io", "attach"), v4);
        assert_eq!(of("base64.channel.k8s.io", "exec"), None);
        assert_eq!(of("SPDY/3.1+portforward.k8s.io", "portForward"), Some(Caller::Tunnel));
        assert_eq!(agree(&headers("SPDY/3.1", ""), "exec").map(|it| it.0), Some(Caller::Spdy));
        assert_eq!(agree(&HeaderMap::new(), "exec"), None);
    }

    #[test]
    fn a_terminal_has_no_stderr() {
        let wanted = wanted("exec", Some("input=1&output=1&error=1&tty=1"));
        assert!(wanted.stdin && wanted.stdout && wanted.tty && !wanted.stderr);
    }
}
