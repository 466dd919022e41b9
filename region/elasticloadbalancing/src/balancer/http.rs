//! HTTP listeners: each request goes to the instance that has least to do, with the client's address
//! in `X-Forwarded-For`.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use transport::{Body, HttpClient, SendError};

use super::{idle::Watched, node::Node, spec::Front};
use crate::records::Protocol;

/// Answers one client's requests until it ends or is idle.
pub(super) async fn converse(
    node: Arc<Node>,
    client: TcpStream,
    peer: SocketAddr,
    front: Front,
    port: u16,
) {
    let idle = node.idle();
    let (client, activity) = Watched::new(client);
    let service = service_fn(move |request: Request<Incoming>| {
        let node = node.clone();
        async move { Ok::<_, Infallible>(forward(&node, request, peer, front, port).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(idle);
    tokio::select! {
        ended = builder.serve_connection(TokioIo::new(client), service) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection was cut off");
            }
        }
        () = activity.ended(idle) => {}
    }
}

async fn forward(
    node: &Node,
    request: Request<Incoming>,
    peer: SocketAddr,
    front: Front,
    port: u16,
) -> Response<Body> {
    let Some(backend) = node.candidates(Protocol::Http).into_iter().next() else {
        return refusal(StatusCode::SERVICE_UNAVAILABLE);
    };
    let under_way = backend.begin();
    let address = SocketAddr::from((backend.address, front.instance_port));
    let Some(request) = rewritten(request, address, peer, port) else {
        return refusal(StatusCode::BAD_REQUEST);
    };
    let client = HttpClient::new(node.place.clone(), None, node.idle());
    let answered = tokio::select! {
        answered = client.send(request) => answered,
        () = backend.scope.cancelled() => return refusal(StatusCode::BAD_GATEWAY),
    };
    drop(under_way);
    match answered {
        Ok(answer) => {
            let (mut head, body) = answer.into_parts();
            hop_by_hop::strip(&mut head.headers);
            Response::from_parts(head, body.map_err(Into::into).boxed_unsync())
        }
        Err(SendError::TimedOut { .. }) => refusal(StatusCode::GATEWAY_TIMEOUT),
        Err(error) => {
            tracing::debug!(%address, %error, "an instance does not answer");
            refusal(StatusCode::BAD_GATEWAY)
        }
    }
}

fn rewritten(
    request: Request<Incoming>,
    address: SocketAddr,
    peer: SocketAddr,
    port: u16,
) -> Option<Request<Body>> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |it| it.as_str());
    head.uri = format!("http://{address}{path}").parse::<Uri>().ok()?;
    hop_by_hop::strip(&mut head.headers);
    forwarded(&mut head.headers, peer, port)?;
    Some(Request::from_parts(head, body.map_err(Into::into).boxed_unsync()))
}

/// The client's address goes behind those that are there already.
fn forwarded(headers: &mut HeaderMap, peer: SocketAddr, port: u16) -> Option<()> {
    const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    let known = headers.get_all(FOR).iter().filter_map(|it| it.to_str().ok());
    let own = peer.ip().to_string();
    let all: Vec<&str> = known.chain([own.as_str()]).collect();
    headers.insert(FOR, HeaderValue::from_str(&all.join(", ")).ok()?);
    let proto = HeaderName::from_static("x-forwarded-proto");
    headers.insert(proto, HeaderValue::from_static("http"));
    headers.insert(HeaderName::from_static("x-forwarded-port"), HeaderValue::from(port));
    Some(())
}

fn refusal(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(transport::empty());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_added_to_those_that_it_came_through_and_its_connection_ends_here() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_static("198.51.100.7"));
        headers.insert("connection", HeaderValue::from_static("close, X-Secret"));
        headers.insert("x-secret", HeaderValue::from_static("1"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        headers.insert("accept", HeaderValue::from_static("*/*"));
        hop_by_hop::strip(&mut headers);
        forwarded(&mut headers, "192.168.0.7:5000".parse().unwrap(), 80).unwrap();
        assert_eq!(headers["x-forwarded-for"], "198.51.100.7, 192.168.0.7");
        assert_eq!(headers["x-forwarded-port"], "80");
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "x-forwarded-for", "x-forwarded-port", "x-forwarded-proto"]);
    }
}
