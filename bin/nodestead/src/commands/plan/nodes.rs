//! `nodestead plan`: which nodes would come for pending pods and which would go, at which price.
//!
//! From a cluster, from manifests alone, or from both: then what the manifests say is added to the
//! cluster. Nothing is changed anywhere. Prices are AWS's On-Demand prices in us-east-1; Spot is taken
//! to cost a share of them.
//!
//! Where there is no NodePool, one is assumed and said: On-Demand, x86-64 or arm64, of the
//! categories c, m and r from the sixth generation on.

use std::collections::BTreeSet;

use api_kube::karpenter::{Ec2NodeClass, NodeOverlay, NodePool, NodeSelectorRequirement, labels};
use clock::Clock;
use karpenter_aws::is_ready;
use karpenter_core::{
    Effort, Pending, Scaling, Snapshot, disrupt, disruption::Gates, faults, provision, scaling,
    static_claims,
};

use super::{
    gather::{self, Left, Objects},
    manifests,
    offered::{Given, Offers},
    report::{self, Plan},
};
use crate::{
    cli::{Format, PlanNodes},
    failure::{Failure, NEXT},
    kubernetes,
    layout::Layout,
    progress::Waiting,
};

/// More commands than these one after the other are not shown.
const MOST_COMMANDS: usize = 50;

pub(super) async fn run(args: PlanNodes) -> anyhow::Result<()> {
    let waiting = Waiting::new("reading the cluster and planning");
    let mut notes = Vec::new();
    let wanted = manifests::read(&args.filename)?;
    let is_live = args.live || args.kubeconfig.is_some() || args.filename.is_empty();
    let Objects { mut snapshot, mut classes, mut overlays } = match is_live {
        true => gather::cluster(&client(&args).await?).await?,
        false => Objects::default(),
    };
    // Of another cluster than the region's nobody knows where to ask.
    let left = match is_live && args.kubeconfig.is_none() {
        true => Some(gather::left(&Layout::new(&args.at.data_dir)?).await?),
        false => None,
    };
    let pending = if is_live { Pending::Unschedulable } else { Pending::Unbound };
    let added = wanted.snapshot.pods.len();
    merge(&mut snapshot, wanted.snapshot, is_live);
    replace(&mut classes, wanted.classes);
    replace(&mut overlays, wanted.overlays);
    for (kind, count) in wanted.skipped {
        notes.push(format!("{count} {kind} left aside: plans do not read that kind"));
    }
    if snapshot.pools.is_empty() {
        notes.push(
            "no NodePool is given: planned with On-Demand instances of the categories c, m and r, \
             generation 6 and later"
                .to_owned(),
        );
        snapshot.pools.push(default_pool());
    }
    for pool in &snapshot.pools {
        let faults = faults(pool);
        if !faults.is_empty() {
            let (name, faults) = (pool.name(), faults.join("; "));
            notes.push(format!("NodePool {name} takes no part: {faults}"));
        }
        let class = &pool.spec.template.spec.node_class_ref.name;
        let found = classes.iter().find(|it| it.name() == class);
        if found.is_some_and(|it| it.status.is_some() && !is_ready(it)) {
            let name = pool.name();
            notes.push(format!("NodePool {name} takes no part: EC2NodeClass {class} is not ready"));
        }
    }
    if args.spot_price > 0 && snapshot.pools.iter().any(allows_spot) {
        notes.push(format!("Spot is taken to cost {} % of On-Demand", args.spot_price));
    }
    if snapshot.pools.iter().any(|it| it.spec.replicas.is_some()) {
        notes
            .push("NodePools with replicas are planned as with the gate StaticCapacity".to_owned());
    }
    let inputs = Inputs { snapshot, classes, overlays, left };
    let plan = plan(&args, &inputs, pending, notes, is_live && added == 0);
    drop(waiting);
    match args.output.output {
        Format::Json => println!("{}", serde_json::to_string_pretty(&plan)?),
        Format::Table => print!("{}", report::rendered(&plan)),
    }
    Ok(())
}

