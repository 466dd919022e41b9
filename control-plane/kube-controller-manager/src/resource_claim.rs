//! The life of ResourceClaims: made from templates for the pods that ask for them, let go of by pods
//! that are over, deleted when their pod needs them no more.
//!
//! Upstream: `pkg/controller/resourceclaim`.
//!
//! **Invariant:** a claim is taken back only from a pod that can no longer run. One that is not in the
//! cache is asked of the API server first, since it may only just have been made.

mod plan;

use std::sync::Arc;

use controller::{Action, ApplyError, Change, Key, Queue, Recorder, apply, object};
use k8s_openapi::api::{
    core::v1::{Pod, PodResourceClaim},
    resource::v1::{ResourceClaim, ResourceClaimConsumerReference, ResourceClaimTemplate},
};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use scheduling::resourceclaim::{self, UsedClaim};
use serde_json::{Value, json};

use self::plan::Upkeep;
use crate::{Context, caches::BY_OWNER, pods};

/// What is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Work {
    Pod(Key),
    Claim(Key),
}

impl std::fmt::Display for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pod(key) => write!(f, "pod {key}"),
            Self::Claim(key) => write!(f, "claim {key}"),
        }
    }
}

#[derive(Clone)]
struct Controller {
    context: Context,
    recorder: Recorder,
    queue: Queue<Work>,
}

pub(crate) async fn run(context: Context) {
    let recorder = context.recorder("resource_claim");
    let it = Controller { recorder, queue: Queue::new(), context };
    let this = it.clone();
    it.context.caches.pods.subscribe(move |change| this.pod_changed(change));
    let queue = it.queue.clone();
    it.context.caches.resource_claims.subscribe(move |change| {
        queue.add(Work::Claim(change.key.clone()));
        // Its pod may have to be told of it, or to have another one made.
        let owner = change.latest().and_then(|it| plan::owning_pod(it));
        if let Some((name, _)) = owner {
            queue.add(Work::Pod(Key::new(&change.key.namespace, name)));
        }
    });
    let this = it.clone();
    it.context.caches.resource_claim_templates.subscribe(move |change| {
        for pod in this.context.caches.pods.in_namespace(&change.key.namespace) {
            let mut claims = resourceclaim::entries(&pod);
            let is_it = |it: &PodResourceClaim| {
                it.resource_claim_template_name.as_ref() == Some(&change.key.name)
            };
            if claims.any(is_it) {
                this.queue.add(Work::Pod(Key::of(&*pod)));
            }
        }
    });
    let queue = it.queue.clone();
    controller::run("resource-claim", queue, 10, |work| it.reconcile(work)).await;
}

impl Controller {
    fn pod_changed(&self, change: &Change<Pod>) {
        let Some(pod) = change.latest() else { return };
        if let Some(name) = resourceclaim::of_extended(pod) {
            self.queue.add(Work::Claim(Key::new(&change.key.namespace, name)));
        }
        if resourceclaim::entries(pod).next().is_none() {
            return;
        }
        if change.new.is_some() {
            self.queue.add(Work::Pod(change.key.clone()));
        }
        for UsedClaim { name, .. } in resourceclaim::known(pod) {
            self.queue.add(Work::Claim(Key::new(&change.key.namespace, name)));
        }
    }

    async fn reconcile(&self, work: Work) -> Result<Action, ApplyError> {
        match work {
            Work::Pod(key) => self.pod(&key).await,
            Work::Claim(key) => self.claim(&key).await,
        }?;
        Ok(Action::Done)
    }

    // === Pods ===

    async fn pod(&self, key: &Key) -> Result<(), ApplyError> {
        let Some(pod) = self.context.caches.pods.get(key) else { return Ok(()) };
        if !pods::is_active(&pod) {
            return Ok(());
        }
        let mut made = Vec::new();
        for entry in resourceclaim::entries(&pod) {
            match self.ensure(&pod, entry).await {
                Ok(Some(name)) => made.push(json!({
                    "name": entry.name, "resourceClaimName": name,
                })),
                Ok(None) => {}
                Err(error) => {
                    let message =
                        format!("PodResourceClaim {}: {}", entry.name, error.server_message());
                    self.recorder.warn(&*pod, "FailedResourceClaimCreation", message);
                    return Err(error);
                }
            }
        }
        if !made.is_empty() {
            self.tell_pod(key, &pod, &made).await?;
        }
        if pods::node_of(&pod).is_some() {
            self.reserve_all(&pod).await?;
        }
        Ok(())
    }

    /// The name of the claim that the pod's status is to tell; `None` where it does, or nothing is to be.
    async fn ensure(
        &self,
        pod: &Pod,
        entry: &PodResourceClaim,
    ) -> Result<Option<String>, ApplyError> {
        let Some(template) = &entry.resource_claim_template_name else { return Ok(None) };
        let namespace = pod.namespace().unwrap_or_default();
        match resourceclaim::told(pod, &entry.name) {
            // None is needed.
            Some(None) => return Ok(None),
            Some(Some(name)) => {
                let known = self.context.caches.resource_claims.get(&Key::new(&namespace, name));
                if known.is_some_and(|it| resourceclaim::check_owner(pod, &it).is_ok()) {
                    return Ok(None);
                }
            }
            None => {}
        }
        let owned = self.context.caches.resource_claims.indexed(BY_OWNER, &object::uid(pod));
        // It may have been made without that the pod heard of it.
        let made = owned.iter().find(|it| plan::is_for(it, &entry.name));
        if let Some(made) = made {
            return Ok(Some(made.name_any()));
        }
        let template = Key::new(&namespace, template);
        let found = self.context.caches.resource_claim_templates.get(&template);
        let Some(found) = found else {
            let name = &template.name;
            return Err(ApplyError::other(format!(
                "resource claim template \"{name}\": resourceclaimtemplate.resource.k8s.io \"{name}\" not found"
            )));
        };
        let claim = self.make(pod, entry, &found).await?;
        Ok(Some(claim.name_any()))
    }

