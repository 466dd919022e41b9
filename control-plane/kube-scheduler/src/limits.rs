//! What is known of the volumes of CSI drivers where a pod brings some: how many each node may have, and
//! which it has.
//!
//! Upstream: `pkg/scheduler/framework/plugins/nodevolumelimits/csi.go`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use controller::Key;
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::{CSINode, VolumeAttachment},
};
use scheduling::{CsiFact, CsiVolume, PodInfo, volume::matching::class_of_claim};

use crate::{stores::Stores, volumes::NO_PROVISIONER};

/// `None` where no node limits what the pod brings.
pub(crate) fn fact(stores: &Stores, pod: &PodInfo) -> Option<Arc<CsiFact>> {
    let claims = pod
        .claims
        .iter()
        .filter_map(|it| stores.claims.get(&Key::new(pod.namespace.clone(), it.clone())));
    let wanted: BTreeSet<_> = claims.filter_map(|it| volume(stores, &it)).collect();
    let drivers: BTreeSet<_> = wanted.iter().map(|it| it.driver.clone()).collect();
    if drivers.is_empty() {
        return None;
    }
    let nodes = stores.csi_nodes.all();
    let limits = nodes.iter().map(|it| (name(it), limits(it, &drivers)));
    let limits: std::collections::HashMap<_, _> =
        limits.filter(|(_, limits)| !limits.is_empty()).collect();
    if limits.is_empty() {
        return None;
    }
    let of_claims = stores.claims.all().into_iter().filter_map(|it| {
        let meta = &it.metadata;
        let key = (meta.namespace.clone()?, meta.name.clone()?);
        volume(stores, &it).filter(|it| drivers.contains(&it.driver)).map(|it| (key, it))
    });
    let mut fact = CsiFact { wanted, volumes: of_claims.collect(), limits, ..CsiFact::default() };
    for attachment in stores.attachments.all() {
        if let Some(volume) = attached(stores, &attachment) {
            let node = attachment.spec.node_name.clone();
            fact.attached.entry(node).or_default().insert(volume);
        }
    }
    Some(Arc::new(fact))
}

/// The claims that one pod at a time may have.
pub(crate) fn exclusive(stores: &Stores, pod: &PodInfo) -> Vec<String> {
    let is_exclusive = |name: &&String| {
        let claim = stores.claims.get(&Key::new(pod.namespace.clone(), (*name).clone()));
        let spec = claim.as_ref().and_then(|it| it.spec.as_ref());
        let mut modes = spec.into_iter().flat_map(|it| it.access_modes.iter().flatten());
        modes.any(|it| it == "ReadWriteOncePod")
    };
    pod.claims.iter().filter(is_exclusive).cloned().collect()
}

fn name(node: &CSINode) -> String {
    node.metadata.name.clone().unwrap_or_default()
}

fn limits(node: &CSINode, drivers: &BTreeSet<String>) -> BTreeMap<String, usize> {
    let all = node.spec.drivers.iter().filter(|it| drivers.contains(&it.name));
    let limits = all.filter_map(|it| {
        let count = it.allocatable.as_ref()?.count?;
        Some((it.name.clone(), usize::try_from(count).ok()?))
    });
    limits.collect()
}

/// The volume of a claim; of one that waits for its pod, that which the driver will make.
fn volume(stores: &Stores, claim: &PersistentVolumeClaim) -> Option<CsiVolume> {
    let bound = claim.spec.as_ref()?.volume_name.clone().filter(|it| !it.is_empty());
    if let Some(name) = bound {
        return of_volume(&*stores.volumes.get(&Key::cluster(name))?);
    }
    let class = stores.classes.get(&Key::cluster(class_of_claim(claim)?))?;
    let meta = &claim.metadata;
    let (namespace, name) = (meta.namespace.as_deref()?, meta.name.as_deref()?);
    (class.provisioner != NO_PROVISIONER).then(|| CsiVolume {
        driver: class.provisioner.clone(),
        handle: format!("{}-{namespace}/{name}", class.provisioner),
    })
}

