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
/// The kernel's `max_cfs_runtime`, in microseconds: a larger quota is refused.
const MAX_QUOTA: i64 = (1 << 44) - 1;

/// Milli-CPUs and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub cpu_milli: i64,
    pub memory: i64,
}

impl Amounts {
    fn plus(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            memory: self.memory.saturating_add(other.memory),
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.max(other.cpu_milli),
            memory: self.memory.max(other.memory),
        }
    }
}

/// How CPU limits are enforced (`cpuCFSQuota`, `cpuCFSQuotaPeriod`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cfs {
    pub is_enforced: bool,
    /// Microseconds.
    pub period: i64,
}

impl Default for Cfs {
    fn default() -> Self {
        Self { is_enforced: true, period: CPU_PERIOD }
    }
}

impl Cfs {
    /// The quota for a limit; zero for none.
    pub(crate) fn quota(self, milli: i64) -> i64 {
        if milli <= 0 || !self.is_enforced {
            return 0;
        }
        quota(milli, self.period)
    }
}

fn quota(milli: i64, period: i64) -> i64 {
    (milli.saturating_mul(period) / 1000).clamp(MIN_QUOTA, MAX_QUOTA)
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

/// What a container may use: where it has no limit of its own, the limit of the pod as a whole.
pub(crate) fn effective(
    own: Option<&ResourceRequirements>,
    whole: Option<&ResourceRequirements>,
) -> ResourceRequirements {
    let mut all = own.cloned().unwrap_or_default();
    for (name, limit) in whole.and_then(|it| it.limits.as_ref()).into_iter().flatten() {
        if name == "cpu" || name == "memory" {
            let limits = all.limits.get_or_insert_default();
            limits.entry(name.clone()).or_insert_with(|| limit.clone());
        }
    }
    all
}

pub(crate) fn qos_class(pod: &Pod) -> QosClass {
    let spec = PodExt::spec(pod);
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    // What a pod says for itself is what counts.
    let all: Vec<Option<&ResourceRequirements>> = match pod_level(pod) {
        Some(own) => vec![Some(own)],
        None => containers.map(|it| it.resources.as_ref()).collect(),
    };
    let is_best_effort = all
        .iter()
        .all(|it| requests(*it) == Amounts::default() && limits(*it) == Amounts::default());
    if is_best_effort {
        return QosClass::BestEffort;
    }
    let is_guaranteed = all.iter().all(|it| {
        let (request, limit) = (requests(*it), limits(*it));
        limit.cpu_milli > 0 && limit.memory > 0 && request == limit
    });
    if is_guaranteed { QosClass::Guaranteed } else { QosClass::Burstable }
}

/// The resources of the pod as a whole (`spec.resources`), where it names CPU or memory.
pub(crate) fn pod_level(pod: &Pod) -> Option<&ResourceRequirements> {
    let own = PodExt::spec(pod).resources.as_ref()?;
    let lists = [own.requests.as_ref(), own.limits.as_ref()];
    let mut names = lists.into_iter().flatten().flat_map(BTreeMap::keys);
    names.any(|it| it == "cpu" || it == "memory" || it.starts_with("hugepages-")).then_some(own)
}

/// `total` with what the pod as a whole says, and its overhead.
fn overridden(pod: &Pod, total: Amounts, own: Option<Amounts>) -> Amounts {
    let own = own.unwrap_or_default();
    let or = |own: i64, sum: i64| if own > 0 { own } else { sum };
    let overhead = PodExt::spec(pod).overhead.as_ref();
    let overhead = Amounts {
        cpu_milli: amount(overhead, "cpu").unwrap_or(0),
        memory: amount(overhead, "memory").unwrap_or(0),
    };
    let asked = Amounts {
        cpu_milli: or(own.cpu_milli, total.cpu_milli),
        memory: or(own.memory, total.memory),
    };
    asked.plus(overhead)
}

/// What a pod asks of the node: the larger of its containers' sum and its largest init step, with
/// sidecars counted on both sides, and the overhead.
pub(crate) fn pod_requests(pod: &Pod) -> Amounts {
    let total = folded(pod, |it| requests(it.resources.as_ref()));
    overridden(pod, total, pod_level(pod).map(|it| requests(Some(it))))
}

/// The pod's limits, and whether every container has one.
pub(crate) fn pod_limits(pod: &Pod) -> (Amounts, bool, bool) {
    let own = pod_level(pod).map(|it| limits(Some(it)));
    let total = overridden(pod, folded(pod, |it| limits(it.resources.as_ref())), own);
    let spec = PodExt::spec(pod);
    let all = |has: fn(Amounts) -> bool| {
        // One init container without a limit leaves the pod without one, as upstream has it.
        let mut all = spec.init_containers.iter().flatten().chain(&spec.containers);
        own.is_some_and(has) || all.all(|it| has(limits(it.resources.as_ref())))
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
    regular.max(largest_init)
}

/// `cpu.shares` for a request.
pub(crate) fn cpu_shares(milli: i64) -> i64 {
    if milli <= 0 {
        MIN_SHARES
    } else {
        (milli.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES)
    }
}

/// The CFS quota for a limit; zero for none.
pub(crate) fn cpu_quota(milli: i64) -> i64 {
    if milli <= 0 { 0 } else { quota(milli, CPU_PERIOD) }
}

/// cgroup v2's `cpu.weight` for v1's shares: the ends of both ranges meet, and so do the kernel's
/// defaults, 1024 and 100, so that a pod with a CPU weighs what a service of the system does.
///
/// Upstream: `ConvertCPUSharesToCgroupV2Value` of `opencontainers/cgroups`, since 1.35; KEP-2254 was linear.
/// runc before 1.3.2 and crun before 1.23 still are, for the groups of containers.
#[expect(clippy::cast_possible_truncation, reason = "a whole number, 10,000 at most")]
pub(crate) fn cpu_weight(shares: i64) -> i64 {
    match shares {
        ..=MIN_SHARES => 1,
        MAX_SHARES.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            10_f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil() as i64
        }
    }
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
            let score = burstable_score(pod, container, node_memory.max(1));
            if score < 1000 + GUARANTEED {
                return 1000 + GUARANTEED;
            }
            if score == BEST_EFFORT { score - 1 } else { score }
        }
    }
}

