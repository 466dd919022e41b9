//! Elastic network interfaces.
//!
//! An interface that a service made for itself (`requester-managed`) can be changed, detached and
//! deleted by services only.

mod attachments;
mod attributes;
mod ipv6_addresses;
mod permissions;
mod private_addresses;
mod shape;
mod tracking;
mod trunks;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use aws_ec2::network_interface::{
    CreateNetworkInterfaceRequest, CreateNetworkInterfaceResponse, DeleteNetworkInterfaceRequest,
    DeleteNetworkInterfaceResponse, DescribeNetworkInterfacesRequest,
    DescribeNetworkInterfacesResponse,
};
use aws_wire::Fault;
use ipnet::{Ipv4Net, Ipv6Net};
use region_gateway::CallerKind;

pub(crate) use self::{
    attachments::{attach, attach_checked, detach, settle},
    attributes::{describe_attribute, modify_attribute},
    ipv6_addresses::{assign as assign_ipv6, unassign as unassign_ipv6},
    permissions::{create_permission, delete_permission, describe_permissions},
    private_addresses::{assign, unassign},
    shape::{answer, association, groups},
    tracking::{answer as tracking_answer, of as connection_tracking},
    trunks::{associate_trunk, describe_trunk_associations, disassociate_trunk, release_branches},
};
use crate::{
    Call,
    addressing::Pool,
    client_tokens, faults, names,
    query::{self, query_of},
    records::{ConnectionTracking, NetworkInterface, Subnet, Tags},
    state::State,
    tagging,
};

const TYPE: &str = "network-interface";

/// Without an instance there is no type to set a limit: EC2 allows what the largest types do.
const UNATTACHED_LIMIT: usize = 50;

/// What requests of several shapes say about IPv6 under the same names.
macro_rules! wanted_ipv6 {
    ($request:expr) => {{
        let request = $request;
        let addresses = request.ipv6_addresses.iter().filter_map(|it| it.ipv6_address.as_deref());
        let prefixes = request.ipv6_prefixes.iter().filter_map(|it| it.ipv6_prefix.as_deref());
        $crate::network_interfaces::WantedIpv6::of(
            addresses,
            request.ipv6_address_count,
            prefixes,
            request.ipv6_prefix_count,
        )
    }};
}

pub(crate) use wanted_ipv6;

/// What a new interface shall be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub primary: Option<Ipv4Addr>,
    pub secondary: Vec<Ipv4Addr>,
    pub secondary_count: usize,
    pub prefixes: Vec<Ipv4Net>,
    pub prefix_count: usize,
    pub ipv6: WantedIpv6,
    pub security_groups: Vec<String>,
    pub description: String,
    pub requester: Option<String>,
    /// `interface` if nothing is said.
    pub interface_type: Option<String>,
    pub tracking: Option<ConnectionTracking>,
    pub tags: Tags,
}

/// The IPv6 addresses that are wanted of an interface.
#[derive(Clone, Debug, Default)]
pub(crate) struct WantedIpv6 {
    pub addresses: Vec<Ipv6Addr>,
    /// `None` where nothing is said: then the subnet may say that it gives one.
    pub count: Option<usize>,
    pub prefixes: Vec<Ipv6Net>,
    pub prefix_count: usize,
}

pub(crate) fn create(
    call: &Call<'_>,
    state: &mut State,
    request: CreateNetworkInterfaceRequest,
) -> Result<CreateNetworkInterfaceResponse, Fault> {
    let client_token = request.client_token.clone();
    let token = client_token.as_deref();
    let id =
        client_tokens::once(call, state, "CreateNetworkInterface", token, request, |state, it| {
            made(call, state, it)
        })?;
    let network_interface = Some(answer(call, state, state.network_interfaces.find(&id)?));
    Ok(CreateNetworkInterfaceResponse { network_interface, client_token })
}

fn made(
    call: &Call<'_>,
    state: &mut State,
    request: CreateNetworkInterfaceRequest,
) -> Result<String, Fault> {
    let tags = tagging::of_specifications(call, &request.tag_specifications, TYPE, &[TYPE])?;
    let requester = match &call.caller.kind {
        CallerKind::Service(name) => Some(name.clone()),
        _ => None,
    };
    let (primary, secondary) = listed(&request)?;
    let interface_type = interface_type(request.interface_type.as_deref())?;
    let wanted = Wanted {
        primary,
        secondary,
        secondary_count: count(request.secondary_private_ip_address_count)?,
        prefixes: request
            .ipv4_prefixes
            .iter()
            .filter_map(|it| it.ipv4_prefix.as_deref())
            .map(parse_prefix)
            .collect::<Result<_, _>>()?,
        prefix_count: count(request.ipv4_prefix_count)?,
        ipv6: wanted_ipv6!(&request)?,
        security_groups: request.groups,
        description: request.description.unwrap_or_default(),
        requester,
        interface_type,
        tracking: connection_tracking(request.connection_tracking_specification)?,
        tags,
    };
    Ok(make(state, &request.subnet_id, wanted)?.id)
}

