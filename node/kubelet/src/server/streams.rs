//! `/exec`, `/attach` and `/portForward`: the runtime streams, we connect the two ends.
//!
//! The runtime's streaming server speaks SPDY/3.1. Callers speak SPDY, which is passed on byte for
//! byte; or WebSocket: as a tunnel of SPDY (port-forward, passed on too) or with Kubernetes'
//! channels, which are translated (see [`super::channels`]).
//!
//! Upstream: `pkg/kubelet/server/server.go` (`getExec` and its neighbours), which hands WebSocket on
//! to the runtime; containerd 1.6 does not know the newest protocols.

use std::{net::SocketAddr, time::Duration};

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

use super::{
    Server,
    channels::{self, Channels, PROTOCOLS, Protocol, Version},
    idle, query_flag, query_values, text, websocket,
};
use crate::{cri::CriError, pod::PodExt};

const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const SPDY: &str = "SPDY/3.1";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const PORT_FORWARD: &str = "portforward.k8s.io";
const REMOTE_COMMAND: &str = "v4.channel.k8s.io";
/// What the runtime offers where it refuses a protocol.
const ACCEPTED_PROTOCOLS: &str = "x-accepted-stream-protocol-versions";
/// A refusal is a line of text.
const REFUSAL_LIMIT: usize = 64 * 1024;
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
    Tunnel,
    Channels(Protocol),
}

/// What is carried.
enum Carried {
    Process(Wanted),
    Ports(Vec<u16>),
}

struct Refusal(Box<Response<Body>>);

fn refuse(status: StatusCode, message: impl Into<String>) -> Refusal {
    Refusal(Box::new(text(status, message)))
}

impl Server {
    pub(super) async fn stream(
        &self,
        request: Request<Incoming>,
        parts: &[&str],
    ) -> Response<Body> {
        match self.try_stream(request, parts).await {
            Ok(response) => response,
            Err(Refusal(response)) => *response,
        }
    }

    async fn try_stream(
        &self,
        mut request: Request<Incoming>,
        parts: &[&str],
    ) -> Result<Response<Body>, Refusal> {
        let kind = parts[0];
        let (caller, protocol) = agree(request.headers(), kind)?;
        let query = request.uri().query().map(str::to_owned);
        let (url, carried) = self.runtime_url(parts, query.as_deref(), caller).await?;
        let (backend, answered) = dial(&url, kind, caller, request.headers()).await?;
        let client = hyper::upgrade::on(&mut request);
        let response = switching(request.headers(), caller, protocol, &answered);
        let limit = self.context.settings.config.streaming_connection_idle_timeout.0;
        let work = connect(client, backend, caller, carried, limit);
        drop(self.context.scope.spawn("stream", work));
        Ok(response)
    }

