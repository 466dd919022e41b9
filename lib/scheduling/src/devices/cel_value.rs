//! What a selector says of a device.
//!
//! As in CEL, `false && error` is false and `true || error` is true, whichever comes first.
//!
//! Upstream: `k8s.io/dynamic-resource-allocation/cel`.

use std::cmp::Ordering;

use k8s_openapi::api::resource::v1::{Device, DeviceAttribute};
use resources::{ParseQuantityError, Quantity};

use super::cel::{Comparison, Expression, Function};

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Text(String),
    Number(i64),
    Flag(bool),
    Quantity(Quantity),
    Version([u64; 3]),
    List(Vec<Value>),
    Device,
    Attributes,
    Capacity,
    /// The attributes, or the capacities, of one domain.
    Domain(Box<Value>, String),
}

/// Whether the device is selected.
pub(super) fn selects(
    selector: &Expression,
    driver: &str,
    device: &Device,
) -> Result<bool, String> {
    match (Subject { driver, device }).value(selector)? {
        Value::Flag(flag) => Ok(flag),
        _ => Err("the result is no bool".to_owned()),
    }
}

struct Subject<'a> {
    driver: &'a str,
    device: &'a Device,
}

impl Subject<'_> {
    fn value(&self, expression: &Expression) -> Result<Value, String> {
        use Expression as E;
        match expression {
            E::Text(text) => Ok(Value::Text(text.clone())),
            E::Number(number) => Ok(Value::Number(*number)),
            E::Flag(flag) => Ok(Value::Flag(*flag)),
            E::List(all) => {
                all.iter().map(|it| self.value(it)).collect::<Result<_, _>>().map(Value::List)
            }
            E::Device => Ok(Value::Device),
            E::Select(of, name) => self.select(&self.value(of)?, name),
            E::Index(of, index) => self.index(self.value(of)?, self.value(index)?),
            E::Not(it) => self.flag(it).map(|it| Value::Flag(!it)),
            E::And(a, b) => self.both(a, b, false),
            E::Or(a, b) => self.both(a, b, true),
            E::Compare(how, a, b) => {
                let (a, b) = (self.value(a)?, self.value(b)?);
                self.compare(*how, &a, &b).map(Value::Flag)
            }
            E::Call(of, function, arguments) => self.call(of.as_deref(), *function, arguments),
        }
    }

    fn flag(&self, expression: &Expression) -> Result<bool, String> {
        match self.value(expression)? {
            Value::Flag(flag) => Ok(flag),
            _ => Err("no such overload".to_owned()),
        }
    }

    /// Of two, `winner` decides even beside an error.
    fn both(&self, a: &Expression, b: &Expression, winner: bool) -> Result<Value, String> {
        let first = self.flag(a);
        if first == Ok(winner) {
            return Ok(Value::Flag(winner));
        }
        let second = self.flag(b);
        if second == Ok(winner) {
            return Ok(Value::Flag(winner));
        }
        first.and(second).map(Value::Flag)
    }

    fn select(&self, of: &Value, name: &str) -> Result<Value, String> {
        match (of, name) {
            (Value::Device, "driver") => Ok(Value::Text(self.driver.to_owned())),
            (Value::Device, "attributes") => Ok(Value::Attributes),
            (Value::Device, "capacity") => Ok(Value::Capacity),
            (Value::Device, "allowMultipleAllocations") => {
                Ok(Value::Flag(self.device.allow_multiple_allocations == Some(true)))
            }
            (Value::Domain(kind, domain), name) => {
                self.field(kind, domain, name)?.ok_or_else(|| format!("no such key: {name}"))
            }
            _ => Err(format!("no such field: {name}")),
        }
    }

    fn index(&self, of: Value, index: Value) -> Result<Value, String> {
        match (of, index) {
            (of @ (Value::Attributes | Value::Capacity), Value::Text(domain)) => {
                Ok(Value::Domain(Box::new(of), domain))
            }
            (of @ Value::Domain(..), Value::Text(name)) => self.select(&of, &name),
            (Value::List(all), Value::Number(at)) => {
                let found = usize::try_from(at).ok().and_then(|at| all.get(at).cloned());
                found.ok_or_else(|| format!("index out of bounds: {at}"))
            }
            _ => Err("no such overload".to_owned()),
        }
    }

    /// A name without a domain is one of the driver's own.
    fn field(&self, kind: &Value, domain: &str, name: &str) -> Result<Option<Value>, String> {
        let is_own = domain == self.driver;
        let whole = format!("{domain}/{name}");
        if *kind == Value::Capacity {
            let all = self.device.capacity.iter().flatten();
            let mut found = all.filter(|(key, _)| **key == whole || (is_own && *key == name));
            return found.next().map(|(_, it)| quantity(&it.value.0)).transpose();
        }
        let all = self.device.attributes.iter().flatten();
        let mut found = all.filter(|(key, _)| **key == whole || (is_own && *key == name));
        found.next().map(|(_, it)| attribute(it)).transpose()
    }

    fn has_domain(&self, kind: &Value, domain: &str) -> bool {
        let is_in = |key: &String| match key.split_once('/') {
            Some((of, _)) => of == domain,
            None => self.driver == domain,
        };
        match kind {
            Value::Capacity => self.device.capacity.iter().flatten().any(|(key, _)| is_in(key)),
            _ => self.device.attributes.iter().flatten().any(|(key, _)| is_in(key)),
        }
    }

    fn compare(&self, how: Comparison, a: &Value, b: &Value) -> Result<bool, String> {
        use Comparison as C;
        let order = || order(a, b).ok_or_else(|| "no such overload".to_owned());
        match how {
            C::Equal => Ok(a == b),
            C::NotEqual => Ok(a != b),
            C::Less => order().map(Ordering::is_lt),
            C::LessOrEqual => order().map(Ordering::is_le),
            C::Greater => order().map(Ordering::is_gt),
            C::GreaterOrEqual => order().map(Ordering::is_ge),
            C::In => match (a, b) {
                (a, Value::List(all)) => Ok(all.contains(a)),
                (Value::Text(name), Value::Domain(kind, domain)) => {
                    self.field(kind, domain, name).map(|it| it.is_some())
                }
                (Value::Text(domain), kind @ (Value::Attributes | Value::Capacity)) => {
                    Ok(self.has_domain(kind, domain))
                }
                _ => Err("no such overload".to_owned()),
            },
        }
    }

    fn call(
        &self,
        of: Option<&Expression>,
        function: Function,
        arguments: &[Expression],
    ) -> Result<Value, String> {
        use Function as F;
        if let (F::Has, Some(Expression::Select(of, name))) = (function, arguments.first()) {
            return match self.value(of)? {
                Value::Domain(kind, domain) => {
                    self.field(&kind, &domain, name).map(|it| Value::Flag(it.is_some()))
                }
                it => self.select(&it, name).map(|_| Value::Flag(true)),
            };
        }
        let mut values: Vec<Value> = Vec::new();
        for it in of.into_iter().chain(arguments) {
            values.push(self.value(it)?);
        }
        match (function, values.as_slice()) {
            (F::Quantity, [Value::Text(text)]) => quantity(text),
            (F::Semver, [Value::Text(text)]) => version(text),
            (F::Size, [Value::Text(text)]) => number(text.chars().count()),
            (F::Size, [Value::List(all)]) => number(all.len()),
            (F::StartsWith, [Value::Text(a), Value::Text(b)]) => Ok(Value::Flag(a.starts_with(b))),
            (F::EndsWith, [Value::Text(a), Value::Text(b)]) => Ok(Value::Flag(a.ends_with(b))),
            (F::Contains, [Value::Text(a), Value::Text(b)]) => Ok(Value::Flag(a.contains(b))),
            (
                F::CompareTo | F::IsGreaterThan | F::IsLessThan,
                [a @ (Value::Quantity(_) | Value::Version(_)), b],
            ) => {
                let order = order(a, b).ok_or("no such overload")?;
                Ok(match function {
                    F::IsGreaterThan => Value::Flag(order.is_gt()),
                    F::IsLessThan => Value::Flag(order.is_lt()),
                    _ => Value::Number(order as i64),
                })
            }
            _ => Err("no such overload".to_owned()),
        }
    }
}

fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => Some(a.cmp(b)),
        (Value::Quantity(a), Value::Quantity(b)) => Some(a.cmp(b)),
        (Value::Version(a), Value::Version(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn number(count: usize) -> Result<Value, String> {
    i64::try_from(count).map(Value::Number).map_err(|it| it.to_string())
}

fn quantity(text: &str) -> Result<Value, String> {
    text.parse().map(Value::Quantity).map_err(|it: ParseQuantityError| it.to_string())
}

/// Versions with a pre-release or a build are not told from each other.
fn version(text: &str) -> Result<Value, String> {
    let mut parts = text.split('.').map(str::parse::<u64>);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch)), None) => {
            Ok(Value::Version([major, minor, patch]))
        }
        _ => Err(format!("the version {text:?} is not supported")),
    }
}

fn attribute(it: &DeviceAttribute) -> Result<Value, String> {
    let texts = |all: &Vec<String>| all.iter().cloned().map(Value::Text).collect();
    if let Some(text) = &it.string {
        return Ok(Value::Text(text.clone()));
    }
    if let Some(text) = &it.version {
        return version(text);
    }
    let plain = it.int.map(Value::Number).or_else(|| it.bool.map(Value::Flag));
    let list = || {
        let ints = it.ints.as_ref().map(|all| all.iter().copied().map(Value::Number).collect());
        let bools = || it.bools.as_ref().map(|all| all.iter().copied().map(Value::Flag).collect());
        ints.or_else(bools).or_else(|| it.strings.as_ref().map(texts)).map(Value::List)
    };
    plain.or_else(list).ok_or_else(|| "the attribute has no value".to_owned())
}
