//! The command line as DESIGN §5 has it: a contract that users and tests rely on.

mod identity;
mod interrupt;
pub(crate) mod parse;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::{
    identity::{DoctorCommand, DoctorIam, ExplainAccess, ExplainPodCredentials},
    interrupt::Interrupt,
    parse::parse,
};

/// An EKS data plane on one Linux machine.
#[derive(Debug, Parser)]
#[command(
    name = "nodestead",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 ended by Ctrl-C, 143 by SIGTERM.\n\
                  `shell` ends with the code of what it ran."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring a region up: AWS endpoints, a VPC, a cluster and its worker nodes
    #[command(after_help = "Example:\n  nodestead up --nodes 3 --instance-type m5.large")]
    Up(Up),
    /// Stop everything that `up` started
    #[command(after_help = "Examples:\n  nodestead down --purge\n  nodestead down --all")]
    Down(Down),
    /// Show what runs, where, and what the same fleet would cost on AWS
    #[command(after_help = "Example:\n  nodestead status -o json | jq .instances")]
    Status(Status),
    /// Print shell exports for kubectl and aws
    #[command(after_help = "Example:\n  eval \"$(nodestead env)\"")]
    Env(Env),
    /// Print a kubeconfig of any user: of a component of the control plane, of a node, of a person
    #[command(
        after_help = "Examples:\n  nodestead kubeconfig system:kube-scheduler > scheduler.conf\n  \
                      nodestead kubeconfig system:node:n1 --hours 24 > kubelet.conf\n  \
                      nodestead kubeconfig jane --group developers > jane.conf"
    )]
    Kubeconfig(Kubeconfig),
    /// Work with container images
    Image {
        #[command(subcommand)]
        command: ImageCommand,
    },
    /// Deploy the guestbook and show what happens
    #[command(after_help = "Example:\n  nodestead demo --images ~/.cache/nodestead/images")]
    Demo(Demo),
    /// Show the log of a component (daemon, aws) or of an instance
    #[command(
        after_help = "Examples:\n  nodestead logs daemon -f\n  nodestead logs i-0123456789abcdef0"
    )]
    Logs(Logs),
    /// Take Spot Instances away, with EC2's warning
    #[command(after_help = "Example:\n  nodestead interrupt i-0123456789abcdef0 --in 5m")]
    Interrupt(Interrupt),
    /// Open a session on an instance, or run a command there
    #[command(after_help = "Example:\n  nodestead shell i-0123456789abcdef0 -- ps aux")]
    Shell(Shell),
    /// Check a live region against best practice
    Doctor {
        #[command(subcommand)]
        command: DoctorCommand,
    },
    /// Tell what happened to a pod, what becomes of a connection, who may do what, with which
    /// credentials, or who holds a subnet's addresses
    Explain {
        #[command(subcommand)]
        command: ExplainCommand,
    },
    /// Show which nodes would come and go for which price, or what a layout can hold
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  nodestead plan -f deployment.yaml -f nodepool.yaml\n  \
                      nodestead plan --kubeconfig ~/.kube/config\n  \
                      nodestead plan --live -f more-pods.yaml -o json | jq .price\n  \
                      nodestead plan subnets"
    )]
    Plan(Box<Plan>),
    /// Print a completion script
    #[command(
        after_help = "Example:\n  nodestead completion bash > /etc/bash_completion.d/nodestead"
    )]
    Completion { shell: clap_complete::Shell },
    /// The names that a completion script offers, one a line
    #[command(hide = true)]
    Candidates(Candidates),
    /// Run one component alone, against any peer
    Run(Box<crate::run::Run>),
    /// The region and its control planes, in the foreground (what `up` starts)
    #[command(hide = true)]
    Daemon(At),
}

pub(crate) const DEFAULT_DATA_DIR: &str = "/var/lib/nodestead";

