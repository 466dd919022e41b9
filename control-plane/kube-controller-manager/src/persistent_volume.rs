//! Binds claims to volumes, one to one, and lets go of volumes whose claims are gone.
//!
//! Both sides name each other; the volume's side is written first, with the claim's UID, so that two
//! claims never have one volume: whoever writes second meets a conflict. Every write of a binding
//! can be repeated.
//!
//! A claim whose class waits for the first consumer is left alone until the scheduler has chosen: a
//! volume (by writing the claim into it), or a node (by an annotation of the claim, for the class's
//! provisioner).
//!
//! Upstream: `pkg/controller/volume/persistentvolume`. Deviation: there are no plug-ins in the
//! controller, so that volumes are provisioned and deleted by provisioners outside of it only
//! (`Recycle` is refused: the volume fails with upstream's message for a volume without a plug-in).

mod plan;

use std::{sync::Arc, time::Duration};

use controller::{Action, ApplyError, Change, EventType, Key, Queue, Recorder, object};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use self::plan::{BOUND_BY_CONTROLLER, ClaimPlan, Claims, VolumePlan};
use crate::Context;

/// Upstream's `--pvclaimbinder-sync-period`.
const RESYNC: Duration = Duration::from_secs(15);
const PARALLEL: usize = 4;

#[derive(Clone)]
struct Controller {
    context: Context,
    recorder: Recorder,
    claims: Queue<Key>,
    volumes: Queue<Key>,
}

pub(crate) async fn run(context: Context) {
    let it = Controller {
        recorder: context.recorder("persistentvolume-controller"),
        claims: Queue::new(),
        volumes: Queue::new(),
        context,
    };
    it.subscribe();
    let (claims, volumes) = (it.claims.clone(), it.volumes.clone());
    tokio::join!(
        controller::run("persistentvolume-binder", claims, PARALLEL, |key| it.claim(key)),
        controller::run("persistentvolume", volumes, PARALLEL, |key| it.volume(key)),
    );
}

impl Controller {
    fn subscribe(&self) {
        let caches = &self.context.caches;
        let this = self.clone();
        caches.claims.subscribe(move |change| this.claim_changed(change));
        let this = self.clone();
        caches.volumes.subscribe(move |change| this.volume_changed(change));
        let this = self.clone();
        caches.storage_classes.subscribe(move |_| this.open_claims());
    }

    fn claim_changed(&self, change: &Change<PersistentVolumeClaim>) {
        self.claims.add(change.key.clone());
        let claims = change.old.iter().chain(&change.new);
        let names = claims.filter_map(|it| it.spec.as_ref()?.volume_name.clone());
        names.filter(|it| !it.is_empty()).for_each(|it| self.volumes.add(Key::cluster(it)));
    }

    fn volume_changed(&self, change: &Change<PersistentVolume>) {
        self.volumes.add(change.key.clone());
        let refers = |it: &Arc<PersistentVolume>| {
            let to = it.spec.as_ref()?.claim_ref.clone()?;
            Some(Key::new(to.namespace?, to.name?))
        };
        let promised = change.old.iter().chain(&change.new).filter_map(refers);
        promised.for_each(|it| self.claims.add(it));
        if change.new.as_ref().is_some_and(|it| refers(it).is_none()) {
            self.open_claims();
        }
    }

    /// Those that a new volume or class may help.
    fn open_claims(&self) {
        for claim in self.context.caches.claims.all() {
            if !plan::is_bound(&claim) {
                self.claims.add(Key::of(&*claim));
            }
        }
    }

    async fn claim(&self, key: Key) -> Result<Action, ApplyError> {
        let caches = &self.context.caches;
        let Some(claim) = caches.claims.get(&key) else { return Ok(Action::Done) };
        let (volumes, classes) = (caches.volumes.all(), caches.storage_classes.all());
        let plan = Claims { volumes: &volumes, classes: &classes }.plan(&claim);
        match plan {
            ClaimPlan::Nothing => return Ok(Action::Done),
            ClaimPlan::Class(name) => {
                let patch = json!({ "spec": { "storageClassName": name } });
                self.patch_claim(&claim, patch).await?;
                return Ok(Action::Done);
            }
            ClaimPlan::Bind(volume) => {
                self.bind(&claim, &volume).await?;
                return Ok(Action::Done);
            }
            ClaimPlan::Lost { reason, message } => {
                let status = json!({ "phase": "Lost" });
                if plan::phase(&claim) != "Lost" {
                    self.patch_claim_status(&claim, status).await?;
                    self.recorder.warn(&*claim, reason, message);
                }
                return Ok(Action::Done);
            }
            ClaimPlan::Wait { kind, reason, message } => {
                self.recorder.record(&*claim, kind, reason, message);
            }
            ClaimPlan::Provision { provisioner, message } => {
                self.recorder.record(&*claim, EventType::Normal, "ExternalProvisioning", message);
                if let Some(patch) = plan::ask(&claim, &provisioner) {
                    self.patch_claim(&claim, patch).await?;
                }
            }
        }
        if plan::phase(&claim) != "Pending" {
            self.patch_claim_status(&claim, json!({ "phase": "Pending" })).await?;
        }
        Ok(Action::After(RESYNC))
    }

