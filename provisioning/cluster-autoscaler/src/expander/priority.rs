//! The priority expander's configuration: numbers, and patterns of group names.
//!
//! Read from the ConfigMap `cluster-autoscaler-priority-expander`, key `priorities`:
//!
//! ```yaml
//! 10:
//!   - .*
//! 50:
//!   - .*spot.*
//! ```

use std::collections::BTreeMap;

use regex::Regex;

use crate::scale_up::Candidate;

/// See the module.
#[derive(Clone, Debug)]
pub struct Priorities(BTreeMap<i64, Vec<Regex>>);

/// Why a configuration is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ParsePrioritiesError {
    #[error("wrong configuration of priority expander: {0}")]
    Yaml(String),
    #[error("wrong configuration of priority expander: `{pattern}` is no regular expression")]
    Pattern { pattern: String },
}

impl Priorities {
    pub fn parse(text: &str) -> Result<Self, ParsePrioritiesError> {
        let read: BTreeMap<i64, Vec<String>> = serde_saphyr::from_str(text)
            .map_err(|error| ParsePrioritiesError::Yaml(error.to_string()))?;
        let mut priorities = BTreeMap::new();
        for (priority, patterns) in read {
            let compiled = patterns.into_iter().map(|pattern| match Regex::new(&pattern) {
                Ok(it) => Ok(it),
                Err(_) => Err(ParsePrioritiesError::Pattern { pattern }),
            });
            priorities.insert(priority, compiled.collect::<Result<_, _>>()?);
        }
        Ok(Self(priorities))
    }

    /// The candidates of the highest number that has any; all, where no pattern matches.
    pub(crate) fn best<'a>(&self, candidates: Vec<&'a Candidate>) -> Vec<&'a Candidate> {
        for patterns in self.0.values().rev() {
            let matches = |it: &&&Candidate| patterns.iter().any(|re| re.is_match(&it.group));
            let found: Vec<_> = candidates.iter().filter(matches).copied().collect();
            if !found.is_empty() {
                return found;
            }
        }
        candidates
    }
}
