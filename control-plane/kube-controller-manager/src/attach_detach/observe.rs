//! Which volumes a node's pods need, and which attachments it has.

use std::{collections::BTreeMap, sync::Arc};

use controller::{Key, object};
use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, Pod},
    storage::v1::VolumeAttachment,
};

use super::plan::{User, Volume};
use crate::{
    caches::{BY_NODE, BY_VOLUME, Caches},
    pods,
};

const MANAGED: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
const KEEPS: &str = "volumes.kubernetes.io/keep-terminated-pod-volumes";

/// See the module.
pub(super) struct Observer<'a> {
    pub(super) caches: &'a Caches,
}

impl Observer<'_> {
    /// The volumes that have to be attached to a node for its pods. Nothing, where its kubelet does that
    /// itself.
    pub(super) fn wanted(&self, name: &str, node: Option<&Node>) -> Vec<Volume> {
        let is_managed = |it: &Node| object::annotation(it, MANAGED) == Some("true");
        let Some(node) = node.filter(|it| is_managed(it)) else { return Vec::new() };
        let keeps = object::annotation(node, KEEPS) == Some("true");
        let mut volumes = BTreeMap::<String, Volume>::new();
        for pod in self.caches.pods.indexed(BY_NODE, name) {
            if !keeps && is_terminated(&pod) {
                continue;
            }
            for volume in self.of_pod(&pod) {
                let known = volumes.entry(volume.name.clone()).or_insert(volume);
                known.pods.push(pod.clone());
            }
        }
        volumes.into_values().collect()
    }

    /// The attachments of a node that are this controller's, with their volumes.
    pub(super) fn attachments(&self, node: &str) -> Vec<(Arc<VolumeAttachment>, Volume)> {
        let all = self.caches.attachments.indexed(BY_NODE, node).into_iter();
        let own = all.filter_map(|it| {
            let name = it.spec.source.persistent_volume_name.clone()?;
            let volume = volume(&*self.caches.volumes.get(&Key::cluster(name))?)?;
            let is_own = it.metadata.name.as_deref() == Some(&volume.attachment_name(node));
            is_own.then_some((it, volume))
        });
        own.collect()
    }

    /// On which other nodes a volume is attached, or about to be, and the pods that use it there.
    pub(super) fn elsewhere(&self, node: &str, wanted: &Volume) -> Vec<User> {
        let attachments = self.caches.attachments.indexed(BY_VOLUME, &wanted.name);
        let others = attachments.into_iter().filter(|it| it.spec.node_name != node);
        let users = others.map(|it| {
            let there = self.caches.pods.indexed(BY_NODE, &it.spec.node_name).into_iter();
            let pods = there.filter(|pod| self.of_pod(pod).any(|it| it.name == wanted.name));
            User { node: it.spec.node_name.clone(), pods: pods.collect() }
        });
        users.collect()
    }

    fn of_pod(&self, pod: &Pod) -> impl Iterator<Item = Volume> {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        pods::claims_of(pod).filter_map(move |claim| self.of_claim(&Key::new(&namespace, claim)))
    }

    fn of_claim(&self, key: &Key) -> Option<Volume> {
        let claim = self.caches.claims.get(key)?;
        let name = claim.spec.as_ref()?.volume_name.clone().filter(|it| !it.is_empty())?;
        let found = self.caches.volumes.get(&Key::cluster(name))?;
        // Of a volume that is another claim's nothing is wanted.
        let of = found.spec.as_ref()?.claim_ref.as_ref()?;
        let volume = volume(&found).filter(|_| of.uid == claim.metadata.uid)?;
        let driver = self.caches.csi_drivers.get(&Key::cluster(volume.driver.clone()));
        // Without an object a driver's volumes are attached.
        driver.is_none_or(|it| it.spec.attach_required != Some(false)).then_some(volume)
    }
}

fn volume(volume: &PersistentVolume) -> Option<Volume> {
    let spec = volume.spec.as_ref()?;
    let csi = spec.csi.as_ref()?;
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    let is_shared = |it: &String| matches!(it.as_str(), "ReadWriteMany" | "ReadOnlyMany");
    Some(Volume {
        name: volume.metadata.name.clone()?,
        driver: csi.driver.clone(),
        handle: csi.volume_handle.clone(),
        // Without a mode it is not known: the driver may refuse.
        is_exclusive: !modes.is_empty() && !modes.iter().any(is_shared),
        pods: Vec::new(),
    })
}

/// Nothing of it runs, and nothing will.
fn is_terminated(pod: &Pod) -> bool {
    let statuses = pod.status.iter().flat_map(|it| it.container_statuses.iter().flatten());
    let mut states = statuses.map(|it| it.state.as_ref());
    let runs = states.any(|it| it.is_none_or(|it| it.terminated.is_none() && it.waiting.is_none()));
    pods::is_over(pod) || (object::is_terminating(pod) && !runs)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_pod_is_terminated_when_nothing_of_it_runs_any_more() {
        let pod = |phase: &str, deleted: bool, state: Value| -> Pod {
            let date = deleted.then_some("2026-01-01T00:00:00Z");
            serde_json::from_value(json!({ "metadata": { "deletionTimestamp": date },
                "status": { "phase": phase, "containerStatuses": [{ "name": "c", "image": "",
                    "imageID": "", "ready": false, "restartCount": 0, "state": state }] } }))
            .unwrap()
        };
        let (runs, ended) = (json!({ "running": {} }), json!({ "terminated": { "exitCode": 0 } }));
        assert!(is_terminated(&pod("Succeeded", false, ended.clone())));
        assert!(is_terminated(&pod("Running", true, ended.clone())));
        assert!(!is_terminated(&pod("Running", true, runs)));
        assert!(!is_terminated(&pod("Running", false, ended)));
    }

    #[test]
    fn a_volume_that_no_mode_shares_is_for_one_node() {
        let with = |modes: &[&str]| {
            let spec = json!({ "accessModes": modes,
                "csi": { "driver": "disk", "volumeHandle": "h" } });
            let it = json!({ "metadata": { "name": "pv" }, "spec": spec });
            volume(&serde_json::from_value(it).unwrap()).unwrap().is_exclusive
        };
        assert!(with(&["ReadWriteOnce"]) && with(&["ReadWriteOncePod"]));
        assert!(!with(&["ReadWriteOnce", "ReadOnlyMany"]) && !with(&[]));
    }
}
