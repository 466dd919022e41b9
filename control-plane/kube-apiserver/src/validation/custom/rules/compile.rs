//! Rules of a schema: compiled, and checked when a definition is written.
//!
//! Upstream: `Compile` of pkg/apiserver/schema/cel, and the part of
//! `ValidateCustomResourceDefinitionOpenAPISchema` that is about them.

use serde_json::Value;

use super::{
    Rule, Rules,
    bounds::{self, bound_of},
    costs::Costs,
    types::type_of,
};
use crate::{
    cel::{self, Bound, Environment, Program, Type},
    schema::structural::{ListKind, Node},
    status::FieldError,
    validation::{Faults, text},
};

const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// What `self` is, for the rules of one place.
fn environment(of: &Type, has_old: bool, is_optional: bool) -> Environment {
    let plain = Environment::default().with("self", of.clone());
    match (has_old, is_optional) {
        (false, _) => plain,
        (true, false) => plain.with("oldSelf", of.clone()),
        (true, true) => plain.with("oldSelf", Type::Optional(Box::new(of.clone()))),
    }
}

/// Compiles, and says whether `oldSelf` is named: an expression that compiles without it does not.
fn compile(
    expression: &str,
    of: &Type,
    is_optional: bool,
    wanted: Type,
) -> Result<(Program, bool), String> {
    let wanted = [wanted];
    if let Ok(program) = cel::compile(expression, &environment(of, false, false), &wanted) {
        return Ok((program, false));
    }
    cel::compile(expression, &environment(of, true, is_optional), &wanted).map(|it| (it, true))
}

/// As [`compile`], with what it can cost at most instead of the program.
fn estimate(
    expression: &str,
    place: &Sight,
    is_optional: bool,
    wanted: Type,
) -> Result<(u64, bool), String> {
    let wanted = [wanted];
    let with = |has_old| environment(&place.of, has_old, is_optional);
    if let Ok((_, cost)) = cel::estimate(expression, &with(false), &wanted, &place.bound) {
        return Ok((cost, false));
    }
    cel::estimate(expression, &with(true), &wanted, &place.bound).map(|(_, cost)| (cost, true))
}

/// What the rules of a place see.
struct Sight {
    of: Type,
    bound: Bound,
    /// How often the place can be there.
    times: u64,
}

impl Sight {
    fn of(node: &Node, is_resource: bool, times: Option<u64>) -> Self {
        let bound = bound_of(node, is_resource).unwrap_or_default();
        let times = times.unwrap_or_else(|| bounds::most_often(&bound));
        Self { of: type_of(node, is_resource).unwrap_or(Type::Dyn), bound, times }
    }
}

impl Rules {
    pub(crate) fn of(schema: &Value) -> Self {
        Self::below(&Node::of(schema), true)
    }

    pub(super) fn below(node: &Node, is_resource: bool) -> Self {
        let part = |it: &Node| it.has_rules.then(|| Self::below(it, it.is_embedded));
        let fields = node.fields.iter();
        let of = type_of(node, is_resource).unwrap_or(Type::Dyn);
        Self {
            own: node.rules.iter().filter_map(|it| Rule::of(it, &of)).collect(),
            fields: fields.filter_map(|(name, it)| Some((name.clone(), part(it)?))).collect(),
            others: node.other().and_then(part).map(Box::new),
            items: node.items.as_deref().and_then(part).map(Box::new),
            is_resource,
        }
    }
}

impl Rule {
    /// `None`: there is no rule to run.
    fn of(given: &Value, of: &Type) -> Option<Self> {
        let rule = text(given, "rule");
        if rule.trim().is_empty() {
            return None;
        }
        let is_optional = given["optionalOldSelf"] == true;
        let (program, uses_old) = match compile(rule, of, is_optional, Type::Bool) {
            Ok((program, uses_old)) => (Ok(program), uses_old),
            Err(why) => (Err(why), false),
        };
        let told = text(given, "messageExpression");
        let told = compile(told, of, is_optional, Type::String).ok().filter(|_| !told.is_empty());
        Some(Self {
            program,
            told: told.map(|(program, _)| program),
            rule: rule.to_owned(),
            message: text(given, "message").to_owned(),
            reason: text(given, "reason").to_owned(),
            field: text(given, "fieldPath").trim_start_matches('.').to_owned(),
            uses_old,
            is_optional,
        })
    }
}

