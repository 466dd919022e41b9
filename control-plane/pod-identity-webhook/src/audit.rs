//! What is wrong with a pod that exists: credentials that it should have and has not.
//!
//! A pod is changed when it is created and never again. One that is older than its account's role,
//! or that was created while nobody answered the API server, runs on without; it has to be created
//! anew. Pure; [`crate::run`] makes events of it.

use serde_json::Value;

use crate::{
    Account, Config, Subject,
    mutate::{POD_IDENTITY_VOLUME, ROLE_ARN, WEB_IDENTITY_VOLUME},
};

/// An annotation of pods that a kubelet runs by itself.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";
/// A label, after the annotations' prefix.
pub(crate) const SKIP: &str = "/skip-pod-identity-webhook";

/// One thing for an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `InvalidServiceAccountAnnotation`, `CredentialsNotInjected` or `RoleChanged`
    pub reason: &'static str,
    pub message: String,
}

/// Looks at a pod and at who it is now.
pub fn audit(pod: &Value, subject: Subject<'_>, config: &Config) -> Vec<Finding> {
    if is_left_alone(pod, config) {
        return Vec::new();
    }
    let account = Account::of(subject.account, config);
    let invalid = |message| Finding { reason: "InvalidServiceAccountAnnotation", message };
    let mut findings: Vec<Finding> = account.complaints.iter().cloned().map(invalid).collect();
    let name = pod["spec"]["serviceAccountName"].as_str().unwrap_or("default");
    let (volume, by) = match &account.role_arn {
        _ if subject.is_associated => {
            (POD_IDENTITY_VOLUME, "has an association of EKS Pod Identity".to_owned())
        }
        Some(role) => (WEB_IDENTITY_VOLUME, format!("names the role {role}")),
        None => return findings,
    };
    let volumes = pod["spec"]["volumes"].as_array();
    if !volumes.is_some_and(|it| it.iter().any(|it| it["name"] == volume)) {
        findings.push(Finding {
            reason: "CredentialsNotInjected",
            message: format!(
                "Service account {name:?} {by}, but the pod was created without it and has no \
                 such credentials; create the pod anew"
            ),
        });
    } else if let Some(role) = account.role_arn.filter(|_| !subject.is_associated) {
        findings.extend(older_role(pod, &role).map(|old| Finding {
            reason: "RoleChanged",
            message: format!(
                "Service account {name:?} names the role {role} now; the pod keeps {old} until it \
                 is created anew"
            ),
        }));
    }
    findings
}

/// Pods that want no credentials, cannot be given any, or need none any more.
fn is_left_alone(pod: &Value, config: &Config) -> bool {
    let metadata = &pod["metadata"];
    let skip = format!("{}{SKIP}", config.annotation_prefix);
    let is_mirror = metadata["annotations"].get(MIRROR).is_some();
    let has_ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    metadata["labels"].get(skip).is_some()
        || is_mirror
        || has_ended
        || !metadata["deletionTimestamp"].is_null()
}

/// The role of a container that this webhook gave one, if it is not `role`.
fn older_role(pod: &Value, role: &str) -> Option<String> {
    let lists = ["initContainers", "containers"].map(|it| pod["spec"][it].as_array());
    let mut containers = lists.into_iter().flatten().flatten();
    containers.find_map(|container| {
        let variables = container["env"].as_array()?;
        let value = |name: &str| variables.iter().find(|it| it["name"] == name)?["value"].as_str();
        let is_ours = value("AWS_WEB_IDENTITY_TOKEN_FILE").is_some();
        value(ROLE_ARN).filter(|it| is_ours && *it != role).map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mutate;

    const ROLE: &str = "arn:aws:iam::111122223333:role/app";

    fn account(role: &str) -> Value {
        json!({"metadata": {"annotations": {"eks.amazonaws.com/role-arn": role}}})
    }

    fn pod() -> Value {
        json!({"metadata": {"name": "p", "annotations": {}, "labels": {}}, "spec": {
            "serviceAccountName": "app", "containers": [{"name": "main"}]}})
    }

    fn of(account: &Value, is_associated: bool) -> Subject<'_> {
        Subject { account: Some(account), is_associated, jitter: 0 }
    }

    fn injected(account: &Value, is_associated: bool) -> Value {
        let mutation = mutate(&pod(), of(account, is_associated), &Config::default());
        let mut pod = pod();
        let patch: json_patch::Patch = serde_json::from_value(mutation.patch.into()).unwrap();
        json_patch::patch(&mut pod, &patch).unwrap();
        pod
    }

    fn reasons(pod: &Value, subject: Subject<'_>) -> Vec<&'static str> {
        audit(pod, subject, &Config::default()).iter().map(|it| it.reason).collect()
    }

    #[test]
    fn a_pod_with_its_credentials_has_nothing_wrong() {
        let account = account(ROLE);
        for is_associated in [false, true] {
            let pod = injected(&account, is_associated);
            assert!(reasons(&pod, of(&account, is_associated)).is_empty());
        }
        assert!(reasons(&pod(), of(&json!({}), false)).is_empty());
    }

    #[test]
    fn a_pod_that_is_older_than_its_accounts_role_is_told() {
        assert_eq!(reasons(&pod(), of(&account(ROLE), false)), ["CredentialsNotInjected"]);
    }

    #[test]
    fn an_association_that_came_later_is_told_too() {
        let account = account(ROLE);
        let pod = injected(&account, false);
        assert_eq!(reasons(&pod, of(&account, true)), ["CredentialsNotInjected"]);
    }

    #[test]
    fn a_role_that_changed_under_the_pod_is_told() {
        let pod = injected(&account(ROLE), false);
        let other = account("arn:aws:iam::111122223333:role/other");
        let findings = audit(&pod, of(&other, false), &Config::default());
        assert_eq!(findings[0].reason, "RoleChanged");
        assert!(findings[0].message.contains("role/app until"), "{}", findings[0].message);
    }

    #[test]
    fn an_annotation_that_is_no_role_is_told_of_every_pod() {
        let account = account("app");
        let pod = injected(&account, false);
        assert_eq!(reasons(&pod, of(&account, false)), ["InvalidServiceAccountAnnotation"]);
    }

    #[test]
    fn pods_that_want_none_or_have_ended_are_not_spoken_of() {
        let account = account(ROLE);
        for (pointer, key, value) in [
            ("/metadata/labels", "eks.amazonaws.com/skip-pod-identity-webhook", json!("")),
            ("/metadata/annotations", "kubernetes.io/config.mirror", json!("x")),
            ("/metadata", "deletionTimestamp", json!("2026-01-01T00:00:00Z")),
            ("", "status", json!({"phase": "Succeeded"})),
        ] {
            let mut pod = pod();
            pod.pointer_mut(pointer).unwrap()[key] = value;
            assert!(reasons(&pod, of(&account, false)).is_empty(), "{key}");
        }
    }
}
