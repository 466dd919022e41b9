//! Which persistent volume serves a claim.
//!
//! Asked by the controller that binds claims and by the scheduler, for claims that wait for their
//! pod's node: both must find the same.
//!
//! Upstream: `k8s.io/component-helpers/storage/volume` (`FindMatchingVolume`,
//! `CheckVolumeModeMismatches`), `pkg/controller/volume/persistentvolume` (`checkVolumeSatisfyClaim`).

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::core::{Selector, SelectorExt};
use resources::Quantity;

use crate::affinity::matches_node_selector_terms;

const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// The node that a volume must be reachable from: its name and labels.
pub type At<'a> = (&'a str, &'a BTreeMap<String, String>);

/// The class of a claim; `None` where the default is still to be filled in.
pub fn class_of_claim(claim: &PersistentVolumeClaim) -> Option<&str> {
    let annotations = claim.metadata.annotations.as_ref();
    let old = annotations.and_then(|it| it.get(CLASS)).map(String::as_str);
    old.or_else(|| claim.spec.as_ref()?.storage_class_name.as_deref())
}

/// The class of a volume; nothing is a class too.
pub fn class_of_volume(volume: &PersistentVolume) -> &str {
    let annotations = volume.metadata.annotations.as_ref();
    let old = annotations.and_then(|it| it.get(CLASS)).map(String::as_str);
    let own = || volume.spec.as_ref()?.storage_class_name.as_deref();
    old.or_else(own).unwrap_or_default()
}

/// Whether the volume is promised to this claim, by name or for good.
pub fn is_promised(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(to) = volume.spec.as_ref().and_then(|it| it.claim_ref.as_ref()) else { return false };
    let uid = to.uid.as_deref().filter(|it| !it.is_empty());
    to.name == claim.metadata.name
        && to.namespace == claim.metadata.namespace
        && uid.is_none_or(|it| Some(it) == claim.metadata.uid.as_deref())
}

/// Whether the volume does what the claim asks for, or upstream's words for why not.
pub fn check_volume(
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
) -> Result<(), &'static str> {
    let wanted = claim.spec.clone().unwrap_or_default();
    let offered = volume.spec.clone().unwrap_or_default();
    if size(volume) < requested(claim) {
        return Err("requested PV is too small");
    }
    if class_of_claim(claim).unwrap_or_default() != class_of_volume(volume) {
        return Err("storageClassName does not match");
    }
    let attributes = |it: Option<String>| it.unwrap_or_default();
    if attributes(wanted.volume_attributes_class_name)
        != attributes(offered.volume_attributes_class_name)
    {
        return Err("volumeAttributesClassName does not match");
    }
    let mode = |it: Option<String>| it.unwrap_or_else(|| "Filesystem".into());
    if mode(wanted.volume_mode) != mode(offered.volume_mode) {
        return Err("incompatible volumeMode");
    }
    let modes = offered.access_modes.unwrap_or_default();
    if !wanted.access_modes.iter().flatten().all(|it| modes.contains(it)) {
        return Err("incompatible accessMode");
    }
    Ok(())
}

/// The volume that is promised to the claim, or else the smallest that does.
pub fn best_volume<'a>(
    claim: &PersistentVolumeClaim,
    volumes: impl Iterator<Item = &'a Arc<PersistentVolume>> + Clone,
    at: Option<At<'_>>,
) -> Option<&'a Arc<PersistentVolume>> {
    let promised = volumes.clone().find(|it| is_promised(it, claim));
    if let Some(it) = promised {
        return Some(it).filter(|it| check_volume(claim, it).is_ok() && is_reachable(it, at));
    }
    let selector = claim.spec.as_ref().and_then(|it| it.selector.clone());
    let selector: Option<Selector> = match selector {
        None => None,
        Some(it) => Some(it.try_into().ok()?),
    };
    let none = BTreeMap::new();
    let is_selected = |it: &PersistentVolume| {
        let labels = it.metadata.labels.as_ref().unwrap_or(&none);
        selector.as_ref().is_none_or(|it| it.matches(labels))
    };
    let does = volumes.filter(|it| {
        is_free(it) && is_selected(it) && is_reachable(it, at) && check_volume(claim, it).is_ok()
    });
    does.min_by_key(|it| (size(it), it.metadata.name.clone()))
}

