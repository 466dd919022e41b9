//! The controller against a real API server and the region's real EC2, in virtual time, with no
//! Kubernetes rights but its role's.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod support;

use std::time::Duration;

use api_kube::vpc_resources::{POD_ENI, TRUNK_LABEL};
use aws_ec2::{
    common::AttributeBooleanValueInput,
    subnet::{
        AssociateSubnetCidrBlock, AssociateSubnetCidrBlockRequest, ModifySubnetAttribute,
        ModifySubnetAttributeRequest,
    },
    trunk_interface::{
        DescribeTrunkInterfaceAssociations, DescribeTrunkInterfaceAssociationsRequest,
    },
    vpc::{AssociateVpcCidrBlock, AssociateVpcCidrBlockRequest},
};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use support::{NODE, World, object, tag};

const TRUNK: &str = "aws-k8s-trunk-eni";
const BRANCH: &str = "aws-k8s-branch-eni";

/// A node with a trunk, a group of pods' own and a policy that gives it to them.
async fn ready() -> (World, String) {
    let mut world = World::new("m5.large").await;
    world.start("root");
    world.ask_for_trunk().await;
    let group = world.group("db").await;
    world.policy(&group).await;
    world.event("NodeTrunkInitiated").await;
    (world, group)
}

async fn branches(world: &World) -> usize {
    world.interfaces(BRANCH).await.len()
}

#[tokio::test(start_paused = true)]
async fn a_node_that_asks_gets_a_trunk_at_the_highest_index_and_room_for_pods() {
    let (world, _) = ready().await;
    let trunks = world.interfaces(TRUNK).await;
    assert_eq!(trunks.len(), 1);
    let trunk = &trunks[0];
    let attachment = trunk.attachment.clone().unwrap();
    assert_eq!(trunk.interface_type.as_deref(), Some("trunk"));
    assert_eq!((attachment.device_index, attachment.delete_on_termination), (Some(2), Some(true)));
    assert_eq!(attachment.instance_id.as_deref(), Some(world.instance.as_str()));
    assert_eq!(tag(trunk, "eks:eni:owner"), "eks-vpc-resource-controller");
    assert_eq!(tag(trunk, "kubernetes.io/cluster/stead"), "owned");
    assert_eq!(tag(trunk, "cluster.k8s.amazonaws.com/name"), "stead");
    assert_eq!(tag(trunk, "node.k8s.amazonaws.com/instance_id"), world.instance);
    let node = world
        .until("the node says what it holds", || async {
            let node = world.node().await;
            node.labels().contains_key(TRUNK_LABEL).then_some(node)
        })
        .await;
    let status = node.status.unwrap();
    assert_eq!(status.capacity.unwrap()[POD_ENI].0, "9");
    assert_eq!(status.allocatable.unwrap()[POD_ENI].0, "9");
    assert_eq!(node.metadata.labels.unwrap()[TRUNK_LABEL], "true");
}

#[tokio::test(start_paused = true)]
async fn a_selected_pod_gets_a_branch_in_its_groups_and_gives_it_back_after_a_minute() {
    let (world, group) = ready().await;
    let pod = world.pod("one").await;
    let first = &pod.spec.unwrap().containers[0];
    assert_eq!(first.resources.as_ref().unwrap().limits.as_ref().unwrap()[POD_ENI].0, "1");
    let branch = world.branch("one").await;
    assert_eq!(branch.vlan_id, 1);
    let known = world.interfaces(BRANCH).await;
    assert_eq!(known[0].network_interface_id.as_ref(), Some(&branch.eni_id));
    assert_eq!(known[0].private_ip_address.as_ref(), Some(&branch.private_ip));
    assert_eq!(known[0].mac_address.as_ref(), Some(&branch.mac));
    assert_eq!(known[0].groups[0].group_id.as_ref(), Some(&group));
    assert_eq!(tag(&known[0], "vpcresources.k8s.aws/vlan-id"), "1");
    let request = DescribeTrunkInterfaceAssociationsRequest::default();
    let root = world.root();
    let associated = root.call::<DescribeTrunkInterfaceAssociations>(request).await.unwrap();
    let association = &associated.interface_associations[0];
    assert_eq!(association.association_id.as_ref(), Some(&branch.association_id));
    assert_eq!(association.branch_interface_id.as_ref(), Some(&branch.eni_id));
    let told = world.event("SecurityGroupRequested").await;
    assert_eq!(told, format!("Pod will get the following Security Groups [{group}]"));
    let told = world.event("ResourceAllocated").await;
    assert!(told.starts_with("Allocated [{\"eniId\":\"eni-"), "{told}");

    assert_eq!(world.branch("one").await, branch, "it stays the same");
    world.pod("two").await;
    assert_eq!(world.branch("two").await.vlan_id, 2);
    world.delete_pod("one").await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(branches(&world).await, 2, "it rests");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(branches(&world).await, 1);
    world.pod("three").await;
    assert_eq!(world.branch("three").await.vlan_id, 1);
}

