//! The region under test, and the clients that drive it.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// A region that is taken down when the value goes.
pub(crate) struct Region {
    pub(crate) data_dir: PathBuf,
    exports: Vec<(String, String)>,
    is_down: bool,
}

/// Where the shared region's state is.
pub(crate) const SHARED: &str = "/var/lib/nodestead-e2e";

/// Why the tier cannot run here.
pub(crate) fn cannot_run() -> Option<String> {
    let is_root = run(Command::new("id").arg("-u")).is_ok_and(|it| it.trim() == "0");
    if !is_root {
        return Some("it needs root".to_owned());
    }
    if !nodestead_binary().is_file() {
        return Some(format!("`{}` is not built", nodestead_binary().display()));
    }
    if outcome(Command::new("kubectl").args(["version", "--client"])).is_err() {
        return Some("`kubectl` is not there".to_owned());
    }
    None
}

fn nodestead_binary() -> PathBuf {
    std::env::var_os("NODESTEAD").map(PathBuf::from).unwrap_or_default()
}

pub(crate) fn images() -> PathBuf {
    std::env::var_os("NODESTEAD_IMAGES").map(PathBuf::from).unwrap_or_default()
}

pub(crate) fn nodestead(data_dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(nodestead_binary());
    command.args(arguments).env("NODESTEAD_DATA_DIR", data_dir);
    command
}

impl Region {
    /// The shared region: three nodes, images loaded, nothing deployed.
    pub(crate) fn up() -> anyhow::Result<Self> {
        let region = Self::up_with(Path::new(SHARED), &["--nodes", "3"])?;
        region.load_images()?;
        Ok(region)
    }

    pub(crate) fn up_with(data_dir: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        // What an aborted run left would answer in place of the new region.
        run(&mut nodestead(data_dir, &["down", "--purge"]))?;
        let started = Instant::now();
        run(nodestead(data_dir, &["up"]).args(flags))?;
        println!("up in {:.1} s", started.elapsed().as_secs_f32());
        let mut region =
            Self { data_dir: data_dir.to_owned(), exports: Vec::new(), is_down: false };
        region.read_exports()?;
        Ok(region)
    }

    fn read_exports(&mut self) -> anyhow::Result<()> {
        let text = run(&mut nodestead(&self.data_dir, &["env"]))?;
        let exports = text.lines().filter_map(|it| it.strip_prefix("export ")?.split_once('='));
        self.exports = exports.map(|(name, value)| (name.into(), value.into())).collect();
        Ok(())
    }

    pub(crate) fn load_images(&self) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(images()).context("no images: run `make images`")? {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == "tar") {
                run(nodestead(&self.data_dir, &["image", "load"]).arg(path))?;
            }
        }
        Ok(())
    }

    /// A client with this region's environment.
    pub(crate) fn client(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).envs(self.exports.iter().map(|(name, value)| (name, value)));
        command.env("AWS_PAGER", "").env("AWS_MAX_ATTEMPTS", "1").env_remove("AWS_PROFILE");
        command
    }

    pub(crate) fn export(&self, name: &str) -> &str {
        let found = self.exports.iter().find(|(it, _)| it == name);
        found.map_or("", |(_, value)| value)
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run(&mut self.client("kubectl", arguments))
    }

    pub(crate) fn kubectl_json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let text = run(self.client("kubectl", arguments).args(["-o", "json"]))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// `kubectl apply -f -`.
    pub(crate) fn apply(&self, manifest: &str) -> anyhow::Result<String> {
        run_with_input(&mut self.client("kubectl", &["apply", "-f", "-"]), manifest)
    }

    pub(crate) fn aws(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let text = run(self.client("aws", arguments).args(["--output", "json"]))?;
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_str(&text)?)
    }

    /// A subnet of the region's own cluster; tests make VPCs of their own beside it.
    pub(crate) fn subnet(&self) -> anyhow::Result<String> {
        let query = "cluster.resourcesVpcConfig.subnetIds[0]";
        let found = self.aws(&["eks", "describe-cluster", "--name", "stead", "--query", query])?;
        Ok(found.as_str().context("a subnet")?.to_owned())
    }

    pub(crate) fn status(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&run(&mut nodestead(&self.data_dir, &["status", "-o", "json"]))?)?)
    }

    pub(crate) fn running_instances(&self) -> anyhow::Result<Vec<String>> {
        let status = self.status()?;
        let instances = status["instances"].as_array().context("a list of instances")?;
        let running = instances.iter().filter(|it| it["state"] == "running");
        Ok(running.filter_map(|it| it["id"].as_str().map(str::to_owned)).collect())
    }

    /// Prints what helps to understand a failure.
    pub(crate) fn explain(&self) {
        for arguments in [
            ["get", "nodes,pods", "-A", "-o", "wide"].as_slice(),
            ["get", "events", "-A", "--sort-by=.lastTimestamp"].as_slice(),
        ] {
            let text = self.kubectl(arguments).unwrap_or_else(|error| format!("{error:#}"));
            let lines: Vec<_> = text.lines().collect();
            println!("{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}

impl Region {
    /// Takes the region down; unlike a drop it says how that went.
    pub(crate) fn down(mut self) -> anyhow::Result<()> {
        self.is_down = true;
        run(&mut nodestead(&self.data_dir, &["down", "--purge"])).map(drop)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.is_down {
            return;
        }
        if let Err(error) = run(&mut nodestead(&self.data_dir, &["down", "--purge"])) {
            eprintln!("e2e: the region was not removed: {error:?}");
        }
    }
}

/// Standard output of a command that must succeed.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output().context(format!("{command:?}"))?;
    checked(command, &output)
}

/// Standard output and standard error, whatever the exit code.
pub(crate) fn outcome(command: &mut Command) -> anyhow::Result<(bool, String)> {
    let output = command.stdin(Stdio::null()).output().context(format!("{command:?}"))?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

pub(crate) fn run_with_input(command: &mut Command, input: &str) -> anyhow::Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context(format!("{command:?}"))?;
    child.stdin.take().context("no stdin")?.write_all(input.as_bytes())?;
    checked(command, &child.wait_with_output()?)
}

fn checked(command: &Command, output: &Output) -> anyhow::Result<String> {
    ensure!(
        output.status.success(),
        "{command:?} failed with {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Asks until `check` gives something, or fails with what it said last.
pub(crate) fn eventually<T>(
    what: &str,
    limit: Duration,
    mut check: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let started = Instant::now();
    loop {
        let last = check();
        if let Ok(Some(value)) = last {
            return Ok(value);
        }
        if started.elapsed() > limit {
            let last =
                last.err().map_or_else(|| "it was not so".to_owned(), |it| format!("{it:#}"));
            bail!("not within {limit:?}: {what}; last: {last}");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

pub(crate) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The strings at `pointer` of each item of a list.
pub(crate) fn strings(list: &Value, pointer: &str) -> Vec<String> {
    let items = list["items"].as_array().or_else(|| list.as_array()).cloned().unwrap_or_default();
    let found = items.iter().filter_map(|it| it.pointer(pointer)?.as_str().map(str::to_owned));
    found.collect()
}
