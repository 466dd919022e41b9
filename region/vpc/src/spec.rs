//! What a VPC is to be: one pure value.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use linux_netlink::Mac;

use crate::{NetworkAcl, RouteTable, SecurityGroup, version::Version};

/// The instance metadata service.
pub const IMDS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The VPC's resolver, by the address that every VPC has; the other is the VPC's base plus two.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);
/// IMDS by IPv6.
pub const IMDS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// The resolver by IPv6: the same in every VPC.
pub const RESOLVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253);
/// Where the dual-stack endpoints are by IPv6 (RFC 9637: no host has such an address).
pub const ENDPOINTS_V6: Ipv6Addr = Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 1);
/// Where the AWS endpoints are for whoever asks inside of a VPC (TEST-NET-2, RFC 5737). Not in
/// TEST-NET-3: upstream's tests make that a range of Services, which nodes then reach nobody else in.
pub const ENDPOINTS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 254);
/// Where S3 is, which a gateway endpoint may lead to (RFC 2544: no host has such an address).
pub const S3: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Where DynamoDB is.
pub const DYNAMODB: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// The router of every subnet, as IPv6 hosts know it.
pub const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0xec2, 0, 0, 0, 0, 0, 1);
/// All of these.
pub const SERVICES: [Ipv4Addr; 3] = [ENDPOINTS, S3, DYNAMODB];

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VpcSpec {
    pub id: String,
    /// The name of the router's namespace.
    pub netns: String,
    /// The primary CIDR first.
    pub cidrs: Vec<Ipv4Net>,
    /// Without one the VPC has no IPv6 at all.
    pub ipv6_cidrs: Vec<Ipv6Net>,
    pub subnets: BTreeMap<String, Subnet>,
    pub route_tables: BTreeMap<String, RouteTable>,
    pub network_acls: BTreeMap<String, NetworkAcl>,
    pub enis: Vec<Eni>,
    pub security_groups: BTreeMap<String, SecurityGroup>,
    /// The prefix lists that rules name.
    pub prefix_lists: BTreeMap<String, Vec<IpNet>>,
    /// Behind its internet and NAT gateways is the world (`--egress`), and not AWS alone.
    pub has_way_out: bool,
    /// The same by IPv6, which takes a machine that forwards it.
    pub has_ipv6_way_out: bool,
    /// The public endpoints of the region's clusters: by their addresses, whom they let in. Those
    /// who come are known by the addresses that they have on the internet.
    pub public_endpoints: BTreeMap<Ipv4Addr, Vec<Ipv4Net>>,
}

/// A subnet. One without a route table has the local routes alone; without a network ACL nothing
/// is filtered at its border.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    pub cidr: Ipv4Net,
    pub route_table: String,
    pub network_acl: String,
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
    /// The first one is what an instance calls its own.
    pub ipv6_addresses: Vec<Ipv6Addr>,
    pub ipv6_prefixes: BTreeSet<Ipv6Net>,
    pub security_groups: BTreeSet<String>,
    pub source_dest_check: bool,
    pub public_ip: Option<Ipv4Addr>,
    pub tracking: Tracking,
    pub location: Location,
    /// Its instance hibernates: whatever it sends or is sent is dropped.
    pub is_asleep: bool,
}

/// Seconds after which a connection of an ENI on which nothing happens is forgotten, where it says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracking {
    pub tcp_established: Option<u32>,
    /// Before an answer.
    pub udp: Option<u32>,
    /// After one.
    pub udp_stream: Option<u32>,
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
    /// In the router itself, which answers there for AWS: an interface endpoint's.
    Router,
}

/// Who configures the far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// As DHCP would: address, default route.
    Primary,
    /// As `Primary`, where the others are in other subnets: what comes from its address leaves by it
    /// too, and not by the interface whose subnet the receiver is in.
    First { table: u32 },
    /// Address, and a routing table of its own for what comes from that address.
    Additional { table: u32 },
    /// Nobody: it appears down and without address, for the VPC CNI to set up.
    Bare,
}

impl Setup {
    /// Whether the guest's own default route leads over it, and the table for what its address sends.
    /// `None`: nothing is set up.
    pub(crate) fn routes(self) -> Option<(bool, Option<u32>)> {
        match self {
            Self::Bare => None,
            Self::Primary => Some((true, None)),
            Self::First { table } => Some((true, Some(table))),
            Self::Additional { table } => Some((false, Some(table))),
        }
    }
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
    pub fn owner(&self, address: impl Into<IpAddr>) -> Option<&Eni> {
        let address = address.into();
        self.enis.iter().find(|eni| eni.owns(address))
    }

    /// The interface of that id.
    pub fn eni(&self, id: &str) -> Option<&Eni> {
        self.enis.iter().find(|eni| eni.id == id)
    }

    /// The network ACL of a subnet.
    pub fn acl_of(&self, subnet: &str) -> Option<&NetworkAcl> {
        self.network_acls.get(&self.subnets.get(subnet)?.network_acl)
    }

    /// Says whether an address belongs to the VPC, whoever has it.
    pub fn is_inside(&self, address: impl Into<IpAddr>) -> bool {
        let address = address.into();
        self.blocks(Version::of_address(address)).iter().any(|block| block.contains(&address))
    }

