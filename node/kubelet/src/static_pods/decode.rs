//! What a file or an answer says, as pods with what the API server would have added.
//!
//! **Invariant:** a pod's UID is the hash of what it was read from, so a changed text is another pod.

use std::{collections::BTreeMap, fs, path::Path};

use k8s_openapi::api::core::v1::{Pod, Toleration};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tracing::warn;

use super::{checked, references};
use crate::{
    pod::{HASH_ANNOTATION, PodExt, PodUid, SOURCE_ANNOTATION},
    yaml::{self, YamlError},
};

pub(super) type Pods = BTreeMap<PodUid, Pod>;

/// Why a text is no static pod.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error(transparent)]
    Yaml(#[from] YamlError),
    #[error("invalid pod: {0}")]
    Field(#[from] checked::FieldError),
    #[error("static pods may not reference {0}")]
    Refers(&'static str),
}

/// The pods of a folder's files, or of a single file.
pub(super) fn files(path: &Path, node_name: &str) -> Pods {
    if path.is_file() {
        return file(path, node_name).into_iter().map(|it| (it.uid(), it)).collect();
    }
    let mut pods = Pods::new();
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !is_hidden && let Some(pod) = file(&entry.path(), node_name) {
            pods.insert(pod.uid(), pod);
        }
    }
    pods
}

fn file(path: &Path, node_name: &str) -> Option<Pod> {
    // What is empty is only just being written.
    if !fs::metadata(path).is_ok_and(|it| it.is_file() && it.len() > 0) {
        return None;
    }
    let text = fs::read_to_string(path).ok()?;
    let pod = yaml::from_str::<Pod>(&text).map_err(DecodeError::from);
    match pod.and_then(|pod| completed(pod, &text, node_name, "file")) {
        Ok(pod) => Some(pod),
        Err(error) => {
            warn!(path = %path.display(), %error, "a static pod cannot be read");
            None
        }
    }
}

/// The pod, or the list of pods, that a URL answers.
pub(super) fn answer(text: &str, node_name: &str, url: &str) -> Result<Pods, DecodeError> {
    let value: Value = yaml::from_str(text)?;
    let items = match value {
        Value::Object(mut list) if list.get("kind").is_some_and(|it| it == "PodList") => {
            match list.remove("items") {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            }
        }
        one => vec![one],
    };
    let mut pods = Pods::new();
    for item in items {
        let text = format!("{url}\n{item}");
        let pod = serde_json::from_value(item).map_err(YamlError::Shape)?;
        let pod = completed(pod, &text, node_name, "http")?;
        pods.insert(pod.uid(), pod);
    }
    Ok(pods)
}

fn completed(mut pod: Pod, text: &str, node_name: &str, source: &str) -> Result<Pod, DecodeError> {
    if let Some(resource) = references::first(&pod) {
        return Err(DecodeError::Refers(resource));
    }
    let digest = Sha256::digest(format!("{node_name}\n{text}").as_bytes());
    let hash: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let name = pod.metadata.name.take().unwrap_or_default();
    pod.metadata.name = Some(format!("{name}-{node_name}"));
    // One that is given and empty is none.
    let namespace = pod.metadata.namespace.take().filter(|it| !it.is_empty());
    pod.metadata.namespace = Some(namespace.unwrap_or_else(|| "default".to_owned()));
    pod.metadata.uid = Some(hash.clone());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(HASH_ANNOTATION.to_owned(), hash);
    annotations.insert(SOURCE_ANNOTATION.to_owned(), source.to_owned());
    // Only the kubelet knows how it is, and who writes the text ends it by taking it away.
    pod.status = None;
    pod.metadata.deletion_timestamp = None;
    pod.metadata.deletion_grace_period_seconds = None;
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node_name.to_owned());
    // Static pods tolerate everything that would end them.
    spec.tolerations.get_or_insert_default().push(Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    });
    checked::check(&pod)?;
    Ok(pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - {name: c, image: i}\n";

    #[test]
    fn a_changed_file_is_another_pod() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yaml");
        fs::write(&path, TEXT).unwrap();
        fs::write(folder.path().join(".web.yaml.swp"), TEXT).unwrap();
        fs::write(folder.path().join("begun.yaml"), "").unwrap();
        let first = files(folder.path(), "n1");
        assert_eq!(first.len(), 1);
        let pod = first.values().next().unwrap();
        assert_eq!((pod.name(), pod.namespace()), ("web-n1", "default"));
        assert!(pod.is_mirror_or_static());
        assert_eq!(files(&path, "n1"), first, "a single file will do");
        fs::write(&path, TEXT.replace("image: i", "image: j")).unwrap();
        let second = files(folder.path(), "n1");
        assert_ne!(first.keys().next(), second.keys().next());
    }

    #[test]
    fn an_answer_is_a_pod_or_a_list_of_them() {
        let one = answer(TEXT, "n1", "u").unwrap();
        assert_eq!(one.len(), 1);
        assert_eq!(one.values().next().unwrap().annotation(SOURCE_ANNOTATION), Some("http"));
        let item = |name: &str| {
            let spec = "{containers: [{name: c, image: i}]}";
            format!("- {{metadata: {{name: {name}}}, spec: {spec}}}\n")
        };
        let list = format!("kind: PodList\nitems:\n{}{}", item("a"), item("b"));
        let list = answer(&list, "n1", "u").unwrap();
        let mut names: Vec<_> = list.values().map(PodExt::name).collect();
        names.sort_unstable();
        assert_eq!(names, ["a-n1", "b-n1"]);
        assert!(answer("no", "n1", "u").is_err());
        let over = TEXT.to_owned() + "status: {phase: Succeeded}\n";
        let pods = answer(&over, "n1", "u").unwrap();
        assert!(pods.values().all(|it| it.status.is_none()), "how it is, is not said there");
        let out = TEXT.replace("name: web", "name: ../../web");
        let error = answer(&out, "n1", "u").unwrap_err().to_string();
        assert!(error.starts_with("invalid pod: metadata.name: Invalid value"), "{error}");
        let empty = TEXT.replace("name: web", "name: web, namespace: ''");
        let pods = answer(&empty, "n1", "u").unwrap();
        assert_eq!(pods.values().next().unwrap().namespace(), "default");
        let secret = "metadata: {name: a}\nspec: {imagePullSecrets: [{name: s}], containers: []}\n";
        let error = answer(secret, "n1", "u").unwrap_err();
        assert_eq!(error.to_string(), "static pods may not reference secrets");
    }
}
