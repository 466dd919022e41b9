//! The one writer: decides commits in order, makes a batch durable, then shows it.
//!
//! While one batch is being synced the next one gathers, so the number of `fsync`s does not grow
//! with the number of clients. Guards are checked against the state as it will be after the
//! commits before it in the batch.

use std::{collections::HashMap, io, sync::Arc, thread::JoinHandle};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Event, Guard, Limits, Op, Record, Txn,
    backend::{AppendError, Batch, Disk},
    etcd::{EtcdError, Remote},
    state::{Garbage, State},
};

/// Requests that may wait for the writer.
const QUEUE: usize = 4096;
/// Commits that share one `fsync`.
const BATCH: usize = 1024;

/// Why a commit did not happen.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// A guard did not hold; the key's record as it was then.
    #[error("`{key}` is not as the commit expected it")]
    Conflict { key: String, current: Option<Arc<Record>> },
    #[error("failed to make the commit durable")]
    Append {
        #[source]
        source: Arc<AppendError>,
    },
    #[error("failed to commit to etcd")]
    Etcd {
        #[source]
        source: Arc<EtcdError>,
    },
    #[error("the store is closed")]
    Closed,
}

pub(crate) type Reply = oneshot::Sender<Result<u64, CommitError>>;

#[derive(Debug)]
pub(crate) enum Request {
    Commit(Txn, Reply),
    Compact(u64, Reply),
}

#[derive(Debug)]
pub(crate) enum Writer {
    Threaded { requests: Option<mpsc::Sender<Request>>, thread: Option<JoinHandle<()>> },
    Inline(Mutex<Core>),
    Etcd(Remote),
}

impl Writer {
    pub(crate) fn threaded(
        disk: Disk,
        state: Arc<RwLock<State>>,
        limits: Limits,
    ) -> io::Result<Self> {
        let (requests, queue) = mpsc::channel(QUEUE);
        let core = Core { disk: Some(disk), state, limits };
        let thread = std::thread::Builder::new()
            .name("mvcc-writer".into())
            .spawn(move || run(core, queue))?;
        Ok(Self::Threaded { requests: Some(requests), thread: Some(thread) })
    }

    pub(crate) fn inline(state: Arc<RwLock<State>>, limits: Limits) -> Self {
        Self::Inline(Mutex::new(Core { disk: None, state, limits }))
    }

    pub(crate) async fn commit(&self, txn: Txn) -> Result<u64, CommitError> {
        match self {
            Self::Etcd(remote) => remote.commit(txn).await,
            _ => self.request(|reply| Request::Commit(txn, reply)).await,
        }
    }

    pub(crate) async fn compact(&self, revision: u64) -> Result<(), CommitError> {
        match self {
            Self::Etcd(remote) => remote.compact(revision).await,
            _ => self.request(|reply| Request::Compact(revision, reply)).await.map(drop),
        }
    }

    /// Waits for the key of others. Our own memory is what is durable: it is never behind.
    pub(crate) async fn sync_key(&self, key: &str) -> Result<Option<u64>, EtcdError> {
        match self {
            Self::Etcd(remote) => remote.sync_key(key).await.map(Some),
            _ => Ok(None),
        }
    }

    pub(crate) async fn sync_prefix(&self, prefix: &str) -> Result<Option<u64>, EtcdError> {
        match self {
            Self::Etcd(remote) => remote.sync_prefix(prefix).await.map(Some),
            _ => Ok(None),
        }
    }

    async fn request(&self, make: impl FnOnce(Reply) -> Request) -> Result<u64, CommitError> {
        let (reply, answer) = oneshot::channel();
        match self {
            Self::Inline(core) => core.lock().serve(vec![make(reply)]),
            Self::Threaded { requests, .. } => {
                let requests = requests.as_ref().ok_or(CommitError::Closed)?;
                requests.send(make(reply)).await.map_err(|_| CommitError::Closed)?;
            }
            Self::Etcd(_) => return Err(CommitError::Closed),
        }
        answer.await.map_err(|_| CommitError::Closed)?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Self::Threaded { requests, thread } = self {
            drop(requests.take());
            if let Some(thread) = thread.take()
                && thread.join().is_err()
            {
                tracing::error!("the store's writer panicked");
            }
        }
    }
}

