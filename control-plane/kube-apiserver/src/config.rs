//! What the server is told when it starts.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

use ipnet::{IpNet, Ipv4Net};

use crate::{Components, Delegate, PodSecurity, audit, authn, proxy};

/// The address of `default/kubernetes`: the first one of the Services' range.
pub fn first_address(service_cidr: IpNet) -> IpAddr {
    match service_cidr {
        IpNet::V4(it) => Ipv4Addr::from_bits(it.network().to_bits() + 1).into(),
        IpNet::V6(it) => Ipv6Addr::from_bits(it.network().to_bits() + 1).into(),
    }
}

/// Settings of an [`ApiServer`](crate::ApiServer).
pub struct Config {
    pub store: mvcc::Store,
    pub clock: clock::Clock,
    pub authn: authn::Config,
    /// Who is asked where RBAC and the Node authorizer have no opinion, and how long the answers are
    /// kept (EKS access policies).
    pub authorization_webhook: Option<(authn::Hook, std::time::Duration)>,
    pub proxy: proxy::Config,
    /// With which certificate servers behind a Service, whose APIs are aggregated, know this one:
    /// upstream's `--proxy-client-cert-file`.
    pub proxy_client: Option<transport::tls::Identity>,
    /// APIs of other servers in this process.
    pub delegates: Vec<Delegate>,
    /// Where ClusterIPs come from; the first address is that of `default/kubernetes`. It says which
    /// family the cluster's Services have.
    pub service_cidr: IpNet,
    pub node_ports: RangeInclusive<u16>,
    /// What `/version` reports as `gitVersion`.
    pub git_version: String,
    /// Addresses at which the cluster reaches this server: the endpoints of `default/kubernetes`.
    pub endpoints: Vec<IpAddr>,
    pub endpoint_port: u16,
    /// The other parts of the control plane, as far as they are known.
    pub components: Components,
    /// Where it is written down who asked for what.
    pub audit: Option<audit::Log>,
    /// What pods may do where their Namespace says nothing, and whose may do anything.
    pub pod_security: PodSecurity,
    /// How many requests are worked on at once, without those that nothing limits: upstream's
    /// `--max-requests-inflight` and `--max-mutating-requests-inflight` together.
    pub max_requests_inflight: usize,
}

impl Config {
    /// Upstream's and EKS's defaults around a store.
    pub fn new(store: mvcc::Store, clock: clock::Clock) -> Self {
        Self {
            store,
            clock,
            authn: authn::Config::default(),
            authorization_webhook: None,
            proxy: proxy::Config::default(),
            proxy_client: None,
            delegates: Vec::new(),
            service_cidr: Ipv4Net::new_assert(Ipv4Addr::new(10, 100, 0, 0), 16).into(),
            node_ports: 30000..=32767,
            git_version: "v1.36.2-eks-nodestead".into(),
            endpoints: Vec::new(),
            endpoint_port: 443,
            components: Components::default(),
            audit: None,
            pod_security: PodSecurity::default(),
            max_requests_inflight: 600,
        }
    }
}
