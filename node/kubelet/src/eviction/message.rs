//! What an evicted pod is told.
//!
//! Upstream: `evictionMessage` in `pkg/kubelet/eviction/helpers.go`.

use std::fmt::Write;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::{observe::Observations, signal::Resource, threshold::Threshold};
use crate::{
    pod::PodExt,
    quantity,
    stats::model::{ContainerStats, PodStats},
};

pub(super) fn eviction(
    pod: &Pod,
    stats: Option<&PodStats>,
    threshold: &Threshold,
    observed: &Observations,
) -> String {
    let resource = threshold.signal.resource();
    let mut text = format!("The node was low on resource: {}. ", resource.name());
    if let Some(it) = observed.signals.get(&threshold.signal) {
        let quantity = match threshold.value.ends_with('%') {
            true => quantity_text(threshold.limit(it.capacity), resource),
            false => threshold.value.clone(),
        };
        let available = quantity_text(it.available, resource);
        add(&mut text, format_args!("Threshold quantity: {quantity}, available: {available}. "));
    }
    let spec = PodExt::spec(pod);
    let own: Vec<&Container> =
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).collect();
    for used in stats.into_iter().flat_map(|it| &it.containers) {
        let Some(container) = own.iter().find(|it| it.name == used.name) else { continue };
        let Some(usage) = usage(used, resource) else { continue };
        let (requested, shown) = request(container, resource);
        if usage > requested {
            add(
                &mut text,
                format_args!(
                    "Container {} was using {}, request is {shown}, has larger consumption of {}. ",
                    container.name,
                    quantity_text(usage, resource),
                    resource.name()
                ),
            );
        }
    }
    text
}

fn add(text: &mut String, more: std::fmt::Arguments<'_>) {
    let written = text.write_fmt(more);
    debug_assert!(written.is_ok(), "writing into memory");
}

fn usage(stats: &ContainerStats, resource: Resource) -> Option<i64> {
    let bytes = match resource {
        Resource::Memory => stats.memory.as_ref()?.working_set_bytes,
        Resource::Disk => stats.rootfs.as_ref()?.used_bytes? + stats.logs.as_ref()?.used_bytes?,
        Resource::Inodes | Resource::Pids => return None,
    };
    i64::try_from(bytes).ok()
}

fn request(container: &Container, resource: Resource) -> (i64, String) {
    let requests = container.resources.as_ref().and_then(|it| it.requests.as_ref());
    match requests.and_then(|it| it.get(resource.name())) {
        Some(it) => (quantity::value(it).unwrap_or(0), it.0.clone()),
        None => (0, "0".to_owned()),
    }
}

/// As Kubernetes writes it: bytes by powers of 1024, numbers by powers of 1000, never a fraction.
pub(super) fn quantity_text(amount: i64, resource: Resource) -> String {
    let (step, names): (i64, &[&str]) = match resource {
        Resource::Memory | Resource::Disk => (1024, &["", "Ki", "Mi", "Gi", "Ti", "Pi"]),
        Resource::Inodes | Resource::Pids => (1000, &["", "k", "M", "G", "T", "P"]),
    };
    let (mut amount, mut index) = (amount, 0);
    while amount != 0 && amount % step == 0 && index + 1 < names.len() {
        amount /= step;
        index += 1;
    }
    format!("{amount}{}", names[index])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::{
        super::{observe::Observation, signal::Signal},
        *,
    };
    use crate::stats::model::MemoryStats;

    #[test]
    fn the_message_is_upstreams() {
        let pod: Pod = serde_json::from_value(json!({
            "spec": { "containers": [
                { "name": "big", "resources": { "requests": { "memory": "64Mi" } } },
                { "name": "small" },
            ] },
        }))
        .unwrap();
        let used = |name: &str, bytes| ContainerStats {
            name: name.to_owned(),
            memory: Some(MemoryStats {
                time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                    jiff::Timestamp::UNIX_EPOCH,
                ),
                available_bytes: None,
                usage_bytes: bytes,
                working_set_bytes: bytes,
                rss_bytes: 0,
                page_faults: 0,
                major_page_faults: 0,
                psi: None,
            }),
            ..ContainerStats::default()
        };
        let stats = PodStats {
            containers: vec![used("big", 200 << 20), used("small", 0)],
            ..PodStats::default()
        };
        let threshold = Threshold {
            signal: Signal::Memory,
            value: "100Mi".to_owned(),
            grace: Duration::ZERO,
            minimum_reclaim: None,
        };
        let observation = Observation { available: 53_248 << 10, capacity: 1 << 30 };
        let observed = Observations {
            signals: [(Signal::Memory, observation)].into(),
            ..Observations::default()
        };
        assert_eq!(
            eviction(&pod, Some(&stats), &threshold, &observed),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 52Mi. \
             Container big was using 200Mi, request is 64Mi, has larger consumption of memory. "
        );
    }

    #[test]
    fn amounts_are_whole() {
        assert_eq!(quantity_text(1 << 20, Resource::Disk), "1Mi");
        assert_eq!(quantity_text(1025, Resource::Memory), "1025");
        assert_eq!(quantity_text(32_000, Resource::Pids), "32k");
        assert_eq!(quantity_text(0, Resource::Memory), "0");
    }
}
