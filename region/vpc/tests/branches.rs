//! Branches in the kernel: each a link of its own in the instance, behind which a pod has the branch's
//! address, as the VPC CNI's strict mode sets it up. Without root nothing runs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::Ipv4Net;
use linux_netlink::{Link, Mac, Netlink, Route, Rule as IpRule, Scope, Veth, VethEnd};
use region_vpc::{
    AclEntry, Eni, IMDS, Location, NetworkAcl, Packet, Peer, RouteTable, Router, Rule,
    SecurityGroup, Setup, Subnet, Traffic, VpcSpec, can_reach,
};

const PATIENCE: Duration = Duration::from_millis(250);
const NODE: [u8; 4] = [192, 168, 0, 10];
const OTHER: [u8; 4] = [192, 168, 32, 10];
const POD: [u8; 4] = [192, 168, 0, 50];
const POD_MAC: Mac = Mac([0x0a, 0, 0, 0, 0, 50]);
/// The pod's router, as the VPC CNI calls it.
const POD_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const TABLE: u32 = 101;
const BRANCH: usize = 3;

struct World {
    router: Router,
    spec: VpcSpec,
    /// A node, another one in another subnet, a pod of the first one.
    guests: [String; 3],
}

fn eni(number: u8, subnet: &str, primary: [u8; 4], location: Location) -> Eni {
    Eni {
        id: format!("eni-{number:017}"),
        mac: Mac([0x0a, 0, 0, 0, 0, primary[3] + number]),
        subnet: subnet.to_owned(),
        primary: primary.into(),
        secondary: Default::default(),
        prefixes: Default::default(),
        ipv6_addresses: Default::default(),
        ipv6_prefixes: Default::default(),
        security_groups: ["sg-node".to_owned()].into(),
        source_dest_check: true,
        public_ip: None,
        tracking: Default::default(),
        location,
        is_asleep: false,
    }
}

fn inside(path: PathBuf, device: &str, setup: Setup) -> Location {
    Location::Netns { path, device: device.to_owned(), setup }
}

impl World {
    async fn build(name: &str) -> Option<Self> {
        let is_root = std::fs::read_to_string("/proc/self/status")
            .is_ok_and(|it| it.lines().any(|line| line.starts_with("Uid:\t0\t")));
        if !is_root {
            return None;
        }
        let prefix = format!("nst-t-{}-{name}", std::process::id());
        let guests = ["n", "o", "p"].map(|it| format!("{prefix}-{it}"));
        for guest in &guests {
            linux_netns::create(guest).unwrap();
        }
        let path = |it: usize| linux_netns::path(&guests[it]);
        let mut node = SecurityGroup::new("sg-node");
        node.ingress.push(Rule::new(Traffic::All, Peer::Group("sg-node".to_owned())));
        node.egress.push(Rule::everything_to_anywhere());
        let mut pod = SecurityGroup::new("sg-pod");
        pod.ingress.push(Rule::new(Traffic::tcp(80, 80), Peer::Group("sg-node".to_owned())));
        pod.egress.push(Rule::everything_to_anywhere());
        // Lets its members in and everything out, as a VPC's default group does.
        let mut default = SecurityGroup::new("sg-default");
        default.ingress.push(Rule::new(Traffic::All, Peer::Group("sg-default".to_owned())));
        default.egress.push(Rule::everything_to_anywhere());
        let subnet = |cidr: &str| Subnet {
            cidr: cidr.parse().unwrap(),
            route_table: "rtb".to_owned(),
            network_acl: "acl".to_owned(),
        };
        let branch = Eni {
            mac: POD_MAC,
            security_groups: ["sg-pod".to_owned()].into(),
            ..eni(3, "a", POD, inside(path(0), "vlan.eth.7", Setup::Bare))
        };
        let spec = VpcSpec {
            id: "vpc-0".to_owned(),
            netns: format!("{prefix}-r"),
            cidrs: vec!["192.168.0.0/16".parse().unwrap()],
            subnets: BTreeMap::from([
                ("a".to_owned(), subnet("192.168.0.0/19")),
                ("b".to_owned(), subnet("192.168.32.0/19")),
            ]),
            enis: vec![
                eni(0, "a", NODE, inside(path(0), "eth0", Setup::Primary)),
                eni(1, "b", OTHER, inside(path(1), "eth0", Setup::Primary)),
                // The trunk: an interface as any other.
                eni(2, "a", [192, 168, 0, 11], inside(path(0), "eth1", Setup::Bare)),
                branch,
            ],
            route_tables: BTreeMap::from([("rtb".to_owned(), RouteTable::default())]),
            network_acls: BTreeMap::from([("acl".to_owned(), NetworkAcl::open())]),
            security_groups: [node, pod, default].map(|it| (it.id.clone(), it)).into(),
            ..VpcSpec::default()
        };
        let world = Self { router: Router::new(&spec.netns), spec, guests };
        world.apply().await;
        Some(world)
    }

