//! `clusterTrustBundle` in a projected volume: the certificates of one bundle, or of all bundles of a
//! signer that a selector matches.
//!
//! Bundles are watched from the first pod on that asks for one. A change reaches the pods that use
//! bundles at once ([`tell`]).
//!
//! The order of the certificates means nothing, and nobody shall come to rely on one: each process has
//! its own, and keeps it, so that a file is not written again for nothing.
//!
//! Upstream: `pkg/kubelet/clustertrustbundle`.
//!
//! Deviation: bundles are read at v1beta1 alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::{
    certificates::v1beta1::ClusterTrustBundle,
    core::v1::{ClusterTrustBundleProjection, Pod},
};
use kube::{
    Api, Client,
    core::{Selector, SelectorExt},
    runtime::{WatchStreamExt, watcher},
};
use lifecycle::Scope;
use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tracing::debug;

use super::MountVolumeError;
use crate::{pod::PodExt, pod_workers::PodWorkers};

const API_VERSION: &str = "certificates.k8s.io/v1beta1";
/// Of the question whether there are bundles, and of their first list.
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadBundleError {
    #[error("ClusterTrustBundle projection requires either name or signerName to be set")]
    Neither,
    /// Upstream's words for an API server that has no bundles, too.
    #[error("ClusterTrustBundle projection is not supported in static kubelet mode")]
    Unsupported,
    #[error(
        "failed to ensure informer manager for ClusterTrustBundles: failed to determine which informer manager to choose: {message}"
    )]
    Undetermined { message: String },
    #[error("ClusterTrustBundle informer has not yet synced")]
    NotSynced,
    #[error(
        "while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io \"{name}\" not found"
    )]
    NotFound { name: String },
    #[error("while parsing label selector: {message}")]
    Selector { message: String },
    #[error("combination of signerName and labelSelector matched zero ClusterTrustBundles")]
    NoneMatches,
}

impl From<ReadBundleError> for MountVolumeError {
    fn from(error: ReadBundleError) -> Self {
        Self::Text(error.to_string())
    }
}

pub(crate) struct TrustBundles {
    client: Client,
    scope: Scope,
    /// Without an API server there are none.
    is_standalone: bool,
    is_followed: AsyncMutex<bool>,
    known: Arc<Known>,
    /// What the order of this process comes from.
    salt: [u8; 16],
}

#[derive(Default)]
struct Known {
    bundles: RwLock<BTreeMap<String, Bundle>>,
    is_synced: watch::Sender<bool>,
    changes: watch::Sender<()>,
}

/// What is kept of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Bundle {
    signer: String,
    labels: BTreeMap<String, String>,
    anchors: Vec<Vec<u8>>,
}

impl Bundle {
    fn of(object: ClusterTrustBundle) -> (String, Self) {
        let name = object.metadata.name.unwrap_or_default();
        let labels = object.metadata.labels.unwrap_or_default();
        let blocks = pki::pem_blocks(&object.spec.trust_bundle).into_iter();
        let anchors = blocks.map(|it| it.content).collect();
        (name, Self { signer: object.spec.signer_name.unwrap_or_default(), labels, anchors })
    }
}

impl TrustBundles {
    pub(crate) fn new(client: Client, scope: Scope, is_standalone: bool) -> Self {
        Self {
            client,
            scope,
            is_standalone,
            is_followed: AsyncMutex::default(),
            known: Arc::default(),
            salt: entropy::bytes(),
        }
    }

    /// The file that a projection asks for.
    pub(super) async fn read(
        &self,
        source: &ClusterTrustBundleProjection,
    ) -> Result<String, ReadBundleError> {
        if source.name.is_none() && source.signer_name.is_none() {
            return Err(ReadBundleError::Neither);
        }
        self.follow().await?;
        if !*self.known.is_synced.borrow() {
            return Err(ReadBundleError::NotSynced);
        }
        select(&self.known.bundles.read(), source).map(|it| written(it, &self.salt))
    }

