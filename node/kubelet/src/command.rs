//! `nodestead run kubelet`, with upstream's flags.
//!
//! Upstream: `cmd/kubelet/app/server.go`, `cmd/kubelet/app/options/options.go`.
//!
//! Deviation: SIGPWR, which no upstream kubelet uses, begins a graceful node shutdown; upstream is told
//! of it by systemd's logind, which need not be there.

mod deprecated;
mod flags;
mod footprint;
mod host;
mod node_flags;
mod shared_root;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use clap::{
    Args as ClapArgs,
    error::{Error as UsageError, ErrorKind},
};
use clock::Clock;
use lifecycle::Scope;
use nix::sys::socket::SockaddrIn;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::warn;

use self::{flags::ConfigurationFlags, footprint::Footprint, host::Lock, shared_root::SharedRoot};
use crate::{
    GoDuration,
    api_client::{self, ApiClient},
    config::{KubeletConfiguration, Sources},
    kubelet::Kubelet,
    oom,
    settings::Settings,
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Flags win over the configuration files, as upstream's do.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct Args {
    // First, as it looks at flags that the others take out.
    #[command(flatten)]
    pub configuration: ConfigurationFlags,
    /// The KubeletConfiguration file (YAML or JSON)
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// A folder of `*.conf` files that are merged over it, by name
    #[arg(long)]
    pub config_dir: Option<PathBuf>,
    /// How to reach and authenticate to the API server; without it static pods run, and nothing else
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// With which to ask for a client certificate where `--kubeconfig` does not exist yet
    #[arg(long)]
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// Where certificates are kept; `pki` below the root directory by default
    #[arg(long)]
    pub cert_dir: Option<PathBuf>,
    /// The node's name; the host's name by default
    #[arg(long)]
    pub hostname_override: Option<String>,
    /// The node's addresses, comma-separated
    #[arg(long, value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    /// Labels to register with: `a=b,c=d`
    #[arg(long, value_delimiter = ',', value_parser = node_flags::label)]
    pub node_labels: Vec<(String, String)>,
    /// `external` when a cloud controller manager initializes the node
    #[arg(long, default_value = "")]
    pub cloud_provider: String,
    #[arg(long)]
    pub image_credential_provider_config: Option<PathBuf>,
    #[arg(long)]
    pub image_credential_provider_bin_dir: Option<PathBuf>,
    /// Where the kubelet keeps its files
    #[arg(long, default_value = "/var/lib/kubelet")]
    pub root_dir: String,
    /// A file that one kubelet at a time holds
    #[arg(long)]
    pub lock_file: Option<PathBuf>,
    /// End when somebody else wants the lock file
    #[arg(long)]
    pub exit_on_lock_contention: bool,
    /// How old a dead container must be before it is removed
    #[arg(long, value_parser = node_flags::duration, default_value = "0s")]
    pub minimum_container_ttl_duration: GoDuration,
    /// How many old containers of a name are kept
    #[arg(long, default_value_t = 1, allow_hyphen_values = true)]
    pub maximum_dead_containers_per_container: i64,
    /// How many old containers are kept in all; negative: any number
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    pub maximum_dead_containers: i64,
    /// Verbosity of the log, 0 to 10
    #[arg(long, short = 'v')]
    pub v: Option<u8>,
}

/// Runs until it is asked to stop. Whatever is wrong is found before the host is changed, and a start
/// that fails later takes away what it made.
pub async fn run(args: Args) -> Result<(), BoxError> {
    let settings = settings(&args)?;
    for warning in &args.configuration.warnings {
        warn!("{warning}");
    }
    host::check(&settings)?;
    api_client::check(&sources(&args), Clock::system()).await?;
    // Before the ports are tried: whoever holds the lock has them, and is told here.
    let lock = host::acquire_lock(&args).await?;
    Kubelet::check(&settings)?;
    let footprint = Footprint::before(&settings);
    let scope = Scope::new();
    let assembled = assemble(&args, settings.clone(), scope.clone()).await;
    let (kubelet, root) = match assembled.and_then(|it| Ok((it, prepare(&settings)?))) {
        Ok(prepared) => prepared,
        Err(error) => {
            scope.drain(Duration::from_secs(2)).await;
            footprint.remove();
            return Err(error);
        }
    };
    let ended = run_until_asked(kubelet, &scope, &lock).await;
    scope.drain(Duration::from_secs(2)).await;
    root.release();
    ended
}

/// Changes the host as a kubelet needs it.
fn prepare(settings: &Settings) -> Result<SharedRoot, BoxError> {
    host::prepare(settings)?;
    Ok(SharedRoot::make(settings.root_dir.as_ref())?)
}

