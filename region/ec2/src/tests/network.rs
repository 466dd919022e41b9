//! VPCs, subnets, routes, security groups and tags.

use aws_ec2::{
    address::{AllocateAddress, AllocateAddressRequest, ReleaseAddress, ReleaseAddressRequest},
    common::TagInput,
    internet_gateway::{
        AttachInternetGateway, AttachInternetGatewayRequest, CreateInternetGateway,
        CreateInternetGatewayRequest,
    },
    nat_gateway::{
        CreateNatGateway, CreateNatGatewayRequest, DeleteNatGateway, DeleteNatGatewayRequest,
    },
    route_table::{
        AssociateRouteTable, AssociateRouteTableRequest, CreateRoute, CreateRouteRequest,
        CreateRouteTable, CreateRouteTableRequest, DescribeRouteTables, DescribeRouteTablesRequest,
    },
    security_group::{
        AuthorizeSecurityGroupIngress, AuthorizeSecurityGroupIngressRequest, CreateSecurityGroup,
        CreateSecurityGroupRequest, DeleteSecurityGroup, DeleteSecurityGroupRequest,
        DescribeSecurityGroups, DescribeSecurityGroupsRequest, IpPermissionInput, IpRangeInput,
        RevokeSecurityGroupIngress, RevokeSecurityGroupIngressRequest, UserIdGroupPairInput,
    },
    security_group_rule::{DescribeSecurityGroupRules, DescribeSecurityGroupRulesRequest},
    subnet::{CreateSubnet, CreateSubnetRequest, DeleteSubnet, DeleteSubnetRequest},
    tag::{CreateTags, CreateTagsRequest, DescribeTags, DescribeTagsRequest},
    vpc::{
        CreateVpc, CreateVpcRequest, DeleteVpc, DeleteVpcRequest, DescribeVpcs, DescribeVpcsRequest,
    },
};

use super::support::*;

async fn vpc(region: &Region, cidr: &str) -> String {
    let request = CreateVpcRequest { cidr_block: text(cidr), ..Default::default() };
    region.call::<CreateVpc>(request).await.vpc.unwrap().vpc_id.unwrap()
}

fn subnet(vpc_id: &str, cidr: &str) -> CreateSubnetRequest {
    CreateSubnetRequest {
        vpc_id: vpc_id.to_owned(),
        cidr_block: text(cidr),
        availability_zone: text("us-east-1b"),
        ..Default::default()
    }
}

async fn group(region: &Region, name: &str) -> String {
    let request = CreateSecurityGroupRequest {
        description: "for tests".to_owned(),
        group_name: name.to_owned(),
        ..Default::default()
    };
    region.call::<CreateSecurityGroup>(request).await.group_id.unwrap()
}

