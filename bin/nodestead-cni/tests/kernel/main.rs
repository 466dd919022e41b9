//! Executes the plug-in as a runtime does, in a node and two pods made of throw-away namespaces.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod branches;
mod flush;

use std::{
    fs::File,
    io::Write,
    net::{IpAddr, Ipv4Addr},
    os::{fd::AsFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use api_cni::{
    CniError, NetResult,
    backend::{self, Assignment, Branch, Ipv6Assignment, Request, Response},
};
use linux_netlink::{Netlink, Route, Scope, Veth, VethEnd};

struct Netns(String);

impl Netns {
    /// `None`, with a word on the terminal, where namespaces cannot be made.
    fn new(tail: &str) -> Option<Self> {
        let name = format!("nst-t-cni-{}-{tail}", std::process::id());
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

    /// Runs a command inside, by setns alone.
    fn run(&self, command: &[&str]) -> Output {
        let netns = format!("--net={}", self.path().display());
        Command::new("nsenter").arg(netns).args(command).output().unwrap()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "delete", &self.0]).status());
    }
}

/// An ipamd that knows what each container gets; `None` when the pool is empty.
fn ipamd(socket: &Path, answer: fn(&str) -> Option<(Ipv4Addr, u32)>) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let Ok(request) = backend::read_frame::<Request>(&mut stream) else { continue };
            let (sandbox, is_add) = match request {
                Request::AddNetwork(sandbox) => (sandbox, true),
                Request::DelNetwork(sandbox) => (sandbox, false),
                Request::Health => continue,
            };
            let address = answer(&sandbox.container_id).map(|(address, route_table)| Assignment {
                address,
                device_number: 0,
                route_table,
                use_external_snat: false,
                vpc_cidrs: Vec::new(),
                ipv6: ipv6_of(&sandbox.container_id),
                branch: branch_of(&sandbox.container_id),
            });
            let response = match (is_add, address) {
                (true, Some(assignment)) => Response::Added(assignment),
                (true, None) => Response::Failed { message: "the pool is empty".into() },
                (false, address) => Response::Deleted { address },
            };
            backend::write_frame(&mut stream, &response).unwrap();
        }
    });
}

/// Pods of an IPv6 cluster: their other address leads to what is IPv4 only.
fn ipv6_of(id: &str) -> Option<Ipv6Assignment> {
    let address = match id {
        "six" => "2001:db8:0:100:5::6".parse().unwrap(),
        "seven" => "2001:db8:0:100:5::7".parse().unwrap(),
        "branch6" => "2001:db8:0:100::22".parse().unwrap(),
        _ => return None,
    };
    Some(Ipv6Assignment { address, has_egress: id == "six" })
}

const BRANCH_MAC: &str = "02:00:00:00:00:22";

fn branch_of(id: &str) -> Option<Branch> {
    let gateway: IpAddr = match id {
        "branch" => "192.168.0.1".parse().unwrap(),
        "branch6" => "fe80:ec2::1".parse().unwrap(),
        _ => return None,
    };
    Some(Branch { vlan_id: 5, mac: BRANCH_MAC.to_owned(), gateway })
}

