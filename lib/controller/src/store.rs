//! A cache of the objects of one kind, and the watch that keeps it.
//!
//! One per kind and process: controllers share it. Indexes answer "which pods belong to this
//! owner" without a scan. Subscribers are called in the order of the changes, with the object
//! before and after, on the watch's own task; they only put keys into queues.
//!
//! A watch that fails, or whose resource version is too old, is started again; what changed in the
//! meantime is found by comparing the new list with the cache. A cache is stale by nature: what it
//! says may already be wrong, which is why writes carry UIDs or resource versions.
//!
//! **Invariant:** subscribers see each change exactly once, whenever they subscribe.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{ApiResource, DynamicObject, PartialObjectMeta},
    runtime::watcher::{self, Event},
};
use lifecycle::Scope;
use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::{Key, lean::lean};

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// What kubectl writes for its own three-way merge; nobody here reads it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

type IndexFn<K> = fn(&K) -> Vec<String>;
type Handler<K> = Box<dyn FnMut(&Change<K>) + Send>;

/// An object appeared (no `old`), changed, or went (no `new`).
#[derive(Debug)]
pub struct Change<K> {
    pub key: Key,
    pub old: Option<Arc<K>>,
    pub new: Option<Arc<K>>,
}

impl<K> Change<K> {
    /// The object as it is, or as it was last seen.
    pub fn latest(&self) -> Option<&Arc<K>> {
        self.new.as_ref().or(self.old.as_ref())
    }
}

/// See the module. Clones share the cache.
pub struct Store<K> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    state: RwLock<State<K>>,
    /// Locked for the whole of each change, so that subscribing is atomic.
    handlers: Mutex<Vec<Handler<K>>>,
    synced: watch::Sender<bool>,
}

struct State<K> {
    objects: BTreeMap<Key, Arc<K>>,
    indexes: Vec<Index<K>>,
}

struct Index<K> {
    name: &'static str,
    of: IndexFn<K>,
    entries: HashMap<String, Vec<Key>>,
}

/// What a store holds and how it is looked up.
pub struct StoreSpec<K> {
    indexes: Vec<(&'static str, IndexFn<K>)>,
    trim: fn(&mut K),
    config: watcher::Config,
}

impl<K> Default for StoreSpec<K> {
    fn default() -> Self {
        Self { indexes: Vec::new(), trim: |_| {}, config: watcher::Config::default() }
    }
}

impl<K> StoreSpec<K> {
    /// Objects can be looked up by each of the values that `of` returns.
    #[must_use]
    pub fn index(mut self, name: &'static str, of: IndexFn<K>) -> Self {
        self.indexes.push((name, of));
        self
    }

    /// Drops what this process never reads, before an object is cached.
    #[must_use]
    pub fn trim(mut self, trim: fn(&mut K)) -> Self {
        self.trim = trim;
        self
    }

    /// Only objects that match a field selector.
    #[must_use]
    pub fn fields(mut self, fields: &str) -> Self {
        self.config = self.config.fields(fields);
        self
    }
}

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<K> fmt::Debug for Store<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let objects = self.shared.state.read().objects.len();
        f.debug_struct("Store").field("objects", &objects).finish_non_exhaustive()
    }
}

/// Starts to watch all objects of a kind, in all namespaces.
pub fn reflect<K>(client: Client, spec: StoreSpec<K>, scope: &Scope) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug + Send + Sync + 'static,
{
    let store = Store::new(spec.indexes);
    let events = watcher::watcher(Api::<K>::all(lean(client)), spec.config);
    let follow = store.clone().follow(events, spec.trim, K::plural(&()).into_owned());
    drop(scope.spawn(&format!("reflector/{}", K::plural(&())), follow));
    store
}

/// Starts to watch the metadata of all objects of a kind that is known at run time only.
pub fn reflect_metadata(
    client: Client,
    resource: &ApiResource,
    spec: StoreSpec<PartialObjectMeta<DynamicObject>>,
    scope: &Scope,
) -> Store<PartialObjectMeta<DynamicObject>> {
    let store = Store::new(spec.indexes);
    let api = Api::<PartialObjectMeta<DynamicObject>>::all_with(lean(client), resource);
    let events = watcher::watcher(api, spec.config);
    let follow = store.clone().follow(events, spec.trim, resource.plural.clone());
    drop(scope.spawn(&format!("metadata-reflector/{}", resource.plural), follow));
    store
}

// === reading ===

impl<K> Store<K> {
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.shared.state.read().objects.get(key).cloned()
    }

    pub fn all(&self) -> Vec<Arc<K>> {
        self.shared.state.read().objects.values().cloned().collect()
    }

    pub fn keys(&self) -> Vec<Key> {
        self.shared.state.read().objects.keys().cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.shared.state.read().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let state = self.shared.state.read();
        let from = Key::new(namespace, "");
        let range = state.objects.range(from..);
        range.take_while(|(key, _)| key.namespace == namespace).map(|(_, it)| it.clone()).collect()
    }

    /// The objects that the index `name` files under `value`; none when there is no such index.
    pub fn indexed(&self, name: &str, value: &str) -> Vec<Arc<K>> {
        let state = self.shared.state.read();
        let index = state.indexes.iter().find(|it| it.name == name);
        let keys = index.and_then(|it| it.entries.get(value)).map_or(&[][..], Vec::as_slice);
        keys.iter().filter_map(|key| state.objects.get(key).cloned()).collect()
    }

    /// Whether the first list has arrived.
    pub fn is_synced(&self) -> bool {
        *self.shared.synced.borrow()
    }

    /// Waits until the first list has arrived.
    pub async fn synced(&self) {
        let mut synced = self.shared.synced.subscribe();
        // The sender lives in `self`, so this ends only when the list is there.
        drop(synced.wait_for(|it| *it).await);
    }

    /// Calls `handler` for each object that is there, and from now on for each change.
    pub fn subscribe(&self, mut handler: impl FnMut(&Change<K>) + Send + 'static) {
        let mut handlers = self.shared.handlers.lock();
        let present: Vec<_> = {
            let state = self.shared.state.read();
            state.objects.iter().map(|(key, it)| (key.clone(), it.clone())).collect()
        };
        for (key, object) in present {
            handler(&Change { key, old: None, new: Some(object) });
        }
        handlers.push(Box::new(handler));
    }
}

