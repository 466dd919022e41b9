//! A policy that is too large for one PolicyEndpoint: its parts know of each other.
//!
//! Each part carries how many there are and a digest of what they say together. An agent that sees a
//! policy change part by part can so keep what it has until the new parts are all there. A policy
//! of one part carries nothing.
//!
//! Deviation: upstream's parts do not know of each other, and its agent enforces whichever it has
//! seen (aws/amazon-network-policy-controller-k8s#179). Parts without the annotations are each whole
//! here too.

use api_kube::policy_endpoint::PolicyEndpointSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha1::{Digest, Sha1};

const REVISION: &str = "nodestead.io/policy-revision";
const PARTS: &str = "nodestead.io/policy-parts";

/// Which state of a policy a part belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    id: String,
    parts: usize,
}

impl Revision {
    /// Of all parts of the policy with this `uid`; `None` where it has one only.
    pub fn of(uid: &str, specs: &[PolicyEndpointSpec]) -> Option<Self> {
        if specs.len() < 2 {
            return None;
        }
        let mut digest = Sha1::new();
        digest.update(uid);
        for spec in specs {
            // A spec is strings and numbers: it can be written.
            digest.update(serde_json::to_vec(spec).unwrap_or_default());
        }
        let id = digest.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Self { id, parts: specs.len() })
    }

    /// As it is written on a part.
    pub fn read(metadata: &ObjectMeta) -> Option<Self> {
        let annotations = metadata.annotations.as_ref()?;
        let parts = annotations.get(PARTS)?.parse().ok()?;
        Some(Self { id: annotations.get(REVISION)?.clone(), parts })
    }

    /// Writes `revision` on a part, or takes off the one that is there.
    pub fn write(revision: Option<&Self>, metadata: &mut ObjectMeta) {
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.remove(REVISION);
        annotations.remove(PARTS);
        if let Some(revision) = revision {
            annotations.insert(REVISION.to_owned(), revision.id.clone());
            annotations.insert(PARTS.to_owned(), revision.parts.to_string());
        }
        if annotations.is_empty() {
            metadata.annotations = None;
        }
    }

    /// Whether parts with these revisions are all there is of one state of their policy.
    pub fn is_whole<'a>(parts: impl IntoIterator<Item = Option<&'a Self>>) -> bool {
        let mut parts = parts.into_iter();
        let Some(first) = parts.next() else { return true };
        let mut count = 1;
        let is_same = parts.all(|it| {
            count += 1;
            it == first
        });
        is_same && first.is_none_or(|it| it.parts == count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs(count: usize) -> Vec<PolicyEndpointSpec> {
        let spec = |n: usize| PolicyEndpointSpec {
            pod_isolation: vec![n.to_string()],
            ..PolicyEndpointSpec::default()
        };
        (0..count).map(spec).collect()
    }

    #[test]
    fn a_revision_is_of_the_policy_and_of_everything_that_its_parts_say() {
        let two = Revision::of("u", &specs(2));
        assert!(two.is_some() && two == Revision::of("u", &specs(2)));
        assert_ne!(two, Revision::of("other", &specs(2)));
        assert_ne!(two, Revision::of("u", &specs(3)));
        assert_eq!(Revision::of("u", &specs(1)), None);
    }

    #[test]
    fn it_is_read_as_it_was_written_and_leaves_nothing_when_taken_off() {
        let mut metadata = ObjectMeta::default();
        let two = Revision::of("u", &specs(2));
        Revision::write(two.as_ref(), &mut metadata);
        assert_eq!(Revision::read(&metadata), two);
        Revision::write(None, &mut metadata);
        assert_eq!(metadata, ObjectMeta::default());
    }

    #[test]
    fn parts_are_whole_when_all_of_one_revision_are_there() {
        let (old, new) = (Revision::of("u", &specs(2)), Revision::of("v", &specs(2)));
        let (old, new) = (old.as_ref(), new.as_ref());
        assert!(Revision::is_whole([]));
        assert!(Revision::is_whole([None, None]));
        assert!(Revision::is_whole([new, new]));
        assert!(!Revision::is_whole([new]));
        assert!(!Revision::is_whole([old, new]));
        assert!(!Revision::is_whole([new, None]));
        assert!(!Revision::is_whole([new, new, new]));
    }
}
