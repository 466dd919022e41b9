//! Worlds, drawn at random.
//!
//! Instances, interfaces and pods are in all worlds, with their addresses; what stands between them is
//! drawn. Everybody is known by a number: instances first, then pods, then AWS's endpoints, then
//! Services, each of which has one endpoint or none, so that it is known who is chosen: by their cluster
//! addresses, by their external ones, and by their node ports of one node after the other.

mod policies;
mod vpc;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use api_kube::policy_endpoint::PolicyEndpoint;
use ipnet::{Ipv4Net, Ipv6Net};
use k8s_openapi::api::{
    core::v1::{Namespace, Node, Pod, Service},
    discovery::v1::EndpointSlice,
    networking::v1::NetworkPolicy,
};
use linux_netlink::Mac;
use network_policy::{CHUNK_SIZE, resolve};
use region_vpc::{ENDPOINTS, ENDPOINTS_V6, VpcSpec};
use serde_json::{Value, json};

use super::{
    super::cluster::{Cluster, Cni},
    ground::Ground,
};

pub(super) const NODES: usize = 3;
/// Two of each instance: one with an address of the primary interface, one of the second.
pub(super) const PODS: usize = 2 * NODES;
/// Who connects; the others only answer.
pub(super) const PARTIES: usize = NODES + PODS;
pub(super) const SERVICES: usize = 3;
/// To whom one connects.
pub(super) const TARGETS: usize = PARTIES + 1 + SERVICES * (2 + NODES);
pub(super) const PORTS: [u16; 2] = [1000, 2000];
const SUBNETS: u8 = 3;
const GROUPS: usize = 4;
const NAMESPACES: [&str; 2] = ["a", "b"];

/// xorshift64*: a test's worlds follow from its seed alone.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(drawn).unwrap() % limit
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}

/// What pods and Services have, all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// See the module.
pub(super) struct World {
    family: Family,
    pub(super) spec: VpcSpec,
    pub(super) cluster: Cluster,
    policies: Vec<NetworkPolicy>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cni = &self.cluster.cni;
        writeln!(out, "strict: {}, {cni:?}\n{:#?}", self.cluster.is_strict, self.spec)?;
        for policy in &self.policies {
            writeln!(out, "{}", serde_json::to_string(policy).unwrap_or_default())?;
        }
        Ok(())
    }
}

impl World {
    pub(super) fn draw(dice: &mut Dice, ground: &Ground) -> Self {
        let family = ground.family();
        let pods: Vec<Pod> = (0..PODS).map(|it| pod(dice, family, it)).collect();
        let namespaces = NAMESPACES.map(|it| {
            object::<Namespace>(json!({ "metadata": { "name": it, "labels": { "team": it } } }))
        });
        let policies: Vec<NetworkPolicy> =
            (0..dice.below(4)).map(|number| policies::policy(dice, family, number)).collect();
        let known = Known { pods: &pods, namespaces: &namespaces };
        let endpoints = policies.iter().flat_map(|it| {
            let of = it.metadata.name.clone().unwrap_or_default();
            let specs = resolve(it, &known, CHUNK_SIZE).into_iter().enumerate();
            specs.map(move |(part, spec)| {
                let namespace = spec.policy_ref.namespace.clone();
                object::<PolicyEndpoint>(json!({
                    "metadata": { "name": format!("{of}-{part}"), "namespace": namespace },
                    "spec": spec,
                }))
            })
        });
        let cluster = Cluster {
            policies: Some(endpoints.collect()),
            nodes: (0..NODES).map(|it| node(family, it)).collect(),
            services: (0..SERVICES).map(|it| service(dice, family, it)).collect(),
            slices: (0..SERVICES).map(|it| slice(dice, family, it)).collect(),
            is_strict: dice.one_in(5),
            cni: Cni { is_external_snat: dice.one_in(4), ..Cni::default() },
            pods,
        };
        Self { family, spec: vpc::vpc(dice, ground), cluster, policies }
    }

    /// As `explain path --from` takes it.
    pub(super) fn name(&self, party: usize) -> String {
        match party.checked_sub(NODES) {
            None => format!("node/n{party}"),
            Some(pod) => format!("{}/p{pod}", namespace_of(pod)),
        }
    }

