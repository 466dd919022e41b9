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
use tokio::time::Instant;

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
}

impl Elector {
    pub fn new(client: Client, election: Election, clock: Clock) -> Self {
        let api = Api::namespaced(client, &election.namespace);
        Self { api, election, clock, seen: None }
    }

    /// Returns once the Lease is held.
    pub async fn acquire(&mut self) {
        while !self.try_once().await {
            tokio::time::sleep(self.election.retry_period).await;
        }
        tracing::info!(identity = self.election.identity, "successfully acquired lease");
    }

    /// Keeps the Lease; returns when it is lost. To be called as soon as it is held.
    pub async fn hold(&mut self) {
        let limit = self.election.renew_deadline;
        let mut until = Instant::now() + limit;
        loop {
            tokio::time::sleep(self.election.retry_period).await;
            // The others may count from the moment at which this one asks, not that of the answer.
            let next = Instant::now() + limit;
            let held = tokio::time::timeout_at(until, self.try_once()).await;
            if held == Ok(true) {
                until = next;
            } else if until <= Instant::now() {
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
        let now = self.clock.now();
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
