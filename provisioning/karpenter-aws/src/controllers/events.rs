//! What Karpenter tells about objects, with upstream's reasons and in upstream's words.
//!
//! The same is told again after two minutes, or after as long as upstream says of it; of pods that are
//! on their way no more than five in a second.
//!
//! Upstream: `pkg/events` and the `events.go` of each controller of kubernetes-sigs/karpenter,
//! `pkg/controllers/interruption/events` of aws/karpenter-provider-aws.

mod transitions;

use std::{collections::HashMap, fmt::Display};

use api_kube::karpenter::{DisruptionReason, Ec2NodeClass, NodeClaim, NodePool, taints};
use clock::Clock;
use controller::{EventType, Recorder};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod};
use karpenter_core::disruption::KeptBy;
use kube::Resource;
use parking_lot::Mutex;

pub(super) use self::transitions::{Condition, Told};

const AGAIN: SignedDuration = SignedDuration::from_mins(2);
const SOON: SignedDuration = SignedDuration::from_mins(1);
const SCHEDULING: SignedDuration = SignedDuration::from_mins(5);
const CONSOLIDATION: SignedDuration = SignedDuration::from_mins(15);
/// Nominations that may be told at once, and in a second.
const BURST: f64 = 10.0;
const PER_SECOND: f64 = 5.0;
/// Characters of a failed launch that are told.
const MOST_OF_FAILURE: usize = 300;
/// Names that one event lists.
const MOST_NAMES: usize = 5;

/// See the module.
pub(crate) struct Events {
    recorder: Recorder,
    clock: Clock,
    /// Until when what was told is not told again: by reason, object and what makes it another.
    told: Mutex<HashMap<(&'static str, String, String), Timestamp>>,
    /// Nominations that may be told, as of when.
    nominations: Mutex<(f64, Timestamp)>,
}

impl Events {
    pub(super) fn new(recorder: Recorder, clock: Clock) -> Self {
        let nominations = Mutex::new((BURST, clock.now()));
        Self { recorder, clock, told: Mutex::default(), nominations }
    }

    /// Whether it is news; `other`: what makes it another event than the same about the same object.
    fn is_new<K: Resource>(
        &self,
        object: &K,
        reason: &'static str,
        other: &str,
        again: SignedDuration,
    ) -> bool {
        let now = self.clock.now();
        let mut told = self.told.lock();
        told.retain(|_, until| *until > now);
        let uid = object.meta().uid.clone().unwrap_or_default();
        let until = now.checked_add(again).unwrap_or(now);
        let known = told.contains_key(&(reason, uid.clone(), other.to_owned()));
        if !known {
            told.insert((reason, uid, other.to_owned()), until);
        }
        !known
    }

    fn tell<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        kind: EventType,
        reason: &'static str,
        message: impl Into<String>,
        again: SignedDuration,
    ) {
        let message = message.into();
        if self.is_new(object, reason, &message, again) {
            self.recorder.record(object, kind, reason, message);
        }
    }

