//! Which fields of the built-in types are as good as absent where they are empty.
//!
//! Upstream decodes into types and writes them out again, which leaves out what is `omitempty` and
//! empty: texts, numbers, flags, lists and maps, not objects.

use super::Shape;

/// Lists and maps that are shown where they are empty, though nobody has to give them.
const SHOWN: &[(&str, &str)] = &[
    ("AllocatedDeviceStatus", "conditions"),
    ("CSINodeDriver", "topologyKeys"),
    ("ClusterRole", "rules"),
    ("ContainerImage", "names"),
    ("CustomResourceDefinitionStatus", "conditions"),
    ("CustomResourceDefinitionStatus", "storedVersions"),
    ("DeviceClaim", "requests"),
    ("EndpointSlice", "endpoints"),
    ("EndpointSlice", "ports"),
    ("HorizontalPodAutoscalerStatus", "currentMetrics"),
    ("PodFailurePolicyRule", "onPodConditions"),
    ("ProjectedVolumeSource", "sources"),
    ("ResourcePolicyRule", "namespaces"),
    ("Role", "rules"),
    ("TokenRequestSpec", "audiences"),
];

/// Of a field that the schema does not require.
pub(super) fn is_left_out(owner: &str, field: &str, shape: &Shape) -> bool {
    match shape {
        Shape::List(_) | Shape::Map(_) | Shape::Bytes => !SHOWN.contains(&(owner, field)),
        Shape::String | Shape::Boolean | Shape::Integer(_) | Shape::Number => {
            !kube_protobuf::is_zero_a_value(owner, field)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::LOADED;

    #[test]
    fn every_list_that_is_shown_is_a_field_that_nobody_has_to_give() {
        for (owner, name) in SHOWN {
            let mut owners = LOADED.values().filter(|it| it.name == *owner);
            let found = owners.find_map(|it| it.fields.get(*name));
            let shape = &found.unwrap_or_else(|| panic!("{owner}.{name}")).shape;
            assert!(matches!(shape, Shape::List(_) | Shape::Map(_)), "{owner}.{name}");
        }
    }
}
