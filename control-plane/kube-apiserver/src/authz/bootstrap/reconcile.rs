//! Brings a stored default role or binding up to what this version would make.
//!
//! Only what is missing is added: what an administrator has put there stays, and what is annotated
//! with `autoupdate: "false"` is left alone.
//!
//! Upstream: k8s.io/component-helpers/auth/rbac/reconciliation.

use serde_json::{Value, json};

use crate::authz::rules::{Rule, uncovered};

const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// What is to be done about an object.
#[derive(Debug, PartialEq)]
pub(crate) enum Repair {
    /// It is stored in the place of the other.
    Replace(Value),
    /// A binding of another role, which no update can give back its own.
    MakeAnew,
}

/// `None` if what is stored has all of `wanted`.
pub(crate) fn repair(stored: &Value, wanted: &Value) -> Option<Repair> {
    if stored["metadata"]["annotations"][AUTOUPDATE] == "false" {
        return None;
    }
    if stored["roleRef"] != wanted["roleRef"] {
        return Some(Repair::MakeAnew);
    }
    let mut next = stored.clone();
    for field in ["labels", "annotations"] {
        for (key, value) in wanted["metadata"][field].as_object().into_iter().flatten() {
            if next["metadata"][field][key].is_null() {
                next["metadata"][field][key] = value.clone();
            }
        }
    }
    // The rules of an aggregated role are its controller's.
    if stored["aggregationRule"].is_null() {
        add(&mut next, "rules", missing_rules(stored, wanted));
    }
    add(&mut next, "subjects", missing_subjects(stored, wanted));
    (next != *stored).then_some(Repair::Replace(next))
}

fn add(object: &mut Value, list: &str, items: Vec<Value>) {
    if items.is_empty() {
        return;
    }
    match object[list].as_array_mut() {
        Some(there) => there.extend(items),
        None => object[list] = items.into(),
    }
}

fn missing_rules(stored: &Value, wanted: &Value) -> Vec<Value> {
    let owned = Rule::of(stored);
    let rules = wanted["rules"].as_array().into_iter().flatten();
    let is_missing = |rule: &&Value| {
        let alone = Rule::of(&json!({ "rules": [rule] }));
        !uncovered(&owned, &alone).is_empty()
    };
    rules.filter(is_missing).cloned().collect()
}

fn missing_subjects(stored: &Value, wanted: &Value) -> Vec<Value> {
    let there = stored["subjects"].as_array().cloned().unwrap_or_default();
    let is_same = |one: &Value, other: &Value| {
        ["kind", "namespace", "name"].iter().all(|field| one[field] == other[field])
    };
    let subjects = wanted["subjects"].as_array().into_iter().flatten();
    subjects.filter(|it| !there.iter().any(|known| is_same(it, known))).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(autoupdate: &str, rules: Value) -> Value {
        json!({"metadata": {"annotations": {AUTOUPDATE: autoupdate}}, "rules": rules})
    }

    fn replaced(stored: &Value, wanted: &Value) -> Value {
        match repair(stored, wanted) {
            Some(Repair::Replace(next)) => next,
            other => panic!("{other:?}"),
        }
    }

    fn get(resource: &str) -> Value {
        json!({"verbs": ["get"], "apiGroups": [""], "resources": [resource]})
    }

    #[test]
    fn what_is_missing_is_added_and_what_was_added_by_hand_stays() {
        let wanted = role("true", json!([get("pods"), get("nodes")]));
        let everything = json!({"verbs": ["*"], "apiGroups": [""], "resources": ["nodes"]});
        let stored = role("true", json!([get("secrets"), everything]));
        let next = replaced(&stored, &wanted);
        assert_eq!(next["rules"], json!([get("secrets"), everything, get("pods")]));
        assert_eq!(repair(&next, &wanted), None);
        assert_eq!(repair(&role("false", json!([])), &wanted), None, "it is its owner's");
    }

    #[test]
    fn a_binding_gets_its_subjects_back_and_is_made_anew_if_it_binds_another_role() {
        let binding = |role: &str, subjects: Value| {
            json!({"metadata": {"annotations": {AUTOUPDATE: "true"}, "labels": {}},
                   "roleRef": {"name": role}, "subjects": subjects})
        };
        let (user, group) =
            (json!({"kind": "User", "name": "u"}), json!({"kind": "Group", "name": "g"}));
        let wanted = binding("r", json!([user]));
        let next = replaced(&binding("r", json!([group])), &wanted);
        assert_eq!(next["subjects"], json!([group, user]));
        assert_eq!(repair(&binding("other", json!([])), &wanted), Some(Repair::MakeAnew));
    }
}
