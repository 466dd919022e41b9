//! What calling a function can cost, and how large its result can be.

use kube_cel::cel::{
    common::ast::{Expr, LiteralValue, operators},
    parser::Expression,
};

use super::{Entry, ITEMS, NOTHING, ORDERED, Span, VALUES, Walk, is_operator, place, span::parts};
use crate::cel::{overloads::Overload, types::Type};

/// Of ten letters. Upstream: `StringTraversalCostFactor`.
const LETTER: f64 = 0.1;
/// Of a pattern's letters. Upstream: `RegexStringLengthCostFactor`.
const PATTERN: f64 = 0.25;
/// Of a name's format. Upstream: `MaxNameFormatRegexSize`.
const FORMAT: f64 = 128.0;
/// Asking what somebody may do: twice in an expression.
const CHECK: u64 = 350_000;
/// Of a selector's requirement: a list and a structure, for each two letters.
const REQUIREMENT: f64 = 50.0;
/// Bytes of an address.
const ADDRESS: Span = Span { least: 4, most: 16 };
const ONE: Span = Span::fixed(1);

pub(super) struct Made {
    pub(super) cost: Span,
    /// `None`: as the schema and the type say.
    pub(super) size: Option<Span>,
}

/// A call with the sizes of what it takes.
struct Call<'c> {
    name: &'c str,
    target: Option<Span>,
    target_type: Option<Type>,
    target_path: Vec<String>,
    args: Vec<Span>,
    exprs: &'c [Expression],
    types: Vec<Type>,
}

impl<'a> Walk<'a> {
    /// What a call costs beside its target.
    pub(super) fn function(
        &mut self,
        it: &'a Expression,
        name: &str,
        target: Option<&'a Expression>,
        args: &'a [Expression],
        costs: &[Span],
    ) -> Made {
        let sum = costs.iter().fold(NOTHING, |sum, it| sum.plus(*it));
        let call = Call {
            name,
            target: target.map(|it| self.size_or_unknown(it)),
            target_type: target.map(|it| self.facts.of(it)),
            target_path: target.map(|it| self.path(it)).unwrap_or_default(),
            args: args.iter().map(|it| self.size_or_unknown(it)).collect(),
            exprs: args,
            types: args.iter().map(|it| self.facts.of(it)).collect(),
        };
        if let Some((cost, size)) = self.library(&call) {
            return Made { cost: cost.plus(sum), size };
        }
        let (mut cost, mut size): (Option<Span>, Option<Span>) = (None, None);
        for overload in self.facts.overloads(it) {
            let made = self.standard(it, &call, overload, costs);
            cost = Some(cost.map_or(made.0, |it| it.union(made.0)));
            if let Some(found) = made.1 {
                size = Some(size.map_or(found, |it| it.union(found)));
            }
        }
        Made { cost: cost.unwrap_or_else(|| ONE.plus(sum)), size }
    }

