//! Brings the world in line with the clusters' records: level-triggered, one pass after each change.
//!
//! Each cluster has a task of its own, so that one that hangs holds up no other.
//! A pass over a cluster begins with what EC2 and the control plane have, so a pass that was cut off
//! is simply made again. What fails is logged, shown as the cluster's health, and tried again.

mod network;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use aws_wire::{CallError, Fault};
use lifecycle::Scope;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::{
    Eks,
    addons::{self, ManifestError},
    fargate, nodegroups,
    records::{Addon, Cluster, Status},
    service::{ControlPlane, ControlPlaneError, ControlPlanes},
};

/// How long a failed pass is waited for before the next, when nothing else changes.
const RETRY: Duration = Duration::from_secs(2);

/// How long what is in a cluster may take: an API server that hangs must not keep the cluster from
/// being deleted.
const WORKLOADS: Duration = Duration::from_secs(120);

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
    pub(crate) scope: Scope,
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
    Addon(#[from] ManifestError),
    #[error("failed to use the cluster's API")]
    Kubernetes(#[from] kube::Error),
    #[error("all public addresses of endpoints are in use")]
    NoPublicAddress,
    #[error("the API server of cluster `{cluster}` does not answer in time")]
    Late { cluster: String },
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
    let mut tasks = BTreeMap::new();
    loop {
        changes.mark_unchanged();
        let clusters = context.eks.clusters();
        // A cluster leaves the store in the last step of its deletion.
        tasks.retain(|name: &String, task: &mut JoinHandle<_>| {
            let is_there = clusters.iter().any(|it| it.name == *name);
            if !is_there {
                task.abort();
            }
            is_there
        });
        for cluster in clusters {
            tasks.entry(cluster.name.clone()).or_insert_with_key(|name| {
                context.scope.spawn("cluster", follow(context.clone(), name.clone()))
            });
        }
        if changes.changed().await.is_err() {
            break;
        }
    }
    for task in tasks.into_values() {
        task.abort();
    }
    groups.abort();
}

/// Passes over one cluster, until it is aborted.
async fn follow(context: Context, name: String) {
    let mut changes = context.eks.0.store.subscribe();
    loop {
        changes.mark_unchanged();
        let wait = match context.eks.cluster(&name) {
            Some(cluster) => pass(&context, &cluster).await,
            None => None,
        };
        let changed = changes.changed();
        let is_over = match wait {
            None => changed.await.is_err(),
            Some(wait) => matches!(tokio::time::timeout(wait, changed).await, Ok(Err(_))),
        };
        if is_over {
            return;
        }
    }
}

/// One pass over one cluster; how long to wait for the next if nothing changes, `None`: for ever.
async fn pass(context: &Context, cluster: &Cluster) -> Option<Duration> {
    let result = match cluster.status {
        Status::Deleting => delete(context, cluster).await.map(|()| None),
        _ => bring_up(context, cluster).await,
    };
    match result {
        Ok(next) => {
            show_issue(&context.eks, &cluster.name, None);
            next
        }
        Err(error) => {
            let text = telemetry::chain(&error).to_string();
            warn!(
                cluster = cluster.name,
                error = text,
                "a pass over a cluster failed; it is tried again"
            );
            show_issue(&context.eks, &cluster.name, Some(text));
            Some(RETRY)
        }
    }
}

/// What keeps the cluster from being as it should, as its health. Written only when it changes: a
/// write is followed by another pass.
fn show_issue(eks: &Eks, name: &str, message: Option<String>) {
    let issues: Vec<_> = message.into_iter().map(|it| ("InternalFailure".to_owned(), it)).collect();
    if eks.cluster(name).is_none_or(|it| it.issues == issues) {
        return;
    }
    if let Err(fault) = eks.change_cluster(name, |it| it.issues = issues) {
        warn!(cluster = name, %fault, "failed to write a cluster's health");
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
    let workloads = tokio::time::timeout(WORKLOADS, reconcile_workloads(context, &cluster, &plane));
    workloads.await.map_err(|_| PassError::Late { cluster: cluster.name.clone() })??;
    Ok(None)
}

async fn reconcile_workloads(
    context: &Context,
    cluster: &Cluster,
    plane: &ControlPlane,
) -> Result<(), PassError> {
    // Neither holds up the other.
    let profiles = fargate::reconcile::pass(&context.eks, cluster, plane).await;
    reconcile_addons(context, cluster, plane).await?;
    profiles
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
    let waiting =
        fargate::pending::run(plane.client.clone(), context.eks.0.config.clock, scope.child());
    drop(scope.spawn("pods that wait for Fargate", waiting));
    let running = Running { plane: plane.clone(), scope };
    context.eks.0.planes.lock().insert(cluster.name.clone(), plane.client.clone());
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
            // Whether it runs is seen by who follows its workload.
            Status::Creating | Status::Updating if addon.applied_at.is_some() => {}
            Status::Creating | Status::Updating => {
                match addons::apply(&plane.client, &inner.config.region, cluster, &addon).await {
                    Err(ManifestError::Conflicts(fields)) => {
                        note_conflicts(&context.eks, &addon, &fields)?;
                    }
                    result => {
                        result?;
                        note_applied(&context.eks, &addon)?;
                    }
                }
            }
            Status::Deleting => {
                if !addon.preserve {
                    addons::remove(&plane.client, &inner.config.region, cluster, &addon).await?;
                }
                forget_addon(&context.eks, &addon)?;
            }
            Status::Active
            | Status::Degraded
            | Status::Failed
            | Status::CreateFailed
            | Status::UpdateFailed => {}
        }
    }
    Ok(())
}

