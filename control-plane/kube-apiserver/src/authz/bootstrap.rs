//! The RBAC objects that exist from the start: upstream's defaults, then EKS's.
//!
//! Upstream: plugin/pkg/auth/authorizer/rbac/bootstrappolicy. The tables say the same in our own
//! notation, one rule per line: `verbs | groups | resources | names`, or `verbs | /paths`; the core
//! group is written `core`.
//! Deviation: beside upstream's roles there is `nodestead:kube-controller-manager`, with the rules of all
//! controllers, because those of `up` share one identity; the aggregated roles are written out already
//! aggregated.

mod controllers;
mod reconcile;
mod system;
mod users;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

pub(crate) use self::reconcile::{Repair, repair};
use super::bootstrap_eks;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Of our controllers, where they share one identity.
const OUR_CONTROLLERS: &str = "nodestead:kube-controller-manager";

/// A role: its name and its rules in this module's notation.
pub(super) type Role = (&'static str, &'static [&'static str]);

/// A binding: role, subjects (`User x`, `Group x`, `ServiceAccount namespace/name`).
pub(super) type Binding = (&'static str, &'static [&'static str]);

/// ClusterRoles, ClusterRoleBindings, Roles and RoleBindings, as objects to create where missing.
pub fn bootstrap_objects() -> Vec<Value> {
    let mut objects = Vec::new();
    for (name, rules) in system::ROLES {
        objects.push(cluster_role(name, rules));
    }
    objects.extend(users::roles());
    for (name, subjects) in system::BINDINGS {
        objects.push(cluster_role_binding(name, name, subjects));
    }
    for (controller, rules) in controllers::ROLES {
        let name = format!("system:controller:{controller}");
        objects.push(cluster_role(&name, rules));
        let account = format!("ServiceAccount kube-system/{controller}");
        objects.push(cluster_role_binding(&name, &name, &[&account]));
    }
    objects.push(cluster_role(OUR_CONTROLLERS, &rules_of_ours()));
    let subject = ["User system:kube-controller-manager"];
    objects.push(cluster_role_binding(OUR_CONTROLLERS, OUR_CONTROLLERS, &subject));
    for (namespace, name, rules, subjects) in system::NAMESPACED {
        objects.push(role(namespace, name, rules));
        objects.push(role_binding(namespace, name, "Role", name, subjects));
    }
    let (reader, rules) = system::AUTHENTICATION_READER;
    objects.push(role("kube-system", reader, rules));
    objects.push(role_binding(
        "kube-system",
        &format!("system::{reader}"),
        "Role",
        reader,
        &["User system:kube-controller-manager", "User system:kube-scheduler"],
    ));
    objects.extend(bootstrap_eks::objects());
    objects
}

/// The rules of all controllers, each once.
fn rules_of_ours() -> Vec<&'static str> {
    let upstream = controllers::ROLES.iter().flat_map(|(_, rules)| rules.iter());
    let all: BTreeSet<&str> = upstream.chain(controllers::OURS).copied().collect();
    all.into_iter().collect()
}

pub(super) fn cluster_role(name: &str, rules: &[&str]) -> Value {
    let mut object = skeleton("ClusterRole", "", name);
    object["rules"] = rules.iter().map(|line| rule(line)).collect();
    object
}

fn role(namespace: &str, name: &str, rules: &[&str]) -> Value {
    let mut object = skeleton("Role", namespace, name);
    object["rules"] = rules.iter().map(|line| rule(line)).collect();
    object
}

pub(super) fn cluster_role_binding(name: &str, role: &str, subjects: &[&str]) -> Value {
    let mut object = skeleton("ClusterRoleBinding", "", name);
    object["roleRef"] = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": role});
    object["subjects"] = subjects.iter().map(|line| subject(line)).collect();
    object
}

fn role_binding(namespace: &str, name: &str, kind: &str, role: &str, subjects: &[&str]) -> Value {
    let mut object = skeleton("RoleBinding", namespace, name);
    object["roleRef"] = json!({"apiGroup": GROUP, "kind": kind, "name": role});
    object["subjects"] = subjects.iter().map(|line| subject(line)).collect();
    object
}

fn skeleton(kind: &str, namespace: &str, name: &str) -> Value {
    let mut object = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": kind,
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        },
    });
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    object
}

