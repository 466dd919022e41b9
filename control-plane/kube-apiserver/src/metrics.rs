//! What the server counts of its requests, for `/metrics`.
//!
//! Only resources that are served have labels of their own: a client cannot make new ones up.
//!
//! Upstream: k8s.io/apiserver/pkg/endpoints/metrics.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use crate::{request::RequestInfo, resources::Catalog};

/// Upper bounds of the durations, in milliseconds.
const BUCKETS: [u64; 16] =
    [5, 25, 50, 100, 200, 400, 600, 800, 1000, 1250, 1500, 2000, 5000, 10_000, 30_000, 60_000];

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<Kind, Counts>>,
    /// By operation, whether it was refused, and step.
    admission: Mutex<BTreeMap<(&'static str, bool, &'static str), Steps>>,
    /// Reads and writes that are not answered yet.
    running: [AtomicU64; 2],
}

/// A request that is being answered, until it is dropped.
pub(crate) struct Running {
    metrics: Arc<Metrics>,
    kind: usize,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.metrics.running[self.kind].fetch_sub(1, Ordering::Relaxed);
    }
}

/// What requests are counted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    is_dry_run: bool,
}

#[derive(Debug, Default)]
struct Counts {
    by_code: BTreeMap<u16, u64>,
    /// Not of long requests, which end when their clients wish.
    durations: [u64; BUCKETS.len()],
    timed: u64,
    total: Duration,
}

impl Kind {
    pub(crate) fn of(info: &RequestInfo, query: &str, is_apply: bool, catalog: &Catalog) -> Self {
        let is_served = catalog.find(&info.group, &info.version, &info.resource);
        let known =
            is_served.is_some_and(|it| info.subresource.is_empty() || it.has(&info.subresource));
        let part = |text: &String| if known { text.clone() } else { String::new() };
        Self {
            verb: verb(info, is_apply),
            group: part(&info.group),
            version: part(&info.version),
            resource: part(&info.resource),
            subresource: part(&info.subresource),
            scope: scope(info),
            is_dry_run: query.contains("dryRun="),
        }
    }

    fn labels(&self) -> String {
        let dry_run = if self.is_dry_run { "All" } else { "" };
        format!(
            "component=\"apiserver\",dry_run=\"{dry_run}\",group=\"{}\",resource=\"{}\",\
             scope=\"{}\",subresource=\"{}\",verb=\"{}\",version=\"{}\"",
            self.group, self.resource, self.scope, self.subresource, self.verb, self.version
        )
    }
}

fn verb(info: &RequestInfo, is_apply: bool) -> &'static str {
    if matches!(info.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy") {
        return "CONNECT";
    }
    match info.verb.as_str() {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" if is_apply => "APPLY",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => "other",
    }
}

fn scope(info: &RequestInfo) -> &'static str {
    match () {
        () if !info.is_resource => "",
        () if !info.name.is_empty() || info.verb == "create" => "resource",
        () if !info.namespace.is_empty() => "namespace",
        () => "cluster",
    }
}

impl Metrics {
    pub(crate) fn begin(self: &Arc<Self>, verb: &str) -> Running {
        let kind = usize::from(!matches!(verb, "get" | "list" | "watch"));
        self.running[kind].fetch_add(1, Ordering::Relaxed);
        Running { metrics: self.clone(), kind }
    }

    /// What admission took for a request. Upstream's words: `type` is `admit` or `validate`.
    pub(crate) fn admission(
        &self,
        step: &'static str,
        operation: &'static str,
        is_refused: bool,
        took: Duration,
    ) {
        self.admission.lock().entry((operation, is_refused, step)).or_default().add(took);
    }

    /// `took` is nothing for requests that go on after their answer has begun.
    pub(crate) fn count(&self, kind: Kind, code: u16, took: Option<Duration>) {
        let mut requests = self.requests.lock();
        let counts = requests.entry(kind).or_default();
        *counts.by_code.entry(code).or_default() += 1;
        if let Some(took) = took {
            counts.timed += 1;
            counts.total += took;
            for (bound, count) in BUCKETS.iter().zip(&mut counts.durations) {
                *count += u64::from(took <= Duration::from_millis(*bound));
            }
        }
    }

    /// In Prometheus's format.
    pub(crate) fn write(&self, text: &mut String) {
        let requests = self.requests.lock();
        text.push_str(
            "# HELP apiserver_request_total Counter of apiserver requests broken out for each \
             verb, dry run value, group, version, resource, scope, component, and HTTP response \
             code.\n# TYPE apiserver_request_total counter\n",
        );
        for (kind, counts) in requests.iter() {
            let labels = kind.labels();
            for (code, count) in &counts.by_code {
                text.push_str(&format!(
                    "apiserver_request_total{{code=\"{code}\",{labels}}} {count}\n"
                ));
            }
        }
        const NAME: &str = "apiserver_request_duration_seconds";
        text.push_str(&format!(
            "# HELP {NAME} Response latency distribution in seconds for each verb, dry run value, \
             group, version, resource, subresource, scope and component.\n# TYPE {NAME} histogram\n"
        ));
        for (kind, counts) in requests.iter().filter(|it| it.1.timed > 0) {
            let (labels, timed) = (kind.labels(), counts.timed);
            for (bound, count) in BUCKETS.iter().zip(counts.durations) {
                let bound = Duration::from_millis(*bound).as_secs_f64();
                text.push_str(&format!("{NAME}_bucket{{{labels},le=\"{bound}\"}} {count}\n"));
            }
            text.push_str(&format!("{NAME}_bucket{{{labels},le=\"+Inf\"}} {timed}\n"));
            text.push_str(&format!("{NAME}_sum{{{labels}}} {}\n", counts.total.as_secs_f64()));
            text.push_str(&format!("{NAME}_count{{{labels}}} {timed}\n"));
        }
        drop(requests);
        text.push_str(
            "# HELP apiserver_current_inflight_requests Maximal number of currently used inflight \
             request limit of this apiserver per request kind in last second.\n\
             # TYPE apiserver_current_inflight_requests gauge\n",
        );
        for (kind, count) in ["readOnly", "mutating"].iter().zip(&self.running) {
            let count = count.load(Ordering::Relaxed);
            text.push_str(&format!(
                "apiserver_current_inflight_requests{{request_kind=\"{kind}\"}} {count}\n"
            ));
        }
        self.write_admission(text);
    }

