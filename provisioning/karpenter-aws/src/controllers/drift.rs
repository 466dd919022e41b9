//! What disruption needs to know of each NodeClaim: whether it has drifted from its class, and when a
//! pod last came to its node or left it.
//!
//! Whether it has drifted from its NodePool is told where nodes are chosen. Upstream:
//! `pkg/cloudprovider/drift.go` of aws/karpenter-provider-aws, `pkg/controllers/nodeclaim/podevents`.
//! Deviation: subnets and security groups of a running instance are not compared.

use api_kube::karpenter::{Ec2NodeClass, NodeClaim, annotations};
use controller::{ApplyError, object};
use karpenter_core::disruption::{HASH_VERSION, class_hash};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{Context, conditions};

/// How the claim differs from what its class would make.
pub(super) fn drift(claim: &NodeClaim, class: &Ec2NodeClass) -> Option<&'static str> {
    let marks = claim.metadata.annotations.as_ref();
    let read = |key: &str| marks.and_then(|it| it.get(key)).map(String::as_str);
    let is_ours = read(annotations::NODE_CLASS_HASH_VERSION) == Some(HASH_VERSION);
    if is_ours && read(annotations::NODE_CLASS_HASH) != Some(class_hash(class).as_str()) {
        return Some("NodeClassDrift");
    }
    let status = class.status.as_ref()?;
    let image = claim.status.as_ref().and_then(|it| it.image_id.as_deref())?;
    let is_known = status.amis.is_empty() || status.amis.iter().any(|it| it.id == image);
    (!is_known).then_some("AMIDrift")
}

impl Context {
    pub(super) async fn watch_drift(&self) -> Result<(), ApplyError> {
        let events = std::mem::take(&mut *self.pod_events.lock());
        for claim in self.claims.all() {
            let launched = claim.is_true("Launched") && !object::is_terminating(&*claim);
            let Some(class) = self.class(&claim.spec.node_class_ref.name).filter(|_| launched)
            else {
                continue;
            };
            let mut status = claim.status.clone().unwrap_or_default();
            match drift(&claim, &class) {
                None => status.conditions.retain(|it| it.type_ != "Drifted"),
                Some(reason) => {
                    let (now, generation) = (self.clock.now(), claim.metadata.generation);
                    let all = &mut status.conditions;
                    conditions::set(all, "Drifted", Some(true), reason, "", generation, now);
                }
            }
            if let Some(at) = status.node_name.as_ref().and_then(|it| events.get(it)) {
                status.last_pod_event_time = Some(object::time(*at));
            }
            if claim.status.as_ref() == Some(&status) {
                continue;
            }
            let api = Api::<NodeClaim>::all(self.client.clone());
            let patch = json!({ "metadata": { "resourceVersion": claim.metadata.resource_version },
                "status": status });
            let patched = api
                .patch_status(claim.name(), &PatchParams::default(), &Patch::Merge(&patch))
                .await;
            if let Err(error) = patched {
                // What has been taken is noted in the next round, with what has come since.
                let mut since = self.pod_events.lock();
                for (node, at) in events {
                    since.entry(node).or_insert(at);
                }
                drop(since);
                return Err(ApplyError::new::<NodeClaim>("patch", claim.name(), error));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_drifts_when_its_class_changes_or_its_image_is_no_longer_chosen() {
        let class = |tag: &str, image: &str| -> Ec2NodeClass {
            serde_json::from_value(json!({ "metadata": { "name": "a" },
                "spec": { "tags": { "team": tag } },
                "status": { "amis": [{ "id": image, "requirements": [] }] } }))
            .unwrap()
        };
        let claim: NodeClaim = serde_json::from_value(json!({
            "metadata": { "name": "a", "annotations": {
                annotations::NODE_CLASS_HASH: class_hash(&class("x", "ami-1")),
                annotations::NODE_CLASS_HASH_VERSION: HASH_VERSION } },
            "status": { "imageID": "ami-1" } }))
        .unwrap();
        assert_eq!(drift(&claim, &class("x", "ami-1")), None);
        assert_eq!(drift(&claim, &class("x", "ami-2")), Some("AMIDrift"));
        assert_eq!(drift(&claim, &class("y", "ami-1")), Some("NodeClassDrift"));
    }
}
