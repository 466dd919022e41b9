//! Which nodes may be disrupted at all, and why the others may not.

use std::{collections::BTreeMap, sync::Arc};

use api_kube::karpenter::{
    ConsolidationPolicy, NillableDuration, NodeClaim, NodePool, annotations, labels,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{core::v1 as core, policy::v1::PodDisruptionBudget},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::core::{Selector, SelectorExt};
use scheduling::PodInfo;

use crate::{
    snapshot::{
        Snapshot, do_not_disrupt, is_initialized, is_of_node, is_over, is_reschedulable, label,
    },
    world::{InstanceType, Pool},
};

/// A node that stays, and why; said in upstream's words where upstream says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub node: String,
    pub by: KeptBy,
    pub why: String,
}

/// What upstream calls that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptBy {
    /// `DisruptionBlocked`: nothing may disrupt it now.
    Blocked,
    /// `Unconsolidatable`: consolidation has no use for it.
    Unconsolidatable,
    /// It says nothing of it.
    Other,
}

const GOES: &str = "Node is deleting or marked for deletion";

/// A node that may be disrupted.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub name: String,
    pub pool: String,
    pub instance_type: String,
    pub zone: String,
    pub capacity_type: String,
    /// US dollars per hour; `None` where nobody knows.
    pub price: Option<f64>,
    /// What would have to go elsewhere.
    pub pods: Vec<Arc<PodInfo>>,
    /// What it costs the pods to move, in upstream's units.
    pub disruption_cost: f64,
    pub policy: ConsolidationPolicy,
    /// Whether it has been quiet for as long as the pool wants.
    pub is_consolidatable: bool,
    /// Why it has drifted from its pool or class.
    pub drift: Option<String>,
    /// Since when its claim says so.
    pub drifted_since: Option<Timestamp>,
    /// What protects its pods, in upstream's words; does not count for drift with a grace period.
    pub protected: Option<String>,
}

impl Candidate {
    /// No pods that count: upstream's base cost of a node is 1.
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty() || self.disruption_cost <= 1.0
    }
}

/// The node as a candidate, or what keeps it from being one.
pub(super) fn candidate(
    snapshot: &Snapshot,
    pools: &[Pool],
    node: &core::Node,
    pods: &[&core::Pod],
    now: Timestamp,
) -> Result<Candidate, (KeptBy, String)> {
    let blocked = |why: &str| (KeptBy::Blocked, why.to_owned());
    let pool_name = label(node, labels::NODE_POOL);
    let pool_name =
        pool_name.ok_or_else(|| (KeptBy::Other, "it belongs to no NodePool".to_owned()))?;
    let pool = snapshot.pools.iter().find(|it| it.name() == pool_name);
    let pool =
        pool.ok_or_else(|| blocked(&format!("NodePool not found (NodePool={pool_name})")))?;
    if !is_initialized(node) {
        return Err(blocked("Node isn't initialized"));
    }
    let claim = claim_of(snapshot, node);
    let goes = [Some(&node.metadata), claim.map(|it| &it.metadata)];
    if goes.into_iter().flatten().any(|it| it.deletion_timestamp.is_some()) {
        return Err(blocked(GOES));
    }
    if node.metadata.name.as_ref().is_some_and(|it| snapshot.nominated.contains(it)) {
        return Err(blocked("Node is nominated for a pending pod"));
    }
    let annotated = [Some(&node.metadata), claim.map(|it| &it.metadata)];
    if annotated
        .into_iter()
        .flatten()
        .any(|it| do_not_disrupt(it.annotations.as_ref()) == Some("true"))
    {
        let key = annotations::DO_NOT_DISRUPT;
        return Err(blocked(&format!("Disruption is blocked through the {key:?} annotation")));
    }
    let need = |key: &str| {
        let missing = || format!("Node does not have label {key:?}");
        label(node, key).ok_or_else(|| (KeptBy::Unconsolidatable, missing()))
    };
    let (capacity_type, zone) = (need(labels::CAPACITY_TYPE)?, need(labels::ZONE)?);
    let instance_type = need(labels::INSTANCE_TYPE)?;
    let types = pools.iter().find(|it| it.name == pool_name).map(|it| &it.types);
    let kind = types.and_then(|it| it.iter().find(|it| &*it.name == instance_type));
    // The types of a static pool take no part in decisions, and are not there to be asked.
    let is_known = kind.is_some() || pool.spec.replicas.is_some();
    let moving: Vec<&core::Pod> = pods.iter().copied().filter(|it| is_reschedulable(it)).collect();
    let cost = 1.0 + moving.iter().map(|it| eviction_cost(it)).sum::<f64>();
    Ok(Candidate {
        name: node.metadata.name.clone().unwrap_or_default(),
        pool: pool_name.to_owned(),
        instance_type: instance_type.to_owned(),
        zone: zone.to_owned(),
        capacity_type: capacity_type.to_owned(),
        price: kind.and_then(|it| price(it, zone, capacity_type)),
        disruption_cost: cost,
        policy: pool.spec.disruption.consolidation_policy,
        is_consolidatable: is_quiet(pool, claim, node, now),
        drift: claim.and_then(|it| super::drift::drift(pool, it, node, is_known, now)),
        drifted_since: claim
            .and_then(|it| it.condition("Drifted"))
            .map(|it| it.last_transition_time.0),
        protected: protected(snapshot, pods, now),
        pods: moving.into_iter().map(|it| snapshot.info(it)).collect(),
    })
}

