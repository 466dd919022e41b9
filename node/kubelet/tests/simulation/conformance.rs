//! Behaviours of upstream's conformance tests that can be shown in memory: generations, restarts of
//! all containers by whoever ends, what a pod's end looks like, what a new kubelet leaves alone.
//!
//! Upstream: `test/e2e/node/pods.go`, `test/e2e/common/node/container_restart_policy.go`,
//! `test/e2e/node/container_readiness_during_termination.go`, `test/e2e_node/pod_conditions_test.go`,
//! `test/e2e_node/container_scoped_probes_test.go`.

use std::time::Duration;

use fake_cri::Script;
use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Value, json};

use super::{SECOND, pod, support, support::World};

fn all_generations(status: &PodStatus) -> Vec<i64> {
    let conditions = status.conditions.iter().flatten();
    let own = conditions.map(|it| it.observed_generation.unwrap_or(0));
    own.chain([status.observed_generation.unwrap_or(0)]).collect()
}

#[tokio::test(start_paused = true)]
async fn every_change_of_a_pods_spec_is_seen_and_told_by_its_node() {
    let world = World::new().await;
    let spec = json!({
        "activeDeadlineSeconds": 5000, "containers": [{ "name": "c", "image": "i:1" }],
    });
    world.create(pod("p", spec)).await;
    world.until("p", support::is_ready).await;
    assert_eq!(all_generations(&world.status("p").await).iter().min(), Some(&1));
    for seconds in (4900..5000).rev() {
        world.patch("p", json!({ "spec": { "activeDeadlineSeconds": seconds } })).await;
    }
    world.until("p", |it| it.observed_generation == Some(101)).await;
    assert!(all_generations(&world.status("p").await).into_iter().all(|it| it == 101));
    // Neither metadata nor the status is a change of what is wanted.
    world.patch("p", json!({ "metadata": { "annotations": { "a": "b" } } })).await;
    world.pass(10 * SECOND).await;
    assert_eq!(world.status("p").await.observed_generation, Some(101));
    assert_eq!(world.runtime.count("StartContainer", "c"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_refused_tells_of_which_generation_that_is_true() {
    let mut world = World::new().await;
    let resources = json!({ "requests": { "cpu": "1000000" } });
    let spec = json!({ "containers": [{ "name": "c", "image": "i:1", "resources": resources }] });
    world.create(pod("p", spec)).await;
    world.until("p", |it| it.reason.as_deref() == Some("OutOfcpu")).await;
    let mut status = world.status("p").await;
    assert!(status.start_time.take().is_some());
    assert!(status.message.take().is_some_and(|it| it.starts_with("Pod was rejected: ")));
    let expected = json!({
        "phase": "Failed", "reason": "OutOfcpu", "qosClass": "Burstable", "observedGeneration": 1,
    });
    assert_eq!(json!(status), expected, "of what never was nothing is told");
    world.stop_kubelet().await;
    world.restart_kubelet().await;
    world.pass(SECOND).await;
    assert_eq!(json!(world.status("p").await)["conditions"], json!(null));
}

fn restarts_all(name: &str) -> Value {
    let rule = json!({
        "action": "RestartAllContainers", "exitCodes": { "operator": "In", "values": [42] },
    });
    json!({ "name": name, "image": "i:1", "restartPolicyRules": [rule] })
}

fn counts(status: &PodStatus) -> Vec<(String, i32)> {
    let init = status.init_container_statuses.iter().flatten();
    let all = init.chain(status.container_statuses.iter().flatten());
    all.map(|it| (it.name.clone(), it.restart_count)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_sidecars_exit_starts_all_anew_and_so_does_an_init_containers() {
    let world = World::new().await;
    world.runtime.script("init", Script::exits(SECOND, 0));
    let mut side = restarts_all("side");
    side["restartPolicy"] = json!("Always");
    let mut late = restarts_all("late");
    late["restartPolicy"] = json!("Never");
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [{ "name": "init", "image": "i:1" }, side, late],
        "containers": [{ "name": "main", "image": "i:1" }],
    });
    world.runtime.script("late", Script::exits(2 * SECOND, 42));
    world.create(pod("p", spec)).await;
    // The last of the init containers fails for once, before anything else runs.
    world.until("p", |it| counts(it).first().is_some_and(|it| it.1 == 1)).await;
    world.runtime.script("late", Script::exits(SECOND, 0));
    world.until("p", support::is_ready).await;
    let before = counts(&world.status("p").await);
    assert_eq!(world.runtime.count("StartContainer", "main"), 1);
    world.runtime.exit("side", 42);
    world
        .until("p", |it| {
            counts(it).iter().all(|(name, count)| {
                let earlier = before.iter().find(|it| it.0 == *name).map_or(0, |it| it.1);
                *count == earlier + 1
            })
        })
        .await;
    world.until("p", support::is_ready).await;
    // Who was killed for it ends with another code than the rule's: there is no second round.
    let settled = counts(&world.status("p").await);
    world.pass(Duration::from_secs(120)).await;
    assert_eq!(counts(&world.status("p").await), settled);
    assert_eq!(world.runtime.count("RunPodSandbox", "p"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_ends_before_the_others_of_a_deleted_pod_is_no_longer_ready() {
    let world = World::new().await;
    let spec = json!({
        "terminationGracePeriodSeconds": 400,
        "containers": [
            { "name": "quick", "image": "i:1" },
            { "name": "slow", "image": "i:1", "lifecycle": { "preStop": { "sleep": { "seconds": 300 } } } },
        ],
    });
    world.create(pod("p", spec)).await;
    world.until("p", support::is_ready).await;
    world.delete("p", 400).await;
    let ready = |it: &PodStatus| -> Vec<bool> {
        it.container_statuses.iter().flatten().map(|it| it.ready).collect()
    };
    world.until("p", |it| ready(it) == [false, true]).await;
    world.pass(60 * SECOND).await;
    assert_eq!(ready(&world.status("p").await), [false, true]);
    assert_eq!(world.runtime.running(), ["slow"]);
    world.until_gone("p").await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_volume_is_missing_is_scheduled_and_initialized_and_nothing_else() {
    let world = World::new().await;
    let spec = |init: Value| {
        json!({
            "initContainers": init,
            "containers": [{
                "name": "c", "image": "i:1", "volumeMounts": [{ "name": "v", "mountPath": "/v" }],
            }],
            "volumes": [{ "name": "v", "configMap": { "name": "absent" } }],
        })
    };
    world.create(pod("plain", spec(json!([])))).await;
    world.create(pod("init", spec(json!([{ "name": "i", "image": "i:1" }])))).await;
    let fits = |it: &str| it.starts_with("MountVolume.SetUp failed for volume \"v\"");
    world.until_event_that("FailedMount", fits).await;
    world.pass(30 * SECOND).await;
    for (name, is_initialized) in [("plain", "True"), ("init", "False")] {
        let status = world.status(name).await;
        let is = |kind: &str| support::condition(&status, kind).unwrap().0;
        assert_eq!((is("PodScheduled"), is("Initialized")), ("True".into(), is_initialized.into()));
        for kind in ["PodReadyToStartContainers", "ContainersReady", "Ready"] {
            assert_eq!(is(kind), "False", "{name} {kind}");
        }
    }
    world.put_config_map("absent", "k", "v").await;
    world.until("plain", support::is_ready).await;
    let status = world.status("plain").await;
    assert_eq!(support::condition(&status, "PodReadyToStartContainers").unwrap().0, "True");
}

#[tokio::test(start_paused = true)]
async fn what_has_started_is_not_asked_again_whether_it_has_by_a_new_kubelet() {
    let mut world = World::new().await;
    world.runtime.script("c", Script::default().exec_code(0));
    let probe =
        json!({ "exec": { "command": ["started"] }, "periodSeconds": 1, "failureThreshold": 2 });
    let spec = json!({ "containers": [{ "name": "c", "image": "i:1", "startupProbe": probe }] });
    world.create(pod("p", spec)).await;
    world.until("p", support::is_ready).await;
    // Only the first moments of its life look like a start.
    world.runtime.script("c", Script::default().exec_code(1));
    world.restart_kubelet().await;
    world.pass(Duration::from_secs(120)).await;
    let status = world.status("p").await;
    assert_eq!(support::restarts(&status), 0);
    assert_eq!(status.container_statuses.unwrap()[0].started, Some(true));
}
