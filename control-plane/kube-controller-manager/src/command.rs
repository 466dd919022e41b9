//! `kube-controller-manager` alone, against any API server.

mod taken;

use std::{path::PathBuf, sync::Arc, time::Duration};

use clock::Clock;
use controller::{
    flags::{ClientFlags, FeatureFlags, LeaderFlags, ServingFlags, go_duration},
    health,
    lease::{self, Ended},
    metrics::{Family, Kind, Metrics},
};
use lifecycle::Scope;
use tracing::warn;

pub use self::taken::TakenFlags;
use crate::{AutoscalerConfig, EvictionPace, Switches};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

const COMPONENT: &str = "kube-controller-manager";
/// Upstream's.
const PORT: u16 = 10_257;
const LEADER: &str = "leader_election_master_status";
const FAMILIES: &[Family] =
    &[Family(LEADER, Kind::Gauge, "Whether this process is the leader of a Lease.")];

/// Upstream's flags, as far as they mean something here.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The kubeconfig of the API server; the pod's service account where it is not given.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The address of the API server; overrides the kubeconfig's.
    #[arg(long)]
    pub master: Option<String>,
    /// Which controllers run: `*` for all, names, and `-name` for all but one. The names are upstream's
    /// (and the shorter ones of before).
    #[arg(long, default_value = "*", value_delimiter = ',', allow_hyphen_values = true)]
    pub controllers: Vec<String>,
    /// Each controller acts as its own service account in `kube-system` (upstream's names), not as the
    /// identity of the kubeconfig.
    #[arg(long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub use_service_account_credentials: bool,
    /// Refused: nodes get their pods' addresses elsewhere.
    #[arg(long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub allocate_node_cidrs: bool,
    /// The certificate that signs kubelets' and clients' certificates.
    #[arg(long)]
    pub cluster_signing_cert_file: PathBuf,
    /// Its key.
    #[arg(long)]
    pub cluster_signing_key_file: PathBuf,
    /// What pods trust the API server by; the signing certificate where it is not given.
    #[arg(long)]
    pub root_ca_file: Option<PathBuf>,
    /// The key that signs the tokens of service accounts that Secrets hold; without it there are none.
    #[arg(long)]
    pub service_account_private_key_file: Option<PathBuf>,
    /// How long tokens that older clusters made may be unused before they are taken away.
    #[arg(long, default_value = "8760h", value_parser = go_duration)]
    pub legacy_service_account_token_clean_up_period: Duration,
    /// How long signed certificates are valid, at most (seconds, or like `8760h`).
    #[arg(long, default_value = "8760h", value_parser = go_duration)]
    pub cluster_signing_duration: Duration,
    /// How long a node may be silent before it counts as unreachable.
    #[arg(long, default_value = "50s", value_parser = go_duration)]
    pub node_monitor_grace_period: Duration,
    /// How many nodes of a zone lose their pods in a second.
    #[arg(long, default_value_t = 0.1)]
    pub node_eviction_rate: f64,
    /// How many, in a large zone of which much is lost; in a small one nothing goes then.
    #[arg(long, default_value_t = 0.01)]
    pub secondary_node_eviction_rate: f64,
    /// Which part of a zone is much.
    #[arg(long, default_value_t = 0.55)]
    pub unhealthy_zone_threshold: f64,
    /// Above how many nodes a zone is large.
    #[arg(long, default_value_t = 50)]
    pub large_cluster_size_threshold: usize,
    /// How many finished pods are kept before the oldest are deleted.
    #[arg(long, default_value_t = 12_500)]
    pub terminated_pod_gc_threshold: usize,
    /// The image of the helpers that make volumes on the nodes' own disks, of class `local-path`
    /// (Nodestead's own; without it there are none).
    #[arg(long)]
    pub local_path_image: Option<String>,
    #[command(flatten)]
    pub autoscaler: AutoscalerFlags,
    #[command(flatten)]
    pub leader: LeaderFlags,
    #[command(flatten)]
    pub serving: ServingFlags,
    #[command(flatten)]
    pub features: FeatureFlags,
    #[command(flatten)]
    pub pace: ClientFlags,
    #[command(flatten)]
    pub taken: TakenFlags,
    /// Log verbosity, as klog counts it.
    #[arg(short = 'v', long = "v", default_value_t = 2)]
    pub verbosity: u8,
}

/// How fast, and after which differences, numbers of pods follow their metrics.
#[derive(clap::Args, Clone, Debug)]
pub struct AutoscalerFlags {
    /// How often metrics are asked for.
    #[arg(long = "horizontal-pod-autoscaler-sync-period", default_value = "15s", value_parser = go_duration)]
    pub sync_period: Duration,
    /// How long a larger number that was recommended holds.
    #[arg(long = "horizontal-pod-autoscaler-downscale-stabilization", default_value = "5m", value_parser = go_duration)]
    pub downscale_stabilization: Duration,
    /// The part by which a metric may be off its target.
    #[arg(long = "horizontal-pod-autoscaler-tolerance", default_value_t = 0.1)]
    pub tolerance: f64,
    /// How long after its start the CPU of a pod that is not ready does not count.
    #[arg(long = "horizontal-pod-autoscaler-cpu-initialization-period", default_value = "5m", value_parser = go_duration)]
    pub cpu_initialization_period: Duration,
    /// How long after its start a change of readiness counts as the first one.
    #[arg(long = "horizontal-pod-autoscaler-initial-readiness-delay", default_value = "30s", value_parser = go_duration)]
    pub initial_readiness_delay: Duration,
}

impl AutoscalerFlags {
    fn config(&self) -> AutoscalerConfig {
        AutoscalerConfig {
            sync_period: self.sync_period,
            downscale_stabilization: self.downscale_stabilization,
            tolerance: self.tolerance,
            cpu_initialization_period: self.cpu_initialization_period,
            initial_readiness_delay: self.initial_readiness_delay,
        }
    }
}

