//! Route tables: where a subnet's packets go, by the longest prefix that matches.
//!
//! In the kernel each table is a chain that every packet of its subnets' interfaces passes before
//! anything else: what no route takes is dropped there, and what a route sends to an interface gets
//! a mark, by which a routing table of its own takes it to that interface.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net};

use crate::{Eni, VpcSpec, version::Version};

/// A route table. The local routes are not in it: they follow from the VPC's blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteTable {
    /// Of two with the same destination the first one counts.
    pub routes: Vec<Route>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub destination: IpNet,
    pub target: Target,
}

/// What is behind a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The VPC itself.
    Local,
    /// For interfaces with a public address only.
    InternetGateway(String),
    /// For IPv6: the way out for everybody, and in for nobody.
    EgressOnlyInternetGateway(String),
    /// Everybody behind it comes from its public address. One without has no way out itself.
    NatGateway { id: String, address: Option<Ipv4Addr> },
    /// A gateway endpoint.
    GatewayEndpoint(String),
    /// An interface that forwards what is not its own: a NAT instance, a firewall.
    Interface(String),
    /// What is gone.
    Blackhole(String),
}

impl RouteTable {
    /// One with a route more.
    pub fn with(mut self, destination: impl Into<IpNet>, target: Target) -> Self {
        self.routes.push(Route { destination: destination.into(), target });
        self
    }
}

impl VpcSpec {
    /// The routes of a subnet, the longest prefixes first, the local ones before their equals.
    pub(crate) fn routes_of(&self, subnet: &str, version: Version) -> Vec<Route> {
        let blocks = self.blocks(version).into_iter();
        let local = blocks.map(|destination| Route { destination, target: Target::Local });
        let table = self.subnets.get(subnet).and_then(|it| self.route_tables.get(&it.route_table));
        let own = table.map(|it| it.routes.as_slice()).unwrap_or_default().iter().cloned();
        let own = own.filter(|it| Version::of(&it.destination) == version);
        let mut routes: Vec<Route> = local.chain(own).collect();
        routes.sort_by_key(|it| std::cmp::Reverse(it.destination.prefix_len()));
        let mut known = std::collections::BTreeSet::new();
        routes.retain(|it| known.insert(it.destination.trunc()));
        routes
    }

    /// The route that a packet from `subnet` to `address` takes.
    pub fn route(&self, subnet: &str, address: IpAddr) -> Option<Route> {
        let routes = self.routes_of(subnet, Version::of_address(address));
        routes.into_iter().find(|it| it.destination.contains(&address))
    }

    /// The address by which `eni` comes to `address` on the internet; `None` where no route leads
    /// there from it.
    pub fn outside_address(&self, eni: &Eni, address: Ipv4Addr) -> Option<Ipv4Addr> {
        match self.route(&eni.subnet, address.into())?.target {
            Target::InternetGateway(_) => eni.public_ip,
            Target::NatGateway { address, .. } => address,
            _ => None,
        }
    }

    /// Says whether a public endpoint at `address` that lets `sources` in is reached from `eni`.
    pub(crate) fn is_let_in(&self, eni: &Eni, address: Ipv4Addr, sources: &[Ipv4Net]) -> bool {
        let outside = self.outside_address(eni, address);
        outside.is_some_and(|it| sources.iter().any(|source| source.contains(&it)))
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {}", self.destination, self.target)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::InternetGateway(id)
            | Self::EgressOnlyInternetGateway(id)
            | Self::NatGateway { id, .. }
            | Self::GatewayEndpoint(id)
            | Self::Interface(id) => f.write_str(id),
            Self::Blackhole(id) => write!(f, "{id} (blackhole)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::samples;

    #[test]
    fn the_longest_prefix_wins_and_the_local_route_among_equals() {
        let mut spec = samples::vpc();
        let table = spec.route_tables.get_mut("rtb-public").unwrap();
        let block = Ipv4Net::new_assert([192, 168, 0, 0].into(), 16);
        let narrow = Ipv4Net::new_assert([192, 168, 64, 0].into(), 19);
        *table = std::mem::take(table)
            .with(block, Target::Blackhole("eni-1".to_owned()))
            .with(narrow, Target::Interface("eni-2".to_owned()));
        let target =
            |address: [u8; 4]| spec.route("subnet-a", IpAddr::from(address)).unwrap().target;
        assert_eq!(target([192, 168, 1, 1]), Target::Local);
        assert_eq!(target([192, 168, 65, 1]), Target::Interface("eni-2".to_owned()));
        assert_eq!(target([8, 8, 8, 8]), Target::InternetGateway("igw-0".to_owned()));
        assert_eq!(spec.route("subnet-of-nobody", IpAddr::from([8, 8, 8, 8])), None);
    }
}
