//! Leader election by a Lease: of several replicas one works.
//!
//! Upstream: `client-go/tools/leaderelection` over a `coordination.k8s.io/v1` Lease.
//! **Invariant:** whoever has not renewed for the renew deadline stops, before anybody else may
//! take over.

use std::time::Duration;

use clock::Clock;
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use lifecycle::Scope;
use tokio::time::Instant;

use crate::Recorder;

/// How long what was begun may take to end, and the release of the Lease after it.
const END: Duration = Duration::from_secs(10);

/// Why leading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Asked,
    /// Another leads, or may do so soon.
    LostLease,
}

/// Works as the leader until `asked` is over or the Lease is lost. All work is below `scope`, which
/// is over then; only after that a Lease that is still held is given back.
pub async fn lead<F: Future<Output = ()>>(
    client: Client,
    election: Option<Election>,
    clock: Clock,
    scope: &Scope,
    asked: impl Future<Output = ()>,
    work: impl FnOnce() -> F,
) -> Ended {
    let mut elector = election.map(|it| Elector::new(client, it, clock));
    let leading = async {
        let Some(elector) = &mut elector else { return work().await };
        elector.acquire().await;
        tokio::select! {
            () = work() => {}
            () = elector.hold() => {}
        }
    };
    let ended = tokio::select! {
        () = leading => Ended::LostLease,
        () = asked => Ended::Asked,
    };
    let is_over = scope.drain(END).await;
    if let (Ended::Asked, true, Some(elector)) = (ended, is_over, &mut elector)
        && tokio::time::timeout(END, elector.release()).await.is_err()
    {
        tracing::warn!("the lease was not released in time");
    }
    ended
}

/// Tells by an event about the Lease who leads from now on.
pub fn announce(client: Client, election: &Election, component: &str, clock: Clock, scope: &Scope) {
    let lease = Lease {
        metadata: ObjectMeta {
            namespace: Some(election.namespace.clone()),
            name: Some(election.name.clone()),
            ..ObjectMeta::default()
        },
        spec: None,
    };
    let recorder = Recorder::new(client, component, clock, scope);
    recorder.normal(&lease, "LeaderElection", format!("{} became leader", election.identity));
}

/// What the `--leader-elect-…` flags say.
#[derive(Clone, Debug)]
pub struct Election {
    pub namespace: String,
    pub name: String,
    pub identity: String,
    pub lease_duration: Duration,
    pub renew_deadline: Duration,
    pub retry_period: Duration,
}

impl Election {
    /// What is wrong with the durations, in client-go's words.
    pub fn check(&self) -> Result<(), String> {
        if self.lease_duration <= self.renew_deadline {
            return Err("leaseDuration must be greater than renewDeadline".to_owned());
        }
        // Upstream's tries are up to 1.2 times as far apart.
        if self.renew_deadline <= self.retry_period.mul_f64(1.2) {
            return Err("renewDeadline must be greater than retryPeriod*JitterFactor".to_owned());
        }
        if self.retry_period.is_zero() {
            return Err("retryPeriod must be greater than zero".to_owned());
        }
        Ok(())
    }
}

/// What to do with the Lease as it is.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Write(Box<LeaseSpec>),
    Wait,
}

/// A candidate. The holder's clock may be wrong: what counts is when this one saw the last renewal.
#[derive(Debug)]
pub struct Elector {
    api: Api<Lease>,
    election: Election,
    clock: Clock,
    seen: Option<(LeaseSpec, Timestamp)>,
    /// When the write that holds the Lease was begun.
    renewed: Option<Instant>,
}

impl Elector {
    pub fn new(client: Client, election: Election, clock: Clock) -> Self {
        let api = Api::namespaced(client, &election.namespace);
        Self { api, election, clock, seen: None, renewed: None }
    }

    /// Returns once the Lease is held.
    pub async fn acquire(&mut self) {
        let limit = self.election.renew_deadline;
        while tokio::time::timeout(limit, self.try_once()).await != Ok(true) {
            tokio::time::sleep(self.election.retry_period).await;
        }
        tracing::info!(identity = self.election.identity, "successfully acquired lease");
    }

    /// Keeps the Lease; returns when it is lost. To be called as soon as it is held.
    pub async fn hold(&mut self) {
        let limit = self.election.renew_deadline;
        loop {
            tokio::time::sleep(self.election.retry_period).await;
            // The others may count from the moment at which this one asked, not that of the answer.
            let until = self.renewed.unwrap_or_else(Instant::now) + limit;
            let held = tokio::time::timeout_at(until, self.try_once()).await;
            if held != Ok(true) && until <= Instant::now() {
                tracing::error!("lost the lease");
                return;
            }
        }
    }

