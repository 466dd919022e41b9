//! Has volumes of CSI drivers attached to the nodes whose pods need them, and detached afterwards.
//!
//! An attachment is a VolumeAttachment, which the driver's external-attacher fulfils; the node's status
//! then names the volume (`volumesAttached`). Before a volume is detached its name is taken out of there,
//! and the node must not name it as in use (`volumesInUse`): the answer to that very write says so. A node
//! that is not healthy, or gone, has six minutes; one with the taint `node.kubernetes.io/out-of-service`
//! none.
//!
//! Attachments are known by their name, which is made of the volume, the driver and the node. Others are
//! left alone.
//!
//! Upstream: `pkg/controller/volume/attachdetach`, `pkg/volume/csi/csi_attacher.go`. Deviation: volumes of
//! CSI drivers only; those of in-tree plug-ins that were moved to drivers are not. The volume of a
//! persistent volume that is gone, though it was protected, stays attached.

mod observe;
mod plan;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use controller::{Action, ApplyError, Change, Key, Queue, Recorder, apply};
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume},
    storage::v1::VolumeAttachment,
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use parking_lot::Mutex;
use serde_json::json;
use tracing::info;

use self::{
    observe::Observer,
    plan::{Note, Plan, Volume},
};
use crate::{Context, pods};

const PARALLEL: usize = 4;
/// What fails for good is told again after this time.
const TOLD_FOR: Duration = Duration::from_secs(120);

#[derive(Clone)]
struct Controller {
    context: Context,
    recorder: Recorder,
    /// By node.
    queue: Queue<String>,
    memory: Arc<Mutex<Memory>>,
}

#[derive(Default)]
struct Memory {
    /// Since when nobody needs an attachment, by its name.
    unwanted: BTreeMap<String, Timestamp>,
    /// What was told of a volume on a node, and when.
    told: BTreeMap<(String, String), (String, Timestamp)>,
}

pub(crate) async fn run(context: Context) {
    let it = Controller {
        recorder: context.recorder("attachdetach-controller"),
        queue: Queue::new(),
        memory: Arc::default(),
        context,
    };
    it.subscribe();
    let queue = it.queue.clone();
    controller::run("attachdetach", queue, PARALLEL, |node| it.node(node)).await;
}

impl Controller {
    fn subscribe(&self) {
        let caches = &self.context.caches;
        let this = self.clone();
        caches.pods.subscribe(move |change| {
            let pods = change.old.iter().chain(&change.new);
            let with_claims = pods.filter(|it| pods::claims_of(it).next().is_some());
            with_claims.filter_map(|it| pods::node_of(it)).for_each(|it| this.queue.add(it.into()));
        });
        let this = self.clone();
        caches.nodes.subscribe(move |change| {
            if is_news(change) {
                this.queue.add(change.key.name.clone());
            }
        });
        let this = self.clone();
        caches.attachments.subscribe(move |change| this.attachment_changed(change));
        let this = self.clone();
        caches.claims.subscribe(move |change| this.users(&change.key));
        let this = self.clone();
        caches.volumes.subscribe(move |change| {
            change.latest().into_iter().for_each(|it| this.users_of(it));
        });
        let this = self.clone();
        caches.csi_drivers.subscribe(move |_| {
            this.context.caches.nodes.keys().into_iter().for_each(|it| this.queue.add(it.name));
        });
    }

    /// A volume that leaves one node may be awaited on another.
    fn attachment_changed(&self, change: &Change<VolumeAttachment>) {
        let Some(attachment) = change.latest() else { return };
        self.queue.add(attachment.spec.node_name.clone());
        let volume = attachment.spec.source.persistent_volume_name.clone().unwrap_or_default();
        if let Some(volume) = self.context.caches.volumes.get(&Key::cluster(volume)) {
            self.users_of(&volume);
        }
    }

    fn users_of(&self, volume: &PersistentVolume) {
        let claim = volume.spec.as_ref().and_then(|it| it.claim_ref.clone()).unwrap_or_default();
        self.users(&Key::new(claim.namespace.unwrap_or_default(), claim.name.unwrap_or_default()));
    }

    /// The nodes of the pods that use a claim.
    fn users(&self, claim: &Key) {
        for pod in self.context.caches.pods.in_namespace(&claim.namespace) {
            let uses = pods::claims_of(&pod).any(|it| it == claim.name);
            if let Some(node) = pods::node_of(&pod).filter(|_| uses) {
                self.queue.add(node.to_owned());
            }
        }
    }

    async fn node(&self, name: String) -> Result<Action, ApplyError> {
        let caches = &self.context.caches;
        let node = caches.nodes.get(&Key::cluster(name.clone()));
        let observer = Observer { caches };
        let wanted = observer.wanted(&name, node.as_deref());
        let own = observer.attachments(&name);
        if wanted.is_empty() && own.is_empty() && node.as_deref().is_none_or(plan::reports_nothing)
        {
            return Ok(Action::Done);
        }
        let now = self.context.clock.now();
        let plan = {
            let mut memory = self.memory.lock();
            memory.note_unwanted(&name, &own, &wanted, now);
            plan::plan(plan::World {
                name: &name,
                node: node.as_deref(),
                wanted: &wanted,
                own: &own,
                elsewhere: &|volume| observer.elsewhere(&name, volume),
                unwanted: &memory.unwanted,
                now,
            })
        };
        for note in &plan.notes {
            self.tell(&name, note, now);
        }
        for volume in &plan.attach {
            self.attach(&name, volume).await?;
        }
        self.report_and_detach(&name, node.as_deref(), &plan).await?;
        Ok(plan.again.map_or(Action::Done, Action::After))
    }