    /// Begins the watch, unless that was done.
    async fn follow(&self) -> Result<(), ReadBundleError> {
        let mut is_followed = self.is_followed.lock().await;
        if *is_followed {
            return Ok(());
        }
        if self.is_standalone || !self.is_served().await? {
            return Err(ReadBundleError::Unsupported);
        }
        let (known, client) = (self.known.clone(), self.client.clone());
        drop(self.scope.spawn("trust-bundles", async move { known.run(client).await }));
        *is_followed = true;
        let mut is_synced = self.known.is_synced.subscribe();
        // The watch goes on; whoever comes next asks how far it is.
        drop(tokio::time::timeout(LIMIT, is_synced.wait_for(|it| *it)).await);
        Ok(())
    }

    async fn is_served(&self) -> Result<bool, ReadBundleError> {
        let undetermined = |message: String| ReadBundleError::Undetermined { message };
        let asked = self.client.list_api_group_resources(API_VERSION);
        match tokio::time::timeout(LIMIT, asked).await {
            Ok(Ok(list)) => Ok(list.resources.iter().any(|it| it.name == "clustertrustbundles")),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(false),
            Ok(Err(error)) => Err(undetermined(telemetry::chain(&error).to_string())),
            Err(_) => Err(undetermined("the API server did not answer".to_owned())),
        }
    }
}

impl Known {
    async fn run(&self, client: Client) {
        let config = watcher::Config::default();
        let stream = watcher(Api::<ClusterTrustBundle>::all(client), config);
        let mut events = pin!(stream.default_backoff());
        let mut listed = BTreeMap::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(it)) => listed.extend([Bundle::of(it)]),
                Ok(watcher::Event::InitDone) => {
                    let listed = std::mem::take(&mut listed);
                    self.change(|bundles| *bundles = listed);
                    self.is_synced.send_replace(true);
                }
                Ok(watcher::Event::Apply(it)) => self.change(|all| all.extend([Bundle::of(it)])),
                Ok(watcher::Event::Delete(it)) => {
                    self.change(|all| drop(all.remove(&Bundle::of(it).0)));
                }
                Err(error) => {
                    debug!(error = %telemetry::chain(&error), "watch of trust bundles failed");
                }
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Bundle>)) {
        change(&mut self.bundles.write());
        self.changes.send_replace(());
    }
}

/// Tells the workers of pods that use bundles of each change.
pub(crate) async fn tell(bundles: Arc<TrustBundles>, workers: Arc<PodWorkers>) {
    let mut changes = bundles.known.changes.subscribe();
    while changes.changed().await.is_ok() {
        workers.refresh_volumes(uses_bundles);
    }
}

fn uses_bundles(pod: &Pod) -> bool {
    let volumes = PodExt::spec(pod).volumes.iter().flatten();
    let mut sources = volumes.filter_map(|it| it.projected.as_ref()?.sources.as_ref()).flatten();
    sources.any(|it| it.cluster_trust_bundle.is_some())
}

/// The certificates that are asked for, each once.
fn select(
    all: &BTreeMap<String, Bundle>,
    source: &ClusterTrustBundleProjection,
) -> Result<BTreeSet<Vec<u8>>, ReadBundleError> {
    let may_miss = source.optional == Some(true);
    let chosen: Vec<&Bundle> = match &source.name {
        Some(name) => match all.get(name) {
            None if !may_miss => return Err(ReadBundleError::NotFound { name: name.clone() }),
            found => found.into_iter().collect(),
        },
        None => {
            let signer = source.signer_name.as_deref().unwrap_or_default();
            let selector = selector(source)?;
            let fits = |it: &&Bundle| {
                it.signer == signer && selector.as_ref().is_some_and(|by| by.matches(&it.labels))
            };
            let chosen: Vec<_> = all.values().filter(fits).collect();
            if chosen.is_empty() && !may_miss {
                return Err(ReadBundleError::NoneMatches);
            }
            chosen
        }
    };
    Ok(chosen.into_iter().flat_map(|it| it.anchors.iter().cloned()).collect())
}