    /// Lets others have the Lease at once, if it is held. Nothing may be done in its name any more.
    pub async fn release(&mut self) {
        let now = self.clock.now();
        let found = match self.api.get_opt(&self.election.name).await {
            Ok(Some(found)) => found,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(error = %telemetry::chain(&error), "cannot read the lease");
                return;
            }
        };
        let Some(spec) = found.spec.as_ref().and_then(|it| self.released(it, now)) else { return };
        let lease = Lease { spec: Some(spec), ..found };
        // Somebody else may have taken it since: the resource version keeps it theirs.
        match self.api.replace(&self.election.name, &PostParams::default(), &lease).await {
            Ok(_) => tracing::info!("released the lease"),
            Err(error) => {
                tracing::warn!(error = %telemetry::chain(&error), "cannot release the lease");
            }
        }
    }

    /// As client-go leaves it: nobody's, and run out in a second.
    fn released(&self, found: &LeaseSpec, now: Timestamp) -> Option<LeaseSpec> {
        let is_own = found.holder_identity.as_ref() == Some(&self.election.identity);
        is_own.then(|| LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            acquire_time: Some(MicroTime(now)),
            renew_time: Some(MicroTime(now)),
            ..found.clone()
        })
    }

    async fn try_once(&mut self) -> bool {
        let (now, begun) = (self.clock.now(), Instant::now());
        let name = self.election.name.clone();
        let found = match self.api.get_opt(&name).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(error = %telemetry::chain(&error), "cannot read the lease");
                return false;
            }
        };
        let step = self.plan(found.as_ref().and_then(|it| it.spec.as_ref()), now);
        let Step::Write(spec) = step else { return false };
        let mut lease = found.clone().unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            spec: None,
        });
        lease.spec = Some((*spec).clone());
        let parameters = PostParams::default();
        // The resource version keeps two from winning.
        let written = match found {
            None => self.api.create(&parameters, &lease).await,
            Some(_) => self.api.replace(&name, &parameters, &lease).await,
        };
        match written {
            Ok(_) => {
                self.seen = Some((*spec, now));
                self.renewed = Some(begun);
                true
            }
            Err(error) => {
                tracing::debug!(error = %telemetry::chain(&error), "cannot write the lease");
                false
            }
        }
    }

    fn plan(&mut self, found: Option<&LeaseSpec>, now: Timestamp) -> Step {
        let Some(found) = found else { return Step::Write(Box::new(self.spec(now, now, 0))) };
        if self.seen.as_ref().is_none_or(|(seen, _)| seen != found) {
            self.seen = Some((found.clone(), now));
        }
        let holder = found.holder_identity.as_deref().unwrap_or_default();
        let transitions = found.lease_transitions.unwrap_or(0);
        if holder == self.election.identity {
            let acquired = found.acquire_time.as_ref().map_or(now, |it| it.0);
            return Step::Write(Box::new(self.spec(acquired, now, transitions)));
        }
        let seen = self.seen.as_ref().map_or(now, |(_, at)| *at);
        let seconds = u64::try_from(found.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
        if !holder.is_empty() && seen + Duration::from_secs(seconds) > now {
            return Step::Wait;
        }
        Step::Write(Box::new(self.spec(now, now, transitions + 1)))
    }

    fn spec(&self, acquired: Timestamp, now: Timestamp, transitions: i32) -> LeaseSpec {
        let seconds = i32::try_from(self.election.lease_duration.as_secs()).unwrap_or(i32::MAX);
        LeaseSpec {
            holder_identity: Some(self.election.identity.clone()),
            lease_duration_seconds: Some(seconds),
            acquire_time: Some(MicroTime(acquired)),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use http::{Method, Request, Response};
    use http_body_util::BodyExt;
    use kube::client::Body;
    use parking_lot::Mutex;
    use serde_json::{Value, json};

    use super::*;

    /// A server with one Lease and optimistic concurrency.
    fn server() -> Client {
        let lease: Arc<Mutex<Option<Value>>> = Arc::default();
        let answer = move |request: Request<Body>| {
            let lease = lease.clone();
            async move {
                let method = request.method().clone();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let (code, answer) = step(&mut lease.lock(), &method, &body);
                let body = Body::from(serde_json::to_vec(&answer).unwrap());
                Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
            }
        };
        Client::new(tower::service_fn(answer), "default")
    }

    fn step(lease: &mut Option<Value>, method: &Method, body: &[u8]) -> (u16, Value) {
        let refused = |code: u16, reason: &str| {
            let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {},
                "status": "Failure", "message": reason, "reason": reason, "code": code });
            (code, status)
        };
        if *method == Method::GET {
            return lease.clone().map_or_else(|| refused(404, "NotFound"), |it| (200, it));
        }
        let mut new: Value = serde_json::from_slice(body).unwrap();
        let known = lease.as_ref().map(|it| it["metadata"]["resourceVersion"].clone());
        if known.clone().unwrap_or_default() != new["metadata"]["resourceVersion"] {
            return refused(409, "Conflict");
        }
        let next = known.and_then(|it| it.as_str()?.parse::<u64>().ok()).unwrap_or(0) + 1;
        new["metadata"]["resourceVersion"] = json!(next.to_string());
        *lease = Some(new.clone());
        (200, new)
    }

    fn election(identity: &str) -> Election {
        Election {
            namespace: "kube-system".into(),
            name: "test".into(),
            identity: identity.into(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_works_at_a_time_and_the_next_begins_when_the_lease_is_given_back() {
        let (client, clock) = (server(), Clock::simulated(Timestamp::UNIX_EPOCH));
        let working = Arc::new(AtomicUsize::new(0));
        let candidate = |name: &'static str, seconds: u64| {
            let (client, working) = (client.clone(), working.clone());
            async move {
                let scope = Scope::new();
                let asked = tokio::time::sleep(Duration::from_secs(seconds));
                let work = || async move {
                    assert_eq!(working.fetch_add(1, Ordering::SeqCst), 0, "{name} is not alone");
                    let _guard = Guard(working);
                    std::future::pending::<()>().await;
                };
                let ended = lead(client, Some(election(name)), clock, &scope, asked, work).await;
                (ended, clock.now())
            }
        };
        let (first, second) = tokio::join!(candidate("a", 60), candidate("b", 90));
        assert_eq!((first.0, second.0), (Ended::Asked, Ended::Asked));
        let found = Api::<Lease>::namespaced(client, "kube-system").get("test").await.unwrap();
        let spec = found.spec.unwrap();
        assert_eq!(
            spec.lease_transitions,
            Some(1),
            "b led after a, without waiting for it to run out"
        );
        assert_eq!(spec.holder_identity.as_deref(), Some(""));
    }

    #[tokio::test(start_paused = true)]
    async fn the_new_leader_is_told_by_an_event() {
        let events: Arc<Mutex<Vec<Value>>> = Arc::default();
        let seen = events.clone();
        let answer = move |request: Request<Body>| {
            let seen = seen.clone();
            async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                seen.lock().push(json!([path, serde_json::from_slice::<Value>(&body).unwrap()]));
                Ok::<_, Infallible>(Response::new(Body::from(body.to_vec())))
            }
        };
        let client = Client::new(tower::service_fn(answer), "default");
        let (clock, scope) = (Clock::simulated(Timestamp::UNIX_EPOCH), Scope::new());
        announce(client, &election("host_1"), "default-scheduler", clock, &scope);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let told = events.lock()[0].clone();
        assert_eq!(told[0], "/api/v1/namespaces/kube-system/events");
        let event = &told[1];
        assert_eq!(event["involvedObject"]["kind"], "Lease");
        assert_eq!(event["source"]["component"], "default-scheduler");
        let said = (event["reason"].as_str(), event["message"].as_str());
        assert_eq!(said, (Some("LeaderElection"), Some("host_1 became leader")));
    }

    #[test]
    fn durations_that_would_let_two_lead_are_refused() {
        let check = |lease: u64, renew: u64, retry: u64| {
            let [lease_duration, renew_deadline, retry_period] =
                [lease, renew, retry].map(Duration::from_secs);
            let election =
                Election { lease_duration, renew_deadline, retry_period, ..election("a") };
            election.check().err().unwrap_or_default()
        };
        assert_eq!(check(15, 10, 2), "");
        assert_eq!(check(10, 10, 2), "leaseDuration must be greater than renewDeadline");
        let jitter = "renewDeadline must be greater than retryPeriod*JitterFactor";
        assert_eq!(check(15, 10, 9), jitter);
        assert_eq!(check(15, 10, 0), "retryPeriod must be greater than zero");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_whose_taking_was_answered_late_is_held_no_longer_for_that() {
        let server = server();
        // The answer to the first write takes nine seconds.
        let slow = Arc::new(AtomicUsize::new(0));
        let service = move |request: Request<Body>| {
            let (inner, slow) = (server.clone(), slow.clone());
            async move {
                let is_write = request.method() != Method::GET;
                if is_write && slow.fetch_add(1, Ordering::SeqCst) > 0 {
                    std::future::pending::<()>().await;
                }
                let answer = inner.send(request).await.unwrap();
                if is_write {
                    tokio::time::sleep(Duration::from_secs(9)).await;
                }
                Ok::<_, Infallible>(answer)
            }
        };
        let client = Client::new(tower::service_fn(service), "default");
        let clock = Clock::simulated(Timestamp::UNIX_EPOCH);
        let mut elector = Elector::new(client, election("a"), clock);
        elector.acquire().await;
        elector.hold().await;
        assert!(clock.now() <= Timestamp::from_second(12).unwrap(), "{}", clock.now());
    }

    struct Guard(Arc<AtomicUsize>);

    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
