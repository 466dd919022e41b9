//! A policy and the world give PolicyEndpoints.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api_kube::policy_endpoint::{
    EndpointInfo, PodEndpoint, PolicyEndpointSpec, PolicyReference, Port,
};
use k8s_openapi::{
    api::{
        core::v1::Pod,
        networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    Ranges,
    world::{World, address, is_selected, name_of, named_port, namespace_of},
};

const EVERYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// The directions in which a policy isolates what it selects.
pub fn policy_types(spec: &NetworkPolicySpec) -> Vec<String> {
    match &spec.policy_types {
        Some(types) if !types.is_empty() => types.clone(),
        _ => {
            let has_egress = spec.egress.as_ref().is_some_and(|it| !it.is_empty());
            let types = if has_egress { &["Ingress", "Egress"][..] } else { &["Ingress"] };
            types.iter().map(|it| (*it).to_owned()).collect()
        }
    }
}

/// All PolicyEndpoints of a policy, with at most `chunk` pods or peers each, in a stable order.
pub fn resolve(
    policy: &NetworkPolicy,
    world: &impl World,
    chunk: usize,
) -> Vec<PolicyEndpointSpec> {
    let Some(spec) = &policy.spec else { return Vec::new() };
    let types = policy_types(spec);
    let has = |direction: &str| types.iter().any(|it| it == direction);
    let here = namespace_of(policy);
    let egress = if has("Egress") { egress(spec, here, world) } else { Vec::new() };
    let mut endpoints = Vec::new();
    for (named, pods) in groups(policy, spec, world) {
        let ingress = if has("Ingress") { ingress(spec, here, world, &named) } else { Vec::new() };
        let rules = split(&ingress, &egress, chunk);
        for pods in chunks(&pods, chunk) {
            for (ingress, egress) in &rules {
                endpoints.push(PolicyEndpointSpec {
                    pod_selector: Some(spec.pod_selector.clone().unwrap_or_default()),
                    policy_ref: PolicyReference {
                        name: name_of(policy).to_owned(),
                        namespace: here.to_owned(),
                    },
                    pod_isolation: types.clone(),
                    pod_selector_endpoints: pods.to_vec(),
                    ingress: ingress.to_vec(),
                    egress: egress.to_vec(),
                });
            }
        }
    }
    endpoints
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
fn groups(
    policy: &NetworkPolicy,
    spec: &NetworkPolicySpec,
    world: &impl World,
) -> BTreeMap<Named, Vec<PodEndpoint>> {
    let names: BTreeSet<(String, String)> = spec
        .ingress
        .iter()
        .flatten()
        .flat_map(|it| it.ports.iter().flatten())
        .filter_map(|it| match &it.port {
            Some(IntOrString::String(name)) => Some((name.clone(), protocol(it).to_owned())),
            _ => None,
        })
        .collect();
    let mut groups: BTreeMap<Named, Vec<PodEndpoint>> = BTreeMap::new();
    for pod in world.pods_in(namespace_of(policy)) {
        let is_ours = is_selected(spec.pod_selector.as_ref(), pod.metadata.labels.as_ref());
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

/// The ports of a rule as numbers; `None` where the rule names ports and none of them is there, so
/// that it allows nothing.
fn numbers(
    ports: Option<&Vec<NetworkPolicyPort>>,
    named: impl Fn(&str, &str) -> Option<i32>,
) -> Option<Vec<Port>> {
    let Some(ports) = ports.filter(|it| !it.is_empty()) else { return Some(Vec::new()) };
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

/// Peers with the union of the ports at which a rule allows them.
#[derive(Default)]
struct Peers(BTreeMap<(String, Vec<String>), Option<BTreeSet<Port>>>);

impl Peers {
    /// No ports: all of them.
    fn allow(&mut self, cidr: &str, except: &[String], ports: &[Port]) {
        let mut except = except.to_vec();
        except.sort();
        let known = self.0.entry((cidr.to_owned(), except)).or_insert(Some(BTreeSet::new()));
        match known {
            Some(known) if !ports.is_empty() => known.extend(ports.iter().cloned()),
            _ => *known = None,
        }
    }

    fn finish(self) -> Vec<EndpointInfo> {
        let info = |((cidr, except), ports): ((String, Vec<String>), Option<BTreeSet<Port>>)| {
            EndpointInfo { cidr, except, ports: ports.into_iter().flatten().collect() }
        };
        self.0.into_iter().map(info).collect()
    }
}

fn ingress(
    spec: &NetworkPolicySpec,
    here: &str,
    world: &impl World,
    named: &Named,
) -> Vec<EndpointInfo> {
    let mut peers = Peers::default();
    for rule in spec.ingress.iter().flatten() {
        let number = |name: &str, protocol: &str| {
            named.get(&(name.to_owned(), protocol.to_owned())).copied().flatten()
        };
        let Some(ports) = numbers(rule.ports.as_ref(), number) else { continue };
        let from = rule.from.as_deref().unwrap_or_default();
        if from.is_empty() {
            EVERYWHERE.iter().for_each(|cidr| peers.allow(cidr, &[], &ports));
        }
        for peer in from {
            if let Some(block) = &peer.ip_block {
                peers.allow(&block.cidr, block.except.as_deref().unwrap_or_default(), &ports);
                continue;
            }
            for pod in pods_of(peer, here, world) {
                if let Some(ip) = address(&pod) {
                    peers.allow(&ip.to_string(), &[], &ports);
                }
            }
        }
    }
    peers.finish()
}

/// Named ports are those of the pod that is spoken to: elsewhere there are none.
fn egress(spec: &NetworkPolicySpec, here: &str, world: &impl World) -> Vec<EndpointInfo> {
    let mut peers = Peers::default();
    for rule in spec.egress.iter().flatten() {
        let elsewhere = numbers(rule.ports.as_ref(), |_, _| None);
        let is_named = |it: &NetworkPolicyPort| matches!(it.port, Some(IntOrString::String(_)));
        let has_names = rule.ports.iter().flatten().any(is_named);
        let to = rule.to.as_deref().unwrap_or_default();
        let allow_pods = |peer: &NetworkPolicyPeer, inside: Option<&Ranges>, peers: &mut Peers| {
            for pod in pods_of(peer, here, world) {
                if !inside.is_none_or(|it| address(&pod).is_some_and(|ip| it.contains(ip))) {
                    continue;
                }
                let named = |name: &str, protocol: &str| named_port(&pod, name, protocol);
                let ports = numbers(rule.ports.as_ref(), named);
                if let (Some(ip), Some(ports)) = (address(&pod), ports) {
                    peers.allow(&ip.to_string(), &[], &ports);
                }
            }
        };
        let anybody = NetworkPolicyPeer {
            namespace_selector: Some(Default::default()),
            ..NetworkPolicyPeer::default()
        };
        if to.is_empty() {
            if let Some(ports) = &elsewhere {
                EVERYWHERE.iter().for_each(|cidr| peers.allow(cidr, &[], ports));
            }
            if has_names {
                allow_pods(&anybody, None, &mut peers);
            }
        }
        for peer in to {
            let Some(block) = &peer.ip_block else {
                allow_pods(peer, None, &mut peers);
                continue;
            };
            let except = block.except.as_deref().unwrap_or_default();
            if let Some(ports) = &elsewhere {
                peers.allow(&block.cidr, except, ports);
            }
            if has_names {
                let inside = Ranges::of(std::iter::once((block.cidr.as_str(), except)));
                allow_pods(&anybody, Some(&inside), &mut peers);
            }
        }
    }
    peers.finish()
}

fn pods_of(peer: &NetworkPolicyPeer, here: &str, world: &impl World) -> Vec<Arc<Pod>> {
    let mut pods = match &peer.namespace_selector {
        None => world.pods_in(here),
        selector => world
            .namespaces()
            .iter()
            .filter(|it| is_selected(selector.as_ref(), it.metadata.labels.as_ref()))
            .flat_map(|it| world.pods_in(name_of(&**it)))
            .collect(),
    };
    pods.retain(|it| is_selected(peer.pod_selector.as_ref(), it.metadata.labels.as_ref()));
    pods
}
