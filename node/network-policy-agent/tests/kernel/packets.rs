//! Packets between namespaces.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use network_policy::Protocol;

use crate::world::{At, PODS, World};

/// What is dropped is waited for this long; what passes takes microseconds.
const LIMIT: Duration = Duration::from_millis(700);

/// Runs `work` in a network namespace.
pub(crate) fn inside<T: Send>(place: &File, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let entered = scope.spawn(|| {
            nix::sched::setns(place, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        entered.join().unwrap()
    })
}

/// Echoes on TCP and UDP ports of all pods, until it goes.
pub(crate) struct Serving(Arc<AtomicBool>);

impl Serving {
    pub(crate) fn everywhere(world: &World, ports: &[u16]) -> Self {
        let serving = Self(Arc::default());
        for pod in PODS {
            ports.iter().for_each(|port| serving.also(&world.pod(pod), ("0.0.0.0", *port)));
        }
        serving
    }

    /// In this namespace, too.
    pub(crate) fn also(&self, place: &File, at: (&str, u16)) {
        let (tcp, udp) =
            inside(place, || (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap()));
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let Ok(stream) = stream else { return };
                std::thread::spawn(move || echo(stream));
            }
        });
        let over = self.0.clone();
        std::thread::spawn(move || {
            udp.set_read_timeout(Some(LIMIT)).unwrap();
            let mut buffer = [0; 64];
            while !over.load(Ordering::Relaxed) {
                if let Ok((len, peer)) = udp.recv_from(&mut buffer) {
                    drop(udp.send_to(&buffer[..len], peer));
                }
            }
        });
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 64];
    while let Ok(len) = stream.read(&mut buffer) {
        if len == 0 || stream.write_all(&buffer[..len]).is_err() {
            return;
        }
    }
}

pub(crate) fn tcp(place: &File, to: SocketAddr) -> io::Result<TcpStream> {
    inside(place, || {
        let stream = TcpStream::connect_timeout(&to, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(stream)
    })
}

/// Whether an answer comes back.
pub(crate) fn probe(place: &File, to: SocketAddr, protocol: Protocol) -> bool {
    let mut answer = [0; 4];
    let done = match protocol {
        Protocol::Udp => inside(place, || {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.set_read_timeout(Some(LIMIT))?;
            socket.send_to(b"ping", to)?;
            socket.recv(&mut answer).map(drop)
        }),
        _ => tcp(place, to).and_then(|mut stream| {
            stream.write_all(b"ping")?;
            stream.read_exact(&mut answer)
        }),
    };
    done.is_ok()
}

/// Whether a datagram that `from` sends with another's address arrives at `to`.
pub(crate) fn forged(world: &World, from: At, source: IpAddr, to: At) -> bool {
    let port = 5353;
    let target = inside(&world.pod(to), || UdpSocket::bind(("0.0.0.0", port)).unwrap());
    target.set_read_timeout(Some(LIMIT)).unwrap();
    inside(&world.pod(from), || {
        let add = format!("addr add {source}/32 dev lo");
        let mut ip = std::process::Command::new("ip");
        // It is there already the second time.
        drop(ip.args(add.split(' ')).stderr(std::process::Stdio::null()).output());
        let socket = UdpSocket::bind((source, 0)).unwrap();
        socket.send_to(b"hello", (to.address(), port)).unwrap();
    });
    target.recv(&mut [0; 8]).is_ok()
}

/// Sends a datagram whose source is whatever is said, as who has CAP_NET_RAW may.
pub(crate) fn send_raw(world: &World, from: At, source: Ipv4Addr, to: Ipv4Addr) {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
    // The kernel fills in the identification and the checksum.
    let mut packet = vec![0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(source.octets());
    packet.extend(to.octets());
    packet.extend([0x14, 0xe9, 0x14, 0xe9, 0, 12, 0, 0]);
    packet.extend(b"ping");
    inside(&world.pod(from), || {
        let kind = (AddressFamily::Inet, SockType::Raw, SockProtocol::Raw);
        let socket = socket(kind.0, kind.1, SockFlag::SOCK_CLOEXEC, kind.2).unwrap();
        UdpSocket::from(socket).send_to(&packet, (to, 0)).unwrap();
    });
}
