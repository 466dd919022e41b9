//! `AssignIpv6Addresses` and `UnassignIpv6Addresses`: addresses and `/80` prefixes.
//!
//! Both are all-or-nothing: on any fault the interface keeps exactly what it had. An interface holds
//! as many of them as IPv4 addresses, counted apart.

use std::{collections::BTreeSet, net::Ipv6Addr};

use aws_ec2::ipv6_addresses::{
    AssignIpv6AddressesRequest, AssignIpv6AddressesResponse, UnassignIpv6AddressesRequest,
    UnassignIpv6AddressesResponse,
};
use aws_wire::Fault;
use ipnet::Ipv6Net;

use super::{
    WantedIpv6, address_limit, count, limit_of, parse_ipv6_address, parse_ipv6_prefix,
    refuse_foreign,
};
use crate::{Call, faults, ipv6_pool::Ipv6Pool, records::Subnet, state::State};

impl WantedIpv6 {
    /// Addresses and a count of them exclude each other, and so do prefixes.
    pub(crate) fn of<'a>(
        addresses: impl Iterator<Item = &'a str>,
        address_count: Option<i64>,
        prefixes: impl Iterator<Item = &'a str>,
        prefix_count: Option<i64>,
    ) -> Result<Self, Fault> {
        let wanted = Self {
            addresses: addresses.map(parse_ipv6_address).collect::<Result<_, _>>()?,
            count: address_count.map(|it| count(Some(it))).transpose()?,
            prefixes: prefixes.map(parse_ipv6_prefix).collect::<Result<_, _>>()?,
            prefix_count: count(prefix_count)?,
        };
        let is_twice = |count: usize, named: usize| count > 0 && named > 0;
        if is_twice(wanted.count.unwrap_or(0), wanted.addresses.len())
            || is_twice(wanted.prefix_count, wanted.prefixes.len())
        {
            return Err(faults::combination(
                "IPv6 addresses or prefixes and a count of them cannot both be given.",
            ));
        }
        Ok(wanted)
    }

    fn len(&self) -> usize {
        let counted = self.count.unwrap_or(0) + self.prefix_count;
        counted + self.addresses.len() + self.prefixes.len()
    }
}

/// Takes what is wanted of the subnet; one address where nothing is said and the subnet gives one.
pub(super) fn take(
    state: &State,
    subnet: &Subnet,
    mut wanted: WantedIpv6,
) -> Result<(Vec<Ipv6Addr>, BTreeSet<Ipv6Net>), Fault> {
    let gives_one = subnet.assign_ipv6_address_on_creation && wanted.addresses.is_empty();
    if gives_one && wanted.count.is_none() {
        wanted.count = Some(1);
    }
    if wanted.len() == 0 {
        return Ok(Default::default());
    }
    let mut pool = Ipv6Pool::of(state, subnet)?;
    for address in &wanted.addresses {
        pool.take_address(*address)?;
    }
    for prefix in &wanted.prefixes {
        pool.take_this_prefix(*prefix)?;
    }
    let mut addresses = wanted.addresses;
    for _ in 0..wanted.count.unwrap_or(0) {
        addresses.push(pool.take()?);
    }
    let mut prefixes: BTreeSet<Ipv6Net> = wanted.prefixes.into_iter().collect();
    for _ in 0..wanted.prefix_count {
        prefixes.insert(pool.take_prefix()?);
    }
    Ok((addresses, prefixes))
}

pub(crate) fn assign(
    call: &Call<'_>,
    state: &mut State,
    request: AssignIpv6AddressesRequest,
) -> Result<AssignIpv6AddressesResponse, Fault> {
    let id = &request.network_interface_id;
    let interface = state.network_interfaces.find(id)?;
    refuse_foreign(call, interface)?;
    let mut wanted = WantedIpv6::of(
        request.ipv6_addresses.iter().map(String::as_str),
        request.ipv6_address_count,
        request.ipv6_prefixes.iter().map(String::as_str),
        request.ipv6_prefix_count,
    )?;
    if wanted.len() == 0 {
        return Err(faults::missing("Ipv6AddressCount"));
    }
    wanted.count.get_or_insert(0);
    let (limit, instance_type) = limit_of(state, interface);
    let slots = interface.ipv6_slots() + wanted.len();
    if slots > limit {
        return Err(address_limit(slots, limit, instance_type));
    }
    let subnet = state.subnets.find(&interface.subnet_id)?.clone();
    let (addresses, prefixes) = take(state, &subnet, wanted)?;
    let interface = state.network_interfaces.edit(id)?;
    interface.ipv6_addresses.extend(&addresses);
    interface.ipv6_prefixes.extend(&prefixes);
    Ok(AssignIpv6AddressesResponse {
        assigned_ipv6_addresses: addresses.iter().map(Ipv6Addr::to_string).collect(),
        assigned_ipv6_prefixes: prefixes.iter().map(Ipv6Net::to_string).collect(),
        network_interface_id: Some(request.network_interface_id),
    })
}

pub(crate) fn unassign(
    call: &Call<'_>,
    state: &mut State,
    request: UnassignIpv6AddressesRequest,
) -> Result<UnassignIpv6AddressesResponse, Fault> {
    let id = &request.network_interface_id;
    let interface = state.network_interfaces.find(id)?;
    refuse_foreign(call, interface)?;
    let texts = |all: &[String]| all.to_vec();
    let (addresses, prefixes) = (texts(&request.ipv6_addresses), texts(&request.ipv6_prefixes));
    if addresses.is_empty() && prefixes.is_empty() {
        return Err(faults::missing("Ipv6Addresses"));
    }
    let gone: Vec<Ipv6Addr> =
        addresses.iter().map(|it| parse_ipv6_address(it)).collect::<Result<_, _>>()?;
    let gone_prefixes: Vec<Ipv6Net> =
        prefixes.iter().map(|it| parse_ipv6_prefix(it)).collect::<Result<_, _>>()?;
    if !gone.iter().all(|it| interface.ipv6_addresses.contains(it)) {
        return Err(faults::invalid(format!(
            "Some of the specified addresses are not assigned to interface {id}"
        )));
    }
    if !gone_prefixes.iter().all(|it| interface.ipv6_prefixes.contains(it)) {
        return Err(faults::invalid(format!(
            "Some of the specified prefixes are not assigned to interface {id}"
        )));
    }
    let interface = state.network_interfaces.edit(id)?;
    interface.ipv6_addresses.retain(|it| !gone.contains(it));
    interface.ipv6_prefixes.retain(|it| !gone_prefixes.contains(it));
    Ok(UnassignIpv6AddressesResponse {
        network_interface_id: Some(request.network_interface_id),
        unassigned_ipv6_addresses: gone.iter().map(Ipv6Addr::to_string).collect(),
        unassigned_ipv6_prefixes: gone_prefixes.iter().map(Ipv6Net::to_string).collect(),
    })
}
