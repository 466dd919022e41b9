//! A node on any Linux host, hybrid-style: what its kubelet is given, below one folder, from a
//! `NodeConfig` and a few facts. Pure.
//!
//! Upstream: nodeadm of aws/eks-hybrid. Deviation: credentials are those of the environment, and
//! `spec.hybrid` (activations of SSM, IAM Roles Anywhere) is refused; the cluster need not have a
//! `remoteNetworkConfig`; everything is below one folder instead of `/etc` and `/var/lib`.

use std::path::{Path, PathBuf};

use instance_types::kube_reserved_cpu_millis;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    credentials,
    merge::merge,
    node_config::{self, Cluster, ConfigError, KubeletOptions, RawCluster},
};

/// The merged configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HybridConfig {
    cluster: RawCluster,
    kubelet: KubeletOptions,
    hybrid: Option<Value>,
}

/// What the host is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub node_name: String,
    pub region: String,
    /// `aws:///ZONE/INSTANCE` of an instance of EC2, otherwise nothing.
    pub provider_id: Option<String>,
    /// The folder of everything.
    pub folder: PathBuf,
    /// This program.
    pub program: PathBuf,
    /// The runtime's socket.
    pub runtime: PathBuf,
    pub cpus: u32,
    pub memory_mib: u64,
}

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub path: PathBuf,
    pub content: String,
    pub mode: u32,
}

impl HybridConfig {
    /// Merges documents (YAML) in order.
    pub fn parse(documents: &[String]) -> Result<Self, ConfigError> {
        let merged = node_config::merged(documents)?;
        let config: Self =
            serde_json::from_value(merged).map_err(|source| ConfigError::Shape { source })?;
        if config.hybrid.is_some() {
            return Err(ConfigError::Unsupported { field: "hybrid" });
        }
        if config.cluster.name.as_deref().is_none_or(|it| it.trim().is_empty()) {
            return Err(ConfigError::Missing { field: "name" });
        }
        Ok(config)
    }

    pub fn cluster_name(&self) -> &str {
        self.cluster.name.as_deref().unwrap_or_default()
    }

    pub fn region(&self) -> Option<&str> {
        self.cluster.region.as_deref()
    }

    /// Whether EKS must be asked for what is not said.
    pub fn is_incomplete(&self) -> bool {
        let it = &self.cluster;
        it.api_server_endpoint.is_none() || it.certificate_authority.is_none() || it.cidr.is_none()
    }

    /// What `DescribeCluster` says fills what is not said: endpoint, authority in base64, CIDR.
    pub fn complete(&mut self, endpoint: String, authority: String, cidr: String) {
        let it = &mut self.cluster;
        it.api_server_endpoint.get_or_insert(endpoint);
        it.certificate_authority.get_or_insert(authority);
        it.cidr.get_or_insert(cidr);
    }

    /// The files and the kubelet's flags.
    pub fn plan(&self, host: &Host) -> Result<(Vec<File>, Vec<String>), ConfigError> {
        let cluster = node_config::check_cluster(self.cluster.clone())?;
        if self.kubelet.flags.iter().any(|it| it.starts_with("--hostname-override")) {
            return Err(ConfigError::Unsupported { field: "kubelet.flags: hostname-override" });
        }
        let at = |name: &str| host.folder.join(name);
        let file = |name: &str, content: String, mode| File { path: at(name), content, mode };
        let mut files = vec![
            file("kubelet.json", format!("{:#}\n", self.configuration(&cluster, host)), 0o644),
            file("kubeconfig", format!("{:#}\n", kubeconfig(&cluster, host)), 0o600),
            file("ca.crt", cluster.certificate_authority.clone(), 0o644),
        ];
        let program = host.program.display().to_string();
        files.extend(credentials::files_in(&program).map(|(name, content, mode)| {
            file(&format!("image-credential-provider/{name}"), content, mode)
        }));
        Ok((files, self.flags(host)))
    }

