//! Reads a `KubeSchedulerConfiguration` file, strictly: a field that nobody knows is an error.
//!
//! Upstream: `cmd/kube-scheduler/app/options/configfile.go`.

use std::path::Path;

use component_config::unknown_fields;
use serde_json::{Value, json};

use super::{
    API_VERSION, Configuration, KIND, PluginConfig, PluginEntry, ProfileConfig,
    extender::{ExtenderConfig, ExtenderManagedResource, ExtenderTlsConfig},
};

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("open {path}: {}", reason(source))]
    Read { path: String, source: std::io::Error },
    #[error("{message}")]
    Decode { message: String },
    #[error("strict decoding error: {fields}")]
    Unknown { fields: String },
    #[error("{message}")]
    Invalid { message: String },
    #[error("initializing profiles: creating profile for scheduler name {name}: {message}")]
    Profile { name: String, message: String },
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

pub fn read(path: &Path) -> Result<Configuration, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.display().to_string(), source })?;
    parse(&text)
}

/// What the text says; it is not validated yet.
pub fn parse(text: &str) -> Result<Configuration, ConfigError> {
    let failed = |message: String| ConfigError::Decode { message };
    let mut value: Value =
        serde_saphyr::from_str(text).map_err(|error| failed(error.to_string()))?;
    match (value["apiVersion"].as_str(), value["kind"].as_str()) {
        (Some(API_VERSION), Some(KIND)) => {}
        (_, None | Some("")) => {
            return Err(failed(format!("Object 'Kind' is missing in '{value}'")));
        }
        (None | Some(""), _) => {
            return Err(failed(format!("Object 'apiVersion' is missing in '{value}'")));
        }
        (Some(version), Some(kind)) => {
            return Err(failed(format!(
                "no kind \"{kind}\" is registered for version \"{version}\" in scheme \
                 \"k8s.io/kubernetes/pkg/scheduler/apis/config/scheme/scheme.go\""
            )));
        }
    }
    let unknown = unknown(&value);
    if !unknown.is_empty() {
        let fields: Vec<_> = unknown.iter().map(|it| format!("unknown field \"{it}\"")).collect();
        return Err(ConfigError::Unknown { fields: fields.join(", ") });
    }
    drop_nulls(&mut value);
    serde_json::from_value(value).map_err(|error| failed(error.to_string()))
}

/// The paths of all fields that nobody knows.
fn unknown(written: &Value) -> Vec<String> {
    let known = json!(Configuration::default());
    let mut found = unknown_fields(written, &known, &["profiles", "extenders"]);
    for (at, written) in items(&written["profiles"], "profiles") {
        let fields = unknown_fields(written, &json!(ProfileConfig::default()), &["pluginConfig"]);
        found.extend(fields.into_iter().map(|it| format!("{at}.{it}")));
        let path = format!("{at}.pluginConfig");
        for (at, entry) in items(&written["pluginConfig"], &path) {
            let fields = unknown_fields(entry, &json!(PluginConfig::default()), &["args"]);
            found.extend(fields.into_iter().map(|it| format!("{at}.{it}")));
        }
        for (point, set) in written["plugins"].as_object().into_iter().flatten() {
            for list in ["enabled", "disabled"] {
                let path = format!("{at}.plugins.{point}.{list}");
                for (at, entry) in items(&set[list], &path) {
                    let fields = unknown_fields(entry, &json!(PluginEntry::default()), &[]);
                    found.extend(fields.into_iter().map(|it| format!("{at}.{it}")));
                }
            }
        }
    }
    for (at, written) in items(&written["extenders"], "extenders") {
        let known = json!(ExtenderConfig {
            tls_config: Some(ExtenderTlsConfig::default()),
            ..ExtenderConfig::default()
        });
        let fields = unknown_fields(written, &known, &["managedResources"]);
        found.extend(fields.into_iter().map(|it| format!("{at}.{it}")));
        let path = format!("{at}.managedResources");
        for (at, resource) in items(&written["managedResources"], &path) {
            let known = json!(ExtenderManagedResource::default());
            let fields = unknown_fields(resource, &known, &[]);
            found.extend(fields.into_iter().map(|it| format!("{at}.{it}")));
        }
    }
    found
}

fn items<'a>(list: &'a Value, path: &'a str) -> impl Iterator<Item = (String, &'a Value)> {
    let all = list.as_array().into_iter().flatten().enumerate();
    all.map(move |(index, it)| (format!("{path}[{index}]"), it))
}

/// In Go a null leaves a field as it is.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";

    #[test]
    fn an_empty_file_is_the_default_configuration() {
        assert_eq!(parse(HEAD).unwrap(), Configuration::default());
        let settings = parse(HEAD).unwrap().settings().unwrap();
        let profile = settings.profiles["default-scheduler"].clone();
        assert_eq!(*profile, scheduling::Profile::default());
    }

    #[test]
    fn a_field_that_nobody_knows_is_refused_wherever_it_is() {
        let text = format!(
            "{HEAD}profile: []\nprofiles:\n- schedulername: a\n- pluginConfig:\n  - arg: 1\n  \
             plugins:\n    score:\n      enabled:\n      - weigth: 2\n    scores: {{}}\n\
             extenders:\n- urlPrefix: a\n  tlsConfig: {{ secure: true }}\n  managedResources: [{{ \
             resource: a }}]\n"
        );
        assert_eq!(
            parse(&text).unwrap_err().to_string(),
            "strict decoding error: unknown field \"profile\", unknown field \
             \"profiles[0].schedulername\", unknown field \"profiles[1].plugins.scores\", unknown field \
             \"profiles[1].pluginConfig[0].arg\", unknown field \
             \"profiles[1].plugins.score.enabled[0].weigth\", unknown field \
             \"extenders[0].tlsConfig.secure\", unknown field \
             \"extenders[0].managedResources[0].resource\""
        );
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        let error = |text: &str| parse(text).unwrap_err().to_string();
        assert!(
            error("kind: Pod\napiVersion: v1\n")
                .starts_with("no kind \"Pod\" is registered for version \"v1\" in scheme")
        );
        assert_eq!(error("a: b\n"), "Object 'Kind' is missing in '{\"a\":\"b\"}'");
        assert!(error(&format!("{HEAD}parallelism: many\n")).contains("invalid type"));
        let missing = read(Path::new("/nowhere/config")).unwrap_err().to_string();
        assert_eq!(missing, "open /nowhere/config: no such file or directory");
    }
}
