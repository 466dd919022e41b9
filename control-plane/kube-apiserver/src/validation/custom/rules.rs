//! `x-kubernetes-validations`: rules of schemas, run over objects.
//!
//! All rules about one object share a budget. A rule over `oldSelf` runs where there is an old value
//! to compare with; a rule that does not look at it tells nothing of what an update left as it was.
//!
//! Deviation: lists of type `set` and `map` are compared in their order, and rules within `allOf` are
//! refused, where upstream runs them; costs are counted when a rule runs, not estimated when the
//! definition is written (expressions are bounded in size and depth instead).
//!
//! Upstream: pkg/apiserver/schema/cel of k8s.io/apiextensions-apiserver.

mod compile;
mod types;

use std::collections::BTreeMap;

use serde_json::Value;

pub(super) use self::compile::definition;
use self::types::cel_value;
use super::ratchet;
use crate::{
    cel::{self, Budget, Error, Program},
    resources::custom::Custom,
    schema::structural::{ListKind, Node},
    status::FieldError,
};

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";
/// Of a message that an expression makes. Upstream: `MaxEvaluatedMessageExpressionSizeBytes`.
const LONGEST_MESSAGE: usize = 5 * 1024;

/// The rules of a place, and of the places below it that have some.
#[derive(Default)]
pub(crate) struct Rules {
    own: Vec<Rule>,
    fields: BTreeMap<String, Rules>,
    others: Option<Box<Rules>>,
    items: Option<Box<Rules>>,
    is_resource: bool,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").field("own", &self.own.len()).finish_non_exhaustive()
    }
}

/// One rule, ready to run.
struct Rule {
    /// Or why it cannot run; only a definition that was stored before can have one.
    program: Result<Program, String>,
    /// `messageExpression`.
    told: Option<Program>,
    rule: String,
    message: String,
    reason: String,
    /// `fieldPath`, without its first dot.
    field: String,
    uses_old: bool,
    /// `optionalOldSelf`.
    is_optional: bool,
}

impl Rule {
    /// How errors name it.
    fn name(&self) -> &str {
        let named = if self.message.is_empty() { &self.rule } else { &self.message };
        named.trim()
    }

    fn message(&self) -> String {
        if self.message.is_empty() {
            format!("failed rule: {}", self.name())
        } else {
            self.name().to_owned()
        }
    }
}

/// Where the walk is.
#[derive(Clone, Copy)]
struct Place<'a> {
    node: &'a Node,
    value: &'a Value,
    old: Option<&'a Value>,
    /// An update left this value, or the nearest one that has an old value, as it was.
    is_same: bool,
}

struct Run {
    found: Vec<FieldError>,
    budget: Budget,
    is_over: bool,
}

/// The faults that the rules of a version find in an object.
pub(super) fn check(custom: &Custom, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut run = Run { found: Vec::new(), budget: Budget::new(cel::PER_OBJECT), is_over: false };
    let place = Place {
        node: custom.node(),
        value: object,
        old,
        is_same: old.is_some_and(|it| it == object),
    };
    run.place("", custom.rules(), place);
    run.found
}

fn path(at: &str) -> String {
    if at.is_empty() { "<nil>".to_owned() } else { at.to_owned() }
}

fn join(at: &str, field: &str) -> String {
    if at.is_empty() { field.to_owned() } else { format!("{at}.{field}") }
}

