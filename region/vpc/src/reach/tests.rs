//! The evaluator on a small VPC.

use ipnet::Ipv4Net;

use super::*;
use crate::{
    AclEntry, ENDPOINTS, NetworkAcl, Peer, RouteTable, S3, SecurityGroup, Setup, Subnet, Traffic,
    spec::samples,
};

/// The sample, with everybody in an instance.
fn vpc() -> VpcSpec {
    let mut spec = samples::vpc();
    for eni in &mut spec.enis {
        eni.location = Location::Netns {
            path: "/run/netns/x".into(),
            device: "eth0".to_owned(),
            setup: Setup::Bare,
        };
    }
    spec
}

/// Gives the subnet another route to everywhere.
fn set_default(spec: &mut VpcSpec, target: Target) {
    let table = RouteTable::default().with(Ipv4Net::default(), target);
    spec.route_tables.insert("rtb-public".to_owned(), table);
}

fn nat_gateway(address: Ipv4Addr) -> Target {
    Target::NatGateway { id: "nat-0".to_owned(), address: Some(address) }
}

const WEB: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 11);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 13);
const HTTP: Packet = Packet::Tcp { port: 80 };

#[test]
fn a_reference_to_a_group_lets_its_members_in_and_nobody_else() {
    let spec = vpc();
    let verdict = can_reach(&spec, CLIENT, WEB, HTTP);
    assert!(verdict.is_allowed, "{}", verdict.reason);
    let other = can_reach(&spec, Ipv4Addr::new(192, 168, 0, 12), WEB, HTTP);
    assert!(matches!(other.reason, Reason::Ingress { .. }));
    let port = can_reach(&spec, CLIENT, WEB, Packet::Tcp { port: 81 });
    assert_eq!(
        port.reason.to_string(),
        "no ingress rule of sg-web (eni-00000000000000001) allows it"
    );
    assert!(!can_reach(&spec, WEB, CLIENT, HTTP).is_allowed);
}

#[test]
fn endpoints_take_a_public_address_behind_an_internet_gateway() {
    let mut spec = vpc();
    let https = Packet::Tcp { port: 443 };
    let verdict = can_reach(&spec, WEB, ENDPOINTS, https);
    assert!(matches!(verdict.reason, Reason::NoRouteToEndpoints { .. }));
    spec.enis[0].public_ip = Some(Ipv4Addr::new(54, 0, 0, 1));
    assert!(can_reach(&spec, WEB, ENDPOINTS, https).is_allowed);
    spec.enis[0].public_ip = None;
    set_default(&mut spec, nat_gateway(Ipv4Addr::new(203, 0, 113, 9)));
    assert!(can_reach(&spec, WEB, ENDPOINTS, https).is_allowed);
    spec.security_groups.get_mut("sg-web").unwrap().egress.clear();
    let verdict = can_reach(&spec, WEB, ENDPOINTS, https);
    assert!(matches!(verdict.reason, Reason::Egress { .. }));
}

#[test]
fn a_public_endpoint_knows_who_comes_by_the_address_outside() {
    let mut spec = vpc();
    let https = Packet::Tcp { port: 443 };
    let (cluster, nat) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(203, 0, 113, 9));
    let reason = |spec: &VpcSpec| can_reach(spec, WEB, cluster, https).reason;
    assert!(matches!(reason(&spec), Reason::NoWayOut { .. }), "there is none");
    let sources = vec!["203.0.113.9/32".parse().unwrap()];
    spec.public_endpoints.insert(cluster, sources);
    assert!(matches!(reason(&spec), Reason::NoRouteOut { .. }));
    spec.enis[0].public_ip = Some(Ipv4Addr::new(203, 0, 113, 7));
    assert!(matches!(reason(&spec), Reason::NotLetIn { .. }));
    set_default(&mut spec, nat_gateway(nat));
    assert!(can_reach(&spec, WEB, cluster, https).is_allowed);
}

#[test]
fn an_interface_endpoint_takes_no_route_but_a_rule_of_its_own_groups() {
    let mut spec = vpc();
    let https = Packet::Tcp { port: 443 };
    let address = Ipv4Addr::new(192, 168, 0, 19);
    assert!(!can_reach(&spec, WEB, address, https).is_allowed);
    let endpoint = Eni { location: Location::Router, ..samples::eni(9, "sg-endpoint") };
    spec.enis.push(endpoint);
    let verdict = can_reach(&spec, WEB, address, https);
    assert!(matches!(verdict.reason, Reason::Ingress { .. }), "{}", verdict.reason);
    let mut group = SecurityGroup::new("sg-endpoint");
    group.ingress.push(Rule::new(Traffic::tcp(443, 443), Peer::Group("sg-web".to_owned())));
    spec.security_groups.insert(group.id.clone(), group);
    assert!(can_reach(&spec, WEB, address, https).is_allowed);
    assert!(!can_reach(&spec, CLIENT, address, https).is_allowed, "another group");
    assert!(!can_reach(&spec, WEB, ENDPOINTS, https).is_allowed, "other services");
}

#[test]
fn a_gateway_endpoint_takes_neither_gateway_nor_public_address() {
    let mut spec = vpc();
    set_default(&mut spec, Target::Blackhole("igw-gone".to_owned()));
    let table = spec.route_tables.get_mut("rtb-public").unwrap();
    *table =
        std::mem::take(table).with(Ipv4Net::from(S3), Target::GatewayEndpoint("vpce-0".to_owned()));
    let https = Packet::Tcp { port: 443 };
    assert!(can_reach(&spec, WEB, S3, https).is_allowed);
    let other = can_reach(&spec, WEB, ENDPOINTS, https);
    assert_eq!(
        other.reason.to_string(),
        "the route 0.0.0.0/0 → igw-gone (blackhole) of subnet-a leads to nothing"
    );
}

