//! The life of one pod on this node: admitted, kept as it should be, ended, cleared away.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{
    PodWorkers,
    admit::Admission,
    inbox::{Inbox, News},
    lookup,
    resize::LOOK_AGAIN,
    underway::Underway,
};
use crate::{
    admission,
    allocation::ResizeState,
    context::{Context, Network},
    cri::CriError,
    early_exits::EarlyExits,
    observed::{self, RuntimePod, State},
    pace::Exits,
    plan::{self, ContainerBackoffs, Held, Plan, Waiting},
    pod::{PodExt, PodUid},
    status::{self, Verdict},
    stop_signal,
    timeline::Phase,
    volumes::{Mounted, Unmounted},
};

/// Retries after an error of the runtime or of the API.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// The longest pause after volumes could not be refreshed: drivers register after a new kubelet began.
const LONGEST_REFRESH_RETRY: Duration = Duration::from_secs(60);
/// How long the runtime may take to notice an exit that its event already told.
const SETTLE: Duration = Duration::from_millis(20);

pub(super) struct Worker {
    pub workers: Arc<PodWorkers>,
    pub context: Arc<Context>,
    pub inbox: Arc<Inbox>,
    pub underway: Underway,
    pub backoffs: ContainerBackoffs,
    /// Why starts failed, for the status.
    pub failures: BTreeMap<String, Waiting>,
    pub messages: BTreeMap<String, String>,
    pub mounted: Option<Mounted>,
    pub is_cleared: bool,
    /// What was just made, where nothing was before: the next look need not ask the runtime.
    pub made: Option<RuntimePod>,
    /// Containers that were ended in the last round, to be started anew.
    pub replaced: BTreeSet<String>,
    /// Containers whose back-off was told.
    backed_off: BTreeSet<String>,
    /// Pods that are ended to make room for this one.
    pub preempted: Vec<PodUid>,
    pub resize: ResizeState,
    pub restarts_all: bool,
    exits: Exits,
    pub early_exits: EarlyExits,
    holds: BTreeMap<String, Hold>,
    /// The same of the pod as a whole: its sandbox, its volumes.
    hold: Option<(Option<i64>, Instant)>,
    /// When volumes that could not be made are tried again, if nothing else failed.
    pub volumes_again: Option<Instant>,
    is_first_look: bool,
    retry: Duration,
    refresh_retry: Duration,
}

/// A container that could not be started waits, unless its pod is changed.
struct Hold {
    generation: Option<i64>,
    /// At the worker's pace.
    until: Timestamp,
    retry: Duration,
}

/// What the worker does after a round.
pub(super) enum Next {
    /// Sleep until something happens, or until then.
    Wait(Option<Timestamp>),
    Again,
    Done,
}

pub(super) async fn run(workers: Arc<PodWorkers>, inbox: Arc<Inbox>) {
    let backoffs = backoffs(&workers.context);
    let mut worker = Worker {
        context: workers.context.clone(),
        workers,
        inbox,
        underway: Underway::default(),
        backoffs,
        failures: BTreeMap::new(),
        messages: BTreeMap::new(),
        mounted: None,
        is_cleared: false,
        made: None,
        replaced: BTreeSet::new(),
        backed_off: BTreeSet::new(),
        preempted: Vec::new(),
        resize: ResizeState::default(),
        restarts_all: false,
        exits: Exits::default(),
        early_exits: EarlyExits::default(),
        holds: BTreeMap::new(),
        hold: None,
        volumes_again: None,
        is_first_look: true,
        retry: FIRST_RETRY,
        refresh_retry: FIRST_RETRY,
    };
    worker.run().await;
}

