//! Events, written in the background and aggregated.
//!
//! The same event about the same object is counted on one Event object, as `kubectl describe`
//! shows it (`x12 over 3m`). Each object may cause a burst of 25 and then one in five minutes, so
//! that a pass that fails for ever does not fill the store.
//!
//! Times of core/v1 events are whole seconds, so kubectl keeps those of one second in the order of the
//! list, which is that of their names: a name ends with the nanosecond at which the event was recorded,
//! as the kubelet's do. What others make of a step must not be dated before it: see [`Recorder::at`].
//!
//! Upstream: `client-go/tools/record` (`events_cache.go`). Deviation: core/v1 events from every
//! component, where upstream's scheduler writes events.k8s.io/v1 with series; similar messages are
//! not merged under a "(combined from similar events)" message. An event that cannot be written is
//! lost, as upstream's are.

use std::{collections::HashMap, time::Duration};

use clock::Clock;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use kube::{
    Api, Client, Resource,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use lifecycle::Scope;
use tokio::sync::mpsc;
use tracing::debug;

use crate::object;

const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;
const PENDING: usize = 1024;
const REMEMBERED: usize = 4096;
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// How many names an event is offered.
const NAMES: u32 = 5;

/// `Normal` or `Warning`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Records events of one component. Cheap to clone; recording never waits.
#[derive(Clone, Debug)]
pub struct Recorder {
    sender: mpsc::Sender<(Note, Timestamp)>,
    clock: Clock,
}

/// One thing to tell about one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Note {
    object: About,
    kind: EventType,
    reason: &'static str,
    message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct About {
    api_version: String,
    kind: String,
    namespace: String,
    name: String,
    uid: String,
}

impl Recorder {
    /// Starts the task that writes; `component` is what `kubectl describe` shows as "From".
    pub fn new(client: Client, component: impl Into<String>, clock: Clock, scope: &Scope) -> Self {
        let component: String = component.into();
        let (sender, mut notes) = mpsc::channel::<(Note, Timestamp)>(PENDING);
        drop(scope.spawn(&format!("events/{component}"), async move {
            let mut ledger = Ledger::default();
            while let Some((note, at)) = notes.recv().await {
                let write = write(&client, &component, &mut ledger, note, at);
                if tokio::time::timeout(WRITE_LIMIT, write).await.is_err() {
                    debug!(component, "event not written in time");
                }
            }
        }));
        Self { sender, clock }
    }

    /// Tells about an object. Dropped when a thousand others wait.
    pub fn record<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        kind: EventType,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.at(self.clock.now(), object, kind, reason, message);
    }

    /// Tells about an object whose kind is known only now.
    pub fn about(
        &self,
        object: &ObjectReference,
        kind: EventType,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let own = |field: &Option<String>| field.clone().unwrap_or_default();
        let object = About {
            api_version: own(&object.api_version),
            kind: own(&object.kind),
            namespace: own(&object.namespace),
            name: own(&object.name),
            uid: own(&object.uid),
        };
        let note = Note { object, kind, reason, message: message.into() };
        drop(self.sender.try_send((note, self.clock.now())));
    }

    /// Tells about an object what was so at a moment that is over: before it was told to those who
    /// then record events of their own.
    pub fn at<K: Resource<DynamicType = ()>>(
        &self,
        at: Timestamp,
        object: &K,
        kind: EventType,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let meta = object.meta();
        let about = About {
            api_version: K::api_version(&()).into_owned(),
            kind: K::kind(&()).into_owned(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
        };
        let note = Note { object: about, kind, reason, message: message.into() };
        drop(self.sender.try_send((note, at)));
    }

    pub fn normal<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.record(object, EventType::Normal, reason, message);
    }

    pub fn warn<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.record(object, EventType::Warning, reason, message);
    }
}

// === aggregation ===

/// What was written before, and how much each object may still say.
#[derive(Default)]
struct Ledger {
    written: HashMap<Note, Written>,
    /// Two events of one instant must not have one name.
    last_stamp: i128,
    allowance: HashMap<About, (f64, Timestamp)>,
}

struct Written {
    name: String,
    count: i32,
    /// For forgetting the oldest.
    at: Timestamp,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Create,
    Count { name: String, count: i32 },
    Drop,
}

impl Ledger {
    fn plan(&mut self, note: &Note, now: Timestamp) -> Step {
        if !self.is_allowed(&note.object, now) {
            return Step::Drop;
        }
        match self.written.get_mut(note) {
            None => Step::Create,
            Some(written) => {
                written.count += 1;
                written.at = now;
                Step::Count { name: written.name.clone(), count: written.count }
            }
        }
    }

    fn is_allowed(&mut self, object: &About, now: Timestamp) -> bool {
        if self.allowance.len() >= REMEMBERED && !self.allowance.contains_key(object) {
            self.allowance.retain(|_, (_, at)| {
                now.duration_since(*at).as_secs_f64() < REFILL_SECONDS * BURST / 10.0
            });
            if self.allowance.len() >= REMEMBERED {
                self.allowance.clear();
            }
        }
        let (tokens, at) = self.allowance.entry(object.clone()).or_insert((BURST, now));
        let refilled = now.duration_since(*at).as_secs_f64().max(0.0) / REFILL_SECONDS;
        *tokens = (*tokens + refilled).min(BURST);
        *at = now;
        if *tokens < 1.0 {
            return false;
        }
        *tokens -= 1.0;
        true
    }

