//! What a whole pod asks for: containers, init containers, sidecars, overhead, pod-level requests.
//!
//! Init containers run one after another and before the rest, so they need the largest of
//! themselves; a restartable init container (sidecar) stays, so it is added to all that comes
//! after it.
//!
//! While a pod is resized in place it asks for the most of what is wished, allocated and given: the node
//! has room for what it was, and for what it becomes. A wish that cannot be fulfilled does not count.
//!
//! Upstream: `k8s.io/component-helpers/resource`.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, Pod, PodSpec, PodStatus, ResourceRequirements,
};

use crate::Amounts;

/// What scoring assumes of a container that requests no CPU (`DefaultMilliCPURequest`).
const NONZERO_CPU_MILLIS: i64 = 100;
/// What scoring assumes of a container that requests no memory (`DefaultMemoryRequest`).
const NONZERO_MEMORY: i64 = 200 * 1024 * 1024;

/// What a container requests, with upstream's rule that a limit stands in for a missing request.
pub fn container_requests(container: &Container) -> Amounts {
    requirements(container.resources.as_ref(), Side::Requests)
}

/// What the scheduler reserves for a pod, one for `pods` included.
pub fn pod_requests(pod: &Pod) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts { pods: 1, ..Amounts::default() } };
    let resizes = Resizes::of(pod, spec);
    let mut total = sum(spec, |it| resizes.requests(it));
    apply_pod_level(spec, Side::Requests, &mut total);
    resizes.raise_pod_level(spec, &mut total);
    total.add(&Amounts::from_list(spec.overhead.as_ref()));
    total.pods = 1;
    total
}

/// The limits of a pod, as its cgroup gets them. A resource is missing where no container has it.
pub fn pod_limits(pod: &Pod) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::default() };
    let mut total = sum(spec, |it| requirements(it.resources.as_ref(), Side::Limits));
    apply_pod_level(spec, Side::Limits, &mut total);
    let overhead = Amounts::from_list(spec.overhead.as_ref());
    for (name, amount) in [("cpu", overhead.cpu_millis), ("memory", overhead.memory)] {
        if total.amount(name) != 0 {
            total.set(name, total.amount(name) + amount);
        }
    }
    total
}

/// As [`pod_requests`], with a minimum of CPU and memory for each container that requests none:
/// what scores are computed from, so that request-less pods spread.
pub fn pod_nonzero_requests(pod: &Pod) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::default() };
    let resizes = Resizes::of(pod, spec);
    let mut total = sum(spec, |container| {
        let mut amounts = resizes.requests(container);
        if amounts.cpu_millis == 0 {
            amounts.cpu_millis = NONZERO_CPU_MILLIS;
        }
        if amounts.memory == 0 {
            amounts.memory = NONZERO_MEMORY;
        }
        amounts
    });
    apply_pod_level(spec, Side::Requests, &mut total);
    resizes.raise_pod_level(spec, &mut total);
    total.add(&Amounts::from_list(spec.overhead.as_ref()));
    total
}

/// What the status says of resources that are changed in place.
struct Resizes<'a> {
    status: Option<&'a PodStatus>,
    /// Of those that are allocated or given something, by container.
    containers: HashMap<&'a str, &'a ContainerStatus>,
    is_infeasible: bool,
}

impl<'a> Resizes<'a> {
    fn of(pod: &'a Pod, spec: &PodSpec) -> Self {
        let status = pod.status.as_ref();
        let of_all = status.iter().flat_map(|it| it.container_statuses.iter().flatten());
        let is_sidecar = |name: &str| {
            let mut init = spec.init_containers.iter().flatten();
            init.any(|it| it.name == name && it.restart_policy.as_deref() == Some("Always"))
        };
        let init = status.iter().flat_map(|it| it.init_container_statuses.iter().flatten());
        let all = of_all.chain(init.filter(|it| is_sidecar(&it.name)));
        let told = all.filter(|it| it.resources.is_some());
        let conditions = status.iter().flat_map(|it| it.conditions.iter().flatten());
        Self {
            status,
            containers: told.map(|it| (it.name.as_str(), it)).collect(),
            is_infeasible: conditions.into_iter().any(|it| {
                it.type_ == "PodResizePending" && it.reason.as_deref() == Some("Infeasible")
            }),
        }
    }

    fn requests(&self, container: &Container) -> Amounts {
        let wished = container_requests(container);
        let Some(status) = self.containers.get(container.name.as_str()) else { return wished };
        let mut most = if self.is_infeasible { Amounts::default() } else { wished };
        most.raise_to(&requirements(status.resources.as_ref(), Side::Requests));
        most.raise_to(&Amounts::from_list(status.allocated_resources.as_ref()));
        most
    }

    fn raise_pod_level(&self, spec: &PodSpec, total: &mut Amounts) {
        let of_pod = self.status.filter(|_| spec.resources.is_some());
        let Some(given) = of_pod.filter(|it| it.resources.is_some()) else { return };
        let mut most = requirements(given.resources.as_ref(), Side::Requests);
        most.raise_to(&Amounts::from_list(given.allocated_resources.as_ref()));
        if self.is_infeasible {
            for name in ["cpu", "memory"].into_iter().filter(|it| most.amount(it) > 0) {
                total.set(name, most.amount(name));
            }
        } else {
            total.raise_to(&most);
        }
    }
}

#[derive(Clone, Copy)]
enum Side {
    Requests,
    Limits,
}

fn requirements(requirements: Option<&ResourceRequirements>, side: Side) -> Amounts {
    let Some(it) = requirements else { return Amounts::default() };
    match side {
        Side::Limits => Amounts::from_list(it.limits.as_ref()),
        Side::Requests => {
            let mut list = it.limits.clone().unwrap_or_default();
            list.extend(it.requests.clone().unwrap_or_default());
            Amounts::from_list(Some(&list))
        }
    }
}

