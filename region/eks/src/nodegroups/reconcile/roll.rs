//! What to do next for a version update: pure.
//!
//! Set up: new nodes start from the target. Scale up: as many nodes more that each zone has a new one.
//! Upgrade: old nodes are emptied and terminated, some at a time; the Auto Scaling group replaces them.
//! Scale down: back to the sizes of before, one by one.
//!
//! Source: EKS user guide, "Understand each phase of node updates"; compute facts §1.4. Deviation: a
//! group without nodes launches none for the sake of its update.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;

use super::{
    super::{
        drain,
        records::{Issue, Nodegroup, Scaling},
        rollout::{Phase, Rollout, Strategy},
    },
    plan::{Limits, Observed, Plan, Step},
};

/// How soon an old node is looked at again while it is being emptied.
const WATCHED: Duration = Duration::from_secs(1);

/// One thing to do for an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Roll {
    /// Makes the template, and the group launch from the target. Its sizes are those now, and shall be
    /// those of `before` again.
    SetUp {
        before: Scaling,
        now: Scaling,
    },
    /// Asks for these sizes.
    Resize(Scaling),
    Enter(Phase),
    /// No pod comes to the nodes of these instances any more, and no traffic from load balancers.
    Retire(Vec<String>),
    /// Goes on with emptying a node.
    Empty {
        instance: String,
    },
    Terminate {
        instance: String,
    },
    Finish,
}

/// Adds the steps of the update to `plan`.
pub(crate) fn plan(
    group: &Nodegroup,
    rollout: &Rollout,
    observed: &Observed,
    now: Timestamp,
    limits: Limits,
    plan: &mut Plan,
) {
    let Some(sizes) = observed.sizes else { return };
    let pass = Pass { group, rollout, seen: observed, sizes, now, limits };
    match rollout.phase {
        Phase::SetUp => {
            // Another try comes back to where the first one began.
            let left = group.left.filter(|it| it.sizes == sizes);
            let before = left.map_or(sizes, |it| it.before);
            plan.roll(Roll::SetUp { before, now: sizes });
        }
        Phase::ScaleUp => pass.scale_up(plan),
        Phase::Upgrade => pass.upgrade(plan),
        Phase::ScaleDown => pass.scale_down(plan),
    }
}

struct Pass<'a> {
    group: &'a Nodegroup,
    rollout: &'a Rollout,
    seen: &'a Observed,
    sizes: Scaling,
    now: Timestamp,
    limits: Limits,
}

