//! A revisioned store with watch, in etcd's model: embedded, or over etcd itself.
//!
//! Every commit gets the next revision. The whole current state, and the events since the last
//! compaction, are held in memory, so reads and watches never touch the disk. Writes go through
//! one writer, which makes a whole batch of commits durable with one `fsync`.
//!
//! **Invariant:** a commit is visible to readers and watchers, and acknowledged, only after it is
//! durable; what was acknowledged is there after `kill -9`.
//!
//! Deviation: compaction is by the size of the history and not by time, and revisions older than
//! the history are gone for reads as well as for watches, as after an etcd compaction.
//!
//! Upstream: the data model of etcd v3 (`mvcc`).

mod backend;
mod etcd;
mod state;
mod watch;
mod writer;

use std::{
    any::Any,
    path::Path,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use parking_lot::RwLock;

pub use self::{
    backend::OpenError,
    etcd::{EtcdConfig, EtcdError, erase},
    state::{Compacted, Range},
    watch::Watcher,
    writer::CommitError,
};
pub use api_etcd::Tls;

use self::{etcd::Remote, state::State, writer::Writer};

/// One key's value at one revision.
#[derive(Debug)]
pub struct Record {
    pub key: Arc<str>,
    pub value: Bytes,
    pub create_revision: u64,
    pub mod_revision: u64,
    /// The record's place among the operations of its commit.
    index: u32,
    memo: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Record {
    fn new(key: Arc<str>, value: Bytes, created: u64, modified: u64, index: u32) -> Self {
        let memo = OnceLock::new();
        Self { key, value, create_revision: created, mod_revision: modified, index, memo }
    }

    /// Something derived from the value, computed once per record. All callers must ask for the
    /// same type; another type than the first is computed anew each time by `None`.
    pub fn memo<T: Send + Sync + 'static>(&self, derive: impl FnOnce(&[u8]) -> T) -> Option<&T> {
        self.memo.get_or_init(|| Box::new(derive(&self.value))).downcast_ref()
    }
}

/// One key's change.
#[derive(Clone, Debug)]
pub struct Event {
    pub revision: u64,
    pub key: Arc<str>,
    /// The new record; `None` for a deletion.
    pub record: Option<Arc<Record>>,
    /// What the key held before.
    pub previous: Option<Arc<Record>>,
}

/// What must hold for a commit to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The key does not exist.
    Absent(String),
    /// The key exists and was last changed at this revision.
    At(String, u64),
}

/// One change of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Put(String, Bytes),
    Delete(String),
}

/// Changes that happen together, at one revision, if all guards hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub guards: Vec<Guard>,
    pub ops: Vec<Op>,
}

impl Txn {
    /// Creates `key`, which must not exist.
    pub fn create(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        let key = key.into();
        Self { guards: vec![Guard::Absent(key.clone())], ops: vec![Op::Put(key, value.into())] }
    }

    /// Replaces `key`, which must still be at `revision`.
    pub fn update(key: impl Into<String>, revision: u64, value: impl Into<Bytes>) -> Self {
        let key = key.into();
        Self {
            guards: vec![Guard::At(key.clone(), revision)],
            ops: vec![Op::Put(key, value.into())],
        }
    }

    /// Deletes `key`, which must still be at `revision`.
    pub fn delete(key: impl Into<String>, revision: u64) -> Self {
        let key = key.into();
        Self { guards: vec![Guard::At(key.clone(), revision)], ops: vec![Op::Delete(key)] }
    }

    /// Puts without looking.
    pub fn put(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self { guards: Vec::new(), ops: vec![Op::Put(key.into(), value.into())] }
    }
}

/// How much history is kept before it is compacted.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub history_events: usize,
    /// Bytes of superseded values that only the history still holds.
    pub history_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { history_events: 100_000, history_bytes: 48 * 1024 * 1024 }
    }
}

/// The store. Clones share it; the last one closes it.
#[derive(Clone, Debug)]
pub struct Store {
    writer: Arc<Writer>,
    state: Arc<RwLock<State>>,
}

