//! Objects that a pod cannot do without and that are not there, or not as they have to be: each is watched
//! by its name for as long as somebody asks for it in vain.
//!
//! Upstream watches every object that a pod refers to; here a change that is only fresher content is found
//! when it is time to look.

use std::{collections::HashMap, fmt, pin::pin, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Resource, core::NamespaceResourceScope, runtime::watcher::watch_object};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, time::Instant};

use super::{Data, Key, ObjectKind, Objects, Reference, config_map_data, secret_data};

/// Longer than the longest pause between two tries.
const KEPT: Duration = Duration::from_secs(130);
/// After a watch that failed.
const PAUSE: Duration = Duration::from_secs(5);
/// Each is a connection. What is not watched is found when it is tried again.
const MOST: usize = 256;

pub(super) struct Awaited {
    sender: mpsc::Sender<Key>,
    receiver: Mutex<Option<mpsc::Receiver<Key>>>,
}

impl Default for Awaited {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(MOST);
        Self { sender, receiver: Mutex::new(Some(receiver)) }
    }
}

impl Objects {
    /// What this object held when it was last read is not enough.
    pub(crate) fn await_change(&self, (kind, namespace, name): Reference) {
        // Nobody hears it, or many wait: then it is asked for at its time.
        drop(self.awaited.sender.try_send(Key { kind, namespace, name }));
    }

    /// Tells of each object that is awaited and becomes another one, for ever.
    pub(crate) async fn follow(&self, changed: impl Fn(&Reference)) {
        let Some(mut receiver) = self.awaited.receiver.lock().take() else { return };
        let mut asked = HashMap::<Key, Instant>::new();
        let mut watches = FuturesUnordered::new();
        loop {
            tokio::select! {
                key = receiver.recv() => {
                    let Some(key) = key else { return };
                    let is_new = !asked.contains_key(&key);
                    if is_new && watches.len() >= MOST {
                        continue;
                    }
                    asked.insert(key.clone(), Instant::now());
                    if is_new {
                        watches.push(self.watch(key));
                    }
                }
                Some((key, is_changed)) = watches.next(), if !watches.is_empty() => {
                    if !is_changed && asked.get(&key).is_some_and(|it| it.elapsed() < KEPT) {
                        watches.push(self.watch(key));
                        continue;
                    }
                    asked.remove(&key);
                    if is_changed {
                        self.slots.lock().remove(&key);
                        changed(&(key.kind, key.namespace, key.name));
                    }
                }
            }
        }
    }

    /// Whether the object has become another one than was read.
    async fn watch(&self, key: Key) -> (Key, bool) {
        let watching = async {
            match key.kind {
                ObjectKind::ConfigMap => self.until_other::<ConfigMap>(&key, config_map_data).await,
                ObjectKind::Secret => self.until_other::<Secret>(&key, secret_data).await,
            }
        };
        let is_changed = tokio::time::timeout(KEPT, Box::pin(watching)).await.unwrap_or(false);
        (key, is_changed)
    }

    async fn until_other<K>(&self, key: &Key, data: impl Fn(K) -> Data) -> bool
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + fmt::Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let api = Api::<K>::namespaced(self.client.clone(), &key.namespace);
        if !self.last.lock().contains_key(key) {
            // It could not be read: what is seen now says little.
            tokio::time::sleep(PAUSE).await;
        }
        let mut versions = pin!(watch_object(api, &key.name));
        while let Some(version) = versions.next().await {
            let Ok(version) = version else {
                tokio::time::sleep(PAUSE).await;
                return false;
            };
            let version = version.map(|it| Arc::new(data(it)));
            let mut last = self.last.lock();
            if last.get(key).cloned().flatten() != version {
                // An immutable one is another one now, which nobody reads by himself.
                last.insert(key.clone(), version);
                return true;
            }
        }
        false
    }
}
