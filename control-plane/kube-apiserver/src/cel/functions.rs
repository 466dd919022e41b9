//! Functions that are evaluated here: those that cost by what they give, those that cel-go answers
//! otherwise than the crates do, and macros of two names.

use std::{collections::HashMap, sync::Arc};

use kube_cel::cel::{
    common::ast::{CallExpr, Expr, LiteralValue},
    objects::{Opaque, Value},
    parser::Expression,
};
use regex::Regex;

use super::{
    Budget, Error, library,
    types::Type,
    value::{self, optional, optional_of, tenth},
};

/// Text of a pattern that may be compiled, and what may become of it.
const LONGEST_PATTERN: usize = 1024;
const LARGEST_PATTERN: usize = 1 << 18;
/// What compiling one costs.
const PATTERN_COST: u64 = 1000;
/// No exponent of a quantity has more digits.
const MOST_EXPONENT_DIGITS: usize = 2;

/// A type as a value: `type(a) == string`.
#[derive(Debug, PartialEq, Eq)]
struct TypeValue(String);

impl Opaque for TypeValue {
    fn runtime_type_name(&self) -> &str {
        "type"
    }
}

/// The value of a type's name.
pub(super) fn type_named(name: &str) -> Option<Value> {
    const NAMES: [&str; 12] = [
        "bool",
        "bytes",
        "double",
        "int",
        "list",
        "map",
        "null_type",
        "string",
        "type",
        "uint",
        "google.protobuf.Duration",
        "google.protobuf.Timestamp",
    ];
    NAMES.contains(&name).then(|| Value::Opaque(Arc::new(TypeValue(name.to_owned()))))
}

/// A macro that the parser leaves as a call.
pub(super) struct Special<'a> {
    pub(super) kind: Kind,
    pub(super) target: &'a Expression,
    pub(super) names: Vec<&'a str>,
    pub(super) bodies: &'a [Expression],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `optMap` and `optFlatMap`
    Optional {
        is_flat: bool,
    },
    All,
    Exists,
    ExistsOne,
    ToList,
    ToMap,
    /// `transformMapEntry`
    ToEntries,
}

impl<'a> Special<'a> {
    pub(super) fn of(call: &'a CallExpr) -> Option<Self> {
        let (names, kind) = match call.func_name.as_str() {
            "optMap" => (1, Kind::Optional { is_flat: false }),
            "optFlatMap" => (1, Kind::Optional { is_flat: true }),
            "all" => (2, Kind::All),
            "exists" => (2, Kind::Exists),
            "existsOne" => (2, Kind::ExistsOne),
            "transformList" => (2, Kind::ToList),
            "transformMap" => (2, Kind::ToMap),
            "transformMapEntry" => (2, Kind::ToEntries),
            _ => return None,
        };
        let most = if matches!(kind, Kind::ToList | Kind::ToMap | Kind::ToEntries) { 2 } else { 1 };
        let bodies = call.args.get(names..).filter(|it| (1..=most).contains(&it.len()))?;
        let of = |it: &'a Expression| match &it.expr {
            Expr::Ident(name) => Some(name.as_str()),
            _ => None,
        };
        let names = call.args[..names].iter().map(of).collect::<Option<_>>()?;
        Some(Self { kind, target: call.target.as_deref()?, names, bodies })
    }

    /// The names with what they stand for.
    pub(super) fn types(&self, target: &Type) -> Vec<(String, Type)> {
        let of = match (self.kind, target) {
            (Kind::Optional { .. }, Type::Optional(of)) => vec![(**of).clone()],
            (_, Type::List(of)) => vec![Type::Int, (**of).clone()],
            (_, Type::Map(key, of)) => vec![(**key).clone(), (**of).clone()],
            _ => vec![Type::Dyn, Type::Dyn],
        };
        self.names.iter().map(|it| (*it).to_owned()).zip(of).collect()
    }

    pub(super) fn result(&self, target: &Type, body: Type) -> Type {
        match (self.kind, target) {
            (Kind::Optional { is_flat: false }, _) => Type::Optional(Box::new(body)),
            (Kind::Optional { is_flat: true }, _) => body,
            (Kind::ToList, _) => Type::list(body),
            (Kind::ToEntries, _) => body,
            (Kind::ToMap, Type::Map(key, _)) => Type::Map(key.clone(), Box::new(body)),
            (Kind::ToMap, Type::List(_)) => Type::Map(Box::new(Type::Int), Box::new(body)),
            (Kind::ToMap, _) => Type::Map(Box::new(Type::Dyn), Box::new(body)),
            (Kind::All | Kind::Exists | Kind::ExistsOne, _) => Type::Bool,
        }
    }
}

