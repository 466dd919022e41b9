//! Gives each namespace its `default` service account and the ConfigMap with the cluster's CA.
//!
//! Upstream: `pkg/controller/serviceaccount` and `pkg/controller/certificates/rootcacertpublisher`.

use controller::{Action, ApplyError, Key, Queue, apply};
use k8s_openapi::{
    api::core::v1::{ConfigMap, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::json;

use crate::Context;

const PUBLISHER: &str = "root-ca-certificate-publisher-controller";
const ACCOUNT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";
const CA_KEY: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";

pub(crate) async fn run(context: Context) {
    let queue = Queue::new();
    let on = queue.clone();
    context.caches.namespaces.subscribe(move |it| on.add(it.key.name.clone()));
    let on = queue.clone();
    context.caches.service_accounts.subscribe(move |it| on.add(it.key.namespace.clone()));
    let on = queue.clone();
    context.caches.root_cas.subscribe(move |it| on.add(it.key.namespace.clone()));
    let publisher = context.of(PUBLISHER);
    controller::run("serviceaccount", queue, 4, |it| reconcile(&context, &publisher, it)).await;
}

async fn reconcile(
    context: &Context,
    publisher: &Context,
    namespace: String,
) -> Result<Action, ApplyError> {
    let Some(found) = context.caches.namespaces.get(&Key::cluster(&namespace)) else {
        return Ok(Action::Done);
    };
    if found.metadata.deletion_timestamp.is_some() {
        return Ok(Action::Done);
    }
    let found = context.caches.service_accounts.get(&Key::new(&namespace, ACCOUNT));
    if found.is_none() && context.is_on("serviceaccount-controller") {
        let account = ServiceAccount { metadata: meta(&namespace, ACCOUNT), ..Default::default() };
        accept(apply::create(&context.client, &account).await)?;
    }
    if publisher.is_on(PUBLISHER) {
        ensure_root_ca(publisher, &namespace).await?;
    }
    Ok(Action::Done)
}

async fn ensure_root_ca(context: &Context, namespace: &str) -> Result<(), ApplyError> {
    let wanted = &context.config.root_ca_pem;
    let found = context.caches.root_cas.get(&Key::new(namespace, ROOT_CA));
    let Some(found) = found else {
        let map = ConfigMap {
            metadata: ObjectMeta {
                annotations: Some([(DESCRIPTION.to_owned(), description())].into()),
                ..meta(namespace, ROOT_CA)
            },
            data: Some([(CA_KEY.to_owned(), wanted.clone())].into()),
            ..ConfigMap::default()
        };
        return accept(apply::create(&context.client, &map).await);
    };
    let is_right =
        found.data.as_ref().is_some_and(|it| it.len() == 1 && it.get(CA_KEY) == Some(wanted));
    if is_right {
        return Ok(());
    }
    // Whatever else somebody put there goes.
    let strangers = found.data.iter().flat_map(|it| it.keys()).filter(|it| *it != CA_KEY);
    let mut data: serde_json::Map<_, _> =
        strangers.map(|it| (it.clone(), serde_json::Value::Null)).collect();
    data.insert(CA_KEY.to_owned(), json!(wanted));
    let patch = json!({ "data": data });
    apply::patch::<ConfigMap>(&context.client, namespace, ROOT_CA, &patch).await?;
    Ok(())
}

fn description() -> String {
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
     endpoints such as the internal service IP or kubernetes.default.svc. No other usage is \
     guaranteed across distributions of Kubernetes clusters."
        .to_owned()
}

fn meta(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

/// It is there already, or its namespace goes: both are fine.
fn accept<K>(created: Result<K, ApplyError>) -> Result<(), ApplyError> {
    match created {
        Ok(_) => Ok(()),
        Err(error) if error.is_already_exists() || error.is_not_found() => Ok(()),
        Err(error) if crate::pods::is_namespace_terminating(&error) => Ok(()),
        Err(error) => Err(error),
    }
}
