//! Volumes on the nodes' own disks, for clusters without a storage driver.
//!
//! The class `local-path` waits for the first consumer. When the scheduler has chosen a node, a helper
//! pod there makes a directory, and a volume that is bound to that node is made of it; when the claim
//! is gone, another helper removes the directory, and then the volume goes. The name of the directory is
//! the claim's UID: what users call their claims never becomes a path.
//!
//! There is no upstream in Kubernetes; the idea and the life cycle are those of Rancher's
//! local-path-provisioner. Deviation: a directory is as large as the disk lets it become, and a volume
//! whose node is gone is given up with it.

use std::{sync::Arc, time::Duration};

use controller::{Action, ApplyError, Key, Queue, Recorder, apply, object};
use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::StorageClass,
};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use scheduling::volume::matching::class_of_claim;
use serde_json::{Value, json};

use crate::{Context, pods};

const PROVISIONER: &str = "nodestead.io/local-path";
const CLASS: &str = "local-path";
const ROOT: &str = "/var/lib/nodestead/local-path";
const NAMESPACE: &str = "kube-system";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const HOSTNAME: &str = "kubernetes.io/hostname";
/// A failed helper is tried again after this time.
const RETRY: Duration = Duration::from_secs(10);

/// What a helper pod does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Make,
    Remove,
}

impl Task {
    fn verb(self) -> &'static str {
        match self {
            Self::Make => "make",
            Self::Remove => "remove",
        }
    }
}

/// How far a helper has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Running,
    Done,
    Failed,
}

#[derive(Clone)]
struct Provisioner {
    context: Context,
    recorder: Recorder,
    /// The image that helper pods run.
    image: Arc<str>,
}

pub(crate) async fn run(context: Context) {
    let Some(image) = context.config.local_path_image.clone() else { return };
    let (claims, volumes) = (Queue::<Key>::new(), Queue::<Key>::new());
    let on = claims.clone();
    context.caches.claims.subscribe(move |change| on.add(change.key.clone()));
    let on = volumes.clone();
    context.caches.volumes.subscribe(move |change| on.add(change.key.clone()));
    let it = Provisioner { recorder: context.recorder(PROVISIONER), image: image.into(), context };
    if let Err(error) = ensure_class(&it.context.client).await {
        tracing::warn!(error = %telemetry::chain(&error), "the class of local volumes was not made");
    }
    tokio::join!(
        controller::run("local-path", claims, 4, |key| it.claim(key)),
        controller::run("local-path-volumes", volumes, 4, |key| it.volume(key)),
    );
}

