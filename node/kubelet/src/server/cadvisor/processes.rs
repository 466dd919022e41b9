//! What the processes of cgroups have open, read, written and waited for.

use std::path::Path;

use super::{Told, seconds, with};
use crate::{
    metrics::text::Exposition,
    stats::{
        devices::{Counts, Device},
        group::Pressure,
        processes::ProcessStats,
    },
};

type ReadProcesses = fn(&ProcessStats) -> u64;

const OF_PROCESSES: [(&str, &str, ReadProcesses); 3] = [
    ("container_processes", "Processes.", |it| it.processes),
    ("container_file_descriptors", "Open files.", |it| it.descriptors),
    ("container_sockets", "Open sockets.", |it| it.sockets),
];

type ReadDevice = fn(&Device) -> &Counts;

const OF_DEVICES: [(&str, &str, ReadDevice, &str); 4] = [
    ("container_fs_reads_bytes_total", "Bytes read.", |it| &it.bytes, "Read"),
    ("container_fs_reads_total", "Reads that were done.", |it| &it.operations, "Read"),
    ("container_fs_writes_bytes_total", "Bytes written.", |it| &it.bytes, "Write"),
    ("container_fs_writes_total", "Writes that were done.", |it| &it.operations, "Write"),
];

/// By their places among the pressures of a group.
const PRESSURES: [&str; 3] = ["cpu", "memory", "io"];

type ReadPressure = fn(&Pressure) -> u64;

const HOW: [(&str, &str, ReadPressure); 2] = [
    ("waiting", "Time for which a task waited for it.", |it| it.waiting),
    ("stalled", "Time for which all tasks waited for it.", |it| it.stalled),
];

pub(super) fn write(page: &mut Exposition, told: &[Told], sys: &Path, now: i64) {
    for (name, help, read) in OF_PROCESSES {
        page.begin(name, "gauge", help);
        for it in told {
            page.sample_at(name, &it.labels, read(&it.processes) as f64, now);
        }
    }
    let name = "container_ulimits_soft";
    page.begin(name, "gauge", "Soft limits of the first process; -1: none.");
    for it in told {
        if let Some(most) = it.processes.most_open_files {
            let labels = with(&it.labels, "ulimit", "max_open_files");
            page.sample_at(name, &labels, most as f64, now);
        }
    }
    for (name, help, read, operation) in OF_DEVICES {
        page.begin(name, "counter", help);
        for (it, device) in devices(told) {
            if let Some(count) = read(device).get(operation) {
                let labels = with(&it.labels, "device", &device.name(sys));
                page.sample_at(name, &labels, *count as f64, now);
            }
        }
    }
    usage(page, told, sys, now);
    for (at, of) in PRESSURES.iter().enumerate() {
        for (how, help, read) in HOW {
            let name = format!("container_pressure_{of}_{how}_seconds_total");
            page.begin(&name, "counter", help);
            for it in told {
                if let Some(pressure) = &it.stats.pressures[at] {
                    page.sample_at(&name, &it.labels, seconds(read(pressure)), now);
                }
            }
        }
    }
}

fn devices(told: &[Told]) -> impl Iterator<Item = (&Told, &Device)> {
    told.iter().flat_map(|it| it.devices.iter().map(move |device| (it, device)))
}

fn usage(page: &mut Exposition, told: &[Told], sys: &Path, now: i64) {
    let name = "container_blkio_device_usage_total";
    page.begin(name, "counter", "Bytes by device and operation.");
    for (it, device) in devices(told) {
        let (major, minor) = device.number.split_once(':').unwrap_or_default();
        let mut labels = with(&it.labels, "device", &device.name(sys));
        labels.extend([("major", major.to_owned()), ("minor", minor.to_owned())]);
        for (operation, count) in &device.bytes {
            let labels = with(&labels, "operation", operation);
            page.sample_at(name, &labels, *count as f64, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::group::GroupStats;

    #[test]
    fn devices_processes_and_pressures_have_upstreams_names() {
        let device = Device {
            number: "8:0".to_owned(),
            bytes: [("Read", 4096), ("Write", 1)].into(),
            operations: [("Read", 2)].into(),
        };
        let pressures =
            [Some(Pressure { waiting: 1_500_000_000, ..Pressure::default() }), None, None];
        let told = Told {
            labels: vec![("id", "/p".to_owned())],
            stats: GroupStats { pressures, ..GroupStats::default() },
            devices: vec![device],
            processes: ProcessStats {
                processes: 1,
                descriptors: 5,
                sockets: 2,
                most_open_files: Some(1024),
            },
            start: None,
            interfaces: Vec::new(),
            fs: None,
        };
        let (mut page, sys) = (Exposition::default(), tempfile::tempdir().unwrap());
        write(&mut page, &[told], sys.path(), 1);
        let text = page.finish();
        for line in [
            "container_processes{id=\"/p\"} 1 1\n",
            "container_file_descriptors{id=\"/p\"} 5 1\n",
            "container_sockets{id=\"/p\"} 2 1\n",
            "container_ulimits_soft{id=\"/p\",ulimit=\"max_open_files\"} 1024 1\n",
            "container_fs_reads_bytes_total{id=\"/p\",device=\"\"} 4096 1\n",
            "container_fs_reads_total{id=\"/p\",device=\"\"} 2 1\n",
            "container_blkio_device_usage_total{id=\"/p\",device=\"\",major=\"8\",minor=\"0\",operation=\"Write\"} 1 1\n",
            "container_pressure_cpu_waiting_seconds_total{id=\"/p\"} 1.5 1\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("container_pressure_io_waiting_seconds_total{"), "v1 has none");
    }
}