    async fn apply(&self) {
        while self.router.apply(&self.spec).await.unwrap().is_partial {}
    }

    fn path(&self, guest: usize) -> PathBuf {
        linux_netns::path(&self.guests[guest])
    }

    fn in_node(&self, link: &str) -> Option<Link> {
        Netlink::at(&self.path(0)).unwrap().link_by_name(link).unwrap()
    }

    /// What the kernel does with a connection, which must be what the evaluator says.
    fn connects(&self, from: usize, to: [u8; 4], port: u16) -> bool {
        let source = [NODE, OTHER, POD][from];
        let target = SocketAddr::from((to, port));
        let packet = Packet::Tcp { port };
        let verdict = can_reach(&self.spec, source, to, packet);
        // What is to come through may take its time on a busy machine.
        let limit = if verdict.is_allowed { 20 * PATIENCE } else { PATIENCE };
        let connected = linux_netns::enter(&self.path(from), move || {
            TcpStream::connect_timeout(&target, limit).is_ok()
        });
        let connected = connected.unwrap();
        assert_eq!(connected, verdict.is_allowed, "{to:?}:{port}: {}", verdict.reason);
        connected
    }

    /// Puts the pod behind the branch's link.
    fn set_up_pod(&self) {
        let (node, pod) = (self.path(0), self.path(2));
        let (outer, inner) = (Netlink::at(&node).unwrap(), Netlink::at(&pod).unwrap());
        let namespace = linux_netns::open(&pod).unwrap();
        let netns = Some(std::os::fd::AsFd::as_fd(&namespace));
        let (end, peer) = (VethEnd::named("vlan0123"), VethEnd { netns, ..VethEnd::named("eth0") });
        outer.create_veth(&Veth { end, peer }).unwrap();
        let host = outer.link_by_name("vlan0123").unwrap().unwrap();
        let eth0 = inner.link_by_name("eth0").unwrap().unwrap();
        let vlan = self.in_node("vlan.eth.7").unwrap();
        outer.set_up(host.index).unwrap();
        outer.set_up(vlan.index).unwrap();
        inner.set_up(eth0.index).unwrap();
        let address: Ipv4Addr = POD.into();
        inner.add_address(eth0.index, Ipv4Net::from(address).into()).unwrap();
        let direct = |address: Ipv4Addr| Route {
            scope: Scope::Link,
            ..Route::to(Ipv4Net::from(address).into())
        };
        inner.add_route(&direct(POD_GATEWAY).device(eth0.index)).unwrap();
        inner.add_route(&Route::default_via(POD_GATEWAY.into()).device(eth0.index)).unwrap();
        inner.add_neighbour(eth0.index, POD_GATEWAY.into(), host.mac.unwrap()).unwrap();
        let gateway = Ipv4Addr::new(192, 168, 0, 1);
        outer.add_route(&direct(gateway).device(vlan.index).table(TABLE)).unwrap();
        let default = Route::default_via(gateway.into()).device(vlan.index).table(TABLE);
        outer.add_route(&default.onlink()).unwrap();
        outer.add_route(&direct(address).device(host.index).table(TABLE)).unwrap();
        for link in ["vlan.eth.7", "vlan0123"] {
            outer.add_rule(&IpRule::new(10, TABLE).input(link)).unwrap();
        }
        linux_netns::enter(&node, || {
            for (name, value) in [
                ("ip_forward", "1"),
                ("conf/all/rp_filter", "0"),
                ("conf/eth0/rp_filter", "0"),
                ("conf/vlan.eth.7/rp_filter", "0"),
                ("conf/vlan0123/rp_filter", "0"),
            ] {
                std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value).unwrap();
            }
        })
        .unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for name in self.guests.iter().chain([&self.spec.netns]) {
            linux_netns::delete(name).ok();
        }
    }
}

