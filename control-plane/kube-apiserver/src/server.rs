//! The server: what a request passes through, in order, and what answers it.
//!
//! Read the line → who → how many at once → may they → what. Each step either lets the request on
//! or ends it with a [`Status`]. Requests from inside the process come with their user as an
//! extension and are otherwise treated alike.
//!
//! Upstream: `DefaultBuildHandlerChain` of k8s.io/apiserver.

use std::{convert::Infallible, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use parking_lot::RwLock;
use transport::{Body, BoxError, Peer};

use crate::{
    admission, authn, authz,
    config::Config,
    delegated, discovery, flow,
    negotiate::{self, Accept},
    proxy,
    registry::Reader,
    render, request,
    request::{RequestInfo, UserInfo},
    resources::{Catalog, Resource},
    services,
    status::Status,
    verbs,
};

/// How long a request that is not a watch and goes no further than here may take (upstream's
/// `--request-timeout`).
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

const TIMED_OUT: &str = "the server was unable to return a response in the time allotted, but may \
                         still be processing the request";

/// Subresources that other servers answer.
const CONNECTED: [&str; 5] = ["log", "exec", "attach", "portforward", "proxy"];

pub(crate) struct Server {
    pub(crate) config: Config,
    pub(crate) store: mvcc::Store,
    pub(crate) objects: Reader,
    pub(crate) clock: clock::Clock,
    pub(crate) catalog: RwLock<Arc<Catalog>>,
    pub(crate) services: services::Allocator,
    pub(crate) admission: admission::Context,
    pub(crate) authenticator: authn::Authenticator,
    pub(crate) authorizer: authz::Authorizer,
    pub(crate) proxy: proxy::Proxy,
    pub(crate) delegates: delegated::Delegates,
    pub(crate) flow: flow::Limiter,
    /// The current endpoints of `default/kubernetes`.
    pub(crate) endpoints: RwLock<Vec<std::net::IpAddr>>,
}

/// One request to a resource, ready to be answered.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) server: Arc<Server>,
    pub(crate) user: UserInfo,
    pub(crate) info: RequestInfo,
    pub(crate) resource: Arc<Resource>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) accept: Accept,
    pub(crate) head: http::request::Parts,
    /// The whole body; empty for `get`, `list`, `watch`.
    pub(crate) body: bytes::Bytes,
    /// For `Warning` headers.
    pub(crate) warnings: Vec<String>,
    /// Among creations under a quota; it ends with the request.
    pub(crate) turn: Option<admission::Turn>,
}

impl Call {
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(it, _)| it == name);
        found.map(|(_, value)| value.as_str()).filter(|it| !it.is_empty())
    }

    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.parameter(name).is_some_and(|it| it == "true" || it == "1")
    }

    pub(crate) fn header(&self, name: header::HeaderName) -> &str {
        self.head.headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default()
    }

    /// The name in the path.
    pub(crate) fn name(&self) -> &str {
        &self.info.name
    }

    pub(crate) fn now(&self) -> String {
        timestamp(self.server.clock.now())
    }
}

