//! Observe, plan, apply: what every controller here is built from.
//!
//! - [`Store`]: a cache of one kind, kept up to date by a watch, shared by all controllers of a
//!   process. It drops the fields that nobody reads, and tells subscribers what changed.
//! - [`Queue`]: keys to work on. A key is queued once, worked on by one pass at a time, retried
//!   with back-off.
//! - [`run`]: takes keys from a queue and reconciles them, some at a time.
//! - [`Recorder`]: events, aggregated as upstream does.
//! - [`client()`], [`bare_client()`], [`flags`]: the client and the common flags of a component that runs alone.
//! - [`lease`], [`health`], [`metrics`]: of several processes one works; each says that it is well, and
//!   what it did.
//! - [`object`], [`apply`]: owner references, deletion with preconditions, status patches.
//!
//! **Invariant:** a pass gets a key and nothing else; why it runs is not told. What it decides is
//! the value of a pure function over caches and a date.

use api_kube as _;

pub mod apply;
mod connect;
mod connection;
pub mod flags;
mod harness;
pub mod health;
mod key;
mod lean;
pub mod lease;
mod measures;
pub mod metrics;
pub mod object;
mod queue;
mod recorder;
mod selector;
mod store;

pub use self::{
    apply::{ApplyError, delete, patch_status},
    connect::{ConnectError, bare_client, client},
    connection::connect,
    harness::{Action, run},
    key::Key,
    queue::Queue,
    recorder::{EventType, Recorder},
    selector::{matches, selector},
    store::{Change, Store, StoreSpec, reflect, reflect_metadata},
};
