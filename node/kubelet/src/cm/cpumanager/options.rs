//! The options of the `static` policy.
//!
//! Upstream: `pkg/kubelet/cm/cpumanager/policy_options.go`.
//!
//! Deviation: `prefer-align-cpus-by-uncorecache` is refused.

use std::collections::BTreeMap;

use crate::cm::topologymanager::parse_bool;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Only whole cores are given.
    pub full_pcpus_only: bool,
    pub distribute_across_numa: bool,
    /// Nobody but the system runs on the reserved CPUs.
    pub strict_cpu_reservation: bool,
}

/// An option that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseOptionsError {
    #[error("unknown CPU Manager Policy option: \"{0}\"")]
    Unknown(String),
    #[error("CPU Manager Policy Alpha-level Options not enabled, but option \"{0}\" provided")]
    Alpha(String),
    #[error("unsupported cpumanager option: \"{name}\" ({value})")]
    Unsupported { name: String, value: String },
    #[error(
        "bad value for option \"{name}\": strconv.ParseBool: parsing \"{value}\": invalid syntax"
    )]
    Value { name: String, value: String },
}

const ALPHA: [&str; 2] = ["align-by-socket", "distribute-cpus-across-cores"];

impl Options {
    pub(crate) fn parse(options: &BTreeMap<String, String>) -> Result<Self, ParseOptionsError> {
        let mut parsed = Self::default();
        for (name, value) in options {
            let field = match name.as_str() {
                "full-pcpus-only" => &mut parsed.full_pcpus_only,
                "distribute-cpus-across-numa" => &mut parsed.distribute_across_numa,
                "strict-cpu-reservation" => &mut parsed.strict_cpu_reservation,
                "prefer-align-cpus-by-uncorecache" => {
                    let (name, value) = (name.clone(), value.clone());
                    return Err(ParseOptionsError::Unsupported { name, value });
                }
                other if ALPHA.contains(&other) => {
                    return Err(ParseOptionsError::Alpha(other.to_owned()));
                }
                other => return Err(ParseOptionsError::Unknown(other.to_owned())),
            };
            *field = parse_bool(value).ok_or_else(|| ParseOptionsError::Value {
                name: name.clone(),
                value: value.clone(),
            })?;
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, value: &str) -> Result<Options, String> {
        let options = [(name.to_owned(), value.to_owned())].into_iter().collect();
        Options::parse(&options).map_err(|it| it.to_string())
    }

    #[test]
    fn options_are_known_or_refused_in_upstreams_words() {
        assert!(parse("full-pcpus-only", "true").unwrap().full_pcpus_only);
        assert!(!parse("distribute-cpus-across-numa", "false").unwrap().distribute_across_numa);
        let cases = [
            ("quick", "true", "unknown CPU Manager Policy option: \"quick\""),
            (
                "align-by-socket",
                "true",
                "CPU Manager Policy Alpha-level Options not enabled, but option \"align-by-socket\" provided",
            ),
            (
                "full-pcpus-only",
                "yes",
                "bad value for option \"full-pcpus-only\": strconv.ParseBool: parsing \"yes\": invalid syntax",
            ),
        ];
        for (name, value, message) in cases {
            assert_eq!(parse(name, value).unwrap_err(), message);
        }
    }
}
