//! `/metrics`, `/metrics/resource`, `/metrics/cadvisor`: Prometheus text.

use std::fmt::Write;

use http::{HeaderValue, Response, header::CONTENT_TYPE};
use transport::Body;

use super::Server;
use crate::{pod::PodExt, settings::VERSION};

fn exposition(text: String) -> Response<Body> {
    let mut response = Response::new(transport::full(text));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// One metric with its help and type.
struct Family<'a>(&'a mut String);

impl Family<'_> {
    fn begin(&mut self, name: &str, kind: &str, help: &str) {
        let written = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        debug_assert!(written.is_ok(), "writing into memory");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
        let braces =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let written = writeln!(self.0, "{name}{braces} {value}");
        debug_assert!(written.is_ok(), "writing into memory");
    }
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

impl Server {
    pub(super) fn metrics(&self) -> Response<Body> {
        let mut text = String::new();
        let mut family = Family(&mut text);
        let name = "kubelet_node_name";
        family.begin(name, "gauge", "The node's name. The count is always 1.");
        family.sample(name, &[("node", &self.context.settings.node_name)], 1.0);
        let name = "kubernetes_build_info";
        family.begin(name, "gauge", "The version of this kubelet.");
        family.sample(name, &[("git_version", VERSION)], 1.0);
        let pods = self.workers.pods();
        let running = pods.iter().filter(|it| {
            it.status.as_ref().is_some_and(|it| it.phase.as_deref() == Some("Running"))
        });
        let name = "kubelet_running_pods";
        family.begin(name, "gauge", "Number of pods that have a running pod sandbox.");
        family.sample(name, &[], running.count() as f64);
        let name = "kubelet_desired_pods";
        family.begin(name, "gauge", "The number of pods the kubelet is being instructed to run.");
        family.sample(name, &[("static", "")], pods.len() as f64);
        exposition(text)
    }

    pub(super) async fn metrics_resource(&self) -> Response<Body> {
        let node = self.context.cgroups.node_usage();
        let mut text = String::new();
        let mut family = Family(&mut text);
        let name = "node_cpu_usage_seconds_total";
        family.begin(name, "counter", "Cumulative cpu time consumed by the node in core-seconds");
        family.sample(name, &[], seconds(node.cpu_nanos));
        let name = "node_memory_working_set_bytes";
        family.begin(name, "gauge", "Current working set of the node in bytes");
        family.sample(name, &[], node.working_set as f64);
        self.pod_resources(&mut family);
        self.container_resources(&mut family).await;
        exposition(text)
    }

    fn pod_resources(&self, family: &mut Family<'_>) {
        let pods = self.workers.pods();
        let used: Vec<_> = pods.iter().map(|it| (it, self.context.cgroups.pod_usage(it))).collect();
        let name = "pod_cpu_usage_seconds_total";
        family.begin(name, "counter", "Cumulative cpu time consumed by the pod in core-seconds");
        for (pod, usage) in &used {
            let labels = [("namespace", pod.namespace()), ("pod", pod.name())];
            family.sample(name, &labels, seconds(usage.cpu_nanos));
        }
        let name = "pod_memory_working_set_bytes";
        family.begin(name, "gauge", "Current working set of the pod in bytes");
        for (pod, usage) in &used {
            let labels = [("namespace", pod.namespace()), ("pod", pod.name())];
            family.sample(name, &labels, usage.working_set as f64);
        }
    }

    async fn container_resources(&self, family: &mut Family<'_>) {
        let by_pod = self.container_use().await;
        let pods = self.workers.pods();
        for (name, kind, help) in [
            (
                "container_cpu_usage_seconds_total",
                "counter",
                "Cumulative cpu time consumed by the container in core-seconds",
            ),
            (
                "container_memory_working_set_bytes",
                "gauge",
                "Current working set of the container in bytes",
            ),
        ] {
            family.begin(name, kind, help);
            for pod in &pods {
                for container in by_pod.get(&pod.uid().0).into_iter().flatten() {
                    let labels = [
                        ("container", container.name.as_str()),
                        ("namespace", pod.namespace()),
                        ("pod", pod.name()),
                    ];
                    let value = if kind == "counter" {
                        seconds(container.cpu_nanos)
                    } else {
                        container.working_set as f64
                    };
                    family.sample(name, &labels, value);
                }
            }
        }
    }

    pub(super) async fn metrics_cadvisor(&self) -> Response<Body> {
        let mut text = String::new();
        let mut family = Family(&mut text);
        self.container_resources(&mut family).await;
        let name = "machine_cpu_cores";
        family.begin(name, "gauge", "Number of logical CPU cores.");
        family.sample(name, &[], self.context.machine.cpus as f64);
        let name = "machine_memory_bytes";
        family.begin(name, "gauge", "Amount of memory installed on the machine.");
        family.sample(name, &[], self.context.machine.memory as f64);
        exposition(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_prometheus_text() {
        let mut text = String::new();
        let mut family = Family(&mut text);
        family.begin("a", "gauge", "An a.");
        family.sample("a", &[("pod", "p")], 1.5);
        assert_eq!(text, "# HELP a An a.\n# TYPE a gauge\na{pod=\"p\"} 1.5\n");
    }
}
