//! What is refused, and who makes room.

use k8s_openapi::api::{node::v1::RuntimeClass, scheduling::v1::PriorityClass};
use serde_json::json;

use super::{SECOND, pod, support, support::World};

fn with_cpu(name: &str, cpu: &str) -> serde_json::Value {
    let resources = json!({ "requests": { "cpu": cpu } });
    pod(name, json!({ "containers": [{ "name": name, "image": "i:1", "resources": resources }] }))
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_does_not_fit_has_failed_with_upstreams_words() {
    let world = World::configured(|it| it.config.max_pods = 1).await;
    world.create(pod("first", json!({ "containers": [{ "name": "c", "image": "i:1" }] }))).await;
    world.until("first", support::is_running).await;
    world.create(pod("p", json!({ "containers": [{ "name": "c", "image": "i:1" }] }))).await;
    world.until("p", |it| it.phase.as_deref() == Some("Failed")).await;
    let status = world.status("p").await;
    assert_eq!(status.reason.as_deref(), Some("OutOfpods"));
    let message = "Node didn't have enough resource: pods, requested: 1, used: 1, capacity: 1";
    assert_eq!(status.message, Some(format!("Pod was rejected: {message}")));
    world.until_event("OutOfpods", message).await;
    assert_eq!(world.runtime.count("RunPodSandbox", "p"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_came_while_the_kubelet_was_away_takes_no_running_pods_place() {
    let mut world = World::configured(|it| it.config.max_pods = 1).await;
    let one = || json!({ "containers": [{ "name": "c", "image": "i:1" }] });
    world.create(pod("z-old", one())).await;
    world.until("z-old", support::is_running).await;
    world.stop_kubelet().await;
    // It is listed first.
    world.create(pod("a-new", one())).await;
    world.restart_kubelet().await;
    world.until("a-new", |it| it.reason.as_deref() == Some("OutOfpods")).await;
    world.pass(SECOND).await;
    assert!(support::is_running(&world.status("z-old").await));
}

#[tokio::test(start_paused = true)]
async fn a_label_that_the_node_was_given_later_is_one_to_select_by() {
    let world = World::new().await;
    world.patch_node(json!({ "metadata": { "labels": { "disk": "fast" } } })).await;
    world.pass(SECOND).await;
    let containers = json!([{ "name": "c", "image": "i:1" }]);
    let spec = json!({ "nodeSelector": { "disk": "fast" }, "containers": containers });
    world.create(pod("p", spec)).await;
    world.until("p", support::is_running).await;
    let spec = json!({ "nodeSelector": { "disk": "slow" }, "containers": containers });
    world.create(pod("q", spec)).await;
    world.until("q", |it| it.reason.as_deref() == Some("NodeAffinity")).await;
}

#[tokio::test(start_paused = true)]
async fn a_critical_pod_takes_the_place_of_another() {
    let world = World::configured(|it| it.config.max_pods = 2).await;
    world.create(with_cpu("small", "1m")).await;
    world.until("small", support::is_running).await;
    world.create(with_cpu("large", "100m")).await;
    world.until("large", support::is_running).await;
    let priority = json!({
        "metadata": { "name": "high" }, "value": 1_000_000,
    });
    world.put::<PriorityClass>(priority).await;
    let mut critical = with_cpu("critical", "1m");
    critical["spec"]["priorityClassName"] = json!("system-node-critical");
    world.create(critical).await;
    world.until("critical", support::is_running).await;
    let victim = match world.status("small").await.phase.as_deref() {
        Some("Failed") => "small",
        _ => "large",
    };
    let status = world.status(victim).await;
    assert_eq!(status.reason.as_deref(), Some("Preempting"));
    assert_eq!(status.message.as_deref(), Some("Preempted in order to admit critical pod"));
    let disruption = support::condition(&status, "DisruptionTarget").unwrap();
    assert_eq!(disruption, ("True".to_owned(), "TerminationByKubelet".to_owned()));
    assert_eq!(world.runtime.running().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_runtime_class_names_the_handler_and_a_missing_one_is_told() {
    let world = World::new().await;
    world.runtime.add_handler("there");
    for (name, handler) in [("good", "there"), ("bad", "nowhere")] {
        world
            .put::<RuntimeClass>(json!({ "metadata": { "name": name }, "handler": handler }))
            .await;
        let spec = json!({
            "runtimeClassName": name, "containers": [{ "name": "c", "image": "i:1" }],
        });
        world.create(pod(name, spec)).await;
    }
    world.until("good", support::is_running).await;
    let message = "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to get sandbox runtime: no runtime for \"nowhere\" is configured";
    world.until_event("FailedCreatePodSandBox", message).await;
    assert_eq!(world.status("bad").await.phase.as_deref(), Some("Pending"));
}

#[tokio::test(start_paused = true)]
async fn sysctls_that_are_not_allowed_fail_the_pod_and_safe_ones_reach_the_sandbox() {
    let world = World::new().await;
    let with = |name: &str| {
        json!({
            "securityContext": { "sysctls": [{ "name": name, "value": "1" }] },
            "containers": [{ "name": "c", "image": "i:1" }],
        })
    };
    world.create(pod("unsafe", with("kernel.msgmax"))).await;
    world.until("unsafe", |it| it.reason.as_deref() == Some("SysctlForbidden")).await;
    world.create(pod("safe", with("net.ipv4.tcp_syncookies"))).await;
    world.until("safe", support::is_running).await;
    let config = world.runtime.sandbox_config("safe").unwrap();
    assert_eq!(config.linux.unwrap().sysctls["net.ipv4.tcp_syncookies"], "1");
}
