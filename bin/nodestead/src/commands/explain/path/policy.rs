//! What network policies do, by the PolicyEndpoints that the nodes' agents enforce.

use std::net::IpAddr;

use api_kube::policy_endpoint::PolicyEndpointSpec;
use network_policy::{Direction, Grant, Protocol, grants};

use super::{Hop, cluster::Cluster, parties::Party};
use crate::cli::PathProtocol;

/// On the sender's node, whose primary address every pod may reach. Its other addresses (of secondary
/// interfaces, 169.254.170.23) are policed as what is elsewhere.
pub(super) fn egress(
    cluster: &Cluster,
    from: &Party,
    to: Option<&Party>,
    (address, port): (IpAddr, u16),
    protocol: PathProtocol,
) -> Option<Hop> {
    let is_own = |to: &Party| to.is_host && to.node == from.node && to.address == Some(address);
    if to.is_some_and(is_own) {
        return None;
    }
    decide(cluster, from, Direction::Egress, Some(address), port, protocol)
}

/// On the receiver's node: what the node itself sends is not policed.
pub(super) fn ingress(
    cluster: &Cluster,
    from: &Party,
    to: &Party,
    port: u16,
    protocol: PathProtocol,
) -> Option<Hop> {
    if from.is_host && from.node.is_some() && from.node == to.node {
        return None;
    }
    decide(cluster, to, Direction::Ingress, from.address, port, protocol)
}

/// `None` where nobody decides: no agent, or not a pod of its own network.
fn decide(
    cluster: &Cluster,
    pod: &Party,
    direction: Direction,
    peer: Option<IpAddr>,
    port: u16,
    protocol: PathProtocol,
) -> Option<Hop> {
    let (policies, address) = (cluster.policies.as_ref()?, pod.address.filter(|_| !pod.is_host)?);
    let hop = format!("network policy {}", direction.name().to_lowercase());
    let specs = policies.iter().map(|it| &it.spec);
    let own: Vec<&PolicyEndpointSpec> = specs.filter(|it| names(it, address)).collect();
    // No policy keeps a pod from itself, which it reaches by a Service.
    if peer == Some(address) && !own.is_empty() {
        return None;
    }
    let isolating: Vec<(String, Vec<Grant>)> = own
        .iter()
        .filter_map(|it| {
            let policy = format!("{}/{}", it.policy_ref.namespace, it.policy_ref.name);
            Some((policy, grants(it, direction)?))
        })
        .collect();
    if isolating.is_empty() {
        // In strict mode a pod of which the agent knows nothing is denied everything.
        let is_allowed = !cluster.is_strict || !own.is_empty();
        let detail = if is_allowed {
            format!("no policy isolates {}", pod.name)
        } else {
            format!("no policy selects {}, and the mode is strict", pod.name)
        };
        return Some(Hop::new(&hop, is_allowed, detail));
    }
    let allows = |grant: &Grant| peer.is_some_and(|it| is_granted(grant, it, port, protocol));
    let by = isolating.iter().find(|(_, grants)| grants.iter().any(allows));
    Some(match by {
        Some((policy, _)) => Hop::new(&hop, true, format!("{policy} allows it")),
        None => {
            let all: Vec<&str> = isolating.iter().map(|(policy, _)| policy.as_str()).collect();
            let detail = format!("none of {}'s policies allows it: {}", pod.name, all.join(", "));
            Hop::new(&hop, false, detail)
        }
    })
}

fn names(spec: &PolicyEndpointSpec, address: IpAddr) -> bool {
    let is_it = |text: &str| text.parse::<IpAddr>().is_ok_and(|it| it == address);
    spec.pod_selector_endpoints.iter().any(|it| is_it(&it.pod_ip))
}

