//! Does what repairs of nodes ask for.

use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tracing::info;

use super::{
    super::{
        drain::{self, Progress},
        records::Nodegroup,
        resources,
    },
    nodes::GroupNode,
    repair::Repair,
};
use crate::{Eks, reconcile::PassError};

pub(crate) async fn apply(
    eks: &Eks,
    group: &Nodegroup,
    client: &Client,
    nodes: &[GroupNode],
    repair: Repair,
) -> Result<(), PassError> {
    let name = &group.name;
    match repair {
        Repair::Remember(book) => Ok(eks.note_nodegroup(group, |it| it.repairs = book)?),
        Repair::Replace { instance, why } => {
            info!(nodegroup = name, instance, why, "replacing a node that is not well");
            // On its way out the instance is drained as any other.
            resources::terminate(eks, &instance).await
        }
        Repair::Reboot { instance, why } => {
            if !why.is_empty() {
                info!(nodegroup = name, instance, why, "rebooting a node that is not well");
            }
            reboot(eks, group, client, &instance).await
        }
        Repair::Welcome { instance } => {
            info!(nodegroup = name, instance, "a reboot has helped");
            match nodes.iter().find(|it| it.instance == instance) {
                Some(node) => Ok(uncordon(client, &node.name()).await?),
                None => Ok(()),
            }
        }
    }
}

/// The instance is told once nothing is left on it that would be missed, or time is up.
async fn reboot(
    eks: &Eks,
    group: &Nodegroup,
    client: &Client,
    instance: &str,
) -> Result<(), PassError> {
    let now = eks.now();
    let since = group.repairs.reboots.get(instance).map_or(now, |it| it.since);
    let progress = drain::step(client, instance, since, now, drain::Manner::Evict).await?;
    if progress == Progress::Draining {
        return Ok(());
    }
    resources::reboot(eks, instance).await?;
    Ok(eks.note_nodegroup(group, |it| {
        if let Some(reboot) = it.repairs.reboots.get_mut(instance) {
            reboot.told_at = Some(now);
        }
    })?)
}

async fn uncordon(client: &Client, node: &str) -> Result<(), kube::Error> {
    let patch = json!({"spec": {"unschedulable": null}});
    let nodes = Api::<k8s_openapi::api::core::v1::Node>::all(client.clone());
    match nodes.patch(node, &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        result => result.map(drop),
    }
}
