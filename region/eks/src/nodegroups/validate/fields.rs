//! What labels, taints, tags and repairs of a node group may say.
//!
//! Source: EKS API reference for lengths and ranges; messages as users quote them where they do.

use std::collections::{BTreeMap, BTreeSet};

use aws_eks::{NodeRepairConfig, NodeRepairConfigOverrides, Taint};
use aws_wire::Fault;

use crate::faults;

const EFFECTS: [&str; 3] = ["NO_SCHEDULE", "NO_EXECUTE", "PREFER_NO_SCHEDULE"];
const RESERVED: [&str; 3] = ["kubernetes.io/", "k8s.io/", "eks.amazonaws.com/"];
/// Of keys and values.
const LONGEST: usize = 63;
const MOST_TAINTS: usize = 50;
const MOST_TAGS: usize = 50;
const ACTIONS: [&str; 3] = ["Replace", "Reboot", "NoAction"];

fn wrong(message: impl Into<String>) -> Result<(), Fault> {
    Err(faults::invalid_parameter(message))
}

pub(crate) fn labels(labels: &BTreeMap<String, String>) -> Result<(), Fault> {
    for (key, value) in labels {
        if RESERVED.iter().any(|it| key.starts_with(it)) {
            let reserved = RESERVED.join(", ");
            return wrong(format!("Label cannot contain reserved prefixes [{reserved}]"));
        }
        label_key(key)?;
        if value.is_empty() || value.len() > LONGEST {
            return wrong(format!("The value of label {key} must have 1 to {LONGEST} characters"));
        }
        name(value)?;
    }
    Ok(())
}

/// `[DNS-NAME/]NAME`.
pub(crate) fn label_key(key: &str) -> Result<(), Fault> {
    if key.is_empty() || key.len() > LONGEST {
        return wrong(format!("The key of a label must have 1 to {LONGEST} characters: {key}"));
    }
    match key.split_once('/') {
        None => name(key),
        Some((prefix, rest)) if is_domain(prefix) && !rest.is_empty() => name(rest),
        Some(_) => wrong(format!("Invalid label key: {key}")),
    }
}

fn is_domain(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.split('.').all(|part| {
        !part.is_empty()
            && part.chars().all(is_inner)
            && !part.starts_with('-')
            && !part.ends_with('-')
    })
}

/// Kubernetes' rule for the names in labels and for their values.
fn name(text: &str) -> Result<(), Fault> {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_end = |c: char| c.is_ascii_alphanumeric();
    if text.chars().all(is_inner) && text.starts_with(is_end) && text.ends_with(is_end) {
        return Ok(());
    }
    wrong(format!(
        "Invalid value: {text} : field must consist of alphanumeric characters, '-', '_' or '.', and \
         must start and end with an alphanumeric character"
    ))
}

/// What is added and what is removed must not be the same.
pub(crate) fn disjoint<T: Ord>(
    added: impl Iterator<Item = T>,
    removed: impl Iterator<Item = T>,
    what: &str,
) -> Result<(), Fault> {
    let added: BTreeSet<T> = added.collect();
    match removed.into_iter().any(|it| added.contains(&it)) {
        true => wrong(format!("The same {what} cannot be both added and removed")),
        false => Ok(()),
    }
}

/// Key and effect tell taints apart.
pub(crate) fn identity(taint: &Taint) -> (&str, &str) {
    (taint.key.as_deref().unwrap_or_default(), taint.effect.as_deref().unwrap_or_default())
}

