//! Elastic addresses, and what they are bound to.

use std::net::Ipv4Addr;

use aws_ec2::address::{
    Address, AddressAttribute, AllocateAddressRequest, AllocateAddressResponse,
    AssociateAddressRequest, AssociateAddressResponse, DescribeAddressesAttributeRequest,
    DescribeAddressesAttributeResponse, DescribeAddressesRequest, DescribeAddressesResponse,
    DisassociateAddressRequest, DisassociateAddressResponse, ReleaseAddressRequest,
    ReleaseAddressResponse,
};
use aws_wire::Fault;

use crate::{
    Call, addressing, faults,
    network_interfaces::parse_address,
    query::{self, Values, maybe, one},
    records::{ElasticIp, ElasticIpAssociation, PublicAddress},
    state::State,
    tagging,
};

const TYPE: &str = "elastic-ip";

pub(crate) fn allocate(
    call: &Call<'_>,
    state: &mut State,
    request: AllocateAddressRequest,
) -> Result<AllocateAddressResponse, Fault> {
    let tags = tagging::of_specifications(call, &request.tag_specifications, TYPE, &[TYPE])?;
    let public_address = addressing::take_public(state)?;
    let id = entropy::aws_id("eipalloc");
    state.addresses.insert(ElasticIp { id: id.clone(), public_address, association: None, tags });
    Ok(AllocateAddressResponse {
        allocation_id: Some(id),
        public_ipv4_pool: Some("amazon".to_owned()),
        domain: Some("vpc".to_owned()),
        public_ip: Some(public_address.to_string()),
    })
}

fn find<'a>(
    state: &'a State,
    allocation_id: Option<&str>,
    public_ip: Option<&str>,
) -> Result<&'a ElasticIp, Fault> {
    if let Some(id) = allocation_id {
        return state.addresses.find(id);
    }
    let public = public_ip.ok_or_else(|| faults::missing("AllocationId"))?;
    let known = state.addresses.iter().find(|it| it.public_address.to_string() == public);
    known.ok_or_else(|| {
        Fault::new("InvalidAddress.NotFound", format!("Address '{public}' not found."))
    })
}

pub(crate) fn release(
    _call: &Call<'_>,
    state: &mut State,
    request: ReleaseAddressRequest,
) -> Result<ReleaseAddressResponse, Fault> {
    let address = find(state, request.allocation_id.as_deref(), request.public_ip.as_deref())?;
    if address.association.is_some() {
        return Err(Fault::new(
            "InvalidIPAddress.InUse",
            format!("Address {} is in use.", address.public_address),
        ));
    }
    let id = address.id.clone();
    state.addresses.remove(&id)?;
    Ok(ReleaseAddressResponse {})
}

pub(crate) fn associate(
    _call: &Call<'_>,
    state: &mut State,
    request: AssociateAddressRequest,
) -> Result<AssociateAddressResponse, Fault> {
    let address = find(state, request.allocation_id.as_deref(), request.public_ip.as_deref())?;
    let (allocation, is_bound) = (address.id.clone(), address.association.is_some());
    if is_bound && request.allow_reassociation == Some(false) {
        return Err(Fault::new(
            "Resource.AlreadyAssociated",
            format!("resource {allocation} is already associated with another resource"),
        ));
    }
    let interface = match (&request.network_interface_id, &request.instance_id) {
        (Some(id), None) => state.network_interfaces.find(id)?,
        (None, Some(id)) => {
            state.instances.find(id)?;
            let primary = state.interfaces_of(id).first().copied();
            primary.ok_or_else(|| {
                Fault::new("InvalidInstanceID", format!("The instance '{id}' has no interface."))
            })?
        }
        _ => return Err(faults::missing("NetworkInterfaceId or InstanceId")),
    };
    let private = match &request.private_ip_address {
        Some(address) => parse_address(address)?,
        None => interface.primary_address,
    };
    if !interface.addresses().any(|it| it == private) {
        return Err(faults::invalid(format!(
            "Address {private} is not assigned to interface {}",
            interface.id
        )));
    }
    let interface_id = interface.id.clone();
    unbind(state, &allocation)?;
    let association_id = bind(state, &allocation, &interface_id, private)?;
    Ok(AssociateAddressResponse { association_id: Some(association_id) })
}

