//! The file of `--admission-control-config-file`: how admission plug-ins are configured, each in the
//! file itself or in one of its own.
//!
//! Deviation: only PodSecurity takes a configuration; one of any other plug-in is refused, where
//! upstream reads it or, where it does not run that one, lets it be.
//!
//! Upstream: `ReadAdmissionConfiguration` of k8s.io/apiserver/pkg/admission.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

use crate::{PodSecurity, PodSecurityError};

const VERSIONS: [&str; 2] = ["apiserver.config.k8s.io/v1", "apiserver.k8s.io/v1alpha1"];
const KIND: &str = "AdmissionConfiguration";

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdmissionConfigError {
    #[error("unable to read admission control configuration from \"{}\"", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("couldn't open admission plugin configuration {}", path.display())]
    NoPluginFile { path: PathBuf, source: io::Error },
    #[error("the admission control configuration cannot be read: {reason}")]
    Malformed { reason: String },
    #[error("no kind \"{kind}\" is registered for version \"{api_version}\"")]
    UnknownKind { kind: String, api_version: String },
    #[error(
        "the admission plug-in {name} takes no configuration here, only PodSecurity does; leave it out of the file"
    )]
    NotConfigurable { name: String },
    #[error("the configuration of PodSecurity cannot be used")]
    PodSecurity(#[from] PodSecurityError),
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct File {
    api_version: String,
    kind: String,
    plugins: Vec<Plugin>,
}

#[derive(Deserialize)]
struct Plugin {
    name: String,
    /// A file, below the folder of the one that names it.
    #[serde(default)]
    path: String,
    #[serde(default)]
    configuration: Value,
}

impl Plugin {
    fn read(&self, folder: &Path) -> Result<Option<Value>, AdmissionConfigError> {
        if !self.configuration.is_null() {
            return Ok(Some(self.configuration.clone()));
        }
        if self.path.is_empty() {
            return Ok(None);
        }
        let path = folder.join(&self.path);
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|source| AdmissionConfigError::NoPluginFile { path, source })?;
        yaml(&text).map(Some)
    }
}

/// What a file says of PodSecurity.
pub(super) fn read(path: &Path) -> Result<PodSecurity, AdmissionConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| AdmissionConfigError::Unreadable { path: path.to_owned(), source })?;
    let file: File = serde_json::from_value(yaml(&text)?)
        .map_err(|error| AdmissionConfigError::Malformed { reason: error.to_string() })?;
    let File { api_version, kind, plugins } = file;
    if kind != KIND || !VERSIONS.contains(&api_version.as_str()) {
        return Err(AdmissionConfigError::UnknownKind { kind, api_version });
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut found = None;
    for plugin in plugins {
        let configuration = plugin.read(folder)?;
        match (plugin.name.as_str(), configuration) {
            // Of two the first one counts.
            ("PodSecurity", Some(it)) if found.is_none() => found = Some(PodSecurity::parse(&it)?),
            ("PodSecurity", _) | (_, None) => {}
            (_, Some(_)) => {
                return Err(AdmissionConfigError::NotConfigurable { name: plugin.name });
            }
        }
    }
    Ok(found.unwrap_or_default())
}

fn yaml(text: &str) -> Result<Value, AdmissionConfigError> {
    let mut read = serde_saphyr::from_str(text)
        .map_err(|error| AdmissionConfigError::Malformed { reason: error.to_string() })?;
    drop_nulls(&mut read);
    Ok(read)
}

/// A field without a value (`usernames:`) is as if it were not there.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, it| !it.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(all) => all.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD_SECURITY: &str = "apiVersion: pod-security.admission.config.k8s.io/v1\n\
                                kind: PodSecurityConfiguration\n\
                                exemptions: {usernames: [system:serviceaccount:a:b]}\n";

    fn of(plugins: &str, files: &[(&str, &str)]) -> Result<PodSecurity, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("admission.yaml");
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n";
        std::fs::write(&file, format!("{head}plugins:\n{plugins}")).unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        read(&file).map_err(|error| error.to_string())
    }

    #[test]
    fn a_plug_in_is_configured_in_the_file_or_in_one_beside_it() {
        let inline = POD_SECURITY.replace('\n', "\n    ");
        let inline = format!("- name: PodSecurity\n  configuration:\n    {}", inline.trim_end());
        let beside = "- {name: PodSecurity, path: pods.yaml}\n";
        let (files, none) = ([("pods.yaml", POD_SECURITY)], "- name: PodSecurity\n");
        assert!(format!("{:?}", of(&inline, &[]).unwrap()).contains("system:serviceaccount:a:b"));
        assert!(format!("{:?}", of(beside, &files).unwrap()).contains("system:serviceaccount:a:b"));
        assert!(!format!("{:?}", of(none, &files).unwrap()).contains("system:serviceaccount"));
        let blank = POD_SECURITY.replace("exemptions: {", "defaults:\nexemptions: {namespaces: , ");
        assert!(of(beside, &[("pods.yaml", &blank)]).is_ok());
        let missing = of(beside, &[]).unwrap_err();
        assert!(missing.starts_with("couldn't open admission plugin configuration"), "{missing}");
    }

    #[test]
    fn what_nobody_here_would_look_at_is_refused() {
        let limits = "- {name: EventRateLimit, configuration: {limits: []}}\n";
        let refused = of(limits, &[]).unwrap_err();
        assert!(refused.starts_with("the admission plug-in EventRateLimit takes no"), "{refused}");
        let odd = "- {name: PodSecurity, configuration: {kind: Odd, apiVersion: v1}}\n";
        assert_eq!(of(odd, &[]).unwrap_err(), "the configuration of PodSecurity cannot be used");
    }
}
