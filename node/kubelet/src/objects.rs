//! ConfigMaps and Secrets that pods of this node use.
//!
//! Each is read when a pod needs it and kept for a moment, so that fifty pods of one Deployment that
//! start together cost one request. A refused or failed read is not kept.
//!
//! While the API server cannot be reached, what an object held last is given: a container that crashed
//! starts again. That is kept for as long as a pod refers to the object. What is immutable is kept so too,
//! and not read again.
//!
//! Upstream: `pkg/kubelet/util/manager` (`watch_based_manager.go`).
//!
//! **Invariant:** nothing is listed but by its name: the node's identity may read only what its pods refer to.

mod awaited;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Volume};
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use self::awaited::Awaited;
use crate::{env, pod::PodExt};

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

/// An object that a pod refers to.
pub(crate) type Reference = (ObjectKind, String, String);

/// The content of a ConfigMap or Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Data {
    content: BTreeMap<String, Vec<u8>>,
    /// Keys of `binaryData`: files can be made of them, and no variables.
    binary: BTreeSet<String>,
    is_immutable: bool,
}

impl Data {
    /// What a variable can hold.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&String, &Vec<u8>)> {
        self.content.iter().filter(|(key, _)| !self.binary.contains(*key))
    }

    pub(crate) fn variable(&self, key: &str) -> Option<&Vec<u8>> {
        self.content.get(key).filter(|_| !self.binary.contains(key))
    }
}

impl std::ops::Deref for Data {
    type Target = BTreeMap<String, Vec<u8>>;

    fn deref(&self) -> &Self::Target {
        &self.content
    }
}

impl FromIterator<(String, Vec<u8>)> for Data {
    fn from_iter<I: IntoIterator<Item = (String, Vec<u8>)>>(texts: I) -> Self {
        Self { content: texts.into_iter().collect(), ..Self::default() }
    }
}

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
    /// The API server could not be asked.
    #[error("{0}")]
    Away(String),
}

fn refused(key: &Key, message: String) -> ReadObjectError {
    ReadObjectError::Refused { kind: key.kind.resource(), name: key.name.clone(), message }
}

type Slot = Arc<AsyncMutex<Option<(Instant, Option<Arc<Data>>)>>>;

pub(crate) struct Objects {
    client: Client,
    slots: Mutex<HashMap<Key, Slot>>,
    /// What was read last.
    last: Mutex<HashMap<Key, Option<Arc<Data>>>>,
    awaited: Awaited,
}

impl Objects {
    pub(crate) fn new(client: Client) -> Self {
        let awaited = Awaited::default();
        Self { client, slots: Mutex::default(), last: Mutex::default(), awaited }
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
        let last = self.last.lock().get(&key).cloned();
        if let Some(Some(data)) = &last
            && data.is_immutable
        {
            return Ok(Some(data.clone()));
        }
        let data = match self.read(&key).await {
            Err(ReadObjectError::Away(message)) => {
                return last.ok_or_else(|| refused(&key, message));
            }
            read => read?,
        };
        *held = Some((Instant::now(), data.clone()));
        self.last.lock().insert(key, data.clone());
        Ok(data)
    }

    /// Forgets what no pod of this node refers to.
    pub(crate) fn retain(&self, referred: &HashSet<Reference>) {
        self.last.lock().retain(|key, _| {
            referred.contains(&(key.kind, key.namespace.clone(), key.name.clone()))
        });
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
            Ok(Err(kube::Error::Api(status))) if (400..500).contains(&status.code) => {
                Err(refused(key, status.message.clone()))
            }
            Ok(Err(error)) => Err(ReadObjectError::Away(telemetry::chain(&error).to_string())),
            Err(_) => Err(ReadObjectError::Away("the API server did not answer".to_owned())),
        }
    }
}

