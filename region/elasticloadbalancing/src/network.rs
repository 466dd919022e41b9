//! Where a load balancer may be: subnets, one per zone of one VPC, and security groups of that VPC.

use std::collections::BTreeMap;

use aws_ec2::{
    common::Filter,
    internet_gateway::{DescribeInternetGateways, DescribeInternetGatewaysRequest},
    security_group::{DescribeSecurityGroups, DescribeSecurityGroupsRequest},
    subnet::{DescribeSubnets, DescribeSubnetsRequest, Subnet},
};
use aws_elasticloadbalancing::load_balancer::{
    ApplySecurityGroupsToLoadBalancerRequest, ApplySecurityGroupsToLoadBalancerResponse,
    AttachLoadBalancerToSubnetsRequest, AttachLoadBalancerToSubnetsResponse,
    DetachLoadBalancerFromSubnetsRequest, DetachLoadBalancerFromSubnetsResponse,
};
use aws_wire::{Client, Fault};

use crate::{Call, ElasticLoadBalancing, faults};

/// AWS wants room to grow in each subnet.
const LEAST_FREE: i64 = 8;

/// Subnets that go together.
pub(crate) struct Place {
    pub(crate) vpc_id: String,
    /// Subnet to zone.
    pub(crate) subnets: BTreeMap<String, String>,
}

pub(crate) struct Group {
    pub(crate) id: String,
    pub(crate) name: String,
}

/// The subnets asked for, or the default ones of the zones asked for.
pub(crate) async fn of_zones(
    ec2: &Client,
    subnets: &[String],
    zones: &[String],
) -> Result<Vec<String>, Fault> {
    match (subnets, zones) {
        ([], []) => {
            return Err(faults::validation(
                "Either AvailabilityZones or SubnetIds must be specified",
            ));
        }
        (_, []) => return Ok(subnets.to_vec()),
        ([], _) => {}
        _ => {
            return Err(faults::validation(
                "Only one of SubnetIds or AvailabilityZones may be specified",
            ));
        }
    }
    let filters = vec![filter("default-for-az", &["true".to_owned()])];
    let request = DescribeSubnetsRequest { filters, ..Default::default() };
    let found = ec2.call::<DescribeSubnets>(request).await;
    let found =
        found.map_err(|it| faults::of_call(&it, "InvalidSubnet", || no_subnet("")))?.subnets;
    let of_zone = |zone: &String| {
        let mut all = found.iter().filter(|it| it.availability_zone.as_ref() == Some(zone));
        all.find_map(|it| it.subnet_id.clone()).ok_or_else(|| {
            faults::validation(format!("Requested AvailabilityZone {zone} is not valid"))
        })
    };
    zones.iter().map(of_zone).collect()
}

fn filter(name: &str, values: &[String]) -> Filter {
    Filter { name: Some(name.to_owned()), values: values.to_vec() }
}

fn no_subnet(ids: &str) -> Fault {
    Fault::new("SubnetNotFound", format!("The subnet ID '{ids}' does not exist"))
}

/// Checks subnets that are to be a load balancer's.
pub(crate) async fn place(ec2: &Client, ids: &[String], is_internal: bool) -> Result<Place, Fault> {
    let request = DescribeSubnetsRequest { subnet_ids: ids.to_vec(), ..Default::default() };
    let found = ec2.call::<DescribeSubnets>(request).await;
    let found = found
        .map_err(|it| faults::of_call(&it, "InvalidSubnetID", || no_subnet(&ids.join(", "))))?
        .subnets;
    let vpc_id = found.first().and_then(|it| it.vpc_id.clone()).unwrap_or_default();
    let mut subnets: BTreeMap<String, String> = BTreeMap::new();
    for subnet in &found {
        let id = subnet.subnet_id.clone().unwrap_or_default();
        check(subnet, &id, &vpc_id)?;
        let zone = subnet.availability_zone.clone().unwrap_or_default();
        if let Some((other, _)) = subnets.iter().find(|(_, it)| **it == zone) {
            return Err(same_zone(other, &id));
        }
        subnets.insert(id, zone);
    }
    if !is_internal && !has_gateway(ec2, &vpc_id).await? {
        return Err(invalid_subnet(format!("VPC {vpc_id} has no internet gateway")));
    }
    Ok(Place { vpc_id, subnets })
}

fn check(subnet: &Subnet, id: &str, vpc: &str) -> Result<(), Fault> {
    if subnet.vpc_id.as_deref() != Some(vpc) {
        return Err(invalid_subnet("Requested subnets must be in the same VPC.".to_owned()));
    }
    match subnet.available_ip_address_count {
        Some(free) if free < LEAST_FREE => Err(invalid_subnet(format!(
            "Not enough IP space available in {id}. ELB requires at least {LEAST_FREE} free IP \
             addresses in each subnet."
        ))),
        _ => Ok(()),
    }
}

fn invalid_subnet(message: String) -> Fault {
    Fault::new("InvalidSubnet", message)
}

