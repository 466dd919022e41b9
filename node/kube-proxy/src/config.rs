//! `KubeProxyConfiguration` (`kubeproxy.config.k8s.io/v1alpha1`), with upstream's names and defaults.
//!
//! All fields of 1.36 are known. [`load`] reads a file, [`validation`] refuses what upstream refuses,
//! in its words; what it says about the rules becomes [`Options`].
//!
//! Upstream: `staging/src/k8s.io/kube-proxy/config/v1alpha1`, `pkg/proxy/apis/config`.
//! Deviation: modes `iptables` (also the default) and `ipvs` are accepted, and proxied with nftables:
//! `/proxyMode` says so. `ipvs` and `winkernel` have no effect, nor have `iptables.localhostNodePorts`,
//! client QPS and content types, and `enableProfiling`.

pub mod load;
mod parts;
pub mod validation;

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use linux_nftables::Family;
use serde::{Deserialize, Serialize};

pub use component_config::duration::SignedGoDuration as GoDuration;

pub use self::parts::{
    ClientConnection, Conntrack, DetectLocal, FeatureGates, Iptables, Ipvs, Logging, Nftables,
    Winkernel,
};
use crate::compile::{LocalDetector, NodePorts, Options};

pub(crate) const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
pub(crate) const KIND: &str = "KubeProxyConfiguration";
const PRIMARY: &str = "primary";
const HEALTHZ_PORT: u16 = 10256;
const METRICS_PORT: u16 = 10249;

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Configuration {
    pub api_version: String,
    pub kind: String,
    pub feature_gates: FeatureGates,
    pub client_connection: ClientConnection,
    pub logging: Logging,
    pub hostname_override: String,
    pub bind_address: String,
    pub healthz_bind_address: String,
    pub metrics_bind_address: String,
    pub bind_address_hard_fail: bool,
    pub enable_profiling: bool,
    pub show_hidden_metrics_for_version: String,
    pub mode: String,
    pub iptables: Iptables,
    pub ipvs: Ipvs,
    pub nftables: Nftables,
    pub winkernel: Winkernel,
    pub detect_local_mode: String,
    pub detect_local: DetectLocal,
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: String,
    pub node_port_addresses: Option<Vec<String>>,
    pub oom_score_adj: Option<i32>,
    pub conntrack: Conntrack,
    pub config_sync_period: GoDuration,
    pub port_range: String,
    pub windows_run_as_service: bool,
    /// An address that is empty after that stays so: the server is off.
    #[serde(skip)]
    pub(crate) is_complete: bool,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            feature_gates: FeatureGates::new(),
            client_connection: ClientConnection::default(),
            logging: Logging::default(),
            hostname_override: String::new(),
            bind_address: String::new(),
            healthz_bind_address: String::new(),
            metrics_bind_address: String::new(),
            bind_address_hard_fail: false,
            enable_profiling: false,
            show_hidden_metrics_for_version: String::new(),
            mode: String::new(),
            iptables: Iptables::default(),
            ipvs: Ipvs::default(),
            nftables: Nftables::default(),
            winkernel: Winkernel::default(),
            detect_local_mode: String::new(),
            detect_local: DetectLocal::default(),
            cluster_cidr: String::new(),
            node_port_addresses: None,
            oom_score_adj: Some(-999),
            conntrack: Conntrack::default(),
            config_sync_period: GoDuration::seconds(15 * 60),
            port_range: String::new(),
            windows_run_as_service: false,
            is_complete: false,
        }
    }
}

/// What is known of the node itself, which some settings speak of, and of where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its addresses, at most one of each family.
    pub ips: Vec<IpAddr>,
    pub pod_cidrs: Vec<IpNet>,
    /// What the cluster's Services have their addresses of.
    pub service_cidrs: Vec<IpNet>,
}