/// A time as `metav1.Time` prints it.
pub(crate) fn timestamp(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A time as `metav1.MicroTime` prints it.
pub(crate) fn micro_timestamp(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

impl Server {
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.catalog.read().clone()
    }

    /// Answers any request. Never fails: failures are answers.
    pub(crate) async fn handle<B>(self: Arc<Self>, request: Request<B>) -> Response<Body>
    where
        B: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        let audit_id = request.headers().get("audit-id").cloned().unwrap_or_else(|| {
            HeaderValue::from_str(&entropy::uuid()).expect("a UUID is a valid header")
        });
        let accept = negotiate::accept(request.headers());
        let format = accept.as_ref().map(|it| it.format).unwrap_or_default();
        // A panic is a fault of ours: one request fails, and the log says where.
        let answer = AssertUnwindSafe(self.answer(request, accept)).catch_unwind().await;
        let answer = answer.unwrap_or_else(|_| Err(Status::internal("the server panicked")));
        let mut response = match answer {
            Ok(response) => response,
            Err(status) => render::status(&status, format),
        };
        let headers = response.headers_mut();
        headers.insert("audit-id", audit_id);
        headers
            .entry(header::CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-cache, private"));
        response
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Body>,
        accept: Result<Accept, Status>,
    ) -> Result<Response<Body>, Status> {
        let uri = request.uri();
        let info =
            RequestInfo::parse(request.method(), uri.path(), uri.query().unwrap_or_default());
        let (mut head, body) = request.into_parts();
        let user = self.user(&mut head).await?;
        let permit = self.flow.admit(&user, &info).await?;
        self.check(&user, &info).await?;
        if let Some(info) = as_create(&info) {
            self.check(&user, &info).await?;
        }
        let is_long = info.verb == "watch" || CONNECTED.contains(&info.subresource.as_str());
        let work = self.dispatch(user, info, head, body, accept);
        if is_long {
            // Long-running requests hold no seat once they are under way.
            drop(permit);
            work.await
        } else {
            let result = tokio::time::timeout(REQUEST_TIMEOUT, work).await;
            drop(permit);
            result.unwrap_or_else(|_| Err(Status::timeout(TIMED_OUT)))
        }
    }

    /// Who asks, after impersonation.
    fn user<'a>(
        &'a self,
        head: &'a mut http::request::Parts,
    ) -> BoxFuture<'a, Result<UserInfo, Status>> {
        Box::pin(async move {
            let user = match head.extensions.remove::<UserInfo>() {
                Some(user) => user,
                None => {
                    let peer = head.extensions.get::<Peer>().cloned();
                    let user = self.authenticator.authenticate(head, peer.as_ref()).await;
                    user.map_err(|_| Status::unauthorized())?
                }
            };
            authn::impersonate(&self.authorizer, user, &head.headers).await
        })
    }

    fn check<'a>(
        &'a self,
        user: &'a UserInfo,
        info: &'a RequestInfo,
    ) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.authorizer.check(user, info))
    }

    async fn dispatch(
        self: Arc<Self>,
        user: UserInfo,
        info: RequestInfo,
        head: http::request::Parts,
        body: Body,
        accept: Result<Accept, Status>,
    ) -> Result<Response<Body>, Status> {
        if !info.is_resource {
            return discovery::answer(&self, &info, &head).await;
        }
        let resource = self.catalog().find(&info.group, &info.version, &info.resource);
        let resource = resource.ok_or_else(Status::no_such_path)?;
        if !info.subresource.is_empty() && !resource.has(&info.subresource) {
            return Err(Status::no_such_path());
        }
        if resource.delegated.is_some() {
            return self.delegates.answer(&user, &info, head, body).await;
        }
        if CONNECTED.contains(&info.subresource.as_str()) {
            let request = Request::from_parts(head, body);
            return self.proxy.connect(&user, &info, request).await;
        }
        let query = request::query_pairs(head.uri.query().unwrap_or_default()).collect();
        let body = read(body, &info).await?;
        let call = Call {
            server: self,
            user,
            info,
            resource,
            query,
            accept: accept?,
            head,
            body,
            warnings: Vec::new(),
            turn: None,
        };
        verbs::answer(call).await
    }
}

/// What a GET that opens a stream into a pod has to be allowed besides: a WebSocket's handshake is a
/// GET, but to run a command is no reading.
///
/// Upstream: the feature `AuthorizePodWebsocketUpgradeCreatePermission`.
fn as_create(info: &RequestInfo) -> Option<RequestInfo> {
    let opens = info.group.is_empty()
        && info.resource == "pods"
        && matches!(info.subresource.as_str(), "exec" | "attach" | "portforward");
    (opens && info.verb == "get").then(|| RequestInfo { verb: "create".into(), ..info.clone() })
}

async fn read(body: Body, info: &RequestInfo) -> Result<bytes::Bytes, Status> {
    if matches!(info.verb.as_str(), "get" | "list" | "watch") {
        return Ok(bytes::Bytes::new());
    }
    let read = transport::collect_request(body, crate::decode::BODY_LIMIT).await;
    let whole = read.map_err(|error| {
        Status::bad_request(format!("failed to read the request's body: {error}"))
    })?;
    whole.ok_or_else(|| Status::too_large(crate::decode::BODY_LIMIT))
}

/// The API server as a tower service, over any body.
#[derive(Clone)]
pub struct ApiService {
    pub(crate) server: Arc<Server>,
    /// Whom every request comes from; `None`: the request says.
    pub(crate) user: Option<UserInfo>,
}

impl std::fmt::Debug for ApiService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiService").field("user", &self.user).finish_non_exhaustive()
    }
}

impl<B> tower::Service<Request<B>> for ApiService
where
    B: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let server = self.server.clone();
        if let Some(user) = &self.user {
            request.extensions_mut().insert(user.clone());
        }
        Box::pin(async move { Ok(server.handle(request).await) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_only_read_opens_no_stream_into_a_pod() {
        let of = |method: http::Method, path: &str| {
            as_create(&RequestInfo::parse(&method, path, "")).map(|it| it.verb)
        };
        let pod = "/api/v1/namespaces/n/pods/p";
        for stream in ["exec", "attach", "portforward"] {
            let path = format!("{pod}/{stream}");
            assert_eq!(of(http::Method::GET, &path).as_deref(), Some("create"), "{stream}");
            assert_eq!(of(http::Method::POST, &path), None, "asked already");
        }
        assert_eq!(of(http::Method::GET, &format!("{pod}/log")), None);
        assert_eq!(of(http::Method::GET, pod), None);
    }
}
