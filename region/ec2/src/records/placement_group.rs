//! Placement groups, and an instance's place in one.

use serde::{Deserialize, Serialize};

use super::{Tags, record};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct PlacementGroup {
    pub id: String,
    pub name: String,
    pub strategy: Strategy,
    pub tags: Tags,
}

record!(PlacementGroup, "placement-group", "pg-", "InvalidPlacementGroup", "placement group");

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Strategy {
    /// Close together, in one zone.
    #[default]
    Cluster,
    /// Each on a rack of its own.
    Spread,
    /// So many partitions in each zone; no two of them share a rack.
    Partition { count: u32 },
}

impl Strategy {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Spread => "spread",
            Self::Partition { .. } => "partition",
        }
    }
}

/// Where in a group an instance is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Placed {
    pub group_id: String,
    pub group_name: String,
    /// From 1.
    pub partition: Option<u32>,
}
