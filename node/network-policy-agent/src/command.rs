//! `run network-policy-agent`: the container `aws-eks-nodeagent` of `aws-node`.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use api_imds::{FetchError, ImdsClient, paths};
use clock::Clock;
use lifecycle::Scope;
use linux_nftables::{Family, Nft};
use network_policy::TABLE;
use tracing::{info, warn};
use transport::BoxError;

use crate::{
    enforcer::Enforcer,
    metrics::Metrics,
    ruleset::{Log, Mode, Options},
    server,
    state::State,
    verdicts::Verdicts,
    watch,
};

/// Upstream's flags, as far as they mean something here.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whom to call; in a pod, the service account says.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Whether policies are enforced; where not, the table is removed.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub enable_network_policy: bool,
    /// Whether the cluster's pods have IPv6 addresses.
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set)]
    pub enable_ipv6: bool,
    /// `/metrics`; `0` for none.
    #[arg(long, default_value = ":8162")]
    pub metrics_bind_addr: String,
    /// Whether connections that policies deny are logged.
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set)]
    pub enable_policy_event_logs: bool,
    /// `info`, or `debug`: what policies allow is logged too.
    #[arg(long, default_value = "info")]
    pub log_level: String,
    /// Where verdicts are logged: a file, `stdout`, or nothing for stderr.
    #[arg(long, default_value = "/var/log/aws-routed-eni/network-policy-agent.log")]
    pub log_file: String,
    /// `/healthz` and `/readyz`.
    #[arg(long, default_value = ":8163")]
    pub health_probe_bind_addr: String,
    /// What becomes of pods that no policy selects: `standard` or `strict`.
    #[arg(long, env = "NETWORK_POLICY_ENFORCING_MODE", default_value = "standard")]
    pub network_policy_enforcing_mode: String,
    /// How pods' links begin.
    #[arg(long, env = "AWS_VPC_K8S_CNI_VETHPREFIX", default_value = "eni")]
    pub veth_prefix: String,
    /// `true`: pods can have branch interfaces.
    #[arg(long, env = "ENABLE_POD_ENI", default_value = "false")]
    pub enable_pod_eni: String,
    /// Whose links have another name in `strict` mode.
    #[arg(long, env = "POD_SECURITY_GROUP_ENFORCING_MODE", default_value = "strict")]
    pub pod_security_group_enforcing_mode: String,
    /// The node's primary address, where IMDS is not to be asked.
    #[arg(long)]
    pub node_ip: Option<String>,
}

pub async fn run(args: Args) -> Result<(), BoxError> {
    transport::tls::install_provider();
    let scope = Scope::new();
    let is_synced = Arc::new(AtomicBool::new(false));
    let metrics = Arc::new(Metrics::default());
    let is_ipv6 = args.enable_ipv6;
    let health = server::address(&args.health_probe_bind_addr, is_ipv6)?;
    server::serve_health(health, is_synced.clone(), &scope)?;
    if args.metrics_bind_addr != "0" {
        let address = server::address(&args.metrics_bind_addr, is_ipv6)?;
        server::serve_metrics(address, metrics.clone(), &scope)?;
    }
    let nft = Nft::here();
    if args.enable_network_policy {
        let mode = Mode::parse(&args.network_policy_enforcing_mode).unwrap_or_else(|| {
            warn!(mode = args.network_policy_enforcing_mode, "an unknown mode: standard it is");
            Mode::Standard
        });
        let host_ip = match &args.node_ip {
            Some(address) => address.clone(),
            None => {
                let path = if is_ipv6 { paths::IPV6 } else { paths::LOCAL_IPV4 };
                host_ip(&ImdsClient::new(), path).await?
            }
        };
        let log = log_verdicts(&args, &metrics, &scope);
        info!(host_ip, ?mode, ?log, "enforcing network policies");
        let has_strict_branches =
            args.enable_pod_eni == "true" && args.pod_security_group_enforcing_mode == "strict";
        let node = host_ip.parse().ok();
        let options = Options { mode, prefix: args.veth_prefix, has_strict_branches, log, node };
        let mut enforcer =
            Enforcer { state: State::new(host_ip), nft, options, metrics, old: None };
        enforcer.close().await?;
        let updates = watch::start(
            controller::client("aws-network-policy-agent", args.kubeconfig.as_deref(), None)
                .await?,
            &scope,
        );
        drop(scope.spawn("enforcer", enforcer.run(updates, is_synced)));
    } else {
        nft.delete_table(Family::Inet, TABLE)?;
        is_synced.store(true, Ordering::Relaxed);
    }
    lifecycle::asked_to_end().await?;
    // The table stays: policies hold while a new version starts.
    scope.drain(Duration::from_secs(2)).await;
    Ok(())
}

/// What the table is to log. Policies are enforced also where their verdicts cannot be told.
fn log_verdicts(args: &Args, metrics: &Arc<Metrics>, scope: &Scope) -> Log {
    if !args.enable_policy_event_logs {
        return Log::Nothing;
    }
    match Verdicts::open(&args.log_file, Clock::system(), metrics.clone()) {
        Ok(verdicts) => {
            drop(scope.spawn("verdicts", verdicts.run()));
            let is_debug = args.log_level.eq_ignore_ascii_case("debug");
            if is_debug { Log::Everything } else { Log::Denied }
        }
        Err(error) => {
            warn!(error = %telemetry::chain(&error), "verdicts are counted and not logged");
            Log::Nothing
        }
    }
}

/// IMDS may need a moment after boot.
async fn host_ip(imds: &ImdsClient, path: &str) -> Result<String, FetchError> {
    let mut pause = Duration::from_millis(100);
    loop {
        match imds.required(path).await {
            Err(FetchError::Token { .. } | FetchError::Send { .. })
                if pause < Duration::from_secs(5) =>
            {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            done => return done.map(|it| it.trim().to_owned()),
        }
    }
}
