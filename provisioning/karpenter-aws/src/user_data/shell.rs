//! The script of Amazon Linux 2's images: `/etc/eks/bootstrap.sh`, with the kubelet's settings as flags.
//!
//! EKS makes no such images for the versions of Kubernetes that are here; a class may still name one of
//! its own.
//!
//! Source: awslabs/amazon-eks-ami, `bootstrap.sh --help`.

use api_kube::karpenter::{Ec2NodeClass, taints};
use aws_eks::Cluster;
use serde_json::Value;

/// The kubelet's settings, as EC2NodeClasses and as its flags call them.
const SETTINGS: [(&str, &str); 8] = [
    ("systemReserved", "--system-reserved"),
    ("kubeReserved", "--kube-reserved"),
    ("evictionSoftGracePeriod", "--eviction-soft-grace-period"),
    ("podsPerCore", "--pods-per-core"),
    ("evictionMaxPodGracePeriod", "--eviction-max-pod-grace-period"),
    ("imageGCHighThresholdPercent", "--image-gc-high-threshold"),
    ("imageGCLowThresholdPercent", "--image-gc-low-threshold"),
    ("cpuCFSQuota", "--cpu-cfs-quota"),
];
/// Those whose values are compared with.
const THRESHOLDS: [(&str, &str); 2] =
    [("evictionHard", "--eviction-hard"), ("evictionSoft", "--eviction-soft")];

pub(super) fn script(
    class: &Ec2NodeClass,
    cluster: &Cluster,
    node_labels: &[(String, String)],
    max_pods: i64,
) -> String {
    let kubelet = class.spec.kubelet.as_ref().unwrap_or(&Value::Null);
    let labels: Vec<String> =
        node_labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut flags = vec![
        format!("--max-pods={max_pods}"),
        format!("--node-labels=\"{}\"", labels.join(",")),
        format!("--register-with-taints=\"{}=:NoExecute\"", taints::UNREGISTERED),
    ];
    let said = |(name, flag): &(&str, &str), sign| {
        Some(format!("{flag}=\"{}\"", value(&kubelet[*name], sign)?))
    };
    flags.extend(SETTINGS.iter().filter_map(|it| said(it, '=')));
    flags.extend(THRESHOLDS.iter().filter_map(|it| said(it, '<')));
    let ca = &cluster.certificate_authority.data;
    let mut words = vec![
        format!("/etc/eks/bootstrap.sh '{}'", cluster.name),
        format!("--apiserver-endpoint '{}'", cluster.endpoint.as_deref().unwrap_or_default()),
        format!("--b64-cluster-ca '{}'", ca.as_deref().unwrap_or_default()),
        "--use-max-pods false".to_owned(),
    ];
    let dns = kubelet["clusterDNS"][0].as_str().map(str::to_owned);
    let dns = dns.or_else(|| super::cluster_dns(cluster));
    words.extend(dns.map(|it| format!("--dns-cluster-ip '{it}'")));
    if class.spec.instance_store_policy.as_deref() == Some("RAID0") {
        words.push("--local-disks raid0".to_owned());
    }
    words.push(format!("--kubelet-extra-args '{}'", flags.join(" ")));
    format!("#!/bin/bash -xe\n{}\n", words.join(" \\\n  "))
}

/// A number, a word, or pairs.
fn value(said: &Value, sign: char) -> Option<String> {
    match said {
        Value::Null => None,
        Value::Object(pairs) => {
            let each = pairs.iter().filter_map(|(name, it)| {
                let value = value(it, sign)?;
                Some(format!("{name}{sign}{value}"))
            });
            Some(each.collect::<Vec<_>>().join(","))
        }
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_kubelets_settings_are_flags_of_the_script() {
        let class = json!({ "metadata": { "name": "a" }, "spec": { "instanceStorePolicy": "RAID0",
            "kubelet": { "systemReserved": { "cpu": "100m", "memory": "1Gi" }, "cpuCFSQuota": false,
                "evictionHard": { "memory.available": "5%" } } } });
        let class: Ec2NodeClass = serde_json::from_value(class).unwrap();
        let cluster = Cluster { name: "stead".to_owned(), ..Cluster::default() };
        let labels = [("a".to_owned(), "b".to_owned())];
        let text = script(&class, &cluster, &labels, 29);
        assert!(text.starts_with("#!/bin/bash -xe\n/etc/eks/bootstrap.sh 'stead' \\\n"), "{text}");
        for wanted in [
            "--max-pods=29",
            "--node-labels=\"a=b\"",
            "--register-with-taints=\"karpenter.sh/unregistered=:NoExecute\"",
            "--system-reserved=\"cpu=100m,memory=1Gi\"",
            "--eviction-hard=\"memory.available<5%\"",
            "--cpu-cfs-quota=\"false\"",
            "--local-disks raid0",
        ] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
    }
}
