//! What is kept of a load balancer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct LoadBalancer {
    pub name: String,
    pub dns_name: String,
    pub vpc_id: String,
    pub is_internal: bool,
    pub created_at: Timestamp,
    /// By port.
    pub listeners: BTreeMap<u16, Listener>,
    /// Subnet to zone: one per zone.
    pub subnets: BTreeMap<String, String>,
    pub security_groups: Vec<String>,
    /// The name of the first of them.
    pub source_group: String,
    pub instances: BTreeSet<String>,
    pub health_check: HealthCheck,
    pub attributes: Attributes,
    pub policies: BTreeMap<String, Policy>,
    /// By instance port.
    pub backend_policies: BTreeMap<u16, BTreeSet<String>>,
    pub tags: BTreeMap<String, String>,
    /// Where it listens for this machine's users; internal ones do not.
    pub host_address: Option<Ipv4Addr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Listener {
    pub protocol: Protocol,
    pub instance_port: u16,
}

/// What a listener understands; instances are spoken to in the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Protocol {
    Tcp,
    Http,
}

impl Protocol {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Http => "HTTP",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct HealthCheck {
    pub target: Target,
    /// Seconds, as `timeout`.
    pub interval: u16,
    pub timeout: u16,
    pub unhealthy_threshold: u16,
    pub healthy_threshold: u16,
}

impl HealthCheck {
    /// What a new load balancer does.
    pub fn of_port(port: u16) -> Self {
        Self {
            target: Target { protocol: CheckProtocol::Tcp, port, path: String::new() },
            interval: 30,
            timeout: 5,
            unhealthy_threshold: 2,
            healthy_threshold: 10,
        }
    }

    pub fn interval(&self) -> Duration {
        Duration::from_secs(self.interval.into())
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.into())
    }
}

/// `TCP:80`, `HTTP:10256/healthz`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Target {
    pub protocol: CheckProtocol,
    pub port: u16,
    /// Empty but for HTTP and HTTPS.
    pub path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum CheckProtocol {
    Tcp,
    Ssl,
    Http,
    Https,
}

impl CheckProtocol {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Ssl => "SSL",
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}{}", self.protocol.name(), self.port, self.path)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Attributes {
    pub cross_zone: bool,
    pub draining: bool,
    /// Seconds, as `idle_timeout`.
    pub draining_timeout: u16,
    pub idle_timeout: u16,
    pub desync_mitigation: String,
}

impl Default for Attributes {
    fn default() -> Self {
        Self {
            cross_zone: false,
            draining: false,
            draining_timeout: 300,
            idle_timeout: 60,
            desync_mitigation: "defensive".to_owned(),
        }
    }
}

/// `ProxyProtocolPolicyType` is the only type.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Policy {
    pub proxy_protocol: bool,
}

impl LoadBalancer {
    /// Whether instances are told the client's address before its first byte, on this port.
    pub fn speaks_proxy_protocol(&self, instance_port: u16) -> bool {
        let set = self.backend_policies.get(&instance_port);
        let is_on = |name: &String| self.policies.get(name).is_some_and(|it| it.proxy_protocol);
        set.is_some_and(|it| it.iter().any(is_on))
    }
}
