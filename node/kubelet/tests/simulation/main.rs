//! The kubelet on a runtime in memory and on our API server, in virtual time.

#![recursion_limit = "256"]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod admission;
mod certificates;
mod conformance;
mod containers;
mod ends;
mod environment;
mod exits;
mod faults;
mod images;
mod lifecycle;
mod node;
mod probe_servers;
mod probes;
mod registration;
mod resize;
mod restarts;
mod runtime_features;
mod servers;
mod static_pods;
mod support;
mod user_namespaces;
mod volumes;

use std::{sync::atomic::Ordering, time::Duration};

use fake_cri::Script;
use serde_json::json;
use support::World;
use tonic::Status;

const SECOND: Duration = Duration::from_secs(1);

fn pod(name: &str, spec: serde_json::Value) -> serde_json::Value {
    json!({ "metadata": { "name": name }, "spec": spec })
}

#[tokio::test(start_paused = true)]
async fn a_crashing_container_is_restarted_later_and_later() {
    let world = World::new().await;
    world.runtime.script("c", Script::exits(SECOND, 1));
    world.create(pod("p", json!({ "containers": [{ "name": "c", "image": "i:1" }] }))).await;
    world.until("p", |it| support::waiting(it) == Some("CrashLoopBackOff")).await;
    // At 0 and at once after the first exit; then 10, 20, 40 seconds after each.
    world.pass(8 * SECOND).await;
    assert_eq!(world.runtime.count("StartContainer", "c"), 2);
    world.pass(5 * SECOND).await;
    assert_eq!(world.runtime.count("StartContainer", "c"), 3);
    world.pass(Duration::from_secs(1300)).await;
    let starts = world.runtime.count("StartContainer", "c");
    assert!((9..=11).contains(&starts), "every five minutes in the end: {starts}");
    let uid = world.uid("p").await;
    let message = format!("Back-off restarting failed container c in pod p_default({uid})");
    world.until_event("BackOff", &message).await;
    // Once for each time that it is held back, until it has had an object's share of events.
    let told = usize::try_from(world.told("BackOff").await).unwrap();
    assert!((3..starts).contains(&told), "{told} for {starts} starts");
    let status = world.status("p").await;
    let container = &status.container_statuses.unwrap()[0];
    assert_eq!(usize::try_from(container.restart_count).unwrap() + 1, starts);
}

#[tokio::test(start_paused = true)]
async fn a_kubelet_that_is_killed_again_and_again_starts_nothing_twice() {
    let mut world = World::new().await;
    world.runtime.script("init", Script::exits(SECOND, 0).start_takes(Duration::from_millis(50)));
    world.runtime.script("c", Script::default().start_takes(Duration::from_millis(50)));
    let spec = json!({
        "initContainers": [{ "name": "init", "image": "i:1" }],
        "containers": [{ "name": "c", "image": "i:1" }],
    });
    world.create(pod("p", spec)).await;
    for step in 0..40_u32 {
        world.pass(Duration::from_millis(u64::from(7 + step * 5 % 97))).await;
        world.restart_kubelet().await;
    }
    world.until("p", |it| it.phase.as_deref() == Some("Running")).await;
    world.pass(Duration::from_secs(120)).await;
    let running = world.runtime.running();
    assert_eq!(running, ["c"], "one sandbox's one container runs");
    let status = world.status("p").await;
    assert_eq!(status.container_statuses.unwrap()[0].restart_count, 0);
}