/// Literals that could never do: a pattern that is none. Others are kept, compiled.
pub(super) fn check_literals(call: &CallExpr, patterns: &mut Patterns) -> Result<(), String> {
    if !matches!(call.func_name.as_str(), "matches" | "find" | "findAll") {
        return Ok(());
    }
    let at = usize::from(call.target.is_none());
    let Some(Expr::Literal(LiteralValue::String(text))) = call.args.get(at).map(|it| &it.expr)
    else {
        return Ok(());
    };
    let made = pattern(text.inner()).map_err(|why| format!("invalid matches argument: {why}"))?;
    patterns.0.insert(text.inner().to_owned(), made);
    Ok(())
}

fn pattern(text: &str) -> Result<Regex, String> {
    if text.len() > LONGEST_PATTERN {
        return Err(format!("a pattern has at most {LONGEST_PATTERN} bytes"));
    }
    let built = regex::RegexBuilder::new(text).size_limit(LARGEST_PATTERN).build();
    built.map_err(|error| format!("error parsing regexp: {error}"))
}

/// Compiled patterns, by their texts.
#[derive(Default)]
pub(super) struct Patterns(HashMap<String, Regex>);

/// What an expression is written with, and what one evaluation has made.
pub(super) struct Found<'a> {
    pub(super) written: &'a Patterns,
    pub(super) made: Patterns,
}

impl Found<'_> {
    fn get(&mut self, text: &str, budget: &mut Budget) -> Result<&Regex, Error> {
        if let Some(known) = self.written.0.get(text) {
            return Ok(known);
        }
        if !self.made.0.contains_key(text) {
            budget.charge(PATTERN_COST)?;
            let made = pattern(text).map_err(Error::Told)?;
            self.made.0.insert(text.to_owned(), made);
        }
        self.made.0.get(text).ok_or_else(|| Error::told("no such pattern"))
    }
}

/// Calls a function. `all` begins with the target, if there is one.
pub(super) fn call(
    name: &str,
    is_member: bool,
    all: Vec<Value>,
    patterns: &mut Found<'_>,
    budget: &mut Budget,
) -> Result<Value, Error> {
    budget.charge(1)?;
    if let Some(found) = own(name, &all, patterns, budget) {
        return found;
    }
    all.iter().try_for_each(|it| value::charge(it, budget))?;
    guard(name, &all)?;
    let mut args = all;
    let target = is_member.then(|| args.remove(0));
    library::call(name, target, args)
}

fn own(
    name: &str,
    all: &[Value],
    patterns: &mut Found<'_>,
    budget: &mut Budget,
) -> Option<Result<Value, Error>> {
    Some(match (name, all) {
        ("size", [it]) => size(it, budget),
        ("dyn", [it]) => Ok(it.clone()),
        ("type", [it]) => Ok(Value::Opaque(Arc::new(TypeValue(value::type_name(it))))),
        ("string", [Value::Bool(it)]) => Ok(it.to_string().into()),
        ("string", [Value::String(_)]) | ("bool", [Value::Bool(_)]) => Ok(all[0].clone()),
        ("bool", [Value::String(it)]) => to_bool(it),
        ("contains", [Value::String(text), Value::String(part)]) => {
            text_test(text, part, budget, |text, part| text.contains(part))
        }
        ("startsWith", [Value::String(text), Value::String(part)]) => {
            text_test(part, part, budget, |_, part| text.starts_with(part))
        }
        ("endsWith", [Value::String(text), Value::String(part)]) => {
            text_test(part, part, budget, |_, part| text.ends_with(part))
        }
        ("contains" | "startsWith" | "endsWith", _) => Err(no_overload()),
        ("matches", [Value::String(text), Value::String(pattern)]) => {
            searched(text, pattern, patterns, budget).map(|it| it.is_match(text).into())
        }
        ("find", [Value::String(text), Value::String(pattern)]) => {
            let found = searched(text, pattern, patterns, budget);
            found.map(|it| it.find(text).map_or("", |it| it.as_str()).into())
        }
        ("findAll", [Value::String(text), Value::String(pattern), most @ ..]) => {
            let most = match most {
                [Value::Int(most)] => usize::try_from(*most).unwrap_or(usize::MAX),
                _ => usize::MAX,
            };
            let found = searched(text, pattern, patterns, budget);
            found.map(|it| {
                let all = it.find_iter(text).take(most).map(|it| it.as_str().into());
                Value::List(Arc::new(all.collect()))
            })
        }
        ("replace", [Value::String(text), Value::String(from), Value::String(to), most @ ..]) => {
            replace(text, from, to, most, budget)
        }
        ("value" | "hasValue" | "or" | "orValue", [first, rest @ ..]) => {
            of_optional(name, first, rest)
        }
        ("first", [Value::List(all)]) => Ok(optional_of(all.first().cloned())),
        ("last", [Value::List(all)]) => Ok(optional_of(all.last().cloned())),
        ("optional.unwrap" | "unwrapOpt", [Value::List(all)]) => unwrapped(all, budget),
        ("format.named", [Value::String(name)]) => {
            let found = library::call(&format!("format.{name}"), None, Vec::new());
            Ok(optional_of(found.ok()))
        }
        ("optional.none", []) => Ok(optional_of(None)),
        ("optional.of", [it]) => Ok(optional_of(Some(it.clone()))),
        _ => return None,
    })
}