/// The swap that a container may use where it is limited (`LimitedSwap`): of the node's the part that it
/// asks for of the node's memory. Only containers that may be given more memory than they ask for have any.
#[expect(clippy::cast_possible_truncation, reason = "less than the machine's swap")]
pub(crate) fn limited_swap(pod: &Pod, container: &Container, memory: i64, swap: i64) -> i64 {
    let resources = container.resources.as_ref();
    let (asked, limit) = (requests(resources).memory, limits(resources).memory);
    let has_none = qos_class(pod) != QosClass::Burstable || pod.is_critical() || asked == limit;
    if has_none || asked > memory || memory <= 0 {
        return 0;
    }
    // In the order of upstream's calculation, which rounds so.
    (asked as f64 / memory as f64 * swap as f64) as i64
}

/// A sidecar is at least as safe as the container that asked for the least. What the pod asked for as
/// a whole and no container did is shared by all of them.
fn burstable_score(pod: &Pod, container: &Container, node_memory: i64) -> i64 {
    let spec = PodExt::spec(pod);
    let memory = |it: &Container| requests(it.resources.as_ref()).memory;
    let inits = || spec.init_containers.iter().flatten();
    let sidecars = || inits().filter(|it| init_kind(it) == Kind::Sidecar);
    let count = sidecars().chain(&spec.containers).count();
    let asked = quantity::sum(sidecars().chain(&spec.containers).map(memory));
    let whole = pod_level(pod).map(|it| requests(Some(it)).memory).unwrap_or(0);
    let rest = whole.saturating_sub(asked).max(0) / i64::try_from(count).unwrap_or(1).max(1);
    let score = |request: i64| {
        let part = request.saturating_add(rest).saturating_mul(1000) / node_memory;
        1000_i64.saturating_sub(part)
    };
    let own = score(memory(container));
    if sidecars().any(|it| it.name == container.name) {
        let least = spec.containers.iter().map(memory).min().unwrap_or(0);
        return own.min(score(least));
    }
    own
}

