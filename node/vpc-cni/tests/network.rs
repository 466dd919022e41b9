//! Shows with packets what the node's rules do: a router, a node with two interfaces, and a pod
//! whose address belongs to the second one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    fs::File,
    net::{IpAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use linux_netlink::{Mac, Netlink, Route, Scope, Veth, VethEnd};
use linux_nftables::{Chain, ChainKind, Family, Hook, HookPoint, Nft, Table, priority};
use vpc_cni::{
    datastore::AttachedEni,
    network::{self, NodeNetwork},
};

const SECOND_MAC: &str = "02:00:00:00:00:02";
const PRIMARY: &str = "192.168.200.10";
const SECOND: &str = "192.168.200.30";
const POD: &str = "192.168.200.31";
/// Addresses of the router: outside of the VPC, and in another subnet of it.
const OUTSIDE: &str = "203.0.113.7";
const INSIDE: &str = "192.168.201.5";

struct Netns(String);

impl Netns {
    fn new(tail: &str) -> Option<Self> {
        let name = format!("nst-t-net-{}-{tail}", std::process::id());
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

    fn netlink(&self) -> Netlink {
        Netlink::at(&self.path()).unwrap()
    }

    fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        transport::Place::Netns(self.path()).enter(move || Ok(work())).unwrap()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "delete", &self.0]).status());
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A link from `a` to `b`; gives back the indexes.
fn link(a: &Netns, name: &str, b: &Netns, peer: &str, mac: Option<Mac>) -> (u32, u32) {
    let (here, there) = (a.netlink(), b.netlink());
    let namespace = File::open(b.path()).unwrap();
    let peer_end = VethEnd { mac, netns: Some(namespace.as_fd()), ..VethEnd::named(peer) };
    here.create_veth(&Veth { end: VethEnd::named(name), peer: peer_end }).unwrap();
    let index = |netlink: &Netlink, name| {
        let index = netlink.link_by_name(name).unwrap().unwrap().index;
        netlink.set_up(index).unwrap();
        index
    };
    (index(&here, name), index(&there, peer))
}

struct World {
    router: Netns,
    node: Netns,
    pod: Netns,
}

