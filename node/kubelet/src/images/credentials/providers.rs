//! The plugins of this node: which are asked for an image, and how long their answers are good.
//!
//! A plugin with `tokenAttributes` acts for the pod's service account: it is given a token of it, and what
//! it answers is for this account, or for this token.
//!
//! Upstream: `pkg/credentialprovider/plugin/plugin.go` (KEP-4412).
//!
//! **Invariants:** a plugin that hangs or fails costs its own credentials, never the pull. What was given
//! for one service account is never used for another.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::{Api, Client};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{
    Entry,
    config::{self, LoadProvidersError, Provider, TokenAttributes},
    matching,
    plugin::{Account, Question, Response, RunPluginError},
};
use crate::{
    metrics::Metrics,
    pod::{PodExt, PodUid},
    volumes::tokens::Tokens,
};

/// Of one question to the API server.
const LIMIT: Duration = Duration::from_secs(10);
const GLOBAL: &str = "global";

/// What a provider gives for an image.
pub(super) struct Provided {
    pub pattern: String,
    pub entry: Entry,
    /// The service account that it is for; without one it is the node's.
    pub account: Option<String>,
}

#[derive(Clone)]
struct Cached {
    until: Timestamp,
    entries: Vec<(String, Entry)>,
}

/// The plugin; the image, registry or everything; and for whom.
type Key = (String, String, String);
type Answer = Result<Arc<Response>, RunPluginError>;
type Asked = BoxFuture<'static, Answer>;

/// What plugins need to know of service accounts.
struct Accounts {
    client: Client,
    tokens: Tokens,
}

#[derive(Default)]
pub(crate) struct Providers {
    folder: PathBuf,
    providers: Vec<Arc<Provider>>,
    accounts: Option<Accounts>,
    metrics: Arc<Metrics>,
    cache: Mutex<HashMap<Key, Cached>>,
    /// Who asks the same meanwhile waits for the one answer.
    under_way: Mutex<HashMap<Key, WeakShared<Asked>>>,
}

impl Providers {
    pub(crate) fn load(
        config: &Path,
        folder: &Path,
        client: Client,
        metrics: Arc<Metrics>,
    ) -> Result<Self, LoadProvidersError> {
        let providers = config::load(config, folder)?.into_iter().map(Arc::new).collect();
        let accounts = Some(Accounts { client, tokens: Tokens::default() });
        Ok(Self { folder: folder.to_owned(), providers, accounts, metrics, ..Self::default() })
    }

    /// Whether they can be loaded.
    pub(crate) fn check(config: &Path, folder: &Path) -> Result<(), LoadProvidersError> {
        config::load(config, folder).map(drop)
    }

    pub(super) fn forget(&self, uid: &PodUid) {
        if let Some(accounts) = &self.accounts {
            accounts.tokens.forget(uid);
        }
    }

    /// The credentials that the plugins give for an image of a pod, and why others give none.
    pub(super) async fn entries(
        &self,
        pod: &Pod,
        image: &str,
        now: Timestamp,
    ) -> (Vec<Provided>, Vec<String>) {
        let (mut all, mut failures) = (Vec::new(), Vec::new());
        for provider in &self.providers {
            if !provider.match_images.iter().any(|it| matching::matches(it, image)) {
                continue;
            }
            let account = match &provider.token_attributes {
                None => None,
                Some(attributes) => match self.account(pod, attributes, now).await {
                    Ok(account) => account,
                    Err(why) => {
                        let pod = pod.full_name();
                        debug!(plugin = provider.name, pod, why, "a plugin is not asked");
                        continue;
                    }
                },
            };
            let entries = match self.of(provider, image, account.as_ref(), now).await {
                Ok(entries) => entries,
                Err(error) => {
                    failures.push(error.to_string());
                    continue;
                }
            };
            let account = account.map(|it| identity(&it));
            all.extend(entries.into_iter().map(|(pattern, entry)| Provided {
                pattern,
                entry,
                account: account.clone(),
            }));
        }
        (all, failures)
    }

