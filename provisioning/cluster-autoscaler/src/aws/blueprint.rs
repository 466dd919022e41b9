//! What a node of a group without nodes will be: from [what it launches](super::source), what EC2 says
//! of the instance type, its tags, and, for a managed node group, what EKS says.
//!
//! Upstream: `aws_manager.go` (`buildNodeFromTemplate`), `managed_nodegroup_cache.go`. As upstream's,
//! it has room for 110 pods and nothing of it is reserved: what a kubelet keeps for itself is not
//! known here.

use std::{collections::BTreeMap, time::Duration};

use aws_autoscaling::group::AutoScalingGroup;
use aws_ec2::instance_type::{
    DescribeInstanceTypes, DescribeInstanceTypesRequest, InstanceTypeInfo,
};
use aws_eks::nodegroup::{DescribeNodegroup, DescribeNodegroupRequest, Nodegroup};
use aws_wire::{Client, client::CallError};
use k8s_openapi::{
    api::core::v1::{Node, NodeCondition, NodeSpec, NodeStatus, Taint},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::api::ObjectMeta;

use super::{source::Source, tags};

/// How long a blueprint is good for: a launch template's `$Latest` moves.
pub(super) const KEPT: Duration = Duration::from_secs(360);
const PODS: &str = "110";

/// What a blueprint is made from.
pub(super) fn key(group: &AutoScalingGroup) -> String {
    let source = Source::of(group);
    let tags: Vec<_> = group.tags.iter().map(|it| (&it.key, &it.value)).collect();
    format!(
        "{:?}/{:?}/{source:?}/{tags:?}",
        group.auto_scaling_group_name, group.availability_zones
    )
}

/// None where the instance type is not known.
pub(super) async fn make(
    client: &Client,
    group: &AutoScalingGroup,
) -> Result<Option<Node>, CallError> {
    let Some(name) = Source::of(group).instance_type(client).await? else { return Ok(None) };
    let request = DescribeInstanceTypesRequest { instance_types: vec![name], ..Default::default() };
    let found = client.call::<DescribeInstanceTypes>(request).await?.instance_types;
    let Some(facts) = found.into_iter().next() else { return Ok(None) };
    let managed = managed(client, group).await;
    Ok(Some(node(client.region(), group, &facts, managed.as_ref())))
}

/// What EKS says of a managed node group; without the right to ask, the tags have to do.
async fn managed(client: &Client, group: &AutoScalingGroup) -> Option<Nodegroup> {
    let tag = |key: &str| {
        let found = group.tags.iter().find(|it| it.key.as_deref() == Some(key));
        found.and_then(|it| it.value.clone())
    };
    let request = DescribeNodegroupRequest {
        cluster_name: tag("eks:cluster-name")?,
        nodegroup_name: tag("eks:nodegroup-name")?,
    };
    match client.call::<DescribeNodegroup>(request).await {
        Ok(found) => found.nodegroup,
        Err(error) => {
            tracing::debug!(error = %telemetry::chain(&error), "cannot ask EKS about a node group");
            None
        }
    }
}

fn node(
    region: &str,
    group: &AutoScalingGroup,
    facts: &InstanceTypeInfo,
    managed: Option<&Nodegroup>,
) -> Node {
    let mut labels = labels(region, group, facts);
    let mut taints = tags::taints(&group.tags);
    let mut capacity = capacity(facts);
    labels.extend(tags::labels(&group.tags));
    capacity.extend(tags::resources(&group.tags));
    if let Some(managed) = managed {
        labels.extend(managed.labels.clone());
        labels.insert("eks.amazonaws.com/nodegroup".to_owned(), managed.nodegroup_name.clone());
        labels.insert("eks.amazonaws.com/capacityType".to_owned(), managed.capacity_type.clone());
        if !managed.taints.is_empty() {
            taints = managed.taints.iter().filter_map(taint).collect();
        }
    }
    let ready = NodeCondition {
        type_: "Ready".to_owned(),
        status: "True".to_owned(),
        ..NodeCondition::default()
    };
    Node {
        metadata: ObjectMeta { labels: Some(labels), ..ObjectMeta::default() },
        spec: Some(NodeSpec { taints: Some(taints), ..NodeSpec::default() }),
        status: Some(NodeStatus {
            allocatable: Some(capacity.clone()),
            capacity: Some(capacity),
            conditions: Some(vec![ready]),
            ..NodeStatus::default()
        }),
    }
}

fn labels(
    region: &str,
    group: &AutoScalingGroup,
    facts: &InstanceTypeInfo,
) -> BTreeMap<String, String> {
    let architectures = facts.processor_info.iter().flat_map(|it| &it.supported_architectures);
    let is_arm = architectures.into_iter().any(|it| it.starts_with("arm64"));
    let arch = if is_arm { "arm64" } else { "amd64" };
    let name = facts.instance_type.clone().unwrap_or_default();
    // Of several zones the first, as upstream has it: a pod that wants another waits for a live node.
    let zone = group.availability_zones.first().cloned().unwrap_or_default();
    let pairs = [
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/arch", arch),
        ("kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/os", "linux"),
        ("node.kubernetes.io/instance-type", &name),
        ("beta.kubernetes.io/instance-type", &name),
        ("topology.kubernetes.io/region", region),
        ("failure-domain.beta.kubernetes.io/region", region),
        ("topology.kubernetes.io/zone", &zone),
        ("failure-domain.beta.kubernetes.io/zone", &zone),
        ("topology.ebs.csi.aws.com/zone", &zone),
    ];
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn capacity(facts: &InstanceTypeInfo) -> BTreeMap<String, Quantity> {
    let cpu = facts.v_cpu_info.as_ref().and_then(|it| it.default_v_cpus).unwrap_or(0);
    let mebibytes = facts.memory_info.as_ref().and_then(|it| it.size_in_mi_b).unwrap_or(0);
    let gpus = facts.gpu_info.iter().flat_map(|it| &it.gpus).filter_map(|it| it.count).sum::<i64>();
    let mut capacity = BTreeMap::from([
        ("cpu".to_owned(), Quantity(cpu.to_string())),
        ("memory".to_owned(), Quantity(format!("{mebibytes}Mi"))),
        ("pods".to_owned(), Quantity(PODS.to_owned())),
    ]);
    if gpus > 0 {
        capacity.insert("nvidia.com/gpu".to_owned(), Quantity(gpus.to_string()));
    }
    capacity
}

/// EKS writes effects its own way.
fn taint(it: &aws_eks::nodegroup::Taint) -> Option<Taint> {
    let effect = match it.effect.as_deref()? {
        "NO_SCHEDULE" => "NoSchedule",
        "NO_EXECUTE" => "NoExecute",
        "PREFER_NO_SCHEDULE" => "PreferNoSchedule",
        _ => return None,
    };
    let (key, value) = (it.key.clone()?, it.value.clone());
    Some(Taint { key, value, effect: effect.to_owned(), time_added: None })
}
