//! What stands between interfaces, drawn at random: security groups, network ACLs, routes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use region_vpc::{
    AclEntry, ENDPOINTS, Eni, Location, NetworkAcl, Peer, RouteTable, Rule, SecurityGroup, Setup,
    Subnet, Target, Traffic, VpcSpec,
};

use super::{
    Dice, Family, GROUPS, NODES, PARTIES, PORTS, SUBNETS, byte, eni_address, eni_mac, node_ipv6,
    node_prefix, pod_address, subnet_of,
};
use crate::commands::explain::path::worlds::ground::Ground;

const WIDE: [&str; 5] = ["0.0.0.0/0", "10.0.0.0/16", "10.0.0.0/24", "10.0.1.0/24", "10.0.0.0/23"];
const WIDE_V6: [&str; 5] = [
    "::/0",
    "2001:db8:0:100::/56",
    "2001:db8:0:100::/64",
    "2001:db8:0:101::/64",
    "2001:db8:0:100::/63",
];

fn cidr(dice: &mut Dice, family: Family) -> IpNet {
    if dice.one_in(3) {
        return family.address(dice.below(PARTIES + 1)).into();
    }
    let wide = if family == Family::V4 { WIDE } else { WIDE_V6 };
    dice.of(&wide).parse().unwrap()
}

/// Replies go to ports from 32768 on.
fn traffic(dice: &mut Dice) -> Traffic {
    let (from, to) =
        dice.of(&[(PORTS[0], PORTS[0]), (PORTS[1], u16::MAX), (0, u16::MAX), (0, 40_000)]);
    match dice.below(6) {
        0 | 1 => Traffic::All,
        2 => Traffic::Icmp { kind: None, code: None },
        3 => Traffic::udp(from, to),
        _ => Traffic::tcp(from, to),
    }
}

fn rules(dice: &mut Dice, family: Family) -> Vec<Rule> {
    if dice.one_in(2) {
        return vec![Rule::everything_to_anywhere(), Rule::everything_to_anywhere_by_ipv6()];
    }
    let peer = |dice: &mut Dice| match dice.below(4) {
        0 => Peer::Group(format!("sg-{}", dice.below(GROUPS + 1))),
        1 => Peer::PrefixList(format!("pl-{}", dice.below(3))),
        _ => Peer::Cidr(cidr(dice, family)),
    };
    (0..dice.below(5)).map(|_| Rule::new(traffic(dice), peer(dice))).collect()
}

fn entries(dice: &mut Dice, family: Family) -> Vec<AclEntry> {
    if dice.one_in(2) {
        return NetworkAcl::open().ingress;
    }
    let entry = |dice: &mut Dice, number| {
        AclEntry::new(number, !dice.one_in(3), cidr(dice, family), traffic(dice))
    };
    let mut entries: Vec<AclEntry> =
        (1..=dice.below(4)).map(|it| entry(dice, u16::from(byte(it)))).collect();
    if !dice.one_in(4) {
        entries.push(AclEntry::new(100, true, Ipv4Net::default(), Traffic::All));
        entries.push(AclEntry::new(101, true, Ipv6Net::default(), Traffic::All));
    }
    entries
}

fn table(dice: &mut Dice, family: Family) -> RouteTable {
    if family == Family::V6 {
        let target = match dice.below(5) {
            0 => return RouteTable::default(),
            1 => Target::Blackhole("eigw-gone".to_owned()),
            2 => Target::InternetGateway("igw-0".to_owned()),
            _ => Target::EgressOnlyInternetGateway("eigw-0".to_owned()),
        };
        return RouteTable::default().with(Ipv6Net::default(), target);
    }
    let target = match dice.below(5) {
        0 => return RouteTable::default(),
        1 => Target::Blackhole("eni-gone".to_owned()),
        2 => Target::NatGateway { id: "nat-0".to_owned(), address: Some(ENDPOINTS) },
        _ => Target::InternetGateway("igw-0".to_owned()),
    };
    RouteTable::default().with(Ipv4Net::default(), target)
}

fn eni(dice: &mut Dice, number: usize, ground: &Ground) -> Eni {
    let (node, is_primary) = (number % NODES, number < NODES);
    let has_ipv6 = is_primary && ground.family() == Family::V6;
    let groups = 0..1 + dice.below(2);
    Eni {
        id: format!("eni-0000000000000000{number}"),
        is_asleep: false,
        mac: eni_mac(number),
        subnet: format!("subnet-{}", subnet_of(number)),
        primary: eni_address(number),
        secondary: BTreeSet::from([pod_address(number)]),
        prefixes: BTreeSet::new(),
        ipv6_addresses: has_ipv6.then(|| node_ipv6(node)).into_iter().collect(),
        ipv6_prefixes: has_ipv6.then(|| node_prefix(node)).into_iter().collect(),
        security_groups: groups.map(|_| format!("sg-{}", dice.below(GROUPS))).collect(),
        source_dest_check: !dice.one_in(3),
        public_ip: (is_primary && !dice.one_in(3)).then(|| Ipv4Addr::new(54, 0, 0, byte(node))),
        tracking: Default::default(),
        location: Location::Netns {
            path: ground.node(node),
            device: if is_primary { "eth0" } else { "eth1" }.to_owned(),
            setup: if is_primary { Setup::Primary } else { Setup::Bare },
        },
    }
}

pub(super) fn vpc(dice: &mut Dice, ground: &Ground) -> VpcSpec {
    let family = ground.family();
    let subnet = |number: u8| {
        let subnet = Subnet {
            cidr: Ipv4Net::new(Ipv4Addr::new(10, 0, number, 0), 24).unwrap(),
            route_table: format!("rtb-{number}"),
            network_acl: format!("acl-{number}"),
        };
        (format!("subnet-{number}"), subnet)
    };
    let group = |dice: &mut Dice, number: usize| {
        let id = format!("sg-{number}");
        (
            id.clone(),
            SecurityGroup { id, ingress: rules(dice, family), egress: rules(dice, family) },
        )
    };
    let acl = |dice: &mut Dice, number: u8| {
        let acl = NetworkAcl { ingress: entries(dice, family), egress: entries(dice, family) };
        (format!("acl-{number}"), acl)
    };
    let list = |dice: &mut Dice, number: usize| {
        (format!("pl-{number}"), (0..dice.below(3)).map(|_| cidr(dice, family)).collect())
    };
    VpcSpec {
        id: "vpc-0".to_owned(),
        netns: ground.router().to_owned(),
        cidrs: vec!["10.0.0.0/16".parse().unwrap()],
        ipv6_cidrs: match family {
            Family::V4 => Vec::new(),
            Family::V6 => vec!["2001:db8:0:100::/56".parse().unwrap()],
        },
        subnets: (0..SUBNETS).map(subnet).collect(),
        route_tables: (0..SUBNETS).map(|it| (format!("rtb-{it}"), table(dice, family))).collect(),
        network_acls: (0..SUBNETS).map(|it| acl(dice, it)).collect(),
        enis: (0..2 * NODES).map(|it| eni(dice, it, ground)).collect(),
        security_groups: (0..GROUPS).map(|it| group(dice, it)).collect::<BTreeMap<_, _>>(),
        prefix_lists: (0..2).map(|it| list(dice, it)).collect(),
        ..VpcSpec::default()
    }
}