pub(crate) fn taints(taints: &[Taint]) -> Result<(), Fault> {
    let is_good = |taint: &Taint| {
        let (key, effect) = identity(taint);
        !key.is_empty() && key.len() <= LONGEST && EFFECTS.contains(&effect)
    };
    if taints.len() > MOST_TAINTS || !taints.iter().all(is_good) {
        return wrong(format!(
            "Each taint needs a key of 1 to {LONGEST} characters and one of the effects {}; at most \
             {MOST_TAINTS} taints are allowed",
            EFFECTS.join(", ")
        ));
    }
    let mut known = BTreeSet::new();
    for taint in taints {
        label_key(identity(taint).0)?;
        match taint.value.as_deref() {
            None | Some("") => {}
            Some(value) if value.len() > LONGEST => {
                return wrong(format!("A taint's value has at most {LONGEST} characters"));
            }
            Some(value) => name(value)?,
        }
        if !known.insert(identity(taint)) {
            let (key, effect) = identity(taint);
            return wrong(format!("Taint {key} with effect {effect} is given more than once"));
        }
    }
    Ok(())
}

pub(crate) fn tags(tags: &BTreeMap<String, String>) -> Result<(), Fault> {
    if tags.len() > MOST_TAGS {
        return wrong(format!("A resource has at most {MOST_TAGS} tags"));
    }
    let is_long = |text: &str, most: usize| text.chars().count() > most;
    for (key, value) in tags {
        if key.is_empty() || is_long(key, 128) || is_long(value, 256) {
            return wrong("A tag has a key of 1 to 128 characters and a value of at most 256");
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            return wrong("aws: prefixed tag key names are not allowed for external use.");
        }
    }
    Ok(())
}

pub(crate) fn repair(asked: &NodeRepairConfig) -> Result<(), Fault> {
    let pairs = [
        (
            "maxUnhealthyNodeThreshold",
            asked.max_unhealthy_node_threshold_count,
            asked.max_unhealthy_node_threshold_percentage,
        ),
        (
            "maxParallelNodesRepaired",
            asked.max_parallel_nodes_repaired_count,
            asked.max_parallel_nodes_repaired_percentage,
        ),
    ];
    for (what, count, percentage) in pairs {
        if count.is_some() && percentage.is_some() {
            return wrong(format!("Only one of {what}Count and {what}Percentage can be specified"));
        }
        if count.is_some_and(|it| it < 1) {
            return wrong(format!("{what}Count must be 1 or more"));
        }
        if percentage.is_some_and(|it| !(1..=100).contains(&it)) {
            return wrong(format!("{what}Percentage must be between 1 and 100"));
        }
    }
    asked.node_repair_config_overrides.iter().try_for_each(repair_override)
}

