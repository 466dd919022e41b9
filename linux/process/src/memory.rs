//! What this process does not need, given back to the system.
//!
//! glibc gives back what lies at the end of its heap; a burst of work leaves free pages in between,
//! and they stay resident for as long as the process lives. Other C libraries give theirs back
//! themselves, or have no such call.
//!
//! Of the program itself, what ran once (the start, a burst) stays mapped as long as memory is
//! plenty, 64 KiB around each page that was touched. Unmapped, what is needed comes back from the
//! page cache by a minor fault.
//!
//! Source: `malloc_trim(3)`, `madvise(2)`, `proc_pid_maps(5)`.

use std::time::Duration;

/// Walks the heap, and gives back each free page of it. Takes milliseconds: for a process at rest.
pub fn return_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes the allocator's own lock and touches nothing but free chunks.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// When a program has started, and how often it is looked after later.
const STARTED: Duration = Duration::from_secs(20);
const LATER: Duration = Duration::from_secs(10 * 60);

/// Runs `program`, and gives back what only its start, or a burst since, needed of memory: for what
/// every node runs and what rests most of the time.
pub async fn resting<T>(program: impl Future<Output = T>) -> T {
    let giving_back = async {
        let mut pause = STARTED;
        loop {
            tokio::time::sleep(pause).await;
            return_free_memory();
            release_program();
            pause = LATER;
        }
    };
    tokio::select! {
        outcome = program => outcome,
        never = giving_back => never,
    }
}

/// Unmaps the program's code and constants, its libraries' too; what is still used is mapped again
/// as it is used.
pub fn release_program() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, end) in maps.lines().filter_map(code) {
        // SAFETY: the range is a private mapping of a file that is never written through it, so
        // that its pages are the file's; they are read again at the next access. Were it unmapped
        // or replaced meanwhile, the call would fail or drop another read-only page of a file.
        unsafe {
            nix::libc::madvise(start as *mut _, end - start, nix::libc::MADV_DONTNEED);
        }
    }
}

/// The range of a line of `maps` that is a file's and nobody writes: code, or the constants before
/// it. Those further on were written by the linker before they became read-only.
fn code(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_unwritten = match (fields.next()?, fields.next()?) {
        ("r-xp", _) => true,
        ("r--p", offset) => offset.bytes().all(|it| it == b'0'),
        _ => false,
    };
    if !is_unwritten || !fields.nth(2)?.starts_with('/') {
        return None;
    }
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_writes_of_files_is_released() {
        let exe = "55d0c0e00000-55d0c0e9c000 r-xp 00002000 fe:00 1234      /usr/bin/nodestead";
        assert_eq!(code(exe), Some((0x55d0_c0e0_0000, 0x55d0_c0e9_c000)));
        let constants =
            "55d0c0d00000-55d0c0e00000 r--p 00000000 fe:00 1234      /usr/bin/nodestead";
        assert_eq!(code(constants), Some((0x55d0_c0d0_0000, 0x55d0_c0e0_0000)));
        // Constants that were relocated, the heap, the kernel's own, code that was made at run time.
        for other in [
            "55d0c0e9c000-55d0c0e9f000 r--p 0009c000 fe:00 1234      /usr/bin/nodestead",
            "55d0c1000000-55d0c1021000 rw-p 00000000 00:00 0         [heap]",
            "7ffd3b5f0000-7ffd3b5f2000 r-xp 00000000 00:00 0         [vdso]",
            "7f0000000000-7f0000001000 r-xp 00000000 00:00 0",
            "7f0000000000-7f0000001000 r-xs 00000000 fe:00 1234      /dev/shm/x",
        ] {
            assert_eq!(code(other), None, "{other}");
        }
    }

    #[test]
    fn what_ran_once_is_not_resident_any_more_and_runs_again() {
        let text = || {
            let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let mut resident = 0;
            let mut is_code = false;
            for line in smaps.lines() {
                if let Some(kilobytes) = line.strip_prefix("Rss:").filter(|_| is_code) {
                    let number = kilobytes.trim().trim_end_matches(" kB");
                    resident += number.parse::<usize>().unwrap();
                } else if line.contains('-') && !line.starts_with(char::is_uppercase) {
                    is_code = code(line).is_some();
                }
            }
            resident
        };
        let before = text();
        release_program();
        let after = text();
        assert!(after < before, "{before} KiB before, {after} KiB after");
        assert_eq!("12".parse::<u8>().unwrap(), 12);
    }

    fn resident_pages() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse().unwrap()
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn what_lies_free_between_what_is_held_goes_back() {
        // Below the size from which glibc maps each by itself.
        let mut all: Vec<_> = (0..2000).map(|_| vec![1_u8; 20_000]).collect();
        let held: Vec<_> = all.drain(..).enumerate().filter(|(n, _)| n % 100 == 0).collect();
        let before = resident_pages();
        return_free_memory();
        let given_back = before.saturating_sub(resident_pages());
        assert!(given_back > 5000, "{given_back} pages went back");
        assert_eq!(held.len(), 20);
    }
}
