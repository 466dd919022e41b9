//! What all writing verbs share: decoding the body, dry runs, commits.

use bytes::Bytes;
use http::{StatusCode, header};
use mvcc::{CommitError, Op, Txn};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    convert,
    decode::{self, FieldValidation},
    registry,
    server::Call,
    status::Status,
};

/// The request's body as an object of its resource, in the stored form.
pub(crate) fn decode(call: &mut Call) -> Result<Value, Status> {
    let validation = field_validation(call)?;
    let decoded = decode::body(call.header(header::CONTENT_TYPE), &call.body)?;
    let (mut object, warnings) = decode::object(&call.resource, decoded, validation)?;
    call.warnings.extend(warnings);
    convert::to_storage(&call.resource, &mut object);
    Ok(object)
}

pub(crate) fn field_validation(call: &Call) -> Result<FieldValidation, Status> {
    FieldValidation::parse(call.parameter("fieldValidation"))
}

/// Whether the write is only tried.
pub(crate) fn is_dry_run(call: &Call) -> bool {
    call.parameter("dryRun") == Some("All")
}

/// Why a guarded commit did not happen.
pub(crate) enum Refused {
    /// The key is not as it was: look again.
    Changed,
    Failed(Status),
}

/// What etcd takes in one request, as it is unless it is told to take more.
const LARGEST: usize = 3 << 19;

/// Whether etcd would refuse it, to which upstream sends what is built in as protobuf.
fn is_too_large(call: &Call, value: &Bytes) -> bool {
    if value.len() <= LARGEST {
        return false;
    }
    let message = call.resource.custom.is_none().then(|| kube_protobuf::encode(value));
    message.and_then(Result::ok).is_none_or(|it| it.len() > LARGEST)
}

/// Commits, and returns the revision; `operation` is what upstream's metrics call it.
pub(crate) async fn commit(call: &Call, operation: &'static str, txn: Txn) -> Result<u64, Refused> {
    let mut values = txn.ops.iter().filter_map(|it| match it {
        Op::Put(_, value) => Some(value),
        Op::Delete(_) => None,
    });
    if values.any(|it| is_too_large(call, it)) {
        let message = "etcdserver: request is too large";
        let status = Status::new(StatusCode::INTERNAL_SERVER_ERROR, "", message);
        return Err(Refused::Failed(status));
    }
    let begun = Instant::now();
    let committed = call.server.store.commit(txn).await;
    call.server.metrics.stored(operation, &call.resource, begun.elapsed());
    committed.map_err(|error| match error {
        CommitError::Conflict { .. } => Refused::Changed,
        CommitError::Append { source } => {
            tracing::error!(error = %telemetry::chain(&source), "a write could not be stored");
            Refused::Failed(Status::internal(telemetry::chain(&source)))
        }
        CommitError::Etcd { source } => {
            tracing::error!(error = %telemetry::chain(&*source), "etcd did not take a write");
            Refused::Failed(Status::internal(telemetry::chain(&*source)))
        }
        CommitError::Closed => Refused::Failed(Status::unavailable("the server is shutting down")),
    })
}

/// A just written object as it is answered.
pub(crate) fn shown(call: &Call, object: &Value, stored: &[u8], revision: u64) -> Bytes {
    if call.resource.custom.is_some() {
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        return object.to_string().into();
    }
    let mut out = Vec::with_capacity(stored.len() + 40);
    registry::write_with_revision(&mut out, stored, revision);
    if call.resource.stored_as.is_none() {
        return out.into();
    }
    let mut object: Value = serde_json::from_slice(&out).unwrap_or_default();
    convert::from_storage(&call.resource, &mut object);
    object.to_string().into()
}

/// An object that was not written (dry run, or nothing to change), without `resourceVersion` if it
/// is new.
pub(crate) fn shown_unwritten(call: &Call, object: &Value) -> Bytes {
    let mut object = object.clone();
    convert::from_storage(&call.resource, &mut object);
    object.to_string().into()
}
