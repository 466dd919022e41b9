//! Subnets.

pub(crate) mod ipv6_cidr_blocks;
pub(crate) mod reservations;

use aws_ec2::subnet::{
    self, CreateSubnetRequest, CreateSubnetResponse, DeleteSubnetRequest, DeleteSubnetResponse,
    DescribeSubnetsRequest, DescribeSubnetsResponse, ModifySubnetAttributeRequest,
    ModifySubnetAttributeResponse,
};
use aws_wire::Fault;
use ipnet::Ipv4Net;

use crate::{
    Call,
    addressing::Pool,
    faults, network_acls,
    query::{self, Values, maybe, one, query_of},
    records::{Subnet, Tags},
    state::State,
    tagging,
};

pub(crate) fn create(
    call: &Call<'_>,
    state: &mut State,
    request: CreateSubnetRequest,
) -> Result<CreateSubnetResponse, Fault> {
    if request.ipv6_native == Some(true) {
        return Err(faults::unsupported("IPv6-only subnets are not supported in this region."));
    }
    if request.ipv6_netmask_length.is_some() {
        return Err(faults::unsupported("IPAM pools are not supported in this region."));
    }
    let cidr = request.cidr_block.as_deref().ok_or_else(|| faults::missing("cidrBlock"))?;
    let cidr: Ipv4Net = cidr.parse().map_err(|_| faults::invalid_value("cidrBlock", cidr))?;
    let zone = zone_of(call, &request)?;
    let tags =
        tagging::of_specifications(call, &request.tag_specifications, "subnet", &["subnet"])?;
    let mut subnet = make(call, state, &request.vpc_id, cidr, &zone, tags)?;
    if let Some(block) = &request.ipv6_cidr_block {
        ipv6_cidr_blocks::give(state, &subnet.id, block)?;
        subnet = state.subnets.find(&subnet.id)?.clone();
    }
    Ok(CreateSubnetResponse { subnet: Some(answer(call, state, &subnet)) })
}

fn zone_of(call: &Call<'_>, request: &CreateSubnetRequest) -> Result<String, Fault> {
    let zones = &call.config.zones;
    let found = match (&request.availability_zone, &request.availability_zone_id) {
        (Some(name), _) => zones.iter().find(|(it, _)| it == name),
        (None, Some(id)) => zones.iter().find(|(_, it)| it == id),
        (None, None) => zones.first(),
    };
    found.map(|(name, _)| name.clone()).ok_or_else(|| {
        let known: Vec<&str> = zones.iter().map(|(name, _)| name.as_str()).collect();
        let asked =
            request.availability_zone.as_deref().or(request.availability_zone_id.as_deref());
        faults::invalid(format!(
            "Value ({}) for parameter availabilityZone is invalid. Subnets can currently only be \
             created in the following availability zones: {}.",
            asked.unwrap_or_default(),
            known.join(", ")
        ))
    })
}

pub(crate) fn make(
    call: &Call<'_>,
    state: &mut State,
    vpc_id: &str,
    cidr: Ipv4Net,
    zone: &str,
    tags: Tags,
) -> Result<Subnet, Fault> {
    let vpc = state.vpcs.find(vpc_id)?;
    if !(16..=28).contains(&cidr.prefix_len()) || !vpc.contains(&cidr) || cidr.trunc() != cidr {
        return Err(Fault::new("InvalidSubnet.Range", format!("The CIDR '{cidr}' is invalid.")));
    }
    let overlaps = |it: &Subnet| it.cidr.contains(&cidr) || cidr.contains(&it.cidr);
    if state.subnets.iter().any(|it| it.vpc_id == vpc_id && overlaps(it)) {
        return Err(Fault::new(
            "InvalidSubnet.Conflict",
            format!("The CIDR '{cidr}' conflicts with another subnet"),
        ));
    }
    let subnet = Subnet {
        id: entropy::aws_id("subnet"),
        vpc_id: vpc_id.to_owned(),
        zone: zone.to_owned(),
        zone_id: call.config.zone_id(zone).unwrap_or_default().to_owned(),
        cidr,
        ipv6_cidr: None,
        assign_ipv6_address_on_creation: false,
        map_public_ip_on_launch: false,
        is_default_for_zone: false,
        enable_dns64: false,
        resource_name_dns_a_record: false,
        hostname_type: "ip-name".to_owned(),
        cursor: 0,
        reservations: Vec::new(),
        tags,
    };
    state.subnets.insert(subnet.clone());
    Ok(subnet)
}

pub(crate) fn delete(
    _call: &Call<'_>,
    state: &mut State,
    request: DeleteSubnetRequest,
) -> Result<DeleteSubnetResponse, Fault> {
    let id = state.subnets.find(&request.subnet_id)?.id.clone();
    if state.network_interfaces.iter().any(|it| it.subnet_id == id) {
        return Err(faults::dependency(format!(
            "The subnet '{id}' has dependencies and cannot be deleted."
        )));
    }
    let associated: Vec<String> = state
        .route_tables
        .iter()
        .filter(|it| it.associations.iter().any(|it| it.subnet_id.as_deref() == Some(&id)))
        .map(|it| it.id.clone())
        .collect();
    for table in associated {
        let table = state.route_tables.edit(&table)?;
        table.associations.retain(|it| it.subnet_id.as_deref() != Some(&id));
    }
    network_acls::forget(state, &id)?;
    state.subnets.remove(&id)?;
    Ok(DeleteSubnetResponse {})
}

