//! What a file means for the rules.

use super::*;

const EKS: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n\
    kind: KubeProxyConfiguration\nbindAddress: 0.0.0.0\nclusterCIDR: \"\"\n\
    clientConnection:\n  kubeconfig: /var/lib/kube-proxy/kubeconfig\n\
    iptables:\n  masqueradeBit: 14\n  syncPeriod: 0s\nmode: nftables\n\
    metricsBindAddress: 0.0.0.0:10249\nnodePortAddresses: null\n";

fn complete(text: &str) -> Configuration {
    let mut config = load::parse(text).unwrap();
    config.complete();
    validation::check(&config).unwrap();
    config
}

fn node() -> NodeFacts {
    NodeFacts {
        ips: vec!["192.168.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
        pod_cidrs: vec!["10.1.0.0/24".parse().unwrap()],
        service_cidrs: vec!["10.100.0.0/16".parse().unwrap(), "fd00:100::/108".parse().unwrap()],
    }
}

#[test]
fn the_configuration_of_eks_is_read() {
    let config = complete(EKS);
    assert_eq!(config.client_connection.kubeconfig, "/var/lib/kube-proxy/kubeconfig");
    let options = config.options(Family::Ip, &node());
    assert_eq!((options.masquerade_mark, options.masquerade_all), (0x4000, false));
    assert_eq!(options.local, LocalDetector::Nobody);
    // In mode nftables node ports are open on the node's own address unless something else is said.
    assert_eq!(options.node_ports, NodePorts::Primary);
    assert_eq!(options.node_ip, Some("192.168.0.7".parse().unwrap()));
    assert_eq!(options.service_cidrs, ["10.100.0.0/16".parse::<IpNet>().unwrap()]);
    assert_eq!(config.metrics().unwrap().to_string(), "0.0.0.0:10249");
    assert_eq!(config.healthz().unwrap().to_string(), "0.0.0.0:10256");
    assert_eq!(config.iptables.sync_period, GoDuration::seconds(30));
}

#[test]
fn each_way_to_tell_pods_from_others_is_known() {
    let with = |change: fn(&mut Configuration)| {
        let mut config = complete(EKS);
        change(&mut config);
        config.options(Family::Ip, &node()).local
    };
    let cidr = |text: &str| LocalDetector::Cidr(text.parse().unwrap());
    assert_eq!(
        with(|it| it.cluster_cidr = "fd00:1::/64,192.168.0.0/16".into()),
        cidr("192.168.0.0/16")
    );
    assert_eq!(with(|it| it.detect_local_mode = "NodeCIDR".into()), cidr("10.1.0.0/24"));
    assert_eq!(
        with(|it| {
            it.detect_local_mode = "InterfaceNamePrefix".into();
            it.detect_local.interface_name_prefix = "eni".into();
        }),
        LocalDetector::Prefix("eni".into())
    );
    assert_eq!(
        with(|it| {
            it.detect_local_mode = "BridgeInterface".into();
            it.detect_local.bridge_interface = "br0".into();
        }),
        LocalDetector::Bridge("br0".into())
    );
}

#[test]
fn the_address_to_bind_says_who_the_node_is_and_which_family_is_served() {
    let mut config = Configuration { bind_address: "fd00::9".into(), ..Configuration::default() };
    config.complete();
    assert_eq!(config.healthz_bind_address, "[::]:10256");
    assert_eq!(config.metrics_bind_address, "[::1]:10249");
    let options = config.options(Family::Ip6, &node());
    assert_eq!(options.node_ip, Some("fd00::9".parse().unwrap()));
    assert_eq!(config.options(Family::Ip, &node()).node_ip, node().ips.first().copied());
}

#[test]
fn defaults_are_upstreams_and_are_written_as_they_are_read() {
    let mut config = Configuration::default();
    config.complete();
    assert_eq!(config.mode, "iptables");
    assert_eq!(config.metrics_bind_address, "127.0.0.1:10249");
    assert_eq!(config.options(Family::Ip, &node()).node_ports, NodePorts::All);
    let text = serde_json::to_string(&config).unwrap();
    let mut again = load::parse(&text).unwrap();
    again.complete();
    assert_eq!(again, config);
}
