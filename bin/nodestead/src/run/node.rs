//! `nodestead run node`: this host becomes a node of a cluster, hybrid-style. Nothing is installed: a
//! container runtime must be there, and everything is written below one folder.
//!
//! Credentials are those of the environment. Whom they are tells the node's name, as an access entry of
//! type HYBRID_LINUX knows a session by its name, and one of type EC2_LINUX an instance by its DNS name.
//! What a preparation fails at is named by its step. The kubelet, and kube-proxy where it is given a
//! kubeconfig, are kept running until this process is told to end.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context;
use aws_ec2::instance::{DescribeInstances, DescribeInstancesRequest};
use aws_eks::{DescribeCluster, DescribeClusterRequest};
use aws_sts::{GetCallerIdentity, GetCallerIdentityRequest};
use aws_wire::{Client, client::from_environment};
use clock::Clock;
use nodeadm::hybrid::{File, Host, HybridConfig, is_fit, is_node_name, node_name_of};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{Instant, sleep},
};
use tracing::{info, warn};

/// A service that ends sooner than this is waited for ever longer.
const STABLE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What a folder of this program's has from its first use on.
const MARK: &str = "kubelet.json";
/// How long services may take to end.
const GRACE: Duration = Duration::from_secs(20);

/// Make this host a node of a cluster, with the environment's AWS credentials.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  aws eks create-access-entry --cluster-name prod --type HYBRID_LINUX --principal-arn ROLE\n  \
                  eval \"$(aws configure export-credentials --profile rack-7 --format env)\"\n  \
                  nodestead run node --config nodeconfig.yaml"
)]
pub(crate) struct Args {
    /// A file with a NodeConfig of node.eks.aws/v1alpha1; may be given again, later ones win
    #[arg(long, required = true)]
    config: Vec<PathBuf>,
    /// The node's name [default: the name of the credentials' session]
    #[arg(long)]
    node_name: Option<String>,
    /// Where everything is kept
    #[arg(long, default_value = "/var/lib/nodestead-node")]
    folder: PathBuf,
    /// The socket of the container runtime (CRI)
    #[arg(long, default_value = "/run/containerd/containerd.sock")]
    runtime: PathBuf,
    /// Run kube-proxy too, with this kubeconfig; without it the cluster's add-on is the node's proxy
    #[arg(long)]
    kube_proxy_kubeconfig: Option<PathBuf>,
}

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

pub(crate) async fn run(args: Args) -> Outcome {
    let services = prepare(&args).await?;
    Ok(keep_running(services).await?)
}

/// A process of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Service {
    name: &'static str,
    program: PathBuf,
    args: Vec<String>,
}

async fn prepare(args: &Args) -> anyhow::Result<Vec<Service>> {
    anyhow::ensure!(
        is_fit(&args.folder),
        "--folder must be an absolute path of a folder of its own"
    );
    check_own(&args.folder)?;
    let mut config = read(&args.config).context("step `configuration`")?;
    transport::unix_connect(&args.runtime).await.map(drop).with_context(|| {
        format!("step `runtime`: nobody answers at `{}`: start containerd", args.runtime.display())
    })?;
    let variable = |name: &str| std::env::var(name).ok();
    let region = config.region().map(str::to_owned).or_else(|| variable("AWS_REGION"));
    let region = region.context("step `configuration`: spec.cluster.region is missing")?;
    let aws = from_environment(variable, Some(&region), Clock::system())?;
    let caller = aws.call::<GetCallerIdentity>(GetCallerIdentityRequest {}).await;
    let caller = caller.context("step `token`: the credentials are nobody's")?.arn;
    if config.is_incomplete() {
        complete(&aws, &mut config).await.context("step `cluster`: EKS does not tell of it")?;
    }
    let (node_name, provider_id) = name(&aws, args, &caller).await.context("step `node name`")?;
    let host = Host {
        node_name,
        region,
        provider_id,
        folder: args.folder.clone(),
        program: std::env::current_exe().context("step `files`")?,
        runtime: args.runtime.clone(),
        cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get).try_into()?,
        memory_mib: memory_mib(&fs::read_to_string("/proc/meminfo").context("step `files`")?),
    };
    let (files, flags) = config.plan(&host).context("step `configuration`")?;
    write_all(&host.folder, &files).context("step `files`")?;
    info!(cluster = config.cluster_name(), node = host.node_name, caller, "joining");
    Ok(services(&host, flags, args.kube_proxy_kubeconfig.as_deref()))
}

