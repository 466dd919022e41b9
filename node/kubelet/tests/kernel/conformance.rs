//! Behaviours that every node has to show, which no other test here needs: what a container leaves, what
//! it is started with, what it is shown of itself and of its pod.
//!
//! Upstream: the `[sig-node]` tests of `test/conformance/testdata/conformance.yaml`.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use serde_json::{Value, json};

use crate::support::{self, Bed};

const SLEEP: &str = "exec sleep 1000";

fn terminated(pod: &Pod) -> ContainerStateTerminated {
    let status = pod.status.clone().unwrap().container_statuses.unwrap().remove(0);
    status.state.unwrap().terminated.unwrap()
}

impl Bed {
    /// A pod of one container that is to end, with these changes to the container.
    async fn run_once(&self, name: &str, script: &str, changes: Value) -> Pod {
        let mut container = self.container("main", script);
        container.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let spec = json!({
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
            "containers": [container],
        });
        self.create_pod(json!({ "metadata": { "name": name }, "spec": spec })).await;
        let is_over = |phase: Option<&str>| matches!(phase, Some("Succeeded" | "Failed"));
        self.until(name, |it| is_over(it.phase.as_deref())).await
    }

    async fn end_all(&self, names: &[&str]) {
        for name in names {
            self.delete_pod(name, 0).await;
            self.until_gone(name).await;
        }
        self.until_nothing_is_left().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_container_leaves_behind_is_told_in_its_status() {
    let Some(bed) = Bed::new("messages").await else { return };
    let kubelet = bed.ready().await;
    let fallback = json!({ "terminationMessagePolicy": "FallbackToLogsOnError" });
    let told = async |name: &str, script: &str, changes: &Value| {
        let state = terminated(&bed.run_once(name, script, changes.clone()).await);
        (state.exit_code, state.reason.unwrap(), state.message.unwrap_or_default())
    };
    let is = |code: i32, reason: &str, message: &str| (code, reason.to_owned(), message.to_owned());
    let log = "echo -n DONE; exit 1";
    assert_eq!(told("log", log, &fallback).await, is(1, "Error", "DONE"));
    let log = "echo -n DONE; exit 0";
    assert_eq!(told("silent", log, &fallback).await, is(0, "Completed", ""));
    let file = "echo -n OK > /dev/termination-log; exit 0";
    assert_eq!(told("file", file, &fallback).await, is(0, "Completed", "OK"));
    let elsewhere = json!({
        "terminationMessagePath": "/dev/termination-custom-log",
        "securityContext": { "runAsUser": 1000 },
    });
    let file = "echo -n OWN > /dev/termination-custom-log; exit 3";
    assert_eq!(told("path", file, &elsewhere).await, is(3, "Error", "OWN"));
    bed.end_all(&["log", "silent", "file", "path"]).await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_images_program_and_arguments_stand_for_what_a_container_does_not_say() {
    let Some(bed) = Bed::new("entrypoint").await else { return };
    bed.import_image("nst.test/speaks:1", &["/bin/busybox", "echo", "entry"], &["point"]);
    let kubelet = bed.ready().await;
    let cases = [
        ("neither", Value::Null, Value::Null, "entry point\n"),
        ("arguments", Value::Null, json!(["own", "$(WHO) $$(WHO)"]), "entry own me $(WHO)\n"),
        ("command", json!(["/bin/busybox", "echo", "other", "$(WHO)"]), Value::Null, "other me\n"),
        ("both", json!(["/bin/busybox", "echo"]), json!(["b", "$(NONE)"]), "b $(NONE)\n"),
    ];
    for (name, command, args, wanted) in &cases {
        let changes = json!({
            "image": "nst.test/speaks:1", "command": command, "args": args,
            "env": [{ "name": "WHO", "value": "me" }],
        });
        let pod = bed.run_once(name, "", changes).await;
        assert_eq!(terminated(&pod).exit_code, 0, "{name}");
        let log = || async { bed.log(name, "main").await };
        bed.eventually(async || (log().await == *wanted).then_some(())).await;
    }
    bed.end_all(&["neither", "arguments", "command", "both"]).await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_is_shown_what_it_may_use_who_it_is_and_who_is_near() {
    let Some(bed) = Bed::new("shown").await else { return };
    let kubelet = bed.ready().await;
    let field = |path: &str| json!({ "fieldRef": { "fieldPath": path } });
    let resource = |name: &str| json!({ "resourceFieldRef": { "resource": name } });
    let variables = [
        ("UID_", field("metadata.uid")),
        ("NAME", field("metadata.name")),
        ("NAMESPACE", field("metadata.namespace")),
        ("HOST_IP", field("status.hostIP")),
        ("HOST_IPS", field("status.hostIPs")),
        ("POD_IP", field("status.podIP")),
        ("CPU_LIMIT", resource("limits.cpu")),
        ("MEMORY_LIMIT", resource("limits.memory")),
        ("CPU_REQUEST", resource("requests.cpu")),
        ("MEMORY_REQUEST", resource("requests.memory")),
    ];
    let env: Vec<_> =
        variables.iter().map(|(name, from)| json!({ "name": name, "valueFrom": from })).collect();
    let script = "busybox env | busybox sort; echo; busybox cat /etc/hosts; echo; \
                  busybox cat /proc/sys/kernel/shm_rmid_forced; exec sleep 1000";
    let mut bounded = bed.container("main", script);
    bounded["env"] = json!(env);
    bounded["resources"] = json!({
        "requests": { "cpu": "250m", "memory": "32Mi" },
        "limits": { "cpu": "1250m", "memory": "64Mi" },
    });
    let mut free = bed.container("main", script);
    free["env"] = json!(env);
    let with = |name: &str, container: Value, is_on_host: bool| {
        let sysctls = json!([{ "name": "kernel.shm_rmid_forced", "value": "1" }]);
        json!({ "metadata": { "name": name }, "spec": {
            "terminationGracePeriodSeconds": 0,
            "hostNetwork": is_on_host,
            "securityContext": if is_on_host { json!({}) } else { json!({ "sysctls": sysctls }) },
            "hostAliases": [{ "ip": "123.45.67.89", "hostnames": ["foo", "bar"] }],
            "containers": [container],
        }})
    };
    bed.create_pod(with("bounded", bounded, false)).await;
    bed.create_pod(with("free", free.clone(), true)).await;
    let mut own = free;
    own["volumeMounts"] = json!([{ "name": "v", "mountPath": "/etc/hosts" }]);
    let mut pod = with("own", own, false);
    let hosts = bed.folder().join("hosts");
    std::fs::write(&hosts, "10.0.0.1 mine\n").unwrap();
    pod["spec"]["volumes"] =
        json!([{ "name": "v", "hostPath": { "path": hosts, "type": "File" } }]);
    bed.create_pod(pod).await;
    for name in ["bounded", "free", "own"] {
        bed.until_ready(name).await;
    }
    let parts = async |name: &str| {
        let log = bed
            .eventually(async || {
                let log = bed.log(name, "main").await;
                let is_whole = log.split("\n\n").count() >= 3 && log.ends_with(['0', '1', '\n']);
                is_whole.then_some(log)
            })
            .await;
        let (env, rest) = log.split_once("\n\n").unwrap();
        let (hosts, sysctl) = rest.rsplit_once("\n\n").unwrap_or(("", rest));
        (env.to_owned(), hosts.to_owned(), sysctl.to_owned())
    };
    let (env, hosts, sysctl) = parts("bounded").await;
    let pod = bed.pod("bounded").await;
    let status = pod.status.unwrap();
    let value = |env: &str, name: &str| {
        let prefix = format!("{name}=");
        let line = env.lines().find_map(|it| it.strip_prefix(&prefix).map(str::to_owned));
        line.unwrap_or_else(|| panic!("no {name}: {env}"))
    };
    assert_eq!(value(&env, "UID_"), pod.metadata.uid.unwrap());
    assert_eq!(
        (value(&env, "NAME"), value(&env, "NAMESPACE")),
        ("bounded".to_owned(), bed.namespace().to_owned())
    );
    assert_eq!(value(&env, "POD_IP"), status.pod_ip.clone().unwrap());
    assert_eq!(value(&env, "HOST_IP"), status.host_ip.unwrap());
    // Whole CPUs, rounded up.
    assert_eq!(
        (value(&env, "CPU_LIMIT").as_str(), value(&env, "CPU_REQUEST").as_str()),
        ("2", "1")
    );
    let memory = (value(&env, "MEMORY_LIMIT"), value(&env, "MEMORY_REQUEST"));
    assert_eq!(memory, ((64 << 20).to_string(), (32 << 20).to_string()));
    assert!(hosts.starts_with("# Kubernetes-managed hosts file."), "{hosts}");
    assert!(hosts.contains("123.45.67.89\tfoo\tbar"), "{hosts}");
    assert!(hosts.contains(&status.pod_ip.unwrap()), "{hosts}");
    assert_eq!(sysctl, "1\n");
    let (env, hosts, _) = parts("free").await;
    let allocatable = bed.allocatable("cpu").await.parse::<u64>().unwrap();
    assert_eq!(value(&env, "CPU_LIMIT"), allocatable.to_string(), "the node's");
    assert!(hosts.starts_with("# Kubernetes-managed hosts file (host network)."), "{hosts}");
    let (_, hosts, _) = parts("own").await;
    assert_eq!(hosts.trim_end(), "10.0.0.1 mine");
    bed.end_all(&["bounded", "free", "own"]).await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_a_volume_that_a_pod_cannot_name_yet_is_waited_for() {
    let Some(bed) = Bed::new("subpathexpr").await else { return };
    let kubelet = bed.ready().await;
    let pod = |name: &str, path: &str, expression: &str| {
        let mut container = bed.container("main", SLEEP);
        container["env"] = json!([
            { "name": "PART",
              "valueFrom": { "fieldRef": { "fieldPath": "metadata.annotations['part']" } } },
            { "name": "FIXED", "value": path },
        ]);
        container["volumeMounts"] =
            json!([{ "name": "v", "mountPath": "/v", "subPathExpr": expression }]);
        json!({ "metadata": { "name": name, "annotations": { "part": "/absolute" } }, "spec": {
            "terminationGracePeriodSeconds": 0, "containers": [container],
            "volumes": [{ "name": "v", "emptyDir": {} }],
        }})
    };
    let refused = |it: &_| support::waiting(it).as_deref() == Some("CreateContainerConfigError");
    bed.create_pod(pod("absolute", "/tmp", "$(FIXED)")).await;
    bed.create_pod(pod("backsteps", "..", "$(FIXED)")).await;
    bed.create_pod(pod("later", "", "$(PART)")).await;
    bed.until("absolute", refused).await;
    bed.until_event("Error: error SubPath `/tmp` must not be an absolute path").await;
    bed.until("backsteps", refused).await;
    bed.until_event("Error: unable to provision SubPath `..`: must not contain '..'").await;
    bed.until("later", refused).await;
    // What a container is told when it starts is what the pod says then.
    bed.annotate("later", "part", "good").await;
    bed.until_ready("later").await;
    assert_eq!(bed.restarts("later").await, 0);
    bed.end_all(&["absolute", "backsteps", "later"]).await;
    kubelet.kill().await;
}
