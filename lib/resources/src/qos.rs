//! The quality-of-service class of a pod.
//!
//! Upstream: `pkg/apis/core/v1/helper/qos`. Guaranteed when every container has CPU and memory
//! limits equal to its requests, BestEffort when none names either, Burstable otherwise.

use std::fmt;

use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};

use crate::{Amounts, Quantity};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QosClass {
    BestEffort,
    Burstable,
    Guaranteed,
}

impl QosClass {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BestEffort => "BestEffort",
            Self::Burstable => "Burstable",
            Self::Guaranteed => "Guaranteed",
        }
    }
}

impl fmt::Display for QosClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The class that the API server writes into `status.qosClass`.
pub fn qos_class(spec: &PodSpec) -> QosClass {
    if let Some(whole) = &spec.resources {
        return class_of([Some(whole)].into_iter());
    }
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    class_of(containers.map(|it| it.resources.as_ref()))
}

fn class_of<'a>(all: impl Iterator<Item = Option<&'a ResourceRequirements>>) -> QosClass {
    let (mut names_any, mut all_guaranteed) = (false, true);
    for resources in all {
        let limits = Amounts::from_list(resources.and_then(|it| it.limits.as_ref()));
        let mut requests = limits.clone();
        let named = resources.and_then(|it| it.requests.as_ref());
        for (name, quantity) in named.into_iter().flatten() {
            let quantity = Quantity::try_from(quantity).unwrap_or_default();
            requests.set(name, if name == "cpu" { quantity.millis() } else { quantity.value() });
        }
        for name in ["cpu", "memory"] {
            let (request, limit) = (requests.amount(name), limits.amount(name));
            names_any |= request != 0 || limit != 0;
            all_guaranteed &= limit != 0 && request == limit;
        }
    }
    match (names_any, all_guaranteed) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::core::v1::Container, apimachinery::pkg::api::resource::Quantity as ApiQuantity,
    };

    use super::*;

    fn container(requests: &[(&str, &str)], limits: &[(&str, &str)]) -> Container {
        let list = |pairs: &[(&str, &str)]| {
            Some(pairs.iter().map(|(k, v)| ((*k).into(), ApiQuantity((*v).into()))).collect())
        };
        let resources = ResourceRequirements {
            requests: list(requests),
            limits: list(limits),
            ..Default::default()
        };
        Container { resources: Some(resources), ..Default::default() }
    }

    #[test]
    fn the_class_follows_requests_and_limits_of_every_container() {
        let full = [("cpu", "1"), ("memory", "1Gi")];
        let cases = [
            (vec![Container::default()], QosClass::BestEffort),
            (vec![container(&[], &full)], QosClass::Guaranteed),
            (vec![container(&full, &full)], QosClass::Guaranteed),
            (vec![container(&full, &[])], QosClass::Burstable),
            (vec![container(&[], &[("cpu", "1")])], QosClass::Burstable),
            (vec![container(&[], &full), Container::default()], QosClass::Burstable),
            (vec![container(&[("cpu", "500m")], &full)], QosClass::Burstable),
        ];
        for (index, (containers, expected)) in cases.into_iter().enumerate() {
            let spec = PodSpec { containers, ..Default::default() };
            assert_eq!(qos_class(&spec), expected, "case {index}");
        }
    }
}
