//! Volumes on the nodes' own disks, for clusters without a storage driver.
//!
//! The class `local-path` waits for the first consumer. When the scheduler has chosen a node, a helper
//! pod there makes a directory, and a volume that is bound to that node is made of it; when the claim
//! is gone, another helper removes the directory, and then the volume goes. The name of the directory is
//! the claim's UID: what users call their claims never becomes a path.
//!
//! A directory whose claim goes, or goes to another node, before there is a volume is removed too: the
//! helper that made it stays until the volume is there, and says where it is.
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

    /// The name of the pod that does it.
    fn helper(self, volume: &str) -> String {
        format!("local-path-{}-{volume}", self.verb())
    }

    /// The volume whose directory a pod of this name makes.
    fn made_by(pod: &str) -> Option<&str> {
        pod.strip_prefix("local-path-make-")
    }
}

/// How far a helper has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Running,
    Done,
    Failed,
    /// It is another node's, and has to be undone first.
    Elsewhere,
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
    let helpers = Queue::<Key>::new();
    let (on, of_claim) = (claims.clone(), helpers.clone());
    context.caches.claims.subscribe(move |change| {
        on.add(change.key.clone());
        if let Some(claim) = change.latest() {
            of_claim.add(Key::new(NAMESPACE, Task::Make.helper(&volume_name(claim))));
        }
    });
    let on = helpers.clone();
    context.caches.pods.subscribe(move |change| {
        if change.key.namespace == NAMESPACE && Task::made_by(&change.key.name).is_some() {
            on.add(change.key.clone());
        }
    });
    let on = volumes.clone();
    context.caches.volumes.subscribe(move |change| on.add(change.key.clone()));
    let it = Provisioner { recorder: context.recorder(PROVISIONER), image: image.into(), context };
    if let Err(error) = ensure_class(&it.context.client).await {
        tracing::warn!(error = %telemetry::chain(&error), "the class of local volumes was not made");
    }
    tokio::join!(
        controller::run("local-path", claims, 4, |key| it.claim(key)),
        controller::run("local-path-volumes", volumes, 4, |key| it.volume(key)),
        controller::run("local-path-helpers", helpers, 4, |key| it.helper(key)),
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
        if let Some(why) = unsupported(&claim) {
            self.refuse(&claim, why);
            return Ok(Action::Done);
        }
        if self.is_being_undone(&name).await? {
            return Ok(Action::After(Duration::from_secs(1)));
        }
        match self.help(Task::Make, &name, &node).await? {
            Progress::Running => Ok(Action::After(Duration::from_millis(200))),
            Progress::Elsewhere => Ok(Action::After(Duration::from_secs(1))),
            Progress::Failed => {
                self.refuse(&claim, &format!("the directory was not made on node {node}"));
                Ok(Action::After(RETRY))
            }
            Progress::Done => {
                // Its helper goes after that: see `helper`.
                self.create(&claim, &name, &node).await?;
                let message = format!("Successfully provisioned volume {name}");
                self.recorder.normal(&*claim, "ProvisioningSucceeded", message);
                Ok(Action::Done)
            }
        }
    }

    fn refuse(&self, claim: &PersistentVolumeClaim, why: &str) {
        let class = class_of_claim(claim).unwrap_or_default();
        let message = format!("failed to provision volume with StorageClass \"{class}\": {why}");
        self.recorder.warn(claim, "ProvisioningFailed", message);
    }

    /// A helper that has made a directory goes when its volume is there. Where the claim does not want it
    /// any more, the directory goes first.
    async fn helper(&self, key: Key) -> Result<Action, ApplyError> {
        let caches = &self.context.caches;
        let Some(pod) = caches.pods.get(&key) else { return Ok(Action::Done) };
        let (Some(volume), Some(node)) = (Task::made_by(&key.name), pods::node_of(&pod)) else {
            return Ok(Action::Done);
        };
        if object::is_terminating(&*pod) || !pods::is_over(&pod) {
            return Ok(Action::Done);
        }
        if caches.volumes.get(&Key::cluster(volume)).is_some() {
            apply::delete(&self.context.client, &*pod).await?;
            return Ok(Action::Done);
        }
        // What has been begun is ended, whatever the claim wants by then.
        if self.wanted_on(volume).as_deref() == Some(node) && !self.is_being_undone(volume).await? {
            return Ok(Action::Done);
        }
        match self.help(Task::Remove, volume, node).await? {
            Progress::Running => Ok(Action::After(Duration::from_millis(200))),
            Progress::Failed | Progress::Elsewhere => Ok(Action::After(RETRY)),
            Progress::Done => {
                apply::delete(&self.context.client, &*pod).await?;
                Ok(Action::Done)
            }
        }
    }

    /// Where the claim that a volume is made for wants it.
    fn wanted_on(&self, volume: &str) -> Option<String> {
        let claims = self.context.caches.claims.all();
        let claim = claims.iter().find(|it| volume_name(it) == volume)?;
        self.node_for(claim)
    }

    async fn is_being_undone(&self, volume: &str) -> Result<bool, ApplyError> {
        let name = Task::Remove.helper(volume);
        let found = apply::api::<Pod>(&self.context.client, NAMESPACE).get_opt(&name).await;
        Ok(found.map_err(|it| ApplyError::new::<Pod>("get", &name, it))?.is_some())
    }

    /// The node that was selected for a claim of ours that has no volume.
    fn node_for(&self, claim: &PersistentVolumeClaim) -> Option<String> {
        let class =
            self.context.caches.storage_classes.get(&Key::cluster(class_of_claim(claim)?))?;
        let is_bound = claim.spec.as_ref()?.volume_name.as_ref().is_some_and(|it| !it.is_empty());
        if class.provisioner != PROVISIONER || is_bound || object::is_terminating(claim) {
            return None;
        }
        let node = object::annotation(claim, SELECTED_NODE)?;
        // Of one that is gone the scheduler thinks again.
        self.context.caches.nodes.get(&Key::cluster(node)).map(|_| node.to_owned())
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
            Progress::Failed | Progress::Elsewhere => {
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

    /// Has something done on a node, by a pod that is made once. One that has failed goes, and one that
    /// has removed a directory.
    async fn help(&self, task: Task, volume: &str, node: &str) -> Result<Progress, ApplyError> {
        let name = task.helper(volume);
        let api = apply::api::<Pod>(&self.context.client, NAMESPACE);
        let found = api.get_opt(&name).await;
        let found = found.map_err(|it| ApplyError::new::<Pod>("get", &name, it))?;
        let Some(pod) = found else {
            let pod = serde_json::from_value::<Pod>(helper(task, &name, volume, node, &self.image))
                .map_err(|it| ApplyError::other(it.to_string()))?;
            return apply::create(&self.context.client, &pod).await.map(|_| Progress::Running);
        };
        let progress = progress(&pod, node);
        let goes = match progress {
            Progress::Running | Progress::Elsewhere => false,
            Progress::Failed => true,
            Progress::Done => task == Task::Remove,
        };
        if goes && !object::is_terminating(&pod) {
            apply::delete(&self.context.client, &pod).await?;
        }
        Ok(progress)
    }
}

/// A helper may be for another node: the scheduler has thought again.
fn progress(pod: &Pod, node: &str) -> Progress {
    match pods::phase(pod) {
        _ if pods::node_of(pod) != Some(node) => Progress::Elsewhere,
        _ if object::is_terminating(pod) => Progress::Running,
        "Succeeded" => Progress::Done,
        "Failed" => Progress::Failed,
        _ => Progress::Running,
    }
}

/// What a directory cannot be.
fn unsupported(claim: &PersistentVolumeClaim) -> Option<&'static str> {
    let spec = claim.spec.as_ref()?;
    if spec.volume_mode.as_deref() == Some("Block") {
        return Some("block volumes are not supported");
    }
    if spec.data_source.is_some() || spec.data_source_ref.is_some() {
        return Some("claim.Spec.DataSource is not supported");
    }
    let selector = spec.selector.as_ref();
    let selects =
        selector.is_some_and(|it| it.match_labels.is_some() || it.match_expressions.is_some());
    selects.then_some("claim.Spec.Selector is not supported")
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
    fn what_a_directory_cannot_be_is_refused() {
        let claim = |spec: Value| serde_json::from_value(json!({ "spec": spec })).unwrap();
        let told = |spec: Value| unsupported(&claim(spec)).unwrap_or_default();
        assert_eq!(told(json!({ "volumeMode": "Filesystem" })), "");
        assert_eq!(told(json!({ "volumeMode": "Block" })), "block volumes are not supported");
        let source = json!({ "dataSource": { "kind": "PersistentVolumeClaim", "name": "other" } });
        assert_eq!(told(source), "claim.Spec.DataSource is not supported");
        let selector = json!({ "selector": { "matchLabels": { "a": "b" } } });
        assert_eq!(told(selector), "claim.Spec.Selector is not supported");
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
        assert_eq!(progress(&pod("Succeeded"), "b"), Progress::Elsewhere);
        assert_eq!(progress(&pod("Failed"), "a"), Progress::Failed);
    }
}
