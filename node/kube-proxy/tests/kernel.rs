//! Shows that the kernel forwards as compiled: a node with two pods and a machine outside, in
//! throw-away namespaces.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    fs::File,
    io::Read,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    path::PathBuf,
    process::Command,
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

struct Netns(String);

impl Netns {
    fn new(tail: &str) -> Option<Self> {
        let name = format!("nst-t-kp-{}-{tail}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("not run: cannot make network namespaces here");
            return None;
        }
        Some(Self(name))
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.0)
    }

    fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
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
struct World {
    node: Netns,
    machines: Vec<Netns>,
    proxier: Proxier,
}

/// Machine 0 is outside, the others are pods.
fn world(tail: &str, machines: u8) -> Option<World> {
    world_with(tail, machines, &[options()])
}

fn options() -> Options {
    Options {
        family: Family::Ip,
        masquerade_mark: 0x4000,
        masquerade_all: false,
        local: LocalDetector::Nobody,
        node_ports: NodePorts::All,
        node_ip: None,
    }
}

fn world_with(tail: &str, machines: u8, options: &[Options]) -> Option<World> {
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
fn no_duplicate_detection() {
    for scope in ["all", "default"] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/accept_dad"), "0").unwrap();
    }
}

impl World {
    fn sync(&mut self) {
        let pass = self.proxier.plan();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(pass.apply(self.proxier.nft())).unwrap();
        let flows = pass.flows;
        self.node.inside(move || conntrack::delete_now(&flows, true).unwrap());
    }

    fn service(&mut self, spec: serde_json::Value) {
        let (name, ports) = service(spec);
        self.proxier.set_service(&name, ports);
    }

    /// Endpoints at port 8080 of these machines, on the node or elsewhere.
    fn endpoints(&mut self, machines: &[(u8, &str)]) {
        self.proxier.set_slice(&name(), "slice", Some(slice(machines)));
    }

