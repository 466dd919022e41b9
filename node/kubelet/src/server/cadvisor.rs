//! `/metrics/cadvisor`: the counters of cgroups under cAdvisor's names and labels.
//!
//! Upstream: `github.com/google/cadvisor/metrics/prometheus.go`, and the labels that
//! `pkg/kubelet/server` adds: `container`, `id`, `image`, `name`, `namespace`, `pod`.
//!
//! Deviation: a kubelet's cAdvisor has some more names: of tasks by state and of load averages, which it
//! always tells as zero; of merged and queued disk requests and their times; and of the machine's sockets,
//! memory modules and version.

mod processes;

use std::{path::Path, sync::Arc};

use http::{Response, StatusCode};
use transport::Body;

use super::{Server, metrics::answer, text};
use crate::{
    context::Context,
    metrics::text::Exposition,
    pod::PodUid,
    pod_workers::PodWorkers,
    stats::{
        Stats,
        devices::Device,
        group::GroupStats,
        model::{FsStats, InterfaceStats, PodStats, Summary},
        processes::ProcessStats,
    },
};

/// One cgroup with everything that is told of it.
struct Told {
    labels: Labels,
    stats: GroupStats,
    devices: Vec<Device>,
    processes: ProcessStats,
    start: Option<f64>,
    interfaces: Vec<InterfaceStats>,
    fs: Option<FsStats>,
}