    /// Asks the runtime where it streams.
    async fn runtime_url(
        &self,
        parts: &[&str],
        query: Option<&str>,
        caller: Caller,
    ) -> Result<(String, Carried), Refusal> {
        let (namespace, name) = match parts {
            [_, namespace, name, ..] => (*namespace, *name),
            _ => return Err(refuse(StatusCode::NOT_FOUND, "404 page not found\n")),
        };
        let uid = match parts {
            ["portForward", _, _, uid] | [_, _, _, uid, _] => Some(*uid),
            _ => None,
        };
        let Some(pod) = self.workers.find_with(namespace, name, uid) else {
            return Err(refuse(StatusCode::NOT_FOUND, "pod does not exist\n"));
        };
        let observed = self.workers.observed(&pod.uid()).unwrap_or_default();
        let runtime = &self.context.runtime;
        let failed = |error: CriError| refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
        if parts[0] == "portForward" {
            let ports = match caller {
                Caller::Channels(_) => ports(query)?,
                _ => Vec::new(),
            };
            let sandbox = observed.ready_sandbox().ok_or_else(|| {
                let message = format!("pod not found (\"{}_{namespace}\")", pod.name());
                refuse(StatusCode::INTERNAL_SERVER_ERROR, message)
            })?;
            let url = runtime.port_forward(&sandbox.id).await.map_err(failed)?;
            return Ok((url, Carried::Ports(ports)));
        }
        let wanted = wanted(query);
        if !(wanted.stdin || wanted.stdout || wanted.stderr) {
            let message = "you must specify at least 1 of stdin, stdout, stderr\n";
            return Err(refuse(StatusCode::BAD_REQUEST, message));
        }
        let container = parts.last().copied().unwrap_or_default();
        let running = observed.latest(container).filter(|it| it.is_running());
        let container_id = running.map(|it| it.id.clone());
        if parts[0] == "attach" {
            let container_id = container_id.ok_or_else(|| {
                let name = pod.name();
                let message = format!("container {container} not found in pod {name}_{namespace}");
                refuse(StatusCode::INTERNAL_SERVER_ERROR, message)
            })?;
            // A terminal is the container's, whatever the caller says.
            let tty = pod.find_container(container).is_some_and(|(_, it)| it.tty == Some(true));
            let wanted = Wanted { tty, stderr: wanted.stderr && !tty, ..wanted };
            let Wanted { stdin, stdout, stderr, tty } = wanted;
            let request = v1::AttachRequest { container_id, stdin, tty, stdout, stderr };
            let url = runtime.attach(request).await.map_err(failed)?;
            return Ok((url, Carried::Process(wanted)));
        }
        let container_id = container_id.ok_or_else(|| {
            let message = format!("container not found (\"{container}\")");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, message)
        })?;
        let cmd = query_values(query, "command");
        let Wanted { stdin, stdout, stderr, tty } = wanted;
        let request = v1::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr };
        let url = runtime.exec(request).await.map_err(failed)?;
        Ok((url, Carried::Process(wanted)))
    }
}

fn wanted(query: Option<&str>) -> Wanted {
    let flag = |short: &str, long: &str| query_flag(query, short) || query_flag(query, long);
    let tty = query_flag(query, "tty");
    Wanted {
        stdin: flag("input", "stdin"),
        stdout: flag("output", "stdout"),
        // A terminal has one output.
        stderr: flag("error", "stderr") && !tty,
        tty,
    }
}

/// The ports that a caller without SPDY forwards: it can say so in the URL only.
fn ports(query: Option<&str>) -> Result<Vec<u16>, Refusal> {
    let bad = |message: String| refuse(StatusCode::BAD_REQUEST, message);
    let given = query_values(query, "port");
    let given: Vec<&str> = given.iter().flat_map(|it| it.split(',')).collect();
    if given.is_empty() {
        return Err(bad("query parameter \"port\" is required".to_owned()));
    }
    let parse = |text: &str| match text.parse::<u16>() {
        Ok(0) => Err(bad(format!("port {text:?} must be > 0"))),
        Ok(port) => Ok(port),
        Err(error) => Err(bad(format!("unable to parse {text:?} as a port: {error}"))),
    };
    given.into_iter().map(parse).collect()
}

/// The protocol to use with the caller, and its name for the answer.
fn agree(headers: &HeaderMap, kind: &str) -> Result<(Caller, Option<&'static str>), Refusal> {
    let upgrade = headers.get(UPGRADE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    if upgrade.eq_ignore_ascii_case(SPDY) {
        return Ok((Caller::Spdy, None));
    }
    if !upgrade.eq_ignore_ascii_case("websocket") {
        return Err(refuse(StatusCode::BAD_REQUEST, "Upgrade request required"));
    }
    let offered: Vec<&str> = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(','))
        .map(str::trim)
        .collect();
    let is_forward = kind == "portForward";
    // Port-forward's channels are those of version 4 alone.
    let known = PROTOCOLS
        .into_iter()
        .filter(|(_, it)| !is_forward || it.version == Version::V4)
        .map(|(name, it)| (Caller::Channels(it), name));
    let tunnel = is_forward.then_some((Caller::Tunnel, TUNNEL));
    let known: Vec<_> = tunnel.into_iter().chain(known).collect();
    if offered.is_empty() {
        let version = if is_forward { Version::V4 } else { Version::V1 };
        return Ok((Caller::Channels(Protocol { version, is_base64: false }), None));
    }
    let agreed = known.iter().find(|(_, name)| offered.contains(name));
    agreed.map(|(caller, name)| (*caller, Some(*name))).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(_, name)| *name).collect();
        let message = format!(
            "requested protocol(s) are not supported: [{}]; supports [{}]",
            offered.join(" "),
            names.join(" ")
        );
        refuse(StatusCode::FORBIDDEN, message)
    })
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
        _ => vec![HeaderValue::from_static(REMOTE_COMMAND)],
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
        return Err(refused(response).await);
    }
    let headers = response.headers().clone();
    Ok((hyper::upgrade::on(&mut response), headers))
}

