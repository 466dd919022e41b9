//! ConfigMaps and Secrets that pods of this node use.
//!
//! Each is read when a pod needs it and kept for a moment, so that fifty pods of one Deployment that
//! start together cost one request. A refused or failed read is not kept.
//!
//! **Invariant:** nothing is listed: the node's identity may read only what its pods refer to.

use std::{collections::BTreeMap, collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

/// Long enough for a burst of pods, short enough that a pod made after a change sees the change.
const FRESH: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ObjectKind {
    ConfigMap,
    Secret,
}

impl ObjectKind {
    fn resource(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        }
    }
}

/// The content of a ConfigMap or Secret.
pub(crate) type Data = BTreeMap<String, Vec<u8>>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    kind: ObjectKind,
    namespace: String,
    name: String,
}

#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ReadObjectError {
    #[error("{kind} \"{name}\" not found")]
    NotFound { kind: &'static str, name: String },
    #[error("failed to read {kind} \"{name}\": {message}")]
    Refused { kind: &'static str, name: String, message: String },
}

type Slot = Arc<AsyncMutex<Option<(Instant, Option<Arc<Data>>)>>>;

pub(crate) struct Objects {
    client: Client,
    slots: Mutex<HashMap<Key, Slot>>,
}

impl Objects {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, slots: Mutex::default() }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The content, or `None` where there is no such object.
    pub(crate) async fn find(
        &self,
        kind: ObjectKind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Data>>, ReadObjectError> {
        let key = Key { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        let slot = self.slot(&key);
        // Whoever comes second waits for the first one's answer.
        let mut held = slot.lock().await;
        if let Some((at, data)) = held.as_ref()
            && at.elapsed() < FRESH
        {
            return Ok(data.clone());
        }
        let data = self.read(&key).await?;
        *held = Some((Instant::now(), data.clone()));
        Ok(data)
    }

    fn slot(&self, key: &Key) -> Slot {
        let mut slots = self.slots.lock();
        // What nobody holds and is stale goes, so that the map stays as small as the burst.
        slots.retain(|_, slot| {
            Arc::strong_count(slot) > 1
                || slot
                    .try_lock()
                    .is_ok_and(|it| it.as_ref().is_some_and(|(at, _)| at.elapsed() < FRESH))
        });
        slots.entry(key.clone()).or_default().clone()
    }

    async fn read(&self, key: &Key) -> Result<Option<Arc<Data>>, ReadObjectError> {
        let refused = |message: String| ReadObjectError::Refused {
            kind: key.kind.resource(),
            name: key.name.clone(),
            message,
        };
        let read = async {
            match key.kind {
                ObjectKind::ConfigMap => {
                    let api = Api::<ConfigMap>::namespaced(self.client.clone(), &key.namespace);
                    api.get_opt(&key.name).await.map(|it| it.map(config_map_data))
                }
                ObjectKind::Secret => {
                    let api = Api::<Secret>::namespaced(self.client.clone(), &key.namespace);
                    api.get_opt(&key.name).await.map(|it| it.map(secret_data))
                }
            }
        };
        match tokio::time::timeout(LIMIT, read).await {
            Ok(Ok(data)) => Ok(data.map(Arc::new)),
            Ok(Err(kube::Error::Api(status))) => Err(refused(status.message.clone())),
            Ok(Err(error)) => Err(refused(telemetry::chain(&error).to_string())),
            Err(_) => Err(refused("the API server did not answer".to_owned())),
        }
    }
}

fn config_map_data(object: ConfigMap) -> Data {
    let texts = object.data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
    let binary = object.binary_data.into_iter().flatten().map(|(key, value)| (key, value.0));
    texts.chain(binary).collect()
}

fn secret_data(object: Secret) -> Data {
    object.data.into_iter().flatten().map(|(key, value)| (key, value.0)).collect()
}
