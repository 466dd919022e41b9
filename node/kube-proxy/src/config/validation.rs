//! What upstream refuses, in its words.
//!
//! Upstream: `pkg/proxy/apis/config/validation`.
//! Deviation: feature gates that nobody knows are accepted, and any `showHiddenMetricsForVersion`.

use std::{fmt::Display, net::IpAddr};

use ipnet::IpNet;

use super::{Configuration, GoDuration, PRIMARY, load::ConfigError};

const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
const POSITIVE: &str = "must be greater than 0";
const CIDR: &str = "must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)";
const CIDR_PAIR: &str = "must be a either a single CIDR or dual-stack pair of CIDRs (e.g. \
                         [10.100.0.0/16, fde4:8dba:82e1::/48]";
const LOCAL_MODES: [&str; 4] =
    ["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"];

/// Refuses a configuration that is complete and wrong.
pub fn check(config: &Configuration) -> Result<(), ConfigError> {
    let mut errors = Errors(Vec::new());
    errors.masquerade(config);
    errors.linux(config);
    errors.mode(config);
    errors.number("ClientConnection.Burst", config.client_connection.burst, 0..=i32::MAX, {
        NOT_NEGATIVE
    });
    errors.periods(config);
    errors.addresses(config);
    errors.node_ports(config);
    errors.local(config);
    if !matches!(config.logging.format.as_str(), "text" | "json") {
        errors.text("logging.format", &config.logging.format, "Unsupported log format");
    }
    match errors.0.len() {
        0 => Ok(()),
        1 => Err(ConfigError::Invalid { message: errors.0.remove(0) }),
        _ => Err(ConfigError::Invalid { message: format!("[{}]", errors.0.join(", ")) }),
    }
}

/// The messages so far.
struct Errors(Vec<String>);

impl Errors {
    fn add(&mut self, field: &str, value: impl Display, why: &str) {
        self.0.push(format!("KubeProxyConfiguration.{field}: Invalid value: {value}: {why}"));
    }

    fn text(&mut self, field: &str, value: &str, why: &str) {
        self.add(field, format_args!("{value:?}"), why);
    }

    fn number(&mut self, field: &str, value: i32, of: std::ops::RangeInclusive<i32>, why: &str) {
        if !of.contains(&value) {
            self.add(field, value, why);
        }
    }

    fn not_negative(&mut self, field: &str, value: GoDuration) {
        if value < GoDuration(0) {
            self.add(field, value, NOT_NEGATIVE);
        }
    }

    fn masquerade(&mut self, config: &Configuration) {
        let why = "must be within the range [0, 31]";
        let bit = config.iptables.masquerade_bit.unwrap_or(14);
        self.number("KubeProxyIPTablesConfiguration.MasqueradeBit", bit, 0..=31, why);
        if config.mode == "nftables" {
            let bit = config.nftables.masquerade_bit.unwrap_or(14);
            self.number("KubeProxyNFTablesConfiguration.MasqueradeBit", bit, 0..=31, why);
        }
        if config.mode == "ipvs" {
            let ipvs = &config.ipvs;
            self.not_negative("KubeProxyIPVSConfiguration.TCPTimeout", ipvs.tcp_timeout);
            self.not_negative("KubeProxyIPVSConfiguration.TCPFinTimeout", ipvs.tcp_fin_timeout);
            self.not_negative("KubeProxyIPVSConfiguration.UDPTimeout", ipvs.udp_timeout);
            let excluded = ipvs.exclude_cidrs.iter().flatten().enumerate();
            for (index, cidr) in excluded.filter(|(_, cidr)| cidr.parse::<IpNet>().is_err()) {
                let field = format!("KubeProxyIPVSConfiguration.ExcludeCidrs[{index}]");
                self.text(&field, cidr, "must be a valid CIDR");
            }
        }
    }

