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
    /// The cluster's name, which marks subnets, security groups and load balancers as its own.
    #[arg(long, default_value = "kubernetes")]
    pub cluster_name: String,
    /// The provider's configuration. Services get load balancers if `[Global]` says `VPC = …`.
    #[arg(long)]
    pub cloud_config: Option<PathBuf>,
    /// The AWS region; `AWS_REGION` where it is not given.
    #[arg(long, env = "AWS_REGION")]
    pub region: Option<String>,
    /// Log verbosity, as klog counts it.
    #[arg(short = 'v', long = "v", default_value_t = 2)]
    pub verbosity: u8,
}

/// Runs until the process is told to stop.
pub async fn run(args: Args) -> Result<(), BoxError> {
    let api = controller::client(
        "aws-cloud-controller-manager",
        args.kubeconfig.as_deref(),
        args.master.as_deref(),
    )
    .await?;
    let clock = Clock::system();
    let environment = |name: &str| std::env::var(name).ok();
    let ec2 = aws_wire::client::from_environment(environment, args.region.as_deref(), clock)?;
    // As upstream, tags are put on nothing unless a kind of resource is named.
    let tags = if args.resources.is_empty() { Vec::new() } else { args.tags };
    let file = args.cloud_config.as_deref().map(std::fs::read_to_string).transpose()?;
    let vpc_id = file.as_deref().and_then(|it| global(it, "VPC"));
    let cluster = file.as_deref().and_then(|it| global(it, "KubernetesClusterID"));
    let cluster = cluster.unwrap_or(args.cluster_name);
    let client = ec2.clone();
    let load_balancers = vpc_id.map(|vpc_id| crate::LoadBalancers { client, cluster, vpc_id });
    if load_balancers.is_none() {
        tracing::info!("no VPC in --cloud-config: Services get no load balancers");
    }
    let config = crate::Config { tags: tags.into_iter().collect(), load_balancers };
    let scope = Scope::new();
    tokio::select! {
        () = crate::run(api, ec2, config, clock, scope.clone()) => {}
        asked = lifecycle::asked_to_end() => asked?,
    }
    scope.cancel();
    Ok(())
}

fn tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a tag is written `key=value`")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A value of the section `[Global]`.
fn global(text: &str, name: &str) -> Option<String> {
    let lines = text.lines().map(str::trim);
    let section = lines.skip_while(|it| !it.eq_ignore_ascii_case("[global]")).skip(1);
    let mut pairs =
        section.take_while(|it| !it.starts_with('[')).filter_map(|it| it.split_once('='));
    let found = pairs.find(|(key, _)| key.trim().eq_ignore_ascii_case(name));
    let value = found.map(|(_, value)| value.trim().trim_matches('"').to_owned());
    value.filter(|it| !it.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cloud_configuration_is_read_as_far_as_it_matters() {
        let text = "[Other]\nVPC = no\n[Global]\n# x\nVPC = \"vpc-1\"\nKubernetesClusterID=stead\n";
        assert_eq!(global(text, "VPC").as_deref(), Some("vpc-1"));
        assert_eq!(global(text, "KubernetesClusterID").as_deref(), Some("stead"));
        assert_eq!(global(text, "Zone"), None);
    }
}
