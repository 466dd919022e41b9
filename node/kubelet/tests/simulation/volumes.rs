//! Volumes that cannot be made yet.

use std::time::Duration;

use serde_json::json;

use super::{SECOND, pod, support, support::World};

async fn with_map(world: &World, name: &str) {
    let spec = json!({
        "activeDeadlineSeconds": 200,
        "containers": [{
            "name": "c", "image": "i:1", "volumeMounts": [{ "name": "v", "mountPath": "/v" }],
        }],
        "volumes": [{
            "name": "v", "configMap": { "name": "m", "items": [{ "key": "k", "path": "k" }] },
        }],
    });
    world.create(pod(name, spec)).await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_cannot_be_made_is_tried_later_and_later_and_told_each_time() {
    let world = World::new().await;
    with_map(&world, "p").await;
    let text = "MountVolume.SetUp failed for volume \"v\" : configmap \"m\" not found";
    world.until_event("FailedMount", text).await;
    // After 0.5, 1, 2, 4, 8, 16, 32 and 64 seconds.
    for (passed, wanted) in [(10, 5), (10, 6), (20, 7), (30, 8)] {
        world.pass(passed * SECOND).await;
        assert_eq!(world.told("FailedMount").await, wanted);
    }
    world.pass(59 * SECOND).await;
    assert_eq!(world.told("FailedMount").await, 9);
    world.pass(70 * SECOND).await;
    assert_eq!(world.told("FailedMount").await, 9);
    // The next try would be in 50 s: its deadline comes first.
    assert_eq!(world.status("p").await.reason, None);
    world.pass(3 * SECOND).await;
    assert_eq!(world.status("p").await.reason.as_deref(), Some("DeadlineExceeded"));
    assert_eq!(world.runtime.count("RunPodSandbox", "p"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pod_starts_when_what_its_volume_lacks_comes_and_not_when_it_is_tried_next() {
    let world = World::new().await;
    for name in ["p", "q"] {
        with_map(&world, name).await;
    }
    world.pass(70 * SECOND).await;
    world.put_config_map("m", "other", "1").await;
    let text = "MountVolume.SetUp failed for volume \"v\" : configmap references non-existent config key: k";
    world.until_event("FailedMount", text).await;
    world.pass(2 * SECOND).await;
    world.put_config_map("m", "k", "1").await;
    let begun = tokio::time::Instant::now();
    for name in ["p", "q"] {
        world.until(name, support::is_ready).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}
