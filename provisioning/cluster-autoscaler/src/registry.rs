//! What the autoscaler remembers of groups from pass to pass: instances that have not become nodes,
//! increases that are awaited, groups that failed.
//!
//! Upstream: `clusterstate/clusterstate.go`. It lives in memory, as upstream's: after a restart all
//! timers begin anew.

mod backoff;
mod readiness;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use self::backoff::Backoffs;
pub use self::backoff::Problem;
pub use self::readiness::Readiness;
use crate::{
    node,
    options::Options,
    world::{Group, World},
};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// Since when instances without a Node are known, by provider ID.
    unregistered: BTreeMap<String, Timestamp>,
    /// Instances that a group wants and does not have, by group.
    missing: BTreeMap<String, Missing>,
    increases: BTreeMap<String, Increase>,
    /// The failures that were told, by group: each is told once.
    blamed: BTreeMap<String, Timestamp>,
    pub(crate) backoffs: Backoffs,
    /// Groups that have more or fewer nodes than they should: since when, and by how much.
    wrong_sizes: BTreeMap<String, (Timestamp, i64)>,
    readiness: BTreeMap<String, Readiness>,
    total: Readiness,
}

/// How much the cloud's clock, in whole seconds, may be behind.
const CLOCKS: std::time::Duration = std::time::Duration::from_secs(1);

/// Nodes that were asked for.
#[derive(Clone, Copy, Debug)]
struct Increase {
    at: Timestamp,
    expected_by: Timestamp,
    count: i64,
}

/// What a look at the world brought to light.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nodes that were asked for did not come in time.
    TimedOut { group: String, limit: std::time::Duration },
    /// The cloud could not launch them.
    LaunchFailed { group: String, missing: i64, message: String },
    /// An instance never became a Node.
    NeverRegistered { group: String, provider_id: String },
    /// The group wants more instances than it has, and has for too long.
    TooLarge { group: String, by: i64 },
}

/// Why a group must not grow now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSafe {
    BackedOff,
    Unhealthy,
}

impl Registry {
    /// Takes the world in. Each finding is told once and asks for something to be done.
    pub fn observe(&mut self, world: &World, options: &Options, now: Timestamp) -> Vec<Finding> {
        self.forget_registered(world, now);
        self.count(world, options, now);
        let mut findings = Vec::new();
        for group in &world.groups {
            self.await_increase(group, options, now, &mut findings);
            self.blame_failure(group, options, now, &mut findings);
            self.find_unregistered(group, now, &mut findings);
            self.compare_size(group, now, &mut findings);
        }
        let names: BTreeSet<&str> = world.groups.iter().map(|it| it.name.as_str()).collect();
        self.increases.retain(|it, _| names.contains(it.as_str()));
        self.wrong_sizes.retain(|it, _| names.contains(it.as_str()));
        findings
    }

    /// A group was asked to grow.
    pub fn grew(&mut self, group: &Group, by: i64, now: Timestamp) {
        // What is waited for begins anew.
        self.missing.remove(&group.name);
        let expected_by = now + group.options.max_provision_time;
        let count = self.increases.get(&group.name).map_or(0, |it| it.count) + by;
        self.increases.insert(group.name.clone(), Increase { at: now, expected_by, count });
    }

    /// A group could not be asked to grow.
    pub fn failed(&mut self, group: &str, problem: Problem, options: &Options, now: Timestamp) {
        self.increases.remove(group);
        self.backoffs.fail(group, problem, &options.backoff, now);
    }

    pub fn can_grow(
        &self,
        group: &Group,
        options: &Options,
        now: Timestamp,
    ) -> Result<(), NotSafe> {
        if !self.is_group_healthy(group, options) {
            return Err(NotSafe::Unhealthy);
        }
        if self.backoffs.is_active(&group.name, now) { Err(NotSafe::BackedOff) } else { Ok(()) }
    }

    /// Nodes of each group that are wanted, and are not there or not started yet.
    pub fn upcoming(&self, world: &World) -> BTreeMap<String, i64> {
        let of = |group: &Group| {
            let it = self.of(&group.name);
            let count = group.target - (it.ready + it.unready + it.long_unregistered);
            (count > 0).then(|| (group.name.clone(), count))
        };
        world.groups.iter().filter_map(of).collect()
    }

    pub fn is_healthy(&self, options: &Options) -> bool {
        let missing = self.total.unready + self.total.long_unregistered;
        let all = self.total.registered() + self.total.long_unregistered;
        missing <= options.ok_unready || !exceeds(missing, all, options)
    }

    /// Whether a group has about as many ready nodes as it should.
    pub fn is_group_healthy(&self, group: &Group, options: &Options) -> bool {
        let it = self.of(&group.name);
        let awaited = self.increases.get(&group.name).map_or(0, |it| it.count);
        let expected = group.target - awaited - it.long_unregistered;
        let unjustified = (expected - it.ready).max(0);
        let all = it.registered() + it.unregistered + it.long_unregistered;
        unjustified <= options.ok_unready || !exceeds(unjustified, all, options)
    }

    pub fn is_growing(&self, group: &str) -> bool {
        self.increases.contains_key(group)
    }

    pub fn of(&self, group: &str) -> Readiness {
        self.readiness.get(group).copied().unwrap_or_default()
    }

    pub fn total(&self) -> Readiness {
        self.total
    }

    // === observing ===

