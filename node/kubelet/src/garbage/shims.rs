//! Shims that serve nothing, and never will.
//!
//! `containerd-shim … start` forks the shim of a sandbox before the sandbox has a process. A containerd that
//! is killed in between finds a sandbox without a process when it begins again; that is removed as any dead
//! one, and nobody ends its shim. Or the shim comes up when the new containerd has already cleared its
//! bundle away. Or it has been told of a process, which waits to be begun (`runc init`), and of which the new
//! containerd knows nothing. Each costs the node some megabytes until the node goes.
//!
//! A stopped task that somebody made in CRI's namespace by hand (`ctr -n k8s.io`) looks the same, and its
//! shim is ended too; its exit code is lost then.
//!
//! **Invariant:** what is ended is a shim of this runtime (its socket, CRI's namespace, the same PID and
//! mount namespaces) that has had no process that has begun, and a sandbox that CRI does not know, at each look
//! for ten minutes.
//! A sandbox that lives has a process, which is its shim's child; one that is being made has one long
//! before, or its call has been given up; and IDs are never used twice.
//!
//! Deviation: upstream leaves them.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::PathBuf,
    time::Duration,
};

use linux_process::{Identity, Signal};
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Garbage;

/// Five times what a kubelet waits for a sandbox.
const PATIENCE: Duration = Duration::from_secs(600);
/// CRI's, in containerd.
const NAMESPACE: &str = "k8s.io";

/// Since when shims have served nothing.
#[derive(Default)]
pub(super) struct Shims(Mutex<HashMap<Identity, Instant>>);

impl Shims {
    /// Takes those that serve nothing now, and returns those that have done so for long.
    fn due(&self, idle: &[Identity], now: Instant) -> Vec<Identity> {
        let mut since = self.0.lock();
        since.retain(|it, _| idle.contains(it));
        let due = idle.iter().filter(|it| now >= *since.entry(**it).or_insert(now) + PATIENCE);
        due.copied().collect()
    }
}

impl Garbage {
    pub(crate) async fn end_idle_shims(&self) {
        let endpoint = &self.context.settings.config.container_runtime_endpoint;
        let Some(server) = api_cri::server_pid(endpoint).await else { return };
        let address = endpoint.strip_prefix("unix://").unwrap_or(endpoint).to_owned();
        let runtime = &self.context.runtime;
        let known = tokio::try_join!(runtime.list_sandboxes(None), runtime.list_containers(None));
        let Ok((sandboxes, containers)) = known else { return };
        let of_containers = containers.into_iter().flat_map(|it| [it.id, it.pod_sandbox_id]);
        let known: HashSet<_> =
            sandboxes.into_iter().map(|it| it.id).chain(of_containers).collect();
        let found = tokio::task::spawn_blocking(move || idle(server, &address, &known)).await;
        let idle = found.unwrap_or_default();
        for shim in self.shims.due(&idle, Instant::now()) {
            info!(pid = shim.pid, "a shim that serves nothing is ended");
            let waiting = children(shim.pid).into_iter().flatten().filter(|it| !has_begun(*it));
            waiting.filter_map(Identity::of).for_each(|it| drop(it.signal(Signal::SIGKILL)));
            // It takes its socket away, and containerd, if it knows the shim, its bundle.
            if let Err(error) = shim.signal(Signal::SIGTERM) {
                warn!(pid = shim.pid, %error, "a shim that serves nothing stays");
            }
        }
    }
}

/// The shims of the runtime behind `address` that have no process and no sandbox among the known ones.
fn idle(server: i32, address: &str, known: &HashSet<String>) -> Vec<Identity> {
    let Some(home) = namespaces(server) else { return Vec::new() };
    let pids = linux_process::all().unwrap_or_default();
    let shims = pids.into_iter().filter(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.starts_with("containerd-shim")
    });
    let idle = shims.filter_map(|pid| {
        // First who it is: what is looked at below is its own, or that of nobody.
        let identity = Identity::of(pid)?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let id = sandbox(&line, address)?;
        let is_wanted = known.contains(&id) || serves(pid) || namespaces(pid)? != home;
        (!is_wanted).then_some(identity)
    });
    idle.collect()
}

/// What the shim of a sandbox is called with: `-namespace k8s.io -id ID -address ADDRESS`, and no command,
/// which its helpers have.
fn sandbox(line: &[u8], address: &str) -> Option<String> {
    let line = String::from_utf8_lossy(line);
    let mut arguments = line.trim_end_matches('\0').split('\0').skip(1);
    let (mut id, mut is_own, mut is_ours) = (None, false, false);
    while let Some(name) = arguments.next() {
        match name {
            "-namespace" => is_own = arguments.next()? == NAMESPACE,
            "-address" => is_ours = arguments.next()? == address,
            "-id" => id = arguments.next(),
            "-debug" => {}
            _ => return None,
        }
    }
    id.filter(|it| is_own && is_ours && !it.is_empty()).map(str::to_owned)
}

/// Whether it has a child that has begun; where this cannot be told, it has.
fn serves(pid: i32) -> bool {
    children(pid).is_none_or(|all| all.into_iter().any(has_begun))
}

fn children(pid: i32) -> Option<Vec<i32>> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let text = fs::read_to_string(thread.path().join("children")).ok()?;
        found.extend(text.split_whitespace().filter_map(|it| it.parse::<i32>().ok()));
    }
    Some(found)
}

