//! One call from its first byte to its last.
//!
//! authenticate → find the operation → decode → decide → handle → encode → record. Each step can
//! end the call with a fault, and every call is recorded, also one whose client went away. What it
//! has begun goes on then, as on AWS: half a change would be nobody's wish.

use std::{
    borrow::Cow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
    task::Poll,
};

use aws_wire::{
    Client, Fault,
    client::{Config as ClientConfig, Endpoints, Exchange},
    codec::{self, Form},
    service::{self, Protocol, Service},
    sigv4::{Presented, Problem, Style},
};
use bytes::Bytes;
use clock::Clock;
use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response, StatusCode, header::ACCEPT, request::Parts};
use lifecycle::Scope;
use serde_json::Value;
use transport::Peer;

use crate::{
    AccessKeys, Authorizer, Caller, CallerKind, Identities, Internal, Routes, Source,
    authorize::Decided,
    bodies::Bodies,
    events::{Event, Events, Outcome},
    incoming::{self, Asked},
    local_root, parameters,
    rates::Rates,
    refusal::{self, Unauthenticated},
    routes::{Call, Wanted},
    unknown,
    unowned::Upstream,
};

/// The endpoint of all services. Cheap to clone.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    region: String,
    account: String,
    clock: Clock,
    keys: Vec<Arc<dyn AccessKeys>>,
    authorizer: Authorizer,
    events: Events,
    routes: OnceLock<Routes>,
    bodies: Arc<Bodies>,
    upstream: OnceLock<Upstream>,
    rates: OnceLock<Rates>,
    scope: OnceLock<Scope>,
}

/// What a [`Gateway`] is made of.
pub struct Config {
    pub region: String,
    pub account: String,
    pub clock: Clock,
    /// Asked in this order.
    pub keys: Vec<Arc<dyn AccessKeys>>,
    pub identities: Arc<dyn Identities>,
    pub events: Events,
}

/// What is known about a call so far, for its record.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) service: Cow<'static, str>,
    pub(crate) action: String,
    pub(crate) caller: Option<Arc<Caller>>,
    pub(crate) decided: Vec<Decided>,
    /// The handler was reached, or would have been but for a dry run.
    pub(crate) is_admitted: bool,
    /// Who answered in the region's stead.
    pub(crate) passed_to: Option<String>,
}

/// A call that may be handled.
struct Admitted {
    call: Box<dyn Call>,
    caller: Arc<Caller>,
}

/// A call that is not answered yet. It is recorded when it is, or when it is given up.
pub(crate) struct Open {
    gateway: Gateway,
    record: Option<Record>,
    request_id: String,
    source: Source,
    started: tokio::time::Instant,
}

impl Open {
    pub(crate) fn new(
        gateway: &Gateway,
        record: Record,
        request_id: String,
        source: &Source,
        started: tokio::time::Instant,
    ) -> Self {
        let (gateway, source) = (gateway.clone(), source.clone());
        Self { gateway, record: Some(record), request_id, source, started }
    }

    async fn answer(
        mut self,
        admitted: Result<Admitted, Fault>,
        wanted: Wanted,
    ) -> Response<Bytes> {
        let result = match admitted {
            Ok(Admitted { call, caller }) => {
                // Whoever asked hears that it failed here, and the call is recorded as that.
                let run = AssertUnwindSafe(call.run(caller, wanted)).catch_unwind();
                run.await.unwrap_or_else(|_| Err(refusal::broken(wanted.service)))
            }
            Err(fault) => Err(fault),
        };
        let Wanted { service, form } = wanted;
        let action = self.record.as_ref().map_or("", |it| it.action.as_str());
        let id = &self.request_id;
        let response = match &result {
            Ok(it) => codec::encode_response(service, action, it, id, form),
            Err(fault) => codec::encode_fault(service, fault, id, form),
        };
        self.close(response.status(), result.as_ref().err());
        response
    }

    pub(crate) fn close(&mut self, status: StatusCode, fault: Option<&Fault>) {
        let Some(mut record) = self.record.take() else { return };
        let noted = record.caller.as_ref().map(|it| it.decisions.take());
        record.decided.extend(noted.unwrap_or_default());
        let micros = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.gateway.record(record, &self.request_id, &self.source, (status, fault), micros);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.record.is_none() {
            return;
        }
        let fault = refusal::abandoned();
        self.close(fault.status, Some(&fault));
    }
}

