//! NodeClaim: one node that is asked for, from its launch to its end.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::Taint,
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{Condition, Time},
    },
};
use serde::{Deserialize, Serialize};

use super::{
    GROUP, VERSION, cluster_kind,
    duration::NillableDuration,
    node_pool::{NodeClassReference, NodeSelectorRequirement},
};

cluster_kind!(NodeClaim, "NodeClaim", GROUP, VERSION, "nodeclaims", NodeClaimSpec, NodeClaimStatus);

/// It cannot be changed once it is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeClaimSpec {
    pub expire_after: NillableDuration,
    pub node_class_ref: NodeClassReference,
    pub requirements: Vec<NodeSelectorRequirement>,
    pub resources: NodeClaimResources,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub startup_taints: Vec<Taint>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub termination_grace_period: Option<NillableDuration>,
}

impl Default for NodeClaimSpec {
    fn default() -> Self {
        Self {
            expire_after: NillableDuration::hours(720),
            node_class_ref: NodeClassReference::default(),
            requirements: Vec::new(),
            resources: NodeClaimResources::default(),
            startup_taints: Vec::new(),
            taints: Vec::new(),
            termination_grace_period: None,
        }
    }
}

/// What the pods for which the node is made request, daemons' included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeClaimResources {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Quantity>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeClaimStatus {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub allocatable: BTreeMap<String, Quantity>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub capacity: BTreeMap<String, Quantity>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    #[serde(rename = "imageID", skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// When a pod last came to the node, left it, or ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_pod_event_time: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    #[serde(rename = "providerID", skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
}

impl NodeClaim {
    /// The condition of that type, if there is one.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.as_ref()?.conditions.iter().find(|it| it.type_ == kind)
    }

    pub fn is_true(&self, kind: &str) -> bool {
        self.condition(kind).is_some_and(|it| it.status == "True")
    }
}
