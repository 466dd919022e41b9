//! VPC endpoints: what lets a subnet reach AWS's services without a way out.
//!
//! An interface endpoint has an interface of EC2's in each of its subnets; a gateway endpoint is
//! a route in its tables. Both are enforced by whoever compiles the VPC.

use std::net::Ipv4Addr;

use aws_ec2::vpc_endpoint::{
    self, CreateVpcEndpointRequest, CreateVpcEndpointResponse, DeleteVpcEndpointsRequest,
    DeleteVpcEndpointsResponse, DescribePrefixListsRequest, DescribePrefixListsResponse,
    DescribeVpcEndpointsRequest, DescribeVpcEndpointsResponse, ModifyVpcEndpointRequest,
    ModifyVpcEndpointResponse, PrefixList, SecurityGroupIdentifier, UnsuccessfulItem,
    UnsuccessfulItemError,
};
use aws_wire::Fault;
use ipnet::Ipv4Net;

use crate::{
    Call, client_tokens, faults, managed, names,
    network_interfaces::{self, Wanted},
    query::{self, Values, many, one, query_of},
    records::VpcEndpoint,
    state::State,
    tagging,
};

const TYPE: &str = "vpc-endpoint";
const OPEN_POLICY: &str =
    r#"{"Statement":[{"Action":"*","Effect":"Allow","Principal":"*","Resource":"*"}]}"#;

pub(crate) fn create(
    call: &Call<'_>,
    state: &mut State,
    request: CreateVpcEndpointRequest,
) -> Result<CreateVpcEndpointResponse, Fault> {
    let client_token = request.client_token.clone();
    let token = client_token.as_deref();
    let id = client_tokens::once(call, state, "CreateVpcEndpoint", token, request, |state, it| {
        made(call, state, it)
    })?;
    let vpc_endpoint = Some(answer(call, state, state.vpc_endpoints.find(&id)?));
    Ok(CreateVpcEndpointResponse { vpc_endpoint, client_token })
}

fn made(
    call: &Call<'_>,
    state: &mut State,
    request: CreateVpcEndpointRequest,
) -> Result<String, Fault> {
    state.vpcs.find(&request.vpc_id)?;
    let service_name = request.service_name.ok_or_else(|| faults::missing("ServiceName"))?;
    let offered = managed::kind_of_service(call, &service_name)?;
    let kind = request.vpc_endpoint_type.unwrap_or("Gateway".to_owned());
    if kind != offered {
        let told =
            format!("Endpoint type ({kind}) does not match available service types ([{offered}]).");
        return Err(Fault::new("InvalidParameter", told));
    }
    let tags = tagging::of_specifications(call, &request.tag_specifications, TYPE, &[TYPE])?;
    let mut endpoint = VpcEndpoint {
        id: entropy::aws_id("vpce"),
        vpc_id: request.vpc_id,
        service_name,
        kind,
        route_table_ids: request.route_table_ids,
        subnet_ids: Vec::new(),
        security_groups: request.security_group_ids,
        network_interface_ids: Vec::new(),
        private_dns_enabled: request.private_dns_enabled.unwrap_or(true),
        policy: request.policy_document.unwrap_or(OPEN_POLICY.to_owned()),
        created_at: call.now,
        tags,
    };
    check_gateway(state, &endpoint, &endpoint.route_table_ids)?;
    if endpoint.kind == "Interface" && endpoint.security_groups.is_empty() {
        let mut own = state.security_groups.iter().filter(|it| it.vpc_id == endpoint.vpc_id);
        endpoint
            .security_groups
            .extend(own.find(|it| it.name == "default").map(|it| it.id.clone()));
    }
    for subnet in &request.subnet_ids {
        enter_subnet(state, &mut endpoint, subnet)?;
    }
    let id = endpoint.id.clone();
    state.vpc_endpoints.insert(endpoint);
    Ok(id)
}

fn enter_subnet(state: &mut State, endpoint: &mut VpcEndpoint, subnet: &str) -> Result<(), Fault> {
    let wanted = Wanted {
        security_groups: endpoint.security_groups.clone(),
        description: format!("VPC Endpoint Interface {}", endpoint.id),
        requester: Some("vpce.amazonaws.com".to_owned()),
        ..Wanted::default()
    };
    let interface = network_interfaces::make(state, subnet, wanted)?;
    state.network_interfaces.edit(&interface.id)?.interface_type = "vpc_endpoint".to_owned();
    endpoint.subnet_ids.push(subnet.to_owned());
    endpoint.network_interface_ids.push(interface.id);
    Ok(())
}

