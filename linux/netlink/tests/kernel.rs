//! Shows that the kernel does what the encoded requests say, in throw-away namespaces.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{fs::File, os::fd::AsFd, path::PathBuf, process::Command};

use ipnet::IpNet;
use linux_netlink::{Mac, Netlink, Route, Rule, Scope, Veth, VethEnd};

/// A named namespace that goes with the value.
struct Netns(String);

impl Netns {
    /// `None`, with a word on the terminal, where namespaces cannot be made.
    fn new(tail: &str) -> Option<Self> {
        let name = format!("nst-t-nl-{}-{tail}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("not run: cannot make network namespaces here");
            return None;
        }
        Some(Self(name))
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.0)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "delete", &self.0]).status());
    }
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn a_veth_pair_is_made_in_two_namespaces_with_names_and_hardware_addresses() {
    let (Some(a), Some(b)) = (Netns::new("a"), Netns::new("b")) else { return };
    let (left, right) = (Netlink::at(&a.path()).unwrap(), Netlink::at(&b.path()).unwrap());
    let other = File::open(b.path()).unwrap();
    let mac: Mac = "02:00:00:00:00:01".parse().unwrap();
    let veth = Veth {
        end: VethEnd { mtu: Some(9001), ..VethEnd::named("eni0") },
        peer: VethEnd { mac: Some(mac), netns: Some(other.as_fd()), ..VethEnd::named("eth0") },
    };
    left.create_veth(&veth).unwrap();
    assert!(left.create_veth(&veth).unwrap_err().is_already_there());

    let end = left.link_by_name("eni0").unwrap().unwrap();
    let peer = right.link_by_mac(mac).unwrap().unwrap();
    assert_eq!(
        (end.mtu, end.kind.as_deref(), end.peer_index),
        (9001, Some("veth"), Some(peer.index))
    );
    assert_eq!((peer.name.as_str(), peer.is_up), ("eth0", false));
    right.set_up(peer.index).unwrap();
    assert!(right.link_by_index(peer.index).unwrap().unwrap().is_up);

    left.delete_link_by_name("eni0").unwrap();
    left.delete_link_by_name("eni0").unwrap();
    assert_eq!(right.link_by_name("eth0").unwrap(), None);
}

#[test]
fn routes_rules_addresses_and_neighbours_read_back_as_written() {
    let Some(a) = Netns::new("r") else { return };
    let netlink = Netlink::at(&a.path()).unwrap();
    let veth = Veth { end: VethEnd::named("eth0"), peer: VethEnd::named("eth1") };
    netlink.create_veth(&veth).unwrap();
    netlink.set_up(netlink.link_by_name("eth1").unwrap().unwrap().index).unwrap();
    let index = netlink.link_by_name("eth0").unwrap().unwrap().index;
    netlink.set_up(index).unwrap();

    for _ in 0..2 {
        netlink.add_address(index, net("192.168.0.10/19")).unwrap();
    }
    assert!(netlink.addresses().unwrap().iter().any(|it| it.net == net("192.168.0.10/19")));

    let gateway = "192.168.0.1".parse().unwrap();
    let routes = [
        Route::to_host(gateway).device(index).scope(Scope::Link).table(10_000),
        Route::default_via(gateway).device(index).table(10_000).onlink(),
        Route::to(net("10.1.0.0/16")).via(gateway).device(index),
        Route::to(net("fd00::/64")).device(index).metric(7),
    ];
    for route in &routes {
        netlink.add_route(route).unwrap();
        netlink.add_route(route).unwrap();
    }
    let found = netlink.routes().unwrap();
    for route in &routes {
        assert!(found.contains(route), "{route:?} in {found:#?}");
        netlink.delete_route(route).unwrap();
        netlink.delete_route(route).unwrap();
    }
    assert!(!netlink.routes().unwrap().iter().any(|route| routes.contains(route)));

    let rules = [
        Rule::new(512, 254).to(net("192.168.0.20/32")),
        Rule::new(1024, 254).mark(0x80, 0x80),
        Rule::new(1536, 10_000).from(net("192.168.0.20/32")),
        Rule::new(10, 101).input("eth0"),
    ];
    for rule in &rules {
        netlink.add_rule(rule).unwrap();
        netlink.add_rule(rule).unwrap();
    }
    let found = netlink.rules().unwrap();
    for rule in &rules {
        assert_eq!(found.iter().filter(|it| *it == rule).count(), 1, "{rule:?} in {found:#?}");
        netlink.delete_rule(rule).unwrap();
        netlink.delete_rule(rule).unwrap();
    }

    let mac: Mac = "02:00:00:00:00:02".parse().unwrap();
    let at = "169.254.1.1".parse().unwrap();
    netlink.add_neighbour(index, at, mac).unwrap();
    let neighbours = netlink.neighbours().unwrap();
    assert!(neighbours.iter().any(|it| it.address == at && it.mac == Some(mac) && it.is_permanent));
}

#[test]
fn a_namespace_that_does_not_exist_is_named_in_the_error() {
    let error = Netlink::at(&PathBuf::from("/run/netns/nst-t-no-such")).unwrap_err();
    assert!(error.to_string().contains("nst-t-no-such"), "{error}");
}

#[test]
fn a_link_is_met_when_it_comes_and_one_that_does_not_come_is_not_waited_for_for_ever() {
    use std::time::Duration;
    let Some(netns) = Netns::new("await") else { return };
    let wanted: Mac = "02:00:00:00:00:07".parse().unwrap();
    let path = netns.path();
    let waits = |limit: Duration| {
        let path = path.clone();
        std::thread::spawn(move || {
            let file = File::open(&path).unwrap();
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let is_it = |it: &linux_netlink::Link| it.mac == Some(wanted);
            Netlink::await_link_here("vlan.eth.5", is_it, limit).unwrap()
        })
    };
    assert_eq!(waits(Duration::from_millis(50)).join().unwrap(), None);
    let netlink = Netlink::at(&path).unwrap();
    let made = |mac: Mac| {
        let end = VethEnd { mac: Some(mac), ..VethEnd::named("vlan.eth.5") };
        netlink.create_veth(&Veth { end, peer: VethEnd::named("peer") }).unwrap();
    };
    // The one of the branch before is still there.
    made("02:00:00:00:00:06".parse().unwrap());
    let waiting = waits(Duration::from_secs(20));
    netlink.delete_link_by_name("vlan.eth.5").unwrap();
    made(wanted);
    assert_eq!(waiting.join().unwrap().unwrap().mac, Some(wanted));
}