    /// Those of CEL itself, by what they take.
    fn standard(
        &mut self,
        it: &'a Expression,
        call: &Call<'_>,
        overload: &Overload,
        costs: &[Span],
    ) -> (Span, Option<Span>) {
        let sum = costs.iter().fold(NOTHING, |sum, it| sum.plus(*it));
        let with = |cost: Span| cost.plus(sum);
        let plain = (with(ONE), None);
        let is_text = |at: usize| matches!(overload.args.get(at), Some(Type::String | Type::Bytes));
        match (call.name, call.args.as_slice()) {
            (operators::INDEX, [_, _]) => (with(ONE), self.index(it, call, overload)),
            (operators::LOGICAL_AND | operators::LOGICAL_OR, [_, _]) => {
                (Span { least: costs[0].least, most: costs[0].plus(costs[1]).most }, None)
            }
            (operators::CONDITIONAL, [_, then, other]) => {
                let entries = [1, 2].map(|at| self.entry(&call.exprs[at]));
                self.set_entry(it, entries);
                (costs[0].plus(costs[1].union(costs[2])), Some(then.union(*other)))
            }
            (operators::ADD, [left, right]) => {
                let size = left.plus(*right);
                let is_list = matches!(overload.args.first(), Some(Type::List(_)));
                if !is_list && !is_text(0) {
                    return plain;
                }
                self.set_entry(it, [0, 1].map(|at| self.entry(&call.exprs[at])));
                (with(if is_list { ONE } else { size.scaled(LETTER) }), Some(size))
            }
            (operators::IN, [_, list]) if matches!(overload.args[1], Type::List(_)) => {
                (with(*list), None)
            }
            (operators::EQUALS | operators::NOT_EQUALS, [left, right]) => {
                (with(compared(*left, *right)), None)
            }
            (name, [left, right]) if is_operator(name, &ORDERED) && is_text(0) => {
                (with(compared(*left, *right)), None)
            }
            ("startsWith" | "endsWith", [part]) => (with(part.scaled(LETTER)), None),
            ("matches", [pattern]) => match call.target {
                Some(text) => (with(searched(text, *pattern)), None),
                None => plain,
            },
            ("contains", [part]) => match call.target {
                Some(text) => (with(text.scaled(LETTER).times(part.scaled(LETTER))), None),
                None => plain,
            },
            ("format", [_]) => match call.target {
                Some(text) => (with(text.scaled(LETTER)), None),
                None => plain,
            },
            ("bytes", [text]) if matches!(overload.args[0], Type::String) => {
                let size = Span { most: text.most.wrapping_mul(4), ..*text };
                (with(text.scaled(LETTER)), Some(size))
            }
            ("string", [text]) if matches!(overload.args[0], Type::Bytes) => {
                (with(text.scaled(LETTER)), Some(Span { least: text.least / 4, ..*text }))
            }
            ("strings.quote", [text]) => {
                let longer = |it: u64, by: u64| it.wrapping_mul(by).wrapping_add(2);
                let size = Span { least: longer(text.least, 1), most: longer(text.most, 2) };
                (with(text.scaled(LETTER)), Some(size))
            }
            _ => plain,
        }
    }

    /// An item, or a value, by its key.
    fn index(&mut self, it: &Expression, call: &Call<'_>, overload: &Overload) -> Option<Span> {
        let part = match overload.args.first() {
            Some(Type::List(_)) => ITEMS,
            Some(Type::Map(..)) => VALUES,
            _ => return None,
        };
        let of = call.exprs.first()?;
        let mut path = self.path(of);
        path.push(part.to_owned());
        self.paths.insert(place(it), path);
        self.entry(of).map(|it| it.value).or_else(|| self.size(it))
    }

    fn set_entry(&mut self, it: &Expression, both: [Option<Entry>; 2]) {
        if let [Some(left), Some(right)] = both {
            self.entries.insert(place(it), left.union(right));
        }
    }