fn run(mut core: Core, mut queue: mpsc::Receiver<Request>) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.blocking_recv_many(&mut batch, BATCH) > 0 {
        core.serve(std::mem::take(&mut batch));
    }
}

#[derive(Debug)]
pub(crate) struct Core {
    disk: Option<Disk>,
    state: Arc<RwLock<State>>,
    limits: Limits,
}

/// What a batch will have changed, before it is visible.
#[derive(Default)]
struct Pending {
    revision: u64,
    changed: HashMap<Arc<str>, Option<Arc<Record>>>,
    events: Vec<Event>,
}

impl Core {
    fn serve(&mut self, batch: Vec<Request>) {
        let mut replies = Vec::with_capacity(batch.len());
        let mut target = 0;
        let pending = {
            let state = self.state.read();
            let mut pending = Pending { revision: state.revision, ..Pending::default() };
            for request in batch {
                match request {
                    Request::Commit(txn, reply) => {
                        replies.push((reply, pending.decide(&state, txn)));
                    }
                    Request::Compact(revision, reply) => {
                        target = target.max(revision.min(state.revision));
                        replies.push((reply, Ok(state.revision)));
                    }
                }
            }
            target = target.max(state.compaction_target(self.limits).unwrap_or_default());
            pending
        };
        let failure = self.finish(pending, target).err().map(Arc::new);
        for (reply, decision) in replies {
            let answer = match (&failure, decision) {
                (Some(source), Ok(_)) => Err(CommitError::Append { source: source.clone() }),
                (_, decision) => decision,
            };
            // Nobody waits any more: the commit stands all the same.
            drop(reply.send(answer));
        }
    }

    /// Makes the batch durable, then visible.
    fn finish(&mut self, pending: Pending, target: u64) -> Result<(), AppendError> {
        let garbage: Garbage = match target {
            0 => Vec::new(),
            target => self.state.read().garbage(target),
        };
        if let Some(disk) = &mut self.disk
            && (!pending.events.is_empty() || target > 0 || disk.has_failed())
        {
            let batch = Batch {
                events: &pending.events,
                revision: pending.revision,
                compacted: target,
                garbage: &garbage,
            };
            let shown = self.state.read().revision;
            disk.append(&batch, shown)?;
        }
        let mut state = self.state.write();
        for event in pending.events {
            state.apply(event);
        }
        if target > 0 {
            state.forget(target);
        }
        Ok(())
    }
}

impl Pending {
    fn current(&self, state: &State, key: &str) -> Option<Arc<Record>> {
        match self.changed.get(key) {
            Some(changed) => changed.clone(),
            None => state.current.get(key).cloned(),
        }
    }

    fn decide(&mut self, state: &State, txn: Txn) -> Result<u64, CommitError> {
        for guard in txn.guards {
            let (key, expected) = match guard {
                Guard::Absent(key) => (key, None),
                Guard::At(key, revision) => (key, Some(revision)),
            };
            let current = self.current(state, &key);
            if current.as_ref().map(|it| it.mod_revision) != expected {
                return Err(CommitError::Conflict { key, current });
            }
        }
        let revision = self.revision + 1;
        let before = self.events.len();
        for op in txn.ops {
            let index = u32::try_from(self.events.len() - before).unwrap_or(u32::MAX);
            match op {
                Op::Put(key, value) => self.put(state, key, value, revision, index),
                Op::Delete(key) => self.delete(state, &key, revision),
            }
        }
        if self.events.len() > before {
            self.revision = revision;
        }
        Ok(self.revision)
    }

    fn put(&mut self, state: &State, key: String, value: Bytes, revision: u64, index: u32) {
        let previous = self.current(state, &key);
        let key: Arc<str> = previous.as_ref().map_or_else(|| key.into(), |it| it.key.clone());
        let created = previous.as_ref().map_or(revision, |it| it.create_revision);
        let record = Arc::new(Record::new(key.clone(), value, created, revision, index));
        self.changed.insert(key.clone(), Some(record.clone()));
        self.events.push(Event { revision, key, record: Some(record), previous });
    }

    fn delete(&mut self, state: &State, key: &str, revision: u64) {
        let Some(previous) = self.current(state, key) else { return };
        let key = previous.key.clone();
        self.changed.insert(key.clone(), None);
        self.events.push(Event { revision, key, record: None, previous: Some(previous) });
    }
}
