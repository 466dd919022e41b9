//! A configuration from its file, its drop-ins and the flags, each over the one before.
//!
//! All of them are merged as JSON before they become a [`KubeletConfiguration`], so that what was
//! written can be told from what is a default.
//!
//! Upstream: `loadConfigFile`, `mergeKubeletConfigurations` in `cmd/kubelet/app/server.go`,
//! `pkg/kubelet/kubeletconfig/util/codec`: fields that nobody knows are named in a warning and left
//! out, since v1beta1 is decoded leniently where strict decoding fails.
//!
//! Deviation: without a configuration file the defaults are those of an empty file; upstream's flags
//! then default to anonymous access with everything allowed, and to a read-only port.

use std::path::{Path, PathBuf};

use component_config::unknown_fields;
use serde_json::Value;
use tracing::warn;

use super::{
    API_VERSION, KIND, KubeletConfiguration, defaults, honoured,
    validation::{self, OutOfRange},
};

/// Why a configuration cannot be used. The messages are upstream's.
#[derive(Debug, thiserror::Error)]
pub enum LoadConfigurationError {
    #[error(
        "failed to load kubelet config file, path: {path}, error: failed to read kubelet config file \"{path}\""
    )]
    Read {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to load kubelet config file, path: {path}, error: {message}")]
    Parse { path: String, message: String },
    #[error(
        "failed to merge kubelet configs: failed to walk through kubelet dropin directory \"{path}\""
    )]
    Walk {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{}", aggregate(.messages))]
    Invalid { messages: Vec<String> },
}

/// Upstream's form of several errors at once.
fn aggregate(messages: &[String]) -> String {
    match messages {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// Where a configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`
    pub file: Option<PathBuf>,
    /// `--config-dir`
    pub folder: Option<PathBuf>,
    /// The flags that stand for fields: they win.
    pub flags: Value,
}

impl KubeletConfiguration {
    /// Reads one file, YAML or JSON.
    pub fn load(path: &str) -> Result<Self, LoadConfigurationError> {
        Self::from_sources(&Sources { file: Some(path.into()), ..Sources::default() })
    }

    /// Reads, merges, completes and validates.
    pub fn from_sources(sources: &Sources) -> Result<Self, LoadConfigurationError> {
        let mut written = Value::Object(serde_json::Map::new());
        if let Some(file) = &sources.file {
            written = read(file)?;
        }
        if let Some(folder) = &sources.folder {
            for file in drop_ins(folder)? {
                merge(&mut written, read(&file)?);
            }
        }
        merge(&mut written, sources.flags.clone());
        finished(written, sources.file.as_deref().unwrap_or(Path::new("flags")))
    }
}

fn read(path: &Path) -> Result<Value, LoadConfigurationError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|source| LoadConfigurationError::Read { path: shown.clone(), source })?;
    parse(&text, &shown)
}

fn parse(text: &str, path: &str) -> Result<Value, LoadConfigurationError> {
    let failed = |message: String| LoadConfigurationError::Parse { path: path.to_owned(), message };
    let value: Value = serde_saphyr::from_str(text)
        .map_err(|error| failed(format!("failed to decode: {error}")))?;
    let (kind, version) = (value["kind"].as_str(), value["apiVersion"].as_str());
    match (version, kind) {
        (Some(API_VERSION), Some(KIND)) => Ok(value),
        (_, None | Some("")) => {
            Err(failed("failed to decode: Object 'Kind' is missing".to_owned()))
        }
        (None | Some(""), _) => {
            Err(failed("failed to decode: Object 'apiVersion' is missing".to_owned()))
        }
        (Some(version), Some(kind)) => Err(failed(format!(
            "failed to decode: no kind \"{kind}\" is registered for version \"{version}\" in scheme \"k8s.io/kubernetes/pkg/kubelet/apis/config/scheme/scheme.go\""
        ))),
    }
}

/// The `*.conf` files of a folder and of those in it, in the order of their names.
fn drop_ins(folder: &Path) -> Result<Vec<PathBuf>, LoadConfigurationError> {
    let mut found = Vec::new();
    let failed =
        |source| LoadConfigurationError::Walk { path: folder.display().to_string(), source };
    walk(folder, &mut found).map_err(failed)?;
    Ok(found)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, found)?;
        } else if path.extension().is_some_and(|it| it == "conf") {
            found.push(path);
        }
    }
    Ok(())
}

/// A JSON merge patch (RFC 7386): objects are merged, everything else is replaced.
pub(super) fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                if value.is_null() {
                    into.remove(&name);
                } else {
                    merge(into.entry(name).or_insert(Value::Null), value);
                }
            }
        }
        (_, Value::Null) => {}
        (into, from) => *into = from,
    }
}

