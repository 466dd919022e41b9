//! What is around the kubelet fails: no container is lost, no status is wrong.

use std::time::Duration;

use fake_cri::Script;
use serde_json::json;
use tonic::Status;

use crate::{
    SECOND, pod,
    support::{self, World},
};

const MINUTE: Duration = Duration::from_secs(60);

fn one(container: &str) -> serde_json::Value {
    json!({ "containers": [{ "name": container, "image": "i:1" }] })
}

#[tokio::test(start_paused = true)]
async fn ten_minutes_without_the_api_server_cost_no_container_and_are_told_afterwards() {
    let world = World::new().await;
    world.put_config_map("m", "k", "v").await;
    world.create(pod("stays", one("stays"))).await;
    let mut crashes = one("crashes");
    // As every ordinary pod, it has a volume that is made of the API's objects.
    crashes["volumes"] = json!([{ "name": "v", "configMap": { "name": "m" } }]);
    crashes["containers"][0]["volumeMounts"] = json!([{ "name": "v", "mountPath": "/v" }]);
    crashes["containers"][0]["envFrom"] = json!([{ "configMapRef": { "name": "m" } }]);
    world.create(pod("crashes", crashes)).await;
    world.create(pod("goes", one("goes"))).await;
    for name in ["stays", "crashes", "goes"] {
        world.until(name, support::is_ready).await;
    }
    world.set_away(true);
    world.pass(MINUTE).await;
    // Containers are looked after without the API.
    world.runtime.exit("crashes", 1);
    world.pass(MINUTE).await;
    assert_eq!(world.runtime.count("StartContainer", "crashes"), 2);
    let envs = world.runtime.container_config("crashes").unwrap().envs;
    assert!(envs.iter().any(|it| it.key == "k" && it.value == "v"), "{envs:?}");
    world.delete("goes", 0).await;
    world.create(pod("comes", one("comes"))).await;
    world.pass(8 * MINUTE).await;
    assert_eq!(world.status("crashes").await.container_statuses.unwrap()[0].restart_count, 0);
    world.set_away(false);
    world.until("crashes", |it| support::restarts(it) == 1).await;
    world.until("comes", support::is_ready).await;
    world.pass(MINUTE).await;
    let mut running = world.runtime.running();
    running.sort();
    assert_eq!(running, ["comes", "crashes", "stays"]);
    assert_eq!(world.runtime.count("StartContainer", "stays"), 1);
    assert_eq!(support::restarts(&world.status("stays").await), 0);
}

