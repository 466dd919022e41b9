//! One worker per pod.
//!
//! A worker owns everything that happens to its pod. Others only put things into its inbox: a new
//! version of the object, the news that something about it changed in the runtime or in a probe, an
//! order to evict it. The worker takes the newest of each, looks, plans and acts; then it sleeps until
//! the inbox has something or a time that the plan named has come.
//!
//! **Invariant:** at most one worker acts for a UID at any time.

mod admit;
mod container;
mod dynamic_resources;
pub(crate) mod inbox;
mod kill;
mod lookup;
mod mount_kinds;
mod resize;
mod start;
mod terminate;
mod underway;
mod worker;

use std::{
    collections::{HashMap, HashSet},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tracing::{debug, error};

use self::inbox::{Inbox, News};
pub(crate) use self::kill::LEAST_GRACE;
use crate::{
    context::Context,
    early_exits::EarlyExit,
    observed::RuntimePod,
    pod::{PodExt, PodUid},
    status::Verdict,
};

/// Between a worker's panic and its next beginning.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The pods of this node and their workers.
pub(crate) struct PodWorkers {
    context: Arc<Context>,
    workers: Mutex<HashMap<PodUid, Arc<Inbox>>>,
    /// The pods of which the runtime held something when this process began; `None` until it has
    /// been asked.
    found: Mutex<Option<HashSet<PodUid>>>,
    /// Something about a pod has become another thing.
    progress: watch::Sender<()>,
}

impl PodWorkers {
    pub(crate) fn new(context: Arc<Context>) -> Arc<Self> {
        let progress = watch::Sender::new(());
        let (workers, found) = (Mutex::default(), Mutex::default());
        Arc::new(Self { context, workers, found, progress })
    }

    /// What the runtime held when this process began, asked before the first worker starts.
    pub(crate) fn set_found(&self, found: HashSet<PodUid>) {
        *self.found.lock() = Some(found);
    }

    /// Whether the runtime may hold something of a pod that this process has not made.
    fn may_have_run(&self, uid: &PodUid) -> bool {
        self.found.lock().as_ref().is_none_or(|it| it.contains(uid))
    }

    /// A pod was added or changed.
    pub(crate) fn update(self: &Arc<Self>, pod: Arc<Pod>) {
        let uid = pod.uid();
        let is_news = self.context.statuses.observe(&pod);
        let existing = self.workers.lock().get(&uid).cloned();
        match existing {
            Some(inbox) => {
                let allocated = self.context.allocations.applied_to(&pod);
                let is_changed = !is_as_before(&inbox.desired(), &pod);
                inbox.put_pod(pod, allocated);
                // A worker that hears its own words has nothing to look at.
                if is_changed {
                    // Files may tell of its labels, annotations and resources.
                    inbox.set_volumes_due();
                } else if is_news {
                    inbox.notify();
                }
            }
            None => self.start(pod),
        }
    }

    /// The pod of a container or sandbox that its worker has seen.
    pub(crate) fn owner_of(&self, id: &str) -> Option<PodUid> {
        let workers = self.workers.lock();
        workers.iter().find(|(_, inbox)| inbox.has_seen(id)).map(|(uid, _)| uid.clone())
    }

    fn start(self: &Arc<Self>, pod: Arc<Pod>) {
        let uid = pod.uid();
        self.context.timelines.open(&pod);
        self.context.starts.begin(&pod);
        let allocated = self.context.allocations.applied_to(&pod);
        let inbox = Arc::new(Inbox::new(pod, allocated));
        self.workers.lock().insert(uid.clone(), inbox.clone());
        let this = self.clone();
        let task = async move {
            let begin = || worker::run(this.clone(), inbox.clone());
            until_it_ends(begin, || this.note_panic(&inbox)).await;
            this.context.timelines.end(&uid);
            this.context.starts.forget(&uid);
            this.workers.lock().remove(&uid);
            this.note_progress();
        };
        drop(self.context.scope.spawn("pod", task));
    }

    /// The defect is the kubelet's, and the pod's owner is told that it is looked at again.
    fn note_panic(&self, inbox: &Inbox) {
        let pod = inbox.pod();
        error!(pod = pod.full_name(), "a pod's worker panicked and begins anew");
        let message = "error syncing pod: the kubelet met a defect of its own, see its log";
        self.context.recorder.warning(&pod, "FailedSync", message.to_owned());
        // What it made is there, though it was not when this process began.
        if let Some(found) = &mut *self.found.lock() {
            found.insert(pod.uid());
        }
        inbox.notify();
    }

    /// A pod is no longer in the API.
    pub(crate) fn remove(&self, uid: &PodUid) {
        match self.workers.lock().get(uid) {
            Some(inbox) => inbox.put_removed(),
            None => self.context.statuses.forget(uid),
        }
    }

    /// The API's shadow of a static pod: its status is that of the pod that runs.
    pub(crate) fn mirror(&self, mirror: Pod) {
        if let Some(pod) = self.find(mirror.namespace(), mirror.name())
            && pod.is_mirror_or_static()
        {
            self.context.statuses.set_mirror(&pod.uid(), Arc::new(mirror));
        }
    }

    /// Only these pods exist in the API: what else has a worker, and is not from a file, is gone.
    pub(crate) fn retain(&self, exists: impl Fn(&PodUid) -> bool) {
        let gone: Vec<_> = self
            .workers
            .lock()
            .iter()
            .filter(|(uid, inbox)| !inbox.pod().is_mirror_or_static() && !exists(uid))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in gone {
            debug!(%uid, "a pod went while nobody was looking");
            self.remove(&uid);
        }
    }

    /// Something about this pod changed outside of the API.
    pub(crate) fn notify(&self, uid: &PodUid) {
        if let Some(inbox) = self.workers.lock().get(uid) {
            inbox.notify();
        }
    }

    /// Volumes of these pods are made again at once, not when it is their time.
    pub(crate) fn refresh_volumes(&self, concerns: impl Fn(&Pod) -> bool) {
        for inbox in self.workers.lock().values().filter(|it| concerns(&it.pod())) {
            self.context.volumes.try_again(&inbox.uid());
            inbox.set_volumes_due();
        }
    }

    /// The same of those volumes only that could not be made.
    pub(crate) fn retry_volumes(&self, concerns: impl Fn(&Pod) -> bool) {
        for inbox in self.workers.lock().values().filter(|it| concerns(&it.pod())) {
            if self.context.volumes.try_again(&inbox.uid()) {
                inbox.set_volumes_due();
            }
        }
    }

    /// A container of this pod has ended, as was told before the runtime knows it.
    pub(crate) fn put_exit(&self, uid: &PodUid, exit: EarlyExit) {
        if let Some(inbox) = self.workers.lock().get(uid) {
            inbox.put_exit(exit);
        }
        self.note_progress();
    }

    /// Whether an exit of this container was told that the runtime does not know yet.
    pub(crate) fn has_early_exit(&self, uid: &PodUid, id: &str) -> bool {
        self.workers.lock().get(uid).is_some_and(|it| it.has_early_exit(id))
    }

    pub(crate) fn notify_all(&self) {
        for inbox in self.workers.lock().values() {
            inbox.notify();
        }
    }

    /// Ends a pod with a verdict.
    pub(crate) fn evict(&self, uid: &PodUid, verdict: Verdict, grace: Option<i64>) {
        if let Some(inbox) = self.workers.lock().get(uid) {
            inbox.put_verdict(verdict, grace);
        }
    }

    /// Copies what is kept of pods to where it lies together; see [`crate::memory`].
    pub(crate) fn repack(&self) {
        for (uid, inbox) in self.workers.lock().iter() {
            let (old, fresh) = inbox.repack();
            self.context.statuses.repack(uid, &old, &fresh);
        }
        self.context.timelines.repack();
        self.context.allocations.repack();
        self.context.metrics.repack();
    }

    fn note_progress(&self) {
        self.progress.send_replace(());
    }

    /// Marked each time that something about a pod has become another thing.
    pub(crate) fn progress(&self) -> watch::Receiver<()> {
        self.progress.subscribe()
    }

    /// Ends when something is true of the pods, their statuses and what is observed of them.
    pub(crate) async fn until(&self, is_it: impl Fn() -> bool) {
        let mut progress = self.progress();
        while !is_it() {
            // The sender lives in `self`, so this cannot fail.
            drop(progress.changed().await);
        }
    }

    /// Whether a pod has been told to end, by whomever.
    pub(crate) fn is_ending(&self, uid: &PodUid) -> bool {
        self.workers.lock().get(uid).is_none_or(|it| it.news().must_end())
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub(crate) fn pod(&self, uid: &PodUid) -> Option<Arc<Pod>> {
        self.workers.lock().get(uid).map(|it| it.pod())
    }

    pub(crate) fn is_known(&self, uid: &PodUid) -> bool {
        self.workers.lock().contains_key(uid)
    }

    /// The pods, with the newest status of each.
    pub(crate) fn pods(&self) -> Vec<Pod> {
        self.pods_where(|_| true)
    }

    /// Those of which something is true that is not their status: others are not copied.
    pub(crate) fn pods_where(&self, is_it: impl Fn(&Pod) -> bool) -> Vec<Pod> {
        let pods: Vec<_> = self.workers.lock().values().map(|it| it.pod()).collect();
        pods.iter()
            .filter(|pod| is_it(pod))
            .map(|pod| {
                let status = self.context.statuses.get(&pod.uid());
                Pod { status: status.or_else(|| pod.status.clone()), ..Pod::clone(pod) }
            })
            .collect()
    }

    /// The pod of this name. Beside one that is still being ended its successor is meant.
    pub(crate) fn find(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let workers = self.workers.lock();
        let news = workers.values().map(|it| it.news());
        meant(news.filter(|it| it.pod.namespace() == namespace && it.pod.name() == name))
    }

    /// The same, or the very one of this UID.
    pub(crate) fn find_with(
        &self,
        namespace: &str,
        name: &str,
        uid: Option<&str>,
    ) -> Option<Arc<Pod>> {
        let Some(uid) = uid else { return self.find(namespace, name) };
        let pod = self.pod(&PodUid(uid.to_owned()))?;
        (pod.namespace() == namespace && pod.name() == name).then_some(pod)
    }

    /// Room has been made: pods that wait for it look again.
    fn notify_waiting(&self) {
        for inbox in self.workers.lock().values().filter(|it| it.waits_since().is_some()) {
            inbox.notify();
        }
    }

    /// What running pods would be that wait for more room.
    fn resizes(&self) -> Vec<resize::order::Waiting> {
        let workers = self.workers.lock();
        let admitted = workers.values().filter(|it| it.is_admitted() && !it.is_removed());
        admitted.filter_map(|it| Some((it.desired(), it.waits_since()?))).collect()
    }

    /// Whether a pod still holds resources of the node.
    fn is_holding(&self, uid: &PodUid) -> bool {
        self.workers.lock().get(uid).is_some_and(|it| it.is_holding())
    }

    /// Whether volumes and groups of a pod are gone from the node.
    pub(crate) fn is_cleared(&self, uid: &PodUid) -> bool {
        self.workers.lock().get(uid).is_none_or(|it| it.is_cleared())
    }

    /// The pods that hold resources of the node: admitted, and not over. One that the API no longer
    /// has is not counted while it is torn down, since the scheduler has given its place away.
    fn admitted(&self, except: &PodUid) -> Vec<Arc<Pod>> {
        self.holding(|uid, inbox| uid != except && !inbox.is_removed())
    }

    fn holding(&self, counts: impl Fn(&PodUid, &Inbox) -> bool) -> Vec<Arc<Pod>> {
        let workers = self.workers.lock();
        workers
            .iter()
            .filter(|(uid, inbox)| inbox.is_holding() && counts(uid, inbox))
            .map(|(_, inbox)| inbox.pod())
            .collect()
    }

    /// The pods that are admitted have changed.
    fn update_qos(&self) {
        self.context.cgroups.update_qos(&self.holding(|_, _| true));
    }

    pub(crate) fn observed(&self, uid: &PodUid) -> Option<RuntimePod> {
        self.workers.lock().get(uid).map(|it| it.observed())
    }
}

/// Runs a worker until it ends. One that panics begins anew with what the runtime holds, as after a
/// kubelet that was killed: a pod without a worker could not even be deleted. As in upstream's back-off, a
/// panic that comes longer after the last one than twice the longest pause is a first one.
async fn until_it_ends<F: Future<Output = ()>>(begin: impl Fn() -> F, note_panic: impl Fn()) {
    let (mut pause, mut last) = (FIRST_PAUSE, Instant::now());
    while AssertUnwindSafe(begin()).catch_unwind().await.is_err() {
        note_panic();
        if last.elapsed() > LONGEST_PAUSE * 2 {
            pause = FIRST_PAUSE;
        }
        last = Instant::now();
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether nothing but the status of a pod has changed.
fn is_as_before(before: &Pod, pod: &Pod) -> bool {
    let bare = |pod: &Pod| ObjectMeta {
        resource_version: None,
        managed_fields: None,
        ..pod.metadata.clone()
    };
    before.spec == pod.spec && bare(before) == bare(pod)
}

/// Of pods of one name: one that stays rather than one that ends, then the newest.
fn meant(news: impl Iterator<Item = News>) -> Option<Arc<Pod>> {
    let best = news.max_by_key(|it| {
        let created = it.pod.metadata.creation_timestamp.as_ref().map(|it| it.0);
        (!it.must_end(), created)
    });
    best.map(|it| it.pod)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_panics_begins_anew_later_and_later_until_it_ends() {
        let begun = Mutex::new(Vec::new());
        let panics = Mutex::new(0);
        let start = Instant::now();
        let worker = || async {
            let count = {
                let mut begun = begun.lock();
                begun.push(start.elapsed().as_secs());
                begun.len()
            };
            tokio::task::yield_now().await;
            assert!(count > 3, "a defect");
        };
        until_it_ends(worker, || *panics.lock() += 1).await;
        assert_eq!(*begun.lock(), [0, 1, 3, 7]);
        assert_eq!(*panics.lock(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_ran_well_for_long_begins_anew_at_once_as_at_first() {
        let begun = Mutex::new(Vec::new());
        let start = Instant::now();
        let worker = || async {
            let count = {
                let mut begun = begun.lock();
                begun.push(start.elapsed().as_secs());
                begun.len()
            };
            let runs = if count == 3 { 600 } else { 0 };
            tokio::time::sleep(Duration::from_secs(runs)).await;
            assert!(count > 4, "a defect");
        };
        until_it_ends(worker, || ()).await;
        assert_eq!(*begun.lock(), [0, 1, 3, 604, 606]);
    }

    #[test]
    fn of_two_pods_of_one_name_the_one_that_stays_is_meant_and_then_the_newer_one() {
        let news = |uid: &str, created: &str, is_removed: bool| {
            let metadata = ObjectMeta {
                uid: Some(uid.to_owned()),
                creation_timestamp: Some(Time(created.parse().unwrap())),
                ..ObjectMeta::default()
            };
            let pod = Arc::new(Pod { metadata, ..Pod::default() });
            let inbox = Inbox::new(pod.clone(), pod);
            if is_removed {
                inbox.put_removed();
            }
            inbox.news()
        };
        let old = || news("old", "2026-11-23T10:00:00Z", false);
        let young = || news("young", "2026-11-23T10:00:01Z", false);
        let gone = || news("gone", "2026-11-23T10:00:02Z", true);
        let ask = |all: Vec<News>| meant(all.into_iter()).unwrap().uid().0;
        assert_eq!(ask(vec![old(), young(), gone()]), "young");
        assert_eq!(ask(vec![gone(), old()]), "old");
        assert_eq!(ask(vec![gone()]), "gone");
    }
}