/// Once: what an administrator made of it afterwards stays.
async fn ensure_class(client: &Client) -> Result<(), ApplyError> {
    let class: StorageClass = serde_json::from_value(json!({
        "metadata": { "name": CLASS,
            "annotations": { "storageclass.kubernetes.io/is-default-class": "true" } },
        "provisioner": PROVISIONER, "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }))
    .map_err(|it| ApplyError::other(it.to_string()))?;
    match Api::all(client.clone()).create(&PostParams::default(), &class).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(source) => Err(ApplyError::new::<StorageClass>("create", CLASS, source)),
        Ok(_) => Ok(()),
    }
}

impl Provisioner {
    async fn claim(&self, key: Key) -> Result<Action, ApplyError> {
        let caches = &self.context.caches;
        let Some(claim) = caches.claims.get(&key) else { return Ok(Action::Done) };
        let Some(node) = self.node_for(&claim) else { return Ok(Action::Done) };
        let name = volume_name(&claim);
        if caches.volumes.get(&Key::cluster(&name)).is_some() {
            return Ok(Action::Done);
        }
        match self.help(Task::Make, &name, &node).await? {
            Progress::Running => Ok(Action::After(Duration::from_millis(200))),
            Progress::Failed => {
                let message = format!("the directory was not made on node {node}");
                self.recorder.warn(&*claim, "ProvisioningFailed", message);
                Ok(Action::After(RETRY))
            }
            Progress::Done => {
                self.create(&claim, &name, &node).await?;
                let message = format!("Successfully provisioned volume {name}");
                self.recorder.normal(&*claim, "ProvisioningSucceeded", message);
                Ok(Action::Done)
            }
        }
    }

    /// The node that was selected for a claim of ours that has no volume.
    fn node_for(&self, claim: &PersistentVolumeClaim) -> Option<String> {
        let class =
            self.context.caches.storage_classes.get(&Key::cluster(class_of_claim(claim)?))?;
        let is_bound = claim.spec.as_ref()?.volume_name.as_ref().is_some_and(|it| !it.is_empty());
        if class.provisioner != PROVISIONER || is_bound || object::is_terminating(claim) {
            return None;
        }
        object::annotation(claim, SELECTED_NODE).map(str::to_owned)
    }

    async fn create(
        &self,
        claim: &PersistentVolumeClaim,
        name: &str,
        node: &str,
    ) -> Result<(), ApplyError> {
        let found = self.context.caches.nodes.get(&Key::cluster(node));
        let host = found.as_deref().and_then(|it| object::label(it, HOSTNAME)).unwrap_or(node);
        let class = class_of_claim(claim).unwrap_or_default();
        let class = self.context.caches.storage_classes.get(&Key::cluster(class));
        let policy = class.and_then(|it| it.reclaim_policy.clone());
        let volume: PersistentVolume =
            serde_json::from_value(volume(claim, name, host, policy.as_deref()))
                .map_err(|it| ApplyError::other(it.to_string()))?;
        let api = Api::<PersistentVolume>::all(self.context.client.clone());
        match api.create(&PostParams::default(), &volume).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(source) => Err(ApplyError::new::<PersistentVolume>("create", name, source)),
            Ok(_) => Ok(()),
        }
    }

    async fn volume(&self, key: Key) -> Result<Action, ApplyError> {
        let Some(volume) = self.context.caches.volumes.get(&key) else { return Ok(Action::Done) };
        if !is_to_go(&volume) {
            return Ok(Action::Done);
        }
        let progress = match self.node_of(&volume) {
            // The disk went with its node.
            None => Progress::Done,
            Some(node) => self.help(Task::Remove, &key.name, &node).await?,
        };
        match progress {
            Progress::Running => Ok(Action::After(Duration::from_millis(200))),
            Progress::Failed => {
                self.recorder.warn(&*volume, "VolumeFailedDelete", "the directory was not removed");
                Ok(Action::After(RETRY))
            }
            Progress::Done => {
                let api = Api::<PersistentVolume>::all(self.context.client.clone());
                apply::delete_with(&api, &*volume, DeleteParams::default()).await?;
                Ok(Action::Done)
            }
        }
    }

    /// The node that a volume is on, if it is still there.
    fn node_of(&self, volume: &PersistentVolume) -> Option<String> {
        let affinity = volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()?;
        let term = affinity.node_selector_terms.first()?.match_expressions.as_ref()?.first()?;
        let host = term.values.as_ref()?.first()?.clone();
        let nodes = self.context.caches.nodes.all();
        let is_it = |it: &&Arc<Node>| object::label(&***it, HOSTNAME) == Some(host.as_str());
        nodes.iter().find(is_it)?.metadata.name.clone()
    }

    /// Has something done on a node, by a pod that is made once and goes when it has ended.
    async fn help(&self, task: Task, volume: &str, node: &str) -> Result<Progress, ApplyError> {
        let name = format!("local-path-{}-{volume}", task.verb());
        let api = apply::api::<Pod>(&self.context.client, NAMESPACE);
        let found = api.get_opt(&name).await;
        let found = found.map_err(|it| ApplyError::new::<Pod>("get", &name, it))?;
        let Some(pod) = found else {
            let pod = serde_json::from_value::<Pod>(helper(task, &name, volume, node, &self.image))
                .map_err(|it| ApplyError::other(it.to_string()))?;
            return apply::create(&self.context.client, &pod).await.map(|_| Progress::Running);
        };
        let progress = progress(&pod, node);
        if progress != Progress::Running && !object::is_terminating(&pod) {
            apply::delete(&self.context.client, &pod).await?;
        }
        Ok(progress)
    }
}

/// A helper for another node (the scheduler has thought again) is as good as a failed one.
fn progress(pod: &Pod, node: &str) -> Progress {
    match pods::phase(pod) {
        _ if pods::node_of(pod) != Some(node) => Progress::Failed,
        "Succeeded" => Progress::Done,
        "Failed" => Progress::Failed,
        _ => Progress::Running,
    }
}

fn volume_name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.metadata.uid.as_deref().unwrap_or_default())
}

