//! What a pod's fields become in what the runtime is asked for, and in what is told of its containers.

use std::{fs, path::PathBuf};

use api_cri::v1;
use fake_cri::Script;
use k8s_openapi::api::{core::v1::PodStatus, node::v1::RuntimeClass};
use serde_json::{Value, json};

use super::{SECOND, pod, support, support::World};

/// The log of a container's first run.
async fn log(world: &World, name: &str, container: &str) -> PathBuf {
    let folder = format!("default_{name}_{}/{container}", world.uid(name).await);
    let folder = world.root().with_file_name("log").join("pods").join(folder);
    fs::create_dir_all(&folder).unwrap();
    folder.join("0.log")
}

fn message(status: &PodStatus, container: &str) -> Option<String> {
    let mut all = status.container_statuses.iter().flatten();
    let state = all.find(|it| it.name == container)?.state.clone()?;
    Some(state.terminated?.message.unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn a_container_that_fails_without_a_message_may_be_told_by_the_end_of_its_log() {
    let world = World::new().await;
    for (name, code) in [("falls-back", 1), ("by-file", 1), ("succeeds", 0)] {
        world.runtime.script(name, Script::exits(30 * SECOND, code));
    }
    let container = |name: &str, policy: &str| json!({ "name": name, "image": "i:1", "terminationMessagePolicy": policy });
    let containers = json!([
        container("falls-back", "FallbackToLogsOnError"),
        container("by-file", "File"),
        container("succeeds", "FallbackToLogsOnError"),
    ]);
    world.create(pod("p", json!({ "restartPolicy": "Never", "containers": containers }))).await;
    world.until("p", support::is_running).await;
    let line = "2026-11-23T10:00:00.000000000Z stderr F ";
    let long: String = (0..100).map(|it| format!("{line}line {it}\n")).collect();
    for name in ["falls-back", "by-file", "succeeds"] {
        fs::write(log(&world, "p", name).await, &long).unwrap();
    }
    world.until("p", |it| it.phase.as_deref() == Some("Failed")).await;
    let status = world.status("p").await;
    let told = message(&status, "falls-back").unwrap();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[79]), (80, "line 20", "line 99"), "{told}");
    assert_eq!(message(&status, "by-file").as_deref(), Some(""));
    assert_eq!(message(&status, "succeeds").as_deref(), Some(""));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_has_grown_too_large_is_rotated_and_the_runtime_opens_another() {
    let world = World::configured(|it| it.config.container_log_max_size = "1Ki".to_owned()).await;
    world.create(pod("p", json!({ "containers": [{ "name": "c", "image": "i:1" }] }))).await;
    world.until("p", support::is_running).await;
    let log = log(&world, "p", "c").await;
    fs::write(&log, "x".repeat(1000)).unwrap();
    world.pass(25 * SECOND).await;
    assert_eq!(world.runtime.count("ReopenContainerLog", "c"), 0, "it is not too large");
    fs::write(&log, "x".repeat(1024)).unwrap();
    // What does the work is no task of the virtual time.
    for _ in 0..100 {
        if world.runtime.count("ReopenContainerLog", "c") > 0 {
            break;
        }
        world.pass(SECOND).await;
    }
    assert_eq!(world.runtime.count("ReopenContainerLog", "c"), 1);
    let names = fs::read_dir(log.parent().unwrap()).unwrap();
    let names: Vec<_> = names.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.len() == 1 && names[0].starts_with("0.log.2026"), "{names:?}");
}

#[tokio::test(start_paused = true)]
async fn an_image_is_pulled_as_often_as_its_policy_says() {
    let world = World::new().await;
    let one = |image: &str, policy: &str| {
        let image = format!("example.com/{image}:1");
        json!({ "containers": [{ "name": "c", "image": image, "imagePullPolicy": policy }] })
    };
    for (name, image, policy) in [
        ("always-1", "always", "Always"),
        ("always-2", "always", "Always"),
        ("once-1", "once", "IfNotPresent"),
        ("once-2", "once", "IfNotPresent"),
    ] {
        world.create(pod(name, one(image, policy))).await;
        world.until(name, support::is_running).await;
    }
    assert_eq!(world.runtime.count("PullImage", "example.com/always:1"), 2);
    assert_eq!(world.runtime.count("PullImage", "example.com/once:1"), 1);
    world.create(pod("never", one("never", "Never"))).await;
    world.until("never", |it| support::waiting(it) == Some("ErrImageNeverPull")).await;
    let text = "Container image \"example.com/never:1\" is not present with pull policy of Never";
    world.until_event("ErrImageNeverPull", text).await;
    world.runtime.add_image("example.com/never:1");
    world.until("never", support::is_running).await;
    assert_eq!(world.runtime.count("PullImage", "example.com/never:1"), 0);
}

