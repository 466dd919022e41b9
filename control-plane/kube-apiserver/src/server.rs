//! The server: what a request passes through, in order, and what answers it.
//!
//! Read the line → who → how many at once → may they → what. Each step either lets the request on
//! or ends it with a [`Status`]. Requests from inside the process come with their user as an
//! extension and are otherwise treated alike.
//!
//! Upstream: `DefaultBuildHandlerChain` of k8s.io/apiserver.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::AtomicBool},
};

use futures::{FutureExt, future::BoxFuture};
use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use tokio::time::Instant;
use transport::{Body, BoxError, Peer};

use crate::{
    admission, aggregation, audit, authn, authz,
    config::Config,
    deadline, delegated, discovery, flow, metrics,
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
    /// The allocator's epoch of the last repair.
    pub(crate) repaired: Mutex<Option<[u64; 3]>>,
    /// Whether what goes on for ever has begun.
    pub(crate) is_maintained: AtomicBool,
    /// The limiter's epoch when its objects' statuses were last written.
    pub(crate) told: Mutex<Option<[u64; 2]>>,
    pub(crate) admission: admission::Context,
    pub(crate) authenticator: authn::Authenticator,
    pub(crate) authorizer: authz::Authorizer,
    pub(crate) proxy: proxy::Proxy,
    pub(crate) aggregator: aggregation::Aggregator,
    pub(crate) delegates: delegated::Delegates,
    pub(crate) flow: flow::Limiter,
    pub(crate) metrics: Arc<metrics::Metrics>,
    /// The current endpoints of `default/kubernetes`.
    pub(crate) endpoints: RwLock<Vec<std::net::IpAddr>>,
}

/// Which part of its time a request may wait for a seat, as upstream's.
const PART_TO_WAIT: u32 = 4;

/// What is learned of a request on its way, for its answer's head and for the audit log.
struct Notes {
    id: HeaderValue,
    class: Option<flow::Class>,
    trace: Option<audit::Trace>,
    is_long: bool,
}

impl Default for Notes {
    fn default() -> Self {
        Self { id: HeaderValue::from_static(""), class: None, trace: None, is_long: false }
    }
}

