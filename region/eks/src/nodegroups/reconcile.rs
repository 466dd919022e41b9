//! Brings node groups in line with their records: level-triggered, one pass after each change in
//! the region or in the cluster's nodes.
//!
//! A pass observes (Auto Scaling group, nodes), plans ([`plan`], pure) and applies one plan. What is
//! cut off is made again by the next pass.

mod failing;
mod leaving;
mod nodes;
mod plan;
pub(crate) mod repair;
mod repairing;
mod roll;
mod rolling;
mod surroundings;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_wire::Fault;
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher},
};
use tokio::{sync::watch, task::JoinHandle};
use tracing::{info, warn};

use self::{
    nodes::GroupNode,
    plan::{Limits, Observed, Step},
    surroundings::Surroundings,
};
use super::{
    aws_auth, key,
    records::{Issue, Nodegroup, State},
    remote_access,
    resources::{self, FIRST_VERSION},
    template, warm_pool,
};
use crate::{
    Eks,
    reconcile::{Context, PassError},
};

/// How soon an unfinished pass is followed by another when nothing changes.
const RETRY: Duration = Duration::from_secs(2);

/// What a group stands on is looked at no more often: passes come with each change in the region.
const LOOKED: SignedDuration = SignedDuration::from_secs(5);

/// How long a pass may take: an API server that hangs is one that does not answer.
const PASS: Duration = Duration::from_secs(60);

/// What is remembered between passes over a group. Whoever begins anew has lost nothing by it.
#[derive(Default)]
struct Memory {
    /// Since when passes fail.
    failing: Option<Timestamp>,
    /// When the surroundings were looked at, and what was found.
    looked: Option<(Timestamp, Surroundings)>,
}

/// Runs passes until it is dropped: over each group in a task of its own, so that one that hangs holds
/// up no other.
pub(crate) async fn run(context: Context) {
    let mut changes = context.eks.0.store.subscribe();
    let woken = Arc::new(watch::Sender::new(()));
    let mut watched = BTreeMap::new();
    let mut tasks = Tasks::default();
    loop {
        changes.mark_unchanged();
        let groups = context.eks.0.nodegroups.list();
        tasks.0.retain(|id, task| {
            let is_there = groups.iter().any(|it| it.id == *id);
            if !is_there {
                task.abort();
            }
            is_there
        });
        let mut is_waiting = false;
        for group in groups {
            is_waiting |= !follow_nodes(&context, &group.cluster, &woken, &mut watched);
            tasks.0.entry(group.id.clone()).or_insert_with(|| {
                let following = follow(context.clone(), key(&group), woken.subscribe());
                context.scope.spawn("node group", following)
            });
        }
        let changed = changes.changed();
        let is_over = match is_waiting {
            false => changed.await.is_err(),
            true => matches!(tokio::time::timeout(RETRY, changed).await, Ok(Err(_))),
        };
        if is_over {
            return;
        }
    }
}

/// The groups' tasks, by the groups' ids; they end with it.
#[derive(Default)]
struct Tasks(BTreeMap<String, JoinHandle<Option<()>>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.values().for_each(JoinHandle::abort);
    }
}

/// Passes over one group, until it is aborted.
async fn follow(context: Context, key: String, mut nodes: watch::Receiver<()>) {
    let mut changes = context.eks.0.store.subscribe();
    let mut memory = Memory::default();
    loop {
        changes.mark_unchanged();
        nodes.mark_unchanged();
        let wait = match context.eks.0.nodegroups.get(&key) {
            Some(group) => pass(&context, &group, &mut memory).await,
            None => None,
        };
        let sleep = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            changed = nodes.changed() => if changed.is_err() { return },
            () = sleep => {}
        }
    }
}

/// Wakes the groups when a node of the cluster changes. Says whether somebody looks at its nodes.
fn follow_nodes(
    context: &Context,
    cluster: &str,
    woken: &Arc<watch::Sender<()>>,
    watched: &mut BTreeMap<String, JoinHandle<Option<()>>>,
) -> bool {
    watched.retain(|_, it| !it.is_finished());
    if watched.contains_key(cluster) {
        return true;
    }
    let Some(running) = context.running(cluster) else { return false };
    let nodes = Api::<Node>::all(running.plane.client.clone());
    let woken = woken.clone();
    let task = async move {
        let mut events = watcher(nodes, watcher::Config::default()).default_backoff().boxed();
        let mut ready = BTreeMap::new();
        while let Some(event) = events.next().await {
            if event.is_ok_and(|event| nodes::is_news(event, &mut ready)) {
                woken.send_replace(());
            }
        }
    };
    // It ends with the cluster: another one of the name has nodes of its own.
    let handle = running.scope.spawn("nodes of node groups", task);
    watched.insert(cluster.to_owned(), handle);
    true
}