#[tokio::test(start_paused = true)]
async fn namespaces_aliases_and_the_propagation_of_mounts_reach_the_runtime() {
    let world = World::new().await;
    let shared = world.root().with_file_name("shared");
    fs::create_dir_all(&shared).unwrap();
    let mounts: Vec<Value> = [("/a", "None"), ("/b", "HostToContainer"), ("/c", "Bidirectional")]
        .into_iter()
        .map(|(path, how)| json!({ "name": "v", "mountPath": path, "mountPropagation": how }))
        .collect();
    let container = json!({
        "name": "c", "image": "i:1", "volumeMounts": mounts,
        "securityContext": { "privileged": true },
    });
    let spec = json!({
        "hostPID": true, "hostIPC": true,
        "hostAliases": [{ "ip": "10.1.2.3", "hostnames": ["foo.local", "bar.local"] }],
        "containers": [container],
        "volumes": [{ "name": "v", "hostPath": { "path": shared } }],
    });
    world.create(pod("p", spec)).await;
    world.until("p", support::is_running).await;
    let sandbox = world.runtime.sandbox_config("p").unwrap().linux.unwrap();
    let namespaces = sandbox.security_context.unwrap().namespace_options.unwrap();
    let (node, own) = (v1::NamespaceMode::Node as i32, v1::NamespaceMode::Pod as i32);
    assert_eq!((namespaces.pid, namespaces.ipc, namespaces.network), (node, node, own));
    let config = world.runtime.container_config("c").unwrap();
    let mount = |path: &str| config.mounts.iter().find(|it| it.container_path == path).unwrap();
    assert_eq!(["/a", "/b", "/c"].map(|it| mount(it).propagation), [0, 1, 2]);
    let hosts = fs::read_to_string(&mount("/etc/hosts").host_path).unwrap();
    assert!(hosts.contains("10.1.2.3\tfoo.local\tbar.local\n"), "{hosts}");
}

#[tokio::test(start_paused = true)]
async fn what_a_runtime_class_takes_itself_is_told_to_the_runtime_and_counted() {
    let world = World::new().await;
    world.runtime.add_handler("there");
    let overhead = json!({ "cpu": "250m", "memory": "64Mi" });
    let class = json!({
        "metadata": { "name": "heavy" }, "handler": "there", "overhead": { "podFixed": overhead },
    });
    world.put::<RuntimeClass>(class).await;
    let room = world.allocatable_cpu_milli().await;
    let heavy = |cpu: String| {
        let container =
            json!({ "name": "c", "image": "i:1", "resources": { "requests": { "cpu": cpu } } });
        json!({ "runtimeClassName": "heavy", "overhead": overhead, "containers": [container] })
    };
    world.create(pod("p", heavy("10m".to_owned()))).await;
    world.until("p", support::is_running).await;
    let sandbox = world.runtime.sandbox_config("p").unwrap().linux.unwrap();
    let (told, whole) = (sandbox.overhead.unwrap(), sandbox.resources.unwrap());
    assert_eq!((told.cpu_shares, told.cpu_quota), (256, 25_000));
    assert_eq!((told.memory_limit_in_bytes, whole.cpu_shares), (64 << 20, 266));
    // Its containers alone would fit.
    world.create(pod("large", heavy(format!("{}m", room - 300)))).await;
    world.until("large", |it| it.reason.as_deref() == Some("OutOfcpu")).await;
    let refused = world.status("large").await.message.unwrap();
    let wanted = format!("cpu, requested: {}, used: 260, capacity: {room}", room - 50);
    assert!(refused.ends_with(&wanted), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_debugger_waits_for_the_container_whose_processes_it_is_to_see() {
    let world = World::new().await;
    world.runtime.script("prepare", Script::exits(60 * SECOND, 0));
    let spec = json!({
        "initContainers": [{ "name": "prepare", "image": "i:1" }],
        "containers": [{ "name": "main", "image": "i:1" }],
    });
    world.create(pod("p", spec)).await;
    world.until("p", |it| it.init_container_statuses.is_some()).await;
    let debugger = |name: &str, target: &str| json!({ "name": name, "image": "i:1", "targetContainerName": target });
    world.debug("p", json!([debugger("early", "main"), debugger("alone", "")])).await;
    world.until_event("Failed", "Error: unable to find target container main").await;
    let state = async |name: &str| {
        let all = world.status("p").await.ephemeral_container_statuses.unwrap();
        all.into_iter().find(|it| it.name == name).unwrap().state.unwrap()
    };
    let waiting = state("early").await.waiting.unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("CreateContainerConfigError"));
    assert_eq!(waiting.message.as_deref(), Some("unable to find target container main"));
    assert!(state("alone").await.running.is_some(), "it sees nobody else's processes");
    world.until("p", support::is_running).await;
    while state("early").await.running.is_none() {
        world.pass(SECOND).await;
    }
    let config = world.runtime.container_config("early").unwrap().linux.unwrap();
    let seen = config.security_context.unwrap().namespace_options.unwrap();
    let main = world.status("p").await.container_statuses.unwrap().remove(0).container_id.unwrap();
    assert_eq!(seen.pid, v1::NamespaceMode::Target as i32);
    assert!(main.ends_with(&format!("/{}", seen.target_id)), "{main} and {}", seen.target_id);
}