/// `None`, which matches nothing, where no selector is given; an empty one matches everything.
fn selector(source: &ClusterTrustBundleProjection) -> Result<Option<Selector>, ReadBundleError> {
    let given = source.label_selector.clone().map(Selector::try_from).transpose();
    given.map_err(|error| ReadBundleError::Selector { message: error.to_string() })
}

fn written(anchors: BTreeSet<Vec<u8>>, salt: &[u8]) -> String {
    let mut anchors: Vec<_> = anchors.into_iter().collect();
    anchors.sort_by_cached_key(|it| {
        let place = Sha256::new().chain_update(salt).chain_update(it).finalize();
        <[u8; 32]>::from(place)
    });
    anchors.iter().map(|it| pki::pem_text("CERTIFICATE", it)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn bundle(name: &str, signer: &str, contents: &[&str]) -> (String, Bundle) {
        let blocks = contents.iter().map(|it| pki::pem_text("CERTIFICATE", it.as_bytes()));
        let text = format!("# roots\n{}", blocks.collect::<Vec<_>>().join("and\n"));
        Bundle::of(
            serde_json::from_value(json!({
                "metadata": { "name": name, "labels": { "tier": name } },
                "spec": { "signerName": signer, "trustBundle": text },
            }))
            .unwrap(),
        )
    }

    fn all() -> BTreeMap<String, Bundle> {
        [
            bundle("a", "example.com/s", &["one", "two"]),
            bundle("b", "example.com/s", &["two", "three"]),
            bundle("c", "", &["four"]),
        ]
        .into()
    }

    fn ask(source: Value) -> Result<Vec<String>, String> {
        let mut source = source;
        source["path"] = "roots".into();
        let source = serde_json::from_value(source).unwrap();
        let found = select(&all(), &source).map_err(|it| it.to_string())?;
        Ok(found.into_iter().map(|it| String::from_utf8(it).unwrap()).collect())
    }

    #[test]
    fn a_bundle_is_taken_by_its_name_or_by_its_signer_and_labels() {
        assert_eq!(ask(json!({ "name": "c" })).unwrap(), ["four"]);
        let by = |selector: Value| {
            ask(json!({ "signerName": "example.com/s", "labelSelector": selector }))
        };
        assert_eq!(by(json!({})).unwrap(), ["one", "three", "two"], "each once");
        assert_eq!(by(json!({ "matchLabels": { "tier": "b" } })).unwrap(), ["three", "two"]);
        // No selector is none of all.
        let none = "combination of signerName and labelSelector matched zero ClusterTrustBundles";
        assert_eq!(by(Value::Null).unwrap_err(), none);
        assert_eq!(by(json!({ "matchLabels": { "tier": "c" } })).unwrap_err(), none);
    }

    #[test]
    fn what_misses_is_told_unless_it_may_miss() {
        assert_eq!(
            ask(json!({ "name": "z" })).unwrap_err(),
            "while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io \"z\" not found"
        );
        for source in [json!({ "name": "z" }), json!({ "signerName": "example.com/z" })] {
            let mut source = source;
            source["optional"] = true.into();
            assert_eq!(ask(source).unwrap(), Vec::<String>::new());
        }
    }

    #[test]
    fn the_order_is_the_processs_own_and_stays() {
        let anchors: BTreeSet<Vec<u8>> = (0..32_u8).map(|it| vec![it]).collect();
        let of = |salt: u8| written(anchors.clone(), &[salt]);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        let found: BTreeSet<_> = pki::pem_blocks(&of(1)).into_iter().map(|it| it.content).collect();
        assert_eq!(found, anchors);
    }
}
