//! The flags that components which run alone have in common.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use crate::lease::Election;

/// `--leader-elect-…`, with upstream's defaults.
#[derive(clap::Args, Clone, Debug)]
pub struct LeaderFlags {
    /// Of several processes one works: the one that holds a Lease.
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true",
          action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// How long others wait after the last renewal that they saw.
    #[arg(long, default_value = "15s", value_parser = go_duration)]
    pub leader_elect_lease_duration: Duration,
    /// How long the leader tries to renew before it stops.
    #[arg(long, default_value = "10s", value_parser = go_duration)]
    pub leader_elect_renew_deadline: Duration,
    /// How often it is tried.
    #[arg(long, default_value = "2s", value_parser = go_duration)]
    pub leader_elect_retry_period: Duration,
    /// The Lease's name; the component's where it is not given.
    #[arg(long)]
    pub leader_elect_resource_name: Option<String>,
    /// The Lease's namespace.
    #[arg(long, default_value = "kube-system")]
    pub leader_elect_resource_namespace: String,
    /// The kind of lock: leases is the only one.
    #[arg(long, default_value = "leases", value_parser = ["leases"])]
    pub leader_elect_resource_lock: String,
}

impl LeaderFlags {
    /// What is asked for; `host` makes the identity readable, `unique` makes it one.
    pub fn election(&self, component: &str, host: &str, unique: &str) -> Option<Election> {
        let name = self.leader_elect_resource_name.clone();
        self.leader_elect.then(|| Election {
            namespace: self.leader_elect_resource_namespace.clone(),
            name: name.unwrap_or_else(|| component.to_owned()),
            identity: format!("{host}_{unique}"),
            lease_duration: self.leader_elect_lease_duration,
            renew_deadline: self.leader_elect_renew_deadline,
            retry_period: self.leader_elect_retry_period,
        })
    }
}

/// Where health is told; with upstream's names.
#[derive(clap::Args, Clone, Debug)]
pub struct ServingFlags {
    /// The address on which `/healthz`, `/livez` and `/readyz` are served.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Its port; 0: nothing is served. The component's own where it is not given.
    #[arg(long)]
    pub secure_port: Option<u16>,
    /// Taken and not needed: what is served is for everybody.
    #[arg(long)]
    pub authentication_kubeconfig: Option<PathBuf>,
    /// Taken and not needed: what is served is for everybody.
    #[arg(long)]
    pub authorization_kubeconfig: Option<PathBuf>,
}

impl ServingFlags {
    /// `None`: nothing is to be served.
    pub fn address(&self, port: u16) -> Option<SocketAddr> {
        let port = self.secure_port.unwrap_or(port);
        (port != 0).then(|| SocketAddr::new(self.bind_address, port))
    }
}

/// A Go duration of whole hours, minutes and seconds (`1h30m`), or plain seconds.
pub fn go_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration like `50s` or `1h30m`");
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let (mut seconds, mut rest) = (0_u64, text);
    while !rest.is_empty() {
        let end = rest.find(|it: char| !it.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..end].parse().map_err(|_| wrong())?;
        let factor = match rest.as_bytes().get(end) {
            Some(b'h') => 3600,
            Some(b'm') => 60,
            Some(b's') => 1,
            _ => return Err(wrong()),
        };
        seconds += number * factor;
        rest = &rest[end + 1..];
    }
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, seconds) in [("50s", 50), ("1h30m", 5400), ("8760h0m0s", 31_536_000), ("7", 7)] {
            assert_eq!(go_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert!(go_duration("soon").is_err() && go_duration("1x").is_err());
    }
}
