//! Pods with an interface of their own: a branch, in both modes, and by IPv6.

use std::{fs::File, os::fd::AsFd};

use api_cni::{NetResult, host_link_name};
use linux_netlink::{Netlink, Route, Scope, Veth, VethEnd};

use super::{
    BRANCH_MAC, Netns, can_connect, cni, config, connect, ipamd, node, plumbed, program, serve,
};

/// What the region makes of a branch on VLAN 5: a link in the node without an address, and behind it
/// the subnet's router, which is the machine outside.
fn plug_branch(node: &Netns, router: &Netns) {
    let (here, there) = (Netlink::at(&node.path()).unwrap(), Netlink::at(&router.path()).unwrap());
    let other = File::open(router.path()).unwrap();
    let end = VethEnd { mac: Some(BRANCH_MAC.parse().unwrap()), ..VethEnd::named("vlan.eth.5") };
    let peer = VethEnd { netns: Some(other.as_fd()), ..VethEnd::named("branch") };
    here.create_veth(&Veth { end, peer }).unwrap();
    let index = there.link_by_name("branch").unwrap().unwrap().index;
    there.set_up(index).unwrap();
    there.add_address(index, "192.168.0.1/32".parse().unwrap()).unwrap();
    let pod = Route::to_host("192.168.0.22".parse().unwrap()).device(index).scope(Scope::Link);
    there.add_route(&pod).unwrap();
    // A VPC knows whose an address is: nobody is asked by ARP.
    let (address, mac) = ("192.168.0.22".parse().unwrap(), BRANCH_MAC.parse().unwrap());
    there.add_neighbour(index, address, mac).unwrap();
    router.run(&["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
}

fn rules_of(node: &Netns) -> String {
    String::from_utf8(node.run(&["ip", "rule"]).stdout).unwrap()
}

/// A node with a branch, whose router is the only way from the pod to anybody, the node included.
fn node_with_branch(tail: &str) -> Option<(Netns, Netns, Netns)> {
    let (node, router, pod) = (
        node(&format!("{tail}n"))?,
        Netns::new(&format!("{tail}r"))?,
        Netns::new(&format!("{tail}p"))?,
    );
    connect(&node, &router);
    plug_branch(&node, &router);
    let out = node.run(&["ip", "route", "add", "192.168.0.0/16", "via", "10.9.0.2"]);
    assert!(out.status.success());
    // What ipamd and the init container do where pods have branches.
    for command in [
        "ip rule add priority 20 lookup local",
        "ip rule delete priority 0",
        "sysctl -qw net.ipv4.tcp_early_demux=0",
        "sysctl -qw net.ipv4.conf.all.rp_filter=2",
        "ip link set lo up",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        assert!(node.run(&words).status.success(), "{command}");
    }
    Some((node, router, pod))
}

#[test]
fn in_strict_mode_a_branchs_pod_meets_its_router_even_on_the_way_to_its_own_node() {
    let Some((node, router, pod)) = node_with_branch("s") else { return };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("ipamd.sock");
    ipamd(&socket, plumbed);
    let config = config(&socket, r#","podSGEnforcingMode":"strict""#);
    let mut result = Vec::new();
    for _ in 0..2 {
        let output = cni(&node, program(), "ADD", "branch", &pod.path(), &config);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        result = output.stdout;
    }
    let rules = rules_of(&node);
    assert!(rules.contains("10:\tfrom all iif vlan.eth.5 lookup 105"), "{rules}");
    let link = format!("iif {} lookup 105", host_link_name("vlan", "default", "pod-branch"));
    assert!(rules.contains(&link), "{rules}");
    assert!(!rules.contains("512:") && !rules.contains("1536:"), "{rules}");

    let _outside = serve(&router, "192.168.0.1:80");
    assert!(can_connect(&pod, "192.168.0.1:80"), "the pod to its router");
    let _inside = serve(&pod, "192.168.0.22:80");
    assert!(can_connect(&router, "192.168.0.22:80"), "the router to the pod");
    let _kubelet = serve(&node, "10.9.0.1:10250");
    assert!(can_connect(&pod, "10.9.0.1:10250"), "the pod to its node");
    assert!(can_connect(&node, "192.168.0.22:80"), "the node to its pod");
    // The router is who lets them.
    let close =
        "add table ip t; add chain ip t f { type filter hook forward priority 0; policy drop; }";
    assert!(router.run(&["nft", close]).status.success());
    assert!(!can_connect(&pod, "10.9.0.1:10250"), "past the router");
    assert!(!can_connect(&node, "192.168.0.22:80"), "past the router");

    let previous = String::from_utf8(result).unwrap();
    let config = config_with(&config, &previous);
    // The region has taken the link away already: what is left goes.
    let netlink = Netlink::at(&node.path()).unwrap();
    for is_gone in [false, true] {
        if is_gone {
            netlink.delete_link_by_name("vlan.eth.5").unwrap();
        }
        let output = cni(&node, program(), "DEL", "branch", &pod.path(), &config);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(!rules_of(&node).contains("105"), "{}", rules_of(&node));
    }
    assert!(!netlink.links().unwrap().iter().any(|it| it.name.starts_with("vlan")));
}

#[test]
fn in_standard_mode_a_branchs_pod_is_reached_directly_by_its_node() {
    let Some((node, router, pod)) = node_with_branch("t") else { return };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("ipamd.sock");
    ipamd(&socket, plumbed);
    let config = config(&socket, r#","podSGEnforcingMode":"standard""#);
    let output = cni(&node, program(), "ADD", "branch", &pod.path(), &config);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let rules = rules_of(&node);
    assert!(rules.contains("512:\tfrom all to 192.168.0.22 lookup main"), "{rules}");
    assert!(rules.contains("1536:\tfrom 192.168.0.22 lookup 105"), "{rules}");
    let _outside = serve(&router, "192.168.0.1:80");
    assert!(can_connect(&pod, "192.168.0.1:80"), "the pod to its router");
    let close =
        "add table ip t; add chain ip t f { type filter hook forward priority 0; policy drop; }";
    assert!(router.run(&["nft", close]).status.success());
    let _inside = serve(&pod, "192.168.0.22:80");
    assert!(can_connect(&node, "192.168.0.22:80"), "the node to its pod");
    assert!(can_connect(&router, "192.168.0.22:80"), "the router to the pod");
    // Without what ADD answered, ipamd knows.
    let output = cni(&node, program(), "DEL", "branch", &pod.path(), &config);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let rules = rules_of(&node);
    assert!(!rules.contains("192.168.0.22"), "{rules}");
}

/// The same by IPv6: the node is 2001:db8:9::1, the router 2001:db8:9::2 and the branch's gateway.
fn with_ipv6(node: &Netns, router: &Netns) {
    let there = Netlink::at(&router.path()).unwrap();
    let branch = there.link_by_name("branch").unwrap().unwrap().index;
    there.add_address(branch, "fe80:ec2::1/64".parse().unwrap()).unwrap();
    let pod = "2001:db8:0:100::22".parse().unwrap();
    there.add_route(&Route::to_host(pod).device(branch)).unwrap();
    there.add_neighbour(branch, pod, BRANCH_MAC.parse().unwrap()).unwrap();
    for (netns, address) in [(node, "2001:db8:9::1/64"), (router, "2001:db8:9::2/64")] {
        let netlink = Netlink::at(&netns.path()).unwrap();
        let link = netlink.link_by_name("eth0").unwrap().unwrap().index;
        netlink.add_address(link, address.parse().unwrap()).unwrap();
        netns.run(&["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"]);
    }
    for command in [
        "ip -6 route add 2001:db8:0:100::/64 via 2001:db8:9::2",
        "ip -6 rule add priority 5 to fe80::/10 lookup local",
        "ip -6 rule add priority 20 lookup local",
        "ip -6 rule delete priority 0",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        assert!(node.run(&words).status.success(), "{command}");
    }
}

#[test]
fn in_strict_mode_the_pod_of_an_ipv6_branch_meets_its_router_even_on_the_way_to_its_own_node() {
    let Some((node, router, pod)) = node_with_branch("u") else { return };
    with_ipv6(&node, &router);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("ipamd.sock");
    ipamd(&socket, plumbed);
    let config = config(&socket, r#","podSGEnforcingMode":"strict""#);
    let output = cni(&node, program(), "ADD", "branch6", &pod.path(), &config);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let result: NetResult = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result.ips[0].address, "2001:db8:0:100::22/128".parse().unwrap());
    let rules_v6 = || String::from_utf8(node.run(&["ip", "-6", "rule"]).stdout).unwrap();
    assert!(rules_v6().contains("10:\tfrom all iif vlan.eth.5 lookup 105"), "{}", rules_v6());

    let _inside = serve(&pod, "[2001:db8:0:100::22]:80");
    let _kubelet = serve(&node, "[2001:db8:9::1]:10250");
    // The node's end asks for the router once its own address is known to be unique.
    let reaches = || (0..3).any(|_| can_connect(&pod, "[2001:db8:9::1]:10250"));
    assert!(reaches(), "the pod to its node");
    assert!(can_connect(&router, "[2001:db8:0:100::22]:80"), "the router to the pod");
    assert!(can_connect(&node, "[2001:db8:0:100::22]:80"), "the node to its pod");
    let close =
        "add table ip6 t; add chain ip6 t f { type filter hook forward priority 0; policy drop; }";
    assert!(router.run(&["nft", close]).status.success());
    assert!(!can_connect(&pod, "[2001:db8:9::1]:10250"), "past the router");
    assert!(!can_connect(&node, "[2001:db8:0:100::22]:80"), "past the router");

    let config = config_with(&config, &String::from_utf8(output.stdout).unwrap());
    let output = cni(&node, program(), "DEL", "branch6", &pod.path(), &config);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(!rules_v6().contains("105"), "{}", rules_v6());
}

/// The configuration as a runtime hands it over with what ADD has answered.
fn config_with(config: &str, previous: &str) -> String {
    format!("{},\"prevResult\":{previous}}}", config.strip_suffix('}').unwrap())
}
