//! What an account has before anyone calls: a default VPC and Amazon's images.
//!
//! **Invariant:** filling a filled state changes nothing but adds images of newer releases.

mod images;

use aws_wire::Fault;
use ipnet::Ipv4Net;

pub use self::images::{AmiRelease, BottlerocketRelease, bottlerocket_releases, releases};
use crate::{
    Call, names,
    records::{Destination, DhcpOptions, InternetGateway, Route, RouteTarget, Tags},
    state::State,
    subnets, vpcs,
};

/// The default VPC. Deviation: EC2's own is 172.31.0.0/16 with one /20 per zone; eksctl's default
/// of 192.168.0.0/16 with one /19 per zone is what EKS users know.
const DEFAULT_VPC: &str = "192.168.0.0/16";

pub(crate) fn fill(call: &Call<'_>, state: &mut State) -> Result<(), Fault> {
    images::fill(call, state);
    if !state.dhcp_options.is_empty() {
        return Ok(());
    }
    state.dhcp_options.insert(DhcpOptions {
        id: entropy::aws_id("dopt"),
        domain_name: names::private_domain(&call.config.region),
        tags: Tags::new(),
    });
    default_vpc(call, state)
}

fn default_vpc(call: &Call<'_>, state: &mut State) -> Result<(), Fault> {
    let cidr: Ipv4Net = DEFAULT_VPC.parse().map_err(|_| Fault::internal("not a CIDR block"))?;
    let id = vpcs::make(call, state, cidr, Tags::new())?.id;
    let vpc = state.vpcs.edit(&id)?;
    vpc.is_default = true;
    vpc.enable_dns_hostnames = true;
    let gateway =
        InternetGateway { id: entropy::aws_id("igw"), vpc_id: Some(id.clone()), tags: Tags::new() };
    let target = RouteTarget::InternetGateway(gateway.id.clone());
    state.internet_gateways.insert(gateway);
    let main = state.route_tables.iter().find(|it| it.vpc_id == id).map(|it| it.id.clone());
    let main = main.ok_or_else(|| Fault::internal("a VPC has a main route table"))?;
    let blocks = cidr.subnets(19).map_err(|_| Fault::internal("a /16 holds /19s"))?;
    for ((zone, _), block) in call.config.zones.iter().zip(blocks) {
        let subnet = subnets::make(call, state, &id, block, zone, Tags::new())?.id;
        let subnet = state.subnets.edit(&subnet)?;
        subnet.map_public_ip_on_launch = true;
        subnet.is_default_for_zone = true;
    }
    let table = state.route_tables.edit(&main)?;
    table.routes.push(Route { destination: Destination::Cidr(Ipv4Net::default()), target });
    Ok(())
}
