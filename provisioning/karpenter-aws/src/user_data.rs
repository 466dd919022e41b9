//! What an instance is told at its first boot, by family of its image.
//!
//! Deviation: AL2023 and Custom only; the other families' forms (shell, TOML, PowerShell) are
//! refused by the class's condition. User data of the class that is MIME multi-part is not merged.

use api_kube::karpenter::{Ec2NodeClass, taints};
use aws_eks::Cluster;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

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
        _ => "Custom",
    }
}

/// In base64, as launch templates want it; `None`: the family is not known here.
pub(crate) fn render(
    class: &Ec2NodeClass,
    cluster: &Cluster,
    node_labels: &[(String, String)],
    max_pods: i64,
) -> Option<String> {
    match family(class) {
        "Custom" => Some(STANDARD.encode(class.spec.user_data.as_deref().unwrap_or_default())),
        "AL2023" => {
            let config = node_config(class, cluster, node_labels, max_pods);
            let config = serde_json::to_string_pretty(&config).unwrap_or_default();
            let theirs = class.spec.user_data.as_deref().map_or_else(String::new, |it| {
                let kind = match it.starts_with("#!") {
                    true => "text/x-shellscript; charset=\"us-ascii\"",
                    false => "application/node.eks.aws",
                };
                format!("--//\r\nContent-Type: {kind}\r\n\r\n{it}\r\n")
            });
            Some(STANDARD.encode(format!(
                "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"//\"\r\n\r\n\
                 {theirs}--//\r\nContent-Type: application/node.eks.aws\r\n\r\n{config}\r\n--//--\r\n"
            )))
        }
        _ => None,
    }
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
    fn local_disks_are_joined_where_the_class_says_so() {
        let with = rendered(json!({ "amiFamily": "AL2023", "instanceStorePolicy": "RAID0" }));
        assert!(with.contains(r#""strategy": "RAID0""#), "{with}");
        let without = rendered(json!({ "amiFamily": "AL2023" }));
        assert!(!without.contains("localStorage"), "{without}");
    }
}
