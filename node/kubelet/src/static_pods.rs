//! Pods from files and from a URL, and the mirror pods that show them in the API.
//!
//! A file that appears, changes or goes is a pod that is added, replaced or removed; so is what the URL
//! answers. A static pod runs whether or not the API server can be reached; its mirror pod is made, and
//! made again, when it can.
//!
//! Upstream: `pkg/kubelet/config/file.go`, `pkg/kubelet/config/http.go`,
//! `pkg/kubelet/pod/mirror_client.go`.
//!
//! A pod that refers to objects of the API is not run, nor one whose names or containers the API server
//! would refuse.

mod checked;
mod decode;
mod references;
mod url;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api,
    api::{DeleteParams, PostParams, Preconditions},
};
use linux_inotify::Watch;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tracing::debug;

use self::{decode::Pods, url::Source};

use crate::{
    context::Context,
    pod::{HASH_ANNOTATION, MIRROR_ANNOTATION, PodExt, PodUid},
    pod_workers::PodWorkers,
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

    /// Follows the files and the URL for ever.
    pub(crate) async fn run(mut self) {
        let path = self.path();
        let source = Source::of(&self.context.settings);
        if path.is_none() && source.is_none() {
            return;
        }
        let (found, mut remote) = watch::channel(None::<Pods>);
        if let Some(source) = source {
            drop(self.context.scope.spawn("static-pod-url", source.run(found)));
        }
        let mut watch = Watch::new();
        let period = self.context.settings.config.file_check_frequency.0;
        let (mut next, mut is_due) = (Instant::now(), true);
        loop {
            if let Some(path) = &path {
                watch.add_folders(path);
            }
            let pods = remote.borrow_and_update().clone();
            let is_answered = pods.is_some();
            let (gone, is_new) = self.take_up(pods.unwrap_or_default());
            if is_answered {
                self.context.knows_url_pods.send_replace(true);
            }
            // Whoever writes files all the time costs the API server nothing.
            if is_due || is_new || !gone.is_empty() {
                self.keep_mirrors(gone).await;
            }
            if is_due {
                next = Instant::now() + period;
            }
            is_due = tokio::select! {
                () = self.wake.notified() => true,
                () = tokio::time::sleep_until(next) => true,
                Ok(()) = remote.changed() => false,
                () = watch.changed(), if path.is_some() => false,
            };
        }
    }

    /// Makes the pods known before anything looks for what belongs to no pod.
    pub(crate) fn begin(&mut self) {
        self.take_up(Pods::new());
    }

    /// A folder, or a single file.
    fn path(&self) -> Option<PathBuf> {
        let path = &self.context.settings.config.static_pod_path;
        (!path.is_empty()).then(|| PathBuf::from(path))
    }

    /// Starts what is new, ends what is gone. Returns the latter, and whether anything was new.
    fn take_up(&mut self, remote: Pods) -> (Vec<Arc<Pod>>, bool) {
        let node = &self.context.settings.node_name;
        let mut found = self.path().map(|it| decode::files(&it, node)).unwrap_or_default();
        found.extend(remote);
        let gone: Vec<_> =
            self.known.keys().filter(|it| !found.contains_key(*it)).cloned().collect();
        let gone = gone.into_iter().filter_map(|uid| {
            self.workers.remove(&uid);
            self.known.remove(&uid)
        });
        let gone = gone.collect();
        let is_new = found.keys().any(|it| !self.known.contains_key(it));
        for (uid, pod) in found {
            let pod = self.known.entry(uid).or_insert_with(|| Arc::new(pod)).clone();
            if self.workers.pod(&pod.uid()).is_none() {
                self.workers.update(pod);
            }
        }
        (gone, is_new)
    }

    async fn keep_mirrors(&self, gone: Vec<Arc<Pod>>) {
        // Nobody looks at mirrors where there is no API server.
        if self.context.settings.is_standalone {
            return;
        }
        for pod in &gone {
            self.delete_mirror(pod).await;
        }
        for pod in self.known.values() {
            if let Err(error) = self.ensure_mirror(pod).await {
                debug!(pod = pod.name(), error = %telemetry::chain(&error), "no mirror pod");
            }
        }
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

/// Deletes those of these mirrors whose pods went while no kubelet looked; none before all that this
/// node's files and URL say is known.
pub(crate) async fn remove_orphans(
    context: Arc<Context>,
    workers: Arc<PodWorkers>,
    mirrors: Vec<Pod>,
) {
    let mut known = context.knows_url_pods.subscribe();
    // The sender lives in the context, so this cannot fail.
    drop(known.wait_for(|it| *it).await);
    for mirror in mirrors {
        let (namespace, name) = (mirror.namespace(), mirror.name());
        if workers.find(namespace, name).is_some_and(|it| it.is_mirror_or_static()) {
            continue;
        }
        let uid = mirror.metadata.uid.clone();
        let preconditions = Some(Preconditions { uid, resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::default() }.grace_period(0);
        let api = Api::<Pod>::namespaced(context.client.clone(), namespace);
        if let Err(error) = api.delete(name, &params).await {
            debug!(name, error = %telemetry::chain(&error), "an orphaned mirror pod stays");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_carries_the_hash_and_belongs_to_the_node() {
        let text = r#"{"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}"#;
        let pods = decode::answer(text, "n1", "http://example.com/pods").unwrap();
        let pod = pods.values().next().unwrap();
        let mirror = mirror(pod, &Node::default());
        assert_eq!(mirror.annotation(MIRROR_ANNOTATION), pod.annotation(HASH_ANNOTATION));
        assert_eq!(mirror.metadata.owner_references.unwrap()[0].kind, "Node");
    }
}
