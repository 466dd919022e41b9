//! From the end of a container to the status that tells of it, where the runtime knows of it later.
//!
//! containerd 1.6 tells of an exit, takes the task away, tells of that, and only then knows it itself.

use std::{sync::atomic::Ordering, time::Duration};

use k8s_openapi::api::core::v1::{ContainerStateTerminated, PodStatus};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{pod, support, support::World};

/// No pause of those that grow ends here by chance.
const LAG: Duration = Duration::from_millis(77);
const AT_ONCE: Duration = Duration::from_millis(5);
const MILLI: Duration = Duration::from_millis(1);

fn ended(status: &PodStatus) -> Option<ContainerStateTerminated> {
    status.container_statuses.as_ref()?.first()?.state.as_ref()?.terminated.clone()
}

fn runs(status: &PodStatus) -> bool {
    status.container_statuses.as_ref().unwrap()[0].state.as_ref().unwrap().running.is_some()
}

fn phase(status: &PodStatus) -> &str {
    status.phase.as_deref().unwrap_or_default()
}

async fn running(restarts: &str, container: Value) -> World {
    let world = World::new().await;
    let mut spec = json!({
        "restartPolicy": restarts, "containers": [{ "name": "c", "image": "i:1" }],
    });
    spec["containers"][0].as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
    world.create(pod("p", spec)).await;
    world.until("p", support::is_running).await;
    world.runtime.set_exit_lag(LAG);
    world
}

/// How long it took until this was so.
async fn after(world: &World, is_it: impl Fn(&PodStatus) -> bool) -> Duration {
    let begun = Instant::now();
    while !is_it(&world.status("p").await) {
        assert!(begun.elapsed() < Duration::from_secs(30), "never");
        tokio::time::sleep(MILLI).await;
    }
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn an_exit_is_in_the_status_before_the_runtime_knows_of_it_and_stays_as_it_was_told() {
    let world = running("Never", json!({})).await;
    let told = world.patches.load(Ordering::SeqCst);
    world.runtime.exit("c", 3);
    let took = after(&world, |it| ended(it).is_some()).await;
    assert!(took <= AT_ONCE, "{took:?}");
    let early = world.status("p").await;
    assert_eq!((ended(&early).unwrap().exit_code, phase(&early)), (3, "Failed"));
    assert_eq!(world.runtime.running(), ["c"], "the runtime says that it runs");
    world.pass(LAG / 2).await;
    assert_eq!(world.runtime.count("StopPodSandbox", "p"), 0, "what follows waits for the runtime");
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(world.runtime.count("StopPodSandbox", "p"), 1);
    assert_eq!(world.runtime.count("StopContainer", "c"), 0, "it had ended");
    assert_eq!(ended(&world.status("p").await), ended(&early));
    let patches = world.patches.load(Ordering::SeqCst) - told;
    assert_eq!(patches, 2, "the exit, and that the sandbox is gone");
}

#[tokio::test(start_paused = true)]
async fn a_container_that_ended_is_started_again_when_the_runtime_knows_of_its_end() {
    let world = running("Always", json!({})).await;
    let begun = Instant::now();
    world.runtime.exit("c", 1);
    after(&world, |it| ended(it).is_some()).await;
    assert_eq!(phase(&world.status("p").await), "Running");
    let restarted =
        |it: &PodStatus| it.container_statuses.as_ref().unwrap()[0].restart_count == 1 && runs(it);
    after(&world, restarted).await;
    assert!(begun.elapsed() >= LAG, "{:?}", begun.elapsed());
    assert!(begun.elapsed() <= LAG + 4 * AT_ONCE, "{:?}", begun.elapsed());
    assert_eq!(world.runtime.count("CreateContainer", "c"), 2);
}

#[tokio::test(start_paused = true)]
async fn why_a_container_was_killed_is_the_runtimes_to_say() {
    let world = running("Never", json!({})).await;
    world.runtime.exit("c", 137);
    let took = after(&world, |it| ended(it).is_some()).await;
    assert!(took >= LAG && took <= LAG + 2 * AT_ONCE, "{took:?}");
    let world = running("Never", json!({ "terminationMessagePolicy": "FallbackToLogsOnError" }));
    let world = world.await;
    world.runtime.exit("c", 1);
    let took = after(&world, |it| ended(it).is_some()).await;
    assert!(took >= LAG && took <= LAG + 2 * AT_ONCE, "its log is its message: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_exit_that_the_runtime_never_confirms_is_taken_back() {
    let world = running("Always", json!({})).await;
    world.runtime.set_exit_lag(Duration::from_secs(3600));
    world.runtime.exit("c", 1);
    after(&world, |it| ended(it).is_some()).await;
    let took = after(&world, runs).await;
    assert!(took <= Duration::from_secs(4), "{took:?}");
    assert_eq!(world.runtime.count("CreateContainer", "c"), 1);
}
