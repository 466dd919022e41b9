//! `network-policy-controller` alone, against any API server.

use std::path::PathBuf;

use lifecycle::Scope;

use crate::Config;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Upstream's flags, as far as they mean something here.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The kubeconfig of the API server; the pod's service account where it is not given.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// How many pods or peers one PolicyEndpoint holds.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..))]
    pub endpoint_chunk_size: u16,
}

/// Runs until the process is told to stop.
pub async fn run(args: Args) -> Result<(), BoxError> {
    let client =
        controller::client("network-policy-controller", args.kubeconfig.as_deref(), None).await?;
    let config =
        Config { endpoint_chunk_size: args.endpoint_chunk_size.into(), ..Config::default() };
    let scope = Scope::new();
    tokio::select! {
        () = crate::run(client, config, scope.clone()) => {}
        asked = lifecycle::asked_to_end() => asked?,
    }
    scope.cancel();
    Ok(())
}