    /// Each pod answers with its number and the client's address.
    fn serve(&self, machine: u8) {
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

    /// What a client on the machine (`None`: the node) hears at `address`.
    fn ask(
        &self,
        machine: Option<usize>,
        address: &str,
    ) -> Result<(u8, IpAddr), std::io::ErrorKind> {
        self.ask_within(Duration::from_millis(700), machine, address)
    }

    fn ask_within(
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

fn name() -> ServiceName {
    ServiceName { namespace: "default".into(), name: "web".into() }
}

fn service(spec: serde_json::Value) -> (ServiceName, Vec<ServicePort>) {
    let value = json!({ "metadata": { "namespace": "default", "name": "web" }, "spec": spec });
    (name(), ports_of(&serde_json::from_value(value).unwrap()))
}

fn slice(machines: &[(u8, &str)]) -> Slice {
    slice_of(machines, "TCP")
}

fn slice_of(machines: &[(u8, &str)], protocol: &str) -> Slice {
    let endpoints: Vec<_> = machines
        .iter()
        .map(|(n, node)| json!({ "addresses": [format!("10.{n}.0.2")], "nodeName": node }))
        .collect();
    let value = json!({
        "metadata": { "namespace": "default", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv4",
        "ports": [{ "name": "", "port": 8080, "protocol": protocol }],
        "endpoints": endpoints,
    });
    reduce(&serde_json::from_value(value).unwrap()).unwrap().1
}

const VIP: &str = "10.100.0.20:80";

#[test]
fn a_cluster_address_reaches_every_endpoint_from_pods_and_from_the_node() {
    let Some(mut world) = world("a", 3) else { return };
    world.serve(1);
    world.serve(2);
    world.service(json!({ "clusterIP": "10.100.0.20", "ports": [{ "port": 80 }] }));
    world.endpoints(&[(1, "node"), (2, "other")]);
    world.sync();
    for client in [None, Some(0), Some(1)] {
        let heard: Vec<u8> = (0..24).map(|_| world.ask(client, VIP).unwrap().0).collect();
        assert!(heard.contains(&1) && heard.contains(&2), "{client:?} heard {heard:?}");
    }
    // The client's address is kept, but for a pod that reaches itself.
    assert_eq!(world.ask(Some(0), VIP).unwrap().1.to_string(), "10.0.0.2");
    let own = (0..24).map(|_| world.ask(Some(1), VIP).unwrap()).find(|(it, _)| *it == 1).unwrap();
    assert_ne!(own.1.to_string(), "10.1.0.2");

    // One endpoint less is one element less, and connections go to the other.
    world.endpoints(&[(2, "other")]);
    world.sync();
    assert!((0..8).all(|_| world.ask(Some(0), VIP).unwrap().0 == 2));
}

#[test]
fn a_service_without_endpoints_refuses_and_so_does_a_port_it_does_not_have() {
    let Some(mut world) = world("b", 2) else { return };
    let spec = json!({ "clusterIP": "10.100.0.20", "ports": [{ "port": 80, "nodePort": 30080 }] });
    world.service(spec);
    world.endpoints(&[]);
    world.sync();
    let refused = std::io::ErrorKind::ConnectionRefused;
    for client in [None, Some(1)] {
        for address in [VIP, "10.100.0.20:81"] {
            assert_eq!(world.ask(client, address).unwrap_err(), refused, "{client:?} {address}");
        }
    }
    assert_eq!(world.ask(Some(0), "10.0.0.1:30080").unwrap_err(), refused);
    world.serve(1);
    world.endpoints(&[(1, "node")]);
    world.sync();
    assert_eq!(world.ask(None, VIP).unwrap().0, 1);
    world.proxier.set_service(&name(), Vec::new());
    world.sync();
    assert!(world.ask(Some(1), VIP).is_err());
}

#[test]
fn a_node_port_is_masqueraded_or_local() {
    let Some(mut world) = world("c", 3) else { return };
    world.serve(1);
    world.serve(2);
    let spec = |policy: &str| {
        json!({
            "type": "NodePort",
            "clusterIP": "10.100.0.20",
            "externalTrafficPolicy": policy,
            "ports": [{ "port": 80, "nodePort": 30080 }],
        })
    };
    world.service(spec("Cluster"));
    world.endpoints(&[(1, "node"), (2, "other")]);
    world.sync();
    let (_, peer) = world.ask(Some(0), "10.0.0.1:30080").unwrap();
    assert_ne!(peer.to_string(), "10.0.0.2");

    world.service(spec("Local"));
    world.sync();
    for _ in 0..12 {
        let heard = world.ask(Some(0), "10.0.0.1:30080").unwrap();
        assert_eq!((heard.0, heard.1.to_string()), (1, "10.0.0.2".to_owned()));
    }
    let heard: Vec<u8> = (0..24).map(|_| world.ask(None, "10.0.0.1:30080").unwrap().0).collect();
    assert!(heard.contains(&2), "what begins on the node may go anywhere: {heard:?}");

    world.endpoints(&[(2, "other")]);
    world.sync();
    let error = world.ask(Some(0), "10.0.0.1:30080").unwrap_err();
    assert!(matches!(error, std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock));
    assert_eq!(world.ask(None, "10.0.0.1:30080").unwrap().0, 2);
}

#[test]
fn a_client_with_affinity_stays_with_its_endpoint_until_that_goes() {
    let Some(mut world) = world("d", 3) else { return };
    world.serve(1);
    world.serve(2);
    world.service(json!({
        "clusterIP": "10.100.0.20",
        "sessionAffinity": "ClientIP",
        "ports": [{ "port": 80 }],
    }));
    world.endpoints(&[(1, "node"), (2, "other")]);
    world.sync();
    let first = world.ask(Some(0), VIP).unwrap().0;
    assert!((0..12).all(|_| world.ask(Some(0), VIP).unwrap().0 == first));
    let other = 3 - first;
    world.endpoints(&[(other, "other")]);
    world.sync();
    assert_eq!(world.ask(Some(0), VIP).unwrap().0, other);
}

#[test]
fn load_balancer_addresses_obey_their_source_ranges() {
    let Some(mut world) = world("e", 2) else { return };
    world.serve(1);
    let spec = |range: &str| {
        let value = json!({
            "metadata": { "namespace": "default", "name": "web" },
            "spec": {
                "clusterIP": "10.100.0.20",
                "loadBalancerSourceRanges": [range],
                "ports": [{ "port": 80 }],
            },
            "status": { "loadBalancer": { "ingress": [{ "ip": "203.0.113.9" }] } },
        });
        ports_of(&serde_json::from_value(value).unwrap())
    };
    world.proxier.set_service(&name(), spec("10.0.0.0/24"));
    world.endpoints(&[(1, "node")]);
    world.sync();
    assert_eq!(world.ask(Some(0), "203.0.113.9:80").unwrap().0, 1);
    world.proxier.set_service(&name(), spec("198.51.100.0/24"));
    world.sync();
    assert!(world.ask(Some(0), "203.0.113.9:80").is_err());
    assert_eq!(world.ask(Some(0), VIP).unwrap().0, 1, "the cluster address is not restricted");
}

#[test]
fn a_table_that_somebody_deleted_comes_back_whole() {
    let Some(mut world) = world("f", 2) else { return };
    world.serve(1);
    world.service(json!({ "clusterIP": "10.100.0.20", "ports": [{ "port": 80 }] }));
    world.endpoints(&[(1, "node")]);
    world.sync();
    world.proxier.nft().delete_table(Family::Ip, "kube-proxy").unwrap();
    world.endpoints(&[(1, "node"), (0, "other")]);
    let pass = world.proxier.plan();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert!(runtime.block_on(pass.apply(world.proxier.nft())).is_err());
    world.proxier.distrust();
    world.endpoints(&[(1, "node")]);
    world.sync();
    assert_eq!(world.ask(Some(0), VIP).unwrap().0, 1);
}

/// A client that keeps its socket goes on to the next endpoint when its own is gone.
#[test]
fn udp_flows_do_not_stick_to_an_endpoint_that_is_no_more() {
    let Some(mut world) = world("g", 3) else { return };
    for machine in [1, 2] {
        let socket = world.machines[usize::from(machine)]
            .inside(|| UdpSocket::bind("0.0.0.0:8080").unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 16];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                drop(socket.send_to(&[machine], peer));
            }
        });
    }
    let port = json!([{ "port": 53, "protocol": "UDP" }]);
    world.service(json!({ "clusterIP": "10.100.0.20", "ports": port }));
    world.proxier.set_slice(&name(), "slice", Some(slice_of(&[(1, "node")], "UDP")));
    world.sync();
    let client = world.machines[0].inside(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("10.100.0.20:53").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        socket
    });
    let ask = || {
        client.send(b"?").ok()?;
        let mut buffer = [0; 1];
        client.recv(&mut buffer).ok().map(|_| buffer[0])
    };
    assert_eq!(ask(), Some(1));
    world.proxier.set_slice(&name(), "slice", Some(slice_of(&[(2, "node")], "UDP")));
    world.sync();
    assert_eq!(ask(), Some(2));
}

