//! ClusterIPs and node ports of Services.
//!
//! What is taken is what the store says: an address by its IPAddress object, a port by a record that
//! only this module reads. Both are written and removed in the very transaction that writes or
//! removes the Service, so that neither can be without the other, no two Services ever get the same,
//! and several servers over one etcd need not know of each other.
//!
//! Upstream: pkg/registry/core/service/storage/alloc.go, pkg/registry/core/service/ipallocator.

mod claims;
mod ranges;
mod repair;
mod update;

pub(crate) use self::{claims::Claims, ranges::prepare as prepare_range, update::keep_allocations};

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

use ipnet::IpNet;
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
    store: mvcc::Store,
    clock: clock::Clock,
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
    pub(crate) fn new(
        cidr: IpNet,
        ports: RangeInclusive<u16>,
        store: mvcc::Store,
        clock: clock::Clock,
    ) -> Self {
        Self { cidr, ports, store, clock }
    }

    /// The first address of the range: that of `default/kubernetes`.
    pub(crate) fn first_address(&self) -> IpAddr {
        crate::config::first_address(self.cidr)
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
        let selects = spec["selector"].as_object().is_some_and(|it| !it.is_empty());
        if spec["clusterIP"] == "None" && !selects {
            self.set_any_family(spec);
            return Ok(());
        }
        if spec["ipFamilyPolicy"].is_null() {
            spec["ipFamilyPolicy"] = "SingleStack".into();
        }
        if spec["ipFamilyPolicy"] == "RequireDualStack" {
            let why = "this cluster is not configured for dual-stack services";
            return Err(FieldError::invalid("spec.ipFamilyPolicy", "RequireDualStack", why));
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

    /// Endpoints that somebody writes by hand can be of either family, whichever the cluster has.
    fn set_any_family(&self, spec: &mut Value) {
        if spec["ipFamilyPolicy"].is_null() {
            spec["ipFamilyPolicy"] = "RequireDualStack".into();
        }
        let mut families = spec["ipFamilies"].as_array().cloned().unwrap_or_default();
        if families.is_empty() {
            families.push(self.family().into());
        }
        if families.len() < 2 && spec["ipFamilyPolicy"] != "SingleStack" {
            families.push(if families[0] == "IPv4" { "IPv6" } else { "IPv4" }.into());
        }
        spec["ipFamilies"] = Value::Array(families);
    }

    /// Fills in what a Service needs, and says what it takes and gives back; nothing for other
    /// resources.
    pub(crate) fn reserve_for(
        &self,
        resource: &Resource,
        service: &mut Value,
        old: Option<&Value>,
    ) -> Result<Claims, Status> {
        if !resource.is("", "services") {
            return Ok(Claims::default());
        }
        let mut claims = Claims::of(service);
        let invalid = |error: FieldError| {
            Status::invalid("Service", meta(service, "name"), std::slice::from_ref(&error))
        };
        let mut filled = service.clone();
        let kept = Kept::of(old);
        self.set_family(&mut filled).map_err(invalid)?;
        self.reserve_address(&mut filled, &mut claims, &kept).map_err(invalid)?;
        self.reserve_ports(&mut filled, &mut claims, &kept).map_err(invalid)?;
        self.reserve_health_check_port(&mut filled, &mut claims, &kept).map_err(invalid)?;
        if let Some(old) = old {
            let (addresses, ports) = (addresses_of(&filled), ports_of(&filled));
            let gone = addresses_of(old).into_iter().filter(|it| !addresses.contains(it));
            gone.for_each(|it| claims.release_address(&self.store, it));
            let closed = ports_of(old).into_iter().filter(|it| !ports.contains(it));
            closed.for_each(|it| claims.release_port(&self.store, &it));
        }
        *service = filled;
        Ok(claims)
    }

    /// What goes with a Service that is removed.
    pub(crate) fn released_by(&self, resource: &Resource, service: &Value) -> Claims {
        let mut claims = Claims::of(service);
        if resource.is("", "services") {
            addresses_of(service)
                .into_iter()
                .for_each(|it| claims.release_address(&self.store, it));
            ports_of(service).iter().for_each(|it| claims.release_port(&self.store, it));
        }
        claims
    }

    fn reserve_address(
        &self,
        service: &mut Value,
        claims: &mut Claims,
        kept: &Kept,
    ) -> Result<(), FieldError> {
        if !has_cluster_ip(service) {
            return Ok(());
        }
        let asked = service["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
        let address = if asked.is_empty() {
            self.free_address().ok_or_else(|| {
                let why = "failed to allocate a serviceIP: range is full";
                FieldError::invalid("spec.clusterIPs", Value::Null, why)
            })?
        } else {
            self.check_address(claims, kept, &asked)?
        };
        claims.take_address(&self.store, address, self.clock.now());
        service["spec"]["clusterIP"] = address.to_string().into();
        service["spec"]["clusterIPs"] = json!([address.to_string()]);
        Ok(())
    }

    fn check_address(
        &self,
        claims: &Claims,
        kept: &Kept,
        asked: &str,
    ) -> Result<IpAddr, FieldError> {
        let refused = |why: String| FieldError::invalid("spec.clusterIPs", json!([asked]), why);
        let address: IpAddr = asked.parse().map_err(|_| {
            FieldError::invalid(
                "spec.clusterIPs[0]",
                asked,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            )
        })?;
        let is_kept = kept.addresses.contains(&address);
        if !is_kept && !self.ranges().iter().any(|it| is_inside(*it, address)) {
            return Err(refused(format!(
                "failed to allocate IP {address}: the provided network does not match the current range"
            )));
        }
        if claims.is_address_of_another(&self.store, address) {
            return Err(refused(format!(
                "failed to allocate IP {address}: provided IP is already allocated"
            )));
        }
        Ok(address)
    }

    /// A free address of the first range that has one.
    fn free_address(&self) -> Option<IpAddr> {
        self.ranges().into_iter().find_map(|range| self.free_address_of(range))
    }

    /// A random free address of the upper part of the range, then of the lower (KEP-3070).
    fn free_address_of(&self, range: IpNet) -> Option<IpAddr> {
        let first = number_of(range.network()) + 1;
        let size = number_of(range.broadcast()).saturating_sub(first);
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        let reserve = (size / 16).clamp(16, 256).min(size / 2);
        let find = |from: u64, count: u64| {
            let start = entropy::below(count.max(1));
            let offset = move |it: u64| (u128::from(start) + u128::from(it)) % u128::from(count);
            let candidates =
                (0..count).map(|it| address_at(range, u128::from(from) + first + offset(it)));
            candidates.into_iter().find(|it| !claims::is_address_taken(&self.store, *it))
        };
        find(reserve, size - reserve).or_else(|| find(1, reserve.saturating_sub(1)))
    }

    fn reserve_ports(
        &self,
        service: &mut Value,
        claims: &mut Claims,
        kept: &Kept,
    ) -> Result<(), FieldError> {
        let wants_ports = has_node_ports(service);
        let mut assigned: HashMap<u64, u16> = HashMap::new();
        let ports = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
        for (index, port) in ports.into_iter().flatten().enumerate() {
            let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
            let field = format!("spec.ports[{index}].nodePort");
            let number = match port["nodePort"].as_u64().filter(|it| *it > 0) {
                Some(asked) => self.check_port(claims, kept, &field, asked, &protocol)?,
                None if wants_ports => {
                    // The same port for TCP and UDP (a DNS Service) shares one number.
                    let shared = port["port"].as_u64().and_then(|it| assigned.get(&it)).copied();
                    let is_free = |it: &u16| !claims.is_port_taken(&self.store, *it, &protocol);
                    shared.filter(is_free).or_else(|| self.free_port(claims)).ok_or_else(|| {
                        let why = "failed to allocate a nodePort: range is full";
                        FieldError::invalid(field, 0, why)
                    })?
                }
                None => continue,
            };
            port["nodePort"] = number.into();
            if let Some(port) = port["port"].as_u64() {
                assigned.insert(port, number);
            }
            claims.take_port(&self.store, &(number, protocol));
        }
        Ok(())
    }

    fn reserve_health_check_port(
        &self,
        service: &mut Value,
        claims: &mut Claims,
        kept: &Kept,
    ) -> Result<(), FieldError> {
        if !has_health_check_port(service) {
            return Ok(());
        }
        let field = "spec.healthCheckNodePort";
        let asked = service["spec"]["healthCheckNodePort"].as_u64().filter(|it| *it > 0);
        let is_own = |it: &Value| it["nodePort"].as_u64() == asked && it["protocol"] == "TCP";
        let ports = service["spec"]["ports"].as_array().into_iter().flatten();
        if let Some(asked) = asked.filter(|_| ports.clone().any(is_own)) {
            return Err(FieldError::invalid(field, asked, ALLOCATED));
        }
        let number = match asked {
            Some(asked) => self.check_port(claims, kept, field, asked, "TCP")?,
            None => self.free_port(claims).ok_or_else(|| {
                FieldError::invalid(field, 0, "failed to allocate a nodePort: range is full")
            })?,
        };
        claims.take_port(&self.store, &(number, "TCP".to_owned()));
        service["spec"]["healthCheckNodePort"] = number.into();
        Ok(())
    }

    fn check_port(
        &self,
        claims: &Claims,
        kept: &Kept,
        field: &str,
        asked: u64,
        protocol: &str,
    ) -> Result<u16, FieldError> {
        let refused = |why: String| FieldError::invalid(field, asked, why);
        let is_kept = |it: u16| kept.ports.iter().any(|(port, of)| *port == it && of == protocol);
        let number = u16::try_from(asked).ok();
        let number = number.filter(|it| self.ports.contains(it) || is_kept(*it));
        let number = number.ok_or_else(|| {
            let (from, to) = (self.ports.start(), self.ports.end());
            refused(format!(
                "provided port is not in the valid range. The range of valid ports is {from}-{to}"
            ))
        })?;
        if claims.is_port_of_another(&self.store, number, protocol) {
            return Err(refused(ALLOCATED.into()));
        }
        Ok(number)
    }

    fn free_port(&self, claims: &Claims) -> Option<u16> {
        let (first, last) = (*self.ports.start(), *self.ports.end());
        let dynamic = first.saturating_add(STATIC_PORTS).min(last);
        let is_free = |port: &u16| {
            !["TCP", "UDP", "SCTP"].iter().any(|it| claims.is_port_taken(&self.store, *port, it))
        };
        let count = u64::from(last - dynamic) + 1;
        let start = dynamic + u16::try_from(entropy::below(count)).unwrap_or_default();
        (start..=last).chain(dynamic..start).chain(first..dynamic).find(is_free)
    }
}

const ALLOCATED: &str = "provided port is already allocated";

/// What a Service has already, which stays its own whatever has become of the ranges.
#[derive(Debug, Default)]
struct Kept {
    addresses: Vec<IpAddr>,
    ports: Vec<(u16, String)>,
}

impl Kept {
    fn of(old: Option<&Value>) -> Self {
        old.map_or_else(Self::default, |old| Self {
            addresses: addresses_of(old),
            ports: ports_of(old),
        })
    }
}

fn address_at(range: IpNet, number: u128) -> IpAddr {
    match range {
        IpNet::V4(_) => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        IpNet::V6(_) => Ipv6Addr::from_bits(number).into(),
    }
}

/// Whether a Service can have the address: the first and the last one of a range are nobody's.
fn is_inside(range: IpNet, address: IpAddr) -> bool {
    range.contains(&address) && address != range.network() && address != range.broadcast()
}

#[cfg(test)]
mod tests;