#[test]
fn a_prefix_list_stands_for_its_networks() {
    let mut spec = vpc();
    let web = spec.security_groups.get_mut("sg-web").unwrap();
    web.ingress = vec![Rule::new(Traffic::All, Peer::PrefixList("pl-1".to_owned()))];
    assert!(!can_reach(&spec, CLIENT, WEB, HTTP).is_allowed, "there is no such list");
    spec.prefix_lists.insert("pl-1".to_owned(), vec!["192.168.0.12/31".parse().unwrap()]);
    assert!(can_reach(&spec, CLIENT, WEB, HTTP).is_allowed);
    spec.prefix_lists.insert("pl-1".to_owned(), vec!["192.168.0.14/31".parse().unwrap()]);
    assert!(!can_reach(&spec, CLIENT, WEB, HTTP).is_allowed);
}

/// With the client in a subnet of its own, whose ACL is `acl-1`.
fn apart(acl: NetworkAcl) -> VpcSpec {
    let mut spec = vpc();
    let subnet = Subnet {
        cidr: "192.168.32.0/19".parse().unwrap(),
        route_table: "rtb-public".to_owned(),
        network_acl: "acl-1".to_owned(),
    };
    spec.subnets.insert("subnet-b".to_owned(), subnet);
    spec.network_acls.insert("acl-1".to_owned(), acl);
    spec.enis[2].subnet = "subnet-b".to_owned();
    spec
}

#[test]
fn an_acl_denies_by_its_first_entry_between_subnets_alone() {
    let mut acl = NetworkAcl::open();
    let subnet: Ipv4Net = "192.168.0.0/19".parse().unwrap();
    let deny = AclEntry::new(50, false, subnet, Traffic::tcp(80, 80));
    acl.egress.insert(0, deny);
    let mut spec = apart(acl);
    let verdict = can_reach(&spec, CLIENT, WEB, HTTP);
    assert_eq!(verdict.reason.to_string(), "entry 50 of acl-1 denies it out of subnet-b");
    spec.enis[0].subnet = "subnet-b".to_owned();
    assert!(can_reach(&spec, CLIENT, WEB, HTTP).is_allowed, "it does not leave the subnet");
}

#[test]
fn an_acl_that_lets_no_reply_in_breaks_the_connection_and_not_the_packet() {
    let mut acl = NetworkAcl::open();
    acl.ingress = vec![AclEntry::new(100, true, Ipv4Net::default(), Traffic::tcp(0, 1023))];
    let mut spec = apart(acl);
    let verdict = can_reach(&spec, CLIENT, WEB, HTTP);
    assert!(verdict.arrives && !verdict.is_allowed);
    assert_eq!(
        verdict.reason.to_string(),
        "no entry of acl-1 allows the reply into subnet-b (network ACLs are stateless)"
    );
    let ephemeral = AclEntry::new(110, true, Ipv4Net::default(), Traffic::tcp(1024, 65535));
    spec.network_acls.get_mut("acl-1").unwrap().ingress.push(ephemeral);
    assert!(can_reach(&spec, CLIENT, WEB, HTTP).is_allowed);
}

#[test]
fn a_route_to_an_interface_takes_one_that_checks_no_destination() {
    let mut spec = vpc();
    spec.has_way_out = true;
    let middle = spec.enis[1].id.clone();
    set_default(&mut spec, Target::Interface(middle.clone()));
    let outside = Ipv4Addr::new(198, 51, 100, 1);
    let reason = |spec: &VpcSpec| can_reach(spec, CLIENT, outside, HTTP).reason;
    assert_eq!(reason(&spec), Reason::DestinationCheck { eni: middle.clone() });
    spec.enis[1].source_dest_check = false;
    assert_eq!(reason(&spec), Reason::HandedTo { eni: middle });
    spec.security_groups.get_mut("sg-web").unwrap().ingress.clear();
    assert!(matches!(reason(&spec), Reason::Ingress { .. }), "its groups decide as ever");
}

#[test]
fn the_outside_is_there_with_a_way_out_and_for_who_has_a_route() {
    let mut spec = vpc();
    let outside = Ipv4Addr::new(198, 51, 100, 1);
    let reason = |spec: &VpcSpec, to| can_reach(spec, WEB, to, HTTP).reason;
    let never = [[192, 168, 9, 9], [169, 254, 170, 2]];
    for never in never {
        assert!(matches!(reason(&spec, never.into()), Reason::NoRoute { .. }));
    }
    assert!(reason(&spec, outside).to_string().contains("`up --egress`"));
    spec.has_way_out = true;
    assert!(matches!(reason(&spec, outside), Reason::NoRouteOut { .. }));
    spec.enis[0].public_ip = Some(Ipv4Addr::new(54, 0, 0, 1));
    assert!(can_reach(&spec, WEB, outside, HTTP).is_allowed);
    for never in never {
        assert!(matches!(reason(&spec, never.into()), Reason::NoRoute { .. }));
    }
}

#[test]
fn groups_do_not_filter_metadata_and_names() {
    let mut spec = vpc();
    spec.security_groups.clear();
    assert!(can_reach(&spec, WEB, IMDS, HTTP).is_allowed);
    let dns = Packet::Udp { port: 53 };
    assert!(can_reach(&spec, WEB, Ipv4Addr::new(192, 168, 0, 2), dns).is_allowed);
    assert!(!can_reach(&spec, WEB, IMDS, Packet::Tcp { port: 22 }).is_allowed);
    let stranger = can_reach(&spec, Ipv4Addr::new(10, 0, 0, 1), IMDS, HTTP);
    assert!(matches!(stranger.reason, Reason::NoSuchSource { .. }));
}
