//! Which containers start again, and when.

use std::time::Duration;

use fake_cri::Script;
use serde_json::{Value, json};

use super::{SECOND, pod, support, support::World};

fn rule(action: &str, codes: &[i32]) -> Value {
    json!([{ "action": action, "exitCodes": { "operator": "In", "values": codes } }])
}

#[tokio::test(start_paused = true)]
async fn a_rule_restarts_a_container_of_a_pod_that_restarts_none() {
    let world = World::new().await;
    world.runtime.script("c", Script::exits(SECOND, 42));
    let spec = json!({
        "restartPolicy": "Never",
        "containers": [{
            "name": "c", "image": "i:1",
            "restartPolicy": "Never", "restartPolicyRules": rule("Restart", &[42]),
        }],
    });
    world.create(pod("p", spec)).await;
    world.until("p", |it| support::restarts(it) == 1).await;
    world.runtime.script("c", Script::exits(SECOND, 1));
    world.until("p", |it| it.phase.as_deref() == Some("Failed")).await;
}

#[tokio::test(start_paused = true)]
async fn one_containers_exit_starts_all_of_the_pod_anew_in_its_sandbox() {
    let world = World::new().await;
    world.runtime.script("init", Script::exits(SECOND, 0));
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [
            { "name": "init", "image": "i:1" },
            { "name": "side", "image": "i:1", "restartPolicy": "Always" },
        ],
        "containers": [
            { "name": "main", "image": "i:1" },
            {
                "name": "watcher", "image": "i:1",
                "restartPolicy": "Never", "restartPolicyRules": rule("RestartAllContainers", &[42]),
            },
        ],
    });
    world.create(pod("p", spec)).await;
    world.until("p", support::is_ready).await;
    let restarting = |it: &_| support::condition(it, "AllContainersRestarting");
    assert_eq!(restarting(&world.status("p").await).unwrap().0, "False");
    // So that it takes long enough to be seen.
    for _ in 0..2 {
        world.runtime.inject("StopContainer", tonic::Status::unknown("not now"));
    }
    world.runtime.exit("watcher", 42);
    world.until("p", |it| restarting(it).is_some_and(|it| it.0 == "True")).await;
    world.until("p", support::is_ready).await;
    let status = world.status("p").await;
    let counts: Vec<_> = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten())
        .map(|it| (it.name.as_str(), it.restart_count))
        .collect();
    assert_eq!(counts, [("init", 1), ("side", 1), ("main", 1), ("watcher", 1)]);
    assert_eq!(restarting(&status).unwrap().0, "False");
    assert_eq!(world.runtime.count("RunPodSandbox", "p"), 1);
    assert_eq!(world.runtime.count("StartContainer", "init"), 2);
    // How each of them ended is not told, the one that caused it included.
    for of in status.init_container_statuses.iter().chain(&status.container_statuses).flatten() {
        let last = of.last_state.clone().unwrap().terminated.unwrap();
        assert_eq!(
            (last.exit_code, last.reason.as_deref()),
            (137, Some("RestartingAllContainers"))
        );
    }
    // Killed in between, another kubelet goes on.
    world.runtime.exit("watcher", 1);
    world.pass(SECOND).await;
    assert_eq!(world.runtime.count("StartContainer", "init"), 2, "another code, no rule");
}

