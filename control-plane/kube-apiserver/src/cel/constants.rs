//! What an expression is written with, as values that are made once: texts, and lists of literals.
//!
//! A part of an expression is known by the number that the parser gives it. Where different ones have the
//! same number none of them is kept, and each is made each time.

use std::{collections::HashMap, sync::Arc};

use kube_cel::cel::{
    common::ast::{EntryExpr, Expr, IdedEntryExpr, LiteralValue},
    objects::Value,
    parser::Expression,
};

use super::value::tenth;

/// A value, and what making it costs.
pub(super) type Made = (Value, u64);

/// By number.
#[derive(Default)]
pub(super) struct Constants(Vec<Option<Made>>);

impl Constants {
    pub(super) fn of(root: &Expression) -> Self {
        let mut found = HashMap::new();
        gather(root, &mut found);
        let count = found.keys().max().map_or(0, |it| it + 1);
        Self((0..count).map(|id| found.remove(&id).flatten()).collect())
    }

    pub(super) fn get(&self, it: &Expression) -> Option<&Made> {
        self.0.get(usize::try_from(it.id).ok()?)?.as_ref()
    }
}

fn gather(it: &Expression, found: &mut HashMap<usize, Option<Made>>) {
    let made = constant(it);
    let is_constant = made.is_some();
    if let Ok(id) = usize::try_from(it.id) {
        let known = found.entry(id).or_insert_with(|| made.clone());
        if *known != made {
            *known = None;
        }
    }
    if is_constant {
        return;
    }
    let entries = |all: &[IdedEntryExpr], found: &mut HashMap<_, _>| {
        for entry in all {
            match &entry.expr {
                EntryExpr::StructField(it) => gather(&it.value, found),
                EntryExpr::MapEntry(it) => {
                    gather(&it.key, found);
                    gather(&it.value, found);
                }
            }
        }
    };
    match &it.expr {
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => {}
        Expr::Select(select) => gather(&select.operand, found),
        Expr::Call(call) => {
            call.target.as_deref().into_iter().chain(&call.args).for_each(|it| gather(it, found));
        }
        Expr::List(list) => list.elements.iter().for_each(|it| gather(it, found)),
        Expr::Map(map) => entries(&map.entries, found),
        Expr::Struct(it) => entries(&it.entries, found),
        Expr::Comprehension(it) => {
            let parts = [&it.iter_range, &it.accu_init, &it.loop_cond, &it.loop_step, &it.result];
            parts.into_iter().for_each(|it| gather(it, found));
        }
    }
}

/// What this part always is, if that takes more than a moment to make.
fn constant(it: &Expression) -> Option<Made> {
    match &it.expr {
        Expr::Literal(literal @ LiteralValue::String(_)) => Some(literal_value(literal)),
        Expr::List(list) if !list.elements.is_empty() && list.optional_indices.is_empty() => {
            let of = |it: &Expression| match &it.expr {
                Expr::Literal(literal) => Some(literal_value(literal)),
                _ => None,
            };
            let all: Vec<_> = list.elements.iter().map(of).collect::<Option<_>>()?;
            // Each part costs one, too.
            let cost = all.iter().map(|(_, cost)| cost + 1).sum();
            let all = all.into_iter().map(|(value, _)| value).collect();
            Some((Value::List(Arc::new(all)), cost))
        }
        _ => None,
    }
}

/// Of a text, what reading it costs is charged where it stands.
pub(super) fn literal_value(literal: &LiteralValue) -> Made {
    let value = match literal {
        LiteralValue::Boolean(it) => (*it.inner()).into(),
        LiteralValue::Bytes(it) => Value::Bytes(Arc::new(it.inner().to_vec())),
        LiteralValue::Double(it) => Value::Float(*it.inner()),
        LiteralValue::Int(it) => Value::Int(*it.inner()),
        LiteralValue::Null => Value::Null,
        LiteralValue::String(it) => return (it.inner().into(), tenth(it.inner().len())),
        LiteralValue::UInt(it) => Value::UInt(*it.inner()),
    };
    (value, 0)
}

#[cfg(test)]
mod tests {
    use kube_cel::cel::parser::Parser;

    use super::*;

    fn kept(text: &str) -> usize {
        let root = Parser::new().parse(text).unwrap();
        Constants::of(&root).0.iter().flatten().count()
    }

    #[test]
    fn texts_and_lists_of_literals_are_kept_and_what_else_there_is_not() {
        for (text, count) in [
            ("a == 'b' || a in ['c', 'd']", 2),
            ("[a, 'b'].all(x, x == 'c')", 2),
            ("{'a': ['b']}.size() == 1 && true", 2),
            ("[].size() + 1", 0),
        ] {
            assert_eq!(kept(text), count, "{text}");
        }
    }

    #[test]
    fn parts_with_one_number_and_different_values_are_made_each_time() {
        let part = |id: u64, text: &str| {
            let mut part = Parser::new().parse(text).unwrap();
            part.id = id;
            part
        };
        let pair = |left: &str, right: &str| {
            let mut root = part(2, "[a]");
            let Expr::List(list) = &mut root.expr else { panic!("no list") };
            list.elements = vec![part(1, left), part(1, right), part(3, "a")];
            Constants::of(&root).0.iter().flatten().count()
        };
        assert_eq!(pair("'a'", "'a'"), 1);
        assert_eq!(pair("'a'", "'b'"), 0);
        assert_eq!(pair("'a'", "['a']"), 0);
        assert_eq!(pair("'a'", "a"), 0);
        assert_eq!(pair("a", "'a'"), 0);
    }
}