/// Reads one line of the notation. The lines are constants, and a test reads all of them.
fn rule(line: &str) -> Value {
    let mut columns = line.split('|').map(|column| column.split_whitespace());
    let mut column = || -> Vec<String> {
        let words = columns.next().into_iter().flatten();
        words.map(|word| if word == "core" { String::new() } else { word.to_owned() }).collect()
    };
    let (verbs, second) = (column(), column());
    let mut rule = Map::new();
    rule.insert("verbs".into(), json!(verbs));
    let (resources, names) = (column(), column());
    if resources.is_empty() {
        rule.insert("nonResourceURLs".into(), json!(second));
        return Value::Object(rule);
    }
    rule.insert("apiGroups".into(), json!(second));
    rule.insert("resources".into(), json!(resources));
    if !names.is_empty() {
        rule.insert("resourceNames".into(), json!(names));
    }
    Value::Object(rule)
}

fn subject(line: &str) -> Value {
    let (kind, name) = line.split_once(' ').unwrap_or(("User", line));
    if kind == "ServiceAccount" {
        let (namespace, name) = name.split_once('/').unwrap_or(("kube-system", name));
        return json!({"kind": kind, "namespace": namespace, "name": name});
    }
    json!({"apiGroup": GROUP, "kind": kind, "name": name})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        authz::{Authorizer, Decision, testing::Memory},
        request::{RequestInfo, UserInfo},
    };

    fn authorizer() -> Authorizer {
        let memory = Memory::default();
        for object in bootstrap_objects() {
            let kind = object["kind"].as_str().unwrap().to_lowercase();
            memory.put(&format!("{kind}s.{GROUP}"), object);
        }
        Authorizer::new(memory)
    }

    async fn may(authorizer: &Authorizer, user: &UserInfo, method: &str, path: &str) -> bool {
        let info = RequestInfo::parse(&method.parse().unwrap(), path, "");
        matches!(authorizer.authorize(user, &info).await, Decision::Allow(_))
    }

    #[test]
    fn every_line_of_the_tables_is_a_rule_and_every_name_is_used_once() {
        let mut seen = BTreeSet::new();
        for object in bootstrap_objects() {
            let key = format!("{} {}", object["kind"], object["metadata"]);
            assert!(seen.insert(key), "twice: {object}");
            for rule in object["rules"].as_array().into_iter().flatten() {
                assert!(rule["verbs"].as_array().is_some_and(|it| !it.is_empty()), "{object}");
                let has_path = rule["nonResourceURLs"][0]
                    .as_str()
                    .is_some_and(|it| it.starts_with('/') || it == "*");
                assert!(has_path || rule["resources"][0].is_string(), "{object}");
            }
        }
    }

    #[tokio::test]
    async fn the_defaults_open_discovery_and_nothing_else_to_any_user() {
        let (authorizer, user) = (authorizer(), UserInfo::new("bob", &[]));
        assert!(may(&authorizer, &user, "GET", "/apis").await);
        assert!(may(&authorizer, &user, "GET", "/openapi/v3/apis/apps/v1").await);
        let review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        assert!(may(&authorizer, &user, "POST", review).await);
        assert!(!may(&authorizer, &user, "GET", "/api/v1/namespaces/default/pods").await);
        assert!(!may(&authorizer, &user, "GET", "/metrics").await);
        let anonymous = UserInfo::anonymous();
        assert!(may(&authorizer, &anonymous, "GET", "/version").await);
        assert!(!may(&authorizer, &anonymous, "GET", "/apis").await);
    }

    #[tokio::test]
    async fn the_view_role_shows_no_secret() {
        let memory = Memory::default();
        for object in bootstrap_objects() {
            let kind = object["kind"].as_str().unwrap().to_lowercase();
            memory.put(&format!("{kind}s.{GROUP}"), object);
        }
        for (user, role) in [("viewer", "view"), ("editor", "edit"), ("owner", "admin")] {
            let subject = format!("User {user}");
            let binding = role_binding("ns", user, "ClusterRole", role, &[&subject]);
            memory.put("rolebindings.rbac.authorization.k8s.io", binding);
        }
        let authorizer = Authorizer::new(memory);
        let cases = [
            ("viewer", "GET", "pods", true),
            ("viewer", "GET", "secrets", false),
            ("viewer", "POST", "pods", false),
            ("editor", "POST", "pods", true),
            ("editor", "GET", "secrets", true),
            ("owner", "GET", "secrets", true),
        ];
        for (name, method, resource, expected) in cases {
            let path = format!("/api/v1/namespaces/ns/{resource}");
            let user = UserInfo::new(name, &[]);
            assert_eq!(may(&authorizer, &user, method, &path).await, expected, "{name} {path}");
            let elsewhere = format!("/api/v1/namespaces/other/{resource}");
            assert!(!may(&authorizer, &user, method, &elsewhere).await, "{name} {elsewhere}");
        }
        let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/ns/rolebindings";
        assert!(may(&authorizer, &UserInfo::new("owner", &[]), "POST", bindings).await);
        assert!(!may(&authorizer, &UserInfo::new("editor", &[]), "POST", bindings).await);
    }
}