/// Each endpoint is deleted or not on its own.
pub(crate) fn delete(
    _call: &Call<'_>,
    state: &mut State,
    request: DeleteVpcEndpointsRequest,
) -> Result<DeleteVpcEndpointsResponse, Fault> {
    let mut unsuccessful = Vec::new();
    for id in request.vpc_endpoint_ids {
        match state.vpc_endpoints.remove(&id) {
            Ok(endpoint) => {
                for interface in &endpoint.network_interface_ids {
                    network_interfaces::remove(state, interface)?;
                }
            }
            Err(fault) => {
                let error = UnsuccessfulItemError {
                    code: Some(fault.code.into_owned()),
                    message: Some(fault.message),
                };
                unsuccessful.push(UnsuccessfulItem { error: Some(error), resource_id: Some(id) });
            }
        }
    }
    Ok(DeleteVpcEndpointsResponse { unsuccessful })
}

pub(crate) fn modify(
    _call: &Call<'_>,
    state: &mut State,
    request: ModifyVpcEndpointRequest,
) -> Result<ModifyVpcEndpointResponse, Fault> {
    let mut endpoint = state.vpc_endpoints.find(&request.vpc_endpoint_id)?.clone();
    check_gateway(state, &endpoint, &request.add_route_table_ids)?;
    endpoint.route_table_ids.retain(|it| !request.remove_route_table_ids.contains(it));
    endpoint.route_table_ids.extend(request.add_route_table_ids);
    endpoint.security_groups.retain(|it| !request.remove_security_group_ids.contains(it));
    endpoint.security_groups.extend(request.add_security_group_ids);
    for subnet in &request.remove_subnet_ids {
        let position = endpoint.subnet_ids.iter().position(|it| it == subnet);
        let position = position.ok_or_else(|| faults::invalid_value("RemoveSubnetIds", subnet))?;
        endpoint.subnet_ids.remove(position);
        let interface = endpoint.network_interface_ids.remove(position);
        network_interfaces::remove(state, &interface)?;
    }
    for subnet in &request.add_subnet_ids {
        enter_subnet(state, &mut endpoint, subnet)?;
    }
    for interface in &endpoint.network_interface_ids {
        let groups = endpoint.security_groups.iter().cloned().collect();
        state.network_interfaces.edit(interface)?.security_groups = groups;
    }
    if let Some(enabled) = request.private_dns_enabled {
        endpoint.private_dns_enabled = enabled;
    }
    if request.reset_policy == Some(true) {
        endpoint.policy = OPEN_POLICY.to_owned();
    }
    endpoint.policy = request.policy_document.unwrap_or(endpoint.policy);
    state.vpc_endpoints.insert(endpoint);
    Ok(ModifyVpcEndpointResponse { r#return: Some(true) })
}

pub(crate) fn describe(
    call: &Call<'_>,
    state: &State,
    request: DescribeVpcEndpointsRequest,
) -> Result<DescribeVpcEndpointsResponse, Fault> {
    let query = query_of!(request, vpc_endpoint_ids);
    let (found, next_token) = query::run(&state.vpc_endpoints, query, attribute)?;
    let vpc_endpoints = found.into_iter().map(|it| answer(call, state, it)).collect();
    Ok(DescribeVpcEndpointsResponse { vpc_endpoints, next_token })
}

fn attribute(endpoint: &VpcEndpoint, name: &str) -> Values {
    match name {
        "vpc-endpoint-id" => one(&endpoint.id),
        "vpc-id" => one(&endpoint.vpc_id),
        "service-name" => one(&endpoint.service_name),
        "vpc-endpoint-type" => one(&endpoint.kind),
        "vpc-endpoint-state" => one("available"),
        "ip-address-type" => one("ipv4"),
        "subnet-id" => many(&endpoint.subnet_ids),
        _ => None,
    }
}

fn answer(call: &Call<'_>, state: &State, endpoint: &VpcEndpoint) -> vpc_endpoint::VpcEndpoint {
    let group = |id: &String| SecurityGroupIdentifier {
        group_id: Some(id.clone()),
        group_name: state.security_groups.get(id).map(|it| it.name.clone()),
    };
    vpc_endpoint::VpcEndpoint {
        vpc_endpoint_id: Some(endpoint.id.clone()),
        vpc_endpoint_type: Some(endpoint.kind.clone()),
        vpc_id: Some(endpoint.vpc_id.clone()),
        service_name: Some(endpoint.service_name.clone()),
        state: Some("available".to_owned()),
        policy_document: Some(endpoint.policy.clone()),
        route_table_ids: endpoint.route_table_ids.clone(),
        subnet_ids: endpoint.subnet_ids.clone(),
        groups: endpoint.security_groups.iter().map(group).collect(),
        ip_address_type: Some("ipv4".to_owned()),
        private_dns_enabled: Some(endpoint.kind == "Interface" && endpoint.private_dns_enabled),
        requester_managed: Some(false),
        network_interface_ids: endpoint.network_interface_ids.clone(),
        creation_timestamp: Some(names::date(endpoint.created_at)),
        tags: tagging::answer(&endpoint.tags),
        owner_id: Some(call.config.account.clone()),
        ..Default::default()
    }
}

pub(crate) const PREFIX_LISTS: [(&str, &str); 2] =
    [("pl-63a5400a", "s3"), ("pl-02cd2c6b", "dynamodb")];

/// Where a VPC finds those services, in the same order.
const NETWORKS: [Ipv4Net; 2] = [
    Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 1), 32),
    Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 2), 32),
];

