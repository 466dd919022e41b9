//! What is kept of repositories and images.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// A repository; its key is `REGISTRY/NAME`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Repository {
    pub(crate) registry: String,
    pub(crate) name: String,
    pub(crate) created_at: f64,
    pub(crate) is_immutable: bool,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) policy: Option<String>,
    /// Its lifecycle policy.
    #[serde(default)]
    pub(crate) lifecycle: Option<PolicyRun>,
}

/// A lifecycle policy, and when it was applied last.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct PolicyRun {
    pub(crate) text: String,
    /// Seconds since 1970.
    pub(crate) evaluated_at: Option<f64>,
}

/// A manifest of a repository; its key is `REGISTRY/NAME@DIGEST`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Image {
    pub(crate) media_type: String,
    /// With its layers.
    pub(crate) size: u64,
    pub(crate) pushed_at: f64,
    /// What an index lists. `None`: an older region has written it down, and its manifest says.
    #[serde(default)]
    pub(crate) lists: Option<Vec<Digest>>,
}

/// A blob that belongs to a repository; its key is `REGISTRY/NAME@DIGEST`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Layer {
    pub(crate) size: u64,
}

/// An upload that has begun; its key is its id.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Upload {
    pub(crate) repository: String,
}
