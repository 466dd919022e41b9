//! Revisions, and what a ReplicaSet takes over from its Deployment.
//!
//! A rollback (by kubectl) writes an old template into the Deployment; the ReplicaSet that has it
//! becomes the new one again and gets the next revision, remembering those that it had.

use std::{collections::BTreeMap, sync::Arc};

use controller::object;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::{Map, Value, json};

use super::{hash, plan};

pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(crate) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(crate) const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";
const HASH: &str = "pod-template-hash";
/// Annotations of a Deployment that are not its ReplicaSets'.
const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    REVISION,
    HISTORY,
    DESIRED,
    MAXIMUM,
];

/// The highest revision among these, zero where there is none.
pub(crate) fn highest(sets: &[Arc<ReplicaSet>]) -> i64 {
    sets.iter().map(|it| revision_of(it)).max().unwrap_or(0)
}

pub(crate) fn revision_of(set: &ReplicaSet) -> i64 {
    object::annotation(set, REVISION).and_then(|it| it.parse().ok()).unwrap_or(0)
}

/// Whether two ReplicaSets run the same pods, but for the hash in their labels.
pub(crate) fn has_template_of(set: &ReplicaSet, other: &ReplicaSet) -> bool {
    let template =
        |it: &ReplicaSet| without_hash(it.spec.as_ref().and_then(|it| it.template.as_ref()));
    template(set) == template(other)
}

pub(crate) fn has_template(set: &ReplicaSet, template: &PodTemplateSpec) -> bool {
    let own = set.spec.as_ref().and_then(|it| it.template.as_ref());
    without_hash(own) == without_hash(Some(template))
}

fn without_hash(template: Option<&PodTemplateSpec>) -> PodTemplateSpec {
    let mut template = template.cloned().unwrap_or_default();
    if let Some(meta) = &mut template.metadata {
        if let Some(labels) = &mut meta.labels {
            labels.remove(HASH);
        }
        meta.labels = meta.labels.take().filter(|it| !it.is_empty());
        meta.annotations = meta.annotations.take().filter(|it| !it.is_empty());
        meta.creation_timestamp = None;
    }
    template.metadata = template.metadata.filter(|it| *it != ObjectMeta::default());
    template
}

/// The ReplicaSet that a Deployment's template wants, with so many pods to begin with.
pub(crate) fn new_replica_set(deployment: &Deployment, revision: i64, replicas: i32) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|it| it.collision_count);
    let hash = hash::template_hash(&spec.template, collisions);
    let mut template = spec.template;
    let meta = template.metadata.get_or_insert_default();
    meta.labels.get_or_insert_default().insert(HASH.to_owned(), hash.clone());
    let labels = meta.labels.clone();
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH.to_owned(), hash.clone());
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{hash}")),
            namespace: deployment.metadata.namespace.clone(),
            labels,
            annotations: Some(new_annotations(deployment, None, revision)),
            owner_references: Some(vec![object::controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: Some(replicas),
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

/// What the annotations of the new ReplicaSet should be, given those that it has.
fn new_annotations(
    deployment: &Deployment,
    set: Option<&ReplicaSet>,
    revision: i64,
) -> BTreeMap<String, String> {
    let mut annotations = set.and_then(|it| it.metadata.annotations.clone()).unwrap_or_default();
    let copied = deployment.metadata.annotations.iter().flatten();
    let copied = copied.filter(|(key, _)| !OWN.contains(&key.as_str()));
    annotations.extend(copied.map(|(key, value)| (key.clone(), value.clone())));
    annotations.extend(scale_annotations(deployment));
    let old = set.map_or(0, revision_of);
    if old < revision {
        if let Some(old) = set.and_then(|it| object::annotation(it, REVISION)) {
            let history = annotations.get(HISTORY).filter(|it| !it.is_empty());
            let history = history.map_or_else(|| old.to_owned(), |it| format!("{it},{old}"));
            annotations.insert(HISTORY.to_owned(), history);
        }
        annotations.insert(REVISION.to_owned(), revision.to_string());
    }
    annotations
}

/// What the existing new ReplicaSet lacks of its Deployment, as a patch, if anything.
pub(crate) fn renewal(deployment: &Deployment, set: &ReplicaSet, revision: i64) -> Option<Value> {
    let wanted = new_annotations(deployment, Some(set), revision);
    let known = set.metadata.annotations.clone().unwrap_or_default();
    // How many are wanted changes with scaling only, and is compared there.
    let is_new = |key: &str, value: &str| {
        key != DESIRED && key != MAXIMUM && known.get(key).map(String::as_str) != Some(value)
    };
    let missing: BTreeMap<_, _> =
        wanted.into_iter().filter(|(key, value)| is_new(key, value)).collect();
    let wanted = deployment.spec.as_ref().and_then(|it| it.min_ready_seconds).unwrap_or(0);
    let is_same = set.spec.as_ref().and_then(|it| it.min_ready_seconds).unwrap_or(0) == wanted;
    let mut patch = Map::new();
    if !missing.is_empty() {
        patch.insert("metadata".into(), json!({ "annotations": missing }));
    }
    if !is_same {
        patch.insert("spec".into(), json!({ "minReadySeconds": wanted }));
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// How many the Deployment wants, and how many there may be: what a scaling is recognized by.
pub(crate) fn scale_annotations(deployment: &Deployment) -> BTreeMap<String, String> {
    let replicas = plan::replicas(deployment);
    let maximum = replicas + plan::max_surge(deployment);
    [(DESIRED.to_owned(), replicas.to_string()), (MAXIMUM.to_owned(), maximum.to_string())].into()
}
