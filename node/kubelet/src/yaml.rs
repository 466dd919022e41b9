//! YAML, read through JSON.
//!
//! Code that reads a type is made anew for each format. A `Pod`'s for YAML alone would be a third of
//! the kubelet's machine code, for a few files at each start; its code for JSON is there anyway.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Why a text is not what it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum YamlError {
    #[error("{0}")]
    Syntax(String),
    #[error("{0}")]
    Shape(serde_json::Error),
}

pub(crate) fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    let value: Value =
        serde_saphyr::from_str(text).map_err(|error| YamlError::Syntax(error.to_string()))?;
    serde_json::from_value(value).map_err(YamlError::Shape)
}
