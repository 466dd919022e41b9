//! The flags that are fields of the configuration.

use serde_json::{Value, json};

use crate::config::{Configuration, load::ConfigError};

/// A flag that may be given as `--flag` or `--flag=false`.
macro_rules! flags {
    ($($field:ident: $type:ty = $pointer:literal, $help:literal;)*) => {
        /// Upstream's flags. Empty where they are not given.
        #[derive(Clone, Debug, Default, clap::Args)]
        pub struct Flags {
            $(
                #[doc = $help]
                #[arg(long, num_args = 0..=1, require_equals = false, hide_short_help = true)]
                #[arg(default_missing_value = "true", allow_hyphen_values = true)]
                pub $field: Option<$type>,
            )*
            /// A set of key=value pairs that describe feature gates.
            #[arg(long)]
            pub feature_gates: Option<String>,
            /// Ranges of addresses that node ports are open on, or `primary`.
            #[arg(long, value_delimiter = ',')]
            pub nodeport_addresses: Option<Vec<String>>,
            /// A comma-separated list of CIDRs which IPVS should not touch.
            #[arg(long, value_delimiter = ',')]
            pub ipvs_exclude_cidrs: Option<Vec<String>>,
            /// The port to bind the health check server. Use 0 to disable.
            #[arg(long, hide = true)]
            pub healthz_port: Option<u16>,
            /// The port to bind the metrics server. Use 0 to disable.
            #[arg(long, hide = true)]
            pub metrics_port: Option<u16>,
            /// Masquerade all that is sent to cluster addresses.
            #[arg(long, num_args = 0..=1, default_missing_value = "true")]
            pub masquerade_all: Option<bool>,
            /// The number for the log level verbosity.
            #[arg(long, short = 'v')]
            pub v: Option<u32>,
            /// Sets the log format: text or json.
            #[arg(long)]
            pub logging_format: Option<String>,
            /// Accepted and without effect.
            #[arg(long, hide = true)]
            pub vmodule: Option<String>,
            /// Accepted and without effect.
            #[arg(long, hide = true)]
            pub log_flush_frequency: Option<String>,
        }

        impl Flags {
            /// Where in the configuration each given flag goes, and its value.
            fn fields(&self) -> Vec<(&'static str, &'static str, Value)> {
                let mut fields = Vec::new();
                $(
                    if let Some(value) = &self.$field {
                        fields.push((stringify!($field), $pointer, json!(value)));
                    }
                )*
                fields
            }
        }
    };
}

flags! {
    bind_address: String = "/bindAddress", "Overrides what the node's primary IP is.";
    healthz_bind_address: String = "/healthzBindAddress", "Where the health check server listens.";
    metrics_bind_address: String = "/metricsBindAddress", "Where the metrics server listens.";
    bind_address_hard_fail: bool = "/bindAddressHardFail", "End where a port cannot be bound.";
    profiling: bool = "/enableProfiling", "Accepted and without effect.";
    show_hidden_metrics_for_version: String = "/showHiddenMetricsForVersion", "Without effect.";
    proxy_mode: String = "/mode", "Which proxy mode to use: it is nftables in any case.";
    iptables_masquerade_bit: i32 = "/iptables/masqueradeBit", "The bit of the mark for SNAT.";
    iptables_localhost_nodeports: bool = "/iptables/localhostNodePorts", "Without effect.";
    iptables_sync_period: String = "/iptables/syncPeriod", "How often all is looked at again.";
    iptables_min_sync_period: String = "/iptables/minSyncPeriod", "Without effect.";
    ipvs_sync_period: String = "/ipvs/syncPeriod", "How often all is looked at again.";
    ipvs_min_sync_period: String = "/ipvs/minSyncPeriod", "Without effect.";
    ipvs_scheduler: String = "/ipvs/scheduler", "Without effect.";
    ipvs_strict_arp: bool = "/ipvs/strictARP", "Without effect.";
    ipvs_tcp_timeout: String = "/ipvs/tcpTimeout", "Without effect.";
    ipvs_tcpfin_timeout: String = "/ipvs/tcpFinTimeout", "Without effect.";
    ipvs_udp_timeout: String = "/ipvs/udpTimeout", "Without effect.";
    detect_local_mode: String = "/detectLocalMode", "How pods are told from others.";
    pod_bridge_interface: String = "/detectLocal/bridgeInterface", "The pods' bridge.";
    pod_interface_name_prefix: String = "/detectLocal/interfaceNamePrefix", "Of pods' interfaces.";
    cluster_cidr: String = "/clusterCIDR", "The CIDR range of the pods in the cluster.";
    oom_score_adj: i32 = "/oomScoreAdj", "The oom-score-adj value for this process.";
    conntrack_max_per_core: i32 = "/conntrack/maxPerCore", "Connections to track per CPU core.";
    conntrack_min: i32 = "/conntrack/min", "Connections to track at the least.";
    conntrack_tcp_timeout_established: String = "/conntrack/tcpEstablishedTimeout", "Idle time.";
    conntrack_tcp_timeout_close_wait: String = "/conntrack/tcpCloseWaitTimeout", "Idle time.";
    conntrack_tcp_be_liberal: bool = "/conntrack/tcpBeLiberal", "Accept packets out of window.";
    conntrack_udp_timeout: String = "/conntrack/udpTimeout", "Idle time without an answer.";
    conntrack_udp_timeout_stream: String = "/conntrack/udpStreamTimeout", "Idle time.";
    config_sync_period: String = "/configSyncPeriod", "Without effect: changes are watched.";
    kube_api_content_type: String = "/clientConnection/contentType", "Without effect.";
    kube_api_burst: i32 = "/clientConnection/burst", "Without effect.";
    kube_api_qps: f32 = "/clientConnection/qps", "Without effect.";
    proxy_port_range: String = "/portRange", "Without effect.";
}

