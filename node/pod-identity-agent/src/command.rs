//! `run eks-pod-identity-agent`: `initialize` in the init container, `server` after it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use clock::Clock;
use lifecycle::Scope;
use tower::service_fn;
use tracing::{info, warn};
use transport::{BoxError, Place};

use crate::{
    cache::{self, Cache},
    limit::Limit,
    link::{self, IPV4, IPV6},
    metrics::{self, Metrics},
    probes,
    server::Server,
    source::{self, EksAuth},
};

const PER_SECOND: u32 = 1000;
const BURST: u32 = 500;
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Makes the link with the agent's addresses
    Initialize,
    /// Serves credentials
    Server(ServerArgs),
}

/// Upstream's flags.
#[derive(Debug, clap::Args)]
pub struct ServerArgs {
    /// The cluster whose pods are served.
    #[arg(long)]
    pub cluster_name: String,
    #[arg(long, default_value_t = 80)]
    pub port: u16,
    #[arg(long, default_value_t = 2703)]
    pub probe_port: u16,
    #[arg(long, default_value_t = 2705)]
    pub metrics_port: u16,
    #[arg(long, default_value = "0.0.0.0")]
    pub metrics_address: IpAddr,
    /// Where to listen; those that cannot be bound are left out.
    #[arg(long, value_delimiter = ',', default_values_t = [IpAddr::from(IPV4), IpAddr::from(IPV6)])]
    pub bind_hosts: Vec<IpAddr>,
    /// Where EKS Auth is, if not at its usual name.
    #[arg(long)]
    pub endpoint: Option<String>,
    /// How many tokens' credentials are kept.
    #[arg(long, default_value_t = 2000)]
    pub max_cache_size: usize,
    /// Seconds after which credentials are renewed.
    #[arg(long, default_value_t = 10_800)]
    pub max_credential_retention_before_renewal: u64,
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1")]
    pub region: String,
}

pub async fn run(args: Args) -> Result<(), BoxError> {
    match args.command {
        Command::Initialize => initialize().await,
        Command::Server(args) => serve(args).await,
    }
}

async fn initialize() -> Result<(), BoxError> {
    match linux_netlink::run(None, link::ensure).await? {
        None => info!(link = link::NAME, "the agent's addresses are there"),
        Some(error) => {
            let error = telemetry::chain(&error).to_string();
            warn!(link = link::NAME, error, "the agent has no IPv6 address");
        }
    }
    Ok(())
}

async fn serve(args: ServerArgs) -> Result<(), BoxError> {
    transport::tls::install_provider();
    let (clock, scope) = (Clock::system(), Scope::new());
    let variable = |name: &str| std::env::var(name).ok();
    let client = source::client(variable, &args.region, args.endpoint.as_deref(), clock)?;
    let config = cache::Config {
        most: args.max_cache_size.max(1),
        renewal: Duration::from_secs(args.max_credential_retention_before_renewal),
    };
    let source = Arc::new(EksAuth::new(client, &args.cluster_name));
    let cache = Arc::new(Cache::new(source, config, clock));
    let metrics = Arc::new(Metrics::default());
    let server = Arc::new(Server {
        cache: cache.clone(),
        limit: Limit::new(PER_SECOND, BURST),
        metrics: metrics.clone(),
        addresses: args.bind_hosts.clone(),
        clock,
    });
    let bound = listen(&args, &server, &scope)?;
    watch_over(&args, bound, &metrics, &cache, &scope)?;
    drop(scope.spawn("renewal", async move { cache.keep_fresh().await }));
    info!(cluster = args.cluster_name, "serving");
    lifecycle::asked_to_end().await?;
    scope.drain(DRAIN_LIMIT).await;
    Ok(())
}

/// Listens wherever it can; gives where that is.
fn listen(
    args: &ServerArgs,
    server: &Arc<Server>,
    scope: &Scope,
) -> Result<Vec<SocketAddr>, BoxError> {
    let mut bound = Vec::new();
    let mut last = None;
    for host in &args.bind_hosts {
        let address = SocketAddr::from((*host, args.port));
        let listener = match Place::Here.listen(address) {
            Ok(listener) => listener,
            Err(error) => {
                warn!(%address, %error, "the agent does not listen on one of its addresses");
                last = Some(error);
                continue;
            }
        };
        bound.push(listener.local_addr()?);
        let server = server.clone();
        let service = service_fn(move |request| server.clone().serve(request));
        drop(scope.spawn("credentials", transport::serve(listener, None, service, scope.clone())));
    }
    match (bound.is_empty(), last) {
        (true, Some(error)) => Err(error.into()),
        (true, None) => Err("there is no address to listen on".into()),
        (false, _) => Ok(bound),
    }
}

/// Probes and metrics.
fn watch_over(
    args: &ServerArgs,
    bound: Vec<SocketAddr>,
    metrics: &Arc<Metrics>,
    cache: &Arc<Cache>,
    scope: &Scope,
) -> Result<(), BoxError> {
    let listener = Place::Here.listen((Ipv4Addr::LOCALHOST, args.probe_port).into())?;
    let bound: Arc<[SocketAddr]> = bound.into();
    let service = service_fn(move |request| probes::answer(request, bound.clone()));
    drop(scope.spawn("probes", transport::serve(listener, None, service, scope.clone())));
    let listener = Place::Here.listen((args.metrics_address, args.metrics_port).into())?;
    let (metrics, cache) = (metrics.clone(), cache.clone());
    let service =
        service_fn(move |request| metrics::answer(request, metrics.clone(), cache.clone()));
    drop(scope.spawn("metrics", transport::serve(listener, None, service, scope.clone())));
    Ok(())
}
