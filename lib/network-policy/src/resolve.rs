//! A policy and the world give PolicyEndpoints.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    rc::Rc,
};

use api_kube::policy_endpoint::{
    EndpointInfo, PodEndpoint, PolicyEndpointSpec, PolicyReference, Port,
};
use k8s_openapi::{
    api::networking::v1::{NetworkPolicy, NetworkPolicyPort},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    Compiled, Ranges,
    policy::Peer,
    world::{World, address, name_of, named_port, namespace_of},
};

const EVERYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// All PolicyEndpoints of a policy, with at most `chunk` pods or peers each, in a stable order.
pub fn resolve(
    policy: &NetworkPolicy,
    world: &impl World,
    chunk: usize,
) -> Vec<PolicyEndpointSpec> {
    Compiled::of(policy).map(|it| it.resolve(world, chunk)).unwrap_or_default()
}

impl Compiled {
    /// See [`resolve`].
    pub fn resolve(&self, world: &impl World, chunk: usize) -> Vec<PolicyEndpointSpec> {
        let egress = egress(self, world);
        let mut endpoints = Vec::new();
        for (named, pods) in groups(self, world) {
            let ingress = ingress(self, world, &named);
            let rules = split(&ingress, &egress, chunk);
            for pods in chunks(&pods, chunk) {
                for (ingress, egress) in &rules {
                    endpoints.push(PolicyEndpointSpec {
                        pod_selector: Some(self.pod_selector.clone()),
                        policy_ref: PolicyReference {
                            name: self.name.clone(),
                            namespace: self.namespace.clone(),
                        },
                        pod_isolation: self.types.clone(),
                        pod_selector_endpoints: pods.to_vec(),
                        ingress: ingress.to_vec(),
                        egress: egress.to_vec(),
                    });
                }
            }
        }
        endpoints
    }
}

/// At least one chunk, which may be empty.
fn chunks<T>(all: &[T], size: usize) -> Vec<&[T]> {
    if all.is_empty() { vec![all] } else { all.chunks(size.max(1)).collect() }
}

