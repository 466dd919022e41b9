//! `NodeConfig`, `node.eks.aws/v1alpha1`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use mime_parts::decode_base64;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::merge::merge;

const API_GROUP: &str = "node.eks.aws";
const KIND: &str = "NodeConfig";

/// The merged configuration, checked.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeConfig {
    pub cluster: Cluster,
    pub kubelet: KubeletOptions,
    pub containerd: ContainerdOptions,
    pub instance: InstanceOptions,
    pub feature_gates: BTreeMap<String, bool>,
}

/// The cluster to join. Upstream requires all four, so that a thousand nodes can start without a
/// call to EKS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    pub name: String,
    pub api_server_endpoint: String,
    /// In PEM.
    pub certificate_authority: String,
    pub cidr: IpNet,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct KubeletOptions {
    /// Laid over the `KubeletConfiguration` that nodeadm makes.
    pub config: serde_json::Map<String, Value>,
    pub flags: Vec<String>,
    pub max_pods_expression: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ContainerdOptions {
    /// TOML, laid over the configuration that nodeadm makes.
    pub config: String,
    pub base_runtime_spec: Option<Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct InstanceOptions {
    pub local_storage: Option<Value>,
    /// Variables of the services, by unit; `default` is all.
    pub environment: BTreeMap<String, BTreeMap<String, String>>,
    pub network: Option<Value>,
}

impl InstanceOptions {
    /// What upstream does with local disks is known by a strategy's name; there are no others.
    fn has_odd_storage(&self) -> bool {
        let strategy = self.local_storage.as_ref().map(|it| it["strategy"].as_str());
        strategy.is_some_and(|it| !matches!(it, Some("RAID0" | "RAID10" | "Mount")))
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("document {number} is not YAML: {message}")]
    Yaml { number: usize, message: String },
    #[error(
        "document {number} is a `{api_version}` `{kind}`, not a `NodeConfig` of `node.eks.aws`"
    )]
    Kind { number: usize, api_version: String, kind: String },
    #[error("the configuration has a field of the wrong type, or one that is not known")]
    Shape {
        #[source]
        source: serde_json::Error,
    },
    #[error("`spec.cluster.{field}` is missing")]
    Missing { field: &'static str },
    #[error("`spec.cluster.{field}` is not valid: `{value}`")]
    Invalid { field: &'static str, value: String },
    #[error("`spec.{field}` is not supported by this nodeadm")]
    Unsupported { field: &'static str },
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Spec {
    cluster: RawCluster,
    kubelet: KubeletOptions,
    containerd: ContainerdOptions,
    instance: InstanceOptions,
    feature_gates: BTreeMap<String, bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct RawCluster {
    pub(crate) name: Option<String>,
    pub(crate) api_server_endpoint: Option<String>,
    pub(crate) certificate_authority: Option<String>,
    pub(crate) cidr: Option<String>,
    enable_outpost: Option<bool>,
    id: Option<String>,
    /// Of hybrid nodes alone.
    pub(crate) region: Option<String>,
}

impl NodeConfig {
    /// Merges `documents` (YAML) in order. `None` when there are none: then this is not a node.
    pub fn parse(documents: &[String]) -> Result<Option<Self>, ConfigError> {
        if documents.is_empty() {
            return Ok(None);
        }
        let spec: Spec = serde_json::from_value(merged(documents)?)
            .map_err(|source| ConfigError::Shape { source })?;
        Self::check(spec).map(Some)
    }

    /// The cluster DNS address that EKS takes from the service CIDR.
    pub fn cluster_dns(&self) -> IpAddr {
        dns_of(self.cluster.cidr)
    }

    /// Whether pods and Services have IPv6 addresses.
    pub fn is_ipv6(&self) -> bool {
        matches!(self.cluster.cidr, IpNet::V6(_))
    }

    pub fn is_enabled(&self, gate: &str) -> bool {
        self.feature_gates.get(gate).copied().unwrap_or(false)
    }

    fn check(spec: Spec) -> Result<Self, ConfigError> {
        let unsupported = [
            ("instance.localStorage", spec.instance.has_odd_storage()),
            ("instance.network", spec.instance.network.is_some()),
            ("containerd.baseRuntimeSpec", spec.containerd.base_runtime_spec.is_some()),
            ("cluster.region", spec.cluster.region.is_some()),
            ("cluster.enableOutpost", spec.cluster.enable_outpost == Some(true)),
        ];
        if let Some((field, _)) = unsupported.into_iter().find(|(_, is_set)| *is_set) {
            return Err(ConfigError::Unsupported { field });
        }
        Ok(Self {
            cluster: check_cluster(spec.cluster)?,
            kubelet: spec.kubelet,
            containerd: spec.containerd,
            instance: spec.instance,
            feature_gates: spec.feature_gates,
        })
    }
}

/// The specs of all documents, one laid over the other.
pub(crate) fn merged(documents: &[String]) -> Result<Value, ConfigError> {
    let mut merged = Value::Object(serde_json::Map::new());
    for (index, text) in documents.iter().enumerate() {
        let spec = spec_of(index + 1, text)?;
        if !spec.is_null() {
            add(&mut merged, spec);
        }
    }
    Ok(merged)
}

pub(crate) fn dns_of(services: IpNet) -> IpAddr {
    match services.network() {
        IpAddr::V4(it) => Ipv4Addr::from_bits(it.to_bits() + 10).into(),
        IpAddr::V6(it) => Ipv6Addr::from_bits(it.to_bits() + 10).into(),
    }
}

fn spec_of(number: usize, text: &str) -> Result<Value, ConfigError> {
    let document: Value = serde_saphyr::from_str(text)
        .map_err(|error| ConfigError::Yaml { number, message: error.to_string() })?;
    let field = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (field("apiVersion"), field("kind"));
    let group = api_version.split('/').next().unwrap_or_default();
    if group != API_GROUP || kind != KIND {
        return Err(ConfigError::Kind { number, api_version, kind });
    }
    Ok(document["spec"].clone())
}

/// Flags and containerd's configuration add up; everything else is merged.
fn add(merged: &mut Value, mut over: Value) {
    let take = |value: &Value, path: &str| value.pointer(path).cloned();
    let flags: Vec<Value> = [take(merged, "/kubelet/flags"), take(&over, "/kubelet/flags")]
        .into_iter()
        .flatten()
        .filter_map(|it| it.as_array().cloned())
        .flatten()
        .collect();
    let tomls: Vec<String> =
        [take(merged, "/containerd/config"), take(&over, "/containerd/config")]
            .into_iter()
            .flatten()
            .filter_map(|it| it.as_str().map(str::to_owned))
            .collect();
    if let Some(slot) = over.pointer_mut("/kubelet/flags").filter(|it| it.is_array()) {
        *slot = Value::Array(flags);
    }
    if let Some(slot) = over.pointer_mut("/containerd/config").filter(|it| it.is_string()) {
        // Tables may be opened twice this way, which `containerd::render` merges again.
        *slot = Value::String(tomls.join(crate::containerd::SEPARATOR));
    }
    merge(merged, over);
}

pub(crate) fn check_cluster(cluster: RawCluster) -> Result<Cluster, ConfigError> {
    let need = |field: &'static str, value: Option<String>| {
        value.filter(|it| !it.trim().is_empty()).ok_or(ConfigError::Missing { field })
    };
    let name = need("name", cluster.name)?;
    let endpoint = need("apiServerEndpoint", cluster.api_server_endpoint)?;
    let authority = need("certificateAuthority", cluster.certificate_authority)?;
    let cidr = need("cidr", cluster.cidr)?;
    let invalid = |field, value: &str| ConfigError::Invalid { field, value: value.to_owned() };
    let _id = cluster.id;
    let is_name = name.len() <= 100
        && name.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_".contains(&it));
    if !is_name {
        return Err(invalid("name", &name));
    }
    if !endpoint.starts_with("https://") || endpoint.contains(char::is_whitespace) {
        return Err(invalid("apiServerEndpoint", &endpoint));
    }
    let pem = decode_base64(authority.as_bytes()).and_then(|it| String::from_utf8(it).ok());
    let pem = pem.filter(|it| it.contains("-----BEGIN CERTIFICATE-----"));
    Ok(Cluster {
        name,
        api_server_endpoint: endpoint,
        certificate_authority: pem
            .ok_or_else(|| invalid("certificateAuthority", "not base64 of a PEM certificate"))?,
        cidr: cidr.parse().map_err(|_| invalid("cidr", &cidr))?,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};

    use super::*;

    pub(crate) fn document(extra: &str) -> String {
        let authority =
            STANDARD.encode("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
        format!(
            "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  cluster:\n    \
             name: stead\n    apiServerEndpoint: https://ABC.gr7.us-east-1.eks.amazonaws.com\n    \
             certificateAuthority: {authority}\n    cidr: 10.100.0.0/16\n{extra}"
        )
    }

    #[test]
    fn parts_are_merged_in_order_and_flags_add_up() {
        let first = document(
            "  kubelet:\n    config:\n      maxPods: 10\n      a: 1\n    flags: [--v=2]\n",
        );
        let second = "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  kubelet:\n    \
                      config:\n      maxPods: 20\n    flags:\n    - --node-labels=a=b\n  \
                      featureGates:\n    InstanceIdNodeName: true\n";
        let config = NodeConfig::parse(&[first, second.to_owned()]).unwrap().unwrap();
        assert_eq!(config.kubelet.config["maxPods"], 20);
        assert_eq!(config.kubelet.config["a"], 1);
        assert_eq!(config.kubelet.flags, ["--v=2", "--node-labels=a=b"]);
        assert!(config.is_enabled("InstanceIdNodeName"));
        assert_eq!(config.cluster_dns(), Ipv4Addr::new(10, 100, 0, 10));
        assert!(config.cluster.certificate_authority.starts_with("-----BEGIN"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let message = |text: String| NodeConfig::parse(&[text]).unwrap_err().to_string();
        let full = document("");
        for field in ["name", "apiServerEndpoint", "certificateAuthority", "cidr"] {
            let cut: Vec<_> =
                full.lines().filter(|it| !it.trim().starts_with(&format!("{field}:"))).collect();
            assert_eq!(message(cut.join("\n")), format!("`spec.cluster.{field}` is missing"));
        }
        assert!(message(full.replace("10.100.0.0/16", "10.100.0.0/99")).contains("cidr"));
        assert!(message(full.replace("https://", "http://")).contains("apiServerEndpoint"));
        assert!(message(full.replace("NodeConfig", "Node")).contains("`Node`"));
        assert!(message("a: [".to_owned()).contains("not YAML"));
        assert!(message(document("  kubelte: {}\n")).contains("not known"));
        let storage = |it: &str| document(&format!("  instance: {{localStorage: {it}}}\n"));
        assert!(message(storage("{}")).contains("not supported"));
        assert!(message(storage("{strategy: RAID5}")).contains("not supported"));
        assert!(NodeConfig::parse(&[storage("{strategy: RAID0}")]).is_ok());
    }

    #[test]
    fn no_configuration_is_no_node() {
        assert_eq!(NodeConfig::parse(&[]).unwrap(), None);
    }
}
