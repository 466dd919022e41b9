//! Hooks and ends.

use std::time::Duration;

use fake_cri::Script;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::json;

use super::{SECOND, pod, support, support::World};

#[tokio::test(start_paused = true)]
async fn a_failed_post_start_hook_ends_the_container_and_leaks_nothing_into_events() {
    let world = World::new().await;
    world.runtime.script("c", Script::default().exec_code(1));
    let hook = json!({ "postStart": { "exec": { "command": ["secret", "word"] } } });
    let spec = json!({ "containers": [{ "name": "c", "image": "i:1", "lifecycle": hook }] });
    world.create(pod("p", spec)).await;
    world.until("p", |it| support::waiting(it) == Some("PostStartHookError")).await;
    world.until_event("FailedPostStartHook", "PostStartHook failed").await;
    world.until_event("Killing", "FailedPostStartHook").await;
    world.until("p", |it| support::restarts(it) >= 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_pre_stop_hook_takes_of_the_grace_that_the_pod_has() {
    let world = World::new().await;
    world
        .runtime
        .script("c", Script::default().exec_takes(Duration::from_secs(3600)).stop_takes(SECOND));
    let hook = json!({ "preStop": { "exec": { "command": ["x"] } } });
    let spec = json!({
        "terminationGracePeriodSeconds": 20,
        "containers": [{ "name": "c", "image": "i:1", "lifecycle": hook }],
    });
    world.create(pod("p", spec)).await;
    world.until("p", support::is_running).await;
    world.delete("p", 20).await;
    world.pass(Duration::from_secs(15)).await;
    assert_eq!(world.runtime.count("StopContainer", "c"), 0);
    world.pass(Duration::from_secs(10)).await;
    assert!(world.runtime.running().is_empty());
    world.until_gone("p").await;
}

/// As `kubectl delete --grace-period=5` of a pod that is ending already.
#[tokio::test(start_paused = true)]
async fn an_end_that_is_hurried_leaves_the_whole_shorter_grace_from_then_on() {
    let millis = Duration::from_millis;
    // When it is hurried after the end has begun, and how long the hook of the container takes.
    for (after, hook) in [(10, 0), (700, 0), (1300, 300), (2950, 1700), (10_250, 950), (29_000, 0)]
    {
        let world = World::new().await;
        let slow = Script::default().stop_takes(Duration::from_secs(3600));
        world.runtime.script("c", slow.exec_takes(millis(hook)));
        let mut container = json!({ "name": "c", "image": "i:1" });
        if hook > 0 {
            container["lifecycle"] = json!({ "preStop": { "exec": { "command": ["x"] } } });
        }
        let spec = json!({ "terminationGracePeriodSeconds": 30, "containers": [container] });
        world.create(pod("p", spec)).await;
        world.until("p", support::is_running).await;
        world.delete("p", 30).await;
        world.pass(millis(after)).await;
        world.delete("p", 5).await;
        let hurried = tokio::time::Instant::now();
        while !world.runtime.running().is_empty() {
            world.pass(millis(10)).await;
        }
        let took = hurried.elapsed();
        let all = 5 * SECOND..6 * SECOND;
        assert!(all.contains(&took), "after {after} ms, with a hook of {hook} ms: {took:?}");
        world.until_gone("p").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_has_two_seconds_to_end_however_short_the_grace_is() {
    let world = World::new().await;
    world.runtime.script("c", Script::default().stop_takes(Duration::from_secs(3600)));
    world.create(pod("p", json!({ "containers": [{ "name": "c", "image": "i:1" }] }))).await;
    world.until("p", support::is_running).await;
    world.delete("p", 1).await;
    world.until_gone("p").await;
    assert_eq!(world.runtime.grace("c"), Some(2));
}

#[tokio::test(start_paused = true)]
async fn hooks_of_sidecars_run_beside_the_others_and_all_end_when_the_grace_is_over() {
    let world = World::new().await;
    let hangs = Script::default().exec_takes(Duration::from_secs(3600));
    for name in ["first", "second", "third", "main"] {
        world.runtime.script(name, hangs.clone().stop_takes(Duration::from_secs(3600)));
    }
    let hook = json!({ "preStop": { "exec": { "command": ["x"] } } });
    let sidecar = |name: &str| json!({ "name": name, "image": "i:1", "restartPolicy": "Always", "lifecycle": hook });
    let spec = json!({
        "terminationGracePeriodSeconds": 20,
        "initContainers": [sidecar("first"), sidecar("second"), sidecar("third")],
        "containers": [{ "name": "main", "image": "i:1", "lifecycle": hook }],
    });
    world.create(pod("p", spec)).await;
    world.until("p", support::is_running).await;
    world.delete("p", 20).await;
    world.pass(SECOND).await;
    for name in ["first", "second", "third", "main"] {
        assert_eq!(world.runtime.count("ExecSync", name), 1, "{name}");
        assert_eq!(world.runtime.count("StopContainer", name), 0, "{name}");
    }
    // The grace, and the two seconds that each one gets at least.
    world.pass(Duration::from_secs(22)).await;
    assert!(world.runtime.running().is_empty(), "{:?}", world.runtime.running());
}

#[tokio::test(start_paused = true)]
async fn a_forced_end_takes_the_object_at_once_and_the_containers_in_their_own_time() {
    let world = World::new().await;
    let hook = json!({ "preStop": { "sleep": { "seconds": 50 } } });
    let spec = json!({
        "terminationGracePeriodSeconds": 100,
        "containers": [{ "name": "c", "image": "i:1", "lifecycle": hook }],
    });
    world.create(pod("p", spec.clone())).await;
    world.until("p", support::is_running).await;
    world.delete("p", 0).await;
    world.until_gone("p").await;
    world.pass(Duration::from_secs(45)).await;
    assert_eq!(world.runtime.running(), ["c"], "the hook sleeps");
    world.pass(Duration::from_secs(10)).await;
    assert!(world.runtime.running().is_empty());
    assert_eq!(world.runtime.count("RemovePodSandbox", "p"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_deleted_while_it_starts_does_not_wait_for_its_start() {
    let world = World::new().await;
    world.runtime.script("init", Script::default());
    let spec = json!({
        "initContainers": [
            { "name": "side", "image": "i:1", "restartPolicy": "Always" },
            { "name": "init", "image": "i:1" },
        ],
        "containers": [{ "name": "c", "image": "i:1" }],
    });
    world.create(pod("p", spec)).await;
    world.pass(Duration::from_secs(5)).await;
    let mut running = world.runtime.running();
    running.sort();
    assert_eq!(running, ["init", "side"]);
    world.delete("p", 30).await;
    world.until_gone("p").await;
    world.pass(Duration::from_secs(5)).await;
    assert!(world.runtime.running().is_empty());
    assert_eq!(world.runtime.count("StartContainer", "c"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_set_later_counts_from_the_start() {
    let world = World::new().await;
    world.create(pod("p", json!({ "containers": [{ "name": "c", "image": "i:1" }] }))).await;
    world.until("p", support::is_running).await;
    world.pass(Duration::from_secs(50)).await;
    world.patch("p", json!({ "spec": { "activeDeadlineSeconds": 60 } })).await;
    world.pass(Duration::from_secs(5)).await;
    assert_eq!(world.status("p").await.phase.as_deref(), Some("Running"));
    world.pass(Duration::from_secs(10)).await;
    assert_eq!(world.status("p").await.reason.as_deref(), Some("DeadlineExceeded"));
}

#[tokio::test(start_paused = true)]
async fn a_static_pod_is_replaced_with_its_file_and_its_mirror_comes_back() {
    let world = World::new().await;
    let text = |image: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: s}}\nspec:\n  containers:\n  - {{name: c, image: \"{image}\"}}\n"
        )
    };
    world.put_static_pod("s.yaml", Some(&text("i:1")));
    world.until_there("s-node").await;
    world.until("s-node", support::is_running).await;
    let first = world.uid("s-node").await;
    // Whoever deletes the mirror gets another one, and the pod runs on.
    world.delete("s-node", 30).await;
    world.until_other("s-node", &first).await;
    world.until("s-node", support::is_running).await;
    assert_eq!(world.runtime.count("StartContainer", "c"), 1);
    let second = world.uid("s-node").await;
    world.put_static_pod("s.yaml", Some(&text("i:2")));
    world.until_other("s-node", &second).await;
    world.until("s-node", support::is_running).await;
    world.pass(Duration::from_secs(60)).await;
    assert_eq!(world.runtime.running(), ["c"]);
    assert_eq!(world.runtime.container_config("c").unwrap().image.unwrap().image, "sha256:i:2");
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_time_is_up_has_failed_when_its_containers_have_ended_and_not_before() {
    let world = World::new().await;
    world.runtime.script("c", Script::default().stop_takes(Duration::from_secs(3600)));
    let spec = json!({
        "activeDeadlineSeconds": 60,
        "terminationGracePeriodSeconds": 20,
        "containers": [{ "name": "c", "image": "i:1" }],
    });
    world.create(pod("p", spec)).await;
    world.until("p", support::is_running).await;
    world.pass(Duration::from_secs(70)).await;
    let status = world.status("p").await;
    assert_eq!((status.phase.as_deref(), status.reason), (Some("Running"), None));
    assert_eq!(world.runtime.running(), ["c"]);
    world.pass(Duration::from_secs(20)).await;
    let status = world.status("p").await;
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_deleted_before_it_ran_has_failed() {
    let world = World::without_network().await;
    let spec = json!({ "containers": [{ "name": "c", "image": "i:1" }] });
    let mut waits = pod("p", spec);
    waits["metadata"]["finalizers"] = json!(["example.com/counts"]);
    world.create(waits).await;
    world.until("p", |it| it.phase.as_deref() == Some("Pending")).await;
    world.delete("p", 30).await;
    world.until("p", |it| it.phase.as_deref() == Some("Failed")).await;
}

#[tokio::test(start_paused = true)]
async fn who_hears_that_a_deleted_pod_is_over_finds_no_volume_of_it_on_the_node() {
    let world = World::new().await;
    let mut pod = pod(
        "p",
        json!({
            "containers": [{
                "name": "c", "image": "i:1", "volumeMounts": [{ "name": "v", "mountPath": "/v" }],
            }],
            "volumes": [{ "name": "v", "emptyDir": {} }],
        }),
    );
    pod["metadata"]["finalizers"] = json!(["example.com/counts"]);
    world.create(pod).await;
    world.until("p", support::is_running).await;
    let folder = world.root().join("pods").join(world.uid("p").await);
    assert!(folder.join("volumes/kubernetes.io~empty-dir/v").exists());
    let pods = Api::<Pod>::namespaced(world.client(), "default");
    let is_over = |it: Option<&Pod>| {
        let phase = it.and_then(|it| it.status.as_ref()?.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    };
    let hearing = kube::runtime::wait::await_condition(pods, "p", is_over);
    let (heard, ()) = tokio::join!(hearing, world.delete("p", 5));
    heard.unwrap();
    assert!(!folder.exists());
}
