//! Follows the `aws-auth` ConfigMap of a cluster.
//!
//! What was read last counts until something newer is read: an API server that does not answer locks
//! nobody out. A ConfigMap that is gone maps nobody.
//!
//! Upstream: pkg/mapper/configmap.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, runtime::watcher};
use parking_lot::RwLock;

use crate::{AwsAuth, Identity, Mapping};

pub const NAMESPACE: &str = "kube-system";
pub const NAME: &str = "aws-auth";

/// How long to wait before a watch that failed is begun again.
const PAUSE: Duration = Duration::from_secs(1);

/// The mappings of one cluster's ConfigMap. Clones share them.
#[derive(Clone, Default)]
pub struct ConfigMapMappings(Arc<RwLock<AwsAuth>>);

impl ConfigMapMappings {
    pub fn find(&self, identity: &Identity) -> Option<Mapping> {
        self.0.read().find(identity)
    }

    /// Keeps the mappings equal to the ConfigMap, until it is dropped.
    pub async fn follow(self, client: Client) {
        let api = Api::<ConfigMap>::namespaced(client, NAMESPACE);
        let mut objects = pin!(watcher::watch_object(api, NAME));
        while let Some(object) = objects.next().await {
            match object {
                Ok(object) => self.learn(object.as_ref()),
                Err(error) => {
                    warn_of(&error);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn learn(&self, object: Option<&ConfigMap>) {
        let data = object.and_then(|it| it.data.clone()).unwrap_or_default();
        let (found, errors) = AwsAuth::read(&data);
        for error in &errors {
            let error: &dyn std::error::Error = error;
            tracing::warn!(error, "aws-auth has an entry that counts for nothing");
        }
        *self.0.write() = found;
    }
}

fn warn_of(error: &watcher::Error) {
    let error: &dyn std::error::Error = error;
    tracing::warn!(error, "watching aws-auth failed");
}
