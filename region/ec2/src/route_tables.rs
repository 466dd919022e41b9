//! Route tables: their routes and which subnets use them.
//!
//! A VPC's local routes are not stored: they follow from its blocks and cannot be removed.

use aws_ec2::route_table::{
    self, AssociateRouteTableRequest, AssociateRouteTableResponse, CreateRouteTableRequest,
    CreateRouteTableResponse, DeleteRouteTableRequest, DeleteRouteTableResponse,
    DescribeRouteTablesRequest, DescribeRouteTablesResponse, DisassociateRouteTableRequest,
    DisassociateRouteTableResponse, ReplaceRouteTableAssociationRequest,
    ReplaceRouteTableAssociationResponse, RouteTableAssociationState,
};
use aws_wire::Fault;

use crate::{
    Call, client_tokens, faults,
    query::{self, Values, many, one, query_of},
    records::{RouteTable, RouteTableAssociation},
    route,
    state::State,
    tagging,
};

pub(crate) fn create(
    call: &Call<'_>,
    state: &mut State,
    request: CreateRouteTableRequest,
) -> Result<CreateRouteTableResponse, Fault> {
    let client_token = request.client_token.clone();
    let token = client_token.as_deref();
    let id = client_tokens::once(call, state, "CreateRouteTable", token, request, |state, it| {
        made(call, state, it)
    })?;
    let route_table = Some(answer(call, state, state.route_tables.find(&id)?));
    Ok(CreateRouteTableResponse { route_table, client_token })
}

fn made(
    call: &Call<'_>,
    state: &mut State,
    request: CreateRouteTableRequest,
) -> Result<String, Fault> {
    const TYPE: &str = "route-table";
    state.vpcs.find(&request.vpc_id)?;
    let tags = tagging::of_specifications(call, &request.tag_specifications, TYPE, &[TYPE])?;
    let id = entropy::aws_id("rtb");
    let table = RouteTable {
        id: id.clone(),
        vpc_id: request.vpc_id,
        routes: Vec::new(),
        associations: Vec::new(),
        tags,
    };
    state.route_tables.insert(table);
    Ok(id)
}

pub(crate) fn delete(
    _call: &Call<'_>,
    state: &mut State,
    request: DeleteRouteTableRequest,
) -> Result<DeleteRouteTableResponse, Fault> {
    let table = state.route_tables.find(&request.route_table_id)?;
    if !table.associations.is_empty() {
        return Err(faults::dependency(format!(
            "The routeTable '{}' has dependencies and cannot be deleted.",
            table.id
        )));
    }
    state.route_tables.remove(&request.route_table_id)?;
    Ok(DeleteRouteTableResponse {})
}

pub(crate) fn associate(
    _call: &Call<'_>,
    state: &mut State,
    request: AssociateRouteTableRequest,
) -> Result<AssociateRouteTableResponse, Fault> {
    if request.gateway_id.is_some() {
        return Err(faults::unsupported("Edge associations are not supported in this region."));
    }
    let subnet_id = request.subnet_id.ok_or_else(|| faults::missing("subnetId"))?;
    let subnet = state.subnets.find(&subnet_id)?;
    let table = state.route_tables.find(&request.route_table_id)?;
    if table.vpc_id != subnet.vpc_id {
        return Err(faults::invalid(format!(
            "Route table {} and network {subnet_id} belong to different networks",
            table.id
        )));
    }
    let known = |it: &RouteTableAssociation| it.subnet_id.as_ref() == Some(&subnet_id);
    if let Some(same) = table.associations.iter().find(|it| known(it)) {
        return Ok(associated(&same.id));
    }
    if state.route_tables.iter().any(|it| it.associations.iter().any(known)) {
        return Err(Fault::new(
            "Resource.AlreadyAssociated",
            format!(
                "the specified association for route table conflicts with an existing association: {subnet_id}"
            ),
        ));
    }
    let id = entropy::aws_id("rtbassoc");
    let association = RouteTableAssociation { id: id.clone(), subnet_id: Some(subnet_id) };
    state.route_tables.edit(&request.route_table_id)?.associations.push(association);
    Ok(associated(&id))
}

fn associated(id: &str) -> AssociateRouteTableResponse {
    AssociateRouteTableResponse {
        association_id: Some(id.to_owned()),
        association_state: Some(is_associated()),
    }
}

fn is_associated() -> RouteTableAssociationState {
    RouteTableAssociationState { state: Some("associated".to_owned()), status_message: None }
}