/// A proxy that starts anew does not know which endpoints there were.
#[test]
fn a_new_proxy_deletes_flows_to_endpoints_that_went_while_there_was_none() {
    let Some(mut world) = world("n", 3) else { return };
    let port = json!([{ "port": 53, "protocol": "UDP" }]);
    world.service(json!({ "clusterIP": "10.100.0.20", "ports": port.clone() }));
    world.proxier.set_slice(&name(), "slice", Some(slice_of(&[(1, "node")], "UDP")));
    world.sync();
    let client = world.machines[0].inside(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("10.100.0.20:53").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        socket
    });
    client.send(b"?").unwrap();
    let server = world.machines[2].inside(|| UdpSocket::bind("0.0.0.0:8080").unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 16];
        while let Ok((_, peer)) = server.recv_from(&mut buffer) {
            drop(server.send_to(b"2", peer));
        }
    });

    let here = Here { node: "node".into(), zone: None };
    world.proxier = Proxier::new(Nft::at(world.node.path()), here, vec![options()]);
    world.service(json!({ "clusterIP": "10.100.0.20", "ports": port }));
    world.proxier.set_slice(&name(), "slice", Some(slice_of(&[(2, "node")], "UDP")));
    world.sync();
    client.send(b"?").unwrap();
    assert_eq!(client.recv(&mut [0; 1]).unwrap(), 1);
}