    fn linux(&mut self, config: &Configuration) {
        let at = |name: &str| {
            format!("KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration.{name}")
        };
        let conntrack = &config.conntrack;
        let whole = 0..=i32::MAX;
        let per_core = conntrack.max_per_core.unwrap_or(0);
        self.number(&at("MaxPerCore"), per_core, whole.clone(), NOT_NEGATIVE);
        self.number(&at("Min"), conntrack.min.unwrap_or(0), whole, NOT_NEGATIVE);
        for (name, value) in [
            ("TCPEstablishedTimeout", conntrack.tcp_established_timeout.unwrap_or_default()),
            ("TCPCloseWaitTimeout", conntrack.tcp_close_wait_timeout.unwrap_or_default()),
            ("UDPTimeout", conntrack.udp_timeout),
            ("UDPStreamTimeout", conntrack.udp_stream_timeout),
        ] {
            self.not_negative(&at(name), value);
        }
        let why = "must be within the range [-1000, 1000]";
        let score = config.oom_score_adj.unwrap_or(0);
        self.number("KubeProxyLinuxConfiguration.OOMScoreAdj", score, -1000..=1000, why);
    }

    fn mode(&mut self, config: &Configuration) {
        if !matches!(config.mode.as_str(), "" | "iptables" | "ipvs" | "nftables") {
            let why = "must be iptables, ipvs, nftables or blank (blank means the best-available \
                       proxy [currently iptables])";
            self.text("Mode.ProxyMode", &config.mode, why);
        }
    }

    fn periods(&mut self, config: &Configuration) {
        if config.config_sync_period <= GoDuration(0) {
            self.add("ConfigSyncPeriod", config.config_sync_period, POSITIVE);
        }
        let (period, least) = config.sync_periods();
        if period <= GoDuration(0) {
            self.add("SyncPeriod", period, POSITIVE);
        }
        self.not_negative("MinSyncPeriod", least);
        if least > period {
            let why = "must be greater than or equal to KubeProxyConfiguration.MinSyncPeriod";
            self.add("SyncPeriod", least, why);
        }
    }

    fn addresses(&mut self, config: &Configuration) {
        if config.bind_address.parse::<IpAddr>().is_err() {
            let why = "not a valid textual representation of an IP address";
            self.text("BindAddress", &config.bind_address, why);
        }
        for (field, address) in [
            ("HealthzBindAddress", &config.healthz_bind_address),
            ("MetricsBindAddress", &config.metrics_bind_address),
        ] {
            if !address.is_empty() {
                self.host_port(field, address);
            }
        }
        if !config.port_range.is_empty() && !is_port_range(&config.port_range) {
            let why = "must be a valid port range (e.g. 300-2000)";
            self.text("PortRange", &config.port_range, why);
        }
    }

    fn host_port(&mut self, field: &str, address: &str) {
        let split = match address.strip_prefix('[') {
            Some(rest) => rest.split_once("]:"),
            None => address.rsplit_once(':').filter(|(host, _)| !host.contains(':')),
        };
        let Some((host, port)) = split else {
            return self.text(field, address, "must be IP:port");
        };
        if host.parse::<IpAddr>().is_err() {
            self.text(field, host, "must be a valid IP");
        }
        if port.parse::<u16>().ok().is_none_or(|port| port == 0) {
            self.text(field, port, "must be a valid port");
        }
    }

    fn node_ports(&mut self, config: &Configuration) {
        let all = config.node_port_addresses();
        for (index, address) in all.iter().enumerate() {
            let field = format!("NodePortAddresses[{index}]");
            if address == PRIMARY {
                if all.len() != 1 {
                    self.text(&field, address, "can't use both 'primary' and CIDRs");
                }
                break;
            }
            if address.parse::<IpNet>().is_err() {
                self.text(&field, address, "must be a valid CIDR");
            }
        }
    }

    fn local(&mut self, config: &Configuration) {
        let mode = config.detect_local_mode.as_str();
        if !mode.is_empty() && !LOCAL_MODES.contains(&mode) {
            let modes: Vec<String> =
                LOCAL_MODES.iter().chain(&[""]).map(|it| format!("{it:?}")).collect();
            self.0.push(format!(
                "KubeProxyConfiguration.DetectLocalMode: Unsupported value: {mode:?}: supported \
                 values: {}",
                modes.join(", ")
            ));
        }
        let detect = &config.detect_local;
        match mode {
            "BridgeInterface" if detect.bridge_interface.is_empty() => {
                self.text("DetectLocalConfiguration.InterfaceName", "", "must not be empty");
            }
            "InterfaceNamePrefix" if detect.interface_name_prefix.is_empty() => {
                self.text("DetectLocalConfiguration.InterfacePrefix", "", "must not be empty");
            }
            "ClusterCIDR" => self.cluster_cidrs(&config.cluster_cidrs()),
            _ => {}
        }
    }

