//! When a NodeClaim has lived long enough. Budgets do not count, and nothing is made in its place
//! first.

use api_kube::karpenter::NodeClaim;
use jiff::{SignedDuration, Timestamp};

/// When it ends; `None`: never.
pub fn expires_at(claim: &NodeClaim) -> Option<Timestamp> {
    let made = claim.metadata.creation_timestamp.as_ref()?.0;
    let length = SignedDuration::try_from(claim.spec.expire_after.get()?).ok()?;
    made.checked_add(length).ok()
}

/// Those that are to be deleted now.
pub fn expired(claims: &[NodeClaim], now: Timestamp) -> impl Iterator<Item = &NodeClaim> {
    let alive = claims.iter().filter(|it| it.metadata.deletion_timestamp.is_none());
    alive.filter(move |it| expires_at(it).is_some_and(|end| end <= now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_expires_at_its_age_and_never_where_it_says_so() {
        let claim = |after: &str| -> NodeClaim {
            serde_json::from_value(serde_json::json!({ "metadata": { "name": after,
                "creationTimestamp": "2026-01-01T00:00:00Z" }, "spec": { "expireAfter": after } }))
            .unwrap()
        };
        let claims = [claim("24h"), claim("25h"), claim("Never")];
        let now = "2026-01-02T00:00:00Z".parse().unwrap();
        let names: Vec<&str> = expired(&claims, now).map(NodeClaim::name).collect();
        assert_eq!(names, ["24h"]);
    }
}
