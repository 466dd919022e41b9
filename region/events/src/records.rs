//! What is kept: rules with their targets, and what is on its way to them.

use std::collections::BTreeMap;

use aws_events::target::Target;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The only bus.
pub(crate) const BUS: &str = "default";

/// A rule of the default bus.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Rule {
    pub name: String,
    pub pattern: String,
    pub is_enabled: bool,
    pub description: Option<String>,
    pub role_arn: Option<String>,
    pub tags: BTreeMap<String, String>,
    /// By id.
    pub targets: BTreeMap<String, Target>,
}

impl Delivery {
    /// About as much as it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        const OVERHEAD: usize = 1024;
        OVERHEAD + self.body.len()
    }
}

/// One event for one target.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Delivery {
    pub rule_arn: String,
    pub target: Target,
    /// What the target gets.
    pub body: String,
    pub accepted_at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    pub next_at: Timestamp,
}