    /// The pod's service account with what a plugin wants to know of it. `None` where the pod has none and
    /// the plugin does without.
    async fn account(
        &self,
        pod: &Pod,
        attributes: &TokenAttributes,
        now: Timestamp,
    ) -> Result<Option<Account>, String> {
        let name = PodExt::spec(pod).service_account_name.clone().unwrap_or_default();
        if name.is_empty() {
            return match attributes.require_service_account {
                Some(false) => Ok(None),
                _ => Err("it has no service account".to_owned()),
            };
        }
        let Some(Accounts { client, tokens }) = &self.accounts else { return Ok(None) };
        let namespace = pod.namespace().to_owned();
        let api = Api::<ServiceAccount>::namespaced(client.clone(), &namespace);
        let found = match tokio::time::timeout(LIMIT, api.get(&name)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                let error = telemetry::chain(&error).to_string();
                warn!(namespace, name, error, "Failed to get service account");
                return Err(error);
            }
            Err(_) => return Err("the API server did not answer".to_owned()),
        };
        let theirs = found.metadata.annotations.unwrap_or_default();
        let annotations = annotations(attributes, &theirs)?;
        let audience = &attributes.service_account_token_audience;
        let token = tokens.get(client, pod, audience, None, now).await.map_err(|error| {
            let error = telemetry::chain(&error).to_string();
            warn!(namespace, name, error, "Error getting service account token");
            error
        })?;
        let uid = found.metadata.uid.unwrap_or_default();
        Ok(Some(Account { namespace, name, uid, annotations, token: token.text }))
    }

    async fn of(
        &self,
        provider: &Arc<Provider>,
        image: &str,
        account: Option<&Account>,
        now: Timestamp,
    ) -> Result<Vec<(String, Entry)>, RunPluginError> {
        let whom = whom(provider, account);
        if let Some(entries) = self.cached(&provider.name, image, &whom, now) {
            return Ok(entries);
        }
        let answered = self.ask(provider, image, account);
        match answered.await {
            Ok(response) => Ok(self.keep(provider, image, whom, &response, now)),
            Err(error) => {
                warn!(%error, image, "Failed getting credential from external registry credential provider");
                Err(error)
            }
        }
    }

    fn cached(
        &self,
        provider: &str,
        image: &str,
        whom: &str,
        now: Timestamp,
    ) -> Option<Vec<(String, Entry)>> {
        let mut cache = self.cache.lock();
        cache.retain(|_, it| now < it.until);
        let key = |of: &str| (provider.to_owned(), of.to_owned(), whom.to_owned());
        let mut found = [image, registry(image), GLOBAL].into_iter().map(key);
        found.find_map(|key| cache.get(&key)).map(|it| it.entries.clone())
    }

    /// The answer of a plugin, which others may be waiting for as well.
    fn ask(
        &self,
        provider: &Arc<Provider>,
        image: &str,
        account: Option<&Account>,
    ) -> Shared<Asked> {
        // Annotations and the token itself are part of the question.
        let whom = account.map(|it| format!("{}{}", identity(it), hash(&it.token)));
        let key = (provider.name.clone(), image.to_owned(), whom.unwrap_or_default());
        let mut under_way = self.under_way.lock();
        let known = under_way.get(&key).and_then(WeakShared::upgrade);
        if let Some(known) = known.filter(|it| it.peek().is_none()) {
            return known;
        }
        let question = Question {
            provider: provider.clone(),
            folder: self.folder.clone(),
            image: image.to_owned(),
            account: account.cloned(),
        };
        let asked = measured(question, self.metrics.clone()).boxed().shared();
        under_way.retain(|_, it| it.upgrade().is_some());
        under_way.extend(asked.downgrade().map(|it| (key, it)));
        asked
    }

    fn keep(
        &self,
        provider: &Provider,
        image: &str,
        whom: String,
        response: &Response,
        now: Timestamp,
    ) -> Vec<(String, Entry)> {
        let of = match response.cache_key_type.as_str() {
            "Image" => image,
            "Registry" => registry(image),
            "Global" => GLOBAL,
            other => {
                let plugin = &provider.name;
                warn!(
                    plugin,
                    given = other,
                    "credential provider plugin did not return a valid cacheKeyType"
                );
                return Vec::new();
            }
        };
        let pairs = response.auth.iter().flatten();
        let entry = |it: &super::plugin::Pair| Entry::new(it.username.clone(), it.password.clone());
        let entries: Vec<_> = pairs.map(|(pattern, it)| (pattern.clone(), entry(it))).collect();
        let life = response.cache_duration.or(provider.default_cache_duration);
        let life = life.map_or(Duration::ZERO, |it| it.0);
        if !life.is_zero() {
            let cached = Cached { until: now + life, entries: entries.clone() };
            let key = (provider.name.clone(), of.to_owned(), whom);
            self.cache.lock().insert(key, cached);
        }
        entries
    }
}

async fn measured(question: Question, metrics: Arc<Metrics>) -> Answer {
    let (provider, begun) = (question.provider.clone(), Instant::now());
    let answer = question.ask().await;
    let labels = [("plugin_name", provider.name.as_str())];
    metrics.observe("kubelet_credential_provider_plugin_duration", &labels, begun.elapsed());
    if matches!(answer, Err(RunPluginError::Failed { .. })) {
        metrics.add("kubelet_credential_provider_plugin_errors", &labels, 1.0);
    }
    answer
}

/// Which of an account's annotations a plugin is told; one that it needs must be there.
fn annotations(
    attributes: &TokenAttributes,
    theirs: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut told = BTreeMap::new();
    for key in &attributes.required_service_account_annotation_keys {
        let value =
            theirs.get(key).ok_or_else(|| format!("required annotation {key} not found"))?;
        told.insert(key.clone(), value.clone());
    }
    for key in &attributes.optional_service_account_annotation_keys {
        told.extend(theirs.get(key).map(|it| (key.clone(), it.clone())));
    }
    Ok(told)
}

/// Whom an answer is good for.
fn whom(provider: &Provider, account: Option<&Account>) -> String {
    let Some(account) = account else { return String::new() };
    let attributes = provider.token_attributes.as_ref();
    match attributes.is_some_and(|it| it.cache_type == "Token") {
        true => format!("{}{}", identity(account), hash(&account.token)),
        false => identity(account),
    }
}

fn identity(account: &Account) -> String {
    let Account { namespace, name, uid, annotations, .. } = account;
    serde_json::json!([namespace, name, uid, annotations]).to_string()
}

fn hash(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn registry(image: &str) -> &str {
    image.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
