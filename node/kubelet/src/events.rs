//! Events about pods and the node, as `kubectl describe` shows them.
//!
//! Writing an event never holds up what it is about: events go into a bounded queue and are written
//! behind it. A repeated event raises the count of the first one.
//!
//! Upstream: `client-go/tools/record`.

use std::collections::HashMap;

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
use serde_json::json;
use tokio::sync::mpsc;
use tracing::{debug, info};

use crate::pod::PodExt;

const QUEUE: usize = 1000;
/// How many different events are remembered for counting.
const REMEMBERED: usize = 512;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Note>,
    node_name: String,
    clock: Clock,
}

#[derive(Debug)]
struct Note {
    object: ObjectReference,
    annotations: Option<std::collections::BTreeMap<String, String>>,
    is_warning: bool,
    reason: String,
    message: String,
    at: Timestamp,
}

impl Recorder {
    /// The recorder, and the task that writes what it records.
    pub(crate) fn new(
        client: Client,
        node_name: &str,
        clock: Clock,
    ) -> (Self, impl Future<Output = ()> + use<>) {
        let (queue, notes) = mpsc::channel(QUEUE);
        let recorder = Self { queue, node_name: node_name.to_owned(), clock };
        (recorder, write_all(client, node_name.to_owned(), notes))
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
        let at = self.clock.now();
        let reason = reason.to_owned();
        let note = Note { object, annotations: None, is_warning, reason, message, at };
        if let Err(error) = self.queue.try_send(note) {
            debug!(%error, "an event was dropped");
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

type Key = (Option<String>, Option<String>, String, String);

async fn write_all(client: Client, node_name: String, mut notes: mpsc::Receiver<Note>) {
    let mut written: HashMap<Key, Written> = HashMap::new();
    let mut last_stamp = 0;
    while let Some(note) = notes.recv().await {
        let key = (
            note.object.uid.clone(),
            note.object.field_path.clone(),
            note.reason.clone(),
            note.message.clone(),
        );
        if written.len() >= REMEMBERED {
            written.clear();
        }
        let result = match written.get_mut(&key) {
            Some(earlier) => count_again(&client, earlier, &note).await,
            None => match create(&client, &node_name, &note, &mut last_stamp).await {
                Ok(new) => {
                    written.insert(key, new);
                    Ok(())
                }
                Err(error) => Err(error),
            },
        };
        if let Err(error) = result {
            debug!(error = %telemetry::chain(&error), reason = note.reason, "an event was not written");
        }
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
    earlier.count += 1;
    let patch = json!({ "count": earlier.count, "lastTimestamp": Time(note.at) });
    let api = Api::<Event>::namespaced(client.clone(), &earlier.namespace);
    api.patch(&earlier.name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}
