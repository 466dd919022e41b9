//! Who owns a member's volume claims: nobody, the set, or the member that is about to go.
//!
//! A claim is deleted by the garbage collector, with whoever owns it. So a claim that is to go with
//! the set is owned by it, and one that is to go when the set shrinks is owned by its member from the
//! moment at which that has no place any more.
//!
//! Upstream: `stateful_set_utils.go` (`updateClaimOwnerRefForSetAndPod`, `isClaimOwnerUpToDate`,
//! `hasStaleOwnerRef`).

use controller::object;
use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolumeClaim, Pod},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};

/// Who is to own the claims of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeper {
    Nobody,
    Set,
    Member,
}

fn keeper(set: &StatefulSet, has_place: bool) -> Keeper {
    let spec = set.spec.as_ref();
    let policy = spec.and_then(|it| it.persistent_volume_claim_retention_policy.as_ref());
    let is = |it: Option<&String>| it.map(String::as_str) == Some("Delete");
    let goes_with_set = is(policy.and_then(|it| it.when_deleted.as_ref()));
    let goes_with_member = is(policy.and_then(|it| it.when_scaled.as_ref()));
    match (goes_with_member && !has_place, goes_with_set) {
        (true, _) => Keeper::Member,
        (false, true) => Keeper::Set,
        (false, false) => Keeper::Nobody,
    }
}

/// The owners that a claim is to have, or `None` when it has them.
pub(super) fn owners(
    set: &StatefulSet,
    member: Option<&Pod>,
    has_place: bool,
    claim: &PersistentVolumeClaim,
) -> Option<Vec<OwnerReference>> {
    let before = claim.metadata.owner_references.clone().unwrap_or_default();
    let keeper = keeper(set, has_place);
    let set_uid = object::uid(set);
    let member_uid = member.map(object::uid);
    let is_ours = |it: &OwnerReference| it.uid == set_uid || Some(&it.uid) == member_uid.as_ref();
    // Whom others made the controller of a claim keeps it.
    if before.iter().any(|it| it.controller == Some(true) && !is_ours(it)) {
        return None;
    }
    let wanted = match keeper {
        Keeper::Nobody => None,
        Keeper::Set => Some(object::controller_reference(set)),
        Keeper::Member => member.map(object::controller_reference),
    };
    let is_kept = |it: &OwnerReference| {
        !is_ours(it) || wanted.as_ref().is_some_and(|wanted| wanted.uid == it.uid)
    };
    let mut after: Vec<_> = before.iter().filter(|it| is_kept(it)).cloned().collect();
    if let Some(wanted) = wanted
        && !after.iter().any(|it| it.uid == wanted.uid)
    {
        after.push(wanted);
    }
    (after != before).then_some(after)
}

/// Whether a claim goes with an earlier member of this name: the next one must wait for that.
pub(super) fn is_stale(claim: &PersistentVolumeClaim, member: &str, current: Option<&Pod>) -> bool {
    let uid = current.and_then(|it| it.metadata.uid.as_deref());
    let mut owners = claim.metadata.owner_references.iter().flatten();
    owners.any(|it| it.kind == "Pod" && it.name == member && Some(it.uid.as_str()) != uid)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn set(deleted: &str, scaled: &str) -> StatefulSet {
        serde_json::from_value(json!({ "metadata": { "name": "db", "uid": "set" },
            "spec": { "serviceName": "db", "selector": {}, "template": {},
                "persistentVolumeClaimRetentionPolicy": {
                    "whenDeleted": deleted, "whenScaled": scaled } } }))
        .unwrap()
    }

    fn member(uid: &str) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": "db-0", "uid": uid } })).unwrap()
    }

    fn claim(owners: &[(&str, &str, bool)]) -> PersistentVolumeClaim {
        let owner = |(kind, uid, controls): &(&str, &str, bool)| -> Value {
            json!({ "apiVersion": "v1", "kind": kind, "name": "db-0", "uid": uid,
                "controller": controls })
        };
        let owners: Vec<_> = owners.iter().map(owner).collect();
        serde_json::from_value(json!({ "metadata": { "ownerReferences": owners } })).unwrap()
    }

    #[test]
    fn the_policy_says_who_owns_a_claim() {
        let member = member("pod");
        for (deleted, scaled, has_place, expected) in [
            ("Retain", "Retain", true, None),
            ("Retain", "Retain", false, None),
            ("Delete", "Retain", true, Some("set")),
            ("Delete", "Retain", false, Some("set")),
            ("Retain", "Delete", true, None),
            ("Retain", "Delete", false, Some("pod")),
            ("Delete", "Delete", true, Some("set")),
            ("Delete", "Delete", false, Some("pod")),
        ] {
            let set = set(deleted, scaled);
            let what = format!("{deleted} {scaled} {has_place}");
            for before in [vec![], vec![("StatefulSet", "set", true)], vec![("Pod", "pod", true)]] {
                let claim = claim(&before);
                let after = owners(&set, Some(&member), has_place, &claim);
                let after = after.or(claim.metadata.owner_references).unwrap_or_default();
                let uids: Vec<_> = after.iter().map(|it| it.uid.as_str()).collect();
                assert_eq!(uids, expected.into_iter().collect::<Vec<_>>(), "{what} {before:?}");
            }
        }
    }

    #[test]
    fn what_others_own_or_control_stays_theirs() {
        let (set, member) = (set("Delete", "Delete"), member("pod"));
        let theirs = claim(&[("Backup", "b", true)]);
        assert_eq!(owners(&set, Some(&member), true, &theirs), None);
        let shared = claim(&[("Backup", "b", false)]);
        let after = owners(&set, Some(&member), true, &shared).unwrap();
        let uids: Vec<_> = after.iter().map(|it| it.uid.as_str()).collect();
        assert_eq!(uids, ["b", "set"]);
    }

    #[test]
    fn a_claim_of_an_earlier_member_is_not_used_again() {
        let claim = claim(&[("Pod", "earlier", true)]);
        assert!(is_stale(&claim, "db-0", None));
        assert!(is_stale(&claim, "db-0", Some(&member("later"))));
        assert!(!is_stale(&claim, "db-0", Some(&member("earlier"))));
        assert!(!is_stale(&claim, "db-1", None));
    }
}