#[tokio::test(start_paused = true)]
async fn a_changed_config_map_reaches_a_running_pod_within_a_minute() {
    let world = World::new().await;
    world.put_config_map("m", "k", "old").await;
    let spec = json!({
        "containers": [{
            "name": "c",
            "image": "i:1",
            "volumeMounts": [{ "name": "v", "mountPath": "/v" }],
        }],
        "volumes": [{ "name": "v", "configMap": { "name": "m" } }],
    });
    world.create(pod("p", spec)).await;
    world.until("p", |it| it.phase.as_deref() == Some("Running")).await;
    assert_eq!(world.volume_file("configmap/v/k"), "old");
    world.put_config_map("m", "k", "new").await;
    world.pass(Duration::from_secs(61)).await;
    assert_eq!(world.volume_file("configmap/v/k"), "new");
    let before = world.runtime.calls().len();
    world.pass(Duration::from_secs(300)).await;
    assert_eq!(world.runtime.calls().len(), before, "nothing is done for an idle pod");
}

#[tokio::test(start_paused = true)]
async fn a_status_is_sent_when_it_changes_and_at_no_other_time() {
    let world = World::new().await;
    world.runtime.add_image("i:1");
    world.create(pod("p", json!({ "containers": [{ "name": "c", "image": "i:1" }] }))).await;
    world.until("p", support::is_ready).await;
    world.pass(SECOND).await;
    let sent = world.patches.load(Ordering::SeqCst);
    assert!(sent <= 2, "pending, running: {sent}");
    world.pass(Duration::from_secs(600)).await;
    assert_eq!(world.patches.load(Ordering::SeqCst), sent);
}

#[tokio::test(start_paused = true)]
async fn a_pods_address_is_told_while_its_image_is_pulled() {
    let world = World::new().await;
    world.runtime.hang_pull("i:1");
    world.create(pod("p", json!({ "containers": [{ "name": "c", "image": "i:1" }] }))).await;
    world.until("p", |it| it.pod_ip.is_some()).await;
    let status = world.status("p").await;
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    let (is_ready, _) = support::condition(&status, "PodReadyToStartContainers").unwrap();
    assert_eq!(is_ready, "True");
}

