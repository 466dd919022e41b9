//! kube-scheduler: gives each pod a node.
//!
//! One loop takes the most important waiting pod, asks [`scheduling`] where it fits, assumes the
//! answer in its own picture of the cluster and goes on at once, while the binding is written in
//! the background. A pod that fits nowhere waits until something happens that could help it.
//!
//! **Invariant:** the picture ([`state::State`]) is changed by watch events, assumptions and
//! forgotten assumptions only, under one lock that is never held over an await.
//!
//! A configuration file ([`config`]) gives it more profiles than the default one. A pod of a scheduler that
//! is none of them is left alone.
//!
//! Upstream: `pkg/scheduler`.

use api_kube as _;

mod claims;
pub mod command;
pub mod config;
mod devices;
mod explain;
mod extended;
mod extenders;
mod limits;
mod metrics;
mod observe;
mod outcome;
mod pass;
mod queue;
mod readiness;
mod siblings;
mod state;
mod stores;
mod volumes;

use std::{collections::BTreeMap, sync::Arc};

use clock::Clock;
use controller::Recorder;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use lifecycle::Scope;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

pub use self::{
    config::Settings,
    explain::explain,
    extenders::{Exchange, Extender},
    metrics::Metrics,
};
use self::{queue::SchedulingQueue, state::State, stores::Stores};

/// How many bindings are written at once.
const BINDINGS: usize = 64;

/// What the loop and its background writes share.
#[derive(Clone)]
pub(crate) struct Context {
    client: Client,
    clock: Clock,
    scope: Scope,
    settings: Arc<Settings>,
    /// One for each profile, under its name.
    recorders: Arc<BTreeMap<String, Recorder>>,
    stores: Stores,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    /// Wakes those who wait for devices to be ready.
    claims_changed: Arc<Notify>,
    bindings: Arc<Semaphore>,
}

impl Context {
    /// Records an event about a pod in its own scheduler's name.
    fn note(&self, pod: &Pod, note: impl FnOnce(&Recorder)) {
        let profile = self.settings.profile(pod);
        if let Some(recorder) = profile.and_then(|it| self.recorders.get(&it.name)) {
            note(recorder);
        }
    }
}

/// Schedules pods of `default-scheduler` until `scope` is cancelled.
pub async fn run(client: Client, clock: Clock, scope: Scope) {
    run_with(client, Settings::default(), clock, scope).await;
}

/// Schedules the pods of all profiles until `scope` is cancelled.
pub async fn run_with(client: Client, settings: Settings, clock: Clock, scope: Scope) {
    let recorder =
        |name: &String| (name.clone(), Recorder::new(client.clone(), name.clone(), clock, &scope));
    let state = State { queue: SchedulingQueue::new(settings.backoff), ..State::default() };
    let state = Arc::new(Mutex::new(state));
    settings.metrics.watch(&state);
    let context = Context {
        recorders: Arc::new(settings.profiles.keys().map(recorder).collect()),
        settings: Arc::new(settings),
        stores: Stores::new(&client, &scope),
        client,
        clock,
        scope: scope.clone(),
        state,
        changed: Arc::default(),
        claims_changed: Arc::default(),
        bindings: Arc::new(Semaphore::new(BINDINGS)),
    };
    context.stores.synced().await;
    observe::subscribe(&context);
    tokio::select! {
        () = scope.cancelled() => {}
        () = pass::run(&context) => {}
    }
}