/// Unless there is another one of the name by now, or it is to go in another way.
fn forget_addon(eks: &Eks, removed: &Addon) -> Result<(), Fault> {
    eks.0.store.transaction(|transaction| {
        let key = addons::key(removed);
        let current = transaction.get(&eks.0.addons, &key);
        let is_it = |it: &Addon| {
            it.id == removed.id && it.status == Status::Deleting && it.preserve == removed.preserve
        };
        if current.is_some_and(|it| is_it(&it)) {
            transaction.delete(&eks.0.addons, &key);
        }
        Ok(())
    })
}

/// Unless it was changed in the meantime: then it is applied again.
fn note_applied(eks: &Eks, applied: &Addon) -> Result<(), Fault> {
    let now = eks.now();
    eks.0.store.transaction(|transaction| {
        transaction.update(&eks.0.addons, &addons::key(applied), |it| {
            if it == applied {
                it.applied_at = Some(now);
                it.applied_configuration = applied.configuration.clone();
                it.applied_role.clone_from(&it.role_arn);
            }
        });
        Ok(())
    })
}

/// Nothing was applied: the add-on fails until it is asked for in another way.
fn note_conflicts(eks: &Eks, failed: &Addon, fields: &[String]) -> Result<(), Fault> {
    let message = format!(
        "Conflicts found when trying to apply. Will not continue due to resolve conflicts mode. \
         Conflicts:\n{}",
        fields.join("\n")
    );
    let issues = vec![("ConfigurationConflict".to_owned(), message)];
    eks.0.store.transaction(|transaction| {
        let key = addons::key(failed);
        if transaction.get(&eks.0.addons, &key).is_none_or(|it| *it != *failed) {
            return Ok(());
        }
        let mut addon = failed.clone();
        if let Some(update) = addon.update_id.take() {
            eks.end_update(transaction, &addon.cluster, &update, issues.clone(), Vec::new());
        }
        addon.status = match addon.status {
            Status::Creating => Status::CreateFailed,
            _ => Status::UpdateFailed,
        };
        addon.issues = issues;
        transaction.put(&eks.0.addons, key, addon);
        Ok(())
    })
}

async fn delete(context: &Context, cluster: &Cluster) -> Result<(), PassError> {
    if let Some(running) = context.running.lock().remove(&cluster.name) {
        running.scope.cancel();
    }
    context.eks.0.planes.lock().remove(&cluster.name);
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
        for (key, _) in inner.associations.under(&prefix) {
            transaction.delete(&inner.associations, &key);
        }
        transaction.delete(&inner.clusters, &cluster.name);
        Ok::<_, Fault>(())
    })?;
    info!(cluster = cluster.name, "cluster is deleted");
    Ok(())
}
