//! Sends pod statuses to the API server, behind the backs of those who change them.
//!
//! A worker sets a status and goes on; what is sent is always the newest one. When a pod that is
//! being deleted has ended, its last status is sent first and the object is deleted then.
//!
//! **Invariant:** a status is sent for the UID it was made for, never for a later pod of that name.

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use lifecycle::Scope;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::conditions::OURS;
use crate::pod::{PodExt, PodUid};

const LIMIT: Duration = Duration::from_secs(10);
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

pub(crate) struct Statuses {
    client: Client,
    scope: Scope,
    /// There is nobody to send to.
    is_alone: bool,
    entries: Mutex<HashMap<PodUid, Entry>>,
    /// Something that was on its way is so no longer.
    settled: watch::Sender<()>,
}

struct Entry {
    pod: Arc<Pod>,
    wanted: Arc<PodStatus>,
    /// What the API holds as far as we know. Of a pod at rest it is the same object as `wanted`.
    sent: Arc<PodStatus>,
    /// All of the pod has ended: it may be deleted.
    is_finished: bool,
    /// The API has it no more: whatever is still to be said of it, nobody hears.
    is_gone: bool,
    is_sending: bool,
    /// The watch has told of the pod while a status of it was on its way.
    has_news: bool,
    mirror: Option<Arc<Pod>>,
}

impl Entry {
    fn new(pod: Arc<Pod>, wanted: Arc<PodStatus>, sent: Arc<PodStatus>) -> Self {
        Self {
            pod,
            wanted,
            sent,
            is_finished: false,
            is_gone: false,
            is_sending: false,
            has_news: false,
            mirror: None,
        }
    }

    /// The API holds this, and nothing of ours is on its way.
    fn hold(&mut self, known: Arc<PodStatus>) {
        take_over(&known, Arc::make_mut(&mut self.wanted));
        self.sent = if known == self.wanted { self.wanted.clone() } else { known };
    }

    /// A status has arrived. What the watch has told meanwhile counts if it is not older.
    fn arrived(&mut self, wanted: &PodStatus, answer: &Pod) {
        let told = self.pod.status.clone().unwrap_or_default();
        let has_news = std::mem::take(&mut self.has_news) && !self.pod.is_mirror_or_static();
        if has_news && revision(&self.pod) >= revision(answer) {
            return self.hold(Arc::new(told));
        }
        let mut sent = wanted.clone();
        if has_news {
            take_over(&told, &mut sent);
        }
        self.sent = if sent == *self.wanted { self.wanted.clone() } else { Arc::new(sent) };
    }
}

fn revision(pod: &Pod) -> u64 {
    let text = pod.metadata.resource_version.as_deref();
    text.and_then(|it| it.parse().ok()).unwrap_or_default()
}

/// What a sender has to do next.
enum Job {
    Patch { pod: Arc<Pod>, wanted: Arc<PodStatus>, patch: Value },
    Delete { pod: Arc<Pod> },
    Nothing,
}

impl Statuses {
    pub(crate) fn new(client: Client, scope: Scope, is_alone: bool) -> Arc<Self> {
        let settled = watch::Sender::new(());
        Arc::new(Self { client, scope, is_alone, entries: Mutex::default(), settled })
    }

    /// The newest status of a pod, sent or not.
    pub(crate) fn get(&self, uid: &PodUid) -> Option<PodStatus> {
        self.entries.lock().get(uid).map(|it| PodStatus::clone(&it.wanted))
    }

    /// What the watch says of a pod. Returns whether others have said something new: an echo of our own
    /// words, however old, is nothing new, and where somebody else has changed those they are sent again.
    pub(crate) fn observe(self: &Arc<Self>, pod: &Arc<Pod>) -> bool {
        let mut entries = self.entries.lock();
        let known = Arc::new(pod.status.clone().unwrap_or_default());
        let Some(entry) = entries.get_mut(&pod.uid()) else {
            entries.insert(pod.uid(), Entry::new(pod.clone(), known.clone(), known));
            return true;
        };
        let before = entry.wanted.clone();
        entry.pod = pod.clone();
        if entry.is_sending {
            // The worker, which hears of it next, has to see what others say.
            take_over(&known, Arc::make_mut(&mut entry.wanted));
            entry.has_news = true;
        } else {
            entry.hold(known);
        }
        let is_behind = entry.is_finished || entry.sent != entry.wanted;
        let is_news = entry.wanted != before;
        drop(entries);
        if is_behind {
            self.wake(&pod.uid());
        }
        is_news
    }

