//! Pulls of many images at once, and images that volumes show.

use std::time::Duration;

use serde_json::json;

use crate::support::{self, World};

const PULL: Duration = Duration::from_secs(10);

/// Six pods with an image each, whose pulls take ten seconds. Returns the most pulls at once and how long
/// it took until all run.
async fn pulled(serialize: bool, most: Option<usize>) -> (usize, Duration, World) {
    let world = World::configured(move |settings| {
        settings.config.serialize_image_pulls = serialize;
        settings.config.max_parallel_image_pulls = most;
    })
    .await;
    world.runtime.set_pull_takes(PULL);
    let began = tokio::time::Instant::now();
    for at in 0..6 {
        let (name, image) = (format!("p{at}"), format!("i{at}:1"));
        let container = json!({ "name": "c", "image": image });
        let spec = json!({ "containers": [container] });
        world.create(json!({ "metadata": { "name": name }, "spec": spec })).await;
    }
    for at in 0..6 {
        world.until(&format!("p{at}"), support::is_ready).await;
    }
    (world.runtime.most_pulls(), began.elapsed(), world)
}

#[tokio::test(start_paused = true)]
async fn images_are_pulled_one_after_the_other_unless_it_is_said_otherwise() {
    let (most, took, world) = pulled(true, None).await;
    assert_eq!(most, 1);
    assert!((6 * PULL..7 * PULL).contains(&took), "{took:?}");
    // The pull itself, and what it took with those before it.
    let last = |it: &str| it.contains(" in 10s (1m0") && it.contains(" including waiting)");
    world.until_event_that("Pulled", last).await;
}

#[tokio::test(start_paused = true)]
async fn so_many_images_are_pulled_at_once_as_is_allowed() {
    let (most, took, _world) = pulled(false, Some(3)).await;
    assert_eq!(most, 3);
    assert!((2 * PULL..3 * PULL).contains(&took), "{took:?}");
    let (most, took, _world) = pulled(false, None).await;
    assert_eq!(most, 6);
    assert!((PULL..2 * PULL).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pull_whose_pod_goes_gives_its_place_to_the_next() {
    let world = World::new().await;
    world.runtime.hang_pull("never:1");
    let pod = |name: &str, image: &str| {
        let spec = json!({ "containers": [{ "name": "c", "image": image }] });
        json!({ "metadata": { "name": name }, "spec": spec })
    };
    world.create(pod("hangs", "never:1")).await;
    world.until_event("Pulling", "Pulling image \"never:1\"").await;
    world.create(pod("waits", "i:1")).await;
    world.pass(PULL * 6).await;
    assert_eq!(world.runtime.count("PullImage", "i:1"), 0, "it waits for its turn");
    world.delete("hangs", 0).await;
    world.until("waits", support::is_ready).await;
    assert_eq!(world.runtime.most_pulls(), 1);
}

#[tokio::test(start_paused = true)]
async fn pulls_beyond_what_a_registry_is_asked_in_a_second_wait_for_their_turn() {
    let world = World::configured(|settings| {
        settings.config.serialize_image_pulls = false;
        settings.config.registry_pull_qps = 1;
        settings.config.registry_burst = 2;
    })
    .await;
    let began = tokio::time::Instant::now();
    for at in 0..12 {
        let container = json!({ "name": "c", "image": format!("i{at}:1") });
        let spec = json!({ "containers": [container] });
        world.create(json!({ "metadata": { "name": format!("p{at}") }, "spec": spec })).await;
    }
    for at in 0..12 {
        world.until(&format!("p{at}"), support::is_ready).await;
    }
    let took = began.elapsed().as_secs();
    assert!((10..15).contains(&took), "{took} s");
    assert_eq!(world.told("Failed").await, 0, "none was refused");
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_mounts_images_is_told_which_and_gets_them_once() {
    let world = World::new().await;
    world.runtime.set_version("containerd", "v2.1.4");
    world.put_config_map("m", "k", "v").await;
    let spec = json!({
        "containers": [{
            "name": "c", "image": "i:1",
            "env": [{ "name": "PART", "value": "web" }],
            "volumeMounts": [
                { "name": "files", "mountPath": "/all" },
                { "name": "files", "mountPath": "part", "subPathExpr": "site/$(PART)" },
                // It is made again every minute, and so are all volumes of its pod.
                { "name": "settings", "mountPath": "/settings" },
            ],
        }],
        "volumes": [
            { "name": "files", "image": { "reference": "files:1", "pullPolicy": "Always" } },
            { "name": "settings", "configMap": { "name": "m" } },
        ],
    });
    world.create(json!({ "metadata": { "name": "p" }, "spec": spec })).await;
    world.until("p", support::is_ready).await;
    let mounts = world.runtime.container_config("c").unwrap().mounts;
    for (path, part) in [("/all", ""), ("/part", "site/web")] {
        let mount = mounts.iter().find(|it| it.container_path == path).unwrap();
        assert_eq!(mount.image.as_ref().unwrap().image, "sha256:files:1");
        assert_eq!((mount.image_sub_path.as_str(), mount.host_path.as_str()), (part, ""));
        assert!(mount.readonly);
    }
    world.pass(Duration::from_secs(300)).await;
    assert_eq!(world.runtime.count("PullImage", "files:1"), 1);
    world.delete("p", 0).await;
    world.until_gone("p").await;
}
