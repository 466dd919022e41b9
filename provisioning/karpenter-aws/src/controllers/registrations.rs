//! Whether the nodes of a pool join: the last four launches say it.
//!
//! Two of four that have failed make the pool's `NodeRegistrationHealthy` false; a pool or class that has
//! been changed is on trial anew. Nothing is decided by it: it is for whoever looks.
//!
//! Source: `pkg/state/nodepoolhealth` and `pkg/controllers/nodepool/registrationhealth`.

use std::collections::VecDeque;

use api_kube::karpenter::NodeClaim;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::conditions;

pub(super) const KIND: &str = "NodeRegistrationHealthy";
const LAST: usize = 4;
/// So many of them make it unhealthy.
const FAILED: usize = 2;

/// How the last launches of one pool went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Registrations {
    has_joined: VecDeque<bool>,
    /// What is said: a node that joins makes a pool healthy, and one that does not an ill one.
    is_healthy: Option<bool>,
    /// Of the last that failed: reason and message.
    failure: (String, String),
}

/// Why a claim's node has not joined: what the launch says, or that the node was never seen.
pub(super) fn failure(claim: &NodeClaim) -> (String, String) {
    let launched = claim.status.as_ref().and_then(|status| {
        let launched = status.conditions.iter().find(|it| it.type_ == "Launched")?;
        (launched.status != "True").then(|| (launched.reason.clone(), launched.message.clone()))
    });
    launched.unwrap_or_else(|| ("RegistrationFailed".into(), "Failed to register node".into()))
}

impl Registrations {
    /// As a Karpenter before this one has left it.
    pub(super) fn known(conditions: &[Condition]) -> Self {
        let known = conditions.iter().find(|it| it.type_ == KIND);
        let mut registrations = Self::default();
        match known.map(|it| (it.status.as_str(), it)) {
            Some(("True", _)) => registrations.joined(),
            Some(("False", it)) => {
                let failure = (it.reason.clone(), it.message.clone());
                (0..FAILED).for_each(|_| registrations.failed(failure.clone()));
            }
            _ => {}
        }
        registrations
    }

    pub(super) fn joined(&mut self) {
        if self.note(true) < FAILED {
            self.is_healthy = Some(true);
        }
    }

    pub(super) fn failed(&mut self, failure: (String, String)) {
        self.failure = failure;
        if self.note(false) >= FAILED {
            self.is_healthy = Some(false);
        }
    }

    /// How many of the last have failed now.
    fn note(&mut self, has_joined: bool) -> usize {
        if self.has_joined.len() == LAST {
            self.has_joined.pop_front();
        }
        self.has_joined.push_back(has_joined);
        self.has_joined.iter().filter(|it| !**it).count()
    }

    /// Says it in the pool's conditions. `is_changed`: the pool or its class is another than when
    /// they were last looked at.
    pub(super) fn say(
        &mut self,
        all: &mut Vec<Condition>,
        is_changed: bool,
        generation: Option<i64>,
        now: Timestamp,
    ) {
        if is_changed {
            *self = Self::default();
        }
        let (reason, message) = match self.is_healthy {
            None => ("AwaitingReconciliation", "object is awaiting reconciliation"),
            Some(true) => (KIND, ""),
            Some(false) => (self.failure.0.as_str(), self.failure.1.as_str()),
        };
        conditions::set(all, KIND, self.is_healthy, reason, message, generation, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(registrations: &mut Registrations, is_changed: bool) -> (String, String) {
        let mut all = Vec::new();
        registrations.say(&mut all, is_changed, Some(1), Timestamp::UNIX_EPOCH);
        (all[0].status.clone(), all[0].reason.clone())
    }

    fn said(status: &str, reason: &str) -> (String, String) {
        (status.to_owned(), reason.to_owned())
    }

    #[test]
    fn two_of_the_last_four_that_failed_make_a_pool_unhealthy() {
        let mut of = Registrations::default();
        assert_eq!(status(&mut of, false), said("Unknown", "AwaitingReconciliation"));
        of.joined();
        of.failed(("RegistrationFailed".into(), String::new()));
        assert_eq!(status(&mut of, false), said("True", KIND));
        of.failed(("InsufficientCapacity".into(), String::new()));
        assert_eq!(status(&mut of, false), said("False", "InsufficientCapacity"));
        of.joined();
        assert_eq!(status(&mut of, false).0, "False");
        of.joined();
        of.joined();
        assert_eq!(status(&mut of, false), said("True", KIND), "the older ones do not count");
        assert_eq!(status(&mut of, true), said("Unknown", "AwaitingReconciliation"));
    }

    #[test]
    fn a_restart_goes_on_from_what_the_pool_says() {
        let mut before = Registrations::default();
        before.failed(("RegistrationFailed".into(), "m".into()));
        before.failed(("RegistrationFailed".into(), "m".into()));
        let mut all = Vec::new();
        before.say(&mut all, false, Some(1), Timestamp::UNIX_EPOCH);
        let mut after = Registrations::known(&all);
        assert_eq!(after, before);
        after.joined();
        assert_eq!(status(&mut after, false).0, "False");
        assert_eq!(Registrations::known(&[]), Registrations::default());
    }
}
