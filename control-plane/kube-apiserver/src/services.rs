//! ClusterIPs and node ports of Services.
//!
//! What is taken is what stored Services have, so nothing else needs to be stored: the allocator
//! is filled from them at the start. An address is reserved before the Service is written and
//! given back if the write fails, so that two writers never get the same one.
//!
//! Deviation: one server allocates; upstream also keeps IPAddress objects, so that several can.
//!
//! Upstream: pkg/registry/core/service/storage/alloc.go.

mod update;

pub(crate) use update::keep_allocations;

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    sync::Arc,
};

use ipnet::IpNet;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    resources::{Resource, meta},
    status::{FieldError, Status},
};

/// Node ports below this many are for static use, and given out last (KEP-3668).
const STATIC_PORTS: u16 = 86;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Allocator {
    cidr: IpNet,
    ports: RangeInclusive<u16>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    addresses: HashMap<IpAddr, String>,
    ports: HashMap<(u16, String), String>,
}

/// Reservations of one write. Dropped, it gives them back; kept, they stay.
#[derive(Debug, Default)]
pub(crate) struct Reserved {
    taken: Option<Arc<Mutex<Taken>>>,
    owner: String,
    addresses: Vec<IpAddr>,
    ports: Vec<(u16, String)>,
    /// What the old state had and the new one does not.
    released: (Vec<IpAddr>, Vec<(u16, String)>),
}

impl Reserved {
    /// The write happened.
    pub(crate) fn keep(&mut self) {
        let Some(taken) = self.taken.take() else { return };
        let mut taken = taken.lock();
        for address in &self.released.0 {
            taken.addresses.remove(address);
        }
        for port in &self.released.1 {
            taken.ports.remove(port);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let Some(taken) = self.taken.take() else { return };
        let mut taken = taken.lock();
        for address in &self.addresses {
            if taken.addresses.get(address) == Some(&self.owner) {
                taken.addresses.remove(address);
            }
        }
        for port in &self.ports {
            if taken.ports.get(port) == Some(&self.owner) {
                taken.ports.remove(port);
            }
        }
    }
}

fn number_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(it) => it.to_bits().into(),
        IpAddr::V6(it) => it.to_bits(),
    }
}

fn addresses_of(service: &Value) -> Vec<IpAddr> {
    let all = service["spec"]["clusterIPs"].as_array().into_iter().flatten();
    let all = all.chain(std::iter::once(&service["spec"]["clusterIP"]));
    let mut found: Vec<IpAddr> = all.filter_map(|it| it.as_str()?.parse().ok()).collect();
    found.dedup();
    found
}

/// Whether a load balancer asks nodes on a port of its own if they have endpoints.
fn has_health_check_port(service: &Value) -> bool {
    service["spec"]["type"] == "LoadBalancer" && service["spec"]["externalTrafficPolicy"] == "Local"
}

fn ports_of(service: &Value) -> Vec<(u16, String)> {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let mut found: Vec<(u16, String)> = ports
        .filter_map(|it| {
            let number = u16::try_from(it["nodePort"].as_u64()?).ok().filter(|it| *it > 0)?;
            Some((number, it["protocol"].as_str().unwrap_or("TCP").to_owned()))
        })
        .collect();
    let health = service["spec"]["healthCheckNodePort"].as_u64().unwrap_or_default();
    if let Ok(number) = u16::try_from(health)
        && number > 0
    {
        found.push((number, "TCP".into()));
    }
    found
}

fn has_cluster_ip(service: &Value) -> bool {
    service["spec"]["type"] != "ExternalName" && service["spec"]["clusterIP"] != "None"
}