    /// The status that the pod should have from now on.
    pub(crate) fn set(self: &Arc<Self>, pod: &Arc<Pod>, status: PodStatus) {
        let mut status = as_sent(status);
        {
            let mut entries = self.entries.lock();
            let entry = entries.entry(pod.uid()).or_insert_with(|| {
                let known = pod.status.clone().unwrap_or_default();
                Entry::new(pod.clone(), Arc::default(), Arc::new(known))
            });
            // It may have been made before others said something.
            if let Some(known) = &entry.pod.status {
                take_over(known, &mut status);
            }
            if *entry.wanted == status && *entry.sent == status {
                return;
            }
            entry.wanted = Arc::new(status);
        }
        self.wake(&pod.uid());
    }

    /// A static pod's status goes to its mirror in the API.
    pub(crate) fn set_mirror(self: &Arc<Self>, uid: &PodUid, mirror: Arc<Pod>) {
        {
            let mut entries = self.entries.lock();
            let Some(entry) = entries.get_mut(uid) else { return };
            if !entry.is_sending {
                entry.sent = Arc::new(mirror.status.clone().unwrap_or_default());
            }
            entry.mirror = Some(mirror);
        }
        self.wake(uid);
    }

    /// Nothing of the pod is left on this node.
    pub(crate) fn finish(self: &Arc<Self>, uid: &PodUid) {
        if let Some(entry) = self.entries.lock().get_mut(uid) {
            entry.is_finished = true;
        }
        self.wake(uid);
    }

    /// Ends when nothing is on its way.
    pub(crate) async fn until_idle(&self) {
        let mut settled = self.settled.subscribe();
        while self.entries.lock().values().any(|it| it.is_sending) {
            // The sender lives in `self`, so this cannot fail.
            drop(settled.changed().await);
        }
    }

    pub(crate) fn forget(&self, uid: &PodUid) {
        self.entries.lock().remove(uid);
        self.settled.send_replace(());
    }

    /// Copies what is kept of a pod to where it lies together; see [`crate::memory`].
    pub(crate) fn repack(&self, uid: &PodUid, old: &Arc<Pod>, fresh: &Arc<Pod>) {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(uid).filter(|it| !it.is_sending) else { return };
        if Arc::ptr_eq(&entry.pod, old) {
            entry.pod = fresh.clone();
        }
        let is_one = Arc::ptr_eq(&entry.wanted, &entry.sent);
        entry.wanted = Arc::new(PodStatus::clone(&entry.wanted));
        entry.sent =
            if is_one { entry.wanted.clone() } else { Arc::new(PodStatus::clone(&entry.sent)) };
    }

    fn wake(self: &Arc<Self>, uid: &PodUid) {
        if self.is_alone {
            return;
        }
        {
            let mut entries = self.entries.lock();
            let Some(entry) = entries.get_mut(uid) else { return };
            if entry.is_sending || entry.is_gone {
                return;
            }
            entry.is_sending = true;
        }
        let (this, uid) = (self.clone(), uid.clone());
        drop(self.scope.spawn("status", async move { this.send(uid).await }));
    }

    async fn send(&self, uid: PodUid) {
        let mut retry = FIRST_RETRY;
        loop {
            let job = self.next_job(&uid);
            let is_end = matches!(job, Job::Delete { .. });
            let result = match job {
                Job::Nothing => return,
                Job::Patch { pod, wanted, patch } => {
                    let result = self.patch(&pod, patch).await;
                    if let Ok(answer) = &result
                        && let Some(entry) = self.entries.lock().get_mut(&uid)
                    {
                        entry.arrived(&wanted, answer);
                    }
                    result.map(drop)
                }
                Job::Delete { pod } => self.delete(&pod).await,
            };
            match result {
                Ok(()) if is_end => return self.lose(&uid),
                Ok(()) => retry = FIRST_RETRY,
                Err(kube::Error::Api(status)) if status.is_not_found() => {
                    debug!(%uid, "the pod of a status is gone");
                    return self.lose(&uid);
                }
                Err(error) => {
                    warn!(%uid, error = %telemetry::chain(&error), "a status was not sent");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(LONGEST_RETRY);
                }
            }
        }
    }

    /// The object is gone from the API. A static pod runs on, and gets another mirror.
    fn lose(&self, uid: &PodUid) {
        if let Some(entry) = self.entries.lock().get_mut(uid) {
            entry.mirror = None;
            entry.is_gone = !entry.pod.is_mirror_or_static();
            entry.is_sending = false;
        }
        self.settled.send_replace(());
    }

    fn next_job(&self, uid: &PodUid) -> Job {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(uid) else { return Job::Nothing };
        let is_static = entry.pod.is_mirror_or_static();
        let shown = if is_static { entry.mirror.clone() } else { Some(entry.pod.clone()) };
        if let Some(pod) = shown.filter(|_| entry.sent != entry.wanted) {
            let patch = patch(&pod, &entry.sent, &entry.wanted);
            return Job::Patch { pod, wanted: entry.wanted.clone(), patch };
        }
        if entry.is_finished && entry.pod.is_terminating() && !is_static {
            return Job::Delete { pod: entry.pod.clone() };
        }
        entry.is_sending = false;
        self.settled.send_replace(());
        Job::Nothing
    }

