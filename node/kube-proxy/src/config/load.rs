//! Reads a `KubeProxyConfiguration` file.
//!
//! Fields that nobody knows are warned about and left out: v1alpha1 is decoded leniently where
//! strict decoding fails.

use std::path::Path;

use component_config::unknown_fields;
use serde_json::Value;
use tracing::info;

use super::{API_VERSION, Configuration, KIND};

/// Why the configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("failed complete: open {path}: {}", reason(source))]
    Read { path: String, source: std::io::Error },
    #[error("failed complete: failed to decode: {message}")]
    Decode { message: String },
    #[error("failed complete: empty hostname-override is invalid")]
    EmptyHostname,
    #[error("failed validate: {message}")]
    Invalid { message: String },
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

pub fn read(path: &Path) -> Result<(Configuration, String), ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.display().to_string(), source })?;
    Ok((parse(&text)?, text))
}

/// What the text says, with nothing filled in.
pub fn parse(text: &str) -> Result<Configuration, ConfigError> {
    let failed = |message: String| ConfigError::Decode { message };
    let mut value: Value =
        serde_saphyr::from_str(text).map_err(|error| failed(error.to_string()))?;
    match (value["apiVersion"].as_str(), value["kind"].as_str()) {
        (Some(API_VERSION), Some(KIND)) => {}
        (_, None | Some("")) => return Err(failed("Object 'Kind' is missing".to_owned())),
        (None | Some(""), _) => return Err(failed("Object 'apiVersion' is missing".to_owned())),
        (Some(version), Some(kind)) => {
            return Err(failed(format!(
                "no kind \"{kind}\" is registered for version \"{version}\" in scheme \
                 \"k8s.io/kubernetes/pkg/proxy/apis/config/scheme/scheme.go\""
            )));
        }
    }
    let known = serde_json::to_value(Configuration::default()).unwrap_or_default();
    let unknown = unknown_fields(&value, &known, &["featureGates"]);
    if !unknown.is_empty() {
        let fields: Vec<String> =
            unknown.iter().map(|field| format!("unknown field \"{field}\"")).collect();
        let error = format!("strict decoding error: {}", fields.join(", "));
        info!(error, "Using lenient decoding as strict decoding failed");
    }
    drop_nulls(&mut value);
    serde_json::from_value(value).map_err(|error| failed(error.to_string()))
}

/// In Go a null leaves a field as it is.
fn drop_nulls(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.retain(|_, field| !field.is_null());
        fields.values_mut().for_each(drop_nulls);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

    #[test]
    fn a_field_that_nobody_knows_is_left_out_and_named() {
        let text = format!("{HEAD}udpIdleTimeout: 250ms\nconntrack: {{max: 0, min: 5}}\n");
        let config = parse(&text).unwrap();
        assert_eq!(config.conntrack.min, Some(5));
        let value: Value = serde_saphyr::from_str(&text).unwrap();
        let known = serde_json::to_value(Configuration::default()).unwrap();
        assert_eq!(
            unknown_fields(&value, &known, &["featureGates"]),
            ["conntrack.max", "udpIdleTimeout"]
        );
    }

    #[test]
    fn what_is_no_configuration_is_refused_as_upstream_does() {
        let error = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(error("a: b\n"), "failed complete: failed to decode: Object 'Kind' is missing");
        assert!(error("kind: Pod\napiVersion: v1\n").contains("no kind \"Pod\" is registered"));
        assert!(error(&format!("{HEAD}mode: [1]\n")).contains("invalid type"));
        let wrong = error(&format!("{HEAD}configSyncPeriod: soon\n"));
        assert!(wrong.contains("time: invalid duration \"soon\""), "{wrong}");
        let missing = read(Path::new("/nowhere/config")).unwrap_err().to_string();
        assert_eq!(missing, "failed complete: open /nowhere/config: no such file or directory");
    }
}
