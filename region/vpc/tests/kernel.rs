//! The kernel agrees with the evaluator: real namespaces, real packets. Without root nothing runs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    time::Duration,
};

use ipnet::Ipv4Net;
use linux_netlink::{Mac, Netlink};
use linux_nftables::{Chain, ChainKind, Family, Hook, HookPoint, Nft, Table, priority};
use region_vpc::{
    AclEntry, ENDPOINTS, Eni, Location, NetworkAcl, Packet, Peer, RouteTable, Router, Rule, S3,
    SecurityGroup, Setup, Subnet, Target, Tracking, Traffic, VpcSpec, can_reach,
};

/// How long a packet that is dropped is waited for.
const PATIENCE: Duration = Duration::from_millis(250);
/// The public address of a NAT gateway.
const NAT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

struct World {
    router: Router,
    spec: VpcSpec,
    guests: Vec<String>,
}

impl World {
    /// Two servers and a client, each in its own namespace. `None` without root.
    async fn build(name: &str) -> Option<Self> {
        if !nix_is_root() {
            return None;
        }
        let prefix = format!("nst-t-{}-{name}", std::process::id());
        let guests: Vec<String> = (0..3).map(|it| format!("{prefix}-{it}")).collect();
        for guest in &guests {
            linux_netns::create(guest).unwrap();
        }
        let mut web = SecurityGroup::new("sg-web");
        web.ingress.push(Rule::new(Traffic::tcp(80, 80), Peer::Group("sg-client".to_owned())));
        web.egress.push(Rule::everything_to_anywhere());
        let mut client = SecurityGroup::new("sg-client");
        client.egress.push(Rule::everything_to_anywhere());
        let subnet = |cidr: &str, name: &str| Subnet {
            cidr: cidr.parse().unwrap(),
            route_table: format!("rtb-{name}"),
            network_acl: format!("acl-{name}"),
        };
        let gateway = || Target::InternetGateway("igw-0".to_owned());
        let public = || RouteTable::default().with(Ipv4Net::default(), gateway());
        let spec = VpcSpec {
            id: "vpc-0".to_owned(),
            netns: format!("{prefix}-r"),
            cidrs: vec!["192.168.0.0/16".parse().unwrap()],
            subnets: BTreeMap::from([
                ("a".to_owned(), subnet("192.168.0.0/19", "a")),
                ("b".to_owned(), subnet("192.168.32.0/19", "b")),
            ]),
            enis: vec![
                eni(0, "a", [192, 168, 0, 10], "sg-web", &guests[0]),
                eni(1, "a", [192, 168, 0, 11], "sg-client", &guests[1]),
                eni(2, "b", [192, 168, 32, 10], "sg-client", &guests[2]),
            ],
            route_tables: ["rtb-a", "rtb-b"].map(|it| (it.to_owned(), public())).into(),
            network_acls: ["acl-a", "acl-b"].map(|it| (it.to_owned(), NetworkAcl::open())).into(),
            security_groups: [web, client].map(|it| (it.id.clone(), it)).into(),
            ..VpcSpec::default()
        };
        let world = Self { router: Router::new(&spec.netns), spec, guests };
        world.router.apply(&world.spec).await.unwrap();
        Some(world)
    }

    fn set_default(&mut self, table: &str, target: Target) {
        let table = self.spec.route_tables.get_mut(table).unwrap();
        *table = RouteTable::default().with(Ipv4Net::default(), target);
    }

    async fn apply(&self) {
        self.router.apply(&self.spec).await.unwrap();
    }

    fn path(&self, guest: usize) -> PathBuf {
        linux_netns::path(&self.guests[guest])
    }

    fn address(&self, eni: usize) -> Ipv4Addr {
        self.spec.enis[eni].primary
    }

    /// What the kernel does with a connection, which must be what the evaluator says.
    fn connects(&self, from: usize, to: Ipv4Addr, port: u16) -> bool {
        let target = SocketAddr::from((to, port));
        let verdict = can_reach(&self.spec, self.address(from), to, Packet::Tcp { port });
        // What is to come through may take its time on a busy machine.
        let limit = if verdict.is_allowed { 20 * PATIENCE } else { PATIENCE };
        let connected = linux_netns::enter(&self.path(from), move || {
            TcpStream::connect_timeout(&target, limit).is_ok()
        });
        let connected = connected.unwrap();
        assert_eq!(connected, verdict.is_allowed, "{to}:{port}: {}", verdict.reason);
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

fn nat_gateway() -> Target {
    Target::NatGateway { id: "nat-0".to_owned(), address: Some(NAT) }
}

fn nix_is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|it| it.lines().any(|line| line.starts_with("Uid:\t0\t")))
}