fn is_free(volume: &PersistentVolume) -> bool {
    let phase = volume.status.as_ref().and_then(|it| it.phase.as_deref());
    volume.metadata.deletion_timestamp.is_none()
        && volume.spec.as_ref().is_some_and(|it| it.claim_ref.is_none())
        && phase == Some("Available")
}

fn is_reachable(volume: &PersistentVolume, at: Option<At<'_>>) -> bool {
    let Some((name, labels)) = at else { return true };
    let affinity = volume.spec.as_ref().and_then(|it| it.node_affinity.as_ref());
    let required = affinity.and_then(|it| it.required.as_ref());
    required.is_none_or(|it| matches_node_selector_terms(&it.node_selector_terms, name, labels))
}

fn size(volume: &PersistentVolume) -> Quantity {
    let capacity = volume.spec.as_ref().and_then(|it| it.capacity.as_ref()?.get("storage"));
    capacity.and_then(|it| it.0.parse().ok()).unwrap_or_default()
}

fn requested(claim: &PersistentVolumeClaim) -> Quantity {
    let spec = claim.spec.as_ref();
    let requests = spec.and_then(|it| it.resources.as_ref()?.requests.as_ref()?.get("storage"));
    requests.and_then(|it| it.0.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim(extra: Value) -> PersistentVolumeClaim {
        let mut spec = json!({ "accessModes": ["ReadWriteOnce"], "storageClassName": "slow",
            "resources": { "requests": { "storage": "2Gi" } } });
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "metadata": { "namespace": "n", "name": "c", "uid": "1" }, "spec": spec }))
        .unwrap()
    }

    fn volume(name: &str, size: &str, extra: Value) -> Arc<PersistentVolume> {
        let mut spec = json!({ "capacity": { "storage": size }, "storageClassName": "slow",
            "accessModes": ["ReadWriteOnce", "ReadOnlyMany"] });
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let value = json!({ "metadata": { "name": name, "labels": { "tier": name } },
            "spec": spec, "status": { "phase": "Available" } });
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_volume_must_do_all_that_the_claim_asks_for() {
        for (extra, size, expected) in [
            (json!({}), "2Gi", Ok(())),
            (json!({}), "2047Mi", Err("requested PV is too small")),
            (json!({ "storageClassName": "" }), "2Gi", Err("storageClassName does not match")),
            (json!({ "volumeMode": "Block" }), "2Gi", Err("incompatible volumeMode")),
            (
                json!({ "accessModes": ["ReadWriteOnce", "ReadWriteMany"] }),
                "2Gi",
                Err("incompatible accessMode"),
            ),
        ] {
            let found = check_volume(&claim(extra.clone()), &volume("v", size, json!({})));
            assert_eq!(found, expected, "{extra} {size}");
        }
    }

    #[test]
    fn the_smallest_that_does_is_taken_unless_one_is_promised() {
        let name =
            |claim: &PersistentVolumeClaim, all: &[Arc<PersistentVolume>], at: Option<&str>| {
                let labels: BTreeMap<_, _> =
                    at.map(|it| ("host".to_owned(), it.to_owned())).into_iter().collect();
                let found = best_volume(claim, all.iter(), at.map(|it| (it, &labels)));
                found.and_then(|it| it.metadata.name.clone())
            };
        let on = |host: &str| {
            json!({ "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [
                { "key": "host", "operator": "In", "values": [host] }] }] } } })
        };
        let to = |name: &str, uid: &str| json!({ "claimRef": { "namespace": "n", "name": name, "uid": uid } });
        let mut all = vec![
            volume("large", "8Gi", json!({})),
            volume("there", "3Gi", on("b")),
            volume("small", "1Gi", json!({})),
            volume("taken", "2Gi", to("other", "2")),
        ];
        assert_eq!(name(&claim(json!({})), &all, None).as_deref(), Some("there"));
        assert_eq!(name(&claim(json!({})), &all, Some("a")).as_deref(), Some("large"));
        assert_eq!(name(&claim(json!({})), &all, Some("b")).as_deref(), Some("there"));
        let picky = claim(json!({ "selector": { "matchLabels": { "tier": "large" } } }));
        assert_eq!(name(&picky, &all, None).as_deref(), Some("large"));
        all.push(volume("promised", "9Gi", to("c", "")));
        assert_eq!(name(&claim(json!({})), &all, None).as_deref(), Some("promised"));
        all.push(volume("earlier", "9Gi", to("c", "0")));
        assert!(!is_promised(&all[5], &claim(json!({}))), "that was a claim before this one");
    }
}
