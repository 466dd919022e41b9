//! The orderly end: the pods, the kubelet, then the containers that are left, then containerd.
//!
//! The kubelet is told first that the power goes (SIGPWR), so that it ends the pods in their order and
//! says so to the API server; it ends when it has. Then it cannot restart what is being stopped:
//! containers get SIGTERM and time; their shims and containerd are spared until then, since they carry
//! the news of their ends. Whatever is left dies with PID 1.

use std::{fs, os::unix::fs::MetadataExt, time::Duration};

use linux_process::{Identity, Signal};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::status::Status;

const SERVICE_GRACE: Duration = Duration::from_secs(5);
/// A bound for the kubelet's own shutdown, which is shorter: EKS configures 150 seconds.
const PODS_GRACE: Duration = Duration::from_secs(160);

pub(crate) async fn run(status: &Status, grace: Duration) {
    let process = |name: &str| status.services.get(name).and_then(|it| it.process);
    let containerd = process("containerd");
    if let Some(kubelet) = process("kubelet") {
        if knows_power_signal(&kubelet) {
            ask("pods", vec![kubelet], Signal::SIGPWR, PODS_GRACE).await;
        }
        end("kubelet", vec![kubelet], SERVICE_GRACE).await;
    }
    end("containers", others(containerd), grace).await;
    if let Some(containerd) = containerd {
        end("containerd", vec![containerd], SERVICE_GRACE).await;
    }
    nix::unistd::sync();
}

/// Only our own program does something for the signal; upstream's kubelet ignores it, and would be
/// waited for in vain.
fn knows_power_signal(kubelet: &Identity) -> bool {
    let program =
        |pid: &str| fs::metadata(format!("/proc/{pid}/exe")).ok().map(|it| (it.dev(), it.ino()));
    program(&kubelet.pid.to_string()).is_some_and(|it| Some(it) == program("self"))
}

/// Asks `processes` to end and waits for at most `limit` until all have.
async fn end(what: &str, processes: Vec<Identity>, limit: Duration) {
    ask(what, processes, Signal::SIGTERM, limit).await;
}

async fn ask(what: &str, processes: Vec<Identity>, signal: Signal, limit: Duration) {
    if processes.is_empty() {
        return;
    }
    info!(what, count = processes.len(), "stopping");
    let deadline = Instant::now() + limit;
    for process in &processes {
        if let Err(error) = process.signal(signal) {
            warn!(what, pid = process.pid, %error, "failed to ask a process to end");
        }
    }
    let wait = move || {
        let left =
            |process: &&Identity| !process.wait(deadline.saturating_duration_since(Instant::now()));
        processes.iter().filter(left).count()
    };
    match tokio::task::spawn_blocking(wait).await {
        Ok(0) => {}
        Ok(left) => warn!(what, left, "did not end in time"),
        Err(error) => warn!(what, %error, "failed to wait"),
    }
}

/// Everything but init, containerd, the shims, and the sandboxes' own processes, which hold the
/// containers' namespaces and end with nothing less than SIGKILL.
fn others(containerd: Option<Identity>) -> Vec<Identity> {
    let all = linux_process::all().unwrap_or_default();
    let is_other = |pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        *pid != 1
            && containerd.is_none_or(|it| it.pid != *pid)
            && !name.starts_with("containerd-shim")
            && name.trim_end() != "pause"
    };
    all.into_iter().filter(is_other).filter_map(Identity::of).collect()
}
