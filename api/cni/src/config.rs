//! Network configuration: one plug-in's, on its standard input, and the list in `/etc/cni/net.d`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::NetResult;

/// What a runtime hands to one plug-in of a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetConf {
    #[serde(default)]
    pub cni_version: String,
    #[serde(default)]
    pub name: String,
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_config: Option<RuntimeConfig>,
    /// What the plug-in before this one answered (ADD), or the last of all (CHECK, DEL).
    ///
    /// Read only where it is needed, by [`Self::previous`]: a DEL must not fail for its shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev_result: Option<Value>,
    /// The plug-in's own fields.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl NetConf {
    /// The previous result, if there is one that can be read.
    pub fn previous(&self) -> Option<NetResult> {
        serde_json::from_value(self.prev_result.clone()?).ok()
    }

    /// A field of the plug-in's own that is a string, or `default` where it is missing or empty.
    pub fn text<'a>(&'a self, field: &str, default: &'a str) -> &'a str {
        match self.other.get(field).and_then(Value::as_str) {
            None | Some("") => default,
            Some(text) => text,
        }
    }
}

/// What a runtime adds for the capabilities that the plug-in declared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeConfig {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub port_mappings: Vec<PortMapping>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How much a pod may receive and send: bits in a second, and bits at once.
///
/// containerd writes these names, and those of [`PortMapping`], with a capital letter (go-cni has no
/// tags on them), and plug-ins written in Go read them in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Bandwidth {
    #[serde(alias = "IngressRate")]
    pub ingress_rate: i64,
    #[serde(alias = "IngressBurst")]
    pub ingress_burst: i64,
    #[serde(alias = "EgressRate")]
    pub egress_rate: i64,
    #[serde(alias = "EgressBurst")]
    pub egress_burst: i64,
}

/// A host port that leads to the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    #[serde(alias = "HostPort")]
    pub host_port: u16,
    #[serde(alias = "ContainerPort")]
    pub container_port: u16,
    #[serde(alias = "Protocol", default = "tcp")]
    pub protocol: String,
    #[serde(rename = "hostIP", alias = "HostIP", alias = "hostIp", default)]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host_ip: String,
}

impl PortMapping {
    /// The address of the node that the mapping is bound to; `None` is any.
    pub fn host_address(&self) -> Option<IpAddr> {
        self.host_ip.parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified())
    }
}

fn tcp() -> String {
    "tcp".to_owned()
}

/// A `.conflist` file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfList {
    pub cni_version: String,
    pub name: String,
    #[serde(default)]
    pub disable_check: bool,
    pub plugins: Vec<Value>,
}