impl Gateway {
    /// Services need the gateway for calls of their own, so their routes come later, with
    /// [`Gateway::open`].
    pub fn new(config: Config) -> Self {
        Self::with_bodies(config, Bodies::new())
    }

    pub(crate) fn with_bodies(config: Config, bodies: Arc<Bodies>) -> Self {
        Self(Arc::new(Inner {
            region: config.region,
            account: config.account,
            clock: config.clock,
            keys: config.keys,
            authorizer: Authorizer::new(config.identities),
            events: config.events,
            routes: OnceLock::new(),
            bodies,
            upstream: OnceLock::new(),
            rates: OnceLock::new(),
            scope: OnceLock::new(),
        }))
    }

    /// Starts to answer. A second call changes nothing and says so.
    pub fn open(&self, routes: Routes) -> bool {
        self.0.routes.set(routes).is_ok()
    }

    /// Every operation that is served: service, action, method and path.
    pub fn operations(&self) -> Vec<(&'static str, &'static str, aws_wire::Http)> {
        self.0.routes.get().map(|it| it.operations().collect()).unwrap_or_default()
    }

    /// The parameters that the region reads of an operation, by their names on the wire.
    pub fn parameters(&self, service: &str, action: &str) -> &'static [&'static str] {
        let route = self.0.routes.get().and_then(|it| it.find(service, action));
        route.map_or(&[], |it| it.parameters())
    }

    /// Has another emulator answer what the region does not serve. A second call changes nothing.
    pub fn pass_unowned_to(&self, upstream: Upstream) {
        drop(self.0.upstream.set(upstream));
    }

    /// Has EC2 refuse calls that come as fast as AWS would refuse them. A second call changes nothing.
    pub fn limit_rates(&self) {
        drop(self.0.rates.set(Rates::new(self.0.clock)));
    }

    /// Has calls that clients have left go on in this scope. A second call changes nothing.
    pub fn finish_calls_in(&self, scope: Scope) {
        drop(self.0.scope.set(scope));
    }

    pub(crate) fn upstream(&self) -> Option<&Upstream> {
        self.0.upstream.get()
    }

    pub(crate) fn routes(&self) -> Option<&Routes> {
        self.0.routes.get()
    }

    pub fn events(&self) -> &Events {
        &self.0.events
    }

    pub(crate) fn bodies(&self) -> &Arc<Bodies> {
        &self.0.bodies
    }

    pub fn authorizer(&self) -> &Authorizer {
        &self.0.authorizer
    }

    /// The caller with what the session of their key limits and says; `None` when the key is no
    /// more.
    pub fn with_session(&self, caller: Caller) -> Option<Caller> {
        let id = &caller.access_key_id;
        let key = self.0.keys.iter().find_map(|it| it.access_key(id))?;
        Some(Caller {
            session: key.session_policies,
            session_context: key.session_context,
            ..caller
        })
    }

    /// A client in this process that acts as an AWS service, such as `eks.amazonaws.com`.
    ///
    /// The name travels beside the request, where no socket can put it.
    pub fn client_as(&self, service: &str) -> Client {
        self.internal_client(Internal { service: service.into(), source_arn: None })
    }

    /// The same for calls that have this resource behind them: trust policies see it as
    /// `aws:SourceArn`, and its account as `aws:SourceAccount`.
    pub fn client_for(&self, service: &str, source_arn: &str) -> Client {
        let source_arn = Some(source_arn.into());
        self.internal_client(Internal { service: service.into(), source_arn })
    }

    fn internal_client(&self, internal: Internal) -> Client {
        let gateway = self.clone();
        let server = tower::service_fn(move |request: Request<Bytes>| {
            let (gateway, internal) = (gateway.clone(), internal.clone());
            async move {
                let (parts, body) = request.into_parts();
                let answer = gateway.answer(&parts, &body, Source::Internal, Some(&internal));
                let response = answer.await;
                Ok::<_, std::convert::Infallible>(response.map(transport::full))
            }
        });
        Client::new(ClientConfig {
            region: self.0.region.clone(),
            endpoints: Endpoints::default(),
            exchange: Exchange::service(server),
            credentials: None,
            clock: self.0.clock,
            attempts: 5,
        })
    }

    /// Answers one request. `internal` is the service that makes it from within this process.
    pub async fn answer(
        &self,
        parts: &Parts,
        body: &Bytes,
        source: Source,
        internal: Option<&Internal>,
    ) -> Response<Bytes> {
        self.answer_held(parts, body, source, internal, ()).await
    }

    /// The same, with what is held as long as the call goes on.
    pub(crate) async fn answer_held(
        &self,
        parts: &Parts,
        body: &Bytes,
        source: Source,
        internal: Option<&Internal>,
        held: impl Send + 'static,
    ) -> Response<Bytes> {
        let started = tokio::time::Instant::now();
        let request_id = entropy::uuid();
        let mut record = Record::default();
        let presented = Presented::read(parts);
        let signed = presented.as_ref().ok().and_then(Option::as_ref);
        let service = incoming::service(parts, body, signed);
        // Without a service there is no protocol; the query protocol's XML is what browsers and
        // curl make most of.
        let Some(service) = service.or_else(|| service::find("sts").filter(|_| signed.is_none()))
        else {
            return unknown::answer(parts, signed, &request_id);
        };
        record.service = service.name.into();
        let result = match (internal, presented) {
            (Some(Internal { service, source_arn }), _) => {
                let now = self.0.clock.now();
                let mut caller = Caller::service(service, &self.0.account, &self.0.region, now);
                caller.request_id.clone_from(&request_id);
                caller.source_arn = source_arn.as_deref().map(str::to_owned);
                Ok(caller)
            }
            (None, Ok(presented)) => {
                self.authenticate(service, parts, body, presented, source.clone(), &request_id)
            }
            (None, Err(problem)) => {
                Err(refusal::unauthenticated(service, Unauthenticated::BadSignature(problem)))
            }
        };
        let form = match incoming::is_older(service, parts, body) {
            true => Form::Older,
            false => response_form(parts),
        };
        let wanted = Wanted { service, form };
        let admitted = result.and_then(|caller| {
            let admit = || self.admit_call(service, parts, body, caller, &mut record);
            catch_unwind(AssertUnwindSafe(admit)).unwrap_or_else(|_| Err(refusal::broken(service)))
        });
        let open = Open::new(self, record, request_id, &source, started);
        let waits = admitted.as_ref().is_ok_and(|it| it.call.waits());
        let mut answer: BoxFuture<'static, Response<Bytes>> = Box::pin(async move {
            let response = open.answer(admitted, wanted).await;
            drop(held);
            response
        });
        // Nearly all calls are answered at once, and need no task.
        if let Poll::Ready(response) = futures::poll!(&mut answer) {
            return response;
        }
        match self.0.scope.get().filter(|_| internal.is_none() && !waits) {
            None => answer.await,
            Some(scope) => match scope.spawn("AWS call", answer).await {
                Ok(Some(response)) => response,
                _ => {
                    let fault = refusal::ending();
                    codec::encode_fault(service, &fault, &entropy::uuid(), form)
                }
            },
        }
    }

    /// Answers a request whose body could not be had, in the form of the service that it is for.
    pub(crate) fn refuse(&self, parts: &Parts, source: &Source, fault: &Fault) -> Response<Bytes> {
        let request_id = entropy::uuid();
        let presented = Presented::read(parts).ok().flatten();
        let service = incoming::service(parts, &Bytes::new(), presented.as_ref());
        let Some(service) = service.or_else(|| service::find("sts")) else {
            return unknown::answer(parts, presented.as_ref(), &request_id);
        };
        let response = codec::encode_fault(service, fault, &request_id, response_form(parts));
        let record = Record { service: service.name.into(), ..Record::default() };
        self.record(record, &request_id, source, (response.status(), Some(fault)), 0);
        response
    }

    pub(crate) fn authenticate(
        &self,
        service: &'static Service,
        parts: &Parts,
        body: &Bytes,
        presented: Option<Presented>,
        source: Source,
        request_id: &str,
    ) -> Result<Caller, Fault> {
        let refuse = |why| refusal::unauthenticated(service, why);
        let now = self.0.clock.now();
        let Some(presented) = presented else {
            return match is_unsigned_operation(service, parts, body) {
                true => Ok(self.anonymous(parts, source, request_id)),
                false => Err(refuse(Unauthenticated::NotSigned)),
            };
        };
        // What is beside a presigned URL anybody may have added who holds it.
        let added = incoming::ADDED.iter().find(|it| {
            presented.style != Style::Header
                && parts.headers.contains_key(**it)
                && !presented.signs(it)
        });
        if let Some(name) = added {
            let problem = Problem::Incomplete(format!(
                "There were headers present in the request which were not signed: {name}"
            ));
            return Err(refuse(Unauthenticated::BadSignature(problem)));
        }
        let named = incoming::host(parts).and_then(service::by_host);
        if let Some(other) = named.filter(|it| it.name != presented.service) {
            let expected = other.name.to_owned();
            return Err(refuse(Unauthenticated::WrongService { expected }));
        }
        if presented.region != self.0.region {
            let expected = self.0.region.clone();
            let given = presented.region.clone();
            return Err(refuse(Unauthenticated::WrongRegion { given, expected }));
        }
        let id = &presented.access_key_id;
        let key = match local_root::is_meant(id, &source, parts.extensions.get::<Peer>()) {
            true => self.0.keys.iter().find_map(|it| it.root()).map(local_root::of),
            false => self.0.keys.iter().find_map(|it| it.access_key(id)),
        };
        let Some(key) = key.filter(|it| it.session_token == presented.session_token) else {
            return Err(refuse(Unauthenticated::UnknownKey));
        };
        presented
            .verify(parts, body, &key.secret, now)
            .map_err(|problem| refuse(Unauthenticated::BadSignature(problem)))?;
        if key.expires.is_some_and(|it| it <= now) {
            return Err(refuse(Unauthenticated::ExpiredToken));
        }
        let principal = key.principal;
        Ok(Caller {
            account: principal.account,
            arn: principal.arn,
            user_id: principal.user_id,
            access_key_id: presented.access_key_id,
            kind: principal.kind,
            tags: principal.tags,
            session: key.session_policies,
            session_context: key.session_context,
            ..self.anonymous(parts, source, request_id)
        })
    }

    fn anonymous(&self, parts: &Parts, source: Source, request_id: &str) -> Caller {
        let agent = parts.headers.get(http::header::USER_AGENT).and_then(|it| it.to_str().ok());
        let service =
            Caller::service("anonymous", &self.0.account, &self.0.region, self.0.clock.now());
        Caller {
            kind: CallerKind::Anonymous,
            source,
            request_id: request_id.to_owned(),
            user_agent: agent.unwrap_or_default().to_owned(),
            ..service
        }
    }

    /// The call, decoded and allowed.
    fn admit_call(
        &self,
        service: &'static Service,
        parts: &Parts,
        body: &Bytes,
        caller: Caller,
        record: &mut Record,
    ) -> Result<Admitted, Fault> {
        let caller = Arc::new(caller);
        record.caller = Some(caller.clone());
        let routes = self.0.routes.get().ok_or_else(refusal::not_ready)?;
        let Asked { action, mut tree, leaves } = incoming::read(service, routes, parts, body)?;
        record.action.clone_from(&action);
        let route = routes
            .find(service.name, &action)
            .ok_or_else(|| refusal::unknown_action(service, &action))?;
        let is_ec2 = service.protocol == Protocol::Ec2;
        let is_dry_run = is_ec2 && take_dry_run(&mut tree);
        // AWS's own calls do not count.
        if is_ec2
            && !caller.is_service()
            && self.0.rates.get().is_some_and(|it| !it.admit(&action, &tree))
        {
            return Err(refusal::busy());
        }
        // AWS's own calls are of these shapes.
        if is_ec2
            && !caller.is_service()
            && let Some(name) = parameters::unknown(&action, route.parameters(), &tree)
        {
            return Err(refusal::unknown_parameter(name));
        }
        let call =
            route.decode(tree, leaves).map_err(|error| refusal::misshapen(service, &error))?;
        let full_action = format!("{}:{action}", service.name);
        if !caller.is_service() && !is_free(&full_action) {
            for target in call.targets(&caller) {
                let decided = self.0.authorizer.decide(&caller, &full_action, &target);
                let denial =
                    (!decided.decision.is_allowed()).then(|| decided.denial(&caller, service.name));
                record.decided.push(decided);
                if let Some(denial) = denial {
                    return Err(denial);
                }
            }
        }
        record.is_admitted = true;
        if is_dry_run { Err(refusal::dry_run()) } else { Ok(Admitted { call, caller }) }
    }

    pub(crate) fn record(
        &self,
        record: Record,
        request_id: &str,
        source: &Source,
        answered: (StatusCode, Option<&Fault>),
        micros: u64,
    ) {
        let Record { service, action, caller, decided, is_admitted, passed_to } = record;
        let (status, fault) = answered;
        let is_denied = decided.iter().any(|it| !it.decision.is_allowed());
        let decision = match (is_denied, is_admitted) {
            (true, _) => Outcome::Denied,
            (false, true) => Outcome::Allowed,
            (false, false) => Outcome::Refused,
        };
        let actions = actions(&format!("{service}:{action}"), &decided);
        self.0.events.record(Event {
            at: self.0.clock.now(),
            request_id: request_id.to_owned(),
            service: shortened(service.into_owned()),
            action: shortened(action),
            principal: caller.map(|it| it.arn.clone()).unwrap_or_default(),
            source: source.to_string(),
            decision,
            by: decided.last().and_then(Decided::by),
            actions,
            resources: decided.into_iter().take(LISTED).map(|it| shortened(it.resource)).collect(),
            status: status.as_u16(),
            code: fault.map(|it| it.code.to_string()),
            message: fault.map(|it| shortened(it.message.clone())),
            passed_to,
            micros,
        });
    }
}

