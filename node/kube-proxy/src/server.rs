//! What is served where metrics are: `/metrics`, `/proxyMode`, `/healthz`, `/configz`, `/statusz`,
//! `/flagz`.
//!
//! Upstream: `cmd/kube-proxy/app/server.go`. Deviation: no `/debug/pprof`, no `/metrics/slis`.

use std::{convert::Infallible, fmt::Write, sync::Arc};

use http::{Request, Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use transport::Body;

use crate::{
    config::{Configuration, GoDuration},
    health::{Health, answer, not_found},
};

const TEXT: &str = "text/plain; charset=utf-8";
const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no \
                       formatting compatibility guarantees and is for debugging purposes only.";

/// What the pages show.
#[derive(Debug)]
pub struct Pages {
    pub health: Arc<Health>,
    pub config: Configuration,
    /// As they were given, by name.
    pub flags: Vec<(String, String)>,
    pub started: Timestamp,
}

pub async fn serve<B>(
    request: Request<B>,
    pages: Arc<Pages>,
) -> Result<Response<Body>, Infallible> {
    let fine = |kind, text| answer(StatusCode::OK, kind, text);
    Ok(match request.uri().path() {
        "/metrics" => {
            fine("text/plain; version=0.0.4; charset=utf-8", pages.health.metrics.render())
        }
        "/proxyMode" => fine(TEXT, "nftables".to_owned()),
        "/healthz" | "/healthz/ping" => fine(TEXT, "ok".to_owned()),
        "/configz" => {
            let body = json!({ "kubeproxy.config.k8s.io": internal(&pages.config) });
            fine("application/json", body.to_string())
        }
        "/statusz" => fine(TEXT, pages.statusz()),
        "/flagz" => fine(TEXT, pages.flagz()),
        _ => not_found(),
    })
}

impl Pages {
    fn statusz(&self) -> String {
        let up = self.health.clock.now().as_second() - self.started.as_second();
        let (hours, minutes, seconds) = (up / 3600, up / 60 % 60, up % 60);
        let started = self.started.strftime("%a %b %e %H:%M:%S UTC %Y");
        format!(
            "\nkube-proxy statusz\n{WARNING}\n\nStarted: {started}\nUp: {hours} hr {minutes:02} min \
             {seconds:02} sec\nBinary version: {}\nPaths: /configz /healthz /metrics /proxyMode\n",
            env!("CARGO_PKG_VERSION")
        )
    }

    fn flagz(&self) -> String {
        let mut page = format!("\nkube-proxy flagz\n{WARNING}\n\n");
        for (flag, value) in &self.flags {
            writeln!(page, "{flag}={value}").expect("writing to a string does not fail");
        }
        page
    }
}

/// The configuration as upstream's internal type prints it, which has no JSON names.
fn internal(config: &Configuration) -> Value {
    let (sync_period, min_sync_period) = config.sync_periods();
    let conntrack = &config.conntrack;
    let period = |it: GoDuration| it.to_string();
    json!({
        "Linux": {
            "Conntrack": {
                "MaxPerCore": conntrack.max_per_core,
                "Min": conntrack.min,
                "TCPEstablishedTimeout": conntrack.tcp_established_timeout,
                "TCPCloseWaitTimeout": conntrack.tcp_close_wait_timeout,
                "TCPBeLiberal": conntrack.tcp_be_liberal,
                "UDPTimeout": conntrack.udp_timeout,
                "UDPStreamTimeout": conntrack.udp_stream_timeout,
            },
            "MasqueradeAll": match config.mode.as_str() {
                "nftables" => config.nftables.masquerade_all,
                _ => config.iptables.masquerade_all,
            },
            "OOMScoreAdj": config.oom_score_adj,
        },
        "Windows": { "RunAsService": config.windows_run_as_service },
        "FeatureGates": config.feature_gates,
        "ClientConnection": {
            "Kubeconfig": config.client_connection.kubeconfig,
            "AcceptContentTypes": config.client_connection.accept_content_types,
            "ContentType": config.client_connection.content_type,
            "QPS": config.client_connection.qps,
            "Burst": config.client_connection.burst,
        },
        "Logging": config.logging,
        "HostnameOverride": config.hostname_override,
        "BindAddress": config.bind_address,
        "HealthzBindAddress": config.healthz_bind_address,
        "MetricsBindAddress": config.metrics_bind_address,
        "BindAddressHardFail": config.bind_address_hard_fail,
        "EnableProfiling": config.enable_profiling,
        "ShowHiddenMetricsForVersion": config.show_hidden_metrics_for_version,
        "Mode": config.mode,
        "IPTables": {
            "MasqueradeBit": config.iptables.masquerade_bit,
            "LocalhostNodePorts": config.iptables.localhost_node_ports,
        },
        "IPVS": {
            "Scheduler": config.ipvs.scheduler,
            "ExcludeCIDRs": config.ipvs.exclude_cidrs,
            "StrictARP": config.ipvs.strict_arp,
            "TCPTimeout": config.ipvs.tcp_timeout,
            "TCPFinTimeout": config.ipvs.tcp_fin_timeout,
            "UDPTimeout": config.ipvs.udp_timeout,
        },
        "Winkernel": {
            "NetworkName": config.winkernel.network_name,
            "SourceVip": config.winkernel.source_vip,
            "EnableDSR": config.winkernel.enable_dsr,
            "RootHnsEndpointName": config.winkernel.root_hns_endpoint_name,
            "ForwardHealthCheckVip": config.winkernel.forward_health_check_vip,
        },
        "NFTables": { "MasqueradeBit": config.nftables.masquerade_bit },
        "DetectLocalMode": config.detect_local_mode,
        "DetectLocal": {
            "BridgeInterface": config.detect_local.bridge_interface,
            "ClusterCIDRs": config.cluster_cidrs(),
            "InterfaceNamePrefix": config.detect_local.interface_name_prefix,
        },
        "NodePortAddresses": config.node_port_addresses,
        "SyncPeriod": period(sync_period),
        "MinSyncPeriod": period(min_sync_period),
        "ConfigSyncPeriod": period(config.config_sync_period),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clock::Clock;

    use super::*;
    use crate::metrics::Metrics;

    async fn get(path: &str) -> (u16, String) {
        let clock = Clock::simulated(Timestamp::UNIX_EPOCH);
        let health = Arc::new(Health::new(clock, Metrics::new(1), Duration::from_secs(60)));
        let mut config = Configuration { mode: "nftables".into(), ..Configuration::default() };
        config.complete();
        let flags = vec![("config".to_owned(), "/etc/kube-proxy".to_owned())];
        let pages = Pages { health, config, flags, started: Timestamp::UNIX_EPOCH };
        let request = Request::get(path).body(()).unwrap();
        let response = serve(request, Arc::new(pages)).await.unwrap();
        let status = response.status().as_u16();
        let body = transport::collect(response.into_body(), 1 << 20).await.unwrap().unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_pages_of_upstream_are_there() {
        assert_eq!(get("/proxyMode").await, (200, "nftables".to_owned()));
        assert_eq!(get("/healthz").await, (200, "ok".to_owned()));
        assert_eq!(get("/elsewhere").await, (404, "404 page not found\n".to_owned()));
        assert!(get("/flagz").await.1.ends_with("\nconfig=/etc/kube-proxy\n"));
        assert!(get("/statusz").await.1.contains("Up: 0 hr 00 min 00 sec"));
        let (_, metrics) = get("/metrics").await;
        assert!(metrics.contains("# TYPE kubeproxy_sync_proxy_rules_duration_seconds histogram"));
        let configz: Value = serde_json::from_str(&get("/configz").await.1).unwrap();
        let config = &configz["kubeproxy.config.k8s.io"];
        assert_eq!(config["NodePortAddresses"], json!(["primary"]));
        assert_eq!(config["SyncPeriod"], "30s");
        assert_eq!(config["Linux"]["OOMScoreAdj"], -999);
    }
}
