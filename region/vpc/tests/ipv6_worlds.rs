//! Random worlds of IPv6: real packets in namespaces meet what the evaluator says of them.
//!
//! As `worlds.rs`, with rules and entries of both versions side by side: each guest sends UDP and
//! pings to all others, and UDP to AWS's endpoints and the resolver; what arrives and what comes back
//! must be what [`trace`] says. Without root nothing runs.
//!
//! `NODESTEAD_WORLDS` says how many worlds (24), `NODESTEAD_SEED` which ones.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use linux_netlink::{Conntrack, Mac, Netlink};
use region_vpc::{
    AclEntry, ENDPOINTS_V6, Eni, Flow, Location, NetworkAcl, Packet, Peer, RESOLVER_V6, RouteTable,
    Router, Rule, SecurityGroup, Setup, Subnet, Target, Traffic, VpcSpec, trace,
};

const ECHO: u8 = 128;
const ECHO_REPLY: u8 = 129;
const GUESTS: usize = 5;
const SUBNETS: u8 = 3;
const GROUPS: u8 = 4;
const PORTS: [u16; 2] = [1000, 2000];
const DNS: u16 = 53;
/// The router's own; they follow the guests in the order of who is probed.
const SERVICES: [Ipv6Addr; 2] = [ENDPOINTS_V6, RESOLVER_V6];
/// Senders' ports: ACLs may tell them apart.
const SOURCES: [u16; 2] = [30000, 50000];
/// How long a world's packets are given to arrive.
const SETTLE: Duration = Duration::from_millis(30);
/// Until links have found out that nobody else has their addresses.
const DETECTION: Duration = Duration::from_millis(2500);
const WIDE: [&str; 6] = [
    "::/0",
    "0.0.0.0/0",
    "2001:db8:0:100::/56",
    "2001:db8:0:100::/64",
    "2001:db8:0:101::/64",
    "2001:db8:0:100::/63",
];

/// xorshift64*: a test's worlds follow from its seed alone.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(drawn).unwrap() % limit
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Guests keep their addresses and subnets in all worlds.
fn address(number: usize) -> Ipv6Addr {
    if let Some(service) = number.checked_sub(GUESTS) {
        return SERVICES[service];
    }
    let number = u16::try_from(number).unwrap();
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0x100 + number % u16::from(SUBNETS), 0, 0, 0, 0x10 + number)
}

fn cidr(dice: &mut Dice) -> IpNet {
    if dice.one_in(3) {
        return IpAddr::V6(address(dice.below(GUESTS))).into();
    }
    dice.of(&WIDE).parse().unwrap()
}

fn traffic(dice: &mut Dice) -> Traffic {
    match dice.below(7) {
        0 => Traffic::All,
        1 => Traffic::udp(PORTS[0], PORTS[0]),
        2 => Traffic::udp(PORTS[1], u16::MAX),
        3 => Traffic::udp(0, u16::MAX),
        4 => Traffic::Icmpv6 { kind: dice.of(&[None, Some(128), Some(129)]), code: None },
        5 => Traffic::Icmp { kind: None, code: None },
        _ => Traffic::Protocol(17),
    }
}

fn rules(dice: &mut Dice) -> Vec<Rule> {
    if dice.one_in(2) {
        return vec![Rule::everything_to_anywhere(), Rule::everything_to_anywhere_by_ipv6()];
    }
    let rule = |dice: &mut Dice| {
        let peer = match dice.below(4) {
            1 => Peer::PrefixList(format!("pl-{}", dice.below(3))),
            0 => Peer::Group(format!("sg-{}", dice.below(usize::from(GROUPS) + 1))),
            _ => Peer::Cidr(cidr(dice)),
        };
        Rule::new(traffic(dice), peer)
    };
    (0..dice.below(4)).map(|_| rule(dice)).collect()
}