#[tokio::test(start_paused = true)]
async fn a_kubelet_that_is_killed_while_all_restart_ends_with_one_of_each() {
    let mut world = World::new().await;
    world.runtime.script("init", Script::exits(Duration::from_millis(100), 0));
    let spec = json!({
        "initContainers": [{ "name": "init", "image": "i:1" }],
        "containers": [
            { "name": "main", "image": "i:1" },
            {
                "name": "watcher", "image": "i:1",
                "restartPolicy": "Never", "restartPolicyRules": rule("RestartAllContainers", &[42]),
            },
        ],
    });
    world.create(pod("p", spec)).await;
    world.until("p", support::is_ready).await;
    world.runtime.exit("watcher", 42);
    for step in 0..20_u64 {
        world.pass(Duration::from_millis(1 + step * 3)).await;
        world.restart_kubelet().await;
    }
    world.until("p", support::is_ready).await;
    world.pass(Duration::from_secs(30)).await;
    let mut running = world.runtime.running();
    running.sort();
    assert_eq!(running, ["main", "watcher"]);
    let status = world.status("p").await;
    assert!(status.container_statuses.unwrap().iter().all(|it| it.restart_count == 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_kubelet_removed_for_a_restart_of_all_is_told_by_the_next() {
    let mut world = World::new().await;
    let spec = json!({ "containers": [{
        "name": "c", "image": "i:1",
        "restartPolicy": "Never", "restartPolicyRules": rule("RestartAllContainers", &[42]),
    }] });
    world.create(pod("p", spec)).await;
    world.until("p", support::is_ready).await;
    world.stop_kubelet().await;
    world.runtime.exit("c", 42);
    let begun = json!([{ "type": "AllContainersRestarting", "status": "True" }]);
    world.patch_status("p", json!({ "status": { "conditions": begun } })).await;
    let mut runtime = api_cri::RuntimeClient::new(world.runtime.channel());
    let list = api_cri::v1::ListContainersRequest::default();
    for container in runtime.list_containers(list).await.unwrap().into_inner().containers {
        let request = api_cri::v1::RemoveContainerRequest { container_id: container.id };
        runtime.remove_container(request).await.unwrap();
    }
    world.restart_kubelet().await;
    let restarts = |it: &_| support::restarts(it) == 1;
    world.until("p", |it| support::is_ready(it) && restarts(it)).await;
    let last = world.status("p").await.container_statuses.unwrap().remove(0).last_state.unwrap();
    let last = last.terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (137, Some("RestartingAllContainers")));
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_containers_all_have_policies_of_their_own_ends() {
    let world = World::new().await;
    world.runtime.script("c", Script::exits(SECOND, 0));
    let spec = json!({ "containers": [{ "name": "c", "image": "i:1", "restartPolicy": "Never" }] });
    world.create(pod("p", spec)).await;
    world.until("p", |it| it.phase.as_deref() == Some("Succeeded")).await;
    let status = world.status("p").await;
    let ready = support::condition(&status, "Ready").unwrap();
    assert_eq!(ready, ("False".to_owned(), "PodCompleted".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn the_node_may_hold_crashing_containers_back_for_less_long() {
    let world = World::configured(|it| {
        let longest = serde_json::from_value(json!("2s")).unwrap();
        it.config.crash_loop_back_off.max_container_restart_period = Some(longest);
    })
    .await;
    world.runtime.script("c", Script::exits(SECOND, 1));
    world.create(pod("p", json!({ "containers": [{ "name": "c", "image": "i:1" }] }))).await;
    world.pass(Duration::from_secs(60)).await;
    let starts = world.runtime.count("StartContainer", "c");
    assert!((18..=21).contains(&starts), "every three seconds: {starts}");
}

#[tokio::test(start_paused = true)]
async fn an_exit_that_nobody_saw_is_told_by_the_next_kubelet() {
    let mut world = World::new().await;
    let spec = json!({ "restartPolicy": "Never", "containers": [{ "name": "c", "image": "i:1" }] });
    world.create(pod("p", spec)).await;
    world.until("p", support::is_running).await;
    world.stop_kubelet().await;
    world.runtime.exit("c", 5);
    world.pass(Duration::from_secs(5)).await;
    world.restart_kubelet().await;
    world.until("p", |it| it.phase.as_deref() == Some("Failed")).await;
    let state = world.status("p").await.container_statuses.unwrap()[0].state.clone().unwrap();
    assert_eq!(state.terminated.unwrap().exit_code, 5);
    assert_eq!(world.runtime.count("StartContainer", "c"), 1);
}

#[tokio::test(start_paused = true)]
async fn what_runs_of_pods_that_went_meanwhile_ends_soon_and_at_once() {
    let mut world = World::new().await;
    for name in ["a", "b", "d"] {
        world.runtime.script(name, Script::default().stop_takes(Duration::from_secs(1000)));
        let spec = json!({ "containers": [{ "name": name, "image": "i:1" }] });
        world.create(pod(name, spec)).await;
        world.until(name, support::is_running).await;
    }
    // One that ends at once and cannot be removed yet does not break the others off.
    world.runtime.script("a", Script::default());
    world.runtime.inject("RemovePodSandbox", tonic::Status::unknown("not now"));
    world.stop_kubelet().await;
    for name in ["a", "b", "d"] {
        world.delete(name, 0).await;
    }
    world.restart_kubelet().await;
    world.pass(Duration::from_secs(8)).await;
    assert_eq!(world.runtime.running(), Vec::<String>::new());
    assert_eq!(world.runtime.held(), 0, "nor is anything else of them left");
    assert_eq!(world.runtime.grace("b"), Some(2));
    assert_eq!(world.runtime.count("StopContainer", "b"), 1);
}
