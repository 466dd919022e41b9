//! Events about pods and the node, as `kubectl describe` shows them.
//!
//! Writing an event never holds up what it is about: events go into a bounded queue and are written
//! behind it, at most so often a second (`eventRecordQPS`, `eventBurst`). A repeated event raises the
//! count of the first one, and no object has more written than its share ([`correlate`]).
//!
//! Upstream: `client-go/tools/record`.

mod correlate;

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use clock::Clock;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference, Pod},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::{sync::mpsc, time::Instant};
use tracing::{debug, info, warn};

use self::correlate::Correlator;
use crate::{pod::PodExt, rate::Rate};

const QUEUE: usize = 1000;
/// How many different events are remembered for counting.
const REMEMBERED: usize = 512;
/// client-go's bounds: as often, after so long.
const TRIES: usize = 12;
const PAUSE: Duration = Duration::from_secs(10);

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Note>,
    node_name: String,
    clock: Clock,
    correlator: Arc<Mutex<Correlator>>,
}

#[derive(Debug)]
struct Note {
    object: ObjectReference,
    annotations: Option<std::collections::BTreeMap<String, String>>,
    is_warning: bool,
    reason: String,
    message: String,
    /// It stands for others of its kind.
    is_combined: bool,
    at: Timestamp,
}

impl Recorder {
    /// The recorder, and the task that writes what it records.
    pub(crate) fn new(
        client: Client,
        node_name: &str,
        clock: Clock,
        rate: Rate,
    ) -> (Self, impl Future<Output = ()> + use<>) {
        let (queue, notes) = mpsc::channel(QUEUE);
        let (node, correlator) = (node_name.to_owned(), Arc::default());
        let recorder = Self { queue, node_name: node, clock, correlator };
        (recorder, write_all(client, node_name.to_owned(), notes, rate))
    }

    pub(crate) fn normal(&self, pod: &Pod, reason: &str, message: impl Into<String>) {
        self.record(reference(pod, None), false, reason, message.into());
    }

    pub(crate) fn warning(&self, pod: &Pod, reason: &str, message: impl Into<String>) {
        self.record(reference(pod, None), true, reason, message.into());
    }

    pub(crate) fn container_normal(
        &self,
        pod: &Pod,
        container: &str,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.record(reference(pod, Some(container)), false, reason, message.into());
    }

    pub(crate) fn container_warning(
        &self,
        pod: &Pod,
        container: &str,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.record(reference(pod, Some(container)), true, reason, message.into());
    }

    pub(crate) fn node_normal(&self, reason: &str, message: impl Into<String>) {
        self.record(self.node(), false, reason, message.into());
    }

    pub(crate) fn node_warning(&self, reason: &str, message: impl Into<String>) {
        self.record(self.node(), true, reason, message.into());
    }

    fn node(&self) -> ObjectReference {
        ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(self.node_name.clone()),
            // Upstream uses the node's name as the UID of these events.
            uid: Some(self.node_name.clone()),
            ..ObjectReference::default()
        }
    }

    fn record(&self, object: ObjectReference, is_warning: bool, reason: &str, message: String) {
        let name = object.name.as_deref().unwrap_or_default();
        info!(kind = object.kind, name, reason, "{message}");
        let kind = (is_warning, reason);
        let told = self.correlator.lock().add(&object, kind, message, Instant::now());
        let Some(told) = told else { return };
        let note = Note {
            object,
            annotations: None,
            is_warning,
            reason: reason.to_owned(),
            message: told.message,
            is_combined: told.is_combined,
            at: self.clock.now(),
        };
        if let Err(error) = self.queue.try_send(note) {
            warn!(%error, "an event was dropped");
        }
    }
}

fn reference(pod: &Pod, container: Option<&str>) -> ObjectReference {
    let field_path = container.filter(|it| !it.is_empty()).map(|name| {
        let spec = PodExt::spec(pod);
        let list = if spec.init_containers.iter().flatten().any(|it| it.name == name) {
            "initContainers"
        } else if spec.ephemeral_containers.iter().flatten().any(|it| it.name == name) {
            "ephemeralContainers"
        } else {
            "containers"
        };
        format!("spec.{list}{{{name}}}")
    });
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(pod.name().to_owned()),
        namespace: Some(pod.namespace().to_owned()),
        uid: Some(pod.uid().0),
        resource_version: pod.metadata.resource_version.clone(),
        field_path,
    }
}

