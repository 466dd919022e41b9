//! The `aws-auth` ConfigMap: `mapRoles`, `mapUsers` and `mapAccounts`, as YAML in three texts.
//!
//! A bad entry is skipped and reported; the others count. Names of keys are tolerant of case. Of two
//! entries for one ARN the last counts. An ARN is compared without regard to case, as upstream does.
//!
//! Upstream: pkg/mapper/configmap, pkg/config.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{Identity, Mapping};

/// Longest text that is read of each key: the API server lets a ConfigMap have one MiB.
const LIMIT: usize = 1 << 20;

/// What the ConfigMap says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsAuth {
    /// By the principal's ARN in lower case.
    principals: BTreeMap<String, Mapping>,
    accounts: BTreeSet<String>,
}

/// An entry that counts for nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("{key} cannot be read: {reason}")]
    Text { key: &'static str, reason: String },
    #[error("entry {index} of {key} is skipped: {reason}")]
    Entry { key: &'static str, index: usize, reason: String },
    #[error(
        "entry {index} of {key} never matches: STS names {arn} without its path, so leave the path \
         out"
    )]
    Path { key: &'static str, index: usize, arn: String },
}

/// The fields of an entry, whose names are in lower case by now.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    rolearn: String,
    userarn: String,
    username: String,
    groups: Option<Vec<String>>,
}

impl AwsAuth {
    /// Reads a ConfigMap's `data`, and tells what of it counts for nothing.
    pub fn read(data: &BTreeMap<String, String>) -> (Self, Vec<EntryError>) {
        let (mut found, mut errors) = (Self::default(), Vec::new());
        for key in ["mapUsers", "mapRoles"] {
            for (index, entry) in list(data, key, &mut errors).into_iter().enumerate() {
                match read_entry(key, index, entry) {
                    Ok((arn, mapping)) => {
                        if has_path(key, &arn) {
                            errors.push(EntryError::Path { key, index, arn: arn.clone() });
                        }
                        found.principals.insert(arn.to_lowercase(), mapping);
                    }
                    Err(error) => errors.push(error),
                }
            }
        }
        let key = "mapAccounts";
        for (index, entry) in list(data, key, &mut errors).into_iter().enumerate() {
            match entry {
                Value::String(account) => {
                    found.accounts.insert(account);
                }
                // YAML takes an account without quotes for a number.
                Value::Number(account) => {
                    found.accounts.insert(format!("{:0>12}", account.to_string()));
                }
                _ => {
                    let reason = "an account is a text of twelve digits".to_owned();
                    errors.push(EntryError::Entry { key, index, reason });
                }
            }
        }
        (found, errors)
    }

    /// Who the principal is; those of a mapped account are themselves, without groups.
    pub fn find(&self, identity: &Identity) -> Option<Mapping> {
        let by_arn = self.principals.get(&identity.canonical_arn.to_lowercase()).cloned();
        by_arn.or_else(|| {
            self.accounts
                .contains(&identity.account)
                .then(|| Mapping { username: identity.canonical_arn.clone(), groups: Vec::new() })
        })
    }
}

fn list(
    data: &BTreeMap<String, String>,
    key: &'static str,
    errors: &mut Vec<EntryError>,
) -> Vec<Value> {
    let Some(text) = data.get(key).filter(|it| !it.trim().is_empty()) else { return Vec::new() };
    let read = match text.len() > LIMIT {
        true => Err("it is too long".to_owned()),
        false => serde_saphyr::from_str::<Value>(text).map_err(|error| error.to_string()),
    };
    let reason = match read {
        Ok(Value::Array(entries)) => return entries,
        Ok(Value::Null) => return Vec::new(),
        Ok(_) => "it is not a list".to_owned(),
        Err(reason) => reason,
    };
    errors.push(EntryError::Text { key, reason });
    Vec::new()
}

fn read_entry(
    key: &'static str,
    index: usize,
    entry: Value,
) -> Result<(String, Mapping), EntryError> {
    let failed = |reason: String| EntryError::Entry { key, index, reason };
    let Value::Object(fields) = entry else { return Err(failed("it is not a map".to_owned())) };
    let fields: Map<String, Value> =
        fields.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect();
    let entry: Entry =
        serde_json::from_value(fields.into()).map_err(|error| failed(error.to_string()))?;
    let (name, arn) = match key {
        "mapRoles" => ("rolearn", entry.rolearn),
        _ => ("userarn", entry.userarn),
    };
    if arn.is_empty() {
        return Err(failed(format!("it has no {name}")));
    }
    if entry.username.is_empty() {
        return Err(failed(format!("{arn} has no username")));
    }
    let groups = entry.groups.unwrap_or_default();
    Ok((arn, Mapping { username: entry.username, groups }))
}

fn has_path(key: &str, arn: &str) -> bool {
    let resource = arn.splitn(6, ':').nth(5).unwrap_or_default();
    key == "mapRoles" && resource.matches('/').count() > 1
}

#[cfg(test)]
mod tests;
