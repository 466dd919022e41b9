//! Role-based access control: the four kinds of rbac.authorization.k8s.io, compiled into a table
//! from subject to rules.
//!
//! Deviation: aggregated ClusterRoles are also resolved here, at compile time, so that they hold
//! before (and without) the controller that writes them out.

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;

use super::{Objects, Rule, items, text};
use crate::request::{RequestInfo, UserInfo};

pub(super) const CLUSTER_ROLES: &str = "clusterroles.rbac.authorization.k8s.io";
pub(super) const CLUSTER_ROLE_BINDINGS: &str = "clusterrolebindings.rbac.authorization.k8s.io";
pub(super) const ROLES: &str = "roles.rbac.authorization.k8s.io";
pub(super) const ROLE_BINDINGS: &str = "rolebindings.rbac.authorization.k8s.io";

/// A user (service accounts by their user name) or a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

#[derive(Clone, Debug)]
struct Grant {
    rules: Arc<Vec<Rule>>,
    reason: String,
}

/// The compiled table.
#[derive(Debug, Default)]
pub(crate) struct Rbac {
    pub(super) revisions: [u64; 4],
    /// By namespace; cluster-wide grants under the empty one.
    grants: HashMap<String, HashMap<Subject, Vec<Grant>>>,
    cluster_roles: HashMap<String, Arc<Vec<Rule>>>,
}

pub(super) fn revisions(objects: &dyn Objects) -> [u64; 4] {
    [CLUSTER_ROLES, CLUSTER_ROLE_BINDINGS, ROLES, ROLE_BINDINGS].map(|it| objects.revision(it))
}

impl Rbac {
    pub(super) fn compile(objects: &dyn Objects, revisions: [u64; 4]) -> Self {
        let cluster_roles = compile_cluster_roles(&objects.list(CLUSTER_ROLES, ""));
        let roles: HashMap<(String, String), Arc<Vec<Rule>>> = objects
            .list(ROLES, "")
            .iter()
            .map(|role| {
                let key = (
                    text(role, "/metadata/namespace").to_owned(),
                    text(role, "/metadata/name").to_owned(),
                );
                (key, Arc::new(Rule::of(role)))
            })
            .collect();
        let mut rbac = Self { revisions, ..Self::default() };
        for binding in objects.list(CLUSTER_ROLE_BINDINGS, "") {
            rbac.bind("", &binding, cluster_roles.get(text(&binding, "/roleRef/name")));
        }
        for binding in objects.list(ROLE_BINDINGS, "") {
            let namespace = text(&binding, "/metadata/namespace").to_owned();
            let name = text(&binding, "/roleRef/name");
            let role = match text(&binding, "/roleRef/kind") {
                "ClusterRole" => cluster_roles.get(name),
                _ => roles.get(&(namespace.clone(), name.to_owned())),
            };
            rbac.bind(&namespace, &binding, role);
        }
        rbac.cluster_roles = cluster_roles;
        rbac
    }

    fn bind(&mut self, namespace: &str, binding: &Value, role: Option<&Arc<Vec<Rule>>>) {
        let Some(rules) = role else { return };
        let name = text(binding, "/metadata/name");
        let role = text(binding, "/roleRef/name");
        let role_kind = text(binding, "/roleRef/kind");
        let what = if namespace.is_empty() {
            format!("ClusterRoleBinding \"{name}\"")
        } else {
            format!("RoleBinding \"{name}/{namespace}\"")
        };
        for value in items(binding, "/subjects") {
            let Some((subject, shown)) = subject(value, namespace) else { continue };
            let reason = format!("RBAC: allowed by {what} of {role_kind} \"{role}\" to {shown}");
            let grant = Grant { rules: rules.clone(), reason };
            let grants = self.grants.entry(namespace.to_owned()).or_default();
            grants.entry(subject).or_default().push(grant);
        }
    }

    pub(crate) fn authorize(&self, user: &UserInfo, info: &RequestInfo) -> super::Decision {
        let grants = self.grants(user, &info.namespace);
        let allowed =
            grants.into_iter().find(|grant| grant.rules.iter().any(|rule| rule.allows(info)));
        match allowed {
            Some(grant) => super::Decision::Allow(grant.reason.clone()),
            None => super::Decision::NoOpinion(String::new()),
        }
    }