fn finished(
    mut written: Value,
    path: &Path,
) -> Result<KubeletConfiguration, LoadConfigurationError> {
    let invalid = |messages: Vec<String>| LoadConfigurationError::Invalid { messages };
    defaults::apply(&mut written);
    let out_of_range = validation::numbers(&written);
    let (config, unreadable) = decoded(&written, &out_of_range);
    let known = serde_json::to_value(&config).unwrap_or_default();
    let mut unknown = unknown_fields(&written, &known, &[]);
    unknown.retain(|it| unreadable.iter().all(|wrong| wrong.field.as_ref() != Some(it)));
    let out_of_range: Vec<_> = out_of_range.iter().map(ToString::to_string).collect();
    if !unreadable.is_empty() {
        // All that is wrong at once: who corrects one line at a time starts a node many times.
        let mut wrong: Vec<_> = unreadable.iter().map(ToString::to_string).collect();
        wrong.extend(unknown.iter().map(|field| format!("unknown field \"{field}\"")));
        wrong.extend(out_of_range);
        return Err(LoadConfigurationError::Parse {
            path: path.display().to_string(),
            message: format!("failed to decode: {}", aggregate(&wrong)),
        });
    }
    for field in unknown {
        let error = format!("strict decoding error: unknown field \"{field}\"");
        warn!(error, "Using lenient decoding as strict decoding failed");
    }
    if !out_of_range.is_empty() {
        return Err(invalid(out_of_range));
    }
    let wrong = validation::validate(&config);
    if !wrong.is_empty() {
        return Err(invalid(wrong));
    }
    for (field, why) in honoured::without_effect(&written, &config) {
        warn!(field, why, "a setting has no effect on this kubelet");
    }
    Ok(config)
}

/// What of a configuration cannot be read.
#[derive(Debug)]
struct Unreadable {
    /// `None` where it is no field of its own.
    field: Option<String>,
    error: serde_json::Error,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{field}: {}", self.error),
            None => self.error.fmt(f),
        }
    }
}

