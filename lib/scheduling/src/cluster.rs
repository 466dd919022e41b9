//! All nodes with their pods, changed one pod or node at a time.
//!
//! A node that pods are on but that is not (or no longer) there is remembered until its last pod
//! goes, so that the order in which watches deliver does not matter.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Node;

use crate::{NodeInfo, PodInfo, label_sets::LabelSets, node::Placed, pod::NamespaceLabels};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    nodes: Vec<NodeInfo>,
    index: HashMap<String, usize>,
    /// Pods on nodes that are not there.
    waiting: HashMap<String, Vec<Arc<PodInfo>>>,
    /// Where each pod is, by UID.
    places: HashMap<String, String>,
    /// How many placed pods use a claim, by namespace and name.
    claim_users: HashMap<(String, String), usize>,
    /// How many nodes have an image.
    image_nodes: HashMap<String, usize>,
    pub(crate) label_sets: LabelSets,
    pub(crate) namespaces: NamespaceLabels,
}

impl Cluster {
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.index.get(name).map(|&at| &self.nodes[at])
    }

    pub fn set_node(&mut self, node: &Node) {
        let name = node.metadata.name.clone().unwrap_or_default();
        if let Some(&at) = self.index.get(&name) {
            let before = std::mem::take(&mut self.nodes[at].images);
            self.forget_images(&before);
            self.nodes[at].update(node);
            return self.count_images(at);
        }
        self.index.insert(name.clone(), self.nodes.len());
        self.nodes.push(NodeInfo::new(node));
        self.count_images(self.nodes.len() - 1);
        for pod in self.waiting.remove(&name).unwrap_or_default() {
            self.place(&name, pod);
        }
    }

    pub fn remove_node(&mut self, name: &str) {
        let Some(at) = self.index.remove(name) else { return };
        let node = self.nodes.swap_remove(at);
        if let Some(moved) = self.nodes.get(at) {
            self.index.insert(moved.name.clone(), at);
        }
        self.forget_images(&node.images);
        for placed in &node.pods {
            self.label_sets.release(placed.labels);
        }
        if !node.pods.is_empty() {
            let pods = node.pods.into_iter().map(|it| it.pod).collect();
            self.waiting.insert(name.to_owned(), pods);
        }
    }

    /// How many nodes have an image of this name.
    pub(crate) fn nodes_with_image(&self, name: &str) -> usize {
        self.image_nodes.get(name).copied().unwrap_or(0)
    }

    fn count_images(&mut self, at: usize) {
        for name in self.nodes[at].images.keys() {
            *self.image_nodes.entry(name.clone()).or_default() += 1;
        }
    }

    fn forget_images(&mut self, images: &HashMap<String, i64>) {
        for name in images.keys() {
            if let Some(count) = self.image_nodes.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.image_nodes.remove(name);
                }
            }
        }
    }

    pub fn set_namespace(&mut self, name: &str, labels: BTreeMap<String, String>) {
        self.namespaces.insert(name.to_owned(), labels);
    }

    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// Puts a pod on a node, wherever it was before.
    pub fn set_pod(&mut self, node: &str, pod: Arc<PodInfo>) {
        self.remove_pod(&pod.uid);
        for claim in &pod.claims {
            let key = (pod.namespace.clone(), claim.clone());
            *self.claim_users.entry(key).or_default() += 1;
        }
        self.places.insert(pod.uid.clone(), node.to_owned());
        self.place(node, pod);
    }

    fn place(&mut self, node: &str, pod: Arc<PodInfo>) {
        match self.index.get(node) {
            Some(&at) => {
                let labels = self.label_sets.take(pod.label_set());
                self.nodes[at].add(Placed { pod, labels });
            }
            None => self.waiting.entry(node.to_owned()).or_default().push(pod),
        }
    }

    /// Takes a pod away. Returns it and the node that it was on.
    pub fn remove_pod(&mut self, uid: &str) -> Option<(String, Arc<PodInfo>)> {
        let removed = self.take_pod(uid)?;
        let pod = &removed.1;
        for claim in &pod.claims {
            let key = (pod.namespace.clone(), claim.clone());
            let count = self.claim_users.entry(key.clone()).or_default();
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.claim_users.remove(&key);
            }
        }
        Some(removed)
    }

    fn take_pod(&mut self, uid: &str) -> Option<(String, Arc<PodInfo>)> {
        let node = self.places.remove(uid)?;
        if let Some(&at) = self.index.get(&node) {
            let placed = self.nodes[at].remove(uid)?;
            self.label_sets.release(placed.labels);
            return Some((node, placed.pod));
        }
        let pods = self.waiting.get_mut(&node)?;
        let at = pods.iter().position(|it| it.uid == uid)?;
        let pod = pods.swap_remove(at);
        if pods.is_empty() {
            self.waiting.remove(&node);
        }
        Some((node, pod))
    }

    /// Whether a placed pod uses a claim.
    pub(crate) fn is_claim_used(&self, namespace: &str, claim: &str) -> bool {
        self.claim_users.contains_key(&(namespace.to_owned(), claim.to_owned()))
    }

    /// The node that a pod is on.
    pub fn place_of(&self, uid: &str) -> Option<&str> {
        self.places.get(uid).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, placed};

    #[test]
    fn pods_wait_for_their_node_and_survive_its_return() {
        let mut cluster = Cluster::default();
        cluster.set_pod(
            "n",
            placed(
                "p",
                r#"{"containers":[{"name":"c",
            "resources":{"requests":{"cpu":"1"}}}]}"#,
            ),
        );
        cluster.set_node(&node("n", "2", "1Gi", 10));
        assert_eq!(cluster.node("n").unwrap().requested.cpu_millis, 1000);
        cluster.remove_node("n");
        assert!(cluster.node("n").is_none());
        cluster.set_node(&node("n", "2", "1Gi", 10));
        assert_eq!(cluster.node("n").unwrap().requested.pods, 1);
        assert!(cluster.remove_pod("p").is_some());
        assert_eq!(cluster.node("n").unwrap().requested, Default::default());
        assert!(cluster.remove_pod("p").is_none());
    }

    #[test]
    fn a_node_that_goes_leaves_the_others_findable() {
        let mut cluster = Cluster::default();
        for name in ["a", "b", "c"] {
            cluster.set_node(&node(name, "1", "1Gi", 10));
        }
        cluster.remove_node("a");
        assert_eq!(cluster.node("c").unwrap().name, "c");
        assert_eq!(cluster.node("b").unwrap().name, "b");
    }
}