/// Where the walk through a definition's schema is.
#[derive(Clone, Default)]
struct Within {
    /// The list that keeps old and new values of the place apart, by its path.
    list: Option<String>,
    /// How often the place can be there; `None`: without end.
    times: Option<u64>,
}

/// The rules of a definition's schema. Those of a schema that was stored already are not looked at
/// again.
pub(in super::super) fn definition(
    faults: &mut Faults,
    at: &str,
    schema: &Value,
    old: Option<&Value>,
) {
    if old == Some(schema) {
        return;
    }
    let mut costs = Costs::default();
    let within = Within { list: None, times: Some(1) };
    place(faults, &mut costs, at, &Node::of(schema), true, &within);
    costs.tell(faults, at);
}

fn place(
    faults: &mut Faults,
    costs: &mut Costs,
    at: &str,
    node: &Node,
    is_resource: bool,
    within: &Within,
) {
    if !node.has_rules {
        return;
    }
    if !node.rules.is_empty() {
        let sight = Sight::of(node, is_resource, within.times);
        for (index, rule) in node.rules.iter().enumerate() {
            let at = format!("{at}.x-kubernetes-validations[{index}]");
            let before = faults.count();
            form(faults, &at, rule, node);
            if faults.count() == before {
                sense(faults, costs, &at, rule, &sight, within);
            }
        }
    }
    let times = within.times.zip(bounds::times(node)).map(|(all, each)| all.saturating_mul(each));
    let below = Within { times, ..within.clone() };
    for (name, it) in &node.fields {
        place(faults, costs, &format!("{at}.properties[{name}]"), it, it.is_embedded, &below);
    }
    if let Some(it) = node.other() {
        place(faults, costs, &format!("{at}.additionalProperties"), it, it.is_embedded, &below);
    }
    if let Some(it) = node.items.as_deref() {
        let is_keyed = matches!(node.list, ListKind::Map(_));
        let list = if is_keyed { None } else { Some(at.to_owned()) };
        let below = Within { list: below.list.clone().or(list), ..below };
        place(faults, costs, &format!("{at}.items"), it, it.is_embedded, &below);
    }
}

/// What a rule has to look like.
fn form(faults: &mut Faults, at: &str, rule: &Value, node: &Node) {
    let (expression, message) = (text(rule, "rule"), text(rule, "message"));
    if expression.trim().is_empty() {
        faults.add(FieldError::required(format!("{at}.rule"), "rule is not specified"));
    }
    let path = format!("{at}.message");
    if !message.is_empty() && message.trim().is_empty() {
        faults.invalid(path, message, "message must be non-empty if specified");
    } else if message.trim().contains('\n') {
        faults.invalid(path, message, "message must not contain line breaks");
    } else if message.is_empty() && expression.trim().contains('\n') {
        let why = "message must be specified if rule contains line breaks";
        faults.add(FieldError::required(path, why));
    }
    let told = text(rule, "messageExpression");
    if !told.is_empty() && told.trim().is_empty() {
        let why = "messageExpression must be non-empty if specified";
        faults.add(FieldError::required(format!("{at}.messageExpression"), why));
    }
    let reason = text(rule, "reason");
    if rule["reason"].is_string() && !REASONS.contains(&reason) {
        faults.add(FieldError::not_supported(format!("{at}.reason"), reason, &REASONS));
    }
    let field = text(rule, "fieldPath");
    if field.is_empty() {
        return;
    }
    let path = format!("{at}.fieldPath");
    if field.trim().is_empty() {
        faults.invalid(path, field, "must be non-empty if specified");
    } else if field.contains('\n') {
        faults.invalid(path, field, "fieldPath must not contain line breaks");
    } else if let Err(why) = leads(field, node) {
        faults.invalid(path, field, format!("fieldPath must be a valid path: {why}"));
    }
}

