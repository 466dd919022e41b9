//! Nobody grants what they do not hold: checks on writes of roles and bindings.
//!
//! A role may hold only rules that its writer holds in the same scope, unless the writer may
//! `escalate` it; a binding may name only a role whose rules its writer holds, unless the writer
//! may `bind` it.
//!
//! Upstream: pkg/registry/rbac/*/policybased.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    Authorizer, Decision, Rule,
    rbac::{CLUSTER_ROLES, ROLES},
    rules::uncovered,
    text,
};
use crate::{
    request::{RequestInfo, UserInfo},
    status::Status,
};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Checks a create or update of one of the four kinds; anything else passes.
pub(crate) async fn check_escalation(
    authorizer: &Authorizer,
    user: &UserInfo,
    info: &RequestInfo,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), Status> {
    if info.group != GROUP || user.is_in("system:masters") {
        return Ok(());
    }
    let unchanged = |fields: &[&str]| {
        old.is_some_and(|old| fields.iter().all(|field| old.get(field) == new.get(field)))
    };
    match info.resource.as_str() {
        "roles" | "clusterroles" if !unchanged(&["rules", "aggregationRule"]) => {
            check_role(authorizer, user, info, new).await
        }
        "rolebindings" | "clusterrolebindings" if !unchanged(&["roleRef", "subjects"]) => {
            check_binding(authorizer, user, info, new).await
        }
        _ => Ok(()),
    }
}

async fn check_role(
    authorizer: &Authorizer,
    user: &UserInfo,
    info: &RequestInfo,
    role: &Value,
) -> Result<(), Status> {
    let name = text(role, "/metadata/name");
    let escalate = RequestInfo { verb: "escalate".into(), name: name.to_owned(), ..info.clone() };
    if matches!(authorizer.authorize(user, &escalate).await, Decision::Allow(_)) {
        return Ok(());
    }
    if role.get("aggregationRule").is_some_and(|rule| !rule.is_null()) {
        // Whoever selects roles by label grants whatever will ever carry the label.
        return require(authorizer, user, info, name, &[everything()]);
    }
    require(authorizer, user, info, name, &Rule::of(role))
}

async fn check_binding(
    authorizer: &Authorizer,
    user: &UserInfo,
    info: &RequestInfo,
    binding: &Value,
) -> Result<(), Status> {
    let (kind, role) = (text(binding, "/roleRef/kind"), text(binding, "/roleRef/name"));
    let resource = if kind == "ClusterRole" { "clusterroles" } else { "roles" };
    let namespace = if kind == "ClusterRole" { "" } else { info.namespace.as_str() };
    let bind = RequestInfo {
        verb: "bind".into(),
        resource: resource.into(),
        name: role.to_owned(),
        namespace: info.namespace.clone(),
        ..info.clone()
    };
    if matches!(authorizer.authorize(user, &bind).await, Decision::Allow(_)) {
        return Ok(());
    }
    let stored = if kind == "ClusterRole" { CLUSTER_ROLES } else { ROLES };
    let name = text(binding, "/metadata/name");
    let Some(found) = authorizer.objects.get(stored, namespace, role) else {
        return Err(Status::not_found(stored, role));
    };
    let rules = if found.get("aggregationRule").is_some_and(|rule| !rule.is_null()) {
        let aggregated = authorizer.rbac().cluster_role(role);
        if aggregated.is_empty() { Rule::of(&found) } else { aggregated }
    } else {
        Rule::of(&found)
    };
    require(authorizer, user, info, name, &rules)
}

fn require(
    authorizer: &Authorizer,
    user: &UserInfo,
    info: &RequestInfo,
    name: &str,
    wanted: &[Rule],
) -> Result<(), Status> {
    let owned = authorizer.rbac().rules(user, &info.namespace);
    let missing = uncovered(&owned, wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let why = format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        user.username,
        quoted(&user.groups),
        compact(&missing).join("\n"),
    );
    Err(Status::forbidden(&info.group_resource(), name, &why))
}

fn everything() -> Rule {
    let all = || vec!["*".to_owned()];
    Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() }
}

/// One line per resource, its verbs together.
fn compact(rules: &[Rule]) -> Vec<String> {
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for rule in rules {
        let mut line = String::from("{");
        for (label, values) in [
            ("APIGroups", &rule.api_groups),
            ("Resources", &rule.resources),
            ("ResourceNames", &rule.resource_names),
            ("NonResourceURLs", &rule.non_resource_urls),
        ] {
            if !values.is_empty() {
                line.push_str(&format!("{label}:[{}], ", quoted(values)));
            }
        }
        lines.entry(line).or_default().extend(rule.verbs.iter().cloned());
    }
    lines.into_iter().map(|(line, verbs)| format!("{line}Verbs:[{}]}}", quoted(&verbs))).collect()
}

fn quoted(values: &[String]) -> String {
    let all: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    all.join(" ")
}