impl Run {
    fn place(&mut self, at: &str, rules: &Rules, place: Place<'_>) {
        if self.is_over || place.value.is_null() {
            return;
        }
        self.own(at, rules, place);
        match place.value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let Some(node) = place.node.field(name) else { continue };
                    let is_field = place.node.fields.contains_key(name);
                    let below =
                        if is_field { rules.fields.get(name) } else { rules.others.as_deref() };
                    let Some(below) = below else { continue };
                    let at = if is_field { join(at, name) } else { format!("{at}[{name}]") };
                    let old = place.old.and_then(|it| it.get(name));
                    let is_same = old.is_some_and(|it| it == value);
                    self.place(&at, below, Place { node, value, old, is_same });
                }
            }
            Value::Array(items) => {
                let (Some(node), Some(below)) =
                    (place.node.items.as_deref(), rules.items.as_deref())
                else {
                    return;
                };
                let is_keyed = matches!(place.node.list, ListKind::Map(_));
                for (index, value) in items.iter().enumerate() {
                    let old = ratchet::item(&place.node.list, place.old, value);
                    let is_same =
                        if is_keyed { old.is_some_and(|it| it == value) } else { place.is_same };
                    self.place(
                        &format!("{at}[{index}]"),
                        below,
                        Place { node, value, old, is_same },
                    );
                }
            }
            _ => {}
        }
    }

    fn own(&mut self, at: &str, rules: &Rules, place: Place<'_>) {
        if rules.own.is_empty() {
            return;
        }
        let scope = Scope {
            current: cel_value(place.node, rules.is_resource, place.value),
            old: place.old.map(|it| cel_value(place.node, rules.is_resource, it)),
            is_optional: false,
        };
        for rule in &rules.own {
            if self.is_over {
                return;
            }
            self.one(at, rule, place, &scope);
        }
    }

    fn fail(&mut self, at: &str, place: Place<'_>, why: impl Into<String>) {
        self.found.push(FieldError::invalid(path(at), place.node.kind.as_str(), why));
    }

    fn one(&mut self, at: &str, rule: &Rule, place: Place<'_>, scope: &Scope) {
        let program = match &rule.program {
            Ok(program) => program,
            Err(why) => return self.fail(at, place, format!("rule compile error: {why}")),
        };
        if rule.uses_old && place.old.is_none() && !rule.is_optional {
            return;
        }
        let scope = Scope { is_optional: rule.is_optional, ..scope.clone() };
        match program.eval(&scope, &mut self.budget) {
            Ok(cel::Value::Bool(true)) => {}
            Ok(_) => self.broken(at, rule, place, &scope),
            Err(Error::Budget) => {
                self.is_over = true;
                self.fail(at, place, OUT_OF_BUDGET);
            }
            Err(error @ Error::Cost) => {
                self.is_over = true;
                let why = "no further validation rules will be run due to call cost exceeds limit \
                           for rule";
                self.fail(at, place, format!("'{error}': {why}: {}", rule.name()));
            }
            Err(Error::Told(why)) if why.starts_with("no such overload") => {
                let told = "call arguments did not match a supported operator, function or macro \
                            signature for rule";
                self.fail(at, place, format!("'{why}': {told}: {}", rule.name()));
            }
            Err(why) => self.fail(at, place, format!("{why} evaluating rule: {}", rule.name())),
        }
    }

    fn broken(&mut self, at: &str, rule: &Rule, place: Place<'_>, scope: &Scope) {
        let message = match self.told(rule, scope) {
            Ok(message) => message.unwrap_or_else(|| rule.message()),
            Err(why) => {
                self.is_over = true;
                return self.fail(at, place, why);
            }
        };
        if place.is_same && !rule.uses_old {
            return;
        }
        let at = if rule.field.is_empty() { path(at) } else { join(at, &rule.field) };
        let is_large = matches!(place.node.kind.as_str(), "object" | "array");
        let mut fault = match rule.reason.as_str() {
            "FieldValueForbidden" => FieldError::forbidden(at, message),
            "FieldValueRequired" => FieldError::required(at, message),
            "FieldValueDuplicate" => FieldError::duplicate(at, place.value.clone()),
            _ => FieldError::invalid(at, place.value.clone(), message),
        };
        fault.is_omitted = is_large;
        self.found.push(fault);
    }

    /// What the rule's own expression says, if it has one that says anything.
    fn told(&mut self, rule: &Rule, scope: &Scope) -> Result<Option<String>, String> {
        let Some(program) = &rule.told else { return Ok(None) };
        match program.eval(scope, &mut self.budget) {
            Ok(cel::Value::String(text)) => {
                let text = text.trim();
                let is_good =
                    !text.is_empty() && !text.contains('\n') && text.len() <= LONGEST_MESSAGE;
                Ok(is_good.then(|| text.to_owned()))
            }
            Err(Error::Budget) => Err("messageExpression evaluation failed due to running out of \
                                       cost budget, no further validation rules will be run"
                .to_owned()),
            Err(Error::Cost) => Err("no further validation rules will be run due to call cost \
                                     exceeds limit for messageExpression"
                .to_owned()),
            _ => Ok(None),
        }
    }
}

/// `self` and `oldSelf`.
#[derive(Clone)]
struct Scope {
    current: cel::Value,
    old: Option<cel::Value>,
    is_optional: bool,
}

impl cel::Scope for Scope {
    fn get(&self, name: &str, _: &mut Budget) -> Option<Result<cel::Value, Error>> {
        match name {
            "self" => Some(Ok(self.current.clone())),
            "oldSelf" if self.is_optional => Some(Ok(cel::value::optional_of(self.old.clone()))),
            "oldSelf" => self.old.clone().map(Ok),
            _ => None,
        }
    }
}
