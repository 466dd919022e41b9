//! What a kubelet is told: its configuration file and its flags, brought together.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use k8s_openapi::api::core::v1::Taint;

use crate::config::KubeletConfiguration;

/// The Kubernetes version that nodes report.
pub const VERSION: &str = "v1.36.2-eks-nodestead";

#[derive(Clone, Debug)]
pub struct Settings {
    pub config: KubeletConfiguration,
    pub node_name: String,
    pub node_ips: Vec<IpAddr>,
    pub node_labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    /// Somebody else initializes the node (`--cloud-provider=external`).
    pub has_external_cloud: bool,
    pub root_dir: String,
    pub credential_provider_config: Option<PathBuf>,
    pub credential_provider_bin_dir: Option<PathBuf>,
    /// The folders of the kernel's information, so that tests can show another machine.
    pub proc: PathBuf,
    pub sys: PathBuf,
    pub etc: PathBuf,
}

impl Settings {
    pub fn new(config: KubeletConfiguration, node_name: &str) -> Self {
        Self {
            config,
            node_name: node_name.to_owned(),
            node_ips: Vec::new(),
            node_labels: BTreeMap::new(),
            taints: Vec::new(),
            has_external_cloud: false,
            root_dir: "/var/lib/kubelet".to_owned(),
            credential_provider_config: None,
            credential_provider_bin_dir: None,
            proc: PathBuf::from("/proc"),
            sys: PathBuf::from("/sys"),
            etc: PathBuf::from("/etc"),
        }
    }
}