fn split<'a>(
    ingress: &'a [EndpointInfo],
    egress: &'a [EndpointInfo],
    size: usize,
) -> Vec<(&'a [EndpointInfo], &'a [EndpointInfo])> {
    let (ingress, egress) = (chunks(ingress, size), chunks(egress, size));
    let at = |all: &[&'a [EndpointInfo]], n: usize| all.get(n).copied().unwrap_or_default();
    (0..ingress.len().max(egress.len())).map(|n| (at(&ingress, n), at(&egress, n))).collect()
}

// === whom it selects ===

/// What the named ports of ingress rules are: by name and protocol.
type Named = BTreeMap<(String, String), Option<i32>>;

/// The selected pods, those together whose named ports are the same. Where nothing is selected:
/// nobody, once.
fn groups(policy: &Compiled, world: &impl World) -> BTreeMap<Named, Vec<PodEndpoint>> {
    let ports = policy.ingress.iter().flat_map(|it| &it.ports);
    let names: BTreeSet<(String, String)> = ports
        .filter_map(|it| match &it.port {
            Some(IntOrString::String(name)) => Some((name.clone(), protocol(it).to_owned())),
            _ => None,
        })
        .collect();
    let mut groups: BTreeMap<Named, Vec<PodEndpoint>> = BTreeMap::new();
    for pod in world.pods_in(&policy.namespace) {
        let is_ours = policy.subject.matches(pod.metadata.labels.as_ref());
        let Some(ip) = address(&pod).filter(|_| is_ours) else { continue };
        let named = names.iter().map(|it| (it.clone(), named_port(&pod, &it.0, &it.1))).collect();
        let host_ip = pod.status.as_ref().and_then(|it| it.host_ip.clone());
        groups.entry(named).or_default().push(PodEndpoint {
            namespace: namespace_of(&*pod).to_owned(),
            name: name_of(&*pod).to_owned(),
            pod_ip: ip.to_string(),
            host_ip: host_ip.unwrap_or_default(),
        });
    }
    groups.values_mut().for_each(|pods| pods.sort());
    if groups.is_empty() {
        groups.insert(names.into_iter().map(|it| (it, None)).collect(), Vec::new());
    }
    groups
}

// === what it allows ===

fn protocol(port: &NetworkPolicyPort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

/// The ports of a rule as numbers, none for all of them; `None` where the rule names ports and none of
/// them is there, so that it allows nothing.
fn numbers(
    ports: &[NetworkPolicyPort],
    named: impl Fn(&str, &str) -> Option<i32>,
) -> Option<Rc<[Port]>> {
    if ports.is_empty() {
        return Some(Rc::new([]));
    }
    let number = |it: &NetworkPolicyPort| {
        let port = match &it.port {
            None => None,
            Some(IntOrString::Int(number)) => Some(*number),
            Some(IntOrString::String(name)) => Some(named(name, protocol(it))?),
        };
        let is_number = matches!(it.port, Some(IntOrString::Int(_)));
        let end_port = it.end_port.filter(|_| is_number);
        Some(Port { protocol: Some(protocol(it).to_owned()), port, end_port })
    };
    let found: BTreeSet<Port> = ports.iter().filter_map(number).collect();
    (!found.is_empty()).then(|| found.into_iter().collect())
}

/// Peers with the union of the ports at which rules allow them.
#[derive(Default)]
struct Peers {
    pods: BTreeMap<IpAddr, Ports>,
    /// With their exceptions.
    blocks: BTreeMap<(String, Vec<String>), Ports>,
}

/// Most peers are allowed by one rule, and share its ports.
#[derive(Default)]
enum Ports {
    #[default]
    None,
    OfRule(Rc<[Port]>),
    OfSeveral(BTreeSet<Port>),
    All,
}

impl Ports {
    fn allow(&mut self, more: &Rc<[Port]>) {
        *self = match std::mem::take(self) {
            Self::All => Self::All,
            _ if more.is_empty() => Self::All,
            Self::None => Self::OfRule(more.clone()),
            Self::OfRule(ports) if Rc::ptr_eq(&ports, more) => Self::OfRule(ports),
            Self::OfRule(ports) => Self::OfSeveral(ports.iter().chain(&**more).cloned().collect()),
            Self::OfSeveral(mut ports) => {
                ports.extend(more.iter().cloned());
                Self::OfSeveral(ports)
            }
        };
    }

    fn finish(self) -> Vec<Port> {
        match self {
            Self::None | Self::All => Vec::new(),
            Self::OfRule(ports) => ports.to_vec(),
            Self::OfSeveral(ports) => ports.into_iter().collect(),
        }
    }
}

impl Peers {
    fn allow_pod(&mut self, address: IpAddr, ports: &Rc<[Port]>) {
        self.pods.entry(address).or_default().allow(ports);
    }

    fn allow_block(&mut self, cidr: &str, except: &[String], ports: &Rc<[Port]>) {
        let mut except = except.to_vec();
        except.sort();
        self.blocks.entry((cidr.to_owned(), except)).or_default().allow(ports);
    }

    fn allow_everybody(&mut self, ports: &Rc<[Port]>) {
        EVERYWHERE.iter().for_each(|cidr| self.allow_block(cidr, &[], ports));
    }

    fn finish(self) -> Vec<EndpointInfo> {
        let block = |((cidr, except), ports): ((String, Vec<String>), Ports)| EndpointInfo {
            cidr,
            except,
            ports: ports.finish(),
        };
        let pod = |(address, ports): (IpAddr, Ports)| EndpointInfo {
            cidr: address.to_string(),
            except: Vec::new(),
            ports: ports.finish(),
        };
        self.blocks.into_iter().map(block).chain(self.pods.into_iter().map(pod)).collect()
    }
}

fn ingress(policy: &Compiled, world: &impl World, named: &Named) -> Vec<EndpointInfo> {
    let mut peers = Peers::default();
    for rule in &policy.ingress {
        let number = |name: &str, protocol: &str| {
            named.get(&(name.to_owned(), protocol.to_owned())).copied().flatten()
        };
        let Some(ports) = numbers(&rule.ports, number) else { continue };
        if rule.peers.is_empty() {
            peers.allow_everybody(&ports);
        }
        for peer in &rule.peers {
            if let Peer::Block { cidr, except } = peer {
                peers.allow_block(cidr, except, &ports);
            }
            peer.each_pod(&policy.namespace, world, |pod| {
                if let Some(ip) = address(pod) {
                    peers.allow_pod(ip, &ports);
                }
            });
        }
    }
    peers.finish()
}

/// Named ports are those of the pod that is spoken to: elsewhere there are none.
fn egress(policy: &Compiled, world: &impl World) -> Vec<EndpointInfo> {
    let mut peers = Peers::default();
    for rule in &policy.egress {
        let elsewhere = numbers(&rule.ports, |_, _| None);
        let has_names = rule.has_names();
        let mut allow_pods = |peer: &Peer, inside: Option<&Ranges>| {
            peer.each_pod(&policy.namespace, world, |pod| {
                let Some(ip) = address(pod) else { return };
                let named = |name: &str, protocol: &str| named_port(pod, name, protocol);
                let ports = match (&elsewhere, has_names) {
                    (Some(ports), false) => Some(ports.clone()),
                    _ => numbers(&rule.ports, named),
                };
                if let Some(ports) = ports.filter(|_| inside.is_none_or(|it| it.contains(ip))) {
                    peers.allow_pod(ip, &ports);
                }
            });
        };
        // Pods that have the port are among everybody, and in a block.
        if rule.peers.is_empty() && has_names {
            allow_pods(&Peer::anybody(), None);
        }
        for peer in &rule.peers {
            match peer {
                Peer::Pods { .. } => allow_pods(peer, None),
                Peer::Block { cidr, except } if has_names => {
                    let inside = Ranges::of(std::iter::once((cidr.as_str(), except.as_slice())));
                    allow_pods(&Peer::anybody(), Some(&inside));
                }
                Peer::Block { .. } => {}
            }
        }
        let Some(ports) = &elsewhere else { continue };
        if rule.peers.is_empty() {
            peers.allow_everybody(ports);
        }
        for peer in &rule.peers {
            if let Peer::Block { cidr, except } = peer {
                peers.allow_block(cidr, except, ports);
            }
        }
    }
    peers.finish()
}
