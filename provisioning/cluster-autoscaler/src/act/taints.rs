//! The two taints, put on and taken off with the node's resource version as a condition.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::Actor;
use crate::node::{self, CANDIDATE, TO_BE_DELETED};

impl Actor {
    /// Nobody shall schedule there any more.
    pub(super) async fn mark(&self, name: &str) -> Result<(), kube::Error> {
        let (now, cordon) = (self.clock.now(), self.options.scale_down.cordon);
        change(&self.client, name, |it| {
            let taints = with(it, TO_BE_DELETED, "NoSchedule", now)?;
            Some(patch(it, taints, cordon.then_some(true)))
        })
        .await
    }

    /// Takes back what [`Self::mark`] did.
    pub(super) async fn unmark(&self, name: &str) -> Result<(), kube::Error> {
        let cordon = self.options.scale_down.cordon;
        change(&self.client, name, |it| {
            let taints = without(it, &[TO_BE_DELETED])?;
            Some(patch(it, taints, cordon.then_some(false)))
        })
        .await
    }

    /// Taints what is not needed, so that pods go elsewhere, and untaints the rest; a few in a pass.
    pub(crate) async fn mark_candidates(&self, unneeded: &BTreeMap<String, Timestamp>) {
        let now = self.clock.now();
        let mut left = self.options.scale_down.max_soft_taints;
        for it in self.nodes.all() {
            let (name, has) = (node::name(&it), node::has_taint(&it, CANDIDATE));
            let wants = unneeded.contains_key(name);
            if wants == has || left == 0 || node::has_taint(&it, TO_BE_DELETED) {
                continue;
            }
            left -= 1;
            let changed = change(&self.client, name, |it| {
                let taints = match wants {
                    true => with(it, CANDIDATE, "PreferNoSchedule", now)?,
                    false => without(it, &[CANDIDATE])?,
                };
                Some(patch(it, taints, None))
            });
            if let Err(error) = changed.await {
                tracing::warn!(node = name, error = %telemetry::chain(&error), "cannot soft taint");
            }
        }
    }

    /// Takes off what an autoscaler before this one left.
    pub(crate) async fn clean_up(&self) {
        for it in self.nodes.all() {
            let name = node::name(&it).to_owned();
            let was_marked = node::has_taint(&it, TO_BE_DELETED);
            if !was_marked && !node::has_taint(&it, CANDIDATE) {
                continue;
            }
            let cordon = self.options.scale_down.cordon && was_marked;
            let changed = change(&self.client, &name, |it| {
                let taints = without(it, &[TO_BE_DELETED, CANDIDATE])?;
                Some(patch(it, taints, cordon.then_some(false)))
            });
            match changed.await {
                Ok(()) if was_marked => {
                    self.recorder.normal(
                        &*it,
                        "ClusterAutoscalerCleanup",
                        "marked the node as schedulable",
                    );
                }
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(node = name, error = %telemetry::chain(&error), "cannot clean taints");
                }
            }
        }
    }
}

fn with(it: &Node, key: &str, effect: &str, now: Timestamp) -> Option<Vec<Taint>> {
    if node::has_taint(it, key) {
        return None;
    }
    let mut taints = node::taints(it).to_vec();
    taints.push(Taint {
        key: key.to_owned(),
        value: Some(now.as_second().to_string()),
        effect: effect.to_owned(),
        time_added: None,
    });
    Some(taints)
}

fn without(it: &Node, keys: &[&str]) -> Option<Vec<Taint>> {
    let taints = node::taints(it);
    let kept: Vec<_> =
        taints.iter().filter(|it| !keys.contains(&it.key.as_str())).cloned().collect();
    (kept.len() < taints.len()).then_some(kept)
}

fn patch(it: &Node, taints: Vec<Taint>, unschedulable: Option<bool>) -> serde_json::Value {
    let mut spec = json!({ "taints": taints });
    if let Some(unschedulable) = unschedulable {
        spec["unschedulable"] = unschedulable.into();
    }
    json!({ "metadata": { "resourceVersion": it.metadata.resource_version }, "spec": spec })
}

/// Reads the node, decides, writes; again where somebody was faster.
async fn change(
    client: &Client,
    name: &str,
    plan: impl Fn(&Node) -> Option<serde_json::Value>,
) -> Result<(), kube::Error> {
    const ATTEMPTS: u32 = 5;
    let api = Api::<Node>::all(client.clone());
    let mut attempt = 1;
    loop {
        let Some(found) = api.get_opt(name).await? else { return Ok(()) };
        let Some(patch) = plan(&found) else { return Ok(()) };
        let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        match patched {
            Err(kube::Error::Api(status)) if status.is_conflict() && attempt < ATTEMPTS => {
                attempt += 1;
            }
            other => return other.map(drop),
        }
    }
}
