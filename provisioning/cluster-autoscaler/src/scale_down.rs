//! Which nodes are not needed, since when, and which of them go now.
//!
//! Upstream: `core/scaledown/{eligibility,planner,unneeded}`.
//! Deviation: there is no time limit on the simulation, only upstream's limits on its size.

mod drain;
mod simulate;
mod utilization;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;

pub use self::{drain::Blocked, utilization::Utilization};
use self::{drain::Budgets, simulate::Simulation};
use crate::{
    node,
    options::{GroupOptions, Options},
    world::{Group, PodFact, World},
};

const DISABLED: &str = "cluster-autoscaler.kubernetes.io/scale-down-disabled";

/// What is remembered from pass to pass.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Since when nodes are not needed.
    pub unneeded: BTreeMap<String, Timestamp>,
    /// Nodes that could not go: until when nobody asks again, and why.
    pub rechecks: BTreeMap<String, (Timestamp, Unremovable)>,
    /// Nodes that are on their way out: their group, and whether they are drained.
    pub leaving: BTreeMap<String, (String, bool)>,
    pub last_add: Times,
    pub last_delete: Times,
    pub last_failure: Times,
}

/// When something last happened, to each group and at all.
#[derive(Clone, Debug, Default)]
pub struct Times(BTreeMap<String, Timestamp>);

impl Times {
    pub fn note(&mut self, group: &str, now: Timestamp) {
        self.0.insert(group.to_owned(), now);
    }

    fn is_within(&self, group: Option<&str>, delay: std::time::Duration, now: Timestamp) -> bool {
        let mut times = self.0.iter().filter(|(name, _)| group.is_none_or(|it| it == *name));
        times.any(|(_, at)| *at + delay > now)
    }
}

/// Why a node stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unremovable {
    ScaleDownDisabledAnnotation,
    ScaleDownUnreadyDisabled,
    NotAutoscaled,
    NotUnneededLongEnough,
    NotUnreadyLongEnough,
    NodeGroupMinSizeReached,
    MinimalResourceLimitExceeded,
    CurrentlyBeingDeleted,
    NotUnderutilized,
    NoPlaceToMovePods { pod: String },
    BlockedByPod { pod: String, by: Blocked },
    InCooldown,
}

impl Unremovable {
    /// Upstream's name, as metrics have it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ScaleDownDisabledAnnotation => "ScaleDownDisabledAnnotation",
            Self::ScaleDownUnreadyDisabled => "ScaleDownUnreadyDisabled",
            Self::NotAutoscaled => "NotAutoscaled",
            Self::NotUnneededLongEnough => "NotUnneededLongEnough",
            Self::NotUnreadyLongEnough => "NotUnreadyLongEnough",
            Self::NodeGroupMinSizeReached => "NodeGroupMinSizeReached",
            Self::MinimalResourceLimitExceeded => "MinimalResourceLimitExceeded",
            Self::CurrentlyBeingDeleted => "CurrentlyBeingDeleted",
            Self::NotUnderutilized => "NotUnderutilized",
            Self::NoPlaceToMovePods { .. } => "NoPlaceToMovePods",
            Self::BlockedByPod { .. } => "BlockedByPod",
            Self::InCooldown => "UnexpectedError",
        }
    }
}

/// A node that goes.
#[derive(Clone, Debug)]
pub struct Removal {
    pub node: String,
    pub group: String,
    pub provider_id: String,
    pub utilization: Utilization,
    pub is_unready: bool,
    /// Pods that have to find another place.
    pub pods: Vec<PodFact>,
}

impl Removal {
    pub fn is_drain(&self) -> bool {
        !self.pods.is_empty()
    }

    /// As the metrics call it.
    pub fn reason(&self) -> &'static str {
        match (self.is_unready, self.pods.is_empty()) {
            (true, _) => "unready",
            (false, true) => "empty",
            (false, false) => "underutilized",
        }
    }
}

/// The outcome, as a value.
#[derive(Clone, Debug, Default)]
pub struct ScaleDown {
    pub unneeded: BTreeMap<String, Timestamp>,
    pub rechecks: BTreeMap<String, (Timestamp, Unremovable)>,
    /// Why every other node stays.
    pub unremovable: BTreeMap<String, Unremovable>,
    pub removals: Vec<Removal>,
    pub is_cooling: bool,
}

/// What a decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub world: &'a World,
    pub memory: &'a Memory,
    pub options: &'a Options,
    pub now: Timestamp,
}

/// Plans from the nodes that are there.
pub fn plan(question: Question<'_>) -> ScaleDown {
    let mut plan = ScaleDown::default();
    if !question.options.scale_down.is_enabled {
        return plan;
    }
    let mut found = candidates(question, &mut plan);
    let removable = removable(question, &mut found, &mut plan);
    plan.is_cooling = is_cooling(question, None);
    if !plan.is_cooling {
        plan.removals = due(question, removable, &mut plan.unremovable);
    }
    plan
}