    async fn make(
        &self,
        pod: &Pod,
        entry: &PodResourceClaim,
        template: &Arc<ResourceClaimTemplate>,
    ) -> Result<ResourceClaim, ApplyError> {
        let claim = plan::claim(pod, entry, template);
        apply::create(&self.context.client, &claim).await
    }

    async fn tell_pod(&self, key: &Key, pod: &Pod, made: &[Value]) -> Result<(), ApplyError> {
        let patch = json!({
            "metadata": { "uid": pod.uid() },
            "status": { "resourceClaimStatuses": made },
        });
        let api = apply::api::<Pod>(&self.context.client, &key.namespace);
        // A strategic patch merges the list by name.
        let patch = Patch::Strategic(&patch);
        match api.patch_status(&key.name, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(source) => Err(ApplyError::new::<Pod>("patch the status of", &key.name, source)),
        }
    }

    /// A pod that got its node past the scheduler is given the claims that are there.
    async fn reserve_all(&self, pod: &Pod) -> Result<(), ApplyError> {
        let namespace = pod.namespace().unwrap_or_default();
        for UsedClaim { name, .. } in resourceclaim::known(pod) {
            let claim = self.context.caches.resource_claims.get(&Key::new(&namespace, &name));
            let Some(claim) = claim.filter(|it| plan::can_be_reserved(it, pod)) else { continue };
            let mut consumers = plan::consumers(&claim);
            consumers.push(ResourceClaimConsumerReference {
                resource: "pods".to_owned(),
                name: pod.name_any(),
                uid: object::uid(pod),
                api_group: None,
            });
            self.write(&claim, &json!({ "reservedFor": consumers })).await?;
        }
        Ok(())
    }

    // === Claims ===

    async fn claim(&self, key: &Key) -> Result<(), ApplyError> {
        let Some(claim) = self.context.caches.resource_claims.get(key) else { return Ok(()) };
        let mut valid = Vec::new();
        for consumer in plan::consumers(&claim) {
            if self.is_valid(&key.namespace, &consumer).await? {
                valid.push(consumer);
            }
        }
        let owner = plan::owning_pod(&claim);
        let owner = owner.and_then(|(name, uid)| {
            let pod = self.context.caches.pods.get(&Key::new(&key.namespace, name))?;
            // One that is not there is the garbage collector's.
            Some(object::uid(&*pod) != uid || plan::is_done(&pod))
        });
        let upkeep = plan::upkeep(&claim, valid, owner == Some(true));
        self.keep_up(&claim, upkeep).await
    }

    async fn keep_up(&self, claim: &ResourceClaim, upkeep: Upkeep) -> Result<(), ApplyError> {
        let mut current = claim.clone();
        if let Some(status) = upkeep.status {
            current = self.write(claim, &status).await?;
        }
        if let Some(finalizers) = upkeep.finalizers {
            let patch = json!({ "metadata": {
                "resourceVersion": current.resource_version(),
                "finalizers": finalizers,
            } });
            let namespace = claim.namespace().unwrap_or_default();
            let name = claim.name_any();
            let patched =
                apply::patch::<ResourceClaim>(&self.context.client, &namespace, &name, &patch);
            match patched.await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        if upkeep.is_deleted {
            apply::delete(&self.context.client, claim).await?;
        }
        Ok(())
    }

    /// Fails when the claim has changed since it was read.
    async fn write(
        &self,
        claim: &ResourceClaim,
        status: &Value,
    ) -> Result<ResourceClaim, ApplyError> {
        let name = claim.name_any();
        let patch = json!({
            "metadata": { "resourceVersion": claim.resource_version() },
            "status": status,
        });
        let namespace = claim.namespace().unwrap_or_default();
        let api = apply::api::<ResourceClaim>(&self.context.client, &namespace);
        let patched = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        patched.map_err(|source| {
            ApplyError::new::<ResourceClaim>("patch the status of", &name, source)
        })
    }

    async fn is_valid(
        &self,
        namespace: &str,
        consumer: &ResourceClaimConsumerReference,
    ) -> Result<bool, ApplyError> {
        let is_pod = consumer.resource == "pods"
            && consumer.api_group.as_deref().unwrap_or_default().is_empty();
        if !is_pod {
            return Err(ApplyError::other(format!("unsupported ReservedFor entry: {consumer:?}")));
        }
        let key = Key::new(namespace, &consumer.name);
        if let Some(pod) = self.context.caches.pods.get(&key) {
            return Ok(object::uid(&*pod) == consumer.uid && !plan::is_done(&pod));
        }
        let api = apply::api::<Pod>(&self.context.client, namespace);
        let found = api.get_opt(&key.name).await;
        let found = found.map_err(|source| ApplyError::new::<Pod>("get", &key.name, source))?;
        Ok(found.is_some_and(|it| object::uid(&it) == consumer.uid))
    }
}