fn listen(path: &Path, port: u16) -> TcpListener {
    linux_netns::enter(path, move || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap())
        .unwrap()
}

#[tokio::test]
async fn a_branch_is_a_link_that_waits_for_the_cni() {
    let Some(mut world) = World::build("bl").await else { return };
    let link = world.in_node("vlan.eth.7").unwrap();
    assert!(!link.is_up, "the VPC CNI brings it up");
    assert_eq!(link.mac, Some(POD_MAC));
    assert!(world.in_node("eth1").is_some(), "the trunk");
    let again = world.router.apply(&world.spec).await.unwrap();
    assert_eq!(again, Default::default(), "a second pass changes nothing");

    // On another VLAN it is another link, also where two change places.
    let mut second = eni(4, "a", [192, 168, 0, 51], Location::Unattached);
    second.location = inside(world.path(0), "vlan.eth.8", Setup::Bare);
    let second_mac = second.mac;
    world.spec.enis.push(second);
    world.apply().await;
    world.spec.enis[BRANCH].location = inside(world.path(0), "vlan.eth.8", Setup::Bare);
    world.spec.enis[4].location = inside(world.path(0), "vlan.eth.7", Setup::Bare);
    world.apply().await;
    assert_eq!(world.in_node("vlan.eth.8").unwrap().mac, Some(POD_MAC));
    assert_eq!(world.in_node("vlan.eth.7").unwrap().mac, Some(second_mac));

    // What an instance has put in its place holds up no other interface.
    world.spec.enis[4].location = Location::Unattached;
    world.apply().await;
    assert!(world.in_node("vlan.eth.7").is_none(), "it is no longer associated");
    let netlink = Netlink::at(&world.path(0)).unwrap();
    let (end, peer) = (VethEnd::named("vlan.eth.9"), VethEnd::named("strange"));
    netlink.create_veth(&Veth { end, peer }).unwrap();
    world.spec.enis[BRANCH].location = inside(world.path(0), "vlan.eth.9", Setup::Bare);
    world.spec.enis[4].location = inside(world.path(0), "vlan.eth.10", Setup::Bare);
    let applied = world.router.apply(&world.spec).await.unwrap();
    assert_eq!(applied.waiting, [world.spec.enis[BRANCH].id.clone()]);
    assert!(world.in_node("vlan.eth.10").is_some());
    netlink.delete_link_by_name("vlan.eth.9").unwrap();
    world.apply().await;
    assert_eq!(world.in_node("vlan.eth.9").unwrap().mac, Some(POD_MAC));
}

#[tokio::test]
async fn the_groups_of_a_branch_decide_for_its_pod_and_change_while_it_runs() {
    let Some(mut world) = World::build("bg").await else { return };
    world.set_up_pod();
    let _pod = [listen(&world.path(2), 80), listen(&world.path(2), 81)];
    let (_node, _other) = (listen(&world.path(0), 10250), listen(&world.path(1), 443));
    assert!(world.connects(1, POD, 80), "the pod's own group lets the nodes in");
    assert!(!world.connects(1, POD, 81), "and only there, whatever the node's group says");
    assert!(!world.connects(2, OTHER, 443), "the other node's group knows no such pod");
    assert!(!world.connects(2, NODE, 10250), "nor does that of the node it runs on");

    let members = Rule::new(Traffic::tcp(443, 443), Peer::Group("sg-pod".to_owned()));
    let node = world.spec.security_groups.get_mut("sg-node").unwrap();
    node.ingress.push(members);
    assert!(world.router.apply(&world.spec).await.unwrap().is_partial, "rules alone");
    assert!(world.connects(2, OTHER, 443));

    // Another group is a change of the rules alone, too.
    world.spec.enis[BRANCH].security_groups = ["sg-default".to_owned()].into();
    assert!(world.router.apply(&world.spec).await.unwrap().is_partial);
    assert!(!world.connects(1, POD, 80), "a default group lets in its members alone");
    assert!(!world.connects(2, OTHER, 443), "it has left the other group");
    world.spec.enis[1].security_groups.insert("sg-default".to_owned());
    world.apply().await;
    assert!(world.connects(1, POD, 81));
    assert!(world.connects(2, OTHER, 443));

    // Its subnet's network ACL is on the way as well.
    let acl = world.spec.network_acls.get_mut("acl").unwrap();
    acl.ingress.insert(0, AclEntry::new(1, false, Ipv4Net::default(), Traffic::tcp(81, 81)));
    world.apply().await;
    assert!(!world.connects(1, POD, 81));

    world.spec.enis[BRANCH].location = Location::Unattached;
    world.apply().await;
    assert!(!world.connects(1, POD, 80), "disassociated");
}

