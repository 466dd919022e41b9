//! A VPC's router: how long a changed rule takes to be in the kernel with 500 interfaces, and how
//! much of a bare router's throughput two interfaces have through it.
//!
//! Routers and guests are namespaces of the bench; no region is needed. The floor of the throughput
//! is two veth pairs through one namespace that forwards, measured in turn with the other.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use ipnet::Ipv4Net;
use linux_netlink::{LinkChange, Mac, Netlink, Route, Veth, VethEnd};
use region_vpc::{
    Eni, Location, NetworkAcl, Peer, Router, Rule, SecurityGroup, Setup, Subnet, Traffic, VpcSpec,
};

use crate::rows::{Row, median, millis};

const ENIS: u32 = 500;
const SAMPLES: usize = 15;
const ROUNDS: usize = 5;
const STREAM: Duration = Duration::from_secs(1);
const CHUNK: usize = 128 * 1024;
const PORT: u16 = 5201;

pub(crate) async fn rows() -> anyhow::Result<Vec<Row>> {
    let mut names = Names::default();
    let change = change(&mut names).await.context("the change of a rule")?;
    let through = throughput(&mut names).await.context("the throughput")?;
    Ok(vec![change, through])
}

/// Namespaces that go with the bench.
#[derive(Default)]
struct Names(Vec<String>);

impl Names {
    fn take(&mut self, name: &str) -> String {
        let name = format!("nst-t-{}-{name}", std::process::id());
        self.0.push(name.clone());
        name
    }

    fn make(&mut self, name: &str) -> anyhow::Result<String> {
        let name = self.take(name);
        linux_netns::create(&name)?;
        Ok(name)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        for name in &self.0 {
            linux_netns::delete(name).ok();
        }
    }
}

// === Worlds ===

fn eni(number: u32, guest: &str, device: String, setup: Setup) -> Eni {
    let [_, _, high, low] = number.to_be_bytes();
    Eni {
        id: format!("eni-{number:017x}"),
        mac: Mac([0x0a, 0, 0, 0, high, low]),
        subnet: format!("subnet-{}", number % 2),
        primary: Ipv4Addr::from(
            u32::from(Ipv4Addr::new(10, 0, 0, 10)) + number % 2 * 4096 + number,
        ),
        secondary: Default::default(),
        prefixes: Default::default(),
        ipv6_addresses: Default::default(),
        ipv6_prefixes: Default::default(),
        security_groups: [format!("sg-{}", number % 10), "sg-all".to_owned()].into(),
        source_dest_check: true,
        is_asleep: false,
        public_ip: None,
        tracking: Default::default(),
        location: Location::Netns { path: linux_netns::path(guest), device, setup },
    }
}

fn spec(netns: &str, enis: Vec<Eni>) -> VpcSpec {
    let subnet = |number: u8| {
        let subnet = Subnet {
            cidr: Ipv4Net::new_assert(Ipv4Addr::new(10, 0, number * 16, 0), 20),
            route_table: String::new(),
            network_acl: "acl-0".to_owned(),
        };
        (format!("subnet-{number}"), subnet)
    };
    let group = |id: String| {
        let mut group = SecurityGroup::new(&id);
        group.egress.push(Rule::everything_to_anywhere());
        group.ingress.push(Rule::new(Traffic::tcp(PORT, PORT), Peer::Group("sg-all".to_owned())));
        (id, group)
    };
    let groups = (0..10).map(|it| format!("sg-{it}")).chain(["sg-all".to_owned()]);
    VpcSpec {
        id: "vpc-bench".to_owned(),
        netns: netns.to_owned(),
        cidrs: vec![Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 16)],
        subnets: (0..2).map(subnet).collect(),
        network_acls: BTreeMap::from([("acl-0".to_owned(), NetworkAcl::open())]),
        enis,
        security_groups: groups.map(group).collect(),
        ..VpcSpec::default()
    }
}

/// From the changed value to the end of the pass that makes the kernel agree with it.
async fn change(names: &mut Names) -> anyhow::Result<Row> {
    let router = names.take("cr");
    let guests: Vec<String> =
        (0..ENIS / 10).map(|it| names.make(&format!("c{it}"))).collect::<Result<_, _>>()?;
    let enis = (0..ENIS).map(|it| {
        let guest = &guests[usize::try_from(it / 10).unwrap_or_default()];
        eni(it, guest, format!("eth{}", it % 10), Setup::Bare)
    });
    let mut spec = spec(&router, enis.collect());
    let router = Router::new(&router);
    router.apply(&spec).await?;
    let mut samples = Vec::new();
    for number in 0..SAMPLES {
        let port = 1000 + u16::try_from(number)?;
        let rule = Rule::new(Traffic::tcp(port, port), Peer::Cidr(Ipv4Net::default().into()));
        let group = spec.security_groups.get_mut("sg-all").context("a group")?;
        group.ingress.push(rule);
        let started = Instant::now();
        router.apply(&spec).await?;
        samples.push(started.elapsed());
    }
    router.remove().await?;
    let what = format!("security group rule → kernel, VPC with {ENIS} interfaces");
    Ok(Row::new(what, millis(median(&samples)), "-", "50 ms"))
}

