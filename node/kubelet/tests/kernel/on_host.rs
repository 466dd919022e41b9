//! A kubelet as `nodestead run kubelet` runs it on a host, in namespaces of the test's own.

use std::{fs, process::Command};

use lifecycle::Scope;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::{self, Bed};

/// It prepares its host, and ends when its process is asked to.
pub(crate) struct OnHost(JoinHandle<Option<Result<(), String>>>);

impl OnHost {
    /// The first one on this host.
    pub(crate) async fn prepare(bed: &Bed, changes: &Value) -> Self {
        guard_kernel_settings();
        bed.install_cni();
        bed.serve_api().await;
        bed.sign_requests().await;
        Self::start(bed, changes).await
    }

    /// With these changes to its configuration file.
    pub(crate) async fn start(bed: &Bed, changes: &Value) -> Self {
        let kubeconfig = format!("--kubeconfig={}", bed.path("node.conf").display());
        let flags = [&*kubeconfig, "--fail-swap-on=false", "--oom-score-adj=0"];
        let words = bed.command_line(&flags);
        let file = bed.path("kubelet.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        config["failCgroupV1"] = json!(false);
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        fs::write(&file, config.to_string()).unwrap();
        let running = kubelet::command::run(support::args(words));
        let running = async move { running.await.map_err(|it| it.to_string()) };
        let this = Self(Scope::new().spawn("kubelet", running));
        bed.until_node("True", "").await;
        this
    }

    pub(crate) async fn end(self) {
        kill(Pid::this(), Signal::SIGTERM).unwrap();
        self.0.await.unwrap().unwrap().unwrap();
    }
}

/// The kernel's settings are the machine's: this kubelet may not set them.
fn guard_kernel_settings() {
    for arguments in [&["--bind", "/proc/sys"][..], &["-o", "remount,bind,ro"]] {
        let done = Command::new("mount").args(arguments).arg("/proc/sys").status().unwrap();
        assert!(done.success(), "{arguments:?}");
    }
}
