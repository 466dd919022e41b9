//! Where memory begins: as far back as etcd remembers, so that watches of clients go on after a
//! restart.
//!
//! The state of an older revision is read, and the watch then brings everything since. How old: not
//! older than etcd's compaction, and so that a start stays cheap.

use api_etcd::{
    Code, Status,
    pb::{RangeRequest, WatchCreateRequest, WatchRequest, watch_request::RequestUnion},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    EtcdError,
    members::{CALL_LIMIT, Members},
};
use crate::{Limits, state::State};

/// Revisions that are read back at most: what a busy cluster writes in a minute or two.
const READ_BACK: usize = 10_000;
/// Compactions may come between the question and the read.
const ATTEMPTS: usize = 3;

/// The state at the oldest revision from which the watch can go on.
pub(super) async fn load(
    members: &Members,
    prefix: &str,
    limits: Limits,
) -> Result<State, EtcdError> {
    for _ in 0..ATTEMPTS {
        let from = begin(members, prefix, limits).await?;
        match members.load(prefix, from).await {
            Err(error) if error.is_compacted() => {}
            done => return done,
        }
    }
    members.load(prefix, 0).await
}

/// The revision to read.
async fn begin(members: &Members, prefix: &str, limits: Limits) -> Result<i64, EtcdError> {
    let now = probe(members, prefix, 0).await?;
    let kept = i64::try_from(limits.history_events.min(READ_BACK)).unwrap_or(i64::MAX);
    // A cluster's first revision is 1; 0 would mean the latest.
    let wanted = now.saturating_sub(kept).max(1);
    match probe(members, prefix, wanted).await {
        Ok(_) => Ok(wanted),
        Err(error) if error.is_compacted() => Ok(compacted(members, prefix).await?.unwrap_or(now)),
        Err(error) => Err(error),
    }
}

/// The current revision, if the one that is asked for can be read.
async fn probe(members: &Members, prefix: &str, revision: i64) -> Result<i64, EtcdError> {
    let key = prefix.as_bytes().to_vec();
    let request = RangeRequest { key, revision, count_only: true, ..RangeRequest::default() };
    let answer = members.range("say what it remembers", request).await?;
    Ok(answer.header.unwrap_or_default().revision)
}

/// What etcd was compacted to: a watch of what is gone is told so.
async fn compacted(members: &Members, prefix: &str) -> Result<Option<i64>, EtcdError> {
    let key = prefix.as_bytes().to_vec();
    let create = WatchCreateRequest { key, start_revision: 1, ..WatchCreateRequest::default() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let (requests, outgoing) = mpsc::channel(1);
    let Ok(()) = requests.try_send(request) else { return Ok(None) };
    let (turn, mut client) = members.watch();
    let failed = |source| EtcdError::Call { what: "watch", source: Box::new(source) };
    let asked = async {
        let mut responses = client.watch(ReceiverStream::new(outgoing)).await?.into_inner();
        while let Some(response) = responses.message().await? {
            if response.compact_revision > 0 {
                return Ok(Some(response.compact_revision));
            }
        }
        Ok::<_, Status>(None)
    };
    let answer = match timeout(CALL_LIMIT, asked).await {
        Ok(answer) => answer.map_err(failed),
        Err(_) => Err(EtcdError::TimedOut { what: "say what it was compacted to" }),
    };
    if answer.is_err() {
        members.leave(turn);
    }
    answer
}

impl EtcdError {
    /// Whether the revision that was asked for is gone.
    pub(super) fn is_compacted(&self) -> bool {
        matches!(self, Self::Call { source, .. } if source.code() == Code::OutOfRange)
    }

    /// Whether another member may do better.
    pub(super) fn is_of_one_member(&self) -> bool {
        match self {
            Self::Call { source, .. } => source.code() == Code::Unavailable,
            Self::TimedOut { .. } => true,
            _ => false,
        }
    }
}
