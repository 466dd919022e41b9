//! What nodes of a class may be: types that there is an image for, in the zones of its subnets.

use std::{collections::BTreeMap, sync::Arc};

use api_kube::karpenter::{Ec2NodeClass, labels};
use karpenter_core::InstanceType;

use crate::{Kubelet, Market, Zone, instance_types};

/// Whether EC2's resources of a class have been found.
pub fn is_ready(class: &Ec2NodeClass) -> bool {
    let status = class.status.as_ref();
    status
        .is_some_and(|it| it.conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True"))
}

/// The types of a class that is ready; `market` says what can be had, and `is_offered` whether the
/// region has a type at all.
pub fn offers(
    class: &Ec2NodeClass,
    market: Market,
    is_offered: impl Fn(&str) -> bool,
) -> Option<Arc<[InstanceType]>> {
    let status = class.status.as_ref().filter(|_| is_ready(class))?;
    let zones: BTreeMap<String, Option<String>> =
        status.subnets.iter().map(|it| (it.zone.clone(), it.zone_id.clone())).collect();
    let zones = zones.into_iter().map(|(name, id)| Zone { name, id }).collect();
    let archs: Vec<&str> = status
        .amis
        .iter()
        .flat_map(|it| &it.requirements)
        .flat_map(|it| it.values.iter().map(String::as_str))
        .collect();
    let all = instance_types(&Kubelet::of(class), &Market { zones, ..market });
    let here = all.iter().filter(|it| {
        let arch = it.labels.get(labels::ARCH);
        is_offered(&it.name) && arch.is_some_and(|it| archs.contains(&it.as_str()))
    });
    Some(here.cloned().collect())
}
