//! `kube-scheduler` alone, against any API server.

use std::path::PathBuf;

use clock::Clock;
use lifecycle::Scope;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Upstream's flags, as far as they mean something here.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The kubeconfig of the API server; the pod's service account where it is not given.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The address of the API server; overrides the kubeconfig's.
    #[arg(long)]
    pub master: Option<String>,
    /// Not supported: `true` is answered with a warning, and one process must run.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true",
          action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// Log verbosity, as klog counts it.
    #[arg(short = 'v', long = "v", default_value_t = 2)]
    pub verbosity: u8,
}

/// Runs until the process is told to stop.
pub async fn run(args: Args) -> Result<(), BoxError> {
    if args.leader_elect {
        tracing::warn!("--leader-elect is not supported: run one kube-scheduler only");
    }
    let client = controller::client(args.kubeconfig.as_deref(), args.master.as_deref()).await?;
    let scope = Scope::new();
    tokio::select! {
        () = crate::run(client, Clock::system(), scope.clone()) => {}
        asked = lifecycle::asked_to_end() => asked?,
    }
    scope.cancel();
    Ok(())
}
