//! What an instance is told at its first boot, by family of its image.
//!
//! Deviation: no PowerShell: Windows cannot be run here, and the class's condition says so.

mod bottlerocket;
mod mime;
mod shell;

use std::net::IpAddr;

use api_kube::karpenter::{Ec2NodeClass, taints};
use aws_eks::Cluster;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

const SCRIPT: &str = "text/x-shellscript; charset=\"us-ascii\"";
const NODE_CONFIG: &str = "application/node.eks.aws";

/// `AL2023` of `al2023@latest`, or what the class says.
pub(crate) fn family(class: &Ec2NodeClass) -> &str {
    if let Some(family) = &class.spec.ami_family {
        return family;
    }
    let alias = class.spec.ami_selector_terms.iter().find_map(|it| it.alias.as_deref());
    match alias.and_then(|it| it.split('@').next()) {
        Some("al2023") => "AL2023",
        Some("al2") => "AL2",
        Some("bottlerocket") => "Bottlerocket",
        Some("windows2019") => "Windows2019",
        Some("windows2022") => "Windows2022",
        Some("windows2025") => "Windows2025",
        _ => "Custom",
    }
}

/// In base64, as launch templates want it; what is wrong where there is none.
pub(crate) fn render(
    class: &Ec2NodeClass,
    cluster: &Cluster,
    node_labels: &[(String, String)],
    max_pods: i64,
) -> Result<String, String> {
    let theirs = class.spec.user_data.as_deref();
    let text = match family(class) {
        "Custom" => theirs.unwrap_or_default().to_owned(),
        "AL2023" => {
            let config = node_config(class, cluster, node_labels, max_pods);
            let config = serde_json::to_string_pretty(&config).unwrap_or_default();
            after(theirs, NODE_CONFIG, &config)
        }
        "AL2" => {
            let script = shell::script(class, cluster, node_labels, max_pods);
            after(theirs, SCRIPT, &script)
        }
        "Bottlerocket" => bottlerocket::render(class, cluster, node_labels, max_pods)?,
        other => return Err(format!("no user data is known for {other}")),
    };
    Ok(STANDARD.encode(text))
}

/// What comes later counts: Karpenter's own is the last.
fn after(theirs: Option<&str>, kind: &str, own: &str) -> String {
    let mut parts = theirs.filter(|it| !it.is_empty()).map(parts).unwrap_or_default();
    parts.push(mime::Part::new(kind, own));
    mime::joined(&parts)
}

/// The address of the cluster's DNS: the tenth of its Services.
fn cluster_dns(cluster: &Cluster) -> Option<String> {
    let network = &cluster.kubernetes_network_config;
    let cidr = network.service_ipv4_cidr.as_ref().or(network.service_ipv6_cidr.as_ref())?;
    match cidr.split_once('/')?.0.parse().ok()? {
        IpAddr::V4(it) => Some(std::net::Ipv4Addr::from(u32::from(it) + 10).to_string()),
        IpAddr::V6(it) => Some(std::net::Ipv6Addr::from(u128::from(it) + 10).to_string()),
    }
}

/// The user data of a class: parts already, or one script or one NodeConfig.
fn parts(theirs: &str) -> Vec<mime::Part> {
    mime::parts(theirs).unwrap_or_else(|| {
        let kind = if theirs.starts_with("#!") { SCRIPT } else { NODE_CONFIG };
        vec![mime::Part::new(kind, theirs)]
    })
}

/// JSON is YAML.
fn node_config(
    class: &Ec2NodeClass,
    cluster: &Cluster,
    node_labels: &[(String, String)],
    max_pods: i64,
) -> Value {
    let pairs: Vec<String> =
        node_labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut config = json!({
        "maxPods": max_pods,
        "registerWithTaints": [{ "key": taints::UNREGISTERED, "effect": "NoExecute" }],
    });
    let settings = class.spec.kubelet.as_ref().and_then(Value::as_object);
    for (key, value) in settings.into_iter().flatten() {
        if !matches!(key.as_str(), "maxPods" | "podsPerCore") {
            config[key] = value.clone();
        }
    }
    let mut node = json!({
        "apiVersion": "node.eks.aws/v1alpha1",
        "kind": "NodeConfig",
        "spec": {
            "cluster": {
                "name": cluster.name,
                "apiServerEndpoint": cluster.endpoint,
                "certificateAuthority": cluster.certificate_authority.data,
                "cidr": cluster.kubernetes_network_config.service_ipv4_cidr,
            },
            "kubelet": {
                "config": config,
                "flags": [format!("--node-labels={}", pairs.join(","))],
            },
        },
    });
    // What the node is taken to hold is what it makes of its local disks.
    if class.spec.instance_store_policy.as_deref() == Some("RAID0") {
        node["spec"]["instance"] = json!({ "localStorage": { "strategy": "RAID0" } });
    }
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(spec: Value) -> String {
        let class = json!({ "metadata": { "name": "a" }, "spec": spec });
        let class: Ec2NodeClass = serde_json::from_value(class).unwrap();
        let cluster = Cluster { name: "stead".to_owned(), ..Cluster::default() };
        let data = render(&class, &cluster, &[], 29).unwrap();
        String::from_utf8(STANDARD.decode(data).unwrap()).unwrap()
    }

    #[test]
    fn the_parts_of_a_class_come_before_karpenters_own() {
        let of = |user_data: &str| {
            let all = rendered(json!({ "amiFamily": "AL2023", "userData": user_data }));
            mime::parts(&all).unwrap().iter().map(|it| it.kind().to_owned()).collect::<Vec<_>>()
        };
        let mime = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"BOUNDARY\"\n\n\
                    --BOUNDARY\nContent-Type: text/x-shellscript; charset=\"us-ascii\"\n\n#!/bin/sh\n\
                    --BOUNDARY\nContent-Type: application/node.eks.aws\n\nkind: NodeConfig\n\
                    --BOUNDARY--\n";
        assert_eq!(of(mime), [SCRIPT, NODE_CONFIG, NODE_CONFIG]);
        assert_eq!(of("#!/bin/sh\necho"), [SCRIPT, NODE_CONFIG]);
        assert_eq!(of("kind: NodeConfig"), [NODE_CONFIG, NODE_CONFIG]);
        assert_eq!(of(""), [NODE_CONFIG]);
    }

    #[test]
    fn local_disks_are_joined_where_the_class_says_so() {
        let with = rendered(json!({ "amiFamily": "AL2023", "instanceStorePolicy": "RAID0" }));
        assert!(with.contains(r#""strategy": "RAID0""#), "{with}");
        let without = rendered(json!({ "amiFamily": "AL2023" }));
        assert!(!without.contains("localStorage"), "{without}");
    }
}
