//! What nodes of a class may be: types that there is an image for, in the zones of its subnets.

use std::{collections::BTreeMap, sync::Arc};

use api_kube::karpenter::{Ec2NodeClass, NetworkInterface, labels};
use karpenter_core::InstanceType;

use crate::{Kubelet, Market, Zone, instance_types};

/// Whether EC2's resources of a class have been found.
pub fn is_ready(class: &Ec2NodeClass) -> bool {
    let status = class.status.as_ref();
    status
        .is_some_and(|it| it.conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True"))
}

/// Whether a type can have these interfaces. No type is known to have EFA.
fn has_interfaces(name: &str, wanted: &[NetworkInterface]) -> bool {
    let Some(kind) = instance_types::find(name).filter(|_| !wanted.is_empty()) else { return true };
    let cards = i32::try_from(kind.network_cards).unwrap_or(i32::MAX);
    let on_first = wanted.iter().filter(|it| it.network_card_index == 0).count();
    wanted.iter().all(|it| it.interface_type == "interface" && it.network_card_index < cards)
        && u32::try_from(on_first).is_ok_and(|it| it <= kind.enis)
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
        is_offered(&it.name)
            && arch.is_some_and(|it| archs.contains(&it.as_str()))
            && has_interfaces(&it.name, &class.spec.network_interfaces)
    });
    Some(here.cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_offered_where_it_can_have_the_interfaces_of_the_class() {
        let of = |card, device, kind: &str| NetworkInterface {
            network_card_index: card,
            device_index: device,
            interface_type: kind.to_owned(),
        };
        let plain: Vec<_> = (0..3).map(|device| of(0, device, "interface")).collect();
        assert!(has_interfaces("m5.large", &[]) && has_interfaces("m5.large", &plain));
        assert!(!has_interfaces("t3.micro", &plain), "it has two");
        let second = [of(0, 0, "interface"), of(1, 1, "interface")];
        assert!(!has_interfaces("m5.large", &second), "it has one card");
        assert!(!has_interfaces("m5.large", &[of(0, 0, "interface"), of(0, 1, "efa-only")]));
    }
}
