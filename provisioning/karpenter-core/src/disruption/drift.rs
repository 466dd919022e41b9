//! Whether a NodeClaim still is what its NodePool would make.
//!
//! A hash of the pool's template is kept with each NodeClaim; requirements are compared with the
//! node's labels instead, so that a pool can be widened without a word. Upstream's hash is of Go's
//! structures; ours is of the template in JSON. Deviation: so the two do not compare, which the
//! annotation of the hash's version says (`nodestead-v1` instead of `v3`).

use std::collections::BTreeMap;

use api_kube::karpenter::{Ec2NodeClass, NodeClaim, NodePool, annotations};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1 as core;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::requirement::Requirements;

/// Of both hashes.
pub const HASH_VERSION: &str = "nodestead-v1";

/// A type has to be gone for so long after the launch before that counts.
const SETTLED: SignedDuration = SignedDuration::from_hours(1);

/// The hash of what a pool's NodeClaims are made from.
pub fn pool_hash(pool: &NodePool) -> String {
    let template = &pool.spec.template;
    let mut spec = serde_json::to_value(&template.spec).unwrap_or_default();
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("requirements");
    }
    hash(json!({ "metadata": template.metadata, "spec": spec }))
}

/// The hash of a class without what is compared with the instance itself.
pub fn class_hash(class: &Ec2NodeClass) -> String {
    let mut spec = serde_json::to_value(&class.spec).unwrap_or_default();
    let compared = [
        "amiSelectorTerms",
        "subnetSelectorTerms",
        "securityGroupSelectorTerms",
        "capacityReservationSelectorTerms",
        "placementGroupSelector",
    ];
    if let Some(spec) = spec.as_object_mut() {
        compared.iter().for_each(|it| drop(spec.remove(*it)));
    }
    hash(spec)
}

/// Lists stand for sets: their order does not matter.
fn hash(mut value: Value) -> String {
    sort(&mut value);
    let digest = Sha256::digest(value.to_string().as_bytes());
    digest.iter().take(8).map(|it| format!("{it:02x}")).collect()
}

fn sort(value: &mut Value) {
    match value {
        Value::Array(items) => {
            items.iter_mut().for_each(sort);
            items.sort_by_key(Value::to_string);
        }
        Value::Object(fields) => {
            fields.retain(|_, it| !it.is_null());
            fields.values_mut().for_each(sort);
        }
        _ => {}
    }
}

/// Why a node has drifted: what its claim says, or what follows from its pool now.
pub(super) fn drift(
    pool: &NodePool,
    claim: &NodeClaim,
    node: &core::Node,
    is_type_there: bool,
    now: Timestamp,
) -> Option<String> {
    if claim.is_true("Drifted") {
        let condition = claim.condition("Drifted");
        return condition.map(|it| it.reason.clone());
    }
    let none = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    if let Some(reason) = pool_drift(pool, claim, Some(labels)) {
        return Some(reason.to_owned());
    }
    let made = claim.metadata.creation_timestamp.as_ref().map(|it| it.0);
    let is_settled = made.is_some_and(|it| now.duration_since(it) > SETTLED);
    (!is_type_there && is_settled).then(|| "InstanceTypeNotFound".to_owned())
}

/// How a claim differs from what its pool would make; `labels`: its node's, once there is one.
pub fn pool_drift(
    pool: &NodePool,
    claim: &NodeClaim,
    labels: Option<&BTreeMap<String, String>>,
) -> Option<&'static str> {
    let marks = claim.metadata.annotations.as_ref();
    let read = |key: &str| marks.and_then(|it| it.get(key)).map(String::as_str);
    let is_ours = read(annotations::NODE_POOL_HASH_VERSION) == Some(HASH_VERSION);
    if is_ours && read(annotations::NODE_POOL_HASH) != Some(pool_hash(pool).as_str()) {
        return Some("NodePoolDrifted");
    }
    let wanted = Requirements::from_api(&pool.spec.template.spec.requirements);
    labels.is_some_and(|it| !wanted.accept(it)).then_some("RequirementsDrifted")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(spec: &Value) -> NodePool {
        serde_json::from_value(json!({ "metadata": { "name": "a" }, "spec": { "template": {
            "spec": spec } } }))
        .unwrap()
    }

    #[test]
    fn the_hash_is_of_the_template_without_requirements_whatever_the_order() {
        let taints = |a: &str, b: &str| json!([{ "key": a, "effect": "NoSchedule" }, { "key": b, "effect": "NoSchedule" }]);
        let base = pool_hash(&pool(&json!({ "taints": taints("a", "b") })));
        let other = json!({ "taints": taints("b", "a"), "requirements": [
            { "key": "k", "operator": "Exists" }] });
        assert_eq!(base, pool_hash(&pool(&other)));
        assert_ne!(base, pool_hash(&pool(&json!({ "taints": taints("a", "c") }))));
        let mut limited = pool(&json!({ "taints": taints("a", "b") }));
        limited.spec.weight = Some(10);
        assert_eq!(base, pool_hash(&limited));
    }
}