// === writing ===

impl<K> Store<K> {
    pub(crate) fn new(indexes: Vec<(&'static str, IndexFn<K>)>) -> Self {
        let indexes = indexes
            .into_iter()
            .map(|(name, of)| Index { name, of, entries: HashMap::new() })
            .collect();
        let state = State { objects: BTreeMap::new(), indexes };
        let shared = Shared {
            state: RwLock::new(state),
            handlers: Mutex::new(Vec::new()),
            synced: watch::Sender::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    fn set(&self, key: Key, new: Option<Arc<K>>) {
        let mut handlers = self.shared.handlers.lock();
        let old = self.shared.state.write().replace(&key, new.clone());
        if old.is_none() && new.is_none() {
            return;
        }
        let change = Change { key, old, new };
        for handler in handlers.iter_mut() {
            handler(&change);
        }
    }
}

impl<K> State<K> {
    fn replace(&mut self, key: &Key, new: Option<Arc<K>>) -> Option<Arc<K>> {
        let old = match &new {
            Some(object) => self.objects.insert(key.clone(), object.clone()),
            None => self.objects.remove(key),
        };
        for index in &mut self.indexes {
            index.replace(key, old.as_deref(), new.as_deref());
        }
        old
    }
}

impl<K> Index<K> {
    fn replace(&mut self, key: &Key, old: Option<&K>, new: Option<&K>) {
        let (before, after) =
            (old.map(self.of).unwrap_or_default(), new.map(self.of).unwrap_or_default());
        if before == after {
            return;
        }
        for value in before {
            if let Some(keys) = self.entries.get_mut(&value) {
                keys.retain(|it| it != key);
                if keys.is_empty() {
                    self.entries.remove(&value);
                }
            }
        }
        for value in after {
            self.entries.entry(value).or_default().push(key.clone());
        }
    }
}

impl<K> Store<K>
where
    K: ResourceExt + Send + Sync + 'static,
{
    /// Follows a watch for ever, starting it again when it fails.
    async fn follow(
        self,
        events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
        trim: fn(&mut K),
        plural: String,
    ) {
        let _unsubscribe = Unsubscribe(&self);
        let mut events = std::pin::pin!(events);
        let mut retry = FIRST_RETRY;
        let mut listed: Option<BTreeMap<Key, Arc<K>>> = None;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    retry = FIRST_RETRY;
                    self.apply(event, trim, &mut listed);
                }
                Err(error) => {
                    log_failure(&plural, &error, retry);
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(LAST_RETRY);
                }
            }
        }
    }

    fn apply(&self, event: Event<K>, trim: fn(&mut K), listed: &mut Option<BTreeMap<Key, Arc<K>>>) {
        match event {
            Event::Apply(object) => self.set(Key::of(&object), Some(slim(object, trim))),
            Event::Delete(object) => self.set(Key::of(&object), None),
            Event::Init => *listed = Some(BTreeMap::new()),
            Event::InitApply(object) => {
                let key = Key::of(&object);
                listed.get_or_insert_default().insert(key, slim(object, trim));
            }
            Event::InitDone => {
                self.relist(listed.take().unwrap_or_default());
                self.shared.synced.send_replace(true);
            }
        }
    }

    /// Replaces the cache by a new list, reporting only what differs.
    fn relist(&self, listed: BTreeMap<Key, Arc<K>>) {
        for key in self.keys() {
            if !listed.contains_key(&key) {
                self.set(key, None);
            }
        }
        for (key, object) in listed {
            let known = self.get(&key);
            let is_known = known.is_some_and(|it| {
                it.resource_version() == object.resource_version() && it.uid() == object.uid()
            });
            if !is_known {
                self.set(key, Some(object));
            }
        }
    }
}

/// Subscribers often hold the store that they subscribe to; without this, neither would ever go.
struct Unsubscribe<'a, K>(&'a Store<K>);

impl<K> Drop for Unsubscribe<'_, K> {
    fn drop(&mut self) {
        self.0.shared.handlers.lock().clear();
    }
}

fn log_failure(plural: &str, error: &watcher::Error, retry: Duration) {
    let error = telemetry::chain(error);
    if retry == FIRST_RETRY {
        debug!(plural, %error, "watch failed, starting again");
    } else {
        warn!(plural, %error, ?retry, "watch keeps failing");
    }
}

fn slim<K: ResourceExt>(mut object: K, trim: fn(&mut K)) -> Arc<K> {
    let meta = object.meta_mut();
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove(LAST_APPLIED);
        if annotations.is_empty() {
            meta.annotations = None;
        }
    }
    trim(&mut object);
    Arc::new(object)
}

// === a store without a watch ===

impl<K: ResourceExt + Send + Sync + 'static> Store<K> {
    /// A store that is filled by hand: for tests of what reads stores, and for simulations.
    pub fn fixed(spec: StoreSpec<K>, objects: impl IntoIterator<Item = K>) -> Self {
        let store = Self::new(spec.indexes);
        store.relist(objects.into_iter().map(|it| (Key::of(&it), slim(it, spec.trim))).collect());
        store.shared.synced.send_replace(true);
        store
    }
}

#[cfg(test)]
mod tests;