    async fn patch(&self, pod: &Pod, patch: Value) -> Result<Pod, kube::Error> {
        let api = Api::<Pod>::namespaced(self.client.clone(), pod.namespace());
        let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
        let sent = api.patch_status(pod.name(), &params, &patch);
        within(sent).await
    }

    async fn delete(&self, pod: &Pod) -> Result<(), kube::Error> {
        let api = Api::<Pod>::namespaced(self.client.clone(), pod.namespace());
        let only_this = Preconditions { uid: Some(pod.uid().0), ..Preconditions::default() };
        let params = DeleteParams::default().grace_period(0).preconditions(only_this);
        within(api.delete(pod.name(), &params)).await.map(drop)
    }
}

/// A status as the API gives it back: times on the wire have whole seconds, and a status that differs
/// only below would be sent again and again.
fn as_sent(status: PodStatus) -> PodStatus {
    match serde_json::from_value(json!(status)) {
        Ok(status) => status,
        Err(_) => status,
    }
}

async fn within<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    match tokio::time::timeout(LIMIT, call).await {
        Ok(result) => result,
        Err(_) => Err(kube::Error::Service("the API server did not answer in time".into())),
    }
}

/// What others say of a pod, in the newest words.
fn take_over(known: &PodStatus, status: &mut PodStatus) {
    adopt_others(known, status);
    super::keep_others(known, status);
}

/// Conditions that others have set since.
fn adopt_others(known: &PodStatus, wanted: &mut PodStatus) {
    let Some(conditions) = &mut wanted.conditions else { return };
    // Why the pod is ended can be said by others too; ours stays until they say something else.
    let is_ours = |it: &str| OURS.contains(&it) || it == "DisruptionTarget";
    let others = known.conditions.iter().flatten();
    let others: Vec<_> = others.filter(|it| !OURS.contains(&it.type_.as_str())).cloned().collect();
    conditions
        .retain(|it| is_ours(&it.type_) && !others.iter().any(|other| other.type_ == it.type_));
    conditions.extend(others);
}

/// A strategic merge patch from one status to another.
///
/// Lists with a merge key need to be told what goes; everything else is replaced.
fn patch(pod: &Pod, from: &PodStatus, to: &PodStatus) -> Value {
    let (from, mut status) = (json!(from), json!(to));
    for name in ["podIPs", "hostIPs"] {
        let gone = gone(&from[name], &status[name], "ip");
        if let Some(list) = status[name].as_array_mut() {
            list.extend(gone.into_iter().map(|ip| json!({ "ip": ip, "$patch": "delete" })));
        }
    }
    let gone = gone(&from["conditions"], &status["conditions"], "type");
    leave_conditions(&from, &mut status);
    clear_condition_texts(&from, &mut status);
    if let Some(list) = status["conditions"].as_array_mut() {
        list.extend(gone.into_iter().map(|it| json!({ "type": it, "$patch": "delete" })));
    }
    if let (Some(from), Some(to)) = (from.as_object(), status.as_object_mut()) {
        for name in from.keys() {
            to.entry(name.clone()).or_insert(Value::Null);
        }
    }
    json!({ "metadata": { "uid": pod.uid() }, "status": status })
}

fn gone(from: &Value, to: &Value, key: &str) -> Vec<Value> {
    let all = |list: &Value| -> Vec<Value> {
        list.as_array().into_iter().flatten().map(|it| it[key].clone()).collect()
    };
    let kept = all(to);
    all(from).into_iter().filter(|it| !kept.contains(it)).collect()
}