    /// As `--to` does.
    pub(super) fn target(&self, party: usize, port: u16) -> String {
        match party.checked_sub(PARTIES) {
            None => format!("{}:{port}", self.name(party)),
            Some(service @ 1..=SERVICES) => format!("{}/s{}:{port}", NAMESPACES[0], service - 1),
            Some(_) => self.family.socket(party, port).to_string(),
        }
    }
}

// === Who is there ===

fn byte(number: usize) -> u8 {
    u8::try_from(number).unwrap()
}

/// An interface's subnet: the last instance has its second one elsewhere, as with custom networking.
fn subnet_of(eni: usize) -> u8 {
    match eni {
        5 => 0,
        eni => byte(eni % NODES) % SUBNETS,
    }
}

pub(super) fn subnet_cidr(eni: usize) -> Ipv4Net {
    Ipv4Net::new(Ipv4Addr::new(10, 0, subnet_of(eni), 0), 24).unwrap()
}

/// The primary address of an interface: the instances' first ones, then their second ones.
pub(super) fn eni_address(eni: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, subnet_of(eni), 10 + byte(eni))
}

pub(super) fn eni_mac(eni: usize) -> Mac {
    Mac([0x0a, 0, 0, 0, 1, byte(eni)])
}

/// The interface that has a pod's address, which is its number among interfaces too.
pub(super) fn pod_address(pod: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, subnet_of(pod), 100 + byte(pod))
}

impl Family {
    /// Where anybody is reached.
    pub(super) fn address(self, party: usize) -> IpAddr {
        match (party.checked_sub(NODES), party.checked_sub(PARTIES)) {
            (_, Some(0)) if self == Self::V4 => ENDPOINTS.into(),
            (_, Some(0)) => ENDPOINTS_V6.into(),
            (_, Some(other)) => match ((other - 1) / SERVICES, (other - 1) % SERVICES) {
                (0, service) => self.cluster_ip(service),
                (1, service) => self.external_ip(service),
                (way, _) => self.node_address(way - 2),
            },
            (Some(pod), None) => self.pod_address(pod),
            (None, None) => self.node_address(party),
        }
    }

    /// Where a port of theirs is reached: another one where it is a node port.
    pub(super) fn socket(self, party: usize, port: u16) -> SocketAddr {
        let other = party.checked_sub(PARTIES + 1);
        let by_node = other.filter(|it| it / SERVICES >= 2).map(|it| it % SERVICES);
        let port = match by_node {
            Some(service) => node_port(service, usize::from(port == PORTS[1])),
            None => port,
        };
        SocketAddr::new(self.address(party), port)
    }

    pub(super) fn node_address(self, node: usize) -> IpAddr {
        match self {
            Self::V4 => eni_address(node).into(),
            Self::V6 => node_ipv6(node).into(),
        }
    }

    pub(super) fn pod_address(self, pod: usize) -> IpAddr {
        match self {
            Self::V4 => pod_address(pod).into(),
            Self::V6 => {
                let first = node_prefix(pod % NODES).network().to_bits();
                Ipv6Addr::from_bits(first + 100 + u128::from(byte(pod))).into()
            }
        }
    }

    fn cluster_ip(self, service: usize) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(10, 100, 0, 10 + byte(service)).into(),
            Self::V6 => {
                Ipv6Addr::new(0xfd12, 0, 0, 0, 0, 0, 0, 10 + u16::from(byte(service))).into()
            }
        }
    }

    fn external_ip(self, service: usize) -> IpAddr {
        let service = byte(service);
        match self {
            Self::V4 => Ipv4Addr::new(198, 51, 100, 10 + service).into(),
            Self::V6 => {
                Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 10 + u16::from(service)).into()
            }
        }
    }

    fn name(self) -> &'static str {
        if self == Self::V4 { "IPv4" } else { "IPv6" }
    }

    /// What only one address has.
    fn host_len(self) -> u8 {
        if self == Self::V4 { 32 } else { 128 }
    }
}

/// A node's own IPv6 address.
fn node_ipv6(node: usize) -> Ipv6Addr {
    let (node, subnet) = (u16::from(byte(node)), u16::from(subnet_of(node)));
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0x100 + subnet, 0, 0, 0, 0x10 + node)
}