fn has_node_ports(service: &Value) -> bool {
    match service["spec"]["type"].as_str() {
        Some("NodePort") => true,
        Some("LoadBalancer") => service["spec"]["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

impl Allocator {
    pub(crate) fn new(cidr: IpNet, ports: RangeInclusive<u16>) -> Self {
        Self { cidr, ports, taken: Arc::default() }
    }

    /// Notes what a stored Service has.
    pub(crate) fn learn(&self, service: &Value) {
        let owner = meta(service, "uid").to_owned();
        let mut taken = self.taken.lock();
        for address in addresses_of(service) {
            taken.addresses.insert(address, owner.clone());
        }
        for port in ports_of(service) {
            taken.ports.insert(port, owner.clone());
        }
    }

    /// Gives back what a deleted Service had.
    pub(crate) fn forget(&self, service: &Value) {
        let owner = meta(service, "uid");
        let mut taken = self.taken.lock();
        taken.addresses.retain(|_, it| it != owner);
        taken.ports.retain(|_, it| it != owner);
    }

    /// The first address of the range: that of `default/kubernetes`.
    pub(crate) fn first_address(&self) -> IpAddr {
        crate::config::first_address(self.cidr)
    }

    fn address(&self, number: u128) -> IpAddr {
        match self.cidr {
            IpNet::V4(_) => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
            IpNet::V6(_) => Ipv6Addr::from_bits(number).into(),
        }
    }

    /// The one address family that the cluster has.
    fn family(&self) -> &'static str {
        match self.cidr {
            IpNet::V4(_) => "IPv4",
            IpNet::V6(_) => "IPv6",
        }
    }

    /// Upstream: `initIPFamilyFields`.
    fn set_family(&self, service: &mut Value) -> Result<(), FieldError> {
        let spec = &mut service["spec"];
        if spec["type"] == "ExternalName" {
            return Ok(());
        }
        let asked = spec["ipFamilies"].as_array().cloned().unwrap_or_default();
        for (index, family) in asked.iter().enumerate() {
            if family != self.family() {
                let why = "not configured on this cluster";
                let field = format!("spec.ipFamilies[{index}]");
                return Err(FieldError::invalid(field, family.clone(), why));
            }
        }
        if asked.is_empty() {
            spec["ipFamilies"] = json!([self.family()]);
        }
        Ok(())
    }

    /// Fills in and reserves what a Service needs; nothing for other resources.
    pub(crate) fn reserve_for(
        &self,
        resource: &Resource,
        service: &mut Value,
        old: Option<&Value>,
    ) -> Result<Reserved, Status> {
        if !resource.is("", "services") {
            return Ok(Reserved::default());
        }
        let mut reserved = Reserved::default();
        reserved.taken = Some(self.taken.clone());
        reserved.owner = meta(service, "uid").to_owned();
        let invalid = |error: FieldError| {
            Status::invalid("Service", meta(service, "name"), std::slice::from_ref(&error))
        };
        let mut filled = service.clone();
        self.set_family(&mut filled).map_err(invalid)?;
        self.reserve_address(&mut filled, &mut reserved).map_err(invalid)?;
        self.reserve_ports(&mut filled, &mut reserved).map_err(invalid)?;
        self.reserve_health_check_port(&mut filled, &mut reserved).map_err(invalid)?;
        if let Some(old) = old {
            let (addresses, ports) = (addresses_of(&filled), ports_of(&filled));
            let gone = addresses_of(old).into_iter().filter(|it| !addresses.contains(it));
            let closed = ports_of(old).into_iter().filter(|it| !ports.contains(it));
            reserved.released = (gone.collect(), closed.collect());
        }
        *service = filled;
        Ok(reserved)
    }

    fn reserve_address(
        &self,
        service: &mut Value,
        reserved: &mut Reserved,
    ) -> Result<(), FieldError> {
        if !has_cluster_ip(service) {
            return Ok(());
        }
        let asked = service["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
        let mut taken = self.taken.lock();
        let address = if asked.is_empty() {
            self.free_address(&taken).ok_or_else(|| {
                let why = "failed to allocate a serviceIP: range is full";
                FieldError::invalid("spec.clusterIPs", Value::Null, why)
            })?
        } else {
            self.check_address(&taken, &asked, &reserved.owner)?
        };
        if let Entry::Vacant(place) = taken.addresses.entry(address) {
            place.insert(reserved.owner.clone());
            reserved.addresses.push(address);
        }
        service["spec"]["clusterIP"] = address.to_string().into();
        service["spec"]["clusterIPs"] = json!([address.to_string()]);
        Ok(())
    }

    fn check_address(&self, taken: &Taken, asked: &str, owner: &str) -> Result<IpAddr, FieldError> {
        let refused = |why: String| FieldError::invalid("spec.clusterIPs", json!([asked]), why);
        let address: IpAddr = asked.parse().map_err(|_| {
            FieldError::invalid(
                "spec.clusterIPs[0]",
                asked,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            )
        })?;
        let is_inside = self.cidr.contains(&address)
            && address != self.cidr.network()
            && address != self.cidr.broadcast();
        if !is_inside {
            return Err(refused(format!(
                "failed to allocate IP {address}: the provided network does not match the current range"
            )));
        }
        match taken.addresses.get(&address) {
            Some(other) if other != owner => Err(refused(format!(
                "failed to allocate IP {address}: provided IP is already allocated"
            ))),
            _ => Ok(address),
        }
    }

    /// A random free address of the upper part of the range, then of the lower (KEP-3070).
    fn free_address(&self, taken: &Taken) -> Option<IpAddr> {
        let first = number_of(self.cidr.network()) + 1;
        let size = number_of(self.cidr.broadcast()) - first;
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        let reserve = (size / 16).clamp(16, 256).min(size / 2);
        let find = |from: u64, count: u64| {
            let start = entropy::below(count.max(1));
            let offset = move |it: u64| (u128::from(start) + u128::from(it)) % u128::from(count);
            let candidates =
                (0..count).map(|it| self.address(u128::from(from) + first + offset(it)));
            candidates.into_iter().find(|it| !taken.addresses.contains_key(it))
        };
        find(reserve, size - reserve).or_else(|| find(1, reserve.saturating_sub(1)))
    }

    fn reserve_ports(
        &self,
        service: &mut Value,
        reserved: &mut Reserved,
    ) -> Result<(), FieldError> {
        let wants_ports = has_node_ports(service);
        let mut taken = self.taken.lock();
        let owner = reserved.owner.clone();
        let mut assigned: HashMap<u64, u16> = HashMap::new();
        let ports = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
        for (index, port) in ports.into_iter().flatten().enumerate() {
            let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
            let asked = port["nodePort"].as_u64().filter(|it| *it > 0);
            let number = match asked {
                Some(asked) => {
                    let field = format!("spec.ports[{index}].nodePort");
                    self.check_port(&taken, &field, asked, &protocol, &owner)?
                }
                None if wants_ports => {
                    // The same port for TCP and UDP (a DNS Service) shares one number.
                    let shared = port["port"].as_u64().and_then(|it| assigned.get(&it)).copied();
                    let shared =
                        shared.filter(|it| !taken.ports.contains_key(&(*it, protocol.clone())));
                    shared.or_else(|| self.free_port(&taken)).ok_or_else(|| {
                        let field = format!("spec.ports[{index}].nodePort");
                        FieldError::invalid(
                            field,
                            0,
                            "failed to allocate a nodePort: range is full",
                        )
                    })?
                }
                None => continue,
            };
            port["nodePort"] = number.into();
            if let Some(port) = port["port"].as_u64() {
                assigned.insert(port, number);
            }
            let place = (number, protocol);
            if !taken.ports.contains_key(&place) {
                taken.ports.insert(place.clone(), owner.clone());
                reserved.ports.push(place);
            }
        }
        Ok(())
    }

    fn reserve_health_check_port(
        &self,
        service: &mut Value,
        reserved: &mut Reserved,
    ) -> Result<(), FieldError> {
        if !has_health_check_port(service) {
            return Ok(());
        }
        let mut taken = self.taken.lock();
        let field = "spec.healthCheckNodePort";
        let asked = service["spec"]["healthCheckNodePort"].as_u64().filter(|it| *it > 0);
        let number = match asked {
            Some(asked) => self.check_port(&taken, field, asked, "TCP", &reserved.owner)?,
            None => self.free_port(&taken).ok_or_else(|| {
                FieldError::invalid(field, 0, "failed to allocate a nodePort: range is full")
            })?,
        };
        if let Entry::Vacant(place) = taken.ports.entry((number, "TCP".to_owned())) {
            reserved.ports.push(place.key().clone());
            place.insert(reserved.owner.clone());
        }
        service["spec"]["healthCheckNodePort"] = number.into();
        Ok(())
    }

    fn check_port(
        &self,
        taken: &Taken,
        field: &str,
        asked: u64,
        protocol: &str,
        owner: &str,
    ) -> Result<u16, FieldError> {
        let refused = |why: String| FieldError::invalid(field, asked, why);
        let number = u16::try_from(asked).ok().filter(|it| self.ports.contains(it));
        let number = number.ok_or_else(|| {
            let (from, to) = (self.ports.start(), self.ports.end());
            refused(format!(
                "provided port is not in the valid range. The range of valid ports is {from}-{to}"
            ))
        })?;
        match taken.ports.get(&(number, protocol.to_owned())) {
            Some(other) if other != owner => {
                Err(refused("provided port is already allocated".into()))
            }
            _ => Ok(number),
        }
    }

    fn free_port(&self, taken: &Taken) -> Option<u16> {
        let (first, last) = (*self.ports.start(), *self.ports.end());
        let dynamic = first.saturating_add(STATIC_PORTS).min(last);
        let is_free = |port: &u16| {
            !["TCP", "UDP", "SCTP"]
                .iter()
                .any(|it| taken.ports.contains_key(&(*port, (*it).into())))
        };
        let count = u64::from(last - dynamic) + 1;
        let start = dynamic + u16::try_from(entropy::below(count)).unwrap_or_default();
        (start..=last).chain(dynamic..start).chain(first..dynamic).find(is_free)
    }
}

#[cfg(test)]
mod tests;
