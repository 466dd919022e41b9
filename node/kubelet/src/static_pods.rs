//! Pods from files, and the mirror pods that show them in the API.
//!
//! A file that appears, changes or goes is a pod that is added, replaced or removed. A static pod
//! runs whether or not the API server can be reached; its mirror pod is made, and made again, when it
//! can.
//!
//! Upstream: `pkg/kubelet/config/file.go`, `pkg/kubelet/pod/mirror_client.go`.
//!
//! Deviation: the folder is looked at every `fileCheckFrequency`; upstream also uses inotify.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tracing::{debug, warn};

use crate::{
    context::Context,
    pod::{HASH_ANNOTATION, MIRROR_ANNOTATION, PodExt, PodUid, SOURCE_ANNOTATION},
    pod_workers::PodWorkers,
    yaml,
};

pub(crate) struct StaticPods {
    pub context: Arc<Context>,
    pub workers: Arc<PodWorkers>,
    known: BTreeMap<PodUid, Arc<Pod>>,
    /// A mirror has gone, or is about to.
    wake: Arc<Notify>,
}

impl StaticPods {
    pub(crate) fn new(context: Arc<Context>, workers: Arc<PodWorkers>) -> Self {
        Self { context, workers, known: BTreeMap::new(), wake: Arc::default() }
    }

    /// Wakes the task that keeps the mirrors.
    pub(crate) fn wake(&self) -> Arc<Notify> {
        self.wake.clone()
    }

    pub(crate) async fn run(mut self) {
        let Some(folder) = self.folder() else { return };
        loop {
            let gone = self.take_up(&folder);
            // Nobody looks at mirrors where there is no API server.
            let is_alone = self.context.settings.is_standalone;
            for pod in gone.iter().filter(|_| !is_alone) {
                self.delete_mirror(pod).await;
            }
            for pod in self.known.values().filter(|_| !is_alone) {
                if let Err(error) = self.ensure_mirror(pod).await {
                    debug!(pod = pod.name(), error = %telemetry::chain(&error), "no mirror pod");
                }
            }
            let period = self.context.settings.config.file_check_frequency.0;
            drop(tokio::time::timeout(period, self.wake.notified()).await);
        }
    }

    /// Makes the pods known before anything looks for what belongs to no pod.
    pub(crate) fn begin(&mut self) {
        if let Some(folder) = self.folder() {
            self.take_up(&folder);
        }
    }

    fn folder(&self) -> Option<PathBuf> {
        let path = &self.context.settings.config.static_pod_path;
        (!path.is_empty()).then(|| PathBuf::from(path))
    }

    /// Starts what is new, ends what is gone, and returns the latter.
    fn take_up(&mut self, folder: &Path) -> Vec<Arc<Pod>> {
        let found = read_folder(folder, &self.context.settings.node_name);
        let gone: Vec<_> =
            self.known.keys().filter(|it| !found.contains_key(*it)).cloned().collect();
        let gone = gone.into_iter().filter_map(|uid| {
            self.workers.remove(&uid);
            self.known.remove(&uid)
        });
        let gone = gone.collect();
        for (uid, pod) in found {
            let pod = self.known.entry(uid).or_insert_with(|| Arc::new(pod)).clone();
            if self.workers.pod(&pod.uid()).is_none() {
                self.workers.update(pod);
            }
        }
        gone
    }

    /// A node may read only pods that are bound to it, so the mirror is made first and looked at when
    /// there is one already.
    async fn ensure_mirror(&self, pod: &Pod) -> Result<(), kube::Error> {
        let node = Api::<Node>::all(self.context.client.clone());
        let node = node.get(&self.context.settings.node_name).await?;
        let mirror = mirror(pod, &node);
        let api = Api::<Pod>::namespaced(self.context.client.clone(), pod.namespace());
        match api.create(&PostParams::default(), &mirror).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            result => return result.map(drop),
        }
        let existing = api.get(pod.name()).await?;
        let is_right = existing.annotation(MIRROR_ANNOTATION) == pod.annotation(HASH_ANNOTATION);
        if is_right && !existing.is_terminating() {
            return Ok(());
        }
        api.delete(pod.name(), &DeleteParams::default().grace_period(0)).await?;
        api.create(&PostParams::default(), &mirror).await.map(drop)
    }

    async fn delete_mirror(&self, pod: &Pod) {
        let api = Api::<Pod>::namespaced(self.context.client.clone(), pod.namespace());
        let params = DeleteParams::default().grace_period(0);
        if let Err(error) = api.delete(pod.name(), &params).await {
            debug!(pod = pod.name(), error = %telemetry::chain(&error), "a mirror pod stays");
        }
    }
}

/// The object that shows a static pod in the API.
fn mirror(pod: &Pod, node: &Node) -> Pod {
    let mut annotations = pod.metadata.annotations.clone().unwrap_or_default();
    let hash = annotations.get(HASH_ANNOTATION).cloned().unwrap_or_default();
    annotations.insert(MIRROR_ANNOTATION.to_owned(), hash);
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.metadata.name.clone().unwrap_or_default(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        ..OwnerReference::default()
    };
    Pod {
        metadata: ObjectMeta {
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            labels: pod.metadata.labels.clone(),
            annotations: Some(annotations),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: pod.spec.clone(),
        status: None,
    }
}

fn read_folder(folder: &Path, node_name: &str) -> BTreeMap<PodUid, Pod> {
    let mut pods = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        if is_hidden || !path.is_file() {
            continue;
        }
        let Ok(text) = fs::read_to_string(&path) else { continue };
        match yaml::from_str::<Pod>(&text) {
            Ok(pod) => {
                let pod = completed(pod, &text, node_name);
                pods.insert(pod.uid(), pod);
            }
            Err(error) => warn!(path = %path.display(), %error, "a static pod cannot be read"),
        }
    }
    pods
}

/// A pod from a file, with what the API server would have added. Its UID is its content's hash, so a
/// changed file is another pod.
fn completed(mut pod: Pod, text: &str, node_name: &str) -> Pod {
    let digest = Sha256::digest(format!("{node_name}\n{text}").as_bytes());
    let hash: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let name = pod.metadata.name.take().unwrap_or_default();
    pod.metadata.name = Some(format!("{name}-{node_name}"));
    pod.metadata.namespace.get_or_insert_with(|| "default".to_owned());
    pod.metadata.uid = Some(hash.clone());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(HASH_ANNOTATION.to_owned(), hash);
    annotations.insert(SOURCE_ANNOTATION.to_owned(), "file".to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node_name.to_owned());
    // Static pods tolerate everything that would end them.
    spec.tolerations.get_or_insert_default().push(k8s_openapi::api::core::v1::Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Default::default()
    });
    pod
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
        let first = read_folder(folder.path(), "n1");
        assert_eq!(first.len(), 1);
        let pod = first.values().next().unwrap();
        assert_eq!((pod.name(), pod.namespace()), ("web-n1", "default"));
        assert!(pod.is_mirror_or_static());
        fs::write(&path, TEXT.replace("image: i", "image: j")).unwrap();
        let second = read_folder(folder.path(), "n1");
        assert_ne!(first.keys().next(), second.keys().next());
    }

    #[test]
    fn a_mirror_carries_the_hash_and_belongs_to_the_node() {
        let pod = completed(yaml::from_str(TEXT).unwrap(), TEXT, "n1");
        let mirror = mirror(&pod, &Node::default());
        assert_eq!(mirror.annotation(MIRROR_ANNOTATION), pod.annotation(HASH_ANNOTATION));
        assert_eq!(mirror.metadata.owner_references.unwrap()[0].kind, "Node");
    }
}