/// A request whose client has left before its answer is one that was made all the same.
impl Drop for Notes {
    fn drop(&mut self) {
        drop(self.trace.take().map(audit::Ending));
    }
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
    /// For the audit log.
    pub(crate) annotations: audit::Annotations,
    /// Among creations under a quota; it ends with the request.
    pub(crate) turn: Option<admission::Turn>,
    /// The `DeleteOptions` of a deletion.
    pub(crate) deletion: Value,
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

/// Keeps `long` until the body has ended or its client has left.
fn counted(response: Response<Body>, long: metrics::Long) -> Response<Body> {
    response.map(|body| {
        body.map_frame(move |frame| {
            let _until_then = &long;
            frame
        })
        .boxed_unsync()
    })
}

/// What a `HEAD` is answered: in HTTP/2 a body after it is a fault.
fn without_body(response: Response<Body>, size: Option<u64>) -> Response<Body> {
    let (mut head, _) = response.into_parts();
    // What was passed on says already what a GET would have.
    if let Some(size) = size.filter(|it| *it > 0) {
        head.headers.entry(header::CONTENT_LENGTH).or_insert(size.into());
    }
    Response::from_parts(head, transport::empty())
}

/// Whether the path is one of those that the method is of: collections are created in, what has a
/// name is changed. A `HEAD` is judged as what it would get, and then only what is passed on and
/// custom resources have one.
fn check_method(
    info: &RequestInfo,
    resource: &Resource,
    method: &http::Method,
) -> Result<(), Status> {
    let is_whole = info.subresource.is_empty();
    match info.verb.as_str() {
        _ if *method == http::Method::HEAD
            && resource.custom.is_none()
            && info.subresource != "proxy" =>
        {
            Err(Status::no_such_method())
        }
        "" => Err(Status::no_such_method()),
        "update" | "patch" if is_whole && info.name.is_empty() => match resource.custom {
            Some(_) => Err(Status::bad_request("name must be provided")),
            None => Err(Status::no_such_method()),
        },
        "create" if is_whole && !info.name.is_empty() && resource.custom.is_none() => {
            Err(Status::no_such_method())
        }
        _ => Ok(()),
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
        let format = negotiate::of_status(request.headers());
        // A panic is a fault of ours: one request fails, and the log says where.
        let uri = request.uri();
        let query = uri.query().unwrap_or_default();
        let info = RequestInfo::parse(request.method(), uri.path(), query);
        let media = request.headers().get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
        let is_apply = media.is_some_and(|it| it.contains("apply-patch"));
        let kind = metrics::Kind::of(&info, query, is_apply, &self.catalog());
        let (metrics, began) = (self.metrics.clone(), Instant::now());
        let is_head = request.method() == http::Method::HEAD;
        let mut notes = Notes::default();
        notes.id.clone_from(&audit_id);
        let notes = Arc::new(Mutex::new(notes));
        let answer = self.answer(request, info, notes.clone());
        let answer = AssertUnwindSafe(answer).catch_unwind().await;
        let mut notes = std::mem::take(&mut *notes.lock());
        let mut trace = notes.trace.take();
        let answer = answer.unwrap_or_else(|_| {
            trace.iter_mut().for_each(audit::Trace::panicked);
            Err(Status::internal("the server panicked"))
        });
        let (mut response, failed) = match answer {
            Ok(response) => (response, None),
            Err(status) => (render::status(&status, format), Some(status)),
        };
        if let Some(trace) = trace {
            let is_long = notes.is_long && failed.is_none();
            response = trace.finish(response, failed.as_ref(), is_long).await;
        }
        let took = (!notes.is_long).then(|| began.elapsed());
        if notes.is_long && failed.is_none() {
            response = counted(response, metrics.begin_long(&kind));
        }
        let size = http_body::Body::size_hint(response.body()).exact();
        metrics.count(kind, response.status().as_u16(), took, size);
        if is_head {
            response = without_body(response, size);
        }
        let headers = response.headers_mut();
        headers.insert("audit-id", audit_id);
        if let Some(class) = &notes.class {
            class.mark(headers);
        }
        headers
            .entry(header::CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-cache, private"));
        response
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Body>,
        info: RequestInfo,
        notes: Arc<Mutex<Notes>>,
    ) -> Result<Response<Body>, Status> {
        let (mut head, body) = request.into_parts();
        let is_long = info.verb == "watch" || CONNECTED.contains(&info.subresource.as_str());
        notes.lock().is_long = is_long;
        // Of a long request `timeout` is something else, or the proxied server's own.
        let query = head.uri.query().unwrap_or_default();
        let limit = if is_long { deadline::LONGEST } else { deadline::of(query)? };
        let user = self.user(&mut head, &info, &notes).await?;
        let running = (!is_long).then(|| self.metrics.begin(&info.verb));
        let permit = if info.verb == "watch" || !is_long {
            let (class, permit) = self.flow.admit(&user, &info, limit / PART_TO_WAIT).await;
            notes.lock().class = class;
            permit?
        } else {
            None
        };
        let mut decision = self.check(&user, &info).await;
        if let (Ok(_), Some(info)) = (&decision, as_create(&info)) {
            decision = self.check(&user, &info).await;
        }
        notes.lock().trace.iter_mut().for_each(|it| it.decided(&decision));
        decision?;
        let work = self.dispatch(user, info, head, body, notes);
        if is_long {
            // A watch holds its seat until it is under way.
            let answer = work.await;
            drop(permit);
            answer
        } else {
            let result = tokio::time::timeout(limit, work).await;
            drop((permit, running));
            result.unwrap_or_else(|_| Err(Status::timeout(TIMED_OUT)))
        }
    }

    /// Who asks, after impersonation.
    fn user<'a>(
        &'a self,
        head: &'a mut http::request::Parts,
        info: &'a RequestInfo,
        notes: &'a Mutex<Notes>,
    ) -> BoxFuture<'a, Result<UserInfo, Status>> {
        Box::pin(async move {
            let user = match head.extensions.remove::<UserInfo>() {
                Some(user) => Ok(user),
                None => {
                    let peer = head.extensions.get::<Peer>().cloned();
                    let begun = Instant::now();
                    let found = self.authenticator.authenticate(head, peer.as_ref()).await;
                    let has_shown_any = head.headers.contains_key(header::AUTHORIZATION)
                        || peer.is_some_and(|it| it.certificate.is_some());
                    let result = match &found {
                        Ok(_) => "success",
                        Err(_) if has_shown_any => "error",
                        Err(_) => "failure",
                    };
                    self.metrics.access.authenticated(result, begun.elapsed());
                    found
                }
            };
            let nobody = UserInfo::default();
            self.authenticator.forget(&mut head.headers);
            self.begin_trace(user.as_ref().unwrap_or(&nobody), info, head, notes);
            let user = user.map_err(|_| Status::unauthorized())?;
            let acting = authn::impersonate(&self.authorizer, user.clone(), &head.headers).await;
            if let (Ok(acting), Some(trace)) = (&acting, notes.lock().trace.as_mut())
                && *acting != user
            {
                trace.impersonated(acting);
            }
            acting
        })
    }

