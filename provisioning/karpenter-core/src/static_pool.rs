//! Static NodePools: so many nodes as they say, whatever pods there are.
//!
//! Nodes that go already do not count. Too few: claims are made, no more than `limits.nodes` allows.
//! Too many: first those go that are no nodes yet, then empty ones, then those whose pods are cheapest
//! to move; what wants to stay goes last.
//!
//! Upstream: `pkg/controllers/static` of kubernetes-sigs/karpenter.

use std::sync::Arc;

use api_kube::karpenter::{NodeClaim, NodePool, labels};
use k8s_openapi::api::core::v1 as core;
use resources::Quantity;
use scheduling::PodInfo;

use crate::{
    disruption::eviction_cost,
    outcome::NewClaim,
    snapshot::{Snapshot, do_not_disrupt, is_going, is_reschedulable},
    solve::{Effort, solve},
    world::{InstanceType, Pool, Used, World},
};

/// What a static pool needs to be as large as it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scaling {
    Enough,
    /// So many claims more.
    Up(usize),
    /// These claims go.
    Down(Vec<String>),
}

/// `Enough` for a pool that is not static.
pub fn scaling(snapshot: &Snapshot, pool: &NodePool) -> Scaling {
    let Some(replicas) = pool.spec.replicas else { return Scaling::Enough };
    let wanted = usize::try_from(replicas).unwrap_or(0);
    let mut staying: Vec<(&NodeClaim, Option<&core::Node>)> = claims(snapshot, pool)
        .filter(|it| it.metadata.deletion_timestamp.is_none())
        .map(|it| (it, node_of(snapshot, it)))
        .filter(|(_, node)| !node.is_some_and(is_going))
        .collect();
    if staying.len() < wanted {
        let missing = (wanted - staying.len()).min(room(snapshot, pool));
        return if missing == 0 { Scaling::Enough } else { Scaling::Up(missing) };
    }
    let too_many = staying.len() - wanted;
    if too_many == 0 {
        return Scaling::Enough;
    }
    staying.sort_by(|a, b| {
        let (x, y) = (rank(snapshot, a), rank(snapshot, b));
        x.0.cmp(&y.0).then(x.1.total_cmp(&y.1)).then_with(|| a.0.name().cmp(b.0.name()))
    });
    Scaling::Down(staying.iter().take(too_many).map(|(it, _)| it.name().to_owned()).collect())
}

/// How many claims more `limits.nodes` allows; those that go still count.
pub(crate) fn room(snapshot: &Snapshot, pool: &NodePool) -> usize {
    let limits = pool.spec.limits.as_ref().and_then(|it| it.get("nodes"));
    let limit = limits.and_then(|it| it.0.parse::<Quantity>().ok());
    let limit = limit.map_or(usize::MAX, |it| usize::try_from(it.value()).unwrap_or(0));
    limit.saturating_sub(claims(snapshot, pool).count())
}

fn claims<'a>(snapshot: &'a Snapshot, pool: &'a NodePool) -> impl Iterator<Item = &'a NodeClaim> {
    snapshot.claims.iter().filter(|it| {
        let labels = it.metadata.labels.as_ref();
        labels.and_then(|it| it.get(labels::NODE_POOL)).is_some_and(|it| it == pool.name())
    })
}

fn node_of<'a>(snapshot: &'a Snapshot, claim: &NodeClaim) -> Option<&'a core::Node> {
    let provider = claim.status.as_ref()?.provider_id.as_deref()?;
    snapshot
        .nodes
        .iter()
        .find(|it| it.spec.as_ref().and_then(|it| it.provider_id.as_deref()) == Some(provider))
}

