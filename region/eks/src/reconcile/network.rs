//! A cluster's part of the network: its security group and its control plane's interfaces in the VPC,
//! and its endpoint's address on the internet.
//!
//! The first two are made through EC2's API as `eks.amazonaws.com`, so they are requester-managed, take
//! addresses of the customer's subnets and show in the customer's account.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use aws_ec2::{
    common::{Filter, TagInput, TagSpecification},
    network_interface::{
        CreateNetworkInterface, CreateNetworkInterfaceRequest, DeleteNetworkInterface,
        DeleteNetworkInterfaceRequest, DescribeNetworkInterfaces, DescribeNetworkInterfacesRequest,
    },
    security_group::{
        AuthorizeSecurityGroupIngress, AuthorizeSecurityGroupIngressRequest, CreateSecurityGroup,
        CreateSecurityGroupRequest, DeleteSecurityGroup, DeleteSecurityGroupRequest,
        DescribeSecurityGroups, DescribeSecurityGroupsRequest, IpPermissionInput,
        UserIdGroupPairInput,
    },
    subnet::{DescribeSubnets, DescribeSubnetsRequest},
};

use aws_wire::Fault;

use super::PassError;
use crate::{
    Eks,
    records::{Cluster, Interface},
};

/// EKS places the control plane's interfaces in two zones.
const INTERFACES: usize = 2;

/// As whom EKS makes them: what a customer describes in the same words is not ours.
const REQUESTER: &str = "eks.amazonaws.com";

/// Public addresses of endpoints (TEST-NET-1, RFC 5737), as many as EKS has.
const PUBLIC: std::ops::RangeInclusive<u8> = 1..=254;

/// Makes sure of all and gives the record as it is then.
pub(crate) async fn ensure(eks: &Eks, cluster: &Cluster) -> Result<Cluster, PassError> {
    let mut cluster = cluster.clone();
    if cluster.cluster_security_group_id.is_none() {
        let group = ensure_security_group(eks, &cluster).await?;
        eks.change_cluster(&cluster.name, |it| {
            it.cluster_security_group_id = Some(group.clone());
        })?;
        cluster.cluster_security_group_id = Some(group);
    }
    if cluster.interfaces.len() < INTERFACES {
        let interfaces = ensure_interfaces(eks, &cluster).await?;
        eks.change_cluster(&cluster.name, |it| it.interfaces = interfaces.clone())?;
        cluster.interfaces = interfaces;
    }
    if cluster.public_address.is_none() {
        cluster.public_address = Some(take_public_address(eks, &cluster.name)?);
    }
    Ok(cluster)
}

/// The first that no cluster has.
fn take_public_address(eks: &Eks, name: &str) -> Result<Ipv4Addr, PassError> {
    let taken = eks.0.store.transaction(|transaction| {
        let clusters = transaction.list(&eks.0.clusters);
        let taken: BTreeSet<_> = clusters.iter().filter_map(|it| it.public_address).collect();
        let mut all = PUBLIC.map(|host| Ipv4Addr::new(192, 0, 2, host));
        let address = all.find(|it| !taken.contains(it));
        transaction.update(&eks.0.clusters, name, |it| it.public_address = address);
        Ok::<_, Fault>(address)
    })?;
    taken.ok_or(PassError::NoPublicAddress)
}

fn filter(name: &str, value: &str) -> Filter {
    Filter { name: Some(name.to_owned()), values: vec![value.to_owned()] }
}

pub(crate) fn tag(key: &str, value: &str) -> TagInput {
    TagInput { key: Some(key.to_owned()), value: Some(value.to_owned()) }
}

fn owned(cluster: &str, resource: &str, name: &str) -> TagSpecification {
    TagSpecification {
        resource_type: Some(resource.to_owned()),
        tags: vec![tag("Name", name), tag(&ownership(cluster), "owned")],
    }
}

fn ownership(cluster: &str) -> String {
    format!("kubernetes.io/cluster/{cluster}")
}

async fn ensure_security_group(eks: &Eks, cluster: &Cluster) -> Result<String, PassError> {
    let client = &eks.0.config.client;
    let prefix = format!("eks-cluster-sg-{}-", cluster.name);
    let found = client
        .call::<DescribeSecurityGroups>(DescribeSecurityGroupsRequest {
            filters: vec![
                filter("vpc-id", &cluster.vpc_id),
                filter("group-name", &format!("{prefix}*")),
                filter(&format!("tag:{}", ownership(&cluster.name)), "owned"),
            ],
            ..Default::default()
        })
        .await?;
    // The group of a cluster `a-b` begins with `a`'s prefix too, and only one of them ends in
    // digits behind it.
    let is_ours = |name: &str| {
        name.strip_prefix(&prefix).is_some_and(|it| it.bytes().all(|it| it.is_ascii_digit()))
    };
    let ours = found.security_groups.into_iter();
    let known =
        ours.filter(|it| it.group_name.as_deref().is_some_and(is_ours)).find_map(|it| it.group_id);
    let group = match known {
        Some(group) => group,
        None => {
            let name = format!("{prefix}{}", entropy::below(1_000_000_000));
            let description = "EKS created security group applied to ENI that is attached to EKS \
                               Control Plane master nodes, as well as any managed workloads.";
            let made = client
                .call::<CreateSecurityGroup>(CreateSecurityGroupRequest {
                    description: description.to_owned(),
                    tag_specifications: vec![owned(&cluster.name, "security-group", &name)],
                    group_name: name,
                    vpc_id: Some(cluster.vpc_id.clone()),
                    ..Default::default()
                })
                .await?;
            made.group_id.ok_or(PassError::Incomplete { what: "a security group's id" })?
        }
    };
    allow_itself(eks, &group).await?;
    Ok(group)
}