/// Policies know no ICMP: a grant of all ports is one of everything.
fn is_granted(grant: &Grant, peer: IpAddr, port: u16, protocol: PathProtocol) -> bool {
    match protocol {
        PathProtocol::Tcp => grant.allows(peer, Protocol::Tcp, port),
        PathProtocol::Udp => grant.allows(peer, Protocol::Udp, port),
        PathProtocol::Icmp => grant.ports.is_none() && grant.peers.contains(peer),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::cluster::Cni, *};

    fn party(name: &str, address: [u8; 4], is_host: bool) -> Party {
        let address = Some(IpAddr::from(address));
        Party {
            name: name.to_owned(),
            address,
            node: Some("n".to_owned()),
            node_address: None,
            is_host,
            has_branch: false,
        }
    }

    /// One policy that lets 10.0.0.2 come to 10.0.0.1 on TCP port 80.
    fn cluster(is_strict: bool) -> Cluster {
        let policy = serde_json::json!({
            "apiVersion": "networking.k8s.aws/v1alpha1", "kind": "PolicyEndpoint",
            "metadata": { "name": "web-1", "namespace": "n" },
            "spec": {
                "podSelector": {}, "policyRef": { "name": "web", "namespace": "n" },
                "podIsolation": ["Ingress"],
                "podSelectorEndpoints": [
                    { "namespace": "n", "name": "web", "podIP": "10.0.0.1", "hostIP": "10.0.0.9" },
                ],
                "ingress": [
                    { "cidr": "10.0.0.2", "ports": [{ "protocol": "TCP", "port": 80 }] },
                ],
            },
        });
        Cluster {
            pods: Vec::new(),
            nodes: Vec::new(),
            services: Vec::new(),
            slices: Vec::new(),
            policies: Some(vec![serde_json::from_value(policy).unwrap()]),
            is_strict,
            cni: Cni::default(),
        }
    }

    #[test]
    fn a_policy_that_isolates_allows_what_it_names_and_is_named_itself() {
        let web = party("n/web", [10, 0, 0, 1], false);
        let friend = party("n/friend", [10, 0, 0, 2], false);
        let at = |port| ingress(&cluster(false), &friend, &web, port, PathProtocol::Tcp).unwrap();
        assert_eq!(at(80), Hop::new("network policy ingress", true, "n/web allows it"));
        let denied = "none of n/web's policies allows it: n/web";
        assert_eq!(at(81), Hop::new("network policy ingress", false, denied));
        let node = party("node/n", [10, 0, 0, 9], true);
        assert_eq!(ingress(&cluster(false), &node, &web, 81, PathProtocol::Tcp), None);
    }

    #[test]
    fn a_pod_may_always_speak_to_its_own_nodes_primary_address_and_to_no_other_of_it() {
        let other = party("n/other", [10, 0, 0, 3], false);
        let to = (IpAddr::from([10, 0, 0, 9]), 80);
        let asked = |node: &str| {
            let node = Party { node: Some(node.to_owned()), ..party("node", [10, 0, 0, 9], true) };
            egress(&cluster(true), &other, Some(&node), to, PathProtocol::Tcp)
        };
        assert_eq!(asked("n"), None);
        assert!(!asked("m").unwrap().is_allowed);
        for local in [[169, 254, 170, 23], [10, 0, 0, 27]] {
            let to = (IpAddr::from(local), 80);
            let denied = egress(&cluster(true), &other, None, to, PathProtocol::Tcp).unwrap();
            assert!(!denied.is_allowed, "{denied:?}");
        }
    }

    #[test]
    fn no_policy_keeps_a_pod_from_itself_but_in_strict_mode_it_has_to_have_one() {
        let web = party("n/web", [10, 0, 0, 1], false);
        let other = party("n/other", [10, 0, 0, 3], false);
        for (pod, is_free) in [(&web, true), (&other, false)] {
            let seen = ingress(&cluster(true), pod, pod, 81, PathProtocol::Tcp);
            assert_eq!(seen.is_none_or(|it| it.is_allowed), is_free, "{}", pod.name);
        }
    }

    #[test]
    fn who_is_not_selected_may_do_everything_or_in_strict_mode_nothing() {
        let other = party("n/other", [10, 0, 0, 3], false);
        let to = IpAddr::from([10, 0, 0, 1]);
        let may = |is_strict| {
            let to = (to, 80);
            egress(&cluster(is_strict), &other, None, to, PathProtocol::Tcp).unwrap().is_allowed
        };
        assert!(may(false) && !may(true));
    }
}
