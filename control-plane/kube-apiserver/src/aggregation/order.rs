//! In which order groups and their versions are told of: the most wanted first.
//!
//! Upstream: `SortedByGroupAndVersion` of kube-aggregator, `CompareKubeAwareVersionStrings`.

use std::{cmp::Reverse, collections::BTreeMap};

use serde_json::Value;

use super::{Api, Table};
use crate::resources::Catalog;

/// How much a group, and a version in it, are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Priority {
    pub(super) group: i64,
    pub(super) version: i64,
}

/// What definitions bring.
pub(super) const CUSTOM: Priority = Priority { group: 1000, version: 100 };
/// What another server of this process serves.
pub(super) const DELEGATED: Priority = Priority { group: 100, version: 100 };

/// Upstream's built-in groups.
const BUILTIN: [(&str, i64); 20] = [
    ("", 18000),
    ("apps", 17800),
    ("events.k8s.io", 17750),
    ("authentication.k8s.io", 17700),
    ("authorization.k8s.io", 17600),
    ("autoscaling", 17500),
    ("batch", 17400),
    ("certificates.k8s.io", 17300),
    ("networking.k8s.io", 17200),
    ("policy", 17100),
    ("rbac.authorization.k8s.io", 17000),
    ("storage.k8s.io", 16800),
    ("apiextensions.k8s.io", 16700),
    ("admissionregistration.k8s.io", 16700),
    ("scheduling.k8s.io", 16600),
    ("coordination.k8s.io", 16500),
    ("node.k8s.io", 16300),
    ("discovery.k8s.io", 16200),
    ("resource.k8s.io", 16200),
    ("flowcontrol.apiserver.k8s.io", 16100),
];

impl Priority {
    pub(super) fn of(spec: &Value) -> Self {
        let number = |field: &str| spec[field].as_i64().unwrap_or_default();
        Self { group: number("groupPriorityMinimum"), version: number("versionPriority") }
    }

    /// Of a built-in version.
    pub(super) fn builtin(group: &str, version: &str) -> Option<Self> {
        if group == "apiregistration.k8s.io" {
            return Some(Self { group: 18000, version: 15 });
        }
        let (_, priority) = BUILTIN.iter().find(|it| it.0 == group)?;
        let version = match (group, version) {
            ("", _) => 1,
            ("autoscaling", "v2") => 30,
            ("flowcontrol.apiserver.k8s.io", _) => 21,
            ("resource.k8s.io", "v1") => 20,
            (_, version) if version.contains("alpha") => 1,
            (_, version) if version.contains("beta") => 9,
            _ => 15,
        };
        Some(Self { group: *priority, version })
    }
}

/// Groups other than the core one, with their versions.
pub(super) fn groups(catalog: &Catalog, table: &Table) -> Vec<(String, Vec<String>)> {
    let mut found: BTreeMap<String, Vec<(Priority, String)>> = BTreeMap::new();
    let served = catalog.groups().flat_map(|(group, versions)| {
        versions.iter().map(move |version| (group.clone(), version.clone()))
    });
    let remote = table.remotes.keys().filter(|it| !it.0.is_empty()).cloned();
    for api in served.chain(remote) {
        let priority = priority(table, &api);
        let versions = found.entry(api.0).or_default();
        if versions.iter().all(|it| it.1 != api.1) {
            versions.push((priority, api.1));
        }
    }
    let mut groups: Vec<_> = found.into_iter().collect();
    for (_, versions) in &mut groups {
        versions.sort_by_cached_key(|(priority, version)| {
            Reverse((priority.version, age(version), Reverse(version.clone())))
        });
    }
    let most = |versions: &[(Priority, String)]| versions.iter().map(|it| it.0.group).max();
    groups.sort_by_key(|(_, versions)| Reverse(most(versions)));
    let names = |versions: Vec<(Priority, String)>| versions.into_iter().map(|it| it.1).collect();
    groups.into_iter().map(|(group, versions)| (group, names(versions))).collect()
}

fn priority(table: &Table, api: &Api) -> Priority {
    let known = table.priorities.get(api).copied();
    known.or_else(|| Priority::builtin(&api.0, &api.1)).unwrap_or(CUSTOM)
}

/// `v2` is above `v1`, that above `v1beta2`, and all of them above names of other shapes.
fn age(version: &str) -> (u8, u64, u64) {
    let parsed = || {
        let rest = version.strip_prefix('v')?;
        let end = rest.find(|it: char| !it.is_ascii_digit()).unwrap_or(rest.len());
        let major = rest[..end].parse().ok()?;
        let (kind, minor) = match &rest[end..] {
            "" => (3, "0"),
            tail if tail.starts_with("beta") => (2, &tail[4..]),
            tail if tail.starts_with("alpha") => (1, &tail[5..]),
            _ => return None,
        };
        Some((kind, major, minor.parse().ok()?))
    };
    parsed().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_one_priority_are_ordered_as_kubernetes_orders_them() {
        let mut versions = ["v1alpha2", "foo10", "v1", "v11beta2", "v2", "v10", "v3beta1"];
        versions.sort_by_key(|it| Reverse(age(it)));
        assert_eq!(versions, ["v10", "v2", "v1", "v11beta2", "v3beta1", "v1alpha2", "foo10"]);
    }
}
