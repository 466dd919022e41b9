//! IPv6: blocks of VPCs and subnets, addresses and prefixes of interfaces, the way out.

use aws_ec2::{
    egress_only_internet_gateway::{
        CreateEgressOnlyInternetGateway, CreateEgressOnlyInternetGatewayRequest,
        DeleteEgressOnlyInternetGateway, DeleteEgressOnlyInternetGatewayRequest,
        DescribeEgressOnlyInternetGateways, DescribeEgressOnlyInternetGatewaysRequest,
    },
    instance::{DescribeInstances, DescribeInstancesRequest},
    ipv6_addresses::{
        AssignIpv6Addresses, AssignIpv6AddressesRequest, UnassignIpv6Addresses,
        UnassignIpv6AddressesRequest,
    },
    network_acl::{DescribeNetworkAcls, DescribeNetworkAclsRequest},
    network_interface::{
        CreateNetworkInterface, CreateNetworkInterfaceRequest, DescribeNetworkInterfaces,
        DescribeNetworkInterfacesRequest, InstanceIpv6AddressInput,
    },
    route_table::{
        CreateRoute, CreateRouteRequest, DeleteRoute, DeleteRouteRequest, DescribeRouteTables,
        DescribeRouteTablesRequest,
    },
    security_group::{
        CreateSecurityGroup, CreateSecurityGroupRequest, DescribeSecurityGroups,
        DescribeSecurityGroupsRequest,
    },
    subnet::{
        AssociateSubnetCidrBlock, AssociateSubnetCidrBlockRequest, CreateSubnet,
        CreateSubnetRequest, DisassociateSubnetCidrBlock, DisassociateSubnetCidrBlockRequest,
        ModifySubnetAttribute, ModifySubnetAttributeRequest,
    },
    vpc::{
        AssociateVpcCidrBlock, AssociateVpcCidrBlockRequest, CreateVpc, CreateVpcRequest,
        DescribeVpcs, DescribeVpcsRequest, DisassociateVpcCidrBlock,
        DisassociateVpcCidrBlockRequest, Vpc,
    },
};
use ipnet::Ipv6Net;

use super::support::*;
use crate::Next;

async fn vpc(region: &Region) -> Vpc {
    let request = CreateVpcRequest {
        cidr_block: text("10.1.0.0/16"),
        amazon_provided_ipv6_cidr_block: Some(true),
        ..Default::default()
    };
    region.call::<CreateVpc>(request).await.vpc.unwrap()
}

fn block_of(vpc: &Vpc) -> Ipv6Net {
    let block = &vpc.ipv6_cidr_block_association_set[0];
    block.ipv6_cidr_block.as_deref().unwrap().parse().unwrap()
}

/// The `number`th /64 of the VPC.
fn part_of(vpc: &Vpc, number: usize) -> String {
    block_of(vpc).subnets(64).unwrap().nth(number).unwrap().to_string()
}

async fn subnet(region: &Region, vpc: &Vpc) -> String {
    let request = CreateSubnetRequest {
        vpc_id: vpc.vpc_id.clone().unwrap(),
        cidr_block: text("10.1.0.0/24"),
        ipv6_cidr_block: Some(part_of(vpc, 1)),
        ..Default::default()
    };
    region.call::<CreateSubnet>(request).await.subnet.unwrap().subnet_id.unwrap()
}

async fn give_on_creation(region: &Region, subnet_id: &str) {
    let request = ModifySubnetAttributeRequest {
        subnet_id: subnet_id.to_owned(),
        assign_ipv6_address_on_creation: Some(aws_ec2::common::AttributeBooleanValueInput {
            value: Some(true),
        }),
        ..Default::default()
    };
    region.call::<ModifySubnetAttribute>(request).await;
}

fn interface_in(subnet_id: &str) -> CreateNetworkInterfaceRequest {
    CreateNetworkInterfaceRequest { subnet_id: subnet_id.to_owned(), ..Default::default() }
}

