//! Bottlerocket's settings, as far as they say how to join a cluster.
//!
//! An image that is named as Bottlerocket's boots this region's own root file system: `settings.kubernetes`
//! becomes a `NodeConfig`, and everything else is named as ignored.
//!
//! Deviation: there is no settings API, so that nothing can be read back or changed later; settings
//! other than the cluster's, the node's labels and taints, and those of the kubelet's configuration are
//! ignored, and said so in nodeadm's log.
//! Source: Bottlerocket's documentation, "kubernetes.* settings".

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde_json::{Value as Json, json};
use toml::{Table, Value};

/// The kubelet's settings, as Bottlerocket and as its configuration call them.
const KUBELET: [(&str, &str); 23] = [
    ("allowed-unsafe-sysctls", "allowedUnsafeSysctls"),
    ("cluster-domain", "clusterDomain"),
    ("container-log-max-files", "containerLogMaxFiles"),
    ("container-log-max-size", "containerLogMaxSize"),
    ("cpu-cfs-quota-enforced", "cpuCFSQuota"),
    ("event-burst", "eventBurst"),
    ("event-qps", "eventRecordQPS"),
    ("eviction-hard", "evictionHard"),
    ("eviction-max-pod-grace-period", "evictionMaxPodGracePeriod"),
    ("eviction-soft", "evictionSoft"),
    ("eviction-soft-grace-period", "evictionSoftGracePeriod"),
    ("kube-api-burst", "kubeAPIBurst"),
    ("kube-api-qps", "kubeAPIQPS"),
    ("kube-reserved", "kubeReserved"),
    ("max-pods", "maxPods"),
    ("pod-pids-limit", "podPidsLimit"),
    ("registry-burst", "registryBurst"),
    ("registry-qps", "registryPullQPS"),
    ("seccomp-default", "seccompDefault"),
    ("shutdown-grace-period", "shutdownGracePeriod"),
    ("shutdown-grace-period-for-critical-pods", "shutdownGracePeriodCriticalPods"),
    ("single-process-oom-kill", "singleProcessOOMKill"),
    ("system-reserved", "systemReserved"),
];
/// Texts to the one, numbers to the other.
const PERCENTS: [(&str, &str); 2] = [
    ("image-gc-high-threshold-percent", "imageGCHighThresholdPercent"),
    ("image-gc-low-threshold-percent", "imageGCLowThresholdPercent"),
];

/// Whether it is TOML with settings.
pub(crate) fn is_settings(body: &[u8]) -> bool {
    let text = std::str::from_utf8(body).unwrap_or_default();
    text.parse::<Table>().is_ok_and(|it| it.contains_key("settings"))
}

/// The `NodeConfig`, in YAML, and the settings that nobody here heeds.
pub(crate) fn node_config(text: &str) -> (Option<String>, Vec<String>) {
    let table: Table = text.parse().unwrap_or_default();
    let settings = table.get("settings").and_then(Value::as_table).cloned().unwrap_or_default();
    let mut ignored: Vec<String> = settings
        .keys()
        .filter(|it| *it != "kubernetes")
        .map(|it| format!("settings.{it}"))
        .collect();
    let Some(kubernetes) = settings.get("kubernetes").and_then(Value::as_table) else {
        return (None, ignored);
    };
    let mut spec = json!({ "cluster": {}, "kubelet": { "flags": [], "config": {} } });
    for (key, value) in kubernetes {
        match key.as_str() {
            "cluster-name" => spec["cluster"]["name"] = of(value),
            "api-server" => spec["cluster"]["apiServerEndpoint"] = of(value),
            "cluster-certificate" => spec["cluster"]["certificateAuthority"] = of(value),
            "cluster-dns-ip" => {
                let addresses = several(value);
                spec["cluster"]["cidr"] = services_of(addresses.first());
                spec["kubelet"]["config"]["clusterDNS"] = addresses.iter().map(of).collect();
            }
            "node-labels" => add_flag(&mut spec, "--node-labels", &labels(value)),
            "node-taints" => add_flag(&mut spec, "--register-with-taints", &taints(value)),
            other => match of_kubelet(other, value) {
                Some((name, value)) => spec["kubelet"]["config"][name] = value,
                None => ignored.push(format!("settings.kubernetes.{other}")),
            },
        }
    }
    let config =
        json!({ "apiVersion": "node.eks.aws/v1alpha1", "kind": "NodeConfig", "spec": spec });
    (Some(config.to_string()), ignored)
}

