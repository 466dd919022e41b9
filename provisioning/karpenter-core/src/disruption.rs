//! Which nodes to take away, and what to make in their place: emptiness, drift, consolidation.
//!
//! [`Fleet::next_command`] gives the first command of upstream's order: empty nodes, drifted nodes, several
//! nodes for at most one, one node for at most one. Each is tried on a copy of the state, and says
//! what it saves. The pure parts of the other ways are beside: [`expiration`] and [`budget`].
//!
//! Pods that wait for a place take part in each trial, so that no node goes that they could be on; a
//! pod that no node could take holds up nothing.
//!
//! Upstream: `pkg/controllers/disruption` of kubernetes-sigs/karpenter.

mod apply;
mod balance;
pub mod budget;
mod candidate;
mod consolidation;
mod drift;
pub mod expiration;
mod repack;
mod trial;

use std::{collections::BTreeMap, sync::Arc};

use api_kube::karpenter::{
    ConsolidationPolicy, DisruptionReason, NillableDuration, NodePool, capacity_types,
};
use jiff::Timestamp;

pub(crate) use self::candidate::eviction_cost;
use self::trial::Waiting;
pub use self::{
    candidate::{Candidate, Kept, KeptBy, blocking_budgets, is_consolidatable},
    drift::{HASH_VERSION, class_hash, pool_drift, pool_hash},
};
use crate::{
    engine::{ClassId, Engine},
    outcome::NewClaim,
    snapshot::{Pending, Snapshot, is_initialized},
    state::State,
    static_pool::{self, static_claim},
    world::{InstanceType, World},
};

/// Upstream's feature gates that change a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    pub spot_to_spot_consolidation: bool,
    /// Static NodePools take part: their drifted nodes are replaced one for one.
    pub static_capacity: bool,
    /// Ours: several nodes may go for several cheaper ones.
    pub repacking: bool,
}

/// Nodes to take away together.
#[derive(Clone, Debug)]
pub struct Command {
    pub reason: DisruptionReason,
    /// `empty`, `static-drift`, `drift`, `multi`, `single`, `repack`.
    pub method: &'static str,
    pub nodes: Vec<Candidate>,
    pub replacements: Vec<NewClaim>,
    /// Where the pods go: (pod, node), or the place of a replacement.
    pub moves: Vec<(String, Destination)>,
    /// US dollars per hour.
    pub saving: f64,
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    Node(String),
    Replacement(usize),
}

/// The nodes of a cluster, ready to be asked what could go.
#[derive(Debug)]
pub struct Fleet {
    engine: Engine,
    start: State,
    pub candidates: Vec<Candidate>,
    /// Nodes that cannot be disrupted, and why; after a decision, those too that it has no use for.
    pub kept: Vec<Kept>,
    /// Pods without a node for which there is a place.
    waiting: Waiting,
    /// What pods of a class miss, once it has been asked.
    missed: BTreeMap<ClassId, String>,
    /// Drifted nodes of static pools, with what would take their place.
    statics: Vec<(Candidate, NewClaim)>,
    places: BTreeMap<String, usize>,
    pools: Vec<NodePool>,
    /// Per pool: its nodes, and those that are gone in effect.
    counts: BTreeMap<String, (u32, u32)>,
    gates: Gates,
    now: Timestamp,
}

impl Fleet {
    pub fn new(
        snapshot: &Snapshot,
        types: impl Fn(&NodePool) -> Option<Arc<[InstanceType]>>,
        now: Timestamp,
        gates: Gates,
    ) -> Self {
        let world: World = snapshot.world(&types, Pending::Unschedulable);
        let places: BTreeMap<String, usize> =
            world.nodes.iter().enumerate().map(|(at, it)| (it.name.clone(), at)).collect();
        let by_node = snapshot.pods_by_node();
        let (mut candidates, mut kept, mut statics) = (Vec::new(), Vec::new(), Vec::new());
        let mut keep = |node, by, why| kept.push(Kept { node, by, why });
        for node in &snapshot.nodes {
            let name = node.metadata.name.clone().unwrap_or_default();
            let pods = by_node.get(name.as_str()).map_or(&[][..], Vec::as_slice);
            match candidate::candidate(snapshot, &world.pools, node, pods, now) {
                Ok(it) if is_static(snapshot, &it.pool) => {
                    let pool = snapshot.pools.iter().find(|pool| pool.name() == it.pool);
                    let is_wanted = gates.static_capacity && it.drift.is_some();
                    let pool = pool.filter(|_| is_wanted);
                    let has_room = |pool: &&NodePool| static_pool::room(snapshot, pool) > 0;
                    let claim = |pool| static_claim(snapshot, pool, types(pool)?);
                    match (pool.filter(has_room), pool) {
                        (None, Some(_)) => {
                            let why = "limits.nodes leave no room for its replacement";
                            keep(name, KeptBy::Other, why.to_owned());
                        }
                        (pool, _) => match pool.and_then(claim) {
                            Some(claim) => statics.push((it, claim)),
                            None => {
                                let why = format!("its NodePool {} is static", it.pool);
                                keep(name, KeptBy::Other, why);
                            }
                        },
                    }
                }
                Ok(it) if places.contains_key(&it.name) => {
                    if let Some((by, why)) = resting(snapshot, &it) {
                        keep(name, by, why);
                    }
                    candidates.push(it);
                }
                Ok(_) => keep(name, KeptBy::Other, "it is being disrupted".to_owned()),
                Err((by, why)) => keep(name, by, why),
            }
        }
        candidates.sort_by(|a, b| worth(b).total_cmp(&worth(a)).then_with(|| a.name.cmp(&b.name)));
        let mut engine = Engine::new(world);
        let start = State::new(&engine);
        let pending = std::mem::take(&mut engine.world.pods);
        let waiting = Waiting::new(&mut engine, &start, pending);
        let pools = snapshot.pools.clone();
        let counts = pools.iter().map(|it| (it.name().to_owned(), counts(snapshot, it.name())));
        let counts = counts.collect();
        Self {
            engine,
            start,
            candidates,
            kept,
            waiting,
            missed: BTreeMap::new(),
            statics,
            places,
            pools,
            counts,
            gates,
            now,
        }
    }

