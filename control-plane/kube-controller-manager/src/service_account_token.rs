//! Fills the Secrets of type `kubernetes.io/service-account-token`: each gets a token of the account
//! that it names, and goes with that account.
//!
//! Such a token has no end: it is good for as long as its Secret holds it. Whoever needs one makes the
//! Secret; none is made by itself.
//!
//! Upstream: `pkg/controller/serviceaccount/tokens_controller.go` (`serviceaccount-token-controller`).

mod sign;

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use controller::{Action, ApplyError, Change, Key, Queue, apply, object};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::{Api, Resource, ResourceExt, core::NamespaceResourceScope};
use pki::ServiceAccountKey;
use serde_json::{Value, json};

use crate::Context;

pub(crate) const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
pub(crate) const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Item {
    Secret(Key),
    /// A Secret that is gone, and the account that may still name it.
    Gone {
        secret: Key,
        account: String,
    },
}

pub(crate) async fn run(context: Context) {
    let Some(key) = context.config.service_account_key.clone() else {
        tracing::warn!(
            "serviceaccount-token-controller is disabled because there is no private key"
        );
        return;
    };
    let queue = Queue::new();
    let on = queue.clone();
    context.caches.token_secrets.subscribe(move |change| secret_changed(change, &on));
    let (on, secrets) = (queue.clone(), context.caches.token_secrets.clone());
    context.caches.service_accounts.subscribe(move |change| {
        for secret in secrets.in_namespace(&change.key.namespace) {
            if annotation(&secret, ACCOUNT_NAME) == change.key.name {
                on.add(Item::Secret(Key::of(&*secret)));
            }
        }
    });
    controller::run("serviceaccount-token", queue, 5, |it| reconcile(&context, &key, it)).await;
}

fn secret_changed(change: &Change<Secret>, queue: &Queue<Item>) {
    if let (Some(old), None) = (&change.old, &change.new) {
        let account = annotation(old, ACCOUNT_NAME).to_owned();
        queue.add(Item::Gone { secret: change.key.clone(), account });
    }
    queue.add(Item::Secret(change.key.clone()));
}

pub(crate) fn annotation<'a>(secret: &'a Secret, name: &str) -> &'a str {
    object::annotation(secret, name).unwrap_or_default()
}

async fn reconcile(
    context: &Context,
    key: &ServiceAccountKey,
    item: Item,
) -> Result<Action, ApplyError> {
    match item {
        Item::Secret(it) => fill(context, key, &it).await?,
        Item::Gone { secret, account } => forget(context, &secret, &account).await?,
    }
    Ok(Action::Done)
}

/// What a Secret lacks.
#[derive(Debug, Default, PartialEq, Eq)]
struct Missing {
    ca: bool,
    namespace: bool,
    token: bool,
}

