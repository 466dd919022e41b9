//! `nodes/proxy`, `pods/proxy`, `services/proxy`: plain HTTP, handed on.

use http::{HeaderMap, Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use transport::{Body, tls};

use super::{
    Proxy, dial,
    target::{self, Backend},
    upgrade,
};
use crate::{request::RequestInfo, status::Status};

/// Headers that belong to one connection (RFC 9110, 7.6.1).
const HOP_BY_HOP: [header::HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

impl Proxy {
    pub(super) async fn forward(
        &self,
        info: &RequestInfo,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let objects = &*self.objects;
        let (backend, tls) = match info.resource.as_str() {
            "pods" => (target::pod(objects, &info.namespace, &info.name)?, None),
            "services" => (target::service(objects, &info.namespace, &info.name)?, None),
            _ => {
                let name = target::Name::parse(&info.name)
                    .ok_or_else(|| Status::bad_request("invalid node request"))?;
                let address = target::kubelet(objects, name.name)?;
                let is_kubelet = name.port.is_empty() || name.port == address.port().to_string();
                if !is_kubelet {
                    let message = format!("port {:?} of a node cannot be proxied", name.port);
                    return Err(Status::bad_request(message));
                }
                (Backend { address, is_tls: true }, self.config.kubelet_tls.clone())
            }
        };
        let tls = match (backend.is_tls, tls) {
            (false, _) => None,
            (true, Some(tls)) => Some(tls),
            // Pods and Services bring certificates of their own making.
            (true, None) => Some(tls::client_unverified(None).map_err(Status::internal)?),
        };
        let path = path_beyond(info, request.uri());
        if request.headers().contains_key(header::UPGRADE) {
            let answer =
                upgrade::tunnel(&self.config, backend.address, tls, &path, request).await?;
            return Ok(match answer {
                upgrade::Answer::Switched(response) => response,
                upgrade::Answer::Refused(response) => onward_answer(response),
            });
        }
        let request = onward_request(request, &path, backend)?;
        let answer = dial::send(&self.config, backend.address, tls, request).await;
        answer
            .map(onward_answer)
            .map_err(|error| Status::unavailable(format!("error trying to reach service: {error}")))
    }
}

fn onward_request(
    request: Request<Body>,
    path: &str,
    backend: Backend,
) -> Result<Request<Body>, Status> {
    let (mut head, body) = request.into_parts();
    let bad = |_| Status::bad_request("the path cannot be forwarded");
    head.uri = path.parse().map_err(bad)?;
    head.version = http::Version::HTTP_11;
    head.extensions.clear();
    strip_hop_by_hop(&mut head.headers);
    let host = backend.address.to_string();
    let host = host.parse().expect("an address is a header value");
    head.headers.insert(header::HOST, host);
    Ok(Request::from_parts(head, body))
}

fn onward_answer(answer: Response<Incoming>) -> Response<Body> {
    let (mut head, incoming) = answer.into_parts();
    head.extensions.clear();
    strip_hop_by_hop(&mut head.headers);
    Response::from_parts(head, body(incoming))
}

pub(super) fn body(incoming: Incoming) -> Body {
    incoming.map_err(Into::into).boxed_unsync()
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}

/// The raw path behind `…/proxy`, with the query; encodings and slashes as they came.
fn path_beyond(info: &RequestInfo, uri: &http::Uri) -> String {
    let segments: Vec<&str> = uri.path().split('/').collect();
    let at = segments
        .windows(3)
        .position(|window| window[0] == info.resource && window[2] == info.subresource);
    let rest = at.map(|at| segments[at + 3..].join("/")).unwrap_or_default();
    match uri.query() {
        Some(query) => format!("/{rest}?{query}"),
        None => format!("/{rest}"),
    }
}
