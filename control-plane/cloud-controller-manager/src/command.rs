//! `cloud-controller-manager` alone, against any API server and any EC2 endpoint.

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
    /// The cloud: `aws` is the only one.
    #[arg(long, default_value = "aws", value_parser = ["aws"])]
    pub cloud_provider: String,
    /// Tags for the resources under Nodes: `key=value`, with commas between.
    #[arg(long, value_delimiter = ',', value_parser = tag)]
    pub tags: Vec<(String, String)>,
    /// Which resources are tagged: `instance` is the only kind.
    #[arg(long, value_delimiter = ',', value_parser = ["instance"])]
    pub resources: Vec<String>,
    /// The AWS region; `AWS_REGION` where it is not given.
    #[arg(long, env = "AWS_REGION")]
    pub region: Option<String>,
    /// Log verbosity, as klog counts it.
    #[arg(short = 'v', long = "v", default_value_t = 2)]
    pub verbosity: u8,
}

/// Runs until the process is told to stop.
pub async fn run(args: Args) -> Result<(), BoxError> {
    let client = controller::client(args.kubeconfig.as_deref(), args.master.as_deref()).await?;
    let clock = Clock::system();
    let environment = |name: &str| std::env::var(name).ok();
    let ec2 = aws_wire::client::from_environment(environment, args.region.as_deref(), clock)?;
    // As upstream, tags are put on nothing unless a kind of resource is named.
    let tags = if args.resources.is_empty() { Vec::new() } else { args.tags };
    let config = crate::Config { tags: tags.into_iter().collect() };
    let scope = Scope::new();
    tokio::select! {
        () = crate::run(client, ec2, config, clock, scope.clone()) => {}
        asked = lifecycle::asked_to_end() => asked?,
    }
    scope.cancel();
    Ok(())
}

fn tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a tag is written `key=value`")?;
    Ok((key.to_owned(), value.to_owned()))
}