pub(super) fn claim_of<'a>(snapshot: &'a Snapshot, node: &core::Node) -> Option<&'a NodeClaim> {
    let provider = node.spec.as_ref().and_then(|it| it.provider_id.as_deref());
    snapshot.claims.iter().find(|it| {
        let status = it.status.as_ref();
        let by_name =
            status.and_then(|it| it.node_name.as_deref()) == node.metadata.name.as_deref();
        let by_id = status.and_then(|it| it.provider_id.as_deref());
        (by_name && node.metadata.name.is_some()) || (by_id.is_some() && by_id == provider)
    })
}

fn price(kind: &InstanceType, zone: &str, capacity_type: &str) -> Option<f64> {
    let mut offerings = kind.offerings.iter();
    offerings.find(|it| it.zone() == zone && it.capacity_type() == capacity_type).map(|it| it.price)
}

/// Whether a claim's condition `Consolidatable` holds: consolidation may look at its node.
pub fn is_consolidatable(pool: &NodePool, claim: &NodeClaim, now: Timestamp) -> bool {
    pool.spec.replicas.is_none()
        && claim.is_true("Initialized")
        && is_quiet(pool, Some(claim), &core::Node::default(), now)
}

/// Whether no pod has come or gone for `consolidateAfter`.
fn is_quiet(pool: &NodePool, claim: Option<&NodeClaim>, node: &core::Node, now: Timestamp) -> bool {
    let NillableDuration::After(after) = pool.spec.disruption.consolidate_after else {
        return false;
    };
    let status = claim.and_then(|it| it.status.as_ref());
    let last_pod = status.and_then(|it| it.last_pod_event_time.as_ref()).map(|it| it.0);
    let initialized =
        claim.and_then(|it| it.condition("Initialized")).map(|it| it.last_transition_time.0);
    let made = node.metadata.creation_timestamp.as_ref().map(|it| it.0);
    let since = last_pod.max(initialized).or(made);
    let after = SignedDuration::try_from(after).unwrap_or(SignedDuration::MAX);
    since.is_none_or(|it| now.duration_since(it) >= after)
}

/// Upstream: `EvictionCost`. Deletion cost and priority make a pod dearer to move.
pub(crate) fn eviction_cost(pod: &core::Pod) -> f64 {
    let annotations = pod.metadata.annotations.as_ref();
    let deletion = annotations.and_then(|it| it.get("controller.kubernetes.io/pod-deletion-cost"));
    let deletion = deletion.and_then(|it| it.parse::<f64>().ok()).unwrap_or(0.0);
    let priority = f64::from(pod.spec.as_ref().and_then(|it| it.priority).unwrap_or(0));
    let cost = 1.0 + deletion / (1_u64 << 27) as f64 + priority / (1_u64 << 25) as f64;
    cost.clamp(-10.0, 10.0)
}

