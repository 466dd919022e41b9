//! The region that is measured.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;

const DATA_DIR: &str = "/var/lib/nodestead-bench";
/// The name that `up` gives.
pub(crate) const CLUSTER: &str = "stead";

/// Taken down when the value goes.
pub(crate) struct Region {
    binary: PathBuf,
}

/// One instance, as `nodestead status` shows it.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) node: String,
    pub(crate) pid: i64,
}

impl Region {
    /// The region, and how long it took to come up, each time from nothing.
    pub(crate) fn up(times: usize) -> anyhow::Result<(Self, Vec<Duration>)> {
        let binary = std::env::var_os("NODESTEAD").context("run this with `make bench`")?;
        let region = Self { binary: binary.into() };
        let mut samples = Vec::new();
        for _ in 0..times {
            region.nodestead(&["down", "--purge"])?;
            let started = Instant::now();
            // maxPods of this type is 110: a node full of pods fits.
            region.nodestead(&["up", "--nodes", "3", "--instance-type", "m5.4xlarge"])?;
            samples.push(started.elapsed());
        }
        Ok((region, samples))
    }

    pub(crate) fn nodestead(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.binary);
        output(command.args(arguments).env("NODESTEAD_DATA_DIR", DATA_DIR))
    }

    /// The AWS CLI's answer.
    pub(crate) fn aws(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let text = self.nodestead(&["env"])?;
        let exports = text.lines().filter_map(|it| it.strip_prefix("export ")?.split_once('='));
        let mut command = Command::new("aws");
        let text = output(command.args(arguments).args(["--output", "json"]).envs(exports))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Has the add-on with this configuration, whether it is there or not.
    pub(crate) fn addon(&self, name: &str, configuration: &str) -> anyhow::Result<()> {
        let there = self.aws(&["eks", "list-addons", "--cluster-name", CLUSTER])?;
        let is_there = there["addons"].as_array().into_iter().flatten().any(|it| it == name);
        let call = if is_there { "update-addon" } else { "create-addon" };
        let target = ["eks", call, "--cluster-name", CLUSTER, "--addon-name", name];
        self.aws(&[&target[..], &["--configuration-values", configuration]].concat())?;
        Ok(())
    }

    pub(crate) fn load_images(&self) -> anyhow::Result<()> {
        let folder = std::env::var_os("NODESTEAD_IMAGES").context("run this with `make bench`")?;
        for entry in std::fs::read_dir(Path::new(&folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == "tar") {
                let path = path.display().to_string();
                self.nodestead(&["image", "load", &path])?;
            }
        }
        Ok(())
    }

    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        let kubeconfig = Kubeconfig::read_from(Path::new(DATA_DIR).join("kubeconfig"))?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        Ok(Client::try_from(config)?)
    }

    pub(crate) fn status(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.nodestead(&["status", "-o", "json"])?)?)
    }

    /// The daemon's process.
    pub(crate) fn daemon(&self) -> anyhow::Result<u32> {
        let pid = self.status()?["pid"].as_u64().context("no daemon")?;
        Ok(u32::try_from(pid)?)
    }

    pub(crate) fn instances(&self) -> anyhow::Result<Vec<Instance>> {
        let status = self.status()?;
        let found = status["instances"].as_array().cloned().unwrap_or_default();
        let running = found.iter().filter(|it| it["state"] == "running");
        let instance = |it: &Value| {
            let node = it["nodeName"].as_str().context("an instance without a node")?.to_owned();
            anyhow::Ok(Instance { node, pid: it["pid"].as_i64().context("no process")? })
        };
        running.map(instance).collect()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Err(error) = self.nodestead(&["down", "--purge"]) {
            eprintln!("bench: the region was not removed: {error:#}");
        }
    }
}

/// Standard output of a command that must succeed.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