    fn configuration(&self, cluster: &Cluster, host: &Host) -> Value {
        let authority = host.folder.join("ca.crt");
        let mut value = json!({
            "kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "address": "0.0.0.0",
            "authentication": {
                "anonymous": { "enabled": false },
                "webhook": { "enabled": true, "cacheTTL": "2m0s" },
                "x509": { "clientCAFile": authority },
            },
            "authorization": {
                "mode": "Webhook",
                "webhook": { "cacheAuthorizedTTL": "5m0s", "cacheUnauthorizedTTL": "30s" },
            },
            "cgroupDriver": "cgroupfs",
            "clusterDomain": "cluster.local",
            "clusterDNS": [node_config::dns_of(cluster.cidr)],
            "containerRuntimeEndpoint": format!("unix://{}", host.runtime.display()),
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "10%",
                "nodefs.inodesFree": "5%",
            },
            "featureGates": { "RotateKubeletServerCertificate": true },
            "kubeReserved": {
                "cpu": format!("{}m", kube_reserved_cpu_millis(host.cpus)),
                "memory": format!("{}Mi", reserved_memory_mib(host.memory_mib)),
                "ephemeral-storage": "1Gi",
            },
            "maxPods": 110,
            "readOnlyPort": 0,
            "serializeImagePulls": false,
            "serverTLSBootstrap": true,
        });
        let provider = host.provider_id.clone().unwrap_or_else(|| {
            format!("eks-hybrid:///{}/{}/{}", host.region, cluster.name, host.node_name)
        });
        value["providerID"] = provider.into();
        merge(&mut value, Value::Object(self.kubelet.config.clone()));
        value
    }

    /// The user's come last and so win.
    fn flags(&self, host: &Host) -> Vec<String> {
        let at = |name: &str| host.folder.join(name).display().to_string();
        let mut flags = vec![
            format!("--config={}", at("kubelet.json")),
            format!("--kubeconfig={}", at("kubeconfig")),
            format!("--root-dir={}", at("kubelet")),
            format!("--cert-dir={}", at("pki")),
            format!("--hostname-override={}", host.node_name),
            format!("--image-credential-provider-bin-dir={}", at("image-credential-provider")),
            format!(
                "--image-credential-provider-config={}",
                at("image-credential-provider/config.json")
            ),
        ];
        match host.provider_id {
            // The cluster's cloud controller knows the instance.
            Some(_) => flags.push("--cloud-provider=external".to_owned()),
            None => flags.push("--node-labels=eks.amazonaws.com/compute-type=hybrid".to_owned()),
        }
        flags.extend(self.kubelet.flags.iter().cloned());
        flags
    }
}

/// Upstream's share of a host that is no instance type: 25 % of the first 4 GiB, 20 % of the next 4, 10 %
/// of the next 8, 6 % of the next 112, 2 % of the rest.
fn reserved_memory_mib(total: u64) -> u64 {
    let (mut rest, mut reserved) = (total, 0);
    for (size, percent) in [(4096, 25), (4096, 20), (8192, 10), (114_688, 6), (u64::MAX, 2)] {
        let part = rest.min(size);
        reserved += part * percent / 100;
        rest -= part;
    }
    reserved
}

fn kubeconfig(cluster: &Cluster, host: &Host) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "kubernetes",
            "cluster": {
                "certificate-authority": host.folder.join("ca.crt"),
                "server": cluster.api_server_endpoint,
            },
        }],
        "contexts": [{
            "name": "kubelet",
            "context": { "cluster": "kubernetes", "user": "kubelet" },
        }],
        "current-context": "kubelet",
        "users": [{
            "name": "kubelet",
            "user": { "exec": {
                "apiVersion": "client.authentication.k8s.io/v1beta1",
                "command": host.program,
                "args": [
                    "run", "aws-iam-authenticator", "token",
                    "-i", cluster.name, "--region", host.region,
                ],
                "interactiveMode": "Never",
            }},
        }],
    })
}

/// The name by which an access entry knows a session: its own, which is the node's.
pub fn node_name_of(caller_arn: &str) -> Option<&str> {
    let (_, session) = caller_arn.split_once(":assumed-role/")?;
    session.rsplit('/').next().filter(|it| !it.is_empty())
}

