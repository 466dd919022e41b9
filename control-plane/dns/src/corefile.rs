//! As much of a Corefile as this server has a use for.

use std::{net::SocketAddr, time::Duration};

/// What a Corefile says, with the defaults of EKS where it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub port: u16,
    pub domain: String,
    /// Where other names are asked for: a file of servers, or servers.
    pub forward: Vec<Forward>,
    pub cache: Duration,
    /// Between the signal to stop and the end.
    pub lameduck: Duration,
    /// What was there and has no effect.
    pub ignored: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forward {
    File(String),
    Server(SocketAddr),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            port: 53,
            domain: "cluster.local".to_owned(),
            forward: vec![Forward::File("/etc/resolv.conf".to_owned())],
            cache: Duration::from_secs(30),
            lameduck: Duration::ZERO,
            ignored: Vec::new(),
        }
    }
}

/// Reads a Corefile. Nothing in it is an error: what is not known is listed.
pub fn parse(text: &str) -> Settings {
    /// Known, and without a setting that matters here.
    const QUIET: [&str; 8] =
        ["errors", "ready", "reload", "loop", "loadbalance", "prometheus", "pods", "fallthrough"];
    let mut settings = Settings::default();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let words: Vec<&str> = line.split_whitespace().filter(|it| *it != "{").collect();
        match words.as_slice() {
            [] | ["}"] => {}
            ["kubernetes", domain, ..] => domain.trim_matches('.').clone_into(&mut settings.domain),
            ["forward", ".", to @ ..] => {
                settings.forward = to.iter().filter_map(|it| forward(it)).collect();
            }
            ["cache", seconds, ..] => {
                settings.cache = seconds.parse().map_or(settings.cache, Duration::from_secs);
            }
            ["lameduck", time] => settings.lameduck = duration(time).unwrap_or_default(),
            ["health", ..] | ["ttl" | "max_concurrent", _] => {}
            [known, ..] if QUIET.contains(known) => {}
            [server] if server.starts_with(".:") || server.starts_with(':') => {
                let port = server.trim_start_matches(['.', ':']);
                settings.port = port.parse().unwrap_or(settings.port);
            }
            [other, ..] => settings.ignored.push((*other).to_owned()),
        }
    }
    settings
}

fn forward(text: &str) -> Option<Forward> {
    if text.starts_with('/') {
        return Some(Forward::File(text.to_owned()));
    }
    let server = text.parse().or_else(|_| format!("{text}:53").parse());
    server.ok().map(Forward::Server)
}

fn duration(text: &str) -> Option<Duration> {
    match text.strip_suffix("ms") {
        Some(millis) => millis.parse().ok().map(Duration::from_millis),
        None => text.trim_end_matches('s').parse().ok().map(Duration::from_secs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corefile_of_eks_is_understood() {
        let settings = parse(
            ".:53 {\n    errors\n    health {\n        lameduck 5s\n      }\n    ready\n    \
             kubernetes cluster.local in-addr.arpa ip6.arpa {\n      pods insecure\n      \
             fallthrough in-addr.arpa ip6.arpa\n    }\n    prometheus :9153\n    forward . \
             /etc/resolv.conf\n    cache 30\n    loop\n    reload\n    loadbalance\n}\n",
        );
        assert_eq!(settings, Settings { lameduck: Duration::from_secs(5), ..Settings::default() });
    }

    #[test]
    fn servers_ports_and_the_unknown_are_told_apart() {
        let settings =
            parse(".:1053 {\n forward . 10.0.0.2 10.0.0.3:5353\n cache 5\n rewrite a b\n}");
        assert_eq!(settings.port, 1053);
        let server = |text: &str| Forward::Server(text.parse().unwrap());
        assert_eq!(settings.forward, [server("10.0.0.2:53"), server("10.0.0.3:5353")]);
        assert_eq!(settings.cache, Duration::from_secs(5));
        assert_eq!(settings.ignored, ["rewrite"]);
    }
}
