//! Which groups of rows are measured: all, or those that are named.

use std::collections::BTreeSet;

use anyhow::bail;

/// Rows that are measured together, in the table's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    Up,
    Memory,
    Nodes,
    Cni,
    Pods,
    ManyPods,
    PodLives,
    IdlePods,
    Identity,
    Services,
    Api,
    Kubernetes,
    Controllers,
    Proxier,
    Network,
    Iam,
    Provisioning,
}

impl Group {
    const ALL: [(&str, Self); 17] = [
        ("up", Self::Up),
        ("memory", Self::Memory),
        ("nodes", Self::Nodes),
        ("cni", Self::Cni),
        ("pods", Self::Pods),
        ("many-pods", Self::ManyPods),
        ("pod-lives", Self::PodLives),
        ("idle-pods", Self::IdlePods),
        ("identity", Self::Identity),
        ("services", Self::Services),
        ("api", Self::Api),
        ("kubernetes", Self::Kubernetes),
        ("controllers", Self::Controllers),
        ("proxier", Self::Proxier),
        ("network", Self::Network),
        ("iam", Self::Iam),
        ("provisioning", Self::Provisioning),
    ];

    /// The others bring up what they measure themselves.
    pub(crate) fn needs_region(self) -> bool {
        !matches!(
            self,
            Self::Kubernetes
                | Self::Controllers
                | Self::Proxier
                | Self::Network
                | Self::Iam
                | Self::Provisioning
        )
    }

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|it| it.1 == self).map_or("", |it| it.0)
    }
}

/// The groups of `make bench BENCH="pods services"`; of `make bench`, all.
pub(crate) fn wanted(names: impl Iterator<Item = String>) -> anyhow::Result<BTreeSet<Group>> {
    let mut wanted = BTreeSet::new();
    for name in names {
        let Some((_, group)) = Group::ALL.iter().find(|it| it.0 == name) else {
            let known = Group::ALL.map(|it| it.0).join(", ");
            bail!("there is no group `{name}`: the groups are {known}");
        };
        wanted.insert(*group);
    }
    if wanted.is_empty() {
        wanted.extend(Group::ALL.map(|it| it.1));
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> anyhow::Result<BTreeSet<Group>> {
        wanted(names.iter().map(|it| (*it).to_owned()))
    }

    #[test]
    fn a_group_that_there_is_not_is_refused_with_those_that_there_are() {
        let said = of(&["pods", "servces"]).unwrap_err().to_string();
        assert!(
            said.contains("`servces`") && said.contains("pod-lives, idle-pods, identity, services"),
            "{said}"
        );
    }

    #[test]
    fn all_are_measured_unless_some_are_named() {
        assert_eq!(of(&[]).unwrap().len(), Group::ALL.len());
        assert_eq!(of(&["iam", "pods"]).unwrap(), [Group::Pods, Group::Iam].into());
        assert!(!of(&["iam", "network"]).unwrap().iter().any(|it| it.needs_region()));
    }
}