type Labels = Vec<(&'static str, String)>;
/// `None` where there is no such number, a limit that is not set.
type Read = fn(&GroupStats) -> Option<f64>;
type Row = (&'static str, &'static str, &'static str, Read);

const OF_GROUPS: &[Row] = &[
    ("container_cpu_user_seconds_total", "counter", "User CPU time.", |it| {
        Some(seconds(it.cpu_user_nanos))
    }),
    ("container_cpu_system_seconds_total", "counter", "System CPU time.", |it| {
        Some(seconds(it.cpu_system_nanos))
    }),
    ("container_cpu_cfs_periods_total", "counter", "Periods of the CPU quota.", |it| {
        Some(it.periods as f64)
    }),
    (
        "container_cpu_cfs_throttled_periods_total",
        "counter",
        "Periods that were cut short.",
        |it| Some(it.throttled_periods as f64),
    ),
    (
        "container_cpu_cfs_throttled_seconds_total",
        "counter",
        "Time spent waiting for quota.",
        |it| Some(seconds(it.throttled_nanos)),
    ),
    ("container_memory_failcnt", "counter", "How often the memory limit was hit.", |it| {
        Some(it.failcnt as f64)
    }),
    (
        "container_oom_events_total",
        "counter",
        "Processes that the kernel killed for memory.",
        |it| Some(it.oom_kills as f64),
    ),
    ("container_memory_usage_bytes", "gauge", "Memory in use, caches included.", |it| {
        Some(it.memory_usage as f64)
    }),
    ("container_memory_max_usage_bytes", "gauge", "The most memory that was in use.", |it| {
        Some(it.memory_peak as f64)
    }),
    (
        "container_memory_working_set_bytes",
        "gauge",
        "Memory that cannot be reclaimed easily.",
        |it| Some(it.working_set as f64),
    ),
    ("container_memory_rss", "gauge", "Anonymous memory.", |it| Some(it.rss as f64)),
    ("container_memory_cache", "gauge", "Page cache.", |it| Some(it.cache as f64)),
    ("container_memory_swap", "gauge", "Swap in use.", |it| Some(it.swap as f64)),
    ("container_memory_mapped_file", "gauge", "Mapped files.", |it| Some(it.mapped_file as f64)),
    ("container_memory_total_active_file_bytes", "gauge", "File cache in recent use.", |it| {
        Some(it.active_file as f64)
    }),
    ("container_memory_total_inactive_file_bytes", "gauge", "File cache in no recent use.", |it| {
        Some(it.inactive_file as f64)
    }),
    ("container_memory_kernel_usage", "gauge", "Memory of the kernel for the container.", |it| {
        Some(it.kernel as f64)
    }),
    ("container_threads", "gauge", "Threads that there are.", |it| Some(it.threads as f64)),
    ("container_threads_max", "gauge", "Threads that there may be; 0: any number.", |it| {
        Some(it.most_threads.unwrap_or(0) as f64)
    }),
    ("container_spec_cpu_shares", "gauge", "The CPU share.", |it| it.shares.map(|it| it as f64)),
    ("container_spec_cpu_period", "gauge", "The period of the CPU quota.", |it| {
        it.period.map(|it| it as f64)
    }),
    ("container_spec_cpu_quota", "gauge", "The CPU quota, if there is one.", |it| {
        it.quota.map(|it| it as f64)
    }),
    ("container_spec_memory_limit_bytes", "gauge", "The memory limit; 0: none.", |it| {
        Some(it.memory_limit.unwrap_or(0) as f64)
    }),
    (
        "container_spec_memory_reservation_limit_bytes",
        "gauge",
        "What is left to it when memory is short; 0: no such limit.",
        |it| Some(it.memory_reservation.unwrap_or(0) as f64),
    ),
    ("container_spec_memory_swap_limit_bytes", "gauge", "The limit of swap; 0: none.", |it| {
        Some(it.swap_limit.unwrap_or(0) as f64)
    }),
];

type ReadFs = fn(&FsStats) -> u64;

const OF_FILE_SYSTEMS: &[(&str, &str, ReadFs)] = &[
    ("container_fs_usage_bytes", "Bytes in use.", |it| it.used_bytes.unwrap_or(0)),
    ("container_fs_limit_bytes", "Bytes that there are.", |it| it.capacity_bytes),
    ("container_fs_inodes_free", "Inodes that are free.", |it| it.inodes_free),
    ("container_fs_inodes_total", "Inodes that there are.", |it| it.inodes),
];

type ReadInterface = fn(&InterfaceStats) -> u64;

const OF_INTERFACES: &[(&str, ReadInterface)] = &[
    ("container_network_receive_bytes_total", |it| it.rx_bytes),
    ("container_network_receive_packets_total", |it| it.rx_packets),
    ("container_network_receive_errors_total", |it| it.rx_errors),
    ("container_network_receive_packets_dropped_total", |it| it.rx_dropped),
    ("container_network_transmit_bytes_total", |it| it.tx_bytes),
    ("container_network_transmit_packets_total", |it| it.tx_packets),
    ("container_network_transmit_errors_total", |it| it.tx_errors),
    ("container_network_transmit_packets_dropped_total", |it| it.tx_dropped),
];

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

impl Server {
    pub(super) async fn metrics_cadvisor(&self) -> Response<Body> {
        let summary = self.stats.summary(true).await;
        let reader = Reader {
            context: self.context.clone(),
            workers: self.workers.clone(),
            stats: self.stats.clone(),
        };
        // One pod can have a million files open, and each is looked at.
        match tokio::task::spawn_blocking(move || reader.page(summary)).await {
            Ok(page) => answer(page),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

/// Reads what the kernel tells of every group: work for a thread that may wait.
struct Reader {
    context: Arc<Context>,
    workers: Arc<PodWorkers>,
    stats: Stats,
}

impl Reader {
    fn page(&self, summary: Summary) -> Exposition {
        let root = self.context.cgroups.group(Path::new(""));
        let mut told = vec![Told {
            labels: labels("/", None, "", "", ""),
            stats: self.stats.node_group(),
            devices: root.devices(),
            processes: root.processes(&self.context.settings.proc),
            start: summary.node.start_time.as_ref().map(|it| it.0.as_second() as f64),
            interfaces: summary.node.network.map(|it| it.interfaces).unwrap_or_default(),
            fs: summary.node.fs,
        }];
        for pod in &summary.pods {
            self.add_pod(pod, &mut told);
        }
        let mut page = Exposition::default();
        let now = self.context.clock.now().as_millisecond();
        write(&mut page, &told, now);
        processes::write(&mut page, &told, &self.context.settings.sys, now);
        self.machine(&mut page);
        page
    }

    fn add_pod(&self, stats: &PodStats, told: &mut Vec<Told>) {
        let reference = &stats.pod_ref;
        let Some(pod) = self.workers.pod(&PodUid(reference.uid.clone())) else { return };
        let group = self.context.cgroups.pod_group(&pod);
        let proc = &self.context.settings.proc;
        told.push(Told {
            labels: labels(&group.id(), Some(stats), "", "", ""),
            stats: group.read(),
            devices: group.devices(),
            processes: group.processes(proc),
            start: stats.start_time.as_ref().map(|it| it.0.as_second() as f64),
            interfaces: stats.network.clone().map(|it| it.interfaces).unwrap_or_default(),
            fs: None,
        });
        for container in &stats.containers {
            let own = group.container(&container.id);
            let (name, image, id) = (&container.name, &container.image, &container.id);
            told.push(Told {
                labels: labels(&own.id(), Some(stats), name, image, id),
                stats: self.stats.container_group(&group, id, None),
                devices: own.devices(),
                processes: own.processes(proc),
                start: container.start_time.as_ref().map(|it| it.0.as_second() as f64),
                interfaces: Vec::new(),
                fs: container.rootfs.clone(),
            });
        }
    }

    fn machine(&self, page: &mut Exposition) {
        let none: [(&str, &str); 0] = [];
        let machine = &self.context.machine;
        for (name, help, value) in [
            ("machine_cpu_cores", "Logical CPUs.", machine.cpus),
            ("machine_memory_bytes", "Memory of the machine.", machine.memory),
            ("machine_swap_bytes", "Swap of the machine.", machine.swap),
        ] {
            page.begin(name, "gauge", help);
            page.sample(name, &none, value as f64);
        }
        let name = "container_scrape_error";
        page.begin(name, "gauge", "1 if there was an error while getting container metrics.");
        page.sample(name, &none, 0.0);
    }
}

fn labels(id: &str, pod: Option<&PodStats>, container: &str, image: &str, name: &str) -> Labels {
    let reference = pod.map(|it| &it.pod_ref);
    vec![
        ("container", container.to_owned()),
        ("id", id.to_owned()),
        ("image", image.to_owned()),
        ("name", name.to_owned()),
        ("namespace", reference.map(|it| it.namespace.clone()).unwrap_or_default()),
        ("pod", reference.map(|it| it.name.clone()).unwrap_or_default()),
    ]
}

fn write(page: &mut Exposition, told: &[Told], now: i64) {
    let name = "container_cpu_usage_seconds_total";
    page.begin(name, "counter", "Cumulative cpu time consumed in seconds.");
    for it in told {
        page.sample_at(name, &with(&it.labels, "cpu", "total"), seconds(it.stats.cpu_nanos), now);
    }
    let name = "container_memory_failures_total";
    page.begin(name, "counter", "Cumulative count of memory allocation failures.");
    for it in told {
        let kinds = [("pgfault", it.stats.page_faults), ("pgmajfault", it.stats.major_page_faults)];
        for (kind, count) in kinds {
            let labels = with(&with(&it.labels, "failure_type", kind), "scope", "hierarchy");
            page.sample_at(name, &labels, count as f64, now);
        }
    }
    for (name, kind, help, read) in OF_GROUPS {
        page.begin(name, kind, help);
        for it in told {
            if let Some(value) = read(&it.stats) {
                page.sample_at(name, &it.labels, value, now);
            }
        }
    }
    let name = "container_start_time_seconds";
    page.begin(name, "gauge", "Start time of the container since unix epoch in seconds.");
    for it in told {
        if let Some(start) = it.start {
            page.sample_at(name, &it.labels, start, now);
        }
    }
    let name = "container_last_seen";
    page.begin(name, "gauge", "Last time a container was seen by the exporter");
    for it in told {
        page.sample_at(name, &it.labels, (now / 1000) as f64, now);
    }
    for (name, help, read) in OF_FILE_SYSTEMS {
        page.begin(name, "gauge", help);
        for it in told {
            if let Some(fs) = &it.fs {
                page.sample_at(name, &with(&it.labels, "device", ""), read(fs) as f64, now);
            }
        }
    }
    for (name, read) in OF_INTERFACES {
        page.begin(name, "counter", "Cumulative count of the interface.");
        for it in told {
            for interface in &it.interfaces {
                let labels = with(&it.labels, "interface", &interface.name);
                page.sample_at(name, &labels, read(interface) as f64, now);
            }
        }
    }
}

fn with(labels: &Labels, key: &'static str, value: &str) -> Labels {
    let mut labels = labels.clone();
    labels.push((key, value.to_owned()));
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_told_with_upstreams_labels() {
        let mut pod = PodStats::default();
        pod.pod_ref.name = "p".to_owned();
        pod.pod_ref.namespace = "n".to_owned();
        let stats = GroupStats {
            cpu_nanos: 1_500_000_000,
            working_set: 7,
            active_file: 3,
            inactive_file: 4,
            kernel: 5,
            swap_limit: Some(64),
            ..GroupStats::default()
        };
        let interface =
            InterfaceStats { name: "eth0".to_owned(), rx_bytes: 9, ..Default::default() };
        let told = Told {
            labels: labels("/kubepods/podu/abc", Some(&pod), "c", "i:1", "abc"),
            stats,
            devices: Vec::new(),
            processes: ProcessStats::default(),
            start: Some(5.0),
            interfaces: vec![interface],
            fs: None,
        };
        let mut page = Exposition::default();
        write(&mut page, &[told], 1000);
        let text = page.finish();
        let own = "container=\"c\",id=\"/kubepods/podu/abc\",image=\"i:1\",name=\"abc\",namespace=\"n\",pod=\"p\"";
        for line in [
            format!("container_cpu_usage_seconds_total{{{own},cpu=\"total\"}} 1.5 1000\n"),
            format!("container_memory_working_set_bytes{{{own}}} 7 1000\n"),
            format!("container_network_receive_bytes_total{{{own},interface=\"eth0\"}} 9 1000\n"),
            format!("container_spec_memory_limit_bytes{{{own}}} 0 1000\n"),
            format!("container_spec_memory_swap_limit_bytes{{{own}}} 64 1000\n"),
            format!("container_spec_memory_reservation_limit_bytes{{{own}}} 0 1000\n"),
            format!("container_memory_kernel_usage{{{own}}} 5 1000\n"),
            format!("container_memory_total_active_file_bytes{{{own}}} 3 1000\n"),
            format!("container_memory_total_inactive_file_bytes{{{own}}} 4 1000\n"),
        ] {
            assert!(text.contains(&line), "{line}\n{text}");
        }
        assert!(!text.contains("container_spec_cpu_quota{"), "there is none");
    }
}
