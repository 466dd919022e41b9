//! What the API server would refuse in a pod, and what would harm the host of a kubelet that runs one
//! that nobody else looks at: names that are parts of paths and of the runtime's own names.
//!
//! Not all that the API server checks is checked here. What is wrong besides is refused by it when the
//! mirror is made, and by the runtime.
//!
//! Upstream: `tryDecodeSinglePod` in `pkg/kubelet/config/common.go`, which validates as the API server
//! does (`ValidatePodCreate`).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::pod::PodExt;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const LONGEST_LABEL: usize = 63;
const LONGEST_SUBDOMAIN: usize = 253;

/// A field and what is wrong with it, in the API server's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FieldError {
    #[error("{0}: Required value")]
    Required(String),
    #[error("{field}: Invalid value: {value:?}: {why}")]
    Invalid { field: String, value: String, why: &'static str },
    #[error("{field}: Duplicate value: {value:?}")]
    Duplicate { field: String, value: String },
    #[error("{field}: Not found: {value:?}")]
    NotFound { field: String, value: String },
}

/// The first thing that is wrong with a pod.
pub(super) fn check(pod: &Pod) -> Result<(), FieldError> {
    let spec = PodExt::spec(pod);
    subdomain("metadata.name", pod.name())?;
    label("metadata.namespace", pod.namespace())?;
    for (field, name) in [("spec.hostname", &spec.hostname), ("spec.subdomain", &spec.subdomain)] {
        name.as_deref().filter(|it| !it.is_empty()).map_or(Ok(()), |it| label(field, it))?;
    }
    let mut volumes = BTreeSet::new();
    for (index, it) in spec.volumes.iter().flatten().enumerate() {
        unique(&format!("spec.volumes[{index}].name"), &it.name, &mut volumes)?;
    }
    if spec.containers.is_empty() {
        return Err(FieldError::Required("spec.containers".to_owned()));
    }
    let mut names = BTreeSet::new();
    let init = spec.init_containers.as_deref().unwrap_or_default();
    for (list, containers) in [("initContainers", init), ("containers", &spec.containers)] {
        for (index, it) in containers.iter().enumerate() {
            let field = format!("spec.{list}[{index}]");
            unique(&format!("{field}.name"), &it.name, &mut names)?;
            container(&field, it, &volumes)?;
        }
    }
    if spec.ephemeral_containers.as_ref().is_some_and(|it| !it.is_empty()) {
        return Err(FieldError::Invalid {
            field: "spec.ephemeralContainers".to_owned(),
            value: String::new(),
            why: "static pods do not support ephemeral containers",
        });
    }
    Ok(())
}

fn container(field: &str, it: &Container, volumes: &BTreeSet<&str>) -> Result<(), FieldError> {
    if it.image.as_deref().unwrap_or_default().is_empty() {
        return Err(FieldError::Required(format!("{field}.image")));
    }
    for (index, mount) in it.volume_mounts.iter().flatten().enumerate() {
        let field = format!("{field}.volumeMounts[{index}]");
        if !volumes.contains(mount.name.as_str()) {
            let value = mount.name.clone();
            return Err(FieldError::NotFound { field: format!("{field}.name"), value });
        }
        if mount.mount_path.is_empty() {
            return Err(FieldError::Required(format!("{field}.mountPath")));
        }
    }
    Ok(())
}

/// A label that no other of its kind has.
fn unique<'a>(field: &str, name: &'a str, known: &mut BTreeSet<&'a str>) -> Result<(), FieldError> {
    label(field, name)?;
    if known.insert(name) {
        return Ok(());
    }
    Err(FieldError::Duplicate { field: field.to_owned(), value: name.to_owned() })
}

fn label(field: &str, name: &str) -> Result<(), FieldError> {
    named(field, name, is_label(name), LABEL)
}

fn subdomain(field: &str, name: &str) -> Result<(), FieldError> {
    // A part may be longer than a label.
    let is_it = name.len() <= LONGEST_SUBDOMAIN && name.split('.').all(has_form);
    named(field, name, is_it, SUBDOMAIN)
}

fn named(field: &str, name: &str, is_it: bool, why: &'static str) -> Result<(), FieldError> {
    if name.is_empty() {
        return Err(FieldError::Required(field.to_owned()));
    }
    if is_it {
        return Ok(());
    }
    Err(FieldError::Invalid { field: field.to_owned(), value: name.to_owned(), why })
}

fn is_label(text: &str) -> bool {
    text.len() <= LONGEST_LABEL && has_form(text)
}

fn has_form(text: &str) -> bool {
    let is_plain = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit();
    text.starts_with(is_plain)
        && text.ends_with(is_plain)
        && text.chars().all(|it| is_plain(it) || it == '-')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A good pod with these changes to its spec.
    fn wrong(metadata: Value, changes: Value) -> String {
        let mut pod = json!({ "metadata": { "name": "p" }, "spec": {
            "containers": [{ "name": "c", "image": "i" }],
        }});
        pod["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
        pod["spec"].as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let checked = check(&serde_json::from_value(pod).unwrap());
        checked.err().map(|it| it.to_string()).unwrap_or_default()
    }

    #[test]
    fn names_that_would_lead_out_of_the_kubelets_folders_are_refused() {
        assert_eq!(wrong(json!({}), json!({})), "");
        assert_eq!(wrong(json!({ "name": "a.b-c.0" }), json!({ "hostname": "" })), "");
        let begins = |text: String, start: &str| assert!(text.starts_with(start), "{text}");
        let out = "../../../etc";
        begins(
            wrong(json!({ "name": out }), json!({})),
            "metadata.name: Invalid value: \"../../../etc\": a lowercase RFC 1123 subdomain",
        );
        begins(wrong(json!({ "namespace": out }), json!({})), "metadata.namespace: Invalid value");
        begins(wrong(json!({ "name": "" }), json!({})), "metadata.name: Required value");
        let volumes = json!({ "volumes": [{ "name": out, "emptyDir": {} }] });
        begins(wrong(json!({}), volumes), "spec.volumes[0].name: Invalid value");
        let containers = json!({ "containers": [{ "name": "..", "image": "i" }] });
        begins(wrong(json!({}), containers), "spec.containers[0].name: Invalid value");
        let long = json!({ "hostname": "ä".repeat(40) });
        begins(wrong(json!({}), long), "spec.hostname: Invalid value");
    }

    #[test]
    fn what_the_api_server_would_refuse_does_not_run() {
        let of = |changes: Value| wrong(json!({}), changes);
        let container = |more: Value| {
            let mut it = json!({ "name": "c", "image": "i" });
            it.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            it
        };
        let one = container(json!({}));
        assert_eq!(of(json!({ "containers": [] })), "spec.containers: Required value");
        assert_eq!(
            of(json!({ "containers": [container(json!({ "image": "" }))] })),
            "spec.containers[0].image: Required value"
        );
        assert_eq!(
            of(json!({ "initContainers": [one.clone()], "containers": [one] })),
            "spec.containers[0].name: Duplicate value: \"c\""
        );
        let mount = json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }] });
        assert_eq!(
            of(json!({ "containers": [container(mount)] })),
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\""
        );
        let volume = json!({ "name": "v", "emptyDir": {} });
        assert_eq!(
            of(json!({ "volumes": [volume.clone(), volume] })),
            "spec.volumes[1].name: Duplicate value: \"v\""
        );
    }
}
