//! The log of every call, with its decision: in memory for `explain`, in a file for `logs aws`.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// How many calls are remembered.
const REMEMBERED: usize = 4096;

/// The file is moved aside at this size; one older one is kept.
const FILE_LIMIT: u64 = 32 << 20;

/// One call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    pub at: Timestamp,
    pub request_id: String,
    pub service: String,
    pub action: String,
    /// Empty when the caller could not be authenticated.
    pub principal: String,
    /// `host`, `internal`, or `vpc-… 192.168.0.12`.
    pub source: String,
    pub decision: Outcome,
    /// What was decided on, where it was more than the action.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// The action that was decided on for each of them, where one is not the call's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    /// The policy and statement that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    pub status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The other emulator that answered, where the region does not serve the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_to: Option<String>,
    pub micros: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    Allowed,
    Denied,
    /// Refused before a decision: no or bad signature, unknown action, malformed request.
    Refused,
}

/// See the module.
pub struct Events {
    recent: Mutex<VecDeque<Event>>,
    file: Option<Mutex<LogFile>>,
    feed: broadcast::Sender<Event>,
}

impl Events {
    /// In memory only.
    pub fn in_memory() -> Self {
        Self { recent: Mutex::default(), file: None, feed: broadcast::Sender::new(256) }
    }

    /// Appends to the file at `path` as well, one JSON document a line.
    pub fn to_file(path: impl Into<PathBuf>) -> io::Result<Self> {
        let file = Some(Mutex::new(LogFile::open(path.into())?));
        Ok(Self { file, ..Self::in_memory() })
    }

    /// The last calls, oldest first.
    pub fn recent(&self, limit: usize) -> Vec<Event> {
        let recent = self.recent.lock();
        let skipped = recent.len().saturating_sub(limit);
        recent.iter().skip(skipped).cloned().collect()
    }

    /// Every call from now on. A slow reader misses some and is told how many.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.feed.subscribe()
    }

    /// Writes a call down: the gateway its own, and services those that come another way.
    pub fn record(&self, event: Event) {
        if let Some(file) = &self.file
            && let Err(error) = file.lock().append(&event)
        {
            tracing::warn!(%error, "failed to write the log of AWS calls");
        }
        if self.feed.receiver_count() > 0 {
            // Readers may leave at any moment.
            drop(self.feed.send(event.clone()));
        }
        let mut recent = self.recent.lock();
        if recent.len() == REMEMBERED {
            recent.pop_front();
        }
        recent.push_back(event);
    }
}

struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
}

impl LogFile {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = append_to(&path)?;
        let size = file.metadata()?.len();
        Ok(Self { path, file, size })
    }

    fn append(&mut self, event: &Event) -> io::Result<()> {
        if self.size > FILE_LIMIT {
            std::fs::rename(&self.path, self.path.with_extension("1"))?;
            *self = Self::open(self.path.clone())?;
        }
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.size += line.len() as u64;
        self.file.write_all(&line)
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}