fn world(tail: &str) -> Option<World> {
    let world = World {
        router: Netns::new(&format!("{tail}r"))?,
        node: Netns::new(&format!("{tail}n"))?,
        pod: Netns::new(&format!("{tail}p"))?,
    };
    for netns in [&world.router, &world.node] {
        netns.inside(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
        netns.netlink().set_up(1).unwrap();
    }
    world.lay_out_router();
    world.lay_out_pod();
    Some(world)
}

impl World {
    /// As the region does it: the subnet's .1 on each link, and nobody sends from another's address.
    fn lay_out_router(&self) {
        let router = self.router.netlink();
        let (r0, eth0) = link(&self.router, "r0", &self.node, "eth0", None);
        let mac = Some(SECOND_MAC.parse().unwrap());
        let (r1, _) = link(&self.router, "r1", &self.node, "eth1", mac);
        for (index, guest) in [(r0, PRIMARY), (r1, SECOND)] {
            router.add_address(index, "192.168.200.1/32".parse().unwrap()).unwrap();
            let route = Route::to_host(ip(guest)).device(index).scope(Scope::Link);
            router.add_route(&route).unwrap();
        }
        let to_pod = Route::to_host(ip(POD)).via(ip(SECOND)).device(r1).onlink();
        router.add_route(&to_pod).unwrap();
        for own in [OUTSIDE, INSIDE] {
            router.add_address(1, ip(own).into()).unwrap();
        }
        let mut table = Table::new(Family::Ip, "source-check");
        let hook = Hook::new(ChainKind::Filter, HookPoint::Prerouting, priority::RAW);
        table.chains.insert("prerouting".into(), Chain::hooked(hook));
        table
            .chain("prerouting")
            .rule(format!("iifname \"r0\" ip saddr != {PRIMARY} drop"))
            .rule(format!("iifname \"r1\" ip saddr != {{ {SECOND}, {POD} }} drop"));
        Nft::at(self.router.path()).replace(&table).unwrap();

        let node = self.node.netlink();
        node.add_address(eth0, format!("{PRIMARY}/24").parse().unwrap()).unwrap();
        node.add_route(&Route::default_via(ip("192.168.200.1"))).unwrap();
        self.node.inside(|| {
            std::fs::write("/proc/sys/net/ipv4/conf/eth0/rp_filter", "2").unwrap();
        });
    }

    /// What the plug-in makes.
    fn lay_out_pod(&self) {
        let (eni, eth0) = link(&self.node, "eni0123", &self.pod, "eth0", None);
        let (node, pod) = (self.node.netlink(), self.pod.netlink());
        node.add_route(&Route::to_host(ip(POD)).device(eni).scope(Scope::Link)).unwrap();
        for rule in network::pod_rules(POD.parse().unwrap(), 2) {
            node.add_rule(&rule).unwrap();
        }
        pod.add_address(eth0, ip(POD).into()).unwrap();
        let gateway = ip("169.254.1.1");
        pod.add_route(&Route::to_host(gateway).device(eth0).scope(Scope::Link)).unwrap();
        pod.add_route(&Route::default_via(gateway).device(eth0)).unwrap();
        let mac = node.link_by_index(eni).unwrap().unwrap().mac.unwrap();
        pod.add_neighbour(eth0, gateway, mac).unwrap();
    }

    /// What ipamd makes.
    fn apply(&self, is_external_snat: bool) {
        let config = NodeNetwork {
            primary_link: "eth0".into(),
            primary_address: PRIMARY.parse().unwrap(),
            vpc_cidrs: vec!["192.168.0.0/16".parse().unwrap()],
            exclude_snat_cidrs: vec![],
            external_service_cidrs: vec![],
            is_external_snat,
            randomize_snat: "prng".into(),
            veth_prefix: "eni".into(),
            is_ipv6: false,
            has_strict_branches: false,
        };
        let second = AttachedEni {
            id: "eni-2".into(),
            mac: SECOND_MAC.into(),
            device_number: 1,
            primary_address: SECOND.parse().unwrap(),
            subnet_id: "subnet-1".into(),
            subnet_cidr: "192.168.200.0/24".parse().unwrap(),
            security_groups: vec![],
            addresses: Default::default(),
            prefixes: Default::default(),
            is_trunk: false,
        };
        let node = self.node.netlink();
        network::ensure_rules(&node, &config).unwrap();
        for _ in 0..2 {
            network::set_up_eni(&node, &second, 9001).unwrap();
        }
        Nft::at(self.node.path()).replace(&network::table(&config)).unwrap();
    }
}

/// Listens at `address` in `server` and connects from `client`; gives back whom the server saw.
fn peer_seen(server: &Netns, listen: &str, client: &Netns, connect: &str) -> Option<IpAddr> {
    let (listen, connect) = (listen.to_owned(), connect.to_owned());
    let listener = server.inside(move || TcpListener::bind(listen).unwrap());
    let stream = client.inside(move || {
        let limit = Duration::from_millis(700);
        TcpStream::connect_timeout(&connect.parse().unwrap(), limit)
    });
    let _stream = stream.ok()?;
    listener.accept().ok().map(|(_, peer)| peer.ip())
}

#[test]
fn a_pod_keeps_its_address_in_the_vpc_and_has_the_nodes_outside_of_it() {
    let Some(world) = world("a") else { return };
    world.apply(false);
    let seen = |at: &str| {
        let at = format!("{at}:80");
        peer_seen(&world.router, &at, &world.pod, &at)
    };
    assert_eq!(seen(INSIDE), Some(ip(POD)));
    assert_eq!(seen(OUTSIDE), Some(ip(PRIMARY)));
    world.apply(true);
    assert_eq!(seen(OUTSIDE), Some(ip(POD)), "somebody else translates");
}

#[test]
fn what_came_to_a_node_port_by_the_primary_interface_goes_back_by_it() {
    let Some(world) = world("b") else { return };
    world.apply(false);
    let mut table = Table::new(Family::Ip, "node-port");
    let hook = Hook::new(ChainKind::Nat, HookPoint::Prerouting, priority::DSTNAT);
    table.chains.insert("prerouting".into(), Chain::hooked(hook));
    table.chain("prerouting").rule(format!("tcp dport 30080 dnat to {POD}:80"));
    Nft::at(world.node.path()).replace(&table).unwrap();
    let port = format!("{PRIMARY}:30080");
    let seen = peer_seen(&world.pod, "0.0.0.0:80", &world.router, &port);
    assert!(seen.is_some(), "the answer came by the wrong interface, and the router dropped it");
    // Without the rules it would not have worked: the test tests something.
    Nft::at(world.node.path()).delete_table(Family::Ip, network::TABLE).unwrap();
    assert_eq!(peer_seen(&world.pod, "0.0.0.0:80", &world.router, &port), None);
}

#[test]
fn the_node_reaches_its_pods_and_its_second_address_answers() {
    let Some(world) = world("c") else { return };
    world.apply(false);
    let pod = format!("{POD}:80");
    assert_eq!(peer_seen(&world.pod, &pod, &world.node, &pod), Some(ip(PRIMARY)));
    let second = format!("{SECOND}:80");
    assert!(peer_seen(&world.node, &second, &world.router, &second).is_some());
}
