//! kube-scheduler: gives each pod a node.
//!
//! One loop takes the most important waiting pod, asks [`scheduling`] where it fits, assumes the
//! answer in its own picture of the cluster and goes on at once, while the binding is written in
//! the background. A pod that fits nowhere waits until something happens that could help it.
//!
//! **Invariant:** the picture ([`state::State`]) is changed by watch events, assumptions and
//! forgotten assumptions only, under one lock that is never held over an await.
//!
//! Upstream: `pkg/scheduler`. Deviation: one profile (`default-scheduler`) with the default
//! plug-ins; no configuration file and no extenders; siblings for default spreading are found by the pod's own labels instead of by the selectors of
//! ReplicaSets and StatefulSets.

use api_kube as _;

mod claims;
pub mod command;
mod devices;
mod explain;
mod observe;
mod outcome;
mod pass;
mod queue;
mod state;
mod stores;
mod volumes;

use std::sync::Arc;

use clock::Clock;
use controller::Recorder;
use kube::Client;
use lifecycle::Scope;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

pub use self::explain::explain;
use self::{state::State, stores::Stores};

/// How many bindings are written at once.
const BINDINGS: usize = 64;

/// What the loop and its background writes share.
#[derive(Clone)]
pub(crate) struct Context {
    client: Client,
    clock: Clock,
    scope: Scope,
    recorder: Recorder,
    stores: Stores,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    bindings: Arc<Semaphore>,
}

/// Schedules pods until `scope` is cancelled.
pub async fn run(client: Client, clock: Clock, scope: Scope) {
    let context = Context {
        recorder: Recorder::new(client.clone(), "default-scheduler", clock, &scope),
        stores: Stores::new(&client, &scope),
        client,
        clock,
        scope: scope.clone(),
        state: Arc::default(),
        changed: Arc::default(),
        bindings: Arc::new(Semaphore::new(BINDINGS)),
    };
    context.stores.synced().await;
    observe::subscribe(&context);
    tokio::select! {
        () = scope.cancelled() => {}
        () = pass::run(&context) => {}
    }
}
