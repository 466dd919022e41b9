//! The orderly end: the kubelet, then the containers, then containerd.
//!
//! The kubelet goes first, so that it does not restart what is being stopped. Containers get
//! SIGTERM and time; their shims and containerd are spared until then, since they carry the news of
//! their ends. Whatever is left dies with PID 1.

use std::{fs, time::Duration};

use linux_process::{Identity, Signal};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::status::Status;

const SERVICE_GRACE: Duration = Duration::from_secs(5);

pub(crate) async fn run(status: &Status, grace: Duration) {
    let process = |name: &str| status.services.get(name).and_then(|it| it.process);
    let containerd = process("containerd");
    if let Some(kubelet) = process("kubelet") {
        end("kubelet", vec![kubelet], SERVICE_GRACE).await;
    }
    end("containers", others(containerd), grace).await;
    if let Some(containerd) = containerd {
        end("containerd", vec![containerd], SERVICE_GRACE).await;
    }
    nix::unistd::sync();
}

/// Asks `processes` to end and waits for at most `limit` until all have.
async fn end(what: &str, processes: Vec<Identity>, limit: Duration) {
    if processes.is_empty() {
        return;
    }
    info!(what, count = processes.len(), "stopping");
    let deadline = Instant::now() + limit;
    for process in &processes {
        if let Err(error) = process.signal(Signal::SIGTERM) {
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
