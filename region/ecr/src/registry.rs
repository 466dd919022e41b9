//! The OCI distribution API (v2): what container runtimes pull from and push to.
//!
//! Which registry is meant: containerd's `?ns=` for mirrored names, else the host. ECR's hosts ask
//! for a password and IAM decides; other names are public, and can only be read.
//!
//! Source: OCI distribution specification 1.1; ECR's refusals as its registry words them.

mod abandoned;
mod answer;
mod blobs;
mod manifests;
mod uploads;

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{AUTHORIZATION, HOST},
    request::Parts,
};
use http_body_util::BodyExt;
use hyper::body::Body as HttpBody;
use iam_policy::{Named, Policy};
use region_gateway::{Caller, Decided, Event, Outcome, Side, Target};
use tower::Service;
use transport::{Body, BoxError, Peer};

use self::answer::Refusal;
use crate::{
    Ecr,
    api::tagged,
    names::{self, RepositoryId},
    records::Repository,
    tokens::PasswordError,
};

/// The registry of all hosts. Cheap to clone.
#[derive(Clone)]
pub struct RegistryService {
    ecr: Arc<Ecr>,
    /// Of the listener: policies may ask where a request comes from.
    side: Side,
}

/// A request that is allowed to go on to `repository`.
struct Call<'a> {
    ecr: &'a Arc<Ecr>,
    /// `None` for public names.
    caller: Option<Caller>,
    id: RepositoryId,
    parts: &'a Parts,
}