/// Which region is meant.
#[derive(Args, Clone, Debug)]
pub(crate) struct At {
    /// Where the region keeps its state
    #[arg(long, env = "NODESTEAD_DATA_DIR", default_value = DEFAULT_DATA_DIR)]
    pub(crate) data_dir: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) at: At,
    /// The cluster's name [default: stead]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// How many worker nodes, one per zone first [default: 3]
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=450))]
    pub(crate) nodes: Option<u32>,
    /// The worker nodes' instance type [default: m5.large]
    #[arg(long)]
    pub(crate) instance_type: Option<String>,
    /// Port of the AWS endpoint on 127.0.0.1 [default: 4566, or the next free one]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) aws_port: Option<u16>,
    /// Port of the Kubernetes API on 127.0.0.1 [default: 6443, or the next free one]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) api_port: Option<u16>,
    /// Let the VPC's internet and NAT gateways reach the outside world
    #[arg(long)]
    pub(crate) egress: bool,
    /// Have another emulator on this machine answer what the region does not serve:
    /// `http://127.0.0.1:4567`
    #[arg(long, value_name = "URL")]
    pub(crate) proxy_unowned: Option<String>,
    /// How long AWS operations take [default: instant]
    #[arg(long, value_enum)]
    pub(crate) latency: Option<Latency>,
    /// Let Spot capacity run out, pool by pool and hour by hour, as follows from this number
    #[arg(long, value_name = "N")]
    pub(crate) spot_seed: Option<u64>,
    /// Keep clusters' state in this etcd cluster: its members, `https://10.0.0.1:2379,…`
    #[arg(long, value_delimiter = ',')]
    pub(crate) etcd_endpoints: Vec<String>,
    /// Who signs etcd's certificates
    #[arg(long, requires = "etcd_endpoints")]
    pub(crate) etcd_cafile: Option<PathBuf>,
    /// The certificate to show to etcd
    #[arg(long, requires_all = ["etcd_endpoints", "etcd_keyfile"])]
    pub(crate) etcd_certfile: Option<PathBuf>,
    /// The key of that certificate
    #[arg(long, requires = "etcd_certfile")]
    pub(crate) etcd_keyfile: Option<PathBuf>,
    /// Leave this part of the control plane out, for another to do its work: kube-scheduler,
    /// kube-controller-manager, or `none` to have all of it again
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART")]
    pub(crate) without: Vec<Part>,
    /// Keep the daemon in the foreground
    #[arg(long)]
    pub(crate) foreground: bool,
}

/// What `--without` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    KubeScheduler,
    KubeControllerManager,
    None,
}

impl Up {
    /// The parts to leave out, if anything is said about that.
    pub(crate) fn left_out(&self) -> Option<Vec<String>> {
        let names = [
            (Part::KubeScheduler, "kube-scheduler"),
            (Part::KubeControllerManager, "kube-controller-manager"),
        ];
        let named = names.into_iter().filter(|(part, _)| self.without.contains(part));
        (!self.without.is_empty()).then(|| named.map(|(_, name)| name.to_owned()).collect())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Latency {
    /// At once
    Instant,
    /// As long as on AWS: minutes for a cluster, most of a minute for a node
    Aws,
}

impl From<Latency> for latency::Profile {
    fn from(latency: Latency) -> Self {
        match latency {
            Latency::Instant => Self::Instant,
            Latency::Aws => Self::Aws,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Down {
    #[command(flatten)]
    pub(crate) at: At,
    /// Delete the state too
    #[arg(long)]
    pub(crate) purge: bool,
    /// Remove every region of this machine, and what killed runs and tests have left
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) at: At,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct Output {
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

impl Output {
    /// Prints what a command has found out, as data or as it is `rendered` for people.
    pub(crate) fn print<T: serde::Serialize>(
        &self,
        it: &T,
        rendered: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        match self.output {
            Format::Json => println!("{}", serde_json::to_string_pretty(it)?),
            Format::Table => print!("{}", rendered(it)),
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

#[derive(Args, Debug)]
pub(crate) struct Env {
    #[command(flatten)]
    pub(crate) at: At,
}

#[derive(Args, Debug)]
pub(crate) struct Kubeconfig {
    #[command(flatten)]
    pub(crate) at: At,
    /// Who it is of, as the API server knows users; it has the rights that RBAC gives it
    #[arg(default_value = "kubernetes-admin")]
    pub(crate) user: String,
    /// The user's group [default: system:nodes of a node, system:masters of kubernetes-admin]
    #[arg(long)]
    pub(crate) group: Option<String>,
    /// Of which cluster, if not of the one that `up` made
    #[arg(long)]
    pub(crate) cluster: Option<String>,
    /// How long its certificate is valid
    #[arg(long, default_value_t = 8760, value_parser = clap::value_parser!(u32).range(1..=87_600))]
    pub(crate) hours: u32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Load OCI or docker archives into the region's registry, from which every node pulls
    #[command(
        after_help = "Example:\n  docker save app:v1 -o app.tar && nodestead image load app.tar"
    )]
    Load {
        #[command(flatten)]
        at: At,
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Make an EC2 snapshot of a root file system, from which `aws ec2 register-image` makes an AMI
    #[command(after_help = "Example:\n  snapshot=$(nodestead image import rootfs.tar)\n  \
        aws ec2 register-image --name mine --architecture x86_64 --root-device-name /dev/xvda \\\n    \
        --block-device-mappings \"DeviceName=/dev/xvda,Ebs={SnapshotId=$snapshot}\"")]
    Import {
        #[command(flatten)]
        at: At,
        /// A folder, or a tar archive (perhaps compressed) of one
        root: PathBuf,
        /// What the snapshot is described as; its path where nothing is said
        #[arg(long)]
        description: Option<String>,
        #[arg(short, long, value_enum, default_value = "table")]
        output: Format,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ExplainCommand {
    /// A pod's way from the scheduler to Ready, with durations and failures
    #[command(
        after_help = "Example:\n  nodestead explain pod kube-system/coredns-5d78c9869d-x2x4b"
    )]
    Pod(ExplainPod),
    /// How far an instance is on its way to a Ready node, and the step at which it fails
    #[command(after_help = "Examples:\n  nodestead explain node i-0123456789abcdef0\n  \
        nodestead explain node ip-192-168-0-10.ec2.internal")]
    Node(ExplainNode),
    /// Whether a connection comes through, hop by hop, and the rule that decides
    #[command(
        after_help = "Examples:\n  nodestead explain path --from default/web-7c5d --to default/redis:6379\n  \
                      nodestead explain path --from control-plane --to node/ip-192-168-0-10.ec2.internal:10250"
    )]
    Path(ExplainPath),
    /// Whether a principal may do something, the statement that decides, and what each layer of
    /// policies says
    #[command(
        after_help = "Examples:\n  nodestead explain access --principal arn:aws:iam::111122223333:role/node \\\n    \
                      --action ec2:RunInstances\n  \
                      nodestead explain access --principal pods.eks.amazonaws.com --action sts:AssumeRole \\\n    \
                      --resource arn:aws:iam::111122223333:role/app"
    )]
    Access(ExplainAccess),
    /// Which AWS credentials a process in a pod gets, by which step of the SDKs' chain, and why
    #[command(
        after_help = "Example:\n  nodestead explain pod-credentials kube-system/aws-node-7k2pq"
    )]
    PodCredentials(ExplainPodCredentials),
    /// A subnet's free addresses, who holds the others, and when it runs out
    #[command(after_help = "Example:\n  nodestead explain subnet subnet-0123456789abcdef0")]
    Subnet(ExplainSubnet),
}

