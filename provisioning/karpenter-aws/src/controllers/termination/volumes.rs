//! Volumes that are still attached to a node whose pods are gone: the instance ends when they are not.
//!
//! Whoever ends an instance with a volume that is being written to may lose what was written, and the
//! pod that the volume belongs to waits for minutes elsewhere. Volumes of pods that stay until the end
//! hold up nothing, and nothing is waited for when the claim's grace period is over. Upstream:
//! `awaitVolumeDetachment` of `pkg/controllers/node/termination`.

use std::collections::BTreeSet;

use api_kube::karpenter::NodeClaim;
use controller::Key;
use k8s_openapi::api::core::v1 as core;
use tracing::debug;

use super::{deadline, has_to_go};
use crate::controllers::Context;

/// What is known of a node's volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Volumes {
    Detached,
    Attached,
    /// They are attached, and the grace period is over.
    Overdue,
}

impl Context {
    pub(super) fn volumes_of(&self, claim: &NodeClaim, node: &core::Node) -> Volumes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let attached = self.attachments.all();
        let on_node = attached.iter().filter(|it| it.spec.node_name == name);
        let volumes: Vec<Option<&str>> =
            on_node.map(|it| it.spec.source.persistent_volume_name.as_deref()).collect();
        if volumes.is_empty() {
            return Volumes::Detached;
        }
        let kept = self.kept_volumes(name);
        let is_kept = |it: &Option<&str>| it.is_some_and(|it| kept.contains(it));
        let now = self.clock.now();
        match volumes.iter().all(is_kept) {
            true => Volumes::Detached,
            false if deadline(claim).is_some_and(|it| it <= now) => Volumes::Overdue,
            false => Volumes::Attached,
        }
    }

    /// The attachments that a node has, by name.
    pub(super) fn attachments_of(&self, node: &core::Node) -> Vec<String> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let all = self.attachments.all().into_iter().filter(|it| it.spec.node_name == name);
        all.filter_map(|it| it.metadata.name.clone()).collect()
    }

    /// The volumes of pods that stay on a node.
    fn kept_volumes(&self, node: &str) -> BTreeSet<String> {
        let now = self.clock.now();
        let pods = self.pods.all().into_iter();
        let staying = pods.filter(|it| {
            let of = it.spec.as_ref().and_then(|it| it.node_name.as_deref());
            of == Some(node) && !has_to_go(it, now)
        });
        let mut kept = BTreeSet::new();
        for pod in staying {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let volumes = pod.spec.as_ref().and_then(|it| it.volumes.as_deref());
            for volume in volumes.unwrap_or_default() {
                let claim = match &volume.persistent_volume_claim {
                    Some(it) => it.claim_name.clone(),
                    None if volume.ephemeral.is_some() => format!("{name}-{}", volume.name),
                    None => continue,
                };
                let claim = self.volume_claims.get(&Key::new(namespace, &claim));
                kept.extend(claim.and_then(|it| it.spec.as_ref()?.volume_name.clone()));
            }
        }
        kept
    }

    /// Says how far the draining has come. Whoever has a claim that is not the newest says it in the
    /// next pass.
    pub(super) async fn note_drain(&self, claim: &NodeClaim, volumes: Option<Volumes>) {
        if let Err(error) = self.say(claim, &drained(volumes), |_| {}).await {
            debug!(claim = claim.name(), error = %telemetry::chain(&error), "not noted yet");
        }
    }
}

/// A condition of a claim: kind, status, reason, message.
type Said = (&'static str, Option<bool>, &'static str, &'static str);

/// How far the draining has come; `None`: there are pods.
pub(super) fn drained(volumes: Option<Volumes>) -> Vec<Said> {
    let kind = "VolumesDetached";
    let drained = match volumes {
        None => ("Drained", None, "Draining", ""),
        Some(_) => ("Drained", Some(true), "Drained", ""),
    };
    let detached = volumes.map(|it| match it {
        Volumes::Detached => (kind, Some(true), kind, ""),
        Volumes::Attached => (kind, None, "AwaitingVolumeDetachment", ""),
        Volumes::Overdue => (kind, Some(false), "TerminationGracePeriodElapsed", ""),
    });
    [drained].into_iter().chain(detached).collect()
}
