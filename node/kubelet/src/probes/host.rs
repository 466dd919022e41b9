//! The addresses of a host that a probe or a hook names.
//!
//! Upstream: Go's dialler, which tries one address after the other.

use std::{net::IpAddr, time::Duration};

/// A name is looked up as this host looks up names; the text of a failure is Go's.
pub(super) async fn addresses(host: &str, limit: Duration) -> Result<Vec<IpAddr>, String> {
    if let Ok(ip) = host.trim_matches(['[', ']']).parse() {
        return Ok(vec![ip]);
    }
    let missing = || format!("dial tcp: lookup {host}: no such host");
    let found = match tokio::time::timeout(limit, tokio::net::lookup_host((host, 0))).await {
        Err(_) => return Err(format!("dial tcp: lookup {host}: i/o timeout")),
        Ok(found) => found.map_err(|_| missing())?,
    };
    let mut addresses: Vec<IpAddr> = Vec::new();
    for found in found {
        if !addresses.contains(&found.ip()) {
            addresses.push(found.ip());
        }
    }
    if addresses.is_empty() { Err(missing()) } else { Ok(addresses) }
}
