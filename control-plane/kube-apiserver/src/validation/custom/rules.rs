//! `x-kubernetes-validations`: rules of schemas, run over objects.
//!
//! All rules about one object share a budget. A rule over `oldSelf` runs where there is an old value
//! to compare with; a rule that does not look at it only warns of what an update left as it was.
//!
//! Lists of type `set` and `map` are equal in whatever order their items are, and are merged by `+`.
//! Within `allOf` and the like there are no rules: upstream refuses such definitions, too.
//!
//! Upstream: pkg/apiserver/schema/cel of k8s.io/apiextensions-apiserver.

mod bounds;
mod compile;
mod costs;
mod path;
mod types;

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};

pub(super) use self::compile::definition;
use self::{
    path::Path,
    types::{cel_value, escaped},
};
use super::ratchet;
use crate::{
    cel::{self, Budget, Error, Lists, Program},
    metrics::{admission::EVALUATED, histogram::Timed},
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
    /// This value with its old one, or those of the nearest one around it that has an old value.
    compared: Option<(&'a Value, &'a Value)>,
}

impl Place<'_> {
    /// Whether an update left it as it was.
    fn is_left(self) -> bool {
        self.compared.is_some_and(|(old, new)| old == new)
    }
}

struct Run {
    found: Found,
    budget: Budget,
    is_over: bool,
}

impl Default for Run {
    fn default() -> Self {
        let budget = Budget::new(cel::PER_OBJECT);
        Self { found: Found::default(), budget, is_over: false }
    }
}

/// What rules find in an object.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) faults: Vec<FieldError>,
    /// What is wrong with values that an update left as they were: its client is warned.
    pub(crate) left: Vec<FieldError>,
}

/// The faults that the rules of a version find in an object.
pub(crate) fn check(custom: &Custom, object: &Value, old: Option<&Value>) -> Found {
    let _took = Timed::new(&EVALUATED);
    let mut run = Run::default();
    let place =
        Place { node: custom.node(), value: object, old, compared: old.map(|it| (it, object)) };
    run.place(Path::Begin(""), custom.rules(), place, Seen::default());
    run.found
}

/// The faults that the rules of a place find in its default.
pub(super) fn check_default(at: &str, node: &Node, default: &Value) -> Vec<FieldError> {
    let mut run = Run::default();
    // As upstream: what it was before is the default, too.
    let place = Place { node, value: default, old: Some(default), compared: None };
    run.place(Path::Begin(at), &Rules::below(node, node.is_embedded), place, Seen::default());
    run.found.faults
}

/// What is known of a place's value already: it is part of one that rules have seen.
#[derive(Clone, Copy, Default)]
struct Seen<'a> {
    current: Option<&'a cel::Value>,
    old: Option<&'a cel::Value>,
    lists: Option<&'a Arc<Lists>>,
}

impl<'a> Seen<'a> {
    fn field(self, name: &str) -> Self {
        let of = |it: Option<&'a cel::Value>| cel::value::field(it?, name);
        Self { current: of(self.current), old: of(self.old), lists: self.lists }
    }

    /// The old item is that at `was`.
    fn item(self, at: usize, was: Option<usize>) -> Self {
        let of = |it: Option<&'a cel::Value>, at: usize| match it? {
            cel::Value::List(all) => all.get(at),
            _ => None,
        };
        let old = was.and_then(|at| of(self.old, at));
        Self { current: of(self.current, at), old, lists: self.lists }
    }

    /// What the rules of a place look at, taken over or read.
    fn scope(self, place: Place<'_>, rules: &Rules) -> Scope {
        let mut added = Lists::default();
        let mut read = |known: Option<&cel::Value>, value: &Value| match known {
            Some(known) => known.clone(),
            None => cel_value(place.node, rules.is_resource, value, &mut added),
        };
        let current = read(self.current, place.value);
        let is_wanted = rules.own.iter().any(|it| it.uses_old);
        let old = place.old.filter(|_| is_wanted).map(|it| read(self.old, it));
        let lists = match self.lists {
            Some(known) if added.is_empty() => known.clone(),
            Some(known) => Arc::new(added.with(known)),
            None => Arc::new(added),
        };
        Scope { current, old, lists }
    }
}

impl Run {
    fn place(&mut self, at: Path<'_>, rules: &Rules, place: Place<'_>, seen: Seen<'_>) {
        if self.is_over || place.value.is_null() {
            return;
        }
        let scope = (!rules.own.is_empty()).then(|| seen.scope(place, rules));
        let seen = match &scope {
            Some(scope) => {
                self.own(at, rules, place, scope);
                scope.seen()
            }
            None => seen,
        };
        match place.value {
            Value::Object(fields) => self.fields(at, rules, place, fields, seen),
            Value::Array(items) => self.items(at, rules, place, items, seen),
            _ => {}
        }
    }