/// What a path names, behind the repository.
enum Route<'a> {
    Manifest(&'a str),
    Blob(&'a str),
    Upload(&'a str),
    Tags,
}

impl RegistryService {
    pub(crate) fn new(ecr: Arc<Ecr>, side: Side) -> Self {
        Self { ecr, side }
    }

    /// Whether the request is for a registry, going by its host: for those who serve several
    /// services at one address.
    pub fn is_for_registry(&self, headers: &HeaderMap, authority: Option<&str>) -> bool {
        let host = headers.get(HOST).and_then(|it| it.to_str().ok()).or(authority);
        host.map(bare).is_some_and(|host| {
            names::account_of(host).is_some() || names::is_mirror(host, &self.ecr.config.region)
        })
    }

    async fn answer(&self, parts: &Parts, body: Body) -> Response<Body> {
        let started = tokio::time::Instant::now();
        let registry = registry_of(parts);
        let caller = match self.caller(parts, &registry) {
            Ok(caller) => caller,
            Err(refusal) => return refusal.render(&registry),
        };
        let response = match self.route(parts, &registry, caller.clone(), body).await {
            Ok(response) => response,
            Err(refusal) => refusal.render(&registry),
        };
        if let Some(caller) = &caller {
            self.record(caller, response.status(), started);
        }
        response
    }

    /// Each decision of the request, as the call of ECR's API that it stands for.
    fn record(&self, caller: &Caller, status: StatusCode, started: tokio::time::Instant) {
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        for decided in caller.decisions.take() {
            let is_allowed = decided.decision.is_allowed();
            let refusal = (!is_allowed).then(|| decided.denial(caller, "ecr"));
            let (_, action) = decided.action.split_once(':').unwrap_or(("", &decided.action));
            self.ecr.config.gateway.events().record(Event {
                at: self.ecr.config.clock.now(),
                request_id: caller.request_id.clone(),
                service: "ecr".to_owned(),
                action: action.to_owned(),
                principal: caller.arn.clone(),
                source: caller.source.to_string(),
                decision: if is_allowed { Outcome::Allowed } else { Outcome::Denied },
                by: decided.by(),
                resources: vec![decided.resource],
                actions: Vec::new(),
                status: status.as_u16(),
                code: refusal.as_ref().map(|it| it.code.to_string()),
                message: refusal.map(|it| it.message),
                passed_to: None,
                micros,
            });
        }
    }

    async fn route(
        &self,
        parts: &Parts,
        registry: &str,
        caller: Option<Caller>,
        body: Body,
    ) -> Result<Response<Body>, Refusal> {
        let path = parts.uri.path();
        let Some(rest) = path.strip_prefix("/v2/").or((path == "/v2").then_some("")) else {
            return Err(Refusal::not_found());
        };
        if rest.is_empty() {
            return Ok(answer::ok());
        }
        let (name, route) = split(rest).ok_or_else(Refusal::not_found)?;
        if !names::is_repository(name) {
            return Err(Refusal::bad_name(name));
        }
        let call = Call { ecr: &self.ecr, caller, id: RepositoryId::new(registry, name), parts };
        match route {
            Route::Manifest(reference) => call.manifest(reference, body).await,
            Route::Blob(digest) => call.blob(digest).await,
            Route::Upload(id) => call.upload(id, body).await,
            Route::Tags => call.tags(),
        }
    }

    /// Who asks, at ECR's hosts.
    fn caller(&self, parts: &Parts, registry: &str) -> Result<Option<Caller>, Refusal> {
        let Some((_, region)) = names::account_of(registry) else {
            let is_read = matches!(parts.method, Method::GET | Method::HEAD);
            return if is_read { Ok(None) } else { Err(Refusal::read_only(registry)) };
        };
        if region != self.ecr.config.region {
            return Err(Refusal::not_found());
        }
        let password = match password(&parts.headers) {
            Some(password) => password,
            None => query(parts, "token").ok_or(Refusal::Unauthenticated)?,
        };
        let now = self.ecr.config.clock.now();
        match self.ecr.tokens.open_sealed(&password, now) {
            Ok(caller) => {
                let source = self.side.source(parts.extensions.get::<Peer>());
                self.limited(Caller { source, ..caller }).map(Some)
            }
            Err(error @ PasswordError::Expired) => Err(Refusal::denied(error.to_string())),
            Err(PasswordError::Forged) => Err(Refusal::Unauthenticated),
        }
    }
}

impl RegistryService {
    /// The caller with the policies of the session that asked for the password. Services of the
    /// region have no key, and no session.
    fn limited(&self, caller: Caller) -> Result<Caller, Refusal> {
        if caller.access_key_id.is_empty() {
            return Ok(caller);
        }
        // `None`: the key, its user or its role is gone.
        let limited = self.ecr.config.gateway.with_session(caller);
        limited.ok_or_else(|| Refusal::denied(PasswordError::Expired.to_string()))
    }
}

impl Call<'_> {
    /// IAM's decision on `ecr:ACTION`; public names need none.
    fn require(&self, action: &str) -> Result<(), Refusal> {
        let Some(caller) = &self.caller else { return Ok(()) };
        self.ecr.require(caller, &format!("ecr:{action}"), &self.id).map_err(Refusal::denied)
    }

    fn repository(&self) -> Result<Arc<Repository>, Refusal> {
        self.ecr.catalog.repository(&self.id).ok_or_else(|| Refusal::no_repository(&self.id))
    }

    fn query(&self, key: &str) -> Option<String> {
        query(self.parts, key)
    }

    fn tags(&self) -> Result<Response<Body>, Refusal> {
        if self.parts.method != Method::GET {
            return Err(Refusal::method());
        }
        self.require("ListImages")?;
        self.repository()?;
        let tags = self.ecr.catalog.tags(&self.id).into_iter().map(|(tag, _)| tag);
        let tags: Vec<String> = tags.collect();
        Ok(answer::json(&serde_json::json!({"name": self.id.name, "tags": tags})))
    }
}

impl Ecr {
    /// Allows, or gives AWS's words for no.
    ///
    /// Another account's repository needs the caller's own policies and, where it has one, its own.
    pub(crate) fn require(
        &self,
        caller: &Caller,
        action: &str,
        id: &RepositoryId,
    ) -> Result<(), String> {
        let account = id.account().map_or(caller.account.as_str(), |(account, _)| account);
        let region = &self.config.region;
        let arn = format!("arn:aws:ecr:{region}:{account}:repository/{}", id.name);
        let refused = self.decide(caller, action, id, &arn);
        refused.map_or(Ok(()), |it| Err(it.denial(caller, "ecr").message))
    }

    /// What keeps the caller from it, by their own policies or the repository's; of another account's
    /// repository both must allow it.
    pub(crate) fn decide(
        &self,
        caller: &Caller,
        action: &str,
        id: &RepositoryId,
        arn: &str,
    ) -> Option<Decided> {
        let account = id.account().map_or(caller.account.as_str(), |(account, _)| account);
        let known = self.catalog.repository(id);
        let tags = known.as_ref().map(|it| it.tags.clone()).unwrap_or_default();
        let target = tagged(Target::resource(arn), &tags);
        let is_foreign = account != caller.account;
        let policy = known.and_then(|it| policy_of(&it, arn));
        let authorizer = self.config.gateway.authorizer();
        let mut decided = vec![];
        if is_foreign || policy.is_none() {
            decided.push(authorizer.decide(caller, action, &target));
        }
        if let Some(policy) = policy {
            let policy = Some((policy, is_foreign));
            decided.push(authorizer.decide_on(caller, action, &target, policy));
        }
        let refused = decided.iter().position(|it| !it.decision.is_allowed());
        let deciding = decided.swap_remove(refused.unwrap_or(decided.len() - 1));
        caller.decisions.note(deciding.clone());
        refused.map(|_| deciding)
    }
}

fn policy_of(repository: &Repository, arn: &str) -> Option<Named> {
    let text = repository.policy.as_ref()?;
    // It was read when it was set; one that cannot be read now grants nothing and is reported.
    match Policy::parse(text, iam_policy::Kind::Resource) {
        Ok(policy) => Some(Named { name: arn.to_owned(), policy: Arc::new(policy) }),
        Err(error) => {
            tracing::error!(%error, arn, "a repository's policy is not readable");
            None
        }
    }
}

/// `name/manifests/REFERENCE` and so on; a name may hold slashes.
fn split(rest: &str) -> Option<(&str, Route<'_>)> {
    if let Some(at) = rest.rfind("/blobs/uploads") {
        let id = &rest[at + "/blobs/uploads".len()..];
        let is_whole = id.is_empty() || id.starts_with('/');
        return is_whole.then(|| (&rest[..at], Route::Upload(id.trim_matches('/'))));
    }
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return Some((name, Route::Tags));
    }
    let (head, last) = rest.rsplit_once('/')?;
    let (name, kind) = head.rsplit_once('/')?;
    match kind {
        "manifests" => Some((name, Route::Manifest(last))),
        "blobs" => Some((name, Route::Blob(last))),
        _ => None,
    }
}

