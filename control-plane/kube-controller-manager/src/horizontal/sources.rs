//! How many pods each kind of metric asks for, and what the status says of it.
//!
//! Upstream: `computeReplicasForMetric` of `horizontal.go`.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        autoscaling::v2::{
            ExternalMetricSource, MetricIdentifier, MetricSpec, MetricTarget, ObjectMetricSource,
            PodsMetricSource,
        },
        core::v1::Pod,
    },
    apimachinery::pkg::api::resource::Quantity as Written,
};
use kube::Client;
use resources::{Format, Quantity};
use serde_json::{Value, json};

use super::{
    calculator::{Proposal, Question, Target, Tolerances, WarmUp, by_ratio, per_pod},
    custom, metrics,
};

/// What is asked about every metric of an autoscaler.
pub(super) struct Asked<'a> {
    pub(super) client: &'a Client,
    pub(super) namespace: &'a str,
    /// How many there are to be, and how many there are.
    pub(super) replicas: (i32, i32),
    pub(super) selector: &'a str,
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) tolerances: Tolerances,
    pub(super) warm_up: WarmUp,
    pub(super) now: jiff::Timestamp,
}

/// What was found about one metric.
pub(super) struct Found {
    pub(super) replicas: i32,
    pub(super) status: Value,
    /// For the event: `cpu resource utilization (percentage of request)`.
    pub(super) name: String,
}

/// Why there is no number.
pub(super) struct Refusal {
    /// Of condition and event.
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// The same, as the autoscaler tells it of all its metrics.
    pub(super) told: String,
}

impl Refusal {
    fn new(reason: &'static str, message: String, told: &str) -> Self {
        let told = format!("{told}: {message}");
        Self { reason, message, told }
    }
}

impl Asked<'_> {
    pub(super) async fn about(&self, metric: &MetricSpec) -> Result<Found, Refusal> {
        if let Some(it) = &metric.resource {
            return self.of_resource(&it.name, None, &it.target).await;
        }
        if let Some(it) = &metric.container_resource {
            return self.of_resource(&it.name, Some(&it.container), &it.target).await;
        }
        if let Some(it) = &metric.pods {
            let reason = "FailedGetPodsMetric";
            let found = self.of_pods(it).await;
            return found.map_err(|it| Refusal::new(reason, it, "failed to get pods metric value"));
        }
        if let Some(it) = &metric.object {
            let reason = "FailedGetObjectMetric";
            let found = self.of_object(it).await;
            return found
                .map_err(|it| Refusal::new(reason, it, "failed to get object metric value"));
        }
        if let Some(it) = &metric.external {
            let told = format!("failed to get {} external metric value", it.metric.name);
            let found = self.of_external(it).await;
            return found.map_err(|it| Refusal::new("FailedGetExternalMetric", it, &told));
        }
        let message = format!("unknown metric source type \"{}\"", metric.type_);
        Err(Refusal { reason: "InvalidMetricSourceType", told: message.clone(), message })
    }

    async fn of_resource(
        &self,
        resource: &str,
        container: Option<&str>,
        target: &MetricTarget,
    ) -> Result<Found, Refusal> {
        let failed = |message: String| {
            let what = if target.average_utilization.is_some() { "utilization" } else { "usage" };
            let message = format!("failed to get {resource} {what}: {message}");
            match container {
                None => {
                    let told = format!("failed to get {resource} resource metric value");
                    Refusal::new("FailedGetResourceMetric", message, &told)
                }
                Some(_) => {
                    let told = format!("failed to get {resource} container metric value");
                    Refusal::new("FailedGetContainerResourceMetric", message, &told)
                }
            }
        };
        let goal = match (target.average_utilization, &target.average_value) {
            (Some(percent), _) => Some(Target::Utilization(percent.into())),
            (None, value) => value.as_ref().and_then(millis).map(Target::AverageValue),
        };
        let goal = goal.ok_or_else(|| {
            failed("neither a utilization target nor a value target was set".into())
        })?;
        let samples = metrics::of(self.client, self.namespace, resource, container).await;
        let samples = samples.map_err(failed)?;
        let request = |pod: &Pod| metrics::request(pod, resource, container);
        let question = self.question(goal, resource == "cpu", samples, &request);
        Ok(found_of_resource(resource, container, question.answer().map_err(failed)?))
    }

    fn question<'q>(
        &'q self,
        target: Target,
        is_cpu: bool,
        samples: metrics::Samples,
        request: &'q dyn Fn(&Pod) -> Result<i64, String>,
    ) -> Question<'q> {
        let is_one =
            |name: &String| self.pods.iter().any(|it| it.metadata.name.as_ref() == Some(name));
        Question {
            current: self.replicas.0,
            target,
            is_cpu,
            pods: self.pods,
            samples: samples.into_iter().filter(|(name, _)| is_one(name)).collect(),
            request,
            tolerances: self.tolerances,
            warm_up: self.warm_up,
            now: self.now,
        }
    }

    async fn of_pods(&self, source: &PodsMetricSource) -> Result<Found, String> {
        let metric = &source.metric;
        let target = source.target.average_value.as_ref().and_then(millis);
        let target = target.ok_or("invalid pods metric source: no average value target was set")?;
        let of = (self.namespace, self.selector);
        let samples = custom::of_pods(self.client, of, metric, self.now).await;
        let samples =
            samples.map_err(|it| format!("unable to get metric {}: {it}", metric.name))?;
        let none = |_: &Pod| Ok(0);
        let question = self.question(Target::AverageValue(target), false, samples, &none);
        let proposal = question.answer()?;
        let current = json!({ "averageValue": written(proposal.average_millis) });
        Ok(Found {
            replicas: proposal.replicas,
            status: json!({ "type": "Pods", "pods": { "metric": metric, "current": current } }),
            name: format!("pods metric {}", metric.name),
        })
    }

    async fn of_object(&self, source: &ObjectMetricSource) -> Result<Found, String> {
        let (metric, object) = (&source.metric, &source.described_object);
        let used = custom::of_object(self.client, self.namespace, object, metric).await;
        let used = used.map_err(|it| {
            let (kind, name) = (&object.kind, &object.name);
            format!(
                "unable to get metric {}: {kind} on {} {name}/{it}",
                metric.name, self.namespace
            )
        })?;
        let (replicas, current) = self.shared(used, &source.target, "object")?;
        let name = match source.target.value {
            Some(_) => format!("{} metric {}", object.kind, metric.name),
            None => external_name(metric),
        };
        let of = json!({ "describedObject": object, "metric": metric, "current": current });
        Ok(Found { replicas, status: json!({ "type": "Object", "object": of }), name })
    }

    async fn of_external(&self, source: &ExternalMetricSource) -> Result<Found, String> {
        let metric = &source.metric;
        let used = custom::external(self.client, self.namespace, metric).await;
        let used = used.map_err(|it| {
            let selector = go_selector(metric);
            format!(
                "unable to get external metric {}/{}/{selector}: {it}",
                self.namespace, metric.name
            )
        })?;
        let (replicas, current) = self.shared(used, &source.target, "external")?;
        let of = json!({ "metric": metric, "current": current });
        let name = external_name(metric);
        Ok(Found { replicas, status: json!({ "type": "External", "external": of }), name })
    }

    /// Of a number that is for all pods together.
    fn shared(
        &self,
        used: i64,
        target: &MetricTarget,
        source: &str,
    ) -> Result<(i32, Value), String> {
        let (wanted, there) = self.replicas;
        match (
            target.value.as_ref().and_then(millis),
            target.average_value.as_ref().and_then(millis),
        ) {
            (Some(value), _) => {
                let replicas = by_ratio((used, value), wanted, self.pods, self.tolerances)?;
                Ok((replicas, json!({ "value": written(used) })))
            }
            (None, Some(average)) => {
                let (replicas, share) = per_pod((used, average), there, self.tolerances);
                Ok((replicas, json!({ "averageValue": written(share) })))
            }
            (None, None) => Err(format!(
                "invalid {source} metric source: neither a value target nor an average value target was set"
            )),
        }
    }
}

