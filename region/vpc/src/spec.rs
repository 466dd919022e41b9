//! What a VPC is to be: one pure value.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::PathBuf,
};

use ipnet::Ipv4Net;
use linux_netlink::Mac;

use crate::SecurityGroup;

/// The instance metadata service.
pub const IMDS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The VPC's resolver, by the address that every VPC has; the other is the VPC's base plus two.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);
/// Where the AWS endpoints are for whoever asks inside of a VPC (TEST-NET-3, RFC 5737).
pub const ENDPOINTS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// Where those are that the VPC has an interface endpoint for: no route is needed to them.
pub const INTERFACE_ENDPOINTS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpcSpec {
    pub id: String,
    /// The name of the router's namespace.
    pub netns: String,
    /// The primary CIDR first.
    pub cidrs: Vec<Ipv4Net>,
    pub subnets: BTreeMap<String, Subnet>,
    pub enis: Vec<Eni>,
    pub security_groups: BTreeMap<String, SecurityGroup>,
    /// The VPC has an interface endpoint for some service.
    pub has_interface_endpoints: bool,
    /// Behind its internet and NAT gateways is the world (`--egress`), and not AWS alone.
    pub has_way_out: bool,
    /// The public endpoints of the region's clusters: by their addresses, whom they let in. Those
    /// who come are known by the addresses that they have on the internet.
    pub public_endpoints: BTreeMap<Ipv4Addr, Vec<Ipv4Net>>,
}

/// A subnet, with what its route table makes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    pub cidr: Ipv4Net,
    /// Where the route table sends `0.0.0.0/0`.
    pub internet: InternetRoute,
}

/// The way out of a subnet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InternetRoute {
    #[default]
    None,
    /// For ENIs with a public address only.
    InternetGateway,
    /// Everybody behind it comes from its public address.
    NatGateway(Ipv4Addr),
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eni {
    pub id: String,
    pub mac: Mac,
    pub subnet: String,
    pub primary: Ipv4Addr,
    pub secondary: BTreeSet<Ipv4Addr>,
    pub prefixes: BTreeSet<Ipv4Net>,
    pub security_groups: BTreeSet<String>,
    pub source_dest_check: bool,
    pub public_ip: Option<Ipv4Addr>,
    pub location: Location,
}

/// Where the far end of an ENI is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Location {
    #[default]
    Unattached,
    Netns {
        path: PathBuf,
        /// `eth0`, `eth1`, …
        device: String,
        setup: Setup,
    },
}

/// Who configures the far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// As DHCP would: address, default route.
    Primary,
    /// Address, and a routing table of its own for what comes from that address.
    Additional { table: u32 },
    /// Nobody: it appears down and without address, for the VPC CNI to set up.
    Bare,
}

impl Subnet {
    /// The subnet's router.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.cidr.network()) + 1)
    }
}

impl VpcSpec {
    /// The VPC's resolver on its own CIDR.
    pub fn resolver(&self) -> Option<Ipv4Addr> {
        self.cidrs.first().map(|cidr| Ipv4Addr::from(u32::from(cidr.network()) + 2))
    }

    /// The ENI that owns `address`.
    pub fn owner(&self, address: Ipv4Addr) -> Option<&Eni> {
        self.enis.iter().find(|eni| eni.owns(address))
    }

    /// Says whether a route leads from `eni` to the internet, where the AWS endpoints are too.
    pub fn reaches_internet(&self, eni: &Eni) -> bool {
        self.outside_address(eni).is_some()
    }

    /// The address that `eni` has on the internet; `None` where no route leads there.
    pub fn outside_address(&self, eni: &Eni) -> Option<Ipv4Addr> {
        match self.subnets.get(&eni.subnet)?.internet {
            InternetRoute::None => None,
            InternetRoute::InternetGateway => eni.public_ip,
            InternetRoute::NatGateway(address) => Some(address),
        }
    }

    /// Says whether a public endpoint that lets `sources` in is reached from `eni`.
    pub(crate) fn is_let_in(&self, eni: &Eni, sources: &[Ipv4Net]) -> bool {
        let address = self.outside_address(eni);
        address.is_some_and(|it| sources.iter().any(|source| source.contains(&it)))
    }

    /// Says whether an address belongs to the VPC, whoever has it.
    pub fn is_inside(&self, address: Ipv4Addr) -> bool {
        self.cidrs.iter().any(|cidr| cidr.contains(&address))
    }

    /// The private addresses of all ENIs that carry the security group `id`, as few networks.
    pub fn members(&self, id: &str) -> Vec<Ipv4Net> {
        let carriers = self.enis.iter().filter(|eni| eni.security_groups.contains(id));
        let networks: Vec<Ipv4Net> = carriers.flat_map(Eni::networks).collect();
        Ipv4Net::aggregate(&networks)
    }
}

impl Eni {
    pub fn owns(&self, address: Ipv4Addr) -> bool {
        self.primary == address
            || self.secondary.contains(&address)
            || self.prefixes.iter().any(|prefix| prefix.contains(&address))
    }

    /// Everything that it owns.
    pub fn networks(&self) -> impl Iterator<Item = Ipv4Net> {
        let hosts = std::iter::once(self.primary).chain(self.secondary.iter().copied());
        hosts.map(Ipv4Net::from).chain(self.prefixes.iter().copied())
    }
}

#[cfg(test)]
pub(crate) mod samples {
    //! A small VPC that the tests share.

    use super::*;
    use crate::{Peer, Rule, Traffic};

    pub(crate) fn eni(number: u8, group: &str) -> Eni {
        Eni {
            id: format!("eni-0000000000000000{number}"),
            mac: Mac([2, 0, 0, 0, 0, number]),
            subnet: "subnet-a".to_owned(),
            primary: Ipv4Addr::new(192, 168, 0, 10 + number),
            secondary: BTreeSet::new(),
            prefixes: BTreeSet::new(),
            security_groups: BTreeSet::from([group.to_owned()]),
            source_dest_check: true,
            public_ip: None,
            location: Location::Unattached,
        }
    }

    /// Two web servers that anyone in the group `sg-client` may reach on port 80, and a client.
    pub(crate) fn vpc() -> VpcSpec {
        let mut web = SecurityGroup::new("sg-web");
        web.ingress.push(Rule::new(Traffic::tcp(80, 80), Peer::Group("sg-client".to_owned())));
        web.egress.push(Rule::everything_to_anywhere());
        let mut client = SecurityGroup::new("sg-client");
        client.egress.push(Rule::everything_to_anywhere());
        let subnet = Subnet {
            cidr: "192.168.0.0/19".parse().unwrap(),
            internet: InternetRoute::InternetGateway,
        };
        VpcSpec {
            id: "vpc-0".to_owned(),
            netns: "nst-t-vpc".to_owned(),
            cidrs: vec!["192.168.0.0/16".parse().unwrap()],
            subnets: BTreeMap::from([("subnet-a".to_owned(), subnet)]),
            enis: vec![eni(1, "sg-web"), eni(2, "sg-web"), eni(3, "sg-client")],
            security_groups: [web, client].map(|it| (it.id.clone(), it)).into(),
            has_interface_endpoints: false,
            has_way_out: false,
            public_endpoints: BTreeMap::new(),
        }
    }
}
