//! Groups that are alike, and how they share new nodes.
//!
//! Upstream: `processors/nodegroupset`.

use std::collections::BTreeMap;

use resources::Amounts;

use super::Increase;
use crate::{options::Similarity, template::Template, world::Group};

/// Labels that differ between groups that are alike all the same.
const IGNORED: [&str; 20] = [
    "kubernetes.io/hostname",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "beta.kubernetes.io/fluentd-ds-ready",
    "kops.k8s.io/instancegroup",
    "alpha.eksctl.io/instance-id",
    "alpha.eksctl.io/nodegroup-name",
    "eks.amazonaws.com/nodegroup",
    "k8s.amazonaws.com/eniConfig",
    "lifecycle",
    "topology.ebs.csi.aws.com/zone",
    "topology.k8s.aws/zone-id",
    "eks.amazonaws.com/nodegroup-image",
    "eks.amazonaws.com/sourceLaunchTemplateId",
    "eks.amazonaws.com/sourceLaunchTemplateVersion",
    "vpc.amazonaws.com/eniConfig",
    "k8s.io/cloud-provider-aws",
    "vpc.amazonaws.com/has-trunk-attached",
];

/// Whether nodes of these two do equally well.
pub(super) fn are_similar(one: &Template, other: &Template, options: &Similarity) -> bool {
    let labels = |it: &Template| it.node.metadata.labels.clone().unwrap_or_default();
    let (a, b) = (labels(one), labels(other));
    if !options.labels.is_empty() {
        return options.labels.iter().all(|it| a.get(it) == b.get(it));
    }
    has_same_capacity(&one.capacity, &other.capacity, options)
        && are_within(&one.allocatable, &other.allocatable, options.allocatable_ratio)
        && are_within(&free(one), &free(other), options.free_ratio)
        && relevant(&a, options) == relevant(&b, options)
}

fn relevant<'a>(
    labels: &'a BTreeMap<String, String>,
    options: &Similarity,
) -> BTreeMap<&'a str, &'a str> {
    let counts =
        |key: &str| !IGNORED.contains(&key) && !options.ignored_labels.iter().any(|it| it == key);
    let kept = labels.iter().filter(|(key, _)| counts(key));
    kept.map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

fn has_same_capacity(a: &Amounts, b: &Amounts, options: &Similarity) -> bool {
    is_within(a.memory, b.memory, options.memory_ratio)
        && a.cpu_millis == b.cpu_millis
        && a.scalars == b.scalars
}

fn free(template: &Template) -> Amounts {
    let mut free = template.allocatable.clone();
    for pod in &template.pods {
        free.subtract(&pod.requests);
    }
    free
}

fn are_within(a: &Amounts, b: &Amounts, ratio: f64) -> bool {
    is_within(a.cpu_millis, b.cpu_millis, ratio) && is_within(a.memory, b.memory, ratio)
}

#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn is_within(a: i64, b: i64, ratio: f64) -> bool {
    let (larger, smaller) = (a.max(b), a.min(b));
    (larger - smaller) as f64 <= larger as f64 * ratio
}

/// Gives nodes one by one to the smallest group that may still grow.
pub(super) fn share(groups: &[&Group], wanted: i64) -> Vec<Increase> {
    let mut sizes: Vec<Increase> = groups
        .iter()
        .filter(|it| it.target < it.max)
        .map(|it| Increase { group: it.name.clone(), from: it.target, to: it.target, max: it.max })
        .collect();
    for _ in 0..wanted {
        let open = sizes.iter_mut().filter(|it| it.to < it.max);
        // The first of the smallest: the chosen group is the first of all.
        let Some(smallest) = open.min_by_key(|it| it.to) else { break };
        smallest.to += 1;
    }
    sizes.retain(|it| it.to > it.from);
    sizes
}
