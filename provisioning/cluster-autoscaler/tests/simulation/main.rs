//! The autoscaler against a real API server, scheduler, EC2 and Auto Scaling, in memory and virtual
//! time. What the kubelet and the controllers would do is done by [`Cluster::step`].

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod support;

use std::time::Duration;

use cluster_autoscaler::Options;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{ConfigMap, Event},
};
use kube::Api;
use latency::Latency;

use crate::support::{Cluster, NAMESPACE};

/// Timers of seconds, so that hours need not pass.
fn quick() -> Options {
    let mut options = Options::default();
    options.scale_down.defaults.unneeded_time = Duration::from_secs(60);
    options.scale_down.delay_after_add = Duration::from_secs(30);
    options.scale_down.recheck = Duration::from_secs(20);
    options
}

#[tokio::test(start_paused = true)]
async fn a_pending_pod_brings_a_node_and_its_end_takes_it_away() {
    let cluster = Cluster::start(quick(), (0, 3)).await;
    cluster.pod("web", "1500m").await;
    cluster.until("the pod runs", async || cluster.node_of("web").await.is_some()).await;
    assert_eq!(cluster.desired().await, 1);
    let events = cluster.events("web").await;
    let wanted = ("TriggeredScaleUp", "pod triggered scale-up: [{workers 0->1 (max: 3)}]");
    assert!(events.iter().any(|it| (it.0.as_str(), it.1.as_str()) == wanted), "{events:?}");
    cluster.delete("web").await;
    cluster.until("the node is gone", async || cluster.nodes().await.is_empty()).await;
    assert_eq!(cluster.desired().await, 0);
    let events: Vec<String> = cluster.all_events().await.into_iter().map(|it| it.0).collect();
    for reason in ["ScaledUpGroup", "ScaleDownEmpty", "ScaleDown"] {
        assert!(events.iter().any(|it| it == reason), "{reason}: {events:?}");
    }
    cluster.pause(15).await;
    let maps = Api::<ConfigMap>::namespaced(cluster.kube.clone(), NAMESPACE);
    let status = maps.get("cluster-autoscaler-status").await.unwrap();
    let status = &status.data.unwrap()["status"];
    assert!(status.contains("autoscalerStatus: Running"), "{status}");
    assert!(status.contains("cloudProviderTarget: 0"), "{status}");
}

