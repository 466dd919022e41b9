//! Bottlerocket's settings, in TOML: the class's with Karpenter's laid over them.
//!
//! What a class says of the kubelet goes before what its user data say. Bottlerocket has no setting
//! for `podsPerCore`. Taints are Karpenter's alone, as others would keep its pods away.
//!
//! Source: Bottlerocket's documentation, "kubernetes.* settings" and "bootstrap-commands.* settings".

use api_kube::karpenter::{Ec2NodeClass, taints};
use aws_eks::Cluster;
use serde_json::Value as Json;
use toml::{Table, Value};

/// The kubelet's settings, as EC2NodeClasses and as Bottlerocket call them.
const KUBELET: [(&str, &str); 7] = [
    ("systemReserved", "system-reserved"),
    ("kubeReserved", "kube-reserved"),
    ("evictionHard", "eviction-hard"),
    ("evictionSoft", "eviction-soft"),
    ("evictionSoftGracePeriod", "eviction-soft-grace-period"),
    ("evictionMaxPodGracePeriod", "eviction-max-pod-grace-period"),
    ("cpuCFSQuota", "cpu-cfs-quota-enforced"),
];
/// Numbers to the one, texts to the other.
const PERCENTS: [(&str, &str); 2] = [
    ("imageGCHighThresholdPercent", "image-gc-high-threshold-percent"),
    ("imageGCLowThresholdPercent", "image-gc-low-threshold-percent"),
];
/// What a node keeps on its local disks.
const FOLDERS: [&str; 3] = ["/var/lib/containerd", "/var/lib/kubelet", "/var/log/pods"];

/// The whole document; fails where the class's own is none.
pub(super) fn render(
    class: &Ec2NodeClass,
    cluster: &Cluster,
    node_labels: &[(String, String)],
    max_pods: i64,
) -> Result<String, String> {
    let theirs = class.spec.user_data.as_deref().unwrap_or_default();
    let mut document: Table =
        theirs.parse::<Table>().map_err(|error| format!("invalid UserData {error}"))?;
    let settings = table(&mut document, "settings");
    if let Some(Value::Table(scaling)) = settings.get_mut("autoscaling")
        && scaling.contains_key("should-wait")
    {
        // No Auto Scaling group would ever let it go on.
        scaling.insert("should-wait".to_owned(), false.into());
    }
    let kubernetes = table(settings, "kubernetes");
    for (key, value) in [
        ("cluster-name", Some(cluster.name.clone())),
        ("api-server", cluster.endpoint.clone()),
        ("cluster-certificate", cluster.certificate_authority.data.clone()),
    ] {
        kubernetes.insert(key.to_owned(), value.unwrap_or_default().into());
    }
    kubernetes.insert("max-pods".to_owned(), max_pods.into());
    let labels = table(kubernetes, "node-labels");
    labels.extend(node_labels.iter().map(|(key, value)| (key.clone(), value.clone().into())));
    let unregistered = vec![Value::from(":NoExecute")];
    let taints = Table::from_iter([(taints::UNREGISTERED.to_owned(), unregistered.into())]);
    kubernetes.insert("node-taints".to_owned(), taints.into());
    let kubelet = class.spec.kubelet.as_ref().unwrap_or(&Json::Null);
    let dns = kubelet["clusterDNS"][0].as_str().map(str::to_owned);
    if let Some(address) = dns.or_else(|| super::cluster_dns(cluster)) {
        kubernetes.insert("cluster-dns-ip".to_owned(), address.into());
    }
    kubernetes.extend(of_kubelet(kubelet));
    if class.spec.instance_store_policy.as_deref() == Some("RAID0") {
        let commands = table(settings, "bootstrap-commands");
        commands.insert("000-mount-instance-storage".to_owned(), join_disks().into());
    }
    Ok(document.to_string())
}

/// The table of that name, whatever was there before.
fn table<'a>(of: &'a mut Table, name: &str) -> &'a mut Table {
    let value = of.entry(name).or_insert_with(|| Table::new().into());
    if !value.is_table() {
        *value = Table::new().into();
    }
    value.as_table_mut().expect("it was made one on the lines above")
}

fn of_kubelet(kubelet: &Json) -> Table {
    let plain = KUBELET.iter().filter_map(|(from, to)| {
        let value = Value::try_from(&kubelet[*from]).ok()?;
        Some(((*to).to_owned(), value))
    });
    let percents = PERCENTS.iter().filter_map(|(from, to)| {
        let value = kubelet[*from].as_i64()?.to_string();
        Some(((*to).to_owned(), value.into()))
    });
    plain.chain(percents).collect()
}