/// Which of the region's clusters is asked.
#[derive(Args, Clone, Debug)]
pub(crate) struct InCluster {
    /// Ask this one of the region's clusters [default: the one that `up` made]
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ExplainNode {
    #[command(flatten)]
    pub(crate) at: At,
    /// The node's cluster [default: the one that the instance is tagged with, or that `up` made]
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
    /// A node's name or an instance's id
    pub(crate) node: String,
}

#[derive(Args, Debug)]
pub(crate) struct ExplainPath {
    #[command(flatten)]
    pub(crate) at: At,
    #[command(flatten)]
    pub(crate) within: InCluster,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Who connects: `NAMESPACE/POD`, `node/NAME`, `control-plane`, or the Service's own `load-balancer`
    #[arg(long)]
    pub(crate) from: String,
    /// To whom: `NAMESPACE/POD:PORT`, `NAMESPACE/SERVICE:PORT`, `node/NAME:PORT` or `IP:PORT`; the
    /// port may be left out where there is one
    #[arg(long)]
    pub(crate) to: String,
    #[arg(long, value_enum, default_value_t)]
    pub(crate) protocol: PathProtocol,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PathProtocol {
    #[default]
    Tcp,
    Udp,
    Icmp,
}

impl PathProtocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct ExplainSubnet {
    #[command(flatten)]
    pub(crate) at: At,
    #[command(flatten)]
    pub(crate) output: Output,
    /// The minutes by which to tell the rate
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=360))]
    pub(crate) minutes: u32,
    /// The subnet's id
    pub(crate) subnet: String,
}

#[derive(Args, Debug)]
pub(crate) struct Plan {
    #[command(subcommand)]
    pub(crate) command: Option<PlanCommand>,
    #[command(flatten)]
    pub(crate) nodes: PlanNodes,
}

