//! What admission takes: its two steps, its plug-ins, webhooks, and policies.
//!
//! Steps and plug-ins have a cell each for what can happen to them, so that a write locks and allocates
//! nothing for them.
//!
//! Upstream: k8s.io/apiserver/pkg/admission/metrics, pkg/admission/plugin/policy/validating/metrics,
//! pkg/cel/metrics. Deviation: a plug-in is counted where it had anything to look at; what mutating
//! policies do is not measured.

use std::{
    collections::BTreeMap,
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{head, histogram::Histogram, match_conditions::MatchConditions};
use crate::admission::Operation;

const STEPS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
const WEBHOOKS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
const CHECKS: &[f64] = &[0.000_000_5, 0.001, 0.01, 0.1, 1.0];
/// What Prometheus's clients have where nothing is said.
const PLAIN: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What compilations of expressions took, and evaluations of the rules of a custom object.
pub(crate) static COMPILED: LazyLock<Histogram> = LazyLock::new(|| Histogram::new(PLAIN));
pub(crate) static EVALUATED: LazyLock<Histogram> = LazyLock::new(|| Histogram::new(PLAIN));

/// The half of admission that changes objects, and the one that only refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Admit,
    Validate,
}

impl Step {
    fn text(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Validate => "validate",
        }
    }
}

/// Upstream's plug-ins, by its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plugin {
    NamespaceLifecycle,
    LimitRanger,
    ServiceAccount,
    Priority,
    RuntimeClass,
    DefaultTolerationSeconds,
    PodTopologyLabels,
    /// Claims and volumes: the default class, protection, and what may be resized.
    DefaultStorageClass,
    DefaultIngressClass,
    TaintNodesByCondition,
    NodeRestriction,
    CertificateSigning,
    MutatingAdmissionPolicy,
    MutatingAdmissionWebhook,
    PodSecurity,
    ValidatingAdmissionPolicy,
    ValidatingAdmissionWebhook,
    ResourceQuota,
}

const PLUGINS: [Plugin; 18] = [
    Plugin::NamespaceLifecycle,
    Plugin::LimitRanger,
    Plugin::ServiceAccount,
    Plugin::Priority,
    Plugin::RuntimeClass,
    Plugin::DefaultTolerationSeconds,
    Plugin::PodTopologyLabels,
    Plugin::DefaultStorageClass,
    Plugin::DefaultIngressClass,
    Plugin::TaintNodesByCondition,
    Plugin::NodeRestriction,
    Plugin::CertificateSigning,
    Plugin::MutatingAdmissionPolicy,
    Plugin::MutatingAdmissionWebhook,
    Plugin::PodSecurity,
    Plugin::ValidatingAdmissionPolicy,
    Plugin::ValidatingAdmissionWebhook,
    Plugin::ResourceQuota,
];

const OPERATIONS: [Operation; 4] =
    [Operation::Create, Operation::Update, Operation::Delete, Operation::Connect];

/// A histogram for each step, operation, and whether it was refused; made when it is needed.
#[derive(Debug, Default)]
struct Cells([[[OnceLock<Histogram>; 2]; 4]; 2]);

impl Cells {
    fn observe(&self, step: Step, operation: Operation, is_refused: bool, took: Duration) {
        let cell = &self.0[step as usize][operation as usize][usize::from(is_refused)];
        cell.get_or_init(|| Histogram::new(STEPS)).observe(took.as_secs_f64());
    }

    fn write(&self, text: &mut String, family: &str, name: &str) {
        for step in [Step::Admit, Step::Validate] {
            for operation in OPERATIONS {
                for is_refused in [false, true] {
                    let cell = &self.0[step as usize][operation as usize][usize::from(is_refused)];
                    let Some(took) = cell.get() else { continue };
                    let (word, step) = (operation.word(), step.text());
                    let labels = format!(
                        "{name}operation=\"{word}\",rejected=\"{is_refused}\",type=\"{step}\""
                    );
                    took.write(text, family, &labels);
                }
            }
        }
    }
}

