//! The node's own side on a real machine: its first certificate and the next ones, what its server
//! tells, and what it refuses.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use crate::support::Bed;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_gets_its_first_certificate_with_a_bootstrap_kubeconfig_and_rotates_it() {
    let Some(bed) = Bed::own("bootstrap").await else { return };
    bed.install_cni();
    let admin = bed.serve_api().await;
    // A life so short that it is renewed within the test.
    bed.sign_requests_for(Duration::from_secs(10)).await;
    let kubeconfig = bed.path("made.conf");
    let certificates = bed.path("pki");
    let flags = [
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--bootstrap-kubeconfig={}", admin.display()),
        format!("--cert-dir={}", certificates.display()),
        "--rotate-certificates".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let kubelet = bed.start_kubelet_flags(&flags).await;
    bed.until_node("True", "").await;
    let written = std::fs::read_to_string(&kubeconfig).unwrap();
    assert!(written.contains("kubelet-client-current.pem"), "{written}");
    let current = || std::fs::read_link(certificates.join("kubelet-client-current.pem")).ok();
    let mut seen = BTreeSet::from([current().unwrap()]);
    // Two renewals later the first certificate has expired, and the node still says that it lives.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(40);
    while seen.len() < 3 {
        assert!(tokio::time::Instant::now() < deadline, "{seen:?}");
        seen.extend(current());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    bed.create_pod(json!({
        "metadata": { "name": "late" },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [bed.container("main", "exec sleep 1000")],
        },
    }))
    .await;
    bed.until_ready("late").await;
    bed.delete_pod("late", 0).await;
    bed.until_gone("late").await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_tells_what_the_node_and_its_pods_use() {
    let Some(bed) = Bed::new("stats").await else { return };
    bed.install_cni();
    let kubelet = bed.start_kubelet().await;
    bed.until_node("True", "").await;
    let script = "head -c 3000000 /dev/zero > /cache/f; busybox touch /cache/written; \
                  x=$(head -c 20000000 /dev/zero | tr '\\0' x); while true; do sleep 0.1; done";
    let mut container = bed.container("main", script);
    container["volumeMounts"] = json!([{ "name": "cache", "mountPath": "/cache" }]);
    container["resources"] = json!({ "limits": { "memory": "256Mi" } });
    // What a volume holds is not measured again for a while.
    let command = ["/bin/busybox", "test", "-e", "/cache/written"];
    container["readinessProbe"] = json!({ "exec": { "command": command }, "periodSeconds": 1 });
    bed.create_pod(json!({
        "metadata": { "name": "busy" },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            "volumes": [{ "name": "cache", "emptyDir": {} }],
        },
    }))
    .await;
    bed.until_ready("busy").await;

    let summary = bed
        .eventually(async || {
            let (status, body) = bed.ask("GET", "/stats/summary").await;
            assert_eq!(status, 200);
            let summary: Value = serde_json::from_str(&body).unwrap();
            let used = summary["pods"][0]["memory"]["workingSetBytes"].as_u64().unwrap_or(0);
            (used > 10_000_000).then_some(summary)
        })
        .await;
    let node = &summary["node"];
    assert_eq!(node["nodeName"], bed.node_name());
    for path in [
        "/cpu/usageCoreNanoSeconds",
        "/memory/availableBytes",
        "/fs/capacityBytes",
        "/fs/inodesFree",
        "/runtime/imageFs/availableBytes",
        "/rlimit/maxpid",
        "/startTime",
        "/swap/swapAvailableBytes",
        "/systemContainers/0/startTime",
        "/systemContainers/0/swap/swapUsageBytes",
        "/systemContainers/1/startTime",
    ] {
        assert!(!node.pointer(path).unwrap_or(&Value::Null).is_null(), "{path}: {node}");
    }
    let systems = node["systemContainers"].as_array().unwrap();
    let names: Vec<_> = systems.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["pods", "kubelet", "runtime"]);
    for system in systems {
        assert!(system["memory"]["rssBytes"].as_u64().unwrap() > 1_000_000, "{system}");
    }
    let pod = &summary["pods"][0];
    assert_eq!(pod["podRef"]["name"], "busy");
    let container = &pod["containers"][0];
    assert_eq!(container["name"], "main");
    assert!(container["cpu"]["usageCoreNanoSeconds"].as_u64().unwrap() > 0);
    assert!(
        !container["rootfs"]["usedBytes"].is_null() && !container["logs"]["usedBytes"].is_null()
    );
    assert!(pod["process_stats"]["process_count"].as_u64().unwrap() >= 2, "{pod}");
    let cache = pod["volume"].as_array().unwrap().iter().find(|it| it["name"] == "cache").unwrap();
    assert!(cache["usedBytes"].as_u64().unwrap() >= 3_000_000, "{cache}");
    assert!(pod["ephemeral-storage"]["usedBytes"].as_u64().unwrap() >= 3_000_000);

    let (_, page) = bed.ask("GET", "/metrics/cadvisor").await;
    let line = page
        .lines()
        .find(|it| {
            it.starts_with("container_memory_working_set_bytes{container=\"main\"")
                && it.contains("pod=\"busy\"")
        })
        .unwrap();
    let id = bed.container_id("busy", 0).await.unwrap();
    assert!(line.contains(&format!("/{}\"", id.rsplit('/').next().unwrap())), "{line}");
    let of_main = |name: &str| {
        let line = page.lines().find(|it| {
            it.starts_with(&format!("{name}{{container=\"main\"")) && it.contains("pod=\"busy\"")
        });
        line.and_then(|it| it.rsplit(' ').nth(1)?.parse::<f64>().ok()).unwrap()
    };
    assert!(of_main("container_processes") >= 1.0 && of_main("container_threads") >= 1.0);
    assert!(of_main("container_file_descriptors") >= 3.0, "its standard streams");
    assert!(of_main("container_ulimits_soft") > 0.0);
    let (_, page) = bed.ask("GET", "/metrics/resource").await;
    for name in [
        "node_cpu_usage_seconds_total",
        "pod_memory_working_set_bytes",
        "container_swap_usage_bytes",
        "container_swap_limit_bytes",
        "container_start_time_seconds",
    ] {
        assert!(page.lines().any(|it| it.starts_with(name)), "{name}");
    }
    let (_, page) = bed.ask("GET", "/metrics").await;
    for name in [
        "kubelet_runtime_operations_total",
        "kubelet_running_pods 1",
        "kubelet_node_name",
        "kubelet_pod_start_duration_seconds_count 1\n",
        "kubelet_pod_start_total_duration_seconds_count 1\n",
        "kubelet_pod_start_sli_duration_seconds_count 1\n",
        "kubelet_started_pods_total 1\n",
        "kubelet_started_containers_total{container_type=\"container\"} 1\n",
        "kubelet_run_podsandbox_duration_seconds_count{runtime_handler=\"\"} 1\n",
        "kubelet_pod_worker_duration_seconds_count{operation_type=\"create\"} ",
        "kubelet_pleg_relist_duration_seconds_count ",
        "kubelet_topology_manager_admission_requests_total 1\n",
        "kubelet_cpu_manager_pinning_requests_total 0\n",
        "storage_operation_duration_seconds_count{migrated=\"false\",operation_name=\"volume_mount\",status=\"success\",volume_plugin=\"kubernetes.io/empty-dir\"} ",
        "rest_client_requests_total{code=\"200\",method=\"GET\"} ",
    ] {
        assert!(page.contains(name), "{name}");
    }
    let (_, page) = bed.ask("GET", "/metrics/probes").await;
    let probed = page.lines().find(|it| {
        it.starts_with("prober_probe_total{")
            && it.contains("pod=\"busy\"")
            && it.contains("probe_type=\"Readiness\"")
            && it.contains("result=\"successful\"")
    });
    assert!(probed.is_some(), "{page}");
    assert!(!page.contains("kubelet_running_pods"), "nothing else is there");
    bed.delete_pod("busy", 0).await;
    bed.until_gone("busy").await;
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_cannot_or_must_not_do_is_refused() {
    let Some(bed) = Bed::new("refuse").await else { return };
    bed.install_cni();
    let kubelet = bed.start_kubelet().await;
    bed.until_node("True", "").await;
    bed.create_pod(json!({
        "metadata": { "name": "p" },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [bed.container("main", "exec sleep 1000")],
        },
    }))
    .await;
    bed.until_ready("p").await;
    let namespace = bed.namespace();
    let (status, text) = bed.ask("POST", &format!("/checkpoint/{namespace}/p/main")).await;
    assert_eq!(status, 500, "{text}");
    assert!(
        text.starts_with(&format!(
            "checkpointing of {namespace}/p/main failed (rpc error: code = "
        )),
        "{text}"
    );
    assert_eq!(bed.ask("POST", &format!("/checkpoint/{namespace}/none/main")).await.0, 404);
    let run = format!("/run/{namespace}/p/main?cmd=/bin/busybox%20echo%20hello");
    let (status, text) = bed.ask("POST", &run).await;
    assert_eq!((status, text.as_str()), (200, "hello\n"));
    let (status, text) = bed.ask("GET", "/runningpods/").await;
    assert!(status == 200 && text.contains("\"name\":\"main\""), "{text}");
    for path in ["/logs/..%2f..%2fetc%2fpasswd", "/logs/../../etc/passwd", "/logs/none", "/nothing"]
    {
        let (status, text) = bed.ask("GET", path).await;
        assert!(status == 400 || status == 404, "{path}: {status}");
        assert!(!text.contains("root:"), "{path}");
    }
    // Queries are off by default, so this is a listing.
    let (status, text) = bed.ask("GET", "/logs/?query=kubelet").await;
    assert!(status == 200 && text.contains("<pre>"), "{text}");
    let (_, config) = bed.ask("GET", "/configz").await;
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["kubeletconfig"]["kind"], "KubeletConfiguration");
    assert_eq!(bed.ask("GET", "/healthz?verbose").await.1.lines().count(), 4);
    let (_, slis) = bed.ask("GET", "/metrics/slis").await;
    let asked =
        "kubernetes_healthchecks_total{name=\"syncloop\",status=\"success\",type=\"healthz\"} 1\n";
    assert!(slis.contains(asked), "{slis}");
    for (method, words) in [("POST", "ok"), ("HEAD", "")] {
        assert_eq!(bed.ask(method, "/healthz").await, (200, words.to_owned()), "{method}");
    }
    for (method, path, refusal) in [
        ("GET", "/debug/pprof/heap", "profiling endpoint is disabled.\n"),
        ("PUT", "/debug/flags/v", "flags endpoint is disabled.\n"),
        ("POST", "/pods", "405: Method Not Allowed"),
        ("GET", run.as_str(), "405: Method Not Allowed"),
    ] {
        let answer = bed.ask(method, path).await;
        assert_eq!((answer.0, answer.1.as_str()), (405, refusal), "{method} {path}");
    }
    assert_eq!(bed.ask("GET", "/flagz").await.0, 200);
    assert!(bed.ask("GET", "/statusz").await.1.contains("Binary version: v1.36"));
    bed.delete_pod("p", 0).await;
    bed.until_gone("p").await;
    kubelet.kill().await;
}
