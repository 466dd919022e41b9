//! `nodestead run aws-iam-authenticator token -i CLUSTER`: an exec plugin for kubeconfigs.

use std::sync::Arc;

use aws_wire::{
    client::Endpoints,
    credentials::{self, Cached, InstanceRole, Provider},
    service,
};
use clock::Clock;

use crate::{ExecVersion, issue_token};

/// Tokens for EKS clusters from AWS credentials.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Prints a token as an ExecCredential.
    Token(TokenArgs),
}

#[derive(Debug, clap::Args)]
struct TokenArgs {
    /// The name of the cluster that the token is for.
    #[arg(short = 'i', long)]
    cluster_id: String,
    /// The region whose STS endpoint the token names.
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1")]
    region: String,
    /// Prints the token alone.
    #[arg(long)]
    token_only: bool,
    /// What client-go says about the version that it wants.
    #[arg(long, env = "KUBERNETES_EXEC_INFO", default_value = "", hide = true)]
    exec_info: String,
}

pub async fn run(args: Args) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let Command::Token(args) = args.command;
    let variable = |name: &str| std::env::var(name).ok().filter(|it| !it.is_empty());
    let sts = service::find("sts").ok_or("STS is not among the known services")?;
    let endpoint = Endpoints::from_environment(variable).url(sts, &args.region);
    let clock = Clock::system();
    let provider = provider(variable, clock);
    let issued = issue_token(&*provider, &endpoint, &args.region, &args.cluster_id, clock).await?;
    if args.token_only {
        println!("{}", issued.token);
    } else {
        let version = ExecVersion::from_exec_info(&args.exec_info);
        println!("{}", issued.exec_credential(version));
    }
    Ok(())
}

/// The environment's access key, or else the role of this instance.
fn provider(variable: impl Fn(&str) -> Option<String>, clock: Clock) -> Provider {
    match credentials::from_environment(&variable) {
        Ok(given) => Arc::new(given),
        Err(_) => {
            let role = match variable("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
                Some(endpoint) => InstanceRole::at(&endpoint),
                None => InstanceRole::new(),
            };
            Arc::new(Cached::new(role, clock))
        }
    }
}