/// Members of the group reach each other on every port.
async fn allow_itself(eks: &Eks, group: &str) -> Result<(), PassError> {
    let itself = UserIdGroupPairInput { group_id: Some(group.to_owned()), ..Default::default() };
    let everything = IpPermissionInput {
        ip_protocol: Some("-1".to_owned()),
        user_id_group_pairs: vec![itself],
        ..Default::default()
    };
    let request = AuthorizeSecurityGroupIngressRequest {
        group_id: Some(group.to_owned()),
        ip_permissions: vec![everything],
        ..Default::default()
    };
    match eks.0.config.client.call::<AuthorizeSecurityGroupIngress>(request).await {
        Err(error) if error.is("InvalidPermission.Duplicate") => Ok(()),
        result => result.map(drop).map_err(Into::into),
    }
}

fn description(cluster: &str) -> String {
    format!("Amazon EKS {cluster}")
}

async fn existing(eks: &Eks, cluster: &Cluster) -> Result<BTreeMap<String, Interface>, PassError> {
    let found = eks
        .0
        .config
        .client
        .call::<DescribeNetworkInterfaces>(DescribeNetworkInterfacesRequest {
            filters: vec![
                filter("vpc-id", &cluster.vpc_id),
                filter("description", &description(&cluster.name)),
                filter("requester-id", REQUESTER),
                filter("requester-managed", "true"),
            ],
            ..Default::default()
        })
        .await?;
    let mut interfaces = BTreeMap::new();
    for it in found.network_interfaces {
        let ipv6_address = it.ipv6_address.and_then(|it| it.parse().ok());
        let parts = (it.subnet_id, it.network_interface_id, it.private_ip_address);
        if let (Some(subnet), Some(id), Some(address)) = parts
            && let Ok(address) = address.parse()
        {
            interfaces.insert(subnet, Interface { id, address, ipv6_address });
        }
    }
    Ok(interfaces)
}

async fn ensure_interfaces(eks: &Eks, cluster: &Cluster) -> Result<Vec<Interface>, PassError> {
    let known = existing(eks, cluster).await?;
    let mut interfaces = Vec::new();
    for subnet in one_subnet_per_zone(eks, cluster).await?.into_iter().take(INTERFACES) {
        let interface = match known.get(&subnet) {
            Some(known) => known.clone(),
            None => create_interface(eks, cluster, &subnet).await?,
        };
        interfaces.push(interface);
    }
    Ok(interfaces)
}

async fn one_subnet_per_zone(eks: &Eks, cluster: &Cluster) -> Result<Vec<String>, PassError> {
    let request =
        DescribeSubnetsRequest { subnet_ids: cluster.subnet_ids.clone(), ..Default::default() };
    let found = eks.0.config.client.call::<DescribeSubnets>(request).await?;
    let mut by_zone = BTreeMap::new();
    for subnet in found.subnets {
        if let (Some(zone), Some(id)) = (subnet.availability_zone, subnet.subnet_id) {
            by_zone.entry(zone).or_insert(id);
        }
    }
    Ok(by_zone.into_values().collect())
}

async fn create_interface(
    eks: &Eks,
    cluster: &Cluster,
    subnet: &str,
) -> Result<Interface, PassError> {
    let mut groups = cluster.security_group_ids.clone();
    groups.extend(cluster.cluster_security_group_id.clone());
    let request = CreateNetworkInterfaceRequest {
        subnet_id: subnet.to_owned(),
        groups,
        description: Some(description(&cluster.name)),
        ipv6_address_count: cluster.is_ipv6().then_some(1),
        tag_specifications: vec![owned(&cluster.name, "network-interface", &cluster.name)],
        ..Default::default()
    };
    let made = eks.0.config.client.call::<CreateNetworkInterface>(request).await?;
    let made = made.network_interface.ok_or(PassError::Incomplete { what: "an interface" })?;
    let id =
        made.network_interface_id.ok_or(PassError::Incomplete { what: "an interface's id" })?;
    let ipv6_address = made.ipv6_address.and_then(|it| it.parse().ok());
    if cluster.is_ipv6() && ipv6_address.is_none() {
        return Err(PassError::Incomplete { what: "an interface's IPv6 address" });
    }
    let address = made.private_ip_address.and_then(|it| it.parse().ok());
    let address = address.ok_or(PassError::Incomplete { what: "an interface's address" })?;
    Ok(Interface { id, address, ipv6_address })
}

/// Removes both; what is gone already is no error.
pub(crate) async fn remove(eks: &Eks, cluster: &Cluster) -> Result<(), PassError> {
    let client = &eks.0.config.client;
    for interface in existing(eks, cluster).await?.into_values() {
        let request = DeleteNetworkInterfaceRequest {
            network_interface_id: interface.id,
            ..Default::default()
        };
        match client.call::<DeleteNetworkInterface>(request).await {
            Err(error) if error.is("InvalidNetworkInterfaceID.NotFound") => {}
            result => {
                result?;
            }
        }
    }
    let Some(group) = cluster.cluster_security_group_id.clone() else { return Ok(()) };
    let request = DeleteSecurityGroupRequest { group_id: Some(group), ..Default::default() };
    match client.call::<DeleteSecurityGroup>(request).await {
        Err(error) if error.is("InvalidGroup.NotFound") => Ok(()),
        result => result.map(drop).map_err(Into::into),
    }
}
