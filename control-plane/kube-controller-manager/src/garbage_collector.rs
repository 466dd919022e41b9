//! Deletes what belongs to objects that are gone.
//!
//! Every kind's metadata is watched. An object whose owners are all gone is deleted; one that has
//! a living owner loses the references to dead ones. Owners that are deleted in the foreground wait
//! for their dependents; those that orphan them let them go first.
//!
//! An owner that the caches do not show is asked for before anything is deleted: caches are stale,
//! and deleting is final. The delete itself names UID and version that the decision was made on.
//!
//! Upstream: `pkg/controller/garbagecollector`. Deviation: no cache of absent owners.

mod decision;
mod graph;

use std::{collections::HashSet, sync::Arc, time::Duration};

use controller::{Action, ApplyError, EventType, Queue, Recorder};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    core::{ApiResource, DynamicObject},
};
use serde_json::json;
use tracing::{debug, warn};

pub(crate) use self::graph::Graph;
use self::{
    decision::{Decision, Owner, Owners},
    graph::{Id, Meta},
};
use crate::{Context, discovery};

const PARALLEL: usize = 20;
/// How often new kinds are looked for, as upstream.
const RESYNC: Duration = Duration::from_secs(30);

#[derive(Clone)]
struct Collector {
    context: Context,
    graph: Arc<Graph>,
    queue: Queue<Id>,
    recorder: Recorder,
}

pub(crate) async fn run(context: Context) {
    let graph = context.objects.clone();
    let recorder = context.recorder("garbage-collector-controller");
    let it = Collector { queue: graph.queue().clone(), graph, context, recorder };
    let resync = it.clone();
    drop(it.context.scope.spawn("garbage-collector/resync", async move { resync.resync().await }));
    if !it.context.is_on("garbage-collector-controller") {
        // Quotas are counted in what it sees.
        return;
    }
    let queue = it.queue.clone();
    controller::run("garbage-collector", queue, PARALLEL, |id| it.reconcile(id)).await;
}

impl Collector {
    /// Follows the kinds that the API server has.
    async fn resync(&self) {
        loop {
            match discovery::kinds(&self.context.client).await {
                Ok(kinds) => {
                    // Quotas read what it sees, too.
                    let first = self.context.accounts.first();
                    self.graph.set_kinds(&first, &self.context.scope, kinds);
                }
                Err(error) => {
                    warn!(error = %telemetry::chain(&error), "failed to discover kinds");
                }
            }
            tokio::time::sleep(RESYNC).await;
        }
    }

    async fn reconcile(&self, id: Id) -> Result<Action, ApplyError> {
        let Some((resource, object)) = self.graph.find(&id) else { return Ok(Action::Done) };
        let target = Target { client: &self.context.client, resource: &resource, object: &object };
        if object.metadata.deletion_timestamp.is_some() {
            return self.finish_deletion(&target).await;
        }
        let owners = object.metadata.owner_references.clone().unwrap_or_default();
        if owners.is_empty() {
            return Ok(Action::Done);
        }
        let states = self.owners(&resource, &object, &owners).await?;
        let has_dependents = !self.graph.dependents(&id.uid).is_empty();
        match decision::decide(&states, has_dependents, &object) {
            Decision::Keep => {}
            Decision::Forget { uids } => target.drop_owners(&uids).await?,
            Decision::Delete { policy } => {
                if !states.waiting.is_empty() && self.is_in_circle(&id.uid) {
                    target.unblock_owners().await?;
                }
                debug!(kind = resource.kind, object = %id.key, "deleting: its owners are gone");
                target.delete(policy).await?;
            }
        }
        Ok(Action::Done)
    }

    async fn owners(
        &self,
        resource: &ApiResource,
        object: &Meta,
        references: &[graph::Reference],
    ) -> Result<Owners, ApplyError> {
        let mut owners = Owners::default();
        for reference in references {
            // Who has the UID but another name, or is elsewhere, is not who is referred to.
            let known = self.graph.by_uid(&reference.uid);
            if known.as_ref().is_some_and(|it| decision::is_elsewhere(object, it)) {
                self.tell_elsewhere(resource, object, reference);
            }
            let state = match known.filter(|it| decision::is_owner(reference, object, it)) {
                Some(owner) => decision::state_of(&owner.metadata),
                None => self.ask(object, reference).await?,
            };
            match state {
                Owner::Solid => owners.solid.push(reference.uid.clone()),
                Owner::Dangling => owners.dangling.push(reference.uid.clone()),
                Owner::WaitsForDependents => owners.waiting.push(reference.uid.clone()),
            }
        }
        Ok(owners)
    }

    /// Says about an object that its owner is in another namespace, where nobody can own it.
    fn tell_elsewhere(&self, resource: &ApiResource, object: &Meta, owner: &graph::Reference) {
        let meta = &object.metadata;
        let about = ObjectReference {
            api_version: Some(resource.api_version.clone()),
            kind: Some(resource.kind.clone()),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            ..ObjectReference::default()
        };
        let message = decision::elsewhere(object, owner);
        self.recorder.about(&about, EventType::Warning, "OwnerRefInvalidNamespace", message);
    }

