//! The rules of an EC2NodeClass, for servers that do not evaluate those of its definition.
//!
//! What they keep out is not only what makes no sense: a selector term without a field would choose
//! every subnet, group or image of the account.
//!
//! Messages are upstream's, of `pkg/apis/v1/ec2nodeclass.go` of aws/karpenter-provider-aws.

use std::collections::BTreeMap;

use api_kube::karpenter::{AmiSelectorTerm, ConnectionTracking, Ec2NodeClass, SelectorTerm};

use super::kubelet_rules;

const FAMILIES: [&str; 6] =
    ["al2", "al2023", "bottlerocket", "windows2019", "windows2022", "windows2025"];
/// Tags that Karpenter sets itself.
const RESTRICTED: [&str; 4] = [
    "eks:eks-cluster-name",
    "karpenter.sh/nodepool",
    "karpenter.sh/nodeclaim",
    "karpenter.k8s.aws/ec2nodeclass",
];

/// What is wrong with a class; nothing where it can be used.
pub(super) fn faults(class: &Ec2NodeClass) -> Vec<String> {
    let spec = &class.spec;
    let mut faults = Vec::new();
    let mut check = |is_good: bool, message: &str| {
        if !is_good && !faults.iter().any(|it| it == message) {
            faults.push(message.to_owned());
        }
    };
    check(
        spec.role.is_some() != spec.instance_profile.is_some(),
        "must specify exactly one of ['role', 'instanceProfile']",
    );
    check(spec.role.as_deref() != Some(""), "role cannot be empty");
    check(spec.instance_profile.as_deref() != Some(""), "instanceProfile cannot be empty");
    let subnets = &spec.subnet_selector_terms;
    check(!subnets.is_empty(), "subnetSelectorTerms cannot be empty");
    check(subnets.iter().all(is_set), "expected at least one, got none, ['tags', 'id']");
    check(
        subnets.iter().all(is_alone),
        "'id' is mutually exclusive, cannot be set with a combination of other fields in a subnet \
         selector term",
    );
    let groups = &spec.security_group_selector_terms;
    check(!groups.is_empty(), "securityGroupSelectorTerms cannot be empty");
    check(groups.iter().all(is_set), "expected at least one, got none, ['tags', 'id', 'name']");
    check(
        groups.iter().all(is_alone),
        "'id' is mutually exclusive, cannot be set with a combination of other fields in a security \
         group selector term",
    );
    check(
        groups.iter().all(|it| it.name.is_none() || it.tags.is_empty()),
        "'name' is mutually exclusive, cannot be set with a combination of other fields in a \
         security group selector term",
    );
    images(class, &mut check);
    let reservations = &spec.capacity_reservation_selector_terms;
    check(
        reservations.iter().all(|it| {
            it.id.is_some() || !it.tags.is_empty() || it.instance_match_criteria.is_some()
        }),
        "expected at least one, got none, ['tags', 'id', 'instanceMatchCriteria']",
    );
    check(
        reservations.iter().all(|it| {
            let has_more = it.owner_id.is_some() || it.instance_match_criteria.is_some();
            it.id.is_none() || (it.tags.is_empty() && !has_more)
        }),
        "'id' is mutually exclusive, cannot be set along with other fields in a capacity \
         reservation selector term",
    );
    let selected = subnets.iter().chain(groups).map(|it| &it.tags);
    let selected = selected.chain(spec.ami_selector_terms.iter().map(|it| &it.tags));
    let is_full = |tags: &BTreeMap<String, String>| {
        tags.iter().all(|(key, value)| !key.is_empty() && !value.is_empty())
    };
    check(selected.into_iter().all(is_full), "empty tag keys or values aren't supported");
    check(spec.tags.keys().all(|it| !it.is_empty()), "empty tag keys aren't supported");
    check(
        spec.tags.keys().all(|it| !it.starts_with("kubernetes.io/cluster")),
        "tag contains a restricted tag matching kubernetes.io/cluster/",
    );
    for key in RESTRICTED.into_iter().filter(|it| spec.tags.contains_key(*it)) {
        check(false, &format!("tag contains a restricted tag matching {key}"));
    }
    let group = spec.placement_group_selector.as_ref();
    check(
        group.is_none_or(|it| it.id.is_some() != it.name.is_some()),
        "expected exactly one of ['id', 'name']",
    );
    let tracking = spec.connection_tracking.as_ref();
    check(
        tracking.is_none_or(|it| *it != ConnectionTracking::default()),
        "at least one of the timeouts must be set",
    );
    let roots = spec.block_device_mappings.iter().filter(|it| it.root_volume == Some(true));
    check(roots.count() <= 1, "must have only one blockDeviceMappings with rootVolume");
    let mut volumes = spec.block_device_mappings.iter().filter_map(|it| it.ebs.as_ref());
    check(
        volumes.all(|it| it.snapshot_id.is_some() || it.volume_size.is_some()),
        "snapshotID or volumeSize must be defined",
    );
    faults.extend(kubelet_rules::faults(spec.kubelet.as_ref()));
    faults
}