pub(crate) fn interface_type(asked: Option<&str>) -> Result<Option<String>, Fault> {
    match asked {
        None | Some("interface" | "trunk" | "branch") => Ok(asked.map(str::to_owned)),
        Some("efa" | "efa-only") => {
            Err(faults::unsupported("EFA interfaces are not supported in this region."))
        }
        Some(other) => Err(faults::invalid_value("interfaceType", other)),
    }
}

fn listed(
    request: &CreateNetworkInterfaceRequest,
) -> Result<(Option<Ipv4Addr>, Vec<Ipv4Addr>), Fault> {
    let mut primary = request.private_ip_address.as_deref().map(parse_address).transpose()?;
    let mut secondary = Vec::new();
    for item in &request.private_ip_addresses {
        let Some(address) = &item.private_ip_address else {
            return Err(faults::missing("PrivateIpAddress"));
        };
        let address = parse_address(address)?;
        match (item.primary, primary) {
            (Some(true), Some(known)) if known != address => {
                return Err(faults::combination("Only one primary private IP address is allowed."));
            }
            (Some(true), _) => primary = Some(address),
            _ => secondary.push(address),
        }
    }
    Ok((primary, secondary))
}

pub(crate) fn parse_address(text: &str) -> Result<Ipv4Addr, Fault> {
    text.parse()
        .map_err(|_| faults::invalid(format!("invalid value for parameter address: {text}")))
}

pub(crate) fn parse_prefix(text: &str) -> Result<Ipv4Net, Fault> {
    text.parse().map_err(|_| faults::invalid_value("ipv4Prefix", text))
}

pub(crate) fn parse_ipv6_address(text: &str) -> Result<Ipv6Addr, Fault> {
    text.parse()
        .map_err(|_| faults::invalid(format!("invalid value for parameter address: {text}")))
}

pub(crate) fn parse_ipv6_prefix(text: &str) -> Result<Ipv6Net, Fault> {
    text.parse().map_err(|_| faults::invalid_value("ipv6Prefix", text))
}

pub(crate) fn count(value: Option<i64>) -> Result<usize, Fault> {
    let value = value.unwrap_or(0);
    usize::try_from(value).map_err(|_| faults::invalid_value("count", value))
}

/// Makes an interface with all that is wanted, or fails and changes nothing that is kept.
pub(crate) fn make(
    state: &mut State,
    subnet_id: &str,
    wanted: Wanted,
) -> Result<NetworkInterface, Fault> {
    if wanted.secondary_count > 0 && !wanted.secondary.is_empty() {
        return Err(faults::combination(
            "Private IP addresses and a count of them cannot both be given.",
        ));
    }
    let subnet = state.subnets.find(subnet_id)?.clone();
    let security_groups = groups_for(state, &subnet, &wanted.security_groups)?;
    let id = entropy::aws_id("eni");
    let mut pool = Pool::of(state, &subnet);
    let mut addresses = Vec::new();
    for address in wanted.primary.iter().chain(&wanted.secondary) {
        pool.take_address(*address)?;
    }
    let unnamed = wanted.secondary_count + usize::from(wanted.primary.is_none());
    addresses.extend(pool.take_many(unnamed)?);
    let mut prefixes: BTreeSet<Ipv4Net> = BTreeSet::new();
    for prefix in wanted.prefixes {
        pool.take_this_prefix(prefix)?;
        prefixes.insert(prefix);
    }
    for _ in 0..wanted.prefix_count {
        prefixes.insert(pool.take_prefix()?);
    }
    let primary = wanted.primary.unwrap_or_else(|| addresses.remove(0));
    let (ipv6_addresses, ipv6_prefixes) = ipv6_addresses::take(state, &subnet, wanted.ipv6)?;
    let interface = NetworkInterface {
        vpc_id: subnet.vpc_id.clone(),
        subnet_id: subnet.id.clone(),
        zone: subnet.zone.clone(),
        mac: names::mac(&id),
        id,
        description: wanted.description,
        interface_type: wanted.interface_type.unwrap_or_else(|| "interface".to_owned()),
        primary_address: primary,
        secondary_addresses: wanted.secondary.into_iter().chain(addresses).collect(),
        prefixes,
        ipv6_addresses,
        ipv6_prefixes,
        security_groups,
        source_dest_check: true,
        tracking: wanted.tracking,
        public_addresses: Vec::new(),
        attachment: None,
        requester: wanted.requester,
        trunk: None,
        permissions: Vec::new(),
        tags: wanted.tags,
    };
    if interface.ipv6_slots() > UNATTACHED_LIMIT {
        return Err(address_limit(interface.ipv6_slots(), UNATTACHED_LIMIT, None));
    }
    if interface.slots() > UNATTACHED_LIMIT {
        return Err(address_limit(interface.slots(), UNATTACHED_LIMIT, None));
    }
    state.subnets.edit(&subnet.id)?.cursor = pool.cursor();
    state.network_interfaces.insert(interface.clone());
    Ok(interface)
}

