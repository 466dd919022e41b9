//! Upstream's kubelet in the place of ours, where it is given: `NODESTEAD_SWAP_BIN` is a folder with
//! `kubelet`. It has our API server, and a containerd of the test's own.

use std::{
    env,
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::{clients::kubectl, support::Bed};

/// Ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The binary; `None` says that the test is not run.
fn binary() -> Option<PathBuf> {
    let folder = env::var_os("NODESTEAD_SWAP_BIN").filter(|it| !it.is_empty());
    let path = folder.map(|it| PathBuf::from(it).join("kubelet")).filter(|it| it.is_file());
    if path.is_none() {
        println!("not run: NODESTEAD_SWAP_BIN names no folder with kubelet");
    }
    path
}

/// What keeps a kubelet that is not ours off the machine's folders, firewall and cgroups.
fn apart(bed: &Bed) -> Value {
    let at = |file: &str| bed.path(file).display().to_string();
    json!({
        "failSwapOn": false, "failCgroupV1": false, "makeIPTablesUtilChains": false,
        "cgroupRoot": "", "cgroupsPerQOS": false, "enforceNodeAllocatable": [],
        "volumePluginDir": at("volume-plugins"), "localStorageCapacityIsolation": false,
        "evictionHard": { "memory.available": "0%", "nodefs.available": "0%",
            "nodefs.inodesFree": "0%", "imagefs.available": "0%" },
    })
}

fn start(bed: &Bed, kubelet: &PathBuf) -> Program {
    let at = |file: &str| bed.path(file).display().to_string();
    let words = bed.command_line(&[
        &format!("--kubeconfig={}", at("node.conf")),
        &format!("--cert-dir={}", at("pki")),
    ]);
    let file = bed.path("kubelet.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for (key, value) in apart(bed).as_object().unwrap() {
        config[key] = value.clone();
    }
    fs::write(&file, config.to_string()).unwrap();
    let log = File::create(bed.path("kubelet.log")).unwrap();
    let mut command = Command::new(kubelet);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    Program(command.spawn().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstreams_kubelet_runs_pods_on_our_api_server() {
    let Some(kubelet) = binary() else { return };
    let Some(bed) = Bed::own("upstream").await else { return };
    bed.install_cni();
    let admin = bed.serve_api().await;
    bed.sign_requests().await;
    let program = start(&bed, &kubelet);
    bed.until_node("True", "").await;
    bed.create_config_map("settings", &[("greeting", "hello")]).await;
    let mut main = bed.container("main", "echo $GREETING; exec sleep 1000");
    main["env"] = json!([{ "name": "GREETING", "valueFrom": {
        "configMapKeyRef": { "name": "settings", "key": "greeting" } } }]);
    main["readinessProbe"] = json!({ "exec": { "command": ["/bin/busybox", "true"] } });
    let spec = json!({ "terminationGracePeriodSeconds": 0, "containers": [main] });
    bed.create_pod(json!({ "metadata": { "name": "web" }, "spec": spec })).await;
    bed.until_ready("web").await;
    let (out, err, _) = bed
        .eventually(async || {
            let ran = kubectl(&admin, &["logs", "web"], "").await;
            (ran.2 == Some(0)).then_some(ran)
        })
        .await;
    assert_eq!(out, "hello\n", "{err}");
    let (out, err, code) = kubectl(&admin, &["exec", "-i", "web", "--", "cat"], "piped\n").await;
    assert_eq!((out.as_str(), code), ("piped\n", Some(0)), "{err}");
    bed.delete_pod("web", 0).await;
    bed.until_gone("web").await;
    drop(program);
}
