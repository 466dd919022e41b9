//! Probes of all cells at once: every pod sends to every other, over TCP, UDP and SCTP, and what
//! arrives is gathered until nothing more does.
//!
//! A cell is open when a TCP connection is made, when a datagram is answered, and (the kernel here
//! has no SCTP) when a chunk that begins an SCTP association arrives in a raw socket. Each round
//! has a source port of its own, so that no connection of an earlier one is taken for established.

use std::{
    collections::BTreeSet,
    fs::File,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::packets::inside;

const SCTP: i32 = 132;
/// Once what has to arrive has: for so long nothing else may.
const SETTLE: Duration = Duration::from_millis(40);
/// What has not arrived by then does not.
const LIMIT: Duration = Duration::from_secs(5);
const FIRST_SOURCE: u16 = 10_000;

/// From whom, to whom, at which protocol and port.
pub(crate) type Cell = (IpAddr, IpAddr, &'static str, u16);

/// The sockets of a pod that others probe.
pub(crate) struct Endpoint {
    pub(crate) address: IpAddr,
    place: File,
    tcp: Vec<TcpListener>,
    udp: Vec<(u16, UdpSocket)>,
    sctp: UdpSocket,
}

impl Endpoint {
    pub(crate) fn open(place: File, address: IpAddr, ports: &[u16]) -> Self {
        let raw = |protocol| {
            let domain = domain_of(address);
            let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(protocol)));
            let socket = socket.unwrap();
            socket.set_nonblocking(true).unwrap();
            // What of it is used a raw socket has as well.
            UdpSocket::from(socket)
        };
        let (tcp, udp, sctp) = inside(&place, || {
            let tcp = ports.iter().map(|port| {
                let listener = TcpListener::bind((address, *port)).unwrap();
                listener.set_nonblocking(true).unwrap();
                listener
            });
            let udp = ports.iter().map(|port| {
                let socket = UdpSocket::bind((address, *port)).unwrap();
                socket.set_nonblocking(true).unwrap();
                (*port, socket)
            });
            (tcp.collect(), udp.collect(), raw(SCTP))
        });
        Self { address, place, tcp, udp, sctp }
    }

    /// Begins a connection to each of `targets` over each protocol.
    fn call(&self, targets: &[SocketAddr], source: u16) -> Calls {
        inside(&self.place, || {
            let tcp = targets.iter().map(|target| {
                let socket = Socket::new(domain_of(self.address), Type::STREAM, None).unwrap();
                // The same port towards all of them.
                socket.set_reuse_address(true).unwrap();
                socket.set_nonblocking(true).unwrap();
                socket.bind(&SocketAddr::new(self.address, source).into()).unwrap();
                // It goes on in the background.
                drop(socket.connect(&SockAddr::from(*target)));
                (*target, socket)
            });
            let tcp = tcp.collect();
            let udp = UdpSocket::bind((self.address, source)).unwrap();
            udp.set_nonblocking(true).unwrap();
            for target in targets {
                udp.send_to(b"ping", target).unwrap();
                let raw = SocketAddr::new(target.ip(), 0);
                self.sctp.send_to(&init(source, target.port()), raw).unwrap();
            }
            Calls { from: self.address, tcp, udp }
        })
    }

    /// Answers what has come, and gives the cells of SCTP.
    fn serve(&self, source: u16, cells: &mut BTreeSet<Cell>) {
        for listener in &self.tcp {
            while listener.accept().is_ok() {}
        }
        let mut buffer = [0; 256];
        for (_, socket) in &self.udp {
            while let Ok((len, peer)) = socket.recv_from(&mut buffer) {
                drop(socket.send_to(&buffer[..len], peer));
            }
        }
        while let Ok((len, peer)) = self.sctp.recv_from(&mut buffer) {
            // Of IPv4 the packet's own header comes with it, of IPv6 none.
            let has_header = self.address.is_ipv4();
            let header = if has_header { usize::from(buffer[0] & 0x0f) * 4 } else { 0 };
            let port = |at: usize| u16::from_be_bytes([buffer[at], buffer[at + 1]]);
            if len < header + 4 || port(header) != source {
                continue;
            }
            cells.insert((peer.ip(), self.address, "sctp", port(header + 2)));
        }
    }
}

fn domain_of(address: IpAddr) -> Domain {
    if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 }
}

/// A common header and an INIT chunk.
fn init(source: u16, target: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(source.to_be_bytes());
    packet.extend(target.to_be_bytes());
    packet.extend([0; 8]);
    packet.extend([1, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1]);
    packet
}

struct Calls {
    from: IpAddr,
    tcp: Vec<(SocketAddr, Socket)>,
    udp: UdpSocket,
}

impl Calls {
    fn gather(&mut self, cells: &mut BTreeSet<Cell>) {
        self.tcp.retain(|(target, socket)| {
            let is_made = socket.peer_addr().is_ok();
            if is_made {
                cells.insert((self.from, target.ip(), "tcp", target.port()));
            }
            !is_made
        });
        while let Ok((_, target)) = self.udp.recv_from(&mut [0; 16]) {
            cells.insert((self.from, target.ip(), "udp", target.port()));
        }
    }
}

/// All cells that are open between `pods`; ends early once those of `wanted` are.
pub(crate) fn open_cells(
    pods: &[&Endpoint],
    ports: &[u16],
    round: u16,
    wanted: &BTreeSet<Cell>,
) -> BTreeSet<Cell> {
    let source = FIRST_SOURCE + round;
    let mut calls: Vec<Calls> = pods
        .iter()
        .map(|from| {
            let others = pods.iter().filter(|it| it.address != from.address);
            let targets: Vec<SocketAddr> = others
                .flat_map(|it| ports.iter().map(|port| SocketAddr::new(it.address, *port)))
                .collect();
            from.call(&targets, source)
        })
        .collect();
    let mut cells = BTreeSet::new();
    let start = Instant::now();
    let mut last = start;
    loop {
        let before = cells.len();
        pods.iter().for_each(|it| it.serve(source, &mut cells));
        calls.iter_mut().for_each(|it| it.gather(&mut cells));
        if cells.len() > before {
            last = Instant::now();
        }
        let is_settled = last.elapsed() > SETTLE && wanted.is_subset(&cells);
        if is_settled || start.elapsed() > LIMIT {
            return cells;
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
