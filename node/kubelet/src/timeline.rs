//! What happened to each pod on this node, step by step, with durations: `/explain/pods/NS/NAME`.
//!
//! The pod's worker notes each step as it ends. A step that failed names the call that failed and its
//! error; one that fails again in the same way is counted. Nothing is written down: a kubelet that is
//! started again begins anew.
//!
//! Deviation: there is no step of the network by itself: the runtime has it set up within the call that
//! makes the sandbox, and CRI does not tell how long that took. The step of the sandbox includes it.
//!
//! **Invariant:** memory is bounded: so many steps of a pod, the first and the latest of them, and so
//! many pods that have ended.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Display,
};

use clock::Clock;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

use crate::pod::{PodExt, PodUid};

/// Steps kept of a pod: its beginning, and its latest.
const FIRST: usize = 24;
const LATEST: usize = 40;
const ENDED_PODS: usize = 100;
const TEXT_LIMIT: usize = 1024;

/// What a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Phase {
    /// The kubelet heard of the pod.
    Received,
    Admitted,
    Volumes,
    /// With the network: the runtime calls the CNI plug-in within its call.
    Sandbox,
    Image,
    Created,
    Started,
    PostStart,
    Ready,
    NotReady,
    Killed,
    SandboxStopped,
    /// Volumes and cgroups are gone.
    Cleared,
    /// The runtime could not be asked.
    Sync,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Failure {
    pub call: String,
    pub error: String,
}

/// One thing that was done, or that became so.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Step {
    pub step: Phase,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub container: String,
    /// When it began.
    pub at: Timestamp,
    /// How long it took; what merely became so took no time.
    pub seconds: Option<f64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    pub failure: Option<Failure>,
    /// How often it happened in this way.
    pub count: u32,
}

/// When a step began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    at: Timestamp,
    instant: Instant,
}

impl Begun {
    /// The step, which ends now.
    pub(crate) fn ended(self, step: Phase) -> Step {
        let seconds = Some(self.instant.elapsed().as_secs_f64());
        Step { seconds, ..Step::moment(self.at, step) }
    }
}

impl Step {
    fn moment(at: Timestamp, step: Phase) -> Self {
        Self {
            step,
            container: String::new(),
            at,
            seconds: None,
            detail: String::new(),
            failure: None,
            count: 1,
        }
    }

    pub(crate) fn of(self, container: &str) -> Self {
        Self { container: container.to_owned(), ..self }
    }

    pub(crate) fn with(self, detail: impl Into<String>) -> Self {
        Self { detail: bounded(detail.into()), ..self }
    }

    pub(crate) fn failed(self, call: &str, error: impl Display) -> Self {
        let (call, error) = (call.to_owned(), bounded(error.to_string()));
        Self { failure: Some(Failure { call, error }), ..self }
    }

    pub(crate) fn result<T, E: Display>(self, call: &str, result: &Result<T, E>) -> Self {
        match result {
            Ok(_) => self,
            Err(error) => self.failed(call, error),
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        (self.step, &self.container, &self.failure)
            == (other.step, &other.container, &other.failure)
    }
}

fn bounded(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().find(|(at, _)| *at >= TEXT_LIMIT) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Timeline {
    namespace: String,
    name: String,
    uid: String,
    steps: VecDeque<Step>,
    /// Steps between the first and the latest that were forgotten.
    forgotten: u32,
    has_ended: bool,
}

impl Timeline {
    fn add(&mut self, step: Step) {
        if let Some(last) = self.steps.back_mut()
            && last.failure.is_some()
            && last.is_like(&step)
        {
            last.count += 1;
            last.seconds = step.seconds;
            return;
        }
        if self.steps.len() >= FIRST + LATEST {
            self.steps.remove(FIRST);
            self.forgotten += 1;
        }
        self.steps.push_back(step);
    }
}

pub(crate) struct Timelines {
    clock: Clock,
    pods: Mutex<Pods>,
}

#[derive(Default)]
struct Pods {
    known: HashMap<PodUid, Timeline>,
    ended: VecDeque<PodUid>,
}

impl Timelines {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, pods: Mutex::default() }
    }

    /// The kubelet hears of a pod.
    pub(crate) fn open(&self, pod: &Pod) {
        let was_started = pod.status.as_ref().is_some_and(|it| it.start_time.is_some());
        let mut step = Step::moment(self.clock.now(), Phase::Received);
        if was_started {
            step = step.with("an earlier run of this kubelet had admitted it");
        }
        let timeline = Timeline {
            namespace: pod.namespace().to_owned(),
            name: pod.name().to_owned(),
            uid: pod.uid().0,
            steps: VecDeque::from([step]),
            forgotten: 0,
            has_ended: false,
        };
        self.pods.lock().known.insert(pod.uid(), timeline);
    }