async fn client(args: &PlanNodes) -> anyhow::Result<kube::Client> {
    match &args.kubeconfig {
        Some(path) => kubernetes::client_of(path, "name a kubeconfig with --kubeconfig").await,
        None => {
            let layout = Layout::new(&args.at.data_dir)?;
            let client = kubernetes::client(&layout).await;
            client.map_err(|error| match error.downcast::<Failure>() {
                Ok(failure) => failure.or("or plan manifests alone with -f").into(),
                Err(error) => error.context(NEXT),
            })
        }
    }
}

/// Adds what manifests say; what is there under the same name gives way, as `kubectl apply` has it.
fn merge(into: &mut Snapshot, mut from: Snapshot, is_live: bool) {
    if is_live {
        // The cluster's own pods are pending when its scheduler says so; these have not been tried.
        from.pods.iter_mut().for_each(mark_unschedulable);
    }
    replace(&mut into.pools, from.pools);
    replace(&mut into.claims, from.claims);
    replace(&mut into.nodes, from.nodes);
    replace(&mut into.pods, from.pods);
    replace(&mut into.daemon_sets, from.daemon_sets);
    replace(&mut into.namespaces, from.namespaces);
    replace(&mut into.volumes, from.volumes);
    replace(&mut into.volume_claims, from.volume_claims);
    replace(&mut into.storage_classes, from.storage_classes);
    replace(&mut into.csi_nodes, from.csi_nodes);
    replace(&mut into.budgets, from.budgets);
}

fn replace<K: kube::Resource>(into: &mut Vec<K>, from: Vec<K>) {
    let key = |it: &K| (it.meta().namespace.clone(), it.meta().name.clone());
    let said: BTreeSet<_> = from.iter().map(key).collect();
    into.retain(|it| !said.contains(&key(it)));
    into.extend(from);
}

fn mark_unschedulable(pod: &mut k8s_openapi::api::core::v1::Pod) {
    let condition = k8s_openapi::api::core::v1::PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some("Unschedulable".to_owned()),
        ..Default::default()
    };
    pod.status.get_or_insert_default().conditions = Some(vec![condition]);
}

fn default_pool() -> NodePool {
    let mut pool = NodePool::new("default", Default::default());
    pool.spec.template.spec.requirements = vec![
        NodeSelectorRequirement::new(labels::CAPACITY_TYPE, "In", &["on-demand"]),
        NodeSelectorRequirement::new(labels::INSTANCE_CATEGORY, "In", &["c", "m", "r"]),
        NodeSelectorRequirement::new(labels::INSTANCE_GENERATION, "Gt", &["5"]),
    ];
    pool
}

fn allows_spot(pool: &NodePool) -> bool {
    let requirements =
        karpenter_core::Requirements::from_api(&pool.spec.template.spec.requirements);
    requirements.get(labels::CAPACITY_TYPE).is_none_or(|it| it.has("spot"))
}

/// What there is to plan for.
struct Inputs {
    snapshot: Snapshot,
    classes: Vec<Ec2NodeClass>,
    overlays: Vec<NodeOverlay>,
    /// What EC2 has left, where it was asked.
    left: Option<Left>,
}

fn plan(
    args: &PlanNodes,
    inputs: &Inputs,
    pending: Pending,
    mut notes: Vec<String>,
    is_quiet: bool,
) -> Plan {
    let snapshot = &inputs.snapshot;
    let share = f64::from(args.spot_price) / 100.0;
    let given = Given {
        classes: &inputs.classes,
        overlays: &inputs.overlays,
        claims: &snapshot.claims,
        left: inputs.left.as_ref(),
        zones: &args.zones,
        spot_share: (share > 0.0).then_some(share),
    };
    let (offers, more) = Offers::new(given, &snapshot.pools);
    notes.extend(more);
    let effort = if args.first_fit { Effort::FirstFit } else { Effort::Improve };
    let (world, outcome) = provision(snapshot, |it| offers.of(it), pending, effort);
    let mut plan = Plan::new(&world, &outcome, notes);
    // With pods that wait, nodes are about to change: what could go then is another question.
    if is_quiet || outcome.order.is_empty() {
        let gates = Gates { spot_to_spot_consolidation: args.spot_to_spot, ..Gates::default() };
        let now = Clock::system().now();
        let (commands, kept) = disrupt(snapshot, |it| offers.of(it), now, gates, MOST_COMMANDS);
        plan.add_consolidation(&commands, kept);
    }
    add_static(&mut plan, snapshot, &offers);
    let few = plan.coming_by_zone().into_iter().filter_map(|((pool, zone), count)| {
        let of = snapshot.pools.iter().find(|it| it.name() == pool)?;
        let free = offers.addresses(of, zone).filter(|it| *it < count)?;
        Some(format!(
            "{count} nodes of NodePool {pool} would come in {zone}, where its subnets have {free} \
             free addresses"
        ))
    });
    let few: Vec<String> = few.collect();
    plan.note(few);
    plan
}