/// What is known of an event that has been written.
struct Written {
    namespace: String,
    name: String,
    count: i32,
}

/// An event by its object, the part of it and its reason, and by the hash of its message: that may be long.
type Key = (Option<String>, Option<String>, String, Option<u64>);

async fn write_all(client: Client, node_name: String, mut notes: mpsc::Receiver<Note>, rate: Rate) {
    let (hasher, written) = (RandomState::new(), HashMap::new());
    let mut writer = Writer { client, node_name, hasher, written, last_stamp: 0 };
    while let Some(note) = notes.recv().await {
        rate.turn().await;
        writer.write_surely(&note).await;
    }
}

struct Writer {
    client: Client,
    node_name: String,
    hasher: RandomState,
    written: HashMap<Key, Written>,
    last_stamp: i128,
}

impl Writer {
    /// What the API server refuses is dropped; where there is no answer it is asked again.
    async fn write_surely(&mut self, note: &Note) {
        for _ in 0..TRIES {
            let error = match self.write(note).await {
                Ok(()) => return,
                Err(error) => error,
            };
            let text = telemetry::chain(&error).to_string();
            debug!(error = text, reason = note.reason, "an event was not written");
            if matches!(&error, kube::Error::Api(it) if (400..500).contains(&it.code)) {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        warn!(reason = note.reason, "an event was given up");
    }

    async fn write(&mut self, note: &Note) -> Result<(), kube::Error> {
        let key = (
            note.object.uid.clone(),
            note.object.field_path.clone(),
            note.reason.clone(),
            // Where one stands for many it is the last that is shown.
            (!note.is_combined).then(|| self.hasher.hash_one(&note.message)),
        );
        if self.written.len() >= REMEMBERED {
            self.written.clear();
        }
        if let Some(earlier) = self.written.get_mut(&key) {
            match count_again(&self.client, earlier, note).await {
                // The API server keeps events for an hour.
                Err(kube::Error::Api(it)) if it.is_not_found() => drop(self.written.remove(&key)),
                counted => return counted,
            }
        }
        let new = create(&self.client, &self.node_name, note, &mut self.last_stamp).await?;
        self.written.insert(key, new);
        Ok(())
    }
}

async fn create(
    client: &Client,
    node_name: &str,
    note: &Note,
    last_stamp: &mut i128,
) -> Result<Written, kube::Error> {
    let namespace = note.object.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let of = note.object.name.as_deref().unwrap_or_default();
    // Two events of one instant must not have one name.
    *last_stamp = note.at.as_nanosecond().max(*last_stamp + 1);
    let name = format!("{of}.{last_stamp:x}");
    let event = Event {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(namespace.clone()),
            annotations: note.annotations.clone(),
            ..ObjectMeta::default()
        },
        involved_object: note.object.clone(),
        reason: Some(note.reason.clone()),
        message: Some(note.message.clone()),
        type_: Some(if note.is_warning { "Warning" } else { "Normal" }.to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(note.at)),
        last_timestamp: Some(Time(note.at)),
        source: Some(EventSource {
            component: Some("kubelet".to_owned()),
            host: Some(node_name.to_owned()),
        }),
        reporting_component: Some("kubelet".to_owned()),
        reporting_instance: Some(node_name.to_owned()),
        ..Event::default()
    };
    let api = Api::<Event>::namespaced(client.clone(), &namespace);
    api.create(&PostParams::default(), &event).await?;
    Ok(Written { namespace, name, count: 1 })
}

async fn count_again(
    client: &Client,
    earlier: &mut Written,
    note: &Note,
) -> Result<(), kube::Error> {
    let count = earlier.count + 1;
    let mut patch = json!({ "count": count, "lastTimestamp": Time(note.at) });
    if note.is_combined {
        patch["message"] = json!(note.message);
    }
    let api = Api::<Event>::namespaced(client.clone(), &earlier.namespace);
    api.patch(&earlier.name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    earlier.count = count;
    Ok(())
}