fn cni(node: &Netns, program: &Path, command: &str, id: &str, pod: &Path, config: &str) -> Output {
    let mut child = Command::new("nsenter")
        .arg(format!("--net={}", node.path().display()))
        .arg(program)
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", id)
        .env("CNI_NETNS", pod)
        .env("CNI_IFNAME", if program.ends_with("loopback") { "lo" } else { "eth0" })
        .env("CNI_ARGS", format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod-{id}"))
        .env("CNI_PATH", "/opt/cni/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(config.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn config(socket: &Path, more: &str) -> String {
    let socket = socket.display();
    format!(
        r#"{{"cniVersion":"0.4.0","name":"aws-cni","type":"aws-cni","mtu":"1500","ipamdSocket":"{socket}"{more}}}"#
    )
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_nodestead-cni"))
}

/// A node whose pods may talk to each other.
fn node(tail: &str) -> Option<Netns> {
    let node = Netns::new(tail)?;
    node.run(&["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    Some(node)
}

fn plumbed(id: &str) -> Option<(Ipv4Addr, u32)> {
    match id {
        "a" => Some((Ipv4Addr::new(192, 168, 0, 20), 254)),
        "b" => Some((Ipv4Addr::new(192, 168, 0, 21), 2)),
        "branch" | "branch6" => Some((Ipv4Addr::new(192, 168, 0, 22), 254)),
        "six" => Some((Ipv4Addr::new(169, 254, 172, 6), 254)),
        "seven" => Some((Ipv4Addr::new(169, 254, 172, 7), 254)),
        _ => None,
    }
}

#[test]
fn two_pods_reach_each_other_and_leave_nothing_behind() {
    let (Some(node), Some(a), Some(b)) = (node("n"), Netns::new("a"), Netns::new("b")) else {
        return;
    };
    let Some(router) = Netns::new("r") else { return };
    // A node has an address, and asks for its pods' hardware addresses with it.
    connect(&node, &router);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("ipamd.sock");
    ipamd(&socket, plumbed);
    let config = config(&socket, "");

    for (id, pod) in [("a", &a), ("b", &b), ("a", &a)] {
        let started = Instant::now();
        let output = cni(&node, program(), "ADD", id, &pod.path(), &config);
        println!("ADD {id}: {:?}", started.elapsed());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let result: NetResult = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(result.ips[0].address.addr(), plumbed(id).unwrap().0);
        assert_eq!(result.ips[0].interface, Some(1));
    }
    let rules = String::from_utf8(node.run(&["ip", "rule"]).stdout).unwrap();
    assert!(rules.contains("512:\tfrom all to 192.168.0.20 lookup main"), "{rules}");
    assert!(rules.contains("1536:\tfrom 192.168.0.21 lookup 2"), "{rules}");
    assert!(!rules.contains("from 192.168.0.20"), "{rules}");

    // Table 2 stands for the secondary interface's, which is not part of this test: the rule at
    // 512 has to win for what stays on the node.
    let _server = serve(&b, "192.168.0.21:80");
    assert!(can_connect(&a, "192.168.0.21:80"));

    for (id, pod) in [("a", &a), ("b", &b), ("a", &a), ("unknown", &a)] {
        let output = cni(&node, program(), "DEL", id, &pod.path(), &config);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let links = Netlink::at(&node.path()).unwrap().links().unwrap();
    assert_eq!(links.iter().filter(|link| link.name.starts_with("eni")).count(), 0);
    let rules = String::from_utf8(node.run(&["ip", "rule"]).stdout).unwrap();
    assert!(!rules.contains("192.168.0.2"), "{rules}");
}

#[test]
fn pods_of_an_ipv6_cluster_reach_each_other_by_ipv6_and_the_node_by_ipv4() {
    let (Some(node), Some(six), Some(seven)) = (node("n6"), Netns::new("s6"), Netns::new("s7"))
    else {
        return;
    };
    let Some(router) = Netns::new("r6") else { return };
    connect(&node, &router);
    node.run(&["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"]);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("ipamd.sock");
    ipamd(&socket, plumbed);
    let config = config(&socket, "");
    for (id, pod) in [("six", &six), ("seven", &seven), ("six", &six)] {
        let output = cni(&node, program(), "ADD", id, &pod.path(), &config);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let result: NetResult = serde_json::from_slice(&output.stdout).unwrap();
        let address = ipv6_of(id).unwrap().address;
        assert_eq!(result.ips.len(), 1, "IPv4 is nobody's business");
        assert_eq!(result.ips[0].address, ipnet::Ipv6Net::from(address).into());
    }
    let _server = serve(&seven, "[2001:db8:0:100:5::7]:80");
    assert!(can_connect(&six, "[2001:db8:0:100:5::7]:80"));
    let inside = Netlink::at(&six.path()).unwrap();
    assert!(inside.link_by_name("v4if0").unwrap().is_some());
    assert!(Netlink::at(&seven.path()).unwrap().link_by_name("v4if0").unwrap().is_none());
    let routes = Netlink::at(&node.path()).unwrap().routes().unwrap();
    let egress: ipnet::IpNet = "169.254.172.6/32".parse().unwrap();
    assert!(routes.iter().any(|it| it.destination == egress), "{routes:?}");

    let text = config.trim_end_matches('}').to_owned();
    let previous = format!(
        r#"{text},"prevResult":{{"cniVersion":"0.4.0","ips":[{{"version":"6","address":"2001:db8:0:100:5::6/128"}}]}}}}"#
    );
    let checked = cni(&node, program(), "CHECK", "six", &six.path(), &previous);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    for (id, pod) in [("six", &six), ("seven", &seven)] {
        let output = cni(&node, program(), "DEL", id, &pod.path(), &config);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let left = Netlink::at(&node.path()).unwrap();
    let is_pods = |name: &str| name.starts_with("eni") || name.starts_with("veth");
    assert!(!left.links().unwrap().iter().any(|it| is_pods(&it.name)));
    let rules = left.rules().unwrap();
    assert!(!rules.iter().any(|it| it.priority == 512), "{rules:?}");
}

#[test]
fn an_empty_pool_and_a_dead_daemon_fail_in_upstreams_words() {
    let (Some(node), Some(pod)) = (node("e"), Netns::new("f")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("ipamd.sock");
    ipamd(&socket, plumbed);
    let output = cni(&node, program(), "ADD", "x", &pod.path(), &config(&socket, ""));
    assert!(!output.status.success());
    let error: CniError = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(error.msg, "add cmd: failed to assign an IP address to container");

    let nobody = config(&folder.path().join("nobody.sock"), "");
    let output = cni(&node, program(), "ADD", "x", &pod.path(), &nobody);
    let error: CniError = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(error.msg, "add cmd: failed to connect to backend server");
    let output = cni(&node, program(), "DEL", "x", &pod.path(), &nobody);
    assert!(output.status.success());
    assert_eq!(Netlink::at(&pod.path()).unwrap().link_by_name("eth0").unwrap(), None);
}

#[test]
fn a_host_port_leads_from_outside_to_the_pod_until_it_is_deleted() {
    let (Some(node), Some(pod), Some(client)) = (node("h"), Netns::new("i"), Netns::new("j"))
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("ipamd.sock");
    ipamd(&socket, plumbed);
    connect(&node, &client);
    let ports = r#","runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80}]}"#;
    let config = config(&socket, ports);
    assert!(cni(&node, program(), "ADD", "a", &pod.path(), &config).status.success());
    let _server = serve(&pod, "192.168.0.20:80");
    assert!(can_connect(&client, "10.9.0.1:8080"));

    assert!(cni(&node, program(), "DEL", "a", &pod.path(), &config).status.success());
    let listed = node.run(&["nft", "list", "map", "ip", "aws-cni-hostports", "ports"]);
    assert!(!String::from_utf8(listed.stdout).unwrap().contains("8080"));
}

#[test]
fn a_host_port_leads_to_an_ipv6_pod_by_the_nodes_ipv6_address() {
    let (Some(node), Some(pod), Some(client)) = (node("h6"), Netns::new("i6"), Netns::new("j6"))
    else {
        return;
    };
    node.run(&["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"]);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("ipamd.sock");
    ipamd(&socket, plumbed);
    connect(&node, &client);
    for (netns, address) in [(&node, "2001:db8:9::1/64"), (&client, "2001:db8:9::2/64")] {
        let netlink = Netlink::at(&netns.path()).unwrap();
        let index = netlink.link_by_name("eth0").unwrap().unwrap().index;
        netlink.add_address(index, address.parse().unwrap()).unwrap();
    }
    let ports = r#","runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80},
        {"hostPort":8081,"containerPort":80,"hostIP":"10.9.0.1"}]}"#;
    let config = config(&socket, ports);
    let output = cni(&node, program(), "ADD", "seven", &pod.path(), &config);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let _server = serve(&pod, "[2001:db8:0:100:5::7]:80");
    assert!(can_connect(&client, "[2001:db8:9::1]:8080"));
    assert!(!can_connect(&client, "10.9.0.1:8081"), "the pod has no IPv4 address");
    assert!(cni(&node, program(), "DEL", "seven", &pod.path(), &config).status.success());
    let listed = node.run(&["nft", "list", "map", "ip6", "aws-cni-hostports", "ports"]);
    assert!(!String::from_utf8(listed.stdout).unwrap().contains("8080"));
}

#[test]
fn the_node_reaches_a_host_port_at_its_loopback_and_pods_do_not_reach_what_listens_there() {
    let (Some(node), Some(pod)) = (node("hk"), Netns::new("hl")) else { return };
    node.run(&["ip", "link", "set", "lo", "up"]);
    node.run(&["ip", "address", "add", "192.168.0.10/32", "dev", "lo"]);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("ipamd.sock");
    ipamd(&socket, plumbed);
    let ports = r#","runtimeConfig":{"portMappings":[
        {"hostPort":8080,"containerPort":80,"hostIP":"127.0.0.1"}]}"#;
    let config = config(&socket, ports);
    assert!(cni(&node, program(), "ADD", "a", &pod.path(), &config).status.success());
    let _server = serve(&pod, "192.168.0.20:80");
    assert!(can_connect(&node, "127.0.0.1:8080"));
    assert!(!can_connect(&node, "192.168.0.10:8080"), "that address has no such port");

    let _own = serve(&node, "127.0.0.1:9999");
    // A pod that sends what is for 127.0.0.1 out of its link.
    pod.run(&["sysctl", "-qw", "net.ipv4.conf.eth0.route_localnet=1"]);
    assert!(!can_connect(&pod, "127.0.0.1:9999"));
    assert!(!can_connect(&pod, "127.0.0.1:8080"));
    // Without the guard it would: the test tests something.
    node.run(&["nft", "delete", "table", "ip", "aws-cni-localnet"]);
    assert!(can_connect(&pod, "127.0.0.1:9999"));
}

/// What a pod with a host port is masqueraded for ends with the way to itself.
#[test]
fn pods_with_host_ports_keep_their_addresses_towards_each_other() {
    let (Some(node), Some(a), Some(b)) = (node("hp"), Netns::new("hq"), Netns::new("hr")) else {
        return;
    };
    let Some(router) = Netns::new("hs") else { return };
    connect(&node, &router);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("ipamd.sock");
    ipamd(&socket, plumbed);
    let ports = |host: u16| {
        let more = format!(
            r#","runtimeConfig":{{"portMappings":[{{"hostPort":{host},"containerPort":80}}]}}"#
        );
        config(&socket, &more)
    };
    for (id, pod, host) in [("a", &a, 8080), ("b", &b, 8081)] {
        assert!(cni(&node, program(), "ADD", id, &pod.path(), &ports(host)).status.success());
    }
    let listener = serve(&b, "192.168.0.21:80");
    assert!(can_connect(&a, "10.9.0.1:8081"));
    assert_eq!(listener.accept().unwrap().1.ip(), IpAddr::from([192, 168, 0, 20]));
    assert!(can_connect(&b, "10.9.0.1:8081"), "itself, by the node's port");

    for (id, pod, host) in [("a", &a, 8080), ("b", &b, 8081)] {
        assert!(cni(&node, program(), "DEL", id, &pod.path(), &ports(host)).status.success());
    }
    let listed = node.run(&["nft", "list", "table", "ip", "aws-cni-hostports"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(!listed.contains("192.168.0."), "{listed}");
}

/// What stands for a pod that went without its DEL gives way; the DEL that comes late takes nothing away
/// from who has the port by then.
#[test]
fn a_host_port_goes_to_the_newer_pod_with_others_that_were_free_and_stays_with_it() {
    let (Some(node), Some(a), Some(b)) = (node("ht"), Netns::new("hu"), Netns::new("hv")) else {
        return;
    };
    let Some(client) = Netns::new("hw") else { return };
    connect(&node, &client);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("ipamd.sock");
    ipamd(&socket, plumbed);
    let ports = |hosts: [u16; 2]| {
        let [one, two] = hosts.map(|it| format!(r#"{{"hostPort":{it},"containerPort":80}}"#));
        config(&socket, &format!(r#","runtimeConfig":{{"portMappings":[{one},{two}]}}"#))
    };
    let (of_a, of_b) = (ports([8081, 8082]), ports([8080, 8081]));
    assert!(cni(&node, program(), "ADD", "a", &a.path(), &of_a).status.success());
    let output = cni(&node, program(), "ADD", "b", &b.path(), &of_b);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let _server = serve(&b, "192.168.0.21:80");
    assert!(can_connect(&client, "10.9.0.1:8080") && can_connect(&client, "10.9.0.1:8081"));

    assert!(cni(&node, program(), "DEL", "a", &a.path(), &of_a).status.success());
    assert!(can_connect(&client, "10.9.0.1:8081"), "it is the other pod's");
    let listed = node.run(&["nft", "list", "map", "ip", "aws-cni-hostports", "ports"]);
    assert!(!String::from_utf8(listed.stdout).unwrap().contains("8082"));
}

/// A pod that says by IPv6 that it is the router would be believed otherwise.
#[test]
fn a_node_is_told_not_to_heed_its_pods_router_advertisements() {
    let (Some(node), Some(pod)) = (node("ra"), Netns::new("rb")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("ipamd.sock");
    ipamd(&socket, plumbed);
    let output = cni(&node, program(), "ADD", "a", &pod.path(), &config(&socket, ""));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let links = Netlink::at(&node.path()).unwrap().links().unwrap();
    let link = &links.iter().find(|it| it.name.starts_with("eni")).unwrap().name;
    for setting in ["accept_ra", "accept_redirects"] {
        let read = node.run(&["cat", &format!("/proc/sys/net/ipv6/conf/{link}/{setting}")]);
        assert_eq!(read.stdout, b"0\n", "{setting}");
    }
}

#[test]
fn a_pods_bandwidth_is_limited_both_ways_until_it_goes() {
    let (Some(node), Some(pod)) = (node("bw"), Netns::new("bp")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("ipamd.sock");
    ipamd(&socket, plumbed);
    let limits =
        |text: &str| config(&socket, &format!(r#","runtimeConfig":{{"bandwidth":{text}}}"#));
    let half = limits(r#"{"ingressRate":1000000}"#);
    let output = cni(&node, program(), "ADD", "a", &pod.path(), &half);
    let error: CniError = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(error.msg, "if rate is set, burst must also be set");

    let config = limits(
        r#"{"ingressRate":8000000,"ingressBurst":800000,"egressRate":4000000,"egressBurst":400000}"#,
    );
    for _ in 0..2 {
        let output = cni(&node, program(), "ADD", "a", &pod.path(), &config);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let netlink = Netlink::at(&node.path()).unwrap();
    let links = netlink.links().unwrap();
    let of = |prefix: &str| links.iter().find(|it| it.name.starts_with(prefix)).unwrap();
    assert_eq!(netlink.schedulers(of("eni").index).unwrap(), ["tbf", "ingress"]);
    assert_eq!(netlink.schedulers(of("bwp").index).unwrap(), ["tbf"]);
    let lo = netlink.link_by_name("lo").unwrap().unwrap().index;
    netlink.set_up(lo).unwrap();
    netlink.add_address(lo, "10.9.0.9/32".parse().unwrap()).unwrap();
    let up = seconds_for(&pod, &node, "10.9.0.9", 400_000);
    let down = seconds_for(&node, &pod, "192.168.0.20", 800_000);
    // Less the burst, 350 kB at 500 kB/s and 700 kB at 1 MB/s.
    assert!(up > 0.5, "sent in {up} s");
    assert!(down > 0.5, "received in {down} s");

    assert!(cni(&node, program(), "DEL", "a", &pod.path(), &config).status.success());
    let left = netlink.links().unwrap();
    assert!(!left.iter().any(|it| it.name.starts_with("bwp")), "{left:?}");
}

/// How long it takes to send so many bytes from one namespace to an address of the other.
fn seconds_for(from: &Netns, to: &Netns, address: &'static str, bytes: usize) -> f64 {
    let listener = inside(to, move || std::net::TcpListener::bind((address, 0)).unwrap());
    let address = listener.local_addr().unwrap();
    let mut sender = inside(from, move || std::net::TcpStream::connect(address).unwrap());
    let (mut receiver, _) = listener.accept().unwrap();
    let started = Instant::now();
    let reader = std::thread::spawn(move || std::io::copy(&mut receiver, &mut std::io::sink()));
    sender.write_all(&vec![0; bytes]).unwrap();
    drop(sender);
    assert_eq!(reader.join().unwrap().unwrap(), bytes as u64);
    started.elapsed().as_secs_f64()
}

#[test]
fn under_its_other_name_it_takes_the_loopback_up() {
    let (Some(node), Some(pod)) = (node("l"), Netns::new("m")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().join("loopback");
    std::fs::copy(program(), &name).unwrap();
    let config = r#"{"cniVersion":"0.3.1","name":"cni-loopback","type":"loopback"}"#;
    let output = cni(&node, &name, "ADD", "a", &pod.path(), config);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(Netlink::at(&pod.path()).unwrap().link_by_name("lo").unwrap().unwrap().is_up);
}

/// A link between the node (10.9.0.1) and a machine outside (10.9.0.2).
fn connect(node: &Netns, outside: &Netns) {
    let (here, there) = (Netlink::at(&node.path()).unwrap(), Netlink::at(&outside.path()).unwrap());
    let other = File::open(outside.path()).unwrap();
    let peer = VethEnd { netns: Some(other.as_fd()), ..VethEnd::named("eth0") };
    here.create_veth(&Veth { end: VethEnd::named("eth0"), peer }).unwrap();
    for (netlink, address) in [(&here, "10.9.0.1/24"), (&there, "10.9.0.2/24")] {
        let index = netlink.link_by_name("eth0").unwrap().unwrap().index;
        netlink.set_up(index).unwrap();
        netlink.add_address(index, address.parse().unwrap()).unwrap();
    }
    let index = there.link_by_name("eth0").unwrap().unwrap().index;
    let pods = Route::to("192.168.0.0/16".parse().unwrap()).device(index).scope(Scope::Link);
    there.add_route(&pods).unwrap();
}

/// Listens in `netns` until dropped; the backlog answers.
fn serve(netns: &Netns, address: &'static str) -> std::net::TcpListener {
    inside(netns, move || std::net::TcpListener::bind(address).unwrap())
}

fn can_connect(netns: &Netns, address: &'static str) -> bool {
    inside(netns, move || {
        let limit = Duration::from_secs(2);
        std::net::TcpStream::connect_timeout(&address.parse().unwrap(), limit).is_ok()
    })
}

fn inside<T: Send + 'static>(netns: &Netns, work: impl FnOnce() -> T + Send + 'static) -> T {
    let file = File::open(netns.path()).unwrap();
    std::thread::spawn(move || {
        nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
    .join()
    .unwrap()
}