/// One pass; how long to wait for the next if nothing changes, `None`: for ever.
async fn pass(context: &Context, group: &Nodegroup, memory: &mut Memory) -> Option<Duration> {
    let error = match tokio::time::timeout(PASS, try_pass(context, group, memory)).await {
        Ok(Ok(next)) => {
            memory.failing = None;
            return next;
        }
        Ok(Err(error)) => error,
        Err(_) => PassError::Late { cluster: group.cluster.clone() },
    };
    warn!(
        nodegroup = group.name,
        error = %telemetry::chain(&error),
        "a pass over a node group failed; it is tried again"
    );
    let now = context.eks.now();
    let since = *memory.failing.get_or_insert(now);
    if let Err(error) = note_failure(&context.eks, group, &error, since) {
        warn!(nodegroup = group.name, %error, "a failure is not written down");
    }
    Some(RETRY)
}

/// What failing passes mean for the group.
fn note_failure(
    eks: &Eks,
    group: &Nodegroup,
    error: &PassError,
    since: Timestamp,
) -> Result<(), PassError> {
    let passed = |at| Duration::try_from(eks.now().duration_since(at)).unwrap_or_default();
    let limit = eks.0.config.join_limit;
    let step = failing::plan(group, error, passed(since), passed(group.modified_at), limit);
    match step {
        Some(Step::Tell(issues)) => Ok(eks.note_nodegroup(group, |it| it.issues = issues)?),
        Some(Step::Degrade(issues)) => degrade(eks, group, issues),
        Some(Step::Fail(issue)) => fail(eks, group, &Observed::default(), issue),
        _ => Ok(()),
    }
}

async fn try_pass(
    context: &Context,
    group: &Nodegroup,
    memory: &mut Memory,
) -> Result<Option<Duration>, PassError> {
    let eks = &context.eks;
    // Whose control plane begins to run changes nothing in the store.
    let Some(running) = context.running(&group.cluster) else { return Ok(Some(RETRY)) };
    let auto_scaling_group = resources::auto_scaling_group(eks, group).await?;
    let instances = auto_scaling_group.iter().flat_map(|it| &it.instances);
    let instances = instances.filter_map(|it| it.instance_id.clone()).collect();
    let nodes = nodes::of_group(&running.plane.client, &group.name, &instances).await?;
    let config = &eks.0.config;
    let limits = Limits {
        creation: config.latency.nodegroup,
        join: config.join_limit,
        drained: config.latency.drained,
    };
    let mut observed = Observed::new(group, auto_scaling_group.as_ref(), &nodes);
    if let Some(found) = &auto_scaling_group {
        observed.returning = warm_pool::returning(eks, found).await?;
    }
    let mut until_next_look = None;
    if group.state != State::Deleting {
        let known = memory.looked.as_ref();
        let known = known.map(|(at, found)| (eks.now().duration_since(*at), found));
        // What was wrong a moment ago may be right by now.
        let known = known.filter(|(age, found)| *age < LOOKED && found.is_sound(group));
        observed.surroundings = Some(match known {
            Some((age, found)) => {
                until_next_look = Duration::try_from(LOOKED - age).ok();
                found.clone()
            }
            None => {
                let found = surroundings::observe(eks, group, auto_scaling_group.as_ref()).await?;
                memory.looked = Some((eks.now(), found.clone()));
                found
            }
        });
    }
    if observed.is_short() {
        observed.launch_failure = resources::launch_failure(eks, group).await?;
    }
    let plan = plan::plan(group, &observed, eks.now(), limits);
    let seen = Seen { client: &running.plane.client, nodes: &nodes, observed: &observed };
    for step in plan.steps {
        apply(context, group, &seen, step).await?;
    }
    nodes::label_and_taint(&running.plane.client, group, &nodes, &observed).await?;
    Ok([plan.wait, until_next_look].into_iter().flatten().min())
}

/// What a pass has found, and where.
struct Seen<'a> {
    client: &'a kube::Client,
    nodes: &'a [GroupNode],
    observed: &'a Observed,
}

