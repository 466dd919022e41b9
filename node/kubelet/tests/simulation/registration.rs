//! What a node says of itself when it registers, and that it lives afterwards.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, NodeSpec, Taint},
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use kubelet::Settings;
use serde_json::json;

use super::support::{NODE, World};

const SECOND: Duration = Duration::from_secs(1);

fn taint(key: &str, effect: &str) -> Taint {
    Taint { key: key.to_owned(), effect: effect.to_owned(), ..Taint::default() }
}

fn told(settings: &mut Settings) {
    settings.has_external_cloud = true;
    settings.taints = vec![taint("flag", "NoSchedule")];
    settings.config.register_with_taints = vec![taint("file", "NoExecute")];
    settings.config.provider_id = "aws:///us-east-1a/i-1".to_owned();
    settings.node_labels.insert("team".to_owned(), "blue".to_owned());
}

fn spec(node: &Node) -> NodeSpec {
    node.spec.clone().unwrap_or_default()
}

fn taints(node: &Node) -> Vec<String> {
    spec(node).taints.into_iter().flatten().map(|it| format!("{}:{}", it.key, it.effect)).collect()
}

/// The node as it is when it is ready.
async fn ready(world: &World) -> Node {
    world.patch_node(json!({})).await;
    for _ in 0..100 {
        if world.condition("Ready").await.0 == "True" {
            break;
        }
        world.pass(SECOND / 10).await;
    }
    world.nodes().get(NODE).await.unwrap()
}

fn leases(world: &World) -> Api<Lease> {
    Api::namespaced(world.client(), "kube-node-lease")
}

async fn renewed(world: &World) -> Option<Timestamp> {
    Some(leases(world).get_opt(NODE).await.unwrap()?.spec?.renew_time?.0)
}

#[tokio::test(start_paused = true)]
async fn a_node_registers_with_what_it_was_told_and_takes_nothing_back_that_others_changed() {
    let mut world = World::configured(told).await;
    let node = ready(&world).await;
    let uninitialized = "node.cloudprovider.kubernetes.io/uninitialized:NoSchedule";
    for wanted in ["flag:NoSchedule", "file:NoExecute", uninitialized] {
        assert!(taints(&node).iter().any(|it| it == wanted), "{wanted}: {:?}", taints(&node));
    }
    assert_eq!(spec(&node).provider_id.as_deref(), Some("aws:///us-east-1a/i-1"));
    let labels = node.metadata.labels.clone().unwrap();
    assert_eq!(
        (labels["team"].as_str(), labels["kubernetes.io/hostname"].as_str()),
        ("blue", NODE)
    );
    let addresses = node.status.unwrap().addresses.unwrap();
    let addresses: Vec<_> = addresses.iter().map(|it| (&*it.type_, &*it.address)).collect();
    assert_eq!(addresses, [("InternalIP", "192.0.2.7"), ("Hostname", NODE)]);

    // A controller initializes the node, and somebody gives it to another team.
    let patch = Patch::Merge(json!({
        "metadata": { "labels": { "team": "red" } }, "spec": { "taints": null },
    }));
    world.nodes().patch(NODE, &PatchParams::default(), &patch).await.unwrap();
    world.restart_kubelet().await;
    world.pass(30 * SECOND).await;
    let node = ready(&world).await;
    assert_eq!(taints(&node), Vec::<String>::new());
    assert_eq!(node.metadata.labels.unwrap()["team"], "red");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_others_register_is_told_of_when_it_is_there() {
    let world = World::configured(|it| it.config.register_node = false).await;
    world.pass(60 * SECOND).await;
    assert!(world.nodes().get_opt(NODE).await.unwrap().is_none());
    let node = serde_json::from_value(json!({ "metadata": { "name": NODE } })).unwrap();
    world.nodes().create(&PostParams::default(), &node).await.unwrap();
    world.pass(10 * SECOND).await;
    assert_eq!(world.condition("Ready").await.0, "True");
}

#[tokio::test(start_paused = true)]
async fn a_nodes_lease_is_renewed_by_quarters_of_its_duration_and_made_again() {
    let world = World::new().await;
    let node = ready(&world).await;
    world.pass(15 * SECOND).await;
    let lease = leases(&world).get(NODE).await.unwrap();
    let owner = lease.metadata.owner_references.unwrap().remove(0);
    assert_eq!((owner.kind.as_str(), Some(owner.uid)), ("Node", node.metadata.uid));
    let spec = lease.spec.unwrap();
    assert_eq!(
        (spec.holder_identity.as_deref(), spec.lease_duration_seconds),
        (Some(NODE), Some(40))
    );
    let mut times = BTreeSet::new();
    for _ in 0..100 {
        world.pass(SECOND).await;
        times.insert(renewed(&world).await.unwrap());
    }
    assert!((10..=11).contains(&times.len()), "{times:?}");

    leases(&world).delete(NODE, &DeleteParams::default()).await.unwrap();
    world.pass(12 * SECOND).await;
    assert!(renewed(&world).await.is_some(), "it is made again");

    world.set_away(true);
    world.pass(600 * SECOND).await;
    let before = renewed(&world).await.unwrap();
    world.set_away(false);
    // The longest pause between two attempts.
    world.pass(8 * SECOND).await;
    assert!(renewed(&world).await.unwrap() > before, "the first thing after an outage");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stays_as_it_is_says_so_every_five_minutes_and_a_change_at_once() {
    let world = World::new().await;
    ready(&world).await;
    world.pass(10 * SECOND).await;
    let beat = async || {
        let conditions = world.nodes().get(NODE).await.unwrap().status.unwrap().conditions.unwrap();
        let ready = conditions.into_iter().find(|it| it.type_ == "Ready").unwrap();
        ready.last_heartbeat_time.unwrap().0
    };
    let mut beats = BTreeSet::new();
    for _ in 0..90 {
        world.pass(10 * SECOND).await;
        beats.insert(beat().await);
    }
    assert!((3..=4).contains(&beats.len()), "{beats:?}");
    world.runtime.set_network_ready(false);
    world.pass(6 * SECOND).await;
    let (status, reason, _) = world.condition("Ready").await;
    assert_eq!((status.as_str(), reason.as_str()), ("False", "KubeletNotReady"));
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_is_replaced_under_the_kubelet_is_the_nodes_from_then_on() {
    let world = World::new().await;
    world.runtime.set_version("containerd", "1.6.20");
    ready(&world).await;
    let told = async || {
        let info = world.nodes().get(NODE).await.unwrap().status.unwrap().node_info.unwrap();
        info.container_runtime_version
    };
    world.pass(10 * SECOND).await;
    assert_eq!(told().await, "containerd://1.6.20");
    let spec = json!({ "containers": [{ "name": "c", "image": "i:1" }] });
    world.create(json!({ "metadata": { "name": "p" }, "spec": spec })).await;
    world.until("p", |it| it.phase.as_deref() == Some("Running")).await;
    world.runtime.break_connections();
    world.runtime.set_version("containerd", "1.7.27");
    world.pass(10 * SECOND).await;
    assert_eq!(told().await, "containerd://1.7.27");
    assert_eq!(world.runtime.running(), ["c"], "what runs goes on");
    assert_eq!(world.runtime.count("StartContainer", "c"), 1);
}
