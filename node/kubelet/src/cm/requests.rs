//! What containers ask of the managers.
//!
//! Upstream: `guaranteedCPUs` and `getRequestedResources` of the managers' static policies.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, Pod},
    apimachinery::pkg::api::resource::Quantity,
};

use crate::{
    pod::{Kind, PodExt, init_kind},
    qos::{self, QosClass},
    quantity,
};

pub(crate) const MEMORY: &str = "memory";
pub(crate) const HUGEPAGES: &str = "hugepages-";

/// A limit without a request is the request, as the API server defaults it.
fn request<'a>(container: &'a Container, name: &str) -> Option<&'a Quantity> {
    let resources = container.resources.as_ref()?;
    let of = |list: &'a Option<BTreeMap<String, Quantity>>| list.as_ref()?.get(name);
    of(&resources.requests).or_else(|| of(&resources.limits))
}

/// The static policies leave pods with resources of their own alone.
fn is_pinned(pod: &Pod) -> bool {
    qos::qos_class(pod) == QosClass::Guaranteed && PodExt::spec(pod).resources.is_none()
}

/// How many CPUs a container has for itself; zero when it shares.
pub(crate) fn exclusive_cpus(pod: &Pod, container: &Container) -> usize {
    let milli = request(container, "cpu").and_then(quantity::milli).unwrap_or(0);
    let is_whole = milli > 0 && milli % 1000 == 0;
    if !is_whole || !is_pinned(pod) {
        return 0;
    }
    usize::try_from(milli / 1000).unwrap_or(0)
}

/// The most that a pod has at any time.
pub(crate) fn pod_exclusive_cpus(pod: &Pod) -> usize {
    let spec = PodExt::spec(pod);
    let (mut sidecars, mut most) = (0, 0);
    for container in spec.init_containers.iter().flatten() {
        let own = exclusive_cpus(pod, container);
        if init_kind(container) == Kind::Sidecar {
            sidecars += own;
            most = most.max(sidecars);
        } else {
            most = most.max(sidecars + own);
        }
    }
    let regular: usize = spec.containers.iter().map(|it| exclusive_cpus(pod, it)).sum();
    most.max(sidecars + regular)
}

/// Bytes of memory and of huge pages that a container has from certain nodes.
pub(crate) fn pinned_memory(pod: &Pod, container: &Container) -> BTreeMap<String, u64> {
    let mut wanted = BTreeMap::new();
    if !is_pinned(pod) {
        return wanted;
    }
    let resources = container.resources.as_ref();
    let lists = resources.into_iter().flat_map(|it| [it.limits.as_ref(), it.requests.as_ref()]);
    for name in lists.flatten().flat_map(BTreeMap::keys) {
        if (name == MEMORY || name.starts_with(HUGEPAGES))
            && let Some(bytes) = request(container, name).and_then(quantity::value)
        {
            wanted.insert(name.clone(), u64::try_from(bytes).unwrap_or(0));
        }
    }
    wanted
}

pub(crate) fn pod_pinned_memory(pod: &Pod) -> BTreeMap<String, u64> {
    let spec = PodExt::spec(pod);
    let (mut sidecars, mut most) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, u64>::new());
    for container in spec.init_containers.iter().flatten() {
        for (name, bytes) in pinned_memory(pod, container) {
            let beside = sidecars.entry(name.clone()).or_default();
            let step = beside.saturating_add(bytes);
            if init_kind(container) == Kind::Sidecar {
                *beside = step;
            }
            let largest = most.entry(name).or_default();
            *largest = step.max(*largest);
        }
    }
    let mut total = sidecars;
    for container in &spec.containers {
        for (name, bytes) in pinned_memory(pod, container) {
            let own = total.entry(name).or_default();
            *own = own.saturating_add(bytes);
        }
    }
    for (name, bytes) in most {
        let own = total.entry(name).or_default();
        *own = bytes.max(*own);
    }
    total
}

/// Whole units of each extended resource that a container asks for.
pub(crate) fn extended(container: &Container) -> BTreeMap<String, usize> {
    let limits = container.resources.as_ref().and_then(|it| it.limits.as_ref());
    let listed = limits.into_iter().flatten().filter(|(name, _)| is_extended(name));
    listed
        .filter_map(|(name, it)| {
            let count = usize::try_from(quantity::value(it)?).ok()?;
            (count > 0).then(|| (name.clone(), count))
        })
        .collect()
}

/// A resource with a domain that is not Kubernetes' own.
pub(crate) fn is_extended(name: &str) -> bool {
    let Some((domain, rest)) = name.split_once('/') else { return false };
    let is_own = domain == "kubernetes.io" || domain.ends_with(".kubernetes.io");
    !is_own && !domain.is_empty() && !rest.is_empty() && !name.starts_with("requests.")
}

#[cfg(test)]
pub(crate) mod tests {
    use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};

    use super::*;

    /// A Guaranteed pod; containers are `(name, cpu)` and have 1 MiB each.
    pub(crate) fn guaranteed(uid: &str, containers: &[(&str, &str)]) -> Pod {
        let container = |(name, cpu): &(&str, &str)| with(name, &[("cpu", cpu), ("memory", "1Mi")]);
        let spec = PodSpec {
            containers: containers.iter().map(container).collect(),
            ..PodSpec::default()
        };
        let mut pod = Pod { spec: Some(spec), ..Pod::default() };
        pod.metadata.uid = Some(uid.to_owned());
        pod
    }

    pub(crate) fn with(name: &str, limits: &[(&str, &str)]) -> Container {
        let limits: BTreeMap<_, _> =
            limits.iter().map(|(k, v)| ((*k).to_owned(), Quantity((*v).to_owned()))).collect();
        let resources = ResourceRequirements { limits: Some(limits), ..Default::default() };
        Container { name: name.to_owned(), resources: Some(resources), ..Container::default() }
    }

    #[test]
    fn only_whole_cpus_of_guaranteed_pods_are_exclusive() {
        let pod = guaranteed("a", &[("c", "2"), ("d", "1500m")]);
        let containers = &pod.spec.as_ref().unwrap().containers;
        assert_eq!(exclusive_cpus(&pod, &containers[0]), 2);
        assert_eq!(exclusive_cpus(&pod, &containers[1]), 0);
        let mut burstable = pod.clone();
        burstable.spec.as_mut().unwrap().containers.push(with("e", &[]));
        assert_eq!(exclusive_cpus(&burstable, &containers[0]), 0);
    }

    #[test]
    fn extended_resources_have_a_foreign_domain() {
        for (name, is) in [
            ("example.com/gpu", true),
            ("cpu", false),
            ("kubernetes.io/x", false),
            ("node.kubernetes.io/x", false),
            ("hugepages-2Mi", false),
            ("requests.example.com/gpu", false),
        ] {
            assert_eq!(is_extended(name), is, "{name}");
        }
    }
}