pub(super) fn no_overload() -> Error {
    Error::told("no such overload")
}

/// Of text, its letters.
fn size(it: &Value, budget: &mut Budget) -> Result<Value, Error> {
    let size = match it {
        Value::String(it) => {
            budget.charge(tenth(it.len()))?;
            it.chars().count()
        }
        Value::Bytes(it) => it.len(),
        Value::List(all) => all.len(),
        Value::Map(fields) => fields.map.len(),
        _ => return Err(no_overload()),
    };
    Ok(Value::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

fn to_bool(text: &str) -> Result<Value, Error> {
    match text {
        "1" | "t" | "true" | "TRUE" | "True" => Ok(true.into()),
        "0" | "f" | "false" | "FALSE" | "False" => Ok(false.into()),
        _ => Err(Error::told(format!("type conversion error from 'string' to 'bool': {text:?}"))),
    }
}

fn text_test(
    text: &str,
    part: &str,
    budget: &mut Budget,
    test: impl FnOnce(&str, &str) -> bool,
) -> Result<Value, Error> {
    budget.charge(tenth(text.len()))?;
    Ok(test(text, part).into())
}

/// The pattern, after what looking through the text with it costs.
fn searched<'p>(
    text: &str,
    pattern: &str,
    patterns: &'p mut Found<'_>,
    budget: &mut Budget,
) -> Result<&'p Regex, Error> {
    let pattern_cost = (pattern.len() as u64).div_ceil(4).max(1);
    budget.charge(tenth(text.len() + 1) * pattern_cost)?;
    patterns.get(pattern, budget)
}

/// What it gives can be far longer than what it takes: that is charged before it is made.
fn replace(
    text: &str,
    from: &str,
    to: &str,
    most: &[Value],
    budget: &mut Budget,
) -> Result<Value, Error> {
    let most = match most {
        [] => usize::MAX,
        [Value::Int(most)] => usize::try_from(*most).unwrap_or(usize::MAX),
        _ => return Err(no_overload()),
    };
    budget.charge(tenth(text.len()))?;
    let count = text.matches(from).count().min(most);
    budget.charge(tenth(text.len() + count.saturating_mul(to.len())))?;
    Ok(text.replacen(from, to, most).into())
}

fn of_optional(name: &str, first: &Value, rest: &[Value]) -> Result<Value, Error> {
    let held = optional(first).ok_or_else(no_overload)?;
    match (name, held, rest) {
        ("hasValue", held, []) => Ok(held.is_some().into()),
        ("value", Some(it), []) => Ok(it.clone()),
        ("value", None, []) => Err(Error::told("optional.none() dereference")),
        ("or", Some(_), [_]) => Ok(first.clone()),
        ("or" | "orValue", None, [other]) => Ok(other.clone()),
        ("orValue", Some(it), [_]) => Ok(it.clone()),
        _ => Err(no_overload()),
    }
}

/// What is in the optionals that hold something.
fn unwrapped(all: &[Value], budget: &mut Budget) -> Result<Value, Error> {
    budget.charge(all.len() as u64)?;
    let held = all.iter().map(|it| optional(it).ok_or_else(no_overload));
    let held: Vec<_> = held.collect::<Result<_, _>>()?;
    Ok(Value::List(Arc::new(held.into_iter().flatten().cloned().collect())))
}

/// Refuses what would make a library write without end.
fn guard(name: &str, all: &[Value]) -> Result<(), Error> {
    match (name, all.first()) {
        ("quantity" | "isQuantity", Some(Value::String(text))) => {
            let exponent = text.rsplit(['e', 'E']).next().filter(|it| it.len() < text.len());
            let digits = exponent.map_or(0, |it| it.bytes().filter(u8::is_ascii_digit).count());
            if digits > MOST_EXPONENT_DIGITS || text.len() > 64 {
                return Err(Error::told(format!("quantity {text:?} is out of range")));
            }
        }
        ("format", Some(Value::String(text))) => {
            let long = text
                .split("%.")
                .skip(1)
                .any(|it| it.bytes().take_while(u8::is_ascii_digit).count() > 2);
            if long {
                return Err(Error::told("precision of a format has at most two digits"));
            }
        }
        _ => {}
    }
    Ok(())
}
