//! Who the controllers are: all of them one identity, or a service account each.
//!
//! With `--use-service-account-credentials` a controller acts as its account in `kube-system`, with tokens
//! that are asked for before the last one ends. The first identity makes the accounts, reads what all
//! controllers watch, and does what upstream's controllers do not: local volumes, and the approval of
//! kubelets' serving certificates.
//!
//! Where an account may replace an object and not patch it, its patch becomes a [`replacement`].
//!
//! Upstream: `staging/src/k8s.io/controller-manager/pkg/clientbuilder`, and the names in
//! `cmd/kube-controller-manager/app`.

mod replacement;

use std::{collections::HashSet, sync::Arc, time::Duration};

use clock::Clock;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, InvalidHeaderValue},
    request::Parts,
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::ServiceAccount,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, api::PostParams, client::Body};
use serde_json::Value;
use tokio::sync::Mutex;
use tracing::{debug, info, warn};

use self::replacement::Place;

const NAMESPACE: &str = "kube-system";
/// How long a token is good for, in seconds.
const LIFETIME: i64 = 3600;
/// What a server's clock that is off may not shorten it to.
const SHORTEST: Duration = Duration::from_secs(600);
/// The first of the pauses between tries to get a token; each is twice the one before.
const PAUSE: Duration = Duration::from_millis(500);
const TRIES: u32 = 4;
/// How often an object is replaced that others write, too.
const REPLACEMENTS: u32 = 5;

/// As the API server says it of one who lacks the right, and of nothing else.
const MAY_NOT_PATCH: &str = "cannot patch resource";

/// The accounts of the controllers that upstream names so.
const NAMES: &[(&str, &str)] = &[
    ("certificatesigningrequest-approving-controller", "certificate-controller"),
    ("certificatesigningrequest-cleaner-controller", "certificate-controller"),
    ("certificatesigningrequest-signing-controller", "certificate-controller"),
    ("clusterrole-aggregation-controller", "clusterrole-aggregation-controller"),
    ("cronjob-controller", "cronjob-controller"),
    ("daemonset-controller", "daemon-set-controller"),
    ("deployment-controller", "deployment-controller"),
    ("device-taint-eviction-controller", "device-taint-eviction-controller"),
    ("disruption-controller", "disruption-controller"),
    ("endpoints-controller", "endpoint-controller"),
    ("endpointslice-controller", "endpointslice-controller"),
    ("endpointslice-mirroring-controller", "endpointslicemirroring-controller"),
    ("ephemeral-volume-controller", "ephemeral-volume-controller"),
    ("garbage-collector-controller", "generic-garbage-collector"),
    ("horizontal-pod-autoscaler-controller", "horizontal-pod-autoscaler"),
    ("job-controller", "job-controller"),
    (
        "kube-apiserver-serving-clustertrustbundle-publisher-controller",
        "kube-apiserver-serving-clustertrustbundle-publisher",
    ),
    ("legacy-serviceaccount-token-cleaner-controller", "legacy-service-account-token-cleaner"),
    ("namespace-controller", "namespace-controller"),
    ("node-lifecycle-controller", "node-controller"),
    ("persistentvolume-attach-detach-controller", "attachdetach-controller"),
    ("persistentvolume-binder-controller", "persistent-volume-binder"),
    ("persistentvolume-expander-controller", "expand-controller"),
    ("persistentvolume-protection-controller", "pv-protection-controller"),
    ("persistentvolumeclaim-protection-controller", "pvc-protection-controller"),
    ("pod-garbage-collector-controller", "pod-garbage-collector"),
    ("replicaset-controller", "replicaset-controller"),
    ("replicationcontroller-controller", "replication-controller"),
    ("resourceclaim-controller", "resource-claim-controller"),
    ("resourcequota-controller", "resourcequota-controller"),
    ("root-ca-certificate-publisher-controller", "root-ca-cert-publisher"),
    ("service-cidr-controller", "service-cidrs-controller"),
    ("serviceaccount-controller", "service-account-controller"),
    ("statefulset-controller", "statefulset-controller"),
    ("taint-eviction-controller", "node-controller"),
    ("token-cleaner-controller", "token-cleaner"),
    ("ttl-after-finished-controller", "ttl-after-finished-controller"),
    ("ttl-controller", "ttl-controller"),
    ("volumeattributesclass-protection-controller", "volumeattributesclass-protection-controller"),
];