// === Throughput ===

async fn throughput(names: &mut Names) -> anyhow::Result<Row> {
    let (near, far) = (names.make("ta")?, names.make("tb")?);
    let netns = names.take("tr");
    let device = || "eth0".to_owned();
    let enis = [eni(0, &near, device(), Setup::Primary), eni(1, &far, device(), Setup::Primary)];
    let target = enis[1].primary;
    let router = Router::new(&netns);
    router.apply(&spec(&netns, enis.into())).await?;
    let bare = bare(names)?;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(stream(&near, &far, target)?);
        floor.push(stream(&bare.0, &bare.1, Ipv4Addr::new(10, 1, 1, 2))?);
    }
    router.remove().await?;
    ours.sort_by(f64::total_cmp);
    floor.sort_by(f64::total_cmp);
    let (ours, floor) = (ours[ROUNDS / 2], floor[ROUNDS / 2]);
    Ok(Row::new(
        "interface → interface through the VPC's router, one TCP stream",
        format!("{ours:.1} Gbit/s ({:.0} %)", ours / floor * 100.0),
        format!("{floor:.1} Gbit/s (veth pairs through a bare router)"),
        "80 %",
    ))
}

/// Two guests and what forwards between them, without any rule.
fn bare(names: &mut Names) -> anyhow::Result<(String, String)> {
    let middle = names.make("bm")?;
    let guests = (names.make("ba")?, names.make("bb")?);
    let router = Netlink::at(&linux_netns::path(&middle))?;
    linux_netns::enter(&linux_netns::path(&middle), || {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")
    })??;
    for (number, guest) in [(0, &guests.0), (1, &guests.1)] {
        let path = linux_netns::path(guest);
        let inner = Netlink::at(&path)?;
        let namespace = linux_netns::open(&path)?;
        let netns = Some(std::os::fd::AsFd::as_fd(&namespace));
        let name = format!("v{number}");
        let end = VethEnd { mtu: Some(9001), ..VethEnd::named(&name) };
        let peer = VethEnd { mtu: Some(9001), netns, ..VethEnd::named("eth0") };
        router.create_veth(&Veth { end, peer })?;
        let (gateway, own) = (Ipv4Addr::new(10, 1, number, 1), Ipv4Addr::new(10, 1, number, 2));
        for (netlink, link, address) in [(&router, name.as_str(), gateway), (&inner, "eth0", own)] {
            let link = netlink.link_by_name(link)?.context("a link")?;
            let up = LinkChange { is_up: Some(true), ..LinkChange::default() };
            netlink.change_link(link.index, &up)?;
            netlink.add_address(link.index, Ipv4Net::new(address, 24)?.into())?;
        }
        let link = inner.link_by_name("eth0")?.context("a link")?;
        inner.add_route(&Route::default_via(gateway.into()).device(link.index))?;
    }
    Ok(guests)
}

/// Gigabits per second of one TCP stream.
fn stream(from: &str, to: &str, address: Ipv4Addr) -> anyhow::Result<f64> {
    let listen = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT));
    let listener = linux_netns::enter(&linux_netns::path(to), listen)??;
    let target = SocketAddr::from((address, PORT));
    let connect = move || TcpStream::connect_timeout(&target, Duration::from_secs(2));
    let mut sender = linux_netns::enter(Path::new(&linux_netns::path(from)), connect)??;
    let (mut receiver, _) = listener.accept()?;
    let reading = std::thread::spawn(move || {
        let (mut bytes, mut total) = (vec![0; CHUNK], 0_u64);
        let started = Instant::now();
        while let Ok(read) = receiver.read(&mut bytes) {
            if read == 0 {
                break;
            }
            total += u64::try_from(read).unwrap_or_default();
        }
        (total, started.elapsed())
    });
    let (bytes, deadline) = (vec![0; CHUNK], Instant::now() + STREAM);
    while Instant::now() < deadline {
        sender.write_all(&bytes)?;
    }
    drop(sender);
    let (total, taken) = reading.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
    // Of a second of traffic a float keeps every bit.
    #[expect(clippy::cast_precision_loss, reason = "far below 52 bits")]
    let bits = total as f64 * 8.0;
    Ok(bits / taken.as_secs_f64() / 1e9)
}
