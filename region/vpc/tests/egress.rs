//! The way out, in the kernel: two regions on one machine, with a world behind it. Machine and
//! world are namespaces of the test. Without root nothing runs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    path::PathBuf,
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use linux_netlink::{Mac, Netlink, Route, Veth, VethEnd};
use linux_nftables::{Family, Nft, Table};
use region_vpc::{
    Egress, Eni, Location, NetworkAcl, Packet, RouteTable, Router, Rule, SecurityGroup, Setup,
    Subnet, Target, VpcSpec, can_reach, forwards_ipv6, remove_egress,
};

/// How long a packet that is dropped is waited for.
const PATIENCE: Duration = Duration::from_millis(300);
const WORLD: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const MACHINE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const HTTP: u16 = 80;

/// Namespaces that go with the test.
struct Namespaces {
    prefix: String,
    made: Vec<String>,
}

impl Namespaces {
    fn make(&mut self, name: &str) -> PathBuf {
        let name = format!("{}-{name}", self.prefix);
        linux_netns::create(&name).unwrap();
        self.made.push(name.clone());
        let path = linux_netns::path(&name);
        let netlink = Netlink::at(&path).unwrap();
        let lo = netlink.link_by_name("lo").unwrap().unwrap();
        netlink.set_up(lo.index).unwrap();
        path
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.made {
            linux_netns::delete(name).ok();
        }
    }
}

/// One region: a router, a guest with a route out and one without.
struct Region {
    router: Router,
    spec: VpcSpec,
    guests: [PathBuf; 2],
}

impl Region {
    fn new(namespaces: &mut Namespaces, name: &str, link: &str, machine: PathBuf) -> Self {
        let guests = ["nat", "alone"].map(|it| namespaces.make(&format!("{name}-{it}")));
        let netns = format!("{}-{name}-r", namespaces.prefix);
        namespaces.made.push(netns.clone());
        let mut group = SecurityGroup::new("sg");
        group.egress.push(Rule::everything_to_anywhere());
        let subnet = |cidr: &str, table: &str| Subnet {
            cidr: cidr.parse().unwrap(),
            route_table: table.to_owned(),
            network_acl: "acl-0".to_owned(),
        };
        let address = Some([203, 0, 113, 9].into());
        let gateway = Target::NatGateway { id: "nat-0".to_owned(), address };
        let private = RouteTable::default().with(Ipv4Net::default(), gateway);
        let spec = VpcSpec {
            id: format!("vpc-{name}"),
            netns,
            cidrs: vec!["192.168.0.0/16".parse().unwrap()],
            subnets: BTreeMap::from([
                ("nat".to_owned(), subnet("192.168.0.0/24", "rtb-private")),
                ("alone".to_owned(), subnet("192.168.1.0/24", "rtb-none")),
            ]),
            enis: vec![eni(1, "nat", &guests[0]), eni(2, "alone", &guests[1])],
            route_tables: BTreeMap::from([("rtb-private".to_owned(), private)]),
            network_acls: BTreeMap::from([("acl-0".to_owned(), NetworkAcl::open())]),
            security_groups: BTreeMap::from([(group.id.clone(), group)]),
            has_way_out: true,
            ..VpcSpec::default()
        };
        let egress = Egress { link: link.to_owned(), machine: Some(machine) };
        Self { router: Router::new(&spec.netns).with_egress(egress), spec, guests }
    }

    async fn apply(&self) {
        self.router.apply(&self.spec).await.unwrap();
    }

    /// What the kernel does, which must be what the evaluator says.
    fn reaches(&self, guest: usize, to: Ipv4Addr) -> bool {
        let from = self.spec.enis[guest].primary;
        let verdict = can_reach(&self.spec, from, to, Packet::Tcp { port: HTTP });
        // What is to come through may take its time on a busy machine.
        let limit = if verdict.is_allowed { 20 * PATIENCE } else { PATIENCE };
        let connected = connects_within(&self.guests[guest], to, limit);
        assert_eq!(connected, verdict.is_allowed, "{to}: {}", verdict.reason);
        connected
    }
}

fn eni(number: u8, subnet: &str, guest: &std::path::Path) -> Eni {
    Eni {
        id: format!("eni-0000000000000000{number}"),
        mac: Mac([0x0a, 0, 0, 0, 0, number]),
        subnet: subnet.to_owned(),
        primary: Ipv4Addr::new(192, 168, number - 1, 10),
        secondary: Default::default(),
        prefixes: Default::default(),
        ipv6_addresses: Default::default(),
        ipv6_prefixes: Default::default(),
        security_groups: ["sg".to_owned()].into(),
        source_dest_check: true,
        public_ip: None,
        tracking: Default::default(),
        location: Location::Netns {
            path: guest.to_owned(),
            device: "eth0".to_owned(),
            setup: Setup::Primary,
        },
        is_asleep: false,
    }
}