fn from_group(id: &str, peer: &str) -> AuthorizeSecurityGroupIngressRequest {
    let pair = UserIdGroupPairInput { group_id: text(peer), ..Default::default() };
    let permission = IpPermissionInput {
        ip_protocol: text("tcp"),
        from_port: Some(10250),
        to_port: Some(10250),
        user_id_group_pairs: vec![pair],
        ..Default::default()
    };
    AuthorizeSecurityGroupIngressRequest {
        group_id: text(id),
        ip_permissions: vec![permission],
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn the_default_vpc_has_a_public_subnet_in_each_zone() {
    let region = region();
    let subnets = region.subnets().await;
    let shown: Vec<_> = subnets
        .iter()
        .map(|it| (it.cidr_block.as_deref().unwrap(), it.availability_zone.as_deref().unwrap()))
        .collect();
    assert_eq!(
        shown,
        [
            ("192.168.0.0/19", "us-east-1a"),
            ("192.168.32.0/19", "us-east-1b"),
            ("192.168.64.0/19", "us-east-1c"),
        ]
    );
    assert!(subnets.iter().all(|it| it.available_ip_address_count == Some(8187)));
    assert!(subnets.iter().all(|it| it.map_public_ip_on_launch == Some(true)));
}

#[tokio::test(start_paused = true)]
async fn subnets_lie_in_their_vpc_and_apart() {
    let region = region();
    let vpc = vpc(&region, "10.0.0.0/16").await;
    region.call::<CreateSubnet>(subnet(&vpc, "10.0.0.0/24")).await;
    for (cidr, code) in [
        ("10.0.0.128/25", "InvalidSubnet.Conflict"),
        ("10.1.0.0/24", "InvalidSubnet.Range"),
        ("10.0.1.0/29", "InvalidSubnet.Range"),
        ("nonsense", "InvalidParameterValue"),
    ] {
        assert_eq!(region.code::<CreateSubnet>(subnet(&vpc, cidr)).await, code, "{cidr}");
    }
    let wide = CreateVpcRequest { cidr_block: text("10.0.0.0/8"), ..Default::default() };
    assert_eq!(region.code::<CreateVpc>(wide).await, "InvalidVpc.Range");
    let other_zone = CreateSubnetRequest {
        availability_zone: text("us-east-1z"),
        ..subnet(&vpc, "10.0.9.0/24")
    };
    assert_eq!(region.code::<CreateSubnet>(other_zone).await, "InvalidParameterValue");
}

#[tokio::test(start_paused = true)]
async fn a_vpc_goes_only_when_it_is_empty() {
    let region = region();
    let vpc_id = vpc(&region, "10.0.0.0/16").await;
    let made = region.call::<CreateSubnet>(subnet(&vpc_id, "10.0.0.0/24")).await.subnet.unwrap();
    let delete = || DeleteVpcRequest { vpc_id: vpc_id.clone(), dry_run: None };
    assert_eq!(region.code::<DeleteVpc>(delete()).await, "DependencyViolation");
    let subnet_id = made.subnet_id.unwrap();
    region.call::<DeleteSubnet>(DeleteSubnetRequest { subnet_id, dry_run: None }).await;
    region.call::<DeleteVpc>(delete()).await;
    assert_eq!(region.code::<DeleteVpc>(delete()).await, "InvalidVpcID.NotFound");
    assert_eq!(region.ec2.view().security_groups.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn routes_lead_to_what_exists_and_turn_into_black_holes() {
    let region = region();
    let vpc_id = vpc(&region, "10.0.0.0/16").await;
    let made = region.call::<CreateSubnet>(subnet(&vpc_id, "10.0.0.0/24")).await.subnet.unwrap();
    let subnet_id = made.subnet_id.unwrap();
    let table = CreateRouteTableRequest { vpc_id: vpc_id.clone(), ..Default::default() };
    let table = region.call::<CreateRouteTable>(table).await.route_table.unwrap();
    let table_id = table.route_table_id.unwrap();
    assert_eq!(table.routes[0].gateway_id.as_deref(), Some("local"));
    let associate = AssociateRouteTableRequest {
        route_table_id: table_id.clone(),
        subnet_id: Some(subnet_id.clone()),
        ..Default::default()
    };
    region.call::<AssociateRouteTable>(associate).await;

    let gateway = region.call::<CreateInternetGateway>(CreateInternetGatewayRequest::default());
    let gateway_id = gateway.await.internet_gateway.unwrap().internet_gateway_id.unwrap();
    let route = |gateway_id: Option<String>, nat_gateway_id| CreateRouteRequest {
        route_table_id: table_id.clone(),
        destination_cidr_block: text("0.0.0.0/0"),
        gateway_id,
        nat_gateway_id,
        ..Default::default()
    };
    let detached = region.code::<CreateRoute>(route(Some(gateway_id.clone()), None)).await;
    assert_eq!(detached, "InvalidParameterValue");
    let attach = AttachInternetGatewayRequest {
        internet_gateway_id: gateway_id.clone(),
        vpc_id: vpc_id.clone(),
        dry_run: None,
    };
    region.call::<AttachInternetGateway>(attach).await;

    let address = region.call::<AllocateAddress>(AllocateAddressRequest::default()).await;
    let nat = CreateNatGatewayRequest {
        subnet_id: Some(subnet_id),
        allocation_id: address.allocation_id.clone(),
        ..Default::default()
    };
    let nat = region.call::<CreateNatGateway>(nat).await.nat_gateway.unwrap();
    let release =
        ReleaseAddressRequest { allocation_id: address.allocation_id, ..Default::default() };
    assert_eq!(region.code::<ReleaseAddress>(release.clone()).await, "InvalidIPAddress.InUse");
    let nat_gateway_id = nat.nat_gateway_id.unwrap();
    region.call::<CreateRoute>(route(None, Some(nat_gateway_id.clone()))).await;
    let code = region.code::<CreateRoute>(route(Some(gateway_id), None)).await;
    assert_eq!(code, "RouteAlreadyExists");

    region
        .call::<DeleteNatGateway>(DeleteNatGatewayRequest { nat_gateway_id, dry_run: None })
        .await;
    let request = DescribeRouteTablesRequest {
        filters: vec![filter("route.state", &["blackhole"])],
        ..Default::default()
    };
    let found = region.call::<DescribeRouteTables>(request).await.route_tables;
    assert_eq!(found[0].route_table_id.as_deref(), Some(table_id.as_str()));
    region.call::<ReleaseAddress>(release).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_group_lets_everything_out_and_nobody_in_and_the_default_one_its_members() {
    let region = region();
    let new = group(&region, "new").await;
    let all = DescribeSecurityGroupsRequest::default();
    let groups = region.call::<DescribeSecurityGroups>(all).await.security_groups;
    let mut seen = 0;
    for it in groups {
        let id = it.group_id.unwrap();
        let out = &it.ip_permissions_egress;
        assert_eq!(out.len(), 1, "{id}: {out:?}");
        assert_eq!(out[0].ip_protocol.as_deref(), Some("-1"));
        assert_eq!(out[0].ip_ranges[0].cidr_ip.as_deref(), Some("0.0.0.0/0"));
        let members = it.ip_permissions.iter().flat_map(|it| &it.user_id_group_pairs);
        let members: Vec<_> = members.filter_map(|it| it.group_id.clone()).collect();
        let is_new = id == new;
        assert_eq!(members, if is_new { vec![] } else { vec![id] });
        assert_eq!(it.ip_permissions.len(), usize::from(!is_new));
        seen += 1;
    }
    assert!(seen > 1);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_others_name_or_wear_is_not_deleted() {
    let region = region();
    let (nodes, cluster) = (group(&region, "nodes").await, group(&region, "cluster").await);
    region.call::<AuthorizeSecurityGroupIngress>(from_group(&nodes, &cluster)).await;
    let delete = |id: &str| DeleteSecurityGroupRequest { group_id: text(id), ..Default::default() };
    let fault = region.refused::<DeleteSecurityGroup>(delete(&cluster)).await;
    assert_eq!(fault.code, "DependencyViolation");
    assert_eq!(fault.message, format!("resource {cluster} has a dependent object"));

    let worn = aws_ec2::run_instances::RunInstancesRequest {
        security_group_ids: vec![nodes.clone()],
        ..launch()
    };
    region.run(worn).await;
    assert_eq!(region.code::<DeleteSecurityGroup>(delete(&nodes)).await, "DependencyViolation");
    let default = DescribeSecurityGroupsRequest {
        filters: vec![filter("group-name", &["default"])],
        ..Default::default()
    };
    let default = region.call::<DescribeSecurityGroups>(default).await.security_groups.remove(0);
    let code = region.code::<DeleteSecurityGroup>(delete(&default.group_id.unwrap())).await;
    assert_eq!(code, "CannotDelete");
}

#[tokio::test(start_paused = true)]
async fn the_same_rule_is_not_added_twice_nor_a_part_of_a_request() {
    let region = region();
    let id = group(&region, "nodes").await;
    let range = |cidr: &str| IpRangeInput { cidr_ip: text(cidr), description: text("office") };
    let request = |cidrs: &[&str]| AuthorizeSecurityGroupIngressRequest {
        group_id: text(&id),
        ip_permissions: vec![IpPermissionInput {
            ip_protocol: text("tcp"),
            from_port: Some(22),
            to_port: Some(22),
            ip_ranges: cidrs.iter().map(|it| range(it)).collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let made =
        region.call::<AuthorizeSecurityGroupIngress>(request(&["10.0.0.0/8", "10.1.0.1/32"])).await;
    assert_eq!(made.security_group_rules.len(), 2);
    let code = region
        .code::<AuthorizeSecurityGroupIngress>(request(&["192.0.2.0/24", "10.0.0.0/8"]))
        .await;
    assert_eq!(code, "InvalidPermission.Duplicate");
    let rules = DescribeSecurityGroupRulesRequest {
        filters: vec![filter("group-id", &[&id])],
        ..Default::default()
    };
    let rules = region.call::<DescribeSecurityGroupRules>(rules).await.security_group_rules;
    assert_eq!(rules.iter().filter(|it| it.is_egress == Some(false)).count(), 2);

    let revoke = RevokeSecurityGroupIngressRequest {
        group_id: text(&id),
        ip_permissions: request(&["10.0.0.0/8"]).ip_permissions,
        ..Default::default()
    };
    region.call::<RevokeSecurityGroupIngress>(revoke.clone()).await;
    let code = region.code::<RevokeSecurityGroupIngress>(revoke).await;
    assert_eq!(code, "InvalidPermission.NotFound");
}

#[tokio::test(start_paused = true)]
async fn tags_are_put_on_anything_and_reserved_ones_on_nothing() {
    let region = region();
    let vpcs = region.call::<DescribeVpcs>(DescribeVpcsRequest::default()).await.vpcs;
    let id = vpcs[0].vpc_id.clone().unwrap();
    let tag = |key: &str| CreateTagsRequest {
        resources: vec![id.clone()],
        tags: vec![TagInput { key: text(key), value: text("main") }],
        dry_run: None,
    };
    region.call::<CreateTags>(tag("Name")).await;
    assert_eq!(region.code::<CreateTags>(tag("aws:mine")).await, "InvalidParameterValue");
    let request = DescribeTagsRequest {
        filters: vec![filter("resource-type", &["vpc"])],
        ..Default::default()
    };
    let found = region.call::<DescribeTags>(request).await.tags;
    assert_eq!(found[0].value.as_deref(), Some("main"));
    let unknown =
        CreateTagsRequest { resources: vec!["vpc-0123456789abcdef0".to_owned()], ..tag("Name") };
    assert_eq!(region.code::<CreateTags>(unknown).await, "InvalidVpcID.NotFound");
}

/// Nothing of these is there in a new region.
#[tokio::test(start_paused = true)]
async fn a_filter_that_does_not_exist_is_refused_where_there_is_nothing_to_filter() {
    let region = region();
    let bad = || vec![filter("mood", &["x"])];
    macro_rules! refuses {
        ($($module:ident::$operation:ident $request:ident $field:ident $known:literal;)*) => {
            $(
                let request = |filters| aws_ec2::$module::$request {
                    $field: filters,
                    ..Default::default()
                };
                let fault = region.refused::<aws_ec2::$module::$operation>(request(bad())).await;
                let code = (&*fault.code, fault.message.as_str());
                assert_eq!(code, ("InvalidParameterValue", "The filter 'mood' is invalid"));
                let known = vec![filter($known, &["x"]), filter("tag:team", &["x"])];
                region.call::<aws_ec2::$module::$operation>(request(known)).await;
            )*
        };
    }
    refuses! {
        nat_gateway::DescribeNatGateways DescribeNatGatewaysRequest filter "nat-gateway-id";
        address::DescribeAddresses DescribeAddressesRequest filters "instance-id";
        key_pair::DescribeKeyPairs DescribeKeyPairsRequest filters "fingerprint";
        vpc_endpoint::DescribeVpcEndpoints DescribeVpcEndpointsRequest filters "vpc-id";
        instance::DescribeInstances DescribeInstancesRequest filters "network-interface.status";
        instance_state::DescribeInstanceStatus DescribeInstanceStatusRequest filters "event.code";
        network_interface::DescribeNetworkInterfaces DescribeNetworkInterfacesRequest filters
            "group-name";
        launch_template::DescribeLaunchTemplates DescribeLaunchTemplatesRequest filters
            "create-time";
        volume::DescribeVolumes DescribeVolumesRequest filters "size";
        subnet::DescribeSubnets DescribeSubnetsRequest filters "available-ip-address-count";
        route_table::DescribeRouteTables DescribeRouteTablesRequest filters "route.origin";
        network_acl::DescribeNetworkAcls DescribeNetworkAclsRequest filters "association.subnet-id";
        security_group::DescribeSecurityGroups DescribeSecurityGroupsRequest filters
            "egress.ip-permission.cidr";
        image::DescribeImages DescribeImagesRequest filters "manifest-location";
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeated_client_token_makes_no_second_table_or_gateway() {
    let region = region();
    let subnet = region.subnets().await.remove(0);
    let request = CreateRouteTableRequest {
        vpc_id: subnet.vpc_id.unwrap(),
        client_token: text("once"),
        ..Default::default()
    };
    let tables = region.ec2.view().route_tables.len();
    let first = region.call::<CreateRouteTable>(request.clone()).await;
    assert_eq!(region.call::<CreateRouteTable>(request).await, first);
    assert_eq!(region.ec2.view().route_tables.len(), tables + 1);
    let request = CreateNatGatewayRequest {
        subnet_id: subnet.subnet_id,
        connectivity_type: text("private"),
        client_token: text("once"),
        ..Default::default()
    };
    let first = region.call::<CreateNatGateway>(request.clone()).await;
    assert_eq!(region.call::<CreateNatGateway>(request).await, first);
    assert_eq!(region.ec2.view().nat_gateways.len(), 1);
}
