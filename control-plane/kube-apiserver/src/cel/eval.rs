//! Walks an expression.
//!
//! Each node costs one at least, and each function by the size of what it reads, so that no
//! expression runs for long. `&&`, `||` and the macros made of them pass by an error of one side if
//! the other decides; they never pass by the end of the budget.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use kube_cel::cel::{
    common::ast::{
        CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, SelectExpr, operators,
    },
    objects::{Key, KeyRef, Value},
    parser::Expression,
};

use super::{
    Budget, Error, Scope, check,
    constants::{self, Constants},
    functions,
    functions::{Found, Kind, Patterns, Special, no_overload},
    library,
    lists::{self, Keys, Lists},
    value::{self, optional, optional_of, tenth},
};

type Result<T> = std::result::Result<T, Error>;

pub(super) fn run(
    root: &Expression,
    Written { patterns, constants }: &Written,
    scope: &dyn Scope,
    budget: &mut Budget,
) -> Result<Value> {
    let patterns = Found { written: patterns, made: Patterns::default() };
    let lists = scope.lists().filter(|it| !it.is_empty());
    let (locals, merged) = (Vec::new(), Vec::new());
    Walk { scope, budget, locals, patterns, constants, lists, merged }.eval(root)
}

/// What an expression is written with, ready to be used.
pub(super) struct Written {
    pub(super) patterns: Patterns,
    pub(super) constants: Constants,
}

struct Walk<'a> {
    scope: &'a dyn Scope,
    budget: &'a mut Budget,
    /// Names that macros bind, innermost last.
    locals: Vec<(&'a str, Value)>,
    patterns: Found<'a>,
    constants: &'a Constants,
    /// Those of the scope that are no plain ones, if there are any.
    lists: Option<&'a Lists>,
    /// Those that were made of such.
    merged: Vec<(Arc<Vec<Value>>, Keys)>,
}

impl<'a> Walk<'a> {
    fn eval(&mut self, it: &'a Expression) -> Result<Value> {
        self.budget.charge(1)?;
        if let Some((value, cost)) = self.constants.get(it) {
            self.budget.charge(*cost)?;
            return Ok(value.clone());
        }
        match &it.expr {
            Expr::Unspecified => Err(Error::told("unspecified expression")),
            Expr::Literal(literal) => {
                let (value, cost) = constants::literal_value(literal);
                self.budget.charge(cost)?;
                Ok(value)
            }
            Expr::Ident(name) => self.ident(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                let mut all = Vec::with_capacity(list.elements.len());
                for (at, it) in list.elements.iter().enumerate() {
                    let found = self.eval(it)?;
                    all.extend(unwrapped(found, list.optional_indices.contains(&at)));
                }
                Ok(Value::List(Arc::new(all)))
            }
            Expr::Map(map) => self.map(&map.entries),
            Expr::Struct(it) => self.map(&it.entries),
            Expr::Comprehension(it) => self.comprehension(it),
        }
    }

    fn ident(&mut self, name: &str) -> Result<Value> {
        if let Some((_, it)) = self.locals.iter().rev().find(|(it, _)| *it == name) {
            return Ok(it.clone());
        }
        if let Some(found) = self.scope.get(name, self.budget) {
            return found;
        }
        functions::type_named(name)
            .ok_or_else(|| Error::told(format!("no such attribute(s): {name}")))
    }

    fn select(&mut self, select: &'a SelectExpr) -> Result<Value> {
        if let Expr::Ident(name) = &select.operand.expr
            && !self.locals.iter().any(|(it, _)| it == name)
            && let Some(found) = self.scope.field(name, &select.field, self.budget)
        {
            return if select.test { found.map(|_| true.into()) } else { found };
        }
        let of = self.eval(&select.operand)?;
        let (of, is_optional) = match optional(&of) {
            None => (&of, false),
            Some(Some(inner)) => (inner, true),
            Some(None) if select.test => return Ok(false.into()),
            Some(None) => return Ok(of),
        };
        let fields = match of {
            Value::Map(fields) => fields,
            Value::Opaque(it) => {
                let own = it.downcast_ref::<super::Receiver>().ok_or_else(no_overload)?;
                return (own.0)(&select.field, &[]);
            }
            _ => return Err(no_overload()),
        };
        let found = fields.get(&KeyRef::String(&select.field));
        match (found, is_optional) {
            (found, _) if select.test => Ok(found.is_some().into()),
            (found, true) => Ok(optional_of(found.cloned())),
            (Some(it), false) => Ok(it.clone()),
            (None, false) => Err(Error::told(format!("no such key: {}", select.field))),
        }
    }

