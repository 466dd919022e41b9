//! Everybody connects to everybody, at once.
//!
//! A round has source ports that no other one had for a while, so that no connection of another round is
//! known to any kernel on the way. What goes by a Service has others than what goes straight to the same
//! endpoint, since kernels change a port that would be ambiguous, and ACLs look at ports.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    draw::{Family, PARTIES, PORTS, TARGETS},
    ground::Ground,
};
use crate::cli::PathProtocol;
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect, listen,
        setsockopt, socket, sockopt,
    },
};

/// The first port that Linux draws for a connection, and the last.
const FIRST: u64 = 32768;
const LAST: u64 = 60999;
/// How long packets are given to arrive, the first time.
const SETTLE: Duration = Duration::from_millis(30);

/// One connection.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) port: u16,
    pub(super) protocol: PathProtocol,
}

/// What came of all of them.
pub(super) struct Round {
    number: u64,
    pub(super) passed: BTreeSet<usize>,
}

/// The sockets of a party that answer.
struct End {
    netns: PathBuf,
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
}

/// Of everybody, in the order of their numbers.
pub(super) struct Ends {
    family: Family,
    parties: Vec<End>,
    /// Where AWS's endpoints are, once a world was applied.
    router: PathBuf,
}

pub(super) fn probes() -> Vec<Probe> {
    let mut probes = Vec::new();
    for from in 0..PARTIES {
        for to in (0..TARGETS).filter(|to| *to != from) {
            for port in PORTS {
                for protocol in [PathProtocol::Tcp, PathProtocol::Udp] {
                    probes.push(Probe { from, to, port, protocol });
                }
            }
        }
    }
    probes
}

/// A party's source ports in a round: one for each way to a Service, and one for all else.
const LANES: usize = TARGETS - PARTIES;

impl Probe {
    fn lane(&self) -> usize {
        self.to.saturating_sub(PARTIES)
    }
}

impl Round {
    pub(super) fn source_port(&self, probe: &Probe) -> u16 {
        self.lane_port(probe.from, probe.lane())
    }

    fn lane_port(&self, party: usize, lane: usize) -> u16 {
        let all = self.number * wide(PARTIES * LANES) + wide(party * LANES + lane);
        u16::try_from(FIRST + all % (LAST - FIRST + 1)).unwrap()
    }
}

/// Opens what answers.
pub(super) fn open(ground: &Ground) -> Ends {
    let mut paths = ground.all();
    let router = paths.remove(PARTIES);
    let family = ground.family();
    let parties = paths.iter().map(|it| end(it, anywhere(family))).collect();
    Ends { family, parties, router }
}

fn anywhere(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn end(netns: &Path, at: IpAddr) -> End {
    let path = netns.to_owned();
    let (udp, tcp) = linux_netns::enter(netns, move || {
        let udp = PORTS.map(|port| {
            let socket = UdpSocket::bind((at, port)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        });
        (Vec::from(udp), Vec::from(PORTS.map(|port| listener(at, port))))
    })
    .unwrap();
    End { netns: path, udp, tcp }
}

fn stream(to: IpAddr) -> OwnedFd {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, flags, None).unwrap();
    setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
    socket
}

fn listener(at: IpAddr, port: u16) -> TcpListener {
    let socket = stream(at);
    bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(at, port))).unwrap();
    listen(&socket, Backlog::new(256).unwrap()).unwrap();
    TcpListener::from(socket)
}

/// Begins to connect; a way that is closed at once is an answer too.
fn begin(own: SocketAddr, to: SocketAddr) -> Option<TcpStream> {
    let socket = stream(to.ip());
    let reset = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&socket, sockopt::Linger, &reset).unwrap();
    bind(socket.as_raw_fd(), &SockaddrStorage::from(own)).unwrap();
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Some(TcpStream::from(socket)),
        Err(_) => None,
    }
}

fn is_connected(stream: &TcpStream) -> bool {
    stream.take_error().is_ok_and(|it| it.is_none()) && stream.peer_addr().is_ok()
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap()
}

/// What a packet carries.
fn label(number: u64, probe: usize) -> [u8; 16] {
    let mut label = [0; 16];
    label[..8].copy_from_slice(&number.to_be_bytes());
    label[8..].copy_from_slice(&wide(probe).to_be_bytes());
    label
}

fn unlabelled(bytes: &[u8], number: u64) -> Option<usize> {
    let word = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    (word(0)? == number).then(|| usize::try_from(word(8)?).ok())?
}

/// What one party sends with.
struct Sender {
    /// By lane.
    udp: Vec<UdpSocket>,
    tcp: BTreeMap<usize, TcpStream>,
}

/// One party's connections.
fn send(
    family: Family,
    netns: &Path,
    ports: Vec<u16>,
    number: u64,
    own: Vec<(usize, Probe)>,
) -> Sender {
    linux_netns::enter(netns, move || {
        let any = anywhere(family);
        let bound = |port: &u16| {
            let socket = UdpSocket::bind((any, *port)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let udp: Vec<UdpSocket> = ports.iter().map(bound).collect();
        let mut tcp = BTreeMap::new();
        for (index, probe) in own {
            let (to, lane) = (family.socket(probe.to, probe.port), probe.lane());
            match probe.protocol {
                PathProtocol::Tcp => {
                    let own = SocketAddr::new(any, ports[lane]);
                    tcp.extend(begin(own, to).map(|it| (index, it)));
                }
                _ => drop(udp[lane].send_to(&label(number, index), to)),
            }
        }
        Sender { udp, tcp }
    })
    .unwrap()
}

/// Answers what has come.
fn answer(end: &End) {
    let mut bytes = [0; 64];
    for socket in &end.udp {
        while let Ok((length, peer)) = socket.recv_from(&mut bytes) {
            drop(socket.send_to(&bytes[..length], peer));
        }
    }
}

pub(super) fn run(ends: &Ends, number: u64, attempt: u64, probes: &[Probe]) -> Round {
    let mut round = Round { number, passed: BTreeSet::new() };
    let settle = SETTLE * u32::try_from(1 + attempt * 5).unwrap();
    let router = end(&ends.router, ends.family.address(PARTIES));
    let senders: Vec<Sender> = (0..PARTIES)
        .map(|party| {
            let own = probes.iter().cloned().enumerate().filter(|(_, it)| it.from == party);
            let ports = (0..LANES).map(|it| round.lane_port(party, it)).collect();
            send(ends.family, &ends.parties[party].netns, ports, number, own.collect())
        })
        .collect();
    std::thread::sleep(settle);
    ends.parties.iter().chain([&router]).for_each(answer);
    std::thread::sleep(settle);
    let mut bytes = [0; 64];
    for sender in &senders {
        for socket in &sender.udp {
            while let Ok((length, _)) = socket.recv_from(&mut bytes) {
                round.passed.extend(unlabelled(&bytes[..length], number));
            }
        }
        let connected = sender.tcp.iter().filter(|(_, it)| is_connected(it));
        round.passed.extend(connected.map(|(index, _)| *index));
    }
    drop(senders);
    for listener in ends.parties.iter().flat_map(|it| &it.tcp) {
        while listener.accept().is_ok() {}
    }
    round
}