impl Worker {
    async fn run(&mut self) {
        let inbox = self.inbox.clone();
        inbox.woken().await;
        loop {
            let (operation, begun) = (self.operation(), Instant::now());
            // Boxed: a pod at rest keeps nothing of what a round needs.
            let next = Box::pin(self.round()).await;
            let labels = [("operation_type", operation)];
            let name = "kubelet_pod_worker_duration_seconds";
            self.context.metrics.observe(name, &labels, begun.elapsed());
            let next = match next {
                Ok(next) => next,
                Err(error) => {
                    let uid = self.inbox.uid();
                    warn!(%uid, call = error.call, %error, "the runtime failed");
                    let message = format!("error determining status: {error}");
                    self.context.recorder.warning(&self.inbox.pod(), "FailedSync", message);
                    let step = self.context.timelines.begin().ended(Phase::Sync);
                    self.context.timelines.add(&uid, step.failed(error.call, &error));
                    let next = Next::Wait(Some(self.context.clock.now() + self.retry));
                    self.retry = (self.retry * 2).min(LONGEST_RETRY);
                    next
                }
            };
            match next {
                Next::Done => return,
                Next::Again => {}
                Next::Wait(None) => inbox.woken().await,
                Next::Wait(Some(at)) => {
                    let sleep = self.context.clock.until(at);
                    drop(tokio::time::timeout(sleep, inbox.woken()).await);
                }
            }
        }
    }

