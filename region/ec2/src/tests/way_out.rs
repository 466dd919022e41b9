//! What a subnet's packets find on their way to the internet, and to AWS's services.

use aws_ec2::{
    address::{AllocateAddress, AllocateAddressRequest},
    nat_gateway::{
        CreateNatGateway, CreateNatGatewayRequest, DeleteNatGateway, DeleteNatGatewayRequest,
    },
    network_interface::{CreateNetworkInterface, CreateNetworkInterfaceRequest},
    route_table::{
        AssociateRouteTable, AssociateRouteTableRequest, CreateRoute, CreateRouteRequest,
        CreateRouteTable, CreateRouteTableRequest, DeleteRoute, DeleteRouteRequest,
        DescribeRouteTables, DescribeRouteTablesRequest, ReplaceRoute, ReplaceRouteRequest,
    },
    security_group::{
        AuthorizeSecurityGroupEgress, AuthorizeSecurityGroupEgressRequest, IpPermissionInput,
        IpRangeInput, Ipv6RangeInput, PrefixListIdInput,
    },
    subnet::{CreateSubnet, CreateSubnetRequest},
    vpc_endpoint::{
        CreateVpcEndpoint, CreateVpcEndpointRequest, DeleteVpcEndpoints, DeleteVpcEndpointsRequest,
    },
    vpc_endpoint_service::DescribeVpcEndpointServices,
};

use super::support::*;
use crate::Next;

/// A subnet of the default VPC with a route table of its own: VPC, subnet, table.
async fn private_subnet(region: &Region) -> (String, String, String) {
    let vpc_id = region.subnets().await[0].vpc_id.clone().unwrap();
    let request = CreateSubnetRequest {
        vpc_id: vpc_id.clone(),
        cidr_block: text("192.168.96.0/24"),
        ..Default::default()
    };
    let made = region.call::<CreateSubnet>(request).await.subnet.unwrap();
    let subnet_id = made.subnet_id.unwrap();
    let request = CreateRouteTableRequest { vpc_id: vpc_id.clone(), ..Default::default() };
    let table = region.call::<CreateRouteTable>(request).await.route_table.unwrap();
    let route_table_id = table.route_table_id.unwrap();
    let associate = AssociateRouteTableRequest {
        route_table_id: route_table_id.clone(),
        subnet_id: Some(subnet_id.clone()),
        ..Default::default()
    };
    region.call::<AssociateRouteTable>(associate).await;
    (vpc_id, subnet_id, route_table_id)
}

