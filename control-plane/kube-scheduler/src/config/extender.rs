//! What the file says of an extender.
//!
//! Upstream: `Extender` of `kubescheduler.config.k8s.io/v1`.

use component_config::duration::SignedGoDuration as GoDuration;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtenderConfig {
    pub url_prefix: String,
    pub filter_verb: String,
    pub preempt_verb: String,
    pub prioritize_verb: String,
    pub weight: i64,
    pub bind_verb: String,
    #[serde(rename = "enableHTTPS")]
    pub enable_https: bool,
    pub tls_config: Option<ExtenderTlsConfig>,
    /// Zero: five seconds.
    pub http_timeout: GoDuration,
    /// Whether it knows the nodes and is told their names only.
    pub node_cache_capable: bool,
    pub managed_resources: Vec<ExtenderManagedResource>,
    /// Whether scheduling goes on without it when it fails.
    pub ignorable: bool,
}

/// An extended resource: pods that ask for none of them are not the extender's business.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtenderManagedResource {
    pub name: String,
    /// Whether the scheduler does not look itself whether a node has enough of it.
    pub ignored_by_scheduler: bool,
}

/// The `…Data` are PEM in base64 and go before the files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtenderTlsConfig {
    pub insecure: bool,
    pub server_name: String,
    pub cert_file: String,
    pub key_file: String,
    pub ca_file: String,
    pub cert_data: String,
    pub key_data: String,
    pub ca_data: String,
}
