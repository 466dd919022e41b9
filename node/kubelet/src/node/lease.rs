//! The node's lease: the heartbeat by which the control plane knows that the node lives.
//!
//! Upstream: renewed every quarter of its duration, in `kube-node-lease`.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::Node,
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tracing::debug;

use crate::context::Context;

const NAMESPACE: &str = "kube-node-lease";
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(7);

pub(super) async fn run(context: Arc<Context>) {
    let seconds = context.settings.config.node_lease_duration_seconds;
    let period = Duration::from_secs(u64::try_from(seconds).unwrap_or(40)) / 4;
    let mut exists = false;
    let mut retry = FIRST_RETRY;
    loop {
        let result = tokio::time::timeout(period, renew(&context, seconds, exists)).await;
        match result {
            Ok(Ok(())) => {
                exists = true;
                retry = FIRST_RETRY;
                tokio::time::sleep(period).await;
            }
            failed => {
                if let Ok(Err(error)) = failed {
                    exists &= !matches!(&error, kube::Error::Api(it) if it.is_not_found());
                    debug!(error = %telemetry::chain(&error), "the lease was not renewed");
                }
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(LONGEST_RETRY);
            }
        }
    }
}

async fn renew(context: &Context, seconds: i32, exists: bool) -> Result<(), kube::Error> {
    let api = Api::<Lease>::namespaced(context.client.clone(), NAMESPACE);
    let name = &context.settings.node_name;
    let now = MicroTime(context.clock.now());
    if exists {
        let patch = json!({ "spec": { "renewTime": now } });
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        return Ok(());
    }
    if api.get_opt(name).await?.is_some() {
        let patch = json!({
            "spec": { "holderIdentity": name, "leaseDurationSeconds": seconds, "renewTime": now }
        });
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        return Ok(());
    }
    let node = Api::<Node>::all(context.client.clone()).get(name).await?;
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: name.clone(),
        uid: node.metadata.uid.unwrap_or_default(),
        ..OwnerReference::default()
    };
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(NAMESPACE.to_owned()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(name.clone()),
            lease_duration_seconds: Some(seconds),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    };
    api.create(&PostParams::default(), &lease).await?;
    Ok(())
}