/// Before anything else is started: one disk of all of them, and the folders on it.
fn join_disks() -> Table {
    let words = |it: &[&str]| Value::Array(it.iter().map(|it| Value::from(*it)).collect());
    let mut bind = vec!["apiclient", "ephemeral-storage", "bind", "--dirs"];
    bind.extend(FOLDERS);
    let commands = vec![words(&["apiclient", "ephemeral-storage", "init"]), words(&bind)];
    Table::from_iter([
        ("commands".to_owned(), commands.into()),
        ("mode".to_owned(), "always".into()),
        ("essential".to_owned(), true.into()),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(spec: Json) -> Result<Value, String> {
        let class = json!({ "metadata": { "name": "a" }, "spec": spec });
        let class: Ec2NodeClass = serde_json::from_value(class).unwrap();
        let mut cluster = Cluster { name: "stead".into(), ..Cluster::default() };
        cluster.kubernetes_network_config.service_ipv4_cidr = Some("10.100.0.0/16".into());
        let labels = [("karpenter.sh/nodepool".to_owned(), "default".to_owned())];
        let text = render(&class, &cluster, &labels, 29)?;
        Ok(Value::Table(text.parse().expect("it is TOML")))
    }

    #[test]
    fn karpenters_settings_are_laid_over_the_classs() {
        let theirs = "[settings.motd]\ntext = \"hello\"\n[settings.kubernetes]\n\
            cluster-name = \"theirs\"\nlog-level = 4\n[settings.kubernetes.node-labels]\n\
            team = \"red\"\n[settings.kubernetes.node-taints]\nmine = [\"x:NoSchedule\"]\n\
            [settings.autoscaling]\nshould-wait = true\n";
        let found = of(json!({ "userData": theirs })).unwrap();
        let kubernetes = &found["settings"]["kubernetes"];
        assert_eq!(kubernetes["cluster-name"].as_str(), Some("stead"));
        assert_eq!(kubernetes["log-level"].as_integer(), Some(4));
        assert_eq!(kubernetes["max-pods"].as_integer(), Some(29));
        assert_eq!(kubernetes["cluster-dns-ip"].as_str(), Some("10.100.0.10"));
        assert_eq!(kubernetes["node-labels"]["team"].as_str(), Some("red"));
        assert_eq!(kubernetes["node-labels"]["karpenter.sh/nodepool"].as_str(), Some("default"));
        let taints = kubernetes["node-taints"].as_table().unwrap();
        assert_eq!(taints.keys().collect::<Vec<_>>(), ["karpenter.sh/unregistered"]);
        assert_eq!(found["settings"]["motd"]["text"].as_str(), Some("hello"));
        assert_eq!(found["settings"]["autoscaling"]["should-wait"].as_bool(), Some(false));
    }

    #[test]
    fn what_a_class_says_of_the_kubelet_has_bottlerockets_names() {
        let kubelet = json!({ "clusterDNS": ["10.100.0.53"], "podsPerCore": 2,
            "systemReserved": { "cpu": "100m" }, "evictionHard": { "memory.available": "5%" },
            "evictionSoftGracePeriod": { "memory.available": "1m" }, "cpuCFSQuota": false,
            "imageGCHighThresholdPercent": 80 });
        let found = of(json!({ "kubelet": kubelet })).unwrap();
        let kubernetes = found["settings"]["kubernetes"].as_table().unwrap();
        assert_eq!(kubernetes["cluster-dns-ip"].as_str(), Some("10.100.0.53"));
        assert_eq!(kubernetes["system-reserved"]["cpu"].as_str(), Some("100m"));
        assert_eq!(kubernetes["eviction-hard"]["memory.available"].as_str(), Some("5%"));
        let soft = &kubernetes["eviction-soft-grace-period"]["memory.available"];
        assert_eq!(soft.as_str(), Some("1m"));
        assert_eq!(kubernetes["cpu-cfs-quota-enforced"].as_bool(), Some(false));
        assert_eq!(kubernetes["image-gc-high-threshold-percent"].as_str(), Some("80"));
        assert!(!kubernetes.contains_key("eviction-soft"));
    }

    #[test]
    fn local_disks_are_joined_by_a_bootstrap_command() {
        let found = of(json!({ "instanceStorePolicy": "RAID0" })).unwrap();
        let command = &found["settings"]["bootstrap-commands"]["000-mount-instance-storage"];
        assert_eq!(command["essential"].as_bool(), Some(true));
        assert_eq!(command["commands"][1][4].as_str(), Some("/var/lib/containerd"));
    }

    #[test]
    fn what_is_no_toml_is_refused() {
        let error = of(json!({ "userData": "#!/bin/sh\necho" })).unwrap_err();
        assert!(error.starts_with("invalid UserData "), "{error}");
    }
}
