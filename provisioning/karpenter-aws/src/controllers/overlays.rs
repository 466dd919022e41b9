//! NodeOverlays: which of them take effect; behind the gate `NodeOverlay`, without which nobody reads
//! any.
//!
//! Until they have been looked at once no pool takes part: what is decided would be at other prices.
//! Upstream: `pkg/controllers/nodeoverlay`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api_kube::karpenter::{NodeOverlay, NodePool};
use controller::ApplyError;
use karpenter_core::{InstanceType, Overlays, Refusal};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use tokio::sync::Notify;
use tracing::warn;

use super::{Context, conditions, merge};

/// Types come and go without a change of any overlay or pool.
const PERIOD: Duration = Duration::from_secs(10);
const KIND: &str = "ValidationSucceeded";

impl Context {
    pub(super) async fn watch_overlays(&self) {
        let Some(overlays) = &self.overlays else { return };
        let changed = Arc::new(Notify::new());
        let notify = changed.clone();
        // A status of ours is no news.
        overlays.subscribe(move |change| {
            let spec = |it: &Option<Arc<NodeOverlay>>| it.as_ref().map(|it| it.spec.clone());
            if spec(&change.old) != spec(&change.new) {
                notify.notify_one();
            }
        });
        let notify = changed.clone();
        self.pools.subscribe(move |change| {
            let spec = |it: &Option<Arc<NodePool>>| it.as_ref().map(|it| it.spec.clone());
            if spec(&change.old) != spec(&change.new) {
                notify.notify_one();
            }
        });
        loop {
            self.look_at_overlays(overlays.all()).await;
            drop(tokio::time::timeout(PERIOD, changed.notified()).await);
        }
    }

    async fn look_at_overlays(&self, all: Vec<Arc<NodeOverlay>>) {
        let all: Vec<NodeOverlay> = all.iter().map(|it| (**it).clone()).collect();
        let pools = self.pools.all();
        let pools: Vec<(&NodePool, Arc<[InstanceType]>)> = match all.is_empty() {
            true => Vec::new(),
            false => pools
                .iter()
                .filter_map(|pool| {
                    let class = self.class(&pool.spec.template.spec.node_class_ref.name)?;
                    Some((&**pool, self.types_of(&class)?))
                })
                .collect(),
        };
        let (effective, refused) = Overlays::new(&all, &pools);
        *self.effective.lock() = Some(Arc::new(effective));
        for overlay in &all {
            if let Err(error) = self.say_overlay(overlay, &refused).await {
                let name = overlay.name();
                warn!(overlay = name, error = %telemetry::chain(&error), "not noted yet");
            }
        }
    }

    async fn say_overlay(
        &self,
        overlay: &NodeOverlay,
        refused: &BTreeMap<String, Refusal>,
    ) -> Result<(), ApplyError> {
        let (is_valid, reason, message) = match refused.get(overlay.name()) {
            None => (true, KIND, String::new()),
            Some(Refusal::Faults(faults)) => (false, "RuntimeValidation", faults.join("; ")),
            Some(Refusal::Conflict) => {
                (false, "Conflict", "conflict with another overlay".to_owned())
            }
        };
        let mut status = overlay.status.clone().unwrap_or_default();
        let (now, generation) = (self.clock.now(), overlay.metadata.generation);
        let all = &mut status.conditions;
        conditions::set(all, KIND, Some(is_valid), reason, &message, generation, now);
        conditions::set_ready(all, &[KIND], generation, now);
        if overlay.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let api = Api::<NodeOverlay>::all(self.client.clone());
        let patch = merge::status(overlay.status.as_ref(), &status);
        let patched =
            api.patch_status(overlay.name(), &PatchParams::default(), &Patch::Merge(&patch)).await;
        match patched {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(ApplyError::new::<NodeOverlay>("patch", overlay.name(), error)),
            Ok(_) => Ok(()),
        }
    }
}
