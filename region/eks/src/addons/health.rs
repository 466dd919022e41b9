//! Whether an add-on's workload runs, as its status says.
//!
//! An add-on that was applied is `ACTIVE` when all of its pods are the new ones and ready, and
//! `DEGRADED` when they are not in time. Later, a Deployment without any replica degrades its
//! add-on at once; a DaemonSet only when it lacks pods for a while, as a node that joins has none
//! for some seconds.

use std::{collections::BTreeMap, time::Duration};

use aws_wire::Fault;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use kube::{
    Api, Client, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};

use crate::{
    Eks,
    records::{Addon, Status},
};

/// How long the workload of an add-on that was applied may take: EKS gives up then too.
const ROLLOUT: Duration = Duration::from_secs(20 * 60);
/// How long a DaemonSet may lack pods.
const GRACE: Duration = Duration::from_secs(5 * 60);

/// The workload of an add-on, reduced to what its health depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Workload {
    is_daemon_set: bool,
    wanted: i32,
    /// Ready ones of a DaemonSet, available ones of a Deployment.
    ready: i32,
    updated: i32,
    /// The numbers are of the newest specification.
    is_observed: bool,
}

impl Workload {
    fn is_whole(&self) -> bool {
        self.is_observed && self.ready >= self.wanted && self.updated >= self.wanted
    }
}

/// What was last seen of a workload.
struct Seen {
    workload: Workload,
    lacking_since: Option<Timestamp>,
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
    let mut changes = eks.0.store.subscribe();
    let mut seen: BTreeMap<&'static str, Seen> = BTreeMap::new();
    loop {
        changes.mark_unchanged();
        let waits = seen.iter().filter_map(|(name, it)| note(&eks, &cluster, name, it));
        let wait: Option<Duration> = waits.min();
        let due = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            next = all.next() => match next {
                Some((name, workload)) => see(&mut seen, &name, workload, eks.now()),
                None => return,
            },
            changed = changes.changed() => if changed.is_err() { return },
            () = due => {}
        }
    }
}

fn see(seen: &mut BTreeMap<&'static str, Seen>, name: &str, workload: Workload, now: Timestamp) {
    let Some(addon) = addon_of(name) else { return };
    let known = seen.get(addon).and_then(|it| it.lacking_since);
    let lacking_since = (workload.ready < workload.wanted).then(|| known.unwrap_or(now));
    seen.insert(addon, Seen { workload, lacking_since });
}

fn of_set(set: &DaemonSet) -> (String, Workload) {
    let status = set.status.clone().unwrap_or_default();
    let workload = Workload {
        is_daemon_set: true,
        wanted: status.desired_number_scheduled,
        ready: status.number_ready,
        updated: status.updated_number_scheduled.unwrap_or(0),
        is_observed: status.observed_generation >= set.metadata.generation,
    };
    (set.name_any(), workload)
}

fn of_deployment(deployment: &Deployment) -> (String, Workload) {
    let status = deployment.status.clone().unwrap_or_default();
    let workload = Workload {
        is_daemon_set: false,
        wanted: deployment.spec.as_ref().and_then(|it| it.replicas).unwrap_or(1),
        ready: status.available_replicas.unwrap_or(0),
        updated: status.updated_replicas.unwrap_or(0),
        is_observed: status.observed_generation >= deployment.metadata.generation,
    };
    (deployment.name_any(), workload)
}

fn addon_of(workload: &str) -> Option<&'static str> {
    match workload {
        "aws-node" => Some("vpc-cni"),
        "kube-proxy" => Some("kube-proxy"),
        "coredns" => Some("coredns"),
        "eks-pod-identity-agent" => Some("eks-pod-identity-agent"),
        _ => None,
    }
}

/// Writes the health down. Says how long it stays if nothing changes; `None`: for ever.
fn note(eks: &Eks, cluster: &str, name: &str, seen: &Seen) -> Option<Duration> {
    let addon = eks.0.addons.get(&super::key_of(cluster, name))?;
    let (status, issues) = match verdict(&addon, seen, eks.now()) {
        Verdict::Is(status) => (status, Vec::new()),
        Verdict::Lacks => (Status::Degraded, vec![lack()]),
        Verdict::StaysFor(rest) => return rest,
    };
    if status == addon.status && issues == addon.issues {
        return None;
    }
    if let Err(fault) = write(eks, &addon, status, issues) {
        tracing::warn!(%fault, addon = name, "failed to write an add-on's health");
    }
    None
}

/// An update ends with the first verdict on it.
fn write(
    eks: &Eks,
    addon: &Addon,
    status: Status,
    issues: Vec<(String, String)>,
) -> Result<(), Fault> {
    eks.0.store.transaction(|transaction| {
        let key = super::key(addon);
        // What was told it meanwhile is not undone: there is a verdict on that later.
        if transaction.get(&eks.0.addons, &key).is_none_or(|it| *it != *addon) {
            return Ok(());
        }
        let mut addon = Addon::clone(addon);
        if let Some(update) = addon.update_id.take() {
            eks.end_update(transaction, &addon.cluster, &update, issues.clone(), Vec::new());
        }
        addon.status = status;
        addon.issues = issues;
        transaction.put(&eks.0.addons, key, addon);
        Ok(())
    })
}

