//! Amazon SQS: standard queues.
//!
//! A queue's policy has a say in every call: AWS's own services, EventBridge above all, get in by it
//! alone, and the account's principals by it or by their own policies.
//!
//! **Invariant:** a message that was acknowledged is there until somebody deletes it or its time is
//! up, also after a crash; it may be received twice.
//! **Invariant:** a receipt handle is good for the receive that gave it; a later receive takes it over.
//!
//! Upstream: Amazon SQS API reference, version 2012-11-05, in its JSON protocol and in the query
//! protocol, which SDKs spoke before November 2023.
//! Deviation: no FIFO queues and no KMS. `SqsManagedSseEnabled` is kept and says nothing of this
//! machine's disk. All queues together hold 256 MiB at the most; then senders are told to come back
//! (`RequestThrottled`). Permissions are set
//! in the policy alone (no `AddPermission`), and messages are not moved back out of a dead-letter queue
//! by the service (`StartMessageMoveTask`).

mod attributes;
mod batches;
mod digest;
mod faults;
mod messages;
mod queues;
mod receipts;
mod receive;
mod records;
mod serve;
mod service;
mod tags;

pub use crate::{
    serve::routes,
    service::{Config, Sqs},
};

#[cfg(test)]
mod tests;
