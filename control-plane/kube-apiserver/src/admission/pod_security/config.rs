//! `PodSecurityConfiguration`: what holds where a Namespace says nothing, and for whom nothing holds.
//!
//! Upstream: k8s.io/pod-security-admission/admission/api.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use super::policy::{Level, NO_LEVEL, NO_VERSION, Policies, Policy, minor};
use crate::{status::FieldError, validation};

const GROUP: &str = "pod-security.admission.config.k8s.io";
const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha1"];
const KIND: &str = "PodSecurityConfiguration";

/// How pods are judged. The default is upstream's: only Namespaces restrict anything.
#[derive(Clone, Debug, Default)]
pub struct PodSecurity {
    pub(super) defaults: Policies,
    pub(super) exemptions: Exemptions,
}

/// Whose pods may do anything.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Exemptions {
    pub(super) usernames: Vec<String>,
    pub(super) namespaces: Vec<String>,
    pub(super) runtime_classes: Vec<String>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PodSecurityError {
    #[error("no kind \"{kind}\" is registered for version \"{api_version}\"")]
    UnknownKind { kind: String, api_version: String },
    #[error("strict decoding error: {reason}")]
    Malformed { reason: String },
    #[error("PodSecurity invalid: {faults}")]
    Invalid { faults: String },
}

/// The file's form.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Configuration {
    api_version: String,
    kind: String,
    defaults: Defaults,
    exemptions: Exemptions,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            api_version: format!("{GROUP}/v1"),
            kind: KIND.into(),
            defaults: Defaults::default(),
            exemptions: Exemptions::default(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Defaults {
    enforce: String,
    enforce_version: String,
    audit: String,
    audit_version: String,
    warn: String,
    warn_version: String,
}

impl PodSecurity {
    /// Takes a configuration as upstream's plug-in would.
    pub fn parse(written: &Value) -> Result<Self, PodSecurityError> {
        let text = |field: &str| written[field].as_str().unwrap_or_default().to_owned();
        let (kind, api_version) = (text("kind"), text("apiVersion"));
        let is_known = api_version.split_once('/').is_some_and(|(group, version)| {
            group == GROUP && VERSIONS.contains(&version) && kind == KIND
        });
        if !is_known {
            return Err(PodSecurityError::UnknownKind { kind, api_version });
        }
        let read: Configuration = serde_json::from_value(written.clone())
            .map_err(|error| PodSecurityError::Malformed { reason: error.to_string() })?;
        let mut faults = Vec::new();
        let it = &read.defaults;
        let mut policy = |mode: &str, level: &str, version: &str| Policy {
            level: self::level(&mut faults, &format!("defaults.{mode}"), level),
            version: self::version(&mut faults, &format!("defaults.{mode}-version"), version),
        };
        let enforce = policy("enforce", &it.enforce, &it.enforce_version);
        let warn = policy("warn", &it.warn, &it.warn_version);
        let audit = policy("audit", &it.audit, &it.audit_version);
        read.exemptions.check(&mut faults);
        match faults.as_slice() {
            [] => {}
            [one] => return Err(PodSecurityError::Invalid { faults: one.to_string() }),
            many => {
                let all: Vec<String> = many.iter().map(ToString::to_string).collect();
                let faults = format!("[{}]", all.join(", "));
                return Err(PodSecurityError::Invalid { faults });
            }
        }
        let defaults = Policies { enforce, audit, warn };
        Ok(Self { defaults, exemptions: read.exemptions })
    }
}

fn level(faults: &mut Vec<FieldError>, field: &str, text: &str) -> Level {
    let found = if text.is_empty() { Some(Level::default()) } else { Level::parse(text) };
    found.unwrap_or_else(|| {
        faults.push(FieldError::invalid(field, text, NO_LEVEL));
        Level::default()
    })
}

fn version(faults: &mut Vec<FieldError>, field: &str, text: &str) -> Option<u32> {
    let found = if text.is_empty() { Some(None) } else { minor(text) };
    found.unwrap_or_else(|| {
        faults.push(FieldError::invalid(field, text, NO_VERSION));
        None
    })
}

impl Exemptions {
    fn check(&self, faults: &mut Vec<FieldError>) {
        named(faults, "namespaces", &self.namespaces, validation::namespace_name);
        named(faults, "runtimeClasses", &self.runtime_classes, validation::object_name);
        named(faults, "usernames", &self.usernames, |it| {
            let wrong = it.is_empty().then(|| "username must not be empty".to_owned());
            wrong.into_iter().collect()
        });
    }
}

fn named(
    faults: &mut Vec<FieldError>,
    list: &str,
    names: &[String],
    wrong: fn(&str) -> Vec<String>,
) {
    let mut seen = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        let field = format!("exemptions.{list}[{index}]");
        let wrong = wrong(name);
        if !wrong.is_empty() {
            faults.push(FieldError::invalid(field, name.as_str(), wrong.join(", ")));
        } else if !seen.insert(name) {
            faults.push(FieldError::duplicate(field, name.as_str()));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(version: &str, more: Value) -> Result<PodSecurity, String> {
        let mut written = json!({"apiVersion": format!("{GROUP}/{version}"), "kind": KIND});
        for (key, value) in more.as_object().unwrap() {
            written[key] = value.clone();
        }
        PodSecurity::parse(&written).map_err(|error| error.to_string())
    }

    #[test]
    fn every_version_of_the_configuration_says_the_same() {
        let written = json!({
            "defaults": {"enforce": "baseline", "enforce-version": "v1.30", "warn": "restricted"},
            "exemptions": {"usernames": ["u"], "namespaces": ["kube-system"],
                "runtimeClasses": ["kata"]},
        });
        for version in VERSIONS {
            let found = parse(version, written.clone()).unwrap();
            let told = [found.defaults.enforce, found.defaults.warn, found.defaults.audit];
            let told = told.map(|it| it.to_string());
            assert_eq!(told, ["baseline:v1.30", "restricted:latest", "privileged:latest"]);
            assert_eq!(found.exemptions.runtime_classes, ["kata"]);
        }
        assert!(parse("v1", json!({})).unwrap().defaults.are_privileged());
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_upstreams_words() {
        let of = |more: Value| parse("v1", more).unwrap_err();
        assert_eq!(
            parse("v2", json!({})).unwrap_err(),
            "no kind \"PodSecurityConfiguration\" is registered for version \
             \"pod-security.admission.config.k8s.io/v2\""
        );
        assert!(of(json!({"default": {}})).starts_with("strict decoding error: unknown field"));
        assert_eq!(
            of(json!({"defaults": {"audit": "strict"}})),
            "PodSecurity invalid: defaults.audit: Invalid value: \"strict\": must be one of \
             privileged, baseline, restricted"
        );
        assert_eq!(
            of(json!({"defaults": {"warn-version": "1.30"},
                "exemptions": {"usernames": ["", "u", "u"], "namespaces": ["a", "a"]}})),
            "PodSecurity invalid: [defaults.warn-version: Invalid value: \"1.30\": must be \
             \"latest\" or \"v1.x\", exemptions.namespaces[1]: Duplicate value: \"a\", \
             exemptions.usernames[0]: Invalid value: \"\": username must not be empty, \
             exemptions.usernames[2]: Duplicate value: \
             \"u\"]"
        );
        let bad = of(json!({"exemptions": {"runtimeClasses": ["A_b"]}}));
        assert!(bad.contains("exemptions.runtimeClasses[0]: Invalid value: \"A_b\": a lowercase"));
    }
}