    fn begin_trace(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        head: &mut http::request::Parts,
        notes: &Mutex<Notes>,
    ) {
        let Some(log) = &self.config.audit else { return };
        let mut notes = notes.lock();
        let id = notes.id.to_str().unwrap_or_default();
        notes.trace = log.begin(id, user, info, head, self.clock);
        if notes.trace.as_ref().is_some_and(audit::Trace::wants_response) {
            // What is looked into must come as it is.
            head.headers.remove(header::ACCEPT_ENCODING);
        }
    }

    fn check<'a>(
        &'a self,
        user: &'a UserInfo,
        info: &'a RequestInfo,
    ) -> BoxFuture<'a, Result<String, Status>> {
        Box::pin(async move {
            let begun = Instant::now();
            let (result, reason) = self.authorizer.judged(user, info).await;
            self.metrics.access.authorized(result, begun.elapsed());
            reason
        })
    }

    async fn dispatch(
        self: Arc<Self>,
        user: UserInfo,
        info: RequestInfo,
        head: http::request::Parts,
        body: Body,
        notes: Arc<Mutex<Notes>>,
    ) -> Result<Response<Body>, Status> {
        if let Some(remote) = self.aggregator.claimed(&info.path) {
            let request = Request::from_parts(head, body);
            return Ok(self.aggregator.forward(&remote, &user, request).await);
        }
        if !info.is_resource {
            return discovery::answer(&self, &info, &head).await;
        }
        let catalog = self.catalog();
        let resource = catalog.find(&info.group, &info.version, &info.resource);
        let resource = resource.ok_or_else(|| discovery::nothing_at(&catalog, &info.path))?;
        if !info.subresource.is_empty() && !resource.has(&info.subresource) {
            return Err(Status::no_such_path());
        }
        check_method(&info, &resource, &head.method)?;
        if resource.delegated.is_some() {
            return self.delegates.answer(&user, &info, head, body).await;
        }
        if CONNECTED.contains(&info.subresource.as_str()) {
            return self.connect(user, info, resource, head, body, notes).await;
        }
        let query = request::query_pairs(head.uri.query().unwrap_or_default()).collect();
        let body = read(body, &info).await?;
        let mut annotations = audit::Annotations::default();
        if let Some(trace) = notes.lock().trace.as_mut() {
            annotations = trace.annotations();
            let media = head.headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
            trace.request(media.unwrap_or_default(), &body);
        }
        let accept = negotiate::of_resource(&head.headers, &resource, &info.verb)?;
        let call = Call {
            server: self,
            user,
            info,
            resource,
            query,
            accept,
            head,
            body,
            warnings: Vec::new(),
            annotations,
            turn: None,
            deletion: Value::Null,
        };
        verbs::answer(call).await
    }

    /// A stream, or a request to be passed on: admission is asked about it, but for logs, which are
    /// only read.
    async fn connect(
        self: Arc<Self>,
        user: UserInfo,
        info: RequestInfo,
        resource: Arc<Resource>,
        head: http::request::Parts,
        body: Body,
        notes: Arc<Mutex<Notes>>,
    ) -> Result<Response<Body>, Status> {
        let query = head.uri.query().unwrap_or_default();
        let Some(options) = admission::connect_options(&info, query) else {
            let request = Request::from_parts(head, body);
            return self.proxy.connect(&user, &info, request).await;
        };
        let trace = notes.lock().trace.as_ref().map(audit::Trace::annotations);
        let mut call = Call {
            query: request::query_pairs(query).collect(),
            server: self,
            user,
            info,
            resource,
            accept: Accept::default(),
            head,
            body: bytes::Bytes::new(),
            warnings: Vec::new(),
            annotations: trace.unwrap_or_default(),
            turn: None,
            deletion: Value::Null,
        };
        let admitted = admission::connect(&mut call, options).await;
        let answer = match admitted {
            Ok(()) => {
                let request = Request::from_parts(call.head, body);
                call.server.proxy.connect(&call.user, &call.info, request).await
            }
            Err(refused) => Err(refused),
        };
        let mut response =
            answer.map_err(|refused| refused.with_warnings(call.warnings.clone()))?;
        render::warn(&mut response, &call.warnings);
        Ok(response)
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
            // A component is named as its user is, without what that belongs to.
            let name = user.username.rsplit(':').next().unwrap_or_default();
            if let (header::Entry::Vacant(agent), Ok(name)) =
                (request.headers_mut().entry(header::USER_AGENT), HeaderValue::from_str(name))
            {
                agent.insert(name);
            }
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
