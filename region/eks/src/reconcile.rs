//! Brings the world in line with the clusters' records: level-triggered, one pass after each change.
//!
//! A pass over a cluster begins with what EC2 and the control plane have, so a pass that was cut off
//! is simply made again. What fails is logged, shown as the cluster's health, and tried again.

mod network;

use std::{collections::HashMap, sync::Arc, time::Duration};

use aws_wire::{CallError, Fault};
use lifecycle::Scope;
use parking_lot::Mutex;
use tracing::{info, warn};

use crate::{
    Eks, addons, nodegroups,
    records::{Addon, Cluster, Status},
    service::{ControlPlane, ControlPlaneError, ControlPlanes},
};

/// How long a failed pass is waited for before the next, when nothing else changes.
const RETRY: Duration = Duration::from_secs(2);

/// What a pass works with.
#[derive(Clone)]
pub struct Context {
    pub eks: Eks,
    pub control_planes: Arc<dyn ControlPlanes>,
    pub scope: Scope,
    running: Arc<Mutex<HashMap<String, Running>>>,
}

/// A control plane that this process has made sure of.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) plane: ControlPlane,
    /// What follows the cluster's workloads and nodes.
    scope: Scope,
}

/// Why a pass did not get to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PassError {
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("a call failed")]
    Call(#[from] CallError),
    #[error(transparent)]
    ControlPlane(#[from] ControlPlaneError),
    #[error("failed to apply an add-on")]
    Addon(#[from] addons::ManifestError),
    #[error("failed to use the cluster's API")]
    Kubernetes(#[from] kube::Error),
    #[error("EC2 answered without {what}")]
    Incomplete { what: &'static str },
}

impl Context {
    pub fn new(eks: Eks, control_planes: Arc<dyn ControlPlanes>, scope: Scope) -> Self {
        Self { eks, control_planes, scope, running: Arc::default() }
    }

    pub(crate) fn running(&self, cluster: &str) -> Option<Running> {
        self.running.lock().get(cluster).cloned()
    }

    /// EKS's own client of a cluster whose control plane runs.
    pub fn kubernetes(&self, cluster: &str) -> Option<kube::Client> {
        self.running(cluster).map(|it| it.plane.client)
    }
}

/// Runs passes until the scope is cancelled.
pub async fn run(context: Context) {
    let mut changes = context.eks.0.store.subscribe();
    let groups = context.scope.spawn("node groups", nodegroups::reconcile::run(context.clone()));
    loop {
        changes.mark_unchanged();
        let mut wait = None;
        for cluster in context.eks.clusters() {
            let next = pass(&context, &cluster).await;
            wait = [wait, next].into_iter().flatten().min();
        }
        let changed = changes.changed();
        match wait {
            None => match changed.await {
                Ok(()) => {}
                Err(_) => break,
            },
            Some(wait) => drop(tokio::time::timeout(wait, changed).await),
        }
    }
    groups.abort();
}

/// One pass over one cluster; how long to wait for the next if nothing changes, `None`: for ever.
async fn pass(context: &Context, cluster: &Cluster) -> Option<Duration> {
    let result = match cluster.status {
        Status::Deleting => delete(context, cluster).await.map(|()| None),
        _ => bring_up(context, cluster).await,
    };
    match result {
        Ok(next) => next,
        Err(error) => {
            warn!(
                cluster = cluster.name,
                error = %telemetry::chain(&error),
                "a pass over a cluster failed; it is tried again"
            );
            Some(RETRY)
        }
    }
}

async fn bring_up(context: &Context, cluster: &Cluster) -> Result<Option<Duration>, PassError> {
    let cluster = network::ensure(&context.eks, cluster).await?;
    if let Some(rest) = rest_of_creation(&context.eks, &cluster) {
        return Ok(Some(rest));
    }
    let plane = ensure_control_plane(context, &cluster).await?;
    if cluster.status == Status::Creating {
        context.eks.change_cluster(&cluster.name, |it| {
            it.status = Status::Active;
            it.certificate_authority_pem = Some(plane.certificate_authority_pem.clone());
            it.host_endpoint = Some(plane.host_endpoint.clone());
        })?;
        info!(cluster = cluster.name, "cluster is active");
    } else if cluster.host_endpoint.as_ref() != Some(&plane.host_endpoint) {
        context.eks.change_cluster(&cluster.name, |it| {
            it.host_endpoint = Some(plane.host_endpoint.clone());
        })?;
    }
    reconcile_addons(context, &cluster, &plane).await?;
    Ok(None)
}

/// A new control plane answers nobody before its time.
fn rest_of_creation(eks: &Eks, cluster: &Cluster) -> Option<Duration> {
    let passed = eks.now().duration_since(cluster.created_at);
    let rest = latency::rest(eks.0.config.latency.cluster, passed);
    rest.filter(|_| cluster.status == Status::Creating)
}

async fn ensure_control_plane(
    context: &Context,
    cluster: &Cluster,
) -> Result<ControlPlane, PassError> {
    if let Some(running) = context.running(&cluster.name) {
        return Ok(running.plane);
    }
    let plane = context.control_planes.ensure(cluster).await?;
    let scope = context.scope.child();
    let health =
        addons::watch_health(context.eks.clone(), cluster.name.clone(), plane.client.clone());
    drop(scope.spawn("add-on health", health));
    let running = Running { plane: plane.clone(), scope };
    context.running.lock().insert(cluster.name.clone(), running);
    Ok(plane)
}

async fn reconcile_addons(
    context: &Context,
    cluster: &Cluster,
    plane: &ControlPlane,
) -> Result<(), PassError> {
    let inner = &context.eks.0;
    for (_, addon) in inner.addons.under(&format!("{}/", cluster.name)) {
        match addon.status {
            Status::Creating | Status::Updating => {
                addons::apply(&plane.client, &inner.config.region, cluster, &addon).await?;
                finish_addon(&context.eks, &addon)?;
            }
            Status::Deleting => {
                if !addon.preserve {
                    addons::remove(&plane.client, &inner.config.region, cluster, &addon).await?;
                }
                inner.store.transaction(|transaction| {
                    transaction.delete(&inner.addons, &addons::key(&addon));
                    Ok::<_, Fault>(())
                })?;
            }
            Status::Active | Status::Degraded | Status::Failed => {}
        }
    }
    Ok(())
}

fn finish_addon(eks: &Eks, addon: &Addon) -> Result<(), Fault> {
    let mut done = addon.clone();
    done.status = Status::Active;
    if let Some(update) = done.update_id.take() {
        eks.finish_update(&addon.cluster, &update, Vec::new())?;
    }
    eks.save_addon(done)
}

async fn delete(context: &Context, cluster: &Cluster) -> Result<(), PassError> {
    if let Some(running) = context.running.lock().remove(&cluster.name) {
        running.scope.cancel();
    }
    context.control_planes.remove(cluster).await?;
    network::remove(&context.eks, cluster).await?;
    let inner = &context.eks.0;
    let prefix = format!("{}/", cluster.name);
    inner.store.transaction(|transaction| {
        for (key, _) in inner.entries.under(&prefix) {
            transaction.delete(&inner.entries, &key);
        }
        for (key, _) in inner.addons.under(&prefix) {
            transaction.delete(&inner.addons, &key);
        }
        for (key, _) in inner.updates.under(&prefix) {
            transaction.delete(&inner.updates, &key);
        }
        transaction.delete(&inner.clusters, &cluster.name);
        Ok::<_, Fault>(())
    })?;
    info!(cluster = cluster.name, "cluster is deleted");
    Ok(())
}
