//! Who owns whom: the metadata of everything, one watch per kind.
//!
//! Names, owners, finalizers and dates are kept; labels and annotations are not. Dependents and
//! owners are found by the indexes of each kind's store.
//!
//! **Invariant:** every change that can make an object collectable queues it: its own change, and
//! the deletion of any of its owners.

use std::{collections::HashMap, sync::Arc};

use controller::{Change, Key, Queue, Store, StoreSpec, reflect_metadata};
pub(super) use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference as Reference;
use kube::{
    Client,
    core::{ApiResource, DynamicObject, PartialObjectMeta},
};
use lifecycle::Scope;
use parking_lot::RwLock;
use tracing::debug;

use crate::discovery::Kind;

/// The metadata of an object of any kind.
pub(super) type Meta = PartialObjectMeta<DynamicObject>;

const BY_OWNER: &str = "owner";
const BY_UID: &str = "uid";

/// Events come in numbers and have no owners.
const IGNORED: [(&str, &str); 2] = [("", "events"), ("events.k8s.io", "events")];

/// An object of some kind. The UID tells it from later ones of its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id {
    kind: Arc<str>,
    pub(super) key: Key,
    pub(super) uid: String,
}

pub(crate) struct Graph {
    kinds: RwLock<HashMap<Arc<str>, Watched>>,
    queue: Queue<Id>,
    /// Who is told the namespaces in which objects come or go.
    counting: RwLock<Option<Counting>>,
}

type Counting = Box<dyn Fn(&str) + Send + Sync>;

#[derive(Clone)]
struct Watched {
    resource: ApiResource,
    is_namespaced: bool,
    store: Store<Meta>,
    scope: Scope,
}

impl Graph {
    pub(crate) fn new() -> Self {
        Self { kinds: RwLock::default(), queue: Queue::new(), counting: RwLock::default() }
    }

    pub(super) fn queue(&self) -> &Queue<Id> {
        &self.queue
    }

    /// From now on `tell` hears of every namespace in which an object comes or goes.
    pub(crate) fn on_count(&self, tell: impl Fn(&str) + Send + Sync + 'static) {
        *self.counting.write() = Some(Box::new(tell));
    }

    /// Whether all kinds were listed.
    pub(crate) fn is_synced(&self) -> bool {
        let kinds = self.kinds.read();
        !kinds.is_empty() && kinds.values().all(|it| it.store.is_synced())
    }

    /// How many objects of a kind a namespace has; `None` for a kind that is not known. The kind is
    /// written as quotas write it: `deployments.apps`, `pods`.
    pub(crate) fn count(&self, kind: &str, namespace: &str) -> Option<usize> {
        let name = if kind.contains('.') { kind.to_owned() } else { format!("{kind}.") };
        let kinds = self.kinds.read();
        let watched = kinds.get(name.as_str()).filter(|it| it.is_namespaced)?;
        Some(watched.store.in_namespace(namespace).len())
    }

    /// Watches these kinds, and no others any more.
    pub(super) fn set_kinds(self: &Arc<Self>, client: &Client, scope: &Scope, kinds: Vec<Kind>) {
        let wanted: HashMap<Arc<str>, Kind> = kinds
            .into_iter()
            .filter(|it| it.is_watchable && !is_ignored(&it.resource))
            .map(|it| (name(&it.resource), it))
            .collect();
        let mut known = self.kinds.write();
        known.retain(|name, watched| {
            let stays = wanted.contains_key(name);
            if !stays {
                watched.scope.cancel();
            }
            stays
        });
        let mut new = Vec::new();
        for (name, kind) in wanted {
            if known.contains_key(&name) {
                continue;
            }
            debug!(kind = &*name, "watching metadata");
            let scope = scope.child();
            let store = reflect_metadata(client.clone(), &kind.resource, spec(), &scope);
            new.push((name.clone(), store.clone()));
            let is_namespaced = kind.is_namespaced;
            known.insert(name, Watched { resource: kind.resource, is_namespaced, store, scope });
        }
        drop(known);
        for (name, store) in new {
            let graph = self.clone();
            store.subscribe(move |change| graph.changed(&name, change));
        }
    }

