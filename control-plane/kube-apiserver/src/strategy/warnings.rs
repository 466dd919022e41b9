//! What the user should know about an object that is accepted all the same.
//!
//! Upstream: `WarningsOnCreate` and `WarningsOnUpdate` of the strategies in pkg/registry.

use std::collections::BTreeSet;

use serde_json::Value;

use super::pod_warnings;
use crate::resources::Resource;

/// Of a new object.
pub(crate) fn of(resource: &Resource, object: &Value) -> Vec<String> {
    let mut warnings = templates(resource, object);
    if resource.is("", "endpoints") {
        warnings.push(
            "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".into(),
        );
    }
    if resource.is("apiextensions.k8s.io", "customresourcedefinitions") {
        let mut unknown = BTreeSet::new();
        for version in object["spec"]["versions"].as_array().into_iter().flatten() {
            crate::validation::formats::unknown(&version["schema"], &mut unknown);
        }
        warnings.extend(unknown.iter().map(|it| format!("unrecognized format {it:?}")));
    }
    if resource.is("", "pods") {
        warnings.extend(pod_warnings::of("", object));
    }
    warnings
}

/// Of a changed object. Nobody is told of what is in a pod each time that its kubelet writes.
pub(crate) fn of_update(resource: &Resource, old: &Value, new: &Value) -> Vec<String> {
    let is_definition = resource.is("apiextensions.k8s.io", "customresourcedefinitions");
    if is_definition || resource.is("", "endpoints") {
        return of(resource, new);
    }
    if old["spec"] == new["spec"] { Vec::new() } else { templates(resource, new) }
}

/// Of the pods that an object is the template of.
fn templates(resource: &Resource, object: &Value) -> Vec<String> {
    let path = match (resource.group.as_str(), resource.plural.as_str()) {
        ("apps", "deployments" | "replicasets" | "daemonsets" | "statefulsets")
        | ("batch", "jobs")
        | ("", "replicationcontrollers") => "spec.template",
        ("batch", "cronjobs") => "spec.jobTemplate.spec.template",
        ("", "podtemplates") => "template",
        _ => return Vec::new(),
    };
    let template = object.pointer(&format!("/{}", path.replace('.', "/")));
    template.map(|it| pod_warnings::of(path, it)).unwrap_or_default()
}

/// Takes references to owners away that are there already, and warns of them.
///
/// Upstream: `dedupOwnerReferencesAndAddWarning` of k8s.io/apiserver.
pub(crate) fn without_twins(object: &mut Value) -> Option<String> {
    let owners = object["metadata"].get_mut("ownerReferences").and_then(Value::as_array_mut)?;
    let mut twins = BTreeSet::new();
    let mut left: Vec<Value> = Vec::with_capacity(owners.len());
    for owner in std::mem::take(owners) {
        if left.contains(&owner) {
            twins.insert(owner["uid"].as_str().unwrap_or_default().to_owned());
        } else {
            left.push(owner);
        }
    }
    *owners = left;
    let twins: Vec<String> = twins.into_iter().collect();
    (!twins.is_empty()).then(|| {
        format!(
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner \
             references in 1.20+, and may reject such requests as early as 1.24; please fix your \
             requests; duplicate UID(s) observed: {}",
            twins.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_owner_that_is_named_twice_is_kept_once_and_told() {
        let owner = json!({"uid": "u", "name": "n"});
        let mut object = json!({"metadata": {"ownerReferences": [owner, owner, {"uid": "u"}]}});
        let told = without_twins(&mut object).unwrap();
        assert!(told.ends_with("observed: u"), "{told}");
        assert_eq!(object["metadata"]["ownerReferences"], json!([owner, {"uid": "u"}]));
        assert_eq!(without_twins(&mut object), None);
    }
}
