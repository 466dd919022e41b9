//! What the cluster is told of the drivers on this node: the `CSINode` object, the node's topology
//! labels and its annotation `csi.volume.kubernetes.io/nodeid`.
//!
//! Upstream: `pkg/volume/csi/nodeinfomanager`.

use std::collections::BTreeMap;

use api_csi::v1::NodeGetInfoResponse;
use k8s_openapi::api::{
    core::v1::Node,
    storage::v1::{CSINode, CSINodeDriver, VolumeNodeResources},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::Csi;
use crate::api_limit::within;

const ANNOTATION: &str = "csi.volume.kubernetes.io/nodeid";
/// Changes of somebody else in between are tried over.
const ATTEMPTS: usize = 5;

/// The node's annotations and labels with a driver in them; labels must not change under pods.
fn node_patch(node: &Node, driver: &str, info: &NodeGetInfoResponse) -> Result<Value, String> {
    let mut ids = ids(node);
    ids.insert(driver.to_owned(), info.node_id.clone());
    let segments: BTreeMap<_, _> = segments(info).into_iter().collect();
    for (key, value) in &segments {
        let has = node.metadata.labels.as_ref().and_then(|it| it.get(key));
        if has.is_some_and(|it| it != value) {
            return Err(format!(
                "detected topology value collision: driver reported \"{key}\":\"{value}\" but existing label is \"{key}\":\"{}\"",
                has.map(String::as_str).unwrap_or_default()
            ));
        }
    }
    Ok(json!({ "metadata": {
        "annotations": { ANNOTATION: json!(ids).to_string() },
        "labels": segments,
    }}))
}

fn ids(node: &Node) -> BTreeMap<String, String> {
    let text = node.metadata.annotations.as_ref().and_then(|it| it.get(ANNOTATION));
    text.and_then(|it| serde_json::from_str(it).ok()).unwrap_or_default()
}

fn segments(info: &NodeGetInfoResponse) -> Vec<(String, String)> {
    info.accessible_topology.iter().flat_map(|it| it.segments.clone()).collect()
}

fn entry(driver: &str, info: &NodeGetInfoResponse) -> CSINodeDriver {
    let mut keys: Vec<String> = segments(info).into_iter().map(|(key, _)| key).collect();
    keys.sort();
    let count = i32::try_from(info.max_volumes_per_node).unwrap_or(i32::MAX);
    CSINodeDriver {
        name: driver.to_owned(),
        node_id: info.node_id.clone(),
        topology_keys: (!keys.is_empty()).then_some(keys),
        allocatable: (count > 0).then_some(VolumeNodeResources { count: Some(count) }),
    }
}

/// The object with the driver's entry replaced or removed. `None` if it is like that already.
fn with_entry(found: &CSINode, driver: &str, entry: Option<CSINodeDriver>) -> Option<CSINode> {
    let mut wanted = found.clone();
    wanted.spec.drivers.retain(|it| it.name != driver);
    wanted.spec.drivers.extend(entry);
    (wanted.spec.drivers != found.spec.drivers).then_some(wanted)
}

impl Csi {
    pub(super) async fn add_to_node(
        &self,
        driver: &str,
        info: &NodeGetInfoResponse,
    ) -> Result<(), String> {
        if info.node_id.is_empty() {
            return Err("error adding CSI driver node info: node id must not be empty".to_owned());
        }
        let _lock = self.node.lock().await;
        let node = self.patch_node(|node| node_patch(node, driver, info).map(Some)).await?;
        self.update_csi_node(&node, driver, Some(entry(driver, info))).await
    }

    pub(super) async fn remove_from_node(&self, driver: &str) -> Result<(), String> {
        let _lock = self.node.lock().await;
        let without = |node: &Node| {
            let mut ids = ids(node);
            let was_there = ids.remove(driver).is_some();
            let text = (!ids.is_empty()).then(|| json!(ids).to_string());
            Ok(was_there.then(|| json!({ "metadata": { "annotations": { ANNOTATION: text } } })))
        };
        let node = self.patch_node(without).await?;
        self.update_csi_node(&node, driver, None).await
    }

    async fn patch_node(
        &self,
        patch: impl Fn(&Node) -> Result<Option<Value>, String>,
    ) -> Result<Node, String> {
        let api = Api::<Node>::all(self.client.clone());
        let node = within(api.get(&self.node_name)).await?;
        if let Some(patch) = patch(&node)? {
            let patch = Patch::Merge(patch);
            within(api.patch(&self.node_name, &PatchParams::default(), &patch)).await?;
        }
        Ok(node)
    }

    async fn update_csi_node(
        &self,
        node: &Node,
        driver: &str,
        entry: Option<CSINodeDriver>,
    ) -> Result<(), String> {
        let api = Api::<CSINode>::all(self.client.clone());
        let mut result = Ok(());
        for _ in 0..ATTEMPTS {
            let found = within(api.get_opt(&self.node_name)).await?;
            let params = PostParams::default();
            let written = match &found {
                None if entry.is_none() => return Ok(()),
                None => {
                    let it = with_entry(&self.empty(node), driver, entry.clone());
                    within(api.create(&params, &it.unwrap_or_default())).await
                }
                Some(found) => match with_entry(found, driver, entry.clone()) {
                    None => return Ok(()),
                    Some(it) => within(api.replace(&self.node_name, &params, &it)).await,
                },
            };
            result = written.map(drop);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn empty(&self, node: &Node) -> CSINode {
        let it = json!({
            "metadata": {
                "name": self.node_name,
                "ownerReferences": [{
                    "apiVersion": "v1",
                    "kind": "Node",
                    "name": self.node_name,
                    "uid": node.metadata.uid,
                }],
            },
            "spec": { "drivers": [] },
        });
        serde_json::from_value(it).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use api_csi::v1::Topology;

    use super::*;

    fn info(zone: &str) -> NodeGetInfoResponse {
        NodeGetInfoResponse {
            node_id: "i-1".to_owned(),
            max_volumes_per_node: 25,
            accessible_topology: Some(Topology {
                segments: [("topology.d/zone".to_owned(), zone.to_owned())].into(),
            }),
        }
    }

    #[test]
    fn a_driver_is_added_beside_the_others_and_once() {
        let other = CSINodeDriver { name: "o".to_owned(), ..Default::default() };
        let mut found = CSINode::default();
        found.spec.drivers.push(other);
        let it = with_entry(&found, "d", Some(entry("d", &info("a")))).unwrap();
        let names: Vec<_> = it.spec.drivers.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["o", "d"]);
        assert_eq!(it.spec.drivers[1].allocatable.as_ref().unwrap().count, Some(25));
        assert_eq!(it.spec.drivers[1].topology_keys.as_ref().unwrap()[0], "topology.d/zone");
        assert_eq!(with_entry(&it, "d", Some(entry("d", &info("a")))), None);
        assert_eq!(with_entry(&it, "d", None), Some(found));
    }

    #[test]
    fn a_label_that_says_otherwise_is_not_overwritten() {
        let mut node = Node::default();
        let patch = node_patch(&node, "d", &info("a")).unwrap();
        assert_eq!(patch["metadata"]["labels"]["topology.d/zone"], "a");
        assert_eq!(patch["metadata"]["annotations"][ANNOTATION], r#"{"d":"i-1"}"#);
        node.metadata.labels = Some([("topology.d/zone".to_owned(), "b".to_owned())].into());
        let error = node_patch(&node, "d", &info("a")).unwrap_err();
        assert!(error.contains("detected topology value collision"), "{error}");
    }
}
