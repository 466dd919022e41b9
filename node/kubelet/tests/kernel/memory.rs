//! What a pod at rest costs in the kubelet's memory.
//!
//! The kubelet is a process of its own here: the API server of the test is not counted.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use lifecycle::Scope;
use serde_json::{Value, json};

use crate::support::{self, Bed};

/// The kubelet's command line, where this process is it.
const COMMAND_LINE: &str = "NST_T_COMMAND_LINE";
const TEST: &str = "memory::a_pod_at_rest_costs_the_kubelet_little_memory";

const PODS: usize = 20;
/// Of an ordinary pod: a token's volume, a probe.
const KIB_PER_POD: usize = 140;

struct Kubelet(Child);

impl Kubelet {
    fn start(command_line: &[String]) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", TEST, "--nocapture"])
            .env(COMMAND_LINE, command_line.join("\n"))
            // As init starts it.
            .envs([("MALLOC_ARENA_MAX", "1"), ("MALLOC_TRIM_THRESHOLD_", "131072")])
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    /// What is not of files, in KiB.
    fn memory(&self) -> usize {
        let path = format!("/proc/{}/smaps_rollup", self.0.id());
        let text = fs::read_to_string(path).unwrap();
        let line = text.lines().find_map(|it| it.strip_prefix("Anonymous:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn ordinary(bed: &Bed, name: &str) -> Value {
    let mut container = bed.container("main", "exec sleep 1000");
    container["readinessProbe"] =
        json!({ "exec": { "command": ["/bin/busybox", "true"] }, "timeoutSeconds": 30 });
    container["env"] = json!([{ "name": "A", "value": "b" }]);
    container["resources"] = json!({ "requests": { "cpu": "1m", "memory": "1Mi" } });
    container["volumeMounts"] =
        json!([{ "name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount" }]);
    let token = json!({ "serviceAccountToken": { "path": "token", "expirationSeconds": 3607 } });
    let namespace = json!({ "downwardAPI": { "items": [
        { "path": "namespace", "fieldRef": { "fieldPath": "metadata.namespace" } },
    ]}});
    json!({
        "metadata": { "name": name, "labels": { "app": "a", "pod-template-hash": "5d4f" } },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            "volumes": [{ "name": "token", "projected": { "sources": [token, namespace] } }],
        },
    })
}

#[tokio::test(flavor = "current_thread")]
async fn a_pod_at_rest_costs_the_kubelet_little_memory() {
    if let Ok(text) = std::env::var(COMMAND_LINE) {
        let command_line = text.lines().map(str::to_owned).collect();
        return support::build(command_line, Scope::new()).await.run().await;
    }
    let Some(bed) = Bed::own_alone("memory").await else { return };
    bed.install_cni();
    bed.serve_api().await;
    bed.sign_requests().await;
    let kubeconfig = format!("--kubeconfig={}", bed.path("node.conf").display());
    let kubelet = Kubelet::start(&bed.command_line(&[&kubeconfig]));
    bed.until_node("True", "").await;
    let names: Vec<_> = (0..PODS).map(|it| format!("p-{it}")).collect();
    // One of them: what the first pod needs is no other's.
    bed.create_pod(ordinary(&bed, "first")).await;
    bed.until_ready("first").await;
    let before = kubelet.memory();
    for name in &names {
        bed.create_pod(ordinary(&bed, name)).await;
    }
    for name in &names {
        bed.until_ready(name).await;
    }
    // When the burst is over, what it needed goes back.
    bed.eventually(async || {
        let grown = kubelet.memory().saturating_sub(before) / PODS;
        println!("{before} KiB, and {grown} for each pod");
        (grown <= KIB_PER_POD).then_some(())
    })
    .await;
    for name in names.iter().map(String::as_str).chain(["first"]) {
        // Not by force: the object stays until all of it has ended.
        bed.delete_pod(name, 1).await;
    }
    for name in &names {
        bed.until_gone(name).await;
    }
    bed.until_gone("first").await;
    bed.until_nothing_is_left().await;
}
