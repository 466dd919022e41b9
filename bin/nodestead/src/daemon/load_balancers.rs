//! Load balancers on this machine: a namespace for each of their interfaces, and what they carry
//! connections to.
//!
//! As every host of a VPC, a node of a load balancer is behind its own interface, so that the router's
//! rules decide about all that it receives and sends.
//!
//! Deviation: this machine's users reach a load balancer that faces the internet on an address of its
//! own on the loopback; its security groups decide about them as about any other client, by the address
//! that they come from (127.0.0.1). Inside of a VPC its name means its private addresses.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net};
use parking_lot::Mutex;
use region_ec2::{State, records::InstanceState};
use region_elasticloadbalancing::{
    ElasticLoadBalancing,
    balancer::{Admission, BalancerSpec, HostSpec, Member, NodeSpec},
    load_balancer_of,
    records::LoadBalancer,
};
use region_vpc::{Peer, Traffic, VpcSpec};
use tracing::warn;
use transport::Place;

use super::world::{self, ControlPlanes, Names};

/// See the module.
pub(crate) struct LoadBalancers {
    service: Arc<ElasticLoadBalancing>,
    names: Names,
    /// Namespaces of nodes that are there; `None` until they have been looked for.
    present: Mutex<Option<BTreeSet<String>>>,
    /// Interfaces that were in place once: a pass that fails cuts off no connection.
    placed: Mutex<BTreeSet<String>>,
}

/// A node's interface, by its id.
struct Interface {
    id: String,
    load_balancer: String,
    address: Ipv4Addr,
    zone: String,
}

impl LoadBalancers {
    pub(crate) fn new(service: Arc<ElasticLoadBalancing>, names: Names) -> Self {
        Self { service, names, present: Mutex::default(), placed: Mutex::default() }
    }

    /// Makes the namespaces of all nodes and adds them to `places`. Says whether all are there.
    pub(crate) fn prepare(&self, state: &State, places: &mut ControlPlanes) -> bool {
        let mut are_all_there = true;
        let mut present = self.present.lock();
        let present = present.get_or_insert_with(|| self.found());
        for interface in self.interfaces(state) {
            let netns = self.names.load_balancer(&interface.id);
            if let Err(error) = linux_netns::create(&netns) {
                let error = telemetry::chain(&error);
                warn!(netns, %error, "a load balancer has no namespace; it is tried again");
                are_all_there = false;
                continue;
            }
            present.insert(netns.clone());
            places.insert(interface.id, (netns, 0));
        }
        are_all_there
    }

    /// What an earlier daemon left.
    fn found(&self) -> BTreeSet<String> {
        let prefix = self.names.load_balancer("");
        let all = linux_netns::list().unwrap_or_else(|error| {
            warn!(error = %telemetry::chain(&error), "the namespaces cannot be listed");
            Vec::new()
        });
        all.into_iter().filter(|it| it.starts_with(&prefix)).collect()
    }

    /// Has them listen, check and carry, once their interfaces are in place; removes the namespaces of
    /// those that are gone.
    pub(crate) fn apply(&self, state: &State, vpcs: &[VpcSpec], placed: &BTreeSet<String>) {
        let interfaces = self.interfaces(state);
        let placed = self.placed(&interfaces, placed);
        let records = self.service.load_balancers();
        let mut specs: BTreeMap<String, BalancerSpec> = BTreeMap::new();
        for record in &records {
            let vpc = vpcs.iter().find(|it| it.id == record.vpc_id);
            specs.insert(record.name.clone(), spec(record, state, vpc));
        }
        for it in interfaces.iter().filter(|it| placed.contains(&it.id)) {
            let Some(spec) = specs.get_mut(&it.load_balancer) else { continue };
            let place = Place::named(&self.names.load_balancer(&it.id));
            let node = NodeSpec { address: it.address, zone: it.zone.clone(), place };
            spec.nodes.insert(it.id.clone(), node);
        }
        self.service.balancers().apply(&specs);
        let wanted = interfaces.iter().map(|it| self.names.load_balancer(&it.id)).collect();
        self.remove_others(&wanted);
    }

    fn placed(&self, interfaces: &[Interface], placed: &BTreeSet<String>) -> BTreeSet<String> {
        let mut known = self.placed.lock();
        known.extend(placed.iter().cloned());
        known.retain(|id| interfaces.iter().any(|it| it.id == *id));
        known.clone()
    }

    fn remove_others(&self, wanted: &BTreeSet<String>) {
        let mut present = self.present.lock();
        let Some(present) = present.as_mut() else { return };
        present.retain(|netns| {
            if wanted.contains(netns) {
                return true;
            }
            let deleted = linux_netns::delete(netns);
            if let Err(error) = &deleted {
                warn!(netns, error = %telemetry::chain(error), "a namespace stays for now");
            }
            deleted.is_err()
        });
    }

    /// Those of load balancers that exist.
    fn interfaces(&self, state: &State) -> Vec<Interface> {
        let known = self.service.load_balancers();
        let interface = |it: &region_ec2::records::NetworkInterface| {
            let name = load_balancer_of(it.requester.as_deref(), &it.description)?;
            let is_known = known.iter().any(|it| it.name == name);
            is_known.then(|| Interface {
                id: it.id.clone(),
                load_balancer: name.to_owned(),
                address: it.primary_address,
                zone: it.zone.clone(),
            })
        };
        state.network_interfaces.iter().filter_map(interface).collect()
    }
}

/// All but the nodes.
fn spec(record: &LoadBalancer, state: &State, vpc: Option<&VpcSpec>) -> BalancerSpec {
    let member = |id: &String| {
        let instance = state.instances.get(id)?;
        let address = world::primary(state, id)?.primary_address;
        let member = Member { address, zone: instance.zone.clone() };
        (instance.state == InstanceState::Running).then(|| (id.clone(), member))
    };
    let host = record.host_address.zip(vpc).map(|(address, vpc)| HostSpec {
        address,
        admits: record.security_groups.iter().flat_map(|it| admissions(vpc, it)).collect(),
    });
    BalancerSpec {
        instances: record.instances.iter().filter_map(member).collect(),
        host,
        ..BalancerSpec::of(record)
    }
}

/// The rules of a group that clients outside of the VPC can meet.
fn admissions(vpc: &VpcSpec, group: &str) -> Vec<Admission> {
    let rules = vpc.security_groups.get(group).map(|it| it.ingress.as_slice()).unwrap_or_default();
    let admission = |rule: &region_vpc::Rule| {
        let Peer::Cidr(IpNet::V4(source)) = rule.peer else { return None };
        let ports = match rule.traffic {
            Traffic::All => 0..=u16::MAX,
            Traffic::Tcp { from, to } => from..=to,
            _ => return None,
        };
        Some(Admission { ports, source })
    };
    rules.iter().filter_map(admission).collect()
}

/// Where the region's load balancers listen on this machine: a /24 of 127.64.0.0/10 that follows from
/// the region's id, so that regions that run side by side have different ones.
pub(crate) fn host_network(id: &str) -> Ipv4Net {
    let digits = u32::from_str_radix(id, 16).unwrap_or_default();
    let subnet = digits % (1 << 14);
    let base = u32::from(Ipv4Addr::new(127, 64, 0, 0));
    Ipv4Net::new_assert(Ipv4Addr::from(base | (subnet << 8)), 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_region_has_addresses_of_its_own_on_the_loopback() {
        assert_eq!(host_network("000000").to_string(), "127.64.0.0/24");
        assert_eq!(host_network("ffffff").to_string(), "127.127.255.0/24");
        assert_ne!(host_network("0000a1"), host_network("0000a2"));
    }
}