    /// The VPC's blocks of that version.
    pub(crate) fn blocks(&self, version: Version) -> Vec<IpNet> {
        match version {
            Version::V4 => self.cidrs.iter().map(|it| IpNet::V4(*it)).collect(),
            Version::V6 => self.ipv6_cidrs.iter().map(|it| IpNet::V6(*it)).collect(),
        }
    }

    /// By security group: the private addresses of all ENIs that carry it, as few networks.
    pub(crate) fn members(&self, version: Version) -> BTreeMap<&str, Vec<IpNet>> {
        let mut members: BTreeMap<&str, Vec<IpNet>> = BTreeMap::new();
        for eni in &self.enis {
            for group in &eni.security_groups {
                members.entry(group).or_default().extend(eni.owned(version));
            }
        }
        members.values_mut().for_each(|it| *it = IpNet::aggregate(it));
        members
    }

    /// The interfaces of the VPC's interface endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = &Eni> {
        self.enis.iter().filter(|it| it.location == Location::Router)
    }

    /// Whether the interface `id` takes what is not addressed to it.
    pub(crate) fn forwards(&self, id: &str) -> bool {
        self.eni(id).is_some_and(|it| {
            !it.source_dest_check && matches!(it.location, Location::Netns { .. })
        })
    }
}

impl Eni {
    /// Nothing gets to it, and nothing comes from it.
    pub(crate) fn is_out(&self) -> bool {
        self.location == Location::Unattached || self.is_asleep
    }

    pub fn owns(&self, address: impl Into<IpAddr>) -> bool {
        match address.into() {
            IpAddr::V4(address) => {
                self.primary == address
                    || self.secondary.contains(&address)
                    || self.prefixes.iter().any(|prefix| prefix.contains(&address))
            }
            IpAddr::V6(address) => {
                self.ipv6_addresses.contains(&address)
                    || self.ipv6_prefixes.iter().any(|prefix| prefix.contains(&address))
            }
        }
    }

    /// Everything that it owns of that version.
    pub(crate) fn owned(&self, version: Version) -> Vec<IpNet> {
        match version {
            Version::V4 => self.networks().map(IpNet::V4).collect(),
            Version::V6 => self.ipv6_networks().map(IpNet::V6).collect(),
        }
    }

    /// Every IPv6 address and prefix that it owns.
    pub fn ipv6_networks(&self) -> impl Iterator<Item = Ipv6Net> {
        let hosts = self.ipv6_addresses.iter().copied().map(Ipv6Net::from);
        hosts.chain(self.ipv6_prefixes.iter().copied())
    }

    /// Every IPv4 address and prefix that it owns.
    pub fn networks(&self) -> impl Iterator<Item = Ipv4Net> {
        let hosts = std::iter::once(self.primary).chain(self.secondary.iter().copied());
        hosts.map(Ipv4Net::from).chain(self.prefixes.iter().copied())
    }
}

impl VpcSpec {
    /// The address that the interface which owns `address` has for itself.
    pub fn interface_address(&self, address: IpAddr) -> Option<IpAddr> {
        let eni = self.enis.iter().find(|it| it.owns(address))?;
        match address {
            IpAddr::V4(_) => Some(eni.primary.into()),
            IpAddr::V6(_) => eni.ipv6_addresses.first().copied().map(IpAddr::V6),
        }
    }
}

#[cfg(test)]
pub(crate) mod samples {
    //! A small VPC that the tests share.

    use super::*;
    use crate::{Peer, Rule, Target, Traffic};

    pub(crate) fn eni(number: u8, group: &str) -> Eni {
        Eni {
            id: format!("eni-0000000000000000{number}"),
            mac: Mac([2, 0, 0, 0, 0, number]),
            subnet: "subnet-a".to_owned(),
            primary: Ipv4Addr::new(192, 168, 0, 10 + number),
            secondary: BTreeSet::new(),
            prefixes: BTreeSet::new(),
            ipv6_addresses: Vec::new(),
            ipv6_prefixes: BTreeSet::new(),
            security_groups: BTreeSet::from([group.to_owned()]),
            source_dest_check: true,
            public_ip: None,
            tracking: Tracking::default(),
            location: Location::Unattached,
            is_asleep: false,
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
            route_table: "rtb-public".to_owned(),
            network_acl: "acl-0".to_owned(),
        };
        let gateway = Target::InternetGateway("igw-0".to_owned());
        let public = RouteTable::default().with(Ipv4Net::default(), gateway);
        VpcSpec {
            id: "vpc-0".to_owned(),
            netns: "nst-t-vpc".to_owned(),
            cidrs: vec!["192.168.0.0/16".parse().unwrap()],
            subnets: BTreeMap::from([("subnet-a".to_owned(), subnet)]),
            route_tables: BTreeMap::from([("rtb-public".to_owned(), public)]),
            network_acls: BTreeMap::from([("acl-0".to_owned(), NetworkAcl::open())]),
            enis: vec![eni(1, "sg-web"), eni(2, "sg-web"), eni(3, "sg-client")],
            security_groups: [web, client].map(|it| (it.id.clone(), it)).into(),
            ..VpcSpec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_of_aws_are_not_where_upstreams_tests_put_a_clusters() {
        let range: Ipv4Net = "203.0.113.0/24".parse().unwrap();
        assert!(SERVICES.iter().all(|it| !range.contains(it)));
    }
}
