//! Further CIDR blocks of a VPC: `AssociateVpcCidrBlock` and `DisassociateVpcCidrBlock`.
//!
//! Which blocks go together is AWS's table: a VPC in one of RFC 1918's three ranges takes no block of
//! the other two, nothing takes 198.19.0.0/16, and 100.64.0.0/10 goes with everything. A subnet in a
//! further block is like any other: the router and IMDS know all blocks; the resolver stays at the
//! first block's `.2`.
//!
//! Upstream: VPC User Guide, "IPv4 CIDR block association restrictions". Deviation: a block is
//! `associated`, and `disassociated`, at once.

use aws_ec2::vpc::{
    AssociateVpcCidrBlockRequest, AssociateVpcCidrBlockResponse, DisassociateVpcCidrBlockRequest,
    DisassociateVpcCidrBlockResponse, VpcCidrBlockState,
};
use aws_wire::Fault;
use ipnet::Ipv4Net;

use super::{association, ipv6_cidr_blocks, parse_cidr};
use crate::{
    Call, faults,
    records::{CidrAssociation, Destination, Vpc},
    state::State,
};

/// AWS's default quota of IPv4 blocks per VPC.
const LIMIT: usize = 5;

const fn range(a: u8, b: u8, len: u8) -> Ipv4Net {
    Ipv4Net::new_assert(std::net::Ipv4Addr::new(a, b, 0, 0), len)
}

/// RFC 1918.
const PRIVATE: [Ipv4Net; 3] = [range(10, 0, 8), range(172, 16, 12), range(192, 168, 16)];
/// AWS's own, in every VPC.
const LINK_LOCAL: Ipv4Net = range(169, 254, 16);
const BENCHMARKS: Ipv4Net = range(198, 19, 16);
/// A VPC in the first takes nothing of the second.
const TEN_LOW: (Ipv4Net, Ipv4Net) = (range(10, 0, 15), range(10, 0, 16));
const DOCKER: Ipv4Net = range(172, 31, 16);

pub(crate) fn associate(
    call: &Call<'_>,
    state: &mut State,
    request: AssociateVpcCidrBlockRequest,
) -> Result<AssociateVpcCidrBlockResponse, Fault> {
    if ipv6_cidr_blocks::is_meant(&request) {
        return ipv6_cidr_blocks::associate(call, state, request);
    }
    if request.ipv4_netmask_length.is_some() {
        return Err(faults::unsupported("IPAM pools are not supported in this region."));
    }
    let cidr = request.cidr_block.as_deref().ok_or_else(|| faults::missing("cidrBlock"))?;
    let cidr = parse_cidr(cidr)?;
    let vpc = state.vpcs.find(&request.vpc_id)?;
    check(state, vpc, cidr)?;
    let block = CidrAssociation { id: entropy::aws_id("vpc-cidr-assoc"), cidr };
    state.vpcs.edit(&request.vpc_id)?.cidrs.push(block.clone());
    Ok(AssociateVpcCidrBlockResponse {
        cidr_block_association: Some(association(&block)),
        vpc_id: Some(request.vpc_id),
        ..Default::default()
    })
}

fn check(state: &State, vpc: &Vpc, cidr: Ipv4Net) -> Result<(), Fault> {
    let out_of_range = |message: String| Err(Fault::new("InvalidVpc.Range", message));
    let blocks: Vec<Ipv4Net> = vpc.cidrs.iter().map(|it| it.cidr).collect();
    if blocks.iter().any(|it| overlaps(it, &cidr)) {
        return out_of_range(format!("The CIDR '{cidr}' conflicts with another CIDR of the VPC."));
    }
    if is_restricted(&blocks, cidr) {
        return out_of_range(format!(
            "The CIDR '{cidr}' is restricted. Use a CIDR from the same private address range as the \
             current VPC CIDR, or use a publicly-routable CIDR. For additional restrictions, see \
             https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html"
        ));
    }
    // A local route must not be as wide as a route that somebody made: it would take its packets.
    let mut routes = state.route_tables.iter().filter(|it| it.vpc_id == vpc.id);
    let is_hidden = |it: &Destination| match it {
        Destination::Cidr(net) => net.prefix_len() > 0 && cidr.contains(net),
        Destination::Ipv6Cidr(_) | Destination::PrefixList(_) => false,
    };
    if routes.any(|table| table.routes.iter().any(|it| is_hidden(&it.destination))) {
        return out_of_range(format!("The CIDR '{cidr}' conflicts with a route of the VPC."));
    }
    if blocks.len() >= LIMIT {
        let id = &vpc.id;
        return Err(Fault::new(
            "CidrLimitExceeded",
            format!("This network '{id}' has met its maximum number of allowed CIDRs: {LIMIT}"),
        ));
    }
    Ok(())
}