/// A machine between the world and a neighbour that never could get through it.
struct Machine {
    path: PathBuf,
    world: PathBuf,
    neighbour: PathBuf,
}

impl Machine {
    fn new(namespaces: &mut Namespaces, forwards: &'static str) -> Self {
        let [path, world, neighbour] =
            ["machine", "world", "neighbour"].map(|it| namespaces.make(it));
        cable((&path, "eth0", MACHINE), (&world, "eth0", WORLD));
        cable((&path, "lan", Ipv4Addr::new(10, 9, 0, 1)), (&neighbour, "eth0", NEIGHBOUR));
        let via = |gateway: Ipv4Addr| Route::default_via(gateway.into());
        Netlink::at(&neighbour).unwrap().add_route(&via([10, 9, 0, 1].into())).unwrap();
        // The world knows the neighbour, and knows nothing of a VPC or of our link.
        let lan: Ipv4Net = "10.9.0.0/24".parse().unwrap();
        let back = Route::to(IpNet::V4(lan)).via(MACHINE.into());
        Netlink::at(&world).unwrap().add_route(&back).unwrap();
        let mut own = Table::new(Family::Ip, "own");
        own.chain("kept").rule("counter accept");
        Nft::at(&path).replace(&own).unwrap();
        let machine = Self { path, world, neighbour };
        linux_netns::enter(&machine.path, move || {
            fs::write("/proc/sys/net/ipv4/ip_forward", forwards).unwrap();
        })
        .unwrap();
        machine
    }

    fn forwards(&self) -> bool {
        let read = || fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
        linux_netns::enter(&self.path, read).unwrap().trim() == "1"
    }

    /// All that could be left behind.
    fn trace(&self) -> (Vec<String>, Vec<String>) {
        let netlink = Netlink::at(&self.path).unwrap();
        let links = netlink.links().unwrap().into_iter().map(|it| it.name).collect();
        (links, Nft::at(&self.path).tables(Family::Ip).unwrap())
    }
}

fn cable(one: (&PathBuf, &str, Ipv4Addr), other: (&PathBuf, &str, Ipv4Addr)) {
    let namespace = linux_netns::open(other.0).unwrap();
    let peer = VethEnd { netns: Some(namespace.as_fd()), ..VethEnd::named(other.1) };
    let pair = Veth { end: VethEnd::named(one.1), peer };
    Netlink::at(one.0).unwrap().create_veth(&pair).unwrap();
    for (path, name, address) in [one, other] {
        let netlink = Netlink::at(path).unwrap();
        let link = netlink.link_by_name(name).unwrap().unwrap();
        let net = Ipv4Net::new(address, 24).unwrap();
        netlink.add_address(link.index, IpNet::V4(net)).unwrap();
        netlink.set_up(link.index).unwrap();
    }
}

fn connects(from: &std::path::Path, to: Ipv4Addr) -> bool {
    connects_within(from, to, PATIENCE)
}

fn connects_within(from: &std::path::Path, to: Ipv4Addr, limit: Duration) -> bool {
    let target = SocketAddr::from((to, HTTP));
    linux_netns::enter(from, move || TcpStream::connect_timeout(&target, limit).is_ok()).unwrap()
}

fn listen(path: &std::path::Path) -> TcpListener {
    linux_netns::enter(path, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, HTTP)).unwrap()).unwrap()
}

/// `None` without root.
fn namespaces(name: &str) -> Option<Namespaces> {
    let prefix = format!("nst-t-{}-{name}", std::process::id());
    let is_root = fs::read_to_string("/proc/self/status")
        .is_ok_and(|it| it.lines().any(|line| line.starts_with("Uid:\t0\t")));
    is_root.then(|| Namespaces { prefix, made: Vec::new() })
}

