//! IPv6 in a VPC: real packets, and the evaluator says the same. Without root nothing runs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::{IpNet, Ipv6Net};
use linux_netlink::{Mac, Netlink, Route};
use region_vpc::{
    AclEntry, Eni, Location, NetworkAcl, Packet, Peer, ROUTER_V6, Router, Rule, SecurityGroup,
    Setup, Subnet, Traffic, VpcSpec, can_reach,
};

/// How long a packet that is dropped is waited for.
const PATIENCE: Duration = Duration::from_millis(300);
/// And one that passes: whoever was not there when its neighbour asked is asked again after a second.
const NEIGHBOURLY: Duration = Duration::from_secs(4);
const BLOCK: &str = "2001:db8:0:100::/56";

struct World {
    router: Router,
    spec: VpcSpec,
    guests: Vec<String>,
}

impl World {
    /// A server and a client in one subnet, and a client in another. `None` without root.
    async fn build(name: &str) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let prefix = format!("nst-t-{}-v6{name}", std::process::id());
        let guests: Vec<String> = (0..3).map(|it| format!("{prefix}-{it}")).collect();
        for guest in &guests {
            linux_netns::create(guest).unwrap();
        }
        let mut web = SecurityGroup::new("sg-web");
        web.ingress.push(Rule::new(Traffic::tcp(80, 80), Peer::Group("sg-client".to_owned())));
        web.egress.push(Rule::everything_to_anywhere_by_ipv6());
        let mut client = SecurityGroup::new("sg-client");
        client.egress.push(Rule::everything_to_anywhere_by_ipv6());
        let subnet = |cidr: &str, name: &str| Subnet {
            cidr: cidr.parse().unwrap(),
            route_table: String::new(),
            network_acl: format!("acl-{name}"),
        };
        let spec = VpcSpec {
            id: "vpc-0".to_owned(),
            netns: format!("{prefix}-r"),
            cidrs: vec!["192.168.0.0/16".parse().unwrap()],
            ipv6_cidrs: vec![BLOCK.parse().unwrap()],
            subnets: BTreeMap::from([
                ("a".to_owned(), subnet("192.168.0.0/19", "a")),
                ("b".to_owned(), subnet("192.168.32.0/19", "b")),
            ]),
            enis: vec![
                eni(0, "a", "2001:db8:0:100::10", "sg-web", &guests[0]),
                eni(1, "a", "2001:db8:0:100::11", "sg-client", &guests[1]),
                eni(2, "b", "2001:db8:0:101::10", "sg-client", &guests[2]),
            ],
            network_acls: ["acl-a", "acl-b"].map(|it| (it.to_owned(), NetworkAcl::open())).into(),
            security_groups: [web, client].map(|it| (it.id.clone(), it)).into(),
            ..VpcSpec::default()
        };
        let world = Self { router: Router::new(&spec.netns), spec, guests };
        world.apply().await;
        Some(world)
    }

    async fn apply(&self) {
        self.router.apply(&self.spec).await.unwrap();
    }

    fn path(&self, guest: usize) -> PathBuf {
        linux_netns::path(&self.guests[guest])
    }

    fn address(&self, eni: usize) -> Ipv6Addr {
        self.spec.enis[eni].ipv6_addresses[0]
    }

    fn group(&mut self, id: &str) -> &mut SecurityGroup {
        self.spec.security_groups.get_mut(id).unwrap()
    }

    /// What the kernel does with a connection, which must be what the evaluator says.
    fn connects(&self, from: usize, to: Ipv6Addr, port: u16) -> bool {
        let verdict = can_reach(&self.spec, self.address(from), to, Packet::Tcp { port });
        let limit = if verdict.is_allowed { NEIGHBOURLY } else { PATIENCE };
        let connected = connects(&self.path(from), to, port, limit);
        assert_eq!(connected, verdict.is_allowed, "[{to}]:{port}: {}", verdict.reason);
        connected
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let netlink = Netlink::at(&linux_netns::path(&self.spec.netns));
        for link in netlink.iter().flat_map(|it| it.links().unwrap_or_default()) {
            if link.name.starts_with("eni") {
                netlink.as_ref().map(|it| it.delete_link(link.index).ok()).ok();
            }
        }
        for name in self.guests.iter().chain([&self.spec.netns]) {
            linux_netns::delete(name).ok();
        }
    }
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|it| it.lines().any(|line| line.starts_with("Uid:\t0\t")))
}