    /// What the next round is for, as upstream calls it.
    fn operation(&self) -> &'static str {
        match self.inbox.news().must_end() {
            true => "kill",
            false if self.is_first_look => "create",
            false => "sync",
        }
    }

    /// Looks once, and does what is due.
    async fn round(&mut self) -> Result<Next, CriError> {
        let news = self.inbox.news();
        if self.is_over(&news.pod) || news.must_end() {
            return self.end(news).await;
        }
        if let Some(verdict) = self.deadline(&news.pod) {
            let pod = &news.pod;
            self.context.recorder.normal(pod, &verdict.reason, verdict.message.clone());
            self.inbox.put_verdict(verdict, None);
            return Ok(Next::Again);
        }
        if !self.inbox.is_admitted() {
            match self.admit(&news.pod).await {
                Admission::Admitted => {}
                // Woken when one of those has been cleared away.
                Admission::Waiting => return Ok(Next::Wait(None)),
                Admission::Refused(verdict) => {
                    let message = verdict.event().to_owned();
                    let labels = [("reason", admission::counted(&verdict.reason))];
                    self.context.metrics.add("kubelet_admission_rejections_total", &labels, 1.0);
                    self.context.recorder.warning(&news.pod, &verdict.reason, message);
                    let step = self.context.timelines.begin().ended(Phase::Admitted);
                    let step = step.failed(&verdict.reason, &verdict.message);
                    self.context.timelines.add(&news.pod.uid(), step);
                    self.inbox.put_verdict(verdict, Some(0));
                    return Ok(Next::Again);
                }
            }
        }
        if self.take_up_resize(&news) {
            return Ok(Next::Again);
        }
        self.sync(&news).await
    }

    /// The pod has ended earlier, as the API or we ourselves have said.
    fn is_over(&self, pod: &Pod) -> bool {
        let status = self.context.statuses.get(&pod.uid()).unwrap_or_default();
        matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
    }

    fn deadline(&self, pod: &Pod) -> Option<Verdict> {
        let seconds = PodExt::spec(pod).active_deadline_seconds?;
        let at = self.deadline_at(pod, seconds)?;
        (self.context.clock.now() >= at).then(|| Verdict {
            reason: "DeadlineExceeded".to_owned(),
            message: "Pod was active on the node longer than the specified deadline".to_owned(),
        })
    }

    /// A pod that is held back has its deadline, too.
    fn wait_until(&self, pod: &Pod, until: Timestamp) -> Next {
        Next::Wait(Some(self.last_moment(pod).map_or(until, |it| it.min(until))))
    }

    fn last_moment(&self, pod: &Pod) -> Option<Timestamp> {
        self.deadline_at(pod, PodExt::spec(pod).active_deadline_seconds?)
    }

    fn deadline_at(&self, pod: &Pod, seconds: i64) -> Option<Timestamp> {
        let status = self.context.statuses.get(&pod.uid())?;
        let limit = SignedDuration::from_secs(seconds);
        // A file may say anything; what lies beyond all times never comes.
        status.start_time?.0.checked_add(limit).ok()
    }

    async fn sync(&mut self, news: &News) -> Result<Next, CriError> {
        let pod = &news.pod;
        let observed = self.observe().await?;
        let plan = self.plan(pod, &observed);
        self.note_resize(pod, &plan);
        self.restarts_all = plan.restart_all.is_some();
        self.tell_back_offs(pod, &plan);
        if !self.is_replacing(&plan, &observed) {
            self.tell(pod, &observed, &plan);
        }
        if plan.is_complete {
            info!(pod = pod.full_name(), "all containers have ended");
            return self.end_complete(news, observed).await;
        }
        if is_idle(&plan) {
            self.retry = FIRST_RETRY;
            self.refresh_volumes(pod, &observed).await;
            return Ok(Next::Wait(self.wake_at(pod, &plan)));
        }
        if plan.create_sandbox.is_some() && !pod.is_host_network() {
            // The node's watch of the network wakes all workers when it changes.
            match self.context.network.borrow().clone() {
                Network::Ready => {}
                Network::Unknown => return Ok(Next::Wait(None)),
                Network::NotReady(problem) => {
                    let message = format!("network is not ready: {problem}");
                    self.context.recorder.warning(pod, "NetworkNotReady", message);
                    return Ok(Next::Wait(None));
                }
            }
        }
        if let Some(until) = self.held_until(pod) {
            return Ok(self.wait_until(pod, until));
        }
        let inbox = self.inbox.clone();
        // A pod that is deleted does not wait for its own start to end.
        let is_done = tokio::select! {
            is_done = Box::pin(self.apply(pod, &plan, &observed)) => is_done,
            () = inbox.until(News::must_end) => true,
        };
        self.underway.ended().await;
        if is_done {
            self.retry = FIRST_RETRY;
            return Ok(Next::Again);
        }
        let observed = self.observe().await?;
        self.publish(pod, &observed, &plan.waiting, false);
        let until = self.volumes_again.unwrap_or_else(|| Instant::now() + self.retry);
        self.retry = (self.retry * 2).min(LONGEST_RETRY);
        self.hold = Some((pod.metadata.generation, until));
        let pause = until.saturating_duration_since(Instant::now());
        Ok(self.wait_until(pod, self.context.clock.now() + pause))
    }

    /// An event for each container that is held back after its end, once each time.
    fn tell_back_offs(&mut self, pod: &Pod, plan: &Plan) {
        let held = plan.waiting.iter().filter(|(_, it)| it.reason == plan::CRASH_LOOP);
        let held: BTreeSet<_> = held.map(|(name, _)| name.clone()).collect();
        for name in held.difference(&self.backed_off) {
            let text =
                format!("Back-off restarting failed container {name} in pod {}", pod.full_name());
            self.context.recorder.container_warning(pod, name, "BackOff", text);
        }
        self.backed_off = held;
    }

    /// Whether the successor of a container that the kubelet has just ended is about to start: nobody is
    /// told of the moment between them.
    fn is_replacing(&mut self, plan: &Plan, observed: &RuntimePod) -> bool {
        let replaced = std::mem::take(&mut self.replaced);
        let mut latest = plan.start.iter().filter_map(|it| observed.latest(&it.name));
        latest.any(|it| replaced.contains(&it.id))
    }

    /// The status, with what the runtime is about to know.
    fn tell(&self, pod: &Arc<Pod>, observed: &RuntimePod, plan: &Plan) {
        let is_over = |plan: &Plan, it: &RuntimePod| plan.is_complete && !observed_is_live(it);
        if self.early_exits.is_empty() {
            self.publish(pod, observed, &plan.waiting, is_over(plan, observed));
            return;
        }
        let ahead = self.early_exits.applied_to(observed);
        let plan = self.plan(pod, &ahead);
        self.publish(pod, &ahead, &plan.waiting, is_over(&plan, &ahead));
    }

    /// Until when the runtime is waited for, which does not know yet of an exit that is told already.
    pub(super) fn lags_until(&self) -> Option<Timestamp> {
        let left = self.early_exits.end()?.saturating_duration_since(Instant::now());
        Some(self.context.clock.now() + left)
    }

    /// After a failure nothing is tried again before its time, whatever wakes the worker, unless the pod
    /// has been changed.
    fn held_until(&mut self, pod: &Pod) -> Option<Timestamp> {
        let (generation, mut until) = self.hold?;
        if self.volumes_again.is_some() {
            until = self.context.volumes.again(&pod.uid()).unwrap_or(until);
        }
        let left = until.saturating_duration_since(Instant::now());
        if generation == pod.metadata.generation && !left.is_zero() {
            return Some(self.context.clock.now() + left);
        }
        (self.hold, self.volumes_again) = (None, None);
        None
    }

    /// Whether what was tried last did not work.
    pub(super) fn has_failed(&self) -> bool {
        self.retry > FIRST_RETRY
    }

    /// A container was not started: it waits until this date, or for as long as is due after its
    /// failures.
    pub(super) fn hold_container(
        &mut self,
        pod: &Pod,
        name: &str,
        waiting: Waiting,
        until: Option<Timestamp>,
    ) {
        let retry = self.holds.get(name).map_or(FIRST_RETRY, |it| it.retry);
        let pause = until.map_or(retry, |it| self.context.clock.until(it));
        let until = self.context.pace.now() + pause;
        let retry = (retry * 2).min(LONGEST_RETRY);
        let hold = Hold { generation: pod.metadata.generation, until, retry };
        self.holds.insert(name.to_owned(), hold);
        self.failures.insert(name.to_owned(), waiting);
    }

    pub(super) fn release_container(&mut self, name: &str) {
        self.holds.remove(name);
        self.failures.remove(name);
    }

    fn held(&self, pod: &Pod) -> BTreeMap<String, Held> {
        let own = self.holds.iter().filter(|(_, it)| it.generation == pod.metadata.generation);
        let held = own.filter_map(|(name, it)| {
            let waiting = self.failures.get(name)?.clone();
            Some((name.clone(), Held { waiting, until: it.until }))
        });
        held.collect()
    }

    /// Makes the content of volumes again when it is time: what changed in the API reaches the pod, and
    /// tokens are replaced. A kubelet that adopts a running pod begins with it.
    async fn refresh_volumes(&mut self, pod: &Arc<Pod>, observed: &RuntimePod) {
        let now = self.context.clock.now();
        let is_due = match &self.mounted {
            None => true,
            Some(mounted) => mounted.refresh_at.is_some_and(|it| it <= now),
        };
        if !self.inbox.take_volumes_due() && !is_due {
            return;
        }
        let facts = self.context.facts(observed.ips());
        match self.context.volumes.mount(pod, &facts).await {
            Ok(mounted) => {
                self.refresh_retry = FIRST_RETRY;
                self.take_mounted(pod, mounted);
            }
            Err(Unmounted { errors, again }) => {
                for error in errors {
                    self.context.recorder.warning(pod, error.reason(), error.to_string());
                }
                let again = again.map(|it| it.saturating_duration_since(Instant::now()));
                let mounted = self.mounted.get_or_insert_default();
                mounted.refresh_at = Some(now + again.unwrap_or(self.refresh_retry));
                self.refresh_retry = (self.refresh_retry * 2).min(LONGEST_REFRESH_RETRY);
            }
        }
    }

    pub(super) fn take_mounted(&mut self, pod: &Pod, mounted: Mounted) {
        for (reason, message) in &mounted.stale {
            self.context.recorder.warning(pod, reason, message.clone());
        }
        self.mounted = Some(mounted);
    }

    fn plan(&self, pod: &Pod, observed: &RuntimePod) -> Plan {
        plan::plan(&plan::Input {
            pod,
            observed: &self.exits.paced(observed),
            probes: &self.context.probes.states(observed),
            backoffs: &self.backoffs,
            actuated: &self.context.allocations.actuated(&pod.uid()),
            held: &self.held(pod),
            now: self.context.pace.now(),
        })
    }

    /// The earliest of the times that the plan, the volumes and the deadline name.
    fn wake_at(&self, pod: &Pod, plan: &Plan) -> Option<Timestamp> {
        let deadline = self.last_moment(pod);
        let refresh = self.mounted.as_ref().and_then(|it| it.refresh_at);
        let is_deferred = self.resize.pending.as_ref().is_some_and(|it| it.reason == "Deferred");
        let room = is_deferred.then(|| self.context.clock.now() + LOOK_AGAIN);
        let again = plan.again_at.map(|it| self.context.pace.date_of(it));
        [again, deadline, refresh, room, self.lags_until()].into_iter().flatten().min()
    }

    /// What the runtime holds; an exit that is about to be noticed is waited for.
    pub(super) async fn observe(&mut self) -> Result<RuntimePod, CriError> {
        let uid = self.inbox.uid();
        // A pod that the scheduler has only just bound: there is nothing to ask for.
        let is_new = std::mem::take(&mut self.is_first_look) && !self.workers.may_have_run(&uid);
        let observed = match self.made.take() {
            Some(made) => made,
            None if is_new => RuntimePod::default(),
            None => observed::observe(&self.context, &uid).await?,
        };
        self.early_exits = self.inbox.set_observed(&observed);
        self.read_messages(&self.early_exits.applied_to(&observed));
        self.exits.note(&observed, &self.context.pace);
        self.workers.note_progress();
        self.context.probes.follow(&self.inbox.pod(), &observed, &self.workers);
        Ok(observed)
    }

    /// A kubelet before this one has removed all containers, to start them anew, and told no more of it.
    fn is_restarting(&self, observed: &RuntimePod, previous: &PodStatus) -> bool {
        observed.containers.is_empty() && status::is_restarting(previous)
    }

    fn read_messages(&mut self, observed: &RuntimePod) {
        let pod = self.inbox.pod();
        self.messages.retain(|id, _| observed.containers.iter().any(|it| it.id == *id));
        for container in &observed.containers {
            if matches!(container.state, State::Exited { .. })
                && !self.messages.contains_key(&container.id)
            {
                let logs = self.context.paths.all_pod_logs();
                let message = lookup::termination_message(&pod, container, logs);
                self.messages.insert(container.id.clone(), message);
            }
        }
    }

    /// Hands the status to whoever sends it.
    pub(super) fn publish(
        &self,
        pod: &Arc<Pod>,
        observed: &RuntimePod,
        waiting: &BTreeMap<String, Waiting>,
        is_over: bool,
    ) -> PodStatus {
        let news = self.inbox.news();
        let uid = pod.uid();
        let observed = &*self.early_exits.applied_to(observed);
        // Whoever hears that a pod is over gives its claims to others.
        let is_over = is_over && !self.context.cm.dra.is_held_by(&uid);
        let previous = self.context.statuses.get(&uid).unwrap_or_default();
        let mut all = self.failures.clone();
        all.extend(waiting.iter().map(|(name, it)| (name.clone(), it.clone())));
        let mut status = status::generate(&status::Input {
            pod,
            observed,
            probes: &self.context.probes.states(observed),
            waiting: &all,
            verdict: news.verdict.as_ref(),
            is_over,
            previous: &previous,
            host_ips: &self.context.node_ips,
            messages: &self.messages,
            is_prepared: self.mounted.is_some(),
            restarts_all: self.restarts_all || self.is_restarting(observed, &previous),
            resize: &self.resize,
            actuated: &self.context.allocations.actuated(&uid),
            tells_stop_signals: stop_signal::is_on(&self.context.settings.config),
            now: self.context.clock.now(),
        });
        match (is_ready(&previous), is_ready(&status)) {
            (false, true) => self.context.timelines.note(&uid, Phase::Ready, ""),
            (true, false) => self.context.timelines.note(&uid, Phase::NotReady, ""),
            _ => {}
        }
        if status.phase.as_deref() == Some("Running") {
            self.context.starts.running(&uid);
        }
        self.context.cm.add_to_status(pod, &mut status);
        self.context.statuses.set(pod, status.clone());
        self.workers.note_progress();
        status
    }

    /// Waits a moment for the runtime to catch up with its own event.
    pub(super) async fn settle(&self) {
        debug!(uid = %self.inbox.uid(), "waiting for the runtime to catch up");
        tokio::time::sleep(SETTLE).await;
    }
}

fn is_ready(status: &PodStatus) -> bool {
    status.conditions.iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
}

fn backoffs(context: &Context) -> ContainerBackoffs {
    match context.settings.config.crash_loop_back_off.max_container_restart_period {
        Some(longest) => ContainerBackoffs::up_to(longest.0),
        None => ContainerBackoffs::default(),
    }
}

fn observed_is_live(observed: &RuntimePod) -> bool {
    observed.containers.iter().any(|it| !matches!(it.state, State::Exited { .. }))
}

fn is_idle(plan: &Plan) -> bool {
    plan.kill_pod.is_none()
        && plan.create_sandbox.is_none()
        && plan.kill.is_empty()
        && plan.remove.is_empty()
        && plan.resize.is_empty()
        && !plan.resize_pod
        && plan.start.is_empty()
}