fn images(class: &Ec2NodeClass, check: &mut impl FnMut(bool, &str)) {
    let (terms, family) = (&class.spec.ami_selector_terms, class.spec.ami_family.as_deref());
    check(!terms.is_empty(), "amiSelectorTerms cannot be empty");
    let fields = |it: &AmiSelectorTerm| {
        [it.id.is_some(), it.name.is_some(), it.alias.is_some(), it.ssm_parameter.is_some()]
            .into_iter()
            .filter(|it| *it)
            .count()
            + usize::from(!it.tags.is_empty())
    };
    check(
        terms.iter().all(|it| fields(it) > 0),
        "expected at least one, got none, ['tags', 'id', 'name', 'alias', 'ssmParameter']",
    );
    let is_alone = |it: &AmiSelectorTerm| fields(it) == 1 && it.owner.is_none();
    check(
        terms.iter().all(|it| it.id.is_none() || is_alone(it)),
        "'id' is mutually exclusive, cannot be set with a combination of other fields in \
         amiSelectorTerms",
    );
    let aliases: Vec<&str> = terms.iter().filter_map(|it| it.alias.as_deref()).collect();
    check(
        terms.iter().all(|it| it.alias.is_none() || is_alone(it)),
        "'alias' is mutually exclusive, cannot be set with a combination of other fields in \
         amiSelectorTerms",
    );
    check(
        aliases.is_empty() || terms.len() == 1,
        "'alias' is mutually exclusive, cannot be set with a combination of other amiSelectorTerms",
    );
    check(
        family.is_some() || !aliases.is_empty(),
        "must specify amiFamily if amiSelectorTerms does not contain an alias",
    );
    for alias in aliases {
        let Some((of, version)) =
            alias.split_once('@').filter(|(a, b)| !a.is_empty() && !b.is_empty())
        else {
            check(false, "'alias' is improperly formatted, must match the format 'family@version'");
            continue;
        };
        check(
            FAMILIES.contains(&of),
            "family is not supported, must be one of the following: 'al2', 'al2023', \
             'bottlerocket', 'windows2019', 'windows2022', 'windows2025'",
        );
        check(
            !of.starts_with("windows") || version == "latest",
            "windows families may only specify version 'latest'",
        );
        check(
            family.is_none_or(|it| it == "Custom" || it.to_lowercase() == of),
            "if set, amiFamily must be 'Custom' or match the family of the alias",
        );
    }
}

fn is_set(term: &SelectorTerm) -> bool {
    term.id.is_some() || term.name.is_some() || !term.tags.is_empty()
}

/// An id says all.
fn is_alone(term: &SelectorTerm) -> bool {
    term.id.is_none() || (term.name.is_none() && term.tags.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(change: impl Fn(&mut Value)) -> Vec<String> {
        let mut spec = json!({ "role": "node", "amiSelectorTerms": [{ "alias": "al2023@latest" }],
            "subnetSelectorTerms": [{ "tags": { "a": "*" } }],
            "securityGroupSelectorTerms": [{ "name": "nodes" }] });
        change(&mut spec);
        let class = json!({ "metadata": { "name": "a" }, "spec": spec });
        faults(&serde_json::from_value(class).unwrap())
    }

    #[test]
    fn a_class_that_keeps_the_rules_has_no_faults() {
        let none: Vec<String> = Vec::new();
        assert_eq!(of(|_| {}), none);
        assert_eq!(of(|it| it["amiFamily"] = json!("Custom")), none);
    }

    #[test]
    fn each_rule_is_kept_alone() {
        let terms = "subnetSelectorTerms";
        let reserved = "capacityReservationSelectorTerms";
        let cases: [(&str, Value, &str); 18] = [
            ("placementGroupSelector", json!({ "id": "pg-1", "name": "a" }), "exactly one of"),
            ("connectionTracking", json!({}), "at least one of the timeouts"),
            (reserved, json!([{ "ownerID": "111122223333" }]), "instanceMatchCriteria"),
            (
                reserved,
                json!([{ "id": "cr-1", "tags": { "a": "b" } }]),
                "in a capacity reservation selector",
            ),
            ("instanceProfile", json!("x"), "exactly one of"),
            (terms, json!([]), "subnetSelectorTerms cannot be empty"),
            (terms, json!([{}]), "got none, ['tags', 'id']"),
            (terms, json!([{ "id": "subnet-1", "tags": { "a": "b" } }]), "in a subnet selector"),
            (terms, json!([{ "tags": { "a": "" } }]), "empty tag keys or values"),
            ("securityGroupSelectorTerms", json!([{}]), "['tags', 'id', 'name']"),
            (
                "securityGroupSelectorTerms",
                json!([{ "name": "x", "tags": { "a": "b" } }]),
                "'name' is mutually exclusive",
            ),
            ("amiSelectorTerms", json!([{ "id": "ami-1" }]), "must specify amiFamily"),
            ("amiSelectorTerms", json!([{ "alias": "al2023" }]), "improperly formatted"),
            ("amiSelectorTerms", json!([{ "alias": "plan9@latest" }]), "family is not supported"),
            ("amiSelectorTerms", json!([{ "alias": "windows2022@1" }]), "may only specify"),
            ("amiFamily", json!("Bottlerocket"), "match the family of the alias"),
            ("tags", json!({ "karpenter.sh/nodepool": "x" }), "matching karpenter.sh/nodepool"),
            ("blockDeviceMappings", json!([{ "ebs": {} }]), "snapshotID or volumeSize"),
        ];
        for (field, value, expected) in cases {
            let found = of(|it| it[field] = value.clone());
            assert!(found.len() == 1 && found[0].contains(expected), "{field} {value}: {found:?}");
        }
    }
}
