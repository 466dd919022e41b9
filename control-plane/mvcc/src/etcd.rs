//! The store over a real etcd cluster, for those who outgrow one machine.
//!
//! etcd decides and keeps; this process holds the current records and the recent history in memory
//! as it does over its own file, fed by one watch. A commit is one transaction of etcd and is
//! acknowledged once the watch has brought it back, so whoever wrote reads what was written.
//!
//! **Invariant:** memory is the state of etcd at one revision, never a mixture of two.
//!
//! Deviation: reads answer from memory, so a change that another API server has just made may be
//! seen a moment later; only a commit asks etcd itself.
//! Deviation: a store that has just been opened has no history: watches of an earlier revision are
//! told that it is gone, and list again.
//!
//! Upstream: kube-apiserver's `storage/etcd3` and `storage/cacher`.

mod convert;
mod feed;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use api_etcd::{
    Channel, Code, ConnectError, KvClient, Status, Tls, WatchClient, pb,
    pb::{CompactionRequest, DeleteRangeRequest, KeyValue, RangeRequest},
    range_end,
};
use lifecycle::Scope;
use parking_lot::RwLock;
use tokio::{sync::watch, time::timeout};

use crate::{CommitError, Limits, Txn, state::State};

/// How long a call may take, and how long a commit may take to come back.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// Records per page of the first read.
const PAGE: i64 = 256;
/// A page of the largest objects that Kubernetes takes.
const MESSAGE_LIMIT: usize = 512 << 20;

/// Where etcd is, and which keys of it are this store's.
#[derive(Clone, Debug, Default)]
pub struct EtcdConfig {
    /// `https://10.0.0.1:2379`, …: members of one cluster.
    pub endpoints: Vec<String>,
    pub tls: Option<Tls>,
    /// Comes before every key: `/nodestead/stead/`.
    pub prefix: String,
}

/// etcd could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    #[error("no endpoint of etcd is given")]
    NoEndpoint,
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("etcd refused or failed to {what}: {}", source.message())]
    Call {
        what: &'static str,
        #[source]
        source: Box<Status>,
    },
    #[error("etcd did not {what} within {CALL_LIMIT:?}")]
    TimedOut { what: &'static str },
    #[error("etcd ended the watch: {reason}")]
    Ended { reason: String },
}

/// Deletes all of a store's keys.
pub async fn erase(config: &EtcdConfig) -> Result<(), EtcdError> {
    let members = Members::new(config)?;
    let key = config.prefix.clone().into_bytes();
    let request = DeleteRangeRequest { range_end: range_end(&key), key };
    members
        .call("delete the store", |mut kv| async move { kv.delete_range(request).await })
        .await?;
    Ok(())
}

/// Channels to the members, and which is used now.
#[derive(Debug)]
struct Members {
    channels: Vec<Channel>,
    current: AtomicUsize,
}

impl Members {
    fn new(config: &EtcdConfig) -> Result<Self, EtcdError> {
        let connect = |it: &String| api_etcd::connect(it, config.tls.as_ref());
        let channels: Vec<_> = config.endpoints.iter().map(connect).collect::<Result<_, _>>()?;
        if channels.is_empty() {
            return Err(EtcdError::NoEndpoint);
        }
        Ok(Self { channels, current: AtomicUsize::new(0) })
    }

    fn channel(&self) -> Channel {
        let current = self.current.load(Ordering::Relaxed);
        self.channels[current % self.channels.len()].clone()
    }

    /// The next call goes to the next member.
    fn rotate(&self) {
        self.current.fetch_add(1, Ordering::Relaxed);
    }

    fn watch(&self) -> WatchClient {
        WatchClient::new(self.channel()).max_decoding_message_size(MESSAGE_LIMIT)
    }

    async fn call<T, F>(
        &self,
        what: &'static str,
        call: impl FnOnce(KvClient) -> F,
    ) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let client = KvClient::new(self.channel()).max_decoding_message_size(MESSAGE_LIMIT);
        let failure = match timeout(CALL_LIMIT, call(client)).await {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(status)) if status.code() != Code::Unavailable => {
                return Err(EtcdError::Call { what, source: Box::new(status) });
            }
            Ok(Err(status)) => EtcdError::Call { what, source: Box::new(status) },
            Err(_) => EtcdError::TimedOut { what },
        };
        // A commit is not repeated: the member may have done it before it went away.
        self.rotate();
        Err(failure)
    }

    /// Everything below `prefix` as of one revision.
    async fn load(&self, prefix: &str) -> Result<State, EtcdError> {
        let end = range_end(prefix.as_bytes());
        let mut key = prefix.as_bytes().to_vec();
        let (mut revision, mut all) = (0, Vec::<KeyValue>::new());
        loop {
            let range_end = end.clone();
            let request = RangeRequest { key, range_end, limit: PAGE, revision };
            let ask = |mut kv: KvClient| async move { kv.range(request).await };
            let page = self.call("read the store", ask).await?;
            if revision == 0 {
                revision = page.header.unwrap_or_default().revision;
            }
            all.extend(page.kvs);
            match all.last() {
                Some(last) if page.more => key = [&last.key[..], &[0]].concat(),
                _ => break,
            }
        }
        Ok(convert::state(prefix, all, revision))
    }
}

