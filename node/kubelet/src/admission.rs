//! Whether a pod that was bound to this node can run on it.
//!
//! The scheduler has already decided with what it knew; the node knows better. A refusal ends the
//! pod with phase `Failed`, and its controller makes another one.
//!
//! Upstream: `pkg/kubelet/lifecycle/predicate.go` and the messages of `pkg/scheduler/framework`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod};

use crate::{node::capacity::Machine, pod::PodExt, qos, settings::Settings, status::Verdict};

fn refused(reason: &str, message: String) -> Verdict {
    Verdict { reason: reason.to_owned(), message }
}

/// Refuses a pod that does not fit beside the others.
pub(crate) fn check(
    pod: &Pod,
    others: &[std::sync::Arc<Pod>],
    machine: &Machine,
    settings: &Settings,
) -> Result<(), Verdict> {
    if pod.is_critical() && pod.is_mirror_or_static() {
        return Ok(());
    }
    let allocatable = machine.allocatable(&settings.config);
    let max_pods = settings.config.max_pods;
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    let lacking = |reason: &str, name: &str, requested: i64, used: i64, capacity: i64| {
        refused(
            reason,
            format!(
                "Pod was rejected: Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
            ),
        )
    };
    if count >= max_pods {
        return Err(lacking("OutOfpods", "pods", 1, count, max_pods));
    }
    let wanted = qos::pod_requests(pod);
    let (mut cpu, mut memory) = (0, 0);
    for other in others {
        let used = qos::pod_requests(other);
        cpu += used.cpu_milli;
        memory += used.memory;
    }
    if wanted.cpu_milli > 0 && cpu + wanted.cpu_milli > allocatable.cpu_milli {
        let capacity = allocatable.cpu_milli;
        return Err(lacking("OutOfcpu", "cpu", wanted.cpu_milli, cpu, capacity));
    }
    if wanted.memory > 0 && memory + wanted.memory > allocatable.memory {
        let capacity = allocatable.memory;
        return Err(lacking("OutOfmemory", "memory", wanted.memory, memory, capacity));
    }
    ports(pod, others)?;
    selectors(pod, &crate::node::labels(settings, machine))
}

fn ports(pod: &Pod, others: &[std::sync::Arc<Pod>]) -> Result<(), Verdict> {
    let own = host_ports(pod);
    let is_taken = others.iter().flat_map(|it| host_ports(it)).any(|taken| {
        own.iter().any(|it| {
            let same_ip = it.2 == taken.2 || it.2 == "0.0.0.0" || taken.2 == "0.0.0.0";
            it.0 == taken.0 && it.1 == taken.1 && same_ip
        })
    });
    if is_taken {
        let message = "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        return Err(refused("NodePorts", message.to_owned()));
    }
    Ok(())
}

fn host_ports(pod: &Pod) -> Vec<(i32, String, String)> {
    let all = pod.all_containers();
    let ports = all.iter().flat_map(|(_, it)| it.ports.clone().unwrap_or_default());
    ports
        .filter_map(|it| {
            let port = it.host_port.filter(|it| *it > 0)?;
            let protocol = it.protocol.unwrap_or_else(|| "TCP".to_owned());
            let ip = it.host_ip.filter(|it| !it.is_empty());
            Some((port, protocol, ip.unwrap_or_else(|| "0.0.0.0".to_owned())))
        })
        .collect()
}

fn selectors(pod: &Pod, labels: &BTreeMap<String, String>) -> Result<(), Verdict> {
    let spec = PodExt::spec(pod);
    let selected = spec.node_selector.iter().flatten().all(|(k, v)| labels.get(k) == Some(v));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|it| it.node_affinity.as_ref())
        .and_then(|it| it.required_during_scheduling_ignored_during_execution.as_ref());
    let name = labels.get("kubernetes.io/hostname").cloned().unwrap_or_default();
    let name = spec.node_name.clone().unwrap_or(name);
    let fits = required
        .is_none_or(|it| it.node_selector_terms.iter().any(|term| fits(term, labels, &name)));
    if selected && fits {
        return Ok(());
    }
    let message = "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
    Err(refused("NodeAffinity", message.to_owned()))
}

fn fits(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, name: &str) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|it| holds(it, labels.get(&it.key).map(String::as_str)))
        && fields.iter().all(|it| it.key == "metadata.name" && holds(it, Some(name)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let is_listed = value.is_some_and(|it| values.iter().any(|listed| listed == it));
    let number = |it: Option<&str>| it.and_then(|it| it.parse::<i64>().ok());
    let bound = number(values.first().map(String::as_str));
    match requirement.operator.as_str() {
        "In" => is_listed,
        "NotIn" => !is_listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value).zip(bound).is_some_and(|(a, b)| a > b),
        "Lt" => number(value).zip(bound).is_some_and(|(a, b)| a < b),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::{
        api::core::v1::{Container, ContainerPort, PodSpec, ResourceRequirements},
        apimachinery::pkg::api::resource::Quantity,
    };

    use super::*;
    use crate::config::KubeletConfiguration;

    fn pod(cpu: &str, host_port: Option<i32>) -> Pod {
        let requests = [("cpu".to_owned(), Quantity(cpu.to_owned()))].into();
        let port = ContainerPort { container_port: 80, host_port, ..ContainerPort::default() };
        let container = Container {
            resources: Some(ResourceRequirements {
                requests: Some(requests),
                ..Default::default()
            }),
            ports: Some(vec![port]),
            ..Container::default()
        };
        let spec = PodSpec { containers: vec![container], ..PodSpec::default() };
        Pod { spec: Some(spec), ..Pod::default() }
    }

    fn ask(pod: &Pod, others: &[Arc<Pod>]) -> Result<(), String> {
        let mut config = KubeletConfiguration { max_pods: 2, ..KubeletConfiguration::default() };
        config.kube_reserved = [("cpu".to_owned(), "500m".to_owned())].into();
        let settings = Settings::new(config, "n");
        let machine = Machine::of(2, 4 << 30);
        check(pod, others, &machine, &settings).map_err(|it| it.reason)
    }

    #[test]
    fn a_pod_that_does_not_fit_is_refused_with_upstreams_reason() {
        assert_eq!(ask(&pod("1500m", None), &[]), Ok(()));
        assert_eq!(ask(&pod("1501m", None), &[]), Err("OutOfcpu".to_owned()));
        let other = Arc::new(pod("1", None));
        assert_eq!(
            ask(&pod("600m", None), std::slice::from_ref(&other)),
            Err("OutOfcpu".to_owned())
        );
        let full = [other.clone(), other];
        assert_eq!(ask(&pod("0", None), &full), Err("OutOfpods".to_owned()));
    }

    #[test]
    fn a_taken_host_port_and_a_wrong_selector_are_refused() {
        let other = Arc::new(pod("1m", Some(8080)));
        assert_eq!(
            ask(&pod("1m", Some(8080)), std::slice::from_ref(&other)),
            Err("NodePorts".to_owned())
        );
        assert_eq!(ask(&pod("1m", Some(8081)), &[other]), Ok(()));
        let mut picky = pod("1m", None);
        picky.spec.as_mut().unwrap().node_selector = Some([("a".into(), "b".into())].into());
        assert_eq!(ask(&picky, &[]), Err("NodeAffinity".to_owned()));
    }
}