/// Gives the instance's subnet a block of IPv6, of which its interfaces get an address each.
async fn give_ipv6(world: &World) -> String {
    let (root, vpc_id) = (world.root(), world.ec2.default_vpc().unwrap().id);
    let subnet_id = world.ec2.view().instances.get(&world.instance).unwrap().subnet_id.clone();
    let request = AssociateVpcCidrBlockRequest {
        vpc_id: vpc_id.clone(),
        amazon_provided_ipv6_cidr_block: Some(true),
        ..Default::default()
    };
    root.call::<AssociateVpcCidrBlock>(request).await.unwrap();
    let block = world.ec2.view().vpcs.get(&vpc_id).unwrap().ipv6_cidrs[0].cidr;
    let of_subnet = block.subnets(64).unwrap().next().unwrap().to_string();
    let request = AssociateSubnetCidrBlockRequest {
        subnet_id: subnet_id.clone(),
        ipv6_cidr_block: Some(of_subnet.clone()),
        ..Default::default()
    };
    root.call::<AssociateSubnetCidrBlock>(request).await.unwrap();
    let request = ModifySubnetAttributeRequest {
        subnet_id,
        assign_ipv6_address_on_creation: Some(AttributeBooleanValueInput { value: Some(true) }),
        ..Default::default()
    };
    root.call::<ModifySubnetAttribute>(request).await.unwrap();
    of_subnet
}

