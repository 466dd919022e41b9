//! HTTP requests of probes and hooks: no verification of certificates, as Kubernetes says.
//!
//! A redirect is followed while it stays on the same host; what points elsewhere is the answer.
//!
//! Upstream: `pkg/probe/http`.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ::http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Uri,
    header::{ACCEPT, CONNECTION, HOST, USER_AGENT},
};
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Pod};

use super::{
    attempt::{named, port},
    exchange::{Answered, AskError, exchange},
    host,
};
use crate::pod::PodExt;

pub(crate) struct Answer {
    pub status: StatusCode,
    pub body: String,
    /// It points to another host.
    pub is_redirect: bool,
}

/// What an event says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GetError {
    /// The server did not answer, or not well.
    #[error("{0}")]
    Answer(String),
    /// The server at `host` does not speak TLS.
    #[error("{text}")]
    Plain { host: String, text: String },
    /// The answer began well and did not end.
    #[error("{0}")]
    Unread(String),
    /// There is nobody to ask.
    #[error("{0}")]
    Request(String),
}

/// Go's bound.
const MOST_REDIRECTS: usize = 10;

/// Where to ask: the addresses that are dialled, one after the other, and what the request says.
struct Target {
    addresses: Vec<IpAddr>,
    port: u16,
    uri: Uri,
}

/// Asks a container. `agent` is who asks.
pub(crate) async fn get(
    pod: &Pod,
    container: &str,
    action: &HTTPGetAction,
    ip: Option<IpAddr>,
    limit: Duration,
    agent: &str,
) -> Result<Answer, GetError> {
    let spec = pod.find_container(container).map(|(_, it)| it).unwrap_or_default();
    let deadline = tokio::time::Instant::now() + limit;
    let given = action.host.as_deref().filter(|it| !it.is_empty());
    let addresses = match given {
        None => vec![ip.ok_or_else(|| GetError::Request("the pod has no address".to_owned()))?],
        Some(host) => host::addresses(host, limit).await.map_err(GetError::Answer)?,
    };
    let mut target = target(action, &spec, addresses).map_err(GetError::Request)?;
    let headers = headers(action, agent);
    for _ in 0..MOST_REDIRECTS {
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        let answer = ask(&target, &headers, left).await.map_err(|it| told(it, &target))?;
        let (status, location) = (answer.status, answer.location);
        let Some(next) = location.filter(|_| is_followed(status)) else {
            let body = answer.body.map_err(GetError::Unread)?;
            return Ok(Answer { status, body, is_redirect: false });
        };
        let body = answer.body.unwrap_or_default();
        match redirected(&target, &next) {
            Some(next) => target = next,
            None => return Ok(Answer { status, body, is_redirect: true }),
        }
    }
    let uri = &target.uri;
    Err(GetError::Answer(format!("Get \"{uri}\": stopped after {MOST_REDIRECTS} redirects")))
}