    /// The nanosecond that a new event's name ends with.
    fn stamp(&mut self, at: Timestamp) -> i128 {
        self.last_stamp = at.as_nanosecond().max(self.last_stamp + 1);
        self.last_stamp
    }

    fn remember(&mut self, note: Note, name: String, now: Timestamp) {
        if self.written.len() >= REMEMBERED {
            let mut ages: Vec<_> = self.written.values().map(|it| it.at).collect();
            ages.sort_unstable();
            let middle = ages[ages.len() / 2];
            self.written.retain(|_, it| it.at > middle);
        }
        self.written.insert(note, Written { name, count: 1, at: now });
    }
}

async fn write(client: &Client, component: &str, ledger: &mut Ledger, note: Note, now: Timestamp) {
    let step = ledger.plan(&note, now);
    let namespace = namespace_of(&note);
    let events = Api::<Event>::namespaced(client.clone(), namespace);
    let failure = match step {
        Step::Drop => None,
        Step::Count { name, count } => {
            let patch = serde_json::json!({ "count": count, "lastTimestamp": object::time(now) });
            let patched = events.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
            let failure = patched.err();
            if failure.is_some() {
                // It expired: the next one starts to count again.
                ledger.written.remove(&note);
            }
            failure
        }
        Step::Create => match create(&events, component, ledger, &note, now).await {
            Err(error) => Some(error),
            Ok(name) => {
                ledger.remember(note, name, now);
                None
            }
        },
    };
    if let Some(error) = failure {
        debug!(component, error = %telemetry::chain(&error), "event not written");
    }
}

/// Returns its name. Another component may have told of the same object in the same instant, and has the
/// name then.
async fn create(
    events: &Api<Event>,
    component: &str,
    ledger: &mut Ledger,
    note: &Note,
    now: Timestamp,
) -> Result<String, kube::Error> {
    let mut tries = 0;
    loop {
        let event = new_event(note, component, now, ledger.stamp(now));
        tries += 1;
        match events.create(&PostParams::default(), &event).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() && tries < NAMES => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(event.metadata.name.unwrap_or_default()),
        }
    }
}

/// Events about cluster-scoped objects live in `default`.
fn namespace_of(note: &Note) -> &str {
    if note.object.namespace.is_empty() { "default" } else { &note.object.namespace }
}

fn new_event(note: &Note, component: &str, now: Timestamp, stamp: i128) -> Event {
    let about = &note.object;
    let namespace = Some(about.namespace.clone()).filter(|it| !it.is_empty());
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{stamp:x}", about.name)),
            namespace: Some(namespace_of(note).to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(about.api_version.clone()),
            kind: Some(about.kind.clone()),
            namespace,
            name: Some(about.name.clone()),
            uid: Some(about.uid.clone()),
            ..ObjectReference::default()
        },
        type_: Some(note.kind.as_str().to_owned()),
        reason: Some(note.reason.to_owned()),
        message: Some(note.message.clone()),
        count: Some(1),
        first_timestamp: Some(object::time(now)),
        last_timestamp: Some(object::time(now)),
        source: Some(EventSource { component: Some(component.to_owned()), host: None }),
        reporting_component: Some(component.to_owned()),
        reporting_instance: Some(String::new()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(message: &str) -> Note {
        let object = About {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: "default".into(),
            name: "web".into(),
            uid: "1".into(),
        };
        Note { object, kind: EventType::Normal, reason: "Scheduled", message: message.into() }
    }

    #[test]
    fn the_same_event_is_counted_and_another_is_created() {
        let (mut ledger, now) = (Ledger::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(ledger.plan(&note("a"), now), Step::Create);
        ledger.remember(note("a"), "web.1".into(), now);
        assert_eq!(ledger.plan(&note("a"), now), Step::Count { name: "web.1".into(), count: 2 });
        assert_eq!(ledger.plan(&note("b"), now), Step::Create);
    }

    #[test]
    fn events_of_one_second_are_listed_in_the_order_in_which_they_were_recorded() {
        let mut ledger = Ledger::default();
        let at = |millis: i64| Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap();
        let mut event = |text: &str, at| new_event(&note(text), "c", at, ledger.stamp(at));
        let (first, same) = (event("a", at(1)), event("b", at(1)));
        let later = event("c", at(999));
        let name = |it: &Event| it.metadata.name.clone().unwrap();
        assert!(name(&first) < name(&same) && name(&same) < name(&later));
        assert_eq!(first.last_timestamp, later.last_timestamp);
        // The kubelet's names end in the same way.
        assert_eq!(name(&first), format!("web.{:x}", at(1).as_nanosecond()));
    }

    #[test]
    fn an_object_that_says_too_much_is_silenced_until_its_allowance_refills() {
        let (mut ledger, now) = (Ledger::default(), Timestamp::UNIX_EPOCH);
        for _ in 0..25 {
            assert_eq!(ledger.plan(&note("a"), now), Step::Create);
        }
        assert_eq!(ledger.plan(&note("a"), now), Step::Drop);
        assert_eq!(ledger.plan(&note("a"), now + Duration::from_secs(299)), Step::Drop);
        assert_eq!(ledger.plan(&note("a"), now + Duration::from_secs(301)), Step::Create);
    }
}
