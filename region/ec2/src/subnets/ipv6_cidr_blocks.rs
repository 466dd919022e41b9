//! The IPv6 block of a subnet: `AssociateSubnetCidrBlock` and `DisassociateSubnetCidrBlock`.
//!
//! A subnet has one, of its VPC's blocks: of 44 to 64 bits, in steps of four.
//!
//! Deviation: a block is `associated`, and `disassociated`, at once.

use aws_ec2::subnet::{
    AssociateSubnetCidrBlockRequest, AssociateSubnetCidrBlockResponse,
    DisassociateSubnetCidrBlockRequest, DisassociateSubnetCidrBlockResponse, SubnetCidrBlockState,
    SubnetIpv6CidrBlockAssociation,
};
use aws_wire::Fault;
use ipnet::Ipv6Net;

use crate::{
    Call, faults,
    records::{Ipv6CidrAssociation, Subnet},
    state::State,
};

pub(crate) fn associate(
    _call: &Call<'_>,
    state: &mut State,
    request: AssociateSubnetCidrBlockRequest,
) -> Result<AssociateSubnetCidrBlockResponse, Fault> {
    if request.ipv6_ipam_pool_id.is_some() || request.ipv6_netmask_length.is_some() {
        return Err(faults::unsupported("IPAM pools are not supported in this region."));
    }
    let cidr = request.ipv6_cidr_block.ok_or_else(|| faults::missing("ipv6CidrBlock"))?;
    let block = give(state, &request.subnet_id, &cidr)?;
    Ok(AssociateSubnetCidrBlockResponse {
        ipv6_cidr_block_association: Some(association(&block, "associated")),
        subnet_id: Some(request.subnet_id),
    })
}

/// Gives the subnet that block.
pub(super) fn give(
    state: &mut State,
    subnet_id: &str,
    text: &str,
) -> Result<Ipv6CidrAssociation, Fault> {
    let cidr: Ipv6Net = text.parse().map_err(|_| faults::invalid_value("ipv6CidrBlock", text))?;
    let subnet = state.subnets.find(subnet_id)?;
    if let Some(known) = &subnet.ipv6_cidr {
        return Err(Fault::new(
            "InvalidSubnet.Conflict",
            format!("The subnet '{subnet_id}' already has the IPv6 CIDR block '{}'.", known.cidr),
        ));
    }
    let vpc = state.vpcs.find(&subnet.vpc_id)?;
    let has_length = (44..=64).contains(&cidr.prefix_len()) && cidr.prefix_len().is_multiple_of(4);
    let is_of_vpc = vpc.ipv6_cidrs.iter().any(|it| it.cidr.contains(&cidr));
    if !has_length || !is_of_vpc || cidr.trunc() != cidr {
        return Err(Fault::new("InvalidSubnet.Range", format!("The CIDR '{cidr}' is invalid.")));
    }
    let overlaps = |it: &Subnet| {
        it.ipv6_cidr.as_ref().is_some_and(|it| it.cidr.contains(&cidr) || cidr.contains(&it.cidr))
    };
    if state.subnets.iter().any(overlaps) {
        return Err(Fault::new(
            "InvalidSubnet.Conflict",
            format!("The CIDR '{cidr}' conflicts with another subnet"),
        ));
    }
    let block = Ipv6CidrAssociation { id: entropy::aws_id("subnet-cidr-assoc"), cidr };
    state.subnets.edit(subnet_id)?.ipv6_cidr = Some(block.clone());
    Ok(block)
}

pub(crate) fn disassociate(
    _call: &Call<'_>,
    state: &mut State,
    request: DisassociateSubnetCidrBlockRequest,
) -> Result<DisassociateSubnetCidrBlockResponse, Fault> {
    let id = &request.association_id;
    let found = state.subnets.iter().find_map(|subnet| {
        let block = subnet.ipv6_cidr.as_ref().filter(|it| it.id == *id)?;
        Some((subnet.id.clone(), block.clone()))
    });
    let Some((subnet_id, block)) = found else {
        return Err(Fault::new(
            "InvalidSubnetCidrBlockAssociationID.NotFound",
            format!("The subnet CIDR block association ID '{id}' does not exist"),
        ));
    };
    let mut interfaces = state.network_interfaces.iter().filter(|it| it.subnet_id == subnet_id);
    if interfaces.any(|it| it.ipv6_slots() > 0) {
        return Err(Fault::new(
            "InvalidCidrBlock.InUse",
            format!("The CIDR '{}' is in use by a network interface.", block.cidr),
        ));
    }
    let subnet = state.subnets.edit(&subnet_id)?;
    subnet.ipv6_cidr = None;
    subnet.assign_ipv6_address_on_creation = false;
    Ok(DisassociateSubnetCidrBlockResponse {
        ipv6_cidr_block_association: Some(association(&block, "disassociated")),
        subnet_id: Some(subnet_id),
    })
}

pub(super) fn association(
    block: &Ipv6CidrAssociation,
    state: &str,
) -> SubnetIpv6CidrBlockAssociation {
    SubnetIpv6CidrBlockAssociation {
        association_id: Some(block.id.clone()),
        ipv6_cidr_block: Some(block.cidr.to_string()),
        ipv6_cidr_block_state: Some(SubnetCidrBlockState {
            state: Some(state.to_owned()),
            status_message: None,
        }),
        ipv6_address_attribute: Some("public".to_owned()),
        ip_source: Some("amazon".to_owned()),
    }
}
