//! `KubeletConfiguration` (`kubelet.config.k8s.io/v1beta1`), with upstream's names and defaults.
//!
//! Fields that this kubelet does not use are accepted and ignored, so that a file written for
//! upstream's works. Deviation: upstream refuses fields that no kubelet knows; here they are ignored.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Taint;
use serde::{Deserialize, Serialize};

use crate::{duration::GoDuration, yaml};

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeletConfiguration {
    pub api_version: String,
    pub kind: String,
    pub address: String,
    pub port: u16,
    pub healthz_bind_address: String,
    pub healthz_port: u16,
    pub tls_cert_file: Option<String>,
    pub tls_private_key_file: Option<String>,
    #[serde(rename = "serverTLSBootstrap")]
    pub server_tls_bootstrap: bool,
    pub authentication: Authentication,
    pub authorization: Authorization,
    pub cluster_domain: String,
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: Vec<String>,
    pub node_status_update_frequency: GoDuration,
    pub node_status_report_frequency: GoDuration,
    pub node_lease_duration_seconds: i32,
    #[serde(rename = "imageMinimumGCAge")]
    pub image_minimum_gc_age: GoDuration,
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: u8,
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: u8,
    pub cgroup_driver: String,
    pub cgroup_root: String,
    #[serde(rename = "cgroupsPerQOS")]
    pub cgroups_per_qos: bool,
    pub max_pods: i64,
    pub pod_pids_limit: i64,
    pub resolv_conf: String,
    pub serialize_image_pulls: bool,
    pub max_parallel_image_pulls: Option<usize>,
    pub eviction_hard: BTreeMap<String, String>,
    pub eviction_pressure_transition_period: GoDuration,
    pub system_reserved: BTreeMap<String, String>,
    pub kube_reserved: BTreeMap<String, String>,
    pub container_log_max_size: String,
    pub container_log_max_files: u32,
    pub container_runtime_endpoint: String,
    pub image_service_endpoint: String,
    pub static_pod_path: String,
    #[serde(rename = "providerID")]
    pub provider_id: String,
    pub register_with_taints: Vec<Taint>,
    pub register_node: bool,
    pub runtime_request_timeout: GoDuration,
    pub streaming_connection_idle_timeout: GoDuration,
    pub sync_frequency: GoDuration,
    pub file_check_frequency: GoDuration,
    #[serde(rename = "podCIDR")]
    pub pod_cidr: String,
    pub seccomp_default: bool,
    pub pod_logs_dir: String,
    pub enable_debugging_handlers: bool,
    pub feature_gates: BTreeMap<String, bool>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authentication {
    pub x509: X509,
    pub webhook: AuthenticationWebhook,
    pub anonymous: Anonymous,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct X509 {
    #[serde(rename = "clientCAFile")]
    pub client_ca_file: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthenticationWebhook {
    pub enabled: bool,
    #[serde(rename = "cacheTTL")]
    pub cache_ttl: GoDuration,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Anonymous {
    pub enabled: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authorization {
    pub mode: String,
    pub webhook: AuthorizationWebhook,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthorizationWebhook {
    #[serde(rename = "cacheAuthorizedTTL")]
    pub cache_authorized_ttl: GoDuration,
    #[serde(rename = "cacheUnauthorizedTTL")]
    pub cache_unauthorized_ttl: GoDuration,
}

impl Default for AuthenticationWebhook {
    fn default() -> Self {
        Self { enabled: true, cache_ttl: GoDuration::seconds(120) }
    }
}

impl Default for Authorization {
    fn default() -> Self {
        Self { mode: "Webhook".to_owned(), webhook: AuthorizationWebhook::default() }
    }
}

impl Default for AuthorizationWebhook {
    fn default() -> Self {
        Self {
            cache_authorized_ttl: GoDuration::seconds(300),
            cache_unauthorized_ttl: GoDuration::seconds(30),
        }
    }
}

impl Default for KubeletConfiguration {
    fn default() -> Self {
        let hard = [
            ("memory.available", "100Mi"),
            ("nodefs.available", "10%"),
            ("nodefs.inodesFree", "5%"),
            ("imagefs.available", "15%"),
            ("imagefs.inodesFree", "5%"),
        ];
        Self {
            api_version: "kubelet.config.k8s.io/v1beta1".to_owned(),
            kind: "KubeletConfiguration".to_owned(),
            address: "0.0.0.0".to_owned(),
            port: 10250,
            healthz_bind_address: "127.0.0.1".to_owned(),
            healthz_port: 10248,
            tls_cert_file: None,
            tls_private_key_file: None,
            server_tls_bootstrap: false,
            authentication: Authentication::default(),
            authorization: Authorization::default(),
            cluster_domain: String::new(),
            cluster_dns: Vec::new(),
            node_status_update_frequency: GoDuration::seconds(10),
            node_status_report_frequency: GoDuration::seconds(300),
            node_lease_duration_seconds: 40,
            image_minimum_gc_age: GoDuration::seconds(120),
            image_gc_high_threshold_percent: 85,
            image_gc_low_threshold_percent: 80,
            cgroup_driver: "cgroupfs".to_owned(),
            cgroup_root: "/".to_owned(),
            cgroups_per_qos: true,
            max_pods: 110,
            pod_pids_limit: -1,
            resolv_conf: "/etc/resolv.conf".to_owned(),
            serialize_image_pulls: true,
            max_parallel_image_pulls: None,
            eviction_hard: hard.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            eviction_pressure_transition_period: GoDuration::seconds(300),
            system_reserved: BTreeMap::new(),
            kube_reserved: BTreeMap::new(),
            container_log_max_size: "10Mi".to_owned(),
            container_log_max_files: 5,
            container_runtime_endpoint: "unix:///run/containerd/containerd.sock".to_owned(),
            image_service_endpoint: String::new(),
            static_pod_path: String::new(),
            provider_id: String::new(),
            register_with_taints: Vec::new(),
            register_node: true,
            runtime_request_timeout: GoDuration::seconds(120),
            streaming_connection_idle_timeout: GoDuration::seconds(4 * 3600),
            sync_frequency: GoDuration::seconds(60),
            file_check_frequency: GoDuration::seconds(20),
            pod_cidr: String::new(),
            seccomp_default: false,
            pod_logs_dir: "/var/log/pods".to_owned(),
            enable_debugging_handlers: true,
            feature_gates: BTreeMap::new(),
        }
    }
}

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadConfigurationError {
    #[error("failed to read the configuration file `{path}`")]
    Read {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the configuration file `{path}` is no KubeletConfiguration: {message}")]
    Parse { path: String, message: String },
    #[error(
        "`{path}` holds a `{kind}` of `{api_version}`, not a KubeletConfiguration of kubelet.config.k8s.io/v1beta1"
    )]
    WrongKind { path: String, kind: String, api_version: String },
}

impl KubeletConfiguration {
    /// Reads YAML or JSON.
    pub fn load(path: &str) -> Result<Self, LoadConfigurationError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| LoadConfigurationError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &str) -> Result<Self, LoadConfigurationError> {
        let config: Self = yaml::from_str(text).map_err(|error| LoadConfigurationError::Parse {
            path: path.to_owned(),
            message: error.to_string(),
        })?;
        let is_right = config.kind == "KubeletConfiguration"
            && config.api_version == "kubelet.config.k8s.io/v1beta1";
        if !is_right {
            return Err(LoadConfigurationError::WrongKind {
                path: path.to_owned(),
                kind: config.kind,
                api_version: config.api_version,
            });
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_for_upstreams_kubelet_is_read() {
        let text = r#"
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}
clusterDNS: [10.100.0.10]
maxPods: 29
providerID: aws:///us-east-1a/i-0abc
nodeStatusUpdateFrequency: 5s
hairpinMode: hairpin-veth
serverTLSBootstrap: true
kubeReserved: {cpu: 70m, memory: 574Mi}
registerWithTaints: [{key: a, effect: NoSchedule}]
"#;
        let config = KubeletConfiguration::parse(text, "f").unwrap();
        assert_eq!(config.max_pods, 29);
        assert_eq!(config.cluster_dns, ["10.100.0.10"]);
        assert_eq!(config.authentication.x509.client_ca_file, "/etc/kubernetes/pki/ca.crt");
        assert!(config.server_tls_bootstrap);
        assert_eq!(config.port, 10250);
        assert_eq!(config.register_with_taints[0].effect, "NoSchedule");
    }

    #[test]
    fn another_kind_is_refused() {
        let text = r#"{"apiVersion":"v1","kind":"Pod"}"#;
        assert!(KubeletConfiguration::parse(text, "f").is_err());
    }
}
