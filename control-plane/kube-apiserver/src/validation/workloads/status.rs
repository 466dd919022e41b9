//! Numbers that controllers write, and how they go together.
//!
//! Upstream: `Validate*StatusUpdate` in pkg/apis/{apps,core,policy,autoscaling}/validation.

use std::collections::HashSet;

use serde_json::Value;

use crate::{
    resources::Resource,
    status::FieldError,
    validation::{Faults, fields, items, text},
};

const MORE: &str = "cannot be greater than status.replicas";

/// The numbers of a status that are not negative.
fn counts(plural: &str) -> &'static [&'static str] {
    match plural {
        "deployments" => &[
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "collisionCount",
        ],
        "replicasets" | "replicationcontrollers" => &[
            "replicas",
            "fullyLabeledReplicas",
            "readyReplicas",
            "availableReplicas",
            "observedGeneration",
        ],
        "statefulsets" => &[
            "replicas",
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
            "observedGeneration",
            "collisionCount",
        ],
        "daemonsets" => &[
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ],
        "poddisruptionbudgets" => {
            &["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"]
        }
        "horizontalpodautoscalers" => &["currentReplicas", "desiredReplicas"],
        _ => &[],
    }
}

/// Of these none is more than there are replicas.
fn parts(plural: &str) -> &'static [&'static str] {
    match plural {
        "deployments" => &["updatedReplicas", "readyReplicas", "availableReplicas"],
        "replicasets" | "replicationcontrollers" => {
            &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"]
        }
        "statefulsets" => {
            &["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"]
        }
        _ => &[],
    }
}

pub(in crate::validation) fn check(
    faults: &mut Faults,
    resource: &Resource,
    old: &Value,
    new: &Value,
) {
    let (plural, status) = (resource.plural.as_str(), &new["status"]);
    if plural == "poddisruptionbudgets" {
        conditions(faults, "status.conditions", status);
    }
    for field in counts(plural) {
        faults.not_negative(&format!("status.{field}"), &status[*field]);
    }
    let number = |field: &str| status[field].as_i64().unwrap_or_default();
    for field in parts(plural) {
        if number(field) > number("replicas") {
            faults.invalid(format!("status.{field}"), number(field), MORE);
        }
    }
    if !parts(plural).is_empty() && number("availableReplicas") > number("readyReplicas") {
        let than = if plural == "statefulsets" { "status.readyReplicas" } else { "readyReplicas" };
        let why = format!("cannot be greater than {than}");
        faults.invalid("status.availableReplicas", number("availableReplicas"), why);
    }
    let collisions = |it: &Value| it["status"]["collisionCount"].as_i64();
    if counts(plural).contains(&"collisionCount")
        && collisions(old).is_some_and(|was| collisions(new).is_none_or(|is| is < was))
    {
        let now = collisions(new).unwrap_or_default();
        faults.invalid("status.collisionCount", now, "cannot be decremented");
    }
}

/// Conditions of the general form, each type once.
pub(in crate::validation) fn conditions(faults: &mut Faults, list: &str, owner: &Value) {
    const LONGEST_REASON: usize = 1024;
    const LONGEST_MESSAGE: usize = 32768;
    const STATES: &[&str] = &["False", "True", "Unknown"];
    const FORM: &str = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";
    let mut types = HashSet::new();
    for (index, it) in items(owner, "conditions") {
        let (at, kind) = (format!("{list}[{index}]"), text(it, "type"));
        if !types.insert(kind) {
            faults.add(FieldError::duplicate(format!("{at}.type"), kind));
        }
        faults.each(&format!("{at}.type"), kind, fields::qualified_name(kind));
        let state = text(it, "status");
        if !STATES.contains(&state) {
            faults.add(FieldError::not_supported(format!("{at}.status"), state, STATES));
        }
        faults.not_negative(&format!("{at}.observedGeneration"), &it["observedGeneration"]);
        if it["lastTransitionTime"].is_null() {
            let why = "must be set";
            faults.add(FieldError::required(format!("{at}.lastTransitionTime"), why));
        }
        let reason = text(it, "reason");
        let field = format!("{at}.reason");
        if reason.is_empty() {
            faults.add(FieldError::required(&*field, "must be set"));
        } else if !is_reason(reason) {
            faults.invalid(&*field, reason, FORM);
        }
        if reason.len() > LONGEST_REASON {
            faults.add(FieldError::too_long(field, LONGEST_REASON));
        }
        if text(it, "message").len() > LONGEST_MESSAGE {
            faults.add(FieldError::too_long(format!("{at}.message"), LONGEST_MESSAGE));
        }
    }
}

fn is_reason(reason: &str) -> bool {
    let is_word = |it: char| it.is_ascii_alphanumeric() || it == '_';
    reason.starts_with(|it: char| it.is_ascii_alphabetic())
        && reason.ends_with(is_word)
        && reason.chars().all(|it| is_word(it) || matches!(it, ',' | ':'))
}
