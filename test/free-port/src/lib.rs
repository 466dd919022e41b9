//! Ports for servers that a test starts.
//!
//! A port that the kernel has drawn and that was let go of may be drawn again at once, for another
//! test of the same process or for a client's end: two tests then talk to one server. So ports come
//! from below what the kernel draws from, and each once, also where the server that had it is dead
//! for a while.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
};

/// Below `net.ipv4.ip_local_port_range`, and above the services' that have names.
const FIRST: u32 = 21_000;
const COUNT: u32 = 11_000;
/// Processes that test at the same time begin at different places.
const STRIDE: u32 = 250;

/// A port at which nobody listens, on any address, and that no other caller in this process gets.
///
/// # Panics
///
/// Where none is free.
pub fn free_port() -> u16 {
    static DRAWN: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(STRIDE);
    loop {
        let drawn = DRAWN.fetch_add(1, Ordering::Relaxed);
        assert!(drawn < COUNT, "no port is free");
        let port = FIRST + begin.wrapping_add(drawn) % COUNT;
        let port = u16::try_from(port).unwrap_or(u16::MAX);
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once_and_not_where_somebody_listens() {
        let first = free_port();
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first + 1)).unwrap();
        let next = free_port();
        assert!(next != first && next != first + 1, "{first} {next}");
    }
}
