//! From wishes and facts to files: pure.

use crate::{
    Facts, containerd, containerd::ContainerdConfigError, credentials, expression::ExpressionError,
    files::PlannedFile, kubeconfig, kubelet, node_config::NodeConfig,
};

/// Everything that a node's services read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub files: Vec<PlannedFile>,
    /// Registries: files whose paths depend on the region.
    pub registries: Vec<(String, String)>,
}

/// A wish that cannot be fulfilled.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    Containerd(#[from] ContainerdConfigError),
    #[error("the cluster's `cidr` is IPv6, and this instance has no IPv6 address")]
    NoIpv6Address,
    #[error("`spec.kubelet.maxPodsExpression` gives no number of pods")]
    MaxPods {
        #[source]
        source: ExpressionError,
    },
}

/// See the module.
pub fn plan(config: &NodeConfig, facts: &Facts, node_name: &str) -> Result<Plan, PlanError> {
    if config.is_ipv6() && facts.ipv6_address.is_none() {
        return Err(PlanError::NoIpv6Address);
    }
    let mut files = containerd::files(facts, &config.containerd.config)?;
    let kubelet = kubelet::files(config, facts, node_name);
    files.extend(kubelet.map_err(|source| PlanError::MaxPods { source })?);
    files.push(kubeconfig::file(config, facts));
    files.extend(credentials::files());
    Ok(Plan { files, registries: containerd::registries(facts) })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::node_config::tests::document;

    pub(crate) fn facts() -> Facts {
        Facts {
            instance_id: "i-0abc".to_owned(),
            instance_type: "m5.large".to_owned(),
            region: "us-east-1".to_owned(),
            zone: "us-east-1a".to_owned(),
            account: "111122223333".to_owned(),
            address: Ipv4Addr::new(192, 168, 0, 12),
            ipv6_address: None,
            domain: "amazonaws.com".to_owned(),
            cpus: 2,
            has_sys_resource: false,
            has_apparmor: false,
            has_crun: false,
        }
    }

    pub(crate) fn config(extra: &str) -> NodeConfig {
        NodeConfig::parse(&[document(extra)]).unwrap().unwrap()
    }

    #[test]
    fn every_file_that_the_services_read_is_planned() {
        let plan = plan(&config(""), &facts(), "node").unwrap();
        let paths: Vec<&str> = plan.files.iter().map(|it| it.path).collect();
        for path in [
            "/etc/containerd/config.toml",
            "/etc/containerd/certs.d/_default/hosts.toml",
            "/etc/kubernetes/kubelet/config.json",
            "/etc/kubernetes/pki/ca.crt",
            "/etc/eks/kubelet/environment",
            "/etc/eks/image-credential-provider/config.json",
            "/etc/eks/image-credential-provider/ecr-credential-provider",
            "/var/lib/kubelet/kubeconfig",
        ] {
            assert!(paths.contains(&path), "{path} is not in {paths:?}");
        }
        let kubeconfig = plan.files.iter().find(|it| it.path.ends_with("kubeconfig")).unwrap();
        assert_eq!(kubeconfig.mode, 0o600);
        let value: serde_json::Value = serde_json::from_str(&kubeconfig.content).unwrap();
        let exec = &value["users"][0]["user"]["exec"];
        assert_eq!(exec["args"][4], "stead");
        assert_eq!(exec["command"], "/opt/nodestead/bin/nodestead");
    }
}
