//! The keys that conditions and variables read.

use std::collections::HashMap;

/// Condition keys and their values. Names are case-insensitive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    values: HashMap<String, Vec<String>>,
}

impl Context {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        self.values.insert(key.to_ascii_lowercase(), vec![value.into()]);
    }

    pub fn set_all(&mut self, key: &str, values: Vec<String>) {
        self.values.insert(key.to_ascii_lowercase(), values);
    }

    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.set(key, value);
        self
    }

    /// The values of a key, if the request has it.
    pub fn values(&self, key: &str) -> Option<&[String]> {
        self.get(&key.to_ascii_lowercase())
    }

    /// `None`: the request does not have the key. `lower` is in lower case already.
    pub(crate) fn get(&self, lower: &str) -> Option<&[String]> {
        self.values.get(lower).map(Vec::as_slice)
    }

    /// What a variable stands for: only keys with exactly one value.
    pub(crate) fn single(&self, key: &str) -> Option<&str> {
        match self.values(key) {
            Some([value]) => Some(value),
            _ => None,
        }
    }
}
