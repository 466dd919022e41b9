//! What a launch template says of an instance's volumes: the class's word, or its family's.

use api_kube::karpenter::{BlockDevice, BlockDeviceMapping, Ec2NodeClass};
use aws_ec2::launch_template_request::{
    LaunchTemplateBlockDeviceMappingRequest as Mapping, LaunchTemplateEbsBlockDeviceRequest,
};
use resources::Quantity;

use crate::user_data;

const GIB: i64 = 1 << 30;

pub(super) fn of(class: &Ec2NodeClass) -> Vec<Mapping> {
    match class.spec.block_device_mappings.as_slice() {
        [] => defaults(user_data::family(class)).iter().map(mapping).collect(),
        said => said.iter().map(mapping).collect(),
    }
}

/// Upstream's: nothing is known of images of the user's.
fn defaults(family: &str) -> Vec<BlockDeviceMapping> {
    let sizes: &[(&str, &str)] = match family {
        "AL2" | "AL2023" => &[("/dev/xvda", "20Gi")],
        // The system and nothing else is on the first one.
        "Bottlerocket" => &[("/dev/xvda", "4Gi"), ("/dev/xvdb", "20Gi")],
        _ => &[],
    };
    let each = sizes.iter().map(|(device, size)| BlockDeviceMapping {
        device_name: Some((*device).to_owned()),
        ebs: Some(BlockDevice {
            encrypted: Some(true),
            volume_size: Some((*size).to_owned()),
            volume_type: Some("gp3".to_owned()),
            ..BlockDevice::default()
        }),
        root_volume: None,
    });
    each.collect()
}

/// EC2 counts sizes in whole GiB.
fn mapping(said: &BlockDeviceMapping) -> Mapping {
    let gib = |size: &String| {
        let bytes = size.parse::<Quantity>().ok()?.value();
        Some(bytes / GIB + i64::from(bytes % GIB > 0))
    };
    let ebs = said.ebs.as_ref().map(|it| LaunchTemplateEbsBlockDeviceRequest {
        encrypted: it.encrypted,
        delete_on_termination: it.delete_on_termination,
        iops: it.iops,
        kms_key_id: it.kms_key_id.clone(),
        snapshot_id: it.snapshot_id.clone(),
        volume_size: it.volume_size.as_ref().and_then(gib),
        volume_type: it.volume_type.clone(),
        throughput: it.throughput,
        volume_initialization_rate: it.volume_initialization_rate.map(i64::from),
        ..LaunchTemplateEbsBlockDeviceRequest::default()
    });
    Mapping { device_name: said.device_name.clone(), ebs, ..Mapping::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn made(spec: Value) -> Vec<Mapping> {
        let class = json!({ "metadata": { "name": "a" }, "spec": spec });
        of(&serde_json::from_value(class).unwrap())
    }

    #[test]
    fn an_instance_has_the_volumes_of_its_class() {
        let made = made(json!({ "blockDeviceMappings": [
            { "deviceName": "/dev/xvda", "rootVolume": true, "ebs": { "volumeSize": "100Gi",
                "encrypted": true, "iops": 4000, "kmsKeyID": "alias/mine" } },
            { "deviceName": "/dev/xvdb", "ebs": { "volumeSize": "1.5Gi" } }] }));
        assert_eq!(made[0].device_name.as_deref(), Some("/dev/xvda"));
        let ebs: Vec<_> = made.iter().filter_map(|it| it.ebs.as_ref()).collect();
        assert_eq!((ebs[0].volume_size, ebs[1].volume_size), (Some(100), Some(2)));
        assert_eq!((ebs[0].encrypted, ebs[0].iops), (Some(true), Some(4000)));
        assert_eq!(ebs[0].kms_key_id.as_deref(), Some("alias/mine"));
    }

    #[test]
    fn without_a_word_the_family_says_which_volumes_there_are() {
        let sizes = |family: &str| -> Vec<_> {
            let made = made(json!({ "amiFamily": family }));
            let size = |it: Mapping| {
                let ebs = it.ebs?;
                assert_eq!(ebs.encrypted, Some(true));
                Some((it.device_name?, ebs.volume_size?))
            };
            made.into_iter().filter_map(size).collect()
        };
        let named = |all: &[(&str, i64)]| -> Vec<_> {
            all.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect()
        };
        assert_eq!(sizes("Bottlerocket"), named(&[("/dev/xvda", 4), ("/dev/xvdb", 20)]));
        assert_eq!(sizes("AL2023"), named(&[("/dev/xvda", 20)]));
        assert_eq!(sizes("Custom"), named(&[]));
    }
}