pub(crate) fn describe(
    call: &Call<'_>,
    state: &State,
    request: DescribeSubnetsRequest,
) -> Result<DescribeSubnetsResponse, Fault> {
    let query = query_of!(request, subnet_ids);
    let (found, next_token) =
        query::run(&state.subnets, query, |subnet, name| attribute(call, state, subnet, name))?;
    let subnets = found.into_iter().map(|it| answer(call, state, it)).collect();
    Ok(DescribeSubnetsResponse { subnets, next_token })
}

fn attribute(call: &Call<'_>, state: &State, subnet: &Subnet, name: &str) -> Values {
    match name {
        "subnet-id" => one(&subnet.id),
        "vpc-id" => one(&subnet.vpc_id),
        "availability-zone" | "availabilityZone" => one(&subnet.zone),
        "availability-zone-id" | "availabilityZoneId" => one(&subnet.zone_id),
        "cidr-block" | "cidr" | "cidrBlock" => one(subnet.cidr),
        "available-ip-address-count" => one(Pool::of(state, subnet).free()),
        "default-for-az" | "defaultForAz" => one(subnet.is_default_for_zone),
        "map-public-ip-on-launch" => one(subnet.map_public_ip_on_launch),
        "subnet-arn" => one(call.config.arn("subnet", &subnet.id)),
        "owner-id" => one(&call.config.account),
        "state" => one("available"),
        "enable-dns64" => one(subnet.enable_dns64),
        "ipv6-native" => one(false),
        "private-dns-name-options-on-launch.hostname-type" => one(&subnet.hostname_type),
        "ipv6-cidr-block-association.ipv6-cidr-block" => {
            maybe(subnet.ipv6_cidr.as_ref().map(|it| it.cidr))
        }
        "ipv6-cidr-block-association.association-id" => {
            maybe(subnet.ipv6_cidr.as_ref().map(|it| &it.id))
        }
        "ipv6-cidr-block-association.state" => {
            maybe(subnet.ipv6_cidr.as_ref().map(|_| "associated"))
        }
        "outpost-arn" => Some(Vec::new()),
        _ => None,
    }
}

fn answer(call: &Call<'_>, state: &State, subnet: &Subnet) -> subnet::Subnet {
    subnet::Subnet {
        availability_zone_id: Some(subnet.zone_id.clone()),
        owner_id: Some(call.config.account.clone()),
        assign_ipv6_address_on_creation: Some(subnet.assign_ipv6_address_on_creation),
        ipv6_cidr_block_association_set: subnet
            .ipv6_cidr
            .iter()
            .map(|it| ipv6_cidr_blocks::association(it, "associated"))
            .collect(),
        tags: tagging::answer(&subnet.tags),
        subnet_arn: Some(call.config.arn("subnet", &subnet.id)),
        enable_dns64: Some(subnet.enable_dns64),
        ipv6_native: Some(false),
        subnet_id: Some(subnet.id.clone()),
        state: Some("available".to_owned()),
        vpc_id: Some(subnet.vpc_id.clone()),
        cidr_block: Some(subnet.cidr.to_string()),
        available_ip_address_count: Some(Pool::of(state, subnet).free().into()),
        availability_zone: Some(subnet.zone.clone()),
        default_for_az: Some(subnet.is_default_for_zone),
        map_public_ip_on_launch: Some(subnet.map_public_ip_on_launch),
        ..Default::default()
    }
}

pub(crate) fn modify_attribute(
    _call: &Call<'_>,
    state: &mut State,
    request: ModifySubnetAttributeRequest,
) -> Result<ModifySubnetAttributeResponse, Fault> {
    let subnet = state.subnets.edit(&request.subnet_id)?;
    if let Some(value) = request.map_public_ip_on_launch.and_then(|it| it.value) {
        subnet.map_public_ip_on_launch = value;
    }
    if let Some(value) = request.enable_dns64.and_then(|it| it.value) {
        subnet.enable_dns64 = value;
    }
    let a_record = request.enable_resource_name_dns_a_record_on_launch;
    if let Some(value) = a_record.and_then(|it| it.value) {
        subnet.resource_name_dns_a_record = value;
    }
    if let Some(kind) = request.private_dns_hostname_type_on_launch {
        if kind != "ip-name" {
            return Err(faults::unsupported("Only the host name type ip-name is supported."));
        }
        subnet.hostname_type = kind;
    }
    if let Some(value) = request.assign_ipv6_address_on_creation.and_then(|it| it.value) {
        if value && subnet.ipv6_cidr.is_none() {
            return Err(faults::invalid(format!(
                "The subnet '{}' does not have an IPv6 CIDR block.",
                request.subnet_id
            )));
        }
        subnet.assign_ipv6_address_on_creation = value;
    }
    Ok(ModifySubnetAttributeResponse {})
}
