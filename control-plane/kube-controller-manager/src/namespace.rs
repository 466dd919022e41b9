//! Empties a namespace that is being deleted, and then lets it go.
//!
//! Pods go first, so that nothing they need is taken from under them; then everything else; when
//! nothing is left, the namespace's own finalizer is removed. What is in the way is said in the
//! namespace's conditions: an aggregated API that is down, too, as nobody knows what it has there.
//!
//! Upstream: `pkg/controller/namespace/deletion`.

mod conditions;

use std::time::Duration;

use controller::{Action, ApplyError, Queue};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::{DynamicObject, PartialObjectMeta},
};
use serde_json::json;
use tracing::debug;

use self::conditions::Findings;
use crate::{
    Context,
    discovery::{self, Kind},
};

const FINALIZER: &str = "kubernetes";
/// How soon to look whether what was deleted is gone: containers take their time to stop.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

pub(crate) async fn run(context: Context) {
    let queue = Queue::new();
    let on = queue.clone();
    context.caches.namespaces.subscribe(move |change| {
        let terminates = |it: &Namespace| it.metadata.deletion_timestamp.is_some();
        if change.new.as_deref().is_some_and(terminates) {
            on.add(change.key.name.clone());
        }
    });
    controller::run("namespace", queue, 10, |it| reconcile(&context, it)).await;
}

async fn reconcile(context: &Context, name: String) -> Result<Action, ApplyError> {
    let api = Api::<Namespace>::all(context.client.clone());
    let failed = |source| ApplyError::new::<Namespace>("empty", &name, source);
    // Not from the cache: it is written back below.
    let Some(namespace) = api.get_opt(&name).await.map_err(failed)? else {
        return Ok(Action::Done);
    };
    if namespace.metadata.deletion_timestamp.is_none() || !is_held(&namespace) {
        return Ok(Action::Done);
    }
    let findings = empty(context, &name).await;
    write_conditions(context, &api, &namespace, &findings).await?;
    if let Some(error) = findings.first_error() {
        return Err(ApplyError::other(format!("namespace `{name}` is not empty: {error}")));
    }
    if !findings.is_empty() {
        debug!(namespace = name, "content remains");
        return Ok(Action::After(LOOK_AGAIN));
    }
    finalize(&api, &name).await.map_err(failed)?;
    Ok(Action::Done)
}

fn is_held(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.iter().flat_map(|it| it.finalizers.iter().flatten());
    finalizers.into_iter().any(|it| it == FINALIZER)
}

async fn empty(context: &Context, namespace: &str) -> Findings {
    let mut findings = Findings::default();
    // What is stale first: what is told of afterwards is then at least as new.
    let stale = discovery::stale(&context.client).await;
    let kinds = match discovery::kinds(&context.client).await {
        Ok(kinds) => kinds,
        Err(error) => {
            findings.discovery = Some(telemetry::chain(&error).to_string());
            return findings;
        }
    };
    findings.undiscovered(&stale);
    let is_stale = |it: &Kind| stale.iter().any(|(version, _)| *version == it.resource.api_version);
    let namespaced = kinds.into_iter().filter(|it| it.is_namespaced && !is_stale(it));
    let (pods, others): (Vec<_>, Vec<_>) =
        namespaced.partition(|it| it.resource.group.is_empty() && it.resource.plural == "pods");
    for kind in &pods {
        empty_of(context, namespace, kind, &mut findings).await;
    }
    if findings.holds_back() {
        return findings;
    }
    for kind in &others {
        empty_of(context, namespace, kind, &mut findings).await;
    }
    findings
}

async fn empty_of(context: &Context, namespace: &str, kind: &Kind, findings: &mut Findings) {
    let client = context.client.clone();
    let api = Api::<DynamicObject>::namespaced_with(client, namespace, &kind.resource);
    match delete_all(&api, kind).await {
        Ok(left) => findings.add(kind, &left),
        // A kind that went away meanwhile has no objects.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.code == 405 => {}
        Err(error) => findings.content.push(telemetry::chain(&error).to_string()),
    }
}

type Left = Vec<PartialObjectMeta<DynamicObject>>;

/// Deletes all objects of a kind. Returns what is still there.
async fn delete_all(api: &Api<DynamicObject>, kind: &Kind) -> Result<Left, kube::Error> {
    let all = ListParams::default();
    let found = api.list_metadata(&all).await?;
    if found.items.is_empty() {
        return Ok(Vec::new());
    }
    let background = DeleteParams::background();
    let mut is_done = false;
    if kind.deletes_collections {
        is_done = match api.delete_collection(&background, &all).await {
            Ok(_) => true,
            Err(kube::Error::Api(status)) if status.code == 405 => false,
            Err(error) => return Err(error),
        };
    }
    for object in found.items.iter().filter(|_| !is_done) {
        match api.delete(&object.name_any(), &background).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Ok(api.list_metadata(&all).await?.items)
}

async fn write_conditions(
    context: &Context,
    api: &Api<Namespace>,
    namespace: &Namespace,
    findings: &Findings,
) -> Result<(), ApplyError> {
    let known = namespace.status.as_ref().and_then(|it| it.conditions.clone()).unwrap_or_default();
    let Some(conditions) = findings.conditions(&known, context.clock.now()) else {
        return Ok(());
    };
    let name = namespace.name_any();
    let patch = json!({ "status": { "conditions": conditions } });
    match api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(ApplyError::new::<Namespace>("patch the status of", &name, source)),
    }
}

/// Takes our finalizer off; with the last one gone, the API server deletes the namespace.
async fn finalize(api: &Api<Namespace>, name: &str) -> Result<(), kube::Error> {
    let Some(mut namespace) = api.get_opt(name).await? else { return Ok(()) };
    if let Some(finalizers) = namespace.spec.as_mut().and_then(|it| it.finalizers.as_mut()) {
        finalizers.retain(|it| it != FINALIZER);
    }
    let parameters = PostParams::default();
    match api.replace_subresource("finalize", name, &parameters, &namespace).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}
