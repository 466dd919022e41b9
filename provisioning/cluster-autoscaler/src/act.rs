//! Carries out what was decided: sizes of groups, taints of nodes, removals.
//!
//! A removal takes minutes and runs beside the passes; what came of it is told to the next one.

mod evict;
pub(crate) mod priority;
mod removal;
mod taints;

use std::{collections::BTreeMap, sync::Arc};

use clock::Clock;
use controller::{EventType, Recorder, Store};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::Client;
use lifecycle::Scope;
use parking_lot::Mutex;

use crate::{aws::Cloud, metrics::Metrics, options::Options};

/// What carrying out needs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Actor {
    pub(crate) client: Client,
    pub(crate) cloud: Arc<Cloud>,
    pub(crate) nodes: Store<Node>,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) options: Arc<Options>,
    pub(crate) clock: Clock,
    pub(crate) scope: Scope,
    pub(crate) removals: Arc<Removals>,
    /// The status ConfigMap, which tells the autoscaler's own events.
    pub(crate) status: Arc<Mutex<Option<ConfigMap>>>,
}

/// Removals under way, and those that ended since the last pass.
#[derive(Debug, Default)]
pub(crate) struct Removals {
    leaving: Mutex<BTreeMap<String, (String, bool)>>,
    ended: Mutex<Vec<Ended>>,
}

/// How a removal ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) group: String,
    pub(crate) is_success: bool,
}

impl Removals {
    /// By node: its group, and whether it is drained.
    pub(crate) fn leaving(&self) -> BTreeMap<String, (String, bool)> {
        self.leaving.lock().clone()
    }

    pub(crate) fn take_ended(&self) -> Vec<Ended> {
        std::mem::take(&mut *self.ended.lock())
    }
}

impl Actor {
    /// An event of the autoscaler itself, where its status is kept.
    pub(crate) fn tell(&self, kind: EventType, reason: &'static str, message: String) {
        tracing::info!(reason, message);
        if let Some(status) = &*self.status.lock() {
            self.recorder.record(status, kind, reason, message);
        }
    }
}
