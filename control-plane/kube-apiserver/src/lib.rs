//! The Kubernetes API server: REST and watch over a durable, revisioned store.
//!
//! [`ApiServer`] is built from a [`Config`] around an `mvcc::Store`; [`ApiServer::service`] is what a
//! listener serves, and [`ApiServer::client`] is a `kube::Client` that reaches it without a socket
//! (but as bytes). Objects are JSON from end to end: one table of resources and one of types drive
//! routing, decoding, defaulting, merging and discovery.
//!
//! **Invariant:** a write is answered only after it is durable; every read is of durable state.

use api_kube as _;

mod admission;
mod aggregation;
mod apply;
mod attributes;
pub mod audit;
pub mod authn;
pub mod authz;
mod bootstrap;
mod cel;
pub mod command;
mod component_status;
mod conditions;
mod config;
mod convert;
mod custom_resources;
mod deadline;
mod decode;
mod defaults;
mod delegated;
mod discovery;
mod flow;
mod go;
mod jobs;
mod json_patches;
mod managed_fields;
mod matching;
mod metrics;
mod negotiate;
mod openapi;
pub mod probe;
pub mod proxy;
mod qos;
pub mod registry;
mod render;
pub mod request;
mod resources;
mod schema;
pub mod selectors;
mod server;
mod services;
pub mod status;
mod strategic;
mod strategy;
mod subresources;
mod table;
mod validation;
mod verbs;

#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;

pub use self::{
    admission::{PodSecurity, PodSecurityError},
    bootstrap::StartError,
    component_status::Components,
    config::{Config, first_address},
    delegated::Delegate,
    server::ApiService,
};
use crate::{registry::Reader, request::UserInfo, server::Server};

/// Upstream's period for the `kubernetes` Service and the system namespaces.
const MAINTENANCE_PERIOD: Duration = Duration::from_secs(10);

/// Upstream's `--etcd-compaction-interval`.
const COMPACTION_PERIOD: Duration = Duration::from_secs(5 * 60);

/// A running API server. Clones share it.
#[derive(Clone)]
pub struct ApiServer {
    server: Arc<Server>,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Reads what is stored, and makes sure that what must always exist does.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let objects = Reader::new(config.store.clone());
        let mut authorizer = authz::Authorizer::new(objects.clone());
        if let Some((hook, memory)) = config.authorization_webhook.clone() {
            authorizer = authorizer.with_webhook(hook, memory);
        }
        let delegates = delegated::Delegates::learn(config.delegates.clone()).await?;
        let server = Arc::new(Server {
            store: config.store.clone(),
            clock: config.clock,
            catalog: RwLock::new(custom_resources::catalog(
                &config.store,
                delegates.resources(),
                None,
            )),
            delegates,
            services: services::Allocator::new(
                config.service_cidr,
                config.node_ports.clone(),
                config.store.clone(),
                config.clock,
            ),
            repaired: parking_lot::Mutex::default(),
            is_maintained: AtomicBool::new(false),
            told: parking_lot::Mutex::default(),
            admission: admission::Context::new(
                objects.clone(),
                authorizer.clone(),
                config.proxy.place.clone(),
            )
            .with_pod_security(config.pod_security.clone()),
            authenticator: authn::Authenticator::new(
                config.authn.clone(),
                objects.clone(),
                config.clock,
            )
            .map_err(StartError::Authority)?,
            authorizer,
            proxy: proxy::Proxy::new(config.proxy.clone(), objects.clone()),
            aggregator: aggregation::Aggregator::new(
                objects.clone(),
                config.proxy_client.clone(),
                config.proxy.clone(),
            ),
            flow: flow::Limiter::new(objects.clone(), config.max_requests_inflight),
            metrics: Arc::default(),
            endpoints: RwLock::new(config.endpoints.clone()),
            objects,
            config,
        });
        bootstrap::ensure(&server).await?;
        bootstrap::ensure_roles(&server).await?;
        bootstrap::ensure_api_services(&server).await?;
        let endpoints = server.config.endpoints.clone();
        let this = Self { server };
        this.set_endpoints(&endpoints).await?;
        Ok(this)
    }

    /// To make the other parts of the control plane known to it.
    pub fn components(&self) -> &Components {
        &self.server.config.components
    }

    /// For `transport::serve`: requests are authenticated by what they carry.
    pub fn service(&self) -> ApiService {
        ApiService { server: self.server.clone(), user: None }
    }

    /// A service whose requests all come from this user.
    pub fn service_as(&self, user: UserInfo) -> ApiService {
        ApiService { server: self.server.clone(), user: Some(user) }
    }

    /// A client in this process, as this user.
    pub fn client(&self, user: UserInfo) -> kube::Client {
        kube::Client::new(self.service_as(user), "default")
    }

    /// Read access to the stored objects.
    pub fn objects(&self) -> Reader {
        self.server.objects.clone()
    }

    /// Whom the server trusts: for the service-account issuer's documents, and for reviews.
    pub fn authenticator(&self) -> &authn::Authenticator {
        &self.server.authenticator
    }

    /// Puts back, for ever, what must always exist: the system's namespaces, `default/kubernetes`
    /// and its endpoints. Spawn it beside the listeners: until it has begun the server is not healthy.
    pub async fn maintain(&self) {
        self.server.is_maintained.store(true, Ordering::Relaxed);
        tokio::join!(
            self.maintain_objects(),
            self.compact(),
            self.server.follow_definitions(),
            self.server.follow_api_services(),
            bootstrap::follow_legacy_tokens(&self.server),
        );
    }

    /// Forgets history that is older than a period or two, as upstream: a watch or a page that comes
    /// back later begins anew.
    async fn compact(&self) {
        let store = &self.server.store;
        let mut ticks = tokio::time::interval(COMPACTION_PERIOD);
        let mut seen = 0;
        loop {
            ticks.tick().await;
            if seen > 0
                && let Err(error) = store.compact(seen).await
            {
                tracing::warn!(error = %telemetry::chain(&error), "history could not be compacted");
            }
            seen = store.revision();
        }
    }

    async fn maintain_objects(&self) {
        let mut ticks = tokio::time::interval(MAINTENANCE_PERIOD);
        loop {
            ticks.tick().await;
            custom_resources::finish_all(&self.server).await;
            let endpoints = self.server.endpoints.read().clone();
            let done = match bootstrap::ensure(&self.server).await {
                Ok(()) => bootstrap::ensure_endpoints(&self.server, &endpoints).await,
                failed => failed,
            };
            if let Err(error) = done {
                tracing::warn!(%error, "what must always exist could not be put back");
            }
        }
    }

    /// Makes these addresses the endpoints of `default/kubernetes`.
    pub async fn set_endpoints(&self, addresses: &[IpAddr]) -> Result<(), StartError> {
        *self.server.endpoints.write() = addresses.to_vec();
        bootstrap::ensure_endpoints(&self.server, addresses).await
    }
}
