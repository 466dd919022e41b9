//! The watch that keeps memory at etcd's state.
//!
//! It resumes after the last revision that it has seen, on the next member if need be. Where etcd
//! has forgotten that revision, everything is read anew and all watchers here are let go, who then
//! learn that their revision is gone.

use std::{sync::Arc, time::Duration};

use api_etcd::{
    MetadataValue, Request, WatchClient,
    pb::{WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion},
    range_end,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;

use super::{CALL_LIMIT, EtcdError, Shared, convert};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Follows etcd until it is dropped.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let before = shared.state.read().revision;
        let (turn, client) = shared.members.watch();
        if let Err(error) = follow(&shared, client).await {
            tracing::warn!(%error, "the watch of etcd ended; it is resumed");
            shared.members.leave(turn);
        }
        let has_moved = shared.state.read().revision > before;
        pause = if has_moved { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        tokio::time::sleep(pause).await;
    }
}

/// One watch, from the revision that memory is at. Ends well after everything was read anew.
async fn follow(shared: &Shared, mut client: WatchClient) -> Result<(), EtcdError> {
    let key = shared.prefix.clone().into_bytes();
    let next = shared.state.read().revision + 1;
    let create = WatchCreateRequest {
        range_end: range_end(&key),
        key,
        start_revision: i64::try_from(next).unwrap_or(i64::MAX),
        progress_notify: true,
    };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    // The watch lasts as long as this half is open.
    let (requests, outgoing) = mpsc::channel(1);
    requests.try_send(request).map_err(|_| ended("its channel is closed"))?;
    let mut request = Request::new(ReceiverStream::new(outgoing));
    // A member that is cut off from the others ends the watch instead of falling silent.
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    let opening = client.watch(request);
    let failed = |source| EtcdError::Call { what: "watch", source: Box::new(source) };
    let opened = timeout(CALL_LIMIT, opening).await;
    let opened = opened.map_err(|_| EtcdError::TimedOut { what: "open the watch" })?;
    let mut responses = opened.map_err(failed)?.into_inner();
    while let Some(response) = responses.message().await.map_err(failed)? {
        if response.compact_revision > 0 {
            return start_anew(shared).await;
        }
        if response.canceled {
            return Err(ended(&response.cancel_reason));
        }
        let target = take(shared, response);
        if let Some(target) = target {
            shared.compact(target).await?;
        }
    }
    Err(ended("the stream is over"))
}

fn ended(reason: &str) -> EtcdError {
    EtcdError::Ended { reason: reason.to_owned() }
}

/// Makes a response visible, all of it at once; says how far the history should be compacted.
fn take(shared: &Shared, response: WatchResponse) -> Option<u64> {
    let mut state = shared.state.write();
    // Without events it says that there is nothing up to its revision that was not sent.
    if response.events.is_empty() && !response.created {
        state.revision = state.revision.max(convert::revision(response.header.as_ref()));
    }
    for change in response.events {
        let revision = change.kv.as_ref().and_then(|it| u64::try_from(it.mod_revision).ok());
        if let Some(event) = convert::event(&shared.prefix, &state, change) {
            state.apply(event);
        }
        // That of a mark, which is no event.
        state.revision = state.revision.max(revision.unwrap_or_default());
    }
    let target = state.compaction_target(shared.limits);
    let revision = state.revision;
    drop(state);
    shared.seen.send_replace(revision);
    target
}

async fn start_anew(shared: &Shared) -> Result<(), EtcdError> {
    tracing::warn!("etcd has compacted what the watch was at; everything is read anew");
    let fresh = shared.members.load(&shared.prefix, 0).await?;
    let revision = fresh.revision;
    *shared.state.write() = fresh;
    shared.seen.send_replace(revision);
    Ok(())
}
