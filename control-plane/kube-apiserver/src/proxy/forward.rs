//! `nodes/proxy`, `pods/proxy`, `services/proxy`: plain HTTP, handed on.
//!
//! Upstream: `k8s.io/apimachinery/pkg/util/proxy`.

use std::net::SocketAddr;

use futures::stream;
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use transport::{Body, Peer, tls};

use super::{
    Proxy, dial, html,
    target::{self, Backend},
    upgrade,
};
use crate::{request::RequestInfo, status::Status};

const FORWARDED_FOR: &str = "x-forwarded-for";

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
                let (backend, is_kubelet) = target::node(objects, &info.name)?;
                (backend, self.config.kubelet_tls.clone().filter(|_| is_kubelet))
            }
        };
        let tls = match (backend.is_tls, tls) {
            (false, _) => None,
            (true, Some(tls)) => Some(tls.into()),
            // Whoever is not a kubelet brings a certificate of its own making.
            (true, None) => Some(tls::client_unverified(None).map_err(Status::internal)?.into()),
        };
        let Beyond { prefix, path, is_bare } = beyond(info, request.uri());
        if is_bare && matches!(*request.method(), Method::GET | Method::HEAD) {
            return Ok(redirect(request.uri()));
        }
        if request.headers().contains_key(header::UPGRADE) {
            let answer =
                upgrade::tunnel(&self.config, backend.address, tls, &path, request).await?;
            return Ok(match answer {
                upgrade::Answer::Switched(response) => response,
                upgrade::Answer::Refused(response) => onward_answer(response, backend, &prefix),
            });
        }
        let request = onward_request(request, &path, backend, &prefix)?;
        let answer = dial::send(&self.config, backend.address, tls, request).await;
        answer
            .map(|answer| onward_answer(answer, backend, &prefix))
            .map_err(|error| Status::unavailable(format!("error trying to reach service: {error}")))
    }
}

fn onward_request(
    request: Request<Body>,
    path: &str,
    backend: Backend,
    prefix: &str,
) -> Result<Request<Body>, Status> {
    let host = request.headers().get(header::HOST).cloned();
    let (mut head, body) = self::request(request, path, backend.address)?.into_parts();
    let (path, _) = path.split_once('?').unwrap_or((path, ""));
    let forwarded = [
        ("x-forwarded-uri", HeaderValue::try_from(format!("{prefix}{path}")).ok()),
        ("x-forwarded-host", host),
        ("x-forwarded-proto", Some(HeaderValue::from_static("https"))),
    ];
    for (name, value) in forwarded {
        if let Some(value) = value {
            head.headers.insert(name, value);
        }
    }
    Ok(Request::from_parts(head, body))
}

/// The request of a connection of its own.
pub(super) fn request(
    request: Request<Body>,
    path: &str,
    address: SocketAddr,
) -> Result<Request<Body>, Status> {
    let (mut head, body) = request.into_parts();
    let bad = |_| Status::bad_request("the path cannot be forwarded");
    head.uri = path.parse().map_err(bad)?;
    head.version = http::Version::HTTP_11;
    // First: what the client calls its connection's own may not be what is said of the client.
    hop_by_hop::strip(&mut head.headers);
    name_client(&mut head.headers, &head.extensions);
    head.extensions.clear();
    let host = address.to_string().parse().expect("an address is a header value");
    head.headers.insert(header::HOST, host);
    Ok(Request::from_parts(head, body))
}

/// Appends who asks to those for whom it was asked before, as `httputil.ReverseProxy` does.
pub(super) fn name_client(headers: &mut HeaderMap, extensions: &Extensions) {
    let Some(client) = extensions.get::<Peer>().and_then(|it| it.address) else { return };
    let before = headers.get_all(FORWARDED_FOR).iter().filter_map(|it| it.to_str().ok());
    let mut all: Vec<String> = before.map(str::to_owned).collect();
    all.push(client.ip().to_canonical().to_string());
    if let Ok(value) = HeaderValue::try_from(all.join(", ")) {
        headers.insert(FORWARDED_FOR, value);
    }
}

/// The answer without what belongs to the backend's connection.
pub(super) fn answer(answer: Response<Incoming>) -> Response<Body> {
    let (mut head, incoming) = answer.into_parts();
    head.extensions.clear();
    hop_by_hop::strip(&mut head.headers);
    Response::from_parts(head, body(incoming))
}

fn onward_answer(answer: Response<Incoming>, backend: Backend, prefix: &str) -> Response<Body> {
    let (mut head, body) = self::answer(answer).into_parts();
    let location = head.headers.get(header::LOCATION).and_then(|it| it.to_str().ok());
    let moved = location.and_then(|it| relocated(it, &backend.address.to_string(), prefix));
    if let Some(moved) = moved.and_then(|it| HeaderValue::try_from(it).ok()) {
        head.headers.insert(header::LOCATION, moved);
    }
    if !html::is_page(&head.headers) {
        return Response::from_parts(head, body);
    }
    head.headers.remove(header::CONTENT_LENGTH);
    let page = html::Page::new(backend.address.to_string(), prefix.to_owned());
    Response::from_parts(head, rewritten(body, page))
}

