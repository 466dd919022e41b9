//! Interfaces of a network namespace, as one of its processes sees them.

use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::model::{InterfaceStats, NetworkStats};

/// The interface that upstream tells at the top.
const DEFAULT: &str = "eth0";

/// `None` when the process is gone.
pub(super) fn of_process(proc: &Path, pid: &str, now: Timestamp) -> Option<NetworkStats> {
    let text = std::fs::read_to_string(proc.join(pid).join("net/dev")).ok()?;
    let interfaces = parse(&text);
    let default = interfaces.iter().find(|it| it.name == DEFAULT).or(interfaces.first()).cloned();
    Some(NetworkStats { time: Time(now), default, interfaces })
}

/// `/proc/net/dev` without the loopback device.
fn parse(text: &str) -> Vec<InterfaceStats> {
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((name, numbers)) = line.split_once(':') else { continue };
        let name = name.trim();
        let numbers: Vec<u64> =
            numbers.split_whitespace().filter_map(|it| it.parse().ok()).collect();
        let [
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            _,
            _,
            _,
            _,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
            ..,
        ] = numbers[..]
        else {
            continue;
        };
        if name != "lo" {
            found.push(InterfaceStats {
                name: name.to_owned(),
                rx_bytes,
                rx_errors,
                tx_bytes,
                tx_errors,
                rx_packets,
                rx_dropped,
                tx_packets,
                tx_dropped,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_without_the_loopback_device() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes    packets errs\n    \
                    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  \
                    eth0: 100 2 1 3 0 0 0 0 200 4 5 6 0 0 0 0\n";
        let found = parse(text);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].rx_bytes, found[0].tx_bytes, found[0].tx_errors), (100, 200, 5));
        assert_eq!((found[0].rx_dropped, found[0].tx_packets), (3, 4));
    }
}
