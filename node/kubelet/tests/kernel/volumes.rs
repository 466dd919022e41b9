//! Volumes that need no driver.

use std::process::Command;

use k8s_openapi::api::{certificates::v1beta1::ClusterTrustBundle, core::v1::PodStatus};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

use crate::{
    storage::claim,
    support::{self, Bed},
};

const SLEEP: &str = "exec sleep 1000";

fn is_ready(status: &PodStatus) -> bool {
    status.conditions.iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_lead_to_volumes_of_this_host_or_say_why_not() {
    let Some(bed) = Bed::own("claims").await else { return };
    let kubelet = bed.ready().await;
    let (disk, folder) = (bed.folder().join("disk"), bed.folder().join("host"));
    std::fs::create_dir_all(&disk).unwrap();
    let affinity = json!({ "required": { "nodeSelectorTerms": [{ "matchExpressions": [
        { "key": "kubernetes.io/hostname", "operator": "In", "values": ["nst-node"] },
    ]}]}});
    let local =
        |path: &std::path::Path| json!({ "local": { "path": path }, "nodeAffinity": affinity });
    bed.bind("local", local(&disk), json!({})).await;
    bed.bind("absent", local(&bed.folder().join("none")), json!({})).await;
    let host = json!({ "hostPath": { "path": folder, "type": "DirectoryOrCreate" } });
    bed.bind("host", host, json!({})).await;
    let nfs = json!({ "nfs": { "server": "127.0.0.1", "path": "/x" } });
    bed.bind("nfs", nfs, json!({})).await;

    let script = "echo $HOSTNAME > /v/name; exec sleep 1000";
    bed.create_with("on-local", claim("local"), script).await;
    bed.create_with("on-host", claim("host"), script).await;
    let read_only = json!({ "persistentVolumeClaim": { "claimName": "local", "readOnly": true } });
    bed.create_with("reader", read_only, "echo x > /v/new || echo refused; exec sleep 1000").await;
    for name in ["on-local", "on-host", "reader"] {
        bed.until_ready(name).await;
    }
    for (file, name) in [(disk.join("name"), "on-local\n"), (folder.join("name"), "on-host\n")] {
        let read = || std::fs::read_to_string(&file).unwrap_or_default();
        bed.eventually(async || (read() == name).then_some(())).await;
    }
    bed.eventually(async || bed.log("reader", "main").await.contains("refused").then_some(()))
        .await;

    bed.create_with("no-path", claim("absent"), SLEEP).await;
    bed.until_event(
        "MountVolume.NewMounter initialization failed for volume \"pv-absent\" : path \"",
    )
    .await;
    let target = json!({ "fc": { "targetWWNs": ["500a0981891b8dc5"], "lun": 0 } });
    bed.create_with("no-disk", target, SLEEP).await;
    bed.until_event("MountVolume.WaitForAttach failed for volume \"v\" : no fc disk found").await;
    bed.create_with("no-claim", claim("nothing"), SLEEP).await;
    bed.until_event("Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], failed to process volumes=[v]: error processing PVC default/nothing: failed to fetch PVC from API server: persistentvolumeclaims \"nothing\" not found").await;
    let options = json!({ "hostPath": { "path": folder }, "mountOptions": ["noatime"] });
    bed.bind("options", options, json!({})).await;
    bed.create_with("options", claim("options"), SLEEP).await;
    bed.until_event("FailedMount: MountVolume.MountOptionSupport check failed for volume \"pv-options\" : mount options are not supported").await;
    bed.end_pod("options").await;
    bed.create_with("on-nfs", claim("nfs"), SLEEP).await;
    bed.until_event("MountVolume.SetUp failed for volume \"pv-nfs\" : mount failed: exit status 32\nMounting command: mount\nMounting arguments: -t nfs 127.0.0.1:/x ").await;

    let names = ["on-local", "on-host", "reader", "no-path", "no-disk", "no-claim", "on-nfs"];
    for name in names {
        bed.end_pod(name).await;
    }
    bed.until_nothing_is_left().await;
    assert!(disk.join("name").exists() && folder.join("name").exists(), "the data stays");
    kubelet.kill().await;
}

/// Neither pod was seen by the scheduler, which would have sent it elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_of_other_nodes_is_not_mounted_until_the_node_is_one_of_them() {
    let Some(bed) = Bed::own("elsewhere").await else { return };
    let kubelet = bed.ready().await;
    let wants = json!({ "key": "example.com/rack", "operator": "In", "values": ["7"] });
    let terms = json!([{ "matchExpressions": [wants] }]);
    let mut volume = json!({
        "local": { "path": bed.folder() },
        "nodeAffinity": { "required": { "nodeSelectorTerms": terms } },
    });
    bed.bind("files", volume.clone(), json!({})).await;
    volume["volumeMode"] = json!("Block");
    bed.bind("device", volume, json!({ "spec": { "volumeMode": "Block" } })).await;
    let script = "while ! busybox rm /v/end 2>/dev/null; do busybox sleep 0.1; done; exit 1";
    bed.create_with("files", claim("files"), script).await;
    let mut container = bed.container("main", SLEEP);
    container["volumeDevices"] = json!([{ "name": "v", "devicePath": "/dev/v" }]);
    container["volumeMounts"] = json!([]);
    let mut device = claim("device");
    device["name"] = json!("v");
    bed.create_pod(json!({
        "metadata": { "name": "device" },
        "spec": {
            "terminationGracePeriodSeconds": 0, "containers": [container], "volumes": [device],
        },
    }))
    .await;
    for (kind, name) in [("Mount", "files"), ("Map", "device")] {
        let message = format!(
            "{name} FailedMount: {kind}Volume.NodeAffinity check failed for volume \"pv-{name}\" : no matching NodeSelectorTerms"
        );
        bed.until_event(&message).await;
    }
    bed.end_pod("device").await;
    bed.label_node("example.com/rack", Some("7")).await;
    bed.until_ready("files").await;
    // What the pod has it keeps, for its next container too.
    bed.label_node("example.com/rack", None).await;
    std::fs::write(bed.path("end"), "").unwrap();
    bed.until("files", |it| support::restarts(it) == 1 && is_ready(it)).await;
    bed.end_pod("files").await;
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

/// A disk that is a file, for as long as it is held.
struct Disk(String);

impl Disk {
    fn of(file: &std::path::Path) -> Option<Self> {
        std::fs::File::create(file).unwrap().set_len(16 << 20).unwrap();
        let made = Command::new("losetup").args(["-f", "--show"]).arg(file).output().ok()?;
        let name = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        (made.status.success() && !name.is_empty()).then_some(Self(name))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("losetup").args(["-d", &self.0]).status());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_disk_is_formatted_where_it_is_empty_and_mounted_once_for_its_pods() {
    let Some(bed) = Bed::own("local-disk").await else { return };
    let Some(disk) = Disk::of(&bed.path("disk.img")) else {
        println!("local-disk: not run: needs a loop device");
        return;
    };
    let kubelet = bed.ready().await;
    let affinity = json!({ "required": { "nodeSelectorTerms": [{ "matchExpressions": [
        { "key": "kubernetes.io/hostname", "operator": "In", "values": ["nst-node"] },
    ]}]}});
    let local = json!({ "local": { "path": disk.0 }, "nodeAffinity": affinity });
    bed.bind("disk", local.clone(), json!({})).await;
    let write = "echo $HOSTNAME >> /v/names; cat /v/names; exec sleep 1000";
    let place = bed.root().join("plugins/kubernetes.io/local-volume/mounts/pv-disk");
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let is_mounted = || mounts().contains(&format!(" {} ", place.display()));
    for name in ["one", "two"] {
        bed.create_with(name, claim("disk"), write).await;
        bed.until_ready(name).await;
    }
    bed.eventually(async || (bed.log("two", "main").await == "one\ntwo\n").then_some(())).await;
    bed.end_pod("one").await;
    assert!(is_mounted(), "the other pod has it");
    bed.end_pod("two").await;
    bed.until_nothing_is_left().await;
    assert!(!is_mounted() && !place.exists());
    // What is on it stays, also for a kubelet that does not know it.
    kubelet.kill().await;
    let kubelet = bed.start_kubelet().await;
    let mut other = local;
    other["local"]["fsType"] = json!("xfs");
    bed.bind("other", other, json!({})).await;
    bed.create_with("three", claim("disk"), write).await;
    bed.until_ready("three").await;
    bed.eventually(async || (bed.log("three", "main").await.starts_with("one\n")).then_some(()))
        .await;
    bed.end_pod("three").await;
    bed.create_with("four", claim("other"), SLEEP).await;
    bed.until_event("(fstype: xfs), error failed to mount the volume as \"xfs\", it already contains ext4. Mount error: mount failed: exit status ").await;
    bed.end_pod("four").await;
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ephemeral_claim_has_to_belong_to_its_pod() {
    let Some(bed) = Bed::own("ephemeral").await else { return };
    let kubelet = bed.ready().await;
    let folder =
        json!({ "hostPath": { "path": bed.folder().join("e"), "type": "DirectoryOrCreate" } });
    let template = json!({ "spec": {
        "accessModes": ["ReadWriteOnce"],
        "resources": { "requests": { "storage": "1Gi" } },
    }});
    let volume = json!({ "ephemeral": { "volumeClaimTemplate": template } });
    // Somebody has made a claim of this name.
    bed.bind("p-v", folder.clone(), json!({})).await;
    bed.create_with("p", volume.clone(), SLEEP).await;
    bed.until_event("PVC default/p-v was not created for pod default/p (pod is not owner)").await;
    bed.create_with("q", volume, SLEEP).await;
    bed.until_event("error processing PVC default/q-v: failed to fetch PVC from API server").await;
    let uid = bed.pod("q").await.metadata.uid;
    let owner = json!({ "metadata": { "ownerReferences": [
        { "apiVersion": "v1", "kind": "Pod", "name": "q", "uid": uid, "controller": true, "blockOwnerDeletion": true },
    ]}});
    bed.bind("q-v", folder, owner).await;
    bed.until_ready("q").await;
    for name in ["p", "q"] {
        bed.end_pod(name).await;
    }
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_fills_its_disk_beyond_a_limit_is_evicted() {
    let Some(bed) = Bed::new("storage").await else { return };
    let kubelet = bed.ready().await;
    let fill = "busybox dd if=/dev/zero of=/v/f bs=1024 count=3000 2>/dev/null; exec sleep 1000";
    bed.create_with("volume", json!({ "emptyDir": { "sizeLimit": "1Mi" } }), fill).await;
    let limits = json!({ "containers": [
        { "resources": { "limits": { "ephemeral-storage": "2Mi" } } },
    ]});
    bed.create_with_spec("total", json!({ "emptyDir": {} }), fill, limits.clone()).await;
    let write = "busybox dd if=/dev/zero of=/f bs=1024 count=3000 2>/dev/null; exec sleep 1000";
    let writer = json!({ "emptyDir": { "medium": "Memory", "sizeLimit": "4Mi" } });
    bed.create_with_spec("layer", writer, write, limits).await;
    for (name, message) in [
        ("volume", "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". "),
        ("total", "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "),
        ("layer", "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "),
    ] {
        let pod = bed.until(name, |it| it.phase.as_deref() == Some("Failed")).await;
        let status = pod.status.unwrap();
        assert_eq!(status.reason.as_deref(), Some("Evicted"));
        assert_eq!(status.message.as_deref(), Some(message));
        bed.end_pod(name).await;
    }
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_of_an_image_are_a_volume_that_cannot_be_changed() {
    let Some(bed) = Bed::new("image-volume").await else { return };
    let kubelet = bed.ready().await;
    let script = "[ -e /v/bin/busybox ] && echo there; echo x > /v/new || echo refused; \
                  exec sleep 1000";
    let volume = json!({ "image": { "reference": support::IMAGE, "pullPolicy": "IfNotPresent" } });
    bed.create_with("p", volume, script).await;
    bed.until_ready("p").await;
    // What is told as an error comes by another way, and may be the first or the last line.
    bed.eventually(async || {
        let log = bed.log("p", "main").await;
        log.lines().filter(|it| !it.contains("create")).eq(["there", "refused"]).then_some(())
    })
    .await;
    assert_eq!(bed.volume_snapshots(), 1);
    let absent = json!({ "image": { "reference": "nst.test/none:1", "pullPolicy": "Never" } });
    bed.create_with("absent", absent, SLEEP).await;
    bed.until_event("MountVolume.SetUp failed for volume \"v\" : ErrImageNeverPull: Container image \"nst.test/none:1\" is not present with pull policy of Never").await;
    for name in ["p", "absent"] {
        bed.end_pod(name).await;
    }
    bed.until_nothing_is_left().await;
    assert_eq!(bed.volume_snapshots(), 0);
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_see_volumes_as_their_mounts_say() {
    let Some(bed) = Bed::new("mounts").await else { return };
    let kubelet = bed.ready().await;
    bed.create_config_map("settings", &[("file.txt", "one")]).await;
    let script = "echo x > /settings/new || echo settings refused; \
                  echo part > /part/f && echo part made; \
                  busybox stat -c %a:%g /part /v /settings/..data/file.txt; \
                  busybox stat -L -c %a:%u:%g /token/token; \
                  busybox df /memory | busybox tail -1 | busybox awk '{print $2}'; exec sleep 1000";
    let mut container = bed.container("main", script);
    container["securityContext"] = json!({ "runAsUser": 1234 });
    container["env"] = json!([{ "name": "PART", "value": "a/b" }]);
    container["volumeMounts"] = json!([
        { "name": "v", "mountPath": "/v" },
        { "name": "v", "mountPath": "/part", "subPathExpr": "$(PART)" },
        { "name": "settings", "mountPath": "/settings" },
        { "name": "memory", "mountPath": "/memory" },
        { "name": "token", "mountPath": "/token" },
    ]);
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "securityContext": { "fsGroup": 77 },
        "containers": [container],
        "volumes": [
            { "name": "v", "emptyDir": {} },
            { "name": "settings", "configMap": { "name": "settings", "defaultMode": 0o400 } },
            { "name": "memory", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } },
            { "name": "token",
                "projected": { "sources": [{ "serviceAccountToken": { "path": "token" } }] } },
            // No container uses it, so nobody misses it.
            { "name": "unused", "secret": { "secretName": "none" } },
        ],
    });
    bed.create_pod(json!({ "metadata": { "name": "p" }, "spec": spec })).await;
    bed.until_ready("p").await;
    let log = bed
        .eventually(async || {
            let log = bed.log("p", "main").await;
            log.ends_with("1024\n").then_some(log)
        })
        .await;
    let lines: Vec<_> = log.lines().filter(|it| !it.contains("can't create")).collect();
    let files = ["2777:77", "2777:77", "440:77", "640:1234:77"];
    let wanted = [&["settings refused", "part made"][..], &files, &["1024"]].concat();
    assert_eq!(lines, wanted, "{log}");

    let refused: [(&str, Value, &str); 4] = [
        (
            "up",
            json!({ "subPath": "link" }),
            "failed to prepare subPath for volumeMount \"v\" of container \"main\"",
        ),
        ("variable", json!({ "subPathExpr": "$(NONE)" }), "missing value for \"NONE\""),
        (
            "rro",
            json!({ "readOnly": true, "recursiveReadOnly": "Enabled" }),
            "volume \"v\" requested recursive read-only mode, but it is not supported by the runtime",
        ),
        ("type", json!({}), "hostPath type check failed: /etc/hosts is not a directory"),
    ];
    let folder = bed.folder().join("h");
    std::fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink("/etc", folder.join("link")).unwrap();
    for (name, change, message) in refused {
        let mut mount = json!({ "name": "v", "mountPath": "/v" });
        for (key, value) in change.as_object().unwrap() {
            mount[key] = value.clone();
        }
        let volume = match name {
            "type" => json!({ "hostPath": { "path": "/etc/hosts", "type": "Directory" } }),
            _ => json!({ "hostPath": { "path": folder } }),
        };
        let changes = json!({ "containers": [{ "volumeMounts": [mount] }] });
        bed.create_with_spec(name, volume, SLEEP, changes).await;
        bed.until_event(message).await;
        if name != "type" {
            let waiting =
                |it: &_| support::waiting(it).as_deref() == Some("CreateContainerConfigError");
            bed.until(name, waiting).await;
        }
        bed.end_pod(name).await;
    }
    bed.end_pod("p").await;
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trust_bundles_reach_a_pod_and_so_do_their_changes() {
    let Some(bed) = Bed::own("bundles").await else { return };
    let kubelet = bed.ready().await;
    let bundles = Api::<ClusterTrustBundle>::all(bed.client());
    let put = async |name: &str, signer: &str, roots: &[&str]| {
        let bundle = json!({
            "metadata": { "name": name, "labels": { "live": "yes" } },
            "spec": { "signerName": signer, "trustBundle": roots.concat() },
        });
        let bundle = serde_json::from_value(bundle).unwrap();
        match bundles.create(&PostParams::default(), &bundle).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                bundles.replace(name, &PostParams::default(), &bundle).await.unwrap()
            }
            made => made.unwrap(),
        }
    };
    let roots = [(); 3].map(|()| pki::Ca::new("root").unwrap().certificate_pem().to_owned());
    let [one, two, three] = &roots;
    let named = json!({ "clusterTrustBundle": { "name": "n", "path": "named" } });
    let selected = json!({ "clusterTrustBundle": {
        "signerName": "example.com/s", "labelSelector": { "matchLabels": { "live": "yes" } },
        "path": "signer/selected",
    }});
    let may_miss =
        json!({ "clusterTrustBundle": { "name": "none", "optional": true, "path": "none" } });
    let volume = json!({ "projected": { "sources": [named, selected, may_miss] } });
    let script = "while :; do for f in named signer/selected none; do \
                  echo $f $(busybox grep -c BEGIN /v/$f); done; busybox sleep 1; done";
    put("example.com:s:a", "example.com/s", &[one, two]).await;
    bed.create_with("p", volume, script).await;
    bed.until_event("MountVolume.SetUp failed for volume \"v\" : while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io \"n\" not found").await;
    put("n", "", &[one]).await;
    bed.until_ready("p").await;
    let until_counts = async |wanted: [u8; 3]| {
        let [named, selected, none] = wanted;
        let wanted = format!("named {named}\nsigner/selected {selected}\nnone {none}\n");
        bed.eventually(async || bed.log("p", "main").await.ends_with(&wanted).then_some(())).await;
    };
    until_counts([1, 2, 0]).await;
    // What is told anew is told once, and far sooner than volumes are looked at by themselves.
    put("example.com:s:b", "example.com/s", &[two, three]).await;
    put("n", "", &[one, two, three]).await;
    until_counts([3, 3, 0]).await;
    bed.end_pod("p").await;
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}
