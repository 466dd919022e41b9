//! What a pod asks for, the claim that is made of a template, and what becomes of a claim.

use std::collections::BTreeMap;

use controller::object;
use k8s_openapi::{
    api::{
        core::v1::{Pod, PodResourceClaim},
        resource::v1::{ResourceClaim, ResourceClaimConsumerReference, ResourceClaimTemplate},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use scheduling::resourceclaim::{self, is_allocated};
use serde_json::{Value, json};

use crate::pods;

/// Names the entry of the pod that a claim was made for.
const ANNOTATION: &str = "resource.kubernetes.io/pod-claim-name";
/// Whoever allocates a claim keeps it from going while it is.
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// Leaves room for the five random characters.
const LONGEST_BASE: usize = 57;

/// None of its containers runs, or ever will.
pub(super) fn is_done(pod: &Pod) -> bool {
    pods::is_over(pod) || (object::is_terminating(pod) && pods::node_of(pod).is_none())
}

/// The name and UID of the pod that a claim was made for.
pub(super) fn owning_pod(claim: &ResourceClaim) -> Option<(String, String)> {
    let owner = object::controller_of(claim)?;
    (owner.api_version == "v1" && owner.kind == "Pod")
        .then(|| (owner.name.clone(), owner.uid.clone()))
}

pub(super) fn is_for(claim: &ResourceClaim, entry: &str) -> bool {
    object::annotation(claim, ANNOTATION) == Some(entry)
}

pub(super) fn claim(
    pod: &Pod,
    entry: &PodResourceClaim,
    template: &ResourceClaimTemplate,
) -> ResourceClaim {
    let of_template = template.spec.metadata.clone().unwrap_or_default();
    let mut annotations: BTreeMap<_, _> = of_template.annotations.unwrap_or_default();
    annotations.insert(ANNOTATION.to_owned(), entry.name.clone());
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    ResourceClaim {
        metadata: ObjectMeta {
            namespace: pod.metadata.namespace.clone(),
            generate_name: Some(generate_name(name, &entry.name)),
            owner_references: Some(vec![object::controller_reference(pod)]),
            annotations: Some(annotations),
            labels: of_template.labels,
            ..ObjectMeta::default()
        },
        spec: template.spec.spec.clone(),
        status: None,
    }
}

/// `POD-ENTRY-`; of names that are too long, both lose as much as they are long.
fn generate_name(pod: &str, entry: &str) -> String {
    let whole = format!("{pod}-{entry}-");
    if whole.len() <= LONGEST_BASE {
        return whole;
    }
    let part = |text: &str| text[..text.len() * LONGEST_BASE / whole.len()].to_owned();
    format!("{}-{}", part(pod), part(entry))
}

pub(super) fn consumers(claim: &ResourceClaim) -> Vec<ResourceClaimConsumerReference> {
    claim.status.as_ref().and_then(|it| it.reserved_for.clone()).unwrap_or_default()
}

/// Whether this pod can have a claim that it has not yet.
pub(super) fn can_be_reserved(claim: &ResourceClaim, pod: &Pod) -> bool {
    let is_foreign = owning_pod(claim).is_some_and(|(_, owner)| owner != object::uid(pod));
    is_allocated(claim)
        && !is_foreign
        && !resourceclaim::is_reserved_for(pod, claim)
        && resourceclaim::can_be_reserved(pod, claim)
}

/// What is to be done about a claim.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Upkeep {
    /// A merge patch of the status.
    pub status: Option<Value>,
    pub finalizers: Option<Vec<String>>,
    pub is_deleted: bool,
}

/// `valid` are the consumers that still count; `owner_is_done` says that the pod for which the claim was
/// made will not need it.
pub(super) fn upkeep(
    claim: &ResourceClaim,
    valid: Vec<ResourceClaimConsumerReference>,
    owner_is_done: bool,
) -> Upkeep {
    let finalizers = claim.metadata.finalizers.clone().unwrap_or_default();
    let is_protected = finalizers.iter().any(|it| it == FINALIZER);
    let (is_unused, is_going) = (valid.is_empty(), object::is_terminating(claim));
    let has_left = valid.len() < consumers(claim).len();
    let mut upkeep = Upkeep::default();
    let is_freed = is_unused && is_protected && (has_left || is_going);
    if has_left {
        let consumers = if is_unused { Value::Null } else { json!(valid) };
        upkeep.status = Some(json!({ "reservedFor": consumers }));
    }
    if is_freed {
        if is_allocated(claim) {
            let status = upkeep.status.get_or_insert_with(|| json!({}));
            status["allocation"] = Value::Null;
        }
        let others = finalizers.into_iter().filter(|it| it != FINALIZER);
        upkeep.finalizers = Some(others.collect());
    }
    upkeep.is_deleted = is_unused && owner_is_done && !is_going;
    upkeep
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(value: Value) -> ResourceClaim {
        let mut all = json!({ "metadata": { "name": "c" }, "spec": {} });
        all.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    fn consumer(uid: &str) -> ResourceClaimConsumerReference {
        serde_json::from_value(json!({ "resource": "pods", "name": uid, "uid": uid })).unwrap()
    }

    #[test]
    fn a_claim_is_freed_with_its_last_consumer() {
        let both = claim(json!({
            "metadata": { "name": "c", "finalizers": [FINALIZER, "other"] },
            "status": { "allocation": {}, "reservedFor": [consumer("a"), consumer("b")] },
        }));
        assert_eq!(upkeep(&both, consumers(&both), false), Upkeep::default());
        let one = upkeep(&both, vec![consumer("b")], false);
        assert_eq!(one.status, Some(json!({ "reservedFor": [consumer("b")] })));
        assert_eq!(one.finalizers, None);
        let none = upkeep(&both, Vec::new(), true);
        assert_eq!(none.status, Some(json!({ "reservedFor": null, "allocation": null })));
        assert_eq!(none.finalizers, Some(vec!["other".to_owned()]));
        assert!(none.is_deleted);
    }

    #[test]
    fn a_claim_that_was_allocated_and_is_not_used_yet_stays_unless_it_is_deleted() {
        let mut idle = claim(json!({
            "metadata": { "name": "c", "finalizers": [FINALIZER] },
            "status": { "allocation": {} },
        }));
        assert_eq!(upkeep(&idle, Vec::new(), false), Upkeep::default());
        idle.metadata.deletion_timestamp = Some(object::time(jiff::Timestamp::UNIX_EPOCH));
        let going = upkeep(&idle, Vec::new(), false);
        assert_eq!(going.status, Some(json!({ "allocation": null })));
        assert_eq!(going.finalizers, Some(Vec::new()));
    }

    #[test]
    fn long_names_lose_as_much_as_they_are_long() {
        assert_eq!(generate_name("pod", "gpu"), "pod-gpu-");
        let name = generate_name(&"p".repeat(60), &"c".repeat(30));
        assert_eq!(name.len(), 37 + 1 + 18);
        assert!(name.ends_with('c'));
    }
}
