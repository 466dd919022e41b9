//! The audit log: who asked for what, when, and what came of it.
//!
//! An event is written before the answer leaves, so that nothing that was answered is missing; one
//! that cannot be written is told of in the server's own log. A thread of its own writes: a disk that
//! is slow holds up the answers, and nobody else.
//!
//! Upstream: audit.k8s.io/v1, k8s.io/apiserver/pkg/endpoints/filters/audit.go.

mod file;
mod policy;

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

use bytes::Bytes;
use clock::Clock;
use http::{Response, header, request::Parts};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;
use transport::{Body, Peer};

use self::{
    file::LogFile,
    policy::{Level, Verdict},
};
pub use self::{
    file::Rotation,
    policy::{Policy, PolicyError},
};
use crate::{
    authn, decode,
    proxy::Tunnel,
    request::{RequestInfo, UserInfo},
    resources::meta,
    server::micro_timestamp,
    status::Status,
};

/// Where in a request's life an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Stage {
    RequestReceived,
    /// Of long requests: the head of the answer is sent.
    ResponseStarted,
    ResponseComplete,
    Panic,
}

/// Where events go, and which. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    policy: Arc<Policy>,
    writer: mpsc::Sender<Order>,
    /// How many events there were.
    count: Arc<AtomicU64>,
}

/// What the thread that writes is told, in this order.
#[derive(Debug)]
enum Order {
    Line(Vec<u8>, jiff::Timestamp),
    /// Everything before it is written.
    Tell(oneshot::Sender<()>),
}

fn write_orders(mut file: LogFile, orders: &mpsc::Receiver<Order>) {
    for order in orders {
        match order {
            Order::Line(line, now) => {
                if let Err(error) = file.write(&line, now) {
                    tracing::error!(%error, "an audit event could not be written");
                }
            }
            // Whoever asked may have left.
            Order::Tell(done) => drop(done.send(())),
        }
    }
}

impl Log {
    pub fn open(path: &Path, policy: Policy, rotation: Rotation) -> io::Result<Self> {
        let file = LogFile::open(path, rotation)?;
        let (writer, orders) = mpsc::channel();
        let thread = std::thread::Builder::new().name("audit".into());
        thread.spawn(move || write_orders(file, &orders))?;
        Ok(Self { policy: Arc::new(policy), writer, count: Arc::default() })
    }

    /// Waits until what was told of before is written.
    pub(crate) async fn written(&self) {
        let (done, told) = oneshot::channel();
        if self.writer.send(Order::Tell(done)).is_ok() {
            drop(told.await);
        }
    }

    /// Begins to follow a request, if anything of it is to be written. `user` is who asks, before
    /// impersonation.
    pub(crate) fn begin(
        &self,
        id: &str,
        user: &UserInfo,
        info: &RequestInfo,
        head: &Parts,
        clock: Clock,
    ) -> Option<Trace> {
        let verdict = self.policy.of(user, info);
        if verdict.level == Level::None {
            return None;
        }
        let uri = head.uri.path_and_query().map_or("/", |it| it.as_str());
        let mut event = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": verdict.level.name(),
            "auditID": id, "requestURI": uri, "verb": info.verb, "user": authn::shown(user),
            "requestReceivedTimestamp": micro_timestamp(clock.now()), "annotations": {},
        });
        let peer = head.extensions.get::<Peer>().and_then(|it| it.address);
        event["sourceIPs"] =
            json!(peer.as_ref().map(SocketAddr::ip).into_iter().collect::<Vec<_>>());
        if let Some(agent) = head.headers.get(header::USER_AGENT).and_then(|it| it.to_str().ok()) {
            event["userAgent"] = agent.into();
        }
        if info.is_resource {
            event["objectRef"] = reference(info);
        }
        let annotations = Annotations::default();
        let trace = Trace { log: self.clone(), verdict, event, annotations, clock };
        trace.write(Stage::RequestReceived);
        Some(trace)
    }

    /// How many events there were, whatever became of them.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn append(&self, event: &Value, now: jiff::Timestamp) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut line = event.to_string().into_bytes();
        line.push(b'\n');
        if self.writer.send(Order::Line(line, now)).is_err() {
            tracing::error!("an audit event could not be written: nobody writes any more");
        }
    }
}

fn reference(info: &RequestInfo) -> Value {
    let mut reference = json!({ "apiVersion": info.version });
    for (field, value) in [
        ("resource", &info.resource),
        ("namespace", &info.namespace),
        ("name", &info.name),
        ("apiGroup", &info.group),
        ("subresource", &info.subresource),
    ] {
        if !value.is_empty() {
            reference[field] = value.as_str().into();
        }
    }
    reference
}

/// What those who decide have to say of a request beside their answer. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Annotations(Arc<Mutex<Map<String, Value>>>);

impl Annotations {
    pub(crate) fn add(&self, all: impl IntoIterator<Item = (String, String)>) {
        self.0.lock().extend(all.into_iter().map(|(key, value)| (key, value.into())));
    }
}

