//! Publishes what the API server's serving certificate is to be believed by, as the ClusterTrustBundle of
//! the signer `kubernetes.io/kube-apiserver-serving`.
//!
//! The bundle is named by its content: another content is another bundle, and the one before goes. An
//! API server without such bundles is left alone.
//!
//! Upstream: `pkg/controller/certificates/clustertrustbundlepublisher`.

use std::time::Duration;

use controller::{Action, ApplyError, Key, Queue, Store, StoreSpec, apply, reflect};
use k8s_openapi::{
    api::certificates::v1beta1::{ClusterTrustBundle, ClusterTrustBundleSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use tracing::{debug, info};

use crate::Context;

const SIGNER: &str = "kubernetes.io/kube-apiserver-serving";
const API_VERSION: &str = "certificates.k8s.io/v1beta1";
/// Of the hash, in its digits.
const HASH_LENGTH: usize = 24;
/// While the API server does not say what it serves.
const ASK_AGAIN: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(10);

pub(crate) async fn run(context: Context) {
    if !serves(&context.client, API_VERSION, "clustertrustbundles").await {
        info!("the API server has no ClusterTrustBundles: none is published");
        return;
    }
    let own = StoreSpec::default().fields(&format!("spec.signerName={SIGNER}"));
    let bundles: Store<ClusterTrustBundle> = reflect(context.client.clone(), own, &context.scope);
    bundles.synced().await;
    let queue = Queue::new();
    let on = queue.clone();
    bundles.subscribe(move |_| on.add(()));
    queue.add(());
    let name = "kube-apiserver-serving-clustertrustbundle-publisher";
    controller::run(name, queue, 1, |()| reconcile(&context, &bundles)).await;
}

/// Whether the API server has such objects: asks until there is an answer.
pub(crate) async fn serves(client: &Client, version: &str, plural: &str) -> bool {
    loop {
        let asked = client.list_api_group_resources(version);
        match tokio::time::timeout(LIMIT, asked).await {
            Ok(Ok(list)) => {
                return list.resources.iter().any(|it| it.name == plural);
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return false,
            Ok(Err(error)) => debug!(%error, "what the API server serves is not known"),
            Err(_) => debug!("the API server does not say what it serves"),
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

async fn reconcile(
    context: &Context,
    bundles: &Store<ClusterTrustBundle>,
) -> Result<Action, ApplyError> {
    let wanted = bundle(&context.config.root_ca_pem);
    let name = wanted.metadata.name.clone().unwrap_or_default();
    let api = Api::<ClusterTrustBundle>::all(context.client.clone());
    let failed = |action, source| ApplyError::new::<ClusterTrustBundle>(action, &name, source);
    let params = PostParams::default();
    match bundles.get(&Key::cluster(&name)) {
        None => match api.create(&params, &wanted).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            made => drop(made.map_err(|it| failed("create", it))?),
        },
        Some(found) if found.spec.trust_bundle == wanted.spec.trust_bundle => {}
        Some(found) => {
            let changed =
                ClusterTrustBundle { metadata: found.metadata.clone(), spec: wanted.spec };
            drop(api.replace(&name, &params, &changed).await.map_err(|it| failed("update", it))?);
        }
    }
    let others = bundles.all().into_iter().filter(|it| it.metadata.name.as_ref() != Some(&name));
    for other in others {
        apply::delete_with(&api, &*other, DeleteParams::default()).await?;
    }
    Ok(Action::Done)
}

fn bundle(pem: &str) -> ClusterTrustBundle {
    let hash = pki::fingerprint(pem.as_bytes());
    let name = format!("{}:{}", SIGNER.replace('/', ":"), &hash[..HASH_LENGTH]);
    ClusterTrustBundle {
        metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() },
        spec: ClusterTrustBundleSpec {
            signer_name: Some(SIGNER.to_owned()),
            trust_bundle: pem.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_named_by_its_signer_and_its_content() {
        let name = |pem: &str| bundle(pem).metadata.name.unwrap();
        // Twelve bytes of SHA-256.
        assert_eq!(name(""), "kubernetes.io:kube-apiserver-serving:e3b0c44298fc1c149afbf4c8");
        assert_ne!(name("a"), name("b"));
    }
}
