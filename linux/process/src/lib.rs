//! Processes: identity across restarts, signals that cannot hit a stranger, entry into namespaces.
//!
//! A PID alone is not an identity, since the kernel reuses it. PID and start time are: that pair is
//! what state files hold and what every signal checks. Signals go through a pidfd, which keeps
//! pointing at the process that was checked.

mod identity;
mod memory;
mod session;
mod watched;

pub use self::{
    identity::{Identity, SignalError},
    memory::{release_program, resting, return_free_memory},
    session::{EnterError, Entrance, Fork, NAMESPACES, end_with_starter, on_terminal},
    watched::{Duplex, Watched},
};
pub use nix::sys::signal::Signal;

/// The state letter of `pid` (`R`, `S`, `Z`, …), or `None` when there is no such process.
pub fn state(pid: i32) -> Option<char> {
    identity::stat(pid).map(|stat| stat.state)
}

/// The IDs of all processes that `/proc` shows.
pub fn all() -> std::io::Result<Vec<i32>> {
    let entries = std::fs::read_dir("/proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// Says whether this process may raise limits (`CAP_SYS_RESOURCE`), which containers need in order
/// to lower their OOM score.
pub fn has_sys_resource() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24; // linux/capability.h
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << CAP_SYS_RESOURCE) != 0
}
