//! One member: its name, its labels, its volumes.
//!
//! Upstream: `stateful_set_utils.go`.

use std::collections::BTreeMap;

use controller::object;
use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{
            PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
        },
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{pods, revisions::HASH_LABEL};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The ordinal in a pod's name, when it is a name of this set.
pub(super) fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let own = set.metadata.name.as_deref()?;
    let number = pod.metadata.name.as_deref()?.strip_prefix(own)?.strip_prefix('-')?;
    // `007` and `+7` are other names.
    let ordinal: i32 = number.parse().ok()?;
    (ordinal.to_string() == number && ordinal >= 0).then_some(ordinal)
}

pub(super) fn name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.metadata.name.as_deref().unwrap_or_default())
}

pub(super) fn new(
    set: &StatefulSet,
    template: &PodTemplateSpec,
    revision: &str,
    ordinal: i32,
) -> Pod {
    let namespace = set.metadata.namespace.clone().unwrap_or_default();
    let mut pod = pods::from_template(template, &namespace, object::controller_reference(set));
    let name = name(set, ordinal);
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.to_owned(), name.clone());
    labels.insert(POD_INDEX.to_owned(), ordinal.to_string());
    labels.insert(HASH_LABEL.to_owned(), revision.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain = set.spec.as_ref().and_then(|it| it.service_name.clone());
    let volumes = spec.volumes.get_or_insert_default();
    for claim in claims(set, ordinal) {
        let template = template_name(set, ordinal, &claim);
        volumes.retain(|it| it.name != template);
        volumes.push(Volume {
            name: template,
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim.metadata.name.unwrap_or_default(),
                read_only: None,
            }),
            ..Volume::default()
        });
    }
    pod
}

/// The labels of its identity that a member does not have.
pub(super) fn missing_labels(
    set: &StatefulSet,
    pod: &Pod,
    ordinal: i32,
) -> Option<BTreeMap<&'static str, String>> {
    let wanted = [(POD_NAME, name(set, ordinal)), (POD_INDEX, ordinal.to_string())];
    let missing: BTreeMap<_, _> =
        wanted.into_iter().filter(|(key, value)| object::label(pod, key) != Some(value)).collect();
    (!missing.is_empty()).then_some(missing)
}

/// The claims of one member, named after their template and the member.
pub(super) fn claims(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let spec = set.spec.as_ref();
    let templates = spec.and_then(|it| it.volume_claim_templates.clone()).unwrap_or_default();
    let selector = spec.and_then(|it| it.selector.match_labels.clone()).unwrap_or_default();
    let member = name(set, ordinal);
    let claims = templates.into_iter().map(|it| {
        let mut labels = it.metadata.labels.unwrap_or_default();
        labels.extend(selector.clone());
        PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(format!("{}-{member}", it.metadata.name.unwrap_or_default())),
                namespace: set.metadata.namespace.clone(),
                labels: Some(labels),
                annotations: it.metadata.annotations,
                ..ObjectMeta::default()
            },
            spec: it.spec,
            status: None,
        }
    });
    claims.collect()
}

/// Whether a claim of this name can be one of the set's.
pub(super) fn may_have_claim(set: &StatefulSet, claim: &str) -> bool {
    let templates = set.spec.iter().flat_map(|it| it.volume_claim_templates.iter().flatten());
    let own = set.metadata.name.as_deref().unwrap_or_default();
    templates.into_iter().any(|it| {
        let template = it.metadata.name.as_deref().unwrap_or_default();
        claim.starts_with(&format!("{template}-{own}-"))
    })
}

fn template_name(set: &StatefulSet, ordinal: i32, claim: &PersistentVolumeClaim) -> String {
    let suffix = format!("-{}", name(set, ordinal));
    let full = claim.metadata.name.as_deref().unwrap_or_default();
    full.strip_suffix(&suffix).unwrap_or(full).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set() -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": { "name": "db", "namespace": "d", "uid": "u" },
            "spec": { "serviceName": "db", "selector": { "matchLabels": { "app": "db" } },
                "template": { "metadata": { "labels": { "app": "db" } },
                    "spec": { "containers": [], "volumes": [{ "name": "data" }] } },
                "volumeClaimTemplates": [{ "metadata": { "name": "data" }, "spec": {} }] },
        }))
        .unwrap()
    }

    #[test]
    fn a_member_has_its_own_name_and_claims() {
        let set = set();
        let pod = new(&set, &set.spec.as_ref().unwrap().template, "db-abc", 2);
        assert_eq!(ordinal(&set, &pod), Some(2));
        let labels = pod.metadata.labels.unwrap();
        assert_eq!((labels[POD_NAME].as_str(), labels[POD_INDEX].as_str()), ("db-2", "2"));
        assert_eq!(labels[HASH_LABEL], "db-abc");
        let spec = pod.spec.unwrap();
        assert_eq!(
            (spec.hostname.as_deref(), spec.subdomain.as_deref()),
            (Some("db-2"), Some("db"))
        );
        let volumes = spec.volumes.unwrap();
        assert_eq!(volumes.len(), 1);
        let claim = volumes[0].persistent_volume_claim.as_ref().unwrap();
        assert_eq!((volumes[0].name.as_str(), claim.claim_name.as_str()), ("data", "data-db-2"));
    }

    #[test]
    fn a_member_whose_labels_were_taken_away_gets_them_back() {
        let set = set();
        let mut pod = new(&set, &set.spec.as_ref().unwrap().template, "db-abc", 2);
        assert_eq!(missing_labels(&set, &pod, 2), None);
        let labels = pod.metadata.labels.as_mut().unwrap();
        labels.remove(POD_INDEX);
        labels.insert(POD_NAME.to_owned(), "db-7".to_owned());
        let missing = [(POD_INDEX, "2".to_owned()), (POD_NAME, "db-2".to_owned())];
        assert_eq!(missing_labels(&set, &pod, 2), Some(missing.into()));
    }

    #[test]
    fn other_names_are_no_members() {
        let named =
            |name: &str| serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
        for name in ["db", "db-", "db-x", "db-07", "db--1", "other-1", "db-+1"] {
            assert_eq!(ordinal(&set(), &named(name)), None, "{name}");
        }
    }
}
