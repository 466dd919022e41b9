//! The hunt for branches that nobody has: of pods that went while nobody looked, and of instances
//! that are gone.
//!
//! Upstream: `pkg/aws/ec2/api/cleanup`.

use std::{collections::BTreeSet, time::Duration};

use tracing::{info, warn};

use crate::{Context, cloud::CloudError, trunk::Trunk};

const INTERVAL: Duration = Duration::from_secs(30 * 60);

impl Context {
    /// For ever.
    pub(crate) async fn sweep(&self) {
        let mut seen = BTreeSet::new();
        loop {
            tokio::time::sleep(INTERVAL).await;
            for (node, trunk) in self.trunks.all() {
                if let Err(error) = self.sweep_trunk(&trunk).await {
                    warn!(node, error = %telemetry::chain(&error), "a trunk was not swept");
                }
                self.node_queue.add(controller::Key::cluster(node));
            }
            match self.sweep_cluster(&seen).await {
                Ok(left) => seen = left,
                Err(error) => warn!(error = %telemetry::chain(&error), "no sweep"),
            }
        }
    }

    async fn sweep_trunk(&self, trunk: &Trunk) -> Result<(), CloudError> {
        let id = trunk.ledger.lock().trunk.clone();
        let found = self.cloud.branches(&id).await?;
        let due = self.clock.now() + self.cooldown.get();
        let mut ledger = trunk.ledger.lock();
        // What is being made now may be among them: the next sweep will tell.
        if !ledger.is_making() {
            found.into_iter().for_each(|it| ledger.adopt(it, due));
        }
        Ok(())
    }

    /// What is seen twice is leaked: one that was seen once may be about to be associated.
    async fn sweep_cluster(&self, seen: &BTreeSet<String>) -> Result<BTreeSet<String>, CloudError> {
        let mut left = BTreeSet::new();
        for eni in self.cloud.available().await? {
            if self.trunks.may_know(&eni) {
                continue;
            }
            if seen.contains(&eni) {
                info!(eni, "deleting a leaked interface");
                if let Err(error) = self.cloud.delete_interface(&eni).await {
                    warn!(eni, error = %telemetry::chain(&error), "still leaked");
                    left.insert(eni);
                }
            } else {
                left.insert(eni);
            }
        }
        Ok(left)
    }
}