    /// The volume's side, then the claim's.
    async fn bind(
        &self,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
    ) -> Result<(), ApplyError> {
        let mut volume = volume.clone();
        if let Some(patch) = plan::bind_volume(&volume, claim) {
            volume = self.patch_volume(&volume, patch).await?;
        }
        if plan::volume_phase(&volume) != "Bound" {
            self.patch_volume_status(
                &volume,
                json!({ "phase": "Bound", "reason": null, "message": null }),
            )
            .await?;
        }
        let mut claim = claim.clone();
        if let Some(patch) = plan::bind_claim(&claim, &volume) {
            claim = self.patch_claim(&claim, patch).await?;
        }
        if let Some(status) = plan::bound_status(&claim, &volume) {
            self.patch_claim_status(&claim, status).await?;
        }
        Ok(())
    }

    async fn volume(&self, key: Key) -> Result<Action, ApplyError> {
        let caches = &self.context.caches;
        let Some(volume) = caches.volumes.get(&key) else { return Ok(Action::Done) };
        let to = volume.spec.as_ref().and_then(|it| it.claim_ref.clone());
        let claim_key =
            to.map(|it| Key::new(it.namespace.unwrap_or_default(), it.name.unwrap_or_default()));
        let mut claim = claim_key.as_ref().and_then(|it| caches.claims.get(it));
        let mut plan = plan::volume(&volume, claim.as_deref());
        if let (VolumePlan::Release, Some(key)) = (&plan, &claim_key) {
            // To let go of a volume may be to lose it: the server is asked.
            claim = self.ask(key).await?.map(Arc::new);
            plan = plan::volume(&volume, claim.as_deref());
        }
        match plan {
            VolumePlan::Nothing => {}
            VolumePlan::Phase(phase) => {
                self.patch_volume_status(&volume, json!({ "phase": phase })).await?;
            }
            VolumePlan::Release => {
                self.patch_volume_status(&volume, json!({ "phase": "Released" })).await?;
            }
            VolumePlan::Fail(message) => {
                let status = json!({ "phase": "Failed", "message": message });
                self.patch_volume_status(&volume, status).await?;
                self.recorder.warn(&*volume, "VolumeFailedRecycle", message);
            }
            VolumePlan::Unbind => {
                let is_ours = object::annotation(&*volume, BOUND_BY_CONTROLLER).is_some();
                let claim_ref = if is_ours { Value::Null } else { json!({ "uid": null }) };
                let patch = json!({ "spec": { "claimRef": claim_ref },
                    "metadata": { "annotations": { BOUND_BY_CONTROLLER: null } } });
                self.patch_volume(&volume, patch).await?;
            }
        }
        if let Some(key) = claim_key.filter(|_| claim.is_some()) {
            self.claims.add(key);
        }
        Ok(Action::Done)
    }

    async fn ask(&self, key: &Key) -> Result<Option<PersistentVolumeClaim>, ApplyError> {
        let api =
            Api::<PersistentVolumeClaim>::namespaced(self.context.client.clone(), &key.namespace);
        let found = api.get_opt(&key.name).await;
        found.map_err(|it| ApplyError::new::<PersistentVolumeClaim>("get", &key.name, it))
    }

    async fn patch_claim(
        &self,
        claim: &PersistentVolumeClaim,
        patch: Value,
    ) -> Result<PersistentVolumeClaim, ApplyError> {
        let key = Key::of(claim);
        let patch = guarded(patch, &claim.metadata);
        controller::apply::patch(&self.context.client, &key.namespace, &key.name, &patch).await
    }

    async fn patch_claim_status(
        &self,
        claim: &PersistentVolumeClaim,
        status: Value,
    ) -> Result<(), ApplyError> {
        let key = Key::of(claim);
        let client = &self.context.client;
        let patched = controller::patch_status::<PersistentVolumeClaim, _>(
            client,
            &key.namespace,
            &key.name,
            &status,
        );
        patched.await.map(drop)
    }

    async fn patch_volume(
        &self,
        volume: &PersistentVolume,
        patch: Value,
    ) -> Result<PersistentVolume, ApplyError> {
        let name = volume.metadata.name.clone().unwrap_or_default();
        let patch = Patch::Merge(guarded(patch, &volume.metadata));
        let api = Api::<PersistentVolume>::all(self.context.client.clone());
        let patched = api.patch(&name, &PatchParams::default(), &patch).await;
        patched.map_err(|it| ApplyError::new::<PersistentVolume>("patch", &name, it))
    }

    async fn patch_volume_status(
        &self,
        volume: &PersistentVolume,
        status: Value,
    ) -> Result<(), ApplyError> {
        let name = volume.metadata.name.clone().unwrap_or_default();
        let patch = Patch::Merge(json!({ "status": status }));
        let api = Api::<PersistentVolume>::all(self.context.client.clone());
        let patched = api.patch_status(&name, &PatchParams::default(), &patch).await;
        patched
            .map(drop)
            .map_err(|it| ApplyError::new::<PersistentVolume>("patch the status of", &name, it))
    }
}

/// Of exactly the object that was looked at.
fn guarded(
    mut patch: Value,
    meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
) -> Value {
    patch["metadata"]["uid"] = json!(meta.uid);
    patch["metadata"]["resourceVersion"] = json!(meta.resource_version);
    patch
}
