//! Quality-of-service classes, and the kernel numbers that follow from requests and limits.
//!
//! Upstream: `pkg/apis/core/v1/helper/qos`, `pkg/kubelet/qos/policy.go`, `pkg/kubelet/cm/helpers_linux.go`.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, Pod, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

use crate::{
    pod::{Kind, PodExt, init_kind},
    quantity,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl QosClass {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// The CFS period that quotas are for.
pub(crate) const CPU_PERIOD: i64 = 100_000;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
const MIN_QUOTA: i64 = 1000;

/// Milli-CPUs and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub cpu_milli: i64,
    pub memory: i64,
}

impl Amounts {
    fn plus(self, other: Self) -> Self {
        Self { cpu_milli: self.cpu_milli + other.cpu_milli, memory: self.memory + other.memory }
    }

    fn max(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.max(other.cpu_milli),
            memory: self.memory.max(other.memory),
        }
    }
}

type List = BTreeMap<String, Quantity>;

fn amount(list: Option<&List>, name: &str) -> Option<i64> {
    let quantity = list?.get(name)?;
    if name == "cpu" { quantity::milli(quantity) } else { quantity::value(quantity) }
}

/// A container's requests; a limit without a request is the request, as the API server defaults it.
pub(crate) fn requests(resources: Option<&ResourceRequirements>) -> Amounts {
    let Some(resources) = resources else { return Amounts::default() };
    let one = |name| {
        amount(resources.requests.as_ref(), name)
            .or_else(|| amount(resources.limits.as_ref(), name))
            .unwrap_or(0)
    };
    Amounts { cpu_milli: one("cpu"), memory: one("memory") }
}

/// A container's limits; zero where there is none.
pub(crate) fn limits(resources: Option<&ResourceRequirements>) -> Amounts {
    let limits = resources.and_then(|it| it.limits.as_ref());
    Amounts {
        cpu_milli: amount(limits, "cpu").unwrap_or(0),
        memory: amount(limits, "memory").unwrap_or(0),
    }
}

pub(crate) fn qos_class(pod: &Pod) -> QosClass {
    let spec = PodExt::spec(pod);
    let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
    let is_best_effort = containers().all(|it| {
        requests(it.resources.as_ref()) == Amounts::default()
            && limits(it.resources.as_ref()) == Amounts::default()
    });
    if is_best_effort {
        return QosClass::BestEffort;
    }
    let is_guaranteed = containers().all(|it| {
        let (request, limit) = (requests(it.resources.as_ref()), limits(it.resources.as_ref()));
        limit.cpu_milli > 0 && limit.memory > 0 && request == limit
    });
    if is_guaranteed { QosClass::Guaranteed } else { QosClass::Burstable }
}

/// What a pod asks of the node: the larger of its containers' sum and its largest init step, with
/// sidecars counted on both sides, and the overhead.
pub(crate) fn pod_requests(pod: &Pod) -> Amounts {
    folded(pod, |it| requests(it.resources.as_ref()))
}

/// The pod's limits, and whether every container has one.
pub(crate) fn pod_limits(pod: &Pod) -> (Amounts, bool, bool) {
    let total = folded(pod, |it| limits(it.resources.as_ref()));
    let spec = PodExt::spec(pod);
    let all = |has: fn(Amounts) -> bool| {
        spec.containers.iter().all(|it| has(limits(it.resources.as_ref())))
    };
    (total, all(|it| it.cpu_milli > 0), all(|it| it.memory > 0))
}

fn folded(pod: &Pod, amounts: impl Fn(&Container) -> Amounts) -> Amounts {
    let spec = PodExt::spec(pod);
    let (mut sidecars, mut largest_init) = (Amounts::default(), Amounts::default());
    for container in spec.init_containers.iter().flatten() {
        let own = amounts(container);
        if init_kind(container) == Kind::Sidecar {
            sidecars = sidecars.plus(own);
            largest_init = largest_init.max(sidecars);
        } else {
            largest_init = largest_init.max(sidecars.plus(own));
        }
    }
    let regular = spec.containers.iter().map(&amounts).fold(sidecars, Amounts::plus);
    let overhead = Amounts {
        cpu_milli: amount(spec.overhead.as_ref(), "cpu").unwrap_or(0),
        memory: amount(spec.overhead.as_ref(), "memory").unwrap_or(0),
    };
    regular.max(largest_init).plus(overhead)
}