impl Flags {
    /// The defaults with what was given over them.
    pub(super) fn configuration(&self) -> Result<Configuration, ConfigError> {
        let wrong = |message: String| ConfigError::Decode { message };
        let mut value =
            serde_json::to_value(Configuration::default()).map_err(|it| wrong(it.to_string()))?;
        for (_, pointer, given) in self.fields() {
            if let Some(field) = value.pointer_mut(pointer) {
                *field = given;
            }
        }
        for (from, to) in [
            ("/iptables/syncPeriod", "/nftables/syncPeriod"),
            ("/iptables/minSyncPeriod", "/nftables/minSyncPeriod"),
            ("/iptables/masqueradeBit", "/nftables/masqueradeBit"),
        ] {
            let given = value.pointer(from).cloned();
            if let (Some(given), Some(field)) = (given, value.pointer_mut(to)) {
                *field = given;
            }
        }
        let mut config: Configuration =
            serde_json::from_value(value).map_err(|it| wrong(it.to_string()))?;
        if let Some(all) = self.masquerade_all {
            config.iptables.masquerade_all = all;
            config.nftables.masquerade_all = all;
        }
        config.node_port_addresses.clone_from(&self.nodeport_addresses);
        config.ipvs.exclude_cidrs.clone_from(&self.ipvs_exclude_cidrs);
        self.set_gates(&mut config)?;
        config.complete();
        self.set_ports(&mut config);
        Ok(config)
    }

    fn set_gates(&self, config: &mut Configuration) -> Result<(), ConfigError> {
        let text = self.feature_gates.as_deref().unwrap_or_default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let parsed = pair.split_once('=').and_then(|(name, value)| {
                Some((name.trim().to_owned(), value.trim().to_lowercase().parse().ok()?))
            });
            let (name, is_on) = parsed.ok_or_else(|| ConfigError::Decode {
                message: format!("missing bool value for flag string: {pair}"),
            })?;
            config.feature_gates.insert(name, is_on);
        }
        Ok(())
    }

    /// The deprecated flags for ports: zero is no server.
    fn set_ports(&self, config: &mut Configuration) {
        let set = |address: &mut String, port: Option<u16>| match port {
            None => {}
            Some(0) => address.clear(),
            Some(port) => {
                if let Ok(mut parsed) = address.parse::<std::net::SocketAddr>() {
                    parsed.set_port(port);
                    *address = parsed.to_string();
                }
            }
        };
        set(&mut config.healthz_bind_address, self.healthz_port);
        set(&mut config.metrics_bind_address, self.metrics_port);
    }

    /// Flags for logging go before the file.
    pub(super) fn set_logging(&self, config: &mut Configuration) {
        if let Some(level) = self.v {
            config.logging.verbosity = level;
        }
        if let Some(format) = &self.logging_format {
            config.logging.format.clone_from(format);
        }
    }

    /// Those that were given, by their names.
    pub(super) fn given(&self) -> Vec<(String, String)> {
        let fields = self.fields().into_iter();
        let mut given: Vec<_> = fields
            .map(|(field, _, value)| {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                (field.replace('_', "-"), text)
            })
            .collect();
        given.extend(self.v.map(|level| ("v".to_owned(), level.to_string())));
        given
    }
}