fn of_volume(volume: &PersistentVolume) -> Option<CsiVolume> {
    let csi = volume.spec.as_ref()?.csi.as_ref()?;
    Some(CsiVolume { driver: csi.driver.clone(), handle: csi.volume_handle.clone() })
}

fn attached(stores: &Stores, attachment: &VolumeAttachment) -> Option<CsiVolume> {
    let name = attachment.spec.source.persistent_volume_name.clone()?;
    of_volume(&*stores.volumes.get(&Key::cluster(name))?)
}

#[cfg(test)]
mod tests {
    use controller::{Store, StoreSpec};
    use k8s_openapi::api::{core::v1::Pod, storage::v1::StorageClass};
    use kube::Resource;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    fn some<K>(objects: Value) -> Store<K>
    where
        K: DeserializeOwned + Resource + Send + Sync + 'static,
    {
        let objects: Vec<K> = serde_json::from_value(objects).unwrap();
        Store::fixed(StoreSpec::default(), objects)
    }

    fn claim(name: &str, volume: &str, mode: &str) -> Value {
        json!({ "metadata": { "namespace": "n", "name": name },
            "spec": { "volumeName": volume, "storageClassName": "fast", "accessModes": [mode] } })
    }

    fn stores() -> Stores {
        let volume = |name: &str| {
            json!({ "metadata": { "name": name },
                "spec": { "csi": { "driver": "disk", "volumeHandle": format!("h-{name}") } } })
        };
        let node = |name: &str, driver: &str, count: Option<i32>| {
            let allocatable = count.map(|it| json!({ "count": it }));
            json!({ "metadata": { "name": name }, "spec": { "drivers": [
                { "name": driver, "nodeID": name, "allocatable": allocatable }] } })
        };
        Stores {
            claims: some::<PersistentVolumeClaim>(json!([
                claim("bound", "one", "ReadWriteOnce"),
                claim("waits", "", "ReadWriteOncePod")
            ])),
            volumes: some::<PersistentVolume>(json!([volume("one"), volume("two")])),
            classes: some::<StorageClass>(json!([
                { "metadata": { "name": "fast" }, "provisioner": "disk" }])),
            csi_nodes: some::<CSINode>(json!([
                node("a", "disk", Some(2)),
                node("b", "disk", None),
                node("c", "tape", Some(1))
            ])),
            attachments: some::<VolumeAttachment>(json!([{ "metadata": { "name": "x" },
                "spec": { "attacher": "disk", "nodeName": "a",
                    "source": { "persistentVolumeName": "two" } } }])),
            ..Stores::empty()
        }
    }

    fn pod(claims: &[&str]) -> PodInfo {
        let volumes: Vec<_> = claims
            .iter()
            .map(|it| json!({ "name": it, "persistentVolumeClaim": { "claimName": it } }))
            .collect();
        let pod: Pod =
            serde_json::from_value(json!({ "metadata": { "namespace": "n", "name": "p" },
            "spec": { "containers": [], "volumes": volumes } }))
            .unwrap();
        PodInfo::new(&pod)
    }

    #[test]
    fn what_a_pod_brings_what_nodes_may_have_and_what_they_have() {
        let volume = |handle: &str| CsiVolume { driver: "disk".into(), handle: handle.into() };
        let fact = fact(&stores(), &pod(&["bound", "waits"])).unwrap();
        assert_eq!(fact.wanted, [volume("disk-n/waits"), volume("h-one")].into());
        assert_eq!(fact.limits, [("a".to_owned(), [("disk".to_owned(), 2)].into())].into());
        assert_eq!(fact.attached, [("a".to_owned(), [volume("h-two")].into())].into());
        assert_eq!(fact.volumes.len(), 2);
    }

    #[test]
    fn without_volumes_or_limits_nothing_is_counted() {
        assert_eq!(fact(&stores(), &pod(&[])), None);
        let unlimited = Stores { csi_nodes: some(json!([])), ..stores() };
        assert_eq!(fact(&unlimited, &pod(&["bound"])), None);
    }

    #[test]
    fn a_claim_for_one_pod_is_known_by_its_mode() {
        assert_eq!(exclusive(&stores(), &pod(&["bound", "waits", "gone"])), ["waits"]);
    }
}