/// Whether Kubernetes lets a node have this name (RFC 1123): sessions of roles may have others.
pub fn is_node_name(name: &str) -> bool {
    let is_plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit();
    let is_label = |label: &str| {
        let ends = [label.bytes().next(), label.bytes().last()];
        ends.iter().all(|it| it.is_some_and(is_plain))
            && label.bytes().all(|it| is_plain(it) || it == b'-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// Whether the folder can be told apart from a file of the host's own.
pub fn is_fit(folder: &Path) -> bool {
    folder.is_absolute() && folder.components().count() > 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_config::tests::document;

    fn host() -> Host {
        Host {
            node_name: "rack-7".to_owned(),
            region: "us-east-1".to_owned(),
            provider_id: None,
            folder: "/var/lib/nodestead-node".into(),
            program: "/usr/local/bin/nodestead".into(),
            runtime: "/run/containerd/containerd.sock".into(),
            cpus: 4,
            memory_mib: 16_384,
        }
    }

    fn planned(extra: &str, host: &Host) -> (Value, Vec<String>, Vec<File>) {
        let config = HybridConfig::parse(&[document(extra)]).unwrap();
        let (files, flags) = config.plan(host).unwrap();
        let found = files.iter().find(|it| it.path.ends_with("kubelet.json")).unwrap();
        (serde_json::from_str(&found.content).unwrap(), flags, files)
    }

    #[test]
    fn a_host_elsewhere_is_a_hybrid_node_below_one_folder() {
        let (value, flags, files) = planned("", &host());
        assert_eq!(value["providerID"], "eks-hybrid:///us-east-1/stead/rack-7");
        assert_eq!(value["clusterDNS"][0], "10.100.0.10");
        assert_eq!(value["kubeReserved"]["memory"], "2662Mi");
        assert_eq!(value["containerRuntimeEndpoint"], "unix:///run/containerd/containerd.sock");
        assert!(flags.contains(&"--hostname-override=rack-7".to_owned()));
        assert!(flags.iter().any(|it| it.ends_with("compute-type=hybrid")), "{flags:?}");
        assert!(files.iter().all(|it| it.path.starts_with("/var/lib/nodestead-node")));
        let kubeconfig = files.iter().find(|it| it.path.ends_with("kubeconfig")).unwrap();
        assert_eq!(kubeconfig.mode, 0o600);
        assert!(kubeconfig.content.contains("/usr/local/bin/nodestead"));
    }

    #[test]
    fn an_instance_of_ec2_is_a_node_that_the_cloud_controller_knows() {
        let provider_id = Some("aws:///us-east-1a/i-1".to_owned());
        let (value, flags, _) = planned("", &Host { provider_id, ..host() });
        assert_eq!(value["providerID"], "aws:///us-east-1a/i-1");
        assert!(flags.contains(&"--cloud-provider=external".to_owned()));
        assert!(!flags.iter().any(|it| it.contains("compute-type")));
    }

    #[test]
    fn the_users_configuration_and_flags_win() {
        let extra = "  kubelet:\n    config: {maxPods: 7}\n    flags: ['--node-labels=a=b']\n";
        let (value, flags, _) = planned(extra, &host());
        assert_eq!(value["maxPods"], 7);
        assert_eq!(flags.last().unwrap(), "--node-labels=a=b");
    }

    #[test]
    fn what_is_not_said_is_asked_of_eks_and_what_cannot_be_done_is_refused() {
        let name = "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  cluster: {name: \
                    stead, region: eu-west-1}\n";
        let mut config = HybridConfig::parse(&[name.to_owned()]).unwrap();
        assert!(config.is_incomplete());
        assert_eq!((config.cluster_name(), config.region()), ("stead", Some("eu-west-1")));
        assert!(config.plan(&host()).is_err());
        let whole = HybridConfig::parse(&[document("")]).unwrap().cluster;
        config.complete(
            whole.api_server_endpoint.unwrap(),
            whole.certificate_authority.unwrap(),
            whole.cidr.unwrap(),
        );
        assert!(config.plan(&host()).is_ok());
        let refused = |text: String| HybridConfig::parse(&[text]).unwrap_err().to_string();
        assert!(refused(document("  hybrid: {ssm: {}}\n")).contains("`spec.hybrid`"));
        assert!(refused(name.replace("name: stead, ", "")).contains("spec.cluster.name"));
        let named = document("  kubelet: {flags: ['--hostname-override=x']}\n");
        assert!(HybridConfig::parse(&[named]).unwrap().plan(&host()).is_err());
    }

    #[test]
    fn not_every_name_of_a_session_is_one_for_a_node() {
        for name in ["rack-7", "ip-10-0-0-1.ec2.internal", "7"] {
            assert!(is_node_name(name), "{name}");
        }
        for name in ["", "Rack-7", "me@example.com", "-a", "a-", "a..b", &"a".repeat(254)] {
            assert!(!is_node_name(name), "{name}");
        }
    }

    #[test]
    fn a_session_is_named_as_its_node() {
        let arn = "arn:aws:sts::111122223333:assumed-role/hybrid/rack-7";
        assert_eq!(node_name_of(arn), Some("rack-7"));
        assert_eq!(node_name_of("arn:aws:iam::111122223333:root"), None);
        assert!(is_fit(Path::new("/var/lib/node")));
        assert!(!is_fit(Path::new("/etc")) && !is_fit(Path::new("node")));
    }
}
