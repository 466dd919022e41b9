//! NodeOverlay: other prices and more resources of instance types than their cloud tells.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Condition};
use serde::{Deserialize, Serialize};

use super::{ALPHA, GROUP, cluster_kind, node_pool::NodeSelectorRequirement};

cluster_kind!(
    NodeOverlay,
    "NodeOverlay",
    GROUP,
    ALPHA,
    "nodeoverlays",
    NodeOverlaySpec,
    NodeOverlayStatus
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeOverlaySpec {
    /// Extended resources that the types have besides.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub capacity: BTreeMap<String, Quantity>,
    /// US dollars per hour, instead of the cloud's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<String>,
    /// What is added to the cloud's price: `+0.1`, `-0.05`, `+10%`, `-25.5%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_adjustment: Option<String>,
    /// Which types and offerings; `minValues` has no meaning here.
    pub requirements: Vec<NodeSelectorRequirement>,
    /// 1 to 10000; the higher goes before. None is 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeOverlayStatus {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