/// That of a node's pods, which is the primary interface's.
fn node_prefix(node: usize) -> Ipv6Net {
    let subnet = u16::from(subnet_of(node));
    let first = Ipv6Addr::new(0x2001, 0xdb8, 0, 0x100 + subnet, 1 + u16::from(byte(node)), 0, 0, 0);
    Ipv6Net::new(first, 80).unwrap()
}

pub(super) fn namespace_of(pod: usize) -> &'static str {
    NAMESPACES[pod / 2 % 2]
}

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn node(family: Family, number: usize) -> Node {
    object(json!({
        "metadata": { "name": format!("n{number}") },
        "status": { "addresses": [{ "type": "InternalIP", "address": family.node_address(number) }] },
    }))
}

fn pod(dice: &mut Dice, family: Family, number: usize) -> Pod {
    let mut ports = vec![json!({ "name": "web", "containerPort": PORTS[0] })];
    if dice.one_in(2) {
        ports.push(json!({ "name": "dns", "containerPort": PORTS[1], "protocol": "UDP" }));
    }
    let node = number % NODES;
    object(json!({
        "metadata": { "name": format!("p{number}"), "namespace": namespace_of(number),
            "labels": { "app": dice.of(&["x", "y"]) } },
        "spec": { "nodeName": format!("n{node}"),
            "containers": [{ "name": "c", "ports": ports }] },
        "status": { "phase": "Running", "podIP": family.pod_address(number),
            "hostIP": family.node_address(node) },
    }))
}

fn node_port(service: usize, port: usize) -> u16 {
    30_000 + 10 * u16::from(byte(service)) + u16::from(byte(port))
}

/// Each port leads to the other one of the endpoint.
fn service_ports(of: impl Fn(&str, &str, usize) -> Value) -> Vec<Value> {
    let protocols = ["TCP", "UDP"].into_iter();
    let both = protocols.flat_map(|protocol| [(protocol, 0), (protocol, 1)]);
    both.map(|(protocol, port)| of(&format!("{protocol}{port}").to_lowercase(), protocol, port))
        .collect()
}

fn service(dice: &mut Dice, family: Family, number: usize) -> Service {
    let mut policy = || if dice.one_in(4) { "Local" } else { "Cluster" };
    let (policy, external) = (policy(), policy());
    let ip = family.cluster_ip(number);
    object(json!({
        "metadata": { "name": format!("s{number}"), "namespace": NAMESPACES[0] },
        "spec": { "type": "NodePort", "clusterIP": ip, "clusterIPs": [ip],
            "externalIPs": [family.external_ip(number)], "externalTrafficPolicy": external,
            "ipFamilies": [family.name()], "internalTrafficPolicy": policy,
            "ports": service_ports(|name, protocol, port| json!({
                "name": name, "protocol": protocol, "port": PORTS[port],
                "nodePort": node_port(number, port),
            })) },
    }))
}

fn slice(dice: &mut Dice, family: Family, number: usize) -> EndpointSlice {
    let pod = dice.below(PODS);
    let endpoint = json!({
        "addresses": [family.pod_address(pod)], "nodeName": format!("n{}", pod % NODES),
        "conditions": { "ready": true },
    });
    let endpoints = if dice.one_in(5) { vec![] } else { vec![endpoint] };
    object(json!({
        "metadata": { "name": format!("s{number}-a"), "namespace": NAMESPACES[0],
            "labels": { "kubernetes.io/service-name": format!("s{number}") } },
        "addressType": family.name(),
        "ports": service_ports(|name, protocol, port| json!({
            "name": name, "protocol": protocol, "port": PORTS[1 - port],
        })),
        "endpoints": endpoints,
    }))
}

struct Known<'a> {
    pods: &'a [Pod],
    namespaces: &'a [Namespace],
}

impl network_policy::World for Known<'_> {
    fn pods_in(&self, namespace: &str) -> Vec<Arc<Pod>> {
        let is_in = |it: &&Pod| it.metadata.namespace.as_deref() == Some(namespace);
        self.pods.iter().filter(is_in).cloned().map(Arc::new).collect()
    }

    fn namespaces(&self) -> Vec<Arc<Namespace>> {
        self.namespaces.iter().cloned().map(Arc::new).collect()
    }
}