/// The groups asked for, which must be of the subnet's VPC, or the VPC's default one.
pub(crate) fn groups_for(
    state: &State,
    subnet: &Subnet,
    asked: &[String],
) -> Result<BTreeSet<String>, Fault> {
    /// Default quota per interface.
    const LIMIT: usize = 5;
    if asked.is_empty() {
        let default = state
            .security_groups
            .iter()
            .find(|it| it.vpc_id == subnet.vpc_id && it.name == "default");
        return Ok(default.map(|it| it.id.clone()).into_iter().collect());
    }
    for id in asked {
        let group = state.security_groups.find(id)?;
        if group.vpc_id != subnet.vpc_id {
            return Err(Fault::new(
                "InvalidGroup.NotFound",
                format!("The security group '{id}' does not exist in VPC '{}'", subnet.vpc_id),
            ));
        }
    }
    let groups: BTreeSet<String> = asked.iter().cloned().collect();
    if groups.len() > LIMIT {
        return Err(Fault::new(
            "SecurityGroupsPerInterfaceLimitExceeded",
            format!(
                "The maximum number of security groups per interface ({LIMIT}) has been reached."
            ),
        ));
    }
    Ok(groups)
}

/// The interface has more addresses than it may.
pub(crate) fn address_limit(wanted: usize, limit: usize, instance_type: Option<&str>) -> Fault {
    let of = instance_type.map(|it| format!(" for {it}")).unwrap_or_default();
    Fault::new(
        "PrivateIpAddressLimitExceeded",
        format!("Number of private addresses will exceed limit{of}: {wanted} of {limit}."),
    )
}

/// The most addresses and prefixes the interface may hold where it is.
pub(crate) fn limit_of<'a>(
    state: &'a State,
    interface: &NetworkInterface,
) -> (usize, Option<&'a str>) {
    let instance =
        interface.attachment.as_ref().and_then(|it| state.instances.get(&it.instance_id));
    let Some(instance) = instance else { return (UNATTACHED_LIMIT, None) };
    let facts = instance_types::find(&instance.instance_type);
    let limit = facts.and_then(|it| usize::try_from(it.ipv4_per_eni).ok());
    (limit.unwrap_or(UNATTACHED_LIMIT), Some(&instance.instance_type))
}

/// Refuses everyone but services where a service manages the interface.
pub(crate) fn refuse_foreign(call: &Call<'_>, interface: &NetworkInterface) -> Result<(), Fault> {
    match &interface.requester {
        Some(requester) if !call.caller.is_service() => Err(Fault::new(
            "OperationNotPermitted",
            format!("The network interface '{}' is managed by {requester}.", interface.id),
        )),
        _ => Ok(()),
    }
}

pub(crate) fn delete(
    call: &Call<'_>,
    state: &mut State,
    request: DeleteNetworkInterfaceRequest,
) -> Result<DeleteNetworkInterfaceResponse, Fault> {
    let id = request.network_interface_id;
    let interface = state.network_interfaces.find(&id)?;
    refuse_foreign(call, interface)?;
    if interface.attachment.is_some() {
        return Err(Fault::new(
            "InvalidNetworkInterface.InUse",
            format!("The network interface '{id}' is currently in use."),
        ));
    }
    trunks::refuse_with_branches(state, &id)?;
    if state.nat_gateways.iter().any(|it| it.network_interface_id == id && it.deleted_at.is_none())
    {
        return Err(Fault::new(
            "InvalidNetworkInterface.InUse",
            format!("The network interface '{id}' is currently in use by a NAT gateway."),
        ));
    }
    remove(state, &id)?;
    Ok(DeleteNetworkInterfaceResponse {})
}

/// Forgets the interface and frees what it held.
pub(crate) fn remove(state: &mut State, id: &str) -> Result<(), Fault> {
    release_branches(state, id)?;
    let interface = state.network_interfaces.remove(id)?;
    for public in &interface.public_addresses {
        if let Some(allocation) = &public.allocation_id {
            state.addresses.edit(allocation)?.association = None;
        }
    }
    Ok(())
}

pub(crate) fn describe(
    call: &Call<'_>,
    state: &State,
    request: DescribeNetworkInterfacesRequest,
) -> Result<DescribeNetworkInterfacesResponse, Fault> {
    let query = query_of!(request, network_interface_ids);
    let (found, next_token) = query::run(&state.network_interfaces, query, |it, name| {
        shape::attribute(call, state, it, name)
    })?;
    let network_interfaces = found.into_iter().map(|it| answer(call, state, it)).collect();
    Ok(DescribeNetworkInterfacesResponse { network_interfaces, next_token })
}