/// What a load balancer hears at the port for health checks.
#[tokio::test]
async fn a_load_balancer_hears_whether_the_node_has_endpoints() {
    use kube_proxy::{health::Health, metrics::Metrics, service_health::HealthPorts};
    let Some(mut world) = world("o", 2) else { return };
    let spec = |kind: &str| {
        json!({
            "type": kind,
            "clusterIP": "10.100.0.20",
            "externalTrafficPolicy": "Local",
            "healthCheckNodePort": 32000,
            "ports": [{ "port": 80, "nodePort": 30080 }],
        })
    };
    let health = Health::new(clock::Clock::system(), Metrics::new(1), Duration::from_secs(60));
    let scope = lifecycle::Scope::new();
    let place = transport::Place::Netns(world.node.path());
    let mut ports = HealthPorts::new(health.into(), place, scope.clone());
    let machine = world.machines[0].path();
    let ask = || {
        let machine = transport::Place::Netns(machine.clone());
        async move {
            let address = "10.0.0.1:32000".parse().unwrap();
            let stream = machine.connect(address, Duration::from_secs(2)).await?;
            let (mut reader, mut writer) = tokio::io::split(stream);
            let request = b"GET / HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut writer, request).await?;
            let mut text = String::new();
            tokio::io::AsyncReadExt::read_to_string(&mut reader, &mut text).await?;
            Ok::<_, std::io::Error>(text)
        }
    };
    world.service(spec("LoadBalancer"));
    world.endpoints(&[(1, "node"), (0, "other")]);
    assert!(ports.update(world.proxier.local_counts()).is_empty());
    let text = ask().await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    assert!(text.contains("x-load-balancing-endpoint-weight: 1"), "{text}");
    world.endpoints(&[(0, "other")]);
    ports.update(world.proxier.local_counts());
    let text = ask().await.unwrap();
    assert!(text.starts_with("HTTP/1.1 503 Service Unavailable"), "{text}");
    // Who is no load balancer any more has no such port.
    world.service(spec("NodePort"));
    ports.update(world.proxier.local_counts());
    let closed = async {
        while ask().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), closed).await.unwrap();
    scope.drain(Duration::from_secs(2)).await;
}

#[test]
fn node_ports_are_open_on_the_nodes_own_address_alone() {
    let own = Options {
        node_ports: NodePorts::Primary,
        node_ip: Some([10, 0, 0, 1].into()),
        ..options()
    };
    let Some(mut world) = world_with("h", 2, &[own]) else { return };
    world.serve(1);
    let ports = json!([{ "port": 80, "nodePort": 30080 }]);
    world.service(json!({ "clusterIP": "10.100.0.20", "type": "NodePort", "ports": ports }));
    world.endpoints(&[(1, "node")]);
    world.sync();
    assert_eq!(world.ask(Some(0), "10.0.0.1:30080").unwrap().0, 1);
    assert!(world.ask(Some(0), "10.1.0.1:30080").is_err());

    // The node's address changes, and some networks are named.
    let wide = NodePorts::Cidrs(vec!["10.1.0.0/16".parse().unwrap()]);
    world.proxier.set_options(vec![Options { node_ports: wide, ..options() }]);
    world.sync();
    assert_eq!(world.ask(Some(0), "10.1.0.1:30080").unwrap().0, 1);
    assert!(world.ask(Some(0), "10.0.0.1:30080").is_err());
    // Nobody knows the address yet: there are no node ports.
    world.proxier.set_options(vec![Options { node_ports: NodePorts::Primary, ..options() }]);
    world.sync();
    assert!(world.ask(Some(0), "10.1.0.1:30080").is_err());
    assert_eq!(world.ask(Some(0), VIP).unwrap().0, 1);
}

#[test]
fn the_local_policy_within_the_cluster_drops_or_refuses() {
    let Some(mut world) = world("i", 3) else { return };
    world.serve(1);
    world.serve(2);
    let spec = json!({
        "clusterIP": "10.100.0.20",
        "internalTrafficPolicy": "Local",
        "ports": [{ "port": 80 }],
    });
    world.service(spec);
    world.endpoints(&[(1, "node"), (2, "other")]);
    world.sync();
    assert!((0..12).all(|_| world.ask(Some(2), VIP).unwrap().0 == 1));
    world.endpoints(&[(2, "other")]);
    world.sync();
    let error = world.ask(Some(1), VIP).unwrap_err();
    assert!(matches!(error, std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock));
    world.endpoints(&[]);
    world.sync();
    let refused = std::io::ErrorKind::ConnectionRefused;
    assert_eq!(world.ask(Some(1), VIP).unwrap_err(), refused);
}