pub(crate) fn disassociate(
    _call: &Call<'_>,
    state: &mut State,
    request: DisassociateRouteTableRequest,
) -> Result<DisassociateRouteTableResponse, Fault> {
    let (table, association) = find_association(state, &request.association_id)?;
    if association.subnet_id.is_none() {
        return Err(faults::invalid(format!(
            "cannot disassociate the main route table association {}",
            request.association_id
        )));
    }
    let table = state.route_tables.edit(&table)?;
    table.associations.retain(|it| it.id != request.association_id);
    Ok(DisassociateRouteTableResponse {})
}

/// Also how another table becomes the VPC's main one.
pub(crate) fn replace_association(
    _call: &Call<'_>,
    state: &mut State,
    request: ReplaceRouteTableAssociationRequest,
) -> Result<ReplaceRouteTableAssociationResponse, Fault> {
    let (old, mut association) = find_association(state, &request.association_id)?;
    let new = state.route_tables.find(&request.route_table_id)?.id.clone();
    state.route_tables.edit(&old)?.associations.retain(|it| it.id != request.association_id);
    association.id = entropy::aws_id("rtbassoc");
    let new_association_id = Some(association.id.clone());
    state.route_tables.edit(&new)?.associations.push(association);
    Ok(ReplaceRouteTableAssociationResponse {
        new_association_id,
        association_state: Some(is_associated()),
    })
}

fn find_association(state: &State, id: &str) -> Result<(String, RouteTableAssociation), Fault> {
    let found = state.route_tables.iter().find_map(|table| {
        let association = table.associations.iter().find(|it| it.id == id)?;
        Some((table.id.clone(), association.clone()))
    });
    found.ok_or_else(|| {
        Fault::new(
            "InvalidAssociationID.NotFound",
            format!("The association ID '{id}' does not exist"),
        )
    })
}

pub(crate) fn describe(
    call: &Call<'_>,
    state: &State,
    request: DescribeRouteTablesRequest,
) -> Result<DescribeRouteTablesResponse, Fault> {
    let query = query_of!(request, route_table_ids);
    let (found, next_token) =
        query::run(&state.route_tables, query, |it, name| attribute(call, state, it, name))?;
    let route_tables = found.into_iter().map(|it| answer(call, state, it)).collect();
    Ok(DescribeRouteTablesResponse { route_tables, next_token })
}

fn attribute(call: &Call<'_>, state: &State, table: &RouteTable, name: &str) -> Values {
    let shown = || route::answer(call, state, table);
    let associations = &table.associations;
    match name {
        "route-table-id" => one(&table.id),
        "vpc-id" => one(&table.vpc_id),
        "owner-id" => one(&call.config.account),
        "association.main" => many(associations.iter().map(|it| it.subnet_id.is_none())),
        "association.route-table-id" => many(associations.iter().map(|_| &table.id)),
        "association.route-table-association-id" => many(associations.iter().map(|it| &it.id)),
        "association.subnet-id" => many(associations.iter().filter_map(|it| it.subnet_id.as_ref())),
        "association.gateway-id" => Some(Vec::new()),
        "route.destination-cidr-block" => {
            many(shown().into_iter().filter_map(|it| it.destination_cidr_block))
        }
        "route.gateway-id" => many(shown().into_iter().filter_map(|it| it.gateway_id)),
        "route.nat-gateway-id" => many(shown().into_iter().filter_map(|it| it.nat_gateway_id)),
        "route.instance-id" => many(shown().into_iter().filter_map(|it| it.instance_id)),
        "route.origin" => many(shown().into_iter().filter_map(|it| it.origin)),
        "route.state" => many(shown().into_iter().filter_map(|it| it.state)),
        "route.destination-prefix-list-id" => {
            many(shown().into_iter().filter_map(|it| it.destination_prefix_list_id))
        }
        "route.destination-ipv6-cidr-block"
        | "route.transit-gateway-id"
        | "route.vpc-peering-connection-id"
        | "route.egress-only-internet-gateway-id" => Some(Vec::new()),
        _ => None,
    }
}

pub(crate) fn answer(
    call: &Call<'_>,
    state: &State,
    table: &RouteTable,
) -> route_table::RouteTable {
    let association = |it: &RouteTableAssociation| route_table::RouteTableAssociation {
        main: Some(it.subnet_id.is_none()),
        route_table_association_id: Some(it.id.clone()),
        route_table_id: Some(table.id.clone()),
        subnet_id: it.subnet_id.clone(),
        association_state: Some(is_associated()),
        ..Default::default()
    };
    route_table::RouteTable {
        associations: table.associations.iter().map(association).collect(),
        propagating_vgws: Vec::new(),
        route_table_id: Some(table.id.clone()),
        routes: route::answer(call, state, table),
        tags: tagging::answer(&table.tags),
        vpc_id: Some(table.vpc_id.clone()),
        owner_id: Some(call.config.account.clone()),
    }
}
