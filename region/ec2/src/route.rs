//! Routes: where a subnet's packets to the internet go.
//!
//! Deviation: a route is to `0.0.0.0/0`, through an internet or NAT gateway; others are refused, as
//! the VPC's router would not follow them. Routes of older regions that do not are described as
//! blackholes.

use aws_ec2::route_table::{
    self, CreateRouteRequest, CreateRouteResponse, DeleteRouteRequest, DeleteRouteResponse,
    ReplaceRouteRequest, ReplaceRouteResponse,
};
use aws_wire::Fault;
use ipnet::Ipv4Net;

use crate::{
    Call, faults,
    records::{Route, RouteTable, RouteTarget},
    state::State,
};

pub(crate) fn create(
    _call: &Call<'_>,
    state: &mut State,
    request: CreateRouteRequest,
) -> Result<CreateRouteResponse, Fault> {
    let destination = destination(request.destination_cidr_block.as_deref())?;
    let table = state.route_tables.find(&request.route_table_id)?;
    let target = Asked {
        gateway_id: request.gateway_id,
        nat_gateway_id: request.nat_gateway_id,
        network_interface_id: request.network_interface_id,
        instance_id: request.instance_id,
    };
    let target = target.resolve(state, table)?;
    refuse_local(state, table, destination)?;
    refuse_narrow(destination)?;
    if let Some(known) = table.routes.iter().find(|it| it.destination == destination) {
        if known.target == target {
            return Ok(CreateRouteResponse { r#return: Some(true) });
        }
        return Err(Fault::new(
            "RouteAlreadyExists",
            format!("The route identified by {destination} already exists."),
        ));
    }
    let table = state.route_tables.edit(&request.route_table_id)?;
    table.routes.push(Route { destination, target });
    Ok(CreateRouteResponse { r#return: Some(true) })
}

pub(crate) fn replace(
    _call: &Call<'_>,
    state: &mut State,
    request: ReplaceRouteRequest,
) -> Result<ReplaceRouteResponse, Fault> {
    let destination = destination(request.destination_cidr_block.as_deref())?;
    let table = state.route_tables.find(&request.route_table_id)?;
    let target = Asked {
        gateway_id: request.gateway_id,
        nat_gateway_id: request.nat_gateway_id,
        network_interface_id: request.network_interface_id,
        instance_id: request.instance_id,
    };
    let target = target.resolve(state, table)?;
    let table = state.route_tables.edit(&request.route_table_id)?;
    let route = table.routes.iter_mut().find(|it| it.destination == destination);
    route.ok_or_else(|| no_route(&request.route_table_id, destination))?.target = target;
    Ok(ReplaceRouteResponse {})
}

pub(crate) fn delete(
    _call: &Call<'_>,
    state: &mut State,
    request: DeleteRouteRequest,
) -> Result<DeleteRouteResponse, Fault> {
    let destination = destination(request.destination_cidr_block.as_deref())?;
    let table = state.route_tables.edit(&request.route_table_id)?;
    let before = table.routes.len();
    table.routes.retain(|it| it.destination != destination);
    if table.routes.len() == before {
        return Err(no_route(&request.route_table_id, destination));
    }
    Ok(DeleteRouteResponse {})
}

fn no_route(table: &str, destination: Ipv4Net) -> Fault {
    Fault::new(
        "InvalidRoute.NotFound",
        format!("no route with destination-cidr-block {destination} in route table {table}"),
    )
}

fn destination(cidr: Option<&str>) -> Result<Ipv4Net, Fault> {
    let cidr = cidr.ok_or_else(|| faults::missing("destinationCidrBlock"))?;
    let parsed: Ipv4Net =
        cidr.parse().map_err(|_| faults::invalid_value("destinationCidrBlock", cidr))?;
    Ok(parsed.trunc())
}

/// The local route cannot be shadowed by one that is not more specific.
fn refuse_local(state: &State, table: &RouteTable, destination: Ipv4Net) -> Result<(), Fault> {
    let vpc = state.vpcs.find(&table.vpc_id)?;
    if vpc.cidrs.iter().any(|it| it.cidr == destination) {
        return Err(Fault::new(
            "RouteAlreadyExists",
            format!("The route identified by {destination} already exists."),
        ));
    }
    Ok(())
}

fn refuse_narrow(destination: Ipv4Net) -> Result<(), Fault> {
    match destination.prefix_len() {
        0 => Ok(()),
        _ => Err(faults::unsupported(format!(
            "Routes to {destination} are not supported in this region, only to 0.0.0.0/0."
        ))),
    }
}

fn no_interfaces() -> Fault {
    faults::unsupported(
        "Routes to network interfaces and instances are not supported in this region.",
    )
}

/// The targets that a request names; exactly one must be there.
struct Asked {
    gateway_id: Option<String>,
    nat_gateway_id: Option<String>,
    network_interface_id: Option<String>,
    instance_id: Option<String>,
}

impl Asked {
    fn resolve(self, state: &State, table: &RouteTable) -> Result<RouteTarget, Fault> {
        match (self.gateway_id, self.nat_gateway_id, self.network_interface_id, self.instance_id) {
            (Some(id), None, None, None) => {
                let gateway = state.internet_gateways.get(&id).ok_or_else(|| {
                    Fault::new(
                        "InvalidGatewayID.NotFound",
                        format!("The gateway ID '{id}' does not exist"),
                    )
                })?;
                if gateway.vpc_id.as_ref() != Some(&table.vpc_id) {
                    return Err(faults::invalid(format!(
                        "route table {} and network gateway {id} belong to different networks",
                        table.id
                    )));
                }
                Ok(RouteTarget::InternetGateway(id))
            }
            (None, Some(id), None, None) => {
                Ok(RouteTarget::NatGateway(state.nat_gateways.find(&id)?.id.clone()))
            }
            (None, None, Some(id), None) => {
                state.network_interfaces.find(&id)?;
                Err(no_interfaces())
            }
            (None, None, None, Some(id)) => {
                state.instances.find(&id)?;
                Err(no_interfaces())
            }
            _ => Err(faults::combination("Exactly one route target must be given.")),
        }
    }
}

/// All routes of a table as EC2 lists them, the local ones first.
pub(crate) fn answer(
    call: &Call<'_>,
    state: &State,
    table: &RouteTable,
) -> Vec<route_table::Route> {
    let blocks = state.vpcs.get(&table.vpc_id).map(|it| it.cidrs.as_slice()).unwrap_or_default();
    let local = blocks.iter().map(|block| route_table::Route {
        destination_cidr_block: Some(block.cidr.to_string()),
        gateway_id: Some("local".to_owned()),
        origin: Some("CreateRouteTable".to_owned()),
        state: Some("active".to_owned()),
        ..Default::default()
    });
    local.chain(table.routes.iter().map(|it| answer_one(call, state, it))).collect()
}

fn answer_one(call: &Call<'_>, state: &State, route: &Route) -> route_table::Route {
    let mut shown = route_table::Route {
        destination_cidr_block: Some(route.destination.to_string()),
        origin: Some("CreateRoute".to_owned()),
        state: Some(if is_followed(state, route) { "active" } else { "blackhole" }.to_owned()),
        ..Default::default()
    };
    match &route.target {
        RouteTarget::InternetGateway(id) => shown.gateway_id = Some(id.clone()),
        RouteTarget::NatGateway(id) => shown.nat_gateway_id = Some(id.clone()),
        RouteTarget::NetworkInterface(id) => {
            shown.network_interface_id = Some(id.clone());
            let interface = state.network_interfaces.get(id);
            let attachment = interface.and_then(|it| it.attachment.as_ref());
            shown.instance_id = attachment.map(|it| it.instance_id.clone());
            shown.instance_owner_id = attachment.map(|_| call.config.account.clone());
        }
    }
    shown
}

fn is_followed(state: &State, route: &Route) -> bool {
    route.destination.prefix_len() == 0 && is_active(state, &route.target)
}

/// A route whose target is gone drops packets.
pub(crate) fn is_active(state: &State, target: &RouteTarget) -> bool {
    match target {
        RouteTarget::InternetGateway(id) => {
            state.internet_gateways.get(id).is_some_and(|it| it.vpc_id.is_some())
        }
        RouteTarget::NatGateway(id) => {
            state.nat_gateways.get(id).is_some_and(|it| it.deleted_at.is_none())
        }
        RouteTarget::NetworkInterface(_) => false,
    }
}