#[tokio::test(start_paused = true)]
async fn at_its_most_a_group_does_not_grow_and_the_pod_is_told_why() {
    let cluster = Cluster::start(quick(), (0, 1)).await;
    cluster.pod("one", "1500m").await;
    cluster.until("the first runs", async || cluster.node_of("one").await.is_some()).await;
    cluster.pod("two", "1500m").await;
    cluster.pod("huge", "64").await;
    let told = async |pod: &str| {
        cluster.events(pod).await.into_iter().find(|it| it.0 == "NotTriggerScaleUp").map(|it| it.1)
    };
    cluster
        .until("both are told", async || {
            told("two").await.is_some() && told("huge").await.is_some()
        })
        .await;
    let wanted = "pod didn't trigger scale-up: 1 max node group size reached";
    assert_eq!(told("two").await.unwrap(), wanted);
    assert_eq!(cluster.desired().await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_little_used_node_is_drained_unless_a_budget_forbids_it() {
    let cluster = Cluster::start(quick(), (0, 3)).await;
    for name in ["a", "b", "c"] {
        cluster.pod(name, "1100m").await;
    }
    cluster.until("each has a node", async || cluster.nodes().await.len() == 3).await;
    cluster.budget("guard", "small-c", 0).await;
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"] {
        cluster.until("it runs", async || cluster.node_of(name).await.is_some()).await;
        let node = cluster.node_of(name).await.unwrap();
        cluster.pod_on(&format!("small-{name}"), "300m", &node).await;
        cluster.delete(name).await;
        nodes.push(node);
    }
    cluster.until("two go", async || cluster.nodes().await.len() == 1).await;
    let left = cluster.nodes().await.remove(0);
    assert_eq!(left.metadata.name.as_deref(), Some(nodes[2].as_str()));
    let evicted = cluster.events("small-a").await;
    assert!(evicted.iter().any(|it| it.1 == "deleting pod for node scale down"), "{evicted:?}");
    assert_eq!(cluster.node_of("small-a").await, None);
    cluster.pause(300).await;
    assert!(cluster.node_of("small-c").await.is_some(), "its budget lets nobody go");
}

#[tokio::test(start_paused = true)]
async fn pods_whose_controller_is_gone_keep_their_node() {
    let cluster = Cluster::start(quick(), (0, 2)).await;
    for name in ["a", "b"] {
        cluster.pod(name, "1100m").await;
        cluster.until("it runs", async || cluster.node_of(name).await.is_some()).await;
        let node = cluster.node_of(name).await.unwrap();
        cluster.pod_on(&format!("small-{name}"), "100m", &node).await;
    }
    cluster.sets().delete("rs", &Default::default()).await.unwrap();
    for name in ["a", "b"] {
        cluster.delete(name).await;
    }
    cluster.pause(600).await;
    assert_eq!(cluster.nodes().await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn of_two_replicas_one_works_and_the_other_takes_over() {
    let cluster = Cluster::idle((0, 3)).await;
    let first = cluster.doomed_autoscaler(quick(), "one");
    let holder = async || holder(&cluster).await;
    cluster.until("the first leads", async || holder().await.as_deref() == Some("one")).await;
    drop(cluster.autoscaler(quick(), Some("two")));
    cluster.pause(60).await;
    assert_eq!(holder().await.as_deref(), Some("one"));
    first.cancel();
    cluster.until("the second leads", async || holder().await.as_deref() == Some("two")).await;
    cluster.pod("web", "1500m").await;
    cluster.until("it works", async || cluster.node_of("web").await.is_some()).await;
}

async fn holder(cluster: &Cluster) -> Option<String> {
    let leases = Api::<Lease>::namespaced(cluster.kube.clone(), NAMESPACE);
    let lease = leases.get_opt("cluster-autoscaler").await.unwrap();
    lease.and_then(|it| it.spec).and_then(|it| it.holder_identity)
}

#[tokio::test(start_paused = true)]
async fn one_that_is_told_to_end_lets_the_other_take_over_at_once() {
    let cluster = Cluster::idle((0, 3)).await;
    let first = cluster.autoscaler(quick(), Some("one"));
    let holder = async || holder(&cluster).await;
    cluster.until("the first leads", async || holder().await.as_deref() == Some("one")).await;
    drop(cluster.autoscaler(quick(), Some("two")));
    cluster.pause(60).await;
    assert_eq!(holder().await.as_deref(), Some("one"));
    first.cancel();
    // The lease has fifteen seconds left, and is looked at every two.
    cluster.pause(4).await;
    assert_eq!(holder().await.as_deref(), Some("two"));
}

#[tokio::test(start_paused = true)]
async fn a_group_without_room_in_its_subnets_is_left_alone_for_a_while() {
    let cluster = Cluster::start(quick(), (0, 3)).await;
    cluster.exhaust().await;
    cluster.pod("web", "1500m").await;
    let events = Api::<Event>::all(cluster.kube.clone());
    let has = async |reason: &str| {
        let all = events.list(&Default::default()).await.unwrap().items;
        all.iter().any(|it| it.reason.as_deref() == Some(reason))
    };
    cluster.until("it failed", async || has("FailedToScaleUpGroup").await).await;
    cluster.until("the size is taken back", async || cluster.desired().await == 0).await;
    let backed_off = "pod didn't trigger scale-up: 1 in backoff after failed scale-up";
    cluster
        .until("the pod is told", async || {
            cluster.events("web").await.iter().any(|it| it.1 == backed_off)
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_group_that_names_its_types_by_attributes_grows_from_nothing() {
    let cluster = Cluster::idle((0, 3)).await;
    cluster.choose_by_attributes().await;
    drop(cluster.autoscaler(quick(), None));
    cluster.pod("web", "1500m").await;
    cluster.until("the pod runs", async || cluster.node_of("web").await.is_some()).await;
    assert_eq!(cluster.desired().await, 1);
    cluster.pod("huge", "3").await;
    cluster
        .until("the other is told", async || {
            cluster.events("huge").await.iter().any(|it| it.0 == "NotTriggerScaleUp")
        })
        .await;
    assert_eq!(cluster.desired().await, 1, "none of them has three vCPUs");
}

#[tokio::test(start_paused = true)]
async fn what_never_becomes_a_node_in_a_group_at_its_least_is_replaced_if_that_is_forced() {
    for is_forced in [false, true] {
        let mut options = quick();
        options.scale_down.defaults.max_provision_time = Duration::from_secs(120);
        options.force_unregistered = is_forced;
        let cluster = Cluster::idle((1, 1)).await;
        cluster.fall_mute();
        cluster.pause(5).await;
        let before = cluster.instances().await;
        assert_eq!(before.len(), 1);
        drop(cluster.autoscaler(options, None));
        cluster.pause(200).await;
        let now = cluster.instances().await;
        assert_eq!((now.len(), cluster.desired().await), (1, 1));
        assert_eq!(now != before, is_forced);
    }
}

/// From the pod to its node.
async fn time_to_run(latency: Latency) -> Duration {
    let cluster = Cluster::slow(quick(), (0, 3), latency).await;
    cluster.pause(20).await;
    let begun = tokio::time::Instant::now();
    cluster.pod("web", "1500m").await;
    cluster.until("the pod runs", async || cluster.node_of("web").await.is_some()).await;
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_group_takes_visibly_longer_where_everything_takes_awss_time() {
    let here = time_to_run(Latency::INSTANT).await;
    assert!(here < Duration::from_secs(20), "a pass, and two steps: {here:?}");
    let aws = Latency::AWS;
    let there = time_to_run(aws).await;
    // What EC2 and the boot take, and on top of it what goes through the group.
    assert!(there >= aws.launch + aws.boot + aws.scaling, "{there:?}");
    assert!(there >= here + aws.launch + aws.boot, "{there:?}, here {here:?}");
    assert!(there < Duration::from_secs(90), "AWS tells of 40 to 90 seconds: {there:?}");
}

/// What a restart in the middle of a pass could leave: a node too many, a taint, a node that nobody
/// takes away any more.
#[tokio::test(start_paused = true)]
async fn a_restart_at_any_point_leaves_no_node_behind() {
    for seconds in [1, 5, 9, 10, 11, 12, 20] {
        let cluster = Cluster::idle((0, 3)).await;
        let first = cluster.doomed_autoscaler(quick(), "one");
        cluster.pod("web", "1500m").await;
        cluster.pause(seconds).await;
        first.cancel();
        let second = cluster.doomed_autoscaler(quick(), "two");
        cluster.until("the pod runs", async || cluster.node_of("web").await.is_some()).await;
        cluster.pause(30).await;
        assert_eq!((cluster.desired().await, cluster.nodes().await.len()), (1, 1), "{seconds}");
        cluster.delete("web").await;
        // About when the node is found to be unneeded, and when it goes.
        cluster.pause(50 + seconds * 2).await;
        second.cancel();
        drop(cluster.autoscaler(quick(), Some("three")));
        cluster.until("the node is gone", async || cluster.nodes().await.is_empty()).await;
        assert_eq!(cluster.desired().await, 0, "{seconds}");
    }
}
