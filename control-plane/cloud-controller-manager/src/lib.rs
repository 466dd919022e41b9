//! cloud-controller-manager: keeps Nodes in step with the EC2 instances under them.
//!
//! A new Node is initialized (provider ID, zone and type labels, addresses) and its taint is taken
//! away; a Node whose instance is gone is deleted, one whose instance is stopped is tainted.
//! EC2 is asked about Nodes that are new or not Ready, and rarely about the others. Instances of Nodes
//! are tagged, if there are tags for them ([`tagging`]). Services of type LoadBalancer get load
//! balancers ([`service`], [`aws`]), with rights of their own.
//!
//! Upstream: `cloud-provider-aws`, controllers `cloud-node`, `cloud-node-lifecycle`, `service` and
//! `tagging`.
//! Deviation: no route controller, no node IPAM; events of Nodes start a pass at once instead of a poll
//! every few seconds.

use api_kube as _;

mod aws;
pub mod command;
mod instance;
mod plan;
mod service;
mod tagging;
mod zones;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_wire::Client as Ec2;
use clock::Clock;
use controller::{Action, ApplyError, Key, Queue, Recorder, Store, StoreSpec, apply};
use k8s_openapi::api::core::v1::{Node, Service};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use lifecycle::Scope;

use crate::{
    aws::Aws, instance::Found, plan::Plan, service::Services, tagging::Tagging, zones::Zones,
};

/// How soon a Node that is not Ready is looked at again (upstream's `--node-monitor-period`).
const UNHEALTHY: Duration = Duration::from_secs(5);

/// How often the addresses of the others are refreshed (`--node-status-update-frequency`).
const REFRESH: Duration = Duration::from_secs(300);

/// Nodes worked on at once.
const WORKERS: usize = 4;

/// Settings of [`run`].
#[derive(Clone, Default)]
pub struct Config {
    /// What the instances of Nodes are tagged with.
    pub tags: BTreeMap<String, String>,
    /// Without it Services get no load balancers.
    pub load_balancers: Option<LoadBalancers>,
}

/// How Services get their load balancers.
#[derive(Clone)]
pub struct LoadBalancers {
    /// Calls EC2 and Elastic Load Balancing with the cluster role's rights.
    pub client: aws_wire::Client,
    /// The cluster's name, which marks what is its own.
    pub cluster: String,
    pub vpc_id: String,
}

/// Runs the controllers until `scope` is cancelled.
pub async fn run(client: Client, ec2: Ec2, config: Config, clock: Clock, scope: Scope) {
    let nodes = controller::reflect::<Node>(client.clone(), StoreSpec::default(), &scope);
    nodes.synced().await;
    let queue: Queue<Key> = Queue::new();
    let feed = queue.clone();
    nodes.subscribe(move |change| {
        // What went needs nothing more.
        if let Some(node) = &change.new {
            feed.add(Key::of(&**node));
        }
    });
    let services = config.load_balancers.map(|it| {
        let services = controller::reflect::<Service>(client.clone(), StoreSpec::default(), &scope);
        let recorder = Recorder::new(client.clone(), "service-controller", clock, &scope);
        let provider = Aws::new(it.client, it.cluster, it.vpc_id);
        Services::new(client.clone(), provider, services, nodes.clone(), recorder)
    });
    let recorder = Recorder::new(client.clone(), "cloud-node-lifecycle-controller", clock, &scope);
    let tagging = Tagging::new(client.clone(), ec2.clone(), nodes.clone(), config.tags);
    let zones = Zones::default();
    let context = Arc::new(Context { client, ec2, nodes, recorder, zones });
    let nodes = controller::run("cloud-node", queue, WORKERS, move |key| {
        let context = context.clone();
        async move { context.reconcile(&key).await }
    });
    let services = async {
        if let Some(services) = services {
            services.run().await;
        }
    };
    tokio::join!(nodes, tagging.run(), services);
}

struct Context {
    client: Client,
    ec2: Ec2,
    nodes: Store<Node>,
    recorder: Recorder,
    zones: Zones,
}

impl Context {
    async fn reconcile(&self, key: &Key) -> Result<Action, ApplyError> {
        let Some(node) = self.nodes.get(key) else { return Ok(Action::Done) };
        if plan::is_foreign(&node) {
            return Ok(Action::Done);
        }
        let failed = |error| ApplyError::other(telemetry::chain(&error).to_string());
        let mut found = instance::find(&self.ec2, &node).await.map_err(failed)?;
        if let Found::There(facts) = &mut found
            && plan::is_new(&node)
        {
            facts.zone_id = self.zones.id_of(&self.ec2, &facts.zone).await.map_err(failed)?;
        }
        let plan = plan::plan(&node, &found, self.ec2.region());
        self.apply(&node, plan).await?;
        Ok(Action::After(if plan::is_ready(&node) { REFRESH } else { UNHEALTHY }))
    }

    async fn apply(&self, node: &Node, plan: Plan) -> Result<(), ApplyError> {
        let api = Api::<Node>::all(self.client.clone());
        let name = node.name_any();
        match plan {
            Plan::Keep => Ok(()),
            Plan::Delete { message } => {
                tracing::info!(node = name, message, "deleting a node");
                self.recorder.normal(node, "DeletingNode", message);
                apply::delete_with(&api, node, DeleteParams::default()).await
            }
            Plan::Update { status, object } => {
                let parameters = PatchParams::default();
                // The taint goes last: pods may come only when all else is known.
                if let Some(status) = status {
                    let patched =
                        api.patch_status(&name, &parameters, &Patch::Merge(&status)).await;
                    patched
                        .map_err(|it| ApplyError::new::<Node>("patch the status of", &name, it))?;
                }
                if let Some(object) = object {
                    let patched = api.patch(&name, &parameters, &Patch::Merge(&object)).await;
                    patched.map_err(|it| ApplyError::new::<Node>("patch", &name, it))?;
                }
                Ok(())
            }
        }
    }
}
