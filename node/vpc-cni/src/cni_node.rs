//! Tells the controller of VPC resources, by the node's CNINode, that this node wants a trunk, and by
//! which ENIConfig its branches are made.
//!
//! Upstream: `tryEnableSecurityGroupsForPods` and `AddFeatureToCNINode` in `pkg/ipamd`.

use std::{sync::Arc, time::Duration};

use api_kube::vpc_resources::{CUSTOM_NETWORKING, CniNode, Feature, SECURITY_GROUPS_FOR_PODS};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tracing::{error, info, warn};

use crate::{ipamd::Ipamd, metrics::labels};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Until it is told: the controller makes the CNINode some time after the Node.
pub async fn ask(client: Client, ipamd: Arc<Ipamd>, node: String) {
    let mut pause = FIRST_PAUSE;
    loop {
        match try_ask(&client, &ipamd, &node).await {
            Ok(Asked::Done) => return,
            Ok(Asked::NotYet) => {}
            Err(error) => {
                let function = labels(&[("fn", &"tryEnableSecurityGroupsForPods")]);
                ipamd.metrics.count_labelled("awscni_pod_eni_error_count", function);
                warn!(
                    node,
                    error = %telemetry::chain(&error),
                    "Failed to add feature {SECURITY_GROUPS_FOR_PODS} into CNINode"
                );
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

enum Asked {
    Done,
    NotYet,
}

async fn try_ask(client: &Client, ipamd: &Ipamd, node: &str) -> Result<Asked, kube::Error> {
    let api = Api::<CniNode>::all(client.clone());
    let Some(known) = api.get_opt(node).await? else { return Ok(Asked::NotYet) };
    let mut wanted = Vec::new();
    if ipamd.config().is_custom_networking {
        let Some(chosen) = ipamd.eni_config() else { return Ok(Asked::NotYet) };
        if chosen.name != "default" {
            wanted.push(feature(CUSTOM_NETWORKING, &chosen.name));
        }
    }
    if !ipamd.has_room_for_trunk() {
        error!("No slot available for a trunk ENI to be attached.");
        return Ok(Asked::NotYet);
    }
    wanted.push(feature(SECURITY_GROUPS_FOR_PODS, ""));
    let Some(features) = merged(&known.spec.features, wanted) else { return Ok(Asked::Done) };
    let patch = json!({
        // What another has added since must not be lost.
        "metadata": { "resourceVersion": known.metadata.resource_version },
        "spec": { "features": features },
    });
    api.patch(node, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    info!(node, ?features, "asked for a trunk");
    Ok(Asked::Done)
}

fn feature(name: &str, value: &str) -> Feature {
    Feature { name: name.to_owned(), value: value.to_owned() }
}

/// All features, in order; `None` where nothing is to be added.
fn merged(known: &[Feature], wanted: Vec<Feature>) -> Option<Vec<Feature>> {
    let missing: Vec<Feature> = wanted.into_iter().filter(|it| !known.contains(it)).collect();
    if missing.is_empty() {
        return None;
    }
    let is_replaced = |it: &&Feature| missing.iter().any(|new| new.name == it.name);
    let kept = known.iter().filter(|it| !is_replaced(it)).cloned();
    Some(kept.chain(missing.iter().cloned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_is_added_once_and_another_enis_name_replaces_the_old_one() {
        let sgp = || feature(SECURITY_GROUPS_FOR_PODS, "");
        let custom = |name: &str| feature(CUSTOM_NETWORKING, name);
        assert_eq!(merged(&[], vec![sgp()]), Some(vec![sgp()]));
        assert_eq!(merged(&[sgp()], vec![sgp()]), None);
        assert_eq!(
            merged(&[custom("a"), sgp()], vec![custom("b"), sgp()]),
            Some(vec![sgp(), custom("b")])
        );
    }
}