    fn cluster_cidrs(&mut self, cidrs: &[&str]) {
        let field = "DetectLocalConfiguration.ClusterCIDRs";
        let list = || {
            let quoted: Vec<String> = cidrs.iter().map(|it| format!("{it:?}")).collect();
            format!("[]string{{{}}}", quoted.join(", "))
        };
        if cidrs.len() > 2 {
            return self.add(field, list(), CIDR_PAIR);
        }
        let parsed: Vec<Option<IpNet>> = cidrs.iter().map(|it| it.parse().ok()).collect();
        for (index, cidr) in cidrs.iter().enumerate().filter(|(n, _)| parsed[*n].is_none()) {
            self.text(&format!("{field}[{index}]"), cidr, CIDR);
        }
        if let [Some(a), Some(b)] = parsed[..]
            && a.addr().is_ipv4() == b.addr().is_ipv4()
        {
            self.add(field, list(), CIDR_PAIR);
        }
    }
}

/// `300-2000`, `300+20`, `300`
fn is_port_range(text: &str) -> bool {
    let number = |it: &str| it.trim().parse::<u16>().is_ok();
    match text.split_once(['-', '+']) {
        Some((from, to)) => number(from) && number(to),
        None => number(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(change: impl FnOnce(&mut Configuration)) -> String {
        let mut config = Configuration::default();
        config.complete();
        assert!(check(&config).is_ok());
        change(&mut config);
        check(&config).unwrap_err().to_string()
    }

    #[test]
    fn upstreams_words_name_the_field_and_the_value() {
        let invalid = |field: &str, value: &str, why: &str| {
            format!(
                "failed validate: KubeProxyConfiguration.{field}: Invalid value: {value}: {why}"
            )
        };
        assert_eq!(
            error(|it| it.bind_address = "10.10.12.11:2000".into()),
            invalid(
                "BindAddress",
                "\"10.10.12.11:2000\"",
                "not a valid textual representation of an IP address"
            )
        );
        assert_eq!(
            error(|it| it.config_sync_period = GoDuration::seconds(-1)),
            invalid("ConfigSyncPeriod", "-1s", POSITIVE)
        );
        assert_eq!(
            error(|it| it.oom_score_adj = Some(1001)),
            invalid(
                "KubeProxyLinuxConfiguration.OOMScoreAdj",
                "1001",
                "must be within the range [-1000, 1000]"
            )
        );
        assert_eq!(
            error(|it| it.healthz_bind_address = "1.2.3.4:65536".into()),
            invalid("HealthzBindAddress", "\"65536\"", "must be a valid port")
        );
        assert_eq!(
            error(|it| it.node_port_addresses = Some(vec!["primary".into(), "10.0.0.0/8".into()])),
            invalid("NodePortAddresses[0]", "\"primary\"", "can't use both 'primary' and CIDRs")
        );
        assert_eq!(
            error(|it| it.cluster_cidr = "10.0.0.0/8,10.1.0.0/16".into()),
            invalid(
                "DetectLocalConfiguration.ClusterCIDRs",
                "[]string{\"10.0.0.0/8\", \"10.1.0.0/16\"}",
                CIDR_PAIR
            )
        );
        assert_eq!(
            error(|it| it.detect_local_mode = "Guess".into()),
            "failed validate: KubeProxyConfiguration.DetectLocalMode: Unsupported value: \"Guess\": \
             supported values: \"ClusterCIDR\", \"NodeCIDR\", \"BridgeInterface\", \
             \"InterfaceNamePrefix\", \"\""
        );
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let both = error(|it| {
            it.mode = "userspace".into();
            it.iptables.masquerade_bit = Some(32);
        });
        assert!(both.starts_with("failed validate: [KubeProxyConfiguration."), "{both}");
        assert!(both.contains("MasqueradeBit: Invalid value: 32"), "{both}");
        assert!(both.contains("Mode.ProxyMode: Invalid value: \"userspace\": must be"), "{both}");
    }
}
