//! The kernel's word that memory is short, so that nobody has to wait for the next look.
//!
//! On cgroup v1 a threshold on the node's group; on v2 pressure (PSI): of that group, of the pods' (the root
//! of a cgroup namespace can be given no trigger from inside where `nsdelegate` is set, as by systemd), or
//! of the machine.
//! Where the kernel offers neither, the node is looked at every ten seconds and that is all.
//!
//! Upstream: `pkg/kubelet/eviction/threshold_notifier_linux.go` (v1).
//!
//! **Invariant:** an event is a reason to look, and nothing else: a wrong one costs a look.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use linux_process::Watched;
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::mpsc;
use tracing::{debug, info};

use super::{signal::Signal, threshold::Threshold};
use crate::{cgroups::Hierarchy, context::Context};

/// How long a threshold is right: the file cache, which does not count, changes.
const REFRESH: Duration = Duration::from_secs(10);
/// The kernel speaks at most so often, and so are we woken at most.
const REST: Duration = Duration::from_secs(2);
/// A tenth of the time some task waits for memory.
const PRESSURE: &str = "some 200000 2000000";

/// Listens as long as the scope lives. `events` holds one: more than one reason to look is one reason.
pub(super) fn start(context: &Arc<Context>, thresholds: &[Threshold], events: mpsc::Sender<()>) {
    let memory = thresholds.iter().filter(|it| it.signal == Signal::Memory);
    let capacity = context.machine.memory;
    // The highest limit is the first that is reached.
    let Some(limit) = memory.map(|it| it.limit(capacity)).max() else { return };
    match context.cgroups.hierarchy() {
        Hierarchy::V1 { .. } => {
            let context = context.clone();
            let task = {
                let context = context.clone();
                async move { listen_v1(&context, limit, events).await }
            };
            drop(context.scope.spawn("memory-threshold", task));
        }
        Hierarchy::V2 { root } => {
            let places = [
                root.join("memory.pressure"),
                root.join(context.cgroups.root()).join("memory.pressure"),
                context.settings.proc.join("pressure/memory"),
            ];
            let task = async move {
                let Some((path, file)) = register_first(&places) else { return };
                info!(path = %path.display(), "the kernel tells when memory is short");
                if let Err(error) = listen_psi(file, &events).await {
                    debug!(path = %path.display(), %error, "no memory pressure events any more");
                }
            };
            drop(context.scope.spawn("memory-pressure", task));
        }
        Hierarchy::Unused => {}
    }
}

async fn listen_v1(context: &Context, limit: i64, events: mpsc::Sender<()>) {
    let mut is_first = true;
    loop {
        let threshold = threshold_v1(context, limit);
        let folder = context.cgroups.hierarchy().folder("memory", Path::new(""));
        let Some(folder) = folder else { return };
        let registered = match register_v1(&folder, threshold) {
            Ok(registered) => registered,
            Err(error) => {
                debug!(%error, "the kernel does not tell when memory is short");
                return;
            }
        };
        if std::mem::take(&mut is_first) {
            info!(threshold, "the kernel tells when memory is short");
        }
        match tokio::time::timeout(REFRESH, registered.ready()).await {
            Err(_) => {}
            Ok(Err(error)) => {
                debug!(%error, "the kernel's events cannot be read");
                return;
            }
            Ok(Ok(())) => {
                ask_for_a_look(&events);
                tokio::time::sleep(REST).await;
            }
        }
    }
}

fn ask_for_a_look(events: &mpsc::Sender<()>) {
    if events.try_send(()).is_err() {
        debug!("the node is about to be looked at already");
    }
}

/// The usage at which the working set leaves less than `limit` free.
fn threshold_v1(context: &Context, limit: i64) -> u64 {
    let stats = context.cgroups.group(Path::new("")).read();
    let inactive = stats.memory_usage.saturating_sub(stats.working_set);
    let most = u64::try_from(context.machine.memory.saturating_sub(limit)).unwrap_or(0);
    most.saturating_add(inactive)
}

/// A registration; it ends when it is dropped.
#[derive(Debug)]
struct Registered {
    event: Watched,
    _usage: File,
}

impl Registered {
    async fn ready(&self) -> io::Result<()> {
        self.event.happened().await
    }
}

fn register_v1(folder: &Path, threshold: u64) -> io::Result<Registered> {
    let usage = File::open(folder.join("memory.usage_in_bytes"))?;
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let line = format!("{} {} {threshold}", event.as_raw_fd(), usage.as_raw_fd());
    let mut control = OpenOptions::new().write(true).open(folder.join("cgroup.event_control"))?;
    control.write_all(line.as_bytes())?;
    Ok(Registered { event: Watched::readable(event)?, _usage: usage })
}

/// Of the first place that the kernel lets it be written to.
fn register_first(places: &[PathBuf]) -> Option<(&Path, Watched)> {
    places.iter().find_map(|path| match register_psi(path) {
        Ok(file) => Some((path.as_path(), file)),
        Err(error) => {
            debug!(path = %path.display(), %error, "no memory pressure events from there");
            None
        }
    })
}

fn register_psi(path: &Path) -> io::Result<Watched> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    file.write_all(format!("{PRESSURE}\0").as_bytes())?;
    Watched::urgent(file.into())
}

async fn listen_psi(file: Watched, events: &mpsc::Sender<()>) -> io::Result<()> {
    loop {
        file.happened().await?;
        ask_for_a_look(events);
        tokio::time::sleep(REST).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs root and a kernel with PSI.
    #[tokio::test]
    async fn pressure_is_told_by_the_first_place_that_can_be_asked() {
        let machine = PathBuf::from("/proc/pressure/memory");
        if register_psi(&machine).is_err() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (missing, refusing) =
            (folder.path().join("missing"), folder.path().join("no-pressure"));
        std::fs::write(&refusing, "").unwrap();
        let places = [missing, refusing, machine.clone()];
        assert_eq!(register_first(&places).unwrap().0, machine);
        assert!(register_first(&places[..2]).is_none());
    }

    /// Needs root and cgroup v1; says so and does nothing where they are missing.
    #[tokio::test]
    async fn the_kernel_tells_when_a_group_uses_more_than_its_threshold() {
        let hierarchy = Hierarchy::detect().unwrap();
        let name = format!("nst-t-notify-{}", std::process::id());
        let Some(folder) = hierarchy.folder("memory", Path::new(&name)) else { return };
        if !matches!(hierarchy, Hierarchy::V1 { .. }) || std::fs::create_dir(&folder).is_err() {
            return;
        }
        let registered = register_v1(&folder, 8 << 20).unwrap();
        let mut child = std::process::Command::new("sh")
            .arg("-c")
            .arg(format!(
                "echo $$ > {}/cgroup.procs; exec dd if=/dev/zero of=/dev/null bs=32M count=1",
                folder.display()
            ))
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let told = tokio::time::timeout(Duration::from_secs(10), registered.ready()).await;
        child.wait().unwrap();
        drop(registered);
        std::fs::remove_dir(&folder).unwrap();
        assert!(told.is_ok(), "no event came");
    }
}
