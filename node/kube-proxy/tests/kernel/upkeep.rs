//! What is kept right beside the rules: other hands in the table, UDP flows, the end.

use std::{net::UdpSocket, time::Duration};

use kube_proxy::{compile::Options, endpoint_slices::Here, proxier::Proxier};
use linux_nftables::{Family, Nft};
use serde_json::json;

use crate::world::{VIP, World, name, options, slice_in, slice_of, world, world_with};

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
    let six = Options { family: Family::Ip6, ..options() };
    let Some(mut world) = world_with("g", 3, &[options(), six]) else { return };
    world.serve_udp(1);
    world.serve_udp(2);
    let port = json!([{ "port": 53, "nodePort": 30053, "protocol": "UDP" }]);
    let addresses = ["10.100.0.20", "fd00:100::20"];
    world.service(json!({ "type": "NodePort", "clusterIPs": addresses, "ports": port }));
    let serve = |world: &mut World, machine: u8| {
        for kind in ["IPv4", "IPv6"] {
            let slice = slice_in(kind, &[(machine, "node")], "UDP");
            world.proxier.set_slice(&name(), kind, Some(slice));
        }
        world.sync();
    };
    serve(&mut world, 1);
    let client = |address: &'static str| {
        world.machines[0].inside(move || {
            let any = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
            let socket = UdpSocket::bind(any).unwrap();
            socket.connect(address).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
            socket
        })
    };
    let places = ["10.100.0.20:53", "10.0.0.1:30053", "[fd00:100::20]:53", "[fd00:0::1]:30053"];
    let clients = places.map(client);
    let ask = |client: &UdpSocket| {
        client.send(b"?").ok()?;
        let mut buffer = [0; 1];
        client.recv(&mut buffer).ok().map(|_| buffer[0])
    };
    assert!(clients.iter().all(|it| ask(it) == Some(b'1')));
    serve(&mut world, 2);
    for (client, place) in clients.iter().zip(places) {
        assert_eq!(ask(client), Some(b'2'), "{place}");
    }
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
    let silent = world.machines[1].inside(|| UdpSocket::bind("0.0.0.0:8080").unwrap());
    client.send(b"?").unwrap();
    silent.recv(&mut [0; 1]).unwrap();
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