    /// Asks the API server for an owner that the caches do not show.
    async fn ask(&self, object: &Meta, reference: &graph::Reference) -> Result<Owner, ApplyError> {
        let found = self.graph.resource(&reference.api_version, &reference.kind);
        let Some((resource, is_namespaced)) = found else {
            // A kind that is not known (any more) may come back: nothing is deleted on its account.
            return Err(ApplyError::other(format!(
                "owner `{}` is of unknown kind {} {}",
                reference.name, reference.api_version, reference.kind
            )));
        };
        let client = self.context.client.clone();
        let api = match (is_namespaced, object.metadata.namespace.as_deref()) {
            (true, Some(namespace)) => {
                Api::<DynamicObject>::namespaced_with(client, namespace, &resource)
            }
            // A cluster-scoped object cannot be owned by a namespaced one.
            (true, None) => return Ok(Owner::Dangling),
            (false, _) => Api::<DynamicObject>::all_with(client, &resource),
        };
        match api.get_metadata_opt(&reference.name).await {
            Ok(Some(owner)) if owner.metadata.uid.as_ref() == Some(&reference.uid) => {
                Ok(decision::state_of(&owner.metadata))
            }
            Ok(_) => Ok(Owner::Dangling),
            Err(source) => Err(ApplyError::Api {
                verb: "get",
                kind: reference.kind.clone(),
                name: reference.name.clone(),
                source: Box::new(source),
            }),
        }
    }

    /// Whether those who wait for this one are whom it waits for: they would for ever.
    fn is_in_circle(&self, uid: &str) -> bool {
        let mut seen = HashSet::new();
        let mut left = vec![uid.to_owned()];
        while let Some(owner) = left.pop() {
            for (id, blocks) in self.graph.dependents(&owner) {
                if blocks && id.uid == uid {
                    return true;
                }
                if blocks && self.is_waiting(&id) && seen.insert(id.uid.clone()) {
                    left.push(id.uid);
                }
            }
        }
        false
    }

    /// Whether an object is being deleted once its dependents are.
    fn is_waiting(&self, id: &Id) -> bool {
        let found = self.graph.find(id);
        found.is_some_and(|(_, it)| decision::state_of(&it.metadata) == Owner::WaitsForDependents)
    }

    /// What an object that is being deleted waits for.
    async fn finish_deletion(&self, target: &Target<'_>) -> Result<Action, ApplyError> {
        let uid = target.object.metadata.uid.clone().unwrap_or_default();
        let dependents = self.graph.dependents(&uid);
        if decision::has_finalizer(target.object, decision::ORPHAN) {
            for (id, _) in &dependents {
                let Some((resource, object)) = self.graph.find(id) else { continue };
                let dependent = Target { resource: &resource, object: &object, ..*target };
                dependent.drop_owners(std::slice::from_ref(&uid)).await?;
            }
            target.drop_finalizer(decision::ORPHAN).await?;
        } else if decision::has_finalizer(target.object, decision::FOREGROUND) {
            let mut is_blocked = false;
            for (id, blocks) in dependents {
                is_blocked |= blocks;
                // One that waits for its own comes back when they are gone.
                if !self.is_waiting(&id) {
                    self.queue.add(id);
                }
            }
            if !is_blocked {
                target.drop_finalizer(decision::FOREGROUND).await?;
            } else if self.is_in_circle(&uid) {
                target.unblock_owners().await?;
            }
        }
        Ok(Action::Done)
    }
}

/// One object, and how to reach it.
#[derive(Clone, Copy)]
struct Target<'a> {
    client: &'a Client,
    resource: &'a ApiResource,
    object: &'a Meta,
}

impl Target<'_> {
    fn api(&self) -> Api<DynamicObject> {
        match self.object.metadata.namespace.as_deref() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, self.resource),
            None => Api::all_with(self.client.clone(), self.resource),
        }
    }

    fn name(&self) -> &str {
        self.object.metadata.name.as_deref().unwrap_or_default()
    }

    async fn delete(&self, policy: decision::Policy) -> Result<(), ApplyError> {
        let meta = &self.object.metadata;
        let parameters = match policy {
            decision::Policy::Background => DeleteParams::background(),
            decision::Policy::Foreground => DeleteParams::foreground(),
            decision::Policy::Orphan => DeleteParams::orphan(),
        };
        let only_this = Preconditions {
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
        };
        match self.api().delete(self.name(), &parameters.preconditions(only_this)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            // A conflict is tried again: the object changed, perhaps its owners did.
            Err(source) => Err(self.failed("delete", source)),
        }
    }

    async fn drop_owners(&self, uids: &[String]) -> Result<(), ApplyError> {
        let mut owners = self.object.metadata.owner_references.clone().unwrap_or_default();
        let before = owners.len();
        owners.retain(|it| !uids.contains(&it.uid));
        if owners.len() == before {
            return Ok(());
        }
        self.patch(json!({ "ownerReferences": owners })).await
    }

    /// No owner waits for this one any more.
    async fn unblock_owners(&self) -> Result<(), ApplyError> {
        let mut owners = self.object.metadata.owner_references.clone().unwrap_or_default();
        if !owners.iter().any(|it| it.block_owner_deletion == Some(true)) {
            return Ok(());
        }
        owners.iter_mut().for_each(|it| it.block_owner_deletion = Some(false));
        self.patch(json!({ "ownerReferences": owners })).await
    }

    async fn drop_finalizer(&self, name: &str) -> Result<(), ApplyError> {
        let mut finalizers = self.object.metadata.finalizers.clone().unwrap_or_default();
        finalizers.retain(|it| it != name);
        self.patch(json!({ "finalizers": finalizers })).await
    }

    async fn patch(&self, mut meta: serde_json::Value) -> Result<(), ApplyError> {
        meta["uid"] = json!(self.object.metadata.uid);
        meta["resourceVersion"] = json!(self.object.metadata.resource_version);
        let patch = json!({ "metadata": meta });
        let parameters = PatchParams::default();
        match self.api().patch_metadata(self.name(), &parameters, &Patch::Merge(&patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(source) => Err(self.failed("patch", source)),
        }
    }

    fn failed(&self, verb: &'static str, source: kube::Error) -> ApplyError {
        ApplyError::Api {
            verb,
            kind: self.resource.kind.clone(),
            name: self.name().to_owned(),
            source: Box::new(source),
        }
    }
}
