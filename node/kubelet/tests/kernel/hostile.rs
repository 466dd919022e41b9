//! Pods that mean ill: what they leave in their volumes, logs and messages, and clients that ask for
//! much and take nothing.

use std::{fs, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, PodStatus};
use serde_json::json;

use crate::support::{self, Bed};

const SLEEP: &str = "exec sleep 1000";

fn terminated(pod: k8s_openapi::api::core::v1::Pod) -> ContainerStateTerminated {
    let status = pod.status.unwrap().container_statuses.unwrap().remove(0);
    status.state.unwrap().terminated.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_container_says_at_its_end_is_cut_however_much_and_whatever_it_is() {
    let Some(bed) = Bed::new("last-words").await else { return };
    let kubelet = bed.ready().await;
    let ended = async |name: &str, script: &str, policy: &str| {
        let mut main = bed.container("main", script);
        main["terminationMessagePolicy"] = json!(policy);
        let spec = json!({
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [main],
        });
        bed.create_pod(json!({ "metadata": { "name": name }, "spec": spec })).await;
        terminated(bed.until(name, |it| it.phase.as_deref() == Some("Failed")).await)
    };
    let flood = "busybox dd if=/dev/zero bs=1M count=16 2>/dev/null | busybox tr '\\0' x";
    let message = async |name: &str, script: String, policy: &str| {
        ended(name, &script, policy).await.message.unwrap_or_default()
    };
    let file = message("file", format!("{flood} > /dev/termination-log; exit 1"), "File").await;
    assert_eq!(file, "x".repeat(4096));
    // One line without an end, of which the log has thousands of parts.
    let log = message("log", format!("{flood}; exit 1"), "FallbackToLogsOnError").await;
    assert!(log.len() <= 2048 && log.ends_with('x'), "{} bytes", log.len());
    let noise = "busybox dd if=/dev/urandom of=/dev/termination-log bs=4096 count=1 2>/dev/null";
    let noise = message("noise", format!("{noise}; exit 1"), "File").await;
    assert!(!noise.is_empty() && noise.len() <= 4096 * 3, "{} bytes", noise.len());
    // The file is a mount: it is neither removed nor replaced by a link that leads to the host's files.
    let link = "busybox rm -f /dev/termination-log 2>/dev/null; \
                busybox ln -sf /etc/passwd /dev/termination-log 2>/dev/null; exit 1";
    let link = message("link", link.to_owned(), "File").await;
    assert!(!link.contains("root:"), "{link}");
    for name in ["file", "log", "noise", "link"] {
        bed.end_pod(name).await;
    }
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_container_makes_in_a_volume_stays_in_it_and_goes_with_the_pod() {
    let Some(bed) = Bed::new("mischief").await else { return };
    let kubelet = bed.ready().await;
    let kept = bed.folder().join("kept");
    fs::create_dir_all(&kept).unwrap();
    fs::write(kept.join("precious"), "here").unwrap();
    // The host's folder by every kind of way out, names that no text can hold, pipes, devices, folders
    // that nobody may enter, a file that is open, and a thousand levels.
    let script = format!(
        "cd /v; busybox ln -s {0} absolute; busybox ln -s ../../../../../../../../../{0} up; \
         busybox mkfifo pipe; busybox mknod disk b 7 0; busybox mkdir -m 0 closed; \
         busybox touch \"$(busybox printf 'a\\nb\\\\ \\377')\" '..' '..data' '-rf *'; \
         busybox chmod 0 .; exec 9>/v/open; i=0; \
         while [ $i -lt 1000 ]; do busybox mkdir d; cd d; i=$((i+1)); done; \
         echo done > /v/ready; exec sleep 1000",
        kept.display(),
    );
    bed.create_with("p", json!({ "emptyDir": {} }), &script).await;
    bed.until_ready("p").await;
    bed.eventually(async || {
        let ran = bed.exec("p", "main", &["/bin/busybox", "cat", "/v/ready"], None).await;
        (ran.stdout == "done\n").then_some(())
    })
    .await;
    let summary = bed.summary().await;
    let volumes = summary["pods"][0]["volume"].as_array().unwrap();
    let inodes = volumes.iter().find(|it| it["name"] == "v").unwrap()["inodesUsed"].as_u64();
    assert!(inodes.unwrap() >= 1000, "{inodes:?}");
    bed.end_pod("p").await;
    // A file of the kubelet's own that containers write to.
    let script = "busybox stat -c %s /etc/hosts; busybox truncate -s 900G /etc/hosts; exit 1";
    let spec = json!({
        "terminationGracePeriodSeconds": 0, "containers": [bed.container("main", script)],
    });
    bed.create_pod(json!({ "metadata": { "name": "hosts" }, "spec": spec })).await;
    bed.until("hosts", |it| support::restarts(it) >= 1).await;
    bed.eventually(async || {
        let size = bed.log("hosts", "main").await.trim().parse::<u64>().ok()?;
        (size < 4096).then_some(())
    })
    .await;
    bed.end_pod("hosts").await;
    bed.until_nothing_is_left().await;
    let pods = fs::read_dir(bed.root().join("pods")).unwrap().count();
    assert_eq!(pods, 0, "the pod's folder is gone");
    assert_eq!(fs::read_to_string(kept.join("precious")).unwrap(), "here");
    kubelet.kill().await;
}

/// A container that swaps a folder for a link while another is started with a part of that folder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_comes_and_goes_leads_no_mount_out_of_a_volume() {
    let Some(bed) = Bed::new("race").await else { return };
    let kubelet = bed.ready().await;
    fs::create_dir_all(bed.folder().join("outside/part")).unwrap();
    fs::write(bed.folder().join("outside/part/secret"), "secret").unwrap();
    let outside = bed.folder().join("outside");
    let swap = format!(
        "cd /v; while :; do busybox mkdir -p at/part; busybox rm -rf at; \
         busybox ln -s {} at; busybox rm -f at; done",
        outside.display(),
    );
    let mut swapper = bed.container("swapper", &swap);
    swapper["volumeMounts"] = json!([{ "name": "v", "mountPath": "/v" }]);
    // It ends at once, so that its mount is made again and again.
    let mut victim = bed.container("main", "busybox ls /part; [ ! -e /part/secret ]");
    victim["volumeMounts"] = json!([{ "name": "v", "mountPath": "/part", "subPath": "at/part" }]);
    let spec = json!({
        "terminationGracePeriodSeconds": 0, "containers": [swapper, victim],
        "volumes": [{ "name": "v", "emptyDir": {} }],
    });
    let quick = |n: usize| json!({ "metadata": { "name": format!("p{n}") }, "spec": spec });
    for n in 0..6 {
        bed.create_pod(quick(n)).await;
    }
    for n in 0..6 {
        let name = format!("p{n}");
        let codes = |it: &PodStatus| {
            let statuses = it.container_statuses.iter().flatten().filter(|it| it.name == "main");
            let states = statuses.flat_map(|it| [it.state.clone(), it.last_state.clone()]);
            let ended = states.flatten().filter_map(|it| it.terminated);
            ended.map(|it| it.exit_code).collect::<Vec<_>>()
        };
        // It was mounted or refused, whatever there was at that moment.
        let is_refused = |it: &PodStatus| {
            let statuses = it.container_statuses.iter().flatten().filter(|it| it.name == "main");
            let mut waiting = statuses.filter_map(|it| it.state.as_ref()?.waiting.clone());
            waiting.any(|it| it.reason.is_some_and(|it| it != "ContainerCreating"))
        };
        bed.until(&name, |it| {
            assert!(!codes(it).contains(&1), "{name}: it saw the secret");
            support::restarts(it) >= 1 || is_refused(it)
        })
        .await;
        let log = bed.log(&name, "main").await;
        assert!(!log.contains("secret"), "{name}: {log}");
    }
    for n in 0..6 {
        bed.end_pod(&format!("p{n}")).await;
    }
    bed.until_nothing_is_left().await;
    assert!(outside.join("part/secret").exists());
    kubelet.kill().await;
}

/// The memory of this process, which is the kubelet here.
fn resident() -> usize {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|it| it.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_streams_and_reads_none_holds_up_nobody_and_fills_no_memory() {
    let Some(bed) = Bed::alone("unread").await else { return };
    let kubelet = bed.ready().await;
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [bed.container("main", SLEEP)],
    });
    bed.create_pod(json!({ "metadata": { "name": "p" }, "spec": spec })).await;
    bed.until_ready("p").await;
    let before = bed.descriptors();
    let command = "command=/bin/busybox&command=yes&command=unread";
    let flood = format!("/exec/{}/p/main?{command}&output=1&error=1", bed.namespace());
    let mut unread = Vec::new();
    for _ in 0..10 {
        let protocols = "v5.channel.k8s.io, v4.channel.k8s.io";
        unread.push(bed.web_socket(&flood, protocols).await);
    }
    let start = resident();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let grown = resident().saturating_sub(start);
    assert!(grown < 64 << 20, "{grown} bytes for ten streams that nobody reads");
    // Others are served meanwhile.
    let ran = bed.exec("p", "main", &["/bin/busybox", "echo", "served"], None).await;
    assert_eq!(ran.stdout, "served\n");
    // Some was there to be read.
    let message = tokio::time::timeout(support::LIMIT, unread[0].next()).await.unwrap();
    assert!(!message.unwrap().unwrap().into_data().is_empty());
    drop(unread);
    bed.eventually(async || (bed.descriptors() <= before).then_some(())).await;
    bed.end_pod("p").await;
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_floods_its_log_keeps_no_more_of_it_than_is_configured() {
    let Some(bed) = Bed::new("flood").await else { return };
    bed.install_cni();
    let small = |settings: &mut ::kubelet::Settings| {
        let config = &mut settings.config;
        config.container_log_max_size = "256Ki".to_owned();
        config.container_log_max_files = 3;
        config.container_log_monitor_interval = ::kubelet::GoDuration(Duration::from_secs(3));
    };
    let kubelet = bed.start_kubelet_configured(small).await;
    bed.until_node("True", "").await;
    // As fast as some real programs print, for longer than it takes to rotate twice.
    let script = "line=$(busybox seq 1 300); while :; do echo $line; busybox usleep 2000; done";
    let spec = json!({
        "terminationGracePeriodSeconds": 0, "containers": [bed.container("main", script)],
    });
    bed.create_pod(json!({ "metadata": { "name": "p" }, "spec": spec })).await;
    let uid = bed.until_ready("p").await.metadata.uid.unwrap();
    let folder = bed.folder().join(format!("log/pods/{}_p_{uid}/main", bed.namespace()));
    let files = || {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        entries.map(|it| it.file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    bed.eventually(async || files().iter().any(|it| it.ends_with(".gz")).then_some(())).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(files().len() <= 4, "three, and one that is being made: {:?}", files());
    let path = format!("/containerLogs/{}/p/main?tailLines=2&limitBytes=4000", bed.namespace());
    let (status, text) = bed.ask("GET", &path).await;
    assert!(status == 200 && text.len() <= 4000 && text.contains(" 300"), "{status} {text}");
    bed.end_pod("p").await;
    bed.until_nothing_is_left().await;
    assert!(!folder.exists());
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absurd_values_are_taken_for_what_they_are_or_refused() {
    let Some(bed) = Bed::new("absurd").await else { return };
    let kubelet = bed.ready().await;
    let most = i64::from(i32::MAX);
    let mut main = bed.container("main", SLEEP);
    let probe = json!({
        "exec": { "command": ["/bin/busybox", "true"] }, "initialDelaySeconds": most,
        "periodSeconds": most, "timeoutSeconds": most, "failureThreshold": most,
    });
    main["livenessProbe"] = probe;
    main["resources"] = json!({ "requests": { "cpu": "1n", "memory": "1" },
        "limits": { "cpu": "1n" } });
    let spec = json!({
        "terminationGracePeriodSeconds": i64::MAX, "activeDeadlineSeconds": most,
        "containers": [main],
    });
    bed.create_pod(json!({ "metadata": { "name": "most" }, "spec": spec })).await;
    bed.until_ready("most").await;
    let since = format!("/containerLogs/{}/most/main?sinceSeconds={}", bed.namespace(), i64::MAX);
    assert_eq!(bed.ask("GET", &since).await.0, 200);
    let tail = format!("/containerLogs/{}/most/main?tailLines={}", bed.namespace(), i64::MAX);
    assert_eq!(bed.ask("GET", &tail).await.0, 200);
    for (bad, status) in [
        ("sinceSeconds=-1", 422),
        ("tailLines=x", 400),
        ("sinceTime=yesterday", 400),
        ("limitBytes=1e3", 400),
    ] {
        let path = format!("/containerLogs/{}/most/main?{bad}", bed.namespace());
        assert_eq!(bed.ask("GET", &path).await.0, status, "{bad}");
    }
    bed.delete_pod("most", 1).await;
    bed.until_gone("most").await;
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}
