//! What a class says of its instances, as EC2 shows it of them.

use api_kube::karpenter::{Ec2NodeClass, NodeClaim, labels};
use aws_ec2::{
    instance::Instance,
    placement_group::{CreatePlacementGroup, CreatePlacementGroupRequest, PlacementGroup},
    run_instances::{PlacementInput, RunInstances, RunInstancesRequest},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use region_ec2::seed;
use serde_json::{Value, json};

use crate::{MANY, support::World};

async fn change(world: &World, spec: Value) {
    let patch = Patch::Merge(json!({ "spec": spec }));
    world.classes().patch("default", &PatchParams::default(), &patch).await.unwrap();
}

/// The class's condition, once it is of the class as it is now.
async fn condition(world: &World, kind: &str) -> Condition {
    world
        .until(&format!("{kind} is told"), || async {
            let class: Ec2NodeClass = world.classes().get("default").await.ok()?;
            let all = class.status?.conditions;
            let of_now = |it: &Condition| it.observed_generation == class.metadata.generation;
            all.into_iter().find(|it| it.type_ == kind && of_now(it))
        })
        .await
}

/// The instance of a pod that has to have one.
async fn launched(world: &World) -> (NodeClaim, Instance) {
    condition(world, "Ready").await;
    world.pending("web", "1").await;
    let claim = world.claim_that_is("Launched").await;
    (claim, world.instances().await.remove(0))
}

fn label(claim: &NodeClaim, key: &str) -> Option<String> {
    claim.metadata.labels.as_ref()?.get(key).cloned()
}

async fn group(world: &World, strategy: &str, partitions: Option<i64>) -> PlacementGroup {
    let request = CreatePlacementGroupRequest {
        group_name: Some("together".to_owned()),
        strategy: Some(strategy.to_owned()),
        partition_count: partitions,
        ..Default::default()
    };
    let made = world.aws.call::<CreatePlacementGroup>(request).await.unwrap();
    made.placement_group.unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_instance_has_the_options_of_its_class() {
    let world = World::new(MANY).await;
    change(
        &world,
        json!({
            "metadataOptions": { "httpTokens": "optional", "httpPutResponseHopLimit": 3 },
            "tags": { "team": "red" },
            "detailedMonitoring": true,
            "cpuOptions": { "nestedVirtualization": "disabled" },
        }),
    )
    .await;
    let (claim, instance) = launched(&world).await;
    let metadata = instance.metadata_options.unwrap();
    assert_eq!(metadata.http_tokens.as_deref(), Some("optional"));
    assert_eq!(metadata.http_put_response_hop_limit, Some(3));
    assert_eq!(metadata.instance_metadata_tags.as_deref(), Some("disabled"));
    assert_eq!(instance.monitoring.unwrap().state.as_deref(), Some("enabled"));
    let tag = |key: &str| {
        let found = instance.tags.iter().find(|it| it.key.as_deref() == Some(key));
        found.and_then(|it| it.value.as_deref())
    };
    assert_eq!(tag("team"), Some("red"));
    assert_eq!(tag("karpenter.sh/nodeclaim"), claim.metadata.name.as_deref());
    assert!(instance.public_ip_address.is_some(), "the subnet gives one");
}

#[tokio::test(start_paused = true)]
async fn an_instance_has_the_interfaces_of_its_class() {
    let world = World::new(MANY).await;
    let interface = |device: i64| {
        json!({ "networkCardIndex": 0, "deviceIndex": device,
        "interfaceType": "interface" })
    };
    change(
        &world,
        json!({
            "associatePublicIPAddress": false,
            "ipPrefixCount": 1,
            "connectionTracking": { "tcpEstablishedTimeout": 350, "udpTimeout": 45 },
            "networkInterfaces": [interface(0), interface(1)],
        }),
    )
    .await;
    let (_, instance) = launched(&world).await;
    assert_eq!(instance.public_ip_address, None);
    let [primary, second] = instance.network_interfaces.as_slice() else { panic!("two") };
    assert_eq!((primary.ipv4_prefixes.len(), second.ipv4_prefixes.len()), (1, 0));
    assert!(instance.network_interfaces.iter().all(|it| {
        let timeouts = it.connection_tracking_configuration.unwrap();
        (timeouts.tcp_established_timeout, timeouts.udp_timeout) == (Some(350), Some(45))
    }));
}

#[tokio::test(start_paused = true)]
async fn a_class_whose_interfaces_no_type_has_brings_nothing() {
    let world = World::new(MANY).await;
    let interface = |device: i64, kind: &str| {
        json!({ "networkCardIndex": 0,
        "deviceIndex": device, "interfaceType": kind })
    };
    let all = json!([interface(0, "interface"), interface(1, "efa-only")]);
    change(&world, json!({ "networkInterfaces": all })).await;
    condition(&world, "Ready").await;
    world.pending("web", "1").await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!(world.claims().await.is_empty() && world.instances().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_class_waits_for_its_placement_group_and_its_nodes_say_which_it_is() {
    let world = World::new(MANY).await;
    change(&world, json!({ "placementGroupSelector": { "name": "together" } })).await;
    let missing = condition(&world, "PlacementGroupReady").await;
    assert_eq!((&*missing.status, &*missing.reason), ("False", "PlacementGroupNotFound"));
    assert_eq!(missing.message, "Placement group \"together\" not found");
    assert_eq!(condition(&world, "Ready").await.status, "False");
    let made = group(&world, "cluster", None).await;
    world.pending("web", "1").await;
    let claim = world.claim_that_is("Launched").await;
    assert_eq!(label(&claim, labels::PLACEMENT_GROUP_ID), made.group_id);
    assert_eq!(label(&claim, labels::PLACEMENT_GROUP_PARTITION), None);
    let placement = world.instances().await.remove(0).placement.unwrap();
    assert_eq!(placement.group_id, made.group_id);
    // A class that selects none any more has other nodes.
    change(&world, json!({ "placementGroupSelector": null })).await;
    let drifted = world.claim_that_is("Drifted").await;
    assert_eq!(drifted.condition("Drifted").unwrap().reason, "PlacementGroupDrift");
    let class = world.classes().get("default").await.unwrap();
    let all = class.status.unwrap().conditions;
    assert!(all.iter().all(|it| it.type_ != "PlacementGroupReady"), "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn nodes_are_in_the_partitions_that_their_pods_are_spread_over() {
    let world = World::new(MANY).await;
    group(&world, "partition", Some(3)).await;
    change(&world, json!({ "placementGroupSelector": { "name": "together" } })).await;
    condition(&world, "PlacementGroupReady").await;
    let spread = json!({ "topologySpreadConstraints": [{ "maxSkew": 1,
        "topologyKey": labels::PLACEMENT_GROUP_PARTITION, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {} }] });
    world.pending_with("a", spread.clone()).await;
    world.pending_with("b", spread).await;
    let claims = world
        .until("two claims are launched", || async {
            let claims = world.claims().await;
            (claims.len() == 2 && claims.iter().all(|it| it.is_true("Launched"))).then_some(claims)
        })
        .await;
    let mut told: Vec<_> =
        claims.iter().filter_map(|it| label(it, labels::PLACEMENT_GROUP_PARTITION)).collect();
    let instances = world.instances().await;
    let numbers = instances.iter().filter_map(|it| it.placement.as_ref()?.partition_number);
    let mut found: Vec<_> = numbers.map(|it| it.to_string()).collect();
    told.sort();
    found.sort();
    assert_eq!(told, found, "as EC2 has it");
    assert_ne!(told[0], told[1]);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_partition_does_not_matter_is_where_ec2_puts_it() {
    let world = World::new(MANY).await;
    group(&world, "partition", Some(2)).await;
    let placement =
        PlacementInput { group_name: Some("together".to_owned()), ..PlacementInput::default() };
    let image = seed::releases().last().unwrap().image_id();
    let subnet = world.ec2.view().subnets.iter().next().unwrap().id.clone();
    let request = RunInstancesRequest {
        image_id: Some(image),
        instance_type: Some("m5.large".to_owned()),
        subnet_id: Some(subnet.clone()),
        placement: Some(placement),
        min_count: 1,
        max_count: 1,
        ..Default::default()
    };
    let first = world.aws.call::<RunInstances>(request).await.unwrap().instances.remove(0);
    assert_eq!(first.placement.unwrap().partition_number, Some(1));
    let only = json!({ "placementGroupSelector": { "name": "together" },
        "subnetSelectorTerms": [{ "id": subnet }] });
    change(&world, only).await;
    condition(&world, "PlacementGroupReady").await;
    world.pending("web", "1").await;
    let claim = world.claim_that_is("Launched").await;
    assert_eq!(label(&claim, labels::PLACEMENT_GROUP_PARTITION).as_deref(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn a_selector_that_finds_nothing_says_so_in_upstreams_words() {
    let world = World::new(MANY).await;
    change(
        &world,
        json!({ "amiSelectorTerms": [{ "name": "nothing" }],
            "subnetSelectorTerms": [{ "tags": { "a": "b" } }],
            "securityGroupSelectorTerms": [{ "name": "nothing" }] }),
    )
    .await;
    for (kind, reason, message) in [
        ("AMIsReady", "AMINotFound", "AMISelector did not match any AMIs"),
        ("SubnetsReady", "SubnetsNotFound", "SubnetSelector did not match any Subnets"),
        (
            "SecurityGroupsReady",
            "SecurityGroupsNotFound",
            "SecurityGroupSelector did not match any SecurityGroups",
        ),
    ] {
        let found = condition(&world, kind).await;
        assert_eq!((&*found.reason, &*found.message), (reason, message));
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_key_cannot_be_used_ends_and_its_claim_goes() {
    let world = World::new(MANY).await;
    let ebs = json!({ "volumeSize": "20Gi", "encrypted": true, "kmsKeyID": "alias/mine" });
    change(&world, json!({ "blockDeviceMappings": [{ "deviceName": "/dev/xvda", "ebs": ebs }] }))
        .await;
    let (claim, instance) = launched(&world).await;
    assert!(!instance.block_device_mappings.is_empty());
    world
        .until("the claim is gone", || async {
            world.end_instances().await;
            let name = &claim.metadata.name;
            world.claims().await.iter().all(|it| it.metadata.name != *name).then_some(())
        })
        .await;
    let view = world.ec2.view();
    let reasons = view.instances.iter().filter_map(|it| it.state_reason.as_ref());
    let codes: Vec<_> = reasons.map(|it| it.code.as_str()).collect();
    assert!(codes.contains(&"Client.InvalidKMSKey.InvalidState"), "{codes:?}");
}
