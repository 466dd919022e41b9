//! Which daemon pods to make and which to delete.
//!
//! Upstream: `daemon_controller.go` (`podsShouldBeOnNode`), `update.go` (`rollingUpdate`).

use std::{collections::BTreeMap, sync::Arc};

use controller::object;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{Node, Pod},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::pod::{self, Fit};
use crate::{
    deployment::{Round, scaled},
    pods,
    revisions::HASH_LABEL,
};

/// A DaemonSet, its pods by node, and where it belongs.
#[derive(Debug)]
pub(super) struct Observed<'a> {
    pub(super) set: &'a DaemonSet,
    pub(super) places: BTreeMap<&'a str, Place>,
    hash: &'a str,
    pub(super) now: Timestamp,
}

#[derive(Debug)]
pub(super) struct Place {
    /// What the node says; `No` for a node that is not there.
    pub(super) fit: Fit,
    pub(super) pods: Vec<Arc<Pod>>,
    is_gone: bool,
}

/// What one pass does.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Nodes that get a pod.
    pub(super) create: Vec<String>,
    pub(super) delete: Vec<Arc<Pod>>,
    /// Pods that are deleted because they failed, and what to say about it.
    pub(super) failed: Vec<(Arc<Pod>, String)>,
}

impl<'a> Observed<'a> {
    pub(super) fn new(
        set: &'a DaemonSet,
        nodes: &'a [Arc<Node>],
        owned: &'a [Arc<Pod>],
        hash: &'a str,
        now: Timestamp,
    ) -> Self {
        let mut places = BTreeMap::new();
        for node in nodes {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            let place = Place { fit: pod::fit(set, node), pods: Vec::new(), is_gone: false };
            places.insert(name, place);
        }
        for it in owned {
            let Some(node) = pod::node_of(it) else { continue };
            let gone = || Place { fit: Fit::No, pods: Vec::new(), is_gone: true };
            places.entry(node).or_insert_with(gone).pods.push(it.clone());
        }
        Self { set, places, hash, now }
    }

    pub(super) fn is_updated(&self, pod: &Pod) -> bool {
        object::label(pod, HASH_LABEL) == Some(self.hash)
    }

    pub(super) fn is_available(&self, pod: &Pod) -> bool {
        let seconds = self.set.spec.as_ref().and_then(|it| it.min_ready_seconds).unwrap_or(0);
        !object::is_terminating(pod) && pods::is_available(pod, seconds, self.now)
    }