fn millis(it: &Written) -> Option<i64> {
    it.0.parse::<Quantity>().ok().map(|it| it.millis())
}

fn written(millis: i64) -> String {
    Quantity::from_millis(millis).to_string()
}

fn external_name(metric: &MetricIdentifier) -> String {
    format!("external metric {}({})", metric.name, go_selector(metric))
}

/// As Go writes it, in upstream's messages.
fn go_selector(metric: &MetricIdentifier) -> String {
    let Some(it) = &metric.selector else { return "nil".to_owned() };
    let labels = it.match_labels.iter().flatten();
    let labels: String = labels.map(|(key, value)| format!("{key}: {value},")).collect();
    let expressions = it.match_expressions.iter().flatten().map(|it| {
        let values = it.values.clone().unwrap_or_default().join(" ");
        let (key, operator) = (&it.key, &it.operator);
        format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
    });
    let expressions: String = expressions.collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},\
         MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

fn found_of_resource(resource: &str, container: Option<&str>, proposal: Proposal) -> Found {
    let quantity = Quantity::from_millis(proposal.average_millis);
    let quantity = match resource {
        "memory" => Quantity::new(quantity.value(), Format::BinarySi),
        _ => quantity,
    };
    let current = json!({ "averageValue": quantity.to_string(),
        "averageUtilization": proposal.utilization });
    let of =
        if proposal.utilization.is_some() { "utilization (percentage of request)" } else { "" };
    let replicas = proposal.replicas;
    match container {
        Some(container) => Found {
            replicas,
            status: json!({ "type": "ContainerResource", "containerResource": {
                "name": resource, "container": container, "current": current } }),
            name: format!("{resource} container resource {of}").trim_end().to_owned(),
        },
        None => Found {
            replicas,
            status: json!({ "type": "Resource",
                "resource": { "name": resource, "current": current } }),
            name: format!("{resource} resource {of}").trim_end().to_owned(),
        },
    }
}

#[cfg(test)]
mod tests;