    fn changed(&self, kind: &Arc<str>, change: &Change<Meta>) {
        if change.old.is_none() || change.new.is_none() {
            self.counting.read().iter().for_each(|tell| tell(&change.key.namespace));
        }
        if let Some(gone) = change.old.as_deref().filter(|old| is_replaced(old, change)) {
            let uid = gone.metadata.uid.clone().unwrap_or_default();
            self.dependents(&uid).into_iter().for_each(|(id, _)| self.queue.add(id));
            // An owner may wait for exactly this one.
            for owner in gone.metadata.owner_references.iter().flatten() {
                self.queue_deleting(&owner.uid);
            }
        }
        let Some(object) = &change.new else { return };
        let meta = &object.metadata;
        let has_owners = meta.owner_references.as_ref().is_some_and(|it| !it.is_empty());
        if has_owners || meta.deletion_timestamp.is_some() {
            let uid = meta.uid.clone().unwrap_or_default();
            self.queue.add(Id { kind: kind.clone(), key: change.key.clone(), uid });
        }
        // Its references to others may be what those wait for.
        for owner in change.old.iter().flat_map(|it| it.metadata.owner_references.iter().flatten())
        {
            let mut kept = meta.owner_references.iter().flatten().filter(|it| it.uid == owner.uid);
            let blocks = |it: &Reference| it.block_owner_deletion == Some(true);
            let is_kept = kept.next().is_some_and(|it| blocks(it) || !blocks(owner));
            if !is_kept {
                self.queue_deleting(&owner.uid);
            }
        }
    }

    fn queue_deleting(&self, uid: &str) {
        for (name, watched) in self.kinds.read().iter() {
            for object in watched.store.indexed(BY_UID, uid) {
                if object.metadata.deletion_timestamp.is_some() {
                    let key = Key::of(&*object);
                    self.queue.add(Id { kind: name.clone(), key, uid: uid.to_owned() });
                }
            }
        }
    }

    /// The object, if it is still the same one.
    pub(super) fn find(&self, id: &Id) -> Option<(ApiResource, Arc<Meta>)> {
        let kinds = self.kinds.read();
        let watched = kinds.get(&id.kind)?;
        let object = watched.store.get(&id.key)?;
        let is_same = object.metadata.uid.as_deref() == Some(&id.uid);
        is_same.then(|| (watched.resource.clone(), object))
    }

    pub(super) fn by_uid(&self, uid: &str) -> Option<Arc<Meta>> {
        let kinds = self.kinds.read();
        kinds.values().find_map(|it| it.store.indexed(BY_UID, uid).into_iter().next())
    }

    /// What refers to this owner, and whether it keeps a foreground deletion waiting.
    pub(super) fn dependents(&self, uid: &str) -> Vec<(Id, bool)> {
        let kinds = self.kinds.read();
        let mut dependents = Vec::new();
        for (name, watched) in kinds.iter() {
            for object in watched.store.indexed(BY_OWNER, uid) {
                let mut owners = object.metadata.owner_references.iter().flatten();
                let blocks =
                    owners.any(|it| it.uid == uid && it.block_owner_deletion == Some(true));
                let own = object.metadata.uid.clone().unwrap_or_default();
                let id = Id { kind: name.clone(), key: Key::of(&*object), uid: own };
                dependents.push((id, blocks));
            }
        }
        dependents
    }

    /// The resource behind an owner reference, and whether it is namespaced.
    pub(super) fn resource(&self, api_version: &str, kind: &str) -> Option<(ApiResource, bool)> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let kinds = self.kinds.read();
        let found =
            kinds.values().find(|it| it.resource.kind == kind && it.resource.group == group);
        found.map(|it| (it.resource.clone(), it.is_namespaced))
    }
}

fn is_replaced(old: &Meta, change: &Change<Meta>) -> bool {
    change.new.as_ref().is_none_or(|new| new.metadata.uid != old.metadata.uid)
}

fn is_ignored(resource: &ApiResource) -> bool {
    IGNORED.contains(&(resource.group.as_str(), resource.plural.as_str()))
}

fn name(resource: &ApiResource) -> Arc<str> {
    format!("{}.{}", resource.plural, resource.group).into()
}

fn spec() -> StoreSpec<Meta> {
    let owners: fn(&Meta) -> Vec<String> = |object| {
        object.metadata.owner_references.iter().flatten().map(|it| it.uid.clone()).collect()
    };
    let uid: fn(&Meta) -> Vec<String> = |object| object.metadata.uid.clone().into_iter().collect();
    StoreSpec::default().index(BY_OWNER, owners).index(BY_UID, uid).trim(|object| {
        object.types = None;
        object.metadata.labels = None;
        object.metadata.annotations = None;
        object.metadata.generate_name = None;
        object.metadata.creation_timestamp = None;
    })
}
