//! `kube-scheduler` alone, against any API server.

use std::path::PathBuf;

use clock::Clock;
use controller::{
    flags::{LeaderFlags, ServingFlags},
    health,
    lease::{self, Ended},
};
use lifecycle::Scope;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Upstream's.
const PORT: u16 = 10_259;

/// Upstream's flags, as far as they mean something here.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The kubeconfig of the API server; the pod's service account where it is not given.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The address of the API server; overrides the kubeconfig's.
    #[arg(long)]
    pub master: Option<String>,
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
    let client = controller::client(args.kubeconfig.as_deref(), args.master.as_deref()).await?;
    let scope = Scope::new();
    if let Some(address) = args.serving.address(PORT) {
        health::serve(address, "kube-scheduler", Clock::system(), &scope)?;
    }
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "localhost".to_owned());
    let election = args.leader.election("kube-scheduler", &host, &entropy::uuid());
    let work = || crate::run(client.clone(), Clock::system(), scope.clone());
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
