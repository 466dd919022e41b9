//! What is set on the host before Services are: connection tracking, and who the kernel kills last.
//!
//! Upstream: `cmd/kube-proxy/app/conntrack.go`. Deviation: what the kernel does not let us set (the
//! size of the table is the host's, not a network namespace's) is warned about; upstream ends.

use std::{fs, path::Path, thread::available_parallelism};

use tracing::{debug, warn};

use crate::config::{Configuration, Conntrack, GoDuration};

const NETFILTER: &str = "/proc/sys/net/netfilter";

/// Sets what the configuration says, where the kernel does not have it already.
pub fn set_up(config: &Configuration) {
    if let Some(score) = config.oom_score_adj
        && let Err(error) = fs::write("/proc/self/oom_score_adj", score.to_string())
    {
        debug!(%error, score, "failed to apply the OOM score");
    }
    let cores = available_parallelism().map_or(1, usize::from);
    for (name, value) in settings(&config.conntrack, cores) {
        let path = Path::new(NETFILTER).join(name);
        let current = fs::read_to_string(&path).unwrap_or_default();
        if is_met(name, current.trim(), value) {
            continue;
        }
        if let Err(error) = fs::write(&path, value.to_string()) {
            warn!(%error, value, path = %path.display(), "failed to set up connection tracking");
        }
    }
}

/// A table that is larger than it has to be stays so.
fn is_met(name: &str, current: &str, wanted: i64) -> bool {
    let current: Option<i64> = current.parse().ok();
    match name {
        "nf_conntrack_max" => current.is_some_and(|it| it >= wanted),
        _ => current == Some(wanted),
    }
}

fn settings(config: &Conntrack, cores: usize) -> Vec<(&'static str, i64)> {
    let mut settings = Vec::new();
    let per_core = i64::from(config.max_per_core.unwrap_or(0));
    if per_core > 0 {
        let scaled = per_core * i64::try_from(cores).unwrap_or(1);
        settings.push(("nf_conntrack_max", scaled.max(i64::from(config.min.unwrap_or(0)))));
    }
    let timeouts = [
        ("nf_conntrack_tcp_timeout_established", config.tcp_established_timeout),
        ("nf_conntrack_tcp_timeout_close_wait", config.tcp_close_wait_timeout),
        ("nf_conntrack_udp_timeout", Some(config.udp_timeout)),
        ("nf_conntrack_udp_timeout_stream", Some(config.udp_stream_timeout)),
    ];
    for (name, timeout) in timeouts {
        let seconds = timeout.unwrap_or(GoDuration(0)).get().as_secs();
        if seconds > 0 {
            settings.push((name, i64::try_from(seconds).unwrap_or(i64::MAX)));
        }
    }
    if config.tcp_be_liberal {
        settings.push(("nf_conntrack_tcp_be_liberal", 1));
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_upstreams_and_zero_leaves_things_as_they_are() {
        let default = settings(&Conntrack::default(), 8);
        assert_eq!(
            default,
            [
                ("nf_conntrack_max", 262_144),
                ("nf_conntrack_tcp_timeout_established", 86_400),
                ("nf_conntrack_tcp_timeout_close_wait", 3600),
            ]
        );
        assert_eq!(settings(&Conntrack::default(), 2)[0].1, 131_072);
        let nothing = Conntrack {
            max_per_core: Some(0),
            tcp_established_timeout: Some(GoDuration(0)),
            tcp_close_wait_timeout: Some(GoDuration(0)),
            ..Conntrack::default()
        };
        assert!(settings(&nothing, 8).is_empty());
        let liberal = Conntrack { tcp_be_liberal: true, ..nothing };
        assert_eq!(settings(&liberal, 8), [("nf_conntrack_tcp_be_liberal", 1)]);
    }

    #[test]
    fn a_larger_table_is_not_made_smaller() {
        assert!(is_met("nf_conntrack_max", "1000000", 131_072));
        assert!(!is_met("nf_conntrack_max", "65536", 131_072));
        assert!(!is_met("nf_conntrack_udp_timeout", "30", 10));
    }
}
