//! Sets the number of pods by what they use.
//!
//! Every fifteen seconds each autoscaler asks how many pods its metrics want; the largest number
//! counts, within the limits and not faster than its behavior allows. The target is anything with a
//! `scale` subresource.
//!
//! Upstream: `pkg/controller/podautoscaler`. Deviation: metrics of resources (`Resource`,
//! `ContainerResource`) only; those of pods, objects and from outside are refused as upstream does
//! without their metrics API. A tolerance of its own (`behavior.*.tolerance`) is not read.

mod behavior;
mod calculator;
mod metrics;
mod report;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use controller::{Action, ApplyError, Key, Queue, Recorder, apply, object};
use http::Request;
use k8s_openapi::api::{
    autoscaling::v2::{HorizontalPodAutoscaler, MetricSpec, MetricTarget},
    core::v1::{Container, Pod},
};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
    core::DynamicObject,
};
use parking_lot::Mutex;
use resources::{Format, Quantity, container_requests};
use serde::Deserialize;
use serde_json::{Value, json};

use self::{
    behavior::Memory,
    calculator::{Proposal, Question, Sample, TOLERANCE, Target},
    metrics::PodMetricsList,
    report::Report,
};
use crate::{Context, discovery};

/// Upstream's `--horizontal-pod-autoscaler-sync-period`.
const PERIOD: Duration = Duration::from_secs(15);

#[derive(Clone)]
struct Controller {
    context: Context,
    recorder: Recorder,
    memories: Arc<Mutex<HashMap<Key, Memory>>>,
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
    let it = Controller { recorder, memories: Arc::default(), context };
    controller::run("horizontalpodautoscaler", queue, 5, |key| it.reconcile(key)).await;
}

/// What was found about one metric.
struct Found {
    proposal: Proposal,
    status: Value,
    /// For the event: `cpu resource utilization (percentage of request)`.
    name: String,
}

