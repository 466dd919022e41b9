//! What to do with an object, given the state of its owners.
//!
//! Upstream: `attemptToDeleteItem`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::graph::{Meta, Reference};

pub(super) const FOREGROUND: &str = "foregroundDeletion";
pub(super) const ORPHAN: &str = "orphan";

/// One owner of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// It is there.
    Solid,
    /// It is gone.
    Dangling,
    /// It is being deleted, and this object must go before it.
    WaitsForDependents,
}

/// The UIDs of the owners in each state.
#[derive(Debug, Default)]
pub(super) struct Owners {
    pub(super) solid: Vec<String>,
    pub(super) dangling: Vec<String>,
    pub(super) waiting: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    Background,
    Foreground,
    Orphan,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Keep,
    /// Takes these references away.
    Forget {
        uids: Vec<String>,
    },
    Delete {
        policy: Policy,
    },
}

/// Whether an object with the reference's UID is the one that it means.
pub(super) fn is_owner(reference: &Reference, object: &Meta, owner: &Meta) -> bool {
    let owner = &owner.metadata;
    owner.name.as_deref() == Some(&*reference.name)
        && (owner.namespace.is_none() || owner.namespace == object.metadata.namespace)
}

/// Whether an owner is in a namespace, and that another one than its object.
pub(super) fn is_elsewhere(object: &Meta, owner: &Meta) -> bool {
    let owner = &owner.metadata.namespace;
    owner.is_some() && *owner != object.metadata.namespace
}

/// What is said about that, as upstream.
pub(super) fn elsewhere(object: &Meta, owner: &Reference) -> String {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let Reference { api_version, kind, name, uid, .. } = owner;
    format!(
        "ownerRef [{api_version}/{kind}, namespace: {namespace}, name: {name}, uid: {uid}] does not \
         exist in namespace {namespace:?}"
    )
}

pub(super) fn state_of(owner: &ObjectMeta) -> Owner {
    let waits = owner.deletion_timestamp.is_some()
        && owner.finalizers.iter().flatten().any(|it| it == FOREGROUND);
    if waits { Owner::WaitsForDependents } else { Owner::Solid }
}

pub(super) fn decide(owners: &Owners, has_dependents: bool, object: &Meta) -> Decision {
    if !owners.solid.is_empty() {
        let uids: Vec<_> = owners.dangling.iter().chain(&owners.waiting).cloned().collect();
        return if uids.is_empty() { Decision::Keep } else { Decision::Forget { uids } };
    }
    if !owners.waiting.is_empty() && has_dependents {
        // Its own dependents go before it, as it goes before its owner.
        return Decision::Delete { policy: Policy::Foreground };
    }
    // How an object wants to be deleted is remembered in its finalizers.
    let policy = if has_finalizer(object, ORPHAN) {
        Policy::Orphan
    } else if has_finalizer(object, FOREGROUND) {
        Policy::Foreground
    } else {
        Policy::Background
    };
    Decision::Delete { policy }
}

pub(super) fn has_finalizer(object: &Meta, name: &str) -> bool {
    object.metadata.finalizers.iter().flatten().any(|it| it == name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(finalizers: &[&str]) -> Meta {
        serde_json::from_value(json!({ "apiVersion": "meta.k8s.io/v1",
            "kind": "PartialObjectMetadata", "metadata": { "finalizers": finalizers } }))
        .unwrap()
    }

    #[test]
    fn an_object_lives_as_long_as_one_of_its_owners() {
        let delete = |policy| Decision::Delete { policy };
        let forget = |uids: &[&str]| Decision::Forget {
            uids: uids.iter().map(|it| (*it).to_owned()).collect(),
        };
        let plain: &[&str] = &[];
        for (what, solid, dangling, waiting, dependents, finalizers, expected) in [
            ("one living owner", vec!["a"], vec![], vec![], false, plain, Decision::Keep),
            ("a living and a dead one", vec!["a"], vec!["b"], vec![], false, plain, forget(&["b"])),
            (
                "a living and a leaving one",
                vec!["a"],
                vec![],
                vec!["c"],
                true,
                plain,
                forget(&["c"]),
            ),
            ("all dead", vec![], vec!["b"], vec![], true, plain, delete(Policy::Background)),
            (
                "all dead, orphaning",
                vec![],
                vec!["b"],
                vec![],
                true,
                &[ORPHAN],
                delete(Policy::Orphan),
            ),
            (
                "leaving, with dependents",
                vec![],
                vec![],
                vec!["c"],
                true,
                plain,
                delete(Policy::Foreground),
            ),
            (
                "leaving, without",
                vec![],
                vec![],
                vec!["c"],
                false,
                plain,
                delete(Policy::Background),
            ),
        ] {
            let own = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect();
            let owners =
                Owners { solid: own(solid), dangling: own(dangling), waiting: own(waiting) };
            assert_eq!(decide(&owners, dependents, &object(finalizers)), expected, "{what}");
        }
    }

    #[test]
    fn only_a_foreground_deletion_waits_for_dependents() {
        let owner = |value| serde_json::from_value::<ObjectMeta>(value).unwrap();
        let date = "2026-01-01T00:00:00Z";
        let foreground = owner(json!({ "deletionTimestamp": date, "finalizers": [FOREGROUND] }));
        assert_eq!(state_of(&foreground), Owner::WaitsForDependents);
        let other = owner(json!({ "deletionTimestamp": date, "finalizers": ["x/y"] }));
        assert_eq!(state_of(&other), Owner::Solid);
        assert_eq!(state_of(&owner(json!({}))), Owner::Solid);
    }

    #[test]
    fn an_owner_in_another_namespace_is_told_of_in_upstreams_words() {
        let of = |namespace: Option<&str>| -> Meta {
            serde_json::from_value(json!({ "metadata": { "namespace": namespace } })).unwrap()
        };
        assert!(is_elsewhere(&of(Some("a")), &of(Some("b"))));
        assert!(is_elsewhere(&of(None), &of(Some("b"))));
        assert!(!is_elsewhere(&of(Some("a")), &of(Some("a"))));
        assert!(!is_elsewhere(&of(Some("a")), &of(None)), "what is in no namespace owns anywhere");
        let owner: Reference = serde_json::from_value(json!({ "apiVersion": "v1",
            "kind": "ConfigMap", "name": "m", "uid": "1" }))
        .unwrap();
        assert_eq!(
            elsewhere(&of(Some("a")), &owner),
            "ownerRef [v1/ConfigMap, namespace: a, name: m, uid: 1] does not exist in namespace \"a\""
        );
    }
}
