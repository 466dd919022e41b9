//! What is mounted by others: a server's share, and what a container mounts for the host and for others.
//!
//! No machine of ours has an NFS server or `mount.nfs`. The test has a helper of this name in a mount
//! namespace of its own: it notes what it is asked and binds a folder, or refuses as a server does.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use serde_json::{Value, json};

use crate::{storage::claim, support::Bed};

/// Set where the namespace is the test's own.
const INSIDE: &str = "NST_T_INSIDE";

/// Runs this very test in namespaces whose `/sbin` has `helper`. Says whether this is that run.
pub(crate) fn is_inside(test: &str, helper: &str, script: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if !nix::unistd::geteuid().is_root() {
        println!("{test}: not run: needs root");
        return false;
    }
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    for name in ["upper", "work"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    let path = folder.path().join("upper").join(helper);
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let inner = "sbin=$(readlink -f /sbin) && ip link set lo up && mount -t overlay overlay \
                 -o lowerdir=$sbin,upperdir=$1/upper,workdir=$1/work $sbin && \
                 exec \"$2\" --exact \"$3\" --nocapture";
    let ran = Command::new("unshare")
        .args(["--mount", "--net", "sh", "-c", inner, "sh"])
        .args([folder.path(), &std::env::current_exe().unwrap(), Path::new(test)])
        .env(INSIDE, "yes")
        .output()
        .unwrap();
    let said = [ran.stdout, ran.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    if let Some(line) = said.lines().find(|it| it.contains("not run:")) {
        println!("{line}");
    }
    false
}

/// `mount.nfs SOURCE TARGET -o OPTIONS`, as mount(8) calls it. The exported folder is named by the path.
const HELPER: &str = r#"#!/bin/sh
case $1 in
192.0.2.1:/refused) echo "mount.nfs: access denied by server while mounting $1" >&2; exit 32;;
esac
export=${1#*:}
echo "$1 $3 $4" >> $export/../asked
mount --bind $export "$2" || exit 32
case ,$4, in *,ro,*) mount -o remount,bind,ro "$2";; esac
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_servers_share_is_mounted_by_the_hosts_helper_shared_and_let_go() {
    let test = "shares::a_servers_share_is_mounted_by_the_hosts_helper_shared_and_let_go";
    if !is_inside(test, "mount.nfs", HELPER) {
        return;
    }
    let Some(bed) = Bed::own("nfs").await else { return };
    let kubelet = bed.ready().await;
    let export = bed.folder().join("export");
    fs::create_dir(&export).unwrap();
    let share = |path: &str| {
        json!({
            "nfs": { "server": "192.0.2.1", "path": path },
            "mountOptions": ["nfsvers=4.1", "hard"],
        })
    };
    let path = export.display().to_string();
    bed.bind("share", share(&path), json!({})).await;
    bed.bind("refused", share("/refused"), json!({})).await;
    let write = "echo $HOSTNAME >> /v/names; exec sleep 1000";
    for name in ["one", "two"] {
        bed.create_with(name, claim("share"), write).await;
        bed.until_ready(name).await;
    }
    let inline = json!({ "nfs": { "server": "192.0.2.1", "path": path, "readOnly": true } });
    let read = "busybox cat /v/names; echo x > /v/names || echo refused; exec sleep 1000";
    bed.create_with("reader", inline, read).await;
    bed.eventually(async || {
        let log = bed.log("reader", "main").await;
        log.lines().filter(|it| !it.contains("create")).eq(["one", "two", "refused"]).then_some(())
    })
    .await;
    let asked = fs::read_to_string(bed.folder().join("asked")).unwrap();
    let options: Vec<_> = asked.lines().map(|it| it.rsplit(' ').next().unwrap()).collect();
    assert_eq!(options.len(), 3, "once for each pod: {asked}");
    assert!(options[..2].iter().all(|it| it.contains("nfsvers=4.1,hard")), "{asked}");
    assert!(options[2].starts_with("ro"), "{asked}");

    bed.create_with("denied", claim("refused"), "exec sleep 1000").await;
    bed.until_event("denied FailedMount: MountVolume.SetUp failed for volume \"pv-refused\" : mount failed: exit status 32\nMounting command: mount\nMounting arguments: -t nfs -o nfsvers=4.1,hard 192.0.2.1:/refused ").await;
    bed.until_event(
        "\nOutput: mount.nfs: access denied by server while mounting 192.0.2.1:/refused\n",
    )
    .await;
    for name in ["one", "two", "reader", "denied"] {
        bed.end_pod(name).await;
    }
    bed.until_nothing_is_left().await;
    assert_eq!(fs::read_to_string(export.join("names")).unwrap(), "one\ntwo\n", "the data stays");
    kubelet.kill().await;
}

fn with_propagation(bed: &Bed, name: &str, how: &str, folder: &Path, script: &str) -> Value {
    let mut container = bed.container("main", script);
    container["volumeMounts"] =
        json!([{ "name": "v", "mountPath": "/v", "mountPropagation": how }]);
    container["securityContext"] = json!({ "privileged": how == "Bidirectional" });
    json!({
        "metadata": { "name": name },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            "volumes": [{ "name": "v", "hostPath": { "path": folder } }],
        },
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_container_mounts_reaches_the_host_and_those_who_ask_for_it() {
    let Some(bed) = Bed::new("propagation").await else { return };
    let kubelet = bed.ready().await;
    let folder = bed.folder().join("shared");
    let inner = folder.join("inner");
    fs::create_dir_all(&inner).unwrap();
    let mount = |arguments: &[&str]| {
        assert!(Command::new("mount").args(arguments).arg(&folder).status().unwrap().success());
    };
    // Of a mount that is private the runtime can share nothing.
    let shown = folder.display().to_string();
    mount(&["--bind", &shown]);
    mount(&["--make-private"]);
    let sleep = "exec sleep 1000";
    bed.create_pod(with_propagation(&bed, "private", "Bidirectional", &folder, sleep)).await;
    bed.until_event("but it is not a shared mount").await;
    bed.end_pod("private").await;
    mount(&["--make-shared"]);

    let look = "while :; do echo $(busybox cat /v/inner/file 2>/dev/null || echo nothing); \
                busybox sleep 0.2; done";
    for (name, how) in [("sees", "HostToContainer"), ("not", "None")] {
        bed.create_pod(with_propagation(&bed, name, how, &folder, look)).await;
        bed.until_ready(name).await;
    }
    let says = async |name: &str, wanted: &str| {
        let wanted = format!("{wanted}\n");
        bed.eventually(async || bed.log(name, "main").await.ends_with(&wanted).then_some(())).await;
    };
    says("sees", "nothing").await;
    // Who reads the file at that moment holds the mount, in every copy of it.
    let script = "busybox mount -t tmpfs tmpfs /v/inner && echo made > /v/inner/file; \
                  while [ ! -e /v/inner/end ]; do busybox sleep 0.1; done; \
                  until busybox umount /v/inner; do busybox sleep 0.05; done; exec sleep 1000";
    bed.create_pod(with_propagation(&bed, "makes", "Bidirectional", &folder, script)).await;
    bed.until_ready("makes").await;
    says("sees", "made").await;
    assert_eq!(fs::read_to_string(inner.join("file")).unwrap(), "made\n", "the host has it");
    let log = bed.log("not", "main").await;
    assert!(!log.contains("made") && log.contains("nothing"), "{log}");
    fs::write(inner.join("end"), "").unwrap();
    says("sees", "nothing").await;
    assert!(!inner.join("end").exists(), "it is gone from the host too");
    for name in ["makes", "sees", "not"] {
        bed.end_pod(name).await;
    }
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}
