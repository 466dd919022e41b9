//! Pulls of many images at once.

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
