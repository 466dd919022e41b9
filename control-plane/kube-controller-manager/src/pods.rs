//! Questions about pods, and making them from templates.

use clock::Clock;
use controller::{ApplyError, Key, apply, object};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Pod, PodCondition, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::Client;
use serde_json::json;

/// Slow start: as long as all creations of a batch succeed, the next is twice as large.
const FIRST_BATCH: usize = 1;

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|it| it.phase.as_deref()).unwrap_or("Pending")
}

/// Succeeded or failed: it will never run again.
pub(crate) fn is_over(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Neither over nor on its way out.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_over(pod) && !object::is_terminating(pod)
}

pub(crate) fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|it| !it.is_empty())
}

pub(crate) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|it| it.type_ == kind)
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|it| it.status == "True")
}

/// The claims of volumes that it uses, by name; that of a generic ephemeral volume is made of the pod's
/// name and the volume's.
pub(crate) fn claims_of(pod: &Pod) -> impl Iterator<Item = String> {
    let own = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|it| it.volumes.iter().flatten());
    volumes.filter_map(move |it| match &it.persistent_volume_claim {
        Some(claim) => Some(claim.claim_name.clone()),
        None => it.ephemeral.as_ref().map(|_| format!("{own}-{}", it.name)),
    })
}

/// Since when it is ready.
pub(crate) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|it| it.status == "True")?;
    ready.last_transition_time.as_ref().map(|it| it.0)
}

/// Ready for at least so many seconds.
pub(crate) fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    if !is_ready(pod) {
        return false;
    }
    let needed = std::time::Duration::from_secs(u64::try_from(min_ready_seconds).unwrap_or(0));
    needed.is_zero() || ready_since(pod).is_some_and(|since| since + needed <= now)
}

/// Says in a pod's conditions why it goes, and deletes it.
pub(crate) async fn disrupt(
    client: &Client,
    pod: &Pod,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Result<(), ApplyError> {
    let key = Key::of(pod);
    let status = json!({ "conditions": with_disruption(pod, reason, message, now) });
    match apply::patch_status::<Pod, _>(client, &key.namespace, &key.name, &status).await {
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
        Ok(_) => apply::delete(client, pod).await,
    }
}

/// The pod's conditions with one more that says why it is deleted.
pub(crate) fn with_disruption(
    pod: &Pod,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Vec<PodCondition> {
    let known = pod.status.as_ref().and_then(|it| it.conditions.clone()).unwrap_or_default();
    let mut conditions: Vec<_> =
        known.into_iter().filter(|it| it.type_ != "DisruptionTarget").collect();
    conditions.push(PodCondition {
        type_: "DisruptionTarget".into(),
        status: "True".into(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(object::time(now)),
        ..PodCondition::default()
    });
    conditions
}

pub(crate) fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|it| it.container_statuses.iter().flatten());
    statuses.map(|it| it.restart_count).max().unwrap_or(0)
}

/// A pod of `template` that `owner` controls. The server completes its name.
pub(crate) fn from_template(
    template: &PodTemplateSpec,
    namespace: &str,
    owner: OwnerReference,
) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(generate_name(&owner.name)),
            namespace: Some(namespace.to_owned()),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        ..Pod::default()
    }
}

/// A prefix that leaves room for a five-letter suffix in a name of 63.
fn generate_name(owner: &str) -> String {
    let longest = 63 - 5 - 1;
    let cut = owner.char_indices().nth(longest).map_or(owner.len(), |(at, _)| at);
    format!("{}-", &owner[..cut])
}

/// How creating several pods went.
#[derive(Debug, Default)]
pub(crate) struct Created {
    pub(crate) pods: Vec<Pod>,
    /// Never tried, because an earlier batch failed.
    pub(crate) skipped: usize,
    pub(crate) errors: Vec<ApplyError>,
}

/// Creates pods in batches that double, and stops at the first batch with a failure, so that a
/// quota that is used up is hit once and not five hundred times.
pub(crate) async fn create_in_batches(client: &Client, pods: Vec<Pod>) -> Created {
    let mut created = Created::default();
    let mut waiting = pods.into_iter();
    let mut size = FIRST_BATCH;
    loop {
        let batch: Vec<_> = waiting.by_ref().take(size).collect();
        if batch.is_empty() {
            return created;
        }
        let results = stream::iter(batch)
            .map(|pod| async move { apply::create(client, &pod).await })
            .buffer_unordered(32)
            .collect::<Vec<_>>()
            .await;
        for result in results {
            match result {
                Ok(pod) => created.pods.push(pod),
                Err(error) => created.errors.push(error),
            }
        }
        if !created.errors.is_empty() {
            created.skipped = waiting.len();
            return created;
        }
        size *= 2;
    }
}

/// Namespaces that go away refuse new content; that is not worth an event or a retry.
pub(crate) fn is_namespace_terminating(error: &ApplyError) -> bool {
    let ApplyError::Api { source, .. } = error else { return false };
    let kube::Error::Api(status) = source.as_ref() else { return false };
    let causes = status.details.iter().flat_map(|it| &it.causes);
    causes.into_iter().any(|it| it.reason == "NamespaceTerminating")
        || (status.code == 403 && status.message.contains("because it is being terminated"))
}

/// How long until the youngest ready pod has been ready for `min_ready_seconds`.
pub(crate) fn until_available<'a>(
    pods: impl Iterator<Item = &'a Pod>,
    min_ready_seconds: i32,
    clock: &Clock,
) -> Option<std::time::Duration> {
    let needed = std::time::Duration::from_secs(u64::try_from(min_ready_seconds).unwrap_or(0));
    let now = clock.now();
    let due = pods.filter(|it| is_ready(it) && !is_available(it, min_ready_seconds, now));
    let due = due.filter_map(|it| Some(ready_since(it)? + needed));
    due.min().map(|at| clock.until(at))
}
