//! VPCs: creation with a main route table, a default security group and a default network ACL,
//! as EC2 makes them.
//!
//! Deviation: tenancy is always `default`.

mod cidr_blocks;
pub(crate) mod ipv6_cidr_blocks;

use aws_ec2::{
    common::AttributeBooleanValue,
    vpc::{
        self, CreateVpcRequest, CreateVpcResponse, DeleteVpcRequest, DeleteVpcResponse,
        DescribeVpcAttributeRequest, DescribeVpcAttributeResponse, DescribeVpcsRequest,
        DescribeVpcsResponse, ModifyVpcAttributeRequest, ModifyVpcAttributeResponse,
        VpcCidrBlockAssociation, VpcCidrBlockState,
    },
};
use aws_wire::Fault;
use ipnet::Ipv4Net;

pub(crate) use self::cidr_blocks::{
    associate as associate_cidr, disassociate as disassociate_cidr,
};
use crate::{
    Call, faults,
    query::{self, Values, many, one, query_of},
    records::{CidrAssociation, NetworkAcl, RouteTable, RouteTableAssociation, Tags, Vpc},
    security_groups,
    state::State,
    tagging,
};

pub(crate) fn create(
    call: &Call<'_>,
    state: &mut State,
    request: CreateVpcRequest,
) -> Result<CreateVpcResponse, Fault> {
    let is_named = request.ipv6_cidr_block.is_some() || request.ipv6_pool.is_some();
    if is_named || request.ipv6_ipam_pool_id.is_some() || request.ipv6_netmask_length.is_some() {
        return Err(ipv6_cidr_blocks::no_pools());
    }
    ipv6_cidr_blocks::check_border_group(
        call,
        request.ipv6_cidr_block_network_border_group.as_deref(),
    )?;
    if request.instance_tenancy.as_deref().is_some_and(|it| it != "default") {
        return Err(faults::unsupported("Dedicated tenancy is not supported in this region."));
    }
    if request.ipv4_netmask_length.is_some() {
        return Err(faults::unsupported("IPAM pools are not supported in this region."));
    }
    let cidr = request.cidr_block.as_deref().ok_or_else(|| faults::missing("cidrBlock"))?;
    let cidr = parse_cidr(cidr)?;
    let tags = tagging::of_specifications(call, &request.tag_specifications, "vpc", &["vpc"])?;
    let mut vpc = make(call, state, cidr, tags)?;
    if request.amazon_provided_ipv6_cidr_block == Some(true) {
        ipv6_cidr_blocks::give(state, &vpc.id)?;
        vpc = state.vpcs.find(&vpc.id)?.clone();
    }
    Ok(CreateVpcResponse { vpc: Some(answer(call, &vpc)) })
}

/// Makes the VPC and what every VPC is born with.
pub(crate) fn make(
    call: &Call<'_>,
    state: &mut State,
    cidr: Ipv4Net,
    tags: Tags,
) -> Result<Vpc, Fault> {
    let dhcp_options_id =
        state.dhcp_options.iter().next().map(|it| it.id.clone()).unwrap_or_default();
    let vpc = Vpc {
        id: entropy::aws_id("vpc"),
        cidrs: vec![CidrAssociation { id: entropy::aws_id("vpc-cidr-assoc"), cidr }],
        ipv6_cidrs: Vec::new(),
        is_default: false,
        enable_dns_support: true,
        enable_dns_hostnames: false,
        enable_network_address_usage_metrics: false,
        dhcp_options_id,
        tags,
    };
    let main = RouteTableAssociation { id: entropy::aws_id("rtbassoc"), subnet_id: None };
    state.route_tables.insert(RouteTable {
        id: entropy::aws_id("rtb"),
        vpc_id: vpc.id.clone(),
        routes: Vec::new(),
        associations: vec![main],
        tags: Tags::new(),
    });
    state.network_acls.insert(NetworkAcl::default_of(&vpc.id));
    state.security_groups.insert(security_groups::default_group(call, &vpc.id));
    state.vpcs.insert(vpc.clone());
    Ok(vpc)
}

/// `/16` to `/28`, host bits cleared.
fn parse_cidr(text: &str) -> Result<Ipv4Net, Fault> {
    let cidr: Ipv4Net = text.parse().map_err(|_| {
        faults::invalid(format!(
            "Value ({text}) for parameter cidrBlock is invalid. This is not a valid CIDR block."
        ))
    })?;
    if !(16..=28).contains(&cidr.prefix_len()) {
        return Err(Fault::new("InvalidVpc.Range", format!("The CIDR '{text}' is invalid.")));
    }
    Ok(cidr.trunc())
}

pub(crate) fn delete(
    _call: &Call<'_>,
    state: &mut State,
    request: DeleteVpcRequest,
) -> Result<DeleteVpcResponse, Fault> {
    let id = state.vpcs.find(&request.vpc_id)?.id.clone();
    let is_in_use = state.subnets.iter().any(|it| it.vpc_id == id)
        || state.internet_gateways.iter().any(|it| it.vpc_id.as_deref() == Some(&id))
        || state.network_interfaces.iter().any(|it| it.vpc_id == id)
        || state.egress_only_internet_gateways.iter().any(|it| it.vpc_id == id)
        || state.vpc_endpoints.iter().any(|it| it.vpc_id == id)
        || state.nat_gateways.iter().any(|it| it.vpc_id == id && it.deleted_at.is_none())
        || state.route_tables.iter().any(|it| it.vpc_id == id && !it.is_main())
        || state.network_acls.iter().any(|it| it.vpc_id == id && !it.is_default)
        || state.security_groups.iter().any(|it| it.vpc_id == id && it.name != "default");
    if is_in_use {
        return Err(faults::dependency(format!(
            "The vpc '{id}' has dependencies and cannot be deleted."
        )));
    }
    for table in ids(state.route_tables.iter().filter(|it| it.vpc_id == id).map(|it| &it.id)) {
        state.route_tables.remove(&table)?;
    }
    for acl in ids(state.network_acls.iter().filter(|it| it.vpc_id == id).map(|it| &it.id)) {
        state.network_acls.remove(&acl)?;
    }
    for group in ids(state.security_groups.iter().filter(|it| it.vpc_id == id).map(|it| &it.id)) {
        state.security_groups.remove(&group)?;
    }
    state.vpcs.remove(&id)?;
    Ok(DeleteVpcResponse {})
}