fn eni(number: u8, subnet: &str, address: &str, group: &str, guest: &str) -> Eni {
    let third = if subnet == "a" { 0 } else { 32 };
    Eni {
        id: format!("eni-0000000000000000{number}"),
        mac: Mac([0x0a, 0, 0, 0, 6, number]),
        subnet: subnet.to_owned(),
        primary: [192, 168, third, 10 + number].into(),
        secondary: Default::default(),
        prefixes: Default::default(),
        ipv6_addresses: vec![address.parse().unwrap()],
        ipv6_prefixes: Default::default(),
        security_groups: [group.to_owned()].into(),
        source_dest_check: true,
        public_ip: None,
        tracking: Default::default(),
        location: Location::Netns {
            path: linux_netns::path(guest),
            device: "eth0".to_owned(),
            setup: Setup::Primary,
        },
        is_asleep: false,
    }
}

fn connects(path: &Path, to: Ipv6Addr, port: u16, limit: Duration) -> bool {
    let target = SocketAddr::from((to, port));
    linux_netns::enter(path, move || TcpStream::connect_timeout(&target, limit).is_ok()).unwrap()
}

/// A server that accepts for as long as it is held.
fn listen(path: &Path, port: u16) -> TcpListener {
    linux_netns::enter(path, move || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap())
        .unwrap()
}

#[tokio::test]
async fn groups_decide_about_ipv6_as_about_ipv4() {
    let Some(mut world) = World::build("sg").await else { return };
    let _web = [listen(&world.path(0), 80), listen(&world.path(0), 81)];
    let _client = listen(&world.path(1), 80);
    let web = world.address(0);
    assert!(world.connects(1, web, 80), "the same subnet");
    assert!(world.connects(2, web, 80), "another one");
    assert!(!world.connects(1, web, 81), "a port without a rule");
    assert!(!world.connects(0, world.address(1), 80), "the client's group lets nobody in");

    let from: IpNet = "2001:db8:0:101::/64".parse().unwrap();
    world.group("sg-web").ingress.push(Rule::new(Traffic::tcp(81, 81), Peer::Cidr(from)));
    world.apply().await;
    assert!(world.connects(2, web, 81));
    assert!(!world.connects(1, web, 81), "not from the other subnet");

    let ipv4 = Rule::everything_to_anywhere();
    world.group("sg-client").egress = vec![ipv4];
    world.apply().await;
    assert!(!world.connects(2, web, 81), "0.0.0.0/0 is no rule for IPv6");
}

#[tokio::test]
async fn an_address_is_no_hosts_but_its_interfaces() {
    let Some(mut world) = World::build("src").await else { return };
    let anything = Rule::new(Traffic::All, Peer::Cidr(Ipv6Net::default().into()));
    world.group("sg-web").ingress.push(anything);
    world.apply().await;
    let server = linux_netns::enter(&world.path(0), || {
        UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 53)).unwrap()
    })
    .unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let web = world.address(0);
    let send = |world: &World, from: Ipv6Addr| {
        let guest = Netlink::at(&world.path(1)).unwrap();
        let eth0 = guest.link_by_name("eth0").unwrap().unwrap();
        guest.add_address(eth0.index, Ipv6Net::from(from).into()).unwrap();
        linux_netns::enter(&world.path(1), move || {
            UdpSocket::bind((from, 0)).unwrap().send_to(b"?", (web, 53)).unwrap();
        })
        .unwrap();
        let mut seen = [0; 1];
        server.recv_from(&mut seen).ok().map(|(_, from)| from.ip())
    };
    let own = world.address(1);
    assert_eq!(send(&world, own), Some(IpAddr::V6(own)));
    // Of its neighbour, of its subnet, of a prefix that it does not have yet.
    let of_prefix: Ipv6Addr = "2001:db8:0:100:5::7".parse().unwrap();
    for foreign in [world.address(2), "2001:db8:0:100::99".parse().unwrap(), of_prefix] {
        assert_eq!(send(&world, foreign), None, "{foreign}");
    }
    world.spec.enis[1].ipv6_prefixes.insert("2001:db8:0:100:5::/80".parse().unwrap());
    world.apply().await;
    assert_eq!(send(&world, of_prefix), Some(IpAddr::V6(of_prefix)), "now it has it");
    world.spec.enis[1].source_dest_check = false;
    world.apply().await;
    let foreign = "2001:db8:0:100::98".parse().unwrap();
    assert_eq!(send(&world, foreign), Some(IpAddr::V6(foreign)), "nobody checks");
}