fn entries(dice: &mut Dice) -> Vec<AclEntry> {
    if dice.one_in(3) {
        return NetworkAcl::open().ingress;
    }
    let count = u16::try_from(dice.below(4)).unwrap();
    let mut entries: Vec<AclEntry> = (1..=count)
        .map(|number| AclEntry::new(number, !dice.one_in(3), cidr(dice), traffic(dice)))
        .collect();
    if dice.one_in(2) {
        // IPv4's says nothing about these packets.
        entries.push(AclEntry::new(90, true, Ipv4Net::default(), Traffic::All));
        entries.push(AclEntry::new(100, true, Ipv6Net::default(), Traffic::All));
    }
    entries
}

fn eni(dice: &mut Dice, number: usize, guest: &str) -> Eni {
    let byte = u8::try_from(number).unwrap();
    let groups = 1 + dice.below(2);
    Eni {
        id: format!("eni-0000000000000000{number}"),
        mac: Mac([0x0a, 0, 0, 0, 7, byte]),
        subnet: format!("subnet-{}", byte % SUBNETS),
        primary: [10, 0, byte % SUBNETS, 10 + byte].into(),
        secondary: BTreeSet::new(),
        prefixes: BTreeSet::new(),
        ipv6_addresses: vec![address(number)],
        ipv6_prefixes: BTreeSet::new(),
        security_groups: (0..groups)
            .map(|_| format!("sg-{}", dice.below(usize::from(GROUPS))))
            .collect(),
        source_dest_check: !dice.one_in(3),
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

fn gateway(kind: usize) -> Target {
    match kind {
        1 => Target::EgressOnlyInternetGateway("eigw-0".to_owned()),
        2 => Target::InternetGateway("igw-0".to_owned()),
        _ => Target::Blackhole("eigw-1".to_owned()),
    }
}

fn world(dice: &mut Dice, netns: &str, guests: &[String]) -> VpcSpec {
    let subnet = |number: u8| {
        let subnet = Subnet {
            cidr: format!("10.0.{number}.0/24").parse().unwrap(),
            route_table: "rtb-0".to_owned(),
            network_acl: format!("acl-{number}"),
        };
        (format!("subnet-{number}"), subnet)
    };
    let table = match dice.below(4) {
        0 => RouteTable::default(),
        kind => RouteTable::default().with(Ipv6Net::default(), gateway(kind)),
    };
    VpcSpec {
        id: "vpc-0".to_owned(),
        netns: netns.to_owned(),
        cidrs: vec!["10.0.0.0/16".parse().unwrap()],
        ipv6_cidrs: vec!["2001:db8:0:100::/56".parse().unwrap()],
        subnets: (0..SUBNETS).map(subnet).collect(),
        route_tables: BTreeMap::from([("rtb-0".to_owned(), table)]),
        network_acls: (0..SUBNETS)
            .map(|it| {
                let acl = NetworkAcl { ingress: entries(dice), egress: entries(dice) };
                (format!("acl-{it}"), acl)
            })
            .collect(),
        enis: guests.iter().enumerate().map(|(number, it)| eni(dice, number, it)).collect(),
        security_groups: (0..GROUPS)
            .map(|it| {
                let id = format!("sg-{it}");
                let group =
                    SecurityGroup { id: id.clone(), ingress: rules(dice), egress: rules(dice) };
                (id, group)
            })
            .collect(),
        prefix_lists: (0..2)
            .map(|it| (format!("pl-{it}"), (0..dice.below(3)).map(|_| cidr(dice)).collect()))
            .collect(),
        ..VpcSpec::default()
    }
}

// === Packets ===

struct Guest {
    udp: BTreeMap<u16, UdpSocket>,
    icmp: UdpSocket,
}

/// A raw socket, of which the standard library's calls are all that is used.
fn raw() -> UdpSocket {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let made = socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6);
    UdpSocket::from(made.unwrap())
}

fn guest(netns: &str) -> Guest {
    let bind = |port: u16| {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
        socket.set_nonblocking(true).unwrap();
        (port, socket)
    };
    let all = PORTS.into_iter().chain(SOURCES);
    let open = move || Guest { udp: all.map(bind).collect(), icmp: raw() };
    linux_netns::enter(&linux_netns::path(netns), open).unwrap()
}

/// What listens in the router, which the guests' packets have to reach by it.
fn services(netns: &str) -> Vec<UdpSocket> {
    let bind = |(address, port): (Ipv6Addr, u16)| {
        let socket = UdpSocket::bind((address, port)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let all = SERVICES.into_iter().flat_map(|it| [PORTS[0], PORTS[1], DNS].map(|port| (it, port)));
    let open = move || all.map(bind).collect();
    linux_netns::enter(&linux_netns::path(netns), open).unwrap()
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    from: usize,
    to: usize,
    packet: Packet,
    source_port: u16,
}

fn probes(dice: &mut Dice) -> Vec<Probe> {
    let echo = Packet::Icmpv6 { kind: ECHO, code: 0 };
    let packets = [Packet::Udp { port: PORTS[0] }, Packet::Udp { port: PORTS[1] }, echo];
    let pairs = (0..GUESTS).flat_map(|from| (0..GUESTS).map(move |to| (from, to)));
    let pairs = pairs.filter(|(from, to)| from != to);
    let to_services =
        (0..GUESTS).flat_map(|from| (GUESTS..GUESTS + SERVICES.len()).map(move |to| (from, to)));
    let asked = [PORTS[0], PORTS[1], DNS].map(|port| Packet::Udp { port });
    let to_services = to_services.flat_map(|(from, to)| asked.map(|packet| (from, to, packet)));
    let all = pairs.flat_map(|(from, to)| packets.map(|packet| (from, to, packet)));
    let all = all.chain(to_services);
    all.map(|(from, to, packet)| Probe { from, to, packet, source_port: dice.of(&SOURCES) })
        .collect()
}

/// What a packet carries: the world and the probe that it belongs to.
fn label(world: usize, probe: usize) -> [u8; 16] {
    let mut label = [0; 16];
    label[..8].copy_from_slice(&world.to_be_bytes());
    label[8..].copy_from_slice(&probe.to_be_bytes());
    label
}

fn unlabelled(bytes: &[u8], world: usize) -> Option<usize> {
    let number = |at: usize| Some(usize::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    (bytes.len() == 16 && number(0)? == world).then(|| number(8))?
}

fn received(socket: &UdpSocket) -> Vec<(Vec<u8>, SocketAddr)> {
    let mut bytes = [0; 256];
    std::iter::from_fn(|| {
        let (length, peer) = socket.recv_from(&mut bytes).ok()?;
        Some((bytes[..length].to_vec(), peer))
    })
    .collect()
}

/// Probes that have arrived, and those that were answered.
#[derive(Default)]
struct Seen {
    arrived: BTreeSet<usize>,
    answered: BTreeSet<usize>,
}

fn run(guests: &[Guest], services: &[UdpSocket], world: usize, probes: &[Probe]) -> Seen {
    for (index, probe) in probes.iter().enumerate() {
        let (guest, label, to) = (&guests[probe.from], label(world, index), address(probe.to));
        let sent = match probe.packet {
            Packet::Udp { port } => guest.udp[&probe.source_port].send_to(&label, (to, port)),
            _ => {
                let identifier = u16::try_from((world * 211 + index) % 0xffff).unwrap();
                let mut bytes = vec![ECHO, 0, 0, 0];
                bytes.extend(identifier.to_be_bytes());
                bytes.extend([0, 1]);
                bytes.extend(label);
                guest.icmp.send_to(&bytes, (to, 0))
            }
        };
        drop(sent);
    }
    std::thread::sleep(SETTLE);
    let mut seen = Seen::default();
    let listening = guests.iter().flat_map(|it| PORTS.map(|port| &it.udp[&port]));
    for socket in listening.chain(services) {
        for (bytes, peer) in received(socket) {
            if let Some(index) = unlabelled(&bytes, world) {
                seen.arrived.insert(index);
                drop(socket.send_to(&label(world, index), peer));
            }
        }
    }
    std::thread::sleep(SETTLE);
    for guest in guests {
        for (bytes, _) in SOURCES.iter().flat_map(|port| received(&guest.udp[port])) {
            seen.answered.extend(unlabelled(&bytes, world));
        }
        for (bytes, _) in received(&guest.icmp) {
            let probe = bytes.get(8..).and_then(|it| unlabelled(it, world));
            match bytes.first() {
                Some(&ECHO) => seen.arrived.extend(probe),
                Some(&ECHO_REPLY) => seen.answered.extend(probe),
                _ => {}
            }
        }
    }
    seen
}

fn differences(spec: &VpcSpec, probes: &[Probe], seen: &Seen) -> Vec<String> {
    let mut found = Vec::new();
    for (index, probe) in probes.iter().enumerate() {
        let flow = Flow {
            from: address(probe.from).into(),
            to: address(probe.to).into(),
            packet: probe.packet,
            source_ports: probe.source_port..=probe.source_port,
        };
        let verdict = trace(spec, &flow);
        let pairs = [
            ("arrives", seen.arrived.contains(&index), verdict.arrives),
            ("is answered", seen.answered.contains(&index), verdict.is_allowed),
        ];
        for (what, seen, said) in pairs {
            if seen != said {
                let (reason, steps) = (&verdict.reason, &verdict.steps);
                found.push(format!("{probe:?} {what}: {seen}, but {said}: {reason} {steps:?}"));
            }
        }
    }
    found
}

struct Ground {
    netns: String,
    guests: Vec<String>,
}

impl Drop for Ground {
    fn drop(&mut self) {
        let netlink = Netlink::at(&linux_netns::path(&self.netns));
        for link in netlink.iter().flat_map(|it| it.links().unwrap_or_default()) {
            if link.name.starts_with("eni") {
                netlink.as_ref().map(|it| it.delete_link(link.index).ok()).ok();
            }
        }
        for name in self.guests.iter().chain([&self.netns]) {
            linux_netns::delete(name).ok();
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(default)
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|it| it.lines().any(|line| line.starts_with("Uid:\t0\t")))
}

#[tokio::test]
async fn the_kernel_does_with_ipv6_what_the_evaluator_says() {
    if !is_root() {
        return;
    }
    let prefix = format!("nst-t-{}-x", std::process::id());
    let guests: Vec<String> = (0..GUESTS).map(|it| format!("{prefix}{it}")).collect();
    for guest in &guests {
        linux_netns::create(guest).unwrap();
    }
    let ground = Ground { netns: format!("{prefix}r"), guests };
    let router = Router::new(&ground.netns);
    let seed = number("NODESTEAD_SEED", 7).max(1);
    let mut dice = Dice(seed);
    let (mut sockets, mut of_router) = (Vec::new(), Vec::new());
    let mut sum = (0, 0);
    for index in 0..usize::try_from(number("NODESTEAD_WORLDS", 24)).unwrap() {
        let spec = world(&mut dice, &ground.netns, &ground.guests);
        router.apply(&spec).await.unwrap();
        if sockets.is_empty() {
            std::thread::sleep(DETECTION);
            sockets = ground.guests.iter().map(|it| guest(it)).collect();
            of_router = services(&ground.netns);
        }
        // Flows of the last world would be known connections in this one.
        let forget = || {
            let forget = || Conntrack::here().unwrap().delete_udp(false, |_| true).unwrap();
            linux_netns::enter(&linux_netns::path(&ground.netns), forget).unwrap();
        };
        let probes = probes(&mut dice);
        forget();
        let mut seen = run(&sockets, &of_router, index, &probes);
        if !differences(&spec, &probes, &seen).is_empty() {
            // A machine that is busy may have been late: what is really so stays so.
            forget();
            seen = run(&sockets, &of_router, index, &probes);
        }
        let wrong = differences(&spec, &probes, &seen);
        assert!(wrong.is_empty(), "seed {seed}, world {index}:\n{}", wrong.join("\n"));
        sum = (sum.0 + seen.arrived.len(), sum.1 + probes.len());
    }
    assert!(sum.0 > 0 && sum.0 < sum.1, "{sum:?}: worlds that say nothing");
}
