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

#[tokio::test(start_paused = true)]
async fn users_register_their_own_images_and_only_those_are_theirs_to_remove() {
    let region = region();
    let register = RegisterImageRequest {
        name: "mine".to_owned(),
        image_location: text("/srv/rootfs"),
        ..Default::default()
    };
    let own = region.call::<RegisterImage>(register.clone()).await.image_id.unwrap();
    assert_eq!(region.code::<RegisterImage>(register).await, "InvalidAMIName.Duplicate");
    let deregister = |image_id| DeregisterImageRequest { image_id, ..Default::default() };
    region.call::<DeregisterImage>(deregister(own)).await;
    assert_eq!(region.code::<DeregisterImage>(deregister(image_id())).await, "AuthFailure");
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