#[tokio::test]
async fn a_branchs_packets_come_by_its_own_link_alone() {
    let Some(world) = World::build("bs").await else { return };
    world.set_up_pod();
    let receiver = linux_netns::enter(&world.path(1), || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 9)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    })
    .unwrap();
    let mut open = world.spec.clone();
    let anything = Rule::new(Traffic::All, Peer::Cidr(Ipv4Net::default().into()));
    open.security_groups.get_mut("sg-node").unwrap().ingress.push(anything);
    world.router.apply(&open).await.unwrap();
    let sends = |guest: usize, source: [u8; 4]| {
        linux_netns::enter(&world.path(guest), move || {
            let socket = UdpSocket::bind((Ipv4Addr::from(source), 0)).unwrap();
            socket.send_to(b"x", SocketAddr::from((OTHER, 9))).ok();
        })
        .unwrap();
        let seen = receiver.recv_from(&mut [0; 8]);
        seen.is_ok_and(|(_, peer)| peer.ip() == IpAddr::V4(source.into()))
    };
    // On a busy machine one may take longer than what must not come is waited for.
    assert!((0..8).any(|_| sends(2, POD)), "by the branch's link");
    assert!((0..8).any(|_| sends(0, NODE)));
    // The node takes the pod's address for itself, and its own interface for the way out.
    let netlink = Netlink::at(&world.path(0)).unwrap();
    let eth0 = netlink.link_by_name("eth0").unwrap().unwrap();
    netlink.add_address(eth0.index, Ipv4Net::from(Ipv4Addr::from(POD)).into()).unwrap();
    while receiver.recv_from(&mut [0; 8]).is_ok() {}
    assert!(!sends(0, POD), "by the node's own");
}

#[tokio::test]
async fn a_pod_on_a_branch_reaches_imds() {
    let Some(world) = World::build("bi").await else { return };
    world.set_up_pod();
    let _imds = listen(&linux_netns::path(&world.spec.netns), 80);
    assert!(world.connects(2, IMDS.octets(), 80));
}

#[tokio::test]
async fn rules_do_not_wait_for_links_and_links_are_mended_right_after() {
    let Some(mut world) = World::build("bp").await else { return };
    let lose = |world: &World| {
        let netlink = Netlink::at(&world.path(0)).unwrap();
        netlink.delete_link_by_name("vlan.eth.7").unwrap();
    };
    let change = |world: &mut World, port| {
        let rule = Rule::new(Traffic::tcp(port, port), Peer::Cidr(Ipv4Net::default().into()));
        world.spec.security_groups.get_mut("sg-pod").unwrap().ingress.push(rule);
    };
    lose(&world);
    change(&mut world, 1);
    assert!(world.router.apply(&world.spec).await.unwrap().is_partial);
    assert!(world.in_node("vlan.eth.7").is_none(), "not looked at yet");
    let rest = world.router.apply(&world.spec).await.unwrap();
    assert_eq!((rest.is_partial, rest.attached.len()), (false, 1));
    assert!(world.in_node("vlan.eth.7").is_some());

    // A link that changes with the rules is not put off.
    change(&mut world, 2);
    world.spec.enis[2].location = Location::Unattached;
    let applied = world.router.apply(&world.spec).await.unwrap();
    assert_eq!((applied.is_partial, applied.detached.len()), (false, 1));

    // Nor is one that its instance has no place for yet.
    world.spec.enis[2].location = inside("/run/netns/nst-t-not-yet".into(), "eth1", Setup::Bare);
    world.router.apply(&world.spec).await.unwrap();
    change(&mut world, 3);
    let applied = world.router.apply(&world.spec).await.unwrap();
    assert_eq!((applied.is_partial, applied.waiting.len()), (false, 1));
}
