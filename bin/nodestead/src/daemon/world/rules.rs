//! Security groups and network ACLs as the router reads them: pure.

use std::collections::BTreeMap;

use ipnet::IpNet;
use region_ec2::{
    State,
    records::{AclPeer, Direction, NetworkAcl, NetworkAclEntry, Peer, Rule, SecurityGroup},
};
use region_vpc::{AclEntry, Traffic};

pub(super) fn security_group(group: &SecurityGroup) -> region_vpc::SecurityGroup {
    let rules = |direction| group.rules(direction).filter_map(rule).collect();
    region_vpc::SecurityGroup {
        id: group.id.clone(),
        ingress: rules(Direction::Ingress),
        egress: rules(Direction::Egress),
    }
}

/// Rules for IPv6 match nothing in a VPC that has no block of it. EC2 takes no other rule that the router does not know; one of an older region is told.
fn rule(rule: &Rule) -> Option<region_vpc::Rule> {
    let unknown = |why: &str| tracing::warn!(rule = rule.id, why, "a rule has no effect");
    let peer = match &rule.peer {
        Peer::V4(cidr) => region_vpc::Peer::Cidr(IpNet::V4(*cidr)),
        Peer::V6(cidr) => region_vpc::Peer::Cidr(IpNet::V6(*cidr)),
        Peer::Group(id) => region_vpc::Peer::Group(id.clone()),
        Peer::PrefixList(id) => region_vpc::Peer::PrefixList(id.clone()),
    };
    match Traffic::from_ec2(&rule.protocol, Some(rule.from_port), Some(rule.to_port)) {
        Ok(traffic) => Some(region_vpc::Rule::new(traffic, peer)),
        Err(error) => {
            unknown(&error.to_string());
            None
        }
    }
}

/// The networks of the lists that the rules of `groups` name.
pub(super) fn prefix_lists(
    state: &State,
    groups: &BTreeMap<String, region_vpc::SecurityGroup>,
) -> BTreeMap<String, Vec<IpNet>> {
    let rules = groups.values().flat_map(|it| it.ingress.iter().chain(&it.egress));
    let lists = rules.filter_map(|it| match &it.peer {
        region_vpc::Peer::PrefixList(id) => Some(id),
        _ => None,
    });
    let networks = |id: &String| Some((id.clone(), region_ec2::prefix_list_networks(state, id)?));
    lists.filter_map(networks).collect()
}

pub(super) fn network_acl(acl: &NetworkAcl) -> region_vpc::NetworkAcl {
    let mut entries: Vec<&NetworkAclEntry> = acl.entries.iter().collect();
    entries.sort_by_key(|it| it.number);
    let of = |is_egress: bool| {
        let its = entries.iter().filter(|it| it.is_egress == is_egress);
        its.filter_map(|it| acl_entry(it)).collect()
    };
    region_vpc::NetworkAcl { ingress: of(false), egress: of(true) }
}

fn acl_entry(entry: &NetworkAclEntry) -> Option<AclEntry> {
    let cidr = match entry.peer {
        AclPeer::V4(cidr) => IpNet::V4(cidr),
        AclPeer::V6(cidr) => IpNet::V6(cidr),
    };
    let (from, to) = match (entry.ports, entry.icmp) {
        (Some((from, to)), _) => (i64::from(from), i64::from(to)),
        (None, Some((kind, code))) => (kind, code),
        (None, None) => (-1, -1),
    };
    let traffic = Traffic::from_ec2(&entry.protocol, Some(from), Some(to)).ok()?;
    Some(AclEntry::new(entry.number, entry.is_allowed, cidr, traffic))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(peer: Peer) -> Rule {
        Rule {
            id: "sgr-1".to_owned(),
            direction: Direction::Egress,
            protocol: "-1".to_owned(),
            from_port: -1,
            to_port: -1,
            peer,
            description: None,
            tags: BTreeMap::new(),
        }
    }

    #[test]
    fn a_rule_for_a_prefix_list_brings_its_networks() {
        let s3 = rule(&of(Peer::PrefixList("pl-63a5400a".to_owned()))).unwrap();
        let group = region_vpc::SecurityGroup {
            id: "sg-1".to_owned(),
            ingress: Vec::new(),
            egress: vec![s3],
        };
        let groups = BTreeMap::from([("sg-1".to_owned(), group)]);
        let lists = prefix_lists(&State::default(), &groups);
        assert_eq!(lists["pl-63a5400a"], [IpNet::V4(region_vpc::S3.into())]);
        let everything = rule(&of(Peer::V6("::/0".parse().unwrap())));
        assert_eq!(everything, Some(region_vpc::Rule::everything_to_anywhere_by_ipv6()));
    }

    #[test]
    fn entries_of_an_acl_come_in_the_order_of_their_numbers() {
        let entry = |number, protocol: &str, peer| NetworkAclEntry {
            number,
            is_egress: false,
            is_allowed: true,
            protocol: protocol.to_owned(),
            peer,
            ports: (protocol == "6").then_some((80, 81)),
            icmp: (protocol == "1").then_some((8, -1)),
        };
        let v4 = AclPeer::V4(Default::default());
        let acl = NetworkAcl {
            entries: vec![
                entry(200, "6", v4),
                entry(100, "1", v4),
                entry(50, "-1", AclPeer::V6(Default::default())),
            ],
            ..NetworkAcl::default()
        };
        let compiled = network_acl(&acl);
        let shown: Vec<_> = compiled.ingress.iter().map(|it| (it.number, &it.traffic)).collect();
        let echo = Traffic::Icmp { kind: Some(8), code: None };
        let web = Traffic::tcp(80, 81);
        assert_eq!(shown, [(50, &Traffic::All), (100, &echo), (200, &web)]);
        assert!(compiled.egress.is_empty());
    }
}