#[tokio::test(start_paused = true)]
async fn a_branch_is_told_with_the_ipv6_address_that_its_subnet_gives_it() {
    let mut world = World::new("m5.large").await;
    let block = give_ipv6(&world).await;
    world.start("root");
    world.ask_for_trunk().await;
    let group = world.group("db").await;
    world.policy(&group).await;
    world.event("NodeTrunkInitiated").await;
    world.pod("one").await;
    let branch = world.branch("one").await;
    assert!(branch.ipv6_address().is_some(), "{branch:?}");
    assert!(branch.ipv6_address.starts_with(block.trim_end_matches(":/64")), "{branch:?}");
    assert_eq!(branch.subnet_v6_cidr, block);
    let known = world.interfaces(BRANCH).await;
    let address = known[0].ipv6_addresses[0].ipv6_address.as_deref();
    assert_eq!(address, Some(&*branch.ipv6_address));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_has_ended_gives_its_branch_back_before_it_is_deleted() {
    let (world, _) = ready().await;
    world.pod("job").await;
    world.branch("job").await;
    let ended = json!({ "status": { "phase": "Succeeded" } });
    let parameters = PatchParams::default();
    world.pods().patch_status("job", &parameters, &Patch::Merge(&ended)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert_eq!(branches(&world).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_trunk_gives_nothing_until_what_rests_is_gone() {
    let (world, _) = ready().await;
    for number in 0..9 {
        world.pod(&format!("p{number}")).await;
        world.branch(&format!("p{number}")).await;
    }
    world.pod("late").await;
    world.delete_pod("p4").await;
    tokio::time::sleep(Duration::from_secs(40)).await;
    let late = world.pods().get("late").await.unwrap();
    assert!(!late.annotations().contains_key(POD_ENI));
    assert_eq!(world.branch("late").await.vlan_id, 5);
    assert!(world.events("BranchAllocationFailed").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_pods_keep_their_branches_and_what_nobody_has_goes() {
    let (mut world, _) = ready().await;
    world.pod("kept").await;
    world.pod("gone").await;
    let (kept, gone) = (world.branch("kept").await, world.branch("gone").await);
    world.start("nobody");
    // Nobody looks while it goes.
    world.delete_pod("gone").await;
    world.start("root");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.interfaces(TRUNK).await.len(), 1);
    world.pod("new").await;
    let new = world.branch("new").await;
    assert!(![kept.vlan_id, gone.vlan_id].contains(&new.vlan_id), "{new:?}");
    tokio::time::sleep(Duration::from_secs(70)).await;
    let left = world.interfaces(BRANCH).await;
    let is_there = |id: &str| left.iter().any(|it| it.network_interface_id.as_deref() == Some(id));
    assert!(is_there(&kept.eni_id) && is_there(&new.eni_id) && !is_there(&gone.eni_id));
    world.delete_pod("kept").await;
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert_eq!(branches(&world).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_role_without_its_policy_is_told_of_with_ec2s_code() {
    let mut world = World::new("m5.large").await;
    world.start("poor");
    world.ask_for_trunk().await;
    assert_eq!(
        world.event("TrunkENICreationFailed").await,
        "Failed to create trunk interface: Error Code: UnauthorizedOperation: Please verify the \
         cluster IAM role has AmazonEKSVPCResourceController policy"
    );
    let told = world.event("NodeTrunkFailedInit").await;
    assert_eq!(told, "The node failed initializing trunk interface");
    assert!(world.interfaces(TRUNK).await.is_empty());
    let capacity = world.node().await.status.unwrap().capacity.unwrap();
    assert!(!capacity.contains_key(POD_ENI));
}

#[tokio::test(start_paused = true)]
async fn a_type_without_trunks_is_told_of_and_left_alone() {
    let mut world = World::new("t3.medium").await;
    world.start("root");
    world.ask_for_trunk().await;
    assert_eq!(
        world.event("Unsupported").await,
        "The instance type t3.medium is not supported for trunk interface (Security Group for Pods)"
    );
    assert!(world.interfaces(TRUNK).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_not_there_fails_the_pod_with_ec2s_words_and_leaves_nothing() {
    let mut world = World::new("m5.large").await;
    world.start("root");
    world.ask_for_trunk().await;
    world.event("NodeTrunkInitiated").await;
    world.policy("sg-0123456789abcdef0").await;
    world.pod("one").await;
    let told = world.event("BranchAllocationFailed").await;
    assert!(told.starts_with("failed to allocate branch ENI to pod: "), "{told}");
    assert!(told.contains("InvalidGroup.NotFound"), "{told}");
    assert_eq!(branches(&world).await, 0);
}

/// A pass has five minutes; what hangs is given up.
#[tokio::test(start_paused = true)]
async fn a_pass_that_is_cut_off_leaves_no_vlan_id_taken_and_no_branch_behind() {
    for action in ["CreateNetworkInterface", "CreateNetworkInterfacePermission"] {
        let (world, _) = ready().await;
        world.silence(Some(action));
        world.pod("one").await;
        world
            .until("EC2 has made the branch", || async {
                (branches(&world).await == 1).then_some(())
            })
            .await;
        world.silence(None);
        world.pod("two").await;
        assert_eq!(world.branch("two").await.vlan_id, 2, "the first is taken");
        tokio::time::sleep(Duration::from_secs(5 * 60)).await;
        let branch = world.branch("one").await;
        assert_ne!(branch.vlan_id, 2);
        world
            .until("the lost branch is gone", || async {
                (branches(&world).await == 2).then_some(())
            })
            .await;
        world.pod("three").await;
        assert_eq!(world.branch("three").await.vlan_id, 1, "its id is free");
        for number in 4..=9 {
            let name = format!("p{number}");
            world.pod(&name).await;
            world.branch(&name).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_branches_of_a_node_that_is_gone_are_deleted_after_a_minute() {
    let (world, _) = ready().await;
    world.pod("one").await;
    world.branch("one").await;
    let nodes = Api::<Node>::all(world.admin.clone());
    nodes.delete(NODE, &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(branches(&world).await, 1);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(branches(&world).await, 0);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_rest_is_the_config_maps() {
    let (world, _) = ready().await;
    let map: ConfigMap = object(json!({
        "metadata": { "name": "amazon-vpc-cni" }, "data": { "branch-eni-cooldown": "300" },
    }));
    let maps = Api::<ConfigMap>::namespaced(world.admin.clone(), "kube-system");
    maps.create(&PostParams::default(), &map).await.unwrap();
    let told = world.event("BranchENICoolDownPeriodUpdated").await;
    assert_eq!(told, "Branch ENI cool down period has been updated to 300s");
    world.pod("one").await;
    world.branch("one").await;
    world.delete_pod("one").await;
    tokio::time::sleep(Duration::from_secs(250)).await;
    assert_eq!(branches(&world).await, 1);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(branches(&world).await, 0);
}
