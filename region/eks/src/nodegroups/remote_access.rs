//! `remoteAccess`: a key pair for the nodes, and the security group by which port 22 is reached.
//!
//! EKS makes the group and takes it away again. Whoever names source groups lets these in; whoever names
//! none opens the port to everybody.
//!
//! Source: EKS API reference, `RemoteAccessConfig`; compute facts §1.1.

use aws_ec2::{
    common::{Filter, TagSpecification},
    key_pair::{DescribeKeyPairs, DescribeKeyPairsRequest},
    security_group::{
        AuthorizeSecurityGroupIngress, AuthorizeSecurityGroupIngressRequest, CreateSecurityGroup,
        CreateSecurityGroupRequest, DeleteSecurityGroup, DeleteSecurityGroupRequest,
        DescribeSecurityGroups, DescribeSecurityGroupsRequest, IpPermissionInput, IpRangeInput,
        UserIdGroupPairInput,
    },
};
use aws_eks::RemoteAccessConfig;
use aws_wire::Fault;

use super::{records::Nodegroup, resources};
use crate::{Eks, faults, reconcile::PassError, records::Cluster};

const SSH: i64 = 22;
const EVERYBODY: &str = "0.0.0.0/0";

/// What EKS refuses before it makes the group.
pub(crate) async fn check(
    eks: &Eks,
    cluster: &Cluster,
    asked: &RemoteAccessConfig,
) -> Result<(), Fault> {
    let Some(key) = asked.ec2_ssh_key.as_ref().filter(|it| !it.is_empty()) else {
        return Err(faults::invalid_parameter("ec2SshKey in remote-access can't be empty"));
    };
    let client = &eks.0.config.client;
    let request = DescribeKeyPairsRequest { key_names: vec![key.clone()], ..Default::default() };
    match client.call::<DescribeKeyPairs>(request).await {
        Err(error) if error.is("InvalidKeyPair.NotFound") => {
            return Err(faults::invalid_parameter(format!("KeyPair {key} not found")));
        }
        found => found.map_err(|it| faults::of_call(&it))?,
    };
    if asked.source_security_groups.is_empty() {
        return Ok(());
    }
    let request = DescribeSecurityGroupsRequest {
        group_ids: asked.source_security_groups.clone(),
        ..Default::default()
    };
    let found = client.call::<DescribeSecurityGroups>(request).await;
    let found = found.map_err(|it| faults::of_call(&it))?.security_groups;
    match found.iter().find(|it| it.vpc_id.as_deref() != Some(cluster.vpc_id.as_str())) {
        None => Ok(()),
        Some(other) => Err(faults::invalid_parameter(format!(
            "Security group {} is not in the VPC of the cluster",
            other.group_id.as_deref().unwrap_or_default()
        ))),
    }
}

/// The security group's id, where the group is to have one.
pub(crate) async fn ensure(
    eks: &Eks,
    cluster: &Cluster,
    group: &Nodegroup,
) -> Result<Option<String>, PassError> {
    let Some(access) = &group.remote_access else { return Ok(None) };
    let id = match find(eks, cluster, group).await? {
        Some(id) => id,
        None => create(eks, cluster, group).await?,
    };
    let request = AuthorizeSecurityGroupIngressRequest {
        group_id: Some(id.clone()),
        ip_permissions: vec![permission(access)],
        ..Default::default()
    };
    match eks.0.config.client.call::<AuthorizeSecurityGroupIngress>(request).await {
        Err(error) if error.is("InvalidPermission.Duplicate") => {}
        result => {
            result?;
        }
    }
    Ok(Some(id))
}

fn permission(access: &RemoteAccessConfig) -> IpPermissionInput {
    let source =
        |id: &String| UserIdGroupPairInput { group_id: Some(id.clone()), ..Default::default() };
    let everybody = IpRangeInput { cidr_ip: Some(EVERYBODY.to_owned()), description: None };
    let is_open = access.source_security_groups.is_empty();
    IpPermissionInput {
        ip_protocol: Some("tcp".to_owned()),
        from_port: Some(SSH),
        to_port: Some(SSH),
        user_id_group_pairs: access.source_security_groups.iter().map(source).collect(),
        ip_ranges: is_open.then_some(everybody).into_iter().collect(),
        ..Default::default()
    }
}

fn name(group: &Nodegroup) -> String {
    format!("eks-remoteAccess-{}", group.id)
}

/// By its name, which holds the node group's own id.
async fn find(
    eks: &Eks,
    cluster: &Cluster,
    group: &Nodegroup,
) -> Result<Option<String>, PassError> {
    let filter = |name: &str, value: &str| Filter {
        name: Some(name.to_owned()),
        values: vec![value.to_owned()],
    };
    let request = DescribeSecurityGroupsRequest {
        filters: vec![filter("vpc-id", &cluster.vpc_id), filter("group-name", &name(group))],
        ..Default::default()
    };
    let found = eks.0.config.client.call::<DescribeSecurityGroups>(request).await?;
    Ok(found.security_groups.into_iter().find_map(|it| it.group_id))
}

async fn create(eks: &Eks, cluster: &Cluster, group: &Nodegroup) -> Result<String, PassError> {
    let request = CreateSecurityGroupRequest {
        description: "Security group for all nodes in the nodeGroup to allow SSH access".to_owned(),
        group_name: name(group),
        vpc_id: Some(cluster.vpc_id.clone()),
        tag_specifications: vec![TagSpecification {
            resource_type: Some("security-group".to_owned()),
            tags: resources::eks_tags(group),
        }],
        ..Default::default()
    };
    let made = eks.0.config.client.call::<CreateSecurityGroup>(request).await?;
    made.group_id.ok_or(PassError::Incomplete { what: "a security group's id" })
}

/// Once no instance is in it any more.
pub(crate) async fn remove(eks: &Eks, group: &Nodegroup) -> Result<(), PassError> {
    if group.remote_access.is_none() {
        return Ok(());
    }
    // One that was made and not written down is found by its name.
    let known = match &group.remote_access_security_group {
        Some(id) => Some(id.clone()),
        None => {
            let cluster = eks.find(&group.cluster)?;
            find(eks, &cluster, group).await?
        }
    };
    let Some(id) = known else { return Ok(()) };
    let request = DeleteSecurityGroupRequest { group_id: Some(id), ..Default::default() };
    match eks.0.config.client.call::<DeleteSecurityGroup>(request).await {
        Err(error) if error.is("InvalidGroup.NotFound") => Ok(()),
        result => result.map(drop).map_err(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_groups_alone_are_let_in_and_without_any_everybody() {
        let of = |groups: &[&str]| {
            permission(&RemoteAccessConfig {
                ec2_ssh_key: Some("k".to_owned()),
                source_security_groups: groups.iter().map(|it| (*it).to_owned()).collect(),
            })
        };
        let open = of(&[]);
        assert_eq!(open.ip_ranges[0].cidr_ip.as_deref(), Some("0.0.0.0/0"));
        assert!(open.user_id_group_pairs.is_empty());
        let closed = of(&["sg-1", "sg-2"]);
        assert_eq!((closed.ip_ranges.len(), closed.user_id_group_pairs.len()), (0, 2));
        assert_eq!((closed.from_port, closed.to_port), (Some(22), Some(22)));
    }
}