#[tokio::test]
async fn a_prefix_is_routed_to_its_interface_and_answers_come_from_there() {
    let Some(mut world) = World::build("pfx").await else { return };
    let pod: Ipv6Addr = "2001:db8:0:100:5::7".parse().unwrap();
    let guest = Netlink::at(&world.path(0)).unwrap();
    let lo = guest.link_by_name("lo").unwrap().unwrap();
    guest.add_address(lo.index, Ipv6Net::from(pod).into()).unwrap();
    let _pod = listen(&world.path(0), 80);
    assert!(!world.connects(2, pod, 80), "nobody owns it");
    let prefix: Ipv6Net = "2001:db8:0:100:5::/80".parse().unwrap();
    world.spec.enis[0].ipv6_prefixes.insert(prefix);
    world.apply().await;
    assert!(world.connects(2, pod, 80));
    let router = Netlink::at(&linux_netns::path(&world.spec.netns)).unwrap();
    let has_route = || {
        let is_it = |it: &Route| it.destination == IpNet::V6(prefix);
        router.routes().unwrap().iter().any(is_it)
    };
    assert!(has_route());
    world.spec.enis[0].ipv6_prefixes.clear();
    world.apply().await;
    assert!(!has_route() && !world.connects(2, pod, 80), "it was given back");
}

#[tokio::test]
async fn acl_entries_for_ipv6_are_stateless_and_between_subnets() {
    let Some(mut world) = World::build("acl").await else { return };
    let _web = [listen(&world.path(0), 80), listen(&world.path(0), 81)];
    let all = Rule::new(Traffic::All, Peer::Cidr(Ipv6Net::default().into()));
    world.group("sg-web").ingress.push(all);
    let web = world.address(0);
    let any = Ipv6Net::default();
    world.spec.network_acls.get_mut("acl-a").unwrap().ingress =
        vec![AclEntry::new(10, true, any, Traffic::tcp(80, 80))];
    world.apply().await;
    assert!(world.connects(2, web, 80));
    assert!(!world.connects(2, web, 81), "the last entry denies");
    assert!(world.connects(1, web, 81), "the same subnet");
    let ipv4_only = vec![AclEntry::new(100, true, ipnet::Ipv4Net::default(), Traffic::All)];
    world.spec.network_acls.get_mut("acl-a").unwrap().egress = ipv4_only;
    world.apply().await;
    assert!(!world.connects(2, web, 80), "the reply is not let out");
}

#[tokio::test]
async fn a_vpc_without_a_block_has_no_ipv6_and_one_that_gets_a_block_has_it_at_once() {
    let Some(mut world) = World::build("off").await else { return };
    let _web = listen(&world.path(0), 80);
    let (block, web) = (world.spec.ipv6_cidrs.clone(), world.address(0));
    world.spec.ipv6_cidrs.clear();
    world.apply().await;
    assert!(!connects(&world.path(1), web, 80, PATIENCE));
    world.spec.ipv6_cidrs = block;
    world.apply().await;
    assert!(world.connects(1, web, 80));
    let again = world.router.apply(&world.spec).await.unwrap();
    assert_eq!(again, Default::default(), "a second pass changes nothing");
    let restarted = Router::new(&world.spec.netns).apply(&world.spec).await.unwrap();
    assert_eq!(restarted, Default::default(), "nor does one of a new process");
    assert!(world.connects(1, web, 80));
}

#[tokio::test]
async fn a_guest_has_its_address_and_its_router_without_asking() {
    let Some(world) = World::build("dhcp").await else { return };
    let guest = Netlink::at(&world.path(2)).unwrap();
    let own = Ipv6Net::from(world.address(2));
    assert!(guest.addresses().unwrap().iter().any(|it| it.net == IpNet::V6(own)));
    let everywhere = IpNet::V6(Ipv6Net::default());
    let routes = guest.routes().unwrap();
    let default = routes.iter().find(|it| it.destination == everywhere && it.table == 254);
    assert_eq!(default.and_then(|it| it.gateway), Some(IpAddr::V6(ROUTER_V6)));
}

/// What hardening guides say to do, done in one instance.
#[tokio::test]
async fn an_instance_that_refuses_ipv6_holds_up_nobody_else() {
    let Some(mut world) = World::build("no6").await else { return };
    let _web = listen(&world.path(0), 80);
    let set = |world: &World, value: &'static str| {
        let write =
            move || std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", value).unwrap();
        linux_netns::enter(&world.path(0), write).unwrap();
    };
    set(&world, "1");
    let mut second = eni(7, "b", "2001:db8:0:101::70", "sg-client", &world.guests[2]);
    if let Location::Netns { device, setup, .. } = &mut second.location {
        (*device, *setup) = ("eth1".to_owned(), Setup::Bare);
    }
    world.spec.enis.push(second);
    let applied = world.router.apply(&world.spec).await.unwrap();
    assert_eq!(applied.attached, ["eni-00000000000000007"]);
    assert_eq!(applied.unconfigured, [world.spec.enis[0].id.clone()], "it is to be asked again");
    assert!(!connects(&world.path(1), world.address(0), 80, PATIENCE));
    set(&world, "0");
    let applied = world.router.apply(&world.spec).await.unwrap();
    assert!(applied.unconfigured.is_empty());
    assert!(world.connects(1, world.address(0), 80), "it is configured anew");
}
