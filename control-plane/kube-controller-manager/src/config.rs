//! What the controllers are told from outside.

use std::{fmt, net::IpAddr, sync::Arc};

use crate::{AutoscalerConfig, Switches};

/// Answers whether a node (by its Kubernetes name) may have a serving certificate for these names.
///
/// On EKS the cloud is asked: the names must be the instance's. `bin` knows the cloud; nothing
/// here does.
pub type NodeNamesCheck = dyn Fn(&str, &[String], &[IpAddr]) -> bool + Send + Sync;

/// How fast nodes that fall silent lose their pods, in nodes per second and zone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvictionPace {
    pub rate: f64,
    /// In a large zone of which much is lost. In a small one nothing goes then.
    pub secondary_rate: f64,
    /// How much of a zone is much, as a part of it.
    pub unhealthy_zone_threshold: f64,
    /// Above how many nodes a zone is large.
    pub large_cluster_size_threshold: usize,
}

impl Default for EvictionPace {
    fn default() -> Self {
        Self {
            rate: 0.1,
            secondary_rate: 0.01,
            unhealthy_zone_threshold: 0.55,
            large_cluster_size_threshold: 50,
        }
    }
}

/// Settings of [`crate::run`].
#[derive(Clone)]
pub struct Config {
    /// Signs the certificates of kubelets and clients.
    pub ca: Arc<pki::Ca>,
    /// What pods trust the API server by: the `kube-root-ca.crt` ConfigMap of each namespace.
    pub root_ca_pem: String,
    /// Signs the tokens that Secrets hold. `None`: such Secrets stay empty.
    pub service_account_key: Option<Arc<pki::ServiceAccountKey>>,
    /// How long the tokens of Secrets that older clusters made may be unused before they go.
    pub legacy_token_clean_up_period: std::time::Duration,
    /// See [`NodeNamesCheck`]. `None` compares with the addresses that the Node object shows.
    pub node_names: Option<Arc<NodeNamesCheck>>,
    /// What the helper pods of local volumes run (`nodestead-addons`). `None`: there are none.
    pub local_path_image: Option<String>,
    /// How long a node may be silent before it counts as unreachable.
    pub node_monitor_grace_period: std::time::Duration,
    /// How fast nodes that fall silent lose their pods.
    pub eviction_pace: EvictionPace,
    /// How many finished pods are kept before the oldest are deleted.
    pub terminated_pod_gc_threshold: usize,
    /// How long signed certificates are valid, at most.
    pub cluster_signing_duration: std::time::Duration,
    /// Which controllers run.
    pub controllers: Switches,
    /// A client that shows nothing of who it is. With it each controller acts as its own service account.
    pub accounts: Option<kube::Client>,
    pub autoscaler: AutoscalerConfig,
}

impl Config {
    /// Upstream's defaults.
    pub fn new(ca: Arc<pki::Ca>, root_ca_pem: String) -> Self {
        Self {
            ca,
            root_ca_pem,
            service_account_key: None,
            legacy_token_clean_up_period: std::time::Duration::from_secs(365 * 24 * 3600),
            node_names: None,
            local_path_image: None,
            node_monitor_grace_period: std::time::Duration::from_secs(50),
            eviction_pace: EvictionPace::default(),
            terminated_pod_gc_threshold: 12_500,
            cluster_signing_duration: std::time::Duration::from_secs(365 * 24 * 3600),
            controllers: Switches::default(),
            accounts: None,
            autoscaler: AutoscalerConfig::default(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("node_monitor_grace_period", &self.node_monitor_grace_period)
            .field("terminated_pod_gc_threshold", &self.terminated_pod_gc_threshold)
            .field("local_path_image", &self.local_path_image)
            .field("asks_for_node_names", &self.node_names.is_some())
            .finish_non_exhaustive()
    }
}
