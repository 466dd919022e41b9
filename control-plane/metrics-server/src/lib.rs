//! metrics.k8s.io/v1beta1: what nodes and pods use, for `kubectl top`.
//!
//! The API server hands requests of this group on to [`MetricsService`]. It reads nodes and pods from
//! the API server and their use from the kubelets' `/metrics/resource`, through `nodes/proxy`: a
//! closed port 10250 is seen here as well.
//!
//! Deviation: kubelets are asked only when somebody asks us, and not again within 15 s; upstream asks
//! them every 15 s for ever. The first answer after a pause therefore takes a second, over which it
//! measures.
//!
//! Upstream: kubernetes-sigs/metrics-server.

mod answer;
mod quantity;
mod samples;
mod scrape;
mod service;

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use clock::Clock;
use parking_lot::Mutex;

use self::samples::Samples;
pub use self::service::MetricsService;

pub const GROUP: &str = "metrics.k8s.io";
pub const VERSION: &str = "v1beta1";

/// The server. Clones share it.
#[derive(Clone)]
pub struct MetricsServer {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    client: OnceLock<kube::Client>,
    samples: Mutex<Samples>,
    /// By node, held while its kubelet is asked: who comes second gets what the first one measured,
    /// and nobody waits for a node that they do not ask for.
    asking: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl std::fmt::Debug for MetricsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetricsServer").finish_non_exhaustive()
    }
}

impl MetricsServer {
    /// A server that knows what it serves, but nobody to ask yet.
    pub fn new(clock: Clock) -> Self {
        let inner = Inner {
            clock,
            client: OnceLock::new(),
            samples: Mutex::default(),
            asking: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The API server's client comes later: the API server is told of this one when it starts.
    pub fn connect(&self, client: kube::Client) {
        drop(self.inner.client.set(client));
    }

    pub fn service(&self) -> MetricsService {
        MetricsService::new(self.clone())
    }
}