#[tokio::test(start_paused = true)]
async fn a_kubelet_that_starts_without_the_api_server_leaves_running_pods_alone() {
    let mut world = World::new().await;
    world.create(pod("p", one("c"))).await;
    world.until("p", support::is_ready).await;
    world.set_away(true);
    world.restart_kubelet().await;
    world.pass(10 * MINUTE).await;
    assert_eq!(world.runtime.running(), ["c"]);
    world.set_away(false);
    world.pass(MINUTE).await;
    assert_eq!(world.runtime.count("StartContainer", "c"), 1);
    world.until("p", support::is_ready).await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_expired_is_told_anew_and_one_of_an_outage_afterwards() {
    let world = World::new().await;
    world.runtime.script("c", Script::exits(SECOND, 1));
    world.create(pod("p", one("c"))).await;
    let started = ("Started", "Container started");
    world.until_event(started.0, started.1).await;
    world.expire_events().await;
    world.until_event(started.0, started.1).await;
    world.expire_events().await;
    world.set_away(true);
    world.runtime.script("c", Script::default());
    // Held back for no longer than that.
    world.pass(MINUTE).await;
    assert_eq!(world.told("Started").await, 0);
    world.set_away(false);
    world.until_event(started.0, started.1).await;
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_stops_answering_holds_no_task_up_for_ever() {
    let world = World::new().await;
    world.set_hanging(true);
    world.create(pod("p", one("c"))).await;
    world.pass(MINUTE).await;
    world.set_hanging(false);
    // Everything that was asked meanwhile is asked again.
    world.until("p", support::is_ready).await;
    world.until_event("Started", "Container started").await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_forward_starts_nothing_twice() {
    let world = World::new().await;
    world.runtime.script("crash", Script::exits(SECOND, 1));
    world.create(pod("stays", one("stays"))).await;
    world.create(pod("crashes", one("crash"))).await;
    world.until("stays", support::is_ready).await;
    world.until("crashes", |it| support::waiting(it) == Some("CrashLoopBackOff")).await;
    for jump in [86_400, 3600, 30 * 86_400] {
        world.shift.jump(jump);
        world.pass(20 * MINUTE).await;
        assert!(world.runtime.running().contains(&"stays".to_owned()));
        assert_eq!(world.runtime.count("StartContainer", "stays"), 1);
        assert_eq!(support::restarts(&world.status("stays").await), 0);
    }
    // It was held back for five minutes at the most, whatever the date said.
    let starts = world.runtime.count("StartContainer", "crash");
    assert!((12..=30).contains(&starts), "{starts}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_starts_what_crashed_after_its_pause_and_nothing_else() {
    let mut world = World::new().await;
    world.runtime.script("crash", Script::exits(SECOND, 1));
    world.create(pod("stays", one("stays"))).await;
    world.create(pod("crashes", one("crash"))).await;
    world.until("stays", support::is_ready).await;
    world.until("crashes", |it| support::waiting(it) == Some("CrashLoopBackOff")).await;
    let mut starts = world.runtime.count("StartContainer", "crash");
    for (jump, is_restarted) in [(-3600, false), (-86_400, true), (-60, false)] {
        world.shift.jump(jump);
        if is_restarted {
            world.restart_kubelet().await;
        }
        world.pass(20 * MINUTE).await;
        assert_eq!(world.runtime.count("StartContainer", "stays"), 1);
        let now = world.runtime.count("StartContainer", "crash");
        assert!((3..=9).contains(&(now - starts)), "{jump}: {starts}, {now}");
        let restarts = support::restarts(&world.status("crashes").await);
        assert_eq!(usize::try_from(restarts).unwrap() + 1, now, "none is counted twice");
        starts = now;
    }
    assert_eq!(world.runtime.running().iter().filter(|it| *it == "stays").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_hangs_ends_with_its_pod_and_others_pull_on() {
    let world = World::new().await;
    world.runtime.hang_pull("never:1");
    let hangs = json!({ "containers": [{ "name": "c", "image": "never:1" }] });
    world.create(pod("hangs", hangs.clone())).await;
    world.until_event("Pulling", "Pulling image \"never:1\"").await;
    world.delete("hangs", 0).await;
    world.until_gone("hangs").await;
    world
        .create(pod("other", json!({ "containers": [{ "name": "o", "image": "other:1" }] })))
        .await;
    world.until("other", support::is_ready).await;
    // And the one that hung is asked for anew.
    world.create(pod("again", hangs)).await;
    world.pass(MINUTE).await;
    assert_eq!(world.runtime.count("PullImage", "never:1"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_container_runs_while_the_next_ones_image_is_pulled() {
    let world = World::new().await;
    world.runtime.hang_pull("never:1");
    let spec = json!({ "containers": [
        { "name": "first", "image": "i:1" }, { "name": "second", "image": "never:1" },
    ] });
    world.create(pod("p", spec)).await;
    world.pass(MINUTE).await;
    assert_eq!(world.runtime.running(), ["first"]);
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_answers_nothing_but_errors_loses_no_container() {
    let world = World::new().await;
    world.create(pod("p", one("c"))).await;
    world.until("p", support::is_ready).await;
    for call in ["ListPodSandbox", "ListContainers", "ContainerStatus", "PodSandboxStatus"] {
        for _ in 0..20 {
            world.runtime.inject(call, Status::unavailable("the disk is full"));
        }
    }
    world.runtime.exit("c", 1);
    world.until("p", |it| support::restarts(it) == 1).await;
    assert_eq!(world.runtime.running(), ["c"]);
    assert_eq!(world.runtime.count("RunPodSandbox", "p"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_container_whose_creation_failed_after_it_was_made_is_not_started_twice() {
    let world = World::new().await;
    world.runtime.inject("StartContainer", Status::deadline_exceeded("context deadline exceeded"));
    world.create(pod("p", one("c"))).await;
    world.until("p", support::is_ready).await;
    world.pass(MINUTE).await;
    assert_eq!(world.runtime.running(), ["c"]);
}

/// Waves of pods: made, running, deleted, gone. The benchmark does it with 500 on a node.
#[tokio::test(start_paused = true)]
async fn waves_of_pods_made_and_deleted_leave_nothing_behind() {
    const WAVE: usize = 20;
    let world = World::new().await;
    let probe = json!({ "exec": { "command": ["x"] }, "periodSeconds": 5 });
    let spec = json!({
        "containers": [{
            "name": "c", "image": "i:1", "readinessProbe": probe,
            "volumeMounts": [{ "name": "v", "mountPath": "/v" }],
        }],
        "volumes": [{ "name": "v", "emptyDir": {} }],
    });
    let entries = |path: std::path::PathBuf| std::fs::read_dir(path).into_iter().flatten().count();
    let left = || {
        let pods = entries(world.root().join("pods"));
        let logs = entries(world.root().with_file_name("log").join("pods"));
        let descriptors = entries("/proc/self/fd".into());
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        (world.runtime.held(), pods, logs, descriptors, tasks)
    };
    let mut first = None;
    for wave in 0..4 {
        let names: Vec<_> = (0..WAVE).map(|it| format!("p-{wave}-{it}")).collect();
        for name in &names {
            world.create(pod(name, spec.clone())).await;
        }
        for name in &names {
            world.until(name, support::is_ready).await;
        }
        for name in &names {
            world.delete(name, 30).await;
        }
        for name in &names {
            world.until_gone(name).await;
        }
        // Whatever is done behind is done.
        world.pass(Duration::from_secs(180)).await;
        let now = left();
        assert_eq!((now.0, now.1, now.2), (0, 0, 0), "after wave {wave}");
        let (_, _, _, descriptors, tasks) = *first.get_or_insert(now);
        // Tests beside this one have descriptors too.
        assert!(now.3 < descriptors + WAVE, "descriptors: {descriptors}, then {}", now.3);
        assert!(now.4 <= tasks + 2, "tasks: {tasks}, then {}", now.4);
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_that_cannot_be_looked_at_is_told_of_the_node() {
    let world = World::new().await;
    let gone = || Status::unavailable("gone");
    // The node's status lists images, too.
    for _ in 0..1000 {
        world.runtime.inject("ListImages", gone());
    }
    world.pass(MINUTE).await;
    assert_eq!(world.told("ImageGCFailed").await, 0, "once may be a start");
    world.pass(10 * MINUTE).await;
    let message = "rpc error: code = Unavailable desc = gone";
    world.until_event("ImageGCFailed", message).await;
}