/// The lower goes first: whether it wants to stay, and what its pods cost to move.
fn rank(snapshot: &Snapshot, (claim, node): &(&NodeClaim, Option<&core::Node>)) -> (u8, f64) {
    let Some(node) = node else { return (0, 0.0) };
    let name = node.metadata.name.as_deref();
    let on_node = snapshot.pods.iter().filter(|it| {
        let of = it.spec.as_ref().and_then(|it| it.node_name.as_deref());
        of == name && is_reschedulable(it)
    });
    let pods: Vec<&core::Pod> = on_node.collect();
    let stays = |marks| do_not_disrupt(marks) == Some("true");
    let is_protected = stays(node.metadata.annotations.as_ref())
        || stays(claim.metadata.annotations.as_ref())
        || pods.iter().any(|it| do_not_disrupt(it.metadata.annotations.as_ref()).is_some());
    let cost = pods.iter().map(|it| eviction_cost(it)).sum();
    (if is_protected { 2 } else { 1 }, cost)
}

/// As many nodes of a static pool as are wanted, or as can be had. Those that are paid for by a
/// capacity reservation are no more than it has room for.
pub fn static_claims(
    snapshot: &Snapshot,
    pool: &NodePool,
    types: Arc<[InstanceType]>,
    count: usize,
) -> Vec<NewClaim> {
    let (mut claims, mut types) = (Vec::new(), types);
    let mut next = static_claim(snapshot, pool, types.clone());
    while claims.len() < count {
        let Some(claim) = next.clone() else { break };
        if let Some(id) = claim.options.first().and_then(|it| it.reservation.clone()) {
            types = types.iter().map(|it| without_room(it, &id)).collect();
            next = static_claim(snapshot, pool, types.clone());
        }
        claims.push(claim);
    }
    claims
}

/// A type when one instance more is in the reservation.
fn without_room(kind: &InstanceType, id: &str) -> InstanceType {
    let mut kind = kind.clone();
    for offering in &mut kind.offerings {
        let Some(reservation) = offering.reservation.as_mut().filter(|it| &*it.id == id) else {
            continue;
        };
        reservation.left = reservation.left.saturating_sub(1);
        offering.is_available &= reservation.left > 0;
    }
    kind
}