fn sum(spec: &PodSpec, of: impl Fn(&Container) -> Amounts) -> Amounts {
    let mut running = Amounts::default();
    for container in &spec.containers {
        running.add(&of(container));
    }
    let (mut sidecars, mut peak) = (Amounts::default(), Amounts::default());
    for container in spec.init_containers.iter().flatten() {
        let mut needs = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            running.add(&needs);
            sidecars.add(&needs);
            needs = sidecars.clone();
        } else {
            needs.add(&sidecars);
        }
        peak.raise_to(&needs);
    }
    running.raise_to(&peak);
    running
}

/// Pod-level resources replace the sum of the containers, for the resources that allow it.
fn apply_pod_level(spec: &PodSpec, side: Side, total: &mut Amounts) {
    let Some(resources) = &spec.resources else { return };
    let list = match side {
        Side::Requests => resources.requests.as_ref().or(resources.limits.as_ref()),
        Side::Limits => resources.limits.as_ref(),
    };
    let amounts = Amounts::from_list(list);
    for name in list.into_iter().flat_map(|it| it.keys()) {
        if name == "cpu" || name == "memory" || name.starts_with("hugepages-") {
            total.set(name, amounts.amount(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        apimachinery::pkg::api::resource::Quantity,
        serde_json::{self, json},
    };

    use super::*;

    fn container(cpu: &str, restart: Option<&str>) -> Container {
        let requests = [("cpu".to_owned(), Quantity(cpu.to_owned()))].into();
        Container {
            resources: Some(ResourceRequirements {
                requests: Some(requests),
                ..Default::default()
            }),
            restart_policy: restart.map(Into::into),
            ..Default::default()
        }
    }

    fn pod(init: Vec<Container>, containers: Vec<Container>) -> Pod {
        let spec = PodSpec { containers, init_containers: Some(init), ..Default::default() };
        Pod { spec: Some(spec), ..Default::default() }
    }

    #[test]
    fn init_containers_take_the_largest_and_sidecars_add_up() {
        let always = Some("Always");
        let cases = [
            (vec![], vec![container("1", None), container("2", None)], 3000),
            (vec![container("5", None)], vec![container("1", None)], 5000),
            (vec![container("1", always)], vec![container("1", None)], 2000),
            // The sidecar runs beside the second init container.
            (vec![container("1", always), container("4", None)], vec![container("1", None)], 5000),
            // …but not beside one that came before it.
            (vec![container("4", None), container("1", always)], vec![container("1", None)], 4000),
        ];
        for (index, (init, main, expected)) in cases.into_iter().enumerate() {
            assert_eq!(pod_requests(&pod(init, main)).cpu_millis, expected, "case {index}");
        }
    }

    #[test]
    fn overhead_and_pod_level_requests_count() {
        let mut pod = pod(vec![], vec![container("1", None)]);
        let spec = pod.spec.as_mut().unwrap();
        spec.overhead = Some([("cpu".to_owned(), Quantity("100m".into()))].into());
        assert_eq!(pod_requests(&pod).cpu_millis, 1100);
        let requests = Some([("cpu".to_owned(), Quantity("3".into()))].into());
        pod.spec.as_mut().unwrap().resources =
            Some(ResourceRequirements { requests, ..Default::default() });
        assert_eq!(pod_requests(&pod).cpu_millis, 3100);
    }

    #[test]
    fn a_limit_stands_in_for_a_missing_request() {
        let limits = Some([("memory".to_owned(), Quantity("1Gi".into()))].into());
        let resources = Some(ResourceRequirements { limits, ..Default::default() });
        let pod = pod(vec![], vec![Container { resources, ..Default::default() }]);
        assert_eq!(pod_requests(&pod).memory, 1 << 30);
    }

    #[test]
    fn scoring_assumes_a_little_of_containers_that_request_nothing() {
        let pod = pod(vec![], vec![Container::default(), container("1", None)]);
        let amounts = pod_nonzero_requests(&pod);
        assert_eq!(amounts.cpu_millis, 1100);
        assert_eq!(amounts.memory, 2 * NONZERO_MEMORY);
    }

    /// A pod that was given 2 CPUs, and in whose status the container has `more`.
    fn resized(wished: &str, status: serde_json::Value) -> i64 {
        let mut pod = pod(vec![], vec![container(wished, None)]);
        pod.spec.as_mut().unwrap().containers[0].name = "c".into();
        pod.status = Some(serde_json::from_value(status).unwrap());
        pod_requests(&pod).cpu_millis
    }

    #[test]
    fn a_pod_that_is_resized_asks_for_the_most_of_what_it_wishes_and_what_it_has() {
        let status = |given: &str, allocated: &str, reason: &str| {
            json!({
                "conditions": [{ "type": "PodResizePending", "status": "True", "reason": reason }],
                "containerStatuses": [{ "name": "c", "image": "", "imageID": "", "ready": true,
                    "restartCount": 0, "resources": { "requests": { "cpu": given } },
                    "allocatedResources": { "cpu": allocated } }],
            })
        };
        for (wished, given, allocated, reason, expected) in [
            ("1", "2", "2", "Deferred", 2000),
            ("1", "2", "1", "Deferred", 2000),
            ("3", "2", "2", "Deferred", 3000),
            ("3", "2", "2", "Infeasible", 2000),
            ("1", "1", "1", "", 1000),
        ] {
            let asked = resized(wished, status(given, allocated, reason));
            assert_eq!(asked, expected, "{wished} {given} {allocated} {reason}");
        }
    }
}
