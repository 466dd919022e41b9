//! Karpenter's controllers against the API server and EC2, in virtual time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use api_kube as _;

mod admission;
mod budgets;
mod classes;
mod consistency;
mod drains;
mod elections;
mod events;
mod interruptions;
mod launches;
mod overlays;
mod plans;
mod profiles;
mod registrations;
mod reservations;
mod static_pools;
mod support;
mod terminations;

use karpenter_aws::{Config, Preferences};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use support::World;

pub(crate) const MANY: usize = 100;

#[tokio::test(start_paused = true)]
async fn a_pending_pod_brings_the_cheapest_instance_that_it_fits_on() {
    let world = World::new(MANY).await;
    world.pending("web", "1500m").await;
    let claim = world.claim_that_is("Launched").await;
    let kind = claim.metadata.labels.as_ref().unwrap()["node.kubernetes.io/instance-type"].clone();
    let facts = instance_types::find(&kind).unwrap();
    let cheaper = instance_types::all().filter(|it| {
        it.name.starts_with('m')
            && it.arch == instance_types::Arch::X86_64
            && it.vcpus >= 2
            && it.price.is_some_and(|price| price < facts.price.unwrap())
    });
    assert_eq!(cheaper.map(|it| it.name).collect::<Vec<_>>(), Vec::<&str>::new(), "{kind}");
    let instances = world.instances().await;
    assert_eq!(instances.len(), 1);
    let tag = |key: &str| {
        let found = instances[0].tags.iter().find(|it| it.key.as_deref() == Some(key));
        found.and_then(|it| it.value.clone())
    };
    assert_eq!(tag("karpenter.sh/nodeclaim").as_deref(), Some(claim.name()));
    assert_eq!(tag("eks:eks-cluster-name").as_deref(), Some("stead"));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_joins_is_registered_and_initialized() {
    let world = World::new(MANY).await;
    world.pending("web", "1").await;
    let claim = world.claim_that_is("Launched").await;
    let name = world.join(&claim).await;
    let claim = world.claim_that_is("Initialized").await;
    assert_eq!(claim.status.as_ref().unwrap().node_name.as_deref(), Some(name.as_str()));
    let node = world.node(&name).await.unwrap();
    let taints = node.spec.unwrap().taints.unwrap_or_default();
    assert!(!taints.iter().any(|it| it.key == "karpenter.sh/unregistered"), "{taints:?}");
    let labels = node.metadata.labels.unwrap();
    assert_eq!(labels["karpenter.sh/registered"], "true");
    assert_eq!(labels["karpenter.sh/capacity-type"], "on-demand");
    assert_eq!(node.metadata.finalizers.unwrap(), ["karpenter.sh/termination"]);
}

#[tokio::test(start_paused = true)]
async fn pods_that_fit_on_a_node_that_is_coming_bring_no_other() {
    let world = World::new(MANY).await;
    world.pending("web", "500m").await;
    world.claim_that_is("Launched").await;
    world.pending("more", "100m").await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert_eq!(world.claims().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_without_pods_goes_with_its_instance() {
    let world = World::new(MANY).await;
    world.pending("web", "1").await;
    let claim = world.claim_that_is("Launched").await;
    let name = world.join(&claim).await;
    world.claim_that_is("Initialized").await;
    let now = DeleteParams::default().grace_period(0);
    world.pods().delete("web", &now).await.unwrap();
    world
        .until("the claim, the node and the instance are gone", || async {
            world.end_instances().await;
            let is_left = !world.claims().await.is_empty() || world.node(&name).await.is_some();
            (!is_left && world.instances().await.is_empty()).then_some(())
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_nothing_can_be_had_for_goes_and_leaves_no_instance() {
    let world = World::new(0).await;
    world.pending("web", "1").await;
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    assert!(world.instances().await.is_empty());
    assert!(world.claims().await.iter().all(|it| !it.is_true("Launched")));
}

#[tokio::test(start_paused = true)]
async fn a_restart_at_any_point_leaks_no_instance() {
    for millis in [1000, 1050, 1100, 1200, 2000] {
        let mut world = World::new(MANY).await;
        world.pending("web", "1").await;
        tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
        world.start();
        world
            .until("there is one instance, and it has a claim", || async {
                world.end_instances().await;
                let claims = world.claims().await;
                let of_claim = claims.iter().find(|it| it.is_true("Launched"))?;
                let provider = of_claim.status.as_ref()?.provider_id.clone()?;
                let instances = world.instances().await;
                let is_it = instances.len() == 1
                    && provider.ends_with(instances[0].instance_id.as_deref()?);
                (is_it && claims.len() == 1).then_some(())
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_has_the_labels_that_its_pods_were_placed_by() {
    let world = World::new(MANY).await;
    world
        .require(json!([
            { "key": "karpenter.k8s.aws/instance-category", "operator": "In", "values": ["m"] },
            { "key": "team", "operator": "In", "values": ["blue", "red"] }]))
        .await;
    world.pending_with("web", json!({ "nodeSelector": { "team": "red" } })).await;
    let claim = world.claim_that_is("Launched").await;
    let name = world.join(&claim).await;
    world.claim_that_is("Initialized").await;
    let labels = world.node(&name).await.unwrap().metadata.labels.unwrap();
    assert_eq!(labels.get("team").map(String::as_str), Some("red"));
}

#[tokio::test(start_paused = true)]
async fn what_a_pod_prefers_counts_unless_nobody_is_to_look_at_it() {
    for (preferences, is_heeded) in [(Preferences::Respect, true), (Preferences::Ignore, false)] {
        let config = Config { preferences, ..Config::new("stead") };
        let world = World::with(MANY, config).await;
        let expressions = json!([{ "key": "node.kubernetes.io/instance-type", "operator": "In",
            "values": ["m5.4xlarge"] }]);
        let preferred = json!([{ "weight": 1, "preference": { "matchExpressions": expressions } }]);
        let affinity = json!({ "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": preferred } });
        world.pending_with("web", json!({ "affinity": affinity })).await;
        let claim = world.claim_that_is("Launched").await;
        let kind = &claim.metadata.labels.as_ref().unwrap()["node.kubernetes.io/instance-type"];
        assert_eq!(kind == "m5.4xlarge", is_heeded, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_says_whether_its_node_has_been_quiet_for_long_enough_to_be_consolidated() {
    let world = World::new(MANY).await;
    let patch = json!({ "spec": { "disruption": { "consolidateAfter": "60s" } } });
    let parameters = PatchParams::default();
    world.node_pools().patch("default", &parameters, &Patch::Merge(&patch)).await.unwrap();
    world.pending("web", "1").await;
    let claim = world.claim_that_is("Launched").await;
    let name = world.join(&claim).await;
    world.claim_that_is("Initialized").await;
    let now = DeleteParams::default().grace_period(0);
    world.pods().delete("web", &now).await.unwrap();
    world.running("web", &name, "1").await;
    let is_quiet = || async { world.claims().await[0].is_true("Consolidatable") };
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert!(!is_quiet().await);
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!(is_quiet().await);
    world.running("more", &name, "100m").await;
    tokio::time::sleep(std::time::Duration::from_secs(15)).await;
    assert!(!is_quiet().await);
    let patch = json!({ "spec": { "disruption": { "consolidateAfter": "Never" } } });
    world.node_pools().patch("default", &parameters, &Patch::Merge(&patch)).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    assert!(!is_quiet().await);
}

#[tokio::test(start_paused = true)]
async fn what_happens_is_counted() {
    let world = World::new(MANY).await;
    world.pending("web", "1").await;
    let claim = world.claim_that_is("Launched").await;
    let name = world.join(&claim).await;
    world.claim_that_is("Initialized").await;
    let now = DeleteParams::default().grace_period(0);
    world.pods().delete("web", &now).await.unwrap();
    world
        .until("the node is gone", || async {
            world.end_instances().await;
            world.node(&name).await.is_none().then_some(())
        })
        .await;
    // What nodes cost is looked at each minute.
    tokio::time::sleep(std::time::Duration::from_secs(70)).await;
    let page = world.config.metrics.render();
    for wanted in [
        "karpenter_nodeclaims_created_total{reason=\"provisioned\",nodepool=\"default\"} 1\n",
        "karpenter_nodes_created_total{nodepool=\"default\"} 1\n",
        "karpenter_nodeclaims_disrupted_total{reason=\"Empty\",nodepool=\"default\",capacity_type=\"on-demand\"} 1\n",
        "karpenter_voluntary_disruption_decisions_total{decision=\"delete\",reason=\"Empty\",consolidation_type=\"empty\"} 1\n",
        "karpenter_nodeclaims_terminated_total{nodepool=\"default\"} 1\n",
        "karpenter_nodeclaims_instance_termination_duration_seconds_count{nodepool=\"default\"} 1\n",
        "karpenter_nodes_terminated_total{nodepool=\"default\"} 1\n",
        "karpenter_nodepools_usage{nodepool=\"default\",resource_type=\"cpu\"} 0\n",
        "karpenter_cluster_state_node_count 0\n",
        "karpenter_nodes_lifetime_duration_seconds_count{nodepool=\"default\"} 1\n",
        "karpenter_nodepools_cost_total{nodepool=\"default\"} 0\n",
        "karpenter_nodepools_nodes_consuming_budgets{nodepool=\"default\"} 0\n",
        "karpenter_cloudprovider_instance_type_cpu_cores{instance_type=\"m5.large\"} 2\n",
        "karpenter_cloudprovider_instance_type_offering_price_estimate{instance_type=\"m5.large\",capacity_type=\"on-demand\",zone=\"us-east-1a\"} 0.096\n",
        "operator_nodeclaim_status_condition_transitions_total{type=\"Initialized\",status=\"True\",reason=\"Initialized\"} 1\n",
        "operator_nodeclaim_termination_duration_seconds_count 1\n",
        "operator_ec2nodeclass_status_condition_count{name=\"default\",type=\"Ready\",status=\"True\",reason=\"Ready\"} 1\n",
    ] {
        assert!(page.contains(wanted), "{wanted}\n{page}");
    }
}
