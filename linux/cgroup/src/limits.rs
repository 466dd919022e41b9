//! What the processes of a cgroup may use.

use std::time::Duration;

use crate::{Cgroup, CgroupError, Version, tree::write};

/// The length of the time slices that a CPU quota is counted in: the kernel's default.
const CPU_PERIOD: Duration = Duration::from_millis(100);

impl Cgroup {
    /// Lets the cgroup use at most `bytes` of memory.
    pub fn set_memory_limit(&self, bytes: u64) -> Result<(), CgroupError> {
        let Some(hierarchy) = self.layout.hierarchy("memory") else { return Ok(()) };
        let file = match hierarchy.version {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        };
        write(&hierarchy.folder(self.path()).join(file), &bytes.to_string())
    }

    /// Lets the cgroup and those below it have at most `count` processes and threads: what would be one
    /// more fails to fork (`EAGAIN`). Where the `pids` controller is not mounted nothing is limited, and
    /// the answer is `false`.
    pub fn set_pids_limit(&self, count: u64) -> Result<bool, CgroupError> {
        match self.folder("pids") {
            None => Ok(false),
            Some(folder) => write(&folder.join("pids.max"), &count.to_string()).map(|()| true),
        }
    }

    /// Lets the cgroup use at most the time of `cpus` whole CPUs.
    pub fn set_cpu_limit(&self, cpus: u32) -> Result<(), CgroupError> {
        let Some(hierarchy) = self.layout.hierarchy("cpu") else { return Ok(()) };
        let folder = hierarchy.folder(self.path());
        let period = CPU_PERIOD.as_micros();
        let quota = period * u128::from(cpus);
        match hierarchy.version {
            Version::V1 => {
                write(&folder.join("cpu.cfs_period_us"), &period.to_string())?;
                write(&folder.join("cpu.cfs_quota_us"), &quota.to_string())
            }
            Version::V2 => write(&folder.join("cpu.max"), &format!("{quota} {period}")),
        }
    }
}
