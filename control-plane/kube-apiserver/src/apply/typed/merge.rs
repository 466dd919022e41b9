//! Lays an applied configuration over the live object.
//!
//! Upstream: `TypedValue.Merge` of sigs.k8s.io/structured-merge-diff.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use super::{Kind, key_of};

/// Lays `applied` over `live`.
pub(crate) fn merge(live: &mut Value, applied: &Value, kind: &Kind) {
    match (kind, &mut *live, applied) {
        (kind, Value::Object(target), Value::Object(entries)) if kind.merges_fields() => {
            for (name, value) in entries {
                match target.get_mut(name) {
                    Some(current) => merge(current, value, &kind.child(name)),
                    None => drop(target.insert(name.clone(), value.clone())),
                }
            }
        }
        (Kind::Keyed(..), Value::Array(target), Value::Array(items)) => {
            let inner = kind.child("");
            lists(target, items, |it| key_of(it, kind), |it, applied| merge(it, applied, &inner));
        }
        (Kind::Set, Value::Array(target), Value::Array(items)) => {
            lists(target, items, Value::to_string, |_, _| {});
        }
        _ => *live = applied.clone(),
    }
}

/// Merges elements of the same name. Applied elements come in the order in which they were applied;
/// each of the others stays before the shared one that it was before.
fn lists(
    live: &mut Vec<Value>,
    applied: &[Value],
    name: impl Fn(&Value) -> String,
    merge: impl Fn(&mut Value, &Value),
) {
    let names: Vec<String> = applied.iter().map(&name).collect();
    let wanted: BTreeSet<&String> = names.iter().collect();
    // Of an applied element that is there more than once nothing is kept.
    let mut known: BTreeMap<String, Option<Value>> = BTreeMap::new();
    let mut old: VecDeque<(String, Option<Value>)> = VecDeque::with_capacity(live.len());
    for item in live.drain(..) {
        let name = name(&item);
        if wanted.contains(&name) {
            known.entry(name.clone()).and_modify(|it| *it = None).or_insert(Some(item));
            old.push_back((name, None));
        } else {
            old.push_back((name, Some(item)));
        }
    }
    let mut shared: VecDeque<&String> = names.iter().filter(|it| known.contains_key(*it)).collect();
    for (item, name) in applied.iter().zip(&names) {
        while let Some((before, _)) = old.front() {
            if before == name || shared.front().is_some_and(|it| *it == before) {
                break;
            }
            live.extend(old.pop_front().and_then(|(_, item)| item));
        }
        if shared.front() == Some(&name) {
            shared.pop_front();
            old.pop_front_if(|(it, _)| it == name);
        }
        let current = known.get_mut(name).and_then(Option::take);
        live.push(match current {
            Some(mut current) => {
                merge(&mut current, item);
                current
            }
            None => item.clone(),
        });
    }
    live.extend(old.into_iter().filter_map(|(_, item)| item));
}
