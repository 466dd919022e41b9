//! Instance profiles that nobody needs any more.
//!
//! Each half hour those of the cluster are deleted that no class names now and no NodeClaim was
//! launched with: their class has another role, names a profile of the user's, or is gone without
//! having been seen to. One that a class has named a short while ago stays: a claim may be on its way
//! with it. Upstream: `pkg/controllers/nodeclass/garbagecollection` of aws/karpenter-provider-aws.

use std::{collections::BTreeSet, time::Duration};

use api_kube::karpenter::annotations;
use aws_wire::client::CallError;
use jiff::SignedDuration;
use tracing::{info, warn};

use super::Context;

const PERIOD: Duration = Duration::from_secs(30 * 60);
/// What a class has named is not deleted for so long.
const PROTECTED: SignedDuration = SignedDuration::from_mins(15);

impl Context {
    pub(super) async fn watch_profiles(&self) {
        loop {
            // Not at once: what classes have named before is to be known.
            tokio::time::sleep(PERIOD).await;
            if let Err(error) = self.collect_profiles().await {
                warn!(error = %telemetry::chain(&error), "failed to collect instance profiles");
            }
        }
    }

    /// Takes notice that a class names a profile.
    pub(super) fn protect_profile(&self, name: &str) {
        self.profiles.lock().insert(name.to_owned(), self.clock.now());
    }

    async fn collect_profiles(&self) -> Result<(), CallError> {
        let all = self.cloud.profiles().await?;
        let needed = self.needed_profiles();
        for name in all.iter().filter(|it| !needed.contains(*it)) {
            info!(profile = name, "deleting an instance profile that nobody needs");
            self.cloud.delete_profile(name).await?;
        }
        Ok(())
    }

    fn needed_profiles(&self) -> BTreeSet<String> {
        let now = self.clock.now();
        let mut recent = self.profiles.lock();
        recent.retain(|_, at| now.duration_since(*at) < PROTECTED);
        let mut needed: BTreeSet<String> = recent.keys().cloned().collect();
        drop(recent);
        let of_class = |it: &api_kube::karpenter::Ec2NodeClass| {
            it.status.as_ref().and_then(|it| it.instance_profile.clone())
        };
        needed.extend(self.classes.all().iter().filter_map(|it| of_class(it)));
        let key = annotations::INSTANCE_PROFILE;
        let claims = self.claims.all();
        let marks = claims.iter().filter_map(|it| it.metadata.annotations.as_ref());
        needed.extend(marks.filter_map(|it| it.get(key).cloned()));
        needed
    }
}