/// One request that is followed.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    log: Log,
    verdict: Verdict,
    event: Value,
    annotations: Annotations,
    clock: Clock,
}

impl Trace {
    /// What is added to it will be in what is written.
    pub(crate) fn annotations(&self) -> Annotations {
        self.annotations.clone()
    }

    pub(crate) fn impersonated(&mut self, user: &UserInfo) {
        self.event["impersonatedUser"] = authn::shown(user);
    }

    pub(crate) fn decided(&mut self, decision: &Result<String, Status>) {
        let (decision, reason) = match decision {
            Ok(reason) => ("allow", reason.clone()),
            Err(status) => ("forbid", status.message.clone()),
        };
        self.event["annotations"] = json!({
            "authorization.k8s.io/decision": decision, "authorization.k8s.io/reason": reason,
        });
    }

    /// The body that came, as far as it is wanted.
    pub(crate) fn request(&mut self, media: &str, body: &Bytes) {
        let is_nameless =
            self.event["verb"] == "create" && self.event["objectRef"]["name"].is_null();
        if body.is_empty() || (self.verdict.level < Level::Request && !is_nameless) {
            return;
        }
        let object = match media.split(';').next().unwrap_or_default().trim() {
            it if it.ends_with("+json") => decode::json(body),
            it if it.ends_with("+yaml") => decode::body("application/yaml", body),
            it => decode::body(it, body),
        };
        let Ok(mut object) = object.map(|it| it.value) else { return };
        if is_nameless && !meta(&object, "name").is_empty() {
            self.event["objectRef"]["name"] = meta(&object, "name").into();
        }
        if self.verdict.level >= Level::Request {
            self.trim(&mut object);
            self.event["requestObject"] = object;
        }
    }

    /// Whether what is answered will be looked into.
    pub(crate) fn wants_response(&self) -> bool {
        self.verdict.level == Level::RequestResponse
    }

    fn trim(&self, object: &mut Value) {
        if self.verdict.omits_managed_fields
            && let Some(metadata) = object["metadata"].as_object_mut()
        {
            metadata.remove("managedFields");
        }
    }

    pub(crate) fn panicked(&mut self) {
        self.event["responseStatus"] = json!({
            "metadata": {}, "status": "Failure", "code": 500, "reason": "InternalError",
        });
        self.write(Stage::Panic);
    }

    /// Writes what is left to write: now, or when a long answer ends.
    pub(crate) async fn finish(
        mut self,
        response: Response<Body>,
        failed: Option<&Status>,
        is_long: bool,
    ) -> Response<Body> {
        self.event["responseStatus"] = match failed {
            Some(status) => status.to_json(),
            None => json!({ "metadata": {}, "code": response.status().as_u16() }),
        };
        let log = self.log.clone();
        if is_long {
            self.write(Stage::ResponseStarted);
            let end = Ending(self);
            log.written().await;
            // What is upgraded ends with its tunnel; its answer has no body that could.
            let mut response = response;
            if let Some(tunnel) = response.extensions_mut().remove::<Tunnel>() {
                tunnel.keep(end);
                return response;
            }
            return response.map(|body| {
                body.map_frame(move |frame| {
                    let _ = &end;
                    frame
                })
                .boxed_unsync()
            });
        }
        let mut end = Ending(self);
        let response =
            if end.0.wants_response() { end.0.look_into(response).await } else { response };
        drop(end);
        log.written().await;
        response
    }

    async fn look_into(&mut self, response: Response<Body>) -> Response<Body> {
        let (head, body) = response.into_parts();
        let body = match body.collect().await {
            Ok(whole) => whole.to_bytes(),
            // The client gets what there was: a broken answer.
            Err(error) => {
                let broken = futures::stream::once(async move { Err::<Frame<Bytes>, _>(error) });
                let body = StreamBody::new(broken).boxed_unsync();
                return Response::from_parts(head, body);
            }
        };
        let object = serde_json::from_slice(&body).ok();
        if let Some(mut object) = object.or_else(|| kube_protobuf::decode(&body).ok()) {
            self.trim(&mut object);
            self.event["responseObject"] = object;
        }
        Response::from_parts(head, transport::full(body))
    }

    fn write(&self, stage: Stage) {
        if self.verdict.omitted.contains(&stage) {
            return;
        }
        let now = self.clock.now();
        let mut event = self.event.clone();
        event["stage"] = format!("{stage:?}").into();
        event["stageTimestamp"] = micro_timestamp(now).into();
        if let Some(annotations) = event["annotations"].as_object_mut() {
            annotations.extend(self.annotations.0.lock().clone());
        }
        if event["annotations"] == json!({})
            && let Some(fields) = event.as_object_mut()
        {
            fields.remove("annotations");
        }
        self.log.append(&event, now);
    }
}

/// The end of an answer, however it comes: also by a client that has left.
pub(crate) struct Ending(pub(crate) Trace);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.write(Stage::ResponseComplete);
    }
}

#[cfg(test)]
mod tests;
