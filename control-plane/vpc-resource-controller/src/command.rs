//! `vpc-resource-controller` alone, against any API server and any EC2 endpoint.

use std::path::PathBuf;

use clock::Clock;
use lifecycle::Scope;

use crate::{Clients, Config};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Upstream's flags, as far as they mean something here.
///
/// The credentials of the environment stand for the cluster's role and for EKS.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The kubeconfig of the API server; the pod's service account where it is not given.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The cluster's name, for the tags of what is made.
    #[arg(long)]
    pub cluster_name: String,
    /// The AWS region; `AWS_REGION` where it is not given.
    #[arg(long, env = "AWS_REGION")]
    pub aws_region: Option<String>,
}

/// Runs until the process is told to stop.
pub async fn run(args: Args) -> Result<(), BoxError> {
    let client =
        controller::client("vpc-resource-controller", args.kubeconfig.as_deref(), None).await?;
    let clock = Clock::system();
    let environment = |name: &str| std::env::var(name).ok();
    let region = args.aws_region.as_deref();
    let ec2 = aws_wire::client::from_environment(environment, region, clock)?;
    let clients = Clients { role: ec2.clone(), service: ec2 };
    let config = Config { cluster: args.cluster_name };
    let scope = Scope::new();
    tokio::select! {
        () = crate::run(client, clients, config, clock, scope.clone()) => {}
        asked = lifecycle::asked_to_end() => asked?,
    }
    scope.cancel();
    Ok(())
}
