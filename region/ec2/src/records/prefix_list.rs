//! Prefix lists of customers.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Tags, record};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct PrefixList {
    pub id: String,
    pub name: String,
    pub is_ipv6: bool,
    pub max_entries: usize,
    /// The entries of each version; the last one is current.
    pub versions: Vec<Vec<PrefixListEntry>>,
    /// `create-complete`, `modify-complete`, `restore-complete`, `delete-failed`.
    pub state: String,
    pub state_message: Option<String>,
    pub tags: Tags,
}

record!(PrefixList, "prefix-list", "pl-", "InvalidPrefixListID", "prefix list");

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct PrefixListEntry {
    pub cidr: IpNet,
    pub description: Option<String>,
}

impl PrefixList {
    pub fn entries(&self) -> &[PrefixListEntry] {
        self.versions.last().map(Vec::as_slice).unwrap_or_default()
    }

    /// Versions are numbered from 1.
    pub fn version(&self) -> i64 {
        i64::try_from(self.versions.len()).unwrap_or(i64::MAX)
    }
}
