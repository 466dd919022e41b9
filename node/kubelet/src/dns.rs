//! A pod's `resolv.conf`, from its DNS policy, the cluster's DNS and the node's own file.
//!
//! Upstream: `pkg/kubelet/network/dns/dns.go`.

use api_cri::v1;
use k8s_openapi::api::core::v1::Pod;

use crate::pod::PodExt;

/// glibc's and upstream's limits.
const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_LENGTH: usize = 2048;

/// The cluster's side of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClusterDns {
    pub servers: Vec<String>,
    pub domain: String,
}

/// What a pod gets, and a warning for its events.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub config: v1::DnsConfig,
    pub warnings: Vec<(&'static str, String)>,
}

pub(crate) fn for_pod(pod: &Pod, cluster: &ClusterDns, node_resolv_conf: &str) -> Outcome {
    let mut warnings = Vec::new();
    let mut config = match policy(pod, cluster, &mut warnings) {
        Policy::None => v1::DnsConfig::default(),
        Policy::Default => parse(node_resolv_conf),
        Policy::Cluster => {
            let node = parse(node_resolv_conf);
            v1::DnsConfig {
                servers: cluster.servers.clone(),
                searches: cluster_searches(pod.namespace(), &cluster.domain)
                    .into_iter()
                    .chain(node.searches)
                    .collect(),
                options: vec!["ndots:5".to_owned()],
            }
        }
    };
    add_own(pod, &mut config);
    dedupe(&mut config.servers);
    dedupe(&mut config.searches);
    enforce_limits(&mut config, &mut warnings);
    Outcome { config, warnings }
}

enum Policy {
    None,
    Default,
    Cluster,
}

fn policy(pod: &Pod, cluster: &ClusterDns, warnings: &mut Vec<(&'static str, String)>) -> Policy {
    let spec = PodExt::spec(pod);
    match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "None" => Policy::None,
        "Default" => Policy::Default,
        "ClusterFirst" if pod.is_host_network() => Policy::Default,
        policy => {
            if cluster.servers.is_empty() {
                let message = format!(
                    "pod: \"{}\". kubelet does not have ClusterDNS IP configured and cannot create Pod using \"{policy}\" policy. Falling back to \"Default\" policy.",
                    pod.full_name()
                );
                warnings.push(("MissingClusterDNS", message));
                return Policy::Default;
            }
            Policy::Cluster
        }
    }
}

fn cluster_searches(namespace: &str, domain: &str) -> Vec<String> {
    if domain.is_empty() {
        return Vec::new();
    }
    vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()]
}

fn add_own(pod: &Pod, config: &mut v1::DnsConfig) {
    let Some(own) = &PodExt::spec(pod).dns_config else { return };
    config.servers.extend(own.nameservers.iter().flatten().cloned());
    config.searches.extend(own.searches.iter().flatten().cloned());
    for option in own.options.iter().flatten() {
        let Some(name) = &option.name else { continue };
        config.options.retain(|it| it.split(':').next() != Some(name));
        config.options.push(match &option.value {
            Some(value) if !value.is_empty() => format!("{name}:{value}"),
            _ => name.clone(),
        });
    }
}

fn dedupe(list: &mut Vec<String>) {
    let mut seen = std::collections::HashSet::new();
    list.retain(|it| seen.insert(it.clone()));
}

fn enforce_limits(config: &mut v1::DnsConfig, warnings: &mut Vec<(&'static str, String)>) {
    if config.servers.len() > MAX_SERVERS {
        config.servers.truncate(MAX_SERVERS);
        let message = format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            config.servers.join(" ")
        );
        warnings.push(("DNSConfigForming", message));
    }
    let before = config.searches.len();
    config.searches.truncate(MAX_SEARCHES);
    while config.searches.join(" ").len() > MAX_SEARCH_LENGTH {
        config.searches.pop();
    }
    if config.searches.len() < before {
        let message = format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            config.searches.join(" ")
        );
        warnings.push(("DNSConfigForming", message));
    }
}

/// Reads a `resolv.conf`: the last `search` and `options` lines count.
fn parse(text: &str) -> v1::DnsConfig {
    let mut config = v1::DnsConfig::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let keyword = words.next();
        let words = words.map(str::to_owned);
        match keyword {
            Some("nameserver") => config.servers.extend(words.take(1)),
            Some("search") => {
                // A single dot would make every name absolute.
                config.searches = words.filter(|it| it != ".").collect();
            }
            Some("options") => config.options = words.collect(),
            _ => {}
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::core::v1::{PodDNSConfig, PodDNSConfigOption, PodSpec},
        apimachinery::pkg::apis::meta::v1::ObjectMeta,
    };

    use super::*;

    const NODE: &str =
        "# made by hand\nnameserver 192.168.0.2\nsearch ec2.internal\noptions edns0\n";

    fn cluster() -> ClusterDns {
        ClusterDns { servers: vec!["10.100.0.10".to_owned()], domain: "cluster.local".to_owned() }
    }

    fn pod(spec: PodSpec) -> Pod {
        let metadata = ObjectMeta { namespace: Some("shop".to_owned()), ..ObjectMeta::default() };
        Pod { metadata, spec: Some(spec), ..Pod::default() }
    }

    #[test]
    fn cluster_first_searches_the_cluster_and_then_the_nodes_domains() {
        let config = for_pod(&pod(PodSpec::default()), &cluster(), NODE).config;
        assert_eq!(config.servers, ["10.100.0.10"]);
        assert_eq!(
            config.searches,
            ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "ec2.internal"]
        );
        assert_eq!(config.options, ["ndots:5"]);
    }

    #[test]
    fn a_pod_on_the_hosts_network_gets_the_hosts_dns_unless_it_asks() {
        let host = PodSpec { host_network: Some(true), ..PodSpec::default() };
        assert_eq!(for_pod(&pod(host.clone()), &cluster(), NODE).config.servers, ["192.168.0.2"]);
        let with = PodSpec { dns_policy: Some("ClusterFirstWithHostNet".to_owned()), ..host };
        assert_eq!(for_pod(&pod(with), &cluster(), NODE).config.servers, ["10.100.0.10"]);
    }

    #[test]
    fn the_pods_own_options_win_over_the_clusters() {
        let option =
            PodDNSConfigOption { name: Some("ndots".to_owned()), value: Some("2".to_owned()) };
        let own = PodDNSConfig { options: Some(vec![option]), ..PodDNSConfig::default() };
        let spec = PodSpec { dns_config: Some(own), ..PodSpec::default() };
        assert_eq!(for_pod(&pod(spec), &cluster(), NODE).config.options, ["ndots:2"]);
    }

    #[test]
    fn more_than_three_servers_are_cut_and_told() {
        let own = PodDNSConfig {
            nameservers: Some((1..=5).map(|it| format!("10.0.0.{it}")).collect()),
            ..PodDNSConfig::default()
        };
        let spec = PodSpec {
            dns_policy: Some("None".to_owned()),
            dns_config: Some(own),
            ..PodSpec::default()
        };
        let outcome = for_pod(&pod(spec), &cluster(), NODE);
        assert_eq!(outcome.config.servers.len(), 3);
        assert_eq!(outcome.warnings[0].0, "DNSConfigForming");
    }
}