/// Why there is no number: the reason of condition and event, and the message.
struct Refusal(&'static str, String);

impl Controller {
    async fn reconcile(&self, key: Key) -> Result<Action, ApplyError> {
        let Some(it) = self.context.caches.autoscalers.get(&key) else {
            self.memories.lock().remove(&key);
            return Ok(Action::Done);
        };
        let mut report = Report::new(&it, self.context.clock.now());
        let result = self.adjust(&key, &it, &mut report).await;
        if let Err(Refusal(reason, message)) = result {
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
        Ok(Action::After(PERIOD))
    }

    async fn adjust(
        &self,
        key: &Key,
        it: &HorizontalPodAutoscaler,
        report: &mut Report,
    ) -> Result<(), Refusal> {
        let spec = it.spec.clone();
        let scale = match self.scale(key, it).await {
            Ok(scale) => scale,
            Err(message) => {
                let told = format!(
                    "the HPA controller was unable to get the target's current scale: {message}"
                );
                report.set("AbleToScale", "False", "FailedGetScale", &told);
                return Err(Refusal("FailedGetScale", message));
            }
        };
        let message = "the HPA controller was able to get the target's current scale";
        report.set("AbleToScale", "True", "SucceededGetScale", message);
        let current = scale.spec.replicas.unwrap_or(0);
        report.status["currentReplicas"] = json!(scale.status.replicas);
        let (min, max) = (spec.min_replicas.unwrap_or(1), spec.max_replicas);
        if current == 0 && min != 0 {
            let message = "scaling is disabled since the replica count of the target is zero";
            report.set("ScalingActive", "False", "ScalingDisabled", message);
            report.status["desiredReplicas"] = json!(0);
            return Ok(());
        }
        let (desired, why) = if current > max {
            (max, "Current number of replicas above Spec.MaxReplicas".to_owned())
        } else if current < min {
            (min, "Current number of replicas below Spec.MinReplicas".to_owned())
        } else {
            self.recommend(key, it, &scale, current, report).await?
        };
        let now = self.context.clock.now();
        let limited = {
            let mut memories = self.memories.lock();
            let memory = memories.entry(key.clone()).or_insert_with(|| Memory::new(current, now));
            memory.limit(spec.behavior.as_ref(), (current, desired), (min, max), now)
        };
        report.limited(&limited, desired);
        report.status["desiredReplicas"] = json!(limited.replicas);
        if limited.replicas == current {
            return Ok(());
        }
        self.rescale(key, it, (current, limited.replicas), &why, report).await
    }

    async fn rescale(
        &self,
        key: &Key,
        it: &HorizontalPodAutoscaler,
        (current, replicas): (i32, i32),
        why: &str,
        report: &mut Report,
    ) -> Result<(), Refusal> {
        let scaled = match self.target(key, it).await {
            Err(message) => Err(message),
            Ok((api, name)) => {
                let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
                let patched = api.patch_scale(&name, &PatchParams::default(), &patch).await;
                patched.map(drop).map_err(|it| told(&it))
            }
        };
        if let Err(message) = scaled {
            let full =
                format!("the HPA controller was unable to update the target scale: {message}");
            report.set("AbleToScale", "False", "FailedUpdateScale", &full);
            let event = format!("New size: {replicas}; reason: {why}; error: {message}");
            return Err(Refusal("FailedRescale", event));
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
        current: i32,
        report: &mut Report,
    ) -> Result<(i32, String), Refusal> {
        let metrics = it.spec.metrics.clone().unwrap_or_default();
        let (mut best, mut first, mut invalid) = (None::<Found>, None, 0);
        let mut statuses = Vec::new();
        for metric in &metrics {
            match self.metric(key, scale, current, metric).await {
                Ok(found) => {
                    statuses.push(found.status.clone());
                    if best.as_ref().is_none_or(|it| it.proposal.replicas < found.proposal.replicas)
                    {
                        best = Some(found);
                    }
                }
                Err(refusal) => {
                    invalid += 1;
                    first.get_or_insert(refusal);
                }
            }
        }
        report.status["currentMetrics"] = json!(statuses);
        let is_safe =
            best.as_ref().is_some_and(|it| invalid == 0 || it.proposal.replicas >= current);
        match (best, first) {
            (Some(found), _) if is_safe => {
                let message = format!(
                    "the HPA was able to successfully calculate a replica count from {}",
                    found.name
                );
                report.set("ScalingActive", "True", "ValidMetricFound", &message);
                let replicas = found.proposal.replicas;
                let why = match replicas.cmp(&current) {
                    std::cmp::Ordering::Less => "All metrics below target".to_owned(),
                    _ => format!("{} above target", found.name),
                };
                Ok((replicas, why))
            }
            (_, Some(Refusal(reason, message))) => {
                let told = format!("the HPA was unable to compute the replica count: {message}");
                report.set("ScalingActive", "False", reason, &told);
                self.recorder.warn(it, reason, message.clone());
                let all = metrics.len();
                Err(Refusal(
                    "FailedComputeMetricsReplicas",
                    format!(
                        "invalid metrics ({invalid} invalid out of {all}), first error is: {message}"
                    ),
                ))
            }
            _ => Err(Refusal("FailedComputeMetricsReplicas", "no metrics are given".into())),
        }
    }

    async fn metric(
        &self,
        key: &Key,
        scale: &Scale,
        current: i32,
        metric: &MetricSpec,
    ) -> Result<Found, Refusal> {
        let (resource, container, target) = match (&metric.resource, &metric.container_resource) {
            (Some(it), _) => (&it.name, None, &it.target),
            (None, Some(it)) => (&it.name, Some(it.container.as_str()), &it.target),
            _ => {
                let kind = &metric.type_;
                let message =
                    format!("unable to get metric of type {kind}: no metrics API for it is served");
                return Err(Refusal("FailedGetMetric", message));
            }
        };
        let failed = |message: String| {
            let what = if target.average_utilization.is_some() { "utilization" } else { "usage" };
            let message = format!("failed to get {resource} {what}: {message}");
            let kind = if container.is_some() {
                "FailedGetContainerResourceMetric"
            } else {
                "FailedGetResourceMetric"
            };
            Refusal(kind, message)
        };
        let goal = goal(target).ok_or_else(|| {
            failed("neither a utilization target nor a value target was set".into())
        })?;
        let samples = self.samples(&key.namespace, resource, container).await.map_err(failed)?;
        let selector = scale.status.selector.as_deref().unwrap_or_default();
        let pods = self.pods(&key.namespace, selector).await.map_err(failed)?;
        let names: Vec<_> = pods.iter().filter_map(|it| it.metadata.name.clone()).collect();
        let question = Question {
            current,
            target: goal,
            is_cpu: resource == "cpu",
            pods: &pods,
            samples: samples.into_iter().filter(|(it, _)| names.contains(it)).collect(),
            request: &|pod| request(pod, resource, container),
            tolerance: TOLERANCE,
            now: self.context.clock.now(),
        };
        let proposal = question.answer().map_err(failed)?;
        Ok(found(resource, container, proposal))
    }

    async fn pods(&self, namespace: &str, selector: &str) -> Result<Vec<Arc<Pod>>, String> {
        if selector.is_empty() {
            return Err("selector is required".into());
        }
        let api = apply::api::<Pod>(&self.context.client, namespace);
        let listed = api.list(&ListParams::default().labels(selector)).await;
        let listed = listed.map_err(|it| told(&it))?;
        Ok(listed.items.into_iter().map(Arc::new).collect())
    }

    /// What each pod of a namespace uses.
    async fn samples(
        &self,
        namespace: &str,
        resource: &str,
        container: Option<&str>,
    ) -> Result<BTreeMap<String, Sample>, String> {
        let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods");
        let request = Request::get(path).body(Vec::new()).map_err(|it| it.to_string())?;
        let unable = |it: &str| format!("unable to get metrics for resource {resource}: {it}");
        let answer = self.context.client.request::<PodMetricsList>(request).await;
        let list = answer.map_err(|it| {
            unable(&format!("unable to fetch metrics from resource metrics API: {}", told(&it)))
        })?;
        if list.items.is_empty() {
            return Err(unable("no metrics returned from resource metrics API"));
        }
        Ok(list.items.iter().filter_map(|it| it.sample(resource, container)).collect())
    }

    async fn scale(&self, key: &Key, it: &HorizontalPodAutoscaler) -> Result<Scale, String> {
        let (api, name) = self.target(key, it).await?;
        let path = format!("{}/{name}/scale", api.resource_url());
        let request = Request::get(path).body(Vec::new()).map_err(|it| it.to_string())?;
        self.context.client.request::<Scale>(request).await.map_err(|it| told(&it))
    }

    /// The API of the target's kind, and its name.
    async fn target(
        &self,
        key: &Key,
        it: &HorizontalPodAutoscaler,
    ) -> Result<(Api<DynamicObject>, String), String> {
        let reference = it.spec.scale_target_ref.clone();
        check_segment(&reference.name)?;
        let version = reference.api_version.unwrap_or_else(|| "v1".into());
        let (group, _) = version.split_once('/').unwrap_or(("", &version));
        let kinds = discovery::kinds(&self.context.client).await.map_err(|it| told(&it))?;
        let kind = kinds.into_iter().find(|it| {
            it.resource.kind == reference.kind && it.resource.group == group && it.is_namespaced
        });
        let kind = kind.ok_or_else(|| {
            format!("no matches for kind \"{}\" in group \"{group}\"", reference.kind)
        })?;
        let client = self.context.client.clone();
        Ok((Api::namespaced_with(client, &key.namespace, &kind.resource), reference.name))
    }
}

/// The name becomes a part of a path that is asked for with this controller's rights.
fn check_segment(name: &str) -> Result<(), String> {
    if matches!(name, "" | "." | "..") {
        return Err(format!("may not be '{name}'"));
    }
    match name.chars().find(|it| "/%?#".contains(*it)) {
        Some(wrong) => Err(format!("may not contain '{wrong}'")),
        None => Ok(()),
    }
}

/// The server's own words.
fn told(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => telemetry::chain(other).to_string(),
    }
}

fn goal(target: &MetricTarget) -> Option<Target> {
    if let Some(percent) = target.average_utilization {
        return Some(Target::Utilization(percent.into()));
    }
    let value = target.average_value.as_ref()?.0.parse::<Quantity>().ok()?;
    Some(Target::AverageValue(value.millis()))
}

fn found(resource: &str, container: Option<&str>, proposal: Proposal) -> Found {
    let quantity = Quantity::from_millis(proposal.average_millis);
    let quantity = match resource {
        "memory" => Quantity::new(quantity.value(), Format::BinarySi),
        _ => quantity,
    };
    let current = json!({ "averageValue": quantity.to_string(),
        "averageUtilization": proposal.utilization });
    let of =
        if proposal.utilization.is_some() { "utilization (percentage of request)" } else { "" };
    match container {
        Some(container) => Found {
            proposal,
            status: json!({ "type": "ContainerResource", "containerResource": {
                "name": resource, "container": container, "current": current } }),
            name: format!("{resource} container resource {of}").trim_end().to_owned(),
        },
        None => Found {
            proposal,
            status: json!({ "type": "Resource",
                "resource": { "name": resource, "current": current } }),
            name: format!("{resource} resource {of}").trim_end().to_owned(),
        },
    }
}

/// What a pod requests of a resource, in thousandths.
fn request(pod: &Pod, resource: &str, container: Option<&str>) -> Result<i64, String> {
    let spec = pod.spec.clone().unwrap_or_default();
    let is_sidecar = |it: &&Container| it.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(is_sidecar);
    let wanted = spec.containers.iter().chain(sidecars);
    let mut sum = 0_i64;
    for it in wanted.filter(|it| container.is_none_or(|name| name == it.name)) {
        let requests = it.resources.as_ref().and_then(|it| it.requests.as_ref());
        if requests.is_none_or(|it| !it.contains_key(resource)) {
            let pod = pod.metadata.name.as_deref().unwrap_or_default();
            return Err(format!(
                "missing request for {resource} in container {} of Pod {pod}",
                it.name
            ));
        }
        let amount = container_requests(it).amount(resource);
        let millis = if resource == "cpu" { amount } else { amount.saturating_mul(1000) };
        sum = sum.saturating_add(millis);
    }
    Ok(sum)
}

#[derive(Debug, Deserialize)]
struct Scale {
    #[serde(default)]
    spec: ScaleSpec,
    #[serde(default)]
    status: ScaleStatus,
}

#[derive(Debug, Default, Deserialize)]
struct ScaleSpec {
    replicas: Option<i32>,
}

#[derive(Debug, Default, Deserialize)]
struct ScaleStatus {
    #[serde(default)]
    replicas: i32,
    selector: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(containers: Value) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": "p" },
            "spec": { "containers": containers } }))
        .unwrap()
    }

    fn container(name: &str, requests: Value) -> Value {
        json!({ "name": name, "resources": { "requests": requests } })
    }

    #[test]
    fn the_name_of_a_target_stays_one_part_of_a_path() {
        assert_eq!(check_segment("web"), Ok(()));
        for (name, why) in [
            ("..", "may not be '..'"),
            ("a/../b", "may not contain '/'"),
            ("a?dryRun=All", "may not contain '?'"),
        ] {
            assert_eq!(check_segment(name).unwrap_err(), why);
        }
    }

    #[test]
    fn requests_are_summed_and_a_missing_one_is_named() {
        let both = json!([
            container("a", json!({ "cpu": "250m", "memory": "1Ki" })),
            container("b", json!({ "cpu": "1" }))
        ]);
        let pod = pod(both);
        assert_eq!(request(&pod, "cpu", None), Ok(1250));
        assert_eq!(request(&pod, "cpu", Some("a")), Ok(250));
        assert_eq!(request(&pod, "memory", Some("a")), Ok(1_024_000));
        assert_eq!(
            request(&pod, "memory", None).unwrap_err(),
            "missing request for memory in container b of Pod p"
        );
    }
}
