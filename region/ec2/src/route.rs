//! Routes: where a subnet's packets go that are not for the VPC itself, and some that are.
//!
//! Deviation: the local route cannot be replaced.

use std::net::Ipv4Addr;

use aws_ec2::route_table::{
    self, CreateRouteRequest, CreateRouteResponse, DeleteRouteRequest, DeleteRouteResponse,
    ReplaceRouteRequest, ReplaceRouteResponse,
};
use aws_wire::Fault;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{
    Call, egress_only_internet_gateways, faults, prefix_lists,
    records::{Destination, InstanceState, NetworkInterface, Route, RouteTable, RouteTarget},
    state::State,
    vpc_endpoints,
};

/// Default quota per route table.
const LIMIT: usize = 50;

pub(crate) fn create(
    _call: &Call<'_>,
    state: &mut State,
    request: CreateRouteRequest,
) -> Result<CreateRouteResponse, Fault> {
    let list = request.destination_prefix_list_id.as_deref();
    let ipv6 = request.destination_ipv6_cidr_block.as_deref();
    let destination = destination(request.destination_cidr_block.as_deref(), ipv6, list)?;
    let table = state.route_tables.find(&request.route_table_id)?;
    let target = Asked {
        gateway_id: request.gateway_id,
        egress_only_internet_gateway_id: request.egress_only_internet_gateway_id,
        nat_gateway_id: request.nat_gateway_id,
        network_interface_id: request.network_interface_id,
        instance_id: request.instance_id,
    };
    let target = target.resolve(state, table)?;
    check_destination(state, table, &destination, &target)?;
    if let Some(known) = table.routes.iter().find(|it| it.destination == destination) {
        if known.target == target {
            return Ok(CreateRouteResponse { r#return: Some(true) });
        }
        return Err(Fault::new(
            "RouteAlreadyExists",
            format!("The route identified by {destination} already exists."),
        ));
    }
    let route = Route { destination, target };
    check_quota(state, table, &route)?;
    state.route_tables.edit(&request.route_table_id)?.routes.push(route);
    Ok(CreateRouteResponse { r#return: Some(true) })
}

pub(crate) fn replace(
    _call: &Call<'_>,
    state: &mut State,
    request: ReplaceRouteRequest,
) -> Result<ReplaceRouteResponse, Fault> {
    let list = request.destination_prefix_list_id.as_deref();
    let ipv6 = request.destination_ipv6_cidr_block.as_deref();
    let destination = destination(request.destination_cidr_block.as_deref(), ipv6, list)?;
    let table = state.route_tables.find(&request.route_table_id)?;
    let target = Asked {
        gateway_id: request.gateway_id,
        egress_only_internet_gateway_id: request.egress_only_internet_gateway_id,
        nat_gateway_id: request.nat_gateway_id,
        network_interface_id: request.network_interface_id,
        instance_id: request.instance_id,
    };
    let target = target.resolve(state, table)?;
    check_destination(state, table, &destination, &target)?;
    let table = state.route_tables.edit(&request.route_table_id)?;
    let route = table.routes.iter_mut().find(|it| it.destination == destination);
    route.ok_or_else(|| no_route(&request.route_table_id, &destination))?.target = target;
    Ok(ReplaceRouteResponse {})
}

pub(crate) fn delete(
    _call: &Call<'_>,
    state: &mut State,
    request: DeleteRouteRequest,
) -> Result<DeleteRouteResponse, Fault> {
    let list = request.destination_prefix_list_id.as_deref();
    if let Some(id) = list.filter(|it| vpc_endpoints::prefix_list(it).is_some()) {
        return Err(faults::invalid(format!(
            "cannot remove VPC endpoint route {id} in route table {}",
            request.route_table_id
        )));
    }
    let ipv6 = request.destination_ipv6_cidr_block.as_deref();
    let destination = destination(request.destination_cidr_block.as_deref(), ipv6, list)?;
    check_removable(state, &request.route_table_id, &destination)?;
    let table = state.route_tables.edit(&request.route_table_id)?;
    let before = table.routes.len();
    table.routes.retain(|it| it.destination != destination);
    if table.routes.len() == before {
        return Err(no_route(&request.route_table_id, &destination));
    }
    Ok(DeleteRouteResponse {})
}

/// The local routes stay as long as the VPC has their blocks.
fn check_removable(state: &State, id: &str, destination: &Destination) -> Result<(), Fault> {
    let vpc = state.vpcs.find(&state.route_tables.find(id)?.vpc_id)?;
    let is_local = match destination {
        Destination::Cidr(cidr) => vpc.cidrs.iter().any(|it| it.cidr == *cidr),
        Destination::Ipv6Cidr(cidr) => vpc.ipv6_cidrs.iter().any(|it| it.cidr == *cidr),
        Destination::PrefixList(_) => false,
    };
    if is_local {
        let message = format!("cannot remove local route {destination} in route table {id}");
        return Err(faults::invalid(message));
    }
    Ok(())
}

fn no_route(table: &str, destination: &Destination) -> Fault {
    let kind = match destination {
        Destination::Cidr(_) => "destination-cidr-block",
        Destination::Ipv6Cidr(_) => "destination-ipv6-cidr-block",
        Destination::PrefixList(_) => "destination-prefix-list-id",
    };
    Fault::new(
        "InvalidRoute.NotFound",
        format!("no route with {kind} {destination} in route table {table}"),
    )
}

fn destination(
    cidr: Option<&str>,
    ipv6: Option<&str>,
    list: Option<&str>,
) -> Result<Destination, Fault> {
    match (cidr, ipv6, list) {
        (Some(cidr), None, None) => {
            let parsed: Result<Ipv4Net, _> = cidr.parse();
            let parsed = parsed.map_err(|_| faults::invalid_value("destinationCidrBlock", cidr))?;
            Ok(Destination::Cidr(parsed.trunc()))
        }
        (None, Some(cidr), None) => {
            let parsed: Result<Ipv6Net, _> = cidr.parse();
            let parsed =
                parsed.map_err(|_| faults::invalid_value("destinationIpv6CidrBlock", cidr))?;
            Ok(Destination::Ipv6Cidr(parsed.trunc()))
        }
        (None, None, Some(id)) => Ok(Destination::PrefixList(id.to_owned())),
        (None, None, None) => Err(faults::missing("destinationCidrBlock")),
        _ => Err(faults::combination("Exactly one route destination must be given.")),
    }
}

/// The local route cannot be shadowed by one that is not more specific, and by those only for the
/// sake of an interface, in front of a whole subnet.
fn check_destination(
    state: &State,
    table: &RouteTable,
    destination: &Destination,
    target: &RouteTarget,
) -> Result<(), Fault> {
    let is_egress_only = matches!(target, RouteTarget::EgressOnlyInternetGateway(_));
    let cidr = match destination {
        Destination::Ipv6Cidr(cidr) => return check_ipv6_destination(state, table, *cidr, target),
        _ if is_egress_only => {
            return Err(faults::invalid(
                "An egress-only internet gateway is for routes of IPv6 CIDR blocks only.",
            ));
        }
        Destination::Cidr(cidr) => *cidr,
        Destination::PrefixList(id) if vpc_endpoints::prefix_list(id).is_some() => {
            return Err(faults::invalid(
                "Cannot create or replace a prefix list route targeting a VPC Endpoint.",
            ));
        }
        Destination::PrefixList(id) => return prefix_lists::weight(state, id).map(drop),
    };
    let vpc = state.vpcs.find(&table.vpc_id)?;
    if vpc.cidrs.iter().any(|it| it.cidr == cidr) {
        return Err(Fault::new(
            "RouteAlreadyExists",
            format!("The route identified by {cidr} already exists."),
        ));
    }
    if !vpc.contains(&cidr) {
        return Ok(());
    }
    if !matches!(target, RouteTarget::NetworkInterface(_)) {
        return Err(faults::invalid(format!(
            "The destination CIDR block {cidr} is equal to or more specific than one of this VPC's \
             CIDR blocks. This route can target only an interface or an instance."
        )));
    }
    if !state.subnets.iter().any(|it| it.vpc_id == table.vpc_id && it.cidr == cidr) {
        return Err(faults::invalid(format!(
            "The destination CIDR block {cidr} does not match the CIDR block of a subnet of the VPC."
        )));
    }
    Ok(())
}

/// The same for IPv6; a NAT gateway would have to change the family, which none does here.
fn check_ipv6_destination(
    state: &State,
    table: &RouteTable,
    cidr: Ipv6Net,
    target: &RouteTarget,
) -> Result<(), Fault> {
    if matches!(target, RouteTarget::NatGateway(_)) {
        return Err(faults::unsupported("NAT64 is not supported in this region."));
    }
    let vpc = state.vpcs.find(&table.vpc_id)?;
    if vpc.ipv6_cidrs.iter().any(|it| it.cidr == cidr) {
        return Err(Fault::new(
            "RouteAlreadyExists",
            format!("The route identified by {cidr} already exists."),
        ));
    }
    if vpc.ipv6_cidrs.iter().any(|it| it.cidr.contains(&cidr)) {
        return Err(faults::unsupported(
            "IPv6 routes more specific than the VPC's block are not supported in this region.",
        ));
    }
    if matches!(target, RouteTarget::NetworkInterface(_)) {
        return Err(faults::unsupported(
            "IPv6 routes to network interfaces are not supported in this region.",
        ));
    }
    Ok(())
}

fn check_quota(state: &State, table: &RouteTable, new: &Route) -> Result<(), Fault> {
    let mut count = 0;
    for route in table.routes.iter().chain([new]) {
        count += match &route.destination {
            Destination::Cidr(_) | Destination::Ipv6Cidr(_) => 1,
            Destination::PrefixList(id) => prefix_lists::weight(state, id)?,
        };
    }
    if count > LIMIT {
        return Err(Fault::new(
            "RouteLimitExceeded",
            "The maximum number of routes has been reached.",
        ));
    }
    Ok(())
}

/// The targets that a request names; exactly one must be there.
struct Asked {
    gateway_id: Option<String>,
    egress_only_internet_gateway_id: Option<String>,
    nat_gateway_id: Option<String>,
    network_interface_id: Option<String>,
    instance_id: Option<String>,
}

impl Asked {
    fn resolve(self, state: &State, table: &RouteTable) -> Result<RouteTarget, Fault> {
        if let Some(id) = &self.egress_only_internet_gateway_id {
            let others = [
                &self.gateway_id,
                &self.nat_gateway_id,
                &self.network_interface_id,
                &self.instance_id,
            ];
            if others.into_iter().any(Option::is_some) {
                return Err(one_target());
            }
            return egress_only_internet_gateways::target(state, &table.vpc_id, id);
        }
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
            (None, None, Some(id), None) => interface(table, state.network_interfaces.find(&id)?),
            (None, None, None, Some(id)) => {
                state.instances.find(&id)?;
                match state.interfaces_of(&id).as_slice() {
                    [only] => interface(table, only),
                    _ => Err(Fault::new(
                        "InvalidInstanceID",
                        format!(
                            "There are multiple interfaces attached to instance '{id}'. Please \
                             specify an interface ID for the operation instead."
                        ),
                    )),
                }
            }
            _ => Err(one_target()),
        }
    }
}

fn one_target() -> Fault {
    faults::combination("Exactly one route target must be given.")
}

fn interface(table: &RouteTable, interface: &NetworkInterface) -> Result<RouteTarget, Fault> {
    if interface.vpc_id != table.vpc_id {
        return Err(faults::invalid(format!(
            "route table {} and interface {} belong to different networks",
            table.id, interface.id
        )));
    }
    Ok(RouteTarget::NetworkInterface(interface.id.clone()))
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
    let vpc = state.vpcs.get(&table.vpc_id);
    let ipv6 = vpc.map(|it| it.ipv6_cidrs.as_slice()).unwrap_or_default();
    let ipv6 = ipv6.iter().map(|block| route_table::Route {
        destination_ipv6_cidr_block: Some(block.cidr.to_string()),
        gateway_id: Some("local".to_owned()),
        origin: Some("CreateRouteTable".to_owned()),
        state: Some("active".to_owned()),
        ..Default::default()
    });
    let own = table.routes.iter().map(|it| answer_one(call, state, it));
    let endpoints = gateway_endpoints(state, table).map(|(id, list)| route_table::Route {
        destination_prefix_list_id: Some(list.to_owned()),
        gateway_id: Some(id.to_owned()),
        origin: Some("CreateRoute".to_owned()),
        state: Some("active".to_owned()),
        ..Default::default()
    });
    local.chain(ipv6).chain(own).chain(endpoints).collect()
}

/// The gateway endpoints of a table, and the prefix lists that they route.
fn gateway_endpoints<'a>(
    state: &'a State,
    table: &'a RouteTable,
) -> impl Iterator<Item = (&'a str, &'static str)> {
    let its = state.vpc_endpoints.iter().filter(|it| it.route_table_ids.contains(&table.id));
    its.filter_map(|it| Some((it.id.as_str(), vpc_endpoints::routed(it)?)))
}

fn answer_one(call: &Call<'_>, state: &State, route: &Route) -> route_table::Route {
    let is_active = !matches!(next(state, &route.target), Next::Blackhole(_));
    let mut shown = route_table::Route {
        origin: Some("CreateRoute".to_owned()),
        state: Some(if is_active { "active" } else { "blackhole" }.to_owned()),
        ..Default::default()
    };
    match &route.destination {
        Destination::Cidr(cidr) => shown.destination_cidr_block = Some(cidr.to_string()),
        Destination::Ipv6Cidr(cidr) => {
            shown.destination_ipv6_cidr_block = Some(cidr.to_string());
        }
        Destination::PrefixList(id) => shown.destination_prefix_list_id = Some(id.clone()),
    }
    match &route.target {
        RouteTarget::InternetGateway(id) => shown.gateway_id = Some(id.clone()),
        RouteTarget::EgressOnlyInternetGateway(id) => {
            shown.egress_only_internet_gateway_id = Some(id.clone());
        }
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

/// What is behind a route, as a router has to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// For interfaces with a public address only.
    InternetGateway(String),
    /// For IPv6 alone.
    EgressOnlyInternetGateway(String),
    /// With its public address, if it has a way out itself.
    NatGateway {
        id: String,
        address: Option<Ipv4Addr>,
    },
    GatewayEndpoint(String),
    Interface(String),
    /// What is gone.
    Blackhole(String),
}

fn next(state: &State, target: &RouteTarget) -> Next {
    match target {
        RouteTarget::InternetGateway(id) => {
            let gateway = state.internet_gateways.get(id).filter(|it| it.vpc_id.is_some());
            gateway.map_or_else(
                || Next::Blackhole(id.clone()),
                |it| Next::InternetGateway(it.id.clone()),
            )
        }
        RouteTarget::EgressOnlyInternetGateway(id) => {
            match state.egress_only_internet_gateways.get(id) {
                Some(_) => Next::EgressOnlyInternetGateway(id.clone()),
                None => Next::Blackhole(id.clone()),
            }
        }
        RouteTarget::NatGateway(id) => {
            let gateway = state.nat_gateways.get(id).filter(|it| it.deleted_at.is_none());
            let Some(gateway) = gateway else { return Next::Blackhole(id.clone()) };
            // One in a subnet that leads back to it would go round in circles.
            let leads_out = gateway.is_public && is_public(state, &gateway.subnet_id);
            let address = gateway.public_address.filter(|_| leads_out);
            Next::NatGateway { id: id.clone(), address }
        }
        RouteTarget::NetworkInterface(id) => {
            let interface = state.network_interfaces.get(id);
            let attachment = interface.and_then(|it| state.attachment_of(it));
            let instance = attachment.filter(|it| it.is_in_place());
            let instance = instance.and_then(|it| state.instances.get(&it.instance_id));
            match instance.map(|it| it.state) {
                Some(InstanceState::Pending | InstanceState::Running) => {
                    Next::Interface(id.clone())
                }
                _ => Next::Blackhole(id.clone()),
            }
        }
    }
}

/// Deviation: a route of a list's IPv6 networks leads to gateways of the internet only.
fn ipv6_next(next: Next) -> Next {
    match next {
        Next::InternetGateway(_) | Next::EgressOnlyInternetGateway(_) => next,
        Next::NatGateway { id, .. }
        | Next::GatewayEndpoint(id)
        | Next::Interface(id)
        | Next::Blackhole(id) => Next::Blackhole(id),
    }
}

fn is_public(state: &State, subnet_id: &str) -> bool {
    let table = state.subnets.get(subnet_id).and_then(|it| state.route_table_of(it));
    let routes = table.map(|it| it.routes.as_slice()).unwrap_or_default();
    let everywhere = Destination::Cidr(Ipv4Net::default());
    routes.iter().any(|it| {
        it.destination == everywhere
            && matches!(&it.target, RouteTarget::InternetGateway(_))
            && matches!(next(state, &it.target), Next::InternetGateway(_))
    })
}

impl State {
    /// The IPv6 routes of a table beside the local ones.
    pub fn ipv6_routes(&self, table: &RouteTable) -> Vec<(Ipv6Net, Next)> {
        let (mut plain, mut listed) = (Vec::new(), Vec::new());
        for route in &table.routes {
            let next = ipv6_next(next(self, &route.target));
            match &route.destination {
                Destination::Ipv6Cidr(cidr) => plain.push((*cidr, next)),
                Destination::Cidr(_) => {}
                Destination::PrefixList(id) => {
                    let networks = prefix_lists::networks(self, id).unwrap_or_default();
                    let networks = networks.into_iter().filter_map(|it| match it {
                        IpNet::V6(net) => Some(net),
                        IpNet::V4(_) => None,
                    });
                    listed.extend(networks.map(|it| (it, next.clone())));
                }
            }
        }
        plain.into_iter().chain(listed).collect()
    }

    /// The routes of a table beside the local ones, those with prefix lists after the others.
    pub fn routes(&self, table: &RouteTable) -> Vec<(Ipv4Net, Next)> {
        let (mut plain, mut listed) = (Vec::new(), Vec::new());
        for route in &table.routes {
            let next = next(self, &route.target);
            match &route.destination {
                Destination::Cidr(cidr) => plain.push((*cidr, next)),
                Destination::Ipv6Cidr(_) => {}
                Destination::PrefixList(id) => {
                    let networks = prefix_lists::networks(self, id).unwrap_or_default();
                    let networks = networks.into_iter().filter_map(|it| match it {
                        IpNet::V4(net) => Some(net),
                        IpNet::V6(_) => None,
                    });
                    listed.extend(networks.map(|it| (it, next.clone())));
                }
            }
        }
        let endpoints = gateway_endpoints(self, table).filter_map(|(id, list)| {
            let network = vpc_endpoints::prefix_list(list)?;
            Some((network, Next::GatewayEndpoint(id.to_owned())))
        });
        plain.into_iter().chain(listed).chain(endpoints).collect()
    }
}