/// Nothing is changed anywhere.
#[derive(Args, Debug)]
pub(crate) struct PlanNodes {
    #[command(flatten)]
    pub(crate) at: At,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Manifests, or folders of them; without --live and --kubeconfig no cluster is asked
    #[arg(short, long = "filename", value_name = "FILE|DIR")]
    pub(crate) filename: Vec<PathBuf>,
    /// Ask this cluster instead of the region's
    #[arg(long)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Ask the cluster too, and add what the manifests say
    #[arg(long)]
    pub(crate) live: bool,
    /// The zones that nodes may be in, where nothing else says so
    #[arg(
        long = "zone",
        value_delimiter = ',',
        default_values = ["us-east-1a", "us-east-1b", "us-east-1c"]
    )]
    pub(crate) zones: Vec<String>,
    /// What Spot is taken to cost, in percent of On-Demand; 0: there is no Spot
    #[arg(long, default_value_t = 35, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) spot_price: u8,
    /// Pack as upstream does, first-fit decreasing, and look for nothing cheaper
    #[arg(long)]
    pub(crate) first_fit: bool,
    /// Let Spot nodes take the place of Spot nodes
    #[arg(long)]
    pub(crate) spot_to_spot: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// How many pods subnets can hold, under each way in which the VPC CNI takes addresses
    #[command(after_help = "Examples:\n  nodestead plan subnets\n  \
        nodestead plan subnets --nodes m5.large=40 --cidr a=10.0.0.0/24 --cidr b=10.0.1.0/24 \
        --pod-cidr a=100.64.0.0/18 --pod-cidr b=100.64.64.0/18")]
    Subnets(PlanSubnets),
}

#[derive(Args, Debug)]
pub(crate) struct PlanSubnets {
    #[command(flatten)]
    pub(crate) at: At,
    #[command(flatten)]
    pub(crate) output: Output,
    /// So many nodes of a type, `TYPE=COUNT` [default: the region's instances]
    #[arg(long)]
    pub(crate) nodes: Vec<String>,
    /// A subnet for nodes that is to be, `[ZONE=]CIDR` [default: the region's subnets]
    #[arg(long)]
    pub(crate) cidr: Vec<String>,
    /// A subnet for pods alone (custom networking), `[ZONE=]CIDR`
    #[arg(long)]
    pub(crate) pod_cidr: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ExplainPod {
    #[command(flatten)]
    pub(crate) at: At,
    #[command(flatten)]
    pub(crate) within: InCluster,
    /// Ask this cluster instead of the region's
    #[arg(long, conflicts_with = "cluster")]
    pub(crate) kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Output,
    /// `NAMESPACE/NAME`, or a name in `default`
    #[arg(value_parser = pod_name)]
    pub(crate) pod: String,
}

/// No name of Kubernetes has a slash in it.
fn pod_name(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('/').collect();
    if parts.len() > 2 || parts.iter().any(|it| it.is_empty()) {
        return Err("a pod is named `NAMESPACE/NAME`, or by its name in `default`".to_owned());
    }
    Ok(text.to_owned())
}

#[derive(Args, Debug)]
pub(crate) struct Demo {
    #[command(flatten)]
    pub(crate) at: At,
    /// The folder of image archives that `make images` made [default: ~/.cache/nodestead/images]
    #[arg(long, env = "NODESTEAD_IMAGES")]
    pub(crate) images: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Logs {
    #[command(flatten)]
    pub(crate) at: At,
    /// `daemon`, `aws`, an instance id, or `INSTANCE/LOG` (kubelet, containerd, console)
    pub(crate) of: String,
    /// Keep printing as the log grows
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Candidates {
    #[command(flatten)]
    pub(crate) at: At,
    #[arg(value_enum)]
    pub(crate) of: Completed,
}

/// What is completed with names of the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Completed {
    Instances,
    /// Spot Instances that run
    Spot,
    Logs,
    Pods,
}

#[derive(Args, Debug)]
pub(crate) struct Shell {
    #[command(flatten)]
    pub(crate) at: At,
    /// An instance id or a node's name
    pub(crate) instance: String,
    /// What to run instead of a shell
    #[arg(last = true)]
    pub(crate) command: Vec<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_pod_has_a_namespace_and_a_name_and_nothing_more() {
        for wrong in ["a/b/c", "a/", "/b", ""] {
            let refused = Cli::try_parse_from(["nodestead", "explain", "pod", wrong]);
            assert_eq!(refused.unwrap_err().exit_code(), 2, "{wrong:?}");
        }
        for good in ["a", "a/b"] {
            assert!(Cli::try_parse_from(["nodestead", "explain", "pod", good]).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_cluster_is_named_or_has_a_kubeconfig() {
        let parse = |more: &[&str]| {
            let all = [&["nodestead", "explain", "pod", "a", "--cluster", "b"], more].concat();
            Cli::try_parse_from(all).map(drop)
        };
        assert!(parse(&[]).is_ok());
        assert_eq!(parse(&["--kubeconfig", "c"]).unwrap_err().exit_code(), 2);
    }
}
