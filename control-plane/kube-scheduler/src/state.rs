//! The scheduler's picture: the cluster, who waits, what is assumed.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use controller::Key;
use scheduling::{Cluster, PodInfo};

use crate::{devices::Assumed, queue::SchedulingQueue};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) cluster: Cluster,
    pub(crate) queue: SchedulingQueue,
    /// Pods (UIDs) that were placed here but whose binding no watch has shown yet.
    pub(crate) assumed: HashSet<String>,
    /// Devices that were given here and that no watch has shown so yet.
    pub(crate) devices: Assumed,
    /// Pods that wait for their victims to leave, and the node that they will go to.
    pub(crate) nominated: HashMap<Key, (String, Arc<PodInfo>)>,
    /// Where the next search through the nodes begins.
    pub(crate) next_start: usize,
}

impl State {
    /// Counts nominated pods as if they were there already, for deciding about `pod`.
    /// Returns what [`State::without_nominated`] takes away again.
    pub(crate) fn with_nominated(&mut self, key: &Key, pod: &PodInfo) -> Vec<String> {
        let ahead: Vec<_> = self
            .nominated
            .iter()
            .filter(|(other, (_, it))| *other != key && it.priority >= pod.priority)
            .map(|(_, (node, it))| (node.clone(), it.clone()))
            .collect();
        let mut added = Vec::new();
        for (node, it) in ahead {
            if self.cluster.place_of(&it.uid).is_none() {
                added.push(it.uid.clone());
                self.cluster.set_pod(&node, it);
            }
        }
        added
    }

    pub(crate) fn without_nominated(&mut self, added: Vec<String>) {
        for uid in added {
            self.cluster.remove_pod(&uid);
        }
    }
}
