//! Resources that change while a pod runs.

use std::time::Duration;

use fake_cri::Script;
use kubelet::GoDuration;
use serde_json::{Value, json};
use tonic::Status;

use super::{SECOND, pod, support, support::World};

fn sized(policy: Value) -> Value {
    let resources = json!({
        "requests": { "cpu": "100m", "memory": "64Mi" },
        "limits": { "cpu": "200m", "memory": "128Mi" },
    });
    json!({ "containers": [{
        "name": "c", "image": "i:1", "resources": resources, "resizePolicy": policy,
    }] })
}

fn cpu_limit(world: &World) -> i64 {
    let linux = world.runtime.container_config("c").unwrap().linux.unwrap();
    linux.resources.unwrap().cpu_quota / 100
}

fn actual(status: &k8s_openapi::api::core::v1::PodStatus, resource: &str) -> String {
    let container = &status.container_statuses.as_ref().unwrap()[0];
    container.resources.as_ref().unwrap().limits.as_ref().unwrap()[resource].0.clone()
}

#[tokio::test(start_paused = true)]
async fn a_container_gets_more_without_a_restart_and_the_status_follows() {
    let mut world = World::new().await;
    world.create(pod("p", sized(json!([])))).await;
    world.until("p", support::is_running).await;
    assert_eq!(cpu_limit(&world), 200);
    let wanted = json!({ "requests": { "cpu": "150m" }, "limits": { "cpu": "400m" } });
    world.resize("p", wanted).await;
    world.until("p", |it| actual(it, "cpu") == "400m").await;
    assert_eq!(cpu_limit(&world), 400);
    let status = world.status("p").await;
    let allocated = &status.container_statuses.as_ref().unwrap()[0].allocated_resources;
    assert_eq!(allocated.as_ref().unwrap()["cpu"].0, "150m");
    assert_eq!(support::restarts(&status), 0);
    assert_eq!(world.runtime.count("StartContainer", "c"), 1);
    world.until("p", |it| support::condition(it, "PodResizeInProgress").is_none()).await;
    assert_eq!(world.told("ResizeStarted").await, 1);
    assert_eq!(world.told("ResizeCompleted").await, 1);
    // The next kubelet has nothing to do.
    world.restart_kubelet().await;
    world.pass(Duration::from_secs(60)).await;
    assert_eq!(world.runtime.count("UpdateContainerResources", "c"), 1);
    assert_eq!(world.runtime.count("StartContainer", "c"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_wants_to_is_restarted_for_its_new_memory() {
    let world = World::new().await;
    let policy = json!([{ "resourceName": "memory", "restartPolicy": "RestartContainer" }]);
    world.create(pod("p", sized(policy))).await;
    world.until("p", support::is_running).await;
    world.resize("p", json!({ "limits": { "memory": "256Mi" } })).await;
    world.until_event("Killing", "Container c resize requires restart").await;
    world.until("p", |it| support::restarts(it) == 1 && actual(it, "memory") == "256Mi").await;
    assert_eq!(world.runtime.count("UpdateContainerResources", "c"), 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_node_can_never_give_is_infeasible_and_what_it_cannot_give_now_is_deferred() {
    let world = World::new().await;
    let node = world.allocatable_cpu_milli().await;
    world.create(pod("p", sized(json!([])))).await;
    world.until("p", support::is_running).await;
    let too_much = json!({ "requests": { "cpu": "9000" }, "limits": { "cpu": "9000" } });
    world.resize("p", too_much).await;
    let pending = |it: &_| support::condition(it, "PodResizePending");
    world.until("p", |it| pending(it).is_some_and(|it| it.1 == "Infeasible")).await;
    let message = world.condition_message("p", "PodResizePending").await;
    assert_eq!(
        message,
        format!("Node didn't have enough capacity: cpu, requested: 9000000, capacity: {node}")
    );
    // Another pod has the rest of the node.
    let rest = format!("{}m", node - 100);
    let other = json!({ "containers": [{
        "name": "other", "image": "i:1", "resources": { "requests": { "cpu": rest } },
    }] });
    world.create(pod("other", other)).await;
    world.until("other", support::is_running).await;
    world.resize("p", json!({ "requests": { "cpu": "200m" }, "limits": { "cpu": "300m" } })).await;
    world.until("p", |it| pending(it).is_some_and(|it| it.1 == "Deferred")).await;
    assert_eq!(cpu_limit(&world), 200);
    world.delete("other", 1).await;
    world.until("p", |it| pending(it).is_none() && actual(it, "cpu") == "300m").await;
}

#[tokio::test(start_paused = true)]
async fn of_two_that_wait_for_room_the_more_important_one_is_resized() {
    let world = World::new().await;
    world.put_priority_class("important", 1000).await;
    let node = world.allocatable_cpu_milli().await;
    let small = |name: &str, class: Option<&str>| {
        let resources = json!({ "requests": { "cpu": "50m" } });
        let container = json!({ "name": name, "image": "i:1", "resources": resources });
        pod(name, json!({ "priorityClassName": class, "containers": [container] }))
    };
    let rest = json!({ "requests": { "cpu": format!("{}m", node - 100) } });
    let other = json!({ "containers": [{ "name": "other", "image": "i:1", "resources": rest }] });
    world.create(small("patient", None)).await;
    world.create(small("important", Some("important"))).await;
    world.create(pod("other", other)).await;
    for name in ["patient", "important", "other"] {
        world.until(name, support::is_running).await;
    }
    let pending = |it: &_| support::condition(it, "PodResizePending");
    // Either fits without `other`, both do not.
    let more = json!({ "requests": { "cpu": format!("{}m", node - 80) } });
    for name in ["patient", "important"] {
        world.resize(name, more.clone()).await;
        world.until(name, |it| pending(it).is_some_and(|it| it.1 == "Deferred")).await;
        world.pass(SECOND).await;
    }
    world.delete("other", 1).await;
    world.until("important", |it| pending(it).is_none()).await;
    let deferred = pending(&world.status("patient").await).unwrap();
    assert_eq!(deferred.1, "Deferred");
    // What it gives back is there for the other at once.
    let given_back = tokio::time::Instant::now();
    world.resize("important", json!({ "requests": { "cpu": "50m" } })).await;
    world.until("patient", |it| pending(it).is_none()).await;
    assert!(given_back.elapsed() < 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn memory_is_not_taken_from_under_a_container_that_uses_it() {
    let world = World::new().await;
    world.runtime.script("c", Script::default().memory(100 << 20));
    world.create(pod("p", sized(json!([])))).await;
    world.until("p", support::is_running).await;
    world.resize("p", json!({ "limits": { "memory": "80Mi" } })).await;
    let progress = |it: &_| support::condition(it, "PodResizeInProgress");
    world.until("p", |it| progress(it).is_some_and(|it| it.1 == "Error")).await;
    let message = world.condition_message("p", "PodResizeInProgress").await;
    assert!(
        message.contains("memory limit (83886080) below current usage (104857600)"),
        "{message}"
    );
    assert_eq!(world.runtime.count("UpdateContainerResources", "c"), 0);
    world.runtime.script("c", Script::default().memory(10 << 20));
    world.until("p", |it| progress(it).is_none() && actual(it, "memory") == "80Mi").await;
}

#[tokio::test(start_paused = true)]
async fn a_resize_that_the_runtime_refuses_is_told_and_tried_again_by_the_next_kubelet_too() {
    let mut world = World::new().await;
    world.create(pod("p", sized(json!([])))).await;
    world.until("p", support::is_running).await;
    for _ in 0..3 {
        world.runtime.inject("UpdateContainerResources", Status::unknown("no cgroup"));
    }
    world.resize("p", json!({ "limits": { "cpu": "300m" } })).await;
    let progress = |it: &_| support::condition(it, "PodResizeInProgress");
    world.until("p", |it| progress(it).is_some_and(|it| it.1 == "Error")).await;
    world.restart_kubelet().await;
    world.pass(SECOND).await;
    world.until("p", |it| progress(it).is_none() && actual(it, "cpu") == "300m").await;
    assert_eq!(support::restarts(&world.status("p").await), 0);
}

#[tokio::test(start_paused = true)]
async fn a_kubelet_that_has_lost_its_notes_takes_what_runs_for_what_was_promised() {
    let mut world = World::new().await;
    world.create(pod("p", sized(json!([])))).await;
    world.until("p", support::is_running).await;
    world.stop_kubelet().await;
    world.lose_promises();
    world.restart_kubelet().await;
    world.pass(Duration::from_secs(5)).await;
    assert_eq!(world.runtime.count("UpdateContainerResources", "c"), 0);
    world.resize("p", json!({ "limits": { "cpu": "300m" } })).await;
    world.until("p", |it| actual(it, "cpu") == "300m").await;
    assert_eq!(cpu_limit(&world), 300);
}

#[tokio::test(start_paused = true)]
async fn a_resized_container_has_the_configured_period_as_a_new_one_has() {
    let world = World::configured(|settings| {
        settings.config.cpu_cfs_quota_period = GoDuration(Duration::from_millis(50));
    })
    .await;
    let cpu = |world: &World| {
        let linux = world.runtime.container_config("c").unwrap().linux.unwrap();
        let resources = linux.resources.unwrap();
        (resources.cpu_quota, resources.cpu_period)
    };
    world.create(pod("p", sized(json!([])))).await;
    world.until("p", support::is_running).await;
    assert_eq!(cpu(&world), (10_000, 50_000));
    world.resize("p", json!({ "limits": { "cpu": "400m" } })).await;
    world.until("p", |it| actual(it, "cpu") == "400m").await;
    assert_eq!(cpu(&world), (20_000, 50_000));
}

#[tokio::test(start_paused = true)]
async fn what_a_pod_may_as_a_whole_is_resized_and_reaches_containers_without_limits_of_their_own() {
    let mut world = World::new().await;
    let whole = json!({
        "requests": { "cpu": "100m", "memory": "64Mi" },
        "limits": { "cpu": "200m", "memory": "128Mi" },
    });
    let spec = json!({ "resources": whole, "containers": [{ "name": "c", "image": "i:1" }] });
    world.create(pod("p", spec)).await;
    world.until("p", support::is_running).await;
    assert_eq!(cpu_limit(&world), 200);
    let status = world.status("p").await;
    assert_eq!(status.qos_class.as_deref(), Some("Burstable"));
    let has = |it: &k8s_openapi::api::core::v1::PodStatus, name: &str| {
        it.resources.as_ref()?.limits.as_ref()?.get(name).map(|it| it.0.clone())
    };
    assert_eq!(has(&status, "memory").as_deref(), Some("128Mi"));
    assert_eq!(status.allocated_resources.unwrap()["cpu"].0, "100m");
    world.resize_whole("p", json!({ "limits": { "cpu": "400m" } })).await;
    world.until("p", |it| has(it, "cpu").as_deref() == Some("400m")).await;
    world.until("p", |it| support::condition(it, "PodResizeInProgress").is_none()).await;
    assert_eq!(cpu_limit(&world), 400);
    assert_eq!(world.runtime.count("StartContainer", "c"), 1);
    let too_much = json!({ "requests": { "cpu": "9000" }, "limits": { "cpu": "9000" } });
    world.resize_whole("p", too_much).await;
    let pending = |it: &_| support::condition(it, "PodResizePending");
    world.until("p", |it| pending(it).is_some_and(|it| it.1 == "Infeasible")).await;
    world.restart_kubelet().await;
    world.pass(Duration::from_secs(60)).await;
    assert_eq!(world.runtime.count("UpdateContainerResources", "c"), 1);
    assert_eq!(cpu_limit(&world), 400);
}
