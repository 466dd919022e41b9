//! The daemon: a whole region and its control planes in one process.
//!
//! This is the one place where components meet; everything else knows protocols only. It can be
//! killed at any line: what runs is found again, what was acknowledged is in its stores.

mod admin;
mod associations;
mod cluster_role;
mod consoles;
mod control_plane;
mod driver;
mod endpoints;
mod environment;
mod fargate;
mod files;
mod front;
mod issuers;
mod limits;
mod load_balancers;
mod mappings;
mod metadata;
mod pause;
mod pod_identity;
mod region;
mod serving;
mod signing_keys;
pub(crate) mod snapshots;
mod software;
mod system_images;
mod world;

use std::{
    fs,
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use clock::Clock;
use lifecycle::Scope;
use linux_process::Identity;
use region_eks::IssuerService;
use region_gateway::Side;
use region_host::Hosts;
use tokio::signal::unix::{SignalKind, signal};
use transport::Place;

use self::{
    admin::{Admin, AdminService},
    consoles::Consoles,
    control_plane::Planes,
    driver::{Driver, Machine},
    endpoints::Endpoints,
    front::Front,
    load_balancers::LoadBalancers,
    metadata::RegionMetadata,
    region::Region,
    world::Names,
};
use crate::{
    cli::At,
    layout::{Layout, Settings, write_atomically},
};

const DRAIN_LIMIT: Duration = Duration::from_secs(1);

pub(crate) async fn run(at: At) -> anyhow::Result<()> {
    telemetry::init("info");
    raise_open_files();
    let layout = Layout::new(&at.data_dir)?;
    let settings = Settings::load(&layout)?.context("no settings: start it with `nodestead up`")?;
    let own = serde_json::to_vec(&Identity::own())?;
    write_atomically(&layout.daemon_state(), &own)?;
    let scope = Scope::new();
    let clock = Clock::system();
    let daemon = start(&layout, &settings, clock, &scope).await?;
    // Whoever started it may have been interrupted, and listen no more.
    let mut listening = std::io::stdout();
    drop(writeln!(listening, "{}", crate::commands::up::READY).and_then(|()| listening.flush()));
    tracing::info!(endpoint = daemon.endpoint, "the region is up");
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    tracing::info!("the daemon ends; instances run on");
    scope.drain(DRAIN_LIMIT).await;
    Ok(())
}

/// As many as the machine's administrator lets it have: all of the region's connections are this
/// process's, and what one listener may hold is a part of it.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files was not raised");
    }
}

struct Daemon {
    endpoint: String,
}

async fn start(
    layout: &Layout,
    settings: &Settings,
    clock: Clock,
    scope: &Scope,
) -> anyhow::Result<Daemon> {
    fs::create_dir_all(layout.pki())?;
    let ca = region::authority(&layout.pki())?;
    let region = Region::open(layout, settings, clock, scope)?;
    region.ec2.abandon_pending_snapshots().map_err(|it| anyhow::anyhow!("EC2: {it}"))?;
    let cleaning = snapshots::keep_clean(layout.snapshots(), region.ec2.clone());
    drop(scope.spawn("snapshots", cleaning));
    let ami = prepare_software(layout, &region, ca.certificate_pem()).await?;
    let hosts = Hosts::new(&layout.instances())?;
    let names = Names::new(layout, settings);
    let metadata = RegionMetadata::new(&region);
    let endpoints = Endpoints::new(&region, metadata, &ca, clock, scope.child())?;
    let consoles = Consoles::new(layout);
    let load_balancers = LoadBalancers::new(region.load_balancing.clone(), names.clone());
    let place = Machine {
        hosts: hosts.clone(),
        names: names.clone(),
        ami,
        endpoints,
        consoles,
        load_balancers,
    };
    let driver = Driver::new(&region, place, clock, scope.child());
    let endpoint = listen(settings, &region, scope)?;
    serve_admin(layout, &region, hosts, names.clone(), &endpoint, clock, scope)?;
    drop(scope.spawn("driver", driver.clone().run()));
    let load_balancing =
        region_elasticloadbalancing::ElasticLoadBalancing::clone(&region.load_balancing);
    drop(scope.spawn("Elastic Load Balancing", load_balancing.run()));
    let changes = region.ec2.changes();
    let autoscaling = region_autoscaling::AutoScaling::clone(&region.autoscaling);
    drop(scope.spawn("Auto Scaling", autoscaling.run(changes)));
    let planes = Planes::new(
        layout.clone(),
        region.clone(),
        driver,
        names.clone(),
        settings,
        clock,
        scope.child(),
    );
    let context = region_eks::reconcile::Context::new(region.eks, Arc::new(planes), scope.child());
    drop(scope.spawn("EKS", region_eks::reconcile::run(context)));
    Ok(Daemon { endpoint })
}

/// The AMI's root file system and the add-ons' images; gives the AMI's folder.
async fn prepare_software(
    layout: &Layout,
    region: &Region,
    ca_pem: &str,
) -> anyhow::Result<PathBuf> {
    let (layout, ecr, pem) = (layout.clone(), region.ecr.clone(), ca_pem.to_owned());
    tokio::task::spawn_blocking(move || {
        let ami = software::ami(&layout, &pem)?;
        software::images(&layout, &ecr, &pem)?;
        Ok(ami)
    })
    .await?
}

/// The AWS endpoint for the machine's users.
fn listen(settings: &Settings, region: &Region, scope: &Scope) -> anyhow::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, settings.aws_port));
    let listener = Place::Here
        .listen(address)
        .with_context(|| format!("the AWS endpoint cannot listen on {address}"))?;
    let gateway = region.gateway.service(Side::Host);
    let registry = region.ecr.registry(Side::Host);
    let issuers = IssuerService::new(region.eks.clone());
    let front =
        Front::new(gateway, registry, issuers, region.channels.clone(), region.latency.call);
    let serving = transport::serve(listener, None, front, scope.child());
    drop(scope.spawn("AWS endpoint", serving));
    Ok(format!("http://{address}"))
}

fn serve_admin(
    layout: &Layout,
    region: &Region,
    hosts: Hosts,
    names: Names,
    endpoint: &str,
    clock: Clock,
    scope: &Scope,
) -> anyhow::Result<()> {
    let admin = Admin {
        clock,
        layout: layout.clone(),
        region: region.clone(),
        hosts,
        names,
        aws_endpoint: endpoint.to_owned(),
        limits: limits::of_this_machine(),
    };
    let socket = layout.admin_socket();
    let listener = transport::unix_listen(&socket)
        .with_context(|| format!("cannot listen on `{}`", socket.display()))?;
    let serving = transport::serve_unix(listener, AdminService(Arc::new(admin)), scope.child());
    drop(scope.spawn("admin", serving));
    Ok(())
}