/// What is asked for and cannot be had.
fn refuse(args: &Args) -> Result<(), BoxError> {
    if args.allocate_node_cidrs {
        return Err(
            "--allocate-node-cidrs=true is not supported: there is no node IPAM controller".into(),
        );
    }
    Ok(())
}

/// Runs until the process is told to stop.
pub async fn run(args: Args) -> Result<(), BoxError> {
    refuse(&args)?;
    let controllers = Switches::new(&args.controllers)?;
    for name in controllers.absent() {
        warn!("there is no {name} here: it does not run");
    }
    let certificate = std::fs::read_to_string(&args.cluster_signing_cert_file)?;
    let key = std::fs::read_to_string(&args.cluster_signing_key_file)?;
    let root = match &args.root_ca_file {
        None => certificate.clone(),
        Some(path) => std::fs::read_to_string(path)?,
    };
    let mut config = crate::Config::new(Arc::new(pki::Ca::from_pem(&certificate, &key)?), root);
    if let Some(path) = &args.service_account_private_key_file {
        let key = pki::ServiceAccountKey::from_pem(&std::fs::read_to_string(path)?)?;
        config.service_account_key = Some(Arc::new(key));
    }
    config.legacy_token_clean_up_period = args.legacy_service_account_token_clean_up_period;
    config.cluster_signing_duration = args.cluster_signing_duration;
    config.node_monitor_grace_period = args.node_monitor_grace_period;
    config.eviction_pace = EvictionPace {
        rate: args.node_eviction_rate,
        secondary_rate: args.secondary_node_eviction_rate,
        unhealthy_zone_threshold: args.unhealthy_zone_threshold,
        large_cluster_size_threshold: args.large_cluster_size_threshold,
    };
    config.local_path_image = args.local_path_image;
    config.terminated_pod_gc_threshold = args.terminated_pod_gc_threshold;
    config.controllers = controllers;
    config.autoscaler = args.autoscaler.config();
    let (kubeconfig, master) = (args.kubeconfig.as_deref(), args.master.as_deref());
    let client = controller::client(COMPONENT, kubeconfig, master).await?;
    if args.use_service_account_credentials {
        config.accounts = Some(controller::bare_client(COMPONENT, kubeconfig, master).await?);
    }
    let scope = Scope::new();
    let metrics = Arc::new(Metrics::new(FAMILIES));
    let shown = metrics.clone();
    let page = health::Page { client: client.clone(), render: Arc::new(move || shown.render()) };
    health::serve(&args.serving, PORT, COMPONENT, page, Clock::system(), &scope)?;
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "localhost".to_owned());
    let election = args.leader.election(COMPONENT, &host, &entropy::uuid())?;
    let lease = election.clone();
    let leads = |is: f64| {
        lease.iter().for_each(|it| metrics.set(LEADER, &[("name", &it.name)], is));
    };
    leads(0.0);
    let work = || {
        leads(1.0);
        if let Some(it) = &lease {
            lease::announce(client.clone(), it, COMPONENT, Clock::system(), &scope);
        }
        crate::run(client.clone(), config, Clock::system(), scope.clone())
    };
    let asked = async {
        if let Err(error) = lifecycle::asked_to_end().await {
            tracing::error!(%error, "cannot hear when to end");
        }
    };
    let client = client.clone();
    match lease::lead(client, election, Clock::system(), &scope, asked, work).await {
        Ended::Asked => Ok(()),
        Ended::LostLease => Err("leaderelection lost".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &str) -> Result<Args, String> {
        let keys = "x --cluster-signing-cert-file=ca.crt --cluster-signing-key-file=ca.key";
        let words = keys.split(' ').chain(words.split_whitespace());
        Command::try_parse_from(words).map(|it| it.args).map_err(|it| it.to_string())
    }

    #[test]
    fn the_flags_of_upstreams_manifests_are_taken() {
        let kubeadm = "--allocate-node-cidrs=false --authentication-kubeconfig=a \
             --authorization-kubeconfig=a --bind-address=127.0.0.1 --client-ca-file=ca.crt \
             --cluster-cidr=10.0.0.0/16 --cluster-name=kubernetes \
             --controllers=*,bootstrapsigner,tokencleaner --kubeconfig=a --leader-elect=true \
             --requestheader-client-ca-file=f --root-ca-file=ca.crt \
             --service-account-private-key-file=k --service-cluster-ip-range=10.96.0.0/12 \
             --use-service-account-credentials=true --kube-api-qps=50.5 --kube-api-burst=100 \
             --concurrent-deployment-syncs=10 --profiling=false \
             --authorization-always-allow-paths=/healthz,/readyz --flex-volume-plugin-dir=/f \
             --min-resync-period=12h --feature-gates=DRADeviceTaints=true --tls-cert-file=c --tls-private-key-file=k \
             --horizontal-pod-autoscaler-tolerance=0.05";
        let args = parse(kubeadm).unwrap();
        assert!(refuse(&args).is_ok());
        assert_eq!(args.controllers, ["*", "bootstrapsigner", "tokencleaner"]);
        assert_eq!(args.autoscaler.config().tolerance, 0.05);
        assert_eq!(parse("--controllers=-ttl,*").unwrap().controllers, ["-ttl", "*"]);
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        let error = refuse(&parse("--allocate-node-cidrs=true").unwrap()).unwrap_err().to_string();
        assert!(error.contains("is not supported"), "{error}");
        assert!(parse("--feature-gates=A=true").is_err(), "nobody knows what it would do");
        assert!(parse("--cloud-provider=aws").is_err());
    }
}
