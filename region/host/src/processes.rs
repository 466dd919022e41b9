//! How many processes and threads an instance may have: what a machine of its memory could hold.
//!
//! Linux lets a machine have as many threads as fill an eighth of its memory with their kernel stacks
//! (16 KiB each on x86-64 and arm64), so 65,536 with 8 GiB (`kernel.threads-max`: `set_max_threads` in
//! `kernel/fork.c`). `kernel.pid_max`, the other bound, is 4,194,304 on Amazon Linux 2023, by systemd's
//! default, and only the largest types come to it.
//!
//! Deviation: process ids are the machine's, so an instance gets no more than a quarter of those, and all
//! instances of a region together no more than half: a fork bomb in a pod leaves the machine usable, and
//! other instances too. `/proc/sys/kernel/threads-max` and `pid_max` inside show the machine's values.

use std::fs;

use linux_cgroup::{Cgroup, CgroupError};

const KERNEL_STACK: u64 = 16 << 10;
/// The kernel's least and most (`MIN_THREADS`, `FUTEX_TID_MASK`), and systemd's `kernel.pid_max`.
const LEAST: u64 = 20;
const MOST: u64 = 4_194_304;
/// The parts of the machine's ids that go to one instance and to all of a region.
const INSTANCE_PART: u64 = 4;
const REGION_PART: u64 = 2;

/// As many as the kernel of a machine with so many bytes of memory allows.
fn of_memory(bytes: u64) -> u64 {
    (bytes / (8 * KERNEL_STACK)).clamp(LEAST, MOST)
}

/// What an instance may have on a machine that has `most`.
fn of_instance(memory_bytes: u64, most: u64) -> u64 {
    of_memory(memory_bytes).min(most / INSTANCE_PART).max(LEAST)
}

/// How many this machine can have at once.
fn of_machine() -> u64 {
    let number = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let bounds = ["threads-max", "pid_max"].into_iter().filter_map(number);
    bounds.min().unwrap_or(MOST)
}

/// The most that an instance gets of this machine's processes and threads, and how many those are.
pub fn processes_of_an_instance() -> (u64, u64) {
    let most = of_machine();
    (most / INSTANCE_PART, most)
}

/// Bounds an instance's cgroup, and the one of its region around it. `false` where this machine has no
/// `pids` controller.
pub(crate) fn limit(cgroup: &Cgroup, region: &Cgroup, memory: u64) -> Result<bool, CgroupError> {
    let most = of_machine();
    region.set_pids_limit(most / REGION_PART)?;
    cgroup.set_pids_limit(of_instance(memory, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_has_what_its_memory_could_hold_and_never_all_of_the_machine() {
        assert_eq!(of_memory(8 << 30), 65_536);
        assert_eq!(of_memory(1 << 20), LEAST);
        assert_eq!(of_memory(u64::MAX), MOST);
        // A machine as Linux makes it, and one with systemd's process ids.
        assert_eq!(of_instance(8 << 30, 32_768), 8192);
        assert_eq!(of_instance(1 << 30, 192_730), 8192);
        assert_eq!(of_instance(8 << 30, 1_000_000), 65_536);
    }
}
