//! NAT gateways: a record, an interface in the subnet, and a target for routes.

use aws_ec2::nat_gateway::{
    self, CreateNatGatewayRequest, CreateNatGatewayResponse, DeleteNatGatewayRequest,
    DeleteNatGatewayResponse, DescribeNatGatewaysRequest, DescribeNatGatewaysResponse,
    NatGatewayAddress,
};
use aws_wire::Fault;

use crate::{
    Call, client_tokens, elastic_ips, faults, names,
    network_interfaces::{self, Wanted, parse_address},
    query::{self, Values, one},
    records::NatGateway,
    state::State,
    tagging,
};

const TYPE: &str = "natgateway";

pub(crate) fn create(
    call: &Call<'_>,
    state: &mut State,
    request: CreateNatGatewayRequest,
) -> Result<CreateNatGatewayResponse, Fault> {
    let client_token = request.client_token.clone();
    let token = client_token.as_deref();
    let id = client_tokens::once(call, state, "CreateNatGateway", token, request, |state, it| {
        made(call, state, it)
    })?;
    let nat_gateway = Some(answer(state.nat_gateways.find(&id)?));
    Ok(CreateNatGatewayResponse { client_token, nat_gateway })
}

fn made(
    call: &Call<'_>,
    state: &mut State,
    request: CreateNatGatewayRequest,
) -> Result<String, Fault> {
    let subnet_id = request.subnet_id.ok_or_else(|| faults::missing("SubnetId"))?;
    let tags = tagging::of_specifications(call, &request.tag_specifications, TYPE, &[TYPE])?;
    let is_public = request.connectivity_type.as_deref().unwrap_or("public") == "public";
    let allocation_id = match (is_public, request.allocation_id) {
        (true, None) => return Err(faults::missing("AllocationId")),
        (true, Some(id)) => {
            if state.addresses.find(&id)?.association.is_some() {
                return Err(Fault::new(
                    "Resource.AlreadyAssociated",
                    format!("Elastic IP address [{id}] is already associated"),
                ));
            }
            Some(id)
        }
        (false, _) => None,
    };
    let id = entropy::aws_id("nat");
    let primary = request.private_ip_address.as_deref().map(parse_address).transpose()?;
    let wanted = Wanted {
        primary,
        description: format!("Interface for NAT Gateway {id}"),
        requester: Some("ec2.amazonaws.com".to_owned()),
        ..Wanted::default()
    };
    let interface = network_interfaces::make(state, &subnet_id, wanted)?;
    let kept = state.network_interfaces.edit(&interface.id)?;
    kept.interface_type = "nat_gateway".to_owned();
    kept.source_dest_check = false;
    let mut public_address = None;
    if let Some(allocation) = &allocation_id {
        elastic_ips::bind(state, allocation, &interface.id, interface.primary_address)?;
        public_address = Some(state.addresses.find(allocation)?.public_address);
    }
    let gateway = NatGateway {
        id: id.clone(),
        vpc_id: interface.vpc_id.clone(),
        subnet_id,
        is_public,
        allocation_id,
        public_address,
        network_interface_id: interface.id,
        private_address: interface.primary_address,
        created_at: call.now,
        deleted_at: None,
        tags,
    };
    state.nat_gateways.insert(gateway);
    Ok(id)
}

/// A deleted gateway stays described for a while, as on EC2.
pub(crate) fn delete(
    call: &Call<'_>,
    state: &mut State,
    request: DeleteNatGatewayRequest,
) -> Result<DeleteNatGatewayResponse, Fault> {
    let gateway = state.nat_gateways.edit(&request.nat_gateway_id)?;
    let interface = gateway.network_interface_id.clone();
    if gateway.deleted_at.is_none() {
        gateway.deleted_at = Some(call.now);
        network_interfaces::remove(state, &interface)?;
    }
    Ok(DeleteNatGatewayResponse { nat_gateway_id: Some(request.nat_gateway_id) })
}

pub(crate) fn describe(
    _call: &Call<'_>,
    state: &State,
    request: DescribeNatGatewaysRequest,
) -> Result<DescribeNatGatewaysResponse, Fault> {
    let query = query::Query {
        ids: &request.nat_gateway_ids,
        filters: &request.filter,
        max_results: request.max_results,
        next_token: request.next_token.as_deref(),
    };
    let (found, next_token) = query::run(&state.nat_gateways, query, attribute)?;
    let nat_gateways = found.into_iter().map(answer).collect();
    Ok(DescribeNatGatewaysResponse { nat_gateways, next_token })
}

fn attribute(gateway: &NatGateway, name: &str) -> Values {
    match name {
        "nat-gateway-id" => one(&gateway.id),
        "state" => one(status(gateway)),
        "subnet-id" => one(&gateway.subnet_id),
        "vpc-id" => one(&gateway.vpc_id),
        _ => None,
    }
}

fn status(gateway: &NatGateway) -> &'static str {
    if gateway.deleted_at.is_some() { "deleted" } else { "available" }
}

fn answer(gateway: &NatGateway) -> nat_gateway::NatGateway {
    let address = NatGatewayAddress {
        allocation_id: gateway.allocation_id.clone(),
        network_interface_id: Some(gateway.network_interface_id.clone()),
        private_ip: Some(gateway.private_address.to_string()),
        public_ip: gateway.public_address.map(|it| it.to_string()),
        is_primary: Some(true),
        status: Some("succeeded".to_owned()),
        ..Default::default()
    };
    let kind = if gateway.is_public { "public" } else { "private" };
    nat_gateway::NatGateway {
        create_time: Some(names::date(gateway.created_at)),
        delete_time: gateway.deleted_at.map(names::date),
        nat_gateway_addresses: vec![address],
        nat_gateway_id: Some(gateway.id.clone()),
        state: Some(status(gateway).to_owned()),
        subnet_id: Some(gateway.subnet_id.clone()),
        vpc_id: Some(gateway.vpc_id.clone()),
        tags: tagging::answer(&gateway.tags),
        connectivity_type: Some(kind.to_owned()),
        ..Default::default()
    }
}