/// runc's own process waits in the place of the container's until that is started.
fn has_begun(pid: i32) -> bool {
    !fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|it| it == b"runc\0init\0")
}

fn namespaces(pid: i32) -> Option<[PathBuf; 2]> {
    let of = |kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    Some([of("pid")?, of("mnt")?])
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        process::{Command, Stdio},
    };

    use super::*;

    const ADDRESS: &str = "/run/c.sock";

    #[test]
    fn only_shims_of_sandboxes_of_this_runtime_are_looked_at() {
        let of = |line: &str| sandbox(line.replace(' ', "\0").as_bytes(), ADDRESS);
        let own = "/usr/bin/containerd-shim-runc-v2 -namespace k8s.io -id s1 -address /run/c.sock";
        assert_eq!(of(own).as_deref(), Some("s1"));
        assert_eq!(of(&format!("{own} -debug ")).as_deref(), Some("s1"));
        assert_eq!(of(&format!("{own} start")), None, "a helper");
        assert_eq!(of(&own.replace("k8s.io", "moby")), None);
        assert_eq!(of(&own.replace("/run/c.sock", "/run/other.sock")), None);
        assert_eq!(of("containerd-shim -namespace k8s.io -address /run/c.sock"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shim_is_ended_only_after_it_has_served_nothing_for_all_of_ten_minutes() {
        let (shims, one) = (Shims::default(), Identity { pid: 7, start_time: 1 });
        let begun = Instant::now();
        let due =
            |idle: &[Identity], seconds| shims.due(idle, begun + Duration::from_secs(seconds));
        assert!(due(&[one], 0).is_empty() && due(&[one], 599).is_empty());
        assert!(due(&[], 650).is_empty(), "it has got something to do");
        assert!(due(&[one], 660).is_empty() && due(&[one], 1259).is_empty());
        let reused = Identity { start_time: 2, ..one };
        assert!(due(&[reused], 1300).is_empty(), "another process of the same number");
        assert_eq!(due(&[reused], 1900), [reused]);
    }

    #[test]
    fn a_process_with_a_child_serves_something() {
        let mut parent = Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let pid = i32::try_from(parent.id()).unwrap();
        wait(|| serves(pid));
        let child = first_child(pid);
        assert!(!serves(child) && serves(i32::MAX), "where it cannot be told");
        Identity::of(child).unwrap().signal(Signal::SIGKILL).unwrap();
        // It ends with its child.
        parent.wait().unwrap();
    }

    #[test]
    fn a_process_whose_child_waits_to_be_begun_serves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("init");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let script = "(exec -a runc cat init) & wait";
        let mut bash = Command::new("bash");
        let mut parent = bash.args(["-c", script]).current_dir(folder.path()).spawn().unwrap();
        let pid = i32::try_from(parent.id()).unwrap();
        let is_waiting = || children(pid).unwrap().first().is_some_and(|it| !has_begun(*it));
        wait(is_waiting);
        assert!(!serves(pid));
        Identity::of(first_child(pid)).unwrap().signal(Signal::SIGKILL).unwrap();
        parent.wait().unwrap();
    }

    fn wait(is_it: impl Fn() -> bool) {
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !is_it() {
            assert!(std::time::Instant::now() < deadline, "it does not come about");
            std::thread::yield_now();
        }
    }

    /// As containerd starts one, and is killed before it asks it for anything.
    #[test]
    fn a_real_shim_that_was_left_behind_is_found_and_ends_when_it_is_asked_to() {
        let program = Path::new("/usr/bin/containerd-shim-runc-v2");
        if !nix::unistd::geteuid().is_root() || !program.exists() {
            println!("not run: it needs root and a shim");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path();
        fs::write(bundle.join("config.json"), r#"{ "ociVersion": "1.0.2", "annotations": {} }"#)
            .unwrap();
        let log = bundle.join("log");
        nix::unistd::mkfifo(&log, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _reader = fs::File::options().read(true).write(true).open(&log).unwrap();
        let address = bundle.join("c.sock").display().to_string();
        let id = bundle.file_name().unwrap().to_str().unwrap().to_owned();
        let started = Command::new(program)
            .args(["-namespace", NAMESPACE, "-id", &id, "-address", &address, "start"])
            .env("TTRPC_ADDRESS", format!("{address}.ttrpc"))
            .current_dir(bundle)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(started.status.success(), "{started:?}");
        let own = i32::try_from(std::process::id()).unwrap();
        let idle = |known: &[&String]| {
            idle(own, &address, &known.iter().map(|it| (*it).clone()).collect())
        };
        wait(|| idle(&[]).len() == 1);
        let found = idle(&[]);
        assert!(idle(&[&id]).is_empty(), "its sandbox is known");
        assert!(super::idle(own, "/run/other.sock", &HashSet::new()).is_empty());
        // One that has only just begun may not hear it; the kubelet asks again, too.
        wait(|| {
            drop(found[0].signal(Signal::SIGTERM));
            !found[0].is_alive()
        });
        assert!(idle(&[]).is_empty());
    }

    fn first_child(pid: i32) -> i32 {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        text.split_whitespace().next().unwrap().parse().unwrap()
    }
}