/// The account of a controller. The one that signs tokens has none, as upstream's.
pub(crate) fn name(controller: &str) -> Option<&'static str> {
    NAMES.iter().find(|it| it.0 == controller).map(|it| it.1)
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Accounts {
    first: Client,
    /// A client that shows nothing. Where there is none, all are the first.
    bare: Option<Client>,
    clock: Clock,
}

impl Accounts {
    pub(crate) fn new(first: Client, bare: Option<Client>, clock: Clock) -> Self {
        Self { first, bare, clock }
    }

    pub(crate) fn first(&self) -> Client {
        self.first.clone()
    }

    /// The client of a controller.
    pub(crate) fn client(&self, controller: &str) -> Client {
        let Some(bare) = &self.bare else { return self.first() };
        let account = Arc::new(Account {
            first: self.first.clone(),
            bare: bare.clone(),
            name: name(controller),
            clock: self.clock,
            token: Mutex::default(),
            replaced: parking_lot::Mutex::default(),
        });
        let send = move |request| account.clone().send(request);
        Client::new(tower::service_fn(send), "default")
    }

    /// Makes the accounts of these controllers where they are missing, as upstream does at its start.
    pub(crate) async fn ensure(&self, is_on: impl Fn(&str) -> bool) {
        if self.bare.is_none() {
            return;
        }
        let mut names: Vec<_> = NAMES.iter().filter(|it| is_on(it.0)).map(|it| it.1).collect();
        names.sort_unstable();
        names.dedup();
        let made = names.into_iter().map(|name| async move {
            if let Err(error) = ensure(&self.first, name).await {
                warn!(name, error = %telemetry::chain(&error), "failed to make a service account");
            }
        });
        futures::future::join_all(made).await;
    }
}

/// Why there is no token of an account.
#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error("failed to get or create the service account")]
    Account {
        #[source]
        source: kube::Error,
    },
    #[error("failed to get a token of the service account")]
    Request {
        #[source]
        source: kube::Error,
    },
    #[error("there was no token in the answer")]
    Missing,
    #[error("the token cannot be in a header")]
    Unfit {
        #[source]
        source: InvalidHeaderValue,
    },
}

struct Account {
    first: Client,
    bare: Client,
    /// Without one it is the first identity, which may no more patch than others.
    name: Option<&'static str>,
    clock: Clock,
    token: Mutex<Option<Token>>,
    /// The kinds that it may not patch.
    replaced: parking_lot::Mutex<HashSet<String>>,
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    /// When the next one is asked for.
    renewal: Timestamp,
}

impl Account {
    async fn send(self: Arc<Self>, request: Request<Body>) -> Result<Response<Body>, Failure> {
        let Some(place) = Place::of(&request) else { return self.pass(request).await };
        let (head, body) = request.into_parts();
        let patch = body.collect_bytes().await?;
        if !self.replaced.lock().contains(&place.kind) {
            let sent = Request::from_parts(head.clone(), Body::from(patch.to_vec()));
            let response = self.pass(sent).await?;
            if response.status() != StatusCode::FORBIDDEN {
                return Ok(response);
            }
            let (answer, body) = response.into_parts();
            let said = body.collect_bytes().await?;
            if !String::from_utf8_lossy(&said).contains(MAY_NOT_PATCH) {
                return Ok(Response::from_parts(answer, Body::from(said.to_vec())));
            }
            debug!(account = self.name, place.kind, "replaces what it may not patch");
            self.replaced.lock().insert(place.kind.clone());
        }
        self.replace(&place, &head, &serde_json::from_slice(&patch)?).await
    }

    async fn replace(
        &self,
        place: &Place,
        head: &Parts,
        patch: &Value,
    ) -> Result<Response<Body>, Failure> {
        let is_guarded = patch["metadata"]["resourceVersion"].is_string();
        for _ in 1..REPLACEMENTS {
            let response = self.replace_once(place, head, patch).await?;
            if is_guarded || response.status() != StatusCode::CONFLICT {
                return Ok(response);
            }
        }
        self.replace_once(place, head, patch).await
    }

    async fn replace_once(
        &self,
        place: &Place,
        head: &Parts,
        patch: &Value,
    ) -> Result<Response<Body>, Failure> {
        let mut object = if place.is_scale {
            let mut get = Request::get(head.uri.path()).body(Body::empty())?;
            *get.headers_mut() = head.headers.clone();
            get.headers_mut().remove(CONTENT_TYPE);
            let response = self.pass(get).await?;
            if !response.status().is_success() {
                return Ok(response);
            }
            serde_json::from_slice(&response.into_body().collect_bytes().await?)?
        } else {
            let mut list = self.first.request::<Value>(place.listed()?).await?;
            match replacement::only(&mut list) {
                Some(object) => object,
                None => return Ok(replacement::not_found(place)?),
            }
        };
        replacement::merge(&mut object, patch);
        self.pass(replacement::replacing(head, &object)?).await
    }

