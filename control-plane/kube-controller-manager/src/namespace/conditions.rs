//! What holds a namespace, as its conditions say it.
//!
//! Upstream: `status_condition_utils.go`.

use std::collections::BTreeMap;

use controller::object;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::NamespaceCondition;
use kube::{
    Resource,
    core::{DynamicObject, PartialObjectMeta},
};

use crate::discovery::Kind;

/// What one pass found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Why not all that there may be is known.
    pub(super) discovery: Option<String>,
    pub(super) content: Vec<String>,
    /// Objects by `resource.group`.
    remaining: BTreeMap<String, usize>,
    /// Objects by the finalizer that holds them.
    finalizers: BTreeMap<String, usize>,
}

impl Findings {
    pub(super) fn add(&mut self, kind: &Kind, left: &[PartialObjectMeta<DynamicObject>]) {
        if left.is_empty() {
            return;
        }
        let resource = &kind.resource;
        let name = format!("{}.{}", resource.plural, resource.group);
        self.remaining.insert(name, left.len());
        for finalizer in left.iter().flat_map(|it| it.meta().finalizers.iter().flatten()) {
            *self.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
    }

    /// Versions that could not be asked, each with why.
    pub(super) fn undiscovered(&mut self, stale: &[(String, String)]) {
        if stale.is_empty() {
            return;
        }
        let all: Vec<_> = stale.iter().map(|(version, why)| format!("{version}: {why}")).collect();
        self.discovery = Some(format!(
            "Discovery failed for some groups, {} failing: unable to retrieve the complete list of \
             server APIs: {}",
            stale.len(),
            all.join(", ")
        ));
    }

    /// Whether something that is there must go before the rest may.
    pub(super) fn holds_back(&self) -> bool {
        !self.remaining.is_empty() || !self.content.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.holds_back() && self.discovery.is_none()
    }

    pub(super) fn first_error(&self) -> Option<&str> {
        self.discovery.as_deref().or(self.content.first().map(String::as_str))
    }

    /// The conditions with what was found, or `None` when they say so already.
    pub(super) fn conditions(
        &self,
        known: &[NamespaceCondition],
        now: Timestamp,
    ) -> Option<Vec<NamespaceCondition>> {
        let wanted = [
            self.discovery_condition(),
            (
                "NamespaceDeletionGroupVersionParsingFailure",
                None,
                ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
            ),
            self.content_condition(),
            self.remaining_condition(),
            self.finalizers_condition(),
        ];
        let conditions: Vec<_> = wanted
            .into_iter()
            .map(|(kind, problem, fine)| condition(kind, problem, fine, known, now))
            .collect();
        (conditions != known).then_some(conditions)
    }

    fn discovery_condition(&self) -> Row {
        let problem = self.discovery.clone().map(|it| ("DiscoveryFailed", it));
        let fine = ("ResourcesDiscovered", "All resources successfully discovered");
        ("NamespaceDeletionDiscoveryFailure", problem, fine)
    }

    fn content_condition(&self) -> Row {
        let problem = (!self.content.is_empty()).then(|| {
            let all = self.content.join(", ");
            (
                "ContentDeletionFailed",
                format!(
                    "Failed to delete all resource types, {} remaining: {all}",
                    self.content.len()
                ),
            )
        });
        let fine =
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization");
        ("NamespaceDeletionContentFailure", problem, fine)
    }

    fn remaining_condition(&self) -> Row {
        let parts: Vec<_> = self
            .remaining
            .iter()
            .map(|(kind, count)| format!("{kind} has {count} resource instances"))
            .collect();
        let problem = (!parts.is_empty()).then(|| {
            ("SomeResourcesRemain", format!("Some resources are remaining: {}", parts.join(", ")))
        });
        let fine = ("ContentRemoved", "All content successfully removed");
        ("NamespaceContentRemaining", problem, fine)
    }

    fn finalizers_condition(&self) -> Row {
        let parts: Vec<_> = self
            .finalizers
            .iter()
            .map(|(name, count)| format!("{name} in {count} resource instances"))
            .collect();
        let problem = (!parts.is_empty()).then(|| {
            let all = parts.join(", ");
            (
                "SomeFinalizersRemain",
                format!("Some content in the namespace has finalizers remaining: {all}"),
            )
        });
        let fine = ("ContentHasNoFinalizers", "All content-preserving finalizers finished");
        ("NamespaceFinalizersRemaining", problem, fine)
    }
}

/// A kind, its problem with reason and message, and what is said when there is none.
type Row = (&'static str, Option<(&'static str, String)>, (&'static str, &'static str));

fn condition(
    kind: &str,
    problem: Option<(&'static str, String)>,
    fine: (&'static str, &'static str),
    known: &[NamespaceCondition],
    now: Timestamp,
) -> NamespaceCondition {
    let status = if problem.is_some() { "True" } else { "False" };
    let (reason, message) = problem.unwrap_or((fine.0, fine.1.to_owned()));
    let old = known.iter().find(|it| it.type_ == kind && it.status == status);
    let since = old.and_then(|it| it.last_transition_time.clone());
    NamespaceCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: since.or_else(|| Some(object::time(now))),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::ApiResource;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_conditions_say_what_remains_and_which_finalizers_hold_it() {
        let mut findings = Findings::default();
        let kind = Kind {
            resource: ApiResource::erase::<k8s_openapi::api::apps::v1::Deployment>(&()),
            is_namespaced: true,
            is_watchable: true,
            deletes_collections: true,
        };
        let held = serde_json::from_value(json!({ "apiVersion": "meta.k8s.io/v1",
            "kind": "PartialObjectMetadata", "metadata": { "name": "a", "finalizers": ["x/y"] } }));
        findings.add(&kind, &[held.unwrap()]);
        let conditions = findings.conditions(&[], Timestamp::UNIX_EPOCH).unwrap();
        let find = |kind: &str| conditions.iter().find(|it| it.type_ == kind).unwrap();
        assert_eq!(
            find("NamespaceContentRemaining").message.as_deref(),
            Some("Some resources are remaining: deployments.apps has 1 resource instances")
        );
        assert_eq!(find("NamespaceFinalizersRemaining").status, "True");
        assert_eq!(find("NamespaceDeletionDiscoveryFailure").status, "False");
        assert_eq!(findings.conditions(&conditions, Timestamp::MAX), None);
    }
}