/// Ours, without a claim, and not to be kept.
fn is_to_go(volume: &PersistentVolume) -> bool {
    let policy = volume.spec.as_ref().and_then(|it| it.persistent_volume_reclaim_policy.as_deref());
    let phase = volume.status.as_ref().and_then(|it| it.phase.as_deref());
    object::annotation(volume, PROVISIONED_BY) == Some(PROVISIONER)
        && policy == Some("Delete")
        && phase == Some("Released")
        && !object::is_terminating(volume)
}

fn volume(claim: &PersistentVolumeClaim, name: &str, host: &str, policy: Option<&str>) -> Value {
    let spec = claim.spec.clone().unwrap_or_default();
    let meta = &claim.metadata;
    let size = spec.resources.and_then(|it| it.requests?.get("storage").cloned());
    json!({
        "metadata": { "name": name, "annotations": { PROVISIONED_BY: PROVISIONER } },
        "spec": {
            "capacity": { "storage": size },
            "accessModes": spec.access_modes,
            "volumeMode": "Filesystem",
            "storageClassName": class_of_claim(claim),
            "persistentVolumeReclaimPolicy": policy.unwrap_or("Delete"),
            "claimRef": { "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": meta.namespace, "name": meta.name, "uid": meta.uid },
            "hostPath": { "path": format!("{ROOT}/{name}"), "type": "Directory" },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [
                { "key": HOSTNAME, "operator": "In", "values": [host] }] }] } },
        },
    })
}

fn helper(task: Task, name: &str, volume: &str, node: &str, image: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": NAMESPACE,
            "labels": { "app.kubernetes.io/name": "local-path" } },
        "spec": {
            "nodeName": node, "restartPolicy": "Never", "automountServiceAccountToken": false,
            "activeDeadlineSeconds": 120, "terminationGracePeriodSeconds": 0,
            "priorityClassName": "system-node-critical",
            "tolerations": [{ "operator": "Exists" }],
            "containers": [{
                "name": "helper", "image": image, "imagePullPolicy": "IfNotPresent",
                "args": ["run", "local-path", task.verb(), format!("/volumes/{volume}")],
                "securityContext": { "runAsUser": 0, "readOnlyRootFilesystem": true,
                    "allowPrivilegeEscalation": false },
                "volumeMounts": [{ "name": "volumes", "mountPath": "/volumes" }],
            }],
            "volumes": [{ "name": "volumes",
                "hostPath": { "path": ROOT, "type": "DirectoryOrCreate" } }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_the_claims_alone_and_its_path_holds_no_name_of_a_user() {
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "metadata": { "namespace": "n", "name": "..", "uid": "1-2" },
            "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": "local-path",
                "resources": { "requests": { "storage": "1Gi" } } } }))
        .unwrap();
        let name = volume_name(&claim);
        let made: PersistentVolume =
            serde_json::from_value(volume(&claim, &name, "host", None)).unwrap();
        let spec = made.spec.as_ref().unwrap();
        assert_eq!(spec.host_path.as_ref().unwrap().path, format!("{ROOT}/pvc-1-2"));
        assert_eq!(spec.claim_ref.as_ref().unwrap().uid.as_deref(), Some("1-2"));
        assert!(scheduling::volume::matching::check_volume(&claim, &made).is_ok());
    }

    #[test]
    fn only_a_released_volume_of_ours_that_is_to_be_deleted_goes() {
        let volume = |by: &str, policy: &str, phase: &str| -> PersistentVolume {
            serde_json::from_value(json!({ "metadata": { "annotations": { PROVISIONED_BY: by } },
                "spec": { "persistentVolumeReclaimPolicy": policy },
                "status": { "phase": phase } }))
            .unwrap()
        };
        assert!(is_to_go(&volume(PROVISIONER, "Delete", "Released")));
        assert!(!is_to_go(&volume(PROVISIONER, "Retain", "Released")));
        assert!(!is_to_go(&volume(PROVISIONER, "Delete", "Bound")));
        assert!(!is_to_go(&volume("example.com/disk", "Delete", "Released")));
    }

    #[test]
    fn a_helper_counts_for_its_own_node_only() {
        let pod = |phase: &str| -> Pod {
            serde_json::from_value(json!({ "spec": { "containers": [], "nodeName": "a" },
                "status": { "phase": phase } }))
            .unwrap()
        };
        assert_eq!(progress(&pod("Pending"), "a"), Progress::Running);
        assert_eq!(progress(&pod("Succeeded"), "a"), Progress::Done);
        assert_eq!(progress(&pod("Succeeded"), "b"), Progress::Failed);
        assert_eq!(progress(&pod("Failed"), "a"), Progress::Failed);
    }
}