    pub(crate) fn begin(&self) -> Begun {
        Begun { at: self.clock.now(), instant: Instant::now() }
    }

    pub(crate) fn add(&self, uid: &PodUid, step: Step) {
        if let Some(timeline) = self.pods.lock().known.get_mut(uid) {
            timeline.add(step);
        }
    }

    /// Something became so.
    pub(crate) fn note(&self, uid: &PodUid, step: Phase, detail: impl Into<String>) {
        self.add(uid, Step::moment(self.clock.now(), step).with(detail));
    }

    /// Nothing more will happen to the pod.
    pub(crate) fn end(&self, uid: &PodUid) {
        let pods = &mut *self.pods.lock();
        let Some(timeline) = pods.known.get_mut(uid) else { return };
        timeline.has_ended = true;
        pods.ended.push_back(uid.clone());
        if pods.ended.len() > ENDED_PODS
            && let Some(oldest) = pods.ended.pop_front()
        {
            pods.known.remove(&oldest);
        }
    }

    /// Copies what is kept to where it lies together; see [`crate::memory`].
    pub(crate) fn repack(&self) {
        let mut pods = self.pods.lock();
        for timeline in pods.known.values_mut() {
            *timeline = timeline.clone();
        }
    }

    /// The newest pod of this name.
    pub(crate) fn find(&self, namespace: &str, name: &str) -> Option<Timeline> {
        let pods = self.pods.lock();
        let of_name = pods.known.values().filter(|it| it.namespace == namespace && it.name == name);
        of_name.max_by_key(|it| (!it.has_ended, it.steps.front().map(|it| it.at))).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn pod(uid: &str) -> Pod {
        let name = Some("p".to_owned());
        let metadata = ObjectMeta { name, uid: Some(uid.to_owned()), ..ObjectMeta::default() };
        Pod { metadata, ..Pod::default() }
    }

    fn timelines() -> Timelines {
        Timelines::new(Clock::simulated(Timestamp::UNIX_EPOCH))
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_knows_how_long_it_took_and_what_failed() {
        let timelines = timelines();
        timelines.open(&pod("1"));
        let begun = timelines.begin();
        tokio::time::sleep(Duration::from_millis(250)).await;
        let error: Result<(), &str> = Err("no route to host");
        let step = begun.ended(Phase::Sandbox).result("RunPodSandbox", &error);
        timelines.add(&pod("1").uid(), step.clone());
        timelines.add(&pod("1").uid(), step);
        let steps = timelines.find("default", "p").unwrap().steps;
        assert_eq!(steps.len(), 2, "the same failure is counted, not repeated");
        assert_eq!((steps[1].seconds, steps[1].count), (Some(0.25), 2));
        let failure = steps[1].failure.as_ref().unwrap();
        assert_eq!((&*failure.call, &*failure.error), ("RunPodSandbox", "no route to host"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_and_the_latest_steps_are_kept() {
        let timelines = timelines();
        timelines.open(&pod("1"));
        for number in 0..1000 {
            timelines.note(&pod("1").uid(), Phase::Started, number.to_string());
        }
        let timeline = timelines.find("default", "p").unwrap();
        assert_eq!(timeline.steps.len(), FIRST + LATEST);
        assert_eq!(timeline.steps[0].step, Phase::Received);
        assert_eq!(timeline.steps[FIRST - 1].detail, (FIRST - 2).to_string());
        assert_eq!(timeline.steps.back().unwrap().detail, "999");
        assert_eq!(timeline.forgotten, 1001 - 64);
        timelines.note(&pod("1").uid(), Phase::Ready, "ü".repeat(TEXT_LIMIT));
        assert!(timelines.find("default", "p").unwrap().steps.back().unwrap().detail.len() < 1030);
    }

    #[tokio::test(start_paused = true)]
    async fn pods_that_ended_are_forgotten_in_their_order_and_a_living_one_is_found_first() {
        let timelines = timelines();
        for number in 0..=ENDED_PODS {
            let pod = pod(&number.to_string());
            timelines.open(&pod);
            timelines.end(&pod.uid());
        }
        assert_eq!(timelines.pods.lock().known.len(), ENDED_PODS);
        assert!(!timelines.pods.lock().known.contains_key(&pod("0").uid()));
        timelines.open(&pod("living"));
        assert_eq!(timelines.find("default", "p").unwrap().uid, "living");
        assert!(timelines.find("default", "q").is_none());
    }
}
