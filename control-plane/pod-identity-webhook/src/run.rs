//! The webhook as it runs: asks the API server who a pod's account is, and watches pods whose
//! account changes under them.

use std::{sync::Arc, time::Duration};

use clock::Clock;
use controller::{Action, ApplyError, Change, Key, Queue, Recorder, Store, StoreSpec};
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    core::v1::{Container, Pod, PodSpec, PodStatus, ServiceAccount, Volume},
};
use kube::{Api, Client};
use lifecycle::Scope;
use serde_json::Value;

use crate::{
    Associations, Config, Endpoint, Mutation, Subject, WebhookService, audit, definition,
    mutate::{self, mutate},
};

/// Below the ten seconds that the API server waits.
const READ_LIMIT: Duration = Duration::from_secs(5);
const BY_ACCOUNT: &str = "account";
/// Pods looked at at once.
const PODS: usize = 4;

/// See the module. Clones share everything.
#[derive(Clone)]
pub struct Webhook(Arc<Inner>);

struct Inner {
    client: Client,
    config: Config,
    associations: Arc<dyn Associations>,
}

impl Webhook {
    /// `client` may read service accounts. [`run`] needs more: pods, events, and its configuration.
    pub fn new(client: Client, config: Config, associations: Arc<dyn Associations>) -> Self {
        Self(Arc::new(Inner { client, config, associations }))
    }

    /// `POST /mutate`, and `GET /healthz`.
    pub fn service(&self) -> WebhookService {
        WebhookService(self.clone())
    }

    /// Makes the MutatingWebhookConfiguration; tries until the API server takes it. From then on new
    /// pods are brought before the webhook: it should listen already.
    pub async fn announce(&self, endpoint: &Endpoint) {
        let wanted = definition::configuration(endpoint, &self.0.config);
        definition::ensure(&self.0.client, &wanted).await;
    }

    /// What a new pod of this namespace gets. A pod whose account cannot be read gets nothing, and its
    /// creator is told.
    pub(crate) async fn mutation(&self, namespace: &str, pod: &Value) -> Mutation {
        let name = account_name(pod);
        let api = Api::<ServiceAccount>::namespaced(self.0.client.clone(), namespace);
        let account = match tokio::time::timeout(READ_LIMIT, api.get_opt(name)).await {
            Ok(Ok(account)) => account,
            Ok(Err(error)) => return unread(name, &telemetry::chain(&error).to_string()),
            Err(_) => return unread(name, "the API server did not answer in time"),
        };
        let account = account.and_then(|it| serde_json::to_value(it).ok());
        let subject = Subject {
            account: account.as_ref(),
            is_associated: self.0.associations.has(namespace, name).await,
            jitter: i64::try_from(entropy::below(Subject::JITTER as u64 + 1)).unwrap_or(0),
        };
        mutate(pod, subject, &self.0.config)
    }
}

fn unread(account: &str, why: &str) -> Mutation {
    tracing::warn!(account, why, "a pod is created without looking for credentials");
    let warning = format!(
        "the service account {account:?} could not be read ({why}): the pod is created without AWS \
         credentials of its own"
    );
    Mutation { patch: Vec::new(), warnings: vec![warning] }
}

fn account_name(pod: &Value) -> &str {
    pod["spec"]["serviceAccountName"].as_str().filter(|it| !it.is_empty()).unwrap_or("default")
}

/// Keeps the configuration as it should be, and makes events of pods that have not the credentials
/// that their account names. Runs until `scope` is cancelled.
pub async fn run(webhook: Webhook, endpoint: Endpoint, clock: Clock, scope: Scope) {
    webhook.announce(&endpoint).await;
    let client = webhook.0.client.clone();
    let watcher = Arc::new(Watcher {
        recorder: Recorder::new(client.clone(), "pod-identity-webhook", clock, &scope),
        pods: controller::reflect(client.clone(), pods(), &scope),
        accounts: controller::reflect(client.clone(), accounts(), &scope),
        queue: Queue::new(),
        webhook,
    });
    watcher.pods.synced().await;
    watcher.accounts.synced().await;
    watcher.connect();
    let looking = watcher.clone();
    let pods = controller::run("pod-identity-audit", watcher.queue.clone(), PODS, move |key| {
        let watcher = looking.clone();
        async move { watcher.look(&key).await }
    });
    tokio::join!(pods, watcher.keep_configured(endpoint, scope.clone()));
}

struct Watcher {
    webhook: Webhook,
    recorder: Recorder,
    pods: Store<Pod>,
    accounts: Store<ServiceAccount>,
    queue: Queue<Key>,
}