    fn write_admission(&self, text: &mut String) {
        const NAME: &str = "apiserver_admission_step_admission_duration_seconds";
        text.push_str(&format!(
            "# HELP {NAME} Admission sub-step latency histogram in seconds, broken out for each \
             operation and API resource and step type (validate or admit).\n\
             # TYPE {NAME} histogram\n"
        ));
        for ((operation, is_refused, step), steps) in self.admission.lock().iter() {
            let labels =
                format!("operation=\"{operation}\",rejected=\"{is_refused}\",type=\"{step}\"");
            for (bound, count) in STEPS.iter().zip(steps.durations) {
                let bound = Duration::from_millis(*bound).as_secs_f64();
                text.push_str(&format!("{NAME}_bucket{{{labels},le=\"{bound}\"}} {count}\n"));
            }
            let (count, total) = (steps.count, steps.total.as_secs_f64());
            text.push_str(&format!("{NAME}_bucket{{{labels},le=\"+Inf\"}} {count}\n"));
            text.push_str(&format!("{NAME}_sum{{{labels}}} {total}\n"));
            text.push_str(&format!("{NAME}_count{{{labels}}} {count}\n"));
        }
    }
}

/// Bounds of admission's steps, in milliseconds.
const STEPS: [u64; 6] = [5, 25, 100, 500, 1000, 2500];

#[derive(Debug, Default)]
struct Steps {
    count: u64,
    total: Duration,
    durations: [u64; STEPS.len()],
}

impl Steps {
    fn add(&mut self, took: Duration) {
        self.count += 1;
        self.total += took;
        for (bound, count) in STEPS.iter().zip(&mut self.durations) {
            *count += u64::from(took <= Duration::from_millis(*bound));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(method: http::Method, path: &str, query: &str) -> Kind {
        let info = RequestInfo::parse(&method, path, query);
        Kind::of(&info, query, false, &Catalog::builtin())
    }

    #[test]
    fn requests_are_counted_by_what_they_ask_for() {
        let metrics = Metrics::default();
        let list = || kind(http::Method::GET, "/api/v1/namespaces/a/pods", "limit=1");
        metrics.count(list(), 200, Some(Duration::from_millis(30)));
        metrics.count(list(), 403, Some(Duration::from_millis(3)));
        let watch = kind(http::Method::GET, "/api/v1/pods", "watch=1");
        metrics.count(watch, 200, None);
        let mut text = String::new();
        metrics.write(&mut text);
        let labels = "component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"pods\",\
                      scope=\"namespace\",subresource=\"\",verb=\"LIST\",version=\"v1\"";
        for line in [
            format!("apiserver_request_total{{code=\"403\",{labels}}} 1"),
            format!("apiserver_request_duration_seconds_bucket{{{labels},le=\"0.005\"}} 1"),
            format!("apiserver_request_duration_seconds_bucket{{{labels},le=\"0.05\"}} 2"),
            format!("apiserver_request_duration_seconds_count{{{labels}}} 2"),
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
        assert!(
            text.contains("verb=\"WATCH\"") && !text.contains("verb=\"WATCH\",version=\"v1\",le")
        );
    }

    #[test]
    fn what_admission_takes_is_counted_by_its_steps() {
        let metrics = Metrics::default();
        metrics.admission("admit", "CREATE", false, Duration::from_millis(6));
        metrics.admission("admit", "CREATE", false, Duration::from_millis(1));
        let mut text = String::new();
        metrics.write(&mut text);
        let name = "apiserver_admission_step_admission_duration_seconds";
        let labels = "operation=\"CREATE\",rejected=\"false\",type=\"admit\"";
        for line in [
            format!("{name}_bucket{{{labels},le=\"0.005\"}} 1"),
            format!("{name}_bucket{{{labels},le=\"0.025\"}} 2"),
            format!("{name}_sum{{{labels}}} 0.007"),
            format!("{name}_count{{{labels}}} 2"),
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_client_makes_up_no_labels() {
        for path in ["/apis/made/v1/ups", "/api/v1/namespaces/a/pods/p/made-up", "/made/up"] {
            let labels = kind(http::Method::GET, path, "").labels();
            assert!(!labels.contains("made"), "{labels}");
        }
    }
}