/// All of it must be said.
fn repair_override(asked: &NodeRepairConfigOverrides) -> Result<(), Fault> {
    let is_said = |it: &Option<String>| it.as_deref().is_some_and(|it| !it.is_empty());
    let action = asked.repair_action.as_deref();
    match () {
        () if !is_said(&asked.node_monitoring_condition)
            || !is_said(&asked.node_unhealthy_reason)
            || action.is_none()
            || asked.min_repair_wait_time_mins.is_none() =>
        {
            wrong(
                "An override needs nodeMonitoringCondition, nodeUnhealthyReason, \
                 minRepairWaitTimeMins and repairAction",
            )
        }
        () if asked.min_repair_wait_time_mins.is_some_and(|it| it < 1) => {
            wrong("minRepairWaitTimeMins must be 1 or more")
        }
        () if action.is_some_and(|it| !ACTIONS.contains(&it)) => {
            wrong(format!("repairAction must be one of {}", ACTIONS.join(", ")))
        }
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, value: &str) -> BTreeMap<String, String> {
        [(key.to_owned(), value.to_owned())].into()
    }

    #[test]
    fn labels_are_kubernetes_own_and_of_no_reserved_prefix() {
        for good in ["a", "team", "example.com/team", "node-role.kubernetes.io/worker", "a_b.c"] {
            assert!(labels(&one(good, "x")).is_ok(), "{good}");
        }
        for reserved in ["kubernetes.io/a", "k8s.io/a", "eks.amazonaws.com/nodegroup"] {
            let refused = labels(&one(reserved, "x")).unwrap_err();
            assert_eq!(
                refused.message,
                "Label cannot contain reserved prefixes [kubernetes.io/, k8s.io/, \
                 eks.amazonaws.com/]"
            );
        }
        let long = "a".repeat(64);
        for wrong in ["", "-a", "a b", "A.example/", "/a", "a/b/c", "UP.com/a", &long] {
            assert!(labels(&one(wrong, "x")).is_err(), "{wrong}");
        }
        for wrong in ["", "a b", "-a", "a.", &long] {
            let refused = labels(&one("a", wrong)).unwrap_err();
            assert_eq!(refused.code, "InvalidParameterException", "{wrong}");
        }
    }

    fn taint(key: &str, value: &str, effect: &str) -> Taint {
        Taint {
            key: Some(key.to_owned()),
            value: Some(value.to_owned()),
            effect: Some(effect.to_owned()),
        }
    }

    #[test]
    fn taints_have_eks_spelling_and_come_once() {
        let of = |effect: &str| taint("a", "", effect);
        assert!(taints(&[of("NO_SCHEDULE"), of("NO_EXECUTE")]).is_ok());
        for wrong in [
            vec![of("NoSchedule")],
            vec![of("NO_SCHEDULE"), of("NO_SCHEDULE")],
            vec![taint("a", "b c", "NO_SCHEDULE")],
            vec![taint("a", &"v".repeat(64), "NO_SCHEDULE")],
            vec![taint(&"k".repeat(64), "", "NO_SCHEDULE")],
            vec![taint("", "", "NO_SCHEDULE")],
            (0..51).map(|it| taint(&format!("k{it}"), "", "NO_SCHEDULE")).collect(),
        ] {
            assert_eq!(taints(&wrong).unwrap_err().code, "InvalidParameterException", "{wrong:?}");
        }
    }

    #[test]
    fn tags_are_few_and_none_of_awss_own() {
        assert!(tags(&one("team", "")).is_ok());
        let many = (0..51).map(|it| (it.to_string(), String::new())).collect();
        let (long_key, long_value) = ("k".repeat(129), "v".repeat(257));
        for wrong in [many, one("aws:x", ""), one(&long_key, ""), one("k", &long_value)] {
            assert!(tags(&wrong).is_err());
        }
    }

    #[test]
    fn a_repair_has_one_limit_of_each_kind_and_overrides_say_all() {
        let mut config = NodeRepairConfig { enabled: Some(true), ..Default::default() };
        assert!(repair(&config).is_ok());
        config.max_unhealthy_node_threshold_count = Some(3);
        config.max_parallel_nodes_repaired_percentage = Some(50);
        assert!(repair(&config).is_ok());
        let both = NodeRepairConfig {
            max_unhealthy_node_threshold_percentage: Some(10),
            ..config.clone()
        };
        let none =
            NodeRepairConfig { max_unhealthy_node_threshold_count: Some(0), ..Default::default() };
        let above = NodeRepairConfig {
            max_parallel_nodes_repaired_percentage: Some(101),
            ..Default::default()
        };
        for wrong in [both, none, above] {
            assert!(repair(&wrong).is_err(), "{wrong:?}");
        }
        let whole = NodeRepairConfigOverrides {
            node_monitoring_condition: Some("AcceleratedHardwareReady".to_owned()),
            node_unhealthy_reason: Some("NvidiaXID64Error".to_owned()),
            min_repair_wait_time_mins: Some(5),
            repair_action: Some("Reboot".to_owned()),
        };
        let with = |it: NodeRepairConfigOverrides| NodeRepairConfig {
            node_repair_config_overrides: vec![it],
            ..Default::default()
        };
        assert!(repair(&with(whole.clone())).is_ok());
        let without = NodeRepairConfigOverrides { node_unhealthy_reason: None, ..whole.clone() };
        let unknown =
            NodeRepairConfigOverrides { repair_action: Some("Pray".to_owned()), ..whole.clone() };
        let never = NodeRepairConfigOverrides { min_repair_wait_time_mins: Some(0), ..whole };
        for wrong in [without, unknown, never] {
            assert!(repair(&with(wrong.clone())).is_err(), "{wrong:?}");
        }
    }
}