/// A folder with things of somebody else's is not written to.
fn check_own(folder: &Path) -> anyhow::Result<()> {
    let is_used = fs::read_dir(folder).is_ok_and(|mut it| it.next().is_some());
    anyhow::ensure!(
        !is_used || folder.join(MARK).exists(),
        "`{}` is used for something else: --folder must be a folder of its own",
        folder.display()
    );
    Ok(())
}

fn read(paths: &[PathBuf]) -> anyhow::Result<HybridConfig> {
    let read = |path: &PathBuf| {
        fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
    };
    let documents = paths.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(HybridConfig::parse(&documents)?)
}

async fn complete(aws: &Client, config: &mut HybridConfig) -> anyhow::Result<()> {
    let request = DescribeClusterRequest { name: config.cluster_name().to_owned() };
    let found = aws.call::<DescribeCluster>(request).await?.cluster.unwrap_or_default();
    anyhow::ensure!(found.status == "ACTIVE", "cluster {} is {}", found.name, found.status);
    let network = found.kubernetes_network_config;
    config.complete(
        found.endpoint.context("it has no endpoint")?,
        found.certificate_authority.data.context("it has no certificate authority")?,
        network.service_ipv4_cidr.or(network.service_ipv6_cidr).context("it has no Services")?,
    );
    Ok(())
}

/// EC2's ids, old and new: a session may have any name that begins alike.
fn is_instance(session: &str) -> bool {
    session.strip_prefix("i-").is_some_and(|it| {
        matches!(it.len(), 8 | 17) && it.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// The node's name, and what the cloud knows it by where this is an instance of EC2.
async fn name(aws: &Client, args: &Args, caller: &str) -> anyhow::Result<(String, Option<String>)> {
    let session = node_name_of(caller);
    if let Some(id) = session.filter(|it| is_instance(it)) {
        let request =
            DescribeInstancesRequest { instance_ids: vec![id.to_owned()], ..Default::default() };
        let found = aws.call::<DescribeInstances>(request).await?;
        let found = found.reservations.into_iter().flat_map(|it| it.instances).next();
        let found = found.with_context(|| format!("EC2 knows no instance {id}"))?;
        let zone = found.placement.and_then(|it| it.availability_zone).unwrap_or_default();
        let name = found.private_dns_name.filter(|it| !it.is_empty());
        let name = name.with_context(|| format!("instance {id} has no private DNS name"))?;
        return Ok((name, Some(format!("aws:///{zone}/{id}"))));
    }
    let name = args.node_name.clone().or_else(|| session.map(str::to_owned));
    let name = name.with_context(|| {
        format!("{caller} is no session of a role: give the name with --node-name")
    })?;
    anyhow::ensure!(
        is_node_name(&name),
        "`{name}` is no name for a node: small letters, digits, `-` and `.` are; name the session \
         otherwise, or give the name with --node-name"
    );
    if session.is_some_and(|it| it != name) {
        warn!(
            name,
            caller, "an access entry of type HYBRID_LINUX knows this session by another name"
        );
    }
    Ok((name, None))
}

/// `MemTotal: 16384000 kB`.
fn memory_mib(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|it| it.strip_prefix("MemTotal:"));
    let kib = total.and_then(|it| it.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}

fn write_all(folder: &Path, files: &[File]) -> anyhow::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    for file in files {
        write(file).with_context(|| format!("cannot write `{}`", file.path.display()))?;
    }
    Ok(())
}

fn write(file: &File) -> anyhow::Result<()> {
    use std::io::Write;
    if let Some(parent) = file.path.parent() {
        fs::create_dir_all(parent)?;
    }
    let temporary = file.path.with_extension("part");
    let mut options = fs::OpenOptions::new();
    let mut written =
        options.create(true).write(true).truncate(true).mode(file.mode).open(&temporary)?;
    written.write_all(file.content.as_bytes())?;
    Ok(fs::rename(&temporary, &file.path)?)
}

fn services(host: &Host, flags: Vec<String>, kube_proxy: Option<&Path>) -> Vec<Service> {
    let service = |name: &'static str, flags: Vec<String>| {
        let args = ["run", name].map(str::to_owned).into_iter().chain(flags).collect();
        Service { name, program: host.program.clone(), args }
    };
    let mut services = vec![service("kubelet", flags)];
    if let Some(kubeconfig) = kube_proxy {
        let flags = vec![
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--hostname-override={}", host.node_name),
        ];
        services.push(service("kube-proxy", flags));
    }
    services
}

/// Until SIGTERM or SIGINT; then the services are told the same. What containers run stays. Where one
/// cannot be started the others end too: whoever started this process hears of it.
async fn keep_running(services: Vec<Service>) -> anyhow::Result<()> {
    let (tell, told) = watch::channel(false);
    let all = futures::future::try_join_all(services.into_iter().map(|service| {
        let mut told = told.clone();
        keep(service, async move {
            // An error: nobody is left to tell.
            told.wait_for(|it| *it).await.ok();
        })
    }));
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::pin!(all);
    let ended = tokio::select! {
        ended = &mut all => ended,
        () = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        } => {
            tell.send_replace(true);
            all.await
        }
    };
    ended.map(drop)
}

