//! A node and what is on it, with sums kept up to date.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{Node, Taint};
use resources::{Amounts, node_allocatable};

use crate::{PodInfo, label_sets::LabelSetId};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub is_unschedulable: bool,
    pub allocatable: Amounts,
    /// The images that it has, by name, and their sizes.
    pub(crate) images: HashMap<String, i64>,
    /// What its pods request together; `pods` is their number.
    pub requested: Amounts,
    pub(crate) nonzero_requested: Amounts,
    pub(crate) pods: Vec<Placed>,
    /// Pods per label set.
    pub(crate) label_counts: Vec<LabelCount>,
    /// How many pods have affinity terms of any kind; most nodes have none to look through.
    pub(crate) with_affinity: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) pod: Arc<PodInfo>,
    pub(crate) labels: LabelSetId,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct LabelCount {
    pub(crate) id: LabelSetId,
    pub(crate) total: i64,
    /// Without those that terminate.
    pub(crate) staying: i64,
}

impl NodeInfo {
    pub fn new(node: &Node) -> Self {
        let mut info = Self::default();
        info.update(node);
        info
    }

    pub fn pods(&self) -> impl Iterator<Item = &Arc<PodInfo>> {
        self.pods.iter().map(|it| &it.pod)
    }

    pub(crate) fn update(&mut self, node: &Node) {
        let spec = node.spec.as_ref();
        self.name = node.metadata.name.clone().unwrap_or_default();
        self.labels = node.metadata.labels.clone().unwrap_or_default();
        self.taints = spec.and_then(|it| it.taints.clone()).unwrap_or_default();
        self.is_unschedulable = spec.and_then(|it| it.unschedulable).unwrap_or(false);
        self.allocatable = node_allocatable(node);
        let images = node.status.iter().flat_map(|it| it.images.iter().flatten());
        let named = images.flat_map(|it| {
            let size = it.size_bytes.unwrap_or(0);
            it.names.iter().flatten().map(move |name| (name.clone(), size))
        });
        self.images = named.collect();
    }

    pub(crate) fn add(&mut self, placed: Placed) {
        let pod = &placed.pod;
        self.requested.add(&pod.requests);
        self.nonzero_requested.add(&pod.nonzero_requests);
        self.with_affinity += usize::from(pod.has_affinity());
        let staying = i64::from(!pod.is_terminating);
        match self.label_counts.iter_mut().find(|it| it.id == placed.labels) {
            Some(count) => {
                count.total += 1;
                count.staying += staying;
            }
            None => self.label_counts.push(LabelCount { id: placed.labels, total: 1, staying }),
        }
        self.pods.push(placed);
    }

    pub(crate) fn remove(&mut self, uid: &str) -> Option<Placed> {
        let index = self.pods.iter().position(|it| it.pod.uid == uid)?;
        let placed = self.pods.swap_remove(index);
        let pod = &placed.pod;
        self.requested.subtract(&pod.requests);
        self.nonzero_requested.subtract(&pod.nonzero_requests);
        self.with_affinity -= usize::from(pod.has_affinity());
        if let Some(at) = self.label_counts.iter().position(|it| it.id == placed.labels) {
            let count = &mut self.label_counts[at];
            count.total -= 1;
            count.staying -= i64::from(!pod.is_terminating);
            if count.total == 0 {
                self.label_counts.swap_remove(at);
            }
        }
        Some(placed)
    }
}
