//! Groups that failed are left alone, longer each time.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::options::Backoff;

/// Why a group failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What the status calls it.
    pub code: &'static str,
    pub message: String,
}

impl Problem {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoffs(BTreeMap<String, Entry>);

#[derive(Clone, Debug)]
struct Entry {
    duration: std::time::Duration,
    until: Timestamp,
    failed_at: Timestamp,
    problem: Problem,
}

impl Backoffs {
    pub(super) fn fail(
        &mut self,
        group: &str,
        problem: Problem,
        options: &Backoff,
        now: Timestamp,
    ) {
        let duration = match self.0.get(group) {
            // Two reports of one failure are one failure.
            Some(last) if last.until > now => last.duration,
            Some(last) if last.failed_at + options.reset > now => {
                (last.duration * 2).min(options.max)
            }
            _ => options.initial,
        };
        let entry = Entry { duration, until: now + duration, failed_at: now, problem };
        self.0.insert(group.to_owned(), entry);
    }

    /// Nodes that were asked for at `asked` have come: a failure before is forgotten.
    pub(super) fn succeed(&mut self, group: &str, asked: Timestamp) {
        if self.0.get(group).is_some_and(|it| it.failed_at <= asked) {
            self.0.remove(group);
        }
    }

    pub(crate) fn is_active(&self, group: &str, now: Timestamp) -> bool {
        self.0.get(group).is_some_and(|it| it.until > now)
    }

    /// Why a group is left alone now.
    pub(crate) fn problem(&self, group: &str, now: Timestamp) -> Option<&Problem> {
        self.0.get(group).filter(|it| it.until > now).map(|it| &it.problem)
    }
}
