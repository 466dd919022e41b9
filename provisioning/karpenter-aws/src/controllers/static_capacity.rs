//! Static NodePools are kept as large as they say; behind the gate `StaticCapacity`.
//!
//! What a pool needs has to be the same in two looks at it: in between a drifted node may have been
//! tainted whose replacement is not in the cache yet.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api_kube::karpenter::NodePool;
use controller::{ApplyError, Key};
use karpenter_core::{Scaling, Snapshot, scaling, static_claims};
use tracing::{info, warn};

use super::{Context, conditions};

const PERIOD: Duration = Duration::from_secs(5);

impl Context {
    pub(super) async fn watch_static_pools(&self) {
        if !self.config.gates.static_capacity {
            return;
        }
        let mut seen: BTreeMap<String, Scaling> = BTreeMap::new();
        loop {
            tokio::time::sleep(PERIOD).await;
            let pools: Vec<Arc<NodePool>> =
                self.pools.all().into_iter().filter(|it| is_usable(it)).collect();
            if pools.is_empty() {
                continue;
            }
            let snapshot = self.snapshot();
            for pool in pools {
                let needed = scaling(&snapshot, &pool);
                let before = seen.insert(pool.name().to_owned(), needed.clone());
                if before.as_ref() != Some(&needed) || needed == Scaling::Enough {
                    continue;
                }
                seen.remove(pool.name());
                if let Err(error) = self.scale(&snapshot, &pool, needed).await {
                    warn!(pool = pool.name(), error = %telemetry::chain(&error), "not scaled yet");
                }
            }
        }
    }

    async fn scale(
        &self,
        snapshot: &Snapshot,
        pool: &NodePool,
        needed: Scaling,
    ) -> Result<(), ApplyError> {
        match needed {
            Scaling::Enough => {}
            Scaling::Up(count) => {
                let types = self.types(pool);
                let claims = types.map(|it| static_claims(snapshot, pool, it, count));
                let claims = claims.unwrap_or_default();
                if claims.len() < count {
                    self.events.no_compatible_types(pool, false);
                }
                info!(pool = pool.name(), count = claims.len(), "scaling up");
                for claim in &claims {
                    self.create_claim(pool, claim, "static_provisioned").await?;
                }
            }
            Scaling::Down(names) => {
                info!(pool = pool.name(), ?names, "scaling down");
                for claim in names.iter().filter_map(|it| self.claims.get(&Key::new("", it))) {
                    self.count_disrupted(&claim, "scale_down");
                    self.delete_claim(&claim, "its pool has more nodes than it says").await?;
                }
            }
        }
        Ok(())
    }
}

fn is_usable(pool: &NodePool) -> bool {
    let conditions = pool.status.as_ref().map_or(&[][..], |it| &it.conditions);
    pool.spec.replicas.is_some()
        && pool.metadata.deletion_timestamp.is_none()
        && conditions::is_true(conditions, "Ready")
}