/// What can be read, and what is wrong with each field that cannot. Numbers that are known to be out
/// of range are left out of both.
fn decoded(
    written: &Value,
    out_of_range: &[OutOfRange],
) -> (KubeletConfiguration, Vec<Unreadable>) {
    let whole = match serde_json::from_value(written.clone()) {
        Ok(config) => return (config, Vec::new()),
        Err(error) => error,
    };
    let (mut readable, mut wrong) = (serde_json::Map::new(), Vec::new());
    let mut is_explained = false;
    for (name, value) in written.as_object().into_iter().flatten() {
        let alone = serde_json::json!({ name: value });
        match serde_json::from_value::<KubeletConfiguration>(alone) {
            Ok(_) => drop(readable.insert(name.clone(), value.clone())),
            Err(error) => {
                is_explained = true;
                if out_of_range.iter().all(|it| it.field != name) {
                    wrong.push(Unreadable { field: Some(name.clone()), error });
                }
            }
        }
    }
    if !is_explained {
        wrong.push(Unreadable { field: None, error: whole });
    }
    (serde_json::from_value(Value::Object(readable)).unwrap_or_default(), wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

    fn load(text: &str) -> Result<KubeletConfiguration, String> {
        let value = parse(&format!("{HEAD}{text}"), "f").map_err(|it| it.to_string())?;
        finished(value, Path::new("f")).map_err(|it| it.to_string())
    }

    #[test]
    fn a_file_for_upstreams_kubelet_is_read() {
        let config = load(
            r#"
authentication:
  x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}
clusterDNS: [10.100.0.10]
maxPods: 29
providerID: aws:///us-east-1a/i-0abc
hairpinMode: hairpin-veth
serverTLSBootstrap: true
kubeReserved: {cpu: 70m, memory: 574Mi}
registerWithTaints: [{key: a, effect: NoSchedule}]
logging: {verbosity: 2}
tracing: {samplingRatePerMillion: 0}
"#,
        )
        .unwrap();
        assert_eq!(config.max_pods, 29);
        assert_eq!(config.cluster_dns, ["10.100.0.10"]);
        assert_eq!(config.authentication.x509.client_ca_file, "/etc/kubernetes/pki/ca.crt");
        assert!(config.server_tls_bootstrap);
        assert_eq!(config.port, 10250);
        assert_eq!(config.register_with_taints[0].effect, "NoSchedule");
    }

    #[test]
    fn every_field_of_an_own_configuration_is_known() {
        let value = serde_json::to_value(KubeletConfiguration::default()).unwrap();
        assert_eq!(unknown_fields(&value, &value, &[]), Vec::<String>::new());
        let config = finished(value, Path::new("f")).unwrap();
        assert_eq!(config.shown(), KubeletConfiguration::default().shown());
    }

    #[test]
    fn fields_that_nobody_knows_are_named_wherever_they_are() {
        let written = serde_json::json!({
            "maxPod": 3,
            "authentication": { "x509": { "caFile": "x" } },
            "kubeReserved": { "anything": "1" },
        });
        let config: KubeletConfiguration = serde_json::from_value(written.clone()).unwrap();
        let known = serde_json::to_value(config).unwrap();
        assert_eq!(unknown_fields(&written, &known, &[]), ["authentication.x509.caFile", "maxPod"]);
    }

    #[test]
    fn all_that_is_wrong_with_a_file_is_told_at_once() {
        let said = load("maxPods: many\nclusterDNZ: [a]\nport: 65536\nsyncFrequency: [1]\n");
        let said = said.unwrap_err();
        for part in [
            "maxPods: invalid type: string \"many\"",
            "syncFrequency: ",
            "unknown field \"clusterDNZ\"",
            "port (--port) 65536 must be between 1 and 65535, inclusive",
        ] {
            assert_eq!(said.matches(part).count(), 1, "{part}: {said}");
        }
        assert!(!said.contains("unknown field \"maxPods\""), "{said}");
        let said = load("port: 65536\n").unwrap_err();
        assert_eq!(
            said,
            "invalid configuration: port (--port) 65536 must be between 1 and 65535, inclusive"
        );
    }

    #[test]
    fn another_kind_is_refused_in_upstreams_words() {
        let error = parse(r#"{"apiVersion":"v1","kind":"Pod"}"#, "f").unwrap_err().to_string();
        assert!(error.contains("no kind \"Pod\" is registered for version \"v1\""), "{error}");
        let error = parse("a: b", "f").unwrap_err().to_string();
        assert!(error.contains("Object 'Kind' is missing"), "{error}");
    }

    #[test]
    fn a_zero_is_no_value_and_some_defaults_follow_other_fields() {
        let config = load(
            "port: 0\nsyncFrequency: 0s\nnodeStatusUpdateFrequency: 5s\nmaxParallelImagePulls: 4\nhealthzPort: 0\npodPidsLimit: -7\n",
        )
        .unwrap();
        assert_eq!((config.port, config.healthz_port, config.pod_pids_limit), (10250, 0, -1));
        assert_eq!(config.sync_frequency.0.as_secs(), 60);
        assert_eq!(config.node_status_report_frequency.0.as_secs(), 5);
        assert!(!config.serialize_image_pulls);
    }

    #[test]
    fn eviction_settings_are_replaced_or_merged_as_asked() {
        let own = "evictionHard: {memory.available: 1Gi}\n";
        assert_eq!(load(own).unwrap().eviction_hard.len(), 1);
        let merged = load(&format!("{own}mergeDefaultEvictionSettings: true\n")).unwrap();
        assert_eq!(merged.eviction_hard["memory.available"], "1Gi");
        assert_eq!(merged.eviction_hard["imagefs.inodesFree"], "5%");
    }

    #[test]
    fn drop_ins_are_merged_by_name_and_flags_win() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{HEAD}{text}")).unwrap();
        };
        put("main.yaml", "maxPods: 1\nkubeReserved: {cpu: 1000m}\nclusterDNS: [10.0.0.1]\n");
        put("d/20.conf", "maxPods: 3\nclusterDNS: [10.0.0.2]\n");
        put("d/10.conf", "maxPods: 2\nkubeReserved: {memory: 1Gi}\n");
        put("d/30/inner.conf", "port: 9000\n");
        put("d/99.yaml", "maxPods: 99\n");
        let mut sources = Sources {
            file: Some(folder.path().join("main.yaml")),
            folder: Some(folder.path().join("d")),
            flags: serde_json::json!({ "port": 9001 }),
        };
        let config = KubeletConfiguration::from_sources(&sources).unwrap();
        assert_eq!((config.max_pods, config.port), (3, 9001));
        assert_eq!(config.kube_reserved.len(), 2);
        assert_eq!(config.cluster_dns, ["10.0.0.2"], "lists are replaced");
        sources.folder = Some(folder.path().join("missing"));
        let error = KubeletConfiguration::from_sources(&sources).unwrap_err().to_string();
        assert!(error.starts_with("failed to merge kubelet configs"), "{error}");
    }
}
