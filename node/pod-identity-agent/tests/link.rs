//! The agent's link in a throw-away namespace: a pod behind a veth reaches its address.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    io::{Read, Write},
    net::{IpAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use linux_netlink::Netlink;
use pod_identity_agent::link::{self, IPV4, IPV6};
use transport::Place;

struct Netns(String);

impl Netns {
    fn new(tail: &str) -> Option<Self> {
        let name = format!("nst-t-pia-{}-{tail}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("not run: cannot make network namespaces here");
            return None;
        }
        Some(Self(name))
    }

    fn place(&self) -> Place {
        Place::Netns(PathBuf::from("/run/netns").join(&self.0))
    }

    fn netlink(&self) -> Netlink {
        Netlink::at(&PathBuf::from("/run/netns").join(&self.0)).unwrap()
    }

    fn ip(&self, command: &str) {
        let words = ["-n", &self.0].into_iter().chain(command.split(' '));
        assert!(Command::new("ip").args(words).status().unwrap().success(), "{command}");
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "delete", &self.0]).status());
    }
}

#[test]
fn a_pod_reaches_the_agent_at_its_link_local_address_and_at_its_ipv6_one() {
    let (Some(node), Some(pod)) = (Netns::new("node"), Netns::new("pod")) else { return };
    let netlink = node.netlink();
    let is_without_ipv6 = link::ensure(&netlink).unwrap().is_some();
    // A restart of the pod finds what is there.
    link::ensure(&netlink).unwrap();
    let index = netlink.link_by_name(link::NAME).unwrap().unwrap().index;
    let found: Vec<IpAddr> = netlink
        .addresses()
        .unwrap()
        .into_iter()
        .filter(|it| it.index == index)
        .map(|it| it.net.addr())
        .collect();
    assert!(found.contains(&IPV4.into()), "{found:?}");
    assert_eq!(found.contains(&IPV6.into()), !is_without_ipv6, "{found:?}");

    // As the VPC CNI has it: a /32, and a default route through an address that is nobody's.
    node.ip(&format!("link add enipod type veth peer name eth0 netns {}", pod.0));
    node.ip("link set enipod up");
    node.ip("link set lo up");
    node.ip("route add 192.168.7.9/32 dev enipod scope link");
    pod.ip("addr add 192.168.7.9/32 dev eth0");
    pod.ip("link set eth0 up");
    pod.ip("route add 169.254.1.1 dev eth0 scope link");
    pod.ip("route add default via 169.254.1.1 dev eth0");
    let host = netlink.link_by_name("enipod").unwrap().unwrap().mac.unwrap();
    pod.ip(&format!("neigh add 169.254.1.1 lladdr {host} dev eth0 nud permanent"));

    assert_eq!(exchange(&node, &pod, IPV4), "192.168.7.9", "the pod's own address");
    if is_without_ipv6 {
        eprintln!("not run: this machine has no IPv6");
        return;
    }
    // A pod of an IPv6 cluster: one address, and all else by its link's other end.
    node.ip("addr add fe80::1/64 dev enipod nodad");
    node.ip("route add 2001:db8::9/128 dev enipod");
    pod.ip("addr add 2001:db8::9/128 dev eth0 nodad");
    pod.ip("route add default via fe80::1 dev eth0 onlink");
    pod.ip(&format!("neigh add fe80::1 lladdr {host} dev eth0 nud permanent"));
    assert_eq!(exchange(&node, &pod, IPV6), "2001:db8::9");
}

/// What the agent at `address` hears as the pod's address, once the pod has heard it.
fn exchange(node: &Netns, pod: &Netns, address: impl Into<IpAddr>) -> String {
    let address = std::net::SocketAddr::new(address.into(), 80);
    let listener = node.place().enter(move || TcpListener::bind(address)).unwrap();
    let served = std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        stream.write_all(b"here").unwrap();
        peer.ip()
    });
    let heard = pod.place().enter(move || {
        let limit = Duration::from_secs(5);
        let mut stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    });
    assert_eq!(heard.unwrap(), "here");
    served.join().unwrap().to_string()
}
