//! The log of every call, with its decision: in memory for `explain`, in a file for `logs aws`.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::FileExt,
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
    /// It ends within a line: the disk was full, or the process ended while it wrote.
    is_torn: bool,
}

impl LogFile {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = append_to(&path)?;
        let size = file.metadata()?.len();
        let mut last = [b'\n'];
        if size > 0 {
            file.read_exact_at(&mut last, size - 1)?;
        }
        Ok(Self { path, file, size, is_torn: last != [b'\n'] })
    }

    fn append(&mut self, event: &Event) -> io::Result<()> {
        if self.size > FILE_LIMIT {
            std::fs::rename(&self.path, self.path.with_extension("1"))?;
            *self = Self::open(self.path.clone())?;
        }
        // What was torn stays a line of its own, which readers skip: it takes no other with it.
        let mut line = if self.is_torn { vec![b'\n'] } else { Vec::new() };
        serde_json::to_writer(&mut line, event)?;
        line.push(b'\n');
        // Until it is known to be there whole.
        self.is_torn = true;
        self.file.write_all(&line)?;
        self.is_torn = false;
        self.size += line.len() as u64;
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str) -> Event {
        Event {
            at: Timestamp::UNIX_EPOCH,
            request_id: String::new(),
            service: "ec2".to_owned(),
            action: action.to_owned(),
            principal: String::new(),
            source: "host".to_owned(),
            decision: Outcome::Allowed,
            resources: Vec::new(),
            actions: Vec::new(),
            by: None,
            status: 200,
            code: None,
            message: None,
            passed_to: None,
            micros: 1,
        }
    }

    /// The actions in the lines that can be read.
    fn actions(path: &Path) -> Vec<String> {
        let log = std::fs::read(path).unwrap();
        let events = log.split(|it| *it == b'\n').filter_map(|it| serde_json::from_slice(it).ok());
        events.map(|it: Event| it.action).collect()
    }

    #[test]
    fn a_line_that_a_full_disk_cut_takes_no_other_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("aws.log");
        let mut log = LogFile::open(path.clone()).unwrap();
        log.append(&event("First")).unwrap();
        let file = std::mem::replace(&mut log.file, append_to(Path::new("/dev/full")).unwrap());
        assert!(log.append(&event("Lost")).is_err());
        log.file = file;
        // What of it still had room.
        log.file.write_all(b"{\"at\":\"\xc3").unwrap();
        log.append(&event("Second")).unwrap();
        log.append(&event("Third")).unwrap();
        assert_eq!(actions(&path), ["First", "Second", "Third"]);
        // A process that was killed while it wrote.
        log.file.write_all(b"{\"at\"").unwrap();
        LogFile::open(path.clone()).unwrap().append(&event("Fourth")).unwrap();
        assert_eq!(actions(&path), ["First", "Second", "Third", "Fourth"]);
    }
}