impl Pass<'_> {
    fn is_old(&self, instance: &str) -> bool {
        let version = self.seen.origins.get(instance).map(|it| it.version.as_str());
        let target = self.rollout.template_version.map(|it| it.to_string());
        version != target.as_deref()
    }

    /// Ids and states.
    fn old(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.seen.instances.iter().map(|(id, state)| (id.as_str(), state.as_str()));
        all.filter(|(id, _)| self.is_old(id))
    }

    fn fresh(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.seen.instances.iter().map(|(id, state)| (id.as_str(), state.as_str()));
        all.filter(|(id, _)| !self.is_old(id))
    }

    fn is_at_work(&self, (id, state): (&str, &str)) -> bool {
        state == "InService" && self.seen.ready.iter().any(|it| it == id)
    }

    fn since(&self, at: Timestamp) -> Duration {
        Duration::try_from(self.now.duration_since(at)).unwrap_or_default()
    }

    fn at_once(&self) -> i64 {
        self.group.at_once(self.rollout.before.desired)
    }

    fn scale_up(&self, plan: &mut Plan) {
        if self.old().next().is_none() {
            return plan.roll(Roll::Enter(Phase::ScaleDown));
        }
        if self.group.strategy() == Strategy::Minimal {
            return plan.roll(Roll::Enter(Phase::Upgrade));
        }
        let zones = i64::try_from(self.seen.zones.len()).unwrap_or(1);
        let more = (2 * zones).max(self.at_once());
        let Scaling { min, max, desired } = self.rollout.before;
        let wanted = Scaling { min, max: max + more, desired: desired + more };
        if self.sizes.desired < wanted.desired || self.sizes.max < wanted.max {
            return plan.roll(Roll::Resize(wanted));
        }
        if self.is_scaled_up() {
            return plan.roll(Roll::Enter(Phase::Upgrade));
        }
        self.wait_for_new_nodes(plan);
    }

    /// Whether each zone has a new node and all new nodes are Ready. What cannot be launched beyond
    /// that is not waited for: the sizes are what there may be "up to".
    fn is_scaled_up(&self) -> bool {
        let zone = |id: &str| self.seen.origins.get(id).map(|it| it.zone.as_str());
        let reached: BTreeSet<&str> =
            self.fresh().filter(|it| self.is_at_work(*it)).filter_map(|(id, _)| zone(id)).collect();
        let is_whole = !self.seen.is_short() || self.seen.launch_failure.is_some();
        let enough = i64::try_from(self.fresh().count()).is_ok_and(|it| it >= self.at_once());
        is_whole
            && enough
            && self.fresh().all(|it| self.is_at_work(it))
            && self.seen.zones.iter().all(|it| reached.contains(it.as_str()))
    }

    /// Ends the update where new nodes do not come.
    fn wait_for_new_nodes(&self, plan: &mut Plan) {
        let waited = self.since(self.rollout.moved_at);
        if let Some(rest) = self.limits.join.checked_sub(waited) {
            return plan.wait_at_most(rest + Duration::from_millis(1));
        }
        let missing = self.fresh().filter(|it| !self.is_at_work(*it)).map(|(id, _)| id.to_owned());
        let name = &self.group.name;
        let message = format!(
            "Couldn't proceed with upgrade process as new nodes are not joining node group {name}"
        );
        plan.steps.push(Step::Fail(Issue {
            code: "NodeCreationFailure".to_owned(),
            message: self.seen.launch_failure.as_ref().map_or(message.clone(), |it| {
                // What is in the way of instances is more to the point.
                format!("{message}: {it}")
            }),
            resources: missing.collect(),
        }));
    }

    fn upgrade(&self, plan: &mut Plan) {
        if self.old().next().is_none() {
            return plan.roll(Roll::Enter(Phase::ScaleDown));
        }
        if self.group.strategy() == Strategy::Default {
            self.retire(plan);
        }
        if let Some(issue) = self.not_emptied() {
            return plan.steps.push(Step::Fail(issue));
        }
        let emptying = self.old().filter(|(id, _)| self.rollout.emptying.contains_key(*id));
        for (instance, state) in emptying {
            let empty = self.rollout.emptied.get(instance);
            match empty.map(|at| latency::rest(self.limits.drained, self.since(*at))) {
                _ if state != "InService" => {}
                None => {
                    plan.roll(Roll::Empty { instance: instance.to_owned() });
                    plan.wait_at_most(WATCHED);
                }
                Some(Some(rest)) => plan.wait_at_most(rest),
                Some(None) => plan.roll(Roll::Terminate { instance: instance.to_owned() }),
            }
        }
        let room = usize::try_from(self.at_once() - self.unavailable()).unwrap_or(0);
        let candidates = self.old().filter(|(id, state)| {
            *state == "InService" && !self.rollout.emptying.contains_key(*id)
        });
        let picked: Vec<_> = candidates.take(room).map(|(id, _)| id.to_owned()).collect();
        if picked.is_empty() && plan.steps.is_empty() && plan.wait.is_none() {
            self.wait_for_new_nodes(plan);
        }
        for instance in picked {
            plan.roll(Roll::Empty { instance });
            plan.wait_at_most(WATCHED);
        }
    }

    fn retire(&self, plan: &mut Plan) {
        let is_due = |id: &str| self.seen.nodes.get(id).is_some_and(|it| !it.is_retired);
        let due: Vec<_> =
            self.old().filter(|(id, _)| is_due(id)).map(|(id, _)| id.to_owned()).collect();
        if !due.is_empty() {
            plan.roll(Roll::Retire(due));
        }
    }

    /// How many nodes are away for the sake of the update: of the old ones where new ones came first,
    /// of all where they come after.
    fn unavailable(&self) -> i64 {
        let is_leaving = |id: &str| self.rollout.emptying.contains_key(id);
        match self.group.strategy() {
            Strategy::Default => {
                let away = self.old().filter(|(id, state)| is_leaving(id) || *state != "InService");
                i64::try_from(away.count()).unwrap_or(i64::MAX)
            }
            Strategy::Minimal => {
                let all = self.old().chain(self.fresh());
                let there = all.filter(|it| self.is_at_work(*it) && !is_leaving(it.0)).count();
                self.rollout.before.desired - i64::try_from(there).unwrap_or(0)
            }
        }
    }

    /// Pods that do not go, where nobody said that they must.
    fn not_emptied(&self) -> Option<Issue> {
        if self.rollout.force {
            return None;
        }
        let is_late = |id: &str| {
            let since = self.rollout.emptying.get(id);
            !self.rollout.emptied.contains_key(id)
                && since.is_some_and(|at| self.now.duration_since(*at) > drain::EVICTION_LIMIT)
        };
        let late = self.old().filter(|(id, _)| is_late(id));
        let named = late.map(|(id, _)| match self.seen.nodes.get(id) {
            Some(node) => node.name.clone(),
            None => id.to_owned(),
        });
        let resources: Vec<String> = named.collect();
        (!resources.is_empty()).then(|| Issue {
            code: NOT_EVICTED.to_owned(),
            message: format!(
                "Reached max retries while trying to evict pods from nodes in node group {}",
                self.group.name
            ),
            resources,
        })
    }

    fn scale_down(&self, plan: &mut Plan) {
        let (sizes, before) = (self.sizes, self.rollout.before);
        // Somebody else scales up meanwhile: what is there is wanted.
        if sizes.desired > self.rollout.asked.desired.max(before.desired) {
            return plan.roll(Roll::Finish);
        }
        let there = i64::try_from(self.seen.instances.len()).unwrap_or(i64::MAX);
        if there > sizes.desired {
            return;
        }
        if sizes.desired > before.desired {
            let (max, desired) = ((sizes.max - 1).max(before.max), sizes.desired - 1);
            return plan.roll(Roll::Resize(Scaling { max, desired, ..before }));
        }
        if sizes.max > before.max {
            let desired = sizes.desired;
            return plan.roll(Roll::Resize(Scaling { desired, ..before }));
        }
        plan.roll(Roll::Finish);
    }
}

pub(crate) const NOT_EVICTED: &str = "PodEvictionFailure";

impl Plan {
    fn roll(&mut self, roll: Roll) {
        self.steps.push(Step::Roll(roll));
    }
}

#[cfg(test)]
mod tests;
