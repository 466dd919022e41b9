//! A rule that changes in a VPC with 500 interfaces: how long until it is in the kernel, beside how long
//! a look at all of the interfaces takes. Without root nothing runs.
//!
//! Times are printed (`--nocapture`); the budget of 50 ms is for a release build (`make bench`). What
//! must hold in any build on any machine: no change waits for a look.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use linux_netlink::Mac;
use region_vpc::{
    Eni, Location, NetworkAcl, Peer, Router, Rule, SecurityGroup, Setup, Subnet, Traffic, VpcSpec,
};

const ENIS: u32 = 500;
const PER_GUEST: u32 = 10;
const CHANGES: u16 = 9;

struct Guests(Vec<String>);

impl Drop for Guests {
    fn drop(&mut self) {
        for name in &self.0 {
            linux_netns::delete(name).ok();
        }
    }
}

fn eni(number: u32, guest: &str) -> Eni {
    let [_, _, high, low] = number.to_be_bytes();
    Eni {
        id: format!("eni-{number:017x}"),
        mac: Mac([0x0a, 0, 0, 0, high, low]),
        subnet: "subnet-0".to_owned(),
        primary: Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 10)) + number),
        secondary: Default::default(),
        prefixes: Default::default(),
        ipv6_addresses: Default::default(),
        ipv6_prefixes: Default::default(),
        security_groups: [format!("sg-{}", number % 10), "sg-all".to_owned()].into(),
        source_dest_check: true,
        public_ip: None,
        tracking: Default::default(),
        location: Location::Netns {
            path: linux_netns::path(guest),
            device: format!("eth{}", number % PER_GUEST),
            setup: Setup::Bare,
        },
        is_asleep: false,
    }
}

fn spec(netns: &str, guests: &[String]) -> VpcSpec {
    let group = |id: String| {
        let mut group = SecurityGroup::new(&id);
        group.egress.push(Rule::everything_to_anywhere());
        group.ingress.push(Rule::new(Traffic::tcp(80, 80), Peer::Group("sg-all".to_owned())));
        (id, group)
    };
    let subnet = Subnet {
        cidr: "10.0.0.0/20".parse().unwrap(),
        route_table: String::new(),
        network_acl: "acl-0".to_owned(),
    };
    let guest = |number: u32| &guests[usize::try_from(number / PER_GUEST).unwrap()];
    VpcSpec {
        id: "vpc-0".to_owned(),
        netns: netns.to_owned(),
        cidrs: vec!["10.0.0.0/16".parse().unwrap()],
        subnets: BTreeMap::from([("subnet-0".to_owned(), subnet)]),
        network_acls: BTreeMap::from([("acl-0".to_owned(), NetworkAcl::open())]),
        enis: (0..ENIS).map(|it| eni(it, guest(it))).collect(),
        security_groups: (0..10)
            .map(|it| format!("sg-{it}"))
            .chain(["sg-all".to_owned()])
            .map(group)
            .collect(),
        ..VpcSpec::default()
    }
}

fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort();
    samples[samples.len() / 2]
}

#[tokio::test]
async fn a_changed_rule_among_five_hundred_interfaces_does_not_wait_for_a_look_at_them() {
    let is_root = std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|it| it.lines().any(|line| line.starts_with("Uid:\t0\t")));
    if !is_root {
        return;
    }
    let prefix = format!("nst-t-{}-sc", std::process::id());
    let guests = Guests((0..ENIS / PER_GUEST).map(|it| format!("{prefix}{it}")).collect());
    for guest in &guests.0 {
        linux_netns::create(guest).unwrap();
    }
    let mut spec = spec(&format!("{prefix}-r"), &guests.0);
    let router = Router::new(&spec.netns);
    let began = Instant::now();
    router.apply(&spec).await.unwrap();
    println!("{ENIS} interfaces made: {} ms", began.elapsed().as_millis());
    let (mut changes, mut looks) = (Vec::new(), Vec::new());
    for port in 1000..1000 + CHANGES {
        let rule = Rule::new(Traffic::tcp(port, port), Peer::Cidr(Ipv4Net::default().into()));
        spec.security_groups.get_mut("sg-all").unwrap().ingress.push(rule);
        let began = Instant::now();
        let applied = router.apply(&spec).await.unwrap();
        changes.push(began.elapsed());
        assert!(applied.is_partial, "it looked at the interfaces too");
        let began = Instant::now();
        let applied = router.apply(&spec).await.unwrap();
        looks.push(began.elapsed());
        assert!(!applied.is_partial, "the pass after it looks");
    }
    let (change, look) = (median(changes), median(looks));
    println!("a rule: {} ms, a look: {} ms", change.as_millis(), look.as_millis());
    router.remove().await.unwrap();
    assert!(change < look, "{change:?}, where a look takes {look:?}");
}