fn is_cooling(question: Question<'_>, group: Option<&str>) -> bool {
    let (options, memory, now) = (&question.options.scale_down, question.memory, question.now);
    // Per group, only its own events count: nothing holds them all.
    if options.is_delay_local && group.is_none() {
        return false;
    }
    memory.last_add.is_within(group, options.delay_after_add, now)
        || memory.last_delete.is_within(group, options.delay_after_delete, now)
        || memory.last_failure.is_within(group, options.delay_after_failure, now)
}

/// A node that might go.
struct Candidate<'a> {
    node: &'a Node,
    group: &'a Group,
    utilization: Utilization,
    is_unready: bool,
}

/// Nodes that are little used and that nothing keeps: those of the last pass first.
fn candidates<'a>(question: Question<'a>, plan: &mut ScaleDown) -> Vec<Candidate<'a>> {
    let mut found = Vec::new();
    for it in &question.world.nodes {
        let name = node::name(it);
        if let Some((until, why)) = question.memory.rechecks.get(name)
            && *until > question.now
        {
            plan.rechecks.insert(name.to_owned(), (*until, why.clone()));
            plan.unremovable.insert(name.to_owned(), why.clone());
            continue;
        }
        match eligible(question, it) {
            Ok(candidate) => found.push(candidate),
            Err(why) => drop(plan.unremovable.insert(name.to_owned(), why)),
        }
    }
    let was_unneeded =
        |it: &Candidate<'_>| question.memory.unneeded.contains_key(node::name(it.node));
    found.sort_by(|a, b| {
        let order = was_unneeded(b).cmp(&was_unneeded(a));
        order.then(a.utilization.share().total_cmp(&b.utilization.share()))
    });
    found
}

fn eligible<'a>(question: Question<'a>, it: &'a Node) -> Result<Candidate<'a>, Unremovable> {
    let options = &question.options;
    if node::has_taint(it, node::TO_BE_DELETED)
        || question.memory.leaving.contains_key(node::name(it))
    {
        return Err(Unremovable::CurrentlyBeingDeleted);
    }
    if node::annotation(it, DISABLED) == Some("true") {
        return Err(Unremovable::ScaleDownDisabledAnnotation);
    }
    let Some(group) = question.world.group_of(it) else { return Err(Unremovable::NotAutoscaled) };
    let is_unready = !node::is_ready(it, &options.startup_taints);
    if is_unready && !options.scale_down.unready_enabled {
        return Err(Unremovable::ScaleDownUnreadyDisabled);
    }
    let pods = question.world.placed.iter().filter(|pod| pod.node() == Some(node::name(it)));
    let utilization = Utilization::of(it, pods, &group.options);
    if !is_below(utilization, &group.options) {
        return Err(Unremovable::NotUnderutilized);
    }
    Ok(Candidate { node: it, group, utilization, is_unready })
}

fn is_below(utilization: Utilization, options: &GroupOptions) -> bool {
    let threshold = match utilization.is_of_gpu() {
        true => options.gpu_utilization_threshold,
        false => options.utilization_threshold,
    };
    // Nothing is below zero, and an empty node goes even then.
    utilization.share() < threshold || utilization.share() == 0.0
}

/// Simulates, one after another, that the candidates go.
fn removable(
    question: Question<'_>,
    candidates: &mut Vec<Candidate<'_>>,
    plan: &mut ScaleDown,
) -> Vec<Removal> {
    let mut simulation = Simulation::new(question);
    let budgets = Budgets::of(&question.world.budgets);
    let mut removals = Vec::new();
    let (mut drained, mut tried) = (0, 0);
    let limit = pool(question);
    // Empty nodes first: they make no demands on the others.
    let (empty, occupied): (Vec<_>, Vec<_>) = candidates.drain(..).partition(|it| {
        drain::pods_to_move(question, node::name(it.node), &budgets).is_ok_and(|it| it.is_empty())
    });
    for it in empty.into_iter().chain(occupied) {
        let name = node::name(it.node).to_owned();
        let outcome = match drain::pods_to_move(question, &name, &budgets) {
            Err(why) => Err(why),
            Ok(pods) if pods.is_empty() => simulation.remove(&name, pods),
            Ok(_)
                if drained >= question.options.scale_down.non_empty_candidates
                    || tried >= limit =>
            {
                continue;
            }
            Ok(pods) => {
                tried += 1;
                let outcome = simulation.remove(&name, pods);
                drained += usize::from(outcome.is_ok());
                outcome
            }
        };
        match outcome {
            Ok(pods) => {
                let since = question.memory.unneeded.get(&name).copied().unwrap_or(question.now);
                plan.unneeded.insert(name.clone(), since);
                removals.push(Removal {
                    node: name,
                    group: it.group.name.clone(),
                    provider_id: node::provider_id(it.node).unwrap_or_default().to_owned(),
                    utilization: it.utilization,
                    is_unready: it.is_unready,
                    pods,
                });
            }
            Err(why) => {
                let until = question.now + question.options.scale_down.recheck;
                plan.rechecks.insert(name.clone(), (until, why.clone()));
                plan.unremovable.insert(name, why);
            }
        }
    }
    removals
}

