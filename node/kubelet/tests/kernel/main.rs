//! The kubelet on the real containerd and on our API server, in one process.
//!
//! Needs root and containerd; where either is missing each test says so and does nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]
#![recursion_limit = "256"]

mod authorization;
mod clients;
mod conformance;
mod csi;
mod csi_faults;
#[allow(dead_code, reason = "a test uses the part of a server")]
#[path = "../../src/dbus.rs"]
mod dbus;
mod dual_stack;
mod eviction;
mod exits;
mod fast_delete;
mod faults;
mod host_features;
mod hostile;
mod limits;
mod logind;
mod memory;
mod node;
mod node_conformance;
mod on_host;
mod pods;
mod registry;
mod shared_root;
mod shares;
mod storage;
mod streams;
mod support;
mod upstream;
mod volumes;
mod watched;
#[path = "../simulation/support.rs"]
mod world;

use std::time::Duration;

use clients::kubectl;
use serde_json::json;
use support::Bed;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_becomes_ready_with_its_network_and_runs_pods_until_they_are_deleted() {
    let Some(bed) = Bed::new("ready").await else { return };
    let kubelet = bed.start_kubelet().await;
    bed.until_node("False", "cni plugin not initialized").await;
    bed.install_cni();
    bed.until_node("True", "kubelet is posting ready status").await;

    bed.create_config_map("settings", &[("greeting", "hello"), ("file.txt", "one")]).await;
    bed.create_pod(json!({
        "metadata": { "name": "web" },
        "spec": {
            "initContainers": [bed.container("prepare", "echo made > /work/made")],
            "containers": [{
                "name": "main",
                "image": support::IMAGE,
                "command": ["/bin/busybox", "sh", "-c",
                    "echo $GREETING $(cat /work/made) $(cat /etc/settings/file.txt) $MY_IP; exec sleep 1000"],
                "env": [
                    { "name": "GREETING", "valueFrom": { "configMapKeyRef": { "name": "settings", "key": "greeting" } } },
                    { "name": "MY_IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
                ],
                "readinessProbe": { "exec": { "command": ["/bin/busybox", "true"] }, "periodSeconds": 1 },
                "resources": { "requests": { "cpu": "10m", "memory": "16Mi" }, "limits": { "memory": "64Mi" } },
                "volumeMounts": [
                    { "name": "work", "mountPath": "/work" },
                    { "name": "settings", "mountPath": "/etc/settings" },
                ],
            }],
            "volumes": [
                { "name": "work", "emptyDir": {} },
                { "name": "settings", "configMap": { "name": "settings" } },
            ],
        },
    }))
    .await;
    let pod = bed.until_ready("web").await;
    let ip = pod.status.unwrap().pod_ip.unwrap();
    assert!(ip.starts_with("10.99."), "{ip}");
    assert_eq!(bed.log("web", "main").await, format!("hello made one {ip}\n"));

    // A kubelet that is killed and started again finds what runs.
    let before = bed.container_id("web", 0).await;
    kubelet.kill().await;
    let kubelet = bed.start_kubelet().await;
    bed.until_node("True", "kubelet is posting ready status").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(bed.container_id("web", 0).await, before);
    assert_eq!(bed.restarts("web").await, 0);

    bed.delete_pod("web", 1).await;
    bed.until_gone("web").await;
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_end_crash_and_restart_as_their_policy_says() {
    let Some(bed) = Bed::new("policy").await else { return };
    bed.install_cni();
    let kubelet = bed.start_kubelet().await;
    bed.until_node("True", "").await;
    bed.create_pod(json!({
        "metadata": { "name": "job" },
        "spec": {
            "restartPolicy": "Never",
            "containers": [bed.container("main", "echo done > /dev/termination-log; exit 3")],
        },
    }))
    .await;
    bed.create_pod(json!({
        "metadata": { "name": "crash" },
        "spec": { "containers": [bed.container("main", "exit 1")] },
    }))
    .await;
    bed.create_pod(json!({
        "metadata": { "name": "sick" },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main",
                "image": support::IMAGE,
                "command": ["/bin/busybox", "sleep", "1000"],
                "livenessProbe": {
                    "exec": { "command": ["/bin/busybox", "false"] },
                    "periodSeconds": 1,
                    "failureThreshold": 1,
                },
            }],
        },
    }))
    .await;
    let job = bed.until("job", |it| it.phase.as_deref() == Some("Failed")).await;
    let status = job.status.unwrap().container_statuses.unwrap().remove(0);
    let ended = status.state.unwrap().terminated.unwrap();
    assert_eq!((ended.exit_code, ended.message.as_deref()), (3, Some("done\n")));
    assert_eq!(ended.reason.as_deref(), Some("Error"));
    let crash = bed
        .until("crash", |it| {
            let waiting = support::waiting(it);
            waiting.as_deref() == Some("CrashLoopBackOff")
        })
        .await;
    assert_eq!(crash.status.unwrap().container_statuses.unwrap()[0].restart_count, 1);
    bed.until("sick", |it| support::restarts(it) >= 1).await;
    for name in ["job", "crash", "sick"] {
        bed.delete_pod(name, 0).await;
        bed.until_gone(name).await;
    }
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exec_carries_both_directions_and_the_exit_status() {
    let Some(bed) = Bed::new("exec").await else { return };
    bed.install_cni();
    let kubelet = bed.start_kubelet().await;
    bed.until_node("True", "").await;
    bed.create_pod(json!({
        "metadata": { "name": "shell" },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [bed.container("main", "exec sleep 1000")],
        },
    }))
    .await;
    bed.until_ready("shell").await;
    let ran = bed.exec("shell", "main", &["/bin/busybox", "cat"], Some("piped\n")).await;
    assert_eq!((ran.stdout.as_str(), ran.exit_code()), ("piped\n", 0));
    let script = "echo out; echo err >&2; exit 7";
    let ran = bed.exec("shell", "main", &["/bin/busybox", "sh", "-c", script], None).await;
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(ran.exit_code(), 7);
    bed.delete_pod("shell", 0).await;
    bed.until_gone("shell").await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_reaches_containers_through_the_api_server_and_a_signed_kubelet() {
    let Some(bed) = Bed::own("kubectl").await else { return };
    if std::process::Command::new("kubectl").arg("version").arg("--client").output().is_err() {
        println!("not run: needs kubectl");
        return;
    }
    bed.install_cni();
    let admin = bed.serve_api().await;
    bed.sign_requests().await;
    let kubelet = bed.start_kubelet_command().await;
    bed.until_node("True", "").await;
    let script = "echo line; mkdir -p /tmp/www; echo served > /tmp/www/index.html; \
                  exec busybox httpd -f -p 127.0.0.1:8080 -h /tmp/www";
    bed.create_pod(json!({
        "metadata": { "name": "shell" },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [bed.container("main", script)],
        },
    }))
    .await;
    bed.until_ready("shell").await;
    let run = async |arguments: &[&str], stdin: &str| kubectl(&admin, arguments, stdin).await;
    let (out, err, _) = bed
        .eventually(async || {
            let ran = run(&["logs", "shell"], "").await;
            (ran.2 == Some(0)).then_some(ran)
        })
        .await;
    assert_eq!(out, "line\n", "{err}");
    let (out, err, code) = run(&["exec", "-i", "shell", "--", "cat"], "piped\n").await;
    assert_eq!((out.as_str(), code), ("piped\n", Some(0)), "{err}");
    let (_, err, code) = run(&["exec", "shell", "--", "sh", "-c", "exit 7"], "").await;
    assert_eq!(code, Some(7), "{err}");
    let (_, err, code) = run(&["exec", "shell", "-c", "nope", "--", "true"], "").await;
    assert_eq!(code, Some(1), "{err}");
    let nodes = run(&["get", "node", "-L", "example.com/a"], "").await;
    assert!(nodes.0.contains("Ready") && nodes.0.contains(" b\n"), "{nodes:?}");
    assert_eq!(bed.forward(&admin, "shell", 8080).await, "served\n");
    bed.delete_pod("shell", 0).await;
    bed.until_gone("shell").await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_go_on_while_containerd_is_killed_and_comes_back() {
    let Some(mut bed) = Bed::new("runtime").await else { return };
    bed.install_cni();
    let kubelet = bed.start_kubelet().await;
    bed.until_node("True", "").await;
    let spec = |script: &str| json!({ "terminationGracePeriodSeconds": 0, "containers": [bed.container("main", script)] });
    let (stays, ends) =
        (spec("exec sleep 1000"), spec("until [ -e /tmp/end ]; do sleep 0.1; done"));
    bed.create_pod(json!({ "metadata": { "name": "stays" }, "spec": stays })).await;
    bed.until_ready("stays").await;
    let before = bed.container_id("stays", 0).await;
    bed.kill_containerd();
    bed.until_node("False", "container runtime is down").await;
    bed.start_containerd().await;
    bed.until_node("True", "").await;
    assert_eq!(bed.container_id("stays", 0).await, before);
    assert_eq!(bed.restarts("stays").await, 0);
    // New pods run, and what happens in them is noticed.
    bed.create_pod(json!({ "metadata": { "name": "ends" }, "spec": ends })).await;
    bed.until_ready("ends").await;
    bed.exec("ends", "main", &["/bin/busybox", "touch", "/tmp/end"], None).await;
    bed.until("ends", |it| support::restarts(it) == 1).await;
    for name in ["stays", "ends"] {
        bed.delete_pod(name, 0).await;
        bed.until_gone(name).await;
    }
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guaranteed_container_has_its_cpu_and_its_device_and_others_make_room() {
    let Some(bed) = Bed::new("resources").await else { return };
    bed.install_cni();
    let kubelet = bed
        .start_kubelet_configured(|settings| {
            settings.config.cpu_manager_policy = "static".to_owned();
            settings.config.kube_reserved = [("cpu".to_owned(), "1".to_owned())].into();
        })
        .await;
    bed.until_node("True", "").await;
    let folder = bed.root().join("device-plugins");
    let devices = vec![device_plugin::device("d0", None)];
    let options = Default::default();
    let plugin =
        device_plugin::DevicePlugin::serve(&folder, "p", "example.com/d", devices, options);
    let plugin = plugin.unwrap();
    plugin.register(&folder, "p").await.unwrap();
    let cpus = "cpus() { while read key value; do [ $key = Cpus_allowed_list: ] && echo $value; done < /proc/self/status; };";
    let moved = format!(
        "{cpus} first=$(cpus); while now=$(cpus); [ \"$now\" = \"$first\" ]; do sleep 0.1; done; echo $now > /dev/termination-log"
    );
    bed.create_pod(json!({
        "metadata": { "name": "shared" },
        "spec": { "restartPolicy": "Never", "containers": [bed.container("main", &moved)] },
    }))
    .await;
    bed.until("shared", |it| it.phase.as_deref() == Some("Running")).await;
    let script =
        format!("{cpus} [ -c /dev/d0 ] && echo $DEVICES $(cpus) > /dev/termination-log; sleep 4");
    let mut container = bed.container("main", &script);
    container["resources"] =
        json!({ "limits": { "cpu": "1", "memory": "16Mi", "example.com/d": "1" } });
    bed.create_pod(json!({
        "metadata": { "name": "own" },
        "spec": { "restartPolicy": "Never", "containers": [container] },
    }))
    .await;
    let message = |pod: k8s_openapi::api::core::v1::Pod| {
        let container = pod.status.unwrap().container_statuses.unwrap().remove(0);
        container.state.unwrap().terminated.unwrap().message.unwrap_or_default()
    };
    let own = message(bed.until("own", |it| it.phase.as_deref() == Some("Succeeded")).await);
    let cpu = own.trim().strip_prefix("d0 ").unwrap_or_else(|| panic!("{own}"));
    assert!(cpu.parse::<u32>().is_ok(), "one CPU: {cpu}");
    let shared = message(bed.until("shared", |it| it.phase.as_deref() == Some("Succeeded")).await);
    let is_in = |part: &str| match part.trim().split_once('-') {
        Some((first, last)) => {
            let number = |it: &str| it.parse::<u32>().unwrap();
            (number(first)..=number(last)).contains(&number(cpu))
        }
        None => part.trim() == cpu,
    };
    assert!(!shared.split(',').any(is_in), "{shared} holds {cpu}");
    let (_, page) = bed.ask("GET", "/metrics").await;
    for counted in ["cpu_manager_pinning_requests_total 1", "cpu_manager_pinning_errors_total 0"] {
        assert!(page.contains(&format!("\nkubelet_{counted}\n")), "{counted}: {page}");
    }
    for name in ["own", "shared"] {
        bed.delete_pod(name, 0).await;
        bed.until_gone(name).await;
    }
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}
