//! Which member comes or goes next.
//!
//! With `OrderedReady` one step at a time, from the lowest ordinal up, and from the highest down;
//! with `Parallel` all at once. An update replaces members from the highest down to the partition,
//! each after the one before serves. `maxUnavailable` changes nothing: upstream's switch for it is off
//! in 1.36.
//!
//! Upstream: `stateful_set_control.go` (`updateStatefulSet`).

use std::{collections::BTreeMap, sync::Arc};

use controller::object;
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, StatefulSet},
    core::v1::{Pod, PodTemplateSpec},
};

use super::pod;
use crate::{
    pods,
    revisions::{HASH_LABEL, History},
};

/// A set, its revisions and its members by ordinal.
#[derive(Debug)]
pub(super) struct Observed<'a> {
    pub(super) set: &'a StatefulSet,
    pub(super) members: BTreeMap<i32, Arc<Pod>>,
    /// The revision that is being rolled out.
    pub(super) update: String,
    /// The revision from before, until all members are updated.
    pub(super) current: String,
    /// The template of `current`, where it differs from the set's.
    current_template: Option<PodTemplateSpec>,
    now: Timestamp,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) create: Vec<i32>,
    pub(super) delete: Vec<Arc<Pod>>,
}

impl<'a> Observed<'a> {
    pub(super) fn new(
        set: &'a StatefulSet,
        history: &History,
        owned: &[Arc<Pod>],
        now: Timestamp,
    ) -> Self {
        let name = |it: &ControllerRevision| it.metadata.name.clone().unwrap_or_default();
        let update = name(&history.current);
        let noted = set.status.as_ref().and_then(|it| it.current_revision.clone());
        let old = history.old.iter().find(|it| Some(name(it)) == noted);
        let members = owned.iter().filter_map(|it| Some((pod::ordinal(set, it)?, it.clone())));
        Self {
            set,
            members: members.collect(),
            current: old.map_or_else(|| update.clone(), |it| name(it)),
            current_template: old.and_then(|it| template_of(it)),
            update,
            now,
        }
    }

    pub(super) fn first(&self) -> i32 {
        let ordinals = self.set.spec.as_ref().and_then(|it| it.ordinals.as_ref());
        ordinals.and_then(|it| it.start).unwrap_or(0)
    }

    pub(super) fn replicas(&self) -> i32 {
        self.set.spec.as_ref().and_then(|it| it.replicas).unwrap_or(1)
    }

    fn last(&self) -> i32 {
        self.first() + self.replicas()
    }

    pub(super) fn has_place(&self, ordinal: i32) -> bool {
        (self.first()..self.last()).contains(&ordinal)
    }

    pub(super) fn revision_of<'p>(&self, pod: &'p Pod) -> &'p str {
        object::label(pod, HASH_LABEL).unwrap_or_default()
    }

    pub(super) fn is_available(&self, pod: &Pod) -> bool {
        let seconds = self.set.spec.as_ref().and_then(|it| it.min_ready_seconds).unwrap_or(0);
        pods::is_available(pod, seconds, self.now)
    }

    fn is_healthy(&self, pod: &Pod) -> bool {
        pods::phase(pod) == "Running" && self.is_available(pod) && !object::is_terminating(pod)
    }

    fn is_parallel(&self) -> bool {
        let policy = self.set.spec.as_ref().and_then(|it| it.pod_management_policy.as_deref());
        policy == Some("Parallel")
    }

    fn is_rolling(&self) -> bool {
        let strategy = self.set.spec.as_ref().and_then(|it| it.update_strategy.as_ref());
        strategy.and_then(|it| it.type_.as_deref()) != Some("OnDelete")
    }

    fn partition(&self) -> Option<i32> {
        let strategy = self.set.spec.as_ref().and_then(|it| it.update_strategy.as_ref());
        strategy.and_then(|it| it.rolling_update.as_ref()?.partition)
    }

    /// The template and revision that a new member of this ordinal gets: the old one below the
    /// partition, so that a member that fails there comes back as it was.
    pub(super) fn version_of(&self, ordinal: i32) -> (PodTemplateSpec, &str) {
        let template = self.set.spec.as_ref().map(|it| it.template.clone()).unwrap_or_default();
        let Some(old) = self.current_template.as_ref().filter(|_| self.is_rolling()) else {
            return (template, &self.update);
        };
        let kept = match self.partition() {
            Some(partition) => ordinal < self.first() + partition,
            None => {
                let is_old = |it: &&Arc<Pod>| {
                    self.revision_of(it) == self.current && !object::is_terminating(&***it)
                };
                let old = self.members.values().filter(is_old).count();
                ordinal - self.first() < i32::try_from(old).unwrap_or(i32::MAX)
            }
        };
        if kept { (old.clone(), &self.current) } else { (template, &self.update) }
    }

    pub(super) fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        if self.fill(&mut plan) || self.shrink(&mut plan) {
            return plan;
        }
        if self.is_rolling() {
            self.roll(&mut plan);
        }
        plan
    }

    /// Members for all places. `true` when nothing else may happen now.
    fn fill(&self, plan: &mut Plan) -> bool {
        let is_ordered = !self.is_parallel();
        for ordinal in self.first()..self.last() {
            let Some(pod) = self.members.get(&ordinal) else {
                plan.create.push(ordinal);
                if is_ordered {
                    return true;
                }
                continue;
            };
            if pods::is_over(pod) && !object::is_terminating(&**pod) {
                // It is made again when it is gone.
                plan.delete.push(pod.clone());
            }
            if is_ordered && !self.is_healthy(pod) {
                return true;
            }
        }
        // With all at once, the rest of the pass still waits for what was begun.
        !plan.create.is_empty() || !plan.delete.is_empty()
    }

    /// Members without a place, from the highest down. `true` when nothing else may happen now.
    fn shrink(&self, plan: &mut Plan) -> bool {
        let surplus = self.members.iter().rev().filter(|(ordinal, _)| !self.has_place(**ordinal));
        for (ordinal, pod) in surplus {
            let waits = !self.is_parallel() && !self.is_healthy(pod);
            if waits && self.first_unhealthy() != Some(*ordinal) {
                return true;
            }
            if !object::is_terminating(&**pod) {
                plan.delete.push(pod.clone());
            }
            if !self.is_parallel() {
                return true;
            }
        }
        !plan.delete.is_empty()
    }

    /// Where one is not well, members go no further than it: those with a place count first.
    fn first_unhealthy(&self) -> Option<i32> {
        let mut unhealthy: Vec<i32> = self
            .members
            .iter()
            .filter(|(_, pod)| !self.is_healthy(pod))
            .map(|(ordinal, _)| *ordinal)
            .collect();
        unhealthy.sort_by_key(|it| (!self.has_place(*it), *it));
        unhealthy.first().copied()
    }

    /// The highest member of an old revision, once those above it serve.
    fn roll(&self, plan: &mut Plan) {
        let lowest = self.first() + self.partition().unwrap_or(0);
        for ordinal in (lowest.max(self.first())..self.last()).rev() {
            let Some(pod) = self.members.get(&ordinal) else { return };
            if self.revision_of(pod) != self.update && !object::is_terminating(&**pod) {
                plan.delete.push(pod.clone());
                return;
            }
            if !self.is_healthy(pod) {
                return;
            }
        }
    }
}

fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

#[cfg(test)]
mod tests;
