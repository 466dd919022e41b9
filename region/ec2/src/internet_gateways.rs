//! Internet gateways.

use aws_ec2::internet_gateway::{
    self, AttachInternetGatewayRequest, AttachInternetGatewayResponse,
    CreateInternetGatewayRequest, CreateInternetGatewayResponse, DeleteInternetGatewayRequest,
    DeleteInternetGatewayResponse, DescribeInternetGatewaysRequest,
    DescribeInternetGatewaysResponse, DetachInternetGatewayRequest, DetachInternetGatewayResponse,
    InternetGatewayAttachment,
};
use aws_wire::Fault;

use crate::{
    Call, faults,
    query::{self, Values, maybe, one, query_of},
    records::InternetGateway,
    state::State,
    tagging,
};

pub(crate) fn create(
    call: &Call<'_>,
    state: &mut State,
    request: CreateInternetGatewayRequest,
) -> Result<CreateInternetGatewayResponse, Fault> {
    const TYPE: &str = "internet-gateway";
    let tags = tagging::of_specifications(call, &request.tag_specifications, TYPE, &[TYPE])?;
    let gateway = InternetGateway { id: entropy::aws_id("igw"), vpc_id: None, tags };
    state.internet_gateways.insert(gateway.clone());
    Ok(CreateInternetGatewayResponse { internet_gateway: Some(answer(call, &gateway)) })
}

pub(crate) fn delete(
    _call: &Call<'_>,
    state: &mut State,
    request: DeleteInternetGatewayRequest,
) -> Result<DeleteInternetGatewayResponse, Fault> {
    let id = request.internet_gateway_id;
    if state.internet_gateways.find(&id)?.vpc_id.is_some() {
        return Err(faults::dependency(format!(
            "The internetGateway '{id}' has dependencies and cannot be deleted."
        )));
    }
    state.internet_gateways.remove(&id)?;
    Ok(DeleteInternetGatewayResponse {})
}

pub(crate) fn attach(
    _call: &Call<'_>,
    state: &mut State,
    request: AttachInternetGatewayRequest,
) -> Result<AttachInternetGatewayResponse, Fault> {
    let id = request.internet_gateway_id;
    state.vpcs.find(&request.vpc_id)?;
    if state.internet_gateways.find(&id)?.vpc_id.is_some() {
        return Err(Fault::new(
            "Resource.AlreadyAssociated",
            format!("resource {id} is already attached to network {}", request.vpc_id),
        ));
    }
    if state.internet_gateways.iter().any(|it| it.vpc_id.as_ref() == Some(&request.vpc_id)) {
        return Err(faults::invalid(format!(
            "Network {} already has an internet gateway attached",
            request.vpc_id
        )));
    }
    state.internet_gateways.edit(&id)?.vpc_id = Some(request.vpc_id);
    Ok(AttachInternetGatewayResponse {})
}

pub(crate) fn detach(
    _call: &Call<'_>,
    state: &mut State,
    request: DetachInternetGatewayRequest,
) -> Result<DetachInternetGatewayResponse, Fault> {
    let (id, vpc_id) = (request.internet_gateway_id, request.vpc_id);
    state.vpcs.find(&vpc_id)?;
    if state.internet_gateways.find(&id)?.vpc_id.as_ref() != Some(&vpc_id) {
        return Err(Fault::new(
            "Gateway.NotAttached",
            format!("resource {id} is not attached to network {vpc_id}"),
        ));
    }
    let is_mapped = |it: &crate::records::NetworkInterface| {
        it.vpc_id == vpc_id && !it.public_addresses.is_empty()
    };
    if state.network_interfaces.iter().any(is_mapped) {
        return Err(faults::dependency(format!(
            "Network {vpc_id} has some mapped public address(es). Please unmap those public \
             address(es) before detaching the gateway."
        )));
    }
    state.internet_gateways.edit(&id)?.vpc_id = None;
    Ok(DetachInternetGatewayResponse {})
}

pub(crate) fn describe(
    call: &Call<'_>,
    state: &State,
    request: DescribeInternetGatewaysRequest,
) -> Result<DescribeInternetGatewaysResponse, Fault> {
    let query = query_of!(request, internet_gateway_ids);
    let (found, next_token) =
        query::run(&state.internet_gateways, query, |it, name| attribute(call, it, name))?;
    let internet_gateways = found.into_iter().map(|it| answer(call, it)).collect();
    Ok(DescribeInternetGatewaysResponse { internet_gateways, next_token })
}

fn attribute(call: &Call<'_>, gateway: &InternetGateway, name: &str) -> Values {
    match name {
        "internet-gateway-id" => one(&gateway.id),
        "attachment.vpc-id" => maybe(gateway.vpc_id.as_ref()),
        "attachment.state" => maybe(gateway.vpc_id.as_ref().map(|_| "available")),
        "owner-id" => one(&call.config.account),
        _ => None,
    }
}

fn answer(call: &Call<'_>, gateway: &InternetGateway) -> internet_gateway::InternetGateway {
    let attachment = |vpc_id: &String| InternetGatewayAttachment {
        state: Some("available".to_owned()),
        vpc_id: Some(vpc_id.clone()),
    };
    internet_gateway::InternetGateway {
        attachments: gateway.vpc_id.iter().map(attachment).collect(),
        internet_gateway_id: Some(gateway.id.clone()),
        owner_id: Some(call.config.account.clone()),
        tags: tagging::answer(&gateway.tags),
    }
}