    fn map(&mut self, entries: &'a [IdedEntryExpr]) -> Result<Value> {
        let mut fields = HashMap::with_capacity(entries.len());
        for entry in entries {
            let (key, value, is_optional) = match &entry.expr {
                EntryExpr::StructField(it) => {
                    (Key::String(Arc::new(it.field.clone())), &it.value, it.optional)
                }
                EntryExpr::MapEntry(it) => {
                    (value::key(&self.eval(&it.key)?)?, &it.value, it.optional)
                }
            };
            if let Some(it) = unwrapped(self.eval(value)?, is_optional) {
                fields.insert(key, it);
            }
        }
        Ok(value::of_map(fields))
    }

    fn call(&mut self, call: &'a CallExpr) -> Result<Value> {
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::CONDITIONAL, [condition, then, otherwise]) => {
                let condition = self.eval(condition)?;
                self.eval(if truth(&condition)? { then } else { otherwise })
            }
            (operators::LOGICAL_OR, [left, right]) => self.either(left, right, true),
            (operators::LOGICAL_AND, [left, right]) => self.either(left, right, false),
            (operators::NOT_STRICTLY_FALSE, [it]) => match self.eval(it) {
                Err(error) if error.is_final() => Err(error),
                found => Ok((!matches!(found, Ok(Value::Bool(false)))).into()),
            },
            (operators::LOGICAL_NOT, [it]) => {
                let it = self.eval(it)?;
                truth(&it).map(|it| (!it).into())
            }
            (operators::NEGATE, [it]) => negated(self.eval(it)?),
            (operators::OPT_SELECT, [of, field]) => {
                let found = self.eval(of);
                let key = self.eval(field)?;
                indexed(&found?, &key, true)
            }
            (operators::ADD, [left, right]) => self.sum(left, right),
            (name, [left, right]) if call.target.is_none() && is_operator(name) => {
                let (left, right) = (self.eval(left)?, self.eval(right)?);
                self.binary(name, left, right)
            }
            _ => self.function(call),
        }
    }

    fn function(&mut self, call: &'a CallExpr) -> Result<Value> {
        if let Some(special) = Special::of(call) {
            return self.special(&special);
        }
        let (name, target) = match check::qualified(call) {
            Some(name) => (Cow::Owned(name), None),
            None => (Cow::Borrowed(call.func_name.as_str()), call.target.as_deref()),
        };
        let mut all = Vec::with_capacity(call.args.len() + 1);
        for it in target.into_iter().chain(&call.args) {
            all.push(self.eval(it)?);
        }
        if let Some(Value::Opaque(it)) = all.first()
            && let Some(own) = it.downcast_ref::<super::Receiver>()
        {
            self.budget.charge(super::RECEIVER_COST)?;
            return (own.0)(&name, &all[1..]);
        }
        functions::call(&name, target.is_some(), all, &mut self.patterns, self.budget)
    }

    /// One side may fail if the other decides.
    fn either(
        &mut self,
        left: &'a Expression,
        right: &'a Expression,
        decides: bool,
    ) -> Result<Value> {
        let mut failed = None;
        for side in [left, right] {
            match self.eval(side).and_then(|it| truth(&it)) {
                Ok(it) if it == decides => return Ok(decides.into()),
                Ok(_) => {}
                Err(error) if error.is_final() => return Err(error),
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        failed.map_or(Ok((!decides).into()), Err)
    }

    fn sum(&mut self, left: &'a Expression, right: &'a Expression) -> Result<Value> {
        // What a macro gathers grows in its place.
        if let (Expr::Ident(name), Expr::List(added)) = (&left.expr, &right.expr)
            && name == "@result"
            && added.elements.len() == 1
        {
            let added = self.eval(&added.elements[0])?;
            let local = self.locals.iter_mut().rev().find(|(it, _)| it == name);
            let Some((_, Value::List(all))) = local else { return Err(no_overload()) };
            let mut all = std::mem::take(all);
            self.budget.charge(1)?;
            Arc::make_mut(&mut all).push(added);
            return Ok(Value::List(all));
        }
        let (left, right) = (self.eval(left)?, self.eval(right)?);
        self.budget.charge(match (&left, &right) {
            (Value::String(a), Value::String(b)) => tenth(a.len() + b.len()),
            (Value::Bytes(a), Value::Bytes(b)) => tenth(a.len() + b.len()),
            (Value::List(a), Value::List(b)) => (a.len() + b.len()) as u64,
            _ => 0,
        })?;
        if let (Value::List(a), Value::List(b)) = (&left, &right)
            && let Some(keys) = self.keys(a)
        {
            let all = Arc::new(lists::merged(a, b, &keys));
            self.merged.push((all.clone(), keys));
            return Ok(Value::List(all));
        }
        (left + right).map_err(|error| library::told(&error))
    }

    fn keys(&self, list: &Arc<Vec<Value>>) -> Option<Keys> {
        let known = self.lists?;
        let made = self.merged.iter().find(|(it, _)| Arc::ptr_eq(it, list)).map(|(_, keys)| keys);
        made.or_else(|| known.of(list)).cloned()
    }

    fn equal(&self, left: &Value, right: &Value) -> bool {
        if self.lists.is_none() {
            return left == right;
        }
        lists::equal(left, right, &|it| self.keys(it))
    }

    fn binary(&mut self, name: &str, left: Value, right: Value) -> Result<Value> {
        let crate_error = |error| library::told(&error);
        match name {
            operators::EQUALS | operators::NOT_EQUALS => {
                self.charge_smaller(&left, &right)?;
                Ok((self.equal(&left, &right) == (name == operators::EQUALS)).into())
            }
            operators::INDEX => indexed(&left, &right, false),
            operators::OPT_INDEX => indexed(&left, &right, true),
            operators::IN => self.is_in(&left, &right),
            operators::SUBSTRACT => (left - right).map_err(crate_error),
            operators::MULTIPLY => (left * right).map_err(crate_error),
            operators::DIVIDE => (left / right).map_err(crate_error),
            operators::MODULO => (left % right).map_err(crate_error),
            _ => {
                self.charge_smaller(&left, &right)?;
                let order = match (&left, &right) {
                    (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
                    (Value::Null, _) => None,
                    (a, b) => a.partial_cmp(b),
                };
                let order = order.ok_or_else(no_overload)?;
                Ok(match name {
                    operators::LESS => order.is_lt(),
                    operators::LESS_EQUALS => order.is_le(),
                    operators::GREATER => order.is_gt(),
                    _ => order.is_ge(),
                }
                .into())
            }
        }
    }

    /// Comparing two costs no more than reading the smaller.
    fn charge_smaller(&mut self, left: &Value, right: &Value) -> Result<()> {
        let is_plain =
            |it: &Value| !matches!(it, Value::List(_) | Value::Map(_) | Value::Opaque(_));
        let smaller = if is_plain(left) { left } else { right };
        value::charge(smaller, self.budget)
    }

    fn is_in(&mut self, left: &Value, right: &Value) -> Result<Value> {
        match right {
            Value::List(all) => {
                for it in all.iter() {
                    self.charge_smaller(left, it)?;
                    if self.equal(it, left) {
                        return Ok(true.into());
                    }
                }
                Ok(false.into())
            }
            Value::Map(fields) => Ok(fields.get(&value::key(left)?).is_some().into()),
            _ => Err(no_overload()),
        }
    }

    fn comprehension(&mut self, it: &'a ComprehensionExpr) -> Result<Value> {
        let range = self.eval(&it.iter_range)?;
        let all: Arc<Vec<Value>> = match range {
            Value::List(all) => all,
            Value::Map(fields) => {
                self.budget.charge(fields.map.len() as u64)?;
                Arc::new(sorted(&fields.map).into_iter().map(|(key, _)| key.into()).collect())
            }
            _ => return Err(no_overload()),
        };
        let accumulated = self.eval(&it.accu_init)?;
        let own = self.locals.len();
        self.locals.push((&it.accu_var, accumulated));
        let result = self.iterate(it, &all);
        self.locals.truncate(own);
        result
    }

    fn iterate(&mut self, it: &'a ComprehensionExpr, all: &[Value]) -> Result<Value> {
        let own = self.locals.len() - 1;
        for item in all {
            let goes_on = self.eval(&it.loop_cond)?;
            if !truth(&goes_on)? {
                break;
            }
            self.locals.push((&it.iter_var, item.clone()));
            let step = self.eval(&it.loop_step);
            self.locals.pop();
            self.locals[own].1 = match step {
                Ok(step) => step,
                Err(error) if error.is_final() => return Err(error),
                // The sides of `all` and `exists` may fail as long as none decides.
                Err(error) => return self.rest(it, all, item, error),
            };
        }
        self.eval(&it.result)
    }

    /// After an error of one element: another may still decide `all` or `exists`.
    fn rest(
        &mut self,
        it: &'a ComprehensionExpr,
        all: &[Value],
        failed: &Value,
        error: Error,
    ) -> Result<Value> {
        let decides = match &it.loop_step.expr {
            Expr::Call(call) if call.func_name == operators::LOGICAL_AND => false,
            Expr::Call(call) if call.func_name == operators::LOGICAL_OR => true,
            _ => return Err(error),
        };
        let Expr::Call(call) = &it.loop_step.expr else { return Err(error) };
        let Some(body) = call.args.get(1) else { return Err(error) };
        let behind = all.iter().skip_while(|item| !std::ptr::eq(*item, failed)).skip(1);
        for item in behind {
            self.locals.push((&it.iter_var, item.clone()));
            let found = self.eval(body);
            self.locals.pop();
            match found {
                Ok(Value::Bool(it)) if it == decides => return Ok(decides.into()),
                Err(error) if error.is_final() => return Err(error),
                _ => {}
            }
        }
        Err(error)
    }

    fn special(&mut self, it: &Special<'a>) -> Result<Value> {
        let target = self.eval(it.target)?;
        if let Kind::Optional { is_flat } = it.kind {
            let Some(held) = optional(&target).ok_or_else(no_overload)? else { return Ok(target) };
            let found = self.with(it, vec![held.clone()], 0)?;
            return Ok(if is_flat { found } else { optional_of(Some(found)) });
        }
        let pairs: Vec<(Value, Value)> = match &target {
            Value::List(all) => {
                all.iter().enumerate().map(|(at, it)| (Value::Int(at as i64), it.clone())).collect()
            }
            Value::Map(fields) => {
                sorted(&fields.map).into_iter().map(|(key, it)| (key.into(), it.clone())).collect()
            }
            _ => return Err(no_overload()),
        };
        self.budget.charge(pairs.len() as u64)?;
        match it.kind {
            Kind::ToList | Kind::ToMap | Kind::ToEntries => self.transform(it, pairs),
            _ => self.quantify(it, pairs),
        }
    }

    /// A body with the names bound.
    fn with(&mut self, it: &Special<'a>, values: Vec<Value>, body: usize) -> Result<Value> {
        let own = self.locals.len();
        self.locals.extend(it.names.iter().copied().zip(values));
        let found = it.bodies.get(body).map_or_else(|| Err(no_overload()), |it| self.eval(it));
        self.locals.truncate(own);
        found
    }

    fn transform(&mut self, it: &Special<'a>, pairs: Vec<(Value, Value)>) -> Result<Value> {
        let (mut list, mut map) = (Vec::new(), HashMap::new());
        for (key, item) in pairs {
            let both = vec![key.clone(), item];
            if it.bodies.len() > 1 && !truth(&self.with(it, both.clone(), 0)?)? {
                continue;
            }
            let made = self.with(it, both, it.bodies.len() - 1)?;
            match it.kind {
                Kind::ToList => list.push(made),
                Kind::ToEntries => self.insert(&mut map, &made)?,
                _ => drop(map.insert(value::key(&key)?, made)),
            }
        }
        Ok(if it.kind == Kind::ToList { Value::List(Arc::new(list)) } else { value::of_map(map) })
    }

    /// Each key is given once.
    fn insert(&mut self, map: &mut HashMap<Key, Value>, entries: &Value) -> Result<()> {
        let Value::Map(entries) = entries else { return Err(no_overload()) };
        self.budget.charge(entries.map.len() as u64)?;
        for (key, it) in entries.map.iter() {
            if map.insert(key.clone(), it.clone()).is_some() {
                return Err(Error::Told(format!("insert failed: key {key} already exists")));
            }
        }
        Ok(())
    }

    fn quantify(&mut self, it: &Special<'a>, pairs: Vec<(Value, Value)>) -> Result<Value> {
        let (mut count, mut failed) = (0_usize, None);
        for (key, item) in pairs {
            match self.with(it, vec![key, item], 0).and_then(|it| truth(&it)) {
                Ok(found) => match it.kind {
                    Kind::All if !found => return Ok(false.into()),
                    Kind::Exists if found => return Ok(true.into()),
                    _ => count += usize::from(found),
                },
                Err(error) if error.is_final() || it.kind == Kind::ExistsOne => return Err(error),
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        failed.map_or_else(
            || Ok(if it.kind == Kind::ExistsOne { count == 1 } else { it.kind == Kind::All }.into()),
            Err,
        )
    }
}

fn is_operator(name: &str) -> bool {
    name.starts_with('_') || name == operators::IN
}

fn truth(it: &Value) -> Result<bool> {
    match it {
        Value::Bool(it) => Ok(*it),
        _ => Err(no_overload()),
    }
}

fn negated(it: Value) -> Result<Value> {
    match it {
        Value::Int(it) => {
            it.checked_neg().map(Value::Int).ok_or_else(|| Error::told("integer overflow"))
        }
        Value::Float(it) => Ok(Value::Float(-it)),
        _ => Err(no_overload()),
    }
}

/// `of[key]`; optional: `of[?key]`, or of an optional.
fn indexed(of: &Value, key: &Value, is_optional: bool) -> Result<Value> {
    let (of, is_optional) = match optional(of) {
        None => (of, is_optional),
        Some(None) => return Ok(of.clone()),
        Some(Some(inner)) => (inner, true),
    };
    let found = match of {
        Value::List(all) => {
            let at = match value::key(key) {
                Ok(Key::Int(at)) => usize::try_from(at).ok(),
                Ok(Key::Uint(at)) => usize::try_from(at).ok(),
                _ => return Err(no_overload()),
            };
            at.and_then(|at| all.get(at))
        }
        Value::Map(fields) => fields.get(&value::key(key)?),
        _ => return Err(no_overload()),
    };
    match (found, is_optional) {
        (found, true) => Ok(optional_of(found.cloned())),
        (Some(it), false) => Ok(it.clone()),
        (None, false) => Err(Error::Told(match (of, value::key(key)) {
            (Value::List(_), Ok(at)) => format!("index out of bounds: {at}"),
            (_, Ok(key)) => format!("no such key: {key}"),
            _ => "no such key".to_owned(),
        })),
    }
}

/// `?a`: what is in it, if anything.
fn unwrapped(it: Value, is_optional: bool) -> Option<Value> {
    if !is_optional {
        return Some(it);
    }
    match optional(&it) {
        None => Some(it),
        Some(held) => held.cloned(),
    }
}

/// The same order each time.
fn sorted(fields: &HashMap<Key, Value>) -> Vec<(&Key, &Value)> {
    let mut all: Vec<_> = fields.iter().collect();
    all.sort_by_key(|(key, _)| *key);
    all
}
