//! ValidatingAdmissionPolicies: what must hold, and what is told where it does not.
//!
//! Upstream: k8s.io/apiserver/pkg/admission/plugin/policy/validating.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Effects, Views,
    definition::{Compiler, Hook, Rules},
    selection::{Denial, Invocation, Step, refused, select},
    variables::Variables,
};
use crate::{
    admission::{conditions::Held, expressions::Facts, round::Round},
    authz::{items, text},
    cel::{self, Budget, Error, Program, Type},
    status::Status,
};

/// Upstream: `maxAuditAnnotationValueLength`.
const LONGEST_ANNOTATION: usize = 10 * 1024;
const LONGEST_MESSAGE: usize = 5 * 1024;
const FAILURES: &str = "validation.policy.admission.k8s.io/validation_failure";

pub(super) struct Validations {
    checks: Vec<Check>,
    annotations: Vec<Annotation>,
}

struct Check {
    expression: String,
    program: Program,
    message: String,
    message_program: Option<Program>,
    reason: String,
}

struct Annotation {
    key: String,
    expression: String,
    program: Program,
}

impl Rules for Validations {
    const STRUCTS: Option<fn(&str) -> Option<Type>> = None;

    fn of(spec: &Value, compiler: &Compiler) -> Result<Self, String> {
        let check = |it: &Value| {
            let message = text(it, "/messageExpression");
            let message =
                (!message.is_empty()).then(|| compiler.compile_message(message)).transpose()?;
            Ok(Check {
                expression: text(it, "/expression").trim().to_owned(),
                program: compiler.compile(text(it, "/expression"), &[Type::Bool])?,
                message: text(it, "/message").trim().to_owned(),
                message_program: message,
                reason: text(it, "/reason").to_owned(),
            })
        };
        let annotation = |it: &Value| {
            let expression = text(it, "/valueExpression");
            Ok(Annotation {
                key: text(it, "/key").to_owned(),
                expression: expression.trim().to_owned(),
                program: compiler.compile(expression, &[Type::String, Type::Null])?,
            })
        };
        Ok(Self {
            checks: items(spec, "/validations").iter().map(check).collect::<Result<_, String>>()?,
            annotations: items(spec, "/auditAnnotations")
                .iter()
                .map(annotation)
                .collect::<Result<_, String>>()?,
        })
    }
}

/// One thing that does not hold: which of the validations, what is told, and under which reason.
struct Failure {
    index: usize,
    message: String,
    reason: String,
    /// As metrics call it.
    error: &'static str,
    took: Duration,
}

/// What one evaluation found.
#[derive(Default)]
struct Findings {
    failures: Vec<Failure>,
    /// Keys and texts for the audit log.
    annotations: Vec<(String, String)>,
    /// Annotations that could not be had.
    broken: Vec<String>,
    /// Validations that could not be evaluated and pass for that.
    ignored: Vec<(&'static str, Duration)>,
    /// What came of the match conditions.
    held: Option<Held>,
}

impl Findings {
    fn count(&self, invocation: &Invocation<'_, Validations>, round: &Round<'_>) {
        let measures = &round.context.measures;
        if let Some(held) = &self.held {
            super::measure(round, &invocation.policy.name, "validate", held);
        }
        let of = (invocation.policy.name.as_str(), invocation.binding.name.as_str());
        self.ignored.iter().for_each(|(error, took)| measures.checked(of, error, "allow", *took));
        for failure in &self.failures {
            for action in &invocation.binding.actions {
                let action = match action.as_str() {
                    "Deny" => "deny",
                    "Audit" => "audit",
                    "Warn" => "warn",
                    _ => continue,
                };
                measures.checked(of, failure.error, action, failure.took);
            }
        }
    }
}

fn kind(error: &Error) -> &'static str {
    match error {
        Error::Budget => "out_of_budget",
        _ => "invalid_error",
    }
}

pub(super) async fn run(
    round: &Round<'_>,
    hooks: &[Hook<Validations>],
    object: &Value,
    effects: &mut Effects,
) -> Result<(), Status> {
    let (mut views, mut denials) = (Views::of(round), Vec::new());
    let mut published = Published::default();
    for step in select(round, hooks, object) {
        let invocation = match step {
            Step::Refuse(denial) => {
                denials.push(denial);
                continue;
            }
            Step::Run(invocation) => invocation,
        };
        let mut facts = views.facts(&invocation.resource, object);
        facts.params.clone_from(&invocation.params);
        let found = views.authority.answered(|| evaluate(&invocation, &facts)).await;
        published.take(&invocation, &found, effects);
        found.count(&invocation, round);
        denials.extend(denied(&invocation, found));
    }
    effects.annotations.extend(published.finish());
    match denials.first() {
        None => Ok(()),
        Some(first) => Err(refusal(round, object, first, &denials)),
    }
}

