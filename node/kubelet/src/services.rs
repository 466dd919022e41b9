//! The Services of the cluster, as far as environment variables need them.
//!
//! One watch; of each Service only its name, address and ports are kept.
//!
//! Upstream: `pkg/kubelet/envvars`.

use std::{collections::BTreeMap, pin::pin};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use parking_lot::RwLock;
use tokio::sync::watch;
use tracing::debug;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Link {
    ip: String,
    ports: Vec<Port>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    name: Option<String>,
    port: i32,
    protocol: String,
}

type Key = (String, String);

pub(crate) struct Services {
    links: RwLock<BTreeMap<Key, Link>>,
    synced: watch::Sender<bool>,
}

impl Services {
    pub(crate) fn new() -> Self {
        Self { links: RwLock::default(), synced: watch::channel(false).0 }
    }

    /// Ends when the first list has arrived.
    pub(crate) async fn synced(&self) {
        let mut synced = self.synced.subscribe();
        // The sender lives in `self`, so this cannot fail.
        drop(synced.wait_for(|it| *it).await);
    }

    /// Nobody will tell of any: there is no API server.
    pub(crate) fn set_none(&self) {
        self.synced.send_replace(true);
    }

    pub(crate) async fn run(&self, client: Client) {
        let stream = watcher(Api::<Service>::all(client), watcher::Config::default());
        let mut events = pin!(stream.default_backoff());
        let mut listed = BTreeMap::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(it)) => {
                    if let Some(link) = link(&it) {
                        listed.insert(key(&it), link);
                    }
                }
                Ok(watcher::Event::InitDone) => {
                    *self.links.write() = std::mem::take(&mut listed);
                    self.synced.send_replace(true);
                }
                Ok(watcher::Event::Apply(it)) => {
                    let mut links = self.links.write();
                    match link(&it) {
                        Some(link) => links.insert(key(&it), link),
                        None => links.remove(&key(&it)),
                    };
                }
                Ok(watcher::Event::Delete(it)) => {
                    self.links.write().remove(&key(&it));
                }
                Err(error) => debug!(error = %telemetry::chain(&error), "watch of services failed"),
            }
        }
    }

    /// The variables of the API server's Service, and of the namespace's own where the pod wants them.
    pub(crate) fn variables(&self, namespace: &str, with_links: bool) -> BTreeMap<String, String> {
        let links = self.links.read();
        let mut variables = BTreeMap::new();
        let kubernetes = ("default".to_owned(), "kubernetes".to_owned());
        for ((of, name), link) in links.iter() {
            let is_own = with_links && of == namespace;
            if is_own || (of == &kubernetes.0 && name == &kubernetes.1) {
                add(&mut variables, name, link);
            }
        }
        variables
    }
}

fn key(service: &Service) -> Key {
    let metadata = &service.metadata;
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// `None` for headless and external Services.
fn link(service: &Service) -> Option<Link> {
    let spec = service.spec.as_ref()?;
    let ip = spec.cluster_ip.clone().filter(|it| !it.is_empty() && it != "None")?;
    let ports = spec.ports.iter().flatten().map(|it| Port {
        name: it.name.clone().filter(|it| !it.is_empty()),
        port: it.port,
        protocol: it.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
    });
    Some(Link { ip, ports: ports.collect() })
}

fn add(variables: &mut BTreeMap<String, String>, name: &str, link: &Link) {
    let prefix = shouted(name);
    let Some(first) = link.ports.first() else { return };
    let bracketed = if link.ip.contains(':') { format!("[{}]", link.ip) } else { link.ip.clone() };
    let mut put = |suffix: String, value: String| {
        variables.insert(format!("{prefix}_{suffix}"), value);
    };
    put("SERVICE_HOST".to_owned(), link.ip.clone());
    put("SERVICE_PORT".to_owned(), first.port.to_string());
    let url = |it: &Port| format!("{}://{bracketed}:{}", it.protocol.to_lowercase(), it.port);
    put("PORT".to_owned(), url(first));
    for port in &link.ports {
        if let Some(name) = &port.name {
            put(format!("SERVICE_PORT_{}", shouted(name)), port.port.to_string());
        }
        let of = format!("PORT_{}_{}", port.port, port.protocol.to_uppercase());
        put(format!("{of}_PROTO"), port.protocol.to_lowercase());
        put(format!("{of}_PORT"), port.port.to_string());
        put(format!("{of}_ADDR"), link.ip.clone());
        put(of, url(port));
    }
}

fn shouted(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_told_in_upstreams_variables() {
        let services = Services::new();
        let port = Port { name: Some("db".to_owned()), port: 6379, protocol: "TCP".to_owned() };
        let link = Link { ip: "10.100.0.5".to_owned(), ports: vec![port] };
        let key = ("shop".to_owned(), "redis-leader".to_owned());
        services.links.write().insert(key, link);
        let variables = services.variables("shop", true);
        assert_eq!(variables["REDIS_LEADER_SERVICE_HOST"], "10.100.0.5");
        assert_eq!(variables["REDIS_LEADER_SERVICE_PORT_DB"], "6379");
        assert_eq!(variables["REDIS_LEADER_PORT_6379_TCP"], "tcp://10.100.0.5:6379");
        assert_eq!(variables.len(), 8);
        assert!(services.variables("shop", false).is_empty());
        assert!(services.variables("other", true).is_empty());
    }
}
