//! How many security groups there may be, of how many rules, and how many on an interface.

use aws_ec2::{
    network_interface::{
        CreateNetworkInterface, CreateNetworkInterfaceRequest, ModifyNetworkInterfaceAttribute,
        ModifyNetworkInterfaceAttributeRequest,
    },
    security_group::{
        AuthorizeSecurityGroupEgress, AuthorizeSecurityGroupEgressRequest,
        AuthorizeSecurityGroupIngress, AuthorizeSecurityGroupIngressRequest, CreateSecurityGroup,
        CreateSecurityGroupRequest, DeleteSecurityGroup, DeleteSecurityGroupRequest,
        IpPermissionInput, IpRangeInput, Ipv6RangeInput, UserIdGroupPairInput,
    },
};

use super::support::*;

fn group(name: &str) -> CreateSecurityGroupRequest {
    CreateSecurityGroupRequest {
        description: "for tests".to_owned(),
        group_name: name.to_owned(),
        ..Default::default()
    }
}

async fn made(region: &Region, name: &str) -> String {
    region.call::<CreateSecurityGroup>(group(name)).await.group_id.unwrap()
}

fn port(port: i64) -> IpPermissionInput {
    IpPermissionInput {
        ip_protocol: text("tcp"),
        from_port: Some(port),
        to_port: Some(port),
        ..Default::default()
    }
}

/// Networks of the first version in `v4`, of the other in `v6`, by their numbers.
fn networks(v4: std::ops::Range<u8>, v6: std::ops::Range<u8>) -> IpPermissionInput {
    let four =
        |n: u8| IpRangeInput { cidr_ip: Some(format!("10.{n}.0.0/16")), ..Default::default() };
    let six = |n: u8| Ipv6RangeInput {
        cidr_ipv6: Some(format!("2001:db8:{n:x}::/48")),
        ..Default::default()
    };
    IpPermissionInput {
        ip_ranges: v4.map(four).collect(),
        ipv6_ranges: v6.map(six).collect(),
        ..port(80)
    }
}

fn ingress(id: &str, permission: IpPermissionInput) -> AuthorizeSecurityGroupIngressRequest {
    AuthorizeSecurityGroupIngressRequest {
        group_id: text(id),
        ip_permissions: vec![permission],
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_has_sixty_rules_for_each_version_in_each_direction() {
    const FULL: &str = "RulesPerSecurityGroupLimitExceeded";
    let region = region();
    let (id, peer) = (made(&region, "full").await, made(&region, "peer").await);
    let of = |id: &str| {
        let state = region.ec2.view();
        let groups: Vec<_> = state.security_groups.iter().filter(|it| it.id == id).collect();
        groups[0].rules.len()
    };
    // One rule is there from the start, and lets everything out.
    region.call::<AuthorizeSecurityGroupIngress>(ingress(&id, networks(0..59, 0..60))).await;
    let too_many = ingress(&id, networks(59..61, 0..0));
    assert_eq!(region.code::<AuthorizeSecurityGroupIngress>(too_many).await, FULL);
    assert_eq!(of(&id), 1 + 59 + 60, "nothing of a request that is refused stays");
    region.call::<AuthorizeSecurityGroupIngress>(ingress(&id, networks(59..60, 0..0))).await;
    for network in [networks(60..61, 0..0), networks(0..0, 60..61)] {
        let code = region.code::<AuthorizeSecurityGroupIngress>(ingress(&id, network)).await;
        assert_eq!(code, FULL);
    }
    // A group counts for both versions.
    let pair = UserIdGroupPairInput { group_id: text(&peer), ..Default::default() };
    let from_peer = IpPermissionInput { user_id_group_pairs: vec![pair], ..port(80) };
    let code = region.code::<AuthorizeSecurityGroupIngress>(ingress(&id, from_peer)).await;
    assert_eq!(code, FULL);
    let out = AuthorizeSecurityGroupEgressRequest {
        group_id: id.clone(),
        ip_permissions: vec![networks(0..59, 0..0)],
        ..Default::default()
    };
    region.call::<AuthorizeSecurityGroupEgress>(out).await;
    let out = AuthorizeSecurityGroupEgressRequest {
        group_id: id.clone(),
        ip_permissions: vec![networks(59..60, 0..0)],
        ..Default::default()
    };
    assert_eq!(region.code::<AuthorizeSecurityGroupEgress>(out).await, FULL);
}

#[tokio::test(start_paused = true)]
async fn an_interface_wears_five_groups_and_no_more() {
    const FULL: &str = "SecurityGroupsPerInterfaceLimitExceeded";
    let region = region();
    let mut groups = Vec::new();
    for number in 0..6 {
        groups.push(made(&region, &format!("g{number}")).await);
    }
    let subnet_id = region.subnets().await[0].subnet_id.clone().unwrap();
    let interface = |groups: &[String]| CreateNetworkInterfaceRequest {
        subnet_id: subnet_id.clone(),
        groups: groups.to_vec(),
        ..Default::default()
    };
    assert_eq!(region.code::<CreateNetworkInterface>(interface(&groups)).await, FULL);
    // One that is named twice is one.
    groups[5] = groups[0].clone();
    let five = region.call::<CreateNetworkInterface>(interface(&groups)).await;
    let id = five.network_interface.unwrap().network_interface_id.unwrap();
    groups[5] = made(&region, "g6").await;
    let change = ModifyNetworkInterfaceAttributeRequest {
        network_interface_id: id.clone(),
        groups: groups.clone(),
        ..Default::default()
    };
    assert_eq!(region.code::<ModifyNetworkInterfaceAttribute>(change).await, FULL);
    let state = region.ec2.view();
    assert_eq!(state.network_interfaces.get(&id).unwrap().security_groups.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_region_has_two_thousand_and_five_hundred_groups() {
    let region = region();
    let before = region.ec2.view().security_groups.iter().count();
    let mut last = String::new();
    for number in before..2500 {
        last = made(&region, &format!("g{number}")).await;
    }
    let code = region.code::<CreateSecurityGroup>(group("one more")).await;
    assert_eq!(code, "SecurityGroupLimitExceeded");
    let request = DeleteSecurityGroupRequest { group_id: Some(last), ..Default::default() };
    region.call::<DeleteSecurityGroup>(request).await;
    made(&region, "one more").await;
}
