//! `AssignPrivateIpAddresses` and `UnassignPrivateIpAddresses`: secondary addresses and prefixes.
//!
//! Both are all-or-nothing: on any fault the interface keeps exactly what it had. The VPC CNI
//! relies on this when it grows its warm pool.

use std::{collections::BTreeSet, net::Ipv4Addr};

use aws_ec2::{
    network_interface::Ipv4PrefixSpecification,
    private_addresses::{
        AssignPrivateIpAddressesRequest, AssignPrivateIpAddressesResponse,
        AssignedPrivateIpAddress, UnassignPrivateIpAddressesRequest,
        UnassignPrivateIpAddressesResponse,
    },
};
use aws_wire::Fault;
use ipnet::Ipv4Net;

use super::{address_limit, count, limit_of, parse_address, parse_prefix, refuse_foreign};
use crate::{Call, addressing::Pool, faults, state::State};

pub(crate) fn assign(
    call: &Call<'_>,
    state: &mut State,
    request: AssignPrivateIpAddressesRequest,
) -> Result<AssignPrivateIpAddressesResponse, Fault> {
    let id = &request.network_interface_id;
    let interface = state.network_interfaces.find(id)?;
    refuse_foreign(call, interface)?;
    let wanted = Wanted::of(&request)?;
    let (limit, instance_type) = limit_of(state, interface);
    let slots = interface.slots() + wanted.len();
    if slots > limit {
        return Err(address_limit(slots, limit, instance_type));
    }
    let subnet = state.subnets.find(&interface.subnet_id)?.clone();
    let mut pool = Pool::of(state, &subnet);
    let (addresses, prefixes) = wanted.take(&mut pool)?;
    state.subnets.edit(&subnet.id)?.cursor = pool.cursor();
    let interface = state.network_interfaces.edit(id)?;
    interface.secondary_addresses.extend(&addresses);
    interface.prefixes.extend(&prefixes);
    let address =
        |it: Ipv4Addr| AssignedPrivateIpAddress { private_ip_address: Some(it.to_string()) };
    let prefix = |it: Ipv4Net| Ipv4PrefixSpecification { ipv4_prefix: Some(it.to_string()) };
    Ok(AssignPrivateIpAddressesResponse {
        network_interface_id: Some(request.network_interface_id),
        assigned_private_ip_addresses: addresses.into_iter().map(address).collect(),
        assigned_ipv4_prefixes: prefixes.into_iter().map(prefix).collect(),
    })
}

enum Wanted {
    Count(usize),
    Addresses(Vec<Ipv4Addr>),
    PrefixCount(usize),
    Prefixes(Vec<Ipv4Net>),
}

impl Wanted {
    fn of(request: &AssignPrivateIpAddressesRequest) -> Result<Self, Fault> {
        let given = [
            request.secondary_private_ip_address_count.is_some(),
            !request.private_ip_addresses.is_empty(),
            request.ipv4_prefix_count.is_some(),
            !request.ipv4_prefixes.is_empty(),
        ];
        if given.iter().filter(|it| **it).count() != 1 {
            return Err(faults::combination(
                "Exactly one of SecondaryPrivateIpAddressCount, PrivateIpAddresses, \
                 Ipv4PrefixCount and Ipv4Prefixes must be given.",
            ));
        }
        let wanted = match given {
            [true, ..] => Self::Count(count(request.secondary_private_ip_address_count)?),
            [_, true, ..] => {
                Self::Addresses(parse_all(&request.private_ip_addresses, parse_address)?)
            }
            [_, _, true, _] => Self::PrefixCount(count(request.ipv4_prefix_count)?),
            _ => Self::Prefixes(parse_all(&request.ipv4_prefixes, parse_prefix)?),
        };
        match wanted.len() {
            0 => Err(faults::invalid("The number of addresses must be at least 1.")),
            _ => Ok(wanted),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Count(count) | Self::PrefixCount(count) => *count,
            Self::Addresses(addresses) => addresses.len(),
            Self::Prefixes(prefixes) => prefixes.len(),
        }
    }

    fn take(self, pool: &mut Pool) -> Result<(Vec<Ipv4Addr>, Vec<Ipv4Net>), Fault> {
        let (mut addresses, mut prefixes) = (Vec::new(), Vec::new());
        match self {
            Self::Count(count) => addresses = pool.take_many(count)?,
            Self::Addresses(wanted) => {
                for address in wanted {
                    pool.take_address(address)?;
                    addresses.push(address);
                }
            }
            Self::PrefixCount(count) => {
                for _ in 0..count {
                    prefixes.push(pool.take_prefix()?);
                }
            }
            Self::Prefixes(wanted) => {
                for prefix in wanted {
                    pool.take_this_prefix(prefix)?;
                    prefixes.push(prefix);
                }
            }
        }
        Ok((addresses, prefixes))
    }
}

fn parse_all<T>(
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    texts.iter().map(|it| parse(it)).collect()
}

pub(crate) fn unassign(
    call: &Call<'_>,
    state: &mut State,
    request: UnassignPrivateIpAddressesRequest,
) -> Result<UnassignPrivateIpAddressesResponse, Fault> {
    let id = &request.network_interface_id;
    let interface = state.network_interfaces.find(id)?;
    refuse_foreign(call, interface)?;
    if request.private_ip_addresses.is_empty() && request.ipv4_prefixes.is_empty() {
        return Err(faults::missing("PrivateIpAddress"));
    }
    let addresses: BTreeSet<Ipv4Addr> =
        parse_all(&request.private_ip_addresses, parse_address)?.into_iter().collect();
    let prefixes: BTreeSet<Ipv4Net> =
        parse_all(&request.ipv4_prefixes, parse_prefix)?.into_iter().collect();
    if addresses.contains(&interface.primary_address) {
        return Err(faults::invalid(
            "The primary private IP address of a network interface cannot be unassigned.",
        ));
    }
    if !addresses.is_subset(&interface.secondary_addresses) {
        return Err(faults::invalid(format!(
            "Some of the specified addresses are not assigned to interface {id}"
        )));
    }
    if !prefixes.is_subset(&interface.prefixes) {
        return Err(faults::invalid(format!(
            "Some of the specified prefixes are not assigned to interface {id}"
        )));
    }
    let freed: Vec<String> = interface
        .public_addresses
        .iter()
        .filter(|it| addresses.contains(&it.private))
        .filter_map(|it| it.allocation_id.clone())
        .collect();
    for allocation in freed {
        state.addresses.edit(&allocation)?.association = None;
    }
    let interface = state.network_interfaces.edit(id)?;
    interface.secondary_addresses.retain(|it| !addresses.contains(it));
    interface.prefixes.retain(|it| !prefixes.contains(it));
    interface.public_addresses.retain(|it| !addresses.contains(&it.private));
    Ok(UnassignPrivateIpAddressesResponse {})
}
