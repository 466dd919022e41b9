//! How new memory has to be, where other API servers write to the same etcd.
//!
//! What a client reads without a `resourceVersion` is as new as its request. Writes are planned from
//! memory, which is nearly always right, and etcd decides; only what would be refused because of
//! memory is looked at again.
//!
//! Upstream: quorum reads and consistent reads from cache (KEP-2340); `origStateIsCurrent` of
//! `GuaranteedUpdate`.

use std::sync::Arc;

use mvcc::Record;
use serde_json::json;

use crate::{registry, server::Call, status::Status, verbs::namespace};

/// What a request reads.
pub(crate) enum Read<'a> {
    Key(&'a str),
    Prefix(&'a str),
}

/// Waits until memory is as new as the request asks: no older than `wanted`, or than the request
/// itself. Returns the revision as of which it may be read.
pub(crate) async fn settle(
    call: &Call,
    what: Read<'_>,
    wanted: Option<u64>,
) -> Result<u64, Status> {
    let store = &call.server.store;
    let now = store.revision();
    if wanted.is_some_and(|it| it <= now) {
        return Ok(now);
    }
    let known = match what {
        Read::Key(key) => store.sync_key(key).await,
        Read::Prefix(prefix) => store.sync_prefix(prefix).await,
    };
    let known = known.map_err(|error| unreadable(&error))?;
    match wanted {
        Some(wanted) if wanted > known => Err(too_large(wanted, known)),
        _ => Ok(known),
    }
}

fn too_large(wanted: u64, now: u64) -> Status {
    let mut status =
        Status::timeout(format!("Too large resource version: {wanted}, current: {now}"));
    status.retry_after = Some(1);
    status.details = json!({ "retryAfterSeconds": 1 });
    status.cause("ResourceVersionTooLarge", "Too large resource version", "")
}

fn unreadable(error: &mvcc::EtcdError) -> Status {
    tracing::error!(error = %telemetry::chain(error), "etcd did not answer a read");
    Status::internal(telemetry::chain(error))
}

/// The record as it is now.
pub(crate) async fn record(call: &Call, key: &str) -> Result<Option<Arc<Record>>, Status> {
    settle(call, Read::Key(key), None).await?;
    Ok(call.server.store.get(key))
}

/// The record as memory has it, or as it is now where memory has none.
pub(crate) async fn found(call: &Call, key: &str) -> Result<Option<Arc<Record>>, Status> {
    match call.server.store.get(key) {
        None => record(call, key).await,
        found => Ok(found),
    }
}

/// Whether the record is no longer the one that was `seen`: what was refused because of that is to
/// be decided anew.
pub(crate) async fn has_moved(
    call: &Call,
    key: &str,
    seen: Option<&Arc<Record>>,
) -> Result<bool, Status> {
    let revision = |it: &Arc<Record>| it.mod_revision;
    Ok(record(call, key).await?.as_ref().map(revision) != seen.map(revision))
}

/// Knows the request's namespace if it is there.
pub(crate) async fn know_namespace(call: &Call) -> Result<(), Status> {
    match namespace(call) {
        "" => Ok(()),
        name => found(call, &registry::key("", "namespaces", "", name)).await.map(drop),
    }
}
