//! `cloud-controller-manager` alone, against any API server and any EC2 endpoint.

use std::path::PathBuf;

use clock::Clock;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
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
    /// The cloud: `aws` is the only one.
    #[arg(long, default_value = "aws", value_parser = ["aws"])]
    pub cloud_provider: String,
    /// The AWS region; `AWS_REGION` where it is not given.
    #[arg(long, env = "AWS_REGION")]
    pub region: Option<String>,
    /// Log verbosity, as klog counts it.
    #[arg(short = 'v', long = "v", default_value_t = 2)]
    pub verbosity: u8,
}

/// Runs until the process is told to stop.
pub async fn run(args: Args) -> Result<(), BoxError> {
    let client = client(&args).await?;
    let clock = Clock::system();
    let environment = |name: &str| std::env::var(name).ok();
    let ec2 = aws_wire::client::from_environment(environment, args.region.as_deref(), clock)?;
    let scope = Scope::new();
    tokio::select! {
        () = crate::run(client, ec2, clock, scope.clone()) => {}
        asked = lifecycle::asked_to_end() => asked?,
    }
    scope.cancel();
    Ok(())
}

async fn client(args: &Args) -> Result<Client, BoxError> {
    let mut config = match &args.kubeconfig {
        None => Config::infer().await?,
        Some(path) => {
            let file = Kubeconfig::read_from(path)?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?
        }
    };
    if let Some(master) = &args.master {
        config.cluster_url = master.parse()?;
    }
    Ok(Client::try_from(config)?)
}