fn ids<'a>(found: impl Iterator<Item = &'a String>) -> Vec<String> {
    found.cloned().collect()
}

pub(crate) fn describe(
    call: &Call<'_>,
    state: &State,
    request: DescribeVpcsRequest,
) -> Result<DescribeVpcsResponse, Fault> {
    let query = query_of!(request, vpc_ids);
    let (found, next_token) =
        query::run(&state.vpcs, query, |vpc, name| attribute(call, vpc, name))?;
    Ok(DescribeVpcsResponse {
        vpcs: found.into_iter().map(|it| answer(call, it)).collect(),
        next_token,
    })
}

fn attribute(call: &Call<'_>, vpc: &Vpc, name: &str) -> Values {
    match name {
        "vpc-id" => one(&vpc.id),
        "cidr" => one(vpc.cidr()),
        "cidr-block-association.cidr-block" => many(vpc.cidrs.iter().map(|it| it.cidr)),
        "cidr-block-association.association-id" => many(vpc.cidrs.iter().map(|it| &it.id)),
        "cidr-block-association.state" => one("associated"),
        "dhcp-options-id" => one(&vpc.dhcp_options_id),
        "is-default" | "isDefault" => one(vpc.is_default),
        "owner-id" => one(&call.config.account),
        "state" => one("available"),
        "ipv6-cidr-block-association.ipv6-cidr-block" => {
            many(vpc.ipv6_cidrs.iter().map(|it| it.cidr))
        }
        "ipv6-cidr-block-association.association-id" => {
            many(vpc.ipv6_cidrs.iter().map(|it| &it.id))
        }
        "ipv6-cidr-block-association.state" => many(vpc.ipv6_cidrs.iter().map(|_| "associated")),
        "ipv6-cidr-block-association.ipv6-pool" => many(vpc.ipv6_cidrs.iter().map(|_| "Amazon")),
        _ => None,
    }
}

fn answer(call: &Call<'_>, vpc: &Vpc) -> vpc::Vpc {
    vpc::Vpc {
        owner_id: Some(call.config.account.clone()),
        instance_tenancy: Some("default".to_owned()),
        ipv6_cidr_block_association_set: vpc
            .ipv6_cidrs
            .iter()
            .map(|it| ipv6_cidr_blocks::association(call, it, "associated"))
            .collect(),
        cidr_block_association_set: vpc.cidrs.iter().map(association).collect(),
        is_default: Some(vpc.is_default),
        tags: tagging::answer(&vpc.tags),
        vpc_id: Some(vpc.id.clone()),
        state: Some("available".to_owned()),
        cidr_block: Some(vpc.cidr().to_string()),
        dhcp_options_id: Some(vpc.dhcp_options_id.clone()),
    }
}

fn association(block: &CidrAssociation) -> VpcCidrBlockAssociation {
    let state = VpcCidrBlockState { state: Some("associated".to_owned()), status_message: None };
    VpcCidrBlockAssociation {
        association_id: Some(block.id.clone()),
        cidr_block: Some(block.cidr.to_string()),
        cidr_block_state: Some(state),
    }
}

pub(crate) fn describe_attribute(
    _call: &Call<'_>,
    state: &State,
    request: DescribeVpcAttributeRequest,
) -> Result<DescribeVpcAttributeResponse, Fault> {
    let vpc = state.vpcs.find(&request.vpc_id)?;
    let value = |it: bool| Some(AttributeBooleanValue { value: Some(it) });
    let mut response =
        DescribeVpcAttributeResponse { vpc_id: Some(vpc.id.clone()), ..Default::default() };
    match request.attribute.as_str() {
        "enableDnsSupport" => response.enable_dns_support = value(vpc.enable_dns_support),
        "enableDnsHostnames" => response.enable_dns_hostnames = value(vpc.enable_dns_hostnames),
        "enableNetworkAddressUsageMetrics" => {
            response.enable_network_address_usage_metrics =
                value(vpc.enable_network_address_usage_metrics);
        }
        other => return Err(faults::invalid_value("attribute", other)),
    }
    Ok(response)
}

pub(crate) fn modify_attribute(
    _call: &Call<'_>,
    state: &mut State,
    request: ModifyVpcAttributeRequest,
) -> Result<ModifyVpcAttributeResponse, Fault> {
    let vpc = state.vpcs.edit(&request.vpc_id)?;
    let set = |field: &mut bool, value: Option<Option<bool>>| {
        if let Some(value) = value.flatten() {
            *field = value;
        }
    };
    set(&mut vpc.enable_dns_support, request.enable_dns_support.map(|it| it.value));
    set(&mut vpc.enable_dns_hostnames, request.enable_dns_hostnames.map(|it| it.value));
    set(
        &mut vpc.enable_network_address_usage_metrics,
        request.enable_network_address_usage_metrics.map(|it| it.value),
    );
    Ok(ModifyVpcAttributeResponse {})
}