/// One node of a static pool: whatever its requirements allow, daemons included.
pub(crate) fn static_claim(
    snapshot: &Snapshot,
    pool: &NodePool,
    types: Arc<[InstanceType]>,
) -> Option<NewClaim> {
    let mut wanted = Pool::new(pool, types, Used::default());
    // How many there may be has been asked before.
    wanted.limits = None;
    let all = snapshot.world(|_| None, crate::snapshot::Pending::Unschedulable);
    // The least that a pod can be, on nothing but the pool's own terms.
    let mut pod = PodInfo::new(&core::Pod::default());
    pod.tolerations = vec![core::Toleration {
        operator: Some("Exists".to_owned()),
        ..core::Toleration::default()
    }];
    let world = World {
        pools: vec![wanted],
        pods: vec![Arc::new(pod)],
        daemons: all.daemons,
        ..World::default()
    };
    solve(world, Effort::FirstFit).claims.pop()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::world::{Offering, Reservation};

    fn pool(spec: Value) -> NodePool {
        serde_json::from_value(json!({ "metadata": { "name": "a" }, "spec": spec })).unwrap()
    }

    /// A claim with a node, which has so many pods.
    fn add(snapshot: &mut Snapshot, name: &str, pods: Option<usize>, marks: Value) {
        let mut claim =
            json!({ "metadata": { "name": name, "labels": { labels::NODE_POOL: "a" } } });
        if let Some(pods) = pods {
            let provider = format!("aws:///z/{name}");
            claim["status"] = json!({ "providerID": provider });
            snapshot.nodes.push(
                serde_json::from_value(json!({
                    "metadata": { "name": name, "annotations": marks },
                    "spec": { "providerID": provider } }))
                .unwrap(),
            );
            for at in 0..pods {
                let pod = json!({ "metadata": { "name": format!("{name}-{at}") },
                    "spec": { "nodeName": name, "containers": [] } });
                snapshot.pods.push(serde_json::from_value(pod).unwrap());
            }
        }
        snapshot.claims.push(serde_json::from_value(claim).unwrap());
    }

    #[test]
    fn what_is_no_node_yet_goes_first_and_what_wants_to_stay_last() {
        let mut snapshot = Snapshot::default();
        add(&mut snapshot, "kept", Some(0), json!({ "karpenter.sh/do-not-disrupt": "true" }));
        add(&mut snapshot, "busy", Some(2), json!({}));
        add(&mut snapshot, "empty", Some(0), json!({}));
        add(&mut snapshot, "coming", None, json!({}));
        let order = ["coming", "empty", "busy", "kept"];
        for replicas in 0..4 {
            let found = scaling(&snapshot, &pool(json!({ "replicas": replicas })));
            let gone = order[..4 - replicas].iter().map(ToString::to_string).collect();
            assert_eq!(found, Scaling::Down(gone), "{replicas}");
        }
        assert_eq!(scaling(&snapshot, &pool(json!({ "replicas": 4 }))), Scaling::Enough);
    }

    #[test]
    fn no_more_nodes_are_to_be_in_a_reservation_than_it_has_room_for() {
        let reservation = Reservation { id: "cr-1".into(), left: 2 };
        let mut kind = InstanceType {
            name: "m5.large".into(),
            offerings: vec![
                Offering::new("a", "on-demand", 1.0),
                Offering::reserved("a", reservation, 1.0),
            ],
            ..InstanceType::default()
        };
        for (name, amount) in [("cpu", 2000), ("memory", 1 << 30), ("pods", 10)] {
            kind.capacity.set(name, amount);
            kind.allocatable.set(name, amount);
        }
        let pool = pool(json!({ "replicas": 3, "template": { "spec": {
            "requirements": [{ "key": labels::CAPACITY_TYPE, "operator": "In",
                "values": ["on-demand", "reserved"] }],
            "nodeClassRef": { "group": "g", "kind": "k", "name": "n" } } } }));
        let types: Arc<[InstanceType]> = [kind].into();
        let made = static_claims(&Snapshot::default(), &pool, types.clone(), 3);
        let capacity = |it: &NewClaim| it.options[0].capacity_type.to_string();
        let all: Vec<String> = made.iter().map(capacity).collect();
        assert_eq!(all, ["reserved", "reserved", "on-demand"]);
        let named = |it: &NewClaim| it.requirements.get(labels::CAPACITY_RESERVATION_ID).cloned();
        assert!(named(&made[1]).is_some_and(|it| it.has("cr-1")));
        assert!(named(&made[2]).is_none_or(|it| !it.has("cr-1")));
        assert_eq!(static_claims(&Snapshot::default(), &pool, types, 1).len(), 1);
    }

    #[test]
    fn as_many_are_made_as_are_missing_and_the_limit_allows() {
        let mut snapshot = Snapshot::default();
        add(&mut snapshot, "one", Some(0), json!({}));
        for (spec, expected) in [
            (json!({ "replicas": 3 }), Scaling::Up(2)),
            (json!({ "replicas": 3, "limits": { "nodes": "2" } }), Scaling::Up(1)),
            (json!({ "replicas": 3, "limits": { "nodes": "1" } }), Scaling::Enough),
            (json!({}), Scaling::Enough),
        ] {
            assert_eq!(scaling(&snapshot, &pool(spec.clone())), expected, "{spec}");
        }
        // A node that goes does not count, and its place is taken.
        snapshot.nodes[0].spec.get_or_insert_default().taints = Some(vec![core::Taint {
            key: api_kube::karpenter::taints::DISRUPTED.to_owned(),
            effect: "NoSchedule".to_owned(),
            ..core::Taint::default()
        }]);
        assert_eq!(scaling(&snapshot, &pool(json!({ "replicas": 1 }))), Scaling::Up(1));
    }
}
