//! What a pod's fields become in the kernel.

use serde_json::json;

use crate::support::{self, Bed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_groups_capabilities_filters_and_sysctls_are_what_the_pod_says() {
    let Some(bed) = Bed::new("security").await else { return };
    bed.install_cni();
    let kubelet = bed.start_kubelet().await;
    bed.until_node("True", "").await;
    let mut strict = bed.container("main", "exec sleep 1000");
    strict["securityContext"] = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"], "add": ["NET_BIND_SERVICE"] },
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    bed.create_pod(json!({
        "metadata": { "name": "strict" },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "hostname": "db",
            "subdomain": "shop",
            "setHostnameAsFQDN": true,
            "securityContext": {
                "runAsUser": 1000, "runAsGroup": 3000, "supplementalGroups": [4000],
                "runAsNonRoot": true,
                "sysctls": [{ "name": "net.ipv4.ip_local_port_range", "value": "40000 50000" }],
            },
            "containers": [strict],
        },
    }))
    .await;
    bed.create_pod(json!({
        "metadata": { "name": "plain" },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "shareProcessNamespace": true,
            "containers": [bed.container("main", "exec sleep 1000")],
        },
    }))
    .await;
    let mut root = bed.container("main", "exec sleep 1000");
    root["securityContext"] = json!({ "runAsNonRoot": true });
    bed.create_pod(json!({
        "metadata": { "name": "root" },
        "spec": { "terminationGracePeriodSeconds": 0, "containers": [root] },
    }))
    .await;
    bed.until_ready("strict").await;
    bed.until_ready("plain").await;
    let run = async |pod: &str, script: &str| {
        bed.exec(pod, "main", &["/bin/busybox", "sh", "-c", script], None).await.stdout
    };
    assert_eq!(run("strict", "echo $(busybox id -u) $(busybox id -G)").await, "1000 3000 4000\n");
    let status =
        "busybox grep -E 'CapBnd|NoNewPrivs|^Seccomp:' /proc/self/status | busybox tr -d '\\t\\n'";
    let strict = run("strict", status).await;
    assert_eq!(strict, "CapBnd:0000000000000400NoNewPrivs:1Seccomp:2");
    let plain = run("plain", status).await;
    assert!(plain.contains("NoNewPrivs:0") && plain.ends_with("Seccomp:0"), "{plain}");
    assert_eq!(run("strict", "busybox touch /x 2>/dev/null || echo refused").await, "refused\n");
    let fqdn = format!("db.shop.{}.svc", bed.namespace());
    let range = run("strict", "busybox cat /proc/sys/net/ipv4/ip_local_port_range").await;
    assert_eq!(range.split_whitespace().collect::<Vec<_>>(), ["40000", "50000"]);
    assert!(run("strict", "busybox hostname").await.starts_with(&fqdn));
    let first = run("plain", "busybox cat /proc/1/cmdline").await;
    assert!(first.contains("1000000"), "the sandbox's process is the first of all: {first:?}");
    let refused = |it: &_| support::waiting(it).as_deref() == Some("CreateContainerConfigError");
    bed.until("root", refused).await;
    for name in ["strict", "plain", "root"] {
        bed.delete_pod(name, 0).await;
        bed.until_gone(name).await;
    }
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resize_reaches_the_groups_of_the_container_and_of_the_pod() {
    let Some(bed) = Bed::new("resize").await else { return };
    bed.install_cni();
    let kubelet = bed.start_kubelet().await;
    bed.until_node("True", "").await;
    let mut main = bed.container("main", "exec sleep 1000");
    main["resources"] = json!({
        "requests": { "cpu": "10m", "memory": "16Mi" },
        "limits": { "cpu": "100m", "memory": "64Mi" },
    });
    bed.create_pod(json!({
        "metadata": { "name": "p" },
        "spec": { "terminationGracePeriodSeconds": 0, "containers": [main] },
    }))
    .await;
    let pod = bed.until_ready("p").await;
    let uid = pod.metadata.uid.unwrap();
    let before = bed.container_id("p", 0).await;
    assert_eq!(bed.pod_memory_limit("burstable", &uid), 64 << 20);
    for (memory, cpu) in [("128Mi", "200m"), ("32Mi", "150m")] {
        let limits = json!({ "limits": { "memory": memory, "cpu": cpu } });
        bed.resize("p", limits).await;
        bed.until("p", |it| {
            let container = &it.container_statuses.as_ref().unwrap()[0];
            let limits = container.resources.as_ref().and_then(|it| it.limits.as_ref());
            let is_given = limits.is_some_and(|it| it["memory"].0 == memory);
            let mut conditions = it.conditions.iter().flatten();
            is_given && conditions.all(|it| it.type_ != "PodResizeInProgress")
        })
        .await;
        let bytes: i64 = memory.trim_end_matches("Mi").parse::<i64>().unwrap() << 20;
        assert_eq!(bed.pod_memory_limit("burstable", &uid), bytes);
        assert_eq!(bed.container_memory_limit("burstable", &uid), bytes);
    }
    assert_eq!(bed.container_id("p", 0).await, before, "nothing was restarted");
    bed.delete_pod("p", 0).await;
    bed.until_gone("p").await;
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_pod_may_as_a_whole_is_the_limit_of_its_group_and_is_resized() {
    let Some(bed) = Bed::new("whole").await else { return };
    bed.install_cni();
    let kubelet = bed.start_kubelet().await;
    bed.until_node("True", "").await;
    let resources = |memory: &str| {
        json!({
            "requests": { "cpu": "10m", "memory": "16Mi" },
            "limits": { "cpu": "100m", "memory": memory },
        })
    };
    let containers = ["main", "other"].map(|name| bed.container(name, "exec sleep 1000"));
    bed.create_pod(json!({
        "metadata": { "name": "p" },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "resources": resources("64Mi"),
            "containers": containers,
        },
    }))
    .await;
    let uid = bed.until_ready("p").await.metadata.uid.unwrap();
    assert_eq!(bed.pod_memory_limit("burstable", &uid), 64 << 20);
    bed.resize_whole("p", resources("128Mi")).await;
    bed.until("p", |it| {
        let limits = it.resources.as_ref().and_then(|it| it.limits.as_ref());
        limits.is_some_and(|it| it["memory"].0 == "128Mi")
    })
    .await;
    assert_eq!(bed.pod_memory_limit("burstable", &uid), 128 << 20);
    assert_eq!(bed.restarts("p").await, 0);
    bed.delete_pod("p", 0).await;
    bed.until_gone("p").await;
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_is_asked_to_end_with_the_signal_that_it_names() {
    let Some(bed) = Bed::new("signal").await else { return };
    bed.install_cni();
    let gated = |settings: &mut kubelet::Settings| {
        settings.config.feature_gates.insert("ContainerStopSignals".to_owned(), true);
    };
    let kubelet = bed.start_kubelet_configured(gated).await;
    bed.until_node("True", "").await;
    // `SIGTERM` does nothing to it. A signal that comes before it is ready for it is lost.
    let script = "trap '' TERM; trap 'exit 0' USR1; busybox touch /ready; \
                  while :; do busybox sleep 0.1; done";
    let mut main = bed.container("main", script);
    main["lifecycle"] = json!({ "stopSignal": "SIGUSR1" });
    let asked = json!({ "command": ["busybox", "test", "-e", "/ready"] });
    main["readinessProbe"] = json!({ "exec": asked, "periodSeconds": 1 });
    bed.create_pod(json!({
        "metadata": { "name": "p" },
        "spec": { "os": { "name": "linux" }, "containers": [main] },
    }))
    .await;
    let status = bed.until_ready("p").await.status.unwrap();
    let container = &status.container_statuses.unwrap()[0];
    assert_eq!(container.stop_signal.as_deref(), Some("SIGUSR1"));
    let started = std::time::Instant::now();
    bed.delete_pod("p", 60).await;
    bed.until_gone("p").await;
    assert!(started.elapsed().as_secs() < 20, "it did not wait for its grace to end");
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

/// What forks for ever in a pod fills the pod's part of the node's processes, and the pod ends all the
/// same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_bomb_gets_no_more_processes_than_a_pod_may_have() {
    let Some(bed) = Bed::new("pids").await else { return };
    bed.install_cni();
    let limited = |settings: &mut kubelet::Settings| settings.config.pod_pids_limit = 50;
    let kubelet = bed.start_kubelet_configured(limited).await;
    bed.until_node("True", "").await;
    // A thousand at the most, so that a limit that does not work costs the machine no more.
    let bomb = "bomb() { if [ $1 -gt 0 ]; then bomb $(($1-1)) & bomb $(($1-1)) & fi; sleep 5; }; \
                (bomb 9) & exec sleep 1000";
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [bed.container("bomb", bomb)],
    });
    bed.create_pod(json!({ "metadata": { "name": "p" }, "spec": spec })).await;
    let uid = bed.until_ready("p").await.metadata.uid.unwrap();
    bed.eventually(async || (bed.refused_forks("besteffort", &uid) > 0).then_some(())).await;
    assert_eq!(bed.pids_file("besteffort", &uid, "pids.max").as_deref(), Some("50"));
    let current = bed.pids_file("besteffort", &uid, "pids.current").unwrap();
    assert!(current.parse::<u64>().unwrap() <= 50, "{current}");
    // Another pod starts beside it.
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [bed.container("quiet", "exec sleep 1000")],
    });
    bed.create_pod(json!({ "metadata": { "name": "q" }, "spec": spec })).await;
    bed.until_ready("q").await;
    for pod in ["p", "q"] {
        bed.delete_pod(pod, 0).await;
        bed.until_gone(pod).await;
    }
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}