async fn apply(
    context: &Context,
    group: &Nodegroup,
    seen: &Seen<'_>,
    step: Step,
) -> Result<(), PassError> {
    let eks = &context.eks;
    match step {
        Step::Create => match create(eks, group, seen.client).await? {
            None => Ok(()),
            Some(issue) => fail(eks, group, seen.observed, issue),
        },
        Step::Roll(roll) => {
            match rolling::apply(eks, group, seen.client, seen.nodes, roll).await? {
                None => Ok(()),
                Some(issue) => fail(eks, group, seen.observed, issue),
            }
        }
        Step::Resize { min, max, desired } => {
            resources::resize(eks, group, min, max, desired).await
        }
        Step::Drain { instance } => leaving::drain(eks, group, seen.client, &instance).await,
        Step::Return { instance } => leaving::give_back(eks, group, seen.client, &instance).await,
        Step::Activate => {
            info!(nodegroup = group.name, "node group is active");
            let update = group.update_id.clone();
            eks.conclude_nodegroup(group, |it| {
                it.state = State::Active;
                it.issues.clear();
                it.update_id = None;
                it.removed_labels.clear();
                it.removed_taints.clear();
            })?;
            match update {
                Some(update) => {
                    Ok(eks.finish_update(&group.cluster, &update, Vec::new(), Vec::new())?)
                }
                None => Ok(()),
            }
        }
        Step::Tell(issues) => Ok(eks.note_nodegroup(group, |it| it.issues = issues)?),
        Step::Degrade(issues) => degrade(eks, group, issues),
        Step::Follow(sizes) => Ok(eks.note_nodegroup(group, |it| {
            if it.state == group.state {
                it.scaling = sizes;
            }
        })?),
        Step::WarmPool(pool) => match warm_pool::apply(eks, group, pool).await? {
            None => Ok(()),
            Some(issue) => fail(eks, group, seen.observed, issue),
        },
        Step::Repair(repair) => repairing::apply(eks, group, seen.client, seen.nodes, repair).await,
        Step::Fail(issue) => fail(eks, group, seen.observed, issue),
        Step::Remove => remove(eks, group, seen.client).await,
    }
}

fn degrade(eks: &Eks, group: &Nodegroup, issues: Vec<Issue>) -> Result<(), PassError> {
    let codes: Vec<_> = issues.iter().map(|it| it.code.as_str()).collect();
    warn!(nodegroup = group.name, ?codes, "node group is degraded");
    Ok(eks.conclude_nodegroup(group, |it| {
        it.state = State::Degraded;
        it.issues = issues;
    })?)
}

fn fail(eks: &Eks, group: &Nodegroup, observed: &Observed, issue: Issue) -> Result<(), PassError> {
    warn!(nodegroup = group.name, code = issue.code, "node group failed");
    let errors = vec![(issue.code.clone(), issue.message.clone())];
    if let Some(update) = &group.update_id {
        eks.finish_update(&group.cluster, update, errors, issue.resources.clone())?;
    }
    if group.rollout.is_some() && group.state == State::Updating {
        return Ok(eks.conclude_nodegroup(group, |it| rolling::fail(it, issue, observed))?);
    }
    let state = match group.state {
        State::Creating => State::CreateFailed,
        State::Deleting => State::DeleteFailed,
        _ => State::Degraded,
    };
    Ok(eks.conclude_nodegroup(group, |it| {
        it.state = state;
        it.issues = vec![issue];
        it.update_id = None;
    })?)
}

/// Makes what the group is made of; the issue says why it can never be.
async fn create(
    eks: &Eks,
    group: &Nodegroup,
    client: &kube::Client,
) -> Result<Option<Issue>, PassError> {
    let cluster = eks.find(&group.cluster)?;
    if cluster.authentication_mode != "API" {
        aws_auth::ensure(client, &group.node_role).await?;
    }
    if cluster.authentication_mode != "CONFIG_MAP" {
        eks.ensure_node_entry(&group.cluster, &group.node_role)?;
    }
    let mut group = group.clone();
    group.remote_access_security_group = remote_access::ensure(eks, &cluster, &group).await?;
    if let Some(made) = group.remote_access_security_group.clone() {
        eks.note_nodegroup(&group, |it| it.remote_access_security_group = Some(made))?;
    }
    let group = &group;
    let data = match template::own(eks, &cluster, group) {
        Ok(data) => data,
        Err(issue) => return Ok(Some(issue)),
    };
    resources::ensure_profile(eks, group).await?;
    resources::ensure_template(eks, group, data).await?;
    resources::create_auto_scaling_group(eks, group).await?;
    eks.note_nodegroup(group, |it| it.template_version = Some(FIRST_VERSION))?;
    Ok(None)
}

async fn remove(eks: &Eks, group: &Nodegroup, client: &kube::Client) -> Result<(), PassError> {
    resources::remove(eks, group).await?;
    remote_access::remove(eks, group).await?;
    let all = eks.0.nodegroups.under(&format!("{}/", group.cluster));
    let is_shared =
        all.iter().any(|(_, it)| it.name != group.name && it.node_role == group.node_role);
    if !is_shared {
        if eks.reads_config_map(&group.cluster) {
            aws_auth::remove(client, &group.node_role).await?;
        }
        eks.delete_entry(&group.cluster, &group.node_role)?;
    }
    eks.0.store.transaction(|transaction| {
        transaction.delete(&eks.0.nodegroups, &key(group));
        Ok::<_, Fault>(())
    })?;
    info!(nodegroup = group.name, "node group is deleted");
    Ok(())
}