    async fn pass(&self, mut request: Request<Body>) -> Result<Response<Body>, Failure> {
        let Some(name) = self.name else { return Ok(self.first.send(request).await?) };
        let shown = self.token(name).await?;
        request.headers_mut().insert(AUTHORIZATION, shown.clone());
        let response = self.bare.send(request).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            // The account was deleted, or the keys were changed: the next request shows another.
            self.token.lock().await.take_if(|it| it.header == shown);
        }
        Ok(response)
    }

    async fn token(&self, name: &'static str) -> Result<HeaderValue, TokenError> {
        let mut held = self.token.lock().await;
        if let Some(token) = held.as_ref().filter(|it| self.clock.now() < it.renewal) {
            return Ok(token.header.clone());
        }
        match (self.renewed(name).await, held.as_ref()) {
            (Ok(token), _) => Ok(held.insert(token).header.clone()),
            (Err(error), None) => Err(error),
            // It is good for a while.
            (Err(error), Some(old)) => {
                warn!(name, error = %telemetry::chain(&error), "token not renewed");
                Ok(old.header.clone())
            }
        }
    }

    async fn renewed(&self, name: &'static str) -> Result<Token, TokenError> {
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match self.ask(name).await {
                Err(error) => {
                    info!(name, error = %telemetry::chain(&error), "no token yet");
                }
                done => return done,
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.ask(name).await
    }

    async fn ask(&self, name: &'static str) -> Result<Token, TokenError> {
        ensure(&self.first, name).await?;
        let spec = TokenRequestSpec { expiration_seconds: Some(LIFETIME), ..Default::default() };
        let wanted = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let api = Api::<ServiceAccount>::namespaced(self.first.clone(), NAMESPACE);
        let answer = api.create_token_request(name, &PostParams::default(), &wanted).await;
        let answer = answer.map_err(|source| TokenError::Request { source })?;
        let status = answer.status.unwrap_or_default();
        let (Some(token), Some(end)) = (status.token, status.expiration_timestamp) else {
            return Err(TokenError::Missing);
        };
        let header = HeaderValue::try_from(format!("Bearer {token}"));
        let mut header = header.map_err(|source| TokenError::Unfit { source })?;
        header.set_sensitive(true);
        let lifetime = self.clock.until(end.0).max(SHORTEST);
        Ok(Token { header, renewal: clock::later(self.clock.now(), lifetime * 4 / 5) })
    }
}