#[tokio::test(start_paused = true)]
async fn a_vpc_gets_a_block_of_56_bits_that_its_subnets_share() {
    let region = region();
    let vpc = vpc(&region).await;
    let block = block_of(&vpc);
    assert_eq!(block.prefix_len(), 56);
    let vpc_id = vpc.vpc_id.clone().unwrap();
    let request = DescribeVpcsRequest {
        filters: vec![filter("ipv6-cidr-block-association.ipv6-cidr-block", &[&block.to_string()])],
        ..Default::default()
    };
    assert_eq!(region.call::<DescribeVpcs>(request).await.vpcs[0].vpc_id, vpc.vpc_id);

    let plain = CreateSubnetRequest {
        vpc_id: vpc_id.clone(),
        cidr_block: text("10.1.1.0/24"),
        ..Default::default()
    };
    let plain = region.call::<CreateSubnet>(plain).await.subnet.unwrap().subnet_id.unwrap();
    let associate = |cidr: &str| AssociateSubnetCidrBlockRequest {
        subnet_id: plain.clone(),
        ipv6_cidr_block: text(cidr),
        ..Default::default()
    };
    let code = region.code::<CreateNetworkInterface>(CreateNetworkInterfaceRequest {
        ipv6_address_count: Some(1),
        ..interface_in(&plain)
    });
    assert_eq!(code.await, "InvalidParameterValue", "the subnet has no block");
    for wrong in ["2001:db8:ffff:ff00::/64", &format!("{}/65", block.network())] {
        let code = region.code::<AssociateSubnetCidrBlock>(associate(wrong)).await;
        assert_eq!(code, "InvalidSubnet.Range", "{wrong}");
    }
    let first = part_of(&vpc, 0);
    let made = region.call::<AssociateSubnetCidrBlock>(associate(&first)).await;
    let association_id = made.ipv6_cidr_block_association.unwrap().association_id.unwrap();
    let second = CreateSubnetRequest {
        vpc_id: vpc_id.clone(),
        cidr_block: text("10.1.2.0/24"),
        ipv6_cidr_block: Some(first),
        ..Default::default()
    };
    assert_eq!(region.code::<CreateSubnet>(second).await, "InvalidSubnet.Conflict");

    let of_vpc = &vpc.ipv6_cidr_block_association_set[0];
    let leave = || DisassociateVpcCidrBlockRequest {
        association_id: of_vpc.association_id.clone().unwrap(),
    };
    assert_eq!(region.code::<DisassociateVpcCidrBlock>(leave()).await, "InvalidCidrBlock.InUse");
    let request = DisassociateSubnetCidrBlockRequest { association_id };
    region.call::<DisassociateSubnetCidrBlock>(request).await;
    region.call::<DisassociateVpcCidrBlock>(leave()).await;
}

#[tokio::test(start_paused = true)]
async fn with_its_first_block_a_vpc_lets_ipv6_through_as_it_does_ipv4() {
    let region = region();
    let request = CreateVpcRequest { cidr_block: text("10.1.0.0/16"), ..Default::default() };
    let vpc_id = region.call::<CreateVpc>(request).await.vpc.unwrap().vpc_id.unwrap();
    let request = AssociateVpcCidrBlockRequest {
        vpc_id: vpc_id.clone(),
        amazon_provided_ipv6_cidr_block: Some(true),
        ..Default::default()
    };
    let associated = region.call::<AssociateVpcCidrBlock>(request.clone()).await;
    let block = associated.ipv6_cidr_block_association.unwrap();
    assert_eq!(block.ipv6_cidr_block_state.unwrap().state.as_deref(), Some("associated"));
    let request = CreateSecurityGroupRequest {
        group_name: "later".to_owned(),
        description: "later".to_owned(),
        vpc_id: Some(vpc_id.clone()),
        ..Default::default()
    };
    region.call::<CreateSecurityGroup>(request).await;
    let of_vpc = || vec![filter("vpc-id", &[&vpc_id])];
    let request = DescribeSecurityGroupsRequest { filters: of_vpc(), ..Default::default() };
    let groups = region.call::<DescribeSecurityGroups>(request).await.security_groups;
    assert_eq!(groups.len(), 2);
    for group in groups {
        let out = &group.ip_permissions_egress;
        let ranges = out.iter().flat_map(|it| &it.ipv6_ranges);
        let cidrs: Vec<_> = ranges.filter_map(|it| it.cidr_ipv6.as_deref()).collect();
        assert_eq!(cidrs, ["::/0"], "{:?}", group.group_name);
    }
    let request = DescribeNetworkAclsRequest { filters: of_vpc(), ..Default::default() };
    let acls = region.call::<DescribeNetworkAcls>(request).await.network_acls;
    let numbers = acls[0].entries.iter().filter(|it| it.rule_number == Some(101)).count();
    assert_eq!(numbers, 2);
}