/// A condition that is as it was is not sent: it may be another's, who has changed it since.
fn leave_conditions(from: &Value, to: &mut Value) {
    let Some(conditions) = to["conditions"].as_array_mut() else { return };
    let earlier = from["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    conditions.retain(|it| !earlier.contains(it));
}

/// A reason or message that a condition no longer has must be taken away.
fn clear_condition_texts(from: &Value, to: &mut Value) {
    let Some(conditions) = to["conditions"].as_array_mut() else { return };
    for condition in conditions {
        let mut earlier = from["conditions"].as_array().into_iter().flatten();
        let Some(earlier) = earlier.find(|it| it["type"] == condition["type"]) else {
            continue;
        };
        for text in ["reason", "message"] {
            if !earlier[text].is_null() && condition[text].is_null() {
                condition[text] = Value::Null;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{PodCondition, PodIP};

    use super::*;

    #[test]
    fn a_status_that_comes_back_is_the_one_that_was_sent() {
        let now = "2026-11-23T10:00:00.123456789Z".parse().unwrap();
        let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now);
        let status = PodStatus { start_time: Some(time), ..PodStatus::default() };
        let sent = as_sent(status);
        let text = serde_json::to_string(&sent).unwrap();
        assert_eq!(serde_json::from_str::<PodStatus>(&text).unwrap(), sent);
    }

    fn condition(kind: &str, status: &str) -> PodCondition {
        let (type_, status) = (kind.to_owned(), status.to_owned());
        PodCondition { type_, status, ..PodCondition::default() }
    }

    fn saying(conditions: &[PodCondition]) -> PodStatus {
        PodStatus { conditions: Some(conditions.to_vec()), ..PodStatus::default() }
    }

    fn pod(revision: &str, status: PodStatus) -> Pod {
        let mut pod = Pod { status: Some(status), ..Pod::default() };
        pod.metadata.resource_version = Some(revision.to_owned());
        pod
    }

    #[test]
    fn a_patch_leaves_conditions_that_are_as_they_were_to_who_may_change_them() {
        let (gate, ready) = (condition("gate", "True"), condition("Ready", "False"));
        let from = saying(&[ready, gate.clone()]);
        let to = saying(&[condition("Ready", "True"), gate]);
        let patch = patch(&Pod::default(), &from, &to);
        assert_eq!(patch["status"]["conditions"], json!([{ "type": "Ready", "status": "True" }]));
    }

    #[test]
    fn what_others_say_while_a_status_is_on_its_way_is_known_when_it_has_arrived() {
        let (gate, ready) = (condition("gate", "True"), condition("Ready", "False"));
        for answer in ["3", "4"] {
            let wanted = Arc::new(saying(std::slice::from_ref(&ready)));
            let mut entry = Entry::new(Arc::default(), wanted.clone(), Arc::default());
            let told = saying(&[ready.clone(), gate.clone()]);
            entry.pod = Arc::new(pod("3", told.clone()));
            entry.has_news = true;
            take_over(&told, Arc::make_mut(&mut entry.wanted));
            entry.arrived(&wanted, &pod(answer, PodStatus::default()));
            assert_eq!((&*entry.wanted, &*entry.sent), (&told, &told), "{answer}");
            assert!(!entry.has_news);
        }
    }

    #[tokio::test]
    async fn an_echo_of_older_words_of_ours_is_no_news_and_what_others_say_is() {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let client = Client::try_from(config).unwrap();
        let statuses = Statuses::new(client, Scope::new(), true);
        let (gate, ready) = (condition("gate", "True"), condition("Ready", "True"));
        let old = condition("Ready", "False");
        let observe = |all: &[PodCondition]| statuses.observe(&Arc::new(pod("1", saying(all))));
        assert!(observe(&[]), "a pod that is new");
        statuses
            .set(&Arc::new(pod("1", PodStatus::default())), saying(std::slice::from_ref(&ready)));
        assert!(!observe(std::slice::from_ref(&old)));
        assert!(!observe(std::slice::from_ref(&ready)));
        assert!(observe(&[old, gate.clone()]));
        assert!(!observe(&[ready, gate]));
    }

    #[test]
    fn what_somebody_else_has_put_in_the_place_of_ours_meanwhile_is_noticed() {
        let ours = Arc::new(saying(&[condition("Ready", "True")]));
        let mut entry = Entry::new(Arc::default(), ours.clone(), Arc::default());
        entry.pod = Arc::new(pod("3", saying(&[condition("Ready", "False")])));
        entry.has_news = true;
        entry.arrived(&ours, &pod("2", PodStatus::default()));
        assert_ne!(entry.wanted, entry.sent);
    }

    #[test]
    fn a_patch_takes_away_what_the_new_status_lacks() {
        let condition = |reason: Option<&str>| PodCondition {
            type_: "Ready".to_owned(),
            reason: reason.map(str::to_owned),
            ..PodCondition::default()
        };
        let from = PodStatus {
            reason: Some("Old".to_owned()),
            pod_ips: Some(vec![PodIP { ip: "10.0.0.1".to_owned() }]),
            conditions: Some(vec![condition(Some("ContainersNotReady"))]),
            ..PodStatus::default()
        };
        let to = PodStatus {
            pod_ips: Some(vec![PodIP { ip: "10.0.0.2".to_owned() }]),
            conditions: Some(vec![condition(None)]),
            ..PodStatus::default()
        };
        let patch = patch(&Pod::default(), &from, &to);
        let status = &patch["status"];
        assert!(status.as_object().unwrap()["reason"].is_null());
        assert_eq!(status["podIPs"][1], json!({ "ip": "10.0.0.1", "$patch": "delete" }));
        assert!(status["conditions"][0].as_object().unwrap().contains_key("reason"));
    }
}