impl Missing {
    fn of(secret: &Secret, root_ca: &str) -> Self {
        let data = |key: &str| {
            let found = secret.data.as_ref().and_then(|it| it.get(key));
            found.map_or(&[][..], |it| it.0.as_slice())
        };
        Self {
            ca: !root_ca.is_empty() && data("ca.crt") != root_ca.as_bytes(),
            namespace: data("namespace").is_empty(),
            token: data("token").is_empty(),
        }
    }

    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether a Secret is for this account, and not for an earlier one of its name.
pub(crate) fn is_of(secret: &Secret, account: &ServiceAccount) -> bool {
    let uid = annotation(secret, ACCOUNT_UID);
    annotation(secret, ACCOUNT_NAME) == account.name_any()
        && (uid.is_empty() || account.metadata.uid.as_deref() == Some(uid))
}

async fn fill(context: &Context, key: &ServiceAccountKey, at: &Key) -> Result<(), ApplyError> {
    let Some(secret) = context.caches.token_secrets.get(at) else { return Ok(()) };
    let Some(account) = account_of(context, &secret).await? else {
        return apply::delete(&context.client, &*secret).await;
    };
    let missing = Missing::of(&secret, &context.config.root_ca_pem);
    if missing.is_nothing() || object::is_terminating(&*secret) {
        return Ok(());
    }
    let mut data = serde_json::Map::new();
    let mut put = |key: &str, value: &str| {
        data.insert(key.to_owned(), Value::from(BASE64_STANDARD.encode(value)));
    };
    if missing.ca {
        put("ca.crt", &context.config.root_ca_pem);
    }
    if missing.namespace {
        put("namespace", &at.namespace);
    }
    if missing.token {
        let claims = sign::claims(&account, &at.name);
        let token = sign::sign(key, &claims);
        put("token", &token.map_err(|it| ApplyError::other(format!("cannot sign: {it}")))?);
    }
    // On what was seen: a token that is there is not written over.
    let patch = json!({
        "metadata": {
            "uid": secret.metadata.uid, "resourceVersion": secret.metadata.resource_version,
            "annotations": { ACCOUNT_NAME: account.name_any(), ACCOUNT_UID: account.metadata.uid },
        },
        "data": data,
    });
    gone_is_fine(apply::patch::<Secret>(&context.client, &at.namespace, &at.name, &patch).await)
}

/// The account that a Secret is for. Before a Secret goes for want of it, the API server is asked.
async fn account_of(
    context: &Context,
    secret: &Secret,
) -> Result<Option<Arc<ServiceAccount>>, ApplyError> {
    let namespace = secret.namespace().unwrap_or_default();
    let name = annotation(secret, ACCOUNT_NAME);
    let known = context.caches.service_accounts.get(&Key::new(&namespace, name));
    if let Some(account) = known.filter(|it| is_of(secret, it)) {
        return Ok(Some(account));
    }
    let found = live::<ServiceAccount>(context, &namespace, name).await?;
    Ok(found.filter(|it| is_of(secret, it)).map(Arc::new))
}

async fn live<K>(context: &Context, namespace: &str, name: &str) -> Result<Option<K>, ApplyError>
where
    K: apply::Object + Resource<Scope = NamespaceResourceScope>,
{
    let api: Api<K> = apply::api(&context.client, namespace);
    api.get_opt(name).await.map_err(|source| ApplyError::new::<K>("get", name, source))
}

/// An account does not name a Secret that is gone.
async fn forget(context: &Context, secret: &Key, account: &str) -> Result<(), ApplyError> {
    let namespace = &secret.namespace;
    let names = |it: &ServiceAccount| {
        let mut secrets = it.secrets.iter().flatten();
        secrets.any(|it| it.name.as_deref() == Some(&secret.name))
    };
    let known = context.caches.service_accounts.get(&Key::new(namespace, account));
    if !known.is_some_and(|it| names(&it)) {
        return Ok(());
    }
    if live::<Secret>(context, namespace, &secret.name).await?.is_some() {
        return Ok(());
    }
    let Some(account) = live::<ServiceAccount>(context, namespace, account).await? else {
        return Ok(());
    };
    let kept: Vec<_> = account
        .secrets
        .iter()
        .flatten()
        .filter(|it| it.name.as_deref() != Some(&secret.name))
        .collect();
    let meta = &account.metadata;
    let patch = json!({
        "metadata": { "uid": meta.uid, "resourceVersion": meta.resource_version },
        "secrets": kept,
    });
    let name = account.name_any();
    gone_is_fine(apply::patch::<ServiceAccount>(&context.client, namespace, &name, &patch).await)
}

fn gone_is_fine<K>(patched: Result<K, ApplyError>) -> Result<(), ApplyError> {
    match patched {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(value: Value) -> Secret {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_secret_gets_what_it_lacks_and_another_ca_is_replaced() {
        let with = |data: Value| secret(json!({ "data": data }));
        let of = |it: &Secret| {
            let Missing { ca, namespace, token } = Missing::of(it, "CA");
            (ca, namespace, token)
        };
        let text = |it: &str| BASE64_STANDARD.encode(it);
        assert_eq!(of(&Secret::default()), (true, true, true));
        let full = json!({ "ca.crt": text("CA"), "namespace": text("ns"), "token": text("t") });
        assert_eq!(of(&with(full.clone())), (false, false, false));
        let mut other = full.clone();
        other["ca.crt"] = text("old").into();
        assert_eq!(of(&with(other)), (true, false, false));
        let mut revoked = full;
        revoked["token"] = "".into();
        assert_eq!(of(&with(revoked)), (false, false, true));
        assert!(!Missing::of(&Secret::default(), "").ca, "there is none to give");
    }

    #[test]
    fn a_secret_of_an_earlier_account_of_the_name_is_not_this_ones() {
        let account: ServiceAccount =
            serde_json::from_value(json!({ "metadata": { "name": "web", "uid": "1" } })).unwrap();
        for (name, uid, expected) in
            [("web", "1", true), ("web", "", true), ("web", "0", false), ("api", "1", false)]
        {
            let annotations = json!({ ACCOUNT_NAME: name, ACCOUNT_UID: uid });
            let secret = secret(json!({ "metadata": { "annotations": annotations } }));
            assert_eq!(is_of(&secret, &account), expected, "{name} {uid}");
        }
    }
}
