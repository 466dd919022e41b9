//! How containers are asked to end.

use std::time::Duration;

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

/// containerd 1.6 tells of an exit, takes the task away, tells of that, and only then knows it itself.
#[tokio::test(start_paused = true)]
async fn an_exit_is_in_the_status_as_soon_as_the_runtime_itself_knows_of_it() {
    let world = World::new().await;
    let spec = json!({
        "restartPolicy": "Never", "containers": [{ "name": "c", "image": "i:1" }],
    });
    world.create(pod("p", spec)).await;
    world.until("p", support::is_running).await;
    // No pause of those that grow ends here by chance.
    world.runtime.set_exit_lag(Duration::from_millis(77));
    let begun = tokio::time::Instant::now();
    world.runtime.exit("c", 3);
    let ended = |status: &k8s_openapi::api::core::v1::PodStatus| {
        let state = status.container_statuses.as_ref()?.first()?.state.as_ref()?;
        state.terminated.as_ref().map(|it| it.exit_code)
    };
    loop {
        if let Some(code) = ended(&world.status("p").await) {
            assert_eq!(code, 3);
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = begun.elapsed();
    assert!(took <= Duration::from_millis(85), "{took:?}");
}
