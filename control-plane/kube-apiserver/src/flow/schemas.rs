//! Which FlowSchema a request belongs to.
//!
//! Upstream: k8s.io/apiserver/pkg/util/flowcontrol/rule.go.

use serde_json::Value;

use crate::{
    matching::{self, Stars, covers},
    request::{RequestInfo, UserInfo},
    resources::meta,
};

/// A FlowSchema, read once.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) uid: String,
    pub(super) level: String,
    name: String,
    precedence: i64,
    distinguisher: Distinguisher,
    rules: Vec<Rule>,
}

/// What makes two requests of one schema parts of one flow.
#[derive(Debug)]
enum Distinguisher {
    None,
    User,
    Namespace,
}

#[derive(Debug)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

#[derive(Debug)]
enum Subject {
    User(String),
    Group(String),
    Account { namespace: String, name: String },
}

#[derive(Debug)]
struct ResourceRule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    namespaces: Vec<String>,
    is_for_cluster: bool,
}

#[derive(Debug)]
struct PathRule {
    verbs: Vec<String>,
    paths: Vec<String>,
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    let all = value[field].as_array().into_iter().flatten();
    all.filter_map(|it| it.as_str().map(str::to_owned)).collect()
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn each<T>(value: &Value, field: &str, read: fn(&Value) -> T) -> Vec<T> {
    value[field].as_array().into_iter().flatten().map(read).collect()
}

impl Schema {
    pub(super) fn read(object: &Value) -> Self {
        let spec = &object["spec"];
        let distinguisher = match spec["distinguisherMethod"]["type"].as_str() {
            Some("ByUser") => Distinguisher::User,
            Some("ByNamespace") => Distinguisher::Namespace,
            _ => Distinguisher::None,
        };
        Self {
            uid: meta(object, "uid").to_owned(),
            name: meta(object, "name").to_owned(),
            level: text(&spec["priorityLevelConfiguration"], "name"),
            precedence: spec["matchingPrecedence"].as_i64().unwrap_or_default(),
            distinguisher,
            rules: each(spec, "rules", Rule::read),
        }
    }

    /// The order in which schemas are tried.
    pub(super) fn order(&self) -> (i64, &str) {
        (self.precedence, &self.name)
    }

    pub(super) fn matches(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        self.rules.iter().any(|it| it.matches(user, info))
    }

    /// The flow that the request is part of.
    pub(super) fn flow(&self, user: &UserInfo, info: &RequestInfo) -> String {
        let by = match self.distinguisher {
            Distinguisher::None => "",
            Distinguisher::User => &user.username,
            Distinguisher::Namespace => &info.namespace,
        };
        format!("{}/{by}", self.name)
    }
}

impl Rule {
    fn read(rule: &Value) -> Self {
        Self {
            subjects: each(rule, "subjects", Subject::read),
            resources: each(rule, "resourceRules", ResourceRule::read),
            paths: each(rule, "nonResourceRules", PathRule::read),
        }
    }

    fn matches(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        let is_for = self.subjects.iter().any(|it| it.matches(user));
        is_for
            && if info.is_resource {
                self.resources.iter().any(|it| it.matches(info))
            } else {
                self.paths.iter().any(|it| it.matches(info))
            }
    }
}

impl Subject {
    fn read(subject: &Value) -> Self {
        match subject["kind"].as_str() {
            Some("User") => Self::User(text(&subject["user"], "name")),
            Some("Group") => Self::Group(text(&subject["group"], "name")),
            _ => Self::Account {
                namespace: text(&subject["serviceAccount"], "namespace"),
                name: text(&subject["serviceAccount"], "name"),
            },
        }
    }

    fn matches(&self, user: &UserInfo) -> bool {
        match self {
            Self::User(name) => name == "*" || *name == user.username,
            Self::Group(name) => name == "*" || user.is_in(name),
            Self::Account { namespace, name } => {
                let account = user.username.strip_prefix("system:serviceaccount:");
                account.and_then(|it| it.split_once(':')).is_some_and(|(space, account)| {
                    space == namespace && (name == "*" || name == account)
                })
            }
        }
    }
}

impl ResourceRule {
    fn read(rule: &Value) -> Self {
        Self {
            verbs: texts(rule, "verbs"),
            groups: texts(rule, "apiGroups"),
            resources: texts(rule, "resources"),
            namespaces: texts(rule, "namespaces"),
            is_for_cluster: rule["clusterScope"] == true,
        }
    }

    fn matches(&self, info: &RequestInfo) -> bool {
        let is_resource = |it: &String| matching::resource(it, info, Stars::Nowhere);
        let is_there = if info.namespace.is_empty() {
            self.is_for_cluster
        } else {
            covers(&self.namespaces, &info.namespace)
        };
        is_there
            && covers(&self.verbs, &info.verb)
            && covers(&self.groups, &info.group)
            && self.resources.iter().any(is_resource)
    }
}

impl PathRule {
    fn read(rule: &Value) -> Self {
        Self { verbs: texts(rule, "verbs"), paths: texts(rule, "nonResourceURLs") }
    }

    fn matches(&self, info: &RequestInfo) -> bool {
        covers(&self.verbs, &info.verb)
            && self.paths.iter().any(|it| matching::path(it, &info.path))
    }
}
