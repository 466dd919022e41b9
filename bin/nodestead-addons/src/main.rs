//! What the images of EKS's add-ons run: the `run` command of `nodestead` with their components
//! alone.
//!
//! Every node pulls this program and keeps its pages in memory, so it holds nothing that a pod does
//! not run: a seventh of the whole binary. In the images its name is `nodestead`, and its command
//! lines are those of `nodestead run`; called `cluster-autoscaler`, it is that alone, as in upstream's
//! image.

mod local_path;

use std::path::Path;

use clap::{Parser, Subcommand};
use linux_process::resting;

#[derive(Debug, Parser)]
#[command(name = "nodestead", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one add-on
    Run {
        #[command(subcommand)]
        component: Component,
    },
}

/// Upstream's names, as in `nodestead run`.
#[derive(Debug, Subcommand)]
enum Component {
    /// Services as nftables rules
    KubeProxy(Box<kube_proxy::command::Args>),
    /// ipamd of the VPC CNI
    VpcCni(vpc_cni::command::Args),
    /// Puts the VPC CNI's plug-in on the host
    VpcCniInit(vpc_cni::init::Args),
    /// Network policies as nftables rules
    NetworkPolicyAgent(network_policy_agent::command::Args),
    /// Credentials for pods by EKS Pod Identity
    EksPodIdentityAgent(pod_identity_agent::command::Args),
    /// Sizes Auto Scaling groups by what pods need
    ClusterAutoscaler(Box<cluster_autoscaler::command::Args>),
    /// Cluster DNS
    ClusterDns(cluster_dns::command::Args),
    /// Makes and removes the directories of local volumes
    #[command(subcommand)]
    LocalPath(local_path::Args),
}

/// The autoscaler by its own name.
#[derive(Debug, Parser)]
#[command(name = "cluster-autoscaler", version)]
struct ClusterAutoscaler {
    #[command(flatten)]
    args: cluster_autoscaler::command::Args,
}

fn is_called(name: &str) -> bool {
    let own = std::env::args_os().next().unwrap_or_default();
    Path::new(&own).file_name().is_some_and(|it| it == name)
}

fn main() -> anyhow::Result<()> {
    telemetry::init("info");
    transport::tls::install_provider();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if is_called("cluster-autoscaler") {
        let args = ClusterAutoscaler::parse().args;
        let outcome = runtime.block_on(cluster_autoscaler::command::run(args));
        return outcome.map_err(anyhow::Error::from_boxed);
    }
    let Cli { command: Command::Run { component } } = Cli::parse();
    let outcome = match component {
        Component::KubeProxy(args) => runtime.block_on(resting(kube_proxy::command::run(*args))),
        Component::VpcCni(args) => runtime.block_on(resting(vpc_cni::command::run(args))),
        Component::VpcCniInit(args) => runtime.block_on(vpc_cni::init::run(args)),
        Component::NetworkPolicyAgent(args) => {
            runtime.block_on(resting(network_policy_agent::command::run(args)))
        }
        Component::EksPodIdentityAgent(args) => {
            runtime.block_on(resting(pod_identity_agent::command::run(args)))
        }
        Component::ClusterAutoscaler(args) => {
            runtime.block_on(cluster_autoscaler::command::run(*args))
        }
        Component::LocalPath(args) => local_path::run(args).map_err(Into::into),
        Component::ClusterDns(args) => runtime.block_on(resting(cluster_dns::command::run(args))),
    };
    outcome.map_err(anyhow::Error::from_boxed)
}