/// Whether a VPC of these blocks may not have `cidr` beside them.
fn is_restricted(blocks: &[Ipv4Net], cidr: Ipv4Net) -> bool {
    if overlaps(&LINK_LOCAL, &cidr) || overlaps(&BENCHMARKS, &cidr) {
        return true;
    }
    let Some(first) = blocks.first() else { return false };
    let range_of = |it: &Ipv4Net| PRIVATE.iter().position(|range| range.contains(it));
    if let Some(range) = range_of(&cidr)
        && range_of(first) != Some(range)
    {
        return true;
    }
    let is_low = blocks.iter().any(|it| TEN_LOW.0.contains(it)) && TEN_LOW.1.contains(&cidr);
    let is_docker = range_of(first) == Some(1) && DOCKER.contains(&cidr);
    is_low || is_docker
}

fn overlaps(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

pub(crate) fn disassociate(
    call: &Call<'_>,
    state: &mut State,
    request: DisassociateVpcCidrBlockRequest,
) -> Result<DisassociateVpcCidrBlockResponse, Fault> {
    let id = &request.association_id;
    if let Some(gone) = ipv6_cidr_blocks::disassociate(call, state, id)? {
        return Ok(gone);
    }
    let owner = state.vpcs.iter().find_map(|vpc| {
        let position = vpc.cidrs.iter().position(|it| it.id == *id)?;
        Some((vpc.id.clone(), position, vpc.cidrs[position].clone()))
    });
    let Some((vpc_id, position, block)) = owner else {
        return Err(Fault::new(
            "InvalidVpcCidrBlockAssociationID.NotFound",
            format!("The vpc CIDR block association ID '{id}' does not exist"),
        ));
    };
    if position == 0 {
        return Err(Fault::new(
            "OperationNotPermitted",
            format!(
                "The vpc CIDR block with association ID {id} may not be disassociated. It is the \
                 primary IPv4 CIDR block of the VPC"
            ),
        ));
    }
    if state.subnets.iter().any(|it| it.vpc_id == vpc_id && block.cidr.contains(&it.cidr)) {
        return Err(Fault::new(
            "InvalidCidrBlock.InUse",
            format!("The CIDR '{}' is in use by a subnet.", block.cidr),
        ));
    }
    state.vpcs.edit(&vpc_id)?.cidrs.remove(position);
    let mut gone = association(&block);
    gone.cidr_block_state =
        Some(VpcCidrBlockState { state: Some("disassociated".to_owned()), status_message: None });
    Ok(DisassociateVpcCidrBlockResponse {
        cidr_block_association: Some(gone),
        vpc_id: Some(vpc_id),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The VPC's first block, a further one, and whether AWS takes it.
    #[test]
    fn blocks_go_together_as_awss_table_says() {
        for (first, further, is_taken) in [
            ("192.168.0.0/16", "100.64.0.0/16", true),
            ("192.168.0.0/16", "10.0.0.0/16", false),
            ("192.168.0.0/17", "192.168.128.0/17", true),
            ("192.168.0.0/16", "198.19.0.0/16", false),
            ("192.168.0.0/16", "198.18.0.0/16", true),
            ("192.168.0.0/16", "203.0.112.0/20", true),
            ("192.168.0.0/16", "169.254.0.0/20", false),
            ("10.2.0.0/16", "10.0.0.0/16", true),
            ("10.1.0.0/16", "10.0.0.0/16", false),
            ("10.2.0.0/16", "172.16.0.0/16", false),
            ("172.16.0.0/16", "172.20.0.0/16", true),
            ("172.16.0.0/16", "172.31.0.0/20", false),
            ("100.64.0.0/16", "10.0.0.0/16", false),
            ("100.64.0.0/16", "100.65.0.0/16", true),
        ] {
            let blocks = [first.parse().unwrap()];
            let found = !is_restricted(&blocks, further.parse().unwrap());
            assert_eq!(found, is_taken, "{first} and {further}");
        }
    }
}
