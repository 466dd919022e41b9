//! What init has done and what it keeps running, in a file that the machine's side can read.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use clock::Clock;
use linux_process::Identity;
use serde::{Deserialize, Serialize};
use tracing::warn;

/// How far the instance has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    #[default]
    Booting,
    Running,
    Stopping,
    Stopped,
}

/// The content of the status file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    pub phase: Phase,
    /// How often this root file system has been booted.
    pub boots: u64,
    /// It was told from within to switch the instance off, and is shutting down.
    pub powering_off: bool,
    /// It has switched the instance off, which does not boot again by itself.
    pub powered_off: bool,
    /// When the phase began, RFC 3339.
    pub since: String,
    /// Why the node is not configured yet.
    pub failure: Option<String>,
    pub services: BTreeMap<String, ServiceStatus>,
}

/// One service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceStatus {
    /// Its main process, in the instance's own numbers.
    pub process: Option<Identity>,
    pub starts: u64,
    pub last_end: Option<String>,
}

/// Keeps the file up to date. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    file: PathBuf,
    clock: Clock,
    status: Arc<Mutex<Status>>,
}

impl Recorder {
    /// Goes on from what an earlier boot has left.
    pub(crate) fn open(file: &Path, clock: Clock) -> Self {
        let text = fs::read(file).unwrap_or_default();
        // A damaged file costs the count of boots, and must not cost the boot.
        let earlier: Status = serde_json::from_slice(&text).unwrap_or_default();
        let status = Status { boots: earlier.boots + 1, ..Status::default() };
        Self { file: file.to_owned(), clock, status: Arc::new(Mutex::new(status)) }
    }

    pub(crate) fn snapshot(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn phase(&self, phase: Phase) {
        let now = self.clock.now().to_string();
        self.change(|status| {
            status.phase = phase;
            status.since = now;
        });
    }

    pub(crate) fn powering_off(&self) {
        self.change(|status| status.powering_off = true);
    }

    pub(crate) fn powered_off(&self) {
        self.change(|status| status.powered_off = true);
    }

    pub(crate) fn failure(&self, failure: Option<String>) {
        self.change(|status| status.failure = failure);
    }

    pub(crate) fn started(&self, service: &str, process: Identity) {
        self.change(|status| {
            let entry = status.services.entry(service.to_owned()).or_default();
            entry.process = Some(process);
            entry.starts += 1;
        });
    }

    pub(crate) fn ended(&self, service: &str, end: &str) {
        self.change(|status| {
            let entry = status.services.entry(service.to_owned()).or_default();
            entry.process = None;
            entry.last_end = Some(end.to_owned());
        });
    }

    fn change(&self, change: impl FnOnce(&mut Status)) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut status);
        if let Err(error) = save(&self.file, &status) {
            warn!(file = %self.file.display(), %error, "failed to write the status");
        }
    }
}

fn save(file: &Path, status: &Status) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let partial = file.with_extension("part");
    fs::write(&partial, serde_json::to_vec_pretty(status)?)?;
    fs::rename(&partial, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_boot_counts_on_and_forgets_the_services_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a/init.json");
        let first = Recorder::open(&file, Clock::system());
        first.phase(Phase::Running);
        first.started("kubelet", Identity { pid: 9, start_time: 1 });
        let read: Status = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(read.services["kubelet"].starts, 1);
        let second = Recorder::open(&file, Clock::system()).snapshot();
        assert_eq!((second.boots, second.services.len()), (2, 0));
    }
}
