//! How containers are asked to end.

use std::{sync::atomic::Ordering, time::Duration};

use fake_cri::Script;
use serde_json::{Value, json};

use super::{pod, support, support::World};

fn with_signal(signal: &str) -> Value {
    json!({
        "os": { "name": "linux" },
        "terminationGracePeriodSeconds": 30,
        "containers": [{
            "name": "c", "image": "i:1", "lifecycle": { "stopSignal": signal },
        }],
    })
}

async fn with_gate() -> World {
    World::configured(|settings| {
        let gates = &mut settings.config.feature_gates;
        gates.insert("ContainerStopSignals".to_owned(), true);
    })
    .await
}

fn told(status: &k8s_openapi::api::core::v1::PodStatus) -> Option<String> {
    status.container_statuses.as_ref()?.first()?.stop_signal.clone()
}

#[tokio::test(start_paused = true)]
async fn a_container_is_asked_to_end_with_its_own_signal_and_killed_when_it_does_not() {
    let world = with_gate().await;
    world.runtime.set_version("containerd", "1.6.20");
    world.create(pod("p", with_signal("SIGUSR1"))).await;
    world.until("p", |it| support::is_running(it) && told(it).is_some()).await;
    assert_eq!(told(&world.status("p").await).as_deref(), Some("SIGUSR1"));
    world.runtime.script("c", Script::default().stop_takes(Duration::from_secs(5)));
    world.delete("p", 30).await;
    world.pass(Duration::from_secs(4)).await;
    assert_eq!(world.runtime.count("Kill", "c:10"), 1);
    assert_eq!(world.runtime.running(), ["c"], "it has its grace");
    world.until_gone("p").await;

    world.runtime.script("c", Script::default().stop_takes(Duration::from_secs(3600)));
    world.create(pod("q", with_signal("SIGRTMIN+1"))).await;
    world.until("q", support::is_running).await;
    world.delete("q", 30).await;
    world.pass(Duration::from_secs(29)).await;
    assert_eq!(world.runtime.running(), ["c"]);
    world.pass(Duration::from_secs(3)).await;
    assert!(world.runtime.running().is_empty(), "its grace is over");
    assert_eq!(world.runtime.count("Kill", "c:35"), 1);
}

#[tokio::test(start_paused = true)]
async fn another_runtime_is_told_of_the_signal_and_sends_it_itself() {
    let world = with_gate().await;
    world.create(pod("p", with_signal("SIGUSR1"))).await;
    world.until("p", support::is_running).await;
    assert_eq!(world.runtime.container_config("c").unwrap().stop_signal, 29);
    world.delete("p", 30).await;
    world.until_gone("p").await;
    assert_eq!(world.runtime.count("Kill", "c:10"), 0);
    assert_eq!(world.runtime.count("StopContainer", "c"), 1);
}

#[tokio::test(start_paused = true)]
async fn without_its_gate_the_signal_is_ignored_as_upstream_ignores_it() {
    let world = World::new().await;
    world.runtime.set_version("containerd", "1.6.20");
    world.create(pod("p", with_signal("SIGUSR1"))).await;
    world.until("p", support::is_running).await;
    assert_eq!(told(&world.status("p").await), None);
    world.delete("p", 30).await;
    world.until_gone("p").await;
    assert_eq!(world.runtime.count("Kill", "c:10"), 0);
}

#[tokio::test(start_paused = true)]
async fn of_a_pod_that_the_api_server_has_no_more_nothing_is_said() {
    let world = World::new().await;
    for (name, seconds) in [("a", 2), ("b", 5)] {
        let slow = Script::default().stop_takes(Duration::from_secs(seconds));
        world.runtime.script(name, slow);
    }
    let container = |name: &str| json!({ "name": name, "image": "i:1" });
    let spec = json!({ "containers": [container("a"), container("b")] });
    world.create(pod("p", spec)).await;
    world.until("p", support::is_running).await;
    world.pass(Duration::from_secs(5)).await;
    let earlier = world.patches.load(Ordering::SeqCst);
    world.delete("p", 0).await;
    world.pass(Duration::from_secs(60)).await;
    assert!(world.runtime.running().is_empty());
    let said = world.patches.load(Ordering::SeqCst) - earlier;
    assert!(said <= 1, "{said} patches");
}
