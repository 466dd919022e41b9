//! Levels, and what the labels of a Namespace make of them.
//!
//! Upstream: `PolicyToEvaluate` of k8s.io/pod-security-admission.

use std::fmt;

use serde_json::Value;

use super::{Violation, baseline, restricted};
use crate::status::FieldError;

pub(super) const PREFIX: &str = "pod-security.kubernetes.io/";
const MODES: [&str; 3] = ["enforce", "audit", "warn"];
pub(super) const NO_LEVEL: &str = "must be one of privileged, baseline, restricted";
pub(super) const NO_VERSION: &str = "must be \"latest\" or \"v1.x\"";

/// From what is least to what is most restricted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    #[default]
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }
}

/// A level, as of a minor version of Kubernetes; `None` is the latest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) level: Level,
    pub(super) version: Option<u32>,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            None => write!(f, "{level}:latest"),
            Some(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

impl Policy {
    /// Whether the policy is at least of this minor version.
    pub(super) fn is_since(&self, minor: u32) -> bool {
        self.version.is_none_or(|it| it >= minor)
    }

    pub(super) fn violations(&self, metadata: &Value, spec: &Value) -> Vec<Violation> {
        let mut found = Vec::new();
        if self.level >= Level::Baseline {
            baseline::check(self, metadata, spec, &mut found);
        }
        if self.level == Level::Restricted {
            restricted::check(self, spec, &mut found);
        }
        found
    }
}

/// What is refused, what is written down and what is warned of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Policies {
    pub(super) enforce: Policy,
    pub(super) audit: Policy,
    pub(super) warn: Policy,
}

impl Policies {
    /// Of a Namespace. A level to enforce that cannot be read is as strict as can be, the others are
    /// as loose. Whoever enforces a level is warned of it, unless the Namespace says otherwise.
    pub(super) fn of(namespace: &Value, defaults: &Self) -> Self {
        let labels = &namespace["metadata"]["labels"];
        let label = |name: &str| labels[format!("{PREFIX}{name}")].as_str();
        let version = |mode: &str, default: &Policy| match label(&format!("{mode}-version")) {
            Some(text) => minor(text).flatten(),
            None => default.version,
        };
        let level = |mode: &str, default: &Policy, otherwise: Level| match label(mode) {
            Some(text) => Level::parse(text).unwrap_or(otherwise),
            None => default.level,
        };
        let policy = |mode: &str, default: &Policy, otherwise: Level| Policy {
            level: level(mode, default, otherwise),
            version: version(mode, default),
        };
        let mut all = Self {
            enforce: policy("enforce", &defaults.enforce, Level::Restricted),
            audit: policy("audit", &defaults.audit, Level::Privileged),
            warn: policy("warn", &defaults.warn, Level::Privileged),
        };
        let is_enforced = label("enforce").and_then(Level::parse).is_some();
        if is_enforced && label("warn").is_none() && all.enforce.level > all.warn.level {
            all.warn.level = all.enforce.level;
            if label("warn-version").is_none() {
                all.warn.version = all.enforce.version;
            }
        }
        all
    }

    pub(super) fn are_privileged(&self) -> bool {
        let Self { enforce, audit, warn } = self;
        [enforce, audit, warn].iter().all(|it| it.level == Level::Privileged)
    }

    /// Those that a Namespace's labels name, if they restrict anything.
    pub(super) fn named_by(&self, namespace: &Value) -> String {
        let labels = &namespace["metadata"]["labels"];
        let is_named = |mode: &str| {
            let names = [format!("{PREFIX}{mode}"), format!("{PREFIX}{mode}-version")];
            names.iter().any(|it| labels[it].is_string())
        };
        let all = [("enforce", self.enforce), ("audit", self.audit), ("warn", self.warn)];
        let named = all.iter().filter(|(mode, it)| it.level > Level::Privileged && is_named(mode));
        named.map(|(mode, it)| format!("{mode}={it}")).collect::<Vec<_>>().join(", ")
    }
}

/// `latest` is `Some(None)`.
pub(super) fn minor(version: &str) -> Option<Option<u32>> {
    if version == "latest" {
        return Some(None);
    }
    let minor = version.strip_prefix("v1.")?;
    let is_plain = minor == "0" || !minor.starts_with('0');
    let is_number = !minor.is_empty() && minor.bytes().all(|it| it.is_ascii_digit());
    (is_plain && is_number).then(|| minor.parse().ok().map(Some)).flatten()
}

/// What is wrong with the labels of a Namespace.
pub(super) fn faults(namespace: &Value) -> Vec<FieldError> {
    let labels = &namespace["metadata"]["labels"];
    let mut errors = Vec::new();
    for mode in MODES {
        let (level, version) = (format!("{PREFIX}{mode}"), format!("{PREFIX}{mode}-version"));
        let mut wrong = |label: String, is_good: fn(&str) -> bool, why: &str| {
            if let Some(value) = labels[&label].as_str()
                && !is_good(value)
            {
                let field = format!("metadata.labels[{label}]");
                errors.push(FieldError::invalid(field, value, why));
            }
        };
        wrong(level, |it| Level::parse(it).is_some(), NO_LEVEL);
        wrong(version, |it| minor(it).is_some(), NO_VERSION);
    }
    errors
}
