//! What a process counts of its work queues and of its requests to the API server.
//!
//! Queues count once somebody works on them ([`crate::run`]), clients from when they are made. Queues of
//! one name count together. What is gone is no longer on the page.
//!
//! Upstream: `k8s.io/component-base/metrics/prometheus/{workqueue,restclient}`. Deviation: the sizes of
//! requests and answers, and the limiter of requests (there is none) are not measured.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;

use crate::metrics::{Family, Histogram, Kind, Metrics};

/// From 10 ns to 1000 s.
const OF_QUEUES: &[f64] =
    &[1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0];
const OF_REQUESTS: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];

const DEPTH: &str = "workqueue_depth";
const ADDS: &str = "workqueue_adds_total";
const RETRIES: &str = "workqueue_retries_total";
const WAITED: &str = "workqueue_queue_duration_seconds";
const WORKED: &str = "workqueue_work_duration_seconds";
const UNFINISHED: &str = "workqueue_unfinished_work_seconds";
const LONGEST: &str = "workqueue_longest_running_processor_seconds";
const REQUESTS: &str = "rest_client_requests_total";
const TOOK: &str = "rest_client_request_duration_seconds";

const FAMILIES: &[Family] = &[
    Family(
        TOOK,
        Kind::Histogram(OF_REQUESTS),
        "Request latency in seconds. Broken down by verb, and host.",
    ),
    Family(
        REQUESTS,
        Kind::Counter,
        "Number of HTTP requests, partitioned by status code, method, and host.",
    ),
    Family(ADDS, Kind::Counter, "Total number of adds handled by workqueue"),
    Family(DEPTH, Kind::Gauge, "Current depth of workqueue"),
    Family(
        LONGEST,
        Kind::Gauge,
        "How many seconds has the longest running processor for workqueue been running.",
    ),
    Family(
        WAITED,
        Kind::Histogram(OF_QUEUES),
        "How long in seconds an item stays in workqueue before being requested.",
    ),
    Family(RETRIES, Kind::Counter, "Total number of retries handled by workqueue"),
    Family(
        UNFINISHED,
        Kind::Gauge,
        "How many seconds of work has done that is in progress and hasn't been observed by \
         work_duration.",
    ),
    Family(
        WORKED,
        Kind::Histogram(OF_QUEUES),
        "How long in seconds processing an item from workqueue takes.",
    ),
];

// === queues ===

/// What a queue has counted, and how it stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct QueueCounts {
    pub(crate) adds: u64,
    pub(crate) retries: u64,
    waited: Histogram,
    worked: Histogram,
    pub(crate) depth: usize,
    /// Of what is being worked on.
    pub(crate) unfinished: Duration,
    pub(crate) longest: Duration,
}

impl QueueCounts {
    pub(crate) fn waited(&mut self, took: Duration) {
        self.waited.observe(OF_QUEUES, took.as_secs_f64());
    }

    pub(crate) fn worked(&mut self, took: Duration) {
        self.worked.observe(OF_QUEUES, took.as_secs_f64());
    }

    fn add(&mut self, other: &Self) {
        self.adds += other.adds;
        self.retries += other.retries;
        self.waited.add(&other.waited);
        self.worked.add(&other.worked);
        self.depth += other.depth;
        self.unfinished += other.unfinished;
        self.longest = self.longest.max(other.longest);
    }
}

/// A queue, whatever its keys are.
pub(crate) trait Measured: Send + Sync {
    fn counts(&self) -> QueueCounts;
}

type Named<T> = Mutex<Vec<(String, Weak<T>)>>;

static QUEUES: Named<dyn Measured> = Mutex::new(Vec::new());
static CLIENTS: Named<ClientCounts> = Mutex::new(Vec::new());

fn remember<T: ?Sized>(all: &Named<T>, name: &str, it: Weak<T>) {
    let mut all = all.lock();
    all.retain(|(_, known)| known.strong_count() > 0);
    all.push((name.to_owned(), it));
}

fn known<T: ?Sized>(all: &Named<T>) -> Vec<(String, Arc<T>)> {
    let all = all.lock();
    all.iter().filter_map(|(name, it)| Some((name.clone(), it.upgrade()?))).collect()
}

/// Shows a queue under this name.
pub(crate) fn show_queue(name: &str, queue: Weak<dyn Measured>) {
    remember(&QUEUES, name, queue);
}

// === clients ===

/// The requests of one client.
#[derive(Debug, Default)]
pub(crate) struct ClientCounts {
    /// By method and code.
    requests: Mutex<BTreeMap<(&'static str, Option<u16>), u64>>,
    took: Mutex<BTreeMap<&'static str, Histogram>>,
}

impl ClientCounts {
    pub(crate) fn shown(host: &str) -> Arc<Self> {
        let it = Arc::new(Self::default());
        remember(&CLIENTS, host, Arc::downgrade(&it));
        it
    }

    /// Without a code it has no answer.
    pub(crate) fn count(&self, method: &'static str, code: Option<u16>, took: Duration) {
        *self.requests.lock().entry((method, code)).or_default() += 1;
        let mut all = self.took.lock();
        all.entry(method).or_default().observe(OF_REQUESTS, took.as_secs_f64());
    }
}

// === the page ===

/// The page of all queues and clients of this process.
pub(crate) fn render() -> String {
    let page = Metrics::new(FAMILIES);
    let mut queues = BTreeMap::<String, QueueCounts>::new();
    for (name, queue) in known(&QUEUES) {
        queues.entry(name).or_default().add(&queue.counts());
    }
    for (name, counts) in &queues {
        let labels = [("name", name.as_str())];
        page.set(ADDS, &labels, counts.adds as f64);
        page.set(DEPTH, &labels, counts.depth as f64);
        page.set(RETRIES, &labels, counts.retries as f64);
        page.set(UNFINISHED, &labels, counts.unfinished.as_secs_f64());
        page.set(LONGEST, &labels, counts.longest.as_secs_f64());
        page.gather(WAITED, &labels, &counts.waited);
        page.gather(WORKED, &labels, &counts.worked);
    }
    for (host, client) in known(&CLIENTS) {
        for ((method, code), count) in client.requests.lock().iter() {
            let code = code.map_or("<error>".to_owned(), |it| it.to_string());
            let labels = [("code", code.as_str()), ("host", &host), ("method", method)];
            page.add(REQUESTS, &labels, *count as f64);
        }
        for (method, took) in client.took.lock().iter() {
            page.gather(TOOK, &[("host", &host), ("verb", method)], took);
        }
    }
    page.render()
}