/// What is remembered of a list, and of a text, in bytes: callers choose both, also those whom nobody
/// knows.
const LISTED: usize = 50;
const TOLD: usize = 2048;

fn shortened(mut text: String) -> String {
    if text.len() > TOLD {
        text.truncate(text.floor_char_boundary(TOLD));
        text.push('…');
        text.shrink_to_fit();
    }
    text
}

/// Of each decision, if one is of another action than the call's own, such as `iam:PassRole` beside the call's own.
fn actions(own: &str, decided: &[Decided]) -> Vec<String> {
    let is_own = decided.iter().all(|it| it.action == own);
    let told = decided.iter().take(LISTED).map(|it| shortened(it.action.clone()));
    if is_own { Vec::new() } else { told.collect() }
}

/// Nobody needs a permission for these, and STS decides on `AssumeRole…` itself: a trust policy has
/// a say there.
fn is_free(action: &str) -> bool {
    const FREE: [&str; 3] =
        ["sts:GetCallerIdentity", "sts:GetSessionToken", "sts:AssumeRoleWithWebIdentity"];
    FREE.contains(&action)
}

/// The token is all that such a caller has.
fn is_unsigned_operation(service: &Service, parts: &Parts, body: &Bytes) -> bool {
    service.name == "sts"
        && incoming::action(service, parts, body)
            .is_ok_and(|action| action == "AssumeRoleWithWebIdentity")
}

fn take_dry_run(tree: &mut Value) -> bool {
    let flag = tree.as_object_mut().and_then(|it| it.remove("DryRun"));
    flag.and_then(|it| it.as_str().map(|it| it.eq_ignore_ascii_case("true"))).unwrap_or(false)
}

fn response_form(parts: &Parts) -> Form {
    let accepts = parts.headers.get(ACCEPT).and_then(|it| it.to_str().ok()).unwrap_or_default();
    if accepts.contains("application/json") { Form::Json } else { Form::Native }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_text_the_beginning_is_remembered() {
        assert_eq!(shortened("short".to_owned()), "short");
        let long = shortened("é".repeat(1 << 20));
        assert!(long.len() <= TOLD + 3 && long.capacity() < 2 * TOLD, "{}", long.len());
        assert!(long.ends_with('…'));
    }
}