    pub(super) fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        let surge = self.bounds().1;
        for (name, place) in &self.places {
            self.manage(name, place, surge, &mut plan);
        }
        if self.is_rolling() {
            self.roll(&mut plan);
        }
        plan
    }

    /// One pod where one belongs, none elsewhere.
    fn manage(&self, name: &str, place: &Place, surge: usize, plan: &mut Plan) {
        // Pods on a node that is gone are the pod garbage collector's.
        if place.is_gone {
            return;
        }
        if place.fit == Fit::No {
            let staying = place.pods.iter().filter(|it| !object::is_terminating(&***it));
            return plan.delete.extend(staying.cloned());
        }
        let mut running = Vec::new();
        let mut is_leaving = false;
        for it in &place.pods {
            if object::is_terminating(&**it) {
                is_leaving = true;
            } else if pods::phase(it) == "Failed" {
                let pod = it.metadata.name.as_deref().unwrap_or_default();
                let message = format!(
                    "Found failed daemon pod {} on node {name}, will try to kill it",
                    format_args!("{}/{pod}", it.metadata.namespace.as_deref().unwrap_or_default())
                );
                plan.failed.push((it.clone(), message));
                plan.delete.push(it.clone());
                is_leaving = true;
            } else {
                running.push(it);
            }
        }
        if running.is_empty() {
            if place.fit == Fit::Runs && !is_leaving {
                plan.create.push(name.to_owned());
            }
            return;
        }
        self.drop_surplus(running, surge, plan);
    }

    /// With a surge an old and a new pod may share a node until the new one serves.
    fn drop_surplus(&self, running: Vec<&Arc<Pod>>, surge: usize, plan: &mut Plan) {
        if running.len() < 2 {
            return;
        }
        let (mut new, mut old): (Vec<_>, Vec<_>) =
            running.into_iter().partition(|it| self.is_updated(it));
        let by_age = |it: &&Arc<Pod>| object::created_at(&***it);
        new.sort_by_key(by_age);
        old.sort_by_key(by_age);
        if surge == 0 || !self.is_rolling() {
            // The oldest stays, whatever its template: the update is the roll's business.
            let mut all: Vec<_> = old.into_iter().chain(new).collect();
            all.sort_by_key(by_age);
            return plan.delete.extend(all.into_iter().skip(1).cloned());
        }
        let serves = new.first().is_some_and(|it| self.is_available(it));
        let keep_old = usize::from(!serves);
        plan.delete.extend(old.into_iter().skip(keep_old).cloned());
        plan.delete.extend(new.into_iter().skip(1).cloned());
    }

    fn is_rolling(&self) -> bool {
        let strategy = self.set.spec.as_ref().and_then(|it| it.update_strategy.as_ref());
        strategy.and_then(|it| it.type_.as_deref()) != Some("OnDelete")
    }

    /// Replaces pods of an old template as far as the bounds allow.
    fn roll(&self, plan: &mut Plan) {
        let (max_unavailable, max_surge) = self.bounds();
        if max_surge == 0 {
            self.roll_down(max_unavailable, plan);
        } else {
            self.roll_over(max_surge, plan);
        }
    }

    /// Deletes old pods; the next pass makes the new ones.
    fn roll_down(&self, max_unavailable: usize, plan: &mut Plan) {
        let (mut unavailable, mut broken, mut candidates) = (0, Vec::new(), Vec::new());
        for place in self.places.values().filter(|it| it.fit == Fit::Runs) {
            let active: Vec<_> = place.pods.iter().filter(|it| pods::is_active(it)).collect();
            let [pod] = active[..] else {
                unavailable += 1;
                continue;
            };
            match (self.is_updated(pod), self.is_available(pod)) {
                (true, true) => {}
                (true, false) => unavailable += 1,
                (false, true) => candidates.push(pod),
                (false, false) => {
                    unavailable += 1;
                    broken.push(pod);
                }
            }
        }
        // What does not serve can be replaced at no price.
        let planned: Vec<_> = plan.delete.iter().map(|it| object::uid(&**it)).collect();
        let is_new = |it: &&&Arc<Pod>| !planned.contains(&object::uid(&****it));
        let room = max_unavailable.saturating_sub(unavailable);
        let victims = broken.iter().chain(candidates.iter().take(room)).filter(is_new);
        plan.delete.extend(victims.map(|it| (*it).clone()));
    }

    /// Makes new pods beside the old ones, which go when the new ones serve.
    fn roll_over(&self, max_surge: usize, plan: &mut Plan) {
        let mut surging = 0;
        let (mut broken, mut candidates) = (Vec::new(), Vec::new());
        for (name, place) in self.places.iter().filter(|(_, it)| it.fit == Fit::Runs) {
            let active: Vec<_> = place.pods.iter().filter(|it| pods::is_active(it)).collect();
            let has_new = active.iter().any(|it| self.is_updated(it));
            let old = active.iter().find(|it| !self.is_updated(it));
            match (old, has_new) {
                (Some(_), true) => surging += 1,
                (Some(old), false) if self.is_available(old) => candidates.push(*name),
                (Some(_), false) => broken.push(*name),
                _ => {}
            }
        }
        let room = max_surge.saturating_sub(surging);
        let nodes = broken.into_iter().chain(candidates.into_iter().take(room));
        plan.create.extend(nodes.map(str::to_owned));
    }

    /// How many may be missing, and how many doubled.
    fn bounds(&self) -> (usize, usize) {
        let belongs = self.places.values().filter(|it| it.fit == Fit::Runs).count();
        let total = i32::try_from(belongs).unwrap_or(i32::MAX);
        let strategy = self.set.spec.as_ref().and_then(|it| it.update_strategy.as_ref());
        let rolling = strategy.and_then(|it| it.rolling_update.as_ref());
        let resolve = |value: Option<&IntOrString>, default: i32| {
            let count = value.map_or(default, |it| scaled(it, total, Round::Up));
            usize::try_from(count).unwrap_or(0)
        };
        let surge = resolve(rolling.and_then(|it| it.max_surge.as_ref()), 0);
        let unavailable = resolve(rolling.and_then(|it| it.max_unavailable.as_ref()), 1);
        // Both at zero would never move.
        (if surge == 0 { unavailable.max(1) } else { unavailable }, surge)
    }
}

#[cfg(test)]
mod tests;
