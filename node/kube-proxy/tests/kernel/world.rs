//! The node and the machines around it.

use std::{
    fs::File,
    io::Read,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use kube_proxy::{
    compile::{LocalDetector, NodePorts, Options},
    conntrack,
    endpoint_slices::{Here, Slice, reduce},
    proxier::Proxier,
    service_map::{ServiceName, ServicePort, ports_of},
};
use linux_netlink::{Netlink, Route, Veth, VethEnd};
use linux_nftables::{Family, Nft};
use serde_json::json;

/// How long an answer is waited for.
const LIMIT: Duration = Duration::from_millis(700);

/// Of the next client that speaks UDP: below those that the kernel chooses from.
static NEXT_PORT: AtomicU16 = AtomicU16::new(10_000);

pub(crate) struct Netns(String);

impl Netns {
    pub(crate) fn new(tail: &str) -> Option<Self> {
        let name = format!("nst-t-kp-{}-{tail}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("not run: cannot make network namespaces here");
            return None;
        }
        Some(Self(name))
    }

    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.0)
    }

    pub(crate) fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let file = File::open(self.path()).unwrap();
        let entered = std::thread::spawn(move || {
            nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        entered.join().unwrap()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "delete", &self.0]).status());
    }
}

/// A node, the machines on its links (10.N.0.2 and fd00:N::2, the node is …1), and its proxy.
pub(crate) struct World {
    pub(crate) node: Netns,
    pub(crate) machines: Vec<Netns>,
    pub(crate) proxier: Proxier,
}

/// Machine 0 is outside, the others are pods.
pub(crate) fn world(tail: &str, machines: u8) -> Option<World> {
    world_with(tail, machines, &[options()])
}

pub(crate) fn options() -> Options {
    Options {
        family: Family::Ip,
        masquerade_mark: 0x4000,
        masquerade_all: false,
        local: LocalDetector::Nobody,
        node_ports: NodePorts::All,
        node_ip: None,
        service_cidrs: Vec::new(),
    }
}

pub(crate) fn world_with(tail: &str, machines: u8, options: &[Options]) -> Option<World> {
    let node = Netns::new(&format!("{tail}n"))?;
    node.inside(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        no_duplicate_detection();
    });
    let here = Netlink::at(&node.path()).unwrap();
    let lo = here.link_by_name("lo").unwrap().unwrap().index;
    here.set_up(lo).unwrap();
    let mut all = Vec::new();
    for number in 0..machines {
        let machine = Netns::new(&format!("{tail}{number}"))?;
        machine.inside(no_duplicate_detection);
        let there = Netlink::at(&machine.path()).unwrap();
        let other = File::open(machine.path()).unwrap();
        let name = format!("m{number}");
        let peer = VethEnd { netns: Some(other.as_fd()), ..VethEnd::named("eth0") };
        here.create_veth(&Veth { end: VethEnd::named(&name), peer }).unwrap();
        for (netlink, link, last) in [(&here, name.as_str(), 1), (&there, "eth0", 2)] {
            let index = netlink.link_by_name(link).unwrap().unwrap().index;
            netlink.set_up(index).unwrap();
            let net = format!("10.{number}.0.{last}/24").parse().unwrap();
            netlink.add_address(index, net).unwrap();
            let net = format!("fd00:{number}::{last}/64").parse().unwrap();
            netlink.add_address(index, net).unwrap();
        }
        there.add_route(&Route::default_via([10, number, 0, 1].into())).unwrap();
        let six: IpAddr = format!("fd00:{number}::1").parse().unwrap();
        there.add_route(&Route::default_via(six)).unwrap();
        all.push(machine);
    }
    // The kernel chooses a source by the route, before it translates the address.
    let first = here.link_by_name("m0").unwrap().unwrap().index;
    here.add_route(&Route::default_via([10, 0, 0, 2].into()).device(first)).unwrap();
    here.add_route(&Route::default_via("fd00:0::2".parse().unwrap()).device(first)).unwrap();
    let nft = Nft::at(node.path());
    let here = Here { node: "node".into(), zone: None };
    Some(World { node, machines: all, proxier: Proxier::new(nft, here, options.to_vec()) })
}

/// An address of IPv6 is used at once.
pub(crate) fn no_duplicate_detection() {
    for scope in ["all", "default"] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/accept_dad"), "0").unwrap();
    }
}

impl World {
    pub(crate) fn sync(&mut self) {
        let pass = self.proxier.plan();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(pass.apply(self.proxier.nft())).unwrap();
        let flows = pass.flows;
        self.node.inside(move || {
            for is_ipv4 in [true, false] {
                conntrack::delete_now(&flows, is_ipv4).unwrap();
            }
        });
    }

