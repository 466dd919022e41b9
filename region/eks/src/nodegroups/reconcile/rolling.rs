//! Does the steps of a version update.

use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tracing::info;

use super::{
    super::{
        drain::{self, Progress},
        records::{Issue, Nodegroup, Scaling, State},
        resources,
        rollout::{Left, Phase, Rollout},
        template,
    },
    nodes::{GroupNode, RETIRED_LABEL},
    plan::Observed,
    roll::{NOT_EVICTED, Roll},
};
use crate::{Eks, reconcile::PassError};

/// Does one step; the issue says why the update can never succeed.
pub(crate) async fn apply(
    eks: &Eks,
    group: &Nodegroup,
    client: &Client,
    nodes: &[GroupNode],
    roll: Roll,
) -> Result<Option<Issue>, PassError> {
    match roll {
        Roll::SetUp { before, now } => return set_up(eks, group, before, now).await,
        Roll::Resize(sizes) => {
            let Scaling { min, max, desired } = sizes;
            resources::resize(eks, group, min, max, desired).await?;
            change(eks, group, |it| it.asked = sizes)?;
        }
        Roll::Enter(phase) => {
            info!(nodegroup = group.name, ?phase, "version update");
            enter(eks, group, phase)?;
        }
        Roll::Retire(instances) => {
            for node in nodes.iter().filter(|it| instances.contains(&it.instance)) {
                retire(client, &node.name()).await?;
            }
        }
        Roll::Empty { instance } => empty(eks, group, client, &instance).await?,
        Roll::Terminate { instance } => {
            info!(nodegroup = group.name, instance, "terminating an old node");
            resources::terminate(eks, &instance).await?;
            let now = eks.now();
            change(eks, group, |it| it.moved_at = now)?;
        }
        Roll::Finish => finish(eks, group)?,
    }
    Ok(None)
}

fn change(
    eks: &Eks,
    group: &Nodegroup,
    change: impl FnOnce(&mut Rollout),
) -> Result<(), PassError> {
    Ok(eks.change_nodegroup(group, |it| {
        if let Some(rollout) = &mut it.rollout {
            change(rollout);
        }
    })?)
}

fn enter(eks: &Eks, group: &Nodegroup, phase: Phase) -> Result<(), PassError> {
    let now = eks.now();
    change(eks, group, |it| {
        it.phase = phase;
        it.moved_at = now;
    })
}

async fn set_up(
    eks: &Eks,
    group: &Nodegroup,
    before: Scaling,
    now: Scaling,
) -> Result<Option<Issue>, PassError> {
    let Some(rollout) = &group.rollout else { return Ok(None) };
    let cluster = eks.find(&group.cluster)?;
    let target = rollout.target.applied_to(group);
    let data = match template::own(eks, &cluster, &target) {
        Ok(data) => data,
        Err(issue) => return Ok(Some(issue)),
    };
    let version = resources::ensure_template_version(eks, &target, data).await?;
    resources::launch_from(eks, &target, version).await?;
    change(eks, group, |it| {
        it.template_version = Some(version);
        (it.before, it.asked) = (before, now);
    })?;
    eks.note_nodegroup(group, |it| it.template_version = Some(version))?;
    enter(eks, group, Phase::ScaleUp)?;
    Ok(None)
}

/// Load balancers leave it, and the scheduler too.
async fn retire(client: &Client, node: &str) -> Result<(), kube::Error> {
    let patch = json!({
        "metadata": { "labels": { RETIRED_LABEL: "true" } },
        "spec": { "unschedulable": true },
    });
    let nodes = Api::<k8s_openapi::api::core::v1::Node>::all(client.clone());
    match nodes.patch(node, &PatchParams::default(), &Patch::Merge(patch)).await {
        // It went on its own.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        result => result.map(drop),
    }
}

async fn empty(
    eks: &Eks,
    group: &Nodegroup,
    client: &Client,
    instance: &str,
) -> Result<(), PassError> {
    let Some(rollout) = &group.rollout else { return Ok(()) };
    let now = eks.now();
    let since = rollout.emptying.get(instance).copied();
    if since.is_none() {
        change(eks, group, |it| {
            it.emptying.insert(instance.to_owned(), now);
        })?;
    }
    let manner = drain::Manner::of(rollout.force);
    // Nobody drains what does not run; the controllers of its pods see to them.
    if resources::is_running(eks, instance).await? {
        let since = since.unwrap_or(now);
        if drain::step(client, instance, since, now, manner).await? == Progress::Draining {
            return Ok(());
        }
    }
    change(eks, group, |it| {
        it.emptied.insert(instance.to_owned(), now);
    })
}

fn finish(eks: &Eks, group: &Nodegroup) -> Result<(), PassError> {
    info!(nodegroup = group.name, "version update has succeeded");
    let update = group.update_id.clone();
    eks.conclude_nodegroup(group, |it| {
        if let Some(rollout) = it.rollout.take() {
            *it = rollout.target.applied_to(it);
        }
        it.state = State::Active;
        it.issues.clear();
        (it.update_id, it.left) = (None, None);
    })?;
    match update {
        Some(update) => Ok(eks.finish_update(&group.cluster, &update, Vec::new(), Vec::new())?),
        None => Ok(()),
    }
}

/// Ends an update that cannot go on: what there is of new and old nodes stays. Pods that would not go
/// are nothing that is wrong with the group.
pub(crate) fn fail(group: &mut Nodegroup, issue: Issue, observed: &Observed) {
    let Some(rollout) = group.rollout.take() else { return };
    let has_begun = rollout.template_version.is_some();
    let sizes = observed.sizes.filter(|_| has_begun);
    group.left = sizes.map(|sizes| Left { before: rollout.before, sizes });
    if issue.code == NOT_EVICTED {
        group.state = State::Active;
        group.issues.clear();
    } else {
        group.state = State::Degraded;
        group.issues = vec![issue];
    }
    group.update_id = None;
}