fn eni(number: u8, subnet: &str, address: [u8; 4], group: &str, guest: &str) -> Eni {
    Eni {
        id: format!("eni-0000000000000000{number}"),
        mac: Mac([0x0a, 0, 0, 0, 0, number]),
        subnet: subnet.to_owned(),
        primary: address.into(),
        secondary: Default::default(),
        prefixes: Default::default(),
        ipv6_addresses: Default::default(),
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

/// A server that accepts for as long as it is held.
fn listen(path: &std::path::Path, port: u16) -> TcpListener {
    linux_netns::enter(path, move || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap())
        .unwrap()
}

#[tokio::test]
async fn groups_decide_in_the_kernel_as_in_the_evaluator() {
    let Some(mut world) = World::build("sg").await else { return };
    let _web = [listen(&world.path(0), 80), listen(&world.path(0), 81)];
    let _client = listen(&world.path(1), 80);
    let web = world.address(0);
    assert!(world.connects(1, web, 80), "same subnet, by proxy ARP");
    assert!(world.connects(2, web, 80), "another subnet");
    assert!(!world.connects(1, web, 81), "a port without a rule");
    assert!(!world.connects(0, world.address(1), 80), "the client's group lets nobody in");

    let open = Rule::new(Traffic::tcp(81, 81), Peer::Cidr("192.168.32.0/19".parse().unwrap()));
    world.spec.security_groups.get_mut("sg-web").unwrap().ingress.push(open);
    world.apply().await;
    assert!(world.connects(2, web, 81));
    assert!(!world.connects(1, web, 81), "not from the other subnet");

    world.spec.security_groups.get_mut("sg-client").unwrap().egress.clear();
    world.apply().await;
    assert!(!world.connects(2, web, 81), "nothing leaves");
}

#[tokio::test]
async fn an_established_connection_survives_the_rule_that_allowed_it() {
    let Some(mut world) = World::build("ct").await else { return };
    let listener = listen(&world.path(0), 80);
    let web = SocketAddr::from((world.address(0), 80));
    let mut client =
        linux_netns::enter(&world.path(1), move || TcpStream::connect(web).unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    world.spec.security_groups.get_mut("sg-web").unwrap().ingress.clear();
    world.apply().await;
    assert!(!world.connects(
        1,
        *match &web {
            SocketAddr::V4(it) => it.ip(),
            SocketAddr::V6(_) => unreachable!(),
        },
        80
    ));
    std::io::Write::write_all(&mut client, b"still").unwrap();
    let mut seen = [0; 5];
    server.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    std::io::Read::read_exact(&mut server, &mut seen).unwrap();
    assert_eq!(&seen, b"still");
}

/// Whether what the server says after a while still comes to the client, whose group lets nobody in.
fn is_remembered(world: &World, silence: Duration) -> bool {
    let listener = listen(&world.path(0), 80);
    let web = SocketAddr::from((world.address(0), 80));
    let mut client =
        linux_netns::enter(&world.path(1), move || TcpStream::connect(web).unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    std::io::Write::write_all(&mut server, b"at once").unwrap();
    client.set_read_timeout(Some(20 * PATIENCE)).unwrap();
    std::io::Read::read_exact(&mut client, &mut [0; 7]).unwrap();
    std::thread::sleep(silence);
    std::io::Write::write_all(&mut server, b"later").unwrap();
    client.set_read_timeout(Some(4 * PATIENCE)).unwrap();
    std::io::Read::read_exact(&mut client, &mut [0; 5]).is_ok()
}

/// Whether an answer comes that is sent after a while, to a client whose group lets nobody in.
fn is_answered(world: &World, silence: Duration) -> bool {
    let bound = |guest: usize, port: u16| {
        linux_netns::enter(&world.path(guest), move || {
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()
        })
        .unwrap()
    };
    let (server, client) = (bound(0, 53), bound(1, 0));
    server.set_read_timeout(Some(20 * PATIENCE)).unwrap();
    client.send_to(b"?", (world.address(0), 53)).unwrap();
    let (_, peer) = server.recv_from(&mut [0; 8]).unwrap();
    std::thread::sleep(silence);
    server.send_to(b"!", peer).unwrap();
    client.set_read_timeout(Some(4 * PATIENCE)).unwrap();
    client.recv_from(&mut [0; 8]).is_ok()
}

#[tokio::test]
async fn a_silent_connection_is_forgotten_after_the_shorter_time_of_its_ends() {
    let Some(mut world) = World::build("idle").await else { return };
    let dns = Rule::new(Traffic::udp(53, 53), Peer::Group("sg-client".to_owned()));
    world.spec.security_groups.get_mut("sg-web").unwrap().ingress.push(dns);
    world.apply().await;
    let (short, long) = (Duration::from_millis(200), Duration::from_secs(5));
    assert!(is_remembered(&world, long) && is_answered(&world, long), "the kernel's times");
    world.spec.enis[0].tracking = Tracking { tcp_established: Some(60), ..Tracking::default() };
    world.spec.enis[1].tracking =
        Tracking { tcp_established: Some(3), udp: Some(3), udp_stream: None };
    world.apply().await;
    assert!(is_remembered(&world, short) && is_answered(&world, short));
    assert!(!is_remembered(&world, long));
    assert!(!is_answered(&world, long));
    world.spec.enis[1].tracking = Tracking::default();
    world.apply().await;
    assert!(is_remembered(&world, long) && is_answered(&world, long));
}

#[tokio::test]
async fn of_an_instance_that_hibernates_nothing_is_heard_until_it_goes_on() {
    let Some(mut world) = World::build("asleep").await else { return };
    let listener = listen(&world.path(0), 80);
    let web = world.address(0);
    let to = SocketAddr::from((web, 80));
    let mut client =
        linux_netns::enter(&world.path(1), move || TcpStream::connect(to).unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    world.spec.enis[0].is_asleep = true;
    world.apply().await;
    assert!(!world.connects(1, web, 80), "its kernel would answer");
    std::io::Write::write_all(&mut client, b"later").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut seen = [0; 5];
    assert!(
        std::io::Read::read_exact(&mut server, &mut seen).is_err(),
        "nor what was begun before"
    );
    world.spec.enis[0].is_asleep = false;
    world.apply().await;
    assert!(world.connects(1, web, 80));
    server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    std::io::Read::read_exact(&mut server, &mut seen).unwrap();
    assert_eq!(&seen, b"later", "a connection outlasts it, as far as its ends wait");
}

/// Sends from `source`, which is put on the guest's link, and says whether it arrives.
fn arrives(world: &World, from: usize, source: Ipv4Addr, to: usize) -> bool {
    let receiver = linux_netns::enter(&world.path(to), || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 9)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    })
    .unwrap();
    let netlink = Netlink::at(&world.path(from)).unwrap();
    let link = netlink.link_by_name("eth0").unwrap().unwrap();
    netlink.add_address(link.index, Ipv4Net::from(source).into()).unwrap();
    let target = SocketAddr::from((world.address(to), 9));
    linux_netns::enter(&world.path(from), move || {
        UdpSocket::bind((source, 0)).unwrap().send_to(b"x", target).unwrap()
    })
    .unwrap();
    receiver.recv_from(&mut [0; 8]).is_ok_and(|(_, peer)| peer.ip() == IpAddr::V4(source))
}

#[tokio::test]
async fn a_forged_source_is_dropped_until_the_check_is_off_or_the_address_is_owned() {
    let Some(mut world) = World::build("src").await else { return };
    let anything = Rule::new(Traffic::All, Peer::Cidr(Ipv4Net::default().into()));
    world.spec.security_groups.get_mut("sg-web").unwrap().ingress.push(anything);
    world.apply().await;
    let forged = Ipv4Addr::new(192, 168, 0, 77);
    assert!(arrives(&world, 1, world.address(1), 0));
    assert!(!arrives(&world, 1, forged, 0));
    world.spec.enis[1].prefixes.insert("192.168.0.64/28".parse().unwrap());
    world.apply().await;
    assert!(arrives(&world, 1, forged, 0), "it owns the prefix now");
    world.spec.enis[1].prefixes.clear();
    world.spec.enis[1].source_dest_check = false;
    world.apply().await;
    assert!(arrives(&world, 1, forged, 0), "nobody checks");
}

#[tokio::test]
async fn endpoints_are_reached_from_where_a_route_leads_to_them() {
    let Some(mut world) = World::build("aws").await else { return };
    let _endpoint = listen(&linux_netns::path(&world.spec.netns), 443);
    assert!(!world.connects(0, ENDPOINTS, 443));
    world.spec.enis[0].public_ip = Some(Ipv4Addr::new(54, 0, 0, 1));
    world.set_default("rtb-b", nat_gateway());
    world.apply().await;
    assert!(world.connects(0, ENDPOINTS, 443), "a public address behind an internet gateway");
    assert!(!world.connects(1, ENDPOINTS, 443), "no public address");
    assert!(world.connects(2, ENDPOINTS, 443), "a NAT gateway");
    assert!(!world.connects(1, S3, 443), "no route either");
    let table = world.spec.route_tables.get_mut("rtb-a").unwrap();
    *table =
        std::mem::take(table).with(Ipv4Net::from(S3), Target::GatewayEndpoint("vpce-0".to_owned()));
    world.apply().await;
    assert!(world.connects(1, S3, 443), "a gateway endpoint takes no public address");
    assert!(!world.connects(1, ENDPOINTS, 443), "the other services still do");
    world.set_default("rtb-b", Target::Blackhole("nat-0".to_owned()));
    world.apply().await;
    assert!(!world.connects(2, ENDPOINTS, 443), "the gateway is gone");
}

#[tokio::test]
async fn what_leads_nowhere_is_dropped_without_a_word() {
    let Some(mut world) = World::build("silent").await else { return };
    world.spec.enis[0].public_ip = Some(Ipv4Addr::new(54, 0, 0, 1));
    world.set_default("rtb-b", Target::Blackhole("nat-0".to_owned()));
    world.apply().await;
    let outside = Ipv4Addr::new(203, 0, 113, 200);
    // By a gateway that leads to nobody; by none; by one that is gone; to an address that is nobody's.
    let unused = Ipv4Addr::new(192, 168, 32, 77);
    for (guest, to) in [(0, outside), (1, outside), (2, outside), (0, unused)] {
        let failure = linux_netns::enter(&world.path(guest), move || {
            TcpStream::connect_timeout(&(to, 80).into(), PATIENCE).unwrap_err().kind()
        });
        assert_eq!(failure.unwrap(), std::io::ErrorKind::TimedOut, "{guest} → {to}");
    }
}

#[tokio::test]
async fn an_interface_endpoint_answers_on_its_address_to_whom_its_groups_let_in() {
    let Some(mut world) = World::build("vpce").await else { return };
    let address = Ipv4Addr::new(192, 168, 32, 50);
    assert!(!world.connects(1, address, 443), "there is none");
    let mut endpoint = eni(9, "b", address.octets(), "sg-endpoint", "nowhere");
    endpoint.location = Location::Router;
    let mut group = SecurityGroup::new("sg-endpoint");
    group.ingress.push(Rule::new(Traffic::tcp(443, 443), Peer::Group("sg-client".to_owned())));
    world.spec.security_groups.insert(group.id.clone(), group);
    world.spec.enis.push(endpoint);
    world.apply().await;
    let _endpoint = listen(&linux_netns::path(&world.spec.netns), 443);
    assert!(world.connects(1, address, 443), "takes no route");
    assert!(world.connects(2, address, 443), "its own subnet");
    assert!(!world.connects(0, address, 443), "another group");
    // Between subnets the ACLs decide too, within one they do not.
    world.spec.network_acls.get_mut("acl-b").unwrap().egress.clear();
    world.apply().await;
    assert!(!world.connects(1, address, 443), "no reply leaves the endpoint's subnet");
    assert!(world.connects(2, address, 443));
}

#[tokio::test]
async fn network_acls_are_stateless_numbered_and_between_subnets() {
    let Some(mut world) = World::build("acl").await else { return };
    let _web = [listen(&world.path(0), 80), listen(&world.path(0), 81)];
    let any = Ipv4Net::default();
    let web = world.address(0);
    let all = Rule::new(Traffic::All, Peer::Cidr(any.into()));
    world.spec.security_groups.get_mut("sg-web").unwrap().ingress.push(all);
    let acl = |world: &mut World, entries: Vec<AclEntry>| {
        world.spec.network_acls.get_mut("acl-a").unwrap().ingress = entries;
    };
    acl(&mut world, vec![AclEntry::new(10, true, any, Traffic::tcp(80, 80))]);
    world.apply().await;
    assert!(world.connects(2, web, 80));
    assert!(!world.connects(2, web, 81), "the last entry denies");
    assert!(world.connects(1, web, 81), "the same subnet");
    assert!(!world.connects(1, world.address(2), 80), "the reply is not let in");

    let from: Ipv4Net = "192.168.32.0/24".parse().unwrap();
    let deny = AclEntry::new(5, false, from, Traffic::All);
    acl(&mut world, vec![deny, AclEntry::new(10, true, any, Traffic::All)]);
    world.apply().await;
    assert!(!world.connects(2, web, 80), "a lower number denies");

    // Names and metadata pass any ACL, AWS's endpoints do not.
    let _services = [listen(&linux_netns::path(&world.spec.netns), 443)];
    world.set_default("rtb-b", nat_gateway());
    world.spec.network_acls.insert("acl-b".to_owned(), NetworkAcl::default());
    world.apply().await;
    assert!(!world.connects(2, ENDPOINTS, 443));
    world.spec.network_acls.insert("acl-b".to_owned(), NetworkAcl::open());
    world.apply().await;
    assert!(world.connects(2, ENDPOINTS, 443));
}

/// Has a guest forward, or not.
fn forward(path: &std::path::Path, value: &'static str) {
    linux_netns::enter(path, move || std::fs::write("/proc/sys/net/ipv4/ip_forward", value))
        .unwrap()
        .unwrap();
}

/// Has a guest hide those whom it forwards for.
fn hide(path: &std::path::Path) {
    let hook = Hook::new(ChainKind::Nat, HookPoint::Postrouting, priority::SRCNAT);
    let mut chain = Chain::hooked(hook);
    chain.rule("masquerade");
    let mut table = Table::new(Family::Ip, "nat-instance");
    table.chains.insert("hide".to_owned(), chain);
    Nft::at(path).replace(&table).unwrap();
}

#[tokio::test]
async fn a_nat_instance_leads_out_those_whose_route_goes_to_it() {
    let Some(mut world) = World::build("nat").await else { return };
    let _endpoint = listen(&linux_netns::path(&world.spec.netns), 443);
    let nat = world.spec.enis[0].id.clone();
    world.spec.enis[0].public_ip = Some(Ipv4Addr::new(54, 0, 0, 1));
    let everything = Rule::new(Traffic::All, Peer::Cidr(Ipv4Net::default().into()));
    world.spec.security_groups.get_mut("sg-web").unwrap().ingress.push(everything);
    world.set_default("rtb-b", Target::Interface(nat.clone()));
    forward(&world.path(0), "1");
    hide(&world.path(0));
    world.apply().await;
    assert!(!world.connects(2, ENDPOINTS, 443), "it checks the destination");
    world.spec.enis[0].source_dest_check = false;
    world.apply().await;
    assert!(world.connects(2, ENDPOINTS, 443), "it leads out");
    world.spec.enis[0].location = Location::Unattached;
    world.apply().await;
    assert!(!world.connects(2, ENDPOINTS, 443), "its instance is gone");
    world.set_default("rtb-b", nat_gateway());
    world.apply().await;
    assert!(world.connects(2, ENDPOINTS, 443));
}

#[tokio::test]
async fn a_narrower_route_puts_an_interface_between_two_subnets() {
    let Some(mut world) = World::build("mid").await else { return };
    let _server = listen(&world.path(1), 80);
    let everything = Rule::new(Traffic::All, Peer::Cidr(Ipv4Net::default().into()));
    for group in world.spec.security_groups.values_mut() {
        group.ingress.push(everything.clone());
    }
    let target = world.address(1);
    world.apply().await;
    assert!(world.connects(2, target, 80));
    let middle = world.spec.enis[0].id.clone();
    world.spec.enis[0].source_dest_check = false;
    let far: Ipv4Net = "192.168.0.0/19".parse().unwrap();
    let table = world.spec.route_tables.get_mut("rtb-b").unwrap();
    *table = std::mem::take(table).with(far, Target::Interface(middle));
    world.apply().await;
    let tries = |world: &World| {
        let target = SocketAddr::from((target, 80));
        linux_netns::enter(&world.path(2), move || {
            TcpStream::connect_timeout(&target, PATIENCE).is_ok()
        })
        .unwrap()
    };
    forward(&world.path(0), "0");
    assert!(!tries(&world), "what is between does not forward");
    forward(&world.path(0), "1");
    assert!(tries(&world), "now it does");
}

#[tokio::test]
async fn a_clusters_public_endpoint_lets_in_whom_its_list_names_and_a_route_leads_to_it() {
    let Some(mut world) = World::build("pub").await else { return };
    let _endpoint = listen(&linux_netns::path(&world.spec.netns), 443);
    let cluster = Ipv4Addr::new(192, 0, 2, 1);
    world.spec.enis[0].public_ip = Some(Ipv4Addr::new(203, 0, 113, 7));
    world.set_default("rtb-b", nat_gateway());
    world.apply().await;
    assert!(!world.connects(0, cluster, 443), "there is none");
    world.spec.public_endpoints.insert(cluster, vec![Ipv4Net::default()]);
    world.apply().await;
    assert!(world.connects(0, cluster, 443), "a public address behind an internet gateway");
    assert!(!world.connects(1, cluster, 443), "no public address");
    assert!(world.connects(2, cluster, 443), "a NAT gateway");
    world.spec.public_endpoints.insert(cluster, vec![NAT.into()]);
    world.apply().await;
    assert!(!world.connects(0, cluster, 443), "its address is not in the list");
    assert!(world.connects(2, cluster, 443), "the gateway's is");
    world.spec.security_groups.get_mut("sg-client").unwrap().egress.clear();
    world.apply().await;
    assert!(!world.connects(2, cluster, 443), "nothing leaves");
    world.spec.public_endpoints.clear();
    world.apply().await;
    let netlink = Netlink::at(&linux_netns::path(&world.spec.netns)).unwrap();
    let left = netlink.addresses().unwrap();
    let is_it = |it: &linux_netlink::Address| it.net.addr() == IpAddr::V4(cluster);
    assert!(!left.iter().any(is_it), "{left:?}");
}

#[tokio::test]
async fn interfaces_come_move_and_go() {
    let Some(mut world) = World::build("eni").await else { return };
    let mut second = eni(7, "a", [192, 168, 0, 70], "sg-web", &world.guests[0]);
    let bare =
        |path: PathBuf| Location::Netns { path, device: "eth1".to_owned(), setup: Setup::Bare };
    second.location = bare(world.path(0));
    world.spec.enis.push(second);
    let applied = world.router.apply(&world.spec).await.unwrap();
    assert_eq!(applied.attached, ["eni-00000000000000007"]);
    let device = |path: &PathBuf| Netlink::at(path).unwrap().link_by_name("eth1").unwrap();
    let paths = [world.path(0), world.path(1)];
    let link = device(&paths[0]).unwrap();
    assert!(!link.is_up, "the VPC CNI brings it up");
    assert_eq!(link.mac, Some(Mac([0x0a, 0, 0, 0, 0, 7])));

    let again = world.router.apply(&world.spec).await.unwrap();
    assert_eq!(again, Default::default(), "a second pass changes nothing");
    let restarted = Router::new(&world.spec.netns).apply(&world.spec).await.unwrap();
    assert_eq!(restarted, Default::default(), "nor does one of a new process");

    world.spec.enis[3].location = bare(world.path(1));
    world.router.apply(&world.spec).await.unwrap();
    assert!(
        device(&paths[0]).is_none() && device(&paths[1]).is_some(),
        "attached to another instance"
    );

    world.spec.enis[3].location = Location::Unattached;
    let applied = world.router.apply(&world.spec).await.unwrap();
    assert_eq!(applied.detached.len(), 1);
    assert!(device(&paths[1]).is_none());

    world.spec.enis[3].location = bare("/run/netns/nst-t-not-yet".into());
    let applied = world.router.apply(&world.spec).await.unwrap();
    assert_eq!(applied.waiting, ["eni-00000000000000007"]);
}

#[tokio::test]
async fn two_interfaces_of_one_guest_answer_from_their_own_addresses() {
    let Some(mut world) = World::build("cp").await else { return };
    // As the control plane has them: each with a table of its own.
    let path = world.path(0);
    let inside = |device: &str, setup| Location::Netns {
        path: path.clone(),
        device: device.to_owned(),
        setup,
    };
    world.spec.enis[0].location = Location::Unattached;
    world.apply().await;
    world.spec.enis[0].location = inside("eth0", Setup::First { table: 100 });
    let mut second = eni(7, "b", [192, 168, 32, 70], "sg-web", &world.guests[0]);
    second.location = inside("eth1", Setup::Additional { table: 101 });
    world.spec.enis.push(second);
    world.apply().await;
    let _servers = listen(&world.path(0), 80);
    for (client, subnet) in [(1, "a"), (2, "b")] {
        assert!(world.connects(client, Ipv4Addr::new(192, 168, 0, 10), 80), "{subnet}, first");
        assert!(world.connects(client, Ipv4Addr::new(192, 168, 32, 70), 80), "{subnet}, second");
    }
}
