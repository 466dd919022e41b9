//! How long a full node's policies take to become a table, and how much of it a change rewrites.
//! Prints what it measured.

use std::{collections::BTreeMap, time::Duration};

use api_kube::policy_endpoint::{
    EndpointInfo, PodEndpoint, PolicyEndpointSpec, PolicyReference, Port,
};
use controller::Key;
use network_policy_agent::ruleset::{Log, Mode, Options, compile};
use tokio::time::Instant;

const PODS: usize = 110;
const POLICIES: usize = 200;
const PEERS: usize = 200;
/// Unoptimised, on a machine that is busy with other tests.
const BOUND: Duration = Duration::from_secs(10);

fn endpoints() -> BTreeMap<Key, PolicyEndpointSpec> {
    let policy = |number: usize| {
        let pod = |pod: usize| PodEndpoint {
            namespace: "x".into(),
            name: format!("p-{pod}"),
            pod_ip: format!("10.0.0.{pod}"),
            host_ip: "192.168.0.5".into(),
        };
        let port = Port { protocol: Some("TCP".into()), port: Some(80), end_port: None };
        let peer = |peer: usize| EndpointInfo {
            cidr: format!("10.{}.{}.{peer}", 1 + number / 250, number % 250),
            except: Vec::new(),
            ports: vec![port.clone()],
        };
        let name = format!("policy-{number}");
        let spec = PolicyEndpointSpec {
            policy_ref: PolicyReference { namespace: "x".into(), name: name.clone() },
            pod_isolation: vec!["Ingress".into()],
            pod_selector_endpoints: (0..10).map(|it| pod((number + it) % PODS)).collect(),
            ingress: (0..PEERS).map(peer).collect(),
            ..PolicyEndpointSpec::default()
        };
        (Key::new("x", name), spec)
    };
    (0..POLICIES).map(policy).collect()
}

#[tokio::test]
async fn a_peer_more_among_forty_thousand_is_one_element() {
    let mut endpoints = endpoints();
    let options = Options {
        mode: Mode::Standard,
        prefix: "eni".into(),
        has_strict_branches: false,
        log: Log::Nothing,
        node: None,
    };
    let start = Instant::now();
    let old = compile(&endpoints, &options).table;
    let compiled = start.elapsed();
    let mut first = endpoints.first_entry().expect("there are many");
    let mut more = first.get().ingress[0].clone();
    more.cidr = "10.9.9.9".into();
    first.get_mut().ingress.push(more);
    let start = Instant::now();
    let new = compile(&endpoints, &options).table;
    let changes = new.changes_from(&old);
    let changed = start.elapsed();
    eprintln!(
        "{POLICIES} policies × {PEERS} peers over {PODS} pods: a table in {compiled:?}, \
         the next one and their difference in {changed:?}"
    );
    assert_eq!(changes.text().lines().count(), 1, "{}", changes.text());
    assert!(compiled < BOUND && changed < BOUND);
}