/// What the kubelet's configuration makes of a setting.
fn of_kubelet(key: &str, value: &Value) -> Option<(&'static str, Json)> {
    let named = |all: &[(&str, &'static str)]| all.iter().find(|it| it.0 == key).map(|it| it.1);
    if let Some(name) = named(&KUBELET) {
        return Some((name, of(value)));
    }
    let name = named(&PERCENTS)?;
    let percent = value.as_str().and_then(|it| it.parse().ok()).or(value.as_integer())?;
    Some((name, percent.into()))
}

fn of(value: &Value) -> Json {
    serde_json::to_value(value).unwrap_or_default()
}

/// What may be one or a list.
fn several(value: &Value) -> &[Value] {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice)
}

/// EKS's DNS is the tenth address of the Services' range, which is at least a /24; of an IPv6 cluster
/// it is the tenth of a /108.
fn services_of(dns: Option<&Value>) -> Json {
    let address: Option<IpAddr> = dns.and_then(Value::as_str).and_then(|it| it.parse().ok());
    let prefix = match address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) {
        IpAddr::V4(_) => 24,
        IpAddr::V6(_) => 108,
    };
    let network = address.and_then(|it| IpNet::new(it, prefix).ok()).map(|it| it.trunc());
    network.map_or(Json::Null, |it| it.to_string().into())
}

fn add_flag(spec: &mut Json, name: &str, values: &[String]) {
    if let (false, Some(flags)) = (values.is_empty(), spec["kubelet"]["flags"].as_array_mut()) {
        flags.push(format!("{name}={}", values.join(",")).into());
    }
}

fn labels(value: &Value) -> Vec<String> {
    let labels = value.as_table().into_iter().flatten();
    labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect()
}

/// `key = "value:Effect"`, or a list of such.
fn taints(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (key, value) in value.as_table().into_iter().flatten() {
        found.extend(
            several(value).iter().filter_map(Value::as_str).map(|it| format!("{key}={it}")),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{node_config::NodeConfig, user_data::UserData};

    const SETTINGS: &str = r#"
        [settings.kubernetes]
        api-server = "https://a.gr7.us-east-1.eks.amazonaws.com"
        cluster-certificate = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg=="
        cluster-name = "demo"
        cluster-dns-ip = "10.5.16.10"
        max-pods = 20
        log-level = 3
        image-gc-high-threshold-percent = "80"
        [settings.kubernetes.node-labels]
        "eks.amazonaws.com/capacityType" = "SPOT"
        [settings.kubernetes.node-taints]
        spot = ["true:NoSchedule"]
        [settings.kubernetes.eviction-hard]
        "memory.available" = "15%"
        [settings.host-containers.admin]
        enabled = true
    "#;

    #[test]
    fn settings_of_the_cluster_become_a_node_config() {
        let data = UserData::parse(SETTINGS.as_bytes()).unwrap();
        let config = NodeConfig::parse(&data.configs).unwrap().unwrap();
        assert_eq!(config.cluster.name, "demo");
        assert_eq!(config.cluster_dns().to_string(), "10.5.16.10");
        assert_eq!(config.kubelet.config["maxPods"], 20);
        assert_eq!(config.kubelet.config["evictionHard"]["memory.available"], "15%");
        assert_eq!(config.kubelet.config["imageGCHighThresholdPercent"], 80);
        let flags = [
            "--node-labels=eks.amazonaws.com/capacityType=SPOT",
            "--register-with-taints=spot=true:NoSchedule",
        ];
        assert_eq!(config.kubelet.flags, flags);
    }

    #[test]
    fn there_may_be_several_dns_addresses() {
        let listed = SETTINGS.replace("\"10.5.16.10\"", "[\"10.5.16.10\", \"169.254.20.10\"]");
        let data = UserData::parse(listed.as_bytes()).unwrap();
        let config = NodeConfig::parse(&data.configs).unwrap().unwrap();
        assert_eq!(config.cluster.cidr.to_string(), "10.5.16.0/24");
        assert_eq!(config.kubelet.config["clusterDNS"], json!(["10.5.16.10", "169.254.20.10"]));
    }

    #[test]
    fn settings_may_be_written_with_dots() {
        assert!(is_settings(b"settings.kubernetes.max-pods = 20"));
        assert!(!is_settings(b"max-pods = 20") && !is_settings(b"#!/bin/sh\n# [settings]"));
    }

    #[test]
    fn what_nobody_heeds_is_named() {
        let data = UserData::parse(SETTINGS.as_bytes()).unwrap();
        assert_eq!(data.ignored, ["settings.host-containers", "settings.kubernetes.log-level"]);
        let other =
            UserData::parse(b"apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig").unwrap();
        assert!(other.ignored.is_empty() && other.configs.len() == 1);
    }
}
