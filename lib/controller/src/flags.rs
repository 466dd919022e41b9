//! The flags that components which run alone have in common.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use crate::lease::Election;

/// `--leader-elect-…`; upstream's defaults, or what a configuration file says, hold where a flag is not
/// given.
#[derive(clap::Args, Clone, Debug)]
pub struct LeaderFlags {
    /// Of several processes one works: the one that holds a Lease [default: true].
    #[arg(long, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub leader_elect: Option<bool>,
    /// How long others wait after the last renewal that they saw [default: 15s].
    #[arg(long, value_parser = go_duration)]
    pub leader_elect_lease_duration: Option<Duration>,
    /// How long the leader tries to renew before it stops [default: 10s].
    #[arg(long, value_parser = go_duration)]
    pub leader_elect_renew_deadline: Option<Duration>,
    /// How often it is tried [default: 2s].
    #[arg(long, value_parser = go_duration)]
    pub leader_elect_retry_period: Option<Duration>,
    /// The Lease's name; the component's where it is not given.
    #[arg(long)]
    pub leader_elect_resource_name: Option<String>,
    /// The Lease's namespace [default: kube-system].
    #[arg(long)]
    pub leader_elect_resource_namespace: Option<String>,
    /// The kind of lock: leases is the only one.
    #[arg(long, default_value = "leases", value_parser = ["leases"])]
    pub leader_elect_resource_lock: String,
}

impl LeaderFlags {
    /// What is asked for; `host` makes the identity readable, `unique` makes it one.
    pub fn election(
        &self,
        component: &str,
        host: &str,
        unique: &str,
    ) -> Result<Option<Election>, String> {
        self.over(
            true,
            Election {
                namespace: "kube-system".to_owned(),
                name: component.to_owned(),
                identity: format!("{host}_{unique}"),
                lease_duration: Duration::from_secs(15),
                renew_deadline: Duration::from_secs(10),
                retry_period: Duration::from_secs(2),
            },
        )
    }

    /// What is asked for over what a file says; `None`: nobody is elected.
    pub fn over(&self, is_on: bool, file: Election) -> Result<Option<Election>, String> {
        if !self.leader_elect.unwrap_or(is_on) {
            return Ok(None);
        }
        let mut it = file;
        let duration = |to: &mut Duration, from: Option<Duration>| *to = from.unwrap_or(*to);
        duration(&mut it.lease_duration, self.leader_elect_lease_duration);
        duration(&mut it.renew_deadline, self.leader_elect_renew_deadline);
        duration(&mut it.retry_period, self.leader_elect_retry_period);
        let name = |to: &mut String, from: &Option<String>| {
            if let Some(from) = from {
                to.clone_from(from);
            }
        };
        name(&mut it.name, &self.leader_elect_resource_name);
        name(&mut it.namespace, &self.leader_elect_resource_namespace);
        it.check()?;
        Ok(Some(it))
    }
}

/// How a component's client is to behave; taken, and without effect: requests are not paced, and the API
/// server says who has to wait.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Taken, and without effect")]
pub struct ClientFlags {
    #[arg(long)]
    pub kube_api_qps: Option<f32>,
    #[arg(long)]
    pub kube_api_burst: Option<i32>,
    #[arg(long)]
    pub kube_api_content_type: Option<String>,
    /// What a profiler could ask is not served.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub profiling: Option<bool>,
    #[arg(long, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub contention_profiling: Option<bool>,
}

/// Features that can be named and are always on: those of upstream 1.36 that are on by default and that
/// there is something to see of here.
const ALWAYS_ON: [&str; 34] = [
    "CronJobsScheduledAnnotation",
    "DRAAdminAccess",
    "DRAConsumableCapacity",
    "DRADeviceBindingConditions",
    "DRADeviceTaints",
    "DRAExtendedResource",
    "DRAPartitionableDevices",
    "DRAPrioritizedList",
    "DRAResourceClaimDeviceStatus",
    "DRASchedulerFilterTimeout",
    "DeploymentReplicaSetTerminatingReplicas",
    "DynamicResourceAllocation",
    "HPAConfigurableTolerance",
    "InPlacePodLevelResourcesVerticalScaling",
    "InPlacePodVerticalScaling",
    "JobBackoffLimitPerIndex",
    "JobManagedBy",
    "JobPodReplacementPolicy",
    "JobSuccessPolicy",
    "MatchLabelKeysInPodAffinity",
    "MatchLabelKeysInPodTopologySpread",
    "MaxUnavailableStatefulSet",
    "MultiCIDRServiceAllocator",
    "MutableCSINodeAllocatableCount",
    "NodeInclusionPolicyInPodTopologySpread",
    "NominatedNodeNameForExpectation",
    "PodLevelResources",
    "SchedulerAsyncPreemption",
    "SchedulerPopFromBackoffQ",
    "SchedulerQueueingHints",
    "SeparateTaintEvictionController",
    "StatefulSetAutoDeletePVC",
    "TopologyAwareHints",
    "VolumeAttributesClass",
];