    /// The next command, if there is any.
    pub fn next_command(&mut self) -> Option<Command> {
        self.empty()
            .or_else(|| self.drifted_static())
            .or_else(|| self.drifted())
            .or_else(|| consolidation::several(self))
            .or_else(|| consolidation::one(self))
            .or_else(|| if self.gates.repacking { repack::repack(self) } else { None })
    }

    /// How many more nodes of a pool may go for a reason.
    fn allowed(&self, pool: &str, reason: DisruptionReason) -> u32 {
        let Some(found) = self.pools.iter().find(|it| it.name() == pool) else { return 0 };
        let (nodes, disrupted) = self.counts.get(pool).copied().unwrap_or_default();
        budget::allowed(found, reason, self.now, nodes, disrupted)
    }

    /// The pools with nodes of which budgets let none go for a reason, however many do already.
    pub fn blocked_pools(&self) -> Vec<(String, DisruptionReason)> {
        use DisruptionReason::{Drifted, Empty, Underutilized};
        let each = self.pools.iter().flat_map(|pool| {
            let nodes = self.counts.get(pool.name()).map_or(0, |it| it.0);
            let reasons = [Empty, Drifted, Underutilized].into_iter();
            let blocked = reasons.filter(move |reason| {
                nodes > 0 && budget::allowed(pool, *reason, self.now, nodes, 0) == 0
            });
            blocked.map(|reason| (pool.name().to_owned(), reason))
        });
        each.collect()
    }

    /// Candidates for a reason, no more of each pool than its budgets allow.
    fn within_budgets(
        &self,
        reason: DisruptionReason,
        is_wanted: impl Fn(&Candidate) -> bool,
    ) -> Vec<Candidate> {
        let mut left: BTreeMap<&str, u32> = BTreeMap::new();
        let wanted = self.candidates.iter().filter(|it| is_wanted(it));
        let allowed = wanted.filter(|it| {
            let left =
                left.entry(it.pool.as_str()).or_insert_with(|| self.allowed(&it.pool, reason));
            let is_allowed = *left > 0;
            *left = left.saturating_sub(1);
            is_allowed
        });
        allowed.cloned().collect()
    }

    fn empty(&self) -> Option<Command> {
        let is_wanted =
            |it: &Candidate| it.is_empty() && it.is_consolidatable && it.protected.is_none();
        let nodes = self.within_budgets(DisruptionReason::Empty, is_wanted);
        if nodes.is_empty() {
            return None;
        }
        Some(Command {
            reason: DisruptionReason::Empty,
            method: "empty",
            saving: nodes.iter().filter_map(|it| it.price).sum(),
            why: "no pod needs them".to_owned(),
            replacements: Vec::new(),
            moves: Vec::new(),
            nodes,
        })
    }

    /// Whether drift may touch it: a grace period goes before what protects its pods.
    fn may_drift(&self, it: &Candidate) -> bool {
        let is_bound = self.pools.iter().any(|pool| {
            pool.name() == it.pool && pool.spec.template.spec.termination_grace_period.is_some()
        });
        it.drift.is_some() && (it.protected.is_none() || is_bound)
    }

