//! What of the node is kept back from pods.
//!
//! Upstream: `pkg/kubelet/cm/node_container_manager_linux.go`, `cmd/kubelet/app/server.go`
//! (`reservedSystemCPUs`), `validateReservedMemory` of the memory manager.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{
    cpuset::{CpuSet, ParseCpuSetError},
    memorymanager::Reserved,
    requests::{HUGEPAGES, MEMORY},
};
use crate::{
    config::KubeletConfiguration,
    node::capacity::{Machine, threshold},
    quantity,
};

/// A reservation that is not understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReservationError {
    #[error("unable to parse reservedSystemCPUs")]
    Cpus(#[from] ParseCpuSetError),
    #[error("the reserved memory \"{name}\" of NUMA node {node} is no quantity: \"{value}\"")]
    Memory { node: i32, name: String, value: String },
}

pub(crate) fn reserved_cpus(config: &KubeletConfiguration) -> Result<CpuSet, ReservationError> {
    Ok(CpuSet::parse(&config.reserved_system_cpus)?)
}

/// With certain CPUs reserved for the system, their number is what is reserved of the CPU.
pub(crate) fn with_reserved_cpus(
    mut config: KubeletConfiguration,
) -> Result<KubeletConfiguration, ReservationError> {
    let cpus = reserved_cpus(&config)?;
    if !cpus.is_empty() {
        config.kube_reserved.remove("cpu");
        config.system_reserved.insert("cpu".to_owned(), cpus.len().to_string());
    }
    Ok(config)
}

pub(crate) fn reserved_cpu_milli(config: &KubeletConfiguration) -> i64 {
    let lists = [&config.kube_reserved, &config.system_reserved];
    let amounts = lists.into_iter().filter_map(|it| it.get("cpu"));
    amounts.filter_map(|it| quantity::milli(&Quantity(it.clone()))).sum()
}

pub(crate) fn memory_by_node(config: &KubeletConfiguration) -> Result<Reserved, ReservationError> {
    let mut reserved = Reserved::new();
    for it in &config.reserved_memory {
        let node = u32::try_from(it.numa_node).unwrap_or(0);
        for (name, value) in &it.limits {
            let bytes = quantity::parse(value).and_then(|it| u64::try_from(it).ok());
            let Some(bytes) = bytes else {
                let (name, value) = (name.clone(), value.clone());
                return Err(ReservationError::Memory { node: it.numa_node, name, value });
            };
            *reserved.entry(node).or_default().entry(name.clone()).or_default() += bytes;
        }
    }
    Ok(reserved)
}

/// What Node Allocatable keeps back of each kind of memory, eviction included.
pub(crate) fn memory_in_all(
    config: &KubeletConfiguration,
    machine: &Machine,
) -> BTreeMap<String, u64> {
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    for (name, value) in config.kube_reserved.iter().chain(&config.system_reserved) {
        if name == MEMORY || name.starts_with(HUGEPAGES) {
            let bytes = quantity::parse(value).and_then(|it| u64::try_from(it).ok());
            *all.entry(name.clone()).or_default() += bytes.unwrap_or(0);
        }
    }
    let kept = config.eviction_hard.get("memory.available");
    let kept = kept.and_then(|it| threshold(it, machine.memory)).unwrap_or(0);
    *all.entry(MEMORY.to_owned()).or_default() += u64::try_from(kept).unwrap_or(0);
    all
}

/// Milli-CPUs and bytes that all pods together may use: all, or with `enforceNodeAllocatable: [pods]`
/// what is not reserved. Eviction's threshold is not kept back here, or it would never be reached.
pub(crate) fn for_pods(config: &KubeletConfiguration, machine: &Machine) -> (i64, i64) {
    let is_enforced = config.enforce_node_allocatable.iter().any(|it| it == "pods");
    let lists = [&config.kube_reserved, &config.system_reserved];
    let memory = lists.into_iter().filter_map(|it| quantity::parse(it.get(MEMORY)?));
    let (cpu, memory) =
        if is_enforced { (reserved_cpu_milli(config), memory.sum()) } else { (0, 0) };
    ((machine.cpus * 1000 - cpu).max(0), (machine.memory - memory).max(0))
}

/// How many processes all pods together may have, of as many as there can be.
pub(crate) fn pids_for_pods(config: &KubeletConfiguration, most: i64) -> i64 {
    let is_enforced = config.enforce_node_allocatable.iter().any(|it| it == "pods");
    let lists = [&config.kube_reserved, &config.system_reserved];
    let reserved = lists.into_iter().filter_map(|it| quantity::parse(it.get("pid")?));
    if is_enforced { (most - reserved.sum::<i64>()).max(0) } else { most }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_cpus_replace_what_is_reserved_of_the_cpu() {
        let mut config = KubeletConfiguration::default();
        config.kube_reserved.insert("cpu".to_owned(), "70m".to_owned());
        config.reserved_system_cpus = "0,4-5".to_owned();
        let config = with_reserved_cpus(config).unwrap();
        assert_eq!(reserved_cpu_milli(&config), 3000);
        assert_eq!(Machine::of(8, 1 << 30).allocatable(&config).cpu_milli, 5000);
    }

    #[test]
    fn pods_have_the_node_less_what_is_reserved_where_that_is_enforced() {
        let mut config = KubeletConfiguration::default();
        let reserved = [("cpu", "500m"), ("memory", "1Gi")];
        config.kube_reserved = reserved.map(|(k, v)| (k.into(), v.into())).into();
        let machine = Machine::of(2, 4 << 30);
        assert_eq!(for_pods(&config, &machine), (1500, 3 << 30));
        config.enforce_node_allocatable = Vec::new();
        assert_eq!(for_pods(&config, &machine), (2000, 4 << 30));
    }

    #[test]
    fn processes_are_reserved_as_other_things_are() {
        let mut config = KubeletConfiguration::default();
        config.kube_reserved.insert("pid".to_owned(), "1k".to_owned());
        config.system_reserved.insert("pid".to_owned(), "500".to_owned());
        assert_eq!(pids_for_pods(&config, 32768), 31268);
        config.enforce_node_allocatable = Vec::new();
        assert_eq!(pids_for_pods(&config, 32768), 32768);
    }

    #[test]
    fn reserved_memory_is_counted_with_what_eviction_keeps() {
        let mut config = KubeletConfiguration::default();
        config.kube_reserved.insert("memory".to_owned(), "1Gi".to_owned());
        let all = memory_in_all(&config, &Machine::of(1, 8 << 30));
        assert_eq!(all["memory"], (1 << 30) + (100 << 20));
    }
}
