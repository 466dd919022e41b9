//! Images, instance types and zones.

use aws_ec2::{
    image::{
        DeregisterImage, DeregisterImageRequest, DescribeImages, DescribeImagesRequest,
        RegisterImage, RegisterImageRequest,
    },
    instance_type::{
        DescribeInstanceTypeOfferings, DescribeInstanceTypeOfferingsRequest, DescribeInstanceTypes,
        DescribeInstanceTypesRequest,
    },
    run_instances::{BlockDeviceMappingInput, EbsBlockDeviceInput, RunInstancesRequest},
    snapshot::{
        DeleteSnapshot, DeleteSnapshotRequest, DescribeSnapshots, DescribeSnapshotsRequest,
    },
    zone::{DescribeAvailabilityZones, DescribeAvailabilityZonesRequest},
};

use super::support::*;

#[tokio::test(start_paused = true)]
async fn eks_images_are_found_by_owner_and_name() {
    let region = region();
    let request = DescribeImagesRequest {
        owners: vec!["amazon".to_owned()],
        filters: vec![filter("name", &["amazon-eks-node-al2023-x86_64-standard-1.36-*"])],
        ..Default::default()
    };
    let found = region.call::<DescribeImages>(request).await.images;
    assert_eq!(found.len(), 3);
    let request = DescribeImagesRequest { owners: vec!["self".to_owned()], ..Default::default() };
    assert!(region.call::<DescribeImages>(request).await.images.is_empty());
}

/// One that a root file system of so many GiB was brought into.
fn snapshot(region: &Region, size_gib: i64) -> String {
    let id = region.ec2.begin_snapshot("rootfs.tar").unwrap();
    region.ec2.complete_snapshot(&id, size_gib).unwrap();
    id
}

