//! Probes over time.

use std::time::Duration;

use fake_cri::Script;
use serde_json::json;

use super::{SECOND, pod, support, support::World};

#[tokio::test(start_paused = true)]
async fn a_sidecar_that_has_not_started_holds_the_others_back() {
    let world = World::new().await;
    world.runtime.script("side", Script::default().exec_code(1));
    let startup =
        json!({ "exec": { "command": ["x"] }, "periodSeconds": 2, "failureThreshold": 100 });
    let spec = json!({
        "initContainers": [{
            "name": "side", "image": "i:1", "restartPolicy": "Always", "startupProbe": startup,
        }],
        "containers": [{ "name": "main", "image": "i:1" }],
    });
    world.create(pod("p", spec)).await;
    world.pass(Duration::from_secs(30)).await;
    assert_eq!(world.runtime.running(), ["side"]);
    let status = world.status("p").await;
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    let initialized = support::condition(&status, "Initialized").unwrap();
    assert_eq!(initialized, ("False".to_owned(), "ContainersNotInitialized".to_owned()));
    world.runtime.script("side", Script::default());
    world.until("p", support::is_ready).await;
}

#[tokio::test(start_paused = true)]
async fn an_ending_pod_is_not_ready_when_its_probe_says_so_and_its_life_is_not_asked_for() {
    let world = World::new().await;
    world.runtime.script("c", Script::default().stop_takes(Duration::from_secs(60)));
    let probe = json!({ "exec": { "command": ["x"] }, "periodSeconds": 1, "failureThreshold": 1 });
    let spec = json!({
        "terminationGracePeriodSeconds": 100,
        "containers": [{
            "name": "c", "image": "i:1", "readinessProbe": probe, "livenessProbe": probe,
        }],
    });
    world.create(pod("p", spec)).await;
    world.until("p", support::is_ready).await;
    world.delete("p", 100).await;
    world.pass(SECOND).await;
    world.runtime.script("c", Script::default().exec_code(1));
    world.until("p", |it| !support::is_ready(it)).await;
    assert_eq!(world.runtime.running(), ["c"], "it is still on its way out");
    world.pass(Duration::from_secs(10)).await;
    world.until_event("Unhealthy", "Readiness probe failed: ").await;
    world.until_gone("p").await;
    assert_eq!(world.runtime.count("StopContainer", "c"), 1, "it was not ended a second time");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_does_not_work_says_nothing_of_the_container() {
    let world = World::new().await;
    let probe = json!({ "exec": { "command": ["x"] }, "periodSeconds": 1, "failureThreshold": 1 });
    let spec = json!({ "containers": [{ "name": "c", "image": "i:1", "livenessProbe": probe }] });
    for _ in 0..5 {
        world.runtime.inject("ExecSync", tonic::Status::unknown("no shim"));
    }
    world.create(pod("p", spec)).await;
    world.until("p", support::is_running).await;
    let message = "Liveness probe errored and resulted in unknown state: rpc error: code = Unknown desc = no shim";
    world.until_event("Unhealthy", message).await;
    world.pass(Duration::from_secs(30)).await;
    assert_eq!(support::restarts(&world.status("p").await), 0);
}

#[tokio::test(start_paused = true)]
async fn a_probe_waits_for_its_delay_and_its_thresholds() {
    let world = World::new().await;
    world.runtime.script("c", Script::default().exec_code(1));
    let probe = json!({
        "exec": { "command": ["x"] },
        "initialDelaySeconds": 20, "periodSeconds": 5, "failureThreshold": 3,
        "terminationGracePeriodSeconds": 3,
    });
    let spec = json!({ "containers": [{ "name": "c", "image": "i:1", "livenessProbe": probe }] });
    world.create(pod("p", spec)).await;
    world.until("p", support::is_running).await;
    world.pass(Duration::from_secs(18)).await;
    assert_eq!(world.runtime.count("ExecSync", "c"), 0);
    // Asked 20, 25 and 30 seconds after the start.
    world.pass(Duration::from_secs(10)).await;
    assert_eq!(world.runtime.count("StopContainer", "c"), 0);
    world.pass(Duration::from_secs(5)).await;
    assert_eq!(world.runtime.count("StopContainer", "c"), 1);
    assert_eq!(world.runtime.grace("c"), Some(3), "the probe's, not the pod's");
    world.until("p", |it| support::restarts(it) == 1).await;
    world.delete("p", 12).await;
    world.until_gone("p").await;
    assert_eq!(world.runtime.grace("c"), Some(12), "that of the request");
}

#[tokio::test(start_paused = true)]
async fn a_readiness_gate_is_somebody_elses_word() {
    let world = World::new().await;
    let spec = json!({
        "readinessGates": [{ "conditionType": "example.com/gate" }],
        "containers": [{ "name": "c", "image": "i:1" }],
    });
    world.create(pod("p", spec)).await;
    world.until("p", support::is_running).await;
    let ready = support::condition(&world.status("p").await, "Ready").unwrap();
    assert_eq!(ready, ("False".to_owned(), "ReadinessGatesNotReady".to_owned()));
    let gate = json!([{ "type": "example.com/gate", "status": "True" }]);
    world.patch_status("p", json!({ "status": { "conditions": gate } })).await;
    world.until("p", support::is_ready).await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_does_not_start_in_time_is_started_anew_and_its_life_is_not_asked_for() {
    let world = World::new().await;
    world.runtime.script("c", Script::default().exec_code(1));
    let exec = json!({ "command": ["x"] });
    let spec = json!({ "containers": [{
        "name": "c", "image": "i:1",
        "startupProbe": { "exec": exec, "periodSeconds": 5, "failureThreshold": 3 },
        "livenessProbe": { "exec": exec, "periodSeconds": 1, "failureThreshold": 1 },
    }]});
    world.create(pod("p", spec)).await;
    world.until_event("Killing", "Container c failed startup probe, will be restarted").await;
    // At once, and after 5 and 10 seconds, and perhaps its successor; none is the liveness probe's.
    assert!((3..=4).contains(&world.runtime.count("ExecSync", "c")));
    let status = &world.status("p").await.container_statuses.unwrap()[0];
    assert_eq!(status.started, Some(false));
    world.runtime.script("c", Script::default());
    world.until("p", |it| support::restarts(it) == 1 && support::is_ready(it)).await;
    let status = &world.status("p").await.container_statuses.unwrap()[0];
    assert_eq!(status.started, Some(true));
    world.pass(Duration::from_secs(10)).await;
    assert!(world.runtime.count("ExecSync", "c") > 10, "now its life is asked for");
}

#[tokio::test(start_paused = true)]
async fn a_container_that_a_probe_has_replaced_is_not_told_to_have_ended_meanwhile() {
    let world = World::new().await;
    world.runtime.script("c", Script::default().exec_code(1).start_takes(3 * SECOND));
    let probe = json!({ "exec": { "command": ["x"] }, "periodSeconds": 1, "failureThreshold": 1 });
    let spec = json!({ "containers": [{ "name": "c", "image": "i:1", "livenessProbe": probe }] });
    world.create(pod("p", spec)).await;
    let told_once_more = |status: &k8s_openapi::api::core::v1::PodStatus| {
        let mut states =
            status.container_statuses.iter().flatten().filter_map(|it| it.state.as_ref());
        assert!(states.all(|it| it.terminated.is_none()));
        support::restarts(status) == 1
    };
    world.until("p", told_once_more).await;
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_fails_gives_the_grace_that_it_names_and_not_the_pods() {
    let world = World::new().await;
    world.runtime.script("own", Script::default().exec_code(1));
    world.runtime.script("pods", Script::default().exec_code(1));
    let probe = json!({ "exec": { "command": ["x"] }, "periodSeconds": 1, "failureThreshold": 1 });
    let mut own = probe.clone();
    own["terminationGracePeriodSeconds"] = json!(3);
    let spec = json!({
        "terminationGracePeriodSeconds": 50,
        "containers": [
            { "name": "own", "image": "i:1", "livenessProbe": own },
            { "name": "pods", "image": "i:1", "livenessProbe": probe },
        ],
    });
    world.create(pod("p", spec)).await;
    world.until("p", |it| support::restarts(it) >= 1).await;
    world.pass(10 * SECOND).await;
    assert_eq!(world.runtime.grace("own"), Some(3));
    assert_eq!(world.runtime.grace("pods"), Some(50));
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_probe_fails_every_second_has_no_more_events_than_an_objects_share() {
    let world = World::new().await;
    world.runtime.script("c", Script::default().exec_code(1));
    let probe = json!({
        "exec": { "command": ["x"] }, "periodSeconds": 1, "failureThreshold": 1000,
    });
    let spec = json!({
        "containers": [{ "name": "c", "image": "i:1", "readinessProbe": probe }],
    });
    world.create(pod("noisy", spec)).await;
    world.until("noisy", |it| it.phase.as_deref() == Some("Running")).await;
    world.pass(Duration::from_secs(200)).await;
    let count = world.event_count("noisy").await;
    assert!((20..=26).contains(&count), "{count}");
    world.create(pod("other", json!({ "containers": [{ "name": "c", "image": "i:2" }] }))).await;
    world.until_event_that("Pulling", |it| it.contains("i:2")).await;
}
