//! One RBAC rule, what it allows, and whether a set of rules covers another.

use serde::Deserialize;
use serde_json::Value;

use crate::{
    matching::{self, Stars, covers as has},
    request::RequestInfo,
};

/// `PolicyRule` of rbac.authorization.k8s.io/v1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rule {
    pub(crate) verbs: Vec<String>,
    pub(crate) api_groups: Vec<String>,
    pub(crate) resources: Vec<String>,
    pub(crate) resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    pub(crate) non_resource_urls: Vec<String>,
}

impl Rule {
    /// The rules of a Role or ClusterRole; a rule that cannot be read allows nothing.
    pub(crate) fn of(role: &Value) -> Vec<Self> {
        let rules = role.get("rules").and_then(Value::as_array);
        rules
            .into_iter()
            .flatten()
            .filter_map(|rule| serde_json::from_value(rule.clone()).ok())
            .collect()
    }

    pub(crate) fn allows(&self, info: &RequestInfo) -> bool {
        if !has(&self.verbs, &info.verb) {
            return false;
        }
        if !info.is_resource {
            return self.non_resource_urls.iter().any(|url| matching::path(url, &info.path));
        }
        has(&self.api_groups, &info.group)
            && self.resources.iter().any(|it| matching::resource(it, info, Stars::Resource))
            && (self.resource_names.is_empty() || self.resource_names.contains(&info.name))
    }

    /// The rule as the smallest rules that it consists of.
    fn atoms(&self) -> Vec<Self> {
        let mut atoms = Vec::new();
        for verb in &self.verbs {
            for url in &self.non_resource_urls {
                atoms.push(Self {
                    verbs: vec![verb.clone()],
                    non_resource_urls: vec![url.clone()],
                    ..Self::default()
                });
            }
            for group in &self.api_groups {
                for resource in &self.resources {
                    atoms.extend(self.resource_atoms(verb, group, resource));
                }
            }
        }
        atoms
    }

    fn resource_atoms(&self, verb: &str, group: &str, resource: &str) -> Vec<Self> {
        let atom = |names: Vec<String>| Self {
            verbs: vec![verb.into()],
            api_groups: vec![group.into()],
            resources: vec![resource.into()],
            resource_names: names,
            ..Self::default()
        };
        if self.resource_names.is_empty() {
            return vec![atom(vec![])];
        }
        self.resource_names.iter().map(|name| atom(vec![name.clone()])).collect()
    }

    /// Whether this rule alone allows all that the atom allows.
    fn covers_atom(&self, atom: &Self) -> bool {
        if !has(&self.verbs, &atom.verbs[0]) {
            return false;
        }
        if let [url] = atom.non_resource_urls.as_slice() {
            return self.non_resource_urls.iter().any(|own| url_covers(own, url));
        }
        let names_covered = self.resource_names.is_empty()
            || (!atom.resource_names.is_empty()
                && atom.resource_names.iter().all(|name| self.resource_names.contains(name)));
        has(&self.api_groups, &atom.api_groups[0])
            && self.covers_resource(&atom.resources[0])
            && names_covered
    }

    fn covers_resource(&self, wanted: &str) -> bool {
        let subresource = wanted.split_once('/').map(|(_, sub)| format!("*/{sub}"));
        self.resources.iter().any(|own| {
            own == "*" || own == wanted || subresource.as_ref().is_some_and(|it| it == own)
        })
    }
}

/// The parts of `wanted` that `owned` does not allow. Upstream: `validation.Covers`.
pub(crate) fn uncovered(owned: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let atoms = wanted.iter().flat_map(Rule::atoms);
    atoms.filter(|atom| !owned.iter().any(|own| own.covers_atom(atom))).collect()
}

fn url_covers(own: &str, wanted: &str) -> bool {
    own == wanted || own.strip_suffix('*').is_some_and(|prefix| wanted.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(value: Value) -> Rule {
        serde_json::from_value(value).unwrap()
    }

    fn pods(verbs: &[&str], resources: &[&str], names: &[&str]) -> Rule {
        rule(json!({
            "verbs": verbs, "apiGroups": [""], "resources": resources, "resourceNames": names,
        }))
    }

    fn request(method: &str, path: &str) -> RequestInfo {
        RequestInfo::parse(&method.parse().unwrap(), path, "")
    }

    #[test]
    fn a_resource_rule_does_not_reach_subresources_unless_it_says_so() {
        let exec = request("POST", "/api/v1/namespaces/ns/pods/p/exec");
        assert!(!pods(&["*"], &["pods"], &[]).allows(&exec));
        for resources in ["pods/exec", "*/exec", "*"] {
            assert!(pods(&["create"], &[resources], &[]).allows(&exec), "{resources}");
        }
        assert!(!pods(&["create"], &["*/log"], &[]).allows(&exec));
    }

    #[test]
    fn a_rule_with_names_does_not_allow_a_collection() {
        let rule = pods(&["get", "list"], &["pods"], &["p"]);
        assert!(rule.allows(&request("GET", "/api/v1/namespaces/ns/pods/p")));
        assert!(!rule.allows(&request("GET", "/api/v1/namespaces/ns/pods/q")));
        assert!(!rule.allows(&request("GET", "/api/v1/namespaces/ns/pods")));
    }

    #[test]
    fn a_path_rule_matches_prefixes_only_with_a_star() {
        let rule = |url| rule(json!({"verbs": ["get"], "nonResourceURLs": [url]}));
        assert!(rule("/healthz/*").allows(&request("GET", "/healthz/etcd")));
        assert!(!rule("/healthz").allows(&request("GET", "/healthz/etcd")));
        assert!(!rule("/healthz").allows(&request("POST", "/healthz")));
    }

    #[test]
    fn what_is_not_owned_is_found_verb_by_verb() {
        let owned = [pods(&["get"], &["pods"], &[]), pods(&["delete"], &["pods"], &["p"])];
        let cases = [
            (pods(&["get"], &["pods"], &["x"]), true),
            (pods(&["get", "list"], &["pods"], &[]), false),
            (pods(&["delete"], &["pods"], &["p"]), true),
            (pods(&["delete"], &["pods"], &[]), false),
            (pods(&["*"], &["pods"], &[]), false),
            (pods(&["get"], &["*"], &[]), false),
        ];
        for (wanted, is_covered) in cases {
            let missing = uncovered(&owned, std::slice::from_ref(&wanted));
            assert_eq!(missing.is_empty(), is_covered, "{wanted:?}");
        }
    }
}
