//! `/stats/summary`: what the node and its pods use, from their cgroups and the runtime.

use std::collections::HashMap;

use api_cri::v1;
use http::Response;
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Time};
use serde_json::{Value, json};
use transport::Body;

use super::{Server, json_answer};
use crate::{labels, pod::PodExt};

/// One container's use.
#[derive(Clone, Debug, Default)]
pub(super) struct ContainerUse {
    pub name: String,
    pub cpu_nanos: u64,
    pub working_set: u64,
    pub disk: u64,
}

impl Server {
    pub(super) async fn summary(&self) -> Response<Body> {
        let now = self.context.clock.now();
        let containers = self.container_use().await;
        let pods = self.workers.pods();
        let mut listed = Vec::new();
        for pod in &pods {
            let mut summary = self.pod_summary(pod, &containers, now);
            summary["volume"] = self.context.volumes.summary(pod, now).await;
            listed.push(summary);
        }
        let node = self.context.cgroups.node_usage();
        json_answer(&json!({
            "node": {
                "nodeName": self.context.settings.node_name,
                "cpu": { "time": Time(now), "usageCoreNanoSeconds": node.cpu_nanos },
                "memory": {
                    "time": Time(now),
                    "usageBytes": node.memory,
                    "workingSetBytes": node.working_set,
                    "rssBytes": node.rss,
                    "availableBytes": self.context.machine.memory.saturating_sub(
                        i64::try_from(node.working_set).unwrap_or(i64::MAX)),
                },
            },
            "pods": listed,
        }))
    }

    fn pod_summary(
        &self,
        pod: &Pod,
        containers: &HashMap<String, Vec<ContainerUse>>,
        now: Timestamp,
    ) -> Value {
        let usage = self.context.cgroups.pod_usage(pod);
        let own = containers.get(&pod.uid().0).map(Vec::as_slice).unwrap_or_default();
        let own: Vec<Value> = own
            .iter()
            .map(|it| {
                json!({
                    "name": it.name,
                    "cpu": { "time": Time(now), "usageCoreNanoSeconds": it.cpu_nanos },
                    "memory": { "time": Time(now), "workingSetBytes": it.working_set },
                    "rootfs": { "time": Time(now), "usedBytes": it.disk },
                })
            })
            .collect();
        json!({
            "podRef": { "name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid() },
            "startTime": pod.status.as_ref().and_then(|it| it.start_time.clone()),
            "containers": own,
            "cpu": { "time": Time(now), "usageCoreNanoSeconds": usage.cpu_nanos },
            "memory": {
                "time": Time(now),
                "usageBytes": usage.memory,
                "workingSetBytes": usage.working_set,
                "rssBytes": usage.rss,
            },
        })
    }

    /// The containers that run, by the pod's UID.
    pub(super) async fn container_use(&self) -> HashMap<String, Vec<ContainerUse>> {
        let mut by_pod: HashMap<String, Vec<ContainerUse>> = HashMap::new();
        for stats in self.context.runtime.container_stats().await.unwrap_or_default() {
            let Some(attributes) = &stats.attributes else { continue };
            let Some(uid) = attributes.labels.get(labels::POD_UID).cloned() else { continue };
            by_pod.entry(uid).or_default().push(of(&stats, attributes));
        }
        by_pod
    }
}

fn of(stats: &v1::ContainerStats, attributes: &v1::ContainerAttributes) -> ContainerUse {
    let value = |it: Option<v1::UInt64Value>| it.map_or(0, |it| it.value);
    let name = attributes.labels.get(labels::CONTAINER_NAME).cloned().unwrap_or_default();
    ContainerUse {
        name,
        cpu_nanos: value(stats.cpu.as_ref().and_then(|it| it.usage_core_nano_seconds)),
        working_set: value(stats.memory.as_ref().and_then(|it| it.working_set_bytes)),
        disk: value(stats.writable_layer.as_ref().and_then(|it| it.used_bytes)),
    }
}
