//! Conditions that become another status are told of as events, and counted, as upstream's operators
//! do; and how long objects took to go.
//!
//! What an object's `Ready` depends on is unknown until somebody has said it; of other conditions the
//! first word is no transition. Of an object that was there before, nothing is told.
//!
//! Upstream: `status` of awslabs/operatorpkg.

use std::sync::Arc;

use clock::Clock;
use controller::{Recorder, Store};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::NodeCondition, apimachinery::pkg::apis::meta::v1::Condition as OfKarpenter,
};
use kube::Resource;

use crate::metrics::{Metrics, OfKind};

/// A condition, of whichever type it is.
pub(in crate::controllers) trait Condition {
    fn kind(&self) -> &str;
    fn status(&self) -> &str;
    fn reason(&self) -> &str;
    fn message(&self) -> &str;
    /// Since when it has had its status.
    fn since(&self) -> Option<Timestamp>;
}

impl Condition for OfKarpenter {
    fn kind(&self) -> &str {
        &self.type_
    }

    fn status(&self) -> &str {
        &self.status
    }

    fn reason(&self) -> &str {
        &self.reason
    }

    fn message(&self) -> &str {
        &self.message
    }

    fn since(&self) -> Option<Timestamp> {
        Some(self.last_transition_time.0)
    }
}

impl Condition for NodeCondition {
    fn kind(&self) -> &str {
        &self.type_
    }

    fn status(&self) -> &str {
        &self.status
    }

    fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or_default()
    }

    fn message(&self) -> &str {
        self.message.as_deref().unwrap_or_default()
    }

    fn since(&self) -> Option<Timestamp> {
        self.last_transition_time.as_ref().map(|it| it.0)
    }
}

/// Those that are told of: what Karpenter says, and what it acts on.
const KINDS: [&str; 28] = [
    "Ready",
    "Launched",
    "Registered",
    "Initialized",
    "Consolidatable",
    "Drifted",
    "Drained",
    "VolumesDetached",
    "InstanceTerminating",
    "ConsistentStateFound",
    "DisruptionReason",
    "ValidationSucceeded",
    "NodeClassReady",
    "NodeRegistrationHealthy",
    "AMIsReady",
    "SubnetsReady",
    "SecurityGroupsReady",
    "InstanceProfileReady",
    "CapacityReservationsReady",
    "MemoryPressure",
    "DiskPressure",
    "PIDPressure",
    "NetworkUnavailable",
    "AcceleratedHardwareReady",
    "StorageReady",
    "NetworkingReady",
    "KernelReady",
    "ContainerRuntimeReady",
];

/// Who is told of transitions.
#[derive(Clone)]
pub(in crate::controllers) struct Told {
    pub(in crate::controllers) recorder: Recorder,
    pub(in crate::controllers) metrics: Arc<Metrics>,
    pub(in crate::controllers) clock: Clock,
}

impl Told {
    /// Of the transitions of all objects in a store. `depends_on`: what their `Ready` depends on.
    pub(in crate::controllers) fn follow<K, C>(
        &self,
        store: &Store<K>,
        of: &'static OfKind,
        depends_on: &'static [&'static str],
        conditions: impl Fn(&K) -> &[C] + Send + 'static,
    ) where
        K: Resource<DynamicType = ()> + Send + Sync + 'static,
        C: Condition,
    {
        let told = self.clone();
        store.subscribe(move |change| match (&change.old, &change.new) {
            (Some(old), Some(new)) => {
                let (old, now) = (conditions(old), conditions(new));
                for (kind, message) in transitions(old, now, depends_on) {
                    told.recorder.normal(&**new, kind, message);
                    told.count(of, kind, old, now);
                }
            }
            (Some(old), None) => {
                if let Some(asked) = &old.meta().deletion_timestamp {
                    let took = told.clock.now().duration_since(asked.0).as_secs_f64();
                    told.metrics.observe(of.termination_seconds, &[], took);
                }
            }
            (None, _) => {}
        });
    }

    fn count<C: Condition>(&self, of: &OfKind, kind: &str, old: &[C], new: &[C]) {
        let find = |all: &[C]| all.iter().position(|it| it.kind() == kind);
        let Some(now) = find(new).map(|at| &new[at]) else { return };
        let labels = [("type", kind), ("status", now.status()), ("reason", now.reason())];
        self.metrics.add(of.transitions, &labels, 1.0);
        let before = find(old).map(|at| &old[at]);
        let times = before.and_then(|it| Some((it, it.since()?, now.since()?)));
        if let Some((before, from, to)) = times {
            let labels = [("type", kind), ("status", before.status())];
            self.metrics.observe(
                of.transition_seconds,
                &labels,
                to.duration_since(from).as_secs_f64(),
            );
        }
    }
}

fn transitions<C: Condition>(
    before: &[C],
    after: &[C],
    depends_on: &[&str],
) -> Vec<(&'static str, String)> {
    let each = after.iter().filter_map(|it| {
        let kind = KINDS.iter().find(|kind| **kind == it.kind())?;
        let is_awaited = *kind == "Ready" || depends_on.contains(kind);
        let known = before.iter().find(|known| known.kind() == it.kind());
        let was = known.map(Condition::status).or(is_awaited.then_some("Unknown"))?;
        if was == it.status() {
            return None;
        }
        let mut text = format!(
            "Status condition transitioned, Type: {kind}, Status: {was} -> {}, Reason: {}",
            it.status(),
            it.reason()
        );
        if !it.message().is_empty() {
            text += &format!(", Message: {}", it.message());
        }
        Some((*kind, text))
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(kind: &str, status: &str) -> NodeCondition {
        NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some("R".to_owned()),
            message: Some("m".to_owned()),
            ..NodeCondition::default()
        }
    }

    #[test]
    fn what_becomes_another_is_told_and_the_first_word_of_what_nobody_waits_for_is_not() {
        let told = |before: &[NodeCondition], after: &[NodeCondition]| {
            transitions(before, after, &["Launched"])
        };
        let (yes, no) = (node("Ready", "True"), node("Ready", "False"));
        let said = |was: &str| {
            format!(
                "Status condition transitioned, Type: Ready, Status: {was} -> True, Reason: R, \
                 Message: m"
            )
        };
        let of = std::slice::from_ref;
        assert_eq!(told(of(&no), of(&yes)), [("Ready", said("False"))]);
        assert_eq!(told(of(&yes), of(&yes)), []);
        assert_eq!(told(&[], of(&yes)), [("Ready", said("Unknown"))]);
        assert_eq!(told(&[], &[node("Drifted", "True")]), []);
        assert_eq!(told(&[], &[node("Launched", "Unknown")]), []);
        assert_eq!(told(&[], &[node("Launched", "True")]).len(), 1);
    }
}