    fn fields(
        &mut self,
        at: Path<'_>,
        rules: &Rules,
        place: Place<'_>,
        fields: &Map<String, Value>,
        seen: Seen<'_>,
    ) {
        for (name, value) in fields {
            let is_field = place.node.fields.contains_key(name);
            let below = if is_field { rules.fields.get(name) } else { rules.others.as_deref() };
            let (Some(node), Some(below)) = (place.node.field(name), below) else { continue };
            let (at, seen) = if is_field {
                let seen = escaped(name).map_or_else(Seen::default, |it| seen.field(&it));
                (Path::Field(&at, name), seen)
            } else {
                (Path::Entry(&at, name), seen.field(name))
            };
            let old = place.old.and_then(|it| it.get(name));
            let compared = old.map(|it| (it, value));
            self.place(at, below, Place { node, value, old, compared }, seen);
        }
    }

    fn items(
        &mut self,
        at: Path<'_>,
        rules: &Rules,
        place: Place<'_>,
        items: &[Value],
        seen: Seen<'_>,
    ) {
        let (Some(node), Some(below)) = (place.node.items.as_deref(), rules.items.as_deref())
        else {
            return;
        };
        let is_keyed = matches!(place.node.list, ListKind::Map(_));
        for (index, value) in items.iter().enumerate() {
            let was = ratchet::index(&place.node.list, place.old, value);
            let old = was.and_then(|at| place.old?.get(at));
            let compared = if is_keyed { old.map(|it| (it, value)) } else { place.compared };
            let at = Path::Item(&at, index);
            self.place(at, below, Place { node, value, old, compared }, seen.item(index, was));
        }
    }

    fn own(&mut self, at: Path<'_>, rules: &Rules, place: Place<'_>, scope: &Scope) {
        for rule in &rules.own {
            if self.is_over {
                return;
            }
            self.one(at, rule, place, scope);
        }
    }

    fn fail(&mut self, at: Path<'_>, place: Place<'_>, why: impl Into<String>) {
        let fault = FieldError::invalid(at.shown(), place.node.kind.as_str(), why);
        self.found.faults.push(fault);
    }

    fn one(&mut self, at: Path<'_>, rule: &Rule, place: Place<'_>, scope: &Scope) {
        let program = match &rule.program {
            Ok(program) => program,
            Err(why) => return self.fail(at, place, format!("rule compile error: {why}")),
        };
        if rule.uses_old && place.old.is_none() && !rule.is_optional {
            return;
        }
        let scope = Sight { scope, is_optional: rule.is_optional };
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

    fn broken(&mut self, at: Path<'_>, rule: &Rule, place: Place<'_>, scope: &Sight<'_>) {
        let told = self.told(rule, scope);
        let found = &mut self.found;
        let is_left = !rule.uses_old && place.is_left();
        let found = if is_left { &mut found.left } else { &mut found.faults };
        let message = match told {
            Ok(message) => message.unwrap_or_else(|| rule.message()),
            Err(why) => {
                self.is_over = true;
                let kind = place.node.kind.as_str();
                return found.push(FieldError::invalid(at.shown(), kind, why));
            }
        };
        let at = if rule.field.is_empty() { at } else { Path::Field(&at, &rule.field) }.shown();
        let is_large = matches!(place.node.kind.as_str(), "object" | "array");
        let mut fault = match rule.reason.as_str() {
            "FieldValueForbidden" => FieldError::forbidden(at, message),
            "FieldValueRequired" => FieldError::required(at, message),
            "FieldValueDuplicate" => FieldError::duplicate(at, place.value.clone()),
            _ => FieldError::invalid(at, place.value.clone(), message),
        };
        fault.is_omitted = is_large;
        found.push(fault);
    }

    /// What the rule's own expression says, if it has one that says anything.
    fn told(&mut self, rule: &Rule, scope: &Sight<'_>) -> Result<Option<String>, String> {
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
struct Scope {
    current: cel::Value,
    old: Option<cel::Value>,
    lists: Arc<Lists>,
}

impl Scope {
    fn seen(&self) -> Seen<'_> {
        let (current, old) = (Some(&self.current), self.old.as_ref());
        Seen { current, old, lists: Some(&self.lists) }
    }
}

/// The same, as one rule has it.
struct Sight<'a> {
    scope: &'a Scope,
    is_optional: bool,
}

impl cel::Scope for Sight<'_> {
    fn get(&self, name: &str, _: &mut Budget) -> Option<Result<cel::Value, Error>> {
        let old = &self.scope.old;
        match name {
            "self" => Some(Ok(self.scope.current.clone())),
            "oldSelf" if self.is_optional => Some(Ok(cel::value::optional_of(old.clone()))),
            "oldSelf" => old.clone().map(Ok),
            _ => None,
        }
    }

    fn lists(&self) -> Option<&Lists> {
        Some(&self.scope.lists)
    }
}

#[cfg(test)]
mod tests;
