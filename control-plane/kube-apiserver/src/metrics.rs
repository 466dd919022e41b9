//! What the server counts of its requests, for `/metrics`.
//!
//! Only resources that are served have labels of their own: a client cannot make new ones up.
//!
//! Upstream: k8s.io/apiserver/pkg/endpoints/metrics.

mod access;
pub(crate) mod admission;
pub(crate) mod histogram;
pub(crate) mod match_conditions;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use self::{access::Access, histogram::Histogram};
use crate::{
    request::RequestInfo,
    resources::{Catalog, Resource},
};

/// Upper bounds of the durations of requests, and of the store's, in seconds.
const DURATIONS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];
/// Of answers, in bytes.
const SIZES: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<Kind, Counts>>,
    /// Reads and writes that are not answered yet.
    running: [AtomicU64; 2],
    /// Long requests that have not ended yet.
    long: Mutex<BTreeMap<Kind, u64>>,
    /// By operation and resource.
    writes: Mutex<BTreeMap<(&'static str, String, String), Histogram>>,
    /// Events that were sent, by group, version and resource.
    watched: Mutex<BTreeMap<(String, String, String), Arc<AtomicU64>>>,
    /// How checks of health ended last, and how often so far, by name and endpoint.
    health: Mutex<BTreeMap<(&'static str, &'static str), [u64; 3]>>,
    pub(crate) access: Access,
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

/// A long request, until it is dropped.
pub(crate) struct Long {
    metrics: Arc<Metrics>,
    kind: Kind,
}

impl Drop for Long {
    fn drop(&mut self) {
        if let Some(count) = self.metrics.long.lock().get_mut(&self.kind) {
            *count = count.saturating_sub(1);
        }
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

#[derive(Debug)]
struct Counts {
    by_code: BTreeMap<u16, u64>,
    /// Not of long requests, which end when their clients wish.
    took: Histogram,
    /// Of reads.
    sizes: Histogram,
}

impl Default for Counts {
    fn default() -> Self {
        let (took, sizes) = (Histogram::new(DURATIONS), Histogram::new(SIZES));
        Self { by_code: BTreeMap::new(), took, sizes }
    }
}

/// The two lines before a family's values.
pub(crate) fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
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
        format!("component=\"apiserver\",dry_run=\"{dry_run}\",{}", self.plain_labels())
    }

    /// Without whether it was only tried.
    fn plain_labels(&self) -> String {
        format!(
            "group=\"{}\",resource=\"{}\",scope=\"{}\",subresource=\"{}\",verb=\"{}\",version=\"{}\"",
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

    pub(crate) fn begin_long(self: &Arc<Self>, kind: &Kind) -> Long {
        *self.long.lock().entry(kind.clone()).or_default() += 1;
        Long { metrics: self.clone(), kind: kind.clone() }
    }

    /// What the store took for a write.
    pub(crate) fn stored(&self, operation: &'static str, resource: &Resource, took: Duration) {
        let key = (operation, resource.group.clone(), resource.plural.clone());
        let mut all = self.writes.lock();
        all.entry(key).or_insert_with(|| Histogram::new(DURATIONS)).observe(took.as_secs_f64());
    }

    /// Where a watch counts the events that it sends.
    pub(crate) fn watched(&self, resource: &Resource) -> Arc<AtomicU64> {
        let key = (resource.group.clone(), resource.version.clone(), resource.plural.clone());
        self.watched.lock().entry(key).or_default().clone()
    }

    /// How a check of `/healthz`, `/livez` or `/readyz` ended.
    pub(crate) fn checked(&self, name: &'static str, endpoint: &'static str, is_well: bool) {
        let mut all = self.health.lock();
        let [last, failed, passed] = all.entry((name, endpoint)).or_default();
        *last = u64::from(is_well);
        *(if is_well { passed } else { failed }) += 1;
    }

    /// `took` is nothing for requests that go on after their answer has begun; `size` is where it is
    /// known.
    pub(crate) fn count(&self, kind: Kind, code: u16, took: Option<Duration>, size: Option<u64>) {
        let is_read = matches!(kind.verb, "GET" | "LIST");
        let mut requests = self.requests.lock();
        let counts = requests.entry(kind).or_default();
        *counts.by_code.entry(code).or_default() += 1;
        if let Some(took) = took {
            counts.took.observe(took.as_secs_f64());
        }
        if let Some(size) = size.filter(|_| is_read) {
            counts.sizes.observe(size as f64);
        }
    }

    /// In Prometheus's format.
    pub(crate) fn write(&self, text: &mut String) {
        self.write_requests(text);
        self.write_running(text);
        self.write_store(text);
        self.access.write(text);
    }

    fn write_requests(&self, text: &mut String) {
        let requests = self.requests.lock();
        const TOTAL: &str = "apiserver_request_total";
        head(
            text,
            TOTAL,
            "counter",
            "Counter of apiserver requests broken out for each verb, dry run value, group, version, \
             resource, scope, component, and HTTP response code.",
        );
        for (kind, counts) in requests.iter() {
            let labels = kind.labels();
            for (code, count) in &counts.by_code {
                text.push_str(&format!("{TOTAL}{{code=\"{code}\",{labels}}} {count}\n"));
            }
        }
        const TOOK: &str = "apiserver_request_duration_seconds";
        head(
            text,
            TOOK,
            "histogram",
            "Response latency distribution in seconds for each verb, dry run value, group, version, \
             resource, subresource, scope and component.",
        );
        for (kind, counts) in requests.iter().filter(|it| !it.1.took.is_empty()) {
            counts.took.write(text, TOOK, &kind.labels());
        }
        const SIZE: &str = "apiserver_response_sizes";
        head(
            text,
            SIZE,
            "histogram",
            "Response size distribution in bytes for each group, version, verb, resource, \
             subresource, scope and component.",
        );
        for (kind, counts) in requests.iter().filter(|it| !it.1.sizes.is_empty()) {
            let labels = format!("component=\"apiserver\",{}", kind.plain_labels());
            counts.sizes.write(text, SIZE, &labels);
        }
    }

    fn write_running(&self, text: &mut String) {
        const INFLIGHT: &str = "apiserver_current_inflight_requests";
        head(
            text,
            INFLIGHT,
            "gauge",
            "Maximal number of currently used inflight request limit of this apiserver per request \
             kind in last second.",
        );
        for (kind, count) in ["readOnly", "mutating"].iter().zip(&self.running) {
            let count = count.load(Ordering::Relaxed);
            text.push_str(&format!("{INFLIGHT}{{request_kind=\"{kind}\"}} {count}\n"));
        }
        const LONG: &str = "apiserver_longrunning_requests";
        head(
            text,
            LONG,
            "gauge",
            "Gauge of all active long-running apiserver requests broken out by verb, group, version, \
             resource, scope and component. Not all requests are tracked this way.",
        );
        for (kind, count) in self.long.lock().iter() {
            let labels = kind.plain_labels();
            text.push_str(&format!("{LONG}{{component=\"apiserver\",{labels}}} {count}\n"));
        }
        const EVENTS: &str = "apiserver_watch_events_total";
        head(text, EVENTS, "counter", "Number of events sent in watch clients.");
        for ((group, version, resource), count) in self.watched.lock().iter() {
            let count = count.load(Ordering::Relaxed);
            text.push_str(&format!(
                "{EVENTS}{{group=\"{group}\",resource=\"{resource}\",version=\"{version}\"}} {count}\n"
            ));
        }
    }

    fn write_store(&self, text: &mut String) {
        const STORE: &str = "etcd_request_duration_seconds";
        head(
            text,
            STORE,
            "histogram",
            "Etcd request latency in seconds for each operation and object type.",
        );
        for ((operation, group, resource), took) in self.writes.lock().iter() {
            let labels =
                format!("group=\"{group}\",operation=\"{operation}\",resource=\"{resource}\"");
            took.write(text, STORE, &labels);
        }
    }

    /// `/metrics/slis`.
    pub(crate) fn write_health(&self, text: &mut String) {
        let health = self.health.lock();
        const LAST: &str = "kubernetes_healthcheck";
        head(text, LAST, "gauge", "This metric records the result of a single healthcheck.");
        for ((name, endpoint), [last, ..]) in health.iter() {
            text.push_str(&format!("{LAST}{{name=\"{name}\",type=\"{endpoint}\"}} {last}\n"));
        }
        const ALL: &str = "kubernetes_healthchecks_total";
        head(text, ALL, "counter", "This metric records the results of all healthcheck.");
        for ((name, endpoint), [_, failed, passed]) in health.iter() {
            for (status, count) in [("error", failed), ("success", passed)] {
                if *count > 0 {
                    text.push_str(&format!(
                        "{ALL}{{name=\"{name}\",status=\"{status}\",type=\"{endpoint}\"}} {count}\n"
                    ));
                }
            }
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
        metrics.count(list(), 200, Some(Duration::from_millis(30)), Some(20_000));
        metrics.count(list(), 403, Some(Duration::from_millis(3)), None);
        let watch = kind(http::Method::GET, "/api/v1/pods", "watch=1");
        metrics.count(watch, 200, None, None);
        let mut text = String::new();
        metrics.write(&mut text);
        let labels = "component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"pods\",\
                      scope=\"namespace\",subresource=\"\",verb=\"LIST\",version=\"v1\"";
        for line in [
            format!("apiserver_request_total{{code=\"403\",{labels}}} 1"),
            format!("apiserver_request_duration_seconds_bucket{{{labels},le=\"0.005\"}} 1"),
            format!("apiserver_request_duration_seconds_bucket{{{labels},le=\"0.05\"}} 2"),
            format!("apiserver_request_duration_seconds_count{{{labels}}} 2"),
            format!(
                "apiserver_response_sizes_sum{{{}}} 20000",
                labels.replace("dry_run=\"\",", "")
            ),
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
        assert!(
            text.contains("verb=\"WATCH\"") && !text.contains("verb=\"WATCH\",version=\"v1\",le")
        );
    }

    #[test]
    fn a_long_request_is_counted_until_it_ends() {
        let metrics = Arc::new(Metrics::default());
        let watch = kind(http::Method::GET, "/api/v1/pods", "watch=1");
        let told = || {
            let mut text = String::new();
            metrics.write(&mut text);
            let mut lines = text.lines();
            let found = lines.find(|it| it.starts_with("apiserver_longrunning_requests{"));
            found.map(|it| it.rsplit(' ').next().unwrap_or_default().to_owned())
        };
        assert_eq!(told(), None);
        let long = metrics.begin_long(&watch);
        assert_eq!(told().as_deref(), Some("1"));
        drop(long);
        assert_eq!(told().as_deref(), Some("0"));
    }

    #[test]
    fn a_client_makes_up_no_labels() {
        for path in ["/apis/made/v1/ups", "/api/v1/namespaces/a/pods/p/made-up", "/made/up"] {
            let labels = kind(http::Method::GET, path, "").labels();
            assert!(!labels.contains("made"), "{labels}");
        }
    }
}