async fn nat_gateway(region: &Region, subnet_id: &str) -> String {
    let address = region.call::<AllocateAddress>(AllocateAddressRequest::default()).await;
    let request = CreateNatGatewayRequest {
        subnet_id: text(subnet_id),
        allocation_id: address.allocation_id,
        ..Default::default()
    };
    let made = region.call::<CreateNatGateway>(request).await.nat_gateway.unwrap();
    made.nat_gateway_id.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_subnet_has_the_way_out_that_its_route_table_leads_to() {
    let region = region();
    let public = region.subnets().await[0].subnet_id.clone().unwrap();
    let (_, private, route_table_id) = private_subnet(&region).await;
    let way_out = |subnet: &str| {
        let state = region.ec2.view();
        let table = state.route_table_of(state.subnets.get(subnet).unwrap()).unwrap();
        state.routes(table).into_iter().find(|(to, _)| to.prefix_len() == 0).map(|it| it.1)
    };
    assert!(matches!(way_out(&public), Some(Next::InternetGateway(_))));
    assert_eq!(way_out(&private), None, "a table without a route");

    let nat_gateway_id = nat_gateway(&region, &public).await;
    let route = CreateRouteRequest {
        route_table_id: route_table_id.clone(),
        destination_cidr_block: text("0.0.0.0/0"),
        nat_gateway_id: Some(nat_gateway_id.clone()),
        ..Default::default()
    };
    region.call::<CreateRoute>(route).await;
    let address = region.ec2.view().nat_gateways.get(&nat_gateway_id).unwrap().public_address;
    let id = nat_gateway_id.clone();
    assert_eq!(way_out(&private), Some(Next::NatGateway { id, address }));
    assert!(address.is_some());

    let delete = DeleteNatGatewayRequest { nat_gateway_id: nat_gateway_id.clone(), dry_run: None };
    region.call::<DeleteNatGateway>(delete).await;
    assert_eq!(way_out(&private), Some(Next::Blackhole(nat_gateway_id)));

    let circular = nat_gateway(&region, &private).await;
    let route = ReplaceRouteRequest {
        route_table_id,
        destination_cidr_block: text("0.0.0.0/0"),
        nat_gateway_id: Some(circular.clone()),
        ..Default::default()
    };
    region.call::<ReplaceRoute>(route).await;
    let nowhere = Next::NatGateway { id: circular, address: None };
    assert_eq!(way_out(&private), Some(nowhere), "a NAT gateway must be in a public subnet");
}

#[tokio::test(start_paused = true)]
async fn an_interface_endpoint_takes_the_names_of_its_service_alone() {
    let region = region();
    let (vpc_id, subnet_id, _) = private_subnet(&region).await;
    let endpoint = |service: &str, private_dns| CreateVpcEndpointRequest {
        vpc_id: vpc_id.clone(),
        service_name: text(&format!("com.amazonaws.us-east-1.{service}")),
        vpc_endpoint_type: text("Interface"),
        subnet_ids: vec![subnet_id.clone()],
        private_dns_enabled: private_dns,
        ..Default::default()
    };
    let mut ids = Vec::new();
    for request in [
        endpoint("ecr.dkr", None),
        endpoint("ecr.api", None),
        endpoint("eks-auth", Some(true)),
        endpoint("ec2", Some(false)),
    ] {
        let made = region.call::<CreateVpcEndpoint>(request).await.vpc_endpoint.unwrap();
        ids.extend(made.vpc_endpoint_id);
    }
    let is_served = |host: &str| {
        region.ec2.view().interface_endpoints(&vpc_id).any(|endpoint| endpoint.serves(host))
    };
    for (host, wanted) in [
        ("api.ecr.us-east-1.amazonaws.com", true),
        ("111122223333.dkr.ecr.us-east-1.amazonaws.com", true),
        ("eks-auth.us-east-1.api.aws", true),
        ("sts.us-east-1.amazonaws.com", false),
        ("eks.us-east-1.amazonaws.com", false),
        ("notapi.ecr.us-east-1.amazonaws.com", false),
        ("ec2.us-east-1.amazonaws.com", false), // without private names
    ] {
        assert_eq!(is_served(host), wanted, "{host}");
    }
    let delete = DeleteVpcEndpointsRequest { vpc_endpoint_ids: ids, dry_run: None };
    region.call::<DeleteVpcEndpoints>(delete).await;
    assert!(!is_served("api.ecr.us-east-1.amazonaws.com"));
}

#[tokio::test(start_paused = true)]
async fn there_are_endpoints_of_the_services_that_are_described_and_of_no_other() {
    let region = region();
    let (vpc_id, ..) = private_subnet(&region).await;
    let all = region.call::<DescribeVpcEndpointServices>(Default::default()).await.service_details;
    for detail in all {
        let kind = detail.service_type[0].service_type.clone();
        let request = CreateVpcEndpointRequest {
            vpc_id: vpc_id.clone(),
            service_name: detail.service_name,
            vpc_endpoint_type: kind,
            ..Default::default()
        };
        region.call::<CreateVpcEndpoint>(request).await;
    }
    let gateway = |service: &str| CreateVpcEndpointRequest {
        vpc_id: vpc_id.clone(),
        service_name: text(service),
        ..Default::default()
    };
    for (service, code) in [
        ("com.amazonaws.us-east-1.nonsense", "InvalidServiceName"),
        ("com.amazonaws.us-west-2.s3", "InvalidServiceName"),
        ("com.amazonaws.us-east-1.ec2", "InvalidParameter"),
    ] {
        assert_eq!(region.code::<CreateVpcEndpoint>(gateway(service)).await, code, "{service}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_to_an_interface_is_black_until_an_instance_is_behind_it() {
    let region = region();
    let (_, private, route_table_id) = private_subnet(&region).await;
    let instance = region.run(launch()).await.remove(0);
    let instance_id = instance.instance_id.unwrap();
    let create = CreateNetworkInterfaceRequest { subnet_id: private, ..Default::default() };
    let loose = region.call::<CreateNetworkInterface>(create).await.network_interface.unwrap();
    let route = |to: &str| CreateRouteRequest {
        route_table_id: route_table_id.clone(),
        destination_cidr_block: text(to),
        ..Default::default()
    };
    let to_loose = CreateRouteRequest {
        network_interface_id: loose.network_interface_id,
        ..route("0.0.0.0/0")
    };
    region.call::<CreateRoute>(to_loose).await;
    let by_instance =
        CreateRouteRequest { instance_id: Some(instance_id.clone()), ..route("198.51.100.0/24") };
    region.call::<CreateRoute>(by_instance).await;
    let request = DescribeRouteTablesRequest {
        route_table_ids: vec![route_table_id.clone()],
        ..Default::default()
    };
    let shown = region.call::<DescribeRouteTables>(request).await.route_tables.remove(0).routes;
    let states: Vec<_> = shown.iter().map(|it| it.state.as_deref().unwrap()).collect();
    assert_eq!(states, ["active", "blackhole", "active"]);
    assert_eq!(shown[2].instance_id, Some(instance_id));
}

#[tokio::test(start_paused = true)]
async fn within_a_vpc_only_an_interface_may_stand_before_a_subnet() {
    let region = region();
    let (vpc_id, private, route_table_id) = private_subnet(&region).await;
    let create = CreateNetworkInterfaceRequest { subnet_id: private, ..Default::default() };
    let made = region.call::<CreateNetworkInterface>(create).await.network_interface.unwrap();
    let view = region.ec2.view();
    let gateway = view.internet_gateways.iter().find(|it| it.vpc_id.as_ref() == Some(&vpc_id));
    let gateway_id = gateway.map(|it| it.id.clone());
    let to = |cidr: &str| CreateRouteRequest {
        route_table_id: route_table_id.clone(),
        destination_cidr_block: text(cidr),
        ..Default::default()
    };
    let out = CreateRouteRequest { gateway_id, ..to("192.168.0.0/19") };
    let fault = region.refused::<CreateRoute>(out).await;
    assert_eq!(fault.code, "InvalidParameterValue");
    assert!(fault.message.ends_with("This route can target only an interface or an instance."));
    let id = made.network_interface_id;
    let part = CreateRouteRequest { network_interface_id: id.clone(), ..to("192.168.0.0/24") };
    assert_eq!(region.code::<CreateRoute>(part).await, "InvalidParameterValue");
    let whole = CreateRouteRequest { network_interface_id: id.clone(), ..to("192.168.0.0/19") };
    region.call::<CreateRoute>(whole).await;
    let local = CreateRouteRequest { network_interface_id: id, ..to("192.168.0.0/16") };
    assert_eq!(region.code::<CreateRoute>(local).await, "RouteAlreadyExists");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_endpoint_is_a_route_to_its_prefix_list() {
    let region = region();
    let (vpc_id, _, route_table_id) = private_subnet(&region).await;
    let endpoint = |service: &str| CreateVpcEndpointRequest {
        vpc_id: vpc_id.clone(),
        service_name: text(&format!("com.amazonaws.us-east-1.{service}")),
        route_table_ids: vec![route_table_id.clone()],
        ..Default::default()
    };
    assert_eq!(region.code::<CreateVpcEndpoint>(endpoint("ec2")).await, "InvalidParameter");
    let made = region.call::<CreateVpcEndpoint>(endpoint("s3")).await.vpc_endpoint.unwrap();
    let id = made.vpc_endpoint_id.unwrap();
    assert_eq!(region.code::<CreateVpcEndpoint>(endpoint("s3")).await, "RouteAlreadyExists");
    let request = DescribeRouteTablesRequest {
        filters: vec![filter("route.destination-prefix-list-id", &["pl-63a5400a"])],
        ..Default::default()
    };
    let shown = region.call::<DescribeRouteTables>(request).await.route_tables.remove(0);
    assert_eq!(shown.routes.last().unwrap().gateway_id, Some(id.clone()));
    let state = region.ec2.view();
    let routes = state.routes(state.route_tables.get(&route_table_id).unwrap());
    assert_eq!(routes, [("198.18.0.1/32".parse().unwrap(), Next::GatewayEndpoint(id.clone()))]);
    let delete = DeleteRouteRequest {
        route_table_id: route_table_id.clone(),
        destination_prefix_list_id: text("pl-63a5400a"),
        ..Default::default()
    };
    assert_eq!(region.code::<DeleteRoute>(delete).await, "InvalidParameterValue");
    let gone = DeleteVpcEndpointsRequest { vpc_endpoint_ids: vec![id], ..Default::default() };
    region.call::<DeleteVpcEndpoints>(gone).await;
    let state = region.ec2.view();
    assert!(state.routes(state.route_tables.get(&route_table_id).unwrap()).is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_local_route_cannot_be_removed() {
    let region = region();
    let (_, _, route_table_id) = private_subnet(&region).await;
    let delete = |cidr: &str| DeleteRouteRequest {
        route_table_id: route_table_id.clone(),
        destination_cidr_block: text(cidr),
        ..Default::default()
    };
    let block = region.ec2.view().vpcs.iter().next().unwrap().cidr().to_string();
    assert_eq!(region.code::<DeleteRoute>(delete(&block)).await, "InvalidParameterValue");
    assert_eq!(region.code::<DeleteRoute>(delete("10.99.0.0/16")).await, "InvalidRoute.NotFound");
}

#[tokio::test(start_paused = true)]
async fn a_rule_is_for_the_network_that_its_block_is_in() {
    let region = region();
    let group_id = region.ec2.view().security_groups.iter().next().unwrap().id.clone();
    let rule = |v4: &str, v6: &str| AuthorizeSecurityGroupEgressRequest {
        group_id: group_id.clone(),
        ip_permissions: vec![IpPermissionInput {
            ip_protocol: text("tcp"),
            from_port: Some(80),
            to_port: Some(80),
            ip_ranges: vec![IpRangeInput { cidr_ip: text(v4), description: None }],
            ipv6_ranges: vec![Ipv6RangeInput { cidr_ipv6: text(v6), description: None }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let made = rule("1.2.3.4/24", "2001:db8::1/32");
    let made = region.call::<AuthorizeSecurityGroupEgress>(made).await.security_group_rules;
    assert_eq!(made[0].cidr_ipv4.as_deref(), Some("1.2.3.0/24"));
    assert_eq!(made[1].cidr_ipv6.as_deref(), Some("2001:db8::/32"));
    let same = region.code::<AuthorizeSecurityGroupEgress>(rule("1.2.3.9/24", "2001:db9::/32"));
    assert_eq!(same.await, "InvalidPermission.Duplicate");
}

/// What the router cannot hold to must not be said to be allowed.
#[tokio::test(start_paused = true)]
async fn rules_of_security_groups_name_what_the_router_knows() {
    let region = region();
    let group = region.ec2.view().security_groups.iter().next().unwrap().id.clone();
    let permission = |protocol: &str, kind: i64, list: Option<&str>| {
        let prefix_list_ids =
            list.map(|it| PrefixListIdInput { prefix_list_id: text(it), ..Default::default() });
        let everywhere = IpRangeInput { cidr_ip: text("0.0.0.0/0"), description: None };
        AuthorizeSecurityGroupEgressRequest {
            group_id: group.clone(),
            ip_permissions: vec![IpPermissionInput {
                ip_protocol: text(protocol),
                from_port: Some(kind),
                to_port: Some(-1),
                ip_ranges: if list.is_none() { vec![everywhere] } else { Vec::new() },
                prefix_list_ids: prefix_list_ids.into_iter().collect(),
                ..Default::default()
            }],
            ..Default::default()
        }
    };
    for (request, code) in [
        (permission("icmp", 300, None), "InvalidParameterValue"),
        (permission("-1", -1, Some("pl-0123456789abcdef0")), "InvalidPrefixListID.NotFound"),
    ] {
        assert_eq!(region.code::<AuthorizeSecurityGroupEgress>(request).await, code);
    }
    region.call::<AuthorizeSecurityGroupEgress>(permission("icmp", 8, None)).await;
    let s3 = permission("-1", -1, Some("pl-63a5400a"));
    region.call::<AuthorizeSecurityGroupEgress>(s3).await;
}