/// What the client of an account ends with: its own failures, or those of the client below.
type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn ensure(first: &Client, name: &str) -> Result<(), TokenError> {
    let api = Api::<ServiceAccount>::namespaced(first.clone(), NAMESPACE);
    let failed = |source| TokenError::Account { source };
    if api.get_opt(name).await.map_err(failed)?.is_some() {
        return Ok(());
    }
    let account = ServiceAccount {
        metadata: ObjectMeta {
            namespace: Some(NAMESPACE.to_owned()),
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    };
    match api.create(&PostParams::default(), &account).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(source) => Err(failed(source)),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use parking_lot::Mutex as Lock;
    use serde_json::json;

    use super::*;
    use crate::Switches;

    /// An API server that gives numbered tokens and believes the last one only.
    #[derive(Clone, Default)]
    struct Server(Arc<Lock<Given>>);

    #[derive(Default)]
    struct Given {
        tokens: u32,
        accounts: Vec<String>,
        fails: bool,
        /// What was shown by each request that was let in.
        shown: Vec<String>,
    }

    const EPOCH: &str = "2026-11-23T12:00:00Z";

    impl Server {
        fn first(&self, clock: Clock) -> Client {
            let this = self.clone();
            client(move |request| this.give(&request, clock))
        }

        fn bare(&self) -> Client {
            let this = self.clone();
            client(move |request| {
                let mut given = this.0.lock();
                let shown = request.headers()[AUTHORIZATION].to_str().unwrap().to_owned();
                if shown != format!("Bearer t{}", given.tokens) {
                    return (401, json!({ "code": 401, "reason": "Unauthorized" }));
                }
                given.shown.push(shown);
                (
                    200,
                    json!({ "major": "1", "minor": "36", "gitVersion": "", "gitCommit": "",
                    "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": "" }),
                )
            })
        }

        fn give(&self, request: &Request<Body>, clock: Clock) -> (u16, Value) {
            let mut given = self.0.lock();
            let path = request.uri().path();
            let name = path.trim_end_matches("/token").rsplit('/').next().unwrap().to_owned();
            let is_there = given.accounts.contains(&name);
            match (request.method(), path.ends_with("/token")) {
                (&Method::POST, true) if given.fails => (500, json!({ "code": 500 })),
                (&Method::POST, true) => {
                    given.tokens += 1;
                    let ends = clock.now() + Duration::from_secs(3600);
                    (
                        201,
                        json!({ "metadata": {}, "spec": { "audiences": [] }, "status": {
                        "token": format!("t{}", given.tokens), "expirationTimestamp": ends.to_string() } }),
                    )
                }
                (&Method::POST, false) => {
                    given.accounts.push("deployment-controller".into());
                    (201, json!({ "metadata": {} }))
                }
                _ if is_there => (200, json!({ "metadata": {} })),
                _ => (404, json!({ "code": 404, "reason": "NotFound" })),
            }
        }
    }

    fn client(answer: impl Fn(Request<Body>) -> (u16, Value) + Clone + Send + 'static) -> Client {
        let service = tower::service_fn(move |request| {
            let (code, body) = answer(request);
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            let response = Response::builder().status(code).body(body).unwrap();
            async move { Ok::<_, std::convert::Infallible>(response) }
        });
        Client::new(service, "default")
    }

    fn accounts(server: &Server) -> Accounts {
        let clock = Clock::simulated(EPOCH.parse().unwrap());
        Accounts::new(server.first(clock), Some(server.bare()), clock)
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_asked_for_once_and_again_when_a_fifth_of_its_time_is_left() {
        let server = Server::default();
        let client = accounts(&server).client("deployment-controller");
        for (seconds, tokens) in [(0, 1), (2879, 1), (1, 2), (2879, 2), (1, 3)] {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            client.apiserver_version().await.unwrap();
            assert_eq!(server.0.lock().tokens, tokens, "after {seconds} s more");
        }
        assert_eq!(server.0.lock().accounts, ["deployment-controller"]);
        assert_eq!(server.0.lock().shown.len(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn where_a_token_cannot_be_renewed_the_old_one_is_shown_until_it_is_refused() {
        let server = Server::default();
        let client = accounts(&server).client("deployment-controller");
        client.apiserver_version().await.unwrap();
        server.0.lock().fails = true;
        tokio::time::sleep(Duration::from_secs(3000)).await;
        client.apiserver_version().await.unwrap();
        assert_eq!(server.0.lock().tokens, 1);
        // Nothing that was given before is believed any more.
        server.0.lock().tokens = 7;
        server.0.lock().fails = false;
        server.0.lock().accounts.clear();
        let fresh = accounts(&server).client("deployment-controller");
        fresh.apiserver_version().await.unwrap();
        server.0.lock().tokens += 1;
        fresh.apiserver_version().await.unwrap_err();
        fresh.apiserver_version().await.unwrap();
        assert_eq!(server.0.lock().tokens, 10, "a refused token is not shown again");
        assert_eq!(server.0.lock().accounts, ["deployment-controller"], "and the account is back");
    }

    #[tokio::test(start_paused = true)]
    async fn the_request_of_an_account_without_a_token_fails_and_says_why() {
        let server = Server::default();
        server.0.lock().fails = true;
        let client = accounts(&server).client("deployment-controller");
        let before = tokio::time::Instant::now();
        let error = client.apiserver_version().await.unwrap_err();
        assert!(
            telemetry::chain(&error).to_string().contains("failed to get a token"),
            "{error:?}"
        );
        assert_eq!(before.elapsed().as_millis(), 3500, "four tries");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_bare_client_and_for_the_signer_of_tokens_it_is_the_first_identity() {
        let server = Server::default();
        let shared = Accounts { bare: None, ..accounts(&server) };
        for client in [
            shared.client("deployment-controller"),
            accounts(&server).client("serviceaccount-token-controller"),
        ] {
            // It says what it thinks of a path that is no account.
            client.apiserver_version().await.unwrap_err();
        }
        shared.ensure(|_| true).await;
        let given = server.0.lock();
        assert_eq!((given.tokens, given.accounts.len()), (0, 0));
    }

    #[test]
    fn every_controller_but_the_one_that_signs_tokens_has_an_account() {
        for controller in Switches::names().split(", ") {
            let is_signer = controller == "serviceaccount-token-controller";
            assert_eq!(name(controller).is_none(), is_signer, "{controller}");
        }
        assert!(NAMES.iter().all(|it| Switches::names().contains(it.0)));
    }
}
