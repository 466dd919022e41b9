//! `nodestead plan`: which nodes would come for pending pods and which would go, at which price.
//!
//! From a cluster, from manifests alone, or from both: then what the manifests say is added to the
//! cluster. Nothing is changed anywhere. Prices are AWS's On-Demand prices in us-east-1; Spot is taken
//! to cost a share of them.
//!
//! Where there is no NodePool, one is assumed and said: On-Demand, x86-64 or arm64, of the
//! categories c, m and r from the sixth generation on.

use std::{collections::BTreeMap, sync::Arc};

use api_kube::karpenter::{Ec2NodeClass, NodePool, NodeSelectorRequirement, labels};
use clock::Clock;
use karpenter_aws::{Kubelet, Market, Zone, instance_types, is_ready, offers};
use karpenter_core::{
    Effort, InstanceType, Pending, Snapshot, disrupt, disruption::Gates, faults, provision,
};

use super::{
    gather, manifests,
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
    let (mut snapshot, mut classes) = match is_live {
        true => gather::cluster(&client(&args).await?).await?,
        false => Default::default(),
    };
    let pending = if is_live { Pending::Unschedulable } else { Pending::Unbound };
    let added = wanted.snapshot.pods.len();
    merge(&mut snapshot, wanted.snapshot, is_live);
    classes.extend(wanted.classes);
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
    let plan = plan(&args, &snapshot, &classes, pending, notes, is_live && added == 0);
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

/// Adds what manifests say; a pool of the same name is taken from them.
fn merge(into: &mut Snapshot, mut from: Snapshot, is_live: bool) {
    into.pools.retain(|it| !from.pools.iter().any(|other| other.name() == it.name()));
    into.pools.append(&mut from.pools);
    into.claims.append(&mut from.claims);
    into.nodes.append(&mut from.nodes);
    if is_live {
        // The cluster's own pods are pending when its scheduler says so; these have not been tried.
        from.pods.iter_mut().for_each(mark_unschedulable);
    }
    into.pods.append(&mut from.pods);
    into.daemon_sets.append(&mut from.daemon_sets);
    into.namespaces.append(&mut from.namespaces);
    into.volumes.append(&mut from.volumes);
    into.volume_claims.append(&mut from.volume_claims);
    into.storage_classes.append(&mut from.storage_classes);
    into.budgets.append(&mut from.budgets);
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

/// The types that each class offers.
struct Offers<'a> {
    args: &'a PlanNodes,
    classes: &'a [Ec2NodeClass],
    known: std::cell::RefCell<BTreeMap<String, Arc<[InstanceType]>>>,
}

impl Offers<'_> {
    fn of(&self, pool: &NodePool) -> Option<Arc<[InstanceType]>> {
        let name = &pool.spec.template.spec.node_class_ref.name;
        if let Some(known) = self.known.borrow().get(name) {
            return Some(known.clone());
        }
        let class = self.classes.iter().find(|it| it.name() == name);
        let types = match class.filter(|it| it.status.is_some()) {
            Some(class) => offers(class, self.market(class_zones(class)), |_| true)?,
            None => {
                let zones: Vec<String> = self.args.zones.clone();
                let kubelet = class.map(Kubelet::of).unwrap_or_default();
                instance_types(&kubelet, &self.market(zones))
            }
        };
        self.known.borrow_mut().insert(name.clone(), types.clone());
        Some(types)
    }

    fn market(&self, zones: Vec<String>) -> Market {
        let region =
            zones.first().map(|it| it.trim_end_matches(|it: char| it.is_ascii_lowercase()));
        let share = f64::from(self.args.spot_price) / 100.0;
        Market {
            region: region.unwrap_or_default().to_owned(),
            zones: zones.iter().map(|it| Zone { name: it.clone(), id: None }).collect(),
            spot_share: (share > 0.0).then_some(share),
            ..Market::default()
        }
    }
}

/// The zones of what a class has found.
fn class_zones(class: &Ec2NodeClass) -> Vec<String> {
    let status = class.status.as_ref();
    status.into_iter().flat_map(|it| &it.subnets).map(|it| it.zone.clone()).collect()
}

fn plan(
    args: &PlanNodes,
    snapshot: &Snapshot,
    classes: &[Ec2NodeClass],
    pending: Pending,
    notes: Vec<String>,
    is_quiet: bool,
) -> Plan {
    let offers = Offers { args, classes, known: Default::default() };
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
    plan
}
