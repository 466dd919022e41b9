//! `nodestead run COMPONENT`: one component alone, with its upstream flags, against any peer.

mod node;

use clap::{Args, Subcommand};
use linux_process::resting;

/// A component and its own flags.
#[derive(Args, Debug)]
pub(crate) struct Run {
    #[command(subcommand)]
    component: Component,
}

/// Upstream's names. Each component brings its own arguments and documentation.
#[derive(Debug, Subcommand)]
enum Component {
    /// PID 1 of an instance
    Init(node_init::command::Args),
    /// Becomes an instance (what the region starts)
    #[command(hide = true)]
    HostLaunch(region_host::launch::command::Args),
    /// Turns user data into a configured node
    Nodeadm(nodeadm::command::Args),
    /// Makes this host a node of a cluster, hybrid-style
    Node(node::Args),
    /// Runs the pods of one node over CRI
    Kubelet(kubelet::command::Args),
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
    /// Sessions and commands of Systems Manager
    SsmAgent(ssm_agent::command::Args),
    /// Cluster DNS
    ClusterDns(cluster_dns::command::Args),
    /// The API server
    KubeApiserver(Box<kube_apiserver::command::Args>),
    /// The scheduler
    KubeScheduler(Box<kube_scheduler::command::Args>),
    /// The controllers
    KubeControllerManager(Box<kube_controller_manager::command::Args>),
    /// Keeps Nodes in step with EC2
    CloudControllerManager(cloud_controller_manager::command::Args),
    /// Sizes Auto Scaling groups by what pods need
    ClusterAutoscaler(Box<cluster_autoscaler::command::Args>),
    /// Resolves NetworkPolicies into PolicyEndpoints
    NetworkPolicyController(network_policy_controller::command::Args),
    /// Trunk and branch interfaces for security groups of pods
    VpcResourceController(vpc_resource_controller::command::Args),
    /// Instances for pending pods
    Karpenter(karpenter_aws::command::Args),
    /// Gives pods the credentials of their service accounts
    PodIdentityWebhook(pod_identity_webhook::command::Args),
    /// Tokens for the API server from AWS credentials
    AwsIamAuthenticator(aws_iam_authenticator::command::Args),
    /// ECR passwords for the kubelet
    EcrCredentialProvider(ecr_credential_provider::command::Args),
}

impl Run {
    /// Runs the component on a runtime that suits it.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        telemetry::init("info");
        match self.component {
            // These begin as the one thread of their process: namespaces are per thread.
            Component::Init(args) => single(resting(node_init::command::run(args))),
            Component::HostLaunch(args) => single(region_host::launch::command::run(args)),
            Component::Nodeadm(args) => single(nodeadm::command::run(args)),
            Component::AwsIamAuthenticator(args) => {
                single(aws_iam_authenticator::command::run(args))
            }
            Component::EcrCredentialProvider(args) => {
                single(ecr_credential_provider::command::run(args))
            }
            Component::VpcCniInit(args) => single(vpc_cni::init::run(args)),
            Component::VpcCni(args) => single(resting(vpc_cni::command::run(args))),
            Component::NetworkPolicyAgent(args) => {
                single(resting(network_policy_agent::command::run(args)))
            }
            Component::EksPodIdentityAgent(args) => {
                single(resting(pod_identity_agent::command::run(args)))
            }
            Component::SsmAgent(args) => single(resting(ssm_agent::command::run(args))),
            Component::ClusterDns(args) => single(resting(cluster_dns::command::run(args))),
            Component::KubeProxy(args) => single(resting(kube_proxy::command::run(*args))),
            Component::Node(args) => single(resting(node::run(args))),
            Component::Kubelet(args) => several(kubelet::command::run(args)),
            Component::KubeApiserver(args) => several(kube_apiserver::command::run(*args)),
            Component::KubeScheduler(args) => several(kube_scheduler::command::run(*args)),
            Component::KubeControllerManager(args) => {
                several(kube_controller_manager::command::run(*args))
            }
            Component::ClusterAutoscaler(args) => several(cluster_autoscaler::command::run(*args)),
            Component::NetworkPolicyController(args) => {
                several(network_policy_controller::command::run(args))
            }
            Component::VpcResourceController(args) => {
                several(vpc_resource_controller::command::run(args))
            }
            Component::Karpenter(args) => several(karpenter_aws::command::run(args)),
            Component::PodIdentityWebhook(args) => {
                several(pod_identity_webhook::command::run(args))
            }
            Component::CloudControllerManager(args) => {
                several(cloud_controller_manager::command::run(args))
            }
        }
    }
}

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn single(component: impl Future<Output = Outcome>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(component).map_err(anyhow::Error::from_boxed)
}

fn several(component: impl Future<Output = Outcome>) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(component).map_err(anyhow::Error::from_boxed)
}
