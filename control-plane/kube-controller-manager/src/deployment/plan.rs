//! The one step that a Deployment needs next.

use std::{collections::HashSet, sync::Arc};

use controller::object;
use k8s_openapi::{
    api::apps::v1::{Deployment, ReplicaSet},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{revision, rolling};

/// Upstream's `revisionHistoryLimit`, where the API server has not set it.
const HISTORY_LIMIT: i32 = 10;

/// A Deployment and its ReplicaSets.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) deployment: Arc<Deployment>,
    /// The ReplicaSet that has the Deployment's template.
    pub(crate) new: Option<Arc<ReplicaSet>>,
    /// All others, the oldest first.
    pub(crate) old: Vec<Arc<ReplicaSet>>,
    /// UIDs of those that have pods which are not over.
    running: HashSet<String>,
}

/// What to do now. The status is written in any case.
#[derive(Debug, PartialEq)]
pub(crate) enum Plan {
    Nothing,
    Create(Box<ReplicaSet>),
    /// Gives the ReplicaSet of the template what else it takes over from the Deployment.
    Renew {
        set: Arc<ReplicaSet>,
        patch: serde_json::Value,
    },
    Scale(Vec<Scale>),
    /// Deletes what exceeds the history.
    Clean(Vec<Arc<ReplicaSet>>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scale {
    pub(crate) set: Arc<ReplicaSet>,
    pub(crate) to: i32,
}

impl Scale {
    pub(crate) fn from(&self) -> i32 {
        size(&self.set)
    }
}

impl Observed {
    pub(crate) fn new(
        deployment: Arc<Deployment>,
        mut sets: Vec<Arc<ReplicaSet>>,
        running: HashSet<String>,
    ) -> Self {
        sets.sort_by_key(|it| (object::created_at(&**it), it.metadata.name.clone()));
        let template = deployment.spec.as_ref().map(|it| &it.template);
        // The oldest match, so that the choice stays the same whatever appears later.
        let position = template
            .and_then(|template| sets.iter().position(|it| revision::has_template(it, template)));
        let new = position.map(|at| sets.remove(at));
        Self { deployment, new, old: sets, running }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new)
    }

    fn has_running_old_pods(&self) -> bool {
        self.old.iter().any(|it| self.running.contains(&object::uid(&**it)))
    }
}

pub(crate) fn plan(observed: &Observed) -> Plan {
    let deployment = &*observed.deployment;
    if object::is_terminating(deployment) {
        return Plan::Nothing;
    }
    if let Some(set) = &observed.new
        && let Some(patch) = revision::renewal(deployment, set, next_revision(observed))
    {
        return Plan::Renew { set: set.clone(), patch };
    }
    let spec = deployment.spec.as_ref();
    if spec.and_then(|it| it.paused) == Some(true) {
        return rolling::rescale(observed).unwrap_or_else(|| clean(observed));
    }
    if is_scaled(observed)
        && let Some(plan) = rolling::rescale(observed)
    {
        return plan;
    }
    let strategy = spec.and_then(|it| it.strategy.as_ref()?.type_.as_deref());
    let step =
        if strategy == Some("Recreate") { recreate(observed) } else { rolling::step(observed) };
    step.unwrap_or_else(|| clean(observed))
}

/// One more than the highest of the old ones.
pub(crate) fn next_revision(observed: &Observed) -> i64 {
    let highest = revision::highest(&observed.old);
    let own = observed.new.as_ref().map_or(0, |it| revision::revision_of(it));
    own.max(highest + 1)
}

/// All old pods must be gone before the first new one is made.
fn recreate(observed: &Observed) -> Option<Plan> {
    let down = observed.old.iter().filter(|it| size(it) > 0);
    let down: Vec<_> = down.map(|it| Scale { set: it.clone(), to: 0 }).collect();
    if !down.is_empty() {
        return Some(Plan::Scale(down));
    }
    if observed.has_running_old_pods() {
        return Some(Plan::Nothing);
    }
    let wanted = replicas(&observed.deployment);
    match &observed.new {
        None => Some(create(observed, wanted)),
        Some(set) if size(set) != wanted => {
            Some(Plan::Scale(vec![Scale { set: set.clone(), to: wanted }]))
        }
        Some(_) => None,
    }
}

pub(crate) fn create(observed: &Observed, count: i32) -> Plan {
    let revision = revision::highest(&observed.old) + 1;
    Plan::Create(Box::new(revision::new_replica_set(&observed.deployment, revision, count)))
}

/// Whether `replicas` was changed since the ReplicaSets were scaled last.
fn is_scaled(observed: &Observed) -> bool {
    let wanted = replicas(&observed.deployment);
    let mut active = observed.all().filter(|it| size(it) > 0);
    active.any(|it| {
        let noted = object::annotation(&**it, revision::DESIRED).and_then(|it| it.parse().ok());
        noted.is_some_and(|noted: i32| noted != wanted)
    })
}

/// Old ReplicaSets beyond the history limit, once the rollout is done.
fn clean(observed: &Observed) -> Plan {
    let spec = observed.deployment.spec.as_ref();
    let limit = spec.and_then(|it| it.revision_history_limit).unwrap_or(HISTORY_LIMIT);
    if limit == i32::MAX || !is_complete(observed) {
        return Plan::Nothing;
    }
    let is_unused = |it: &&Arc<ReplicaSet>| {
        let pods = it.status.as_ref().map_or(0, |it| it.replicas);
        size(it) == 0
            && pods == 0
            && !object::is_terminating(&***it)
            && it.metadata.generation <= it.status.as_ref().and_then(|it| it.observed_generation)
    };
    let mut unused: Vec<_> = observed.old.iter().filter(is_unused).cloned().collect();
    unused.sort_by_key(|it| revision::revision_of(it));
    let surplus = unused.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    unused.truncate(surplus);
    if unused.is_empty() { Plan::Nothing } else { Plan::Clean(unused) }
}

/// Whether every pod is of the new template and available.
pub(crate) fn is_complete(observed: &Observed) -> bool {
    let wanted = replicas(&observed.deployment);
    let count = |of: fn(&ReplicaSet) -> i32| observed.all().map(|it| of(it)).sum::<i32>();
    observed.new.as_ref().is_some_and(|it| actual(it) == wanted)
        && count(actual) == wanted
        && count(available) == wanted
}

pub(crate) fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|it| it.replicas).unwrap_or(0)
}

