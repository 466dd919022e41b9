//! What a kubelet is told: its configuration file and its flags, brought together.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use k8s_openapi::api::core::v1::Taint;

use crate::{config::KubeletConfiguration, oom::MemoryKills};

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
    /// There is no API server: static pods run, and nothing is told to anybody.
    pub is_standalone: bool,
    pub root_dir: String,
    /// `pki` below the root directory, if it is not given.
    pub cert_dir: Option<PathBuf>,
    pub credential_provider_config: Option<PathBuf>,
    pub credential_provider_bin_dir: Option<PathBuf>,
    /// How old a dead container must be before it is removed.
    pub minimum_container_age: Duration,
    /// How many old containers of a name are kept; negative: all.
    pub dead_containers_per_container: i64,
    /// How many old containers are kept in all; negative: all.
    pub dead_containers: i64,
    /// The flags as they were given, for `/flagz`.
    pub flags: BTreeMap<String, String>,
    /// The folders of the kernel's information, so that tests can show another machine.
    pub proc: PathBuf,
    pub sys: PathBuf,
    pub etc: PathBuf,
    /// Where systemd shows that it runs.
    pub run: PathBuf,
    /// The logs of the system, for `/logs/`.
    pub system_logs: PathBuf,
    /// Who tells that the machine ran out of memory.
    pub memory_kills: Option<MemoryKills>,
    /// The program that reads the journal.
    pub journalctl: PathBuf,
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
            is_standalone: false,
            root_dir: "/var/lib/kubelet".to_owned(),
            cert_dir: None,
            credential_provider_config: None,
            credential_provider_bin_dir: None,
            minimum_container_age: Duration::ZERO,
            dead_containers_per_container: 1,
            dead_containers: -1,
            flags: BTreeMap::new(),
            proc: PathBuf::from("/proc"),
            sys: PathBuf::from("/sys"),
            etc: PathBuf::from("/etc"),
            run: PathBuf::from("/run"),
            system_logs: PathBuf::from("/var/log"),
            memory_kills: None,
            journalctl: PathBuf::from("journalctl"),
        }
    }

    pub(crate) fn certificates(&self) -> PathBuf {
        self.cert_dir.clone().unwrap_or_else(|| PathBuf::from(&self.root_dir).join("pki"))
    }
}
