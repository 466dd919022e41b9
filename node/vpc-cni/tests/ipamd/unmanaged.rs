//! Interfaces that are somebody else's: by their tag, or by not being ipamd's where that is asked for.

use aws_ec2::{
    common::{TagInput, TagSpecification},
    network_interface::{
        AttachNetworkInterface, AttachNetworkInterfaceRequest, CreateNetworkInterface,
        CreateNetworkInterfaceRequest,
    },
};
use vpc_cni::{cloud, ipamd::Ipamd};

use crate::support::World;

/// Attaches a second interface with this tag.
async fn attach(world: &World, key: &str, value: &str) -> String {
    let subnet_id = world.ec2.view().instances.get(&world.instance).unwrap().subnet_id.clone();
    let tag = TagInput { key: Some(key.to_owned()), value: Some(value.to_owned()) };
    let request = CreateNetworkInterfaceRequest {
        subnet_id,
        tag_specifications: vec![TagSpecification {
            resource_type: Some("network-interface".to_owned()),
            tags: vec![tag],
        }],
        ..Default::default()
    };
    let made = world.root().call::<CreateNetworkInterface>(request).await.unwrap();
    let id = made.network_interface.unwrap().network_interface_id.unwrap();
    let request = AttachNetworkInterfaceRequest {
        network_interface_id: id.clone(),
        instance_id: world.instance.clone(),
        device_index: 1,
        ..Default::default()
    };
    world.root().call::<AttachNetworkInterface>(request).await.unwrap();
    world.plug();
    id
}

/// How many interfaces it has, and how many it may have at most.
fn managed(ipamd: &Ipamd) -> (usize, bool) {
    ipamd.measure();
    let metrics = ipamd.metrics.render();
    (ipamd.snapshot().enis().count(), metrics.lines().any(|it| it == "awscni_eni_max 2"))
}

#[tokio::test]
async fn an_interface_that_is_tagged_so_is_not_managed_and_takes_a_place() {
    let Some(world) = World::new("nm", "192.168.200.0/24").await else { return };
    let eni = attach(&world, cloud::TAG_NO_MANAGE, "true").await;
    let ipamd = world.start(&[], "root").await.unwrap();
    assert_eq!(managed(&ipamd), (1, true));
    assert!(ipamd.snapshot().eni(&eni).is_none());
}

#[tokio::test]
async fn only_the_value_true_keeps_an_interface_from_being_managed() {
    let Some(world) = World::new("mg", "192.168.200.0/24").await else { return };
    let eni = attach(&world, cloud::TAG_NO_MANAGE, "false").await;
    let ipamd = world.start(&[], "root").await.unwrap();
    assert_eq!(managed(&ipamd), (2, false));
    assert!(ipamd.snapshot().eni(&eni).is_some());
    drop(ipamd);
    // Others' are left alone where ipamd is to manage its own only.
    let ipamd = world.start(&[("MANAGE_UNTAGGED_ENI", "false")], "root").await.unwrap();
    assert_eq!(managed(&ipamd), (1, true));
}
