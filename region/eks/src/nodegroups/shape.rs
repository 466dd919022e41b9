//! A node group as it is described.

use aws_eks::{
    AutoScalingGroup, NodegroupHealth, NodegroupResources, NodegroupScalingConfig,
    NodegroupUpdateConfig,
};

use super::{
    records::{Issue, Nodegroup},
    template::Source,
    validate::BOTTLEROCKET,
};
use crate::Eks;

pub(crate) fn arn(eks: &Eks, group: &Nodegroup) -> String {
    eks.arn(&format!("nodegroup/{}/{}/{}", group.cluster, group.name, group.id))
}

pub(crate) fn describe(eks: &Eks, group: &Nodegroup) -> aws_eks::Nodegroup {
    let issue = |it: &Issue| aws_eks::Issue {
        code: Some(it.code.clone()),
        message: Some(it.message.clone()),
        resource_ids: it.resources.clone(),
    };
    let name = Some(group.auto_scaling_group());
    aws_eks::Nodegroup {
        nodegroup_name: group.name.clone(),
        nodegroup_arn: arn(eks, group),
        cluster_name: group.cluster.clone(),
        version: Some(group.version.clone()),
        release_version: Some(group.release_version.clone()),
        created_at: Eks::seconds(group.created_at),
        modified_at: Eks::seconds(group.modified_at),
        status: group.state.name().to_owned(),
        capacity_type: group.capacity_type.clone(),
        scaling_config: NodegroupScalingConfig {
            min_size: Some(group.scaling.min),
            max_size: Some(group.scaling.max),
            desired_size: Some(group.scaling.desired),
        },
        instance_types: group.instance_types.clone(),
        subnets: group.subnets.clone(),
        remote_access: group.remote_access.clone(),
        ami_type: group.ami_type.clone(),
        node_role: group.node_role.clone(),
        labels: group.labels.clone(),
        taints: group.taints.clone(),
        resources: Some(NodegroupResources {
            auto_scaling_groups: vec![AutoScalingGroup { name }],
            remote_access_security_group: group.remote_access_security_group.clone(),
        }),
        disk_size: group.source.is_none().then_some(group.disk_size),
        health: NodegroupHealth {
            issues: group.issues.iter().map(issue).chain(not_built(group)).collect(),
        },
        update_config: NodegroupUpdateConfig {
            max_unavailable: match group.max_unavailable_percentage {
                None => Some(group.max_unavailable),
                Some(_) => None,
            },
            max_unavailable_percentage: group.max_unavailable_percentage,
            update_strategy: group.update_strategy.map(|it| it.name().to_owned()),
        },
        node_repair_config: group.repair.clone(),
        launch_template: group.source.as_ref().map(Source::specification),
        tags: group.tags.clone(),
        warm_pool_config: group.warm_pool.clone(),
    }
}

/// What is not there for nodes of this image. The group is what it is: this is no state of its.
fn not_built(group: &Nodegroup) -> Option<aws_eks::Issue> {
    (group.ami_type == BOTTLEROCKET).then(|| aws_eks::Issue {
        code: Some("Unknown".to_owned()),
        message: Some(
            "Nodes of this group boot this region's own root file system, which joins the cluster by \
             settings.kubernetes of the user data: Bottlerocket's settings API, host containers, \
             bootstrap containers and updates are not there."
                .to_owned(),
        ),
        resource_ids: vec![group.image_id.clone()],
    })
}
