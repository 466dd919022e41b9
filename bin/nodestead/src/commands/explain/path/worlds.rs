//! Random worlds: what `explain path` says of a connection is what real packets meet.
//!
//! A world has instances with two interfaces each, pods with addresses of either, security groups,
//! network ACLs, routes, network policies and Services, all drawn at random and applied over the last
//! world with the functions that the router, vpc-cni, the network policy agent and kube-proxy use. Then
//! everybody connects to everybody, over TCP and UDP, to Services by their cluster and external addresses
//! and by the node ports of all nodes, and to AWS's endpoints. Without root
//! nothing runs.
//!
//! As many worlds again are those of IPv6 clusters: nodes, pods and Services have IPv6 addresses.
//!
//! `NODESTEAD_WORLDS` says how many worlds (24), `NODESTEAD_SEED` which ones.

mod draw;
mod ground;
mod packets;

use std::{net::IpAddr, ops::RangeInclusive};

use region_vpc::{Flow, Packet, VpcSpec, trace};

use self::{
    draw::{Dice, Family, World},
    ground::Ground,
    packets::{Probe, Round},
};
use super::{Vpc, explain};
use crate::{admin::VpcVerdict, cli::PathProtocol};

/// What a run of `make test` tries, always the same.
const SEED: u64 = 20_261_129;
const WORLDS: u64 = 24;
/// A machine that is busy may have been late: what is really so stays so.
const ATTEMPTS: u64 = 3;

/// The VPC as its router's kernel has it, for connections from a known port, and for those that a node
/// sends on from one of some ports.
struct Known<'a> {
    spec: &'a VpcSpec,
    source_port: u16,
    masqueraded: RangeInclusive<u16>,
}

/// Ports from which nodes send on, in parts between which no ACL and no group makes a difference.
const DRAWN: [RangeInclusive<u16>; 3] = [1024..=1999, 2000..=40_000, 40_001..=65_535];

impl Known<'_> {
    fn verdict(
        &self,
        from: &str,
        to: IpAddr,
        packet: Packet,
        source_ports: RangeInclusive<u16>,
    ) -> anyhow::Result<VpcVerdict> {
        let from: IpAddr = from.parse()?;
        let verdict = trace(self.spec, &Flow { from, to, packet, source_ports });
        Ok(VpcVerdict::of(self.spec, from, &verdict))
    }
}

fn packet(protocol: PathProtocol, port: u16) -> Packet {
    match protocol {
        PathProtocol::Tcp => Packet::Tcp { port },
        PathProtocol::Udp => Packet::Udp { port },
        PathProtocol::Icmp => Packet::Icmp { kind: 8, code: 0 },
    }
}

impl Vpc for Known<'_> {
    async fn ask(
        &self,
        from: &str,
        to: IpAddr,
        port: u16,
        protocol: PathProtocol,
    ) -> anyhow::Result<VpcVerdict> {
        let ports = self.source_port..=self.source_port;
        self.verdict(from, to, packet(protocol, port), ports)
    }

    async fn ask_masqueraded(
        &self,
        from: &str,
        to: IpAddr,
        port: u16,
        protocol: PathProtocol,
    ) -> anyhow::Result<VpcVerdict> {
        self.verdict(from, to, packet(protocol, port), self.masqueraded.clone())
    }
}

/// What was seen and is not what is said, in words; and how many connections came about.
async fn differences(world: &World, round: &Round, probes: &[Probe]) -> (Vec<String>, usize) {
    let (mut found, mut passed) = (Vec::new(), 0);
    for (index, probe) in probes.iter().enumerate() {
        let (from, to) = (world.name(probe.from), world.target(probe.to, probe.port));
        let mut all = Vec::new();
        for masqueraded in DRAWN {
            let source_port = round.source_port(probe);
            let vpc = Known { spec: &world.spec, source_port, masqueraded };
            all.push(explain(&world.cluster, &vpc, &from, &to, probe.protocol).await.unwrap());
        }
        let is_seen = round.passed.contains(&index);
        passed += usize::from(is_seen);
        // Where it depends on the port that the node has drawn, either may be so.
        if let Some(said) = all.pop().filter(|it| it.is_allowed != is_seen)
            && all.iter().all(|it| it.is_allowed != is_seen)
        {
            let said = super::rendered(&said);
            found.push(format!("{probe:?}: the kernel says {is_seen}, but {said}"));
        }
    }
    (found, passed)
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |it| it.parse().unwrap())
}

#[tokio::test]
async fn the_kernels_do_what_explain_path_says_in_random_worlds() {
    try_worlds(Family::V4).await;
}

#[tokio::test]
async fn the_kernels_do_what_explain_path_says_in_random_worlds_of_ipv6() {
    try_worlds(Family::V6).await;
}

async fn try_worlds(family: Family) {
    if !nix::unistd::geteuid().is_root() {
        println!("not run: it needs root");
        return;
    }
    let (worlds, seed) = (setting("NODESTEAD_WORLDS", WORLDS), setting("NODESTEAD_SEED", SEED));
    println!("NODESTEAD_SEED={seed} NODESTEAD_WORLDS={worlds}");
    let mut dice = Dice::new(seed);
    let mut ground = Ground::new(family).await;
    let ends = packets::open(&ground);
    let probes = packets::probes();
    let (mut passed, mut all, mut rounds) = (0, 0, 0);
    for number in 0..worlds {
        let world = World::draw(&mut dice, &ground);
        ground.apply(&world).await;
        for attempt in 0..ATTEMPTS {
            let round = packets::run(&ends, rounds, attempt, &probes);
            rounds += 1;
            let (found, connected) = differences(&world, &round, &probes).await;
            if found.is_empty() {
                (passed, all) = (passed + connected, all + probes.len());
                break;
            }
            let is_last = attempt + 1 == ATTEMPTS;
            assert!(!is_last, "seed {seed}, world {number}: {}\n{world:#?}", found.join("\n"));
        }
    }
    // Worlds in which nothing or everything passes would say little.
    println!("{worlds} worlds of {family:?}: {passed} of {all} connections came about");
    assert!(passed * 20 > all && passed * 20 < all * 19, "{passed} of {all}");
}
