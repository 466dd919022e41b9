//! `run kube-proxy`.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use clock::Clock;
use kube::{Client, Config, config::KubeConfigOptions};
use lifecycle::Scope;
use linux_nftables::{Family, Nft};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tower::service_fn;
use tracing::{debug, info, warn};
use transport::{BoxError, Place};

use crate::{
    config::Configuration,
    conntrack,
    endpoint_slices::Here,
    health::{self, Health, HealthPorts},
    proxier::Proxier,
    ruleset::TABLE,
    watch::{self, Update},
};

/// Until a refused transaction is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// So many updates go into one pass at most.
const MAX_BATCH: usize = 10_000;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A KubeProxyConfiguration file.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Whom to call; in a pod, the service account says.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The node's name, where it is not the host's.
    #[arg(long, env = "NODE_NAME")]
    pub hostname_override: Option<String>,
    /// The pods' network: what comes from elsewhere to a cluster address is masqueraded.
    #[arg(long)]
    pub cluster_cidr: Option<String>,
    #[arg(long)]
    pub healthz_bind_address: Option<String>,
    #[arg(long)]
    pub metrics_bind_address: Option<String>,
    /// Removes this program's tables, and ends.
    #[arg(long)]
    pub cleanup: bool,
    /// Accepted and without effect, as manifests of EKS give it.
    #[arg(long, short = 'v', hide = true)]
    pub v: Option<u32>,
}

pub async fn run(args: Args) -> Result<(), BoxError> {
    let nft = Nft::here();
    if args.cleanup {
        for family in [Family::Ip, Family::Ip6] {
            nft.delete_table(family, TABLE)?;
        }
        return Ok(());
    }
    transport::tls::install_provider();
    let config = configuration(&args)?;
    let (healthz, metrics) = (config.healthz()?, config.metrics()?);
    let mut options = vec![config.options(Family::Ip)?];
    if std::path::Path::new("/proc/sys/net/ipv6").exists() {
        options.push(config.options(Family::Ip6)?);
    }
    let node = node_name(&config)?;
    let client = client(&args, &config).await?;
    let scope = Scope::new();
    let clock = Clock::system();
    let health = Arc::new(Health::new(clock));
    serve(healthz, metrics, &health, &scope)?;
    info!(node, "starting in mode nftables");

    let updates = watch::start(client, node.clone(), &scope);
    let proxier = Proxier::new(nft, Here { node, zone: None }, options);
    let ports = HealthPorts::new(health.clone(), scope.clone());
    let looped = Loop { proxier, health, ports, clock, lists: (false, false) };
    let running = scope.spawn("proxier", looped.run(updates));
    wait_for_signal().await?;
    drop(running);
    // The rules stay: connections go on while a new version starts.
    scope.drain(Duration::from_secs(2)).await;
    Ok(())
}

/// The file with the flags over it.
fn configuration(args: &Args) -> Result<Configuration, BoxError> {
    let mut config = match &args.config {
        Some(path) => Configuration::read(path)?,
        None => Configuration::default(),
    };
    let set = |field: &mut String, flag: &Option<String>| {
        if let Some(value) = flag {
            field.clone_from(value);
        }
    };
    set(&mut config.hostname_override, &args.hostname_override);
    set(&mut config.cluster_cidr, &args.cluster_cidr);
    set(&mut config.healthz_bind_address, &args.healthz_bind_address);
    set(&mut config.metrics_bind_address, &args.metrics_bind_address);
    Ok(config)
}

fn node_name(config: &Configuration) -> Result<String, BoxError> {
    if !config.hostname_override.is_empty() {
        return Ok(config.hostname_override.to_lowercase());
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    Ok(name.trim().to_lowercase())
}

async fn client(args: &Args, config: &Configuration) -> Result<Client, BoxError> {
    let given = args.kubeconfig.clone().or_else(|| {
        let path = &config.client_connection.kubeconfig;
        (!path.is_empty()).then(|| PathBuf::from(path))
    });
    let config = match given {
        Some(path) => {
            let kubeconfig = kube::config::Kubeconfig::read_from(path)?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?
        }
        None => Config::infer().await?,
    };
    Ok(Client::try_from(config)?)
}

fn serve(
    healthz: SocketAddr,
    metrics: SocketAddr,
    health: &Arc<Health>,
    scope: &Scope,
) -> Result<(), BoxError> {
    let shared = health.clone();
    let service = service_fn(move |request| health::healthz(request, shared.clone()));
    let listener = Place::Here.listen(healthz)?;
    drop(scope.spawn("healthz", transport::serve(listener, None, service, scope.clone())));
    let shared = health.clone();
    let service = service_fn(move |request| health::metrics(request, shared.clone()));
    let listener = Place::Here.listen(metrics)?;
    drop(scope.spawn("metrics", transport::serve(listener, None, service, scope.clone())));
    Ok(())
}

struct Loop {
    proxier: Proxier,
    health: Arc<Health>,
    ports: HealthPorts,
    clock: Clock,
    /// Whether the first lists of Services and of slices are complete.
    lists: (bool, bool),
}

impl Loop {
    /// Takes what arrived, all of it, and applies it in one pass.
    async fn run(mut self, mut updates: mpsc::Receiver<Update>) {
        let mut batch = Vec::new();
        let mut is_behind = false;
        loop {
            let limit = if is_behind { RETRY } else { Duration::from_secs(3600) };
            if let Ok(0) = timeout(limit, updates.recv_many(&mut batch, MAX_BATCH)).await {
                return;
            }
            batch.drain(..).for_each(|update| self.take(update));
            if self.lists == (true, true) {
                is_behind = !self.sync().await;
            }
        }
    }

    fn take(&mut self, update: Update) {
        match update {
            Update::Service(name, ports) => self.proxier.set_service(&name, ports),
            Update::Slice { service, name, slice } => {
                self.proxier.set_slice(&service, &name, slice);
            }
            Update::Services(present) => {
                self.proxier.retain_services(&present);
                self.health.metrics.services.store(present.len() as u64, Ordering::Relaxed);
                self.lists.0 = true;
            }
            Update::Slices(present) => {
                self.proxier.retain_slices(&present);
                self.lists.1 = true;
            }
            Update::Node { zone, is_deleted } => {
                self.proxier.set_zone(zone);
                self.health.set_eligible(!is_deleted);
            }
        }
    }

    /// Whether the kernel holds what is wanted.
    async fn sync(&mut self) -> bool {
        let started = Instant::now();
        let mut pass = self.proxier.plan();
        if let Err(error) = pass.apply(self.proxier.nft()).await {
            warn!(error = %telemetry::chain(&error), "the kernel refused a pass");
            self.health.metrics.failures.fetch_add(1, Ordering::Relaxed);
            self.health.set_synced(false);
            self.proxier.distrust();
            return false;
        }
        let took = started.elapsed();
        debug!(services = pass.services, is_whole = pass.is_whole, ?took, "synced");
        self.health.metrics.synced(took, self.clock.now());
        self.health.set_synced(true);
        conntrack::delete(std::mem::take(&mut pass.stale)).await;
        self.ports.update(self.proxier.local_counts());
        true
    }
}

async fn wait_for_signal() -> Result<(), BoxError> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}
