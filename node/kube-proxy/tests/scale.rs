//! Shows that a change costs the same however many Services there are.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{path::PathBuf, process::Command, time::Instant};

use kube_proxy::{
    compile::{LocalDetector, NodePorts, Options},
    endpoint_slices::{Here, Slice, reduce},
    proxier::Proxier,
    service_map::{ServiceName, ports_of},
};
use linux_nftables::{Family, Nft};
use serde_json::json;

/// As many as there are in an ordinary test run; the budget's ten thousand with
/// `NODESTEAD_SCALE=10000`.
fn services() -> usize {
    std::env::var("NODESTEAD_SCALE").ok().and_then(|it| it.parse().ok()).unwrap_or(300)
}

fn name(number: usize) -> ServiceName {
    ServiceName { namespace: "default".into(), name: format!("s{number}") }
}

fn slice(number: usize, count: usize) -> Slice {
    slice_from(number, count, 1)
}

fn slice_from(number: usize, count: usize, first: usize) -> Slice {
    let endpoints: Vec<_> = (0..count)
        .map(|n| json!({ "addresses": [format!("192.168.{}.{}", number / 256 % 256, n + first)] }))
        .collect();
    let value = json!({
        "metadata": { "namespace": "default", "labels": { "kubernetes.io/service-name": "x" } },
        "addressType": "IPv4",
        "ports": [{ "name": "", "port": 8000 + number % 1000 }],
        "endpoints": endpoints,
    });
    reduce(&serde_json::from_value(value).unwrap()).unwrap().1
}

struct Netns(String);

impl Drop for Netns {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "delete", &self.0]).status());
    }
}

#[test]
fn a_change_among_many_services_is_a_handful_of_elements() {
    let netns = Netns(format!("nst-t-kps-{}", std::process::id()));
    let made = Command::new("ip").args(["netns", "add", &netns.0]).status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("not run: cannot make network namespaces here");
        return;
    }
    let file = std::fs::File::open(PathBuf::from("/run/netns").join(&netns.0)).unwrap();
    // As the proxier runs: on threads that are in its network namespace.
    let entered = std::thread::spawn(move || {
        nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        change_many();
    });
    entered.join().unwrap();
}

fn change_many() {
    let options = Options {
        family: Family::Ip,
        masquerade_mark: 0x4000,
        masquerade_all: false,
        local: LocalDetector::Nobody,
        node_ports: NodePorts::All,
        node_ip: None,
        service_cidrs: Vec::new(),
    };
    let nft = Nft::here();
    let here = Here { node: "node".into(), zone: None };
    let mut proxier = Proxier::new(nft, here, vec![options]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sync = |proxier: &mut Proxier| {
        let started = Instant::now();
        let pass = proxier.plan();
        let planned = started.elapsed();
        runtime.block_on(pass.apply(proxier.nft())).unwrap();
        println!("planned in {planned:?}");
        (started.elapsed(), pass.services)
    };
    for number in 0..services() {
        let ip = format!("10.{}.{}.{}", 100 + number / 65536, number / 256 % 256, number % 256);
        let value = json!({
            "metadata": { "namespace": "default", "name": format!("s{number}") },
            "spec": { "clusterIP": ip, "ports": [{ "port": 80 }] },
        });
        proxier.set_service(&name(number), ports_of(&serde_json::from_value(value).unwrap()));
        proxier.set_slice(&name(number), "a", Some(slice(number, 10)));
    }
    let (took, count) = sync(&mut proxier);
    println!("{count} services with ten endpoints each, all at once: {took:?}");
    for round in 0..5 {
        let count = if round % 2 == 0 { 9 } else { 10 };
        proxier.set_slice(&name(7), "a", Some(slice(7, count)));
        let (took, changed) = sync(&mut proxier);
        println!("one endpoint among {}: {took:?}", services());
        proxier.set_slice(&name(7), "a", Some(slice_from(7, 10, 100 + round)));
        let (took, _) = sync(&mut proxier);
        println!("ten endpoints replaced among {}: {took:?}", services());
        assert_eq!(changed, 1);
    }
}
