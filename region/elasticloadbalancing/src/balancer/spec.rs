//! What a load balancer shall do, as one value.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
    time::Duration,
};

use ipnet::Ipv4Net;
use transport::Place;

use crate::records::{HealthCheck, LoadBalancer, Protocol};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalancerSpec {
    /// By port.
    pub listeners: BTreeMap<u16, Front>,
    pub health_check: HealthCheck,
    pub cross_zone: bool,
    pub idle: Duration,
    /// How long connections to an instance live on after that was taken out.
    pub draining: Option<Duration>,
    /// Those that run, by id.
    pub instances: BTreeMap<String, Member>,
    /// By interface.
    pub nodes: BTreeMap<String, NodeSpec>,
    pub host: Option<HostSpec>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Front {
    pub protocol: Protocol,
    pub instance_port: u16,
    /// The instance hears the client's address first.
    pub proxy_protocol: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub address: Ipv4Addr,
    pub zone: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    pub address: Ipv4Addr,
    pub zone: String,
    pub place: Place,
}

/// The way in from this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSpec {
    pub address: Ipv4Addr,
    /// What the load balancer's security groups let in: packets from here do not meet the router's.
    pub admits: Vec<Admission>,
}

/// One rule of a security group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    pub ports: RangeInclusive<u16>,
    pub source: Ipv4Net,
}

impl HostSpec {
    pub(super) fn lets_in(admits: &[Admission], source: IpAddr, port: u16) -> bool {
        let IpAddr::V4(source) = source else { return false };
        admits.iter().any(|it| it.ports.contains(&port) && it.source.contains(&source))
    }
}

impl Default for BalancerSpec {
    fn default() -> Self {
        Self {
            listeners: BTreeMap::new(),
            health_check: HealthCheck::of_port(80),
            cross_zone: false,
            idle: Duration::from_secs(60),
            draining: None,
            instances: BTreeMap::new(),
            nodes: BTreeMap::new(),
            host: None,
        }
    }
}

impl BalancerSpec {
    /// What the record says; nodes, instances and the way in from this machine are still to be added.
    pub fn of(record: &LoadBalancer) -> Self {
        let front = |(port, it): (&u16, &crate::records::Listener)| {
            let front = Front {
                protocol: it.protocol,
                instance_port: it.instance_port,
                proxy_protocol: record.speaks_proxy_protocol(it.instance_port),
            };
            (*port, front)
        };
        let attributes = &record.attributes;
        let seconds = |it: u16| Duration::from_secs(it.into());
        Self {
            listeners: record.listeners.iter().map(front).collect(),
            health_check: record.health_check.clone(),
            cross_zone: attributes.cross_zone,
            idle: seconds(attributes.idle_timeout),
            draining: attributes.draining.then(|| seconds(attributes.draining_timeout)),
            ..Self::default()
        }
    }

    /// The instances that a node of this zone may use.
    pub(super) fn of_zone<'a>(
        &'a self,
        zone: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a Member)> {
        self.instances.iter().filter(move |(_, it)| self.cross_zone || it.zone == zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_let_in_as_any_other_client_is() {
        let admits = |source: &str| [Admission { ports: 80..=81, source: source.parse().unwrap() }];
        let client: IpAddr = Ipv4Addr::LOCALHOST.into();
        assert!(HostSpec::lets_in(&admits("0.0.0.0/0"), client, 80));
        assert!(HostSpec::lets_in(&admits("127.0.0.1/32"), client, 81));
        assert!(!HostSpec::lets_in(&admits("0.0.0.0/0"), client, 82));
        assert!(!HostSpec::lets_in(&admits("10.0.0.0/8"), client, 80));
        assert!(!HostSpec::lets_in(&[], client, 80));
    }
}