/// How a webhook was asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asked {
    pub(crate) name: String,
    /// `admit` or `validating`.
    pub(crate) step: &'static str,
    pub(crate) operation: &'static str,
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    Allowed,
    Refused {
        code: u16,
    },
    Failed {
        code: u16,
        is_refused: bool,
    },
    /// Its patch could not be applied.
    Broken,
}

#[derive(Debug, Default)]
struct WebhookCounts {
    /// By whether it was refused.
    took: [Option<Histogram>; 2],
    /// By code and whether it was refused.
    requests: BTreeMap<(u16, bool), u64>,
    /// By kind of error and code.
    rejections: BTreeMap<(&'static str, u16), u64>,
    failed_open: u64,
}

/// The policy, its binding, which error there was, and what was done.
type CheckKey = (String, String, &'static str, &'static str);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    steps: Cells,
    plugins: [Cells; PLUGINS.len()],
    webhooks: Mutex<BTreeMap<Asked, WebhookCounts>>,
    checks: Mutex<BTreeMap<CheckKey, Histogram>>,
    pub(crate) match_conditions: MatchConditions,
}

/// Measures the plug-ins of one step, one after the other.
pub(crate) struct Watch<'a> {
    measures: &'a Admission,
    step: Step,
    operation: Operation,
    began: Instant,
    last: Instant,
}

impl Watch<'_> {
    /// A plug-in has ended that began when the one before it did.
    pub(crate) fn ended<T, E>(&mut self, plugin: Plugin, result: Result<T, E>) -> Result<T, E> {
        let now = Instant::now();
        let took = now.duration_since(self.last);
        self.last = now;
        let cells = &self.measures.plugins[plugin as usize];
        cells.observe(self.step, self.operation, result.is_err(), took);
        result
    }

    /// So has one that refuses nothing.
    pub(crate) fn passed(&mut self, plugin: Plugin) {
        let Ok(()) = self.ended::<(), std::convert::Infallible>(plugin, Ok(()));
    }

    /// Nothing that is measured was done since.
    pub(crate) fn skip(&mut self) {
        self.last = Instant::now();
    }

    /// The whole step has ended.
    pub(crate) fn over(&self, is_refused: bool) {
        let took = self.began.elapsed();
        self.measures.steps.observe(self.step, self.operation, is_refused, took);
    }
}

