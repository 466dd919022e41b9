//! What a pod is given no more of: the time that a probe leaves it, memory for its files, swap.
//!
//! Upstream: `test/e2e/common/node/container_probe.go`, `test/e2e/common/storage/empty_dir.go`,
//! `test/e2e_node/swap_test.go`.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::support::{self, Bed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_whose_probe_fails_has_the_probes_grace_and_not_its_pods() {
    let Some(bed) = Bed::new("probe-grace").await else { return };
    let kubelet = bed.ready().await;
    // Asked to end, it does not.
    let script = "trap '' TERM; while :; do busybox sleep 0.1; done";
    let probe = json!({
        "exec": { "command": ["/bin/busybox", "false"] }, "periodSeconds": 1, "failureThreshold": 1,
        "terminationGracePeriodSeconds": 2,
    });
    let pod = |name: &str, kind: &str| {
        let mut container = bed.container("main", script);
        container[kind] = probe.clone();
        let spec = json!({ "terminationGracePeriodSeconds": 500, "containers": [container] });
        json!({ "metadata": { "name": name }, "spec": spec })
    };
    for (name, kind) in [("lives", "livenessProbe"), ("starts", "startupProbe")] {
        bed.create_pod(pod(name, kind)).await;
    }
    for name in ["lives", "starts"] {
        let seen = bed.until(name, |it| support::restarts(it) == 1).await;
        let status = seen.status.unwrap().container_statuses.unwrap().remove(0);
        let ended = status.last_state.unwrap().terminated.unwrap();
        assert_eq!((ended.exit_code, ended.reason.as_deref()), (137, Some("Error")), "{name}");
        let time = |it: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| it.unwrap().0;
        let lived = time(ended.finished_at).duration_since(time(ended.started_at)).as_secs();
        assert!((2..20).contains(&lived), "{name} lived for {lived} s");
    }
    for name in ["lives", "starts"] {
        bed.delete_pod(name, 1).await;
        bed.until_gone(name).await;
    }
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