    /// One drifted node of a static pool, for a new one: where its pods go is not asked.
    fn drifted_static(&self) -> Option<Command> {
        let is_allowed = |it: &Candidate| self.allowed(&it.pool, DisruptionReason::Drifted) > 0;
        let mut all = self.statics.iter();
        let (node, claim) = all.find(|(it, _)| self.may_drift(it) && is_allowed(it))?;
        Some(Command {
            reason: DisruptionReason::Drifted,
            method: "static-drift",
            saving: node.price.map_or(0.0, |it| it - claim.price()),
            why: node.drift.clone().unwrap_or_default(),
            nodes: vec![node.clone()],
            replacements: vec![claim.clone()],
            moves: Vec::new(),
        })
    }

    /// One drifted node; empty ones first, then those that have drifted first.
    fn drifted(&mut self) -> Option<Command> {
        let is_wanted = |it: &Candidate| self.may_drift(it);
        let mut nodes = self.within_budgets(DisruptionReason::Drifted, is_wanted);
        let since = |it: &Candidate| it.drifted_since.unwrap_or(Timestamp::MAX);
        nodes.sort_by_key(|it| (!it.is_empty(), since(it)));
        nodes.into_iter().find_map(|node| {
            let why = node.drift.clone().unwrap_or_default();
            let trial = match self.without(std::slice::from_ref(&node)) {
                Ok(trial) => trial,
                Err(no_place) => {
                    let why = self.sentence(&no_place);
                    self.kept.push(Kept { node: node.name, by: KeptBy::Blocked, why });
                    return None;
                }
            };
            let replaced: f64 = trial.replacements.iter().map(NewClaim::price).sum();
            Some(Command {
                reason: DisruptionReason::Drifted,
                method: "drift",
                saving: node.price.unwrap_or(0.0) - replaced,
                nodes: vec![node],
                replacements: trial.replacements,
                moves: trial.moves,
                why,
            })
        })
    }
}

/// What keeps a candidate from consolidation whatever there is elsewhere.
fn resting(snapshot: &Snapshot, it: &Candidate) -> Option<(KeptBy, String)> {
    if let Some(why) = &it.protected {
        return Some((KeptBy::Blocked, why.clone()));
    }
    let name = &it.pool;
    let pool = snapshot.pools.iter().find(|pool| pool.name() == name)?;
    let why = if pool.spec.disruption.consolidate_after == NillableDuration::Never {
        format!("NodePool {name:?} has consolidation disabled")
    } else if it.policy == ConsolidationPolicy::WhenEmpty && !it.is_empty() {
        format!("NodePool {name:?} has non-empty consolidation disabled")
    } else {
        return None;
    };
    Some((KeptBy::Unconsolidatable, why))
}

fn is_static(snapshot: &Snapshot, pool: &str) -> bool {
    snapshot.pools.iter().any(|it| it.name() == pool && it.spec.replicas.is_some())
}

/// The order in which candidates are tried: what is dear and cheap to move first.
fn worth(candidate: &Candidate) -> f64 {
    candidate.price.unwrap_or(0.0) / candidate.disruption_cost.max(1.0)
}

/// How many nodes of a pool its budgets allow to disrupt now.
pub fn allowed_disruptions(
    snapshot: &Snapshot,
    pool: &NodePool,
    reason: DisruptionReason,
    now: Timestamp,
) -> u32 {
    let (nodes, disrupted) = counts(snapshot, pool.name());
    budget::allowed(pool, reason, now, nodes, disrupted).min(nodes)
}

/// How many nodes of a pool count as disrupted to its budgets.
pub fn disrupted_nodes(snapshot: &Snapshot, pool: &NodePool) -> u32 {
    counts(snapshot, pool.name()).1
}

fn counts(snapshot: &Snapshot, pool: &str) -> (u32, u32) {
    let (mut nodes, mut gone) = (0, 0);
    for node in &snapshot.nodes {
        let label = crate::snapshot::label(node, api_kube::karpenter::labels::NODE_POOL);
        if label != Some(pool) || !is_initialized(node) {
            continue;
        }
        nodes += 1;
        let conditions = node.status.as_ref().and_then(|it| it.conditions.as_deref());
        let mut conditions = conditions.unwrap_or_default().iter();
        let is_unready = conditions.any(|it| it.type_ == "Ready" && it.status != "True");
        let claim = candidate::claim_of(snapshot, node);
        let is_leaving = claim.is_some_and(|it| it.metadata.deletion_timestamp.is_some())
            || crate::snapshot::is_going(node);
        gone += u32::from(is_unready || is_leaving);
    }
    (nodes, gone)
}

/// Whether consolidation may touch it although it is not empty.
fn is_underutilized(candidate: &Candidate) -> bool {
    candidate.policy != ConsolidationPolicy::WhenEmpty
        && candidate.is_consolidatable
        && candidate.protected.is_none()
        && !candidate.is_empty()
}

fn is_spot(candidate: &Candidate) -> bool {
    candidate.capacity_type == capacity_types::SPOT
}

#[cfg(test)]
mod tests;