#[tokio::test(start_paused = true)]
async fn interfaces_get_addresses_and_prefixes_of_their_subnet_within_their_types_limit() {
    let region = region();
    let vpc = vpc(&region).await;
    let subnet_id = subnet(&region, &vpc).await;
    let net: Ipv6Net = part_of(&vpc, 1).parse().unwrap();
    let none = region.call::<CreateNetworkInterface>(interface_in(&subnet_id)).await;
    assert!(none.network_interface.unwrap().ipv6_addresses.is_empty());
    give_on_creation(&region, &subnet_id).await;
    let made = region.call::<CreateNetworkInterface>(interface_in(&subnet_id)).await;
    let interface = made.network_interface.unwrap();
    let address = interface.ipv6_address.clone().unwrap();
    assert!(net.contains(&address.parse::<std::net::Ipv6Addr>().unwrap()));
    let id = interface.network_interface_id.unwrap();

    let prefix = AssignIpv6AddressesRequest {
        network_interface_id: id.clone(),
        ipv6_prefix_count: Some(1),
        ..Default::default()
    };
    let assigned = region.call::<AssignIpv6Addresses>(prefix).await;
    let prefix: Ipv6Net = assigned.assigned_ipv6_prefixes[0].parse().unwrap();
    assert!(prefix.prefix_len() == 80 && net.contains(&prefix));
    let request = DescribeNetworkInterfacesRequest {
        filters: vec![filter("ipv6-addresses.ipv6-address", &[&address])],
        ..Default::default()
    };
    let found = region.call::<DescribeNetworkInterfaces>(request).await.network_interfaces;
    assert_eq!(found[0].ipv6_prefixes[0].ipv6_prefix, Some(prefix.to_string()));

    // 50 without an instance; two are there.
    let count = |count| AssignIpv6AddressesRequest {
        network_interface_id: id.clone(),
        ipv6_address_count: Some(count),
        ..Default::default()
    };
    let code = region.code::<AssignIpv6Addresses>(count(49)).await;
    assert_eq!(code, "PrivateIpAddressLimitExceeded");
    let more = region.call::<AssignIpv6Addresses>(count(3)).await.assigned_ipv6_addresses;
    assert_eq!(more.len(), 3);
    let taken = CreateNetworkInterfaceRequest {
        ipv6_addresses: vec![InstanceIpv6AddressInput { ipv6_address: Some(address.clone()) }],
        ..interface_in(&subnet_id)
    };
    assert_eq!(region.code::<CreateNetworkInterface>(taken).await, "InvalidIPAddress.InUse");
    let give_back = |addresses: Vec<String>| UnassignIpv6AddressesRequest {
        network_interface_id: id.clone(),
        ipv6_addresses: addresses,
        ipv6_prefixes: vec![prefix.to_string()],
    };
    region.call::<UnassignIpv6Addresses>(give_back(more)).await;
    let again = region.code::<UnassignIpv6Addresses>(give_back(vec![address]));
    assert_eq!(again.await, "InvalidParameterValue", "the prefix is gone already");
}

