//! The kubelet's settings of an EC2NodeClass, as far as they change what a node has for pods.

use std::collections::BTreeMap;

use api_kube::karpenter::{BlockDeviceMapping, Ec2NodeClass};
use resources::{Amounts, Quantity};
use serde_json::Value;

use crate::user_data;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kubelet {
    pub max_pods: Option<u32>,
    pub pods_per_core: Option<u32>,
    pub system_reserved: Amounts,
    /// By resource, instead of what the image reserves.
    pub kube_reserved: BTreeMap<String, i64>,
    /// `memory.available` of the thresholds of eviction, hard and soft; empty: the default.
    pub eviction_memory: Vec<Threshold>,
    /// `nodefs.available` likewise.
    pub eviction_storage: Vec<Threshold>,
    /// Bytes of the volume that pods' data are on; 20 GiB where the class says nothing.
    pub root_volume: Option<i64>,
    /// Local disks are the node's storage.
    pub uses_instance_store: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    Bytes(i64),
    Percent(f64),
}

impl Kubelet {
    pub fn of(class: &Ec2NodeClass) -> Self {
        let spec = &class.spec;
        let settings = spec.kubelet.as_ref().unwrap_or(&Value::Null);
        let family = user_data::family(class);
        let number = |name: &str| settings[name].as_u64().and_then(|it| u32::try_from(it).ok());
        let mut kubelet = Self {
            max_pods: number("maxPods"),
            // Bottlerocket has no such setting.
            pods_per_core: number("podsPerCore").filter(|_| family != "Bottlerocket"),
            uses_instance_store: spec.instance_store_policy.as_deref() == Some("RAID0"),
            ..Self::default()
        };
        for (name, amount) in amounts(&settings["systemReserved"]) {
            kubelet.system_reserved.set(&name, amount);
        }
        kubelet.kube_reserved = amounts(&settings["kubeReserved"]);
        // For Bottlerocket upstream counts the hard ones alone.
        let soft = (family != "Bottlerocket").then_some("evictionSoft");
        let thresholds = |signal: &str| -> Vec<Threshold> {
            let kinds = std::iter::once("evictionHard").chain(soft);
            kinds.filter_map(|it| parse_threshold(settings[it][signal].as_str()?)).collect()
        };
        kubelet.eviction_memory = thresholds("memory.available");
        kubelet.eviction_storage = thresholds("nodefs.available");
        let mut mappings = spec.block_device_mappings.iter();
        let is_data = |it: &&BlockDeviceMapping| it.device_name.as_deref() == data_device(family);
        let root = mappings.clone().find(|it| it.root_volume == Some(true));
        let root = root.or_else(|| match family {
            // Nobody knows what an image of the user's does with its volumes.
            "Custom" => mappings.next_back(),
            _ => mappings.find(is_data),
        });
        let size = root.and_then(|it| it.ebs.as_ref()?.volume_size.as_deref());
        kubelet.root_volume = size.and_then(|it| it.parse::<Quantity>().ok()).map(|it| it.value());
        kubelet
    }
}

/// Where images of a family keep pods' data.
fn data_device(family: &str) -> Option<&'static str> {
    match family {
        "Bottlerocket" => Some("/dev/xvdb"),
        "Custom" => None,
        _ => Some("/dev/xvda"),
    }
}

fn amounts(list: &Value) -> BTreeMap<String, i64> {
    let pairs = list.as_object().into_iter().flatten();
    let read = pairs.filter_map(|(name, value)| {
        let quantity: Quantity = value.as_str()?.parse().ok()?;
        let amount = if name == "cpu" { quantity.millis() } else { quantity.value() };
        Some((name.clone(), amount))
    });
    read.collect()
}

fn parse_threshold(text: &str) -> Option<Threshold> {
    match text.strip_suffix('%') {
        Some(percent) => percent.parse().ok().map(Threshold::Percent),
        None => text.parse::<Quantity>().ok().map(|it| Threshold::Bytes(it.value())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(family: &str, mappings: Value) -> Option<i64> {
        let class = json!({ "metadata": { "name": "a" }, "spec": { "amiFamily": family,
            "blockDeviceMappings": mappings, "kubelet": { "podsPerCore": 2 } } });
        let found = Kubelet::of(&serde_json::from_value(class).unwrap());
        assert_eq!(found.pods_per_core.is_none(), family == "Bottlerocket");
        found.root_volume.map(|it| it >> 30)
    }

    #[test]
    fn pods_have_the_volume_that_the_familys_images_keep_their_data_on() {
        let two = json!([{ "deviceName": "/dev/xvda", "ebs": { "volumeSize": "4Gi" } },
            { "deviceName": "/dev/xvdb", "ebs": { "volumeSize": "80Gi" } }]);
        assert_eq!(of("Bottlerocket", two.clone()), Some(80));
        assert_eq!(of("AL2023", two.clone()), Some(4));
        assert_eq!(of("Custom", two.clone()), Some(80));
        let mut flagged = two;
        flagged[0]["rootVolume"] = json!(true);
        assert_eq!(of("Bottlerocket", flagged), Some(4));
        assert_eq!(of("Bottlerocket", json!([])), None, "the default");
    }
}