/// The network that a prefix list of AWS's stands for; `None` when there is no such list.
pub(crate) fn prefix_list(id: &str) -> Option<Ipv4Net> {
    let index = PREFIX_LISTS.iter().position(|(known, _)| *known == id)?;
    Some(NETWORKS[index])
}

/// The prefix list that an endpoint of kind `Gateway` routes.
pub(crate) fn routed(endpoint: &VpcEndpoint) -> Option<&'static str> {
    let service = endpoint.service_name.rsplit('.').next().filter(|_| endpoint.kind == "Gateway");
    PREFIX_LISTS.iter().find(|(_, it)| Some(*it) == service).map(|(id, _)| *id)
}

/// A gateway endpoint is for S3 or DynamoDB, and a table has one for each of them.
fn check_gateway(state: &State, endpoint: &VpcEndpoint, tables: &[String]) -> Result<(), Fault> {
    let Some(list) = routed(endpoint) else { return Ok(()) };
    for table in tables {
        if state.route_tables.find(table)?.vpc_id != endpoint.vpc_id {
            return Err(faults::invalid(format!(
                "Route table {table} and network {} belong to different networks",
                endpoint.vpc_id
            )));
        }
        let mut others = state.vpc_endpoints.iter().filter(|it| it.id != endpoint.id);
        if others.any(|it| routed(it) == Some(list) && it.route_table_ids.contains(table)) {
            return Err(Fault::new(
                "RouteAlreadyExists",
                format!(
                    "route table {table} already has a route with destination-prefix-list-id \
                     {list}"
                ),
            ));
        }
    }
    Ok(())
}

/// The lists that gateway endpoints route. Deviation: each holds one address, the service's.
pub(crate) fn describe_prefix_lists(
    call: &Call<'_>,
    _state: &State,
    request: DescribePrefixListsRequest,
) -> Result<DescribePrefixListsResponse, Fault> {
    let mut prefix_lists = Vec::new();
    for (id, service) in PREFIX_LISTS {
        let name = format!("com.amazonaws.{}.{service}", call.config.region);
        let is_named =
            request.prefix_list_ids.is_empty() || request.prefix_list_ids.iter().any(|it| it == id);
        let passes = query::passes(&request.filters, query::no_tags(), |it| match it {
            "prefix-list-id" => one(id),
            "prefix-list-name" => one(&name),
            _ => None,
        })?;
        if is_named && passes {
            prefix_lists.push(PrefixList {
                cidrs: prefix_list(id).iter().map(ToString::to_string).collect(),
                prefix_list_id: Some(id.to_owned()),
                prefix_list_name: Some(name),
            });
        }
    }
    Ok(DescribePrefixListsResponse { next_token: None, prefix_lists })
}
