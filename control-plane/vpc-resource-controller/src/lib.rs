//! The VPC resource controller: security groups for pods, as EKS runs it beside the API server of
//! every cluster.
//!
//! A node whose CNINode asks for it gets a trunk interface and room for so many pods with security
//! groups of their own ([`node`]); each such pod gets a branch of the trunk, made in its groups, and
//! learns it by an annotation ([`pod`]). Whose branch it was rests for a minute and is deleted.
//!
//! State is EC2's tags and associations and the pods' annotations: what this process knows of a trunk
//! ([`ledger`]) is read from there when it starts.
//!
//! Upstream: aws/amazon-vpc-resource-controller-k8s.
//! Deviation: Linux nodes only; a CNINode has no finalizer and no status, what an instance leaves
//! behind is found by its tags; the label `vpc.amazonaws.com/has-trunk-attached` is set to `true`
//! here, and no CNINode's features are taken back. The definitions of SecurityGroupPolicy and
//! CNINode are made by this controller. No metrics.

use api_kube as _;

mod cloud;
pub mod command;
mod cooldown;
mod definition;
mod feed;
mod ledger;
mod making;
mod node;
mod pod;
mod policy;
mod sweep;
mod trunk;

use std::sync::Arc;

use api_kube::vpc_resources::{CniNode, POD_ENI, SecurityGroupPolicy};
use clock::Clock;
use controller::{Key, Queue, Recorder, Store, StoreSpec};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Client;
use lifecycle::Scope;

pub use crate::cloud::Clients;
use crate::{cloud::Cloud, cooldown::Cooldown, trunk::Trunks};

/// Nodes and pods worked on at once: upstream's numbers.
const NODES: usize = 3;
const PODS: usize = 20;
const BY_NODE: &str = "node";

/// Settings of [`run`].
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The cluster's name, for tags.
    pub cluster: String,
}

/// Runs until `scope` is cancelled.
pub async fn run(client: Client, ec2: Clients, config: Config, clock: Clock, scope: Scope) {
    definition::ensure(&client).await;
    let context = Arc::new(Context {
        nodes: controller::reflect(client.clone(), nodes(), &scope),
        cni_nodes: controller::reflect(client.clone(), StoreSpec::default(), &scope),
        pods: controller::reflect(client.clone(), pods(), &scope),
        policies: controller::reflect(client.clone(), StoreSpec::default(), &scope),
        recorder: Recorder::new(client.clone(), "vpc-resource-controller", clock, &scope),
        cloud: Cloud::new(ec2, config.cluster.clone()),
        trunks: Trunks::default(),
        cooldown: Cooldown::default(),
        node_queue: Queue::new(),
        pod_queue: Queue::new(),
        client,
        config,
        clock,
    });
    context.nodes.synced().await;
    context.cni_nodes.synced().await;
    context.pods.synced().await;
    context.policies.synced().await;
    feed::connect(&context);
    let (of_nodes, of_pods) = (context.clone(), context.clone());
    let node_queue = context.node_queue.clone();
    let pod_queue = context.pod_queue.clone();
    let nodes = controller::run("cninode", node_queue, NODES, move |key| {
        let context = of_nodes.clone();
        async move { context.reconcile_node(&key).await }
    });
    let pods = controller::run("pod-eni", pod_queue, PODS, move |key| {
        let context = of_pods.clone();
        async move { context.reconcile_pod(&key).await }
    });
    tokio::join!(nodes, pods, context.watch_cooldown(), context.sweep());
}

pub(crate) struct Context {
    client: Client,
    config: Config,
    clock: Clock,
    cloud: Cloud,
    recorder: Recorder,
    nodes: Store<Node>,
    cni_nodes: Store<CniNode>,
    pods: Store<Pod>,
    policies: Store<SecurityGroupPolicy>,
    trunks: Trunks,
    cooldown: Cooldown,
    node_queue: Queue<Key>,
    pod_queue: Queue<Key>,
}

fn nodes() -> StoreSpec<Node> {
    StoreSpec::default().trim(|node| {
        if let Some(status) = &mut node.status {
            (status.images, status.conditions) = (None, None);
            (status.addresses, status.volumes_in_use) = (None, None);
        }
    })
}

/// Of a pod that asks for no branch next to nothing is kept.
fn pods() -> StoreSpec<Pod> {
    let spec = StoreSpec::default().trim(|pod| {
        if pod::wanted(pod) == 0 {
            pod.spec = None;
            pod.status = None;
            (pod.metadata.annotations, pod.metadata.labels) = (None, None);
            pod.metadata.owner_references = None;
            return;
        }
        if let Some(annotations) = &mut pod.metadata.annotations {
            annotations.retain(|key, _| key == POD_ENI);
        }
        if let Some(spec) = &mut pod.spec {
            (spec.volumes, spec.affinity, spec.tolerations) = (None, None, None);
            spec.init_containers = None;
            for it in &mut spec.containers {
                (it.env, it.volume_mounts, it.command, it.args) = (None, None, None, None);
            }
        }
        if let Some(status) = &mut pod.status {
            (status.conditions, status.container_statuses) = (None, None);
        }
    });
    spec.index(BY_NODE, |pod| match pod::wanted(pod) {
        0 => Vec::new(),
        _ => pod::node_of(pod).map(str::to_owned).into_iter().collect(),
    })
}