#[derive(Debug)]
struct Shared {
    members: Members,
    prefix: String,
    state: Arc<RwLock<State>>,
    /// The revision that `state` is at.
    seen: watch::Sender<u64>,
    limits: Limits,
}

/// The writer's place. Dropping it ends the feed.
#[derive(Debug)]
pub(crate) struct Remote {
    shared: Arc<Shared>,
    scope: Scope,
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

impl Remote {
    pub(crate) async fn open(
        config: EtcdConfig,
        limits: Limits,
    ) -> Result<(Self, Arc<RwLock<State>>), EtcdError> {
        let members = Members::new(&config)?;
        let mut attempts = members.channels.len();
        let state = loop {
            attempts -= 1;
            match members.load(&config.prefix).await {
                Err(error) if attempts > 0 => {
                    tracing::warn!(error = %error, "a member of etcd does not answer");
                }
                done => break done?,
            }
        };
        let (seen, _) = watch::channel(state.revision);
        let state = Arc::new(RwLock::new(state));
        let prefix = config.prefix;
        let shared = Arc::new(Shared { members, prefix, state: state.clone(), seen, limits });
        let scope = Scope::new();
        drop(scope.spawn("etcd watch", feed::run(shared.clone())));
        Ok((Self { shared, scope }, state))
    }

    pub(crate) async fn commit(&self, txn: Txn) -> Result<u64, CommitError> {
        let shared = &*self.shared;
        let request = convert::request(&shared.prefix, &txn);
        let ask = |mut kv: KvClient| async move { kv.txn(request).await };
        let answer = shared.members.call("commit", ask).await.map_err(failed)?;
        let revision = convert::revision(answer.header.as_ref());
        if !answer.succeeded {
            return Err(self.conflict(&txn, &answer, revision).await);
        }
        if !convert::has_changed(&answer) {
            return Ok(shared.state.read().revision);
        }
        shared.wait(|state| state.revision >= revision).await.map_err(failed)?;
        Ok(revision)
    }

    /// Who looks again must not find what the guard was made from.
    async fn conflict(&self, txn: &Txn, answer: &pb::TxnResponse, revision: u64) -> CommitError {
        let (key, current) = convert::conflict(&self.shared.prefix, txn, answer);
        let found = current.as_ref().map(|it| it.mod_revision);
        let has_come = |state: &State| {
            let known = state.current.get(&*key).map(|it| it.mod_revision);
            state.revision >= revision || known == found
        };
        match self.shared.wait(has_come).await {
            Ok(()) => CommitError::Conflict { key, current },
            Err(error) => failed(error),
        }
    }

    pub(crate) async fn compact(&self, revision: u64) -> Result<(), CommitError> {
        self.shared.compact(revision).await.map_err(failed)
    }
}

impl Shared {
    /// Waits until the watch has brought what is asked for.
    async fn wait(&self, has_come: impl Fn(&State) -> bool) -> Result<(), EtcdError> {
        let mut seen = self.seen.subscribe();
        let come = seen.wait_for(|_| has_come(&self.state.read()));
        match timeout(CALL_LIMIT, come).await {
            // The sender is `self`'s.
            Ok(_) => Ok(()),
            Err(_) => Err(EtcdError::TimedOut { what: "bring a commit back" }),
        }
    }

    async fn compact(&self, revision: u64) -> Result<(), EtcdError> {
        let wanted = revision.min(self.state.read().revision);
        let request = CompactionRequest { revision: i64::try_from(wanted).unwrap_or(i64::MAX) };
        let ask = |mut kv: KvClient| async move { kv.compact(request).await };
        match self.members.call("compact", ask).await {
            // Somebody else has compacted further.
            Err(EtcdError::Call { source, .. }) if source.code() == Code::OutOfRange => {}
            done => drop(done?),
        }
        self.state.write().forget(wanted);
        Ok(())
    }
}

fn failed(source: EtcdError) -> CommitError {
    CommitError::Etcd { source: Arc::new(source) }
}