/// What static pools need to be as large as they say.
fn add_static(plan: &mut Plan, snapshot: &Snapshot, offers: &Offers<'_>) {
    let is_static = |it: &&NodePool| it.spec.replicas.is_some() && faults(it).is_empty();
    for pool in snapshot.pools.iter().filter(is_static) {
        match scaling(snapshot, pool) {
            Scaling::Enough => {}
            Scaling::Up(count) => {
                let types = offers.of(pool);
                let claims = types.map(|it| static_claims(snapshot, pool, it, count));
                let claims = claims.unwrap_or_default();
                if claims.len() < count {
                    let (name, left) = (pool.name(), count - claims.len());
                    plan.note([format!(
                        "NodePool {name} lacks {left} nodes that nothing can be had for"
                    )]);
                }
                plan.add_static(&claims);
            }
            Scaling::Down(claims) => plan.add_surplus(pool, claims),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    /// `nodestead plan` without a flag.
    #[derive(Parser)]
    struct Bare {
        #[command(flatten)]
        nodes: PlanNodes,
    }

    fn planned(replicas: i64, nodes: usize, left: Option<Left>) -> serde_json::Value {
        let mut pool = default_pool();
        pool.spec.replicas = Some(replicas);
        pool.spec.template.spec.node_class_ref.name = "default".to_owned();
        let mut snapshot = Snapshot { pools: vec![pool], ..Snapshot::default() };
        for at in 0..nodes {
            let claim = json!({ "metadata": { "name": format!("claim-{at}"),
                "labels": { labels::NODE_POOL: "default" } } });
            snapshot.claims.push(serde_json::from_value(claim).unwrap());
        }
        let class = json!({ "metadata": { "name": "default" }, "spec": {}, "status": {
            "subnets": [{ "id": "subnet-1", "zone": "us-east-1a" }],
            "amis": [{ "id": "ami-1", "requirements": [{ "key": "kubernetes.io/arch",
                "operator": "In", "values": ["amd64"] }] }],
            "conditions": [{ "type": "Ready", "status": "True", "reason": "", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z" }] } });
        let classes = vec![serde_json::from_value(class).unwrap()];
        let inputs = Inputs { snapshot, classes, overlays: Vec::new(), left };
        let args = Bare::parse_from(["plan"]).nodes;
        let plan = plan(&args, &inputs, Pending::Unschedulable, Vec::new(), true);
        serde_json::to_value(plan).unwrap()
    }

    #[test]
    fn a_static_pool_has_as_many_nodes_as_it_says() {
        let plan = planned(3, 1, None);
        let coming = plan["coming"].as_array().unwrap();
        assert_eq!(coming.len(), 2, "{plan}");
        let each: f64 = coming.iter().map(|it| it["price"].as_f64().unwrap()).sum();
        assert!((plan["price"]["coming"].as_f64().unwrap() - each).abs() < 1e-9, "{plan}");
        let plan = planned(1, 3, None);
        let going = plan["going"].as_array().unwrap();
        assert_eq!(going.len(), 1, "{plan}");
        assert_eq!(going[0]["nodes"].as_array().unwrap().len(), 2, "{plan}");
    }

    #[test]
    fn more_nodes_than_there_are_addresses_are_a_note() {
        for (free, is_said) in [(1, true), (2, false)] {
            let addresses = [("subnet-1".to_owned(), free)].into();
            let plan = planned(2, 0, Some(Left { addresses, ..Left::default() }));
            let notes = plan["notes"].to_string();
            assert_eq!(notes.contains("2 nodes of NodePool default"), is_said, "{notes}");
        }
    }
}
