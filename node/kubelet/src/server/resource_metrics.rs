//! `/metrics/resource`: CPU, memory and start times, which metrics-server reads.
//!
//! Upstream: `pkg/kubelet/metrics/collectors/resource_metrics.go`: each sample carries the time at which
//! it was taken.

use http::Response;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use transport::Body;

use super::{Server, metrics::answer};
use crate::{
    metrics::text::Exposition,
    stats::model::{CpuStats, MemoryStats, PodStats, SwapStats},
};

type Labels<'a> = Vec<(&'static str, &'a str)>;

/// What a sample is of: its labels, and what was measured.
struct Measured<'a> {
    labels: Labels<'a>,
    cpu: Option<&'a CpuStats>,
    memory: Option<&'a MemoryStats>,
    swap: Option<&'a SwapStats>,
    start: Option<&'a Time>,
}

impl Server {
    pub(super) async fn metrics_resource(&self) -> Response<Body> {
        let summary = self.stats.summary(false).await;
        let mut page = Exposition::default();
        let node = Measured {
            labels: Vec::new(),
            cpu: summary.node.cpu.as_ref(),
            memory: summary.node.memory.as_ref(),
            swap: summary.node.swap.as_ref(),
            start: None,
        };
        write(&mut page, "node", &[node]);
        write(&mut page, "pod", &summary.pods.iter().map(of_pod).collect::<Vec<_>>());
        write(
            &mut page,
            "container",
            &summary.pods.iter().flat_map(of_containers).collect::<Vec<_>>(),
        );
        let name = "resource_scrape_error";
        page.begin(name, "gauge", "1 if there was an error while getting metrics, 0 otherwise");
        page.sample::<&str, &str>(name, &[], 0.0);
        answer(page)
    }
}

fn names(pod: &PodStats) -> Labels<'_> {
    vec![("namespace", pod.pod_ref.namespace.as_str()), ("pod", pod.pod_ref.name.as_str())]
}

fn of_pod(pod: &PodStats) -> Measured<'_> {
    Measured {
        labels: names(pod),
        cpu: pod.cpu.as_ref(),
        memory: pod.memory.as_ref(),
        swap: pod.swap.as_ref(),
        start: None,
    }
}

fn of_containers(pod: &PodStats) -> Vec<Measured<'_>> {
    let of = |it| {
        let container: &crate::stats::model::ContainerStats = it;
        let mut labels = vec![("container", container.name.as_str())];
        labels.extend(names(pod));
        Measured {
            labels,
            cpu: container.cpu.as_ref(),
            memory: container.memory.as_ref(),
            swap: container.swap.as_ref(),
            start: container.start_time.as_ref(),
        }
    };
    pod.containers.iter().map(of).collect()
}

fn write(page: &mut Exposition, of: &str, measured: &[Measured<'_>]) {
    let name = format!("{of}_cpu_usage_seconds_total");
    page.begin(
        &name,
        "counter",
        &format!("Cumulative cpu time consumed by the {of} in core-seconds"),
    );
    for it in measured {
        if let Some(cpu) = it.cpu {
            let seconds = cpu.usage_core_nano_seconds as f64 / 1e9;
            page.sample_at(&name, &it.labels, seconds, cpu.time.0.as_millisecond());
        }
    }
    let name = format!("{of}_memory_working_set_bytes");
    page.begin(&name, "gauge", &format!("Current working set of the {of} in bytes"));
    for it in measured {
        if let Some(memory) = it.memory {
            let bytes = memory.working_set_bytes as f64;
            page.sample_at(&name, &it.labels, bytes, memory.time.0.as_millisecond());
        }
    }
    let name = format!("{of}_swap_usage_bytes");
    page.begin(&name, "gauge", &format!("Current swap usage of the {of} in bytes"));
    for it in measured {
        if let Some(swap) = it.swap {
            let bytes = swap.swap_usage_bytes as f64;
            page.sample_at(&name, &it.labels, bytes, swap.time.0.as_millisecond());
        }
    }
    if of == "container" {
        swap_limits(page, measured);
    }
    if measured.iter().all(|it| it.start.is_none()) {
        return;
    }
    let name = format!("{of}_start_time_seconds");
    page.begin(&name, "gauge", &format!("Start time of the {of} since unix epoch in seconds"));
    for it in measured {
        if let Some(start) = it.start {
            page.sample(&name, &it.labels, start.0.as_millisecond() as f64 / 1e3);
        }
    }
}

fn swap_limits(page: &mut Exposition, measured: &[Measured<'_>]) {
    let name = "container_swap_limit_bytes";
    page.begin(name, "gauge", "Current amount of the container swap limit in bytes");
    for it in measured {
        if let Some(swap) = it.swap
            && let Some(available) = swap.swap_available_bytes
        {
            let bytes = (swap.swap_usage_bytes + available) as f64;
            page.sample_at(name, &it.labels, bytes, swap.time.0.as_millisecond());
        }
    }
}
