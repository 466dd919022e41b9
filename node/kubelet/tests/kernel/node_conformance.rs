//! Behaviours of upstream's `[NodeConformance]` tests that no other test here shows on a real runtime:
//! the files that API objects become, the host's namespaces, hooks, logs and their links.
//!
//! Upstream: `test/e2e/common/storage`, `test/e2e/common/node/lifecycle_hook.go`,
//! `test/e2e_node/{security_context_test,log_path_test,image_id_test,volume_manager_test}.go`.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use kubelet::GoDuration;
use serde_json::{Value, json};

use crate::support::{self, Bed};

const SLEEP: &str = "exec sleep 1000";

fn knows_noswap() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map_while(|it| it.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(4))
}

impl Bed {
    /// What a script says in a container, without the last line's end.
    async fn say(&self, pod: &str, container: &str, script: &str) -> String {
        let ran = self.exec(pod, container, &["/bin/busybox", "sh", "-c", script], None).await;
        format!("{}{}", ran.stdout, ran.stderr).trim_end().to_owned()
    }

    async fn until_says(&self, pod: &str, script: &str, wanted: &str) {
        self.eventually(async || (self.say(pod, "main", script).await == wanted).then_some(()))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_become_files_of_the_names_modes_and_contents_that_a_volume_asks_for() {
    let Some(bed) = Bed::new("objects").await else { return };
    bed.install_cni();
    let often = |settings: &mut ::kubelet::Settings| {
        settings.config.sync_frequency = GoDuration(Duration::from_secs(1));
    };
    let kubelet = bed.start_kubelet_configured(often).await;
    bed.until_node("True", "").await;
    let maps = Api::<ConfigMap>::namespaced(bed.client(), bed.namespace());
    let secrets = Api::<Secret>::namespaced(bed.client(), bed.namespace());
    let map = |name: &str, data: Value| -> ConfigMap {
        let metadata = json!({ "name": name });
        serde_json::from_value(json!({ "metadata": metadata, "data": data })).unwrap()
    };
    let params = PostParams::default();
    let mut first = map("map", json!({ "data-1": "value-1", "data-2": "value-2" }));
    first.binary_data =
        Some([("dump".to_owned(), ByteString(vec![0xde, 0xca, 0xfe, 0, 0xff]))].into());
    maps.create(&params, &first).await.unwrap();
    let secret = json!({ "metadata": { "name": "word" }, "stringData": { "word": "secret" } });
    secrets.create(&params, &serde_json::from_value(secret).unwrap()).await.unwrap();

    let labels = json!({ "fieldRef": { "fieldPath": "metadata.labels" } });
    let limit = json!({ "containerName": "main", "resource": "limits.memory" });
    let cpu = json!({ "containerName": "main", "resource": "limits.cpu", "divisor": "1" });
    let volumes = json!([
        { "name": "whole", "configMap": { "name": "map", "defaultMode": 0o400 } },
        { "name": "mapped", "configMap": { "name": "map", "items": [
            { "key": "data-2", "path": "path/to/data-2", "mode": 0o440 },
        ]}},
        { "name": "later", "configMap": { "name": "later", "optional": true } },
        { "name": "all", "projected": { "defaultMode": 0o600, "sources": [
            { "configMap": { "name": "map", "items": [{ "key": "data-1", "path": "own/map" }] } },
            { "secret": { "name": "word", "items": [{ "key": "word", "path": "own/word" }] } },
            { "downwardAPI": { "items": [
                { "path": "labels", "fieldRef": labels["fieldRef"] },
                { "path": "limit", "resourceFieldRef": limit, "mode": 0o444 },
                { "path": "./cpu", "resourceFieldRef": cpu },
            ]}},
        ]}},
    ]);
    let mut main = bed.container("main", SLEEP);
    let names = ["whole", "mapped", "later", "all"];
    let mounts = names.map(|it| json!({ "name": it, "mountPath": format!("/{it}") }));
    main["volumeMounts"] = json!(mounts);
    main["resources"] = json!({ "limits": { "memory": "64Mi" } });
    bed.create_pod(json!({
        "metadata": { "name": "p", "labels": { "colour": "red" } },
        "spec": { "terminationGracePeriodSeconds": 0, "containers": [main], "volumes": volumes },
    }))
    .await;
    bed.until_ready("p").await;

    let listing = "cd /whole && busybox stat -L -c '%n %a %u' dump data-1 data-2; \
                   busybox od -An -tx1 dump; cat data-1";
    assert_eq!(
        bed.say("p", "main", listing).await,
        "dump 400 0\ndata-1 400 0\ndata-2 400 0\n de ca fe 00 ff\nvalue-1"
    );
    let mapped = "cd /mapped && busybox find . -name 'data*' && cat path/to/data-2; \
                  busybox stat -L -c ' %a' path/to/data-2; busybox ls /later | busybox wc -l";
    assert_eq!(bed.say("p", "main", mapped).await.lines().last(), Some("0"));
    assert!(bed.say("p", "main", mapped).await.contains("value-2 440"));
    let all = "cd /all && cat own/map own/word labels limit; \
               busybox stat -L -c ' %a' own/map own/word labels limit";
    let all = bed.say("p", "main", all).await;
    let bytes = (64 << 20).to_string();
    assert_eq!(all, format!("value-1secretcolour=\"red\"{bytes} 600\n 600\n 600\n 444"));

    let cpus = bed.allocatable("cpu").await;
    assert_eq!(bed.say("p", "main", "cat /all/cpu").await, cpus, "it has no limit: the node's");
    // All users may look into a volume, and secrets take no more memory than the pod has.
    let roots = bed.say("p", "main", "busybox stat -c '%n %a' /whole /all").await;
    assert_eq!(roots, "/whole 777\n/all 1777");
    let kinds = "grep -E ' /(all|whole) ' /proc/mounts | busybox cut -d' ' -f2-4";
    let kinds = bed.say("p", "main", kinds).await;
    let of_all = kinds.lines().find(|it| it.starts_with("/all ")).unwrap();
    assert!(of_all.starts_with("/all tmpfs ro,"), "{kinds}");
    assert!(of_all.contains("size=65536k"), "{kinds}");
    // Of kernels from 6.4 on.
    assert_eq!(of_all.contains("noswap"), knows_noswap(), "{kinds}");
    assert!(!kinds.contains("/whole tmpfs"), "{kinds}");
    let data = bed.say("p", "main", "busybox readlink /whole/..data").await;
    let parts: Vec<_> = data.trim_start_matches("..").split(['_', '.']).collect();
    assert!(parts.len() == 7 && parts.iter().all(|it| it.parse::<u32>().is_ok()), "{data}");

    // All of them follow: what changes, what comes, what goes.
    let change = json!({ "data": { "data-1": "changed", "data-2": null, "data-3": "new" } });
    let merge = PatchParams::default();
    maps.patch("map", &merge, &Patch::Merge(change)).await.unwrap();
    maps.create(&params, &map("later", json!({ "here": "now" }))).await.unwrap();
    let relabel = json!({ "metadata": { "labels": { "colour": "blue" } } });
    let pods = Api::<k8s_openapi::api::core::v1::Pod>::namespaced(bed.client(), bed.namespace());
    pods.patch("p", &merge, &Patch::Merge(relabel)).await.unwrap();
    bed.until_says("p", "cd /whole && echo $(echo data*) $(cat data-1)", "data-1 data-3 changed")
        .await;
    bed.until_says("p", "cat /later/here", "now").await;
    bed.until_says("p", "cat /all/own/map", "changed").await;
    bed.until_says("p", "cat /all/labels", "colour=\"blue\"").await;
    // An item that is gone is an error of the volume; what was there stays.
    bed.until_event("references non-existent config key: data-2").await;
    assert_eq!(bed.say("p", "main", "cat /mapped/path/to/data-2").await, "value-2");
    maps.delete("later", &DeleteParams::default()).await.unwrap();
    bed.until_says("p", "busybox ls /later | busybox wc -l", "0").await;

    // One that is not optional holds its pod back until it is there.
    let missing = json!({ "secret": { "secretName": "absent" } });
    bed.create_with("waits", missing, "cat /v/key; exec sleep 1000").await;
    bed.until_event("MountVolume.SetUp failed for volume \"v\" : secret \"absent\" not found")
        .await;
    let both = json!({ "projected": { "sources": [
        { "secret": { "name": "absent" } }, { "configMap": { "name": "none" } },
        { "secret": { "name": "word" } },
    ]}});
    bed.create_with("misses", both, SLEEP).await;
    bed.until_event(
        "MountVolume.SetUp failed for volume \"v\" : [secret \"absent\" not found, configmap \"none\" not found]",
    )
    .await;
    let absent = json!({ "metadata": { "name": "absent" }, "stringData": { "key": "came" } });
    secrets.create(&params, &serde_json::from_value(absent).unwrap()).await.unwrap();
    bed.until_ready("waits").await;
    for name in ["p", "waits", "misses"] {
        bed.end_pod(name).await;
    }
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

/// Upstream: `test/e2e/storage/testsuites/subpath.go`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_a_volume_is_what_it_was_when_its_container_started() {
    let Some(bed) = Bed::new("parts").await else { return };
    bed.install_cni();
    let often = |settings: &mut ::kubelet::Settings| {
        settings.config.sync_frequency = GoDuration(Duration::from_secs(1));
    };
    let kubelet = bed.start_kubelet_configured(often).await;
    bed.until_node("True", "").await;
    bed.create_config_map("settings", &[("file", "one")]).await;
    let mut main = bed.container(
        "main",
        "rm -f /w/end; while [ ! -e /w/end ]; do busybox sleep 0.1; done; exit 1",
    );
    main["volumeMounts"] = json!([
        { "name": "s", "mountPath": "/whole" },
        { "name": "s", "mountPath": "/part", "subPath": "file" },
        { "name": "w", "mountPath": "/w" },
        { "name": "w", "mountPath": "/below", "subPath": "below" },
    ]);
    let mut reader = bed.container("reader", SLEEP);
    reader["volumeMounts"] =
        json!([{ "name": "w", "mountPath": "/below", "subPath": "below", "readOnly": true }]);
    let spec = json!({
        "terminationGracePeriodSeconds": 0, "containers": [main, reader],
        "volumes": [
            { "name": "s", "configMap": { "name": "settings" } }, { "name": "w", "emptyDir": {} },
        ],
    });
    bed.create_pod(json!({ "metadata": { "name": "p" }, "spec": spec })).await;
    let uid = bed.until_ready("p").await.metadata.uid.unwrap();
    // What is open to all users of a pod is so to none of the host.
    for folder in ["", "volumes", "volume-subpaths/s/main", "containers/main"] {
        let folder = bed.root().join("pods").join(&uid).join(folder);
        let mode = fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o750, "{}", folder.display());
    }
    assert_eq!(bed.say("p", "main", "cat /part; echo x > /below/f").await, "one");
    let write = "cat /below/f; { echo y > /below/g; } 2>/dev/null || echo refused";
    assert_eq!(bed.say("p", "reader", write).await, "x\nrefused");

    let maps = Api::<ConfigMap>::namespaced(bed.client(), bed.namespace());
    let change = Patch::Merge(json!({ "data": { "file": "two" } }));
    maps.patch("settings", &PatchParams::default(), &change).await.unwrap();
    bed.until_says("p", "cat /whole/file", "two").await;
    assert_eq!(bed.say("p", "main", "cat /part").await, "one");
    bed.say("p", "main", "touch /w/end").await;
    bed.until("p", |it| support::restarts(it) == 1).await;
    bed.until_ready("p").await;
    bed.until_says("p", "cat /part", "two").await;

    // What is mounted may be taken away below its mount.
    bed.say("p", "main", "rm -r /w/below").await;
    bed.end_pod("p").await;
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_share_an_empty_dir_whoever_they_are_and_wherever_it_is() {
    let Some(bed) = Bed::new("shared-dir").await else { return };
    let kubelet = bed.ready().await;
    for (name, medium) in [("disk", json!({})), ("memory", json!({ "medium": "Memory" }))] {
        let user = |container: &str, id: i64| {
            let mut it = bed.container(container, SLEEP);
            it["securityContext"] = json!({ "runAsUser": id });
            it["volumeMounts"] = json!([{ "name": "v", "mountPath": "/v" }]);
            it
        };
        let spec = json!({
            "terminationGracePeriodSeconds": 0,
            "containers": [user("root", 0), user("one", 1001), user("two", 1002)],
            "volumes": [{ "name": "v", "emptyDir": medium }],
        });
        bed.create_pod(json!({ "metadata": { "name": name }, "spec": spec })).await;
        bed.until_ready(name).await;
        let mount = bed.say(name, "one", "busybox stat -c %a /v; busybox stat -f -c %T /v").await;
        let mode = if name == "memory" { "1777\n" } else { "777\n" };
        assert!(mount.starts_with(mode), "{name}: {mount}");
        assert_eq!(mount.contains("tmpfs"), name == "memory", "{mount}");
        for (mode, container) in [("644", "root"), ("666", "one"), ("777", "two")] {
            let write = format!("echo {mode} > /v/{mode} && busybox chmod {mode} /v/{mode}");
            assert_eq!(bed.say(name, container, &write).await, "");
        }
        let read = "cat /v/644 /v/666; echo x >> /v/666 && echo y >> /v/644 || echo refused";
        let read = bed.say(name, "two", read).await;
        assert!(read.starts_with("644\n666\n") && read.contains("refused"), "{name}: {read}");
        let owners = bed.say(name, "one", "busybox stat -c '%a %u' /v/644 /v/666 /v/777").await;
        assert_eq!(owners, "644 0\n666 1001\n777 1002", "{name}");
        bed.end_pod(name).await;
    }
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_dir_and_its_parts_are_their_groups_as_are_the_files_that_are_made_in_them() {
    let Some(bed) = Bed::new("empty-dir-group").await else { return };
    let kubelet = bed.ready().await;
    for (name, medium, mode) in
        [("disk", json!({}), "2777"), ("memory", json!({ "medium": "Memory" }), "3777")]
    {
        let mut main = bed.container("main", SLEEP);
        main["volumeMounts"] = json!([
            { "name": "v", "mountPath": "/v" },
            { "name": "v", "mountPath": "/part", "subPath": "not/there" },
        ]);
        let spec = json!({
            "terminationGracePeriodSeconds": 0,
            "securityContext": { "runAsUser": 1001, "fsGroup": 123 },
            "containers": [main], "volumes": [{ "name": "v", "emptyDir": medium }],
        });
        bed.create_pod(json!({ "metadata": { "name": name }, "spec": spec })).await;
        bed.until_ready(name).await;
        let script = "echo x > /v/f; busybox chmod 660 /v/f; \
                      busybox stat -c '%a %u %g' /v /part /v/f";
        let told = bed.say(name, "main", script).await;
        assert_eq!(told, format!("{mode} 0 123\n{mode} 0 123\n660 1001 123"), "{name}");
        bed.end_pod(name).await;
    }
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_has_the_hosts_namespaces_if_it_asks_for_them_and_its_own_if_not() {
    let Some(bed) = Bed::new("namespaces").await else { return };
    let kubelet = bed.ready().await;
    let pod = |name: &str, is_host: bool| {
        let mut main = bed.container("main", SLEEP);
        main["securityContext"] = json!({ "privileged": is_host });
        let other = bed.container("other", SLEEP);
        let spec = json!({
            "terminationGracePeriodSeconds": 0, "containers": [main, other],
            "hostPID": is_host, "hostIPC": is_host, "hostNetwork": is_host,
        });
        json!({ "metadata": { "name": name }, "spec": spec })
    };
    bed.create_pod(pod("host", true)).await;
    bed.create_pod(pod("own", false)).await;
    let host = bed.until_ready("host").await.status.unwrap();
    bed.until_ready("own").await;
    let of_host = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
    let script = "for n in pid ipc net mnt uts; do busybox readlink /proc/self/ns/$n; done";
    let kinds = ["pid", "ipc", "net", "mnt", "uts"];
    let own = bed.say("own", "main", script).await;
    let shared = bed.say("host", "main", script).await;
    let beside = bed.say("own", "other", script).await;
    let lines = own.lines().zip(shared.lines()).zip(beside.lines());
    for (kind, ((own, shared), beside)) in kinds.iter().zip(lines) {
        let of_host = of_host(kind).display().to_string();
        assert_ne!(own, of_host, "{kind}");
        assert_eq!(shared == of_host, !matches!(*kind, "mnt"), "{kind}");
        // A pod's containers share what they talk over, and see neither processes nor files.
        assert_eq!(own == beside, matches!(*kind, "ipc" | "net" | "uts"), "{kind}");
    }
    assert!(bed.say("own", "main", "cat /proc/1/cmdline").await.starts_with("sleep"));
    let this = std::process::id();
    let seen = bed.say("host", "main", &format!("[ -d /proc/{this} ] && echo seen")).await;
    assert_eq!(seen, "seen", "the kubelet's own process");
    assert_eq!(host.pod_ip, host.host_ip);
    // Who is privileged makes devices and mounts; nobody else does.
    let mount = "mkdir -p /tmp/m && busybox mount -t tmpfs none /tmp/m 2>/dev/null && echo mounted \
                 || echo refused";
    assert_eq!(bed.say("host", "main", mount).await, "mounted");
    assert_eq!(bed.say("host", "other", mount).await, "refused");
    for name in ["host", "own"] {
        bed.end_pod(name).await;
    }
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hooks_run_in_the_container_after_its_start_and_before_its_end() {
    let Some(bed) = Bed::new("hooks").await else { return };
    let kubelet = bed.ready().await;
    let told = bed.folder().join("told");
    fs::create_dir_all(&told).unwrap();
    let say = |what: &str| {
        let script = format!("echo {what} >> /told/all");
        json!({ "exec": { "command": ["/bin/busybox", "sh", "-c", script] } })
    };
    let script = "trap 'echo term >> /told/all; exit 0' TERM; echo started >> /told/all; \
                  while :; do busybox sleep 0.1; done";
    let mut main = bed.container("main", script);
    main["lifecycle"] = json!({ "postStart": say("post"), "preStop": say("pre") });
    main["volumeMounts"] = json!([{ "name": "v", "mountPath": "/told" }]);
    let volume = json!({ "name": "v", "hostPath": { "path": told } });
    let spec = json!({ "containers": [main], "volumes": [volume] });
    bed.create_pod(json!({ "metadata": { "name": "p" }, "spec": spec })).await;
    bed.until_ready("p").await;
    let all = || fs::read_to_string(told.join("all")).unwrap_or_default();
    bed.eventually(async || {
        let all = all();
        (all.contains("started") && all.contains("post")).then_some(())
    })
    .await;
    bed.delete_pod("p", 30).await;
    bed.until_gone("p").await;
    assert!(all().ends_with("pre\nterm\n"), "{}", all());

    // The end of a hook that sleeps is the end of its time, and it runs before the signal.
    let mut main = bed.container("main", script);
    main["lifecycle"] = json!({ "preStop": { "sleep": { "seconds": 2 } } });
    main["volumeMounts"] = json!([{ "name": "v", "mountPath": "/told" }]);
    let volume = json!({ "name": "v", "hostPath": { "path": told } });
    let spec = json!({ "containers": [main], "volumes": [volume] });
    fs::remove_file(told.join("all")).unwrap();
    bed.create_pod(json!({ "metadata": { "name": "q" }, "spec": spec })).await;
    bed.until_ready("q").await;
    bed.eventually(async || all().contains("started").then_some(())).await;
    let begun = std::time::Instant::now();
    bed.delete_pod("q", 30).await;
    bed.until_gone("q").await;
    let took = begun.elapsed().as_millis();
    assert!((2000..15_000).contains(&took), "{took} ms");
    assert!(all().ends_with("term\n"), "{}", all());
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_containers_log_is_where_collectors_look_and_its_image_is_named_by_its_digest() {
    let Some(bed) = Bed::new("logpath").await else { return };
    let kubelet = bed.ready().await;
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [bed.container("main", "echo out; echo err >&2; exec sleep 1000")],
    });
    bed.create_pod(json!({ "metadata": { "name": "p" }, "spec": spec })).await;
    let pod = bed.until_ready("p").await;
    let (uid, namespace) = (pod.metadata.uid.unwrap(), bed.namespace());
    let status = pod.status.unwrap().container_statuses.unwrap().remove(0);
    let id = status.container_id.unwrap();
    let id = id.strip_prefix("containerd://").unwrap();
    let log = bed.folder().join(format!("log/pods/{namespace}_p_{uid}/main/0.log"));
    let link = bed.folder().join(format!("log/containers/p_{namespace}_main-{id}.log"));
    assert_eq!(fs::read_link(&link).unwrap(), log);
    let lines = bed
        .eventually(async || {
            let text = fs::read_to_string(&link).unwrap();
            (text.lines().count() == 2).then_some(text)
        })
        .await;
    for stream in [" stdout F out", " stderr F err"] {
        assert!(lines.lines().any(|it| it.ends_with(stream)), "{lines}");
    }
    assert_eq!(status.image, support::IMAGE);
    assert!(status.image_id.contains("sha256:"), "{}", status.image_id);
    bed.end_pod("p").await;
    bed.until_nothing_is_left().await;
    assert!(!log.exists() && fs::symlink_metadata(&link).is_err());
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_has_ended_keeps_its_log_and_neither_memory_nor_mounts() {
    let Some(bed) = Bed::new("completed").await else { return };
    let kubelet = bed.ready().await;
    let volume = json!({ "emptyDir": { "medium": "Memory" } });
    let changes = json!({ "restartPolicy": "Never" });
    bed.create_with_spec("p", volume, "echo kept > /v/f; echo said", changes).await;
    bed.until("p", |it| it.phase.as_deref() == Some("Succeeded")).await;
    let root = bed.root().display().to_string();
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    bed.eventually(async || {
        let is_left = mounts().lines().any(|it| it.contains(&root) && it.contains("tmpfs"));
        (!is_left).then_some(())
    })
    .await;
    assert_eq!(bed.log("p", "main").await, "said\n");
    bed.end_pod("p").await;
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}