impl Store {
    /// Opens or creates the store in one file. Blocks while it reads the file.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(path, Limits::default())
    }

    pub fn open_with(path: &Path, limits: Limits) -> Result<Self, OpenError> {
        Self::of(backend::Disk::open(path)?, limits)
    }

    /// Over a database whose disk is the test's.
    #[cfg(test)]
    fn over(database: redb::Database, limits: Limits) -> Result<Self, OpenError> {
        Self::of(backend::Disk::over(database, Path::new(""))?, limits)
    }

    fn of((disk, state): (backend::Disk, State), limits: Limits) -> Result<Self, OpenError> {
        let state = Arc::new(RwLock::new(state));
        let writer = Writer::threaded(disk, state.clone(), limits)?;
        Ok(Self { writer: Arc::new(writer), state })
    }

    /// The store that an etcd cluster keeps. Fails where no member answers.
    pub async fn etcd(config: EtcdConfig) -> Result<Self, EtcdError> {
        Self::etcd_with(config, Limits::default()).await
    }

    pub async fn etcd_with(config: EtcdConfig, limits: Limits) -> Result<Self, EtcdError> {
        let (remote, state) = Remote::open(config, limits).await?;
        Ok(Self { writer: Arc::new(Writer::Etcd(remote)), state })
    }

    /// A store that forgets, for tests. Commits happen inline, without a thread.
    pub fn memory() -> Self {
        Self::memory_with(Limits::default())
    }

    pub fn memory_with(limits: Limits) -> Self {
        let state = Arc::new(RwLock::new(State::new()));
        Self { writer: Arc::new(Writer::inline(state.clone(), limits)), state }
    }

    /// The latest durable revision. An empty store is at 1.
    pub fn revision(&self) -> u64 {
        self.state.read().revision
    }

    /// Reads and watches at or below this revision are refused.
    pub fn compacted(&self) -> u64 {
        self.state.read().compacted
    }

    /// The revision of the last change to a key whose first two segments are those of `key`.
    pub fn bucket_revision(&self, key: &str) -> u64 {
        self.state.read().bucket_revision(key)
    }

    /// Waits until what is read here of `key` is as new as the moment of the call, also where other
    /// processes write to the same etcd. Returns the revision up to which it is known.
    pub async fn sync_key(&self, key: &str) -> Result<u64, EtcdError> {
        let known = self.writer.sync_key(key).await?.unwrap_or_default();
        Ok(known.max(self.revision()))
    }

    /// The same, of everything below `prefix`.
    pub async fn sync_prefix(&self, prefix: &str) -> Result<u64, EtcdError> {
        let known = self.writer.sync_prefix(prefix).await?.unwrap_or_default();
        Ok(known.max(self.revision()))
    }

    pub fn get(&self, key: &str) -> Option<Arc<Record>> {
        self.state.read().current.get(key).cloned()
    }

    /// All records below `prefix`, now.
    pub fn scan(&self, prefix: &str) -> Vec<Arc<Record>> {
        self.state.read().scan(prefix)
    }

    /// At most `limit` records below `prefix` whose key is greater than `after`, as they were at
    /// revision `at`.
    pub fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: Option<usize>,
        at: Option<u64>,
    ) -> Result<Range, Compacted> {
        self.state.read().range(prefix, after, limit, at)
    }

    /// Commits, and returns the revision once it is durable.
    pub async fn commit(&self, txn: Txn) -> Result<u64, CommitError> {
        self.writer.commit(txn).await
    }

    /// Whether commits can be made durable: etcd is asked; a disk that has failed is tried again.
    pub async fn check(&self) -> Result<(), CommitError> {
        self.writer.commit(Txn::default()).await.map(drop)
    }

    /// All events below `prefix` after revision `after`, the past ones first.
    pub fn watch(&self, prefix: &str, after: u64) -> Result<Watcher, Compacted> {
        let subscription = self.state.write().subscribe(prefix, after)?;
        Ok(Watcher::new(self.state.clone(), subscription))
    }

    /// Forgets the history up to and including `revision`.
    pub async fn compact(&self, revision: u64) -> Result<(), CommitError> {
        self.writer.compact(revision).await
    }
}

#[cfg(test)]
mod tests;
