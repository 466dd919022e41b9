//! Sets the number of pods by what they use.
//!
//! Every fifteen seconds each autoscaler asks how many pods its metrics want; the largest number
//! counts, within the limits and not faster than its behavior allows. The target is anything with a
//! `scale` subresource; the metrics are those of resources, and whatever `custom.metrics.k8s.io` and
//! `external.metrics.k8s.io` serve.
//!
//! Upstream: `pkg/controller/podautoscaler`.

mod behavior;
mod calculator;
mod custom;
mod metrics;
mod report;
mod sources;

use std::{
    cmp::Ordering,
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use controller::{Action, ApplyError, Key, Queue, Recorder, apply, object};
use k8s_openapi::api::{autoscaling::v2::HorizontalPodAutoscaler, core::v1::Pod};
use kube::api::ListParams;
use parking_lot::Mutex;
use serde_json::json;

use self::{
    behavior::Memory,
    calculator::{Tolerances, WarmUp},
    report::Report,
    sources::{Asked, Found, Refusal},
};
use crate::{
    Context,
    discovery::told,
    scale::{Scale, Scaled},
};

/// Upstream's `--horizontal-pod-autoscaler-…`, with its defaults.
#[derive(Clone, Copy, Debug)]
pub struct AutoscalerConfig {
    pub sync_period: Duration,
    pub downscale_stabilization: Duration,
    pub tolerance: f64,
    pub cpu_initialization_period: Duration,
    pub initial_readiness_delay: Duration,
}

impl Default for AutoscalerConfig {
    fn default() -> Self {
        Self {
            sync_period: Duration::from_secs(15),
            downscale_stabilization: Duration::from_secs(5 * 60),
            tolerance: 0.1,
            cpu_initialization_period: Duration::from_secs(5 * 60),
            initial_readiness_delay: Duration::from_secs(30),
        }
    }
}

#[derive(Clone)]
struct Controller {
    context: Context,
    recorder: Recorder,
    memories: Arc<Mutex<HashMap<Key, Memory>>>,
    /// UIDs of the pods that each autoscaler has found by its selector.
    selected: Arc<Mutex<HashMap<Key, BTreeSet<String>>>>,
}

pub(crate) async fn run(context: Context) {
    let queue = Queue::new();
    let on = queue.clone();
    context.caches.autoscalers.subscribe(move |change| {
        let generation = |it: &Option<Arc<HorizontalPodAutoscaler>>| {
            it.as_ref().map(|it| (it.metadata.uid.clone(), it.metadata.generation))
        };
        // Its own status is no news.
        if generation(&change.old) != generation(&change.new) || change.new.is_none() {
            on.add(change.key.clone());
        }
    });
    let recorder = context.recorder("horizontal-pod-autoscaler");
    let it = Controller { recorder, memories: Arc::default(), selected: Arc::default(), context };
    controller::run("horizontalpodautoscaler", queue, 5, |key| it.reconcile(key)).await;
}

/// Why an autoscaler does nothing: reason and message of its event.
struct Stopped(&'static str, String);

impl Stopped {
    fn no_number(message: String) -> Self {
        Self("FailedComputeMetricsReplicas", message)
    }
}

impl Controller {
    async fn reconcile(&self, key: Key) -> Result<Action, ApplyError> {
        let Some(it) = self.context.caches.autoscalers.get(&key) else {
            self.memories.lock().remove(&key);
            self.selected.lock().remove(&key);
            return Ok(Action::Done);
        };
        let mut report = Report::new(&it, self.context.clock.now());
        let result = self.adjust(&key, &it, &mut report).await;
        if let Err(Stopped(reason, message)) = result {
            self.recorder.warn(&*it, reason, message);
        }
        let status = report.status;
        if it.status.as_ref().map(|it| json!(it)) != Some(status.clone()) {
            let client = &self.context.client;
            let patched = apply::patch_status::<HorizontalPodAutoscaler, _>(
                client,
                &key.namespace,
                &key.name,
                &status,
            );
            match patched.await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(Action::After(self.context.config.autoscaler.sync_period))
    }

    async fn adjust(
        &self,
        key: &Key,
        it: &HorizontalPodAutoscaler,
        report: &mut Report,
    ) -> Result<(), Stopped> {
        let spec = &it.spec;
        let (target, scale) = self.scale(key, it).await.map_err(|message| {
            let told = format!(
                "the HPA controller was unable to get the target's current scale: {message}"
            );
            report.set("AbleToScale", "False", "FailedGetScale", &told);
            Stopped("FailedGetScale", message)
        })?;
        let message = "the HPA controller was able to get the target's current scale";
        report.set("AbleToScale", "True", "SucceededGetScale", message);
        let current = scale.spec.replicas.unwrap_or(0);
        report.status["currentReplicas"] = json!(current);
        let now = self.context.clock.now();
        let new = || Memory::new(current, now);
        self.memories.lock().entry(key.clone()).or_insert_with(new);
        let (min, max) = (spec.min_replicas.unwrap_or(1), spec.max_replicas);
        if current == 0 && min != 0 {
            let message = "scaling is disabled since the replica count of the target is zero";
            report.set("ScalingActive", "False", "ScalingDisabled", message);
            report.status["desiredReplicas"] = json!(0);
            return Ok(());
        }
        let (wanted, why) = if current > max {
            (max, "Current number of replicas above Spec.MaxReplicas".to_owned())
        } else if current < min {
            (min, "Current number of replicas below Spec.MinReplicas".to_owned())
        } else {
            let (desired, why) = self.recommend(key, it, &scale, report).await?;
            let windows = (now, self.context.config.autoscaler.downscale_stabilization);
            let (numbers, behavior) = ((current, desired), spec.behavior.as_ref());
            let mut memories = self.memories.lock();
            let memory = memories.entry(key.clone()).or_default();
            let limited = memory.limit(behavior, numbers, (min, max), windows);
            report.limited(&limited, current, desired);
            (limited.replicas, why)
        };
        report.status["desiredReplicas"] = json!(wanted);
        if wanted == current {
            return Ok(());
        }
        self.rescale(key, it, &target, (current, wanted), &why, report).await
    }

    async fn scale(
        &self,
        key: &Key,
        it: &HorizontalPodAutoscaler,
    ) -> Result<(Scaled, Scale), String> {
        let of = &it.spec.scale_target_ref;
        let version = of.api_version.as_deref().unwrap_or("v1");
        let client = &self.context.client;
        let named = (version, of.kind.as_str(), of.name.as_str());
        let target = Scaled::find(client, &key.namespace, named).await?;
        let scale = target.read(client).await.map_err(|it| told(&it))?;
        Ok((target, scale))
    }

    async fn rescale(
        &self,
        key: &Key,
        it: &HorizontalPodAutoscaler,
        target: &Scaled,
        (current, replicas): (i32, i32),
        why: &str,
        report: &mut Report,
    ) -> Result<(), Stopped> {
        if let Err(message) = target.write(replicas).await {
            let full =
                format!("the HPA controller was unable to update the target scale: {message}");
            report.set("AbleToScale", "False", "FailedUpdateScale", &full);
            let event = format!("New size: {replicas}; reason: {why}; error: {message}");
            return Err(Stopped("FailedRescale", event));
        }
        let message =
            format!("the HPA controller was able to update the target scale to {replicas}");
        report.set("AbleToScale", "True", "SucceededRescale", &message);
        report.status["lastScaleTime"] = json!(object::time(self.context.clock.now()));
        let event = format!("New size: {replicas}; reason: {why}");
        self.recorder.normal(it, "SuccessfulRescale", event);
        let mut memories = self.memories.lock();
        let memory = memories.entry(key.clone()).or_default();
        memory.note_change(replicas - current, self.context.clock.now());
        Ok(())
    }

    /// The largest number that a metric asks for. A metric that is not known keeps it from shrinking.
    async fn recommend(
        &self,
        key: &Key,
        it: &HorizontalPodAutoscaler,
        scale: &Scale,
        report: &mut Report,
    ) -> Result<(i32, String), Stopped> {
        let config = &self.context.config.autoscaler;
        let selector = scale.status.selector.as_deref().unwrap_or_default();
        let pods = self.pods(key, it, selector, report).await?;
        let current = scale.spec.replicas.unwrap_or(0);
        let asked = Asked {
            client: &self.context.client,
            namespace: &key.namespace,
            replicas: (current, scale.status.replicas),
            selector,
            pods: &pods,
            tolerances: Tolerances::of(it.spec.behavior.as_ref(), config.tolerance),
            warm_up: WarmUp {
                initialization: config.cpu_initialization_period,
                readiness: config.initial_readiness_delay,
            },
            now: self.context.clock.now(),
        };
        let metrics = it.spec.metrics.clone().unwrap_or_default();
        let mut answers = Vec::new();
        for metric in &metrics {
            answers.push(asked.about(metric).await);
        }
        // Each has its place, also where nothing is known of it: clients read them side by side.
        let status = |it: &Result<Found, Refusal>| match it {
            Ok(found) => found.status.clone(),
            Err(_) => json!({ "type": "" }),
        };
        report.status["currentMetrics"] = answers.iter().map(status).collect();
        for Refusal { reason, message, .. } in answers.iter().filter_map(|it| it.as_ref().err()) {
            self.recorder.warn(it, reason, message.clone());
        }
        choose(answers, current, report)
    }

    /// The pods of the target, which no other autoscaler may have.
    async fn pods(
        &self,
        key: &Key,
        it: &HorizontalPodAutoscaler,
        selector: &str,
        report: &mut Report,
    ) -> Result<Vec<Arc<Pod>>, Stopped> {
        if selector.is_empty() {
            let message = "selector is required";
            self.recorder.warn(it, "SelectorRequired", message);
            let told = "the HPA target's scale is missing a selector";
            report.set("ScalingActive", "False", "InvalidSelector", told);
            return Err(Stopped::no_number(message.to_owned()));
        }
        let api = apply::api::<Pod>(&self.context.client, &key.namespace);
        let listed = api.list(&ListParams::default().labels(selector)).await;
        let listed = listed.map_err(|it| {
            let why = told(&it);
            Stopped::no_number(format!("unable to get pods while calculating replica count: {why}"))
        })?;
        let pods: Vec<_> = listed.items.into_iter().map(Arc::new).collect();
        let others = self.rivals(key, pods.iter().map(|it| object::uid(&**it)).collect());
        if !others.is_empty() {
            let names: Vec<_> = others.iter().map(ToString::to_string).collect();
            let message = format!(
                "pods by selector {selector} are controlled by multiple HPAs: [{}]",
                names.join(" ")
            );
            self.recorder.warn(it, "AmbiguousSelector", message.clone());
            report.set("ScalingActive", "False", "AmbiguousSelector", &message);
            return Err(Stopped::no_number(message));
        }
        Ok(pods)
    }

    /// All autoscalers that have some of these pods, where there are several.
    fn rivals(&self, key: &Key, pods: BTreeSet<String>) -> Vec<Key> {
        let mut selected = self.selected.lock();
        let shares = |(other, theirs): (&Key, &BTreeSet<String>)| {
            let is_rival = other.namespace == key.namespace && !theirs.is_disjoint(&pods);
            (other != key && is_rival).then(|| other.clone())
        };
        let mut rivals: Vec<_> = selected.iter().filter_map(shares).collect();
        selected.insert(key.clone(), pods);
        if !rivals.is_empty() {
            rivals.push(key.clone());
            rivals.sort();
        }
        rivals
    }
}

/// The largest number; with a metric that is not known, no smaller one than there is.
fn choose(
    answers: Vec<Result<Found, Refusal>>,
    current: i32,
    report: &mut Report,
) -> Result<(i32, String), Stopped> {
    let all = answers.len();
    let (mut best, mut refusals) = (None::<Found>, Vec::new());
    for answer in answers {
        match answer {
            Ok(found) if best.as_ref().is_none_or(|it| it.replicas < found.replicas) => {
                best = Some(found);
            }
            Ok(_) => {}
            Err(refusal) => refusals.push(refusal),
        }
    }
    let best = best.filter(|it| refusals.is_empty() || it.replicas >= current);
    if let Some(found) = best {
        let message = format!(
            "the HPA was able to successfully calculate a replica count from {}",
            found.name
        );
        report.set("ScalingActive", "True", "ValidMetricFound", &message);
        let why = match found.replicas.cmp(&current) {
            Ordering::Less => "All metrics below target".to_owned(),
            _ => format!("{} above target", found.name),
        };
        return Ok((found.replicas, why));
    }
    let Some(Refusal { reason, message, told }) = refusals.first() else {
        return Err(Stopped::no_number("no metrics are given".into()));
    };
    let message = format!("the HPA was unable to compute the replica count: {message}");
    report.set("ScalingActive", "False", reason, &message);
    let invalid = refusals.len();
    Err(Stopped::no_number(format!(
        "invalid metrics ({invalid} invalid out of {all}), first error is: {told}"
    )))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn found(replicas: i32) -> Result<Found, Refusal> {
        Ok(Found { replicas, status: json!({}), name: format!("metric of {replicas}") })
    }

    fn refused() -> Result<Found, Refusal> {
        Err(Refusal {
            reason: "FailedGetPodsMetric",
            message: "gone".into(),
            told: "failed to get pods metric value: gone".into(),
        })
    }

    #[test]
    fn the_largest_number_counts_and_what_is_not_known_keeps_it_from_shrinking() {
        let chosen = |answers: Vec<_>| {
            let mut report =
                Report::new(&HorizontalPodAutoscaler::default(), Timestamp::UNIX_EPOCH);
            let chosen = choose(answers, 3, &mut report);
            let condition = report.status["conditions"][0]["reason"].as_str().unwrap().to_owned();
            (chosen.map_err(|it| it.1), condition)
        };
        let more = "metric of 5 above target".to_owned();
        assert_eq!(
            chosen(vec![found(2), found(5), refused()]),
            (Ok((5, more)), "ValidMetricFound".into())
        );
        let less = "All metrics below target".to_owned();
        assert_eq!(chosen(vec![found(1), found(2)]), (Ok((2, less)), "ValidMetricFound".into()));
        let why = "invalid metrics (1 invalid out of 2), first error is: \
                   failed to get pods metric value: gone";
        assert_eq!(
            chosen(vec![refused(), found(2)]),
            (Err(why.to_owned()), "FailedGetPodsMetric".into())
        );
    }
}