pub(crate) fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |it| it.replicas)
}

pub(crate) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|it| it.available_replicas).unwrap_or(0)
}

pub(crate) fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|it| it.replicas).unwrap_or(1)
}

/// How many pods more than wanted there may be, and how many fewer available.
pub(crate) fn bounds(deployment: &Deployment) -> (i32, i32) {
    let spec = deployment.spec.as_ref();
    let rolling = spec.and_then(|it| it.strategy.as_ref()?.rolling_update.as_ref());
    let quarter = IntOrString::String("25%".into());
    let total = replicas(deployment);
    let surge = rolling.and_then(|it| it.max_surge.as_ref()).unwrap_or(&quarter);
    let surge = scaled(surge, total, Round::Up);
    let unavailable = rolling.and_then(|it| it.max_unavailable.as_ref()).unwrap_or(&quarter);
    let unavailable = scaled(unavailable, total, Round::Down);
    // With both at zero nothing could ever move.
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable.min(total)) }
}

pub(crate) fn max_surge(deployment: &Deployment) -> i32 {
    let strategy = deployment.spec.as_ref().and_then(|it| it.strategy.as_ref()?.type_.as_deref());
    if strategy == Some("Recreate") { 0 } else { bounds(deployment).0 }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    Up,
    Down,
}

/// A number, or a percentage of `total`.
pub(crate) fn scaled(value: &IntOrString, total: i32, round: Round) -> i32 {
    match value {
        IntOrString::Int(number) => (*number).max(0),
        IntOrString::String(text) => {
            let percent = text.trim_end_matches('%').parse::<i64>().unwrap_or(0).max(0);
            let product = percent * i64::from(total.max(0));
            let result = if round == Round::Up { (product + 99) / 100 } else { product / 100 };
            i32::try_from(result).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
