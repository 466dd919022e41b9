//! Instances that leave the group, held by the hook on which EKS drains them: for good, or back into the
//! warm pool.

use aws_autoscaling::lifecycle_hook::{CompleteLifecycleAction, CompleteLifecycleActionRequest};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Preconditions},
};
use tracing::info;

use super::super::{
    drain::{self, Progress},
    records::Nodegroup,
    resources::{self, TERMINATE_HOOK},
    warm_pool,
};
use crate::{Eks, reconcile::PassError};

pub(super) async fn drain(
    eks: &Eks,
    group: &Nodegroup,
    client: &kube::Client,
    instance: &str,
) -> Result<(), PassError> {
    match empty(eks, group, client, instance).await? {
        Progress::Draining => Ok(()),
        Progress::Done => let_go(eks, group, instance).await,
    }
}

/// The node goes, and comes back with the instance. One that is not stopped in the pool is rebooted: its
/// kubelet begins anew once the instance is in service again.
pub(super) async fn give_back(
    eks: &Eks,
    group: &Nodegroup,
    client: &kube::Client,
    instance: &str,
) -> Result<(), PassError> {
    if empty(eks, group, client, instance).await? == Progress::Draining {
        return Ok(());
    }
    let nodes = Api::<Node>::all(client.clone());
    let all = nodes.list(&ListParams::default()).await?;
    if let Some(node) = all.items.into_iter().find(|it| drain::is_of(it, instance)) {
        let name = node.name_any();
        info!(node = name, instance, "a node returns to its group's warm pool");
        if !warm_pool::stops(group.warm_pool.as_ref()) {
            resources::reboot(eks, instance).await?;
        }
        let uid = node.metadata.uid.clone();
        let preconditions = uid.map(|it| Preconditions { uid: Some(it), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        match nodes.delete(&name, &params).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            result => drop(result?),
        }
    }
    let_go(eks, group, instance).await
}

async fn empty(
    eks: &Eks,
    group: &Nodegroup,
    client: &kube::Client,
    instance: &str,
) -> Result<Progress, PassError> {
    let now = eks.now();
    let since = group.draining.get(instance).copied();
    if since.is_none() {
        eks.change_nodegroup(group, |it| {
            it.draining.insert(instance.to_owned(), now);
        })?;
    }
    // Nobody drains what does not run; the controllers of its pods see to them.
    if !resources::is_running(eks, instance).await? {
        return Ok(Progress::Done);
    }
    let since = since.unwrap_or(now);
    Ok(drain::step(client, instance, since, now, drain::Manner::Evict).await?)
}

/// Completes the hook's action: the instance goes on its way.
async fn let_go(eks: &Eks, group: &Nodegroup, instance: &str) -> Result<(), PassError> {
    let request = CompleteLifecycleActionRequest {
        lifecycle_hook_name: TERMINATE_HOOK.to_owned(),
        auto_scaling_group_name: group.auto_scaling_group(),
        lifecycle_action_result: "CONTINUE".to_owned(),
        instance_id: Some(instance.to_owned()),
        ..Default::default()
    };
    match eks.0.config.client.call::<CompleteLifecycleAction>(request).await {
        // The action is over already: an earlier pass completed it, or its time was up.
        Err(error) if error.is("ValidationError") => {}
        result => {
            result?;
        }
    }
    Ok(eks.change_nodegroup(group, |it| {
        it.draining.remove(instance);
    })?)
}