fn in_memory(bed: &Bed, name: &str, limit: Option<&str>, size: Option<&str>) -> Value {
    // How large it is, and whether one block more can be written than it has.
    let script = "busybox df -k /m | busybox awk 'END { print $2 }'; \
                  busybox dd if=/dev/zero of=/m/f bs=1k count=$((16 * 1024 + 4)) 2>/dev/null \
                  && echo fits || echo full; exec sleep 1000";
    let mut container = bed.container("main", script);
    container["volumeMounts"] = json!([{ "name": "m", "mountPath": "/m" }]);
    if let Some(limit) = limit {
        container["resources"] = json!({ "limits": { "memory": limit, "cpu": "100m" } });
    }
    let volume = json!({ "name": "m", "emptyDir": { "medium": "Memory", "sizeLimit": size } });
    json!({
        "metadata": { "name": name },
        "spec": {
            "terminationGracePeriodSeconds": 0, "containers": [container], "volumes": [volume],
        },
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_in_memory_have_no_more_room_than_the_pod_the_volume_and_the_node_give() {
    let Some(bed) = Bed::new("memory-volume").await else { return };
    let kubelet = bed.ready().await;
    let node = bed.allocatable("memory").await;
    let node: u64 = node.strip_suffix("Ki").unwrap().parse().unwrap();
    for (name, limit, size, kibibytes, written) in [
        ("pod", Some("64Mi"), None, 64 << 10, "fits"),
        ("volume", Some("64Mi"), Some("16Mi"), 16 << 10, "full"),
        ("smaller", Some("64Mi"), Some("1Gi"), 64 << 10, "fits"),
        ("alone", None, Some("16Mi"), 16 << 10, "full"),
        // In whole pages.
        ("node", None, None, node.next_multiple_of(4), "fits"),
    ] {
        bed.create_pod(in_memory(&bed, name, limit, size)).await;
        bed.until_ready(name).await;
        let told = format!("{kibibytes}\n{written}\n");
        let log = bed
            .eventually(async || {
                let log = bed.log(name, "main").await;
                (log.lines().count() == 2).then_some(log)
            })
            .await;
        assert_eq!(log, told, "{name}");
        bed.delete_pod(name, 0).await;
        bed.until_gone(name).await;
    }
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

/// The machine's swap, if it has some and groups can be kept from it.
fn swap_of_machine() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let total = meminfo.lines().find_map(|it| it.strip_prefix("SwapTotal:")).unwrap();
    let total: u64 = total.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let is_v2 = controllers.split_whitespace().any(|it| it == "memory");
    let is_limited = is_v2 || Path::new(MEMSW).exists();
    (total > 0 && is_limited).then_some(total * 1024)
}

const MEMSW: &str = "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes";

/// What each container with a limit of memory may swap.
fn swap_limits(pod: &Path) -> Vec<u64> {
    let containers = fs::read_dir(pod).unwrap().flatten();
    let limits = containers.filter_map(|it| {
        let read = |file: &str| -> Option<u64> {
            fs::read_to_string(it.path().join(file)).ok()?.trim().parse().ok()
        };
        if read("memory.max").is_some() {
            return read("memory.swap.max");
        }
        // Memory and swap together; the pause container has no limit.
        let memory = read("memory.limit_in_bytes").filter(|it| *it < 1 << 62)?;
        Some(read("memory.memsw.limit_in_bytes")? - memory)
    });
    limits.collect()
}

/// With cgroup v1 nobody has any, whatever the node says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_swaps_in_proportion_to_what_it_asked_for_where_the_node_lets_it() {
    let Some(total) = swap_of_machine() else {
        println!("not run: needs swap");
        return;
    };
    let is_v1 = Path::new(MEMSW).exists();
    let Some(bed) = Bed::new("swap").await else { return };
    bed.install_cni();
    for behaviour in ["NoSwap", "LimitedSwap"] {
        let kubelet = bed
            .start_kubelet_configured(|it| {
                it.config.fail_swap_on = false;
                it.config.memory_swap.swap_behavior = behaviour.to_owned();
            })
            .await;
        bed.until_node("True", "").await;
        let info = bed.node().await.status.unwrap().node_info.unwrap();
        assert_eq!(info.swap.and_then(|it| it.capacity), i64::try_from(total).ok());
        let mut container = bed.container("main", "exec sleep 1000");
        container["resources"] =
            json!({ "requests": { "memory": "32Mi" }, "limits": { "memory": "64Mi" } });
        let spec = json!({ "terminationGracePeriodSeconds": 0, "containers": [container] });
        bed.create_pod(json!({ "metadata": { "name": "p" }, "spec": spec })).await;
        let uid = bed.until_ready("p").await.metadata.uid.unwrap();
        let groups = bed.groups_of(&uid);
        let folder = groups.iter().find(|it| !is_v1 || it.contains("/memory/")).unwrap();
        let limits = swap_limits(Path::new(folder));
        assert_eq!(limits.len(), 1, "{behaviour}: {limits:?}");
        let may_swap = behaviour == "LimitedSwap" && !is_v1;
        assert_eq!(limits[0] > 0, may_swap, "{behaviour}: {limits:?}");

        let summary = bed.summary().await;
        let number = |of: &Value, name: &str| of["swap"][name].as_u64().unwrap();
        let node = &summary["node"];
        let both = number(node, "swapAvailableBytes") + number(node, "swapUsageBytes");
        assert_eq!(both, total, "{node}");
        let of_container = &summary["pods"][0]["containers"][0];
        let available = number(of_container, "swapAvailableBytes");
        let most = limits[0] + if is_v1 { 64 << 20 } else { 0 };
        assert!(available <= most, "{of_container}");
        bed.delete_pod("p", 0).await;
        bed.until_gone("p").await;
        bed.until_nothing_is_left().await;
        kubelet.kill().await;
    }
}