#[tokio::test]
async fn two_regions_get_out_through_one_machine_and_leave_it_as_it_was() {
    let Some(mut namespaces) = namespaces("out2") else { return };
    let machine = Machine::new(&mut namespaces, "0");
    let before = machine.trace();
    let (world, _own) = (listen(&machine.world), listen(&machine.path));
    let one = Region::new(&mut namespaces, "a", "nst-aaaaaa-0", machine.path.clone());
    let other = Region::new(&mut namespaces, "b", "nst-bbbbbb-0", machine.path.clone());
    one.apply().await;
    other.apply().await;

    assert!(one.reaches(0, WORLD), "through the NAT gateway");
    let (_, peer) = world.accept().unwrap();
    assert_eq!(peer.ip(), IpAddr::V4(MACHINE), "the world sees the machine");
    assert!(other.reaches(0, WORLD), "the regions have the same addresses and do not meet");
    assert!(!one.reaches(1, WORLD), "no route");
    assert!(!connects(&one.guests[0], MACHINE), "the machine itself is not the world");
    assert!(!connects(&machine.neighbour, WORLD), "forwarding is on for the regions alone");

    one.router.remove().await.unwrap();
    assert!(machine.forwards() && other.reaches(0, WORLD), "the other region stays up");
    let transfer = machine.trace();
    // As after a kill -9 of the daemon, which then starts again.
    let egress = Egress { link: "nst-bbbbbb-0".to_owned(), machine: Some(machine.path.clone()) };
    let restarted = Router::new(&other.spec.netns).with_egress(egress);
    restarted.apply(&other.spec).await.unwrap();
    assert_eq!(machine.trace(), transfer);
    assert!(other.reaches(0, WORLD));

    // As `down` does it, without a daemon.
    let removed = remove_egress("nst-bbbbbb-", Some(&machine.path)).unwrap();
    assert_eq!(
        removed,
        ["link nst-bbbbbb-0", "nftables table nst-bbbbbb-0", "forwarding, which was off before"]
    );
    assert_eq!(machine.trace(), before);
    assert!(!machine.forwards());
    assert!(remove_egress("nst-", Some(&machine.path)).unwrap().is_empty(), "all is gone");
}

#[tokio::test]
async fn a_machine_that_forwards_goes_on_forwarding() {
    let Some(mut namespaces) = namespaces("fwd") else { return };
    let machine = Machine::new(&mut namespaces, "1");
    let _world = listen(&machine.world);
    let region = Region::new(&mut namespaces, "a", "nst-aaaaaa-0", machine.path.clone());
    region.apply().await;
    assert!(region.reaches(0, WORLD));
    assert!(connects(&machine.neighbour, WORLD), "whom it let through it lets through");
    region.router.remove().await.unwrap();
    assert!(machine.forwards() && connects(&machine.neighbour, WORLD));
}

#[tokio::test]
async fn a_way_out_that_lost_its_link_is_made_again() {
    let Some(mut namespaces) = namespaces("lost") else { return };
    let machine = Machine::new(&mut namespaces, "0");
    let _world = listen(&machine.world);
    let region = Region::new(&mut namespaces, "a", "nst-aaaaaa-0", machine.path.clone());
    region.apply().await;
    remove_egress("nst-aaaaaa-", Some(&machine.path)).unwrap();
    assert!(!connects(&region.guests[0], WORLD));
    region.apply().await;
    assert!(machine.forwards() && region.reaches(0, WORLD));
    region.router.remove().await.unwrap();
}

const WORLD_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);
const MACHINE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 2);

impl Region {
    /// Both guests get IPv6, and the first one an egress-only gateway.
    fn with_ipv6(mut self) -> Self {
        self.spec.ipv6_cidrs = vec!["2001:db8:0:100::/56".parse().unwrap()];
        for (number, eni) in (0..).zip(&mut self.spec.enis) {
            eni.ipv6_addresses = vec![Ipv6Addr::new(0x2001, 0xdb8, 0, 0x100 + number, 0, 0, 0, 10)];
        }
        let gateway = Target::EgressOnlyInternetGateway("eigw-0".to_owned());
        let table = self.spec.route_tables.get_mut("rtb-private").unwrap();
        *table = std::mem::take(table).with(Ipv6Net::default(), gateway);
        let group = self.spec.security_groups.get_mut("sg").unwrap();
        group.egress.push(Rule::everything_to_anywhere_by_ipv6());
        self.spec.has_ipv6_way_out = true;
        self
    }

    fn reaches_ipv6(&self, guest: usize, to: Ipv6Addr) -> bool {
        let connected = connects_ipv6(&self.guests[guest], to);
        let from = self.spec.enis[guest].ipv6_addresses[0];
        let verdict = can_reach(&self.spec, from, to, Packet::Tcp { port: HTTP });
        assert_eq!(connected, verdict.is_allowed, "{to}: {}", verdict.reason);
        connected
    }
}