fn lack() -> (String, String) {
    let message = "The add-on is unhealthy because it doesn't have the desired number of replicas.";
    ("InsufficientNumberOfReplicas".to_owned(), message.to_owned())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Is(Status),
    Lacks,
    /// As it is, for this long; `None`: another part of the life cycle decides, or the workload.
    StaysFor(Option<Duration>),
}

fn verdict(addon: &Addon, seen: &Seen, now: Timestamp) -> Verdict {
    let workload = &seen.workload;
    let rest = |since: Option<Timestamp>, limit: Duration| {
        let passed = now.duration_since(since.unwrap_or(now));
        limit.checked_sub(passed.unsigned_abs()).filter(|it| !it.is_zero())
    };
    let (is_fine, rest) = match (addon.status, addon.applied_at) {
        (Status::Creating | Status::Updating, Some(at)) => {
            (workload.is_whole(), rest(Some(at), ROLLOUT))
        }
        (Status::Active | Status::Degraded, _) if workload.is_daemon_set => {
            (seen.lacking_since.is_none(), rest(seen.lacking_since, GRACE))
        }
        (Status::Active | Status::Degraded, _) => (workload.ready >= workload.wanted.min(1), None),
        _ => return Verdict::StaysFor(None),
    };
    match (is_fine, rest) {
        (true, _) => Verdict::Is(Status::Active),
        (false, Some(rest)) => Verdict::StaysFor(Some(rest)),
        (false, None) => Verdict::Lacks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    fn addon(status: Status, applied_at: Option<Timestamp>) -> Addon {
        Addon {
            cluster: "c".into(),
            name: "coredns".into(),
            version: "v1".into(),
            status,
            id: "1".into(),
            created_at: START,
            modified_at: START,
            role_arn: None,
            applied_role: None,
            configuration: None,
            tags: Default::default(),
            issues: Vec::new(),
            preserve: false,
            update_id: None,
            applied_at,
            applied_configuration: None,
            is_bootstrapped: false,
            resolve_conflicts: Default::default(),
            asked: None,
        }
    }

    fn seen(is_daemon_set: bool, wanted: i32, ready: i32) -> Seen {
        let workload =
            Workload { is_daemon_set, wanted, ready, updated: wanted, is_observed: true };
        Seen { workload, lacking_since: (ready < wanted).then_some(START) }
    }

    #[test]
    fn a_deployment_without_a_replica_degrades_its_addon() {
        let active = addon(Status::Active, None);
        assert_eq!(verdict(&active, &seen(false, 2, 0), START), Verdict::Lacks);
        let degraded = addon(Status::Degraded, None);
        let one = seen(false, 2, 1);
        assert_eq!(verdict(&degraded, &one, START), Verdict::Is(Status::Active));
    }

    #[test]
    fn a_daemon_set_degrades_its_addon_when_it_lacks_pods_for_long() {
        let active = addon(Status::Active, None);
        let lacking = seen(true, 3, 2);
        let soon = START + GRACE / 2;
        assert_eq!(verdict(&active, &lacking, soon), Verdict::StaysFor(Some(GRACE / 2)));
        assert_eq!(verdict(&active, &lacking, START + GRACE), Verdict::Lacks);
        let whole = seen(true, 3, 3);
        assert_eq!(verdict(&active, &whole, START + GRACE), Verdict::Is(Status::Active));
    }

    #[test]
    fn an_addon_is_active_only_once_its_workload_runs() {
        let applied = addon(Status::Creating, Some(START));
        let wait = Verdict::StaysFor(Some(ROLLOUT));
        assert_eq!(verdict(&applied, &seen(false, 2, 1), START), wait);
        // Numbers of an older specification, or of older pods, say nothing.
        let mut old = seen(false, 2, 2);
        old.workload.is_observed = false;
        assert_eq!(verdict(&applied, &old, START), wait);
        let mut old = seen(true, 2, 2);
        old.workload.updated = 1;
        assert_eq!(verdict(&applied, &old, START), wait);
        let whole = seen(false, 2, 2);
        assert_eq!(verdict(&applied, &whole, START), Verdict::Is(Status::Active));
        assert_eq!(verdict(&applied, &seen(false, 2, 1), START + ROLLOUT), Verdict::Lacks);
    }

    #[test]
    fn an_addon_on_its_way_is_left_to_the_reconciler() {
        let whole = seen(false, 2, 2);
        for status in [Status::Creating, Status::Updating, Status::Deleting] {
            assert_eq!(verdict(&addon(status, None), &whole, START), Verdict::StaysFor(None));
        }
    }

    #[test]
    fn pods_are_lacking_since_the_first_of_them() {
        let mut found = BTreeMap::new();
        let later = START + GRACE;
        see(&mut found, "aws-node", seen(true, 3, 2).workload, START);
        see(&mut found, "aws-node", seen(true, 3, 1).workload, later);
        assert_eq!(found["vpc-cni"].lacking_since, Some(START));
        see(&mut found, "aws-node", seen(true, 3, 3).workload, later);
        assert_eq!(found["vpc-cni"].lacking_since, None);
    }
}