/// Starts a service whenever it is not running, until it is told to end.
async fn keep(service: Service, told: impl Future<Output = ()>) -> anyhow::Result<()> {
    tokio::pin!(told);
    let mut pause = FIRST_PAUSE;
    loop {
        let begun = Instant::now();
        let mut child = start(&service)?;
        info!(service = service.name, pid = child.id(), "started");
        let ended = tokio::select! {
            ended = child.wait() => ended?,
            () = &mut told => return end(&service, child).await,
        };
        warn!(service = service.name, %ended, "ended");
        pause = if begun.elapsed() >= STABLE { FIRST_PAUSE } else { pause };
        tokio::select! {
            () = sleep(pause) => {}
            () = &mut told => return Ok(()),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn start(service: &Service) -> anyhow::Result<Child> {
    let mut command = Command::new(&service.program);
    command.args(&service.args).stdin(Stdio::null()).kill_on_drop(true);
    command.spawn().with_context(|| format!("step `{}`: cannot be started", service.name))
}

async fn end(service: &Service, mut child: Child) -> anyhow::Result<()> {
    if let Some(pid) = child.id().and_then(|it| i32::try_from(it).ok()) {
        let pid = nix::unistd::Pid::from_raw(pid);
        // It has ended by itself: then it is waited for below.
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).ok();
    }
    let ended: Option<ExitStatus> = match tokio::time::timeout(GRACE, child.wait()).await {
        Ok(ended) => Some(ended?),
        Err(_) => None,
    };
    match ended {
        Some(ended) => info!(service = service.name, %ended, "ended"),
        None => {
            warn!(service = service.name, "did not end within {GRACE:?} and is killed");
            child.kill().await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            node_name: "rack-7".to_owned(),
            region: "us-east-1".to_owned(),
            provider_id: None,
            folder: "/var/lib/x".into(),
            program: "/usr/bin/nodestead".into(),
            runtime: "/run/x.sock".into(),
            cpus: 2,
            memory_mib: 4096,
        }
    }

    #[test]
    fn a_node_runs_a_kubelet_and_a_proxy_where_that_is_asked_for() {
        let flags = || vec!["--a=b".to_owned()];
        let alone = services(&host(), flags(), None);
        assert_eq!(alone[0].args, ["run", "kubelet", "--a=b"]);
        assert_eq!(alone.len(), 1);
        let both = services(&host(), flags(), Some(Path::new("/etc/proxy")));
        assert_eq!(
            both[1].args,
            ["run", "kube-proxy", "--kubeconfig=/etc/proxy", "--hostname-override=rack-7"]
        );
    }

    #[test]
    fn a_folder_that_others_use_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        check_own(&folder.path().join("new")).unwrap();
        check_own(folder.path()).unwrap();
        fs::write(folder.path().join("passwd"), "").unwrap();
        assert!(check_own(folder.path()).is_err());
        fs::write(folder.path().join(MARK), "{}").unwrap();
        check_own(folder.path()).unwrap();
    }

    #[test]
    fn memory_is_read_in_mib() {
        assert_eq!(memory_mib("MemFree: 1 kB\nMemTotal:       16384000 kB\n"), 16_000);
        assert_eq!(memory_mib(""), 0);
    }

    #[tokio::test]
    async fn a_service_that_ends_is_started_again_and_all_end_when_told() {
        let folder = tempfile::tempdir().unwrap();
        let count = folder.path().join("count");
        let script =
            format!("echo x >> {}; test $(wc -l < {0}) -gt 1 && exec sleep 60", count.display());
        let service = Service {
            name: "kubelet",
            program: "/bin/sh".into(),
            args: vec!["-c".to_owned(), script],
        };
        let twice = async {
            loop {
                let lines = fs::read_to_string(&count).unwrap_or_default().lines().count();
                if lines >= 2 {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let begun = Instant::now();
        keep(service, twice).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(30), "it ends before its sleep");
    }

    #[test]
    fn files_are_written_with_their_modes() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("node");
        let file = File { path: at.join("a/kubeconfig"), content: "x".to_owned(), mode: 0o600 };
        write_all(&at, std::slice::from_ref(&file)).unwrap();
        write_all(&at, std::slice::from_ref(&file)).unwrap();
        let found = fs::metadata(&file.path).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&at).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