    async fn attach(&self, node: &str, volume: &Volume) -> Result<(), ApplyError> {
        let name = volume.attachment_name(node);
        let attachment: VolumeAttachment = serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": { "attacher": volume.driver, "nodeName": node,
                "source": { "persistentVolumeName": volume.name } },
        }))
        .map_err(|it| ApplyError::other(it.to_string()))?;
        let api = Api::<VolumeAttachment>::all(self.context.client.clone());
        match api.create(&PostParams::default(), &attachment).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(source) => Err(ApplyError::new::<VolumeAttachment>("create", &name, source)),
            Ok(_) => {
                info!(node, volume = volume.name, "asked for an attachment");
                Ok(())
            }
        }
    }

    /// The node's status first: what is taken out of it may not be mounted from then on.
    async fn report_and_detach(
        &self,
        name: &str,
        node: Option<&Node>,
        plan: &Plan,
    ) -> Result<(), ApplyError> {
        let fresh = match (node, &plan.report) {
            (Some(_), Some(volumes)) => self.report(name, volumes).await?,
            _ => None,
        };
        for (volume, pods) in &plan.attached {
            let message = format!("AttachVolume.Attach succeeded for volume \"{volume}\" ");
            for pod in pods {
                self.recorder.normal(&**pod, "SuccessfulAttachVolume", message.clone());
            }
        }
        for it in &plan.detach {
            let is_in_use =
                fresh.as_ref().is_some_and(|node| plan::is_in_use(node, &it.unique_name));
            if is_in_use && !it.is_forced {
                self.queue.add(name.to_owned());
                continue;
            }
            info!(node = name, volume = it.unique_name, forced = it.is_forced, "detaching");
            let api = Api::<VolumeAttachment>::all(self.context.client.clone());
            apply::delete_with(&api, &*it.attachment, DeleteParams::default()).await?;
        }
        Ok(())
    }

    /// The node as it is then; `None` where it is gone.
    async fn report(&self, name: &str, volumes: &[String]) -> Result<Option<Node>, ApplyError> {
        let attached: Vec<_> =
            volumes.iter().map(|it| json!({ "name": it, "devicePath": "" })).collect();
        let patch = Patch::Merge(json!({ "status": { "volumesAttached": attached } }));
        let api = Api::<Node>::all(self.context.client.clone());
        match api.patch_status(name, &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
            Err(source) => Err(ApplyError::new::<Node>("patch the status of", name, source)),
            Ok(node) => Ok(Some(node)),
        }
    }

    fn tell(&self, node: &str, note: &Note, now: Timestamp) {
        let key = (node.to_owned(), note.volume.clone());
        {
            let mut memory = self.memory.lock();
            let is_known = memory
                .told
                .get(&key)
                .is_some_and(|(message, at)| *message == note.message && *at + TOLD_FOR > now);
            if is_known {
                return;
            }
            memory.told.insert(key, (note.message.clone(), now));
        }
        for (pod, message) in &note.pods {
            self.recorder.warn(&**pod, "FailedAttachVolume", message.clone());
        }
    }
}

impl Memory {
    fn note_unwanted(
        &mut self,
        node: &str,
        own: &[(Arc<VolumeAttachment>, Volume)],
        wanted: &[Volume],
        now: Timestamp,
    ) {
        let is_wanted = |it: &Volume| wanted.iter().any(|other| other.name == it.name);
        let names: BTreeMap<_, _> =
            own.iter().map(|(_, it)| (it.attachment_name(node), is_wanted(it))).collect();
        for (name, is_wanted) in &names {
            if *is_wanted {
                self.unwanted.remove(name);
            } else {
                self.unwanted.entry(name.clone()).or_insert(now);
            }
        }
        self.told.retain(|(there, volume), _| {
            there != node || wanted.iter().any(|it| it.name == *volume)
        });
    }

    #[cfg(test)]
    fn since(&self, attachment: &str) -> Option<Timestamp> {
        self.unwanted.get(attachment).copied()
    }
}

/// The kubelet rewrites a node's status all the time.
fn is_news(change: &Change<Node>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return true };
    let volumes = |it: &Node| {
        let status = it.status.clone().unwrap_or_default();
        (status.volumes_in_use, status.volumes_attached)
    };
    old.spec != new.spec
        || old.metadata.annotations != new.metadata.annotations
        || plan::is_healthy(old) != plan::is_healthy(new)
        || volumes(old) != volumes(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_six_minutes_begin_when_an_attachment_is_first_seen_unwanted() {
        let volume = Volume {
            name: "pv".into(),
            driver: "disk".into(),
            handle: "h".into(),
            is_exclusive: true,
            pods: Vec::new(),
        };
        let name = volume.attachment_name("n");
        let attachment: VolumeAttachment = serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": { "attacher": "disk", "nodeName": "n", "source": {} } }))
        .unwrap();
        let own = [(Arc::new(attachment), volume.clone())];
        let [first, later] = [0, 60].map(|it| Timestamp::from_second(it).unwrap());
        let mut memory = Memory::default();
        memory.note_unwanted("n", &own, &[], first);
        memory.note_unwanted("n", &own, &[], later);
        assert_eq!(memory.since(&name), Some(first));
        memory.note_unwanted("n", &own, &[volume], later);
        assert_eq!(memory.since(&name), None);
    }
}