    /// Those of libraries, by their names.
    fn library(&self, call: &Call<'_>) -> Option<(Span, Option<Span>)> {
        let first = call.args.first().copied();
        Some(match (call.name, call.target) {
            ("check", _) => (Span::fixed(CHECK), None),
            (
                "serviceAccount"
                | "path"
                | "group"
                | "resource"
                | "subresource"
                | "namespace"
                | "name"
                | "allowed"
                | "reason"
                | "error"
                | "errored"
                | "masked"
                | "prefixLength"
                | "family"
                | "isUnspecified"
                | "isLoopback"
                | "isLinkLocalMulticast"
                | "isLinkLocalUnicast"
                | "isGlobalUnicast"
                | "format.named"
                | "sign"
                | "asInteger"
                | "isInteger"
                | "asApproximateFloat"
                | "isGreaterThan"
                | "isLessThan"
                | "compareTo"
                | "add"
                | "sub"
                | "major"
                | "minor"
                | "patch"
                | "getScheme"
                | "getHostname"
                | "getHost"
                | "getPort"
                | "getEscapedPath"
                | "getQuery",
                _,
            ) => (ONE, None),
            ("fieldSelector" | "labelSelector", _) => {
                let count = first?.scaled(0.5);
                let cost = Span::fixed(10).plus(first?.scaled(LETTER));
                (cost.plus(count.scaled(REQUIREMENT)), None)
            }
            ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", Some(target)) => {
                (self.each(call, target), None)
            }
            ("url" | "jsonpatch.escapeKey", _) => (first?.scaled(LETTER), first),
            ("lowerAscii" | "upperAscii" | "substring" | "trim", Some(text)) => {
                (text.scaled(LETTER), Some(text))
            }
            ("replace", Some(text)) => {
                let size = replaced(text, first?, *call.args.get(1)?);
                (text.scaled(2.0 * LETTER), Some(size))
            }
            ("split", Some(text)) => {
                let most = call.exprs.get(1).and_then(whole).unwrap_or(text.most);
                (text.scaled(2.0 * LETTER), Some(Span { least: 0, most }))
            }
            ("join", Some(list)) => {
                let size = self.joined(call, list);
                (size.scaled(LETTER), Some(size))
            }
            ("find" | "findAll", Some(text)) => {
                (searched(text, first?), Some(Span { least: 0, most: text.most }))
            }
            ("ip", Some(_)) => (ONE, None),
            ("containsIP" | "containsCIDR", Some(_)) => {
                let mut cost = ADDRESS.plus(ADDRESS).scaled(LETTER);
                if call.name == "containsCIDR" {
                    cost = cost.plus(ADDRESS.scaled(LETTER)).plus(ONE);
                }
                let is_text = matches!(call.types.first(), Some(Type::String | Type::Dyn));
                (if is_text { cost.plus(first?.scaled(LETTER)) } else { cost }, None)
            }
            ("validate", Some(_)) => (first?.scaled(LETTER).scaled(FORMAT * PATTERN), None),
            ("sets.contains" | "sets.intersects", _) => {
                (first?.times(*call.args.get(1)?).plus(ONE), None)
            }
            ("sets.equivalent", _) => {
                (first?.times(*call.args.get(1)?).scaled(2.0).plus(ONE), None)
            }
            (operators::EQUALS, _) => (equal(call)?, None),
            _ => return None,
        })
    }

    /// Of each item of a list one, and more where they are texts.
    fn each(&self, call: &Call<'_>, target: Span) -> Span {
        let Some(Type::List(of)) = &call.target_type else { return target.scaled(LETTER) };
        let cost = match **of {
            Type::String | Type::Bytes => ONE.plus(self.item(call).scaled(LETTER)),
            _ => ONE,
        };
        target.times(cost)
    }

    /// The size of a list's items.
    fn item(&self, call: &Call<'_>) -> Span {
        if call.target_path.is_empty() {
            return Span::UNKNOWN;
        }
        let mut path = call.target_path.clone();
        path.push(ITEMS.to_owned());
        self.bound.size(&path).unwrap_or(Span::UNKNOWN)
    }

    fn joined(&self, call: &Call<'_>, list: Span) -> Span {
        let mut size = NOTHING;
        if matches!(call.target_type, Some(Type::List(_))) {
            size = list.times(self.item(call));
        }
        if let Some(separator) = call.args.first() {
            let between = |it: u64| it.saturating_sub(1);
            let count = Span { least: between(list.least), most: between(list.most) };
            size = size.plus(separator.times(count));
        }
        size
    }
}

/// Equality of libraries' own types.
fn equal(call: &Call<'_>) -> Option<Span> {
    let [Type::Named(left), Type::Named(right)] = call.types.as_slice() else { return None };
    if left != right {
        return None;
    }
    Some(match *left {
        "kubernetes.NamedFormat" => Span { least: 1, most: 64 }.scaled(LETTER),
        "kubernetes.URL" => Span { least: 1, most: call.args[1].most }.scaled(LETTER),
        _ => ONE,
    })
}

/// Comparing two costs no more than reading the smaller.
fn compared(left: Span, right: Span) -> Span {
    let most = left.most.min(right.most);
    Span { least: most.min(1), most }.scaled(LETTER)
}

fn searched(text: Span, pattern: Span) -> Span {
    text.plus(ONE).scaled(LETTER).times(pattern.scaled(PATTERN))
}

/// The longest and the shortest text that replacing can make of one.
fn replaced(text: Span, from: Span, to: Span) -> Span {
    let (longest, kept_longest) = if from.least == 0 {
        (text.most.saturating_add(1), text.most)
    } else if to.most <= from.least {
        (0, text.most)
    } else {
        (parts(text.most, from.least), 0)
    };
    let (shortest, kept_shortest) = if from.most == 0 {
        (text.least.saturating_add(1), text.least)
    } else if from.most <= to.least {
        (0, text.least)
    } else {
        (parts(text.least, from.most), 0)
    };
    let count = Span { least: shortest, most: longest };
    count.times(to).plus(Span { least: kept_shortest, most: kept_longest })
}

fn whole(it: &Expression) -> Option<u64> {
    match &it.expr {
        Expr::Literal(LiteralValue::Int(it)) => Some(it.inner().cast_unsigned()),
        _ => None,
    }
}
