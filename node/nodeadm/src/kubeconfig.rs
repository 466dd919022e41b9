//! The kubelet's way to the API server: the cluster's endpoint, and a token from the node's role.

use serde_json::json;

use crate::{Facts, files::PlannedFile, kubelet::CLIENT_CA, node_config::NodeConfig};

pub(crate) const PATH: &str = "/var/lib/kubelet/kubeconfig";
pub(crate) const BINARY: &str = "/opt/nodestead/bin/nodestead";

/// JSON is YAML, and needs no quoting rules.
pub(crate) fn file(config: &NodeConfig, facts: &Facts) -> PlannedFile {
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "kubernetes",
            "cluster": {
                "certificate-authority": CLIENT_CA,
                "server": config.cluster.api_server_endpoint,
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
                "command": BINARY,
                "args": [
                    "run", "aws-iam-authenticator", "token",
                    "-i", config.cluster.name,
                    "--region", facts.region,
                ],
                "interactiveMode": "Never",
            }},
        }],
    });
    PlannedFile::new(PATH, format!("{kubeconfig:#}\n")).mode(0o600)
}
