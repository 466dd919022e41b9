//! `karpenter` alone, against any API server and any AWS endpoint.

use std::{path::PathBuf, time::Duration};

use clock::Clock;
use lifecycle::Scope;

use crate::controllers::{self, Config};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Upstream's settings, as far as they mean something here.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The kubeconfig of the API server; the pod's service account where it is not given.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The cluster's name, as EKS knows it.
    #[arg(long, env = "CLUSTER_NAME", required_unless_present = "print_crds")]
    pub cluster_name: Option<String>,
    /// The AWS region; `AWS_REGION` where it is not given.
    #[arg(long, env = "AWS_REGION")]
    pub aws_region: Option<String>,
    /// A batch of pods ends when none has come for so many milliseconds,
    #[arg(long, default_value_t = 1000)]
    pub batch_idle_duration: u64,
    /// or after so many.
    #[arg(long, default_value_t = 10_000)]
    pub batch_max_duration: u64,
    /// Gates to switch: `SpotToSpotConsolidation=true`.
    #[arg(long, env = "FEATURE_GATES", value_delimiter = ',')]
    pub feature_gates: Vec<String>,
    /// Print the CustomResourceDefinitions, which are otherwise installed, and end.
    #[arg(long)]
    pub print_crds: bool,
}

/// Runs until the process is told to stop.
pub async fn run(args: Args) -> Result<(), BoxError> {
    if args.print_crds {
        for definition in api_kube::karpenter::definitions() {
            // JSON is YAML.
            println!("---\n{}", serde_json::to_string_pretty(&definition)?);
        }
        return Ok(());
    }
    let mut config = Config::new(args.cluster_name.as_deref().unwrap_or_default());
    config.batch_idle = Duration::from_millis(args.batch_idle_duration);
    config.batch_max = Duration::from_millis(args.batch_max_duration);
    config.spot_to_spot_consolidation =
        args.feature_gates.iter().any(|it| it == "SpotToSpotConsolidation=true");
    let client = controller::client(args.kubeconfig.as_deref(), None).await?;
    let clock = Clock::system();
    let environment = |name: &str| std::env::var(name).ok();
    let aws = aws_wire::client::from_environment(environment, args.aws_region.as_deref(), clock)?;
    let scope = Scope::new();
    tokio::select! {
        () = controllers::run(client, aws, config, clock, scope.clone()) => {}
        asked = lifecycle::asked_to_end() => asked?,
    }
    scope.cancel();
    Ok(())
}
