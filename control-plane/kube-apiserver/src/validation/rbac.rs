//! Roles and bindings.
//!
//! Upstream: pkg/apis/rbac/validation.

use serde_json::Value;

use super::{Faults, fields, items, text};
use crate::{resources::Resource, status::FieldError};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn validate(faults: &mut Faults, resource: &Resource, object: &Value) {
    match resource.plural.as_str() {
        "roles" | "clusterroles" => rules(faults, object, resource.namespaced),
        _ => binding(faults, object, resource.namespaced),
    }
}

fn rules(faults: &mut Faults, role: &Value, is_namespaced: bool) {
    for (index, rule) in items(role, "rules") {
        let at = format!("rules[{index}]");
        let is_empty = |field: &str| rule[field].as_array().is_none_or(Vec::is_empty);
        if is_empty("verbs") {
            faults.add(FieldError::required(
                format!("{at}.verbs"),
                "verbs must contain at least one value",
            ));
        }
        if !is_empty("nonResourceURLs") {
            if is_namespaced {
                let why = "namespaced rules cannot apply to non-resource URLs";
                faults.invalid(
                    format!("{at}.nonResourceURLs"),
                    rule["nonResourceURLs"].clone(),
                    why,
                );
            }
            if !is_empty("apiGroups") || !is_empty("resources") || !is_empty("resourceNames") {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                faults.invalid(
                    format!("{at}.nonResourceURLs"),
                    rule["nonResourceURLs"].clone(),
                    why,
                );
            }
            continue;
        }
        if is_empty("apiGroups") {
            let why = "resource rules must supply at least one api group";
            faults.add(FieldError::required(format!("{at}.apiGroups"), why));
        }
        if is_empty("resources") {
            let why = "resource rules must supply at least one resource";
            faults.add(FieldError::required(format!("{at}.resources"), why));
        }
    }
}

fn binding(faults: &mut Faults, binding: &Value, is_namespaced: bool) {
    let role = &binding["roleRef"];
    if text(role, "apiGroup") != GROUP {
        faults.add(FieldError::not_supported("roleRef.apiGroup", text(role, "apiGroup"), &[GROUP]));
    }
    let kinds: &[&str] = if is_namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&text(role, "kind")) {
        faults.add(FieldError::not_supported("roleRef.kind", text(role, "kind"), kinds));
    }
    let name = text(role, "name");
    if name.is_empty() {
        faults.required("roleRef.name");
    } else {
        faults.each("roleRef.name", name, fields::path_segment(name));
    }
    for (index, subject) in items(binding, "subjects") {
        let at = format!("subjects[{index}]");
        faults.text(format!("{at}.name"), &subject["name"]);
        match text(subject, "kind") {
            "ServiceAccount" => {
                let name = text(subject, "name");
                if !name.is_empty() {
                    faults.each(&format!("{at}.name"), name, fields::subdomain(name));
                }
                faults.text(format!("{at}.namespace"), &subject["namespace"]);
            }
            "User" | "Group" => {
                if text(subject, "apiGroup") != GROUP {
                    let group = text(subject, "apiGroup");
                    faults.add(FieldError::not_supported(
                        format!("{at}.apiGroup"),
                        group,
                        &[GROUP],
                    ));
                }
            }
            other => {
                let supported = &["ServiceAccount", "User", "Group"];
                faults.add(FieldError::not_supported(format!("{at}.kind"), other, supported));
            }
        }
    }
}
