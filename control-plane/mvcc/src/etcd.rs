//! The store over a real etcd cluster, for those who outgrow one machine.
//!
//! etcd decides and keeps; this process holds the current records and the recent history in memory
//! as it does over its own file, fed by one watch. A commit is one transaction of etcd and is
//! acknowledged once the watch has brought it back, so whoever wrote reads what was written.
//!
//! **Invariant:** memory is the state of etcd at one revision, never a mixture of two.
//!
//! Reads come from memory, as everywhere; who must see what another API server has just done says so
//! first ([`crate::Store::sync_key`], [`crate::Store::sync_prefix`]).
//!
//! A store that is opened reads back a part of the history that etcd has (upstream: none), so that
//! watches of a moment ago go on.
//!
//! Upstream: kube-apiserver's `storage/etcd3` and `storage/cacher`.

mod convert;
mod feed;
mod history;
mod members;
mod sync;

use std::sync::Arc;

use api_etcd::{
    Code, ConnectError, KvClient, Status, Tls, pb,
    pb::{CompactionRequest, DeleteRangeRequest},
    range_end,
};
use lifecycle::Scope;
use parking_lot::RwLock;
use tokio::sync::watch;

use self::members::{CALL_LIMIT, Members};
use crate::{CommitError, Limits, Txn, state::State};

const BACK: &str = "bring a commit back";

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
        let state = history::load(&members, &config.prefix, limits).await?;
        let (seen, _) = watch::channel(state.revision);
        let state = Arc::new(RwLock::new(state));
        let prefix = config.prefix;
        let shared = Arc::new(Shared { members, prefix, state: state.clone(), seen, limits });
        let remote = Self { shared: shared.clone(), scope: Scope::new() };
        drop(remote.scope.spawn("etcd watch", feed::run(shared.clone())));
        shared.sync_all().await?;
        Ok((remote, state))
    }

    pub(crate) async fn sync_key(&self, key: &str) -> Result<u64, EtcdError> {
        self.shared.sync_key(key).await
    }

    pub(crate) async fn sync_prefix(&self, prefix: &str) -> Result<u64, EtcdError> {
        self.shared.sync_prefix(prefix).await
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
        shared.wait(BACK, |state| state.revision >= revision).await.map_err(failed)?;
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
        match self.shared.wait(BACK, has_come).await {
            Ok(()) => CommitError::Conflict { key, current },
            Err(error) => failed(error),
        }
    }

    pub(crate) async fn compact(&self, revision: u64) -> Result<(), CommitError> {
        self.shared.compact(revision).await.map_err(failed)
    }
}

impl Shared {
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
