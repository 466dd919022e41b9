//! The node as a whole: its end, its needs, its object, and life without an API server.

use std::{path::Path, time::Duration};

use fake_cri::Script;
use k8s_openapi::api::core::v1::PodStatus;
use kube::api::{Patch, PatchParams};
use kubelet::{GoDuration, MemoryKills, Settings};
use serde_json::{Value, json};

use crate::support::{NODE, World};

const SECOND: Duration = Duration::from_secs(1);
const TERMINATED: &str = "Pod was terminated in response to imminent node shutdown.";

fn pod(name: &str, container: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": { "containers": [{ "name": container, "image": "i:1" }] },
    })
}

fn is_running(status: &PodStatus) -> bool {
    status.phase.as_deref() == Some("Running")
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> Option<&'a str> {
    let found = status.conditions.iter().flatten().find(|it| it.type_ == kind)?;
    found.reason.as_deref()
}

fn graceful(settings: &mut Settings) {
    settings.config.shutdown_grace_period = GoDuration(30 * SECOND);
    settings.config.shutdown_grace_period_critical_pods = GoDuration(10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_shuts_down_ends_its_pods_in_order_and_takes_no_more() {
    let world = World::configured(graceful).await;
    for container in ["web", "critical"] {
        world.runtime.script(container, Script::default().stop_takes(2 * SECOND));
    }
    let mut critical = pod("critical", "critical");
    critical["spec"]["priorityClassName"] = json!("system-node-critical");
    world.create(pod("web", "web")).await;
    world.create(critical).await;
    world.until("web", is_running).await;
    world.until("critical", is_running).await;

    let shutdown = world.shutdown.clone().unwrap();
    let late = async {
        world.pass(SECOND).await;
        let (status, reason, message) = world.condition("Ready").await;
        assert_eq!((status.as_str(), reason.as_str()), ("False", "KubeletNotReady"));
        assert_eq!(message, "node is shutting down");
        world.create(pod("late", "late")).await;
    };
    tokio::join!(shutdown.begin(), late);

    let stops: Vec<_> =
        world.runtime.calls().into_iter().filter(|it| it.0 == "StopContainer").collect();
    assert_eq!(
        stops,
        [("StopContainer", "web".to_owned()), ("StopContainer", "critical".to_owned())]
    );
    for name in ["web", "critical"] {
        let status = world.status(name).await;
        assert_eq!(status.phase.as_deref(), Some("Failed"), "{name}");
        assert_eq!(status.reason.as_deref(), Some("Terminated"));
        assert_eq!(status.message.as_deref(), Some(TERMINATED));
        assert_eq!(condition(&status, "DisruptionTarget"), Some("TerminationByKubelet"));
    }
    world.until("late", |it| it.reason.as_deref() == Some("NodeShutdown")).await;
    let message = world.status("late").await.message.unwrap();
    assert_eq!(message, "Pod was rejected: Pod was rejected as the node is shutting down.");
    assert!(world.runtime.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_does_not_end_holds_a_shutdown_up_for_its_part_of_the_time_only() {
    let world = World::configured(graceful).await;
    world.runtime.script("stubborn", Script::default().stop_takes(Duration::from_secs(3600)));
    let mut stubborn = pod("stubborn", "stubborn");
    stubborn["spec"]["terminationGracePeriodSeconds"] = json!(3600);
    world.create(stubborn).await;
    world.until("stubborn", is_running).await;
    let began = tokio::time::Instant::now();
    world.shutdown.clone().unwrap().begin().await;
    let took = began.elapsed();
    assert!((19 * SECOND..=25 * SECOND).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_configured_time_a_shutdown_ends_nothing() {
    let world = World::new().await;
    world.create(pod("web", "web")).await;
    world.until("web", is_running).await;
    world.shutdown.clone().unwrap().begin().await;
    assert_eq!(world.runtime.running(), ["web"]);
}

/// A machine of 8 GiB of which so much is free.
fn put_memory(proc: &Path, free_mib: u64) {
    std::fs::create_dir_all(proc).unwrap();
    let text =
        format!("MemTotal: {} kB\nMemFree: {} kB\nInactive(file): 0 kB\n", 8 << 20, free_mib << 10);
    std::fs::write(proc.join("meminfo"), text).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_node_short_of_memory_says_so_evicts_one_pod_at_a_time_and_refuses_best_effort() {
    let folder = tempfile::tempdir().unwrap();
    let proc = folder.path().to_owned();
    put_memory(&proc, 4000);
    let shown = proc.clone();
    let world = World::configured(move |settings| settings.proc.clone_from(&shown)).await;
    let mut important = pod("important", "a");
    world.put_priority_class("important", 1000).await;
    important["spec"]["priorityClassName"] = json!("important");
    world.create(important).await;
    world.create(pod("other", "b")).await;
    world.until("important", is_running).await;
    world.until("other", is_running).await;
    assert_eq!(world.condition("MemoryPressure").await.0, "False");

    // What it uses is free when it has ended.
    world.runtime.script("b", Script::default().stop_takes(SECOND / 2));
    put_memory(&proc, 50);
    while world.runtime.count("StopContainer", "b") == 0 {
        world.pass(SECOND / 10).await;
    }
    put_memory(&proc, 4000);
    world.until("other", |it| it.reason.as_deref() == Some("Evicted")).await;
    let status = world.status("other").await;
    let message =
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. ";
    assert_eq!(status.message.as_deref(), Some(message));
    assert_eq!(condition(&status, "DisruptionTarget"), Some("TerminationByKubelet"));
    assert!(is_running(&world.status("important").await), "one at a time");
    world.until_event("EvictionThresholdMet", "Attempting to reclaim memory").await;
    world.pass(11 * SECOND).await;
    let (status, reason, _) = world.condition("MemoryPressure").await;
    assert_eq!((status.as_str(), reason.as_str()), ("True", "KubeletHasInsufficientMemory"));
    world.create(pod("late", "late")).await;
    world.until("late", |it| it.reason.as_deref() == Some("Evicted")).await;
    let message = world.status("late").await.message.unwrap();
    assert_eq!(message, "Pod was rejected: The node had condition: [MemoryPressure]. ");

    world.pass(Duration::from_secs(320)).await;
    assert_eq!(world.condition("MemoryPressure").await.0, "False");
    assert!(is_running(&world.status("important").await));
}

#[tokio::test(start_paused = true)]
async fn a_soft_threshold_waits_for_its_grace_and_spares_critical_pods() {
    let folder = tempfile::tempdir().unwrap();
    let proc = folder.path().to_owned();
    put_memory(&proc, 4000);
    let shown = proc.clone();
    let world = World::configured(move |settings| {
        settings.proc.clone_from(&shown);
        let signal = || "memory.available".to_owned();
        settings.config.eviction_soft = [(signal(), "1Gi".to_owned())].into();
        settings.config.eviction_soft_grace_period = [(signal(), "90s".to_owned())].into();
        settings.config.eviction_max_pod_grace_period = 5;
    })
    .await;
    let mut critical = pod("critical", "a");
    critical["spec"]["priorityClassName"] = json!("system-node-critical");
    world.create(critical).await;
    world.create(pod("web", "b")).await;
    world.until("critical", is_running).await;
    world.until("web", is_running).await;
    put_memory(&proc, 500);
    world.pass(Duration::from_secs(80)).await;
    assert_eq!(world.condition("MemoryPressure").await.0, "True");
    assert!(is_running(&world.status("web").await));
    world.pass(Duration::from_secs(30)).await;
    assert_eq!(world.status("web").await.reason.as_deref(), Some("Evicted"));
    world.pass(Duration::from_secs(60)).await;
    assert!(is_running(&world.status("critical").await));
}

#[tokio::test(start_paused = true)]
async fn a_kubelet_that_begins_again_reconciles_its_own_labels_and_no_others() {
    let mut world = World::configured(|settings| {
        settings.node_labels = [("example.com/a".to_owned(), "first".to_owned())].into();
    })
    .await;
    world.until_event("NodeReady", "Node node status is now: NodeReady").await;
    let patch = json!({ "metadata": { "labels": {
        "example.com/a": "changed",
        "kubernetes.io/os": "plan9",
    } } });
    world.nodes().patch(NODE, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    world.restart_kubelet().await;
    world.pass(10 * SECOND).await;
    let labels = world.nodes().get(NODE).await.unwrap().metadata.labels.unwrap();
    assert_eq!(labels["example.com/a"], "changed");
    assert_eq!(labels["kubernetes.io/os"], "linux");
}

#[tokio::test(start_paused = true)]
async fn pods_per_core_and_reserved_cpus_bound_what_the_node_offers() {
    let world = World::configured(|settings| {
        settings.config.pods_per_core = 1;
        settings.config.reserved_system_cpus = "0".to_owned();
        settings.config.node_status_max_images = 0;
    })
    .await;
    world.runtime.add_image("i:1");
    world.until_event("NodeReady", "Node node status is now: NodeReady").await;
    let status = world.nodes().get(NODE).await.unwrap().status.unwrap();
    let (capacity, allocatable) = (status.capacity.unwrap(), status.allocatable.unwrap());
    assert_eq!(capacity["pods"].0, capacity["cpu"].0);
    let number = |it: &str| it.parse::<i64>().unwrap();
    assert_eq!(number(&allocatable["cpu"].0), number(&capacity["cpu"].0) - 1);
    assert!(status.images.unwrap_or_default().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_somebody_writes_into_the_capacity_is_allocatable_as_long_and_as_much_as_it_says() {
    let world = World::new().await;
    world.until_event("NodeReady", "Node node status is now: NodeReady").await;
    const RESOURCE: &str = "example.com/foo";
    let write = async |amount: Option<&str>| {
        let patch = json!({ "status": { "capacity": { RESOURCE: amount } } });
        let api = world.nodes();
        api.patch_status(NODE, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    };
    for amount in ["5", "7"] {
        write(Some(amount)).await;
        world.until_node_has(RESOURCE, amount, amount).await;
    }
    write(None).await;
    world.pass(10 * SECOND).await;
    assert_eq!(world.node_resource(RESOURCE).await, (None, None));
}

#[tokio::test(start_paused = true)]
async fn alone_a_kubelet_runs_static_pods_and_tells_nobody() {
    let world = World::configured(|settings| settings.is_standalone = true).await;
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: s}\nspec:\n  containers:\n  - {name: c, image: \"i:1\"}\n";
    world.put_static_pod("s.yaml", Some(text));
    world.pass(30 * SECOND).await;
    assert_eq!(world.runtime.running(), ["c"]);
    world.runtime.exit("c", 1);
    world.pass(15 * SECOND).await;
    assert_eq!(world.runtime.count("StartContainer", "c"), 2);
    world.put_static_pod("s.yaml", None);
    world.pass(70 * SECOND).await;
    assert!(world.runtime.running().is_empty());
    assert!(world.nodes().get_opt(NODE).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_image_that_a_volume_shows_is_not_garbage() {
    let world = World::configured(|settings| {
        settings.config.image_maximum_gc_age = GoDuration(Duration::from_secs(3600));
    })
    .await;
    world.runtime.add_image("shown:1");
    world.runtime.add_image("old:1");
    let mut shows = pod("p", "c");
    shows["spec"]["volumes"] = json!([{ "name": "v", "image": { "reference": "shown:1" } }]);
    world.create(shows).await;
    world.pass(Duration::from_secs(2 * 3600)).await;
    assert_eq!(world.runtime.count("RemoveImage", "sha256:old:1"), 1);
    assert_eq!(world.runtime.count("RemoveImage", "sha256:shown:1"), 0);
    world.delete("p", 0).await;
    world.until_gone("p").await;
    world.pass(Duration::from_secs(2 * 3600)).await;
    assert_eq!(world.runtime.count("RemoveImage", "sha256:shown:1"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_short_of_processes_says_so_and_evicts_who_matters_least() {
    let folder = tempfile::tempdir().unwrap();
    let proc = folder.path().to_owned();
    put_memory(&proc, 4000);
    std::fs::create_dir_all(proc.join("sys/kernel")).unwrap();
    std::fs::write(proc.join("sys/kernel/pid_max"), "1000\n").unwrap();
    let put_processes = |count: u32| {
        let text = format!("0.00 0.01 0.05 1/{count} 12345\n");
        std::fs::write(proc.join("loadavg"), text).unwrap();
    };
    put_processes(200);
    let shown = proc.clone();
    let world = World::configured(move |settings| {
        settings.proc.clone_from(&shown);
        settings.config.eviction_hard = [("pid.available".to_owned(), "100".to_owned())].into();
    })
    .await;
    world.put_priority_class("important", 1000).await;
    let mut important = pod("important", "a");
    important["spec"]["priorityClassName"] = json!("important");
    world.create(important).await;
    world.create(pod("other", "b")).await;
    world.until("important", is_running).await;
    world.until("other", is_running).await;
    assert_eq!(world.condition("PIDPressure").await.0, "False");
    // What it uses is free when it has ended.
    world.runtime.script("b", Script::default().stop_takes(SECOND / 2));
    put_processes(950);
    while world.runtime.count("StopContainer", "b") == 0 {
        world.pass(SECOND / 10).await;
    }
    put_processes(200);
    world.until("other", |it| it.reason.as_deref() == Some("Evicted")).await;
    let message = "The node was low on resource: pids. Threshold quantity: 100, available: 50. ";
    assert_eq!(world.status("other").await.message.as_deref(), Some(message));
    assert!(is_running(&world.status("important").await));
    world.pass(11 * SECOND).await;
    let (status, reason, _) = world.condition("PIDPressure").await;
    assert_eq!((status.as_str(), reason.as_str()), ("True", "KubeletHasInsufficientPID"));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_cordoned_says_so_and_so_it_does_when_it_takes_pods_again() {
    let world = World::new().await;
    for (is_cordoned, reason) in [(true, "NodeNotSchedulable"), (false, "NodeSchedulable")] {
        world.patch_node(json!({ "spec": { "unschedulable": is_cordoned } })).await;
        world.until_event(reason, &format!("Node {NODE} status is now: {reason}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_cgroups_are_of_the_old_kind_is_warned_of_it() {
    let v1 = "30 1 0:1 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    let v2 = "30 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    for (mounts, wanted) in [(v1, 1), (v2, 0)] {
        let folder = tempfile::tempdir().unwrap();
        let proc = folder.path().to_owned();
        put_memory(&proc, 4000);
        std::fs::create_dir(proc.join("self")).unwrap();
        std::fs::write(proc.join("self/mountinfo"), mounts).unwrap();
        let world = World::configured(move |it| it.proc.clone_from(&proc)).await;
        world.until_event("Starting", "Starting kubelet.").await;
        world.pass(SECOND).await;
        assert_eq!(world.told("CgroupV1").await, wanted, "{mounts}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_tells_when_the_kernel_kills_for_the_whole_machine() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kmsg");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut log = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let world =
        World::configured(move |it| it.memory_kills = Some(MemoryKills::Log(path.clone()))).await;
    let summary = |place: &str, pid: u32| {
        format!(
            "6,2,2,-;oom-kill:constraint=X,nodemask=(null),cpuset=/,mems_allowed=0,{place},task_memcg=/a,task=stress,pid={pid},uid=0\n"
        )
    };
    let begin = "4,1,1,-;stress invoked oom-killer: order=0\n";
    let of_group = summary("oom_memcg=/kubepods/pod1", 41);
    let text = [begin, &of_group, begin, &summary("global_oom", 42)].concat();
    std::io::Write::write_all(&mut log, text.as_bytes()).unwrap();
    let told = "System OOM encountered, victim process: stress, pid: 42";
    world.until_event("SystemOOM", told).await;
}
