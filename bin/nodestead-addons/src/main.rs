//! What the images of EKS's add-ons run: the `run` command of `nodestead` with their components
//! alone.
//!
//! Every node pulls this program and keeps its pages in memory, so it holds nothing that a pod does
//! not run: a seventh of the whole binary. In the images its name is `nodestead`, and its command
//! lines are those of `nodestead run`.

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
    /// Cluster DNS
    ClusterDns(cluster_dns::command::Args),
}

fn main() -> anyhow::Result<()> {
    telemetry::init("info");
    transport::tls::install_provider();
    let Cli { command: Command::Run { component } } = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = match component {
        Component::KubeProxy(args) => runtime.block_on(resting(kube_proxy::command::run(*args))),
        Component::VpcCni(args) => runtime.block_on(resting(vpc_cni::command::run(args))),
        Component::VpcCniInit(args) => runtime.block_on(vpc_cni::init::run(args)),
        Component::NetworkPolicyAgent(args) => {
            runtime.block_on(resting(network_policy_agent::command::run(args)))
        }
        Component::ClusterDns(args) => runtime.block_on(resting(cluster_dns::command::run(args))),
    };
    outcome.map_err(anyhow::Error::from_boxed)
}
