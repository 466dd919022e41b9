//! HTTP requests of probes and hooks: no verification of certificates, as Kubernetes says.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ::http::{HeaderName, HeaderValue, Request, StatusCode, header::HOST};
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Pod};
use transport::{HttpClient, Place};

use super::attempt::{dial_error, named, port};
use crate::pod::PodExt;

pub(crate) struct Answer {
    pub status: StatusCode,
}

/// Upstream reads no more of an answer.
const BODY_LIMIT: usize = 10 * 1024;

/// Asks a container. The error is what an event says.
pub(crate) async fn get(
    pod: &Pod,
    container: &str,
    action: &HTTPGetAction,
    ip: Option<IpAddr>,
    limit: Duration,
) -> Result<Answer, String> {
    let spec = pod.find_container(container).map(|(_, it)| it).unwrap_or_default();
    let is_tls = action.scheme.as_deref() == Some("HTTPS");
    let (address, host) = target(action, &spec, ip)?;
    let request = request(action, &host, address.port(), is_tls)?;
    let tls = if is_tls {
        Some(transport::tls::client_unverified(None).map_err(|it| it.to_string())?)
    } else {
        None
    };
    let client = HttpClient::new(Place::Here, tls, limit).to(address);
    let uri = request.uri().clone();
    let sent = tokio::time::timeout(limit, client.send(request)).await;
    let failed = |text: String| format!("Get \"{uri}\": {text}");
    let response = match sent {
        Err(_) | Ok(Err(transport::SendError::TimedOut { .. })) => {
            return Err(failed(
                "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
                    .to_owned(),
            ));
        }
        Ok(Err(transport::SendError::Connect { source, .. })) => {
            return Err(failed(dial_error(address, &source)));
        }
        Ok(Err(error)) => return Err(failed(telemetry::chain(&error).to_string())),
        Ok(Ok(response)) => response,
    };
    let (head, body) = response.into_parts();
    // Read to its end, so that the server sees no broken connection.
    drop(tokio::time::timeout(limit, transport::collect(body, BODY_LIMIT)).await);
    Ok(Answer { status: head.status })
}

fn target(
    action: &HTTPGetAction,
    container: &Container,
    ip: Option<IpAddr>,
) -> Result<(SocketAddr, String), String> {
    let number = port(&action.port, container)
        .ok_or_else(|| format!("{} is no port of the container", named(&action.port)))?;
    let given = action.host.as_deref().filter(|it| !it.is_empty());
    let ip = match given.map(str::parse::<IpAddr>) {
        Some(Ok(ip)) => ip,
        // A name goes into the request only; the pod is asked.
        _ => ip.ok_or("the pod has no address")?,
    };
    let host = match (given, ip) {
        (Some(host), _) => host.to_owned(),
        (None, IpAddr::V6(ip)) => format!("[{ip}]"),
        (None, ip) => ip.to_string(),
    };
    Ok((SocketAddr::new(ip, number), host))
}

fn request(
    action: &HTTPGetAction,
    host: &str,
    port: u16,
    is_tls: bool,
) -> Result<Request<transport::Body>, String> {
    let path = action.path.as_deref().unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let scheme = if is_tls { "https" } else { "http" };
    let uri = format!("{scheme}://{host}:{port}{path}");
    let mut request = Request::get(&uri)
        .header("user-agent", "kube-probe/1.36")
        .header("accept", "*/*")
        .header("connection", "close")
        .body(transport::empty())
        .map_err(|error| format!("{uri}: {error}"))?;
    for header in action.http_headers.iter().flatten() {
        let name = HeaderName::try_from(header.name.as_str());
        let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(header.value.as_str())) else {
            continue;
        };
        if name == HOST {
            request.headers_mut().insert(name, value);
        } else {
            request.headers_mut().append(name, value);
        }
    }
    Ok(request)
}