async fn run_until_asked(kubelet: Kubelet, scope: &Scope, lock: &Lock) -> Result<(), BoxError> {
    let shutdown = kubelet.shutdown();
    drop(scope.spawn("logind", shutdown.clone().follow_logind()));
    let mut signals = Signals::new()?;
    let running = kubelet.run();
    tokio::pin!(running);
    let asked = tokio::select! {
        () = &mut running => Asked::End,
        () = lock.contended() => Asked::End,
        asked = signals.next() => asked,
    };
    if asked == Asked::Shutdown {
        // The pods' workers go on meanwhile; who asks for the end now gets it.
        tokio::select! {
            () = &mut running => {}
            () = shutdown.begin() => {}
            () = signals.end() => {}
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    End,
    Shutdown,
}

/// The signals that end a kubelet.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    power: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            power: signal(SignalKind::from_raw(nix::sys::signal::Signal::SIGPWR as i32))?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
            _ = self.power.recv() => Asked::Shutdown,
        }
    }

    async fn end(&mut self) {
        while self.next().await != Asked::End {}
    }
}

/// A kubelet as the flags describe it. Its tasks belong to `scope`.
pub async fn build(args: &Args, scope: Scope) -> Result<Kubelet, BoxError> {
    let settings = settings(args)?;
    assemble(args, settings, scope).await
}

async fn assemble(args: &Args, settings: Settings, scope: Scope) -> Result<Kubelet, BoxError> {
    transport::tls::install_provider();
    let clock = Clock::system();
    let client = ApiClient::connect(&sources(args), &settings, clock).await?;
    let channel = api_cri::connect(&settings.config.container_runtime_endpoint)?;
    let images = match settings.config.image_service_endpoint.as_str() {
        "" => channel.clone(),
        endpoint => api_cri::connect(endpoint)?,
    };
    Ok(Kubelet::with_client(settings, client, channel, images, clock, scope)?)
}

fn sources(args: &Args) -> api_client::Sources {
    api_client::Sources {
        kubeconfig: args.kubeconfig.clone(),
        bootstrap: args.bootstrap_kubeconfig.clone(),
    }
}

/// The configuration files with the flags over them.
pub fn settings(args: &Args) -> Result<Settings, BoxError> {
    let sources = Sources {
        file: args.config.clone(),
        folder: args.config_dir.clone(),
        flags: args.configuration.overlay.clone(),
    };
    let mut config = KubeletConfiguration::from_sources(&sources)?;
    config.allocatable_ignores_eviction = args.configuration.allocatable_ignores_eviction;
    check(args)?;
    let name = match &args.hostname_override {
        Some(name) => name.trim().to_lowercase(),
        None => nix::unistd::gethostname()?.to_string_lossy().trim().to_lowercase(),
    };
    if name.is_empty() {
        return Err("empty hostname is invalid".into());
    }
    let mut settings = Settings::new(config, &name);
    settings.node_ips = node_ips(&args.node_ip)?;
    settings.node_labels = args.node_labels.iter().cloned().collect::<BTreeMap<_, _>>();
    settings.has_external_cloud = args.cloud_provider == "external";
    settings.is_standalone = args.kubeconfig.is_none();
    settings.root_dir.clone_from(&args.root_dir);
    settings.cert_dir.clone_from(&args.cert_dir);
    settings.credential_provider_config.clone_from(&args.image_credential_provider_config);
    settings.credential_provider_bin_dir.clone_from(&args.image_credential_provider_bin_dir);
    settings.minimum_container_age = args.minimum_container_ttl_duration.0;
    settings.dead_containers_per_container = args.maximum_dead_containers_per_container;
    settings.dead_containers = args.maximum_dead_containers;
    settings.flags = node_flags::shown(args);
    settings.memory_kills = oom::MemoryKills::of_host(&settings.proc);
    Ok(settings)
}

fn check(args: &Args) -> Result<(), BoxError> {
    let wrong = |message: String| {
        let error: UsageError = UsageError::raw(ErrorKind::ValueValidation, message);
        Box::new(error)
    };
    if !matches!(args.cloud_provider.as_str(), "" | "external") {
        let given = &args.cloud_provider;
        return Err(wrong(format!("--cloud-provider is `external` or empty, not `{given}`\n")));
    }
    if args.image_credential_provider_config.is_some()
        != args.image_credential_provider_bin_dir.is_some()
    {
        return Err(wrong(
            "--image-credential-provider-config and --image-credential-provider-bin-dir are given both or not at all\n".to_owned(),
        ));
    }
    if args.exit_on_lock_contention && args.lock_file.is_none() {
        return Err(wrong(
            "cannot exit on lock file contention: no lock file specified\n".to_owned(),
        ));
    }
    if args.bootstrap_kubeconfig.is_some() && args.kubeconfig.is_none() {
        return Err(wrong(
            "--bootstrap-kubeconfig needs --kubeconfig, which it writes\n".to_owned(),
        ));
    }
    match node_flags::check_labels(&args.node_labels) {
        Ok(()) => Ok(()),
        // Boxed once: who looks for wrong usage looks into the box.
        Err(message) => Err(wrong(format!("{message}\n"))),
    }
}

