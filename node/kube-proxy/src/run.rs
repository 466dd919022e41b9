//! The proxy at work: watches, passes, servers.
//!
//! It ends when it is told to, and when its configuration file changes: who started it starts it
//! again with the new one. The rules stay, so connections go on meanwhile.
//!
//! Deviation: a pass follows its change at once, `minSyncPeriod` or not, as it costs what it changes;
//! a file that is replaced (a ConfigMap's) ends the proxy as one that is written into does.

mod passes;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clock::Clock;
use controller::Recorder;
use http::{Request, Response};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Node;
use lifecycle::Scope;
use linux_inotify::Watch;
use linux_nftables::{Family, Nft};
use tower::service_fn;
use tracing::{info, warn};
use transport::{Body, BoxError, Place};

use self::passes::Loop;
use crate::{
    config::{Configuration, NodeFacts},
    endpoint_slices::Here,
    health::{self, Health},
    metrics::Metrics,
    proxier::Proxier,
    server::{self, Pages},
    service_health::HealthPorts,
    watch,
};

/// Until a port that could not be bound is tried again.
const REBIND: Duration = Duration::from_secs(5);

/// What the command line and the file say.
#[derive(Debug)]
pub struct Setting {
    pub config: Configuration,
    pub kubeconfig: Option<PathBuf>,
    pub master: Option<String>,
    /// The configuration file and what it held.
    pub file: Option<(PathBuf, String)>,
    pub flags: Vec<(String, String)>,
}

/// Why the proxy ends by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("content of the proxy server's configuration file was updated")]
    Updated,
    #[error("{server} server failed: failed to listen on {address}")]
    Bind {
        server: &'static str,
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
}

pub async fn run(setting: Setting) -> Result<(), BoxError> {
    transport::tls::install_provider();
    let Setting { config, kubeconfig, master, file, flags } = setting;
    let node = node_name(&config)?;
    let client = controller::client("kube-proxy", kubeconfig.as_deref(), master.as_deref()).await?;
    let scope = Scope::new();
    let clock = Clock::system();
    let families = families();
    let limit = config.sync_periods().0.get() * 2;
    let health = Arc::new(Health::new(clock, Metrics::new(families.len()), limit));
    let recorder = Recorder::new(client.clone(), "kube-proxy", clock, &scope);
    serve(&config, flags, &health, &scope).await?;
    info!(node, mode = "nftables", "starting");
    recorder.normal(&node_reference(&node), "Starting", "");

    let facts = NodeFacts::default();
    let options = families.iter().map(|family| config.options(*family, &facts)).collect();
    let updates = watch::start(client, node.clone(), &scope);
    let proxier = Proxier::new(Nft::here(), Here { node, zone: None }, options);
    let ports = HealthPorts::new(health.clone(), Place::Here, scope.clone());
    let looped = Loop::new(proxier, config, families, health, ports, recorder);
    let running = scope.spawn("proxier", looped.run(updates));
    let ended = tokio::select! {
        asked = lifecycle::asked_to_end() => asked.map_err(BoxError::from),
        () = changed(file) => Err(RunError::Updated.into()),
    };
    drop(running);
    scope.drain(Duration::from_secs(2)).await;
    ended
}

fn families() -> Vec<Family> {
    match Path::new("/proc/sys/net/ipv6").exists() {
        true => vec![Family::Ip, Family::Ip6],
        false => vec![Family::Ip],
    }
}

fn node_name(config: &Configuration) -> Result<String, BoxError> {
    if !config.hostname_override.is_empty() {
        return Ok(config.hostname_override.to_lowercase());
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    Ok(name.trim().to_lowercase())
}

/// As upstream refers to it in events: by its name also where the UID would be.
fn node_reference(name: &str) -> Node {
    let mut node = Node::default();
    node.metadata.name = Some(name.to_owned());
    node.metadata.uid = Some(name.to_owned());
    node
}

/// Ends once the file holds something else.
async fn changed(file: Option<(PathBuf, String)>) {
    let Some((path, text)) = file else { return std::future::pending().await };
    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
    let mut watch = Watch::new();
    loop {
        watch.add_folders(&folder);
        // A file that is not there is about to be replaced.
        if std::fs::read_to_string(&path).is_ok_and(|now| now != text) {
            return;
        }
        watch.changed().await;
    }
}

async fn serve(
    config: &Configuration,
    flags: Vec<(String, String)>,
    health: &Arc<Health>,
    scope: &Scope,
) -> Result<(), RunError> {
    let is_hard = config.bind_address_hard_fail;
    if let Some(address) = config.healthz() {
        let shared = health.clone();
        let answer = move |request| health::healthz(request, shared.clone());
        start("healthz", address, is_hard, answer, scope).await?;
    }
    if let Some(address) = config.metrics() {
        let started = health.clock.now();
        let pages = Pages { health: health.clone(), config: config.clone(), flags, started };
        let pages = Arc::new(pages);
        let answer = move |request| server::serve(request, pages.clone());
        start("metrics", address, is_hard, answer, scope).await?;
    }
    Ok(())
}

/// Serves at `address`; where it is taken, that is an error (`is_hard`) or tried again until it is free.
async fn start<F, A>(
    name: &'static str,
    address: SocketAddr,
    is_hard: bool,
    answer: F,
    scope: &Scope,
) -> Result<(), RunError>
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<Response<Body>, std::convert::Infallible>> + Send + 'static,
{
    let first = Place::Here.listen(address);
    let first = match first {
        Err(source) if is_hard => return Err(RunError::Bind { server: name, address, source }),
        other => other,
    };
    let task = scope.clone();
    drop(scope.spawn(name, async move {
        let mut listening = first;
        loop {
            match listening {
                Ok(listener) => {
                    let service = service_fn(answer);
                    return transport::serve(listener, None, service, task).await;
                }
                Err(error) => warn!(%error, %address, server = name, "failed to listen"),
            }
            tokio::time::sleep(REBIND).await;
            listening = Place::Here.listen(address);
        }
    }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_replaced_or_written_into_ends_the_proxy() {
        let folder = std::env::temp_dir().join(format!("kube-proxy-run-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("config");
        std::fs::write(&path, "a").unwrap();
        let mut waiting = Box::pin(changed(Some((path.clone(), "a".to_owned()))));
        let soon = Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, &mut waiting).await.is_err());
        std::fs::write(folder.join("other"), "b").unwrap();
        assert!(tokio::time::timeout(soon, &mut waiting).await.is_err());
        std::fs::write(folder.join("new"), "b").unwrap();
        std::fs::rename(folder.join("new"), &path).unwrap();
        tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap();
        std::fs::remove_dir_all(folder).unwrap();
    }
}