/// What the runtime says against it is the caller's to know.
async fn refused(response: Response<Incoming>) -> Refusal {
    let (head, body) = response.into_parts();
    let reading = tokio::time::timeout(DIAL_LIMIT, transport::collect(body, REFUSAL_LIMIT)).await;
    let body = reading.ok().and_then(Result::ok).flatten().unwrap_or_default();
    let mut answer = text(head.status, String::from_utf8_lossy(&body));
    for value in head.headers.get_all(ACCEPTED_PROTOCOLS) {
        answer.headers_mut().append(ACCEPTED_PROTOCOLS, value.clone());
    }
    Refusal(Box::new(answer))
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

async fn connect(
    client: OnUpgrade,
    backend: OnUpgrade,
    caller: Caller,
    carried: Carried,
    limit: Duration,
) {
    let both = tokio::time::timeout(DIAL_LIMIT, async { tokio::try_join!(client, backend) }).await;
    let Ok(Ok((client, backend))) = both else {
        debug!("a stream was not upgraded");
        return;
    };
    let client: TokioIo<Upgraded> = TokioIo::new(client);
    let (backend, idle) = idle::watch(TokioIo::new(backend), limit);
    let work = async {
        match (caller, carried) {
            (Caller::Spdy, _) => transport::splice(client, backend).await,
            (Caller::Tunnel, _) => websocket::tunnel(client, backend).await,
            (Caller::Channels(protocol), Carried::Process(wanted)) => {
                let channels = Channels::of_process(protocol, wanted);
                channels::carry(client, backend, channels).await
            }
            (Caller::Channels(protocol), Carried::Ports(ports)) => {
                let channels = Channels::of_ports(protocol, &ports);
                channels::carry(client, backend, channels).await
            }
        }
    };
    tokio::select! {
        result = work => if let Err(error) = result {
            debug!(%error, "a stream ended");
        },
        () = idle => debug!(?limit, "a stream was idle for too long"),
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
        let of = |protocols: &'static str, kind| {
            agree(&headers("websocket", protocols), kind).map(|it| it.1).ok().flatten()
        };
        assert_eq!(of("v4.channel.k8s.io, v5.channel.k8s.io", "exec"), Some("v5.channel.k8s.io"));
        assert_eq!(of("v4.channel.k8s.io", "attach"), Some("v4.channel.k8s.io"));
        let old = Some("base64.channel.k8s.io");
        assert_eq!(of("base64.channel.k8s.io", "exec"), old);
        assert_eq!(of("SPDY/3.1+portforward.k8s.io", "portForward"), Some(TUNNEL));
        assert_eq!(of("v4.channel.k8s.io", "portForward"), Some("v4.channel.k8s.io"));
        assert_eq!(of("v5.channel.k8s.io", "portForward"), None);
        let spdy = agree(&headers("SPDY/3.1", ""), "exec").map(|it| it.0).ok();
        assert_eq!(spdy, Some(Caller::Spdy));
    }

    #[test]
    fn what_cannot_be_agreed_on_is_refused_as_upstream_does() {
        let code = |headers: &HeaderMap| agree(headers, "exec").err().unwrap().0.status();
        assert_eq!(code(&HeaderMap::new()), StatusCode::BAD_REQUEST);
        assert_eq!(code(&headers("websocket", "v9.channel.k8s.io")), StatusCode::FORBIDDEN);
    }

    #[test]
    fn ports_are_numbers_above_zero() {
        assert_eq!(ports(Some("port=80&port=8080,81")).ok(), Some(vec![80, 8080, 81]));
        for query in ["", "port=0", "port=x", "port=65536", "port="] {
            assert!(ports(Some(query)).is_err(), "{query}");
        }
    }

    #[test]
    fn a_terminal_has_no_stderr() {
        let wanted = wanted(Some("input=1&output=1&error=1&tty=1"));
        assert!(wanted.stdin && wanted.stdout && wanted.tty && !wanted.stderr);
    }
}