/// How many occupied nodes are simulated in one pass.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a count"
)]
fn pool(question: Question<'_>) -> usize {
    let options = &question.options.scale_down;
    let share = (question.world.nodes.len() as f64 * options.pool_ratio) as usize;
    share.max(options.pool_min)
}

/// Those whose time has come, as far as sizes, limits and PodDisruptionBudgets allow all of them.
fn due(
    question: Question<'_>,
    removable: Vec<Removal>,
    unremovable: &mut BTreeMap<String, Unremovable>,
) -> Vec<Removal> {
    let options = &question.options.scale_down;
    let mut ledger = Ledger::of(question);
    let mut due = Vec::new();
    for removal in removable {
        match ledger.allows(question, &removal) {
            Ok(()) => due.push(removal),
            Err(why) => drop(unremovable.insert(removal.node, why)),
        }
    }
    // The budgets of parallelism: nodes without pods first.
    let drains = question.memory.leaving.values().filter(|(_, is_drain)| *is_drain).count();
    let mut left = options.max_parallelism.saturating_sub(question.memory.leaving.len());
    let mut drains_left = options.max_drain_parallelism.saturating_sub(drains);
    due.sort_by_key(Removal::is_drain);
    due.retain(|it| {
        let is_allowed = left > 0 && (!it.is_drain() || drains_left > 0);
        if is_allowed {
            left -= 1;
            drains_left -= usize::from(it.is_drain());
        }
        is_allowed
    });
    due
}

/// What would be left.
struct Ledger {
    sizes: BTreeMap<String, i64>,
    cores: i64,
    memory: i64,
    gpus: BTreeMap<String, i64>,
    capacities: BTreeMap<String, (i64, i64)>,
}

impl Ledger {
    fn of(question: Question<'_>) -> Self {
        let mut sizes: BTreeMap<String, i64> =
            question.world.groups.iter().map(|it| (it.name.clone(), it.target)).collect();
        for (group, _) in question.memory.leaving.values() {
            *sizes.entry(group.clone()).or_default() -= 1;
        }
        let (mut cores, mut memory, mut capacities) = (0, 0, BTreeMap::new());
        let mut gpus: BTreeMap<String, i64> = BTreeMap::new();
        let leaving: BTreeSet<&String> = question.memory.leaving.keys().collect();
        for it in &question.world.nodes {
            let name = node::name(it).to_owned();
            if leaving.contains(&name) || node::has_taint(it, node::TO_BE_DELETED) {
                continue;
            }
            let capacity = resources::node_capacity(it);
            let each = (capacity.cpu_millis / 1000, capacity.memory);
            (cores, memory) = (cores + each.0, memory + each.1);
            capacities.insert(name, each);
            if let Some((kind, count)) = node::gpus(it) {
                *gpus.entry(kind.to_owned()).or_default() += count;
            }
        }
        Self { sizes, cores, memory, gpus, capacities }
    }

    /// Takes the node off, where it may go.
    fn allows(&mut self, question: Question<'_>, removal: &Removal) -> Result<(), Unremovable> {
        let Some(group) = question.world.group(&removal.group) else {
            return Err(Unremovable::NotAutoscaled);
        };
        let since = question.memory.unneeded.get(&removal.node).copied().unwrap_or(question.now);
        if removal.is_unready {
            let node = question.world.nodes.iter().find(|it| node::name(it) == removal.node);
            let since = node.and_then(|it| node::ready_since(it)).unwrap_or(since).max(since);
            if since + group.options.unready_time > question.now {
                return Err(Unremovable::NotUnreadyLongEnough);
            }
        } else if since + group.options.unneeded_time > question.now {
            return Err(Unremovable::NotUnneededLongEnough);
        }
        if question.options.scale_down.is_delay_local && is_cooling(question, Some(&group.name)) {
            return Err(Unremovable::InCooldown);
        }
        let size = self.sizes.entry(group.name.clone()).or_default();
        if *size <= group.min {
            return Err(Unremovable::NodeGroupMinSizeReached);
        }
        let (cores, memory) = self.capacities.get(&removal.node).copied().unwrap_or_default();
        let (least_cores, least_memory) = (question.options.cores.min, question.options.memory.min);
        if self.cores - cores < least_cores || self.memory - memory < least_memory {
            return Err(Unremovable::MinimalResourceLimitExceeded);
        }
        let node = question.world.nodes.iter().find(|it| node::name(it) == removal.node);
        if let Some((kind, count)) = node.and_then(|it| node::gpus(it)) {
            let least = question.options.gpus.get(kind).map_or(0, |it| it.min);
            let left = self.gpus.entry(kind.to_owned()).or_default();
            if *left - count < least {
                return Err(Unremovable::MinimalResourceLimitExceeded);
            }
            *left -= count;
        }
        *size -= 1;
        (self.cores, self.memory) = (self.cores - cores, self.memory - memory);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