fn same_zone(one: &str, other: &str) -> Fault {
    faults::configuration(format!(
        "ELB cannot be attached to multiple subnets in the same AZ: {one}, {other}"
    ))
}

async fn has_gateway(ec2: &Client, vpc: &str) -> Result<bool, Fault> {
    let filters = vec![filter("attachment.vpc-id", &[vpc.to_owned()])];
    let request = DescribeInternetGatewaysRequest { filters, ..Default::default() };
    let found = ec2.call::<DescribeInternetGateways>(request).await;
    let found = found.map_err(|it| Fault::internal(telemetry::chain(&it).to_string()))?;
    Ok(!found.internet_gateways.is_empty())
}

/// The groups asked for, which must be of the VPC, or the VPC's default one.
pub(crate) async fn groups(ec2: &Client, vpc: &str, ids: &[String]) -> Result<Vec<Group>, Fault> {
    let filters = match ids {
        [] => vec![filter("group-name", &["default".to_owned()]), vpc_filter(vpc)],
        _ => Vec::new(),
    };
    let request = DescribeSecurityGroupsRequest {
        group_ids: ids.to_vec(),
        filters,
        ..DescribeSecurityGroupsRequest::default()
    };
    let invalid = || {
        Fault::new(
            "InvalidSecurityGroup",
            "One or more of the specified security groups do not exist.",
        )
    };
    let found = ec2.call::<DescribeSecurityGroups>(request).await;
    let found = found.map_err(|it| faults::of_call(&it, "InvalidGroup", invalid))?.security_groups;
    if found.iter().any(|it| it.vpc_id.as_deref() != Some(vpc)) {
        return Err(Fault::new(
            "InvalidSecurityGroup",
            "One or more of the specified security groups belong to another VPC.",
        ));
    }
    let mut groups: Vec<Group> = found
        .into_iter()
        .filter_map(|it| Some(Group { id: it.group_id?, name: it.group_name? }))
        .collect();
    // The first is the one that instances are told to trust.
    groups.sort_by_key(|group| ids.iter().position(|id| *id == group.id));
    Ok(groups)
}

fn vpc_filter(vpc: &str) -> Filter {
    filter("vpc-id", &[vpc.to_owned()])
}

pub(crate) async fn apply_groups(
    service: &ElasticLoadBalancing,
    _call: Call,
    request: ApplySecurityGroupsToLoadBalancerRequest,
) -> Result<ApplySecurityGroupsToLoadBalancerResponse, Fault> {
    let name = request.load_balancer_name;
    let vpc = service.get(&name)?.vpc_id.clone();
    if request.security_groups.is_empty() {
        return Err(faults::configuration("SecurityGroups must not be empty."));
    }
    let groups = groups(service.ec2(), &vpc, &request.security_groups).await?;
    let security_groups: Vec<String> = groups.iter().map(|it| it.id.clone()).collect();
    service.update(&name, |it| {
        it.security_groups.clone_from(&security_groups);
        it.source_group = groups.first().map(|it| it.name.clone()).unwrap_or_default();
        Ok(())
    })?;
    service.settle_soon(&name).await;
    Ok(ApplySecurityGroupsToLoadBalancerResponse { security_groups })
}

pub(crate) async fn attach(
    service: &ElasticLoadBalancing,
    _call: Call,
    request: AttachLoadBalancerToSubnetsRequest,
) -> Result<AttachLoadBalancerToSubnetsResponse, Fault> {
    let name = request.load_balancer_name;
    let known = service.get(&name)?;
    let place = place(service.ec2(), &request.subnets, known.is_internal).await?;
    if place.vpc_id != known.vpc_id {
        return Err(invalid_subnet("Requested subnets must be in the same VPC.".to_owned()));
    }
    let subnets = service.update(&name, |it| {
        for (id, zone) in place.subnets {
            let other = it.subnets.iter().find(|(known, at)| **at == zone && **known != id);
            if let Some((other, _)) = other {
                return Err(same_zone(other, &id));
            }
            it.subnets.insert(id, zone);
        }
        Ok(it.subnets.keys().cloned().collect())
    })?;
    service.settle_soon(&name).await;
    Ok(AttachLoadBalancerToSubnetsResponse { subnets })
}

pub(crate) async fn detach(
    service: &ElasticLoadBalancing,
    _call: Call,
    request: DetachLoadBalancerFromSubnetsRequest,
) -> Result<DetachLoadBalancerFromSubnetsResponse, Fault> {
    let name = request.load_balancer_name;
    let subnets: Vec<String> = service.update(&name, |it| {
        it.subnets.retain(|id, _| !request.subnets.contains(id));
        if it.subnets.is_empty() {
            return Err(faults::configuration(
                "You cannot remove all the subnets of a load balancer.",
            ));
        }
        Ok(it.subnets.keys().cloned().collect())
    })?;
    service.settle_soon(&name).await;
    Ok(DetachLoadBalancerFromSubnetsResponse { subnets })
}
