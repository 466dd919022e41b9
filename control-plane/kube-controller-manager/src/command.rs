//! `kube-controller-manager` alone, against any API server.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clock::Clock;
use controller::{
    flags::{LeaderFlags, ServingFlags, go_duration},
    health,
    lease::{self, Ended},
};
use lifecycle::Scope;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Upstream's.
const PORT: u16 = 10_257;

/// Upstream's flags, as far as they mean something here.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The kubeconfig of the API server; the pod's service account where it is not given.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
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
    /// How many finished pods are kept before the oldest are deleted.
    #[arg(long, default_value_t = 12_500)]
    pub terminated_pod_gc_threshold: usize,
    /// The image of the helpers that make volumes on the nodes' own disks, of class `local-path`
    /// (Nodestead's own; without it there are none).
    #[arg(long)]
    pub local_path_image: Option<String>,
    #[command(flatten)]
    pub leader: LeaderFlags,
    #[command(flatten)]
    pub serving: ServingFlags,
    /// Log verbosity, as klog counts it.
    #[arg(short = 'v', long = "v", default_value_t = 2)]
    pub verbosity: u8,
}

/// Runs until the process is told to stop.
pub async fn run(args: Args) -> Result<(), BoxError> {
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
    config.local_path_image = args.local_path_image;
    config.terminated_pod_gc_threshold = args.terminated_pod_gc_threshold;
    let client = controller::client(args.kubeconfig.as_deref(), None).await?;
    let scope = Scope::new();
    if let Some(address) = args.serving.address(PORT) {
        health::serve(address, "kube-controller-manager", Clock::system(), &scope)?;
    }
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "localhost".to_owned());
    let election = args.leader.election("kube-controller-manager", &host, &entropy::uuid())?;
    let work = || crate::run(client.clone(), config, Clock::system(), scope.clone());
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