/// The ConfigMaps and Secrets that a pod's own text names.
pub(crate) fn references(pod: &Pod) -> Vec<Reference> {
    let spec = PodExt::spec(pod);
    let pulls = spec.image_pull_secrets.iter().flatten();
    let mut all: Vec<_> = pulls.map(|it| (ObjectKind::Secret, it.name.clone())).collect();
    for (_, container) in pod.all_containers() {
        all.extend(env::references(&container));
    }
    for volume in spec.volumes.iter().flatten() {
        all.extend(of_volume(volume));
    }
    all.into_iter().map(|(kind, name)| (kind, pod.namespace().to_owned(), name)).collect()
}

/// Those that one volume is made from.
pub(crate) fn of_volume(volume: &Volume) -> Vec<(ObjectKind, String)> {
    use ObjectKind::{ConfigMap, Secret};
    let mut all = Vec::new();
    all.extend(volume.config_map.iter().map(|it| (ConfigMap, it.name.clone())));
    let secret = volume.secret.iter().filter_map(|it| it.secret_name.clone());
    all.extend(secret.map(|it| (Secret, it)));
    let projected = volume.projected.iter().flat_map(|it| it.sources.iter().flatten());
    for source in projected {
        all.extend(source.config_map.iter().map(|it| (ConfigMap, it.name.clone())));
        all.extend(source.secret.iter().map(|it| (Secret, it.name.clone())));
    }
    all
}

fn config_map_data(object: ConfigMap) -> Data {
    let texts = object.data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
    let mut data: Data = texts.collect();
    data.is_immutable = object.immutable == Some(true);
    for (key, value) in object.binary_data.into_iter().flatten() {
        data.binary.insert(key.clone());
        data.content.insert(key, value.0);
    }
    data
}

fn secret_data(object: Secret) -> Data {
    let is_immutable = object.immutable == Some(true);
    let data: Data = object.data.into_iter().flatten().map(|(key, it)| (key, it.0)).collect();
    Data { is_immutable, ..data }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::Full;
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;

    /// Each answer to a read is another text.
    fn counting(is_immutable: bool) -> Objects {
        let asked = Mutex::new(0);
        let answer = move |_: http::Request<kube::client::Body>| {
            *asked.lock() += 1;
            let map = json!({
                "metadata": { "name": "m" }, "immutable": is_immutable,
                "data": { "times": asked.lock().to_string() },
            });
            let body = Full::from(map.to_string());
            std::future::ready(Ok::<_, Infallible>(http::Response::new(body)))
        };
        Objects::new(Client::new(tower::service_fn(answer), "default"))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_immutable_is_read_once_for_as_long_as_a_pod_refers_to_it() {
        for (is_immutable, wanted) in [(false, ["1", "2", "3"]), (true, ["1", "1", "2"])] {
            let objects = counting(is_immutable);
            let read = async || {
                let found = objects.find(ObjectKind::ConfigMap, "default", "m").await;
                tokio::time::advance(2 * FRESH).await;
                String::from_utf8(found.unwrap().unwrap()["times"].clone()).unwrap()
            };
            let reference = (ObjectKind::ConfigMap, "default".to_owned(), "m".to_owned());
            let first = read().await;
            objects.retain(&[reference].into());
            let second = read().await;
            objects.retain(&HashSet::new());
            assert_eq!([first, second, read().await], wanted, "immutable: {is_immutable}");
        }
    }

    #[test]
    fn binary_data_makes_files_and_no_variables() {
        let data = config_map_data(ConfigMap {
            data: Some([("text".to_owned(), "t".to_owned())].into()),
            binary_data: Some([("binary".to_owned(), ByteString(vec![0]))].into()),
            ..ConfigMap::default()
        });
        assert_eq!(data.keys().collect::<Vec<_>>(), ["binary", "text"]);
        assert_eq!(data.variables().map(|it| it.0).collect::<Vec<_>>(), ["text"]);
        assert_eq!((data.variable("binary"), data.variable("text")), (None, Some(&b"t".to_vec())));
    }
}