    pub(crate) fn service(&mut self, spec: serde_json::Value) {
        let (name, ports) = service(spec);
        self.proxier.set_service(&name, ports);
    }

    /// Endpoints at port 8080 of these machines, on the node or elsewhere.
    pub(crate) fn endpoints(&mut self, machines: &[(u8, &str)]) {
        self.proxier.set_slice(&name(), "slice", Some(slice(machines)));
    }

    /// Each pod answers with its number and the client's address.
    pub(crate) fn serve(&self, machine: u8) {
        let listener =
            self.machines[usize::from(machine)].inside(|| TcpListener::bind("[::]:8080").unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let peer = stream.peer_addr().unwrap().ip().to_canonical();
                let text = format!("{machine} {peer}");
                drop(std::io::Write::write_all(&mut stream, text.as_bytes()));
            }
        });
    }

    /// The same by UDP.
    pub(crate) fn serve_udp(&self, machine: u8) {
        let socket =
            self.machines[usize::from(machine)].inside(|| UdpSocket::bind("[::]:8080").unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 16];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                let text = format!("{machine} {}", peer.ip().to_canonical());
                drop(socket.send_to(text.as_bytes(), peer));
            }
        });
    }

    /// What a client with a new socket hears by UDP. Its port is one that no other has had: the kernel
    /// may give one that is tracked still, and that goes on to the endpoint of the one before.
    pub(crate) fn ask_udp(
        &self,
        machine: Option<usize>,
        address: &str,
    ) -> Result<(u8, IpAddr), std::io::ErrorKind> {
        let address: SocketAddr = address.parse().unwrap();
        let any = if address.is_ipv4() { "0.0.0.0" } else { "::" };
        let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        let place = machine.map_or(&self.node, |machine| &self.machines[machine]);
        place.inside(move || {
            let socket = UdpSocket::bind((any, port)).unwrap();
            socket.set_read_timeout(Some(LIMIT)).unwrap();
            let ask = || -> std::io::Result<String> {
                socket.connect(address)?;
                socket.send(b"?")?;
                let mut buffer = [0; 64];
                let length = socket.recv(&mut buffer)?;
                Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
            };
            let text = ask().map_err(|error| error.kind())?;
            let (number, peer) = text.split_once(' ').unwrap();
            Ok((number.parse().unwrap(), peer.parse().unwrap()))
        })
    }

    /// What a client on the machine (`None`: the node) hears at `address`.
    pub(crate) fn ask(
        &self,
        machine: Option<usize>,
        address: &str,
    ) -> Result<(u8, IpAddr), std::io::ErrorKind> {
        self.ask_within(LIMIT, machine, address)
    }

    pub(crate) fn ask_within(
        &self,
        limit: Duration,
        machine: Option<usize>,
        address: &str,
    ) -> Result<(u8, IpAddr), std::io::ErrorKind> {
        let address: SocketAddr = address.parse().unwrap();
        let place = machine.map_or(&self.node, |machine| &self.machines[machine]);
        place.inside(move || {
            let mut stream =
                TcpStream::connect_timeout(&address, limit).map_err(|error| error.kind())?;
            stream.set_read_timeout(Some(limit)).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).map_err(|error| error.kind())?;
            let (number, peer) = text.split_once(' ').unwrap();
            Ok((number.parse().unwrap(), peer.parse().unwrap()))
        })
    }
}

pub(crate) fn name() -> ServiceName {
    ServiceName { namespace: "default".into(), name: "web".into() }
}

pub(crate) fn service(spec: serde_json::Value) -> (ServiceName, Vec<ServicePort>) {
    let value = json!({ "metadata": { "namespace": "default", "name": "web" }, "spec": spec });
    (name(), ports_of(&serde_json::from_value(value).unwrap()))
}

pub(crate) fn slice(machines: &[(u8, &str)]) -> Slice {
    slice_of(machines, "TCP")
}

pub(crate) fn slice_of(machines: &[(u8, &str)], protocol: &str) -> Slice {
    slice_in("IPv4", machines, protocol)
}

/// A slice of this address type.
pub(crate) fn slice_in(kind: &str, machines: &[(u8, &str)], protocol: &str) -> Slice {
    let address = |n: &u8| match kind {
        "IPv4" => format!("10.{n}.0.2"),
        _ => format!("fd00:{n}::2"),
    };
    let endpoints: Vec<_> = machines
        .iter()
        .map(|(n, node)| json!({ "addresses": [address(n)], "nodeName": node }))
        .collect();
    let value = json!({
        "metadata": { "namespace": "default", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": kind,
        "ports": [{ "name": "", "port": 8080, "protocol": protocol }],
        "endpoints": endpoints,
    });
    reduce(&serde_json::from_value(value).unwrap()).unwrap().1
}

pub(crate) const VIP: &str = "10.100.0.20:80";
