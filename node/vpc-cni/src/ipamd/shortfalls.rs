//! Tells about pods that got no address: the cause at once, the story about it in the background.

use std::time::Duration;

use api_cni::backend::Sandbox;
use ipam::Survey;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::{Ipamd, IpamdError};
use crate::{plan::Plan, shortage::Shortage};

/// Pods of which nothing was told yet; further ones are left out.
pub(super) const PENDING: usize = 64;
/// A survey is used again for this long: a burst of pods fails for one reason.
const FRESH: Duration = Duration::from_secs(15);
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// After a subnet ran out nothing is asked of EC2 for this long.
const PAUSE: Duration = Duration::from_secs(120);

/// A pod without an address.
#[derive(Clone, Debug)]
pub(super) struct Shortfall {
    sandbox: Sandbox,
    shortage: Shortage,
}

/// Why growing failed, until it works again.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    shortage: Shortage,
    times: u32,
    pub(super) retry_at: Timestamp,
}

impl Ipamd {
    /// Takes note of how growing went, and so when it is tried again.
    ///
    /// Deviation: upstream tries again every 5 s; here the time between tries grows to 30 s, and an
    /// ADD cannot shorten it.
    pub(super) fn note_growth(&self, done: &Result<(), IpamdError>) {
        let now = self.parts.clock.now();
        let mut pool = self.pool.lock();
        let error = match done {
            Ok(()) => {
                pool.failure = None;
                return;
            }
            Err(error) => error,
        };
        // What failed may have been done: the next step is planned from what there is.
        pool.last_reconcile = None;
        let subnet = pool.subnet.clone();
        let is_exhausted =
            matches!(error, IpamdError::Cloud { source } if source.is_subnet_exhausted());
        if is_exhausted {
            warn!(
                subnet,
                "the subnet doesn't seem to have enough IPs/Prefixes: no allocation for {PAUSE:?}"
            );
            pool.paused_until = Some(now + PAUSE);
        }
        let times = pool.failure.as_ref().map_or(0, |it| it.times) + 1;
        let longest = FIRST_RETRY.saturating_mul(1 << (times - 1).min(16)).min(LAST_RETRY);
        let half = u64::try_from(longest.as_millis() / 2).unwrap_or(u64::MAX);
        let retry_at = now + Duration::from_millis(half + entropy::below(half.max(1)));
        let shortage = shortage_of(error, subnet);
        pool.failure = Some(Failure { shortage, times, retry_at });
    }

    /// Why nothing is free, given that `plan` is the pool's next step.
    pub(super) fn shortage(&self, plan: &Plan) -> Shortage {
        let now = self.parts.clock.now();
        // An old failure explains nothing once growing would be possible or is not wanted.
        let is_held_up = plan.step.is_growth() || self.is_paused();
        if let Some(failure) = &self.pool.lock().failure
            && (is_held_up || now < failure.retry_at)
        {
            return failure.shortage.clone();
        }
        let store = self.store.lock();
        if store.resting(now) > 0 {
            return Shortage::Cooling;
        }
        let (enis, stock) = (store.enis().count(), store.stock());
        let is_full = enis >= self.parts.limits.max_enis && stock.available() == 0;
        if is_full && !plan.step.is_growth() {
            return Shortage::NodeAtLimit { enis, addresses: stock.total };
        }
        Shortage::Other { reason: plan.reason.clone() }
    }

    /// Has the pod told about, if there is room.
    pub(super) fn report(&self, sandbox: &Sandbox, shortage: &Shortage) {
        let shortfall = Shortfall { sandbox: sandbox.clone(), shortage: shortage.clone() };
        if self.shortfalls.try_send(shortfall).is_err() {
            debug!(pod = sandbox.pod_name, "too many pods without addresses to tell about each");
        }
    }

    /// Emits an event on each pod that got no address, until it is dropped.
    pub async fn tell(&self) {
        let receiver = self.untold.lock().take();
        let Some(mut receiver) = receiver else { return };
        let Some(events) = &self.parts.events else { return };
        let mut surveys = Surveys::default();
        while let Some(Shortfall { sandbox, shortage }) = receiver.recv().await {
            let message = self.story(&mut surveys, &shortage).await;
            events.shortage(&sandbox, shortage.reason(), message);
        }
    }

    /// What is told about a pod that got no address for this cause.
    pub async fn story_of(&self, shortage: &Shortage) -> String {
        self.story(&mut Surveys::default(), shortage).await
    }

    async fn story(&self, surveys: &mut Surveys, shortage: &Shortage) -> String {
        let now = self.parts.clock.now();
        if let Some(subnet) = shortage.subnet()
            && !surveys.is_fresh(subnet, now)
        {
            surveys.last = self.survey(subnet).await.map(|survey| (now, survey));
        }
        let is_meant =
            |it: &&(Timestamp, Survey)| Some(it.1.subnet_id.as_str()) == shortage.subnet();
        let survey = surveys.last.as_ref().filter(is_meant).map(|(_, survey)| survey);
        shortage.message(survey)
    }

    /// As far as the node's role may see.
    async fn survey(&self, subnet: &str) -> Option<Survey> {
        let cloud = self.parts.cloud.as_ref()?;
        let described = cloud.subnet(subnet).await;
        let described = described.inspect_err(|error| unseen(subnet, error)).ok().flatten()?;
        let enis = cloud.find_enis(&[("subnet-id", subnet)]).await;
        let enis = enis.inspect_err(|error| unseen(subnet, error)).unwrap_or_default();
        Survey::of(&described, &enis)
    }
}

fn unseen(subnet: &str, error: &crate::cloud::CloudError) {
    debug!(subnet, error = %telemetry::chain(error), "the subnet cannot be surveyed");
}

fn shortage_of(error: &IpamdError, subnet: Option<String>) -> Shortage {
    let words = || telemetry::chain(error).to_string();
    match error {
        IpamdError::Cloud { source } if source.is_fragmented() => {
            Shortage::PrefixFragmented { subnet: subnet.unwrap_or_default() }
        }
        IpamdError::Cloud { source } if source.is_subnet_exhausted() => {
            Shortage::SubnetExhausted { subnet: subnet.unwrap_or_default() }
        }
        IpamdError::Cloud { source } if source.is_unauthorized() => {
            Shortage::Unauthorized { error: words() }
        }
        IpamdError::Cloud { source } if source.is_throttled() => {
            Shortage::Throttled { error: words() }
        }
        IpamdError::NoEniConfig { name } => Shortage::NoEniConfig { name: name.clone() },
        _ => Shortage::Other { reason: words() },
    }
}

/// The last survey, and when it was made.
#[derive(Default)]
struct Surveys {
    last: Option<(Timestamp, Survey)>,
}

impl Surveys {
    fn is_fresh(&self, subnet: &str, now: Timestamp) -> bool {
        self.last.as_ref().is_some_and(|(at, it)| it.subnet_id == subnet && now < *at + FRESH)
    }
}

pub(super) type Receiver = mpsc::Receiver<Shortfall>;