/// A page's frames, one by one; what was held back comes last.
fn rewritten(body: Body, page: html::Page) -> Body {
    let frames = stream::unfold(Some((body, page)), |state| async move {
        let (mut body, mut page) = state?;
        let frame = match body.frame().await {
            Some(Ok(frame)) => frame.map_data(|it| page.take(&it)),
            Some(Err(error)) => return Some((Err(error), None)),
            None => return Some((Ok(Frame::data(page.finish())), None)),
        };
        Some((Ok(frame), Some((body, page))))
    });
    StreamBody::new(frames).boxed_unsync()
}

pub(super) fn body(incoming: Incoming) -> Body {
    incoming.map_err(Into::into).boxed_unsync()
}

/// A place at the backend, as the caller reaches it. `None` for places elsewhere and relative ones.
pub(super) fn relocated(location: &str, backend: &str, prefix: &str) -> Option<String> {
    let uri: http::Uri = location.parse().ok()?;
    let is_here = uri.authority().is_none_or(|it| it.as_str() == backend);
    let path = uri.path_and_query()?.as_str();
    let is_rooted = uri.authority().is_some() || location.starts_with('/');
    let is_done = path.starts_with(prefix);
    (is_here && is_rooted && !is_done).then(|| format!("{prefix}{path}"))
}

/// `…/proxy` alone is a folder: pages behind it name each other relatively.
fn redirect(uri: &http::Uri) -> Response<Body> {
    let query = uri.query().map(|it| format!("?{it}")).unwrap_or_default();
    let mut response = Response::new(transport::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(location) = HeaderValue::try_from(format!("{}/{query}", uri.path())) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// A request's path, taken apart at `proxy`; encodings and slashes as they came.
struct Beyond {
    /// Up to and with `proxy`.
    prefix: String,
    /// What is behind, with the query.
    path: String,
    /// Nothing is behind, not even a slash.
    is_bare: bool,
}

fn beyond(info: &RequestInfo, uri: &http::Uri) -> Beyond {
    let segments: Vec<&str> = uri.path().split('/').collect();
    let at = segments
        .windows(3)
        .position(|window| window[0] == info.resource && window[2] == info.subresource)
        .map_or(segments.len(), |at| at + 3);
    let rest = segments[at..].join("/");
    let query = uri.query().map(|it| format!("?{it}")).unwrap_or_default();
    Beyond {
        prefix: segments[..at].join("/"),
        path: format!("/{rest}{query}"),
        is_bare: at == segments.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_named_after_those_before_it() {
        let mut extensions = Extensions::new();
        let mut headers = HeaderMap::new();
        name_client(&mut headers, &extensions);
        assert!(headers.is_empty(), "a request from inside has no client");
        let address = Some("[::ffff:10.0.0.7]:4000".parse().unwrap());
        let peer = Peer { address, local: None, certificate: None, intermediates: vec![] };
        extensions.insert(peer);
        headers.append(FORWARDED_FOR, HeaderValue::from_static("192.0.2.1"));
        headers.append(FORWARDED_FOR, HeaderValue::from_static("192.0.2.2"));
        name_client(&mut headers, &extensions);
        assert_eq!(headers[FORWARDED_FOR], "192.0.2.1, 192.0.2.2, 10.0.0.7");
        assert_eq!(headers.get_all(FORWARDED_FOR).iter().count(), 1);
    }

    #[test]
    fn redirects_of_a_backend_stay_behind_the_proxy() {
        let prefix = "/api/v1/namespaces/n/pods/p/proxy";
        let of = |location| relocated(location, "10.0.0.1:80", prefix);
        assert_eq!(of("/login?a=b").unwrap(), format!("{prefix}/login?a=b"));
        assert_eq!(of("http://10.0.0.1:80/x").unwrap(), format!("{prefix}/x"));
        let behind = format!("{prefix}/x");
        assert_eq!(of(&behind), None);
        for elsewhere in ["http://example.com/x", "next"] {
            assert_eq!(of(elsewhere), None, "{elsewhere}");
        }
    }

    #[test]
    fn the_path_is_taken_apart_at_proxy() {
        let of = |target: &str| {
            let uri: http::Uri = target.parse().unwrap();
            beyond(&RequestInfo::parse(&Method::GET, uri.path(), ""), &uri)
        };
        let root = "/api/v1/namespaces/n/pods/https:p:443/proxy";
        assert!(of(root).is_bare);
        let slash = of(&format!("{root}/"));
        assert_eq!((slash.prefix.as_str(), slash.path.as_str(), slash.is_bare), (root, "/", false));
        assert_eq!(of(&format!("{root}/a%2Fb/?q=1")).path, "/a%2Fb/?q=1");
    }

    #[test]
    fn a_client_cannot_take_out_what_is_said_of_it() {
        let mut asked = Request::get("/x").body(transport::empty()).unwrap();
        let named = HeaderValue::from_static("close, X-Forwarded-For");
        asked.headers_mut().insert(header::CONNECTION, named);
        asked.extensions_mut().insert(Peer {
            address: Some(([10, 0, 0, 7], 1).into()),
            local: None,
            certificate: None,
            intermediates: Vec::new(),
        });
        let handed = request(asked, "/x", ([10, 0, 0, 1], 443).into()).unwrap();
        assert_eq!(handed.headers()[FORWARDED_FOR], "10.0.0.7");
    }
}
