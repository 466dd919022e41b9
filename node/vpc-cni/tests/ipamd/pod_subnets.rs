//! Pods in other subnets than their node's: by an ENIConfig, or by the subnets' tags.

use std::time::Duration;

use aws_ec2::{
    common::TagInput,
    security_group::{CreateSecurityGroup, CreateSecurityGroupRequest},
    subnet::{CreateSubnet, CreateSubnetRequest},
    tag::{CreateTags, CreateTagsRequest},
    vpc::{AssociateVpcCidrBlock, AssociateVpcCidrBlockRequest},
};
use vpc_cni::{
    eni_config::{Chosen, EniConfigSpec},
    ipamd::AddError,
    plan::Step,
};

use super::{Running, sandbox, until};
use crate::support::World;

/// Makes a subnet for pods in a secondary block of the VPC, and a security group for them.
async fn pod_network(world: &World) -> EniConfigSpec {
    let (root, vpc_id) = (world.root(), world.ec2.default_vpc().unwrap().id);
    let block = AssociateVpcCidrBlockRequest {
        vpc_id: vpc_id.clone(),
        cidr_block: Some("100.64.0.0/16".to_owned()),
        ..Default::default()
    };
    root.call::<AssociateVpcCidrBlock>(block).await.unwrap();
    let request = CreateSubnetRequest {
        vpc_id: vpc_id.clone(),
        cidr_block: Some("100.64.0.0/24".to_owned()),
        availability_zone: Some("us-east-1a".to_owned()),
        ..Default::default()
    };
    let subnet = root.call::<CreateSubnet>(request).await.unwrap().subnet.unwrap();
    let request = CreateSecurityGroupRequest {
        vpc_id: Some(vpc_id),
        description: "pods".to_owned(),
        group_name: "pods".to_owned(),
        ..Default::default()
    };
    let group = root.call::<CreateSecurityGroup>(request).await.unwrap().group_id.unwrap();
    EniConfigSpec { subnet: subnet.subnet_id.unwrap(), security_groups: vec![group] }
}

#[tokio::test]
async fn in_custom_networking_pods_live_in_the_subnet_and_groups_of_the_eniconfig() {
    let Some(world) = World::new("h", "192.168.200.0/24").await else { return };
    let spec = pod_network(&world).await;
    let environment = [("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "true")];
    let ipamd = world.start(&environment, "root").await.unwrap();
    let _running = Running::start(&ipamd);
    let chosen = |spec| Chosen { name: "us-east-1a".to_owned(), spec };
    ipamd.learn_eni_config(chosen(None));
    assert!(ipamd.until_custom(Duration::from_millis(50)).await.is_err());
    let error = ipamd.add(&sandbox(0)).await.unwrap_err();
    let AddError::Exhausted { shortage, .. } = &error else { panic!("{error}") };
    assert_eq!(shortage.reason(), "MissingENIConfig");
    assert!(ipamd.story_of(shortage).await.contains("no ENIConfig \"us-east-1a\""));

    ipamd.learn_eni_config(chosen(Some(spec.clone())));
    ipamd.until_custom(Duration::from_secs(5)).await.unwrap();
    let block: ipnet::Ipv4Net = "100.64.0.0/24".parse().unwrap();
    for number in 0..12 {
        let assignment = ipamd.add(&sandbox(number)).await.unwrap();
        assert!(block.contains(&assignment.address), "{}", assignment.address);
        assert_ne!(assignment.device_number, 0);
        assert_eq!(assignment.vpc_cidrs.len(), 2, "both blocks are inside");
    }
    let state = world.ec2.view();
    let enis = state.interfaces_of(&world.instance);
    assert_eq!((enis[0].secondary_addresses.len(), enis.len()), (0, 3));
    for eni in &enis[1..] {
        assert_eq!(eni.subnet_id, spec.subnet);
        assert_eq!(eni.security_groups.iter().collect::<Vec<_>>(), [&spec.security_groups[0]]);
    }
    let routes = world.netlink().routes().unwrap();
    let default = routes.iter().find(|it| it.table == 2 && it.destination.prefix_len() == 0);
    assert_eq!(default.unwrap().gateway, Some([100, 64, 0, 1].into()));
}

async fn tag_subnet(world: &World, subnet: &str, value: &str) {
    let tag =
        TagInput { key: Some("kubernetes.io/role/cni".to_owned()), value: Some(value.to_owned()) };
    let request = CreateTagsRequest {
        resources: vec![subnet.to_owned()],
        tags: vec![tag],
        ..Default::default()
    };
    world.root().call::<CreateTags>(request).await.unwrap();
}

#[tokio::test]
async fn pods_are_kept_out_of_a_subnet_that_is_tagged_so_also_the_primary_interfaces() {
    let Some(world) = World::new("q", "192.168.200.0/24").await else { return };
    let primary = world.ec2.view().instances.get(&world.instance).unwrap().subnet_id.clone();
    let pods = pod_network(&world).await.subnet;
    tag_subnet(&world, &primary, "0").await;
    tag_subnet(&world, &pods, "1").await;
    let ipamd = world.start(&[], "root").await.unwrap();
    let _running = Running::start(&ipamd);
    until("there are addresses", || ipamd.plan().step == Step::Settled).await;
    let block: ipnet::Ipv4Net = "100.64.0.0/24".parse().unwrap();
    for number in 0..12 {
        let assignment = ipamd.add(&sandbox(number)).await.unwrap();
        assert!(block.contains(&assignment.address), "{}", assignment.address);
    }
    let state = world.ec2.view();
    let enis = state.interfaces_of(&world.instance);
    assert_eq!(enis[0].secondary_addresses.len(), 0);
    assert!(enis[1..].iter().all(|it| it.subnet_id == pods), "{enis:?}");
}