/// Each look lists twice; what a pod costs its runtime is what it costs the node's CPU.
#[tokio::test(start_paused = true)]
async fn a_pod_that_starts_is_looked_at_once_and_not_for_each_status_and_event_of_its_own() {
    const PODS: usize = 20;
    let world = World::new().await;
    world.create(pod("first", json!({ "containers": [{ "name": "c", "image": "i:1" }] }))).await;
    world.until("first", support::is_ready).await;
    world.pass(SECOND).await;
    let before = world.runtime.lists();
    for number in 0..PODS {
        let spec = json!({ "containers": [{ "name": "c", "image": "i:1" }] });
        world.create(pod(&format!("p{number}"), spec)).await;
    }
    for number in 0..PODS {
        world.until(&format!("p{number}"), support::is_ready).await;
    }
    world.pass(SECOND).await;
    let lists = world.runtime.lists() - before;
    assert!(lists <= 2 * PODS, "{lists} for {PODS} pods");
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_fails_is_tried_again_and_told() {
    let world = World::new().await;
    for _ in 0..2 {
        world.runtime.inject("RunPodSandbox", Status::unknown("no more addresses"));
    }
    world.create(pod("p", json!({ "containers": [{ "name": "c", "image": "i:1" }] }))).await;
    world.until("p", |it| it.phase.as_deref() == Some("Running")).await;
    assert_eq!(world.runtime.count("RunPodSandbox", "p"), 3);
    let message =
        "Failed to create pod sandbox: rpc error: code = Unknown desc = no more addresses";
    world.until_event("FailedCreatePodSandBox", message).await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_be_pulled_is_backed_off_and_named() {
    let world = World::new().await;
    for _ in 0..3 {
        world.runtime.inject("PullImage", Status::not_found("no such image"));
    }
    world.create(pod("p", json!({ "containers": [{ "name": "c", "image": "missing:1" }] }))).await;
    world.until("p", |it| support::waiting(it) == Some("ErrImagePull")).await;
    world.until("p", |it| support::waiting(it) == Some("ImagePullBackOff")).await;
    world.until_event("Failed", "Error: ErrImagePull").await;
    world.until_event("BackOff", "Back-off pulling image \"missing:1\"").await;
    // 10 and 20 seconds later the third and fourth attempts: the last one works.
    world.until("p", |it| it.phase.as_deref() == Some("Running")).await;
    assert_eq!(world.runtime.count("PullImage", "missing:1"), 4);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_be_pulled_holds_only_its_own_container_back() {
    let world = World::new().await;
    for _ in 0..20 {
        world.runtime.inject("PullImage", Status::not_found("no such image"));
    }
    world.runtime.add_image("i:1");
    let spec = json!({ "containers": [
        { "name": "bad", "image": "missing:1" }, { "name": "good", "image": "i:1" },
    ] });
    world.create(pod("p", spec)).await;
    // By now the next pull is minutes away.
    world.pass(Duration::from_secs(200)).await;
    assert_eq!(support::waiting(&world.status("p").await), Some("ImagePullBackOff"));
    world.runtime.exit("good", 1);
    world.pass(2 * SECOND).await;
    assert_eq!(world.runtime.running(), ["good"]);
    assert_eq!(world.runtime.count("StartContainer", "good"), 2);
}

#[tokio::test(start_paused = true)]
async fn only_pods_on_the_hosts_network_run_before_the_network_is_there() {
    let world = World::without_network().await;
    let containers = json!([{ "name": "c", "image": "i:1" }]);
    world.create(pod("host", json!({ "hostNetwork": true, "containers": containers }))).await;
    world.create(pod("other", json!({ "containers": containers }))).await;
    world.until("host", |it| it.phase.as_deref() == Some("Running")).await;
    world.pass(Duration::from_secs(30)).await;
    assert_eq!(world.runtime.count("RunPodSandbox", "other"), 0);
    world.runtime.set_network_ready(true);
    world.until("other", |it| it.phase.as_deref() == Some("Running")).await;
}

#[tokio::test(start_paused = true)]
async fn sidecars_start_first_and_end_last() {
    let world = World::new().await;
    for name in ["first", "second", "main"] {
        world.runtime.script(name, Script::default().stop_takes(SECOND));
    }
    let sidecar = |name: &str| json!({ "name": name, "image": "i:1", "restartPolicy": "Always" });
    let spec = json!({
        "initContainers": [sidecar("first"), sidecar("second")],
        "containers": [{ "name": "main", "image": "i:1" }],
    });
    world.create(pod("p", spec)).await;
    world.until("p", |it| it.phase.as_deref() == Some("Running")).await;
    world.delete("p", 30).await;
    world.until_gone("p").await;
    let order = |call: &str| -> Vec<String> {
        let calls = world.runtime.calls().into_iter();
        calls.filter(|it| it.0 == call).map(|it| it.1).collect()
    };
    assert_eq!(order("StartContainer"), ["first", "second", "main"]);
    assert_eq!(order("StopContainer"), ["main", "second", "first"]);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_pod_and_says_so() {
    let world = World::new().await;
    let spec = json!({
        "activeDeadlineSeconds": 60,
        "containers": [{ "name": "c", "image": "i:1" }],
    });
    world.create(pod("p", spec)).await;
    world.until("p", |it| it.phase.as_deref() == Some("Running")).await;
    world.pass(Duration::from_secs(55)).await;
    assert_eq!(world.status("p").await.phase.as_deref(), Some("Running"));
    world.pass(Duration::from_secs(10)).await;
    let status = world.status("p").await;
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
    assert!(world.runtime.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_shorter_grace_is_taken_up_while_the_pod_ends() {
    let world = World::new().await;
    world.runtime.script("c", Script::default().stop_takes(Duration::from_secs(3600)));
    let spec = json!({
        "terminationGracePeriodSeconds": 600,
        "containers": [{ "name": "c", "image": "i:1" }],
    });
    world.create(pod("p", spec)).await;
    world.until("p", |it| it.phase.as_deref() == Some("Running")).await;
    world.delete("p", 600).await;
    world.pass(Duration::from_secs(60)).await;
    assert_eq!(world.runtime.running(), ["c"]);
    world.delete("p", 5).await;
    world.pass(Duration::from_secs(10)).await;
    assert!(world.runtime.running().is_empty());
    world.until_gone("p").await;
}

#[tokio::test(start_paused = true)]
async fn a_readiness_probe_decides_and_a_liveness_probe_restarts() {
    let world = World::new().await;
    world.runtime.script("c", Script::default().exec_code(1));
    let probe = |threshold: i32| json!({ "exec": { "command": ["x"] }, "periodSeconds": 5, "failureThreshold": threshold });
    let spec = json!({ "containers": [{
        "name": "c", "image": "i:1", "readinessProbe": probe(1), "livenessProbe": probe(3),
    }] });
    world.create(pod("p", spec)).await;
    world.until("p", |it| it.phase.as_deref() == Some("Running")).await;
    assert!(!support::is_ready(&world.status("p").await));
    world.until_event("Killing", "Container c failed liveness probe, will be restarted").await;
    world.until("p", |it| support::restarts(it) == 1).await;
    world.runtime.script("c", Script::default());
    world.until("p", support::is_ready).await;
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_goes_away_costs_no_container() {
    let world = World::new().await;
    world.create(pod("p", json!({ "containers": [{ "name": "c", "image": "i:1" }] }))).await;
    world.until("p", |it| it.phase.as_deref() == Some("Running")).await;
    world.runtime.break_connections();
    world.pass(Duration::from_secs(30)).await;
    world.create(pod("q", json!({ "containers": [{ "name": "d", "image": "i:1" }] }))).await;
    world.until("q", |it| it.phase.as_deref() == Some("Running")).await;
    assert_eq!(world.runtime.count("StartContainer", "c"), 1);
    // And an exit is still noticed at once.
    world.runtime.exit("d", 1);
    world.until("q", |it| support::restarts(it) == 1).await;
}

#[tokio::test(start_paused = true)]
async fn an_image_whose_name_is_none_is_told_and_not_pulled() {
    let world = World::new().await;
    world.create(pod("p", json!({ "containers": [{ "name": "c", "image": "Not A Name" }] }))).await;
    world.until("p", |it| support::waiting(it) == Some("InvalidImageName")).await;
    let message = "Failed to apply default image tag \"Not A Name\": couldn't parse image name \"Not A Name\": invalid reference format";
    world.until_event("InspectFailed", message).await;
    assert_eq!(world.runtime.count("PullImage", "Not A Name"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_was_pulled_with_a_secret_is_not_lent_to_a_pod_without_it() {
    let world = World::new().await;
    world.put_pull_secret("key", "example.com", "u", "p").await;
    let containers = |policy: &str| json!([{ "name": "c", "image": "example.com/i:1", "imagePullPolicy": policy }]);
    let secrets = json!([{ "name": "key" }]);
    let spec = json!({ "imagePullSecrets": secrets, "containers": containers("IfNotPresent") });
    world.create(pod("owner", spec)).await;
    world.until("owner", support::is_running).await;
    assert_eq!(world.runtime.count("PullImage", "example.com/i:1"), 1);
    // Never pulled for it, and not its to use.
    world.create(pod("stranger", json!({ "containers": containers("Never") }))).await;
    world.until("stranger", |it| support::waiting(it) == Some("ErrImageNeverPull")).await;
    // Pulled again, with nothing: the registry decides.
    world.runtime.inject("PullImage", Status::permission_denied("no"));
    world.create(pod("other", json!({ "containers": containers("IfNotPresent") }))).await;
    world.until("other", |it| support::waiting(it) == Some("ErrImagePull")).await;
    let spec = json!({ "imagePullSecrets": secrets, "containers": containers("Never") });
    world.create(pod("second", spec)).await;
    world.until("second", support::is_running).await;
}