fn is_followed(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Asks at the first address that can be connected to.
async fn ask(target: &Target, headers: &HeaderMap, limit: Duration) -> Result<Answered, AskError> {
    let mut last = AskError::Dial("no address".to_owned());
    let started = tokio::time::Instant::now();
    for ip in &target.addresses {
        let (address, left) =
            (SocketAddr::new(*ip, target.port), limit.saturating_sub(started.elapsed()));
        match exchange(address, &target.uri, headers, left).await {
            Err(error @ AskError::Dial(_)) => last = error,
            answer => return answer,
        }
    }
    Err(last)
}

fn told(error: AskError, target: &Target) -> GetError {
    let host = || target.uri.authority().map(ToString::to_string).unwrap_or_default();
    let failed = |text: String| format!("Get \"{}\": {text}", target.uri);
    match error {
        AskError::Dial(text) | AskError::Other(text) => GetError::Answer(failed(text)),
        AskError::NoTls(text) => GetError::Plain { host: host(), text: failed(text) },
    }
}

fn target(
    action: &HTTPGetAction,
    container: &Container,
    addresses: Vec<IpAddr>,
) -> Result<Target, String> {
    let number = port(&action.port, container)
        .ok_or_else(|| format!("{} is no port of the container", named(&action.port)))?;
    let given = action.host.as_deref().filter(|it| !it.is_empty());
    let host = match (given, addresses.first()) {
        (Some(host), _) if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
        (Some(host), _) => host.to_owned(),
        (None, Some(IpAddr::V6(ip))) => format!("[{ip}]"),
        (None, Some(ip)) => ip.to_string(),
        (None, None) => return Err("the pod has no address".to_owned()),
    };
    let path = action.path.as_deref().unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let scheme = if action.scheme.as_deref() == Some("HTTPS") { "https" } else { "http" };
    let text = format!("{scheme}://{host}:{number}{path}");
    let uri = text.parse().map_err(|error| format!("{text}: {error}"))?;
    Ok(Target { addresses, port: number, uri })
}

/// Where a redirect leads; `None` when it leads to another host.
fn redirected(from: &Target, location: &str) -> Option<Target> {
    let old = &from.uri;
    let (scheme, authority) = (old.scheme_str()?, old.authority()?);
    let text = match location {
        _ if location.contains("://") => location.to_owned(),
        _ if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
        _ => {
            let folder = old.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{authority}{folder}/{location}")
        }
    };
    let uri: Uri = text.parse().ok()?;
    if uri.host() != old.host() {
        return None;
    }
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let port = uri.port_u16().unwrap_or(default);
    Some(Target { addresses: from.addresses.clone(), port, uri })
}

/// The container's own headers come first; an empty one takes a default away.
fn headers(action: &HTTPGetAction, agent: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut absent: Vec<HeaderName> = Vec::new();
    for header in action.http_headers.iter().flatten() {
        let name = HeaderName::try_from(header.name.as_str());
        let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(header.value.as_str())) else {
            continue;
        };
        if value.is_empty() && (name == USER_AGENT || name == ACCEPT) {
            absent.push(name);
        } else if name == HOST {
            headers.insert(name, value);
        } else {
            headers.append(name, value);
        }
    }
    let defaults = [(USER_AGENT, agent), (ACCEPT, "*/*"), (CONNECTION, "close")];
    for (name, value) in defaults {
        if let Ok(value) = HeaderValue::try_from(value)
            && !absent.contains(&name)
        {
            headers.entry(name).or_insert(value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{api::core::v1::HTTPHeader, apimachinery::pkg::util::intstr::IntOrString};
    use transport::Place;

    use super::*;

    fn at(path: &str) -> Target {
        let action = HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(8080),
            ..HTTPGetAction::default()
        };
        target(&action, &Container::default(), vec!["10.0.0.1".parse().unwrap()]).unwrap()
    }

    /// A server that listens on this host's own address only.
    #[tokio::test]
    async fn a_host_that_is_a_name_is_asked_itself() {
        let listener = Place::Here.listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = i32::from(listener.local_addr().unwrap().port());
        let limit = Duration::from_secs(10);
        let action = HTTPGetAction {
            host: Some("localhost".to_owned()),
            port: IntOrString::Int(port),
            ..HTTPGetAction::default()
        };
        let pods = Some("192.0.2.1".parse().unwrap());
        let pod = Pod { spec: Some(Default::default()), ..Pod::default() };
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
            stream
        };
        let asking = get(&pod, "c", &action, pods, limit, "kube-probe/1.36");
        let (_stream, answer) = tokio::join!(serving, asking);
        assert_eq!(answer.unwrap().status, StatusCode::NO_CONTENT);
    }

    #[test]
    fn a_redirect_is_followed_on_its_own_host_only() {
        let from = at("/a/b");
        let next = |location: &str| redirected(&from, location).map(|it| it.uri.to_string());
        assert_eq!(next("/c").unwrap(), "http://10.0.0.1:8080/c");
        assert_eq!(next("c").unwrap(), "http://10.0.0.1:8080/a/c");
        assert_eq!(next("https://10.0.0.1/c").unwrap(), "https://10.0.0.1/c");
        assert_eq!(next("http://example.com/c"), None);
    }

    #[test]
    fn headers_of_the_probe_win_over_the_defaults() {
        let header =
            |name: &str, value: &str| HTTPHeader { name: name.to_owned(), value: value.to_owned() };
        let own = vec![header("User-Agent", "me"), header("Accept", ""), header("X", "1")];
        let action = HTTPGetAction { http_headers: Some(own), ..HTTPGetAction::default() };
        let headers = headers(&action, "kube-probe/1.36");
        assert_eq!(headers.get_all(USER_AGENT).iter().collect::<Vec<_>>(), ["me"]);
        assert!(!headers.contains_key(ACCEPT));
        assert_eq!(headers["x"], "1");
    }
}
