//! What match conditions of webhooks and policies take, whom they keep from being asked, and which of
//! them cannot be evaluated.
//!
//! Upstream: k8s.io/apiserver/pkg/admission/metrics (`matchCondition…`).

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;

use super::{head, histogram::Histogram};

const BOUNDS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25];

/// Whose conditions, and at which request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asked {
    /// `webhook` or `policy`.
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) operation: &'static str,
    pub(crate) step: &'static str,
}

/// What came of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// How many of them could not be evaluated.
    pub(crate) errors: u64,
    /// A webhook is not called for them.
    pub(crate) is_excluded: bool,
    pub(crate) took: Duration,
}

#[derive(Debug)]
struct Counts {
    took: Histogram,
    errors: u64,
    exclusions: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct MatchConditions(Mutex<BTreeMap<Asked, Counts>>);

impl MatchConditions {
    pub(crate) fn observe(&self, asked: Asked, outcome: Outcome) {
        let mut all = self.0.lock();
        let counts = all.entry(asked).or_insert_with(|| Counts {
            took: Histogram::new(BOUNDS),
            errors: 0,
            exclusions: 0,
        });
        counts.took.observe(outcome.took.as_secs_f64());
        counts.errors += outcome.errors;
        counts.exclusions += u64::from(outcome.is_excluded);
    }

    /// In Prometheus's format.
    pub(crate) fn write(&self, text: &mut String) {
        let all = self.0.lock();
        let labels = |Asked { kind, name, operation, step }: &Asked| {
            format!("kind=\"{kind}\",name=\"{name}\",operation=\"{operation}\",type=\"{step}\"")
        };
        const TOOK: &str = "apiserver_admission_match_condition_evaluation_seconds";
        let help = "Admission match condition evaluation time in seconds, identified by name and \
                    broken out for each kind containing matchConditions (webhook or policy), \
                    operation and type (validate or admit).";
        head(text, TOOK, "histogram", help);
        all.iter().for_each(|(asked, it)| it.took.write(text, TOOK, &labels(asked)));
        let mut count = |name: &str, what: &str, of: fn(&Counts) -> u64| {
            let help = format!(
                "Admission match condition evaluation {what} count, identified by name of resource \
                 containing the match condition and broken out for each kind containing \
                 matchConditions (webhook or policy), operation and admission type (validate or admit)."
            );
            let name = format!("apiserver_admission_match_condition_{name}_total");
            head(text, &name, "counter", &help);
            for (asked, it) in all.iter().filter(|(_, it)| of(it) > 0) {
                text.push_str(&format!("{name}{{{}}} {}\n", labels(asked), of(it)));
            }
        };
        count("evaluation_errors", "errors", |it| it.errors);
        count("exclusions", "exclusions", |it| it.exclusions);
    }
}