/// `cpu.shares` for a request.
pub(crate) fn cpu_shares(milli: i64) -> i64 {
    if milli <= 0 { MIN_SHARES } else { (milli * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES) }
}

/// The CFS quota for a limit; zero for none.
pub(crate) fn cpu_quota(milli: i64) -> i64 {
    if milli <= 0 { 0 } else { (milli * CPU_PERIOD / 1000).max(MIN_QUOTA) }
}

/// cgroup v2's `cpu.weight` for v1's shares (KEP-2254).
pub(crate) fn cpu_weight(shares: i64) -> i64 {
    let shares = shares.clamp(MIN_SHARES, MAX_SHARES);
    1 + (shares - MIN_SHARES) * 9999 / (MAX_SHARES - MIN_SHARES)
}

/// The OOM score adjustment of a container: the more of the node's memory it asked for, the safer.
pub(crate) fn oom_score_adj(pod: &Pod, container: &Container, node_memory: i64) -> i64 {
    const GUARANTEED: i64 = -997;
    const BEST_EFFORT: i64 = 1000;
    if PodExt::spec(pod).priority.is_some_and(|it| it >= 2_000_001_000) {
        return GUARANTEED;
    }
    match qos_class(pod) {
        QosClass::Guaranteed => GUARANTEED,
        QosClass::BestEffort => BEST_EFFORT,
        QosClass::Burstable => {
            let request = requests(container.resources.as_ref()).memory;
            let score = 1000 - 1000 * request / node_memory.max(1);
            if score < 1000 + GUARANTEED {
                return 1000 + GUARANTEED;
            }
            if score == BEST_EFFORT { score - 1 } else { score }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodSpec;

    fn container(requests: &[(&str, &str)], limits: &[(&str, &str)]) -> Container {
        let list = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), Quantity((*v).to_owned()))).collect()
        };
        Container {
            resources: Some(ResourceRequirements {
                requests: Some(list(requests)),
                limits: Some(list(limits)),
                claims: None,
            }),
            ..Container::default()
        }
    }

    fn pod(containers: Vec<Container>) -> Pod {
        Pod { spec: Some(PodSpec { containers, ..PodSpec::default() }), ..Pod::default() }
    }

    #[test]
    fn classes_follow_requests_and_limits() {
        let both = [("cpu", "100m"), ("memory", "64Mi")];
        assert_eq!(qos_class(&pod(vec![container(&both, &both)])), QosClass::Guaranteed);
        assert_eq!(qos_class(&pod(vec![container(&[], &both)])), QosClass::Guaranteed);
        assert_eq!(qos_class(&pod(vec![container(&both, &[])])), QosClass::Burstable);
        assert_eq!(qos_class(&pod(vec![container(&[], &[])])), QosClass::BestEffort);
        let mixed = pod(vec![container(&both, &both), container(&[], &[])]);
        assert_eq!(qos_class(&mixed), QosClass::Burstable);
    }

    #[test]
    fn a_sidecar_counts_beside_the_containers_and_beside_later_init_steps() {
        let mut sidecar = container(&[("cpu", "100m")], &[]);
        sidecar.restart_policy = Some("Always".to_owned());
        let mut pod = pod(vec![container(&[("cpu", "200m")], &[])]);
        pod.spec.as_mut().unwrap().init_containers =
            Some(vec![sidecar, container(&[("cpu", "500m")], &[])]);
        assert_eq!(pod_requests(&pod).cpu_milli, 600);
    }

    #[test]
    fn the_kernel_numbers_have_upstreams_bounds() {
        assert_eq!(cpu_shares(0), 2);
        assert_eq!(cpu_shares(1000), 1024);
        assert_eq!(cpu_quota(0), 0);
        assert_eq!(cpu_quota(5), 1000);
        assert_eq!(cpu_quota(250), 25_000);
        assert_eq!(cpu_weight(1024), 39);
        assert_eq!(cpu_weight(262_144), 10_000);
    }

    #[test]
    fn oom_scores_protect_what_asked_for_more() {
        let node = 1 << 30;
        let small = container(&[("memory", "1Mi")], &[]);
        let large = container(&[("memory", "512Mi")], &[]);
        let pod = pod(vec![small.clone(), large.clone()]);
        assert_eq!(oom_score_adj(&pod, &small, node), 999);
        assert_eq!(oom_score_adj(&pod, &large, node), 500);
    }
}