/// Puts the elastic address on a private one, in place of any other public address.
pub(crate) fn bind(
    state: &mut State,
    allocation: &str,
    interface_id: &str,
    private: Ipv4Addr,
) -> Result<String, Fault> {
    let replaced = state.network_interfaces.find(interface_id)?.public_of(private).cloned();
    if let Some(other) = replaced.and_then(|it| it.allocation_id) {
        unbind(state, &other)?;
    }
    let association_id = entropy::aws_id("eipassoc");
    let address = state.addresses.edit(allocation)?;
    address.association = Some(ElasticIpAssociation {
        id: association_id.clone(),
        network_interface_id: interface_id.to_owned(),
        private_address: private,
    });
    let public = address.public_address;
    let interface = state.network_interfaces.edit(interface_id)?;
    interface.public_addresses.retain(|it| it.private != private);
    interface.public_addresses.push(PublicAddress {
        private,
        public,
        allocation_id: Some(allocation.to_owned()),
        association_id: Some(association_id.clone()),
    });
    Ok(association_id)
}

fn unbind(state: &mut State, allocation: &str) -> Result<(), Fault> {
    let address = state.addresses.edit(allocation)?;
    if let Some(association) = address.association.take() {
        let interface = state.network_interfaces.edit(&association.network_interface_id)?;
        interface.public_addresses.retain(|it| it.allocation_id.as_deref() != Some(allocation));
    }
    Ok(())
}

pub(crate) fn disassociate(
    _call: &Call<'_>,
    state: &mut State,
    request: DisassociateAddressRequest,
) -> Result<DisassociateAddressResponse, Fault> {
    let named = |it: &&ElasticIp| match (&request.association_id, &request.public_ip) {
        (Some(id), _) => it.association.as_ref().is_some_and(|it| it.id == *id),
        (None, Some(public)) => it.public_address.to_string() == *public,
        (None, None) => false,
    };
    let address = state.addresses.iter().find(named).map(|it| it.id.clone());
    let address = address.ok_or_else(|| {
        Fault::new(
            "InvalidAssociationID.NotFound",
            format!(
                "The association ID '{}' does not exist",
                request.association_id.clone().unwrap_or_default()
            ),
        )
    })?;
    unbind(state, &address)?;
    Ok(DisassociateAddressResponse {})
}

pub(crate) fn describe(
    call: &Call<'_>,
    state: &State,
    request: DescribeAddressesRequest,
) -> Result<DescribeAddressesResponse, Fault> {
    let mut ids = request.allocation_ids;
    for public in &request.public_ips {
        ids.push(find(state, None, Some(public))?.id.clone());
    }
    let found = state.addresses.named(&ids)?;
    let found = query::select(
        found,
        &request.filters,
        |it| &it.tags,
        |it, name| attribute(call, state, it, name),
    )?;
    Ok(DescribeAddressesResponse {
        addresses: found.into_iter().map(|it| answer(call, state, it)).collect(),
    })
}

fn attribute(call: &Call<'_>, state: &State, address: &ElasticIp, name: &str) -> Values {
    let shown = || answer(call, state, address);
    match name {
        "allocation-id" => one(&address.id),
        "association-id" => maybe(shown().association_id),
        "domain" => one("vpc"),
        "instance-id" => maybe(shown().instance_id),
        "network-interface-id" => maybe(shown().network_interface_id),
        "network-interface-owner-id" => maybe(shown().network_interface_owner_id),
        "private-ip-address" => maybe(shown().private_ip_address),
        "public-ip" => one(address.public_address),
        _ => None,
    }
}

fn answer(call: &Call<'_>, state: &State, address: &ElasticIp) -> Address {
    let bound = address.association.as_ref();
    let interface = bound.and_then(|it| state.network_interfaces.get(&it.network_interface_id));
    let attachment = interface.and_then(|it| it.attachment.as_ref());
    Address {
        allocation_id: Some(address.id.clone()),
        association_id: bound.map(|it| it.id.clone()),
        domain: Some("vpc".to_owned()),
        network_interface_id: bound.map(|it| it.network_interface_id.clone()),
        network_interface_owner_id: bound.map(|_| call.config.account.clone()),
        private_ip_address: bound.map(|it| it.private_address.to_string()),
        tags: tagging::answer(&address.tags),
        public_ipv4_pool: Some("amazon".to_owned()),
        instance_id: attachment.map(|it| it.instance_id.clone()),
        public_ip: Some(address.public_address.to_string()),
        ..Default::default()
    }
}

/// Reverse names: none is ever set.
pub(crate) fn describe_attribute(
    _call: &Call<'_>,
    state: &State,
    request: DescribeAddressesAttributeRequest,
) -> Result<DescribeAddressesAttributeResponse, Fault> {
    let found = state.addresses.named(&request.allocation_ids)?;
    let (found, next_token) =
        query::page(found, request.max_results, request.next_token.as_deref(), |it| &it.id)?;
    let answer = |it: &ElasticIp| AddressAttribute {
        public_ip: Some(it.public_address.to_string()),
        allocation_id: Some(it.id.clone()),
        ptr_record: None,
    };
    Ok(DescribeAddressesAttributeResponse {
        addresses: found.into_iter().map(answer).collect(),
        next_token,
    })
}