/// Which features are on.
#[derive(clap::Args, Clone, Debug)]
pub struct FeatureFlags {
    /// Features that upstream 1.36 has on by default may be named, and stay on; others are refused.
    #[arg(long, value_delimiter = ',', value_parser = feature_gate)]
    pub feature_gates: Vec<String>,
}

fn feature_gate(text: &str) -> Result<String, String> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| format!("missing bool value for {text}"))?;
    let is_on: bool = value
        .trim()
        .parse()
        .map_err(|_| format!("invalid value of {name}={value}, should be true or false"))?;
    if !ALWAYS_ON.contains(&name.trim()) {
        return Err(format!("unrecognized feature gate: {name}"));
    }
    if !is_on {
        return Err(format!("cannot set feature gate {name} to false, feature is locked to true"));
    }
    Ok(name.trim().to_owned())
}

/// Where health and metrics are told; with upstream's names.
#[derive(clap::Args, Clone, Debug)]
pub struct ServingFlags {
    /// The address on which `/healthz`, `/livez`, `/readyz` and `/metrics` are served.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Its port; 0: nothing is served. The component's own where it is not given.
    #[arg(long)]
    pub secure_port: Option<u16>,
    /// What it is served with; a certificate is made where there is none.
    #[arg(long, requires = "tls_private_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// The certificate's key.
    #[arg(long, requires = "tls_cert_file")]
    pub tls_private_key_file: Option<PathBuf>,
    #[command(flatten)]
    pub unused: UnusedServingFlags,
}

/// How upstream's components find out who asks. Here health is for everybody, and for metrics the API
/// server is asked.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Taken, and without effect")]
pub struct UnusedServingFlags {
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    #[arg(long)]
    pub requestheader_client_ca_file: Option<PathBuf>,
    #[arg(long, value_delimiter = ',')]
    pub requestheader_allowed_names: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    pub requestheader_extra_headers_prefix: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    pub requestheader_group_headers: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    pub requestheader_username_headers: Vec<String>,
    #[arg(long)]
    pub authentication_kubeconfig: Option<PathBuf>,
    #[arg(long, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub authentication_skip_lookup: Option<bool>,
    #[arg(long, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub authentication_tolerate_lookup_failure: Option<bool>,
    #[arg(long, value_parser = go_duration)]
    pub authentication_token_webhook_cache_ttl: Option<Duration>,
    #[arg(long)]
    pub authorization_kubeconfig: Option<PathBuf>,
    #[arg(long, value_delimiter = ',')]
    pub authorization_always_allow_paths: Vec<String>,
    #[arg(long, value_parser = go_duration)]
    pub authorization_webhook_cache_authorized_ttl: Option<Duration>,
    #[arg(long, value_parser = go_duration)]
    pub authorization_webhook_cache_unauthorized_ttl: Option<Duration>,
    #[arg(long)]
    pub cert_dir: Option<PathBuf>,
    #[arg(long)]
    pub http2_max_streams_per_connection: Option<u32>,
    #[arg(long, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub permit_address_sharing: Option<bool>,
    #[arg(long, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub permit_port_sharing: Option<bool>,
    #[arg(long, value_delimiter = ',')]
    pub tls_cipher_suites: Vec<String>,
    #[arg(long)]
    pub tls_min_version: Option<String>,
    #[arg(long)]
    pub logging_format: Option<String>,
    #[arg(long)]
    pub log_flush_frequency: Option<String>,
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
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        leader: LeaderFlags,
    }

    #[test]
    fn flags_that_are_given_override_and_others_leave_what_is() {
        let election = |flags: &[&str]| {
            let words = ["x"].iter().chain(flags);
            Command::parse_from(words).leader.election("kube-scheduler", "host", "1")
        };
        let usual = election(&[]).unwrap().unwrap();
        assert_eq!((usual.name.as_str(), usual.identity.as_str()), ("kube-scheduler", "host_1"));
        let given = ["--leader-elect-lease-duration=60s", "--leader-elect-resource-name=other"];
        let given = election(&given).unwrap().unwrap();
        assert_eq!((given.name.as_str(), given.lease_duration.as_secs()), ("other", 60));
        assert_eq!(given.renew_deadline, usual.renew_deadline);
        assert!(election(&["--leader-elect=false"]).unwrap().is_none());
        let error = election(&["--leader-elect-lease-duration=5s"]).unwrap_err();
        assert_eq!(error, "leaseDuration must be greater than renewDeadline");
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, seconds) in [("50s", 50), ("1h30m", 5400), ("8760h0m0s", 31_536_000), ("7", 7)] {
            assert_eq!(go_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert!(go_duration("soon").is_err() && go_duration("1x").is_err());
    }

    #[test]
    fn features_that_are_on_anyway_may_be_named_and_others_are_refused() {
        assert_eq!(feature_gate("DRADeviceTaints=true"), Ok("DRADeviceTaints".to_owned()));
        for (text, error) in [
            ("DRADeviceTaints", "missing bool value for DRADeviceTaints"),
            ("A=true", "unrecognized feature gate: A"),
            (
                "DRADeviceTaints=false",
                "cannot set feature gate DRADeviceTaints to false, feature is locked to true",
            ),
        ] {
            assert_eq!(feature_gate(text).unwrap_err(), error);
        }
    }
}
