//! How many instances this machine can hold: by its memory, as each brings a container runtime, a
//! kubelet and the add-ons' pods: the sum of their rows in docs/performance.md, with four shims, is
//! 83 MiB at rest.

use std::fs;

pub(crate) const MIB_PER_INSTANCE: u64 = 96;
/// For the daemon with its control planes, and for the machine itself.
const MIB_RESERVED: u64 = 768;

/// At least one: whether a machine without memory can hold it is tried.
pub(crate) fn instances() -> usize {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    total_mib(&text).map_or(usize::MAX, within)
}

fn within(mib: u64) -> usize {
    let room = mib.saturating_sub(MIB_RESERVED) / MIB_PER_INSTANCE;
    usize::try_from(room).unwrap_or(usize::MAX).max(1)
}

fn total_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|it| it.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_laptop_holds_some_dozens_of_instances() {
        let total = total_mib("MemFree: 1 kB\nMemTotal:        8388608 kB\n").unwrap();
        assert_eq!((total, within(total)), (8192, 77));
        assert_eq!(within(512), 1);
        assert_eq!(total_mib("nothing"), None);
    }
}