/// Whether a path leads to a field of the schema.
fn leads(path: &str, node: &Node) -> Result<(), String> {
    let (mut rest, mut node) = (path, node);
    while !rest.is_empty() {
        let name;
        if let Some(after) = rest.strip_prefix("['") {
            let end = after.find("']").ok_or("unexpected end of JSON path")?;
            name = &after[..end];
            rest = &after[end + 2..];
        } else if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            name = &after[..end];
            rest = &after[end..];
            if name.is_empty() {
                return Err("unexpected end of JSON path".to_owned());
            }
        } else if let Some(after) = rest.strip_prefix('[') {
            let found = after.split(']').next().unwrap_or_default();
            return Err(format!("expected single quoted string but got {found}"));
        } else {
            let found = rest.split(['.', '[']).next().unwrap_or_default();
            return Err(format!("expected [ or . but got: {found}"));
        }
        node = node.field(name).ok_or("does not refer to a valid field")?;
    }
    Ok(())
}

/// Whether the expressions work with what the place has, and cost no more than they may.
fn sense(
    faults: &mut Faults,
    costs: &mut Costs,
    at: &str,
    rule: &Value,
    sight: &Sight,
    within: &Within,
) {
    let expression = text(rule, "rule");
    let is_optional = rule["optionalOldSelf"] == true;
    let path = format!("{at}.rule");
    match estimate(expression, sight, is_optional, Type::Bool) {
        Err(why) => refused(faults, path, rule, why),
        Ok((cost, uses_old)) => {
            costs.add(faults, path.clone(), "rule", cost.saturating_mul(sight.times));
            if let (true, Some(list)) = (uses_old, &within.list) {
                let why = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {list}"
                );
                faults.invalid(path, expression, why);
            }
            if is_optional && !uses_old {
                let why = "may not be set if oldSelf is not used in rule";
                faults.invalid(format!("{at}.optionalOldSelf"), true, why);
            }
        }
    }
    let told = text(rule, "messageExpression");
    if told.trim().is_empty() {
        return;
    }
    let path = format!("{at}.messageExpression");
    match estimate(told, sight, is_optional, Type::String) {
        Err(why) => refused(faults, path, rule, format!("messageExpression {why}")),
        // It is evaluated once, whatever the place.
        Ok((cost, _)) => costs.add(faults, path, "messageExpression", cost),
    }
}

fn refused(faults: &mut Faults, path: String, rule: &Value, why: String) {
    let why = match why.as_str() {
        "must evaluate to bool" => "cel expression must evaluate to a bool".to_owned(),
        "messageExpression must evaluate to string" => {
            "messageExpression must evaluate to a string".to_owned()
        }
        _ => why,
    };
    let mut fault = FieldError::invalid(path, shown(rule), why);
    fault.is_verbatim = true;
    faults.add(fault);
}

/// The rule as Go prints it.
fn shown(rule: &Value) -> String {
    let part = |name: &str| format!("{:?}", text(rule, name));
    let pointer = |name: &str, of: &str| {
        let place = if rule[name].is_null() { "nil" } else { "0xc000000000" };
        format!("(*{of})({place})")
    };
    format!(
        "apiextensions.ValidationRule{{Rule:{}, Message:{}, MessageExpression:{}, Reason:{}, \
         FieldPath:{}, OptionalOldSelf:{}}}",
        part("rule"),
        part("message"),
        part("messageExpression"),
        pointer("reason", "apiextensions.FieldValueErrorReason"),
        part("fieldPath"),
        pointer("optionalOldSelf", "bool"),
    )
}