    fn forget_registered(&mut self, world: &World, now: Timestamp) {
        let known: BTreeSet<&str> =
            world.nodes.iter().filter_map(|it| node::provider_id(it)).collect();
        let instances = world.groups.iter().flat_map(ids);
        let without: BTreeSet<&str> = instances.filter(|it| !known.contains(it)).collect();
        self.unregistered.retain(|id, _| without.contains(id.as_str()));
        for id in without {
            self.unregistered.entry(id.to_owned()).or_insert(now);
        }
        self.missing.retain(|name, _| world.group(name).is_some());
        for group in &world.groups {
            self.missing.entry(group.name.clone()).or_default().are(group.missing(), now);
        }
    }

    fn count(&mut self, world: &World, options: &Options, now: Timestamp) {
        self.readiness.clear();
        self.total = Readiness::default();
        for it in &world.nodes {
            let state = readiness::of(it, options, now);
            self.total.add(state, 1);
            if let Some(group) = world.group_of(it) {
                self.readiness.entry(group.name.clone()).or_default().add(state, 1);
            }
        }
        for group in &world.groups {
            let limit = group.options.max_provision_time;
            let counts = self.readiness.entry(group.name.clone()).or_default();
            let there = ids(group).filter_map(|id| Some((*self.unregistered.get(id)?, 1)));
            let missing = self.missing.get(&group.name).into_iter().flat_map(|it| &it.0);
            for (since, count) in there.chain(missing.copied()) {
                let state = match since + limit > now {
                    true => readiness::State::Unregistered,
                    false => readiness::State::LongUnregistered,
                };
                counts.add(state, count);
                self.total.add(state, count);
            }
        }
    }

    fn await_increase(
        &mut self,
        group: &Group,
        options: &Options,
        now: Timestamp,
        findings: &mut Vec<Finding>,
    ) {
        let Some(increase) = self.increases.get(&group.name).copied() else { return };
        let counts = self.of(&group.name);
        let is_overdue = increase.expected_by <= now;
        let arrived = counts.ready + counts.unready + counts.long_unregistered >= group.target;
        // An instance that is given up at the same moment has not arrived.
        if arrived && !(is_overdue && counts.long_unregistered > 0) {
            self.increases.remove(&group.name);
            self.backoffs.succeed(&group.name, increase.at);
        } else if is_overdue {
            let limit = group.options.max_provision_time;
            let message =
                format!("Scale-up timed out for node group {} after {limit:?}", group.name);
            self.failed(&group.name, Problem::new("timeout", message), options, now);
            findings.push(Finding::TimedOut { group: group.name.clone(), limit });
        }
    }

    /// A launch that failed since the group grew: what is missing will not come.
    fn blame_failure(
        &mut self,
        group: &Group,
        options: &Options,
        now: Timestamp,
        findings: &mut Vec<Finding>,
    ) {
        let missing = group.missing();
        let Some(failure) = group.failure.as_ref().filter(|_| missing > 0) else { return };
        let since = self.increases.get(&group.name).map(|it| it.at);
        let is_told = self.blamed.get(&group.name).is_some_and(|it| failure.at <= *it);
        if is_told || since.is_some_and(|it| failure.at + CLOCKS < it) {
            return;
        }
        self.blamed.insert(group.name.clone(), failure.at);
        let message = failure.message.clone();
        self.failed(&group.name, Problem::new("OUT_OF_RESOURCES", message.clone()), options, now);
        findings.push(Finding::LaunchFailed { group: group.name.clone(), missing, message });
    }

    fn find_unregistered(&self, group: &Group, now: Timestamp, findings: &mut Vec<Finding>) {
        for instance in group.instances.iter().filter(|it| !it.is_terminating) {
            let Some(since) = self.unregistered.get(&instance.provider_id) else { continue };
            if *since + group.options.max_provision_time <= now {
                let provider_id = instance.provider_id.clone();
                findings.push(Finding::NeverRegistered { group: group.name.clone(), provider_id });
            }
        }
    }

    fn compare_size(&mut self, group: &Group, now: Timestamp, findings: &mut Vec<Finding>) {
        let missing = group.missing();
        if missing == 0 {
            self.wrong_sizes.remove(&group.name);
            return;
        }
        let (since, by) = self.wrong_sizes.entry(group.name.clone()).or_insert((now, missing));
        if *by != missing {
            (*since, *by) = (now, missing);
        }
        if *since + group.options.max_provision_time <= now {
            findings.push(Finding::TooLarge { group: group.name.clone(), by: missing });
        }
    }
}

/// Since when how many are missing, the first that were missed first: a group may want any number.
#[derive(Clone, Debug, Default)]
struct Missing(Vec<(Timestamp, i64)>);

impl Missing {
    /// Those that come are the last that were missed, as upstream numbers them.
    fn are(&mut self, count: i64, now: Timestamp) {
        let mut surplus = self.0.iter().map(|it| it.1).sum::<i64>() - count;
        if surplus < 0 {
            self.0.push((now, -surplus));
        }
        while surplus > 0
            && let Some(last) = self.0.last_mut()
        {
            let gone = surplus.min(last.1);
            (last.1, surplus) = (last.1 - gone, surplus - gone);
            self.0.pop_if(|it| it.1 == 0);
        }
    }
}

/// The instances of a group that are to stay.
fn ids(group: &Group) -> impl Iterator<Item = &str> {
    let there = group.instances.iter().filter(|it| !it.is_terminating);
    there.map(|it| it.provider_id.as_str())
}

#[expect(clippy::cast_precision_loss, reason = "counts of nodes")]
fn exceeds(missing: i64, all: i64, options: &Options) -> bool {
    missing as f64 > options.max_unready_percentage / 100.0 * all as f64
}

#[cfg(test)]
mod tests;