fn evaluate(invocation: &Invocation<'_, Validations>, facts: &Facts) -> Findings {
    let (policy, compiled) = (invocation.policy, invocation.compiled);
    let mut findings = Findings::default();
    let held = compiled.conditions.hold(facts);
    let result = held.result.clone();
    findings.held = (!compiled.conditions.is_empty()).then_some(held);
    match result {
        Ok(true) => {}
        Ok(false) => return findings,
        Err(_) if policy.fails_open => return findings,
        Err(message) => {
            let (error, took) = ("invalid_error", Duration::ZERO);
            findings.failures.push(Failure {
                index: 0,
                message,
                reason: String::new(),
                error,
                took,
            });
            return findings;
        }
    }
    let variables = Variables::of(facts, &compiled.variables);
    let mut budget = Budget::new(cel::PER_OBJECT);
    for (index, check) in compiled.rules.checks.iter().enumerate() {
        let began = Instant::now();
        let failed = |message, reason, error| Failure {
            index,
            message,
            reason,
            error,
            took: began.elapsed(),
        };
        match check.program.eval(&variables, &mut budget) {
            Ok(cel::Value::Bool(true)) => {}
            Ok(_) => {
                let message = check.message(&variables, &mut budget);
                findings.failures.push(failed(message, check.reason.clone(), "no_error"));
            }
            Err(error) if policy.fails_open => {
                findings.ignored.push((kind(&error), began.elapsed()));
            }
            Err(error) => {
                let message = told(&check.expression, &error);
                findings.failures.push(failed(message, String::new(), kind(&error)));
            }
        }
    }
    for it in &compiled.rules.annotations {
        match it.program.eval(&variables, &mut budget) {
            Ok(cel::Value::String(value)) if !value.trim().is_empty() => {
                findings.annotations.push((it.key.clone(), value.trim().to_owned()));
            }
            Ok(_) => {}
            Err(_) if policy.fails_open => {}
            Err(error) => findings.broken.push(told(&it.expression, &error)),
        }
    }
    findings
}

fn told(expression: &str, error: &Error) -> String {
    match error {
        Error::Budget => error.to_string(),
        error => format!("expression '{expression}' resulted in error: {error}"),
    }
}

impl Check {
    /// What is told where the expression is false.
    fn message(&self, variables: &Variables<'_>, budget: &mut Budget) -> String {
        if let Some(program) = &self.message_program {
            match program.eval(variables, budget) {
                Ok(cel::Value::String(text)) => {
                    let text = text.trim();
                    if !text.is_empty() && text.len() <= LONGEST_MESSAGE && !text.contains('\n') {
                        return text.to_owned();
                    }
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "a messageExpression gives no message"),
            }
        }
        match self.message.as_str() {
            "" => format!("failed expression: {}", self.expression),
            message => message.to_owned(),
        }
    }
}

/// What the binding makes of findings beside warnings and the audit log.
fn denied(invocation: &Invocation<'_, Validations>, found: Findings) -> Vec<Denial> {
    let denial = |message, reason| Denial {
        policy: invocation.policy.name.clone(),
        binding: Some(invocation.binding.name.clone()),
        message,
        reason,
    };
    let denies = invocation.binding.actions.iter().any(|it| it == "Deny");
    let failures = found.failures.into_iter().filter(|_| denies);
    let failures = failures.map(|it| denial(it.message, it.reason));
    failures.chain(found.broken.into_iter().map(|it| denial(it, String::new()))).collect()
}

/// What goes into the audit log.
#[derive(Default)]
struct Published {
    failures: Vec<Value>,
    /// By key: the different values, in their order.
    values: Vec<(String, Vec<String>)>,
}

impl Published {
    fn take(
        &mut self,
        invocation: &Invocation<'_, Validations>,
        found: &Findings,
        effects: &mut Effects,
    ) {
        let (policy, binding) = (&invocation.policy.name, &invocation.binding.name);
        for failure in &found.failures {
            for action in &invocation.binding.actions {
                match action.as_str() {
                    "Warn" => effects.warnings.push(format!(
                        "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding \
                         '{binding}': {}",
                        failure.message
                    )),
                    "Audit" => self.failures.push(json!({
                        "message": failure.message, "policy": policy, "binding": binding,
                        "expressionIndex": failure.index,
                        "validationActions": invocation.binding.actions,
                    })),
                    _ => {}
                }
            }
        }
        for (key, value) in &found.annotations {
            let key = format!("{policy}/{key}");
            let mut end = value.len().min(LONGEST_ANNOTATION);
            while !value.is_char_boundary(end) {
                end -= 1;
            }
            let value = value[..end].to_owned();
            match self.values.iter_mut().find(|(it, _)| *it == key) {
                Some((_, known)) if known.contains(&value) => {}
                Some((_, known)) => known.push(value),
                None => self.values.push((key, vec![value])),
            }
        }
    }

    fn finish(self) -> Vec<(String, String)> {
        let failures = (!self.failures.is_empty())
            .then(|| (FAILURES.to_owned(), Value::Array(self.failures).to_string()));
        let values = self.values.into_iter().map(|(key, all)| (key, all.join(", ")));
        failures.into_iter().chain(values).collect()
    }
}

fn refusal(round: &Round<'_>, object: &Value, first: &Denial, all: &[Denial]) -> Status {
    let message = |it: &Denial| {
        let policy = &it.policy;
        match &it.binding {
            Some(binding) => format!(
                "ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {}",
                it.message
            ),
            None => format!("ValidatingAdmissionPolicy '{policy}' denied request: {}", it.message),
        }
    };
    let mut status = round.attributes.forbidden(object, &message(first));
    let (code, reason) = match first.reason.as_str() {
        "Forbidden" => (StatusCode::FORBIDDEN, "Forbidden"),
        "Unauthorized" => (StatusCode::UNAUTHORIZED, "Unauthorized"),
        "RequestEntityTooLarge" => (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge"),
        _ => (StatusCode::UNPROCESSABLE_ENTITY, "Invalid"),
    };
    (status.code, status.reason) = (code, reason.into());
    refused(status, &all[..1], message)
}
