//! What this process has freed, given back to the system.
//!
//! glibc gives back what lies at the end of its heap; a burst of work leaves free pages in between,
//! and they stay resident for as long as the process lives. Other C libraries give theirs back
//! themselves, or have no such call.
//!
//! Source: `malloc_trim(3)`.

/// Walks the heap, and gives back each free page of it. Takes milliseconds: for a process at rest.
pub fn return_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes the allocator's own lock and touches nothing but free chunks.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