/// The addresses that were given, or the host's own.
fn node_ips(given: &[IpAddr]) -> Result<Vec<IpAddr>, BoxError> {
    match given {
        [] => Ok(default_address(false)),
        [only] if only.is_unspecified() => Ok(default_address(only.is_ipv6())),
        [one, other] if one.is_ipv4() == other.is_ipv4() => {
            Err("dual-stack --node-ip takes one IPv4 and one IPv6 address".into())
        }
        [_, _, _, ..] => Err("--node-ip takes at most two addresses".into()),
        many => Ok(many.to_vec()),
    }
}

/// The address from which this host would reach others.
fn default_address(wants_v6: bool) -> Vec<IpAddr> {
    let addresses: Vec<_> = nix::ifaddrs::getifaddrs().into_iter().flatten().collect();
    let v4 =
        addresses.iter().filter_map(|it| it.address.as_ref()?.as_sockaddr_in().map(SockaddrIn::ip));
    let v4 = v4.filter(|it| !it.is_loopback() && !it.is_link_local()).map(IpAddr::V4).next();
    let v6 = addresses.iter().filter_map(|it| Some(it.address.as_ref()?.as_sockaddr_in6()?.ip()));
    let v6 =
        v6.filter(|it| !it.is_loopback() && !it.is_unicast_link_local()).map(IpAddr::V6).next();
    let found = if wants_v6 { v6.or(v4) } else { v4.or(v6) };
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn flags_of_an_eks_node_are_understood() {
        let cli = Cli::try_parse_from([
            "kubelet",
            "--node-ip=192.168.0.12",
            "--hostname-override=ip-192-168-0-12.ec2.internal",
            "--cloud-provider=external",
            "--node-labels=eks.amazonaws.com/nodegroup=ng,a=b",
            "--register-with-taints=dedicated=x:NoSchedule,y:NoExecute",
            "--max-pods=29",
            "--maximum-dead-containers=5",
            "--v=2",
        ])
        .unwrap();
        let warnings = cli.args.configuration.warnings.join("\n");
        for wanted in
            ["--register-with-taints has", "--max-pods has", "--maximum-dead-containers has"]
        {
            assert!(warnings.contains(wanted), "{warnings}");
        }
        assert_eq!(cli.args.configuration.warnings.len(), 3);
        let settings = settings(&cli.args).unwrap();
        assert_eq!(settings.node_labels["a"], "b");
        assert_eq!(settings.config.register_with_taints[1].key, "y");
        assert_eq!(settings.config.max_pods, 29);
        assert!(settings.has_external_cloud && settings.is_standalone);
    }

    #[tokio::test]
    async fn a_start_that_fails_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(at("damaged"), "clusters: 7").unwrap();
        let before = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let (root, logs) = (at("made/root"), at("made/logs"));
        let own = ["--fail-swap-on=false", "--address=127.0.0.1", "--healthz-port=0"];
        let cases = [
            (["--kubeconfig", &at("damaged")], "failed to load the kubeconfig"),
            (["--kubeconfig", &at("missing")], "failed to load the kubeconfig"),
            (["--port", &port], "failed to start the server"),
            // Found when folders are there already.
            (["--cpu-manager-policy", "static"], "failed to create the container manager"),
        ];
        for (wrong, why) in cases {
            let flags = ["kubelet", "--hostname-override=n", "--root-dir", &root];
            let flags = flags.iter().chain(&own).copied().chain(wrong);
            let mut args = Cli::try_parse_from(flags).unwrap().args;
            let overlay = &mut args.configuration.overlay;
            overlay["podLogsDir"] = serde_json::json!(logs);
            overlay["failCgroupV1"] = serde_json::json!(false);
            overlay["enableServer"] = serde_json::json!(wrong[0] == "--port");
            let started = tokio::time::timeout(Duration::from_secs(20), run(args)).await;
            let error = started.unwrap().unwrap_err().to_string();
            assert!(error.contains(why), "{wrong:?}: {error}");
            assert!(!folder.path().join("made").exists(), "{wrong:?}");
        }
        assert_eq!(std::fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap(), before);
    }

    #[test]
    fn wrong_flags_are_wrong_usage() {
        assert!(Cli::try_parse_from(["kubelet", "--no-such-flag"]).is_err());
        let wrong = [
            Args { cloud_provider: "aws".to_owned(), ..Args::default() },
            Args { exit_on_lock_contention: true, ..Args::default() },
            Args { bootstrap_kubeconfig: Some("b".into()), ..Args::default() },
            Args {
                node_labels: vec![("kubernetes.io/mine".to_owned(), "x".to_owned())],
                ..Args::default()
            },
        ];
        for args in wrong {
            let error = settings(&args).unwrap_err();
            assert!(error.downcast_ref::<UsageError>().is_some(), "{error}");
        }
    }
}
