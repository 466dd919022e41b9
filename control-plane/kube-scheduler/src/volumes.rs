//! What is known of a pod's persistent volume claims.

use controller::{Key, object};
use k8s_openapi::api::{
    core::v1::{NodeSelectorTerm, PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::{CSIStorageCapacity, StorageClass},
};
use kube::core::Selector;
use resources::Quantity;
use scheduling::{
    VolumeFact,
    volume::{Candidate, Places, matching},
};

use crate::stores::Stores;

pub(crate) const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
/// What `kubectl get pvc` shows a provisioner.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

pub(crate) fn facts(stores: &Stores, pod: &Pod) -> Vec<VolumeFact> {
    let volumes = pod.spec.iter().flat_map(|it| it.volumes.iter().flatten());
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let claims = volumes.filter_map(|volume| {
        let claim = volume.persistent_volume_claim.as_ref().map(|it| it.claim_name.clone());
        let ephemeral = || {
            // The claim of a generic ephemeral volume is named after both.
            let pod = pod.metadata.name.clone().unwrap_or_default();
            volume.ephemeral.as_ref().map(|_| format!("{pod}-{}", volume.name))
        };
        claim.or_else(ephemeral)
    });
    claims.map(|claim| fact(stores, &namespace, claim)).collect()
}

/// Leaves of the facts what the plug-ins of a profile ask for.
pub(crate) fn restrict(facts: &mut Vec<VolumeFact>, binding: bool, zones: bool) {
    facts.retain(|it| binding || matches!(it, VolumeFact::Bound { .. }));
    for fact in facts {
        if let VolumeFact::Bound { terms, labels } = fact {
            if !binding {
                *terms = None;
            }
            if !zones {
                labels.clear();
            }
        }
    }
}

fn fact(stores: &Stores, namespace: &str, claim: String) -> VolumeFact {
    let Some(found) = stores.claims.get(&Key::new(namespace, &claim)) else {
        return VolumeFact::Missing { claim };
    };
    if found.metadata.deletion_timestamp.is_some() {
        return VolumeFact::Terminating { claim };
    }
    let volume = found.spec.as_ref().and_then(|it| it.volume_name.clone());
    let Some(volume) = volume.filter(|it| !it.is_empty()) else {
        return unbound(stores, &found, claim);
    };
    let Some(volume) = stores.volumes.get(&Key::cluster(volume.clone())) else {
        return VolumeFact::Lost { claim, volume };
    };
    let terms = terms(&volume);
    VolumeFact::Bound { terms, labels: volume.metadata.labels.clone().unwrap_or_default() }
}

fn terms(volume: &PersistentVolume) -> Option<Vec<NodeSelectorTerm>> {
    let affinity = volume.spec.as_ref()?.node_affinity.as_ref()?;
    affinity.required.as_ref().map(|it| it.node_selector_terms.clone())
}

fn unbound(stores: &Stores, found: &PersistentVolumeClaim, claim: String) -> VolumeFact {
    let class = matching::class_of_claim(found).map(str::to_owned);
    let class = class.and_then(|it| stores.classes.get(&Key::cluster(it)));
    let waits =
        |it: &StorageClass| it.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer");
    let Some(class) = class.filter(|it| waits(it)) else { return VolumeFact::UnboundImmediate };
    let selected = object::annotation(found, SELECTED_NODE).map(str::to_owned);
    // A node that is gone will not get its volume.
    let selected = selected.filter(|it| stores.nodes.get(&Key::cluster(it.clone())).is_some());
    if let Some(node) = selected {
        return VolumeFact::Selected { node };
    }
    let provision = (class.provisioner != NO_PROVISIONER).then(|| places(stores, found, &class));
    let volumes = candidates(stores, found);
    match (volumes.is_empty(), provision) {
        (true, None) => VolumeFact::Unbindable,
        (true, Some(places)) if places == Places::default() => VolumeFact::Provisionable { claim },
        (_, provision) => VolumeFact::Choosable { claim, volumes, provision },
    }
}

/// Where the class's provisioner can make a volume for the claim.
fn places(stores: &Stores, claim: &PersistentVolumeClaim, class: &StorageClass) -> Places {
    let driver = stores.csi_drivers.get(&Key::cluster(class.provisioner.clone()));
    let tells = driver.is_some_and(|it| it.spec.storage_capacity == Some(true));
    Places {
        topologies: class.allowed_topologies.clone().unwrap_or_default(),
        with_room: tells.then(|| rooms(stores, claim, class)),
    }
}

/// The nodes that the driver says it has room for such a volume for.
fn rooms(stores: &Stores, claim: &PersistentVolumeClaim, class: &StorageClass) -> Vec<Selector> {
    let requests = claim.spec.as_ref().and_then(|it| it.resources.as_ref()?.requests.as_ref());
    let wanted = requests.and_then(|it| Quantity::try_from(it.get("storage")?).ok());
    let wanted = wanted.unwrap_or_default();
    let has_room = |it: &CSIStorageCapacity| {
        let most = it.maximum_volume_size.as_ref().or(it.capacity.as_ref());
        most.and_then(|it| Quantity::try_from(it).ok()).is_some_and(|most| most >= wanted)
    };
    let all = stores.capacities.all();
    let of_class =
        all.iter().filter(|it| Some(&it.storage_class_name) == class.metadata.name.as_ref());
    let roomy = of_class.filter(|it| has_room(it));
    roomy.filter_map(|it| controller::selector(it.node_topology.as_ref())).collect()
}

/// The volumes that would do wherever they can be reached from, the best first.
fn candidates(stores: &Stores, claim: &PersistentVolumeClaim) -> Vec<Candidate> {
    let mut left = stores.volumes.all();
    let mut candidates = Vec::new();
    while let Some(best) = matching::best_volume(claim, left.iter(), None).cloned() {
        left.retain(|it| it.metadata.name != best.metadata.name);
        let name = best.metadata.name.clone().unwrap_or_default();
        candidates.push(Candidate { name, terms: terms(&best) });
        if matching::is_promised(&best, claim) {
            break;
        }
    }
    candidates
}

#[cfg(test)]
mod tests {
    use controller::{Store, StoreSpec};
    use k8s_openapi::api::{core::v1::Node, storage::v1::CSIDriver};
    use serde_json::{Value, json};

    use super::*;

    fn stores(annotations: Value, provisioner: &str, volumes: &[(&str, &str)]) -> Stores {
        let of = |value: Value| serde_json::from_value(value).unwrap();
        let claim = of(json!({ "metadata": { "namespace": "n", "name": "data",
                "annotations": annotations },
            "spec": { "storageClassName": "local", "accessModes": ["ReadWriteOnce"],
                "resources": { "requests": { "storage": "1Gi" } } } }));
        let class: StorageClass = serde_json::from_value(json!({ "metadata": { "name": "local" },
            "provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer" }))
        .unwrap();
        let volume = |(name, size): &(&str, &str)| -> PersistentVolume {
            serde_json::from_value(json!({ "metadata": { "name": name },
                "spec": { "storageClassName": "local", "accessModes": ["ReadWriteOnce"],
                    "capacity": { "storage": size } }, "status": { "phase": "Available" } }))
            .unwrap()
        };
        let node: Node = serde_json::from_value(json!({ "metadata": { "name": "here" } })).unwrap();
        Stores {
            claims: Store::fixed(StoreSpec::default(), [claim]),
            classes: Store::fixed(StoreSpec::default(), [class]),
            volumes: Store::fixed(StoreSpec::default(), volumes.iter().map(volume)),
            nodes: Store::fixed(StoreSpec::default(), [node]),
            ..Stores::empty()
        }
    }

    fn of_pod(stores: &Stores) -> Vec<VolumeFact> {
        let pod = json!({ "metadata": { "namespace": "n", "name": "p" }, "spec": { "containers": [],
            "volumes": [{ "name": "v", "persistentVolumeClaim": { "claimName": "data" } }] } });
        facts(stores, &serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn a_claim_that_waits_for_its_pod_may_have_any_volume_that_does_the_smallest_first() {
        let volumes = [("big", "8Gi"), ("small", "1Gi"), ("tiny", "1Mi")];
        let candidate = |name: &str| Candidate { name: name.into(), terms: None };
        assert_eq!(
            of_pod(&stores(json!({}), NO_PROVISIONER, &volumes)),
            [VolumeFact::Choosable {
                claim: "data".into(),
                volumes: vec![candidate("small"), candidate("big")],
                provision: None,
            }]
        );
        let none = of_pod(&stores(json!({}), NO_PROVISIONER, &volumes[2..]));
        assert_eq!(none, [VolumeFact::Unbindable]);
        let made = of_pod(&stores(json!({}), "example.com/disk", &[]));
        assert_eq!(made, [VolumeFact::Provisionable { claim: "data".into() }]);
    }

    #[test]
    fn a_node_that_was_selected_stays_so_as_long_as_it_is_there() {
        let selected =
            |node: &str| of_pod(&stores(json!({ SELECTED_NODE: node }), "example.com/disk", &[]));
        assert_eq!(selected("here"), [VolumeFact::Selected { node: "here".into() }]);
        assert_eq!(selected("gone"), [VolumeFact::Provisionable { claim: "data".into() }]);
    }

    #[test]
    fn a_driver_that_tells_of_its_room_makes_volumes_where_there_is_enough() {
        let mut stores = stores(json!({}), "example.com/disk", &[]);
        let driver: CSIDriver = serde_json::from_value(json!({
            "metadata": { "name": "example.com/disk" }, "spec": { "storageCapacity": true } }))
        .unwrap();
        stores.csi_drivers = Store::fixed(StoreSpec::default(), [driver]);
        let capacity = |(name, class, most): (&str, &str, Value)| -> CSIStorageCapacity {
            let mut it = json!({ "metadata": { "namespace": "n", "name": name },
                "storageClassName": class, "capacity": "8Gi",
                "nodeTopology": { "matchLabels": { "host": name } } });
            it.as_object_mut().unwrap().extend(most.as_object().unwrap().clone());
            serde_json::from_value(it).unwrap()
        };
        let capacities = [
            ("a", "local", json!({})),
            ("b", "local", json!({ "maximumVolumeSize": "1Mi" })),
            ("c", "other", json!({})),
            ("d", "local", json!({ "capacity": "1Mi" })),
        ];
        stores.capacities = Store::fixed(StoreSpec::default(), capacities.map(capacity));
        let host = |it: &str| [("host".to_owned(), it.to_owned())].into_iter().collect();
        let places = Places { topologies: Vec::new(), with_room: Some(vec![host("a")]) };
        let fact = VolumeFact::Choosable {
            claim: "data".into(),
            volumes: Vec::new(),
            provision: Some(places),
        };
        assert_eq!(of_pod(&stores), [fact]);
    }
}