impl Configuration {
    /// Fills in what was left empty or zero.
    pub fn complete(&mut self) {
        let empty = |field: &mut String, value: &str| {
            if field.is_empty() {
                value.clone_into(field);
            }
        };
        empty(&mut self.bind_address, "0.0.0.0");
        let is_ipv4 = self.bind_address.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4());
        let (all, loopback) = if is_ipv4 { ("0.0.0.0", "127.0.0.1") } else { ("[::]", "[::1]") };
        if !self.is_complete {
            empty(&mut self.healthz_bind_address, all);
            empty(&mut self.metrics_bind_address, loopback);
        }
        self.is_complete = true;
        append_port(&mut self.healthz_bind_address, HEALTHZ_PORT);
        append_port(&mut self.metrics_bind_address, METRICS_PORT);
        empty(&mut self.mode, "iptables");
        empty(&mut self.detect_local_mode, "ClusterCIDR");
        if self.mode == "nftables" && self.node_port_addresses().is_empty() {
            self.node_port_addresses = Some(vec![PRIMARY.to_owned()]);
        }
        let zero = |field: &mut GoDuration, value: GoDuration| {
            if field.0 == 0 {
                *field = value;
            }
        };
        for period in [
            &mut self.iptables.sync_period,
            &mut self.ipvs.sync_period,
            &mut self.nftables.sync_period,
        ] {
            zero(period, GoDuration::seconds(30));
        }
        zero(&mut self.iptables.min_sync_period, GoDuration::seconds(1));
        zero(&mut self.nftables.min_sync_period, GoDuration::seconds(1));
        zero(&mut self.config_sync_period, GoDuration::seconds(15 * 60));
        self.complete_optional();
    }

    fn complete_optional(&mut self) {
        let conntrack = Conntrack::default();
        let own = &mut self.conntrack;
        own.max_per_core = own.max_per_core.or(conntrack.max_per_core);
        own.min = own.min.or(conntrack.min);
        own.tcp_established_timeout =
            own.tcp_established_timeout.or(conntrack.tcp_established_timeout);
        own.tcp_close_wait_timeout =
            own.tcp_close_wait_timeout.or(conntrack.tcp_close_wait_timeout);
        self.oom_score_adj = self.oom_score_adj.or(Some(-999));
        self.iptables.masquerade_bit = self.iptables.masquerade_bit.or(Some(14));
        self.nftables.masquerade_bit = self.nftables.masquerade_bit.or(Some(14));
        self.iptables.localhost_node_ports = self.iptables.localhost_node_ports.or(Some(true));
        if self.client_connection.qps == 0.0 {
            self.client_connection.qps = 5.0;
        }
        if self.client_connection.burst == 0 {
            self.client_connection.burst = 10;
        }
        let kind = &mut self.client_connection.content_type;
        if kind.is_empty() {
            "application/vnd.kubernetes.protobuf".clone_into(kind);
        }
    }

    fn node_port_addresses(&self) -> &[String] {
        self.node_port_addresses.as_deref().unwrap_or_default()
    }

    /// How often everything is looked at again, and how soon after one pass the next may begin.
    pub fn sync_periods(&self) -> (GoDuration, GoDuration) {
        match self.mode.as_str() {
            "nftables" => (self.nftables.sync_period, self.nftables.min_sync_period),
            "ipvs" => (self.ipvs.sync_period, self.ipvs.min_sync_period),
            _ => (self.iptables.sync_period, self.iptables.min_sync_period),
        }
    }

    /// The networks of `clusterCIDR`, as far as they are such.
    pub(crate) fn cluster_cidrs(&self) -> Vec<&str> {
        match self.cluster_cidr.as_str() {
            "" => Vec::new(),
            text => text.split(',').collect(),
        }
    }

    /// What shapes the rules of one family. The configuration is valid.
    pub fn options(&self, family: Family, node: &NodeFacts) -> Options {
        let (bit, masquerade_all) = match self.mode.as_str() {
            "nftables" => (self.nftables.masquerade_bit, self.nftables.masquerade_all),
            _ => (self.iptables.masquerade_bit, self.iptables.masquerade_all),
        };
        let is_ours = |ip: &IpAddr| ip.is_ipv4() == (family == Family::Ip);
        let bound: Option<IpAddr> =
            self.bind_address.parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified());
        let node_ip = bound.iter().chain(&node.ips).find(|ip| is_ours(ip)).copied();
        Options {
            family,
            masquerade_mark: 1u32.checked_shl(bit.unwrap_or(14).cast_unsigned()).unwrap_or(1 << 14),
            masquerade_all,
            local: self.local_detector(node, is_ours),
            node_ports: self.node_ports(),
            node_ip,
            service_cidrs: node
                .service_cidrs
                .iter()
                .filter(|it| is_ours(&it.addr()))
                .copied()
                .collect(),
        }
    }

    fn local_detector(&self, node: &NodeFacts, is_ours: impl Fn(&IpAddr) -> bool) -> LocalDetector {
        let first = |networks: Vec<IpNet>| {
            let found = networks.into_iter().find(|network| is_ours(&network.addr()));
            found.map_or(LocalDetector::Nobody, LocalDetector::Cidr)
        };
        let detect = &self.detect_local;
        match self.detect_local_mode.as_str() {
            "NodeCIDR" => first(node.pod_cidrs.clone()),
            "BridgeInterface" => LocalDetector::Bridge(detect.bridge_interface.clone()),
            "InterfaceNamePrefix" => LocalDetector::Prefix(detect.interface_name_prefix.clone()),
            _ => {
                first(self.cluster_cidrs().iter().filter_map(|it| it.trim().parse().ok()).collect())
            }
        }
    }

    fn node_ports(&self) -> NodePorts {
        let all = self.node_port_addresses();
        if all.iter().any(|it| it == PRIMARY) {
            return NodePorts::Primary;
        }
        let cidrs: Vec<IpNet> = all.iter().filter_map(|it| it.parse().ok()).collect();
        if cidrs.is_empty() { NodePorts::All } else { NodePorts::Cidrs(cidrs) }
    }

    /// Where `/healthz` is served.
    pub fn healthz(&self) -> Option<SocketAddr> {
        self.healthz_bind_address.parse().ok()
    }

    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics_bind_address.parse().ok()
    }
}

/// `0.0.0.0` becomes `0.0.0.0:10256`; what has a port, or is no address, stays.
fn append_port(address: &mut String, port: u16) {
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        *address = SocketAddr::new(ip, port).to_string();
    }
}

#[cfg(test)]
mod tests;