impl Admission {
    pub(crate) fn watch(&self, step: Step, operation: Operation) -> Watch<'_> {
        let began = Instant::now();
        Watch { measures: self, step, operation, began, last: began }
    }

    pub(crate) fn webhook(&self, asked: Asked, answered: Answered, took: Duration) {
        let (code, is_refused) = match answered {
            Answered::Allowed => (200, false),
            Answered::Broken => (0, true),
            Answered::Refused { code } => (code, true),
            Answered::Failed { code, is_refused } => (code, is_refused),
        };
        // As upstream: nobody makes up more labels than these.
        let code = code.min(600);
        let mut all = self.webhooks.lock();
        let counts = all.entry(asked).or_default();
        let histogram = &mut counts.took[usize::from(is_refused)];
        histogram.get_or_insert_with(|| Histogram::new(WEBHOOKS)).observe(took.as_secs_f64());
        *counts.requests.entry((code, is_refused)).or_default() += 1;
        let kind = match answered {
            Answered::Allowed => return,
            Answered::Refused { .. } => "no_error",
            Answered::Broken => "apiserver_internal_error",
            Answered::Failed { is_refused: true, .. } => "calling_webhook_error",
            Answered::Failed { is_refused: false, .. } => return counts.failed_open += 1,
        };
        *counts.rejections.entry((kind, code)).or_default() += 1;
    }

    /// One validation of a policy did not hold, or could not be evaluated.
    pub(crate) fn checked(
        &self,
        (policy, binding): (&str, &str),
        error: &'static str,
        action: &'static str,
        took: Duration,
    ) {
        let key = (policy.to_owned(), binding.to_owned(), error, action);
        let mut all = self.checks.lock();
        all.entry(key).or_insert_with(|| Histogram::new(CHECKS)).observe(took.as_secs_f64());
    }

    /// In Prometheus's format.
    pub(crate) fn write(&self, text: &mut String) {
        const STEP: &str = "apiserver_admission_step_admission_duration_seconds";
        let help = "Admission sub-step latency histogram in seconds, broken out for each operation \
                    and API resource and step type (validate or admit).";
        head(text, STEP, "histogram", help);
        self.steps.write(text, STEP, "");
        const PLUGIN: &str = "apiserver_admission_controller_admission_duration_seconds";
        let help = "Admission controller latency histogram in seconds, identified by name and broken \
                    out for each operation and API resource and type (validate or admit).";
        head(text, PLUGIN, "histogram", help);
        for plugin in PLUGINS {
            let name = format!("name=\"{plugin:?}\",");
            self.plugins[plugin as usize].write(text, PLUGIN, &name);
        }
        self.match_conditions.write(text);
        self.write_webhooks(text);
        self.write_checks(text);
        for (name, took) in [
            ("apiserver_cel_compilation_duration_seconds", &*COMPILED),
            ("apiserver_cel_evaluation_duration_seconds", &*EVALUATED),
        ] {
            head(text, name, "histogram", "");
            took.write(text, name, "");
        }
    }

    fn write_webhooks(&self, text: &mut String) {
        let all = self.webhooks.lock();
        const TOOK: &str = "apiserver_admission_webhook_admission_duration_seconds";
        let help = "Admission webhook latency histogram in seconds, identified by name and broken \
                    out for each operation and API resource and type (validate or admit).";
        head(text, TOOK, "histogram", help);
        for (Asked { name, step, operation }, counts) in all.iter() {
            for (is_refused, took) in [(false, &counts.took[0]), (true, &counts.took[1])] {
                let labels = format!(
                    "name=\"{name}\",operation=\"{operation}\",rejected=\"{is_refused}\",type=\"{step}\""
                );
                took.iter().for_each(|it| it.write(text, TOOK, &labels));
            }
        }
        const REQUESTS: &str = "apiserver_admission_webhook_request_total";
        let help = "Admission webhook request total, identified by name and broken out for each \
                    admission type (validating or mutating) and operation.";
        head(text, REQUESTS, "counter", help);
        for (Asked { name, step, operation }, counts) in all.iter() {
            for ((code, is_refused), count) in &counts.requests {
                text.push_str(&format!(
                    "{REQUESTS}{{code=\"{code}\",name=\"{name}\",operation=\"{operation}\",\
                     rejected=\"{is_refused}\",type=\"{step}\"}} {count}\n"
                ));
            }
        }
        const REJECTIONS: &str = "apiserver_admission_webhook_rejection_count";
        let help = "Admission webhook rejection count, identified by name and broken out for each \
                    admission type (validating or admit) and operation.";
        head(text, REJECTIONS, "counter", help);
        for (Asked { name, step, operation }, counts) in all.iter() {
            for ((kind, code), count) in &counts.rejections {
                text.push_str(&format!(
                    "{REJECTIONS}{{error_type=\"{kind}\",name=\"{name}\",operation=\"{operation}\",\
                     rejection_code=\"{code}\",type=\"{step}\"}} {count}\n"
                ));
            }
        }
        const OPEN: &str = "apiserver_admission_webhook_fail_open_count";
        let help = "Admission webhook fail open count, identified by name and broken out for each \
                    admission type (validating or mutating).";
        head(text, OPEN, "counter", help);
        let mut open = BTreeMap::<_, u64>::new();
        for (asked, counts) in all.iter().filter(|it| it.1.failed_open > 0) {
            *open.entry((&asked.name, asked.step)).or_default() += counts.failed_open;
        }
        for ((name, step), count) in open {
            text.push_str(&format!("{OPEN}{{name=\"{name}\",type=\"{step}\"}} {count}\n"));
        }
    }

    fn write_checks(&self, text: &mut String) {
        let all = self.checks.lock();
        let labels = |(policy, binding, error, action): &CheckKey| {
            format!(
                "enforcement_action=\"{action}\",error_type=\"{error}\",policy=\"{policy}\",\
                 policy_binding=\"{binding}\""
            )
        };
        const TOTAL: &str = "apiserver_validating_admission_policy_check_total";
        let help = "Validation admission policy check total, labeled by policy and further \
                    identified by binding and enforcement action taken.";
        head(text, TOTAL, "counter", help);
        for (key, took) in all.iter() {
            text.push_str(&format!("{TOTAL}{{{}}} {}\n", labels(key), took.count()));
        }
        const TOOK: &str = "apiserver_validating_admission_policy_check_duration_seconds";
        let help = "Validation admission latency for individual validation expressions in seconds, \
                    labeled by policy and further including binding and enforcement action taken.";
        head(text, TOOK, "histogram", help);
        all.iter().for_each(|(key, took)| took.write(text, TOOK, &labels(key)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(measures: &Admission, lines: &[&str]) {
        let mut text = String::new();
        measures.write(&mut text);
        for line in lines {
            assert!(text.lines().any(|it| it == *line), "{line}\n{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn steps_and_plugins_are_told_with_what_they_took_and_whether_they_refused() {
        let measures = Admission::default();
        let mut watch = measures.watch(Step::Validate, Operation::Create);
        tokio::time::advance(Duration::from_millis(6)).await;
        watch.passed(Plugin::LimitRanger);
        tokio::time::advance(Duration::from_millis(50)).await;
        watch.ended(Plugin::ResourceQuota, Err::<(), _>("too much")).unwrap_err();
        watch.over(true);
        const PLUGIN: &str = "apiserver_admission_controller_admission_duration_seconds";
        const STEP: &str = "apiserver_admission_step_admission_duration_seconds";
        let of = |name: &str, refused: bool| {
            format!("name=\"{name}\",operation=\"CREATE\",rejected=\"{refused}\",type=\"validate\"")
        };
        let (ranger, quota) = (of("LimitRanger", false), of("ResourceQuota", true));
        has(
            &measures,
            &[
                &format!("{PLUGIN}_bucket{{{ranger},le=\"0.005\"}} 0"),
                &format!("{PLUGIN}_sum{{{ranger}}} 0.006"),
                &format!("{PLUGIN}_sum{{{quota}}} 0.05"),
                &format!(
                    "{STEP}_count{{operation=\"CREATE\",rejected=\"true\",type=\"validate\"}} 1"
                ),
            ],
        );
    }

    #[test]
    fn every_plugin_has_its_own_cell() {
        for (index, plugin) in PLUGINS.into_iter().enumerate() {
            assert_eq!(plugin as usize, index, "{plugin:?}");
        }
        for (index, operation) in OPERATIONS.into_iter().enumerate() {
            assert_eq!(operation as usize, index, "{operation:?}");
        }
    }

    #[test]
    fn webhooks_are_told_by_what_they_answered() {
        let measures = Admission::default();
        let asked = || Asked { name: "a.b.c".into(), step: "validating", operation: "CREATE" };
        let took = Duration::from_millis(6);
        measures.webhook(asked(), Answered::Allowed, took);
        measures.webhook(asked(), Answered::Refused { code: 999 }, took);
        measures.webhook(asked(), Answered::Failed { code: 503, is_refused: true }, took);
        measures.webhook(asked(), Answered::Failed { code: 503, is_refused: false }, took);
        let name = "name=\"a.b.c\",operation=\"CREATE\"";
        has(
            &measures,
            &[
                &format!(
                    "apiserver_admission_webhook_request_total{{code=\"200\",{name},rejected=\"false\",type=\"validating\"}} 1"
                ),
                &format!(
                    "apiserver_admission_webhook_request_total{{code=\"503\",{name},rejected=\"false\",type=\"validating\"}} 1"
                ),
                &format!(
                    "apiserver_admission_webhook_rejection_count{{error_type=\"no_error\",{name},rejection_code=\"600\",type=\"validating\"}} 1"
                ),
                &format!(
                    "apiserver_admission_webhook_rejection_count{{error_type=\"calling_webhook_error\",{name},rejection_code=\"503\",type=\"validating\"}} 1"
                ),
                "apiserver_admission_webhook_fail_open_count{name=\"a.b.c\",type=\"validating\"} 1",
                &format!(
                    "apiserver_admission_webhook_admission_duration_seconds_count{{{name},rejected=\"true\",type=\"validating\"}} 2"
                ),
            ],
        );
    }
}