    /// The rules of a ClusterRole, aggregated.
    pub(super) fn cluster_role(&self, name: &str) -> Vec<Rule> {
        self.cluster_roles.get(name).map(|rules| rules.to_vec()).unwrap_or_default()
    }

    /// All rules that hold for the user in the namespace (cluster-wide ones only, if it is empty).
    pub(crate) fn rules(&self, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        self.grants(user, namespace).iter().flat_map(|it| it.rules.iter().cloned()).collect()
    }

    fn grants<'a>(&'a self, user: &UserInfo, namespace: &str) -> Vec<&'a Grant> {
        let mut found = Vec::new();
        let scopes: &[&str] = if namespace.is_empty() { &[""] } else { &["", namespace] };
        for table in scopes.iter().filter_map(|scope| self.grants.get(*scope)) {
            let groups = user.groups.iter().map(|group| Subject::Group(group.clone()));
            let subjects = std::iter::once(Subject::User(user.username.clone())).chain(groups);
            subjects.filter_map(|subject| table.get(&subject)).for_each(|it| found.extend(it));
        }
        found
    }
}

/// A subject and how it is shown in a reason.
fn subject(value: &Value, namespace: &str) -> Option<(Subject, String)> {
    let name = text(value, "/name");
    match text(value, "/kind") {
        "User" => Some((Subject::User(name.into()), format!("User \"{name}\""))),
        "Group" => Some((Subject::Group(name.into()), format!("Group \"{name}\""))),
        "ServiceAccount" => {
            // A RoleBinding may leave its own namespace out.
            let inside = match text(value, "/namespace") {
                "" => namespace,
                given => given,
            };
            if inside.is_empty() {
                return None;
            }
            let user = format!("system:serviceaccount:{inside}:{name}");
            Some((Subject::User(user), format!("ServiceAccount \"{name}/{inside}\"")))
        }
        _ => None,
    }
}

fn compile_cluster_roles(roles: &[Arc<Value>]) -> HashMap<String, Arc<Vec<Rule>>> {
    let rules = |role: &Value| {
        if role.pointer("/aggregationRule/clusterRoleSelectors").is_none() {
            return Rule::of(role);
        }
        aggregate(role, roles)
    };
    roles
        .iter()
        .map(|role| (text(role, "/metadata/name").to_owned(), Arc::new(rules(role))))
        .collect()
}

/// The union of the selected roles, each with its own selected roles.
fn aggregate(role: &Value, roles: &[Arc<Value>]) -> Vec<Rule> {
    let mut seen = vec![text(role, "/metadata/name").to_owned()];
    let mut open = vec![role];
    let mut rules = Vec::new();
    while let Some(role) = open.pop() {
        let selectors = items(role, "/aggregationRule/clusterRoleSelectors");
        if selectors.is_empty() {
            rules.extend(Rule::of(role));
            continue;
        }
        for candidate in roles {
            let name = text(candidate, "/metadata/name");
            let labels = candidate.pointer("/metadata/labels").unwrap_or(&Value::Null);
            let is_new = !seen.iter().any(|it| it == name);
            if is_new && selectors.iter().any(|selector| selects(selector, labels)) {
                seen.push(name.to_owned());
                open.push(candidate);
            }
        }
    }
    rules
}

/// A label selector against labels. An expression that cannot be read selects nothing.
fn selects(selector: &Value, labels: &Value) -> bool {
    let label = |key: &str| labels.get(key).and_then(Value::as_str);
    let exact = selector.get("matchLabels").and_then(Value::as_object);
    let is_exact = exact
        .into_iter()
        .flatten()
        .all(|(key, value)| value.as_str().is_some() && label(key) == value.as_str());
    let fits = |expression: &Value| {
        let found = label(text(expression, "/key"));
        let values = items(expression, "/values");
        let is_listed = found.is_some_and(|it| values.iter().any(|value| value == it));
        match text(expression, "/operator") {
            "In" => is_listed,
            "NotIn" => !is_listed,
            "Exists" => found.is_some(),
            "DoesNotExist" => found.is_none(),
            _ => false,
        }
    };
    is_exact && items(selector, "/matchExpressions").iter().all(fits)
}
