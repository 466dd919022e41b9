//! IPv6 blocks of a VPC, which the region gives.
//!
//! With its first block a VPC's default network ACL and default security group let IPv6 out and
//! in as they do IPv4, and groups that are made later let it out.
//!
//! Upstream: VPC User Guide, "IPv6 VPC CIDR blocks" and "Default network ACL". Deviation: there are
//! no pools of one's own (BYOIP) and no IPAM; a block is `associated`, and `disassociated`, at once.

use aws_ec2::vpc::{
    AssociateVpcCidrBlockRequest, AssociateVpcCidrBlockResponse, DisassociateVpcCidrBlockResponse,
    VpcCidrBlockState, VpcIpv6CidrBlockAssociation,
};
use aws_wire::Fault;
use ipnet::{Ipv4Net, Ipv6Net};

use crate::{
    Call, faults, ipv6_pool,
    records::{AclPeer, Direction, Ipv6CidrAssociation, NetworkAclEntry, Peer},
    security_groups,
    state::State,
};

/// AWS's default quota of IPv6 blocks per VPC.
const LIMIT: usize = 5;
/// The number of the entries that a default ACL gets.
const ENTRY: u16 = 101;

/// Says whether a request is about IPv6.
pub(super) fn is_meant(request: &AssociateVpcCidrBlockRequest) -> bool {
    request.amazon_provided_ipv6_cidr_block == Some(true)
        || request.ipv6_cidr_block.is_some()
        || request.ipv6_pool.is_some()
        || request.ipv6_ipam_pool_id.is_some()
        || request.ipv6_netmask_length.is_some()
}

pub(crate) fn no_pools() -> Fault {
    faults::unsupported("Only Amazon-provided IPv6 CIDR blocks are supported in this region.")
}

/// The region has one group of zones.
pub(super) fn check_border_group(call: &Call<'_>, asked: Option<&str>) -> Result<(), Fault> {
    match asked {
        Some(it) if it != call.config.region => {
            Err(faults::invalid_value("ipv6CidrBlockNetworkBorderGroup", it))
        }
        _ => Ok(()),
    }
}

pub(super) fn associate(
    call: &Call<'_>,
    state: &mut State,
    request: AssociateVpcCidrBlockRequest,
) -> Result<AssociateVpcCidrBlockResponse, Fault> {
    if request.cidr_block.is_some() {
        return Err(faults::combination(
            "Only one of CidrBlock and AmazonProvidedIpv6CidrBlock may be given.",
        ));
    }
    if request.amazon_provided_ipv6_cidr_block != Some(true) {
        return Err(no_pools());
    }
    check_border_group(call, request.ipv6_cidr_block_network_border_group.as_deref())?;
    let block = give(state, &request.vpc_id)?;
    Ok(AssociateVpcCidrBlockResponse {
        ipv6_cidr_block_association: Some(association(call, &block, "associated")),
        vpc_id: Some(request.vpc_id),
        ..Default::default()
    })
}

/// Gives the VPC a block.
pub(super) fn give(state: &mut State, vpc_id: &str) -> Result<Ipv6CidrAssociation, Fault> {
    let count = state.vpcs.find(vpc_id)?.ipv6_cidrs.len();
    if count >= LIMIT {
        return Err(Fault::new(
            "CidrLimitExceeded",
            format!("This network '{vpc_id}' has met its maximum number of allowed CIDRs: {LIMIT}"),
        ));
    }
    let cidr = ipv6_pool::block_for_vpc(state)?;
    let block = Ipv6CidrAssociation { id: entropy::aws_id("vpc-cidr-assoc"), cidr };
    state.vpcs.edit(vpc_id)?.ipv6_cidrs.push(block.clone());
    if count == 0 {
        open_default_acl(state, vpc_id)?;
        open_default_group(state, vpc_id)?;
    }
    Ok(block)
}

/// Not where its owner has changed it.
fn open_default_acl(state: &mut State, vpc_id: &str) -> Result<(), Fault> {
    let is_it = |it: &&crate::records::NetworkAcl| it.vpc_id == vpc_id && it.is_default;
    let Some(acl) = state.network_acls.iter().find(is_it) else { return Ok(()) };
    if acl.entries != NetworkAclEntry::open() {
        return Ok(());
    }
    let id = acl.id.clone();
    let peer = AclPeer::V6(Ipv6Net::default());
    let entry = |it| NetworkAclEntry { number: ENTRY, peer, ..it };
    let added = NetworkAclEntry::open().into_iter().map(entry);
    state.network_acls.edit(&id)?.entries.extend(added);
    Ok(())
}

/// Not where its owner has changed what goes out.
fn open_default_group(state: &mut State, vpc_id: &str) -> Result<(), Fault> {
    let is_it = |it: &&crate::records::SecurityGroup| it.vpc_id == vpc_id && it.name == "default";
    let Some(group) = state.security_groups.iter().find(is_it) else { return Ok(()) };
    let is_open =
        |it: &crate::records::Rule| it.protocol == "-1" && it.peer == Peer::V4(Ipv4Net::default());
    let is_as_made =
        group.rules(Direction::Egress).count() == 1 && group.rules(Direction::Egress).all(is_open);
    if !is_as_made {
        return Ok(());
    }
    let id = group.id.clone();
    state.security_groups.edit(&id)?.rules.push(security_groups::allow_all_ipv6_out());
    Ok(())
}

pub(super) fn association(
    call: &Call<'_>,
    block: &Ipv6CidrAssociation,
    state: &str,
) -> VpcIpv6CidrBlockAssociation {
    VpcIpv6CidrBlockAssociation {
        association_id: Some(block.id.clone()),
        ipv6_cidr_block: Some(block.cidr.to_string()),
        ipv6_cidr_block_state: Some(VpcCidrBlockState {
            state: Some(state.to_owned()),
            status_message: None,
        }),
        network_border_group: Some(call.config.region.clone()),
        ipv6_pool: Some("Amazon".to_owned()),
        ipv6_address_attribute: Some("public".to_owned()),
        ip_source: Some("amazon".to_owned()),
    }
}

/// `None` where the id is not that of an IPv6 block.
pub(super) fn disassociate(
    call: &Call<'_>,
    state: &mut State,
    id: &str,
) -> Result<Option<DisassociateVpcCidrBlockResponse>, Fault> {
    let found = state.vpcs.iter().find_map(|vpc| {
        let block = vpc.ipv6_cidrs.iter().find(|it| it.id == id)?;
        Some((vpc.id.clone(), block.clone()))
    });
    let Some((vpc_id, block)) = found else { return Ok(None) };
    let is_inside = |it: &crate::records::Subnet| {
        it.ipv6_cidr.as_ref().is_some_and(|it| block.cidr.contains(&it.cidr))
    };
    if state.subnets.iter().any(|it| it.vpc_id == vpc_id && is_inside(it)) {
        return Err(Fault::new(
            "InvalidCidrBlock.InUse",
            format!("The CIDR '{}' is in use by a subnet.", block.cidr),
        ));
    }
    state.vpcs.edit(&vpc_id)?.ipv6_cidrs.retain(|it| it.id != id);
    Ok(Some(DisassociateVpcCidrBlockResponse {
        ipv6_cidr_block_association: Some(association(call, &block, "disassociated")),
        vpc_id: Some(vpc_id),
        ..Default::default()
    }))
}