fn connects_ipv6(from: &std::path::Path, to: Ipv6Addr) -> bool {
    let target = SocketAddr::from((to, HTTP));
    let connect = move || TcpStream::connect_timeout(&target, PATIENCE * 4).is_ok();
    linux_netns::enter(from, connect).unwrap()
}

impl Machine {
    /// As one whose owner has it forward IPv6.
    fn with_ipv6(self) -> Self {
        let switch = || fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        linux_netns::enter(&self.path, switch).unwrap();
        for (path, address) in [(&self.path, MACHINE_V6), (&self.world, WORLD_V6)] {
            let netlink = Netlink::at(path).unwrap();
            let link = netlink.link_by_name("eth0").unwrap().unwrap();
            let net = Ipv6Net::new(address, 64).unwrap();
            netlink.add_address(link.index, IpNet::V6(net)).unwrap();
        }
        self
    }
}

#[tokio::test]
async fn an_egress_only_gateway_leads_out_by_ipv6_where_the_machine_forwards_it() {
    let Some(mut namespaces) = namespaces("out6") else { return };
    let machine = Machine::new(&mut namespaces, "1");
    assert!(!forwards_ipv6(Some(&machine.path)), "a machine does not by itself");
    let machine = machine.with_ipv6();
    assert!(forwards_ipv6(Some(&machine.path)));
    let before = (machine.trace(), Nft::at(&machine.path).tables(Family::Ip6).unwrap());
    let listen = |path: &PathBuf| {
        let bind = || TcpListener::bind((Ipv6Addr::UNSPECIFIED, HTTP)).unwrap();
        linux_netns::enter(path, bind).unwrap()
    };
    let (world, _own) = (listen(&machine.world), listen(&machine.path));
    let region = Region::new(&mut namespaces, "a", "nst-aaaaaa-0", machine.path.clone());
    let region = region.with_ipv6();
    region.apply().await;
    assert!(region.reaches_ipv6(0, WORLD_V6), "through the egress-only gateway");
    let (_, peer) = world.accept().unwrap();
    assert_eq!(peer.ip(), IpAddr::V6(MACHINE_V6), "the world sees the machine");
    assert!(!region.reaches_ipv6(1, WORLD_V6), "no route");
    assert!(!connects_ipv6(&region.guests[0], MACHINE_V6), "the machine itself is not the world");
    let unused: Ipv6Addr = "2001:db8:0:1ff::1".parse().unwrap();
    let silence = linux_netns::enter(&region.guests[0], move || {
        TcpStream::connect_timeout(&(unused, HTTP).into(), PATIENCE).unwrap_err().kind()
    });
    assert_eq!(silence.unwrap(), std::io::ErrorKind::TimedOut);
    assert!(!region.reaches_ipv6(0, unused), "an address of the VPC's block is not outside");
    let again = region.router.apply(&region.spec).await.unwrap();
    assert_eq!(again, Default::default(), "a second pass changes nothing");

    // The machine's rules were flushed while no daemon ran.
    Nft::at(&machine.path).delete_table(Family::Ip6, "nst-aaaaaa-0").unwrap();
    let egress = Egress { link: "nst-aaaaaa-0".to_owned(), machine: Some(machine.path.clone()) };
    let restarted = Router::new(&region.spec.netns).with_egress(egress);
    restarted.apply(&region.spec).await.unwrap();
    assert!(region.reaches_ipv6(0, WORLD_V6), "hidden as before");
    assert!(!connects_ipv6(&region.guests[0], MACHINE_V6), "and kept out as before");

    let removed = remove_egress("nst-aaaaaa-", Some(&machine.path)).unwrap();
    assert!(removed.contains(&"nftables table nst-aaaaaa-0 of IPv6".to_owned()), "{removed:?}");
    let after = (machine.trace(), Nft::at(&machine.path).tables(Family::Ip6).unwrap());
    assert_eq!(after, before);
    assert!(forwards_ipv6(Some(&machine.path)), "the switch is its owner's");
}

#[tokio::test]
async fn without_the_machines_forwarding_ipv6_has_no_way_out_and_ipv4_has() {
    let Some(mut namespaces) = namespaces("out46") else { return };
    let machine = Machine::new(&mut namespaces, "0");
    let _world = listen(&machine.world);
    let mut region = Region::new(&mut namespaces, "a", "nst-aaaaaa-0", machine.path.clone());
    region = region.with_ipv6();
    region.spec.has_ipv6_way_out = forwards_ipv6(Some(&machine.path));
    region.apply().await;
    assert!(region.reaches(0, WORLD));
    assert!(!region.reaches_ipv6(0, WORLD_V6));
    region.router.remove().await.unwrap();
}