    fn normal<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.tell(object, EventType::Normal, reason, message, AGAIN);
    }

    fn warn<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.tell(object, EventType::Warning, reason, message, AGAIN);
    }

    // === pods that wait ===

    /// Where a pod should go, to a claim, its node, or both.
    pub(super) fn nominated(&self, pod: &Pod, claim: Option<&str>, node: Option<&str>) {
        if !self.is_new(pod, "Nominated", "", AGAIN) || !self.may_nominate() {
            return;
        }
        let claim = claim.map(|it| format!("nodeclaim/{it}"));
        let node = node.map(|it| format!("node/{it}"));
        let places: Vec<String> = [claim, node].into_iter().flatten().collect();
        let message = format!("Pod should schedule on: {}", places.join(", "));
        self.recorder.normal(pod, "Nominated", message);
    }

    fn may_nominate(&self) -> bool {
        let now = self.clock.now();
        let mut nominations = self.nominations.lock();
        let (left, at) = *nominations;
        let left = (left + now.duration_since(at).as_secs_f64() * PER_SECOND).min(BURST);
        let may = left >= 1.0;
        *nominations = (if may { left - 1.0 } else { left }, now);
        may
    }

    pub(super) fn failed_scheduling(&self, pod: &Pod, why: &str) {
        if self.is_new(pod, "FailedScheduling", "", SCHEDULING) {
            let message = format!("Failed to schedule pod, {why}");
            self.recorder.warn(pod, "FailedScheduling", message);
        }
    }

    pub(super) fn no_compatible_types(&self, pool: &NodePool, is_by_min_values: bool) {
        let mut message =
            "NodePool requirements filtered out all compatible available instance types".to_owned();
        if is_by_min_values {
            message.push_str(" due to minValues incompatibility");
        }
        self.tell(pool, EventType::Warning, "NoCompatibleInstanceTypes", message, SOON);
    }

    // === claims that come ===

    pub(super) fn launch_failed(&self, claim: &NodeClaim, reason: &'static str, why: &str) {
        let cut = why.char_indices().nth(MOST_OF_FAILURE);
        let why = cut.map_or(why.to_owned(), |(at, _)| format!("{}...", &why[..at]));
        self.warn(claim, reason, format!("NodeClaim {} event: {why}", claim.name()));
    }

    pub(super) fn unresolved_class<K: Resource<DynamicType = ()>>(&self, object: &K) {
        // Upstream gives it no reason.
        self.warn(object, "", "Failed resolving NodeClass");
    }

    pub(super) fn unregistered_taint_missing(&self, claim: &NodeClaim) {
        let message = format!(
            "Missing {} taint which prevents registration related race conditions on \
             Karpenter-managed nodes",
            taints::UNREGISTERED
        );
        self.warn(claim, "UnregisteredTaintMissing", message);
    }

    pub(super) fn inconsistent(&self, claim: &NodeClaim, issue: &str) {
        self.warn(claim, "FailedConsistencyCheck", issue);
    }

    // === disruption ===

    /// A node that stays, and why.
    pub(super) fn kept(&self, node: &Node, claim: &NodeClaim, by: KeptBy, why: &str) {
        let (reason, again) = match by {
            KeptBy::Blocked => ("DisruptionBlocked", AGAIN),
            KeptBy::Unconsolidatable => ("Unconsolidatable", CONSOLIDATION),
            KeptBy::Other => return,
        };
        if self.is_new(claim, reason, "", again) {
            self.recorder.normal(node, reason, why);
            self.recorder.normal(claim, reason, why);
        }
    }

    pub(super) fn pool_blocked(&self, pool: &NodePool, reason: DisruptionReason) {
        let message = format!(
            "No allowed disruptions for disruption reason {} due to blocking budget",
            reason.as_str()
        );
        self.tell(pool, EventType::Normal, "DisruptionBlocked", message, SOON);
    }

    pub(super) fn launching(&self, claim: &NodeClaim, reason: DisruptionReason) {
        let message = format!("Launching NodeClaim: {}", reason.as_str());
        self.normal(claim, "DisruptionLaunching", message);
    }

    pub(super) fn waiting_on_readiness(&self, claim: &NodeClaim) {
        let message = "Waiting on readiness to continue disruption";
        self.normal(claim, "DisruptionWaitingReadiness", message);
    }

    pub(super) fn terminating(&self, node: &Node, claim: &NodeClaim, reason: DisruptionReason) {
        let (kind, why) = ("DisruptionTerminating", reason.as_str());
        self.normal(node, kind, format!("Disrupting Node: {why}"));
        self.normal(claim, kind, format!("Disrupting NodeClaim: {why}"));
    }

    pub(super) fn repair_blocked(&self, node: &Node, claim: &NodeClaim, pool: Option<&NodePool>) {
        let of = if pool.is_some() { "nodepool" } else { "cluster" };
        let (reason, why) =
            ("NodeRepairBlocked", format!("more than 20% nodes are unhealthy in the {of}"));
        self.warn(node, reason, why.clone());
        self.warn(claim, reason, why.clone());
        if let Some(pool) = pool {
            self.warn(pool, reason, why);
        }
    }

    /// About a claim, its node, and the pods on it where there are any to be told.
    pub(super) fn interrupted(
        &self,
        (kind, reason, message): (EventType, &'static str, &'static str),
        claim: &NodeClaim,
        node: Option<&Node>,
        pods: &[std::sync::Arc<Pod>],
    ) {
        self.tell(claim, kind, reason, message, AGAIN);
        if let Some(node) = node {
            self.tell(node, kind, reason, message, AGAIN);
        }
        for pod in pods {
            self.tell(&**pod, kind, reason, message, AGAIN);
        }
    }

    pub(super) fn terminating_on_interruption(&self, claim: &NodeClaim, node: Option<&Node>) {
        let reason = "TerminatingOnInterruption";
        let about = |it: &str| format!("Interruption triggered termination for the {it}");
        self.warn(claim, reason, about("NodeClaim"));
        if let Some(node) = node {
            self.warn(node, reason, about("Node"));
        }
    }

    // === nodes that go ===

    pub(super) fn evicted(&self, pod: &Pod, reason: &str) {
        self.normal(pod, "Evicted", format!("Evicted pod: {reason}"));
    }

    /// A pod that is given so many seconds of its own, so that it is gone by then.
    pub(super) fn cut_short(&self, pod: &Pod, by: Timestamp, seconds: i64, own: i64) {
        let message = format!(
            "Deleting the pod to accommodate the terminationTime {} of the node. The pod was \
             granted {seconds} seconds of grace-period of its {own} terminationGracePeriodSeconds. \
             This bypasses the PDB of the pod and the do-not-disrupt annotation.",
            by.strftime("%Y-%m-%d %H:%M:%S +0000 UTC")
        );
        self.normal(pod, "Disrupted", message);
    }

    pub(super) fn failed_draining(&self, node: &Node, why: impl Display) {
        self.warn(node, "FailedDraining", format!("Failed to drain node, {why}"));
    }

    pub(super) fn awaiting_detachment(&self, node: &Node, attachments: &[String]) {
        let message = format!(
            "Awaiting deletion of bound volumeattachments ({})",
            listed(attachments.iter().map(String::as_str))
        );
        self.normal(node, "AwaitingVolumeDetachment", message);
    }

    pub(super) fn expiring<K: Resource<DynamicType = ()>>(&self, object: &K, by: &str) {
        let message = format!("All pods will be deleted by {by}");
        self.warn(object, "TerminationGracePeriodExpiring", message);
    }

    pub(super) fn waiting_on_claims<'a>(
        &self,
        class: &Ec2NodeClass,
        claims: impl Iterator<Item = &'a str>,
    ) {
        let message = format!("Waiting on NodeClaim termination for {}", listed(claims));
        self.normal(class, "WaitingOnNodeClaimTermination", message);
    }
}

/// The first names, and how many more there are.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let mut text = names.iter().take(MOST_NAMES).copied().collect::<Vec<_>>().join(", ");
    if names.len() > MOST_NAMES {
        text += &format!(" and {} other(s)", names.len() - MOST_NAMES);
    }
    text
}
