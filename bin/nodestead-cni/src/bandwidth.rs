//! Bandwidth limits of a pod: `kubernetes.io/ingress-bandwidth` and `egress-bandwidth`, which the
//! runtime hands over as bits in a second where the configuration declares the capability.
//!
//! What the pod receives is what the host's end of its pair sends: a token bucket there. What it sends
//! is redirected to a link of kind `ifb` of its own, named after the sandbox, with another bucket.
//!
//! Upstream: the `bandwidth` plug-in, its checks, 25 ms of queue.

use api_cni::{Bandwidth, CniError, ErrorCode};
use linux_netlink::{Netlink, TokenBucket, VethEnd};
use sha1::{Digest, Sha1};

use crate::chain;

const LATENCY_MILLIS: u64 = 25;

/// Both directions, checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) ingress: Option<TokenBucket>,
    pub(crate) egress: Option<TokenBucket>,
}

impl Limits {
    /// Refuses what upstream's plug-in refuses, in its words.
    pub(crate) fn of(asked: Option<&Bandwidth>) -> Result<Self, CniError> {
        let Some(asked) = asked else { return Ok(Self::default()) };
        Ok(Self {
            ingress: bucket(asked.ingress_rate, asked.ingress_burst)?,
            egress: bucket(asked.egress_rate, asked.egress_burst)?,
        })
    }
}

fn bucket(rate: i64, burst: i64) -> Result<Option<TokenBucket>, CniError> {
    let refused = |msg: &str| Err(CniError::new(ErrorCode::InvalidNetworkConfig, msg));
    let (Ok(rate), Ok(burst)) = (u64::try_from(rate), u64::try_from(burst)) else {
        return refused("rate and burst must be a positive integer");
    };
    match (rate, burst) {
        (0, 0) => return Ok(None),
        (_, 0) => return refused("if rate is set, burst must also be set"),
        (0, _) => return refused("if burst is set, rate must also be set"),
        _ => {}
    }
    let (rate, burst) = (rate / 8, burst / 8);
    let Ok(burst) = u32::try_from(burst) else {
        return refused("burst cannot be more than 4GB");
    };
    let waiting = rate.saturating_mul(LATENCY_MILLIS) / 1000;
    let limit = u32::try_from(waiting.saturating_add(burst.into())).unwrap_or(u32::MAX);
    Ok(Some(TokenBucket { rate: rate.max(1), burst, limit }))
}

/// The link that a sandbox's outgoing packets pass.
pub(crate) fn link_of(container_id: &str) -> String {
    let digest = Sha1::digest(container_id);
    let hex: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("bwp{}", &hex[..11])
}

/// Puts the limits on a pod's pair.
pub(crate) fn apply(
    limits: Limits,
    host_link: &str,
    container_id: &str,
    mtu: u32,
) -> Result<(), CniError> {
    if limits == Limits::default() {
        return Ok(());
    }
    put(limits, host_link, container_id, mtu).map_err(|error| {
        let msg = format!("add cmd: failed to limit the pod's bandwidth: {error}");
        CniError::new(ErrorCode::Plugin, msg)
    })
}

fn put(limits: Limits, host_link: &str, container_id: &str, mtu: u32) -> Result<(), String> {
    let words = |error: &dyn std::error::Error| chain(error);
    let host = Netlink::here().map_err(|error| words(&error))?;
    let index = index_of(&host, host_link)?;
    if let Some(bucket) = limits.ingress {
        host.limit_link(index, bucket).map_err(|error| words(&error))?;
    }
    let Some(bucket) = limits.egress else { return Ok(()) };
    let name = link_of(container_id);
    match host.create_link("ifb", &VethEnd { mtu: Some(mtu), ..VethEnd::named(&name) }) {
        Err(error) if !error.is_already_there() => return Err(words(&error)),
        _ => {}
    }
    let between = index_of(&host, &name)?;
    host.set_up(between).map_err(|error| words(&error))?;
    host.limit_link(between, bucket).map_err(|error| words(&error))?;
    host.redirect_received(index, between).map_err(|error| words(&error))
}

fn index_of(host: &Netlink, name: &str) -> Result<u32, String> {
    let link = host.link_by_name(name).map_err(|error| chain(&error))?;
    link.map(|link| link.index).ok_or_else(|| format!("link `{name}` is not there"))
}

/// Removes what limits a sandbox and does not go with its pair. What is not there is fine.
pub(crate) fn remove(container_id: &str) -> Result<(), String> {
    let host = Netlink::here().map_err(|error| chain(&error))?;
    host.delete_link_by_name(&link_of(container_id)).map_err(|error| chain(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rate: i64, burst: i64) -> Result<Option<TokenBucket>, String> {
        bucket(rate, burst).map_err(|error| error.msg)
    }

    #[test]
    fn bits_become_bytes_with_25_ms_of_queue() {
        let bucket = TokenBucket { rate: 125_000, burst: 12_500, limit: 12_500 + 3_125 };
        assert_eq!(of(1_000_000, 100_000), Ok(Some(bucket)));
        assert_eq!(of(0, 0), Ok(None));
    }

    #[test]
    fn half_a_limit_is_refused_in_upstreams_words() {
        assert_eq!(of(-1, 0).unwrap_err(), "rate and burst must be a positive integer");
        assert_eq!(of(1, 0).unwrap_err(), "if rate is set, burst must also be set");
        assert_eq!(of(0, 1).unwrap_err(), "if burst is set, rate must also be set");
        assert_eq!(of(8, 1 << 40).unwrap_err(), "burst cannot be more than 4GB");
    }

    #[test]
    fn the_links_name_fits_and_is_the_sandboxs() {
        assert_eq!(link_of("a").len(), 14);
        assert_ne!(link_of("a"), link_of("b"));
    }
}