fn register(name: &str, snapshot: &str) -> RegisterImageRequest {
    let ebs = EbsBlockDeviceInput { snapshot_id: text(snapshot), ..Default::default() };
    RegisterImageRequest {
        name: name.to_owned(),
        architecture: text("x86_64"),
        root_device_name: text("/dev/sda1"),
        block_device_mappings: vec![BlockDeviceMappingInput {
            device_name: text("/dev/sda1"),
            ebs: Some(ebs),
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn users_register_their_own_images_and_only_those_are_theirs_to_remove() {
    let region = region();
    let asked = register("mine", &snapshot(&region, 3));
    let own = region.call::<RegisterImage>(asked.clone()).await.image_id.unwrap();
    assert_eq!(region.code::<RegisterImage>(asked).await, "InvalidAMIName.Duplicate");
    let request = DescribeImagesRequest { owners: vec!["self".to_owned()], ..Default::default() };
    let found = region.call::<DescribeImages>(request).await.images.remove(0);
    assert_eq!(found.image_location.as_deref(), Some("111122223333/mine"));
    let root = found.block_device_mappings[0].ebs.clone().unwrap();
    assert!(root.snapshot_id.is_some() && root.volume_size == Some(3), "{root:?}");
    let deregister = |image_id| DeregisterImageRequest { image_id, ..Default::default() };
    region.call::<DeregisterImage>(deregister(own)).await;
    assert_eq!(region.code::<DeregisterImage>(deregister(image_id())).await, "AuthFailure");
}

#[tokio::test(start_paused = true)]
async fn an_image_is_made_of_a_whole_snapshot_and_nothing_else() {
    let region = region();
    let pending = region.ec2.begin_snapshot("on its way").unwrap();
    let small = snapshot(&region, 3);
    let with = |change: &dyn Fn(&mut RegisterImageRequest)| {
        let mut request = register("mine", &small);
        change(&mut request);
        request
    };
    for (request, code) in [
        (with(&|it| it.image_location = text("/srv/rootfs")), "UnsupportedOperation"),
        (with(&|it| it.architecture = text("arm64")), "UnsupportedOperation"),
        (with(&|it| it.block_device_mappings.clear()), "InvalidBlockDeviceMapping"),
        (with(&|it| it.root_device_name = text("/dev/xvda")), "InvalidBlockDeviceMapping"),
        (register("mine", &pending), "IncorrectState"),
        (register("mine", "snap-0123456789abcdef0"), "InvalidSnapshot.NotFound"),
        (
            with(&|it| {
                it.block_device_mappings[0].ebs.as_mut().unwrap().volume_size = Some(2);
            }),
            "InvalidBlockDeviceMapping",
        ),
    ] {
        assert_eq!(region.code::<RegisterImage>(request).await, code);
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_stays_while_an_image_needs_it_and_instances_keep_what_they_started_from() {
    let region = region();
    let id = snapshot(&region, 1);
    let one = region.call::<RegisterImage>(register("one", &id)).await.image_id.unwrap();
    let other = region.call::<RegisterImage>(register("other", &id)).await.image_id.unwrap();
    let of_one = RunInstancesRequest { image_id: Some(one.clone()), ..launch() };
    let instance = region.run(of_one).await.remove(0).instance_id.unwrap();
    let delete = DeleteSnapshotRequest { snapshot_id: id.clone(), dry_run: None };
    assert_eq!(region.code::<DeleteSnapshot>(delete).await, "InvalidSnapshot.InUse");
    let deregister = |image_id| DeregisterImageRequest {
        image_id,
        delete_associated_snapshots: Some(true),
        dry_run: None,
    };
    let count = async || {
        let request = DescribeSnapshotsRequest {
            owner_ids: vec!["self".to_owned()],
            filters: vec![filter("status", &["completed"])],
            ..Default::default()
        };
        region.call::<DescribeSnapshots>(request).await.snapshots.len()
    };
    region.call::<DeregisterImage>(deregister(one)).await;
    assert_eq!(count().await, 1, "the other image needs it");
    region.call::<DeregisterImage>(deregister(other)).await;
    assert_eq!(count().await, 0);
    assert_eq!(region.ec2.view().instances.get(&instance).unwrap().root_snapshot, Some(id));
}

#[tokio::test(start_paused = true)]
async fn who_may_not_delete_a_snapshot_does_not_delete_it_with_its_image() {
    let region = region();
    let id = snapshot(&region, 1);
    let image_id = region.call::<RegisterImage>(register("one", &id)).await.image_id.unwrap();
    let asked = |with| {
        let request = DeregisterImageRequest {
            image_id: image_id.clone(),
            delete_associated_snapshots: Some(with),
            dry_run: None,
        };
        let targets = region_gateway::Handle::<DeregisterImage>::targets(
            &*region.ec2,
            &region_gateway::Caller::root(ACCOUNT, "us-east-1", region.clock.now()),
            &request,
        );
        targets.into_iter().map(|it| (it.action, it.resource)).collect::<Vec<_>>()
    };
    assert_eq!(asked(false).len(), 1);
    let [_, (action, arn)] = &asked(true)[..] else { panic!("the snapshot is not decided on") };
    assert_eq!(action.as_deref(), Some("ec2:DeleteSnapshot"));
    assert!(arn.ends_with(&format!("snapshot/{id}")), "{arn}");
}

#[tokio::test(start_paused = true)]
async fn an_import_that_ended_with_its_process_leaves_no_snapshot() {
    let region = region();
    let whole = snapshot(&region, 1);
    region.ec2.begin_snapshot("cut off").unwrap();
    region.ec2.abandon_pending_snapshots().unwrap();
    let state = region.ec2.view();
    let left: Vec<_> = state.snapshots.iter().map(|it| it.id.clone()).collect();
    assert_eq!(left, [whole]);
}

#[tokio::test(start_paused = true)]
async fn only_types_that_the_host_can_run_are_offered() {
    let region = region();
    let ask = |name: &str| DescribeInstanceTypesRequest {
        instance_types: vec![name.to_owned()],
        ..Default::default()
    };
    let found = region.call::<DescribeInstanceTypes>(ask("m5.large")).await.instance_types;
    assert_eq!(found[0].v_cpu_info.as_ref().unwrap().default_v_cpus, Some(2));
    let network = found[0].network_info.clone().unwrap();
    assert_eq!(network.ipv4_addresses_per_interface, Some(10));
    assert_eq!(region.code::<DescribeInstanceTypes>(ask("m7g.large")).await, "InvalidInstanceType");
    let request = DescribeInstanceTypeOfferingsRequest {
        location_type: text("availability-zone"),
        filters: vec![filter("instance-type", &["m5.large"])],
        ..Default::default()
    };
    let offers = region.call::<DescribeInstanceTypeOfferings>(request).await;
    assert_eq!(offers.instance_type_offerings.len(), 3);
    let request = DescribeAvailabilityZonesRequest::default();
    let zones = region.call::<DescribeAvailabilityZones>(request).await.availability_zones;
    assert_eq!(zones[2].zone_id.as_deref(), Some("use1-az3"));
}
