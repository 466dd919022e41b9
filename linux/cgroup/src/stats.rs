//! What the processes of a cgroup use.

use std::{fs, path::Path, time::Duration};

use crate::{Cgroup, Version};

/// Memory in bytes. The working set is what cannot be reclaimed easily: usage without inactive
/// file cache (Upstream: cAdvisor's `setMemoryStats`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    pub usage: u64,
    pub working_set: u64,
    pub rss: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
    pub limit: Option<u64>,
    /// How often the kernel has killed a process here for want of memory.
    pub oom_kills: u64,
}

/// CPU time used since the cgroup was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    pub usage: Duration,
}

impl Cgroup {
    /// `None` when the cgroup is gone or memory is not accounted.
    pub fn memory_stats(&self) -> Option<MemoryStats> {
        let hierarchy = self.layout.hierarchy("memory")?;
        let folder = hierarchy.folder(self.path());
        match hierarchy.version {
            Version::V1 => memory_v1(&folder),
            Version::V2 => memory_v2(&folder),
        }
    }

    /// `None` when the cgroup is gone or CPU time is not accounted.
    pub fn cpu_stats(&self) -> Option<CpuStats> {
        let v1 = self.layout.hierarchy("cpuacct").filter(|it| it.version == Version::V1);
        if let Some(hierarchy) = v1 {
            let nanos = number(&hierarchy.folder(self.path()).join("cpuacct.usage"))?;
            return Some(CpuStats { usage: Duration::from_nanos(nanos) });
        }
        let hierarchy = self.layout.hierarchy("cpu")?;
        let stat = fs::read_to_string(hierarchy.folder(self.path()).join("cpu.stat")).ok()?;
        Some(CpuStats { usage: Duration::from_micros(field(&stat, "usage_usec")?) })
    }
}

fn memory_v1(folder: &Path) -> Option<MemoryStats> {
    let usage = number(&folder.join("memory.usage_in_bytes"))?;
    let stat = fs::read_to_string(folder.join("memory.stat")).ok()?;
    let oom = fs::read_to_string(folder.join("memory.oom_control")).unwrap_or_default();
    let limit = number(&folder.join("memory.limit_in_bytes"));
    Some(MemoryStats {
        usage,
        working_set: usage.saturating_sub(field(&stat, "total_inactive_file").unwrap_or(0)),
        rss: field(&stat, "total_rss").unwrap_or(0),
        page_faults: field(&stat, "total_pgfault").unwrap_or(0),
        major_page_faults: field(&stat, "total_pgmajfault").unwrap_or(0),
        // No limit is the largest multiple of the page size that fits an i64.
        limit: limit.filter(|it| *it < 1 << 62),
        oom_kills: field(&oom, "oom_kill").unwrap_or(0),
    })
}

fn memory_v2(folder: &Path) -> Option<MemoryStats> {
    let usage = number(&folder.join("memory.current"))?;
    let stat = fs::read_to_string(folder.join("memory.stat")).ok()?;
    let events = fs::read_to_string(folder.join("memory.events")).unwrap_or_default();
    Some(MemoryStats {
        usage,
        working_set: usage.saturating_sub(field(&stat, "inactive_file").unwrap_or(0)),
        rss: field(&stat, "anon").unwrap_or(0),
        page_faults: field(&stat, "pgfault").unwrap_or(0),
        major_page_faults: field(&stat, "pgmajfault").unwrap_or(0),
        // `max` is no number, which is what no limit means here.
        limit: number(&folder.join("memory.max")),
        oom_kills: field(&events, "oom_kill").unwrap_or(0),
    })
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let stat = "rss_huge 5\nrss 7\ntotal_rss 9\n";
        assert_eq!(field(stat, "rss"), Some(7));
        assert_eq!(field(stat, "total"), None);
    }

    #[test]
    fn the_working_set_leaves_inactive_file_cache_out() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        put("memory.current", "1000\n");
        put("memory.stat", "anon 600\ninactive_file 300\n");
        put("memory.max", "max\n");
        let stats = memory_v2(folder.path()).unwrap();
        assert_eq!((stats.working_set, stats.rss, stats.limit), (700, 600, None));
    }
}
