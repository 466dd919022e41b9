//! What an expression may cost at most, told before it runs: definitions whose rules could cost more
//! than they may are refused.
//!
//! The walk follows each part of the expression to the place of the schema that it reads, since that
//! says how long a text, a list or a map can be ([`Bound`]).
//!
//! Upstream: checker/cost.go of cel-go, and `CostEstimator` of k8s.io/apiserver/pkg/cel/library; what
//! they give for an expression is part of the API, so the sums are theirs to the last unit.

mod calls;
mod span;

use std::collections::{BTreeMap, HashMap};

use kube_cel::cel::{
    common::ast::{
        CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr, operators,
    },
    parser::Expression,
};

use self::span::Span;
use super::{
    check,
    check::Facts,
    functions::{Kind, Special},
    types::Type,
};

const LIST: u64 = 10;
const MAP: u64 = 30;
const STRUCT: u64 = 40;
/// Of a name, or a field.
const READ: Span = Span::fixed(1);
const NOTHING: Span = Span::fixed(0);

/// How large what stands in a place can be.
#[derive(Debug, Default)]
pub(crate) struct Bound {
    /// Letters, items or entries; none for what has no length.
    pub(crate) most: u64,
    /// Of its JSON, in bytes.
    pub(crate) least_bytes: u64,
    /// By the names that expressions have for them.
    pub(crate) fields: BTreeMap<String, Bound>,
    /// Of a list's items, or a map's values.
    pub(crate) each: Option<Box<Bound>>,
    pub(crate) is_map: bool,
}

impl Bound {
    /// What a path leads to; its first part is a variable, whichever.
    fn size(&self, path: &[String]) -> Option<Span> {
        let mut here = self;
        for part in path.get(1..)? {
            here = match part.as_str() {
                ITEMS | VALUES => here.each.as_deref()?,
                // Names: upstream counts them as nothing.
                KEYS => return here.is_map.then_some(NOTHING),
                field => here.fields.get(field)?,
            };
        }
        Some(Span { least: 0, most: here.most })
    }
}

const ITEMS: &str = "@items";
const VALUES: &str = "@values";
const KEYS: &str = "@keys";
const INDICES: &str = "@indices";

/// The most that evaluating a checked expression can cost.
pub(super) fn most(root: &Expression, facts: &Facts, bound: &Bound) -> u64 {
    let mut walk = Walk {
        facts,
        bound,
        paths: HashMap::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
        locals: Vec::new(),
    };
    walk.cost(root).most
}

/// Sizes of a list's or a map's keys and values.
#[derive(Clone, Copy)]
struct Entry {
    is_list: bool,
    key: Span,
    value: Span,
}

impl Entry {
    fn union(self, other: Self) -> Self {
        Self {
            is_list: self.is_list,
            key: self.key.union(other.key),
            value: self.value.union(other.value),
        }
    }
}

/// A name that a macro binds.
struct Local {
    name: String,
    path: Vec<String>,
    size: Option<Span>,
    entry: Option<Entry>,
}

/// By the place of a part in memory: the tree stays where it is.
type Place = usize;

fn place(it: &Expression) -> Place {
    std::ptr::from_ref(it).addr()
}

struct Walk<'a> {
    facts: &'a Facts,
    bound: &'a Bound,
    /// Where in the schema a part's value stands; a path of nothing: nowhere.
    paths: HashMap<Place, Vec<String>>,
    sizes: HashMap<Place, Span>,
    entries: HashMap<Place, Entry>,
    locals: Vec<Local>,
}