impl Watcher {
    /// New pods, and those whose account says something else than before.
    fn connect(self: &Arc<Self>) {
        let queue = self.queue.clone();
        self.pods.subscribe(move |change: &Change<Pod>| {
            let Some(new) = &change.new else { return };
            let is_known =
                change.old.as_ref().is_some_and(|it| it.metadata.uid == new.metadata.uid);
            if !is_known {
                queue.add(change.key.clone());
            }
        });
        let (queue, pods) = (self.queue.clone(), self.pods.clone());
        self.accounts.subscribe(move |change: &Change<ServiceAccount>| {
            let Some(new) = &change.new else { return };
            let is_same =
                |it: &Arc<ServiceAccount>| it.metadata.annotations == new.metadata.annotations;
            if change.old.as_ref().is_some_and(is_same) {
                return;
            }
            let account = filed_under(&change.key.namespace, &change.key.name);
            for pod in pods.indexed(BY_ACCOUNT, &account) {
                queue.add(Key::of(&*pod));
            }
        });
    }

    async fn look(&self, key: &Key) -> Result<Action, ApplyError> {
        let Some(pod) = self.pods.get(key) else { return Ok(Action::Done) };
        let other = |error: serde_json::Error| ApplyError::other(error.to_string());
        let shown = serde_json::to_value(&*pod).map_err(other)?;
        let name = account_name(&shown);
        let account = self.accounts.get(&Key::new(key.namespace.clone(), name));
        let account = account.map(|it| serde_json::to_value(&*it)).transpose().map_err(other)?;
        let inner = &self.webhook.0;
        let is_associated = inner.associations.has(&key.namespace, name).await;
        let subject = Subject { account: account.as_ref(), is_associated, jitter: 0 };
        for finding in audit(&shown, subject, &inner.config) {
            self.recorder.warn(&*pod, finding.reason, finding.message);
        }
        Ok(Action::Done)
    }

    /// Whoever changes or deletes the configuration finds it as before.
    async fn keep_configured(&self, endpoint: Endpoint, scope: Scope) {
        let spec = StoreSpec::default().fields(&format!("metadata.name={}", definition::NAME));
        let client = self.webhook.0.client.clone();
        let store = controller::reflect::<MutatingWebhookConfiguration>(client, spec, &scope);
        let queue = Queue::new();
        let changed = queue.clone();
        store.synced().await;
        store.subscribe(move |change: &Change<MutatingWebhookConfiguration>| {
            changed.add(change.key.clone());
        });
        controller::run("pod-identity-configuration", queue, 1, |_| async {
            self.webhook.announce(&endpoint).await;
            Ok(Action::Done)
        })
        .await;
    }
}

fn filed_under(namespace: &str, account: &str) -> String {
    format!("{namespace}/{account}")
}

/// Of pods is kept what [`audit`] reads.
fn pods() -> StoreSpec<Pod> {
    let spec = StoreSpec::<Pod>::default().trim(|pod| {
        let metadata = &mut pod.metadata;
        (metadata.owner_references, metadata.managed_fields) = (None, None);
        if let Some(annotations) = &mut metadata.annotations {
            annotations.retain(|key, _| key == audit::MIRROR);
        }
        if let Some(labels) = &mut metadata.labels {
            labels.retain(|key, _| key.ends_with(audit::SKIP));
        }
        pod.spec = pod.spec.take().map(|spec| PodSpec {
            service_account_name: spec.service_account_name,
            volumes: Some(ours(spec.volumes.unwrap_or_default())),
            containers: variables(spec.containers),
            init_containers: spec.init_containers.map(variables),
            ..PodSpec::default()
        });
        let phase = pod.status.take().and_then(|it| it.phase);
        pod.status = Some(PodStatus { phase, ..PodStatus::default() });
    });
    spec.index(BY_ACCOUNT, |pod| {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let account = pod.spec.as_ref().and_then(|it| it.service_account_name.as_deref());
        vec![filed_under(namespace, account.unwrap_or("default"))]
    })
}

fn ours(volumes: Vec<Volume>) -> Vec<Volume> {
    let names = [mutate::WEB_IDENTITY_VOLUME, mutate::POD_IDENTITY_VOLUME];
    let ours = volumes.into_iter().filter(|it| names.contains(&it.name.as_str()));
    ours.map(|it| Volume { name: it.name, ..Volume::default() }).collect()
}

fn variables(containers: Vec<Container>) -> Vec<Container> {
    let of = |mut it: Container| {
        if let Some(variables) = &mut it.env {
            variables.retain(|it| it.name.starts_with("AWS_"));
        }
        Container { name: it.name, env: it.env, ..Container::default() }
    };
    containers.into_iter().map(of).collect()
}

fn accounts() -> StoreSpec<ServiceAccount> {
    StoreSpec::default().trim(|account| {
        (account.secrets, account.image_pull_secrets) = (None, None);
    })
}