/// The CPU shares of all Burstable pods together.
pub(crate) fn burstable_shares<'a>(pods: impl Iterator<Item = &'a Pod>) -> i64 {
    let burstable = pods.filter(|it| qos_class(it) == QosClass::Burstable);
    cpu_shares(quantity::sum(burstable.map(|it| pod_requests(it).cpu_milli)))
}

/// Limits of huge pages by page size (`2Mi`): what all containers of a pod may have together.
pub(crate) fn pod_hugepages(pod: &Pod) -> BTreeMap<String, i64> {
    let of = |resources: Option<&ResourceRequirements>| -> BTreeMap<String, i64> {
        let list = resources.and_then(|it| it.limits.as_ref());
        let pages = list.into_iter().flatten().filter_map(|(name, it)| {
            Some((name.strip_prefix("hugepages-")?.to_owned(), quantity::value(it)?))
        });
        pages.collect()
    };
    let spec = PodExt::spec(pod);
    let (mut total, mut largest) = (BTreeMap::<String, i64>::new(), BTreeMap::<String, i64>::new());
    for container in spec.init_containers.iter().flatten() {
        for (size, bytes) in of(container.resources.as_ref()) {
            if init_kind(container) == Kind::Sidecar {
                let known = total.entry(size).or_default();
                *known = known.saturating_add(bytes);
            } else {
                let step = bytes.saturating_add(total.get(&size).copied().unwrap_or(0));
                let known = largest.entry(size).or_default();
                *known = step.max(*known);
            }
        }
    }
    for container in &spec.containers {
        for (size, bytes) in of(container.resources.as_ref()) {
            let known = total.entry(size).or_default();
            *known = known.saturating_add(bytes);
        }
    }
    for (size, bytes) in largest {
        let known = total.entry(size).or_default();
        *known = bytes.max(*known);
    }
    total.extend(of(pod_level(pod)));
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodSpec;

    const SYSTEM_CRITICAL: i32 = 2_000_000_000;

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
    fn what_nobody_has_is_asked_for_as_much_and_not_as_nothing() {
        let huge = [("cpu", "10E"), ("memory", "10E")];
        let mut one = pod(vec![container(&huge, &[]), container(&huge, &huge)]);
        let all = Amounts { cpu_milli: i64::MAX, memory: i64::MAX };
        assert_eq!(pod_requests(&one), all);
        assert_eq!(qos_class(&one), QosClass::Burstable);
        assert_eq!(cpu_shares(i64::MAX), MAX_SHARES);
        assert_eq!(cpu_quota(i64::MAX), MAX_QUOTA);
        assert_eq!(Cfs::default().quota(i64::MAX), MAX_QUOTA);
        assert_eq!(burstable_shares([&one, &one].into_iter()), MAX_SHARES);
        let first = one.spec.as_ref().unwrap().containers[0].clone();
        assert_eq!(oom_score_adj(&one, &first, 1 << 30), 3, "no safer than what is Guaranteed");
        let overhead = [("memory".to_owned(), Quantity("10E".to_owned()))].into();
        one.spec.as_mut().unwrap().overhead = Some(overhead);
        assert_eq!(pod_requests(&one), all);
    }

    #[test]
    fn swap_is_shared_by_who_asks_for_some_memory_and_may_have_more() {
        let own = |it: &Pod| limited_swap(it, &it.spec.as_ref().unwrap().containers[0], 1000, 500);
        let asks = [("memory", "200")];
        let mut burstable = pod(vec![container(&asks, &[("memory", "400")])]);
        assert_eq!(own(&burstable), 100);
        assert_eq!(own(&pod(vec![container(&asks, &[])])), 100);
        burstable.spec.as_mut().unwrap().priority = Some(SYSTEM_CRITICAL);
        assert_eq!(own(&burstable), 0, "it is critical");
        let same = container(&asks, &asks);
        let beside = container(&[("cpu", "1")], &[]);
        for none in [vec![same, beside.clone()], vec![beside], vec![container(&[], &[])]] {
            assert_eq!(own(&pod(none)), 0);
        }
        let more = pod(vec![container(&[("memory", "1001")], &[])]);
        assert_eq!(own(&more), 0, "more than there is");
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

    fn with_whole(mut pod: Pod, requests: &[(&str, &str)], limits: &[(&str, &str)]) -> Pod {
        pod.spec.as_mut().unwrap().resources = container(requests, limits).resources;
        pod
    }

    #[test]
    fn what_the_pod_says_as_a_whole_is_what_counts() {
        let both = [("cpu", "1"), ("memory", "64Mi")];
        let bare = pod(vec![container(&[], &[]), container(&[("cpu", "200m")], &[])]);
        let whole = with_whole(bare.clone(), &both, &both);
        assert_eq!(qos_class(&whole), QosClass::Guaranteed);
        assert_eq!(pod_requests(&whole).cpu_milli, 1000);
        let (limits, all_cpu, all_memory) = pod_limits(&whole);
        assert_eq!((limits.memory, all_cpu, all_memory), (64 << 20, true, true));
        let some = with_whole(bare, &[("memory", "1Gi")], &[]);
        assert_eq!(qos_class(&some), QosClass::Burstable);
        assert_eq!(pod_requests(&some), Amounts { cpu_milli: 200, memory: 1 << 30 });
        assert_eq!(pod_limits(&some).0, Amounts::default());
    }

    #[test]
    fn the_burstable_group_weighs_what_its_pods_ask_for() {
        let both = [("cpu", "1"), ("memory", "64Mi")];
        let guaranteed = pod(vec![container(&both, &both)]);
        let burstable = pod(vec![container(&[("cpu", "500m")], &[])]);
        let pods = [&guaranteed, &burstable, &burstable];
        assert_eq!(burstable_shares(pods.into_iter()), 1024);
        assert_eq!(burstable_shares(std::iter::empty()), 2);
    }

    #[test]
    fn huge_pages_of_containers_are_added_up() {
        let mut own = pod(vec![
            container(&[], &[("hugepages-2Mi", "4Mi")]),
            container(&[], &[("hugepages-2Mi", "2Mi"), ("hugepages-1Gi", "1Gi")]),
        ]);
        own.spec.as_mut().unwrap().init_containers =
            Some(vec![container(&[], &[("hugepages-2Mi", "8Mi")])]);
        let expected = [("2Mi".to_owned(), 8 << 20), ("1Gi".to_owned(), 1 << 30)];
        assert_eq!(pod_hugepages(&own), expected.into());
    }

    #[test]
    fn sidecars_are_as_safe_as_the_least_container() {
        let mut sidecar = container(&[("memory", "1Mi")], &[]);
        (sidecar.restart_policy, sidecar.name) = (Some("Always".to_owned()), "s".to_owned());
        let mut own = pod(vec![container(&[("memory", "512Mi")], &[])]);
        own.spec.as_mut().unwrap().init_containers = Some(vec![sidecar.clone()]);
        assert_eq!(oom_score_adj(&own, &sidecar, 1 << 30), 500);
        // Half of what the pod asked for beyond its containers is each one's.
        let whole = with_whole(pod(vec![container(&[], &[]); 2]), &[("memory", "512Mi")], &[]);
        assert_eq!(oom_score_adj(&whole, &container(&[], &[]), 1 << 30), 750);
    }

    #[test]
    fn quotas_follow_the_period_and_can_be_off() {
        let cfs = Cfs { is_enforced: true, period: 5000 };
        assert_eq!((cfs.quota(500), cfs.quota(1), cfs.quota(0)), (2500, 1000, 0));
        assert_eq!(Cfs { is_enforced: false, ..cfs }.quota(500), 0);
    }

    #[test]
    fn the_kernel_numbers_have_upstreams_bounds() {
        assert_eq!(cpu_shares(0), 2);
        assert_eq!(cpu_shares(1000), 1024);
        assert_eq!(cpu_quota(0), 0);
        assert_eq!(cpu_quota(5), 1000);
        assert_eq!(cpu_quota(250), 25_000);
        for (shares, weight) in
            [(0, 1), (2, 1), (3, 2), (102, 17), (1024, 100), (1025, 101), (262_144, 10_000)]
        {
            assert_eq!(cpu_weight(shares), weight, "{shares}");
        }
        assert_eq!(cpu_weight(i64::MAX), 10_000);
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