impl<'a> Walk<'a> {
    fn cost(&mut self, it: &'a Expression) -> Span {
        match &it.expr {
            Expr::Unspecified | Expr::Literal(_) => NOTHING,
            Expr::Ident(name) => {
                let path =
                    self.local(name).map_or_else(|| vec![name.clone()], |it| it.path.clone());
                self.paths.insert(place(it), path);
                READ
            }
            Expr::Select(select) => self.select(it, select),
            Expr::Call(call) => self.call(it, call),
            Expr::List(list) => {
                let (mut sum, mut value) = (Span::fixed(LIST), None);
                for element in &list.elements {
                    sum = sum.plus(self.cost(element));
                    value = Some(union(value, self.size_or_unknown(element)));
                }
                let value = value.unwrap_or(NOTHING);
                let entry = Entry { is_list: true, key: Span::fixed(1), value };
                self.entries.insert(place(it), entry);
                sum
            }
            Expr::Map(map) => {
                let (mut sum, mut key, mut value) = (Span::fixed(MAP), None, None);
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
                    sum = sum.plus(self.cost(&entry.key)).plus(self.cost(&entry.value));
                    key = Some(union(key, self.size_or_unknown(&entry.key)));
                    value = Some(union(value, self.size_or_unknown(&entry.value)));
                }
                let (key, value) = (key.unwrap_or(NOTHING), value.unwrap_or(NOTHING));
                self.entries.insert(place(it), Entry { is_list: false, key, value });
                sum
            }
            Expr::Struct(made) => {
                let mut sum = Span::fixed(STRUCT);
                for entry in &made.entries {
                    let EntryExpr::StructField(entry) = &entry.expr else { continue };
                    sum = sum.plus(self.cost(&entry.value));
                }
                sum
            }
            Expr::Comprehension(comprehension) => self.comprehension(it, comprehension),
        }
    }

    fn select(&mut self, it: &Expression, select: &'a SelectExpr) -> Span {
        let sum = self.cost(&select.operand);
        if select.test {
            return sum;
        }
        let mut path = self.path(&select.operand);
        path.push(select.field.clone());
        self.paths.insert(place(it), path);
        match self.facts.of(&select.operand) {
            Type::Map(..) | Type::Object(_) => sum.plus(READ),
            _ => sum,
        }
    }

    fn call(&mut self, it: &'a Expression, call: &'a CallExpr) -> Span {
        if let Some(special) = Special::of(call) {
            return self.special(it, &special);
        }
        if call.func_name == "dyn"
            && let [arg] = call.args.as_slice()
        {
            let cost = self.cost(arg).plus(READ);
            self.copy(it, arg);
            return cost;
        }
        let name = check::qualified(call);
        let target = if name.is_some() { None } else { call.target.as_deref() };
        let name = name.unwrap_or_else(|| call.func_name.clone());
        let costs: Vec<Span> = call.args.iter().map(|it| self.cost(it)).collect();
        let mut sum = NOTHING;
        if let Some(target) = target {
            sum = sum.plus(self.cost(target));
        }
        let made = self.function(it, &name, target, &call.args, &costs);
        let size = made.size.or_else(|| self.size(it));
        if let Some(size) = size {
            self.sizes.insert(place(it), size);
        }
        sum.plus(made.cost)
    }

    fn comprehension(&mut self, it: &'a Expression, all: &'a ComprehensionExpr) -> Span {
        let mut sum = self.cost(&all.iter_range).plus(self.cost(&all.accu_init));
        let accumulated = Local {
            name: all.accu_var.clone(),
            path: self.path(&all.accu_init),
            size: self.size(&all.accu_init),
            entry: self.entry(&all.accu_init),
        };
        self.locals.push(accumulated);
        let item = self.single(&all.iter_var, &all.iter_range);
        self.locals.push(item);
        let each = self.cost(&all.loop_cond).plus(self.cost(&all.loop_step));
        self.locals.pop();
        sum = sum.plus(self.cost(&all.result));
        self.locals.pop();
        let count = self.size_or_unknown(&all.iter_range);
        match &all.accu_init.expr {
            Expr::Literal(_) => {
                if let Some(size) = self.size(&all.accu_init) {
                    self.sizes.insert(place(it), size);
                }
            }
            Expr::List(_) | Expr::Map(_) => {
                self.sizes.insert(place(it), count);
                if let Some(entry) = self.entry(&all.loop_step) {
                    self.entries.insert(place(it), entry);
                }
            }
            _ => {}
        }
        sum.plus(count.times(each))
    }

    /// As upstream's parser writes macros of two names, and of optionals, out.
    fn special(&mut self, it: &'a Expression, special: &Special<'a>) -> Span {
        if let Kind::Optional { is_flat } = special.kind {
            return self.of_optional(it, special, is_flat);
        }
        let (target, list) = (special.target, Entry { is_list: true, key: READ, value: NOTHING });
        let mut sum = self.cost(target);
        let own = self.locals.len();
        for (at, name) in special.names.iter().enumerate() {
            let local = if at == 0 { self.key(name, target) } else { self.value(name, target) };
            self.locals.push(local);
        }
        let costs: Vec<Span> = special.bodies.iter().map(|it| self.cost(it)).collect();
        let made = special.bodies.last().map_or(NOTHING, |it| self.size_or_unknown(it));
        self.locals.truncate(own);
        let last = costs.last().copied().unwrap_or(NOTHING);
        let count = self.size_or_unknown(target);
        let (start, step, result) = match special.kind {
            // `@not_strictly_false(accu)`, then `accu && …`.
            Kind::All => (0, READ.plus(READ).plus(either(last)), 1),
            Kind::Exists => (0, READ.plus(READ).plus(READ).plus(either(last)), 1),
            Kind::ExistsOne => (0, last.plus(READ.union(Span::fixed(2))), 2),
            Kind::ToList => (LIST, last.plus(Span::fixed(LIST + 2)), 1),
            _ => (MAP, last.plus(Span::fixed(if special.kind == Kind::ToMap { 3 } else { 2 })), 1),
        };
        // A filter before it: `filter ? step : accu`.
        let step = if costs.len() > 1 { costs[0].plus(step.union(READ)) } else { step };
        let size = match special.kind {
            Kind::ToList | Kind::ToMap | Kind::ToEntries => count,
            _ => Span::fixed(1),
        };
        self.sizes.insert(place(it), size);
        if special.kind == Kind::ToList {
            self.entries.insert(place(it), list.union(Entry { value: made, ..list }));
        }
        sum = sum.plus(Span::fixed(start)).plus(Span::fixed(result));
        sum.plus(count.times(step))
    }

    /// `target.hasValue() ? optional.of(bind(name, target.value(), body)) : optional.none()`
    fn of_optional(&mut self, it: &Expression, special: &Special<'a>, is_flat: bool) -> Span {
        let target = self.cost(special.target);
        let held = match self.facts.of(special.target) {
            Type::Optional(of) => scalar(&of),
            _ => None,
        };
        for name in &special.names {
            let name = (*name).to_owned();
            self.locals.push(Local { name, path: Vec::new(), size: held, entry: None });
        }
        let body = special.bodies.last().map_or(NOTHING, |it| self.cost(it));
        self.locals.truncate(self.locals.len() - special.names.len());
        self.sizes.insert(place(it), Span::UNKNOWN);
        let bound = Span::fixed(LIST + 1).plus(target).plus(body);
        let some = if is_flat { bound } else { bound.plus(READ) };
        READ.plus(target).plus(some.union(READ))
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|it| it.name == name)
    }

    /// The name of a list's items, or a map's keys.
    fn single(&self, name: &str, range: &Expression) -> Local {
        if self.is_list(range) { self.value(name, range) } else { self.key(name, range) }
    }

    fn key(&self, name: &str, range: &Expression) -> Local {
        let size = self.entry(range).map(|it| it.key);
        let part = if self.is_list(range) { INDICES } else { KEYS };
        self.within(name, range, part, size)
    }

    fn value(&self, name: &str, range: &Expression) -> Local {
        let size = self.entry(range).map(|it| it.value);
        let part = if self.is_list(range) { ITEMS } else { VALUES };
        self.within(name, range, part, size)
    }

    fn within(&self, name: &str, range: &Expression, part: &str, size: Option<Span>) -> Local {
        let mut path = self.path(range);
        path.push(part.to_owned());
        Local { name: name.to_owned(), path, size, entry: None }
    }

    fn is_list(&self, range: &Expression) -> bool {
        match self.entry(range) {
            Some(entry) => entry.is_list,
            None => matches!(self.facts.of(range), Type::List(_)),
        }
    }

    fn path(&self, it: &Expression) -> Vec<String> {
        if let Expr::Ident(name) = &it.expr
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths.get(&place(it)).cloned().unwrap_or_default()
    }

    fn entry(&self, it: &Expression) -> Option<Entry> {
        if let Some(entry) = self.entries.get(&place(it)) {
            return Some(*entry);
        }
        match &it.expr {
            Expr::Ident(name) => self.local(name)?.entry,
            _ => None,
        }
    }

    fn size(&mut self, it: &Expression) -> Option<Span> {
        if let Some(size) = self.sizes.get(&place(it)) {
            return Some(*size);
        }
        if let Some(size) = literal(it) {
            return Some(size);
        }
        if let Some(size) = self.bound.size(&self.path(it)) {
            self.sizes.insert(place(it), size);
            return Some(size);
        }
        scalar(&self.facts.of(it)).or_else(|| match &it.expr {
            Expr::Ident(name) => self.local(name)?.size,
            _ => None,
        })
    }

    fn size_or_unknown(&mut self, it: &Expression) -> Span {
        self.size(it).unwrap_or(Span::UNKNOWN)
    }

    fn copy(&mut self, to: &Expression, from: &Expression) {
        if let Some(size) = self.size(from) {
            self.sizes.insert(place(to), size);
        }
        if let Some(entry) = self.entry(from) {
            self.entries.insert(place(to), entry);
        }
    }
}

/// `accu && …`: the left side is read always, the right one perhaps.
fn either(right: Span) -> Span {
    Span { least: 1, most: READ.plus(right).most }
}

fn union(before: Option<Span>, found: Span) -> Span {
    before.map_or(found, |it| it.union(found))
}

fn literal(it: &Expression) -> Option<Span> {
    let size = match &it.expr {
        Expr::Literal(LiteralValue::String(text)) => text.inner().chars().count(),
        Expr::Literal(LiteralValue::Bytes(bytes)) => bytes.inner().len(),
        Expr::Literal(_) => 1,
        Expr::List(list) => list.elements.len(),
        Expr::Map(map) => map.entries.len(),
        _ => return None,
    };
    Some(Span::fixed(size as u64))
}

/// Numbers and the like have one size.
fn scalar(of: &Type) -> Option<Span> {
    match of {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => {
            Some(Span::fixed(1))
        }
        Type::Optional(of) => scalar(of),
        _ => None,
    }
}

/// Whether a call is one of these operators.
fn is_operator(name: &str, all: &[&str]) -> bool {
    all.contains(&name)
}

const ORDERED: [&str; 4] =
    [operators::LESS, operators::LESS_EQUALS, operators::GREATER, operators::GREATER_EQUALS];
