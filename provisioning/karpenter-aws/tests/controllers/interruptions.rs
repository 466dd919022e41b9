//! Spot Instances that are taken away, and nodes that fall ill.

use std::time::Duration;

use api_kube::karpenter::{NodeClaim, labels};
use karpenter_aws::{Config, FeatureGates};
use kube::api::DeleteParams;
use region_ec2::records::HostReport;
use serde_json::json;

use crate::{MANY, support::World};

fn label(claim: &NodeClaim, key: &str) -> String {
    claim.metadata.labels.as_ref().unwrap()[key].clone()
}

#[tokio::test(start_paused = true)]
async fn a_spot_instance_is_replaced_elsewhere_between_its_warning_and_its_end() {
    let queue = Some("karpenter".to_owned());
    let config = Config { interruption_queue: queue, ..Config::new("stead") };
    let world = World::with(MANY, config).await;
    world.queue("karpenter").await;
    world
        .require(json!([
            { "key": "karpenter.k8s.aws/instance-category", "operator": "In", "values": ["m"] },
            { "key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"] }]))
        .await;
    world.pending("web", "1").await;
    let first = world.claim_that_is("Launched").await;
    assert_eq!(label(&first, labels::CAPACITY_TYPE), "spot");
    let node = world.join(&first).await;
    world.claim_that_is("Initialized").await;
    let now = DeleteParams::default().grace_period(0);
    world.pods().delete("web", &now).await.unwrap();
    world.running("served", &node, "1").await;
    // It cannot be evicted: the replacement must not wait for that.
    world.forbid_evictions().await;
    let instances = world.instances().await.into_iter();
    let ids: Vec<String> = instances.filter_map(|it| it.instance_id).collect();
    world.ec2.interrupt(&ids, jiff::SignedDuration::from_mins(2)).unwrap();
    let begun = tokio::time::Instant::now();
    let second = world
        .until("there is another instance", || async {
            let claims = world.claims().await;
            let other = |it: &NodeClaim| it.name() != first.name() && it.is_true("Launched");
            claims.into_iter().find(other)
        })
        .await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(world.instances().await.len(), 2, "the first is not gone yet");
    let pool = |it: &NodeClaim| (label(it, labels::INSTANCE_TYPE), label(it, labels::ZONE));
    assert_ne!(pool(&first), pool(&second), "what is taken away is not asked for again");
    let taints = world.node(&node).await.unwrap().spec.unwrap().taints.unwrap_or_default();
    assert!(taints.iter().any(|it| it.key == "karpenter.sh/disrupted"), "{taints:?}");
    let (of_node, of_claim) = (format!("Node/{node}"), format!("NodeClaim/{}", first.name()));
    let advice = "Spot rebalance recommendation was triggered";
    world.until_told(&of_node, "SpotRebalanceRecommendation", advice).await;
    let warning = "Spot interruption warning was triggered";
    for about in [of_node.as_str(), of_claim.as_str(), "Pod/served"] {
        world.until_told(about, "SpotInterrupted", warning).await;
    }
    for (about, what) in [(of_node, "Node"), (of_claim, "NodeClaim")] {
        let message = format!("Interruption triggered termination for the {what}");
        world.until_told(&about, "TerminatingOnInterruption", &message).await;
    }
    let page = world.config.metrics.render();
    let counted =
        "karpenter_interruption_received_messages_total{message_type=\"spot_interrupted\"} 1\n";
    assert!(page.contains(counted), "{page}");
    world
        .until("the first is gone", || async {
            world.end_instances().await;
            world.node(&node).await?;
            // Its kubelet is gone with it, and takes the pod that could not be evicted along.
            if world.instances().await.len() == 1 {
                world.node_says(&node, json!([{ "type": "Ready", "status": "Unknown" }])).await;
                return Some(());
            }
            None
        })
        .await;
    assert!(begun.elapsed() >= Duration::from_secs(118), "{:?}", begun.elapsed());
    world
        .until("its node is gone", || async { world.node(&node).await.is_none().then_some(()) })
        .await;
    assert!(begun.elapsed() < Duration::from_secs(240), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_ill_for_too_long_goes_whatever_budgets_say() {
    let gates = FeatureGates { node_repair: true, ..FeatureGates::default() };
    let world = World::with(MANY, Config { gates, ..Config::new("stead") }).await;
    world.pending("web", "1").await;
    let claim = world.claim_that_is("Launched").await;
    let node = world.join(&claim).await;
    world.claim_that_is("Initialized").await;
    world.running("served", &node, "100m").await;
    world.forbid_evictions().await;
    // Half an hour is borne: to three minutes after the beginning.
    let since = "2026-11-29T11:33:00Z";
    let ill = json!([{ "type": "Ready", "status": "False", "lastTransitionTime": since }]);
    world.node_says(&node, ill).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(world.node(&node).await.unwrap().metadata.deletion_timestamp.is_none());
    world
        .until("the node is gone", || async {
            world.end_instances().await;
            world.node(&node).await.is_none().then_some(())
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_ill_stays_while_the_gate_is_shut() {
    let world = World::new(MANY).await;
    world.pending("web", "1").await;
    let claim = world.claim_that_is("Launched").await;
    let node = world.join(&claim).await;
    world.claim_that_is("Initialized").await;
    world.running("served", &node, "100m").await;
    let since = "2026-11-29T11:00:00Z";
    let ill = json!([{ "type": "Ready", "status": "False", "lastTransitionTime": since }]);
    world.node_says(&node, ill).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(world.node(&node).await.unwrap().metadata.deletion_timestamp.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_ec2_finds_broken_goes_at_once_whatever_budgets_say() {
    let world = World::new(MANY).await;
    world.pending("web", "1").await;
    let claim = world.claim_that_is("Launched").await;
    let node = world.join(&claim).await;
    world.claim_that_is("Initialized").await;
    let now = DeleteParams::default().grace_period(0);
    world.pods().delete("web", &now).await.unwrap();
    world.running("served", &node, "1").await;
    world.forbid_evictions().await;
    let id = world.instances().await[0].instance_id.clone().unwrap();
    world.ec2.report(&id, &HostReport::PowerLost).unwrap();
    world.ec2.report(&id, &HostReport::Unbootable).unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(world.claims().await[0].metadata.deletion_timestamp.is_none(), "it is borne so long");
    let about = format!("NodeClaim/{}", claim.name());
    let message = "An unhealthy warning was triggered for the instance";
    world.until_told(&about, "InstanceUnhealthy", message).await;
    world
        .until("the node is gone", || async {
            let pods = world.pods().list(&Default::default()).await.unwrap();
            for pod in pods.items.iter().filter(|it| it.metadata.deletion_timestamp.is_some()) {
                world.pods().delete(pod.metadata.name.as_ref()?, &now).await.ok();
            }
            world.end_instances().await;
            world.node(&node).await.is_none().then_some(())
        })
        .await;
    let page = world.config.metrics.render();
    for counted in [
        "karpenter_interruption_instance_status_unhealthy_total{category=\"SystemStatus\"} 1\n",
        "karpenter_nodeclaims_disrupted_total{reason=\"instance_status\",nodepool=\"default\",\
         capacity_type=\"on-demand\"} 1\n",
    ] {
        assert!(page.contains(counted), "{counted} {page}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_instance_has_planned_downtime_is_drained() {
    let world = World::new(MANY).await;
    world.pending("web", "1").await;
    let claim = world.claim_that_is("Launched").await;
    let node = world.join(&claim).await;
    world.claim_that_is("Initialized").await;
    let now = DeleteParams::default().grace_period(0);
    world.pods().delete("web", &now).await.unwrap();
    world.running("served", &node, "1").await;
    world.forbid_evictions().await;
    // In this region nothing is ever planned.
    let id = world.instances().await[0].instance_id.clone().unwrap();
    let event = "<eventsSet><item><code>system-maintenance</code></item></eventsSet>";
    let planned = format!(
        "<instanceStatusSet><item><instanceId>{id}</instanceId>{event}</item></instanceStatusSet>"
    );
    for none in ["<instanceStatusSet/>", "<instanceStatusSet></instanceStatusSet>"] {
        world.rewrite("DescribeInstanceStatus", none, &planned);
    }
    let claim = world
        .until("it goes", || async {
            let claim = world.claims().await.remove(0);
            claim.metadata.deletion_timestamp.is_some().then_some(claim)
        })
        .await;
    let key = "karpenter.sh/nodeclaim-termination-timestamp";
    let marks = claim.metadata.annotations.unwrap_or_default();
    assert!(!marks.contains_key(key), "and its pods have their time");
    assert!(world.pods().get("served").await.unwrap().metadata.deletion_timestamp.is_none());
}
