//! Whether the nodes of a pool join, and what becomes of `minValues` that are not to be had.

use std::time::Duration;

use karpenter_aws::{Config, MinValues};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::{MANY, support::World};

impl World {
    /// The pool's condition: status and reason.
    async fn health(&self) -> (String, String) {
        let pool = self.node_pools().get("default").await.unwrap();
        let all = pool.status.map(|it| it.conditions).unwrap_or_default();
        let found = all.into_iter().find(|it| it.type_ == "NodeRegistrationHealthy");
        found.map(|it| (it.status, it.reason)).unwrap_or_default()
    }
}

fn said(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_pool_whose_nodes_do_not_join_says_so_until_they_do_or_it_is_changed() {
    let world = World::new(MANY).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.health().await, said("Unknown", "AwaitingReconciliation"));
    world.pending("web", "1").await;
    world.claim_that_is("Launched").await;
    let minutes = |it: u64| tokio::time::sleep(Duration::from_secs(60 * it));
    minutes(17).await;
    assert_eq!(world.health().await.0, "Unknown", "one of four");
    for _ in 0..20 {
        world.end_instances().await;
        minutes(1).await;
    }
    assert_eq!(world.health().await, said("False", "RegistrationFailed"), "two have not joined");
    let patch = json!({ "spec": { "weight": 7 } });
    let parameters = PatchParams::default();
    world.node_pools().patch("default", &parameters, &Patch::Merge(&patch)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.health().await, said("Unknown", "AwaitingReconciliation"));
    let claim = world.claim_that_is("Launched").await;
    world.join(&claim).await;
    world.claim_that_is("Initialized").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.health().await, said("True", "NodeRegistrationHealthy"));
}

#[tokio::test(start_paused = true)]
async fn fewer_values_than_wanted_have_to_do_by_the_policy_best_effort() {
    let requirements = json!([{ "key": "node.kubernetes.io/instance-type", "operator": "In",
        "values": ["m5.large", "m5.xlarge", "m5.nowhere"], "minValues": 3 }]);
    for (min_values, is_made) in [(MinValues::Strict, false), (MinValues::BestEffort, true)] {
        let world = World::with(MANY, Config { min_values, ..Config::new("stead") }).await;
        world.require(requirements.clone()).await;
        world.pending("web", "500m").await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let claims = world.claims().await;
        assert_eq!(!claims.is_empty(), is_made);
        for claim in claims {
            let marks = claim.metadata.annotations.unwrap();
            assert_eq!(marks["karpenter.sh/nodeclaim-min-values-relaxed"], "true");
        }
    }
}
