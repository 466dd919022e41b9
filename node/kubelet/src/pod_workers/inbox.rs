//! What a pod's worker has to know, newest only.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::{
    early_exits::{EarlyExit, EarlyExits},
    observed::RuntimePod,
    pod::{PodExt, PodUid},
    status::Verdict,
};

/// Ten years: a pod may ask for any number of seconds, and a clock has an end.
const MOST_GRACE: i64 = 10 * 365 * 86_400;

pub(crate) struct Inbox {
    news: Mutex<News>,
    woken: Notify,
}

#[derive(Clone)]
pub(crate) struct News {
    /// The pod with the resources that are promised to it.
    pub pod: Arc<Pod>,
    /// The pod as the API has it.
    pub desired: Arc<Pod>,
    /// The object is gone from the API.
    pub is_removed: bool,
    pub verdict: Option<Verdict>,
    /// The grace that the verdict allows.
    pub verdict_grace: Option<i64>,
    is_admitted: bool,
    is_cleared: bool,
    /// An earlier run of this kubelet admitted it: what it uses counts before its worker comes to it.
    was_admitted: bool,
    /// Since when it waits for room.
    waits_since: Option<Instant>,
    /// What volumes are made from has changed.
    are_volumes_due: bool,
    observed: RuntimePod,
    /// Exits that the runtime does not know yet.
    exits: EarlyExits,
}

impl News {
    /// The pod has to end.
    pub(crate) fn must_end(&self) -> bool {
        self.is_removed || self.verdict.is_some() || self.pod.is_terminating()
    }

    /// How long its containers may take to end.
    pub(crate) fn grace(&self) -> i64 {
        let own = self.pod.grace_seconds();
        // Even a forced end asks the process first.
        self.verdict_grace.map_or(own, |it| it.min(own)).clamp(1, MOST_GRACE)
    }
}

impl Inbox {
    pub(crate) fn new(desired: Arc<Pod>, pod: Arc<Pod>) -> Self {
        let was_admitted = was_admitted(&pod);
        let news = News {
            pod,
            desired,
            is_removed: false,
            verdict: None,
            verdict_grace: None,
            is_admitted: false,
            is_cleared: false,
            was_admitted,
            waits_since: None,
            are_volumes_due: false,
            observed: RuntimePod::default(),
            exits: EarlyExits::default(),
        };
        let inbox = Self { news: Mutex::new(news), woken: Notify::new() };
        inbox.woken.notify_one();
        inbox
    }

    /// Wakes nobody: whoever puts it knows whether there is something to do.
    pub(crate) fn put_pod(&self, desired: Arc<Pod>, pod: Arc<Pod>) {
        let mut news = self.news.lock();
        (news.desired, news.pod) = (desired, pod);
    }

    pub(crate) fn desired(&self) -> Arc<Pod> {
        self.news.lock().desired.clone()
    }

    /// Whether this container or sandbox was among what was last observed.
    pub(crate) fn has_seen(&self, id: &str) -> bool {
        let observed = &self.news.lock().observed;
        observed.containers.iter().any(|it| it.id == id)
            || observed.sandboxes.iter().any(|it| it.id == id)
    }

    /// The same pod, with what is promised to it now.
    pub(crate) fn set_allocated(&self, pod: Arc<Pod>) {
        self.news.lock().pod = pod;
    }

    pub(crate) fn put_removed(&self) {
        self.news.lock().is_removed = true;
        self.woken.notify_one();
    }

    pub(crate) fn put_verdict(&self, verdict: Verdict, grace: Option<i64>) {
        let mut news = self.news.lock();
        // The first verdict is the one that the status tells.
        if news.verdict.is_none() {
            news.verdict = Some(verdict);
            news.verdict_grace = grace;
        }
        drop(news);
        self.woken.notify_one();
    }

    pub(crate) fn notify(&self) {
        self.woken.notify_one();
    }

    pub(crate) fn news(&self) -> News {
        self.news.lock().clone()
    }

    pub(crate) fn pod(&self) -> Arc<Pod> {
        self.news.lock().pod.clone()
    }

    pub(crate) fn uid(&self) -> PodUid {
        self.news.lock().pod.uid()
    }

    pub(crate) fn set_admitted(&self, is_admitted: bool) {
        let mut news = self.news.lock();
        news.is_admitted = is_admitted;
        news.was_admitted = false;
    }

    pub(crate) fn set_waits_for_room(&self, waits: bool) {
        let mut news = self.news.lock();
        news.waits_since = waits.then(|| news.waits_since.unwrap_or_else(Instant::now));
    }

    pub(crate) fn waits_since(&self) -> Option<Instant> {
        self.news.lock().waits_since
    }

    pub(crate) fn set_volumes_due(&self) {
        self.news.lock().are_volumes_due = true;
        self.woken.notify_one();
    }

    pub(crate) fn take_volumes_due(&self) -> bool {
        std::mem::take(&mut self.news.lock().are_volumes_due)
    }

    pub(crate) fn is_admitted(&self) -> bool {
        self.news.lock().is_admitted
    }

    /// The pod has left nothing on the node but what logs are read from.
    pub(crate) fn set_cleared(&self) {
        self.news.lock().is_cleared = true;
    }

    pub(crate) fn is_cleared(&self) -> bool {
        self.news.lock().is_cleared
    }

    /// Whether the pod holds resources of the node.
    pub(crate) fn is_removed(&self) -> bool {
        self.news.lock().is_removed
    }

    pub(crate) fn is_holding(&self) -> bool {
        let news = self.news.lock();
        news.is_admitted || news.was_admitted
    }

    /// Copies what is kept to where it lies together; see [`crate::memory`].
    pub(crate) fn repack(&self) -> (Arc<Pod>, Arc<Pod>) {
        let mut news = self.news.lock();
        let is_one = Arc::ptr_eq(&news.desired, &news.pod);
        let fresh = Arc::new(Pod::clone(&news.desired));
        let old = std::mem::replace(&mut news.desired, fresh.clone());
        news.pod = if is_one { fresh.clone() } else { Arc::new(Pod::clone(&news.pod)) };
        news.observed = news.observed.clone();
        (old, fresh)
    }

    /// Returns the exits that the runtime was not heard of yet.
    pub(crate) fn set_observed(&self, observed: &RuntimePod) -> EarlyExits {
        let mut news = self.news.lock();
        news.observed = observed.clone();
        news.exits.settle(observed);
        news.exits.clone()
    }

    pub(crate) fn put_exit(&self, exit: EarlyExit) {
        {
            let mut news = self.news.lock();
            let News { exits, observed, .. } = &mut *news;
            exits.add(exit);
            // It may be known already, and nobody looks again at a pod that is over.
            exits.settle(observed);
        }
        self.woken.notify_one();
    }

    /// Whether an exit of this container was told that the runtime does not know yet.
    pub(crate) fn has_early_exit(&self, id: &str) -> bool {
        self.news.lock().exits.contains(id)
    }

    pub(crate) fn observed(&self) -> RuntimePod {
        self.news.lock().observed.clone()
    }

    /// Ends when there is something new. News that come while nobody waits are not lost.
    pub(crate) async fn woken(&self) {
        self.woken.notified().await;
    }

    /// Ends when `is_it` is true of the news.
    pub(crate) async fn until(&self, is_it: impl Fn(&News) -> bool) {
        loop {
            if is_it(&self.news.lock()) {
                // Whoever waits next has to see what woke us.
                self.woken.notify_one();
                return;
            }
            self.woken.notified().await;
        }
    }
}

/// A pod that has a start time and is not over.
fn was_admitted(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let is_over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    status.start_time.is_some() && !is_over
}
