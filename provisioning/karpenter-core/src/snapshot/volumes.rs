//! What is known of a pod's volumes.
//!
//! Upstream: `volumetopology.go`. A claim that waits for its first pod may have its volume wherever
//! its class allows.

use k8s_openapi::api::core::v1 as core;
use scheduling::VolumeFact;

use super::Snapshot;

pub(super) fn facts(snapshot: &Snapshot, pod: &core::Pod) -> Vec<VolumeFact> {
    let volumes = pod.spec.as_ref().and_then(|it| it.volumes.as_deref()).unwrap_or_default();
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let facts = volumes.iter().filter_map(|volume| {
        if let Some(claim) = &volume.persistent_volume_claim {
            return Some(fact(snapshot, pod, &claim.claim_name));
        }
        // The claim of an ephemeral volume is made with the pod.
        let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
        let name = format!("{pod_name}-{}", volume.name);
        Some(unbound(snapshot, &name, template.spec.storage_class_name.as_deref()))
    });
    facts.collect()
}

fn fact(snapshot: &Snapshot, pod: &core::Pod, name: &str) -> VolumeFact {
    let found = snapshot.volume_claims.iter().find(|it| {
        it.metadata.name.as_deref() == Some(name) && it.metadata.namespace == pod.metadata.namespace
    });
    let claim = name.to_owned();
    let Some(found) = found else { return VolumeFact::Missing { claim } };
    if found.metadata.deletion_timestamp.is_some() {
        return VolumeFact::Terminating { claim };
    }
    let spec = found.spec.clone().unwrap_or_default();
    let Some(volume) = spec.volume_name.filter(|it| !it.is_empty()) else {
        return unbound(snapshot, name, spec.storage_class_name.as_deref());
    };
    let mut volumes = snapshot.volumes.iter();
    let found = volumes.find(|it| it.metadata.name.as_deref() == Some(&*volume));
    let Some(volume) = found else { return VolumeFact::Lost { claim, volume } };
    let spec = volume.spec.as_ref();
    let is_of_host = spec.is_some_and(|it| it.local.is_some() || it.host_path.is_some());
    let terms = spec.and_then(|it| it.node_affinity.as_ref()?.required.as_ref());
    let mut terms = terms.map(|it| it.node_selector_terms.clone());
    // A new node cannot be the one that a local volume is on; upstream looks past its hostname.
    if is_of_host {
        for term in terms.iter_mut().flatten() {
            let expressions = term.match_expressions.take().unwrap_or_default();
            let others = expressions.into_iter().filter(|it| it.key != "kubernetes.io/hostname");
            term.match_expressions = Some(others.collect());
        }
        terms = terms.filter(|it| {
            it.iter().any(|it| it.match_expressions.as_ref().is_some_and(|it| !it.is_empty()))
        });
    }
    VolumeFact::Bound { terms, labels: volume.metadata.labels.clone().unwrap_or_default() }
}

fn unbound(snapshot: &Snapshot, claim: &str, class: Option<&str>) -> VolumeFact {
    let claim = claim.to_owned();
    let mut classes = snapshot.storage_classes.iter();
    let class = classes.find(|it| it.metadata.name.as_deref() == class);
    let Some(class) = class else { return VolumeFact::Provisionable { claim } };
    if class.volume_binding_mode.as_deref() != Some("WaitForFirstConsumer") {
        return VolumeFact::UnboundImmediate;
    }
    let topologies = class.allowed_topologies.iter().flatten();
    let terms: Vec<core::NodeSelectorTerm> = topologies
        .map(|it| {
            let expressions = it.match_label_expressions.iter().flatten();
            let expressions = expressions.map(|it| core::NodeSelectorRequirement {
                key: it.key.clone(),
                operator: "In".to_owned(),
                values: Some(it.values.clone()),
            });
            core::NodeSelectorTerm {
                match_expressions: Some(expressions.collect()),
                match_fields: None,
            }
        })
        .collect();
    match terms.is_empty() {
        true => VolumeFact::Provisionable { claim },
        false => VolumeFact::Bound { terms: Some(terms), labels: Default::default() },
    }
}