#[tokio::test(start_paused = true)]
async fn an_instance_has_the_address_that_its_subnet_gives_or_that_was_asked_for() {
    let region = region();
    let vpc = vpc(&region).await;
    let subnet_id = subnet(&region, &vpc).await;
    let launch = || aws_ec2::run_instances::RunInstancesRequest {
        subnet_id: Some(subnet_id.clone()),
        ..launch()
    };
    let asked =
        aws_ec2::run_instances::RunInstancesRequest { ipv6_address_count: Some(2), ..launch() };
    let two = &region.run(asked).await[0];
    assert_eq!(two.network_interfaces[0].ipv6_addresses.len(), 2);
    give_on_creation(&region, &subnet_id).await;
    let one = &region.run(launch()).await[0];
    let address = one.ipv6_address.clone().unwrap();
    let request = DescribeInstancesRequest {
        filters: vec![filter("ipv6-address", &[&address])],
        ..Default::default()
    };
    let found = region.call::<DescribeInstances>(request).await.reservations;
    assert_eq!(found[0].instances[0].instance_id, one.instance_id);
}

#[tokio::test(start_paused = true)]
async fn an_egress_only_gateway_is_a_way_out_for_ipv6_alone() {
    let region = region();
    let vpc = vpc(&region).await;
    let vpc_id = vpc.vpc_id.clone().unwrap();
    let request =
        CreateEgressOnlyInternetGatewayRequest { vpc_id: vpc_id.clone(), ..Default::default() };
    let made = region.call::<CreateEgressOnlyInternetGateway>(request).await;
    let id = made.egress_only_internet_gateway.unwrap().egress_only_internet_gateway_id.unwrap();
    let tables = || DescribeRouteTablesRequest {
        filters: vec![filter("vpc-id", &[&vpc_id])],
        ..Default::default()
    };
    let table = region.call::<DescribeRouteTables>(tables()).await.route_tables.remove(0);
    let route_table_id = table.route_table_id.unwrap();
    assert_eq!(table.routes[1].destination_ipv6_cidr_block, Some(block_of(&vpc).to_string()));
    let route = || CreateRouteRequest {
        route_table_id: route_table_id.clone(),
        egress_only_internet_gateway_id: Some(id.clone()),
        ..Default::default()
    };
    let v4 = CreateRouteRequest { destination_cidr_block: text("0.0.0.0/0"), ..route() };
    assert_eq!(region.code::<CreateRoute>(v4).await, "InvalidParameterValue");
    let v6 = CreateRouteRequest { destination_ipv6_cidr_block: text("::/0"), ..route() };
    region.call::<CreateRoute>(v6).await;
    let next = || {
        let view = region.ec2.view();
        let table = view.route_tables.get(&route_table_id).unwrap();
        assert!(view.routes(table).is_empty(), "IPv4 has none");
        view.ipv6_routes(table).remove(0)
    };
    let everywhere = Ipv6Net::default();
    assert_eq!(next(), (everywhere, Next::EgressOnlyInternetGateway(id.clone())));
    let request = DescribeEgressOnlyInternetGatewaysRequest {
        egress_only_internet_gateway_ids: vec![id.clone()],
        ..Default::default()
    };
    let found = region.call::<DescribeEgressOnlyInternetGateways>(request).await;
    let attachments = &found.egress_only_internet_gateways[0].attachments;
    assert_eq!(attachments[0].vpc_id.as_deref(), Some(&*vpc_id));
    let request = DeleteEgressOnlyInternetGatewayRequest {
        dry_run: None,
        egress_only_internet_gateway_id: id.clone(),
    };
    region.call::<DeleteEgressOnlyInternetGateway>(request).await;
    assert_eq!(next(), (everywhere, Next::Blackhole(id)));
    let gone = DeleteRouteRequest {
        route_table_id: route_table_id.clone(),
        destination_ipv6_cidr_block: text("::/0"),
        ..Default::default()
    };
    region.call::<DeleteRoute>(gone).await;
}
