//! Whether an add-on's workload runs, as its status says.

use futures::{StreamExt, stream};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use kube::{
    Api, Client, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};

use crate::{
    Eks,
    records::{Addon, Status},
};

/// The workload of an add-on, reduced to what its health depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Workload {
    DaemonSet { wanted: i32, ready: i32 },
    Deployment { wanted: i32, available: i32 },
}

/// Follows the add-ons' workloads and writes their health down, until the watch is dropped.
pub(crate) async fn watch_health(eks: Eks, cluster: String, client: Client) {
    let config = watcher::Config::default();
    let sets = Api::<DaemonSet>::namespaced(client.clone(), "kube-system");
    let sets = watcher(sets, config.clone()).default_backoff().applied_objects();
    let deployments = Api::<Deployment>::namespaced(client, "kube-system");
    let deployments = watcher(deployments, config).default_backoff().applied_objects();
    let sets = sets.filter_map(async |it| it.ok().map(|it| of_set(&it))).boxed();
    let deployments =
        deployments.filter_map(async |it| it.ok().map(|it| of_deployment(&it))).boxed();
    let mut all = stream::select(sets, deployments);
    while let Some((name, workload)) = all.next().await {
        let Some(addon) = addon_of(&name) else { continue };
        note(&eks, &cluster, addon, &workload);
    }
}

fn of_set(set: &DaemonSet) -> (String, Workload) {
    let status = set.status.clone().unwrap_or_default();
    let wanted = status.desired_number_scheduled;
    (set.name_any(), Workload::DaemonSet { wanted, ready: status.number_ready })
}

fn of_deployment(deployment: &Deployment) -> (String, Workload) {
    let wanted = deployment.spec.as_ref().and_then(|it| it.replicas).unwrap_or(1);
    let status = deployment.status.as_ref();
    let available = status.and_then(|it| it.available_replicas).unwrap_or(0);
    (deployment.name_any(), Workload::Deployment { wanted, available })
}

fn addon_of(workload: &str) -> Option<&'static str> {
    match workload {
        "aws-node" => Some("vpc-cni"),
        "kube-proxy" => Some("kube-proxy"),
        "coredns" => Some("coredns"),
        _ => None,
    }
}

fn note(eks: &Eks, cluster: &str, name: &str, workload: &Workload) {
    let key = super::key_of(cluster, name);
    let Some(addon) = eks.0.addons.get(&key) else { return };
    let Some((status, issues)) = verdict(&addon, workload) else { return };
    if status == addon.status && issues == addon.issues {
        return;
    }
    let mut addon = Addon::clone(&addon);
    addon.status = status;
    addon.issues = issues;
    if let Err(fault) = eks.save_addon(addon) {
        tracing::warn!(%fault, addon = name, "failed to write an add-on's health");
    }
}

/// Status and issues; `None` while another part of the life cycle decides.
fn verdict(addon: &Addon, workload: &Workload) -> Option<(Status, Vec<(String, String)>)> {
    if !matches!(addon.status, Status::Active | Status::Degraded) {
        return None;
    }
    match *workload {
        // A node that is joining has its DaemonSet pods soon: EKS gives no issue for them.
        Workload::DaemonSet { .. } => Some((Status::Active, Vec::new())),
        Workload::Deployment { wanted, available } if available < wanted.min(1) => {
            let message = "The add-on is unhealthy because it doesn't have the desired number of \
                           replicas.";
            let issue = ("InsufficientNumberOfReplicas".to_owned(), message.to_owned());
            Some((Status::Degraded, vec![issue]))
        }
        Workload::Deployment { .. } => Some((Status::Active, Vec::new())),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn addon(status: Status) -> Addon {
        Addon {
            cluster: "c".into(),
            name: "coredns".into(),
            version: "v1".into(),
            status,
            id: "1".into(),
            created_at: Timestamp::UNIX_EPOCH,
            modified_at: Timestamp::UNIX_EPOCH,
            role_arn: None,
            configuration: None,
            tags: Default::default(),
            issues: Vec::new(),
            preserve: false,
            update_id: None,
        }
    }

    #[test]
    fn a_deployment_without_a_replica_degrades_its_addon() {
        let none = Workload::Deployment { wanted: 2, available: 0 };
        assert_eq!(verdict(&addon(Status::Active), &none).unwrap().0, Status::Degraded);
        let one = Workload::Deployment { wanted: 2, available: 1 };
        assert_eq!(verdict(&addon(Status::Degraded), &one).unwrap().0, Status::Active);
    }

    #[test]
    fn an_addon_on_its_way_is_left_to_the_reconciler() {
        let one = Workload::Deployment { wanted: 2, available: 2 };
        assert_eq!(verdict(&addon(Status::Creating), &one), None);
        assert_eq!(verdict(&addon(Status::Deleting), &one), None);
    }
}
