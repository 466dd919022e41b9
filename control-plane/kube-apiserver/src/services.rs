//! ClusterIPs and node ports of Services.
//!
//! What is taken is what stored Services have, so nothing else needs to be stored: the allocator
//! is filled from them at the start. An address is reserved before the Service is written and
//! given back if the write fails, so that two writers never get the same one.
//!
//! Deviation: one server allocates; upstream also keeps IPAddress objects, so that several can.
//!
//! Upstream: pkg/registry/core/service/storage/alloc.go.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::Ipv4Addr,
    ops::RangeInclusive,
    sync::Arc,
};

use ipnet::Ipv4Net;
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
    cidr: Ipv4Net,
    ports: RangeInclusive<u16>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    addresses: HashMap<Ipv4Addr, String>,
    ports: HashMap<(u16, String), String>,
}

/// Reservations of one write. Dropped, it gives them back; kept, they stay.
#[derive(Debug, Default)]
pub(crate) struct Reserved {
    taken: Option<Arc<Mutex<Taken>>>,
    owner: String,
    addresses: Vec<Ipv4Addr>,
    ports: Vec<(u16, String)>,
    /// What the old state had and the new one does not.
    released: (Vec<Ipv4Addr>, Vec<(u16, String)>),
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

fn addresses_of(service: &Value) -> Vec<Ipv4Addr> {
    let all = service["spec"]["clusterIPs"].as_array().into_iter().flatten();
    let all = all.chain(std::iter::once(&service["spec"]["clusterIP"]));
    let mut found: Vec<Ipv4Addr> = all.filter_map(|it| it.as_str()?.parse().ok()).collect();
    found.dedup();
    found
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
    pub(crate) fn new(cidr: Ipv4Net, ports: RangeInclusive<u16>) -> Self {
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
    pub(crate) fn first_address(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.cidr.network()) + 1)
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
        self.reserve_address(&mut filled, &mut reserved).map_err(invalid)?;
        self.reserve_ports(&mut filled, &mut reserved).map_err(invalid)?;
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

    fn check_address(
        &self,
        taken: &Taken,
        asked: &str,
        owner: &str,
    ) -> Result<Ipv4Addr, FieldError> {
        let refused = |why: String| FieldError::invalid("spec.clusterIPs", json!([asked]), why);
        let address: Ipv4Addr = asked.parse().map_err(|_| {
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
    fn free_address(&self, taken: &Taken) -> Option<Ipv4Addr> {
        let first = u32::from(self.cidr.network()) + 1;
        let size = u32::from(self.cidr.broadcast()) - first;
        let reserve = (size / 16).clamp(16, 256).min(size / 2);
        let find = |from: u32, count: u32| {
            let start = u32::try_from(entropy::below(u64::from(count.max(1)))).unwrap_or_default();
            let candidates = (0..count).map(|it| Ipv4Addr::from(from + (start + it) % count));
            candidates.into_iter().find(|it| !taken.addresses.contains_key(it))
        };
        find(first + reserve, size - reserve).or_else(|| find(first + 1, reserve.saturating_sub(1)))
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
                Some(asked) => self.check_port(&taken, index, asked, &protocol, &owner)?,
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

    fn check_port(
        &self,
        taken: &Taken,
        index: usize,
        asked: u64,
        protocol: &str,
        owner: &str,
    ) -> Result<u16, FieldError> {
        let refused =
            |why: String| FieldError::invalid(format!("spec.ports[{index}].nodePort"), asked, why);
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

/// On update, addresses and ports that the client left out stay as they were.
pub(crate) fn keep_allocations(old: &Value, new: &mut Value) {
    if !has_cluster_ip(new) {
        if new["spec"]["type"] == "ExternalName"
            && let Some(spec) = new["spec"].as_object_mut()
        {
            for field in
                ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"]
            {
                spec.remove(field);
            }
        }
        return;
    }
    let is_absent = |it: &Value| it.as_str().unwrap_or_default().is_empty();
    if is_absent(&new["spec"]["clusterIP"]) && has_cluster_ip(old) {
        for field in ["clusterIP", "clusterIPs"] {
            let kept = old["spec"][field].clone();
            if !kept.is_null() {
                new["spec"][field] = kept;
            }
        }
    }
    if !has_node_ports(new) || !has_node_ports(old) {
        if !has_node_ports(new) {
            drop_unasked_ports(old, new);
        }
        return;
    }
    let known = old["spec"]["ports"].as_array().cloned().unwrap_or_default();
    for port in new.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if port["nodePort"].as_u64().unwrap_or_default() == 0 {
            let same = known
                .iter()
                .find(|it| it["port"] == port["port"] && it["protocol"] == port["protocol"]);
            if let Some(number) = same.map(|it| it["nodePort"].clone()).filter(|it| !it.is_null()) {
                port["nodePort"] = number;
            }
        }
    }
}

/// A Service that becomes a ClusterIP one loses the node ports that it was given.
fn drop_unasked_ports(old: &Value, new: &mut Value) {
    let had: Vec<u16> = ports_of(old).into_iter().map(|it| it.0).collect();
    for port in new.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let number = port["nodePort"].as_u64().and_then(|it| u16::try_from(it).ok());
        if number.is_some_and(|it| had.contains(&it))
            && let Some(fields) = port.as_object_mut()
        {
            fields.remove("nodePort");
        }
    }
}

#[cfg(test)]
mod tests;
