//! `nodestead up`: a region with a cluster and nodes, as a customer of AWS would make them.
//!
//! It starts the daemon and then calls AWS operations at its endpoint: roles, cluster, node group.
//! Each step looks for what is there first, so a second `up` changes nothing and one that was
//! interrupted goes on.

mod aws;
mod launch;
mod machine;

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};

pub(crate) use self::launch::{READY, free_port};
use self::machine::Machine;
use crate::{
    admin::{Admin, DaemonStatus},
    cli,
    commands::down,
    failure::Failure,
    layout::{Etcd, Layout, Settings},
    progress::Progress,
};

const AWS_PORT: u16 = 4566;
const API_PORT: u16 = 6443;

pub(crate) async fn run(args: cli::Up) -> anyhow::Result<()> {
    Machine::observe().verdict()?;
    let layout = Layout::new(&args.at.data_dir)?;
    fs::create_dir_all(layout.root())
        .with_context(|| format!("cannot make `{}`", layout.root().display()))?;
    let lock = lock(&layout)?;
    let settings = settings(&layout, &args)?;
    if args.foreground {
        launch::install_binaries(&layout)?;
        drop(lock);
        return crate::daemon::run(args.at).await;
    }
    let mut progress = Progress::new(5);
    progress.step("starting the region");
    let admin = Admin::new(layout.admin_socket());
    if admin.get::<DaemonStatus>("/v1/status").await.is_err() {
        // One that was killed a moment ago may not be gone yet.
        if let Some(daemon) = down::daemon(&layout) {
            daemon.signal(nix::sys::signal::Signal::SIGKILL)?;
            daemon.wait(Duration::from_secs(5));
        }
        launch::install_binaries(&layout)?;
        launch::daemon(&layout)?;
    }
    let status: DaemonStatus = admin.get("/v1/status").await?;
    let region = aws::Customer::new(&status, &settings);
    progress.step("roles");
    let roles = region.ensure_roles().await?;
    progress.step(format!("cluster {}: control plane and add-ons", settings.name));
    region.ensure_cluster(&roles, &progress).await?;
    link_kubeconfig(&layout, &settings.name)?;
    progress.step(format!("node group: {} × {}", settings.nodes, settings.instance_type));
    region.ensure_nodes(&layout, &roles, &progress).await?;
    progress.done();
    drop(lock);
    report(&layout, &settings, &status);
    Ok(())
}

fn report(layout: &Layout, settings: &Settings, status: &DaemonStatus) {
    let name = layout.root().display();
    println!(
        "{} is up: {} nodes, AWS endpoint {}\n\nGo on with:\n  eval \"$(nodestead env --data-dir {name})\"\n  \
         kubectl get nodes -o wide\n  nodestead status --data-dir {name}",
        settings.name, settings.nodes, status.aws_endpoint
    );
}

/// One `up` or `down` at a time for a data directory.
pub(crate) fn lock(layout: &Layout) -> anyhow::Result<Flock<fs::File>> {
    let file = fs::File::create(layout.lock())?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
        anyhow::Error::new(Failure::new(
            format!("another `up` or `down` works on `{}` ({errno})", layout.root().display()),
            "wait for it to end",
        ))
    })
}

/// What the region is to be: as it was brought up, or as the flags say.
fn settings(layout: &Layout, args: &cli::Up) -> anyhow::Result<Settings> {
    if let Some(mut known) = Settings::load(layout)? {
        refuse_changes(&known, args)?;
        if let Some(nodes) = args.nodes {
            known.nodes = nodes;
            known.save(layout)?;
        }
        return Ok(known);
    }
    let instance_type = args.instance_type.clone().unwrap_or_else(|| "m5.large".to_owned());
    if instance_types::find(&instance_type).is_none() {
        bail!(Failure::usage(
            format!("there is no instance type `{instance_type}`"),
            "see `aws ec2 describe-instance-types` of a region that is up, or use m5.large",
        ));
    }
    let settings = Settings {
        name: args.name.clone().unwrap_or_else(|| "stead".to_owned()),
        nodes: args.nodes.unwrap_or(3),
        instance_type,
        aws_port: free_port(args.aws_port, AWS_PORT)?,
        api_port: free_port(args.api_port, API_PORT)?,
        egress: args.egress,
        latency: args.latency.map(Into::into).unwrap_or_default(),
        etcd: etcd(args)?,
    };
    settings.save(layout)?;
    Ok(settings)
}

/// Where clusters' state shall be: paths are kept whole, as the daemon works elsewhere.
fn etcd(args: &cli::Up) -> anyhow::Result<Option<Etcd>> {
    if args.etcd_endpoints.is_empty() {
        return Ok(None);
    }
    let whole = |path: &Option<PathBuf>| path.as_ref().map(std::path::absolute).transpose();
    Ok(Some(Etcd {
        endpoints: args.etcd_endpoints.clone(),
        ca_file: whole(&args.etcd_cafile)?,
        cert_file: whole(&args.etcd_certfile)?,
        key_file: whole(&args.etcd_keyfile)?,
        prefix: format!("/nodestead/{}", entropy::uuid()),
    }))
}

fn refuse_changes(known: &Settings, args: &cli::Up) -> anyhow::Result<()> {
    let differs = [
        ("--name", args.name.as_ref().is_some_and(|it| *it != known.name)),
        (
            "--instance-type",
            args.instance_type.as_ref().is_some_and(|it| *it != known.instance_type),
        ),
        ("--aws-port", args.aws_port.is_some_and(|it| it != known.aws_port)),
        ("--api-port", args.api_port.is_some_and(|it| it != known.api_port)),
        ("--latency", args.latency.is_some_and(|it| known.latency != it.into())),
        ("--etcd-endpoints", {
            let known = known.etcd.as_ref().map(|it| &it.endpoints);
            !args.etcd_endpoints.is_empty() && known != Some(&args.etcd_endpoints)
        }),
        ("--egress", args.egress && !known.egress),
    ];
    match differs.iter().find(|(_, differs)| *differs) {
        None => Ok(()),
        Some((flag, _)) => bail!(Failure::usage(
            format!("the region is there already, with another {flag}"),
            "take it down first (`nodestead down --purge`), or use another --data-dir",
        )),
    }
}

/// `DIR/kubeconfig` is the cluster's.
fn link_kubeconfig(layout: &Layout, cluster: &str) -> anyhow::Result<()> {
    let target = layout.clusters().join(cluster).join("kubeconfig");
    let text = fs::read(&target).with_context(|| format!("no `{}`", target.display()))?;
    crate::layout::write_atomically(&layout.kubeconfig(), &text)?;
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(layout.kubeconfig(), fs::Permissions::from_mode(0o600))?;
    Ok(())
}

/// How long a step of AWS may take before `up` gives up on it.
pub(crate) const STEP_LIMIT: Duration = Duration::from_secs(180);