fn registry_of(parts: &Parts) -> String {
    let host = parts.headers.get(HOST).and_then(|it| it.to_str().ok());
    let host = host
        .or_else(|| parts.uri.authority().map(http::uri::Authority::as_str))
        .unwrap_or_default();
    if names::account_of(bare(host)).is_some() {
        return bare(host).to_owned();
    }
    let given = query(parts, "ns").unwrap_or_else(|| host.to_owned());
    let ns = names::canonical_registry(&given);
    // A mirror's door is no way around the password.
    if names::account_of(bare(ns)).is_some() { bare(ns).to_owned() } else { ns.to_owned() }
}

fn bare(host: &str) -> &str {
    host.split(':').next().unwrap_or(host)
}

fn query(parts: &Parts, key: &str) -> Option<String> {
    let pairs = aws_wire::percent::pairs(parts.uri.query().unwrap_or_default());
    pairs.into_iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

/// The password of `Basic AWS:PASSWORD`.
fn password(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    (user == "AWS").then(|| password.to_owned())
}

impl<B> Service<Request<B>> for RegistryService
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let response = service.answer(&parts, body.map_err(Into::into).boxed_unsync()).await;
            let status: StatusCode = response.status();
            tracing::debug!(method = %parts.method, path = parts.uri.path(), %status, "registry");
            Ok(response)
        })
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