/// What keeps the node's pods where they are: their own wish, or a budget that allows no eviction.
fn protected(snapshot: &Snapshot, pods: &[&core::Pod], now: Timestamp) -> Option<String> {
    let evictable = pods.iter().filter(|it| !is_over(it) && !is_mirror(it) && !tolerates_it(it));
    for pod in evictable {
        let name = name_of(&pod.metadata);
        if wants_to_stay(pod, now) {
            let key = annotations::DO_NOT_DISRUPT;
            return Some(format!("Pod has {key:?} annotation (Pod={name})"));
        }
        if is_of_node(pod) {
            continue;
        }
        let names = in_the_way(&snapshot.budgets, pod);
        match &names[..] {
            [] => {}
            [name] => {
                return Some(format!("Pdb prevents pod evictions (PodDisruptionBudget={name})"));
            }
            _ => {
                let all = names.join(" ");
                return Some(format!(
                    "Eviction does not support multiple PDBs (PodDisruptionBudget(s)=[{all}])"
                ));
            }
        }
    }
    None
}

/// The budgets that keep any of a node's pods from being evicted now, by the first of these pods.
pub fn blocking_budgets(budgets: &[PodDisruptionBudget], pods: &[&core::Pod]) -> Vec<String> {
    let evictable = pods.iter().filter(|it| !is_over(it) && !is_mirror(it) && !tolerates_it(it));
    let mut each = evictable.map(|it| in_the_way(budgets, it));
    each.find(|it| !it.is_empty()).unwrap_or_default()
}

/// The budgets that keep a pod from being evicted now: one that allows no eviction, or more than one,
/// which the API server does not count together.
fn in_the_way(budgets: &[PodDisruptionBudget], pod: &core::Pod) -> Vec<String> {
    let of: Vec<_> = budgets.iter().filter(|it| selects(it, pod)).collect();
    let is_full = |it: &PodDisruptionBudget| {
        it.status.as_ref().is_some_and(|it| it.disruptions_allowed.unwrap_or(0) < 1)
    };
    // What is not ready may go where its budget says so.
    let lets_ill_go = |it: &PodDisruptionBudget| {
        let policy = it.spec.as_ref().and_then(|it| it.unhealthy_pod_eviction_policy.as_deref());
        policy == Some("AlwaysAllow") && is_ill(pod)
    };
    let is_free = |it: &PodDisruptionBudget| !is_full(it) || lets_ill_go(it);
    match &of[..] {
        [] => Vec::new(),
        [one] if is_free(one) => Vec::new(),
        all => all.iter().map(|it| name_of(&it.metadata)).collect(),
    }
}

fn is_ill(pod: &core::Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|it| it.conditions.as_deref());
    conditions.unwrap_or_default().iter().any(|it| it.type_ == "Ready" && it.status == "False")
}

fn name_of(metadata: &ObjectMeta) -> String {
    let part = |it: &Option<String>| it.clone().unwrap_or_default();
    format!("{}/{}", part(&metadata.namespace), part(&metadata.name))
}

fn is_mirror(pod: &core::Pod) -> bool {
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().any(|it| it.kind == "Node")
}

/// Whether it stays on a disrupted node until the end.
fn tolerates_it(pod: &core::Pod) -> bool {
    let taint = core::Taint {
        key: api_kube::karpenter::taints::DISRUPTED.to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Default::default()
    };
    let tolerations = pod.spec.as_ref().and_then(|it| it.tolerations.as_deref());
    tolerations.unwrap_or_default().iter().any(|it| scheduling::tolerates(it, &taint))
}

fn wants_to_stay(pod: &core::Pod, now: Timestamp) -> bool {
    match do_not_disrupt(pod.metadata.annotations.as_ref()) {
        None => false,
        Some("true") => true,
        Some(text) => {
            let Ok(NillableDuration::After(length)) = text.parse() else { return false };
            let started = pod.status.as_ref().and_then(|it| it.start_time.as_ref());
            let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
            started.is_some_and(|it| now.duration_since(it.0) < length)
        }
    }
}

fn selects(budget: &PodDisruptionBudget, pod: &core::Pod) -> bool {
    if budget.metadata.namespace != pod.metadata.namespace {
        return false;
    }
    let none = BTreeMap::new();
    let labels = pod.metadata.labels.as_ref().unwrap_or(&none);
    let selector = budget.spec.as_ref().and_then(|it| it.selector.as_ref());
    let Some(selector) = selector else { return false };
    // Each pod is compared with each budget: most differ in a label.
    let mut wanted = selector.match_labels.iter().flatten();
    if !wanted.all(|(key, value)| labels.get(key) == Some(value)) {
        return false;
    }
    if selector.match_expressions.iter().flatten().next().is_none() {
        return true;
    }
    let selector: Option<Selector> = selector.clone().try_into().ok();
    selector.is_some_and(|it| it.matches(labels))
}
