//! What the kernel says of this process, by the names that Prometheus's clients give it.

use std::fmt::Write;

/// What Linux counts processor time and starts in, on every architecture: `USER_HZ`.
const TICKS: f64 = 100.0;

/// Appends the `process_…` metrics, as far as the kernel tells.
pub fn write_metrics(page: &mut String) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let stat = read("/proc/self/stat");
    let (boot, limits, status) =
        (read("/proc/stat"), read("/proc/self/limits"), read("/proc/self/status"));
    // The folder that is being read is open too.
    let open = std::fs::read_dir("/proc/self/fd").map(|it| it.count().saturating_sub(1) as f64);
    for (name, kind, help, value) in [
        (
            "process_cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
            cpu_seconds(&stat),
        ),
        (
            "process_max_fds",
            "gauge",
            "Maximum number of open file descriptors.",
            most_descriptors(&limits),
        ),
        ("process_open_fds", "gauge", "Number of open file descriptors.", open.ok()),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory size in bytes.",
            kibibytes(&status, "VmRSS:"),
        ),
        (
            "process_start_time_seconds",
            "gauge",
            "Start time of the process since unix epoch in seconds.",
            started(&stat, &boot),
        ),
        (
            "process_virtual_memory_bytes",
            "gauge",
            "Virtual memory size in bytes.",
            kibibytes(&status, "VmSize:"),
        ),
    ] {
        let Some(value) = value else { continue };
        let written = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        debug_assert!(written.is_ok(), "writing into memory");
    }
}

/// A field of `/proc/self/stat` by its number in proc(5); the program's name may hold anything.
fn field(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((field(stat, 14)? + field(stat, 15)?) / TICKS)
}

fn started(stat: &str, boot: &str) -> Option<f64> {
    let boot = boot.lines().find_map(|it| it.strip_prefix("btime "))?;
    Some(boot.trim().parse::<f64>().ok()? + field(stat, 22)? / TICKS)
}

fn most_descriptors(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|it| it.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn kibibytes(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|it| it.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 1 0 0 0 150 50 0 0 20 0 9 0 12345 99 88";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(started(stat, "cpu 1\nbtime 1000\n"), Some(1123.45));
        let limits = "Limit  Soft  Hard  Units\nMax open files            1024  4096  files\n";
        assert_eq!(most_descriptors(limits), Some(1024.0));
        assert_eq!(kibibytes("VmSize:\t  8 kB\nVmRSS:\t 2 kB\n", "VmRSS:"), Some(2048.0));
        assert_eq!(cpu_seconds(""), None);
    }

    #[test]
    fn this_process_has_memory_files_and_a_beginning() {
        let mut page = String::new();
        write_metrics(&mut page);
        let value = |name: &str| -> f64 {
            let line = page.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name} in {page}")).parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e5);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_start_time_seconds") > 1e9);
    }
}
