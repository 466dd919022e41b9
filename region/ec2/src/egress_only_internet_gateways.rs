//! Egress-only internet gateways: the way out of IPv6, by which nobody comes in.

use aws_ec2::{
    egress_only_internet_gateway::{
        self, CreateEgressOnlyInternetGatewayRequest, CreateEgressOnlyInternetGatewayResponse,
        DeleteEgressOnlyInternetGatewayRequest, DeleteEgressOnlyInternetGatewayResponse,
        DescribeEgressOnlyInternetGatewaysRequest, DescribeEgressOnlyInternetGatewaysResponse,
    },
    internet_gateway::InternetGatewayAttachment,
};
use aws_wire::Fault;

use crate::{
    Call, client_tokens, faults,
    query::{self, Values, query_of},
    records::{EgressOnlyInternetGateway, RouteTarget},
    state::State,
    tagging,
};

const TYPE: &str = "egress-only-internet-gateway";

pub(crate) fn create(
    call: &Call<'_>,
    state: &mut State,
    request: CreateEgressOnlyInternetGatewayRequest,
) -> Result<CreateEgressOnlyInternetGatewayResponse, Fault> {
    let client_token = request.client_token.clone();
    let (action, token) = ("CreateEgressOnlyInternetGateway", client_token.as_deref());
    let id = client_tokens::once(call, state, action, token, request, |state, it| {
        made(call, state, it)
    })?;
    let gateway = state.egress_only_internet_gateways.find(&id)?;
    Ok(CreateEgressOnlyInternetGatewayResponse {
        egress_only_internet_gateway: Some(answer(gateway)),
        client_token,
    })
}

fn made(
    call: &Call<'_>,
    state: &mut State,
    request: CreateEgressOnlyInternetGatewayRequest,
) -> Result<String, Fault> {
    let vpc_id = state.vpcs.find(&request.vpc_id)?.id.clone();
    let tags = tagging::of_specifications(call, &request.tag_specifications, TYPE, &[TYPE])?;
    let id = entropy::aws_id("eigw");
    let gateway = EgressOnlyInternetGateway { id: id.clone(), vpc_id, tags };
    state.egress_only_internet_gateways.insert(gateway);
    Ok(id)
}

/// Routes to it stay, as black holes.
pub(crate) fn delete(
    _call: &Call<'_>,
    state: &mut State,
    request: DeleteEgressOnlyInternetGatewayRequest,
) -> Result<DeleteEgressOnlyInternetGatewayResponse, Fault> {
    state.egress_only_internet_gateways.remove(&request.egress_only_internet_gateway_id)?;
    Ok(DeleteEgressOnlyInternetGatewayResponse { return_code: Some(true) })
}

pub(crate) fn describe(
    _call: &Call<'_>,
    state: &State,
    request: DescribeEgressOnlyInternetGatewaysRequest,
) -> Result<DescribeEgressOnlyInternetGatewaysResponse, Fault> {
    let query = query_of!(request, egress_only_internet_gateway_ids);
    let (found, next_token) = query::run(&state.egress_only_internet_gateways, query, attribute)?;
    let egress_only_internet_gateways = found.into_iter().map(answer).collect();
    Ok(DescribeEgressOnlyInternetGatewaysResponse { egress_only_internet_gateways, next_token })
}

/// EC2 filters them by their tags alone.
fn attribute(_: &EgressOnlyInternetGateway, _: &str) -> Values {
    None
}

fn answer(
    gateway: &EgressOnlyInternetGateway,
) -> egress_only_internet_gateway::EgressOnlyInternetGateway {
    egress_only_internet_gateway::EgressOnlyInternetGateway {
        attachments: vec![InternetGatewayAttachment {
            state: Some("attached".to_owned()),
            vpc_id: Some(gateway.vpc_id.clone()),
        }],
        egress_only_internet_gateway_id: Some(gateway.id.clone()),
        tags: tagging::answer(&gateway.tags),
    }
}

/// The gateway as a route's target, which must be of the table's VPC.
pub(crate) fn target(state: &State, vpc_id: &str, id: &str) -> Result<RouteTarget, Fault> {
    let gateway = state.egress_only_internet_gateways.find(id)?;
    if gateway.vpc_id != vpc_id {
        return Err(faults::invalid(format!(
            "The egress only internet gateway '{id}' and the route table belong to different \
             networks"
        )));
    }
    Ok(RouteTarget::EgressOnlyInternetGateway(id.to_owned()))
}