/// A pod that uses an external address meets the whole cluster, whatever the policy for others is.
#[test]
fn pods_are_not_bound_by_the_policy_for_others() {
    let pods = LocalDetector::Prefix("m1".into());
    let Some(mut world) = world_with("j", 3, &[Options { local: pods, ..options() }]) else {
        return;
    };
    world.serve(2);
    let spec = json!({
        "clusterIP": "10.100.0.20",
        "externalIPs": ["203.0.113.9"],
        "externalTrafficPolicy": "Local",
        "ports": [{ "port": 80 }],
    });
    world.service(spec);
    world.endpoints(&[(2, "other")]);
    world.sync();
    assert_eq!(world.ask(Some(1), "203.0.113.9:80").unwrap(), (2, [10, 1, 0, 2].into()));
    assert!(world.ask(Some(0), "203.0.113.9:80").is_err());
    // To the cluster address, what is no pod is masqueraded.
    assert_eq!(world.ask(Some(1), VIP).unwrap().1, IpAddr::from([10, 1, 0, 2]));
    assert_ne!(world.ask(Some(0), VIP).unwrap().1, IpAddr::from([10, 0, 0, 2]));
}

#[test]
fn everything_is_masqueraded_where_that_is_asked_for() {
    let all = Options { masquerade_all: true, ..options() };
    let Some(mut world) = world_with("k", 3, &[all]) else { return };
    world.serve(2);
    world.service(json!({ "clusterIP": "10.100.0.20", "ports": [{ "port": 80 }] }));
    world.endpoints(&[(2, "node")]);
    world.sync();
    assert_eq!(world.ask(Some(1), VIP).unwrap().1, IpAddr::from([10, 2, 0, 1]));
}

#[test]
fn both_families_are_served_beside_each_other() {
    let six = Options { family: Family::Ip6, ..options() };
    let Some(mut world) = world_with("l", 3, &[options(), six]) else { return };
    world.serve(1);
    world.serve(2);
    let spec = |affinity: &str| {
        json!({
            "type": "NodePort",
            "clusterIPs": ["10.100.0.20", "fd00:100::20"],
            "sessionAffinity": affinity,
            "ports": [{ "port": 80, "nodePort": 30080 }],
        })
    };
    let value = json!({
        "metadata": { "namespace": "default", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv6",
        "ports": [{ "name": "", "port": 8080 }],
        "endpoints": [
            { "addresses": ["fd00:1::2"], "nodeName": "node" },
            { "addresses": ["fd00:2::2"], "nodeName": "other" },
        ],
    });
    let slice = reduce(&serde_json::from_value(value).unwrap()).unwrap().1;
    world.service(spec("None"));
    world.endpoints(&[(1, "node")]);
    world.sync();
    let refused = std::io::ErrorKind::ConnectionRefused;
    // What refuses the first packet comes while the client still holds its socket: the second counts.
    let patient = Duration::from_secs(3);
    let error = world.ask_within(patient, Some(0), "[fd00:100::20]:80").unwrap_err();
    assert_eq!(error, refused);
    world.proxier.set_slice(&name(), "six", Some(slice));
    world.sync();
    let hear = |world: &World| -> Vec<u8> {
        (0..24).map(|_| world.ask(Some(0), "[fd00:100::20]:80").unwrap().0).collect()
    };
    let heard = hear(&world);
    assert!(heard.contains(&1) && heard.contains(&2), "{heard:?}");
    assert_eq!(world.ask(Some(0), VIP).unwrap().0, 1);
    world.ask(Some(0), "[fd00:0::1]:30080").unwrap();
    world.service(spec("ClientIP"));
    world.sync();
    let heard = hear(&world);
    assert!(heard.iter().all(|it| *it == heard[0]), "{heard:?}");
}

#[test]
fn clean_up_takes_away_what_is_ours_and_nothing_else() {
    let Some(mut world) = world("m", 1) else { return };
    world.service(json!({ "clusterIP": "10.100.0.20", "ports": [{ "port": 80 }] }));
    world.sync();
    let nft = world.proxier.nft();
    nft.replace(&linux_nftables::Table::new(Family::Ip, "somebody")).unwrap();
    nft.replace(&linux_nftables::Table::new(Family::Inet, "kube-proxy")).unwrap();
    kube_proxy::command::clean_up(nft).unwrap();
    kube_proxy::command::clean_up(nft).unwrap();
    assert!(!nft.has_table(Family::Ip, "kube-proxy").unwrap());
    assert!(nft.has_table(Family::Ip, "somebody").unwrap());
    assert!(nft.has_table(Family::Inet, "kube-proxy").unwrap());
}
