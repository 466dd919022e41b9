//! Lists whose items are told apart by themselves (`set`) or by some of their fields (`map`): they are
//! equal in whatever order, and `+` merges them.
//!
//! A value does not say which kind of list it is: [`Lists`] does, by the place of the list in memory.
//! That holds as long as the values do that a scope keeps.
//!
//! Upstream: `unstructuredSetList` and `unstructuredMapList` of k8s.io/apiserver/pkg/cel/common.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use kube_cel::cel::objects::{Key, Value};

use super::value::{self, optional};

/// What tells the items of a list apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// All of them.
    Set,
    /// These fields.
    Map(Arc<Vec<String>>),
}

/// The lists of a value that are no plain ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lists(HashMap<usize, Keys>);

impl Lists {
    /// Remembers a list; the caller keeps it for as long as it keeps this.
    pub(crate) fn add(&mut self, list: &Arc<Vec<Value>>, keys: Keys) {
        self.0.insert(Arc::as_ptr(list).addr(), keys);
    }

    /// With those of another, too.
    pub(crate) fn with(mut self, other: &Self) -> Self {
        self.0.extend(other.0.iter().map(|(at, keys)| (*at, keys.clone())));
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn of(&self, list: &Arc<Vec<Value>>) -> Option<&Keys> {
        self.0.get(&Arc::as_ptr(list).addr())
    }
}

/// Whether two values are the same, if lists are as `keys` says.
pub(super) fn equal(
    left: &Value,
    right: &Value,
    keys: &impl Fn(&Arc<Vec<Value>>) -> Option<Keys>,
) -> bool {
    match (left, right) {
        (Value::List(left), Value::List(right)) => {
            if left.len() != right.len() {
                return false;
            }
            match keys(left) {
                None => left.iter().zip(right.iter()).all(|(a, b)| equal(a, b, keys)),
                Some(Keys::Set) => {
                    let own: HashSet<String> = left.iter().map(shown).collect();
                    right.iter().all(|it| own.contains(&shown(it)))
                }
                Some(by @ Keys::Map(_)) => {
                    let own: HashMap<String, &Value> =
                        left.iter().map(|it| (key(&by, it), it)).collect();
                    right
                        .iter()
                        .all(|it| own.get(&key(&by, it)).is_some_and(|own| equal(own, it, keys)))
                }
            }
        }
        (Value::Map(left), Value::Map(right)) => {
            let same = |(name, it): (&Key, &Value)| {
                right.map.get(name).is_some_and(|other| equal(it, other, keys))
            };
            left.map.len() == right.map.len() && left.map.iter().all(same)
        }
        (left, right) => match (optional(left), optional(right)) {
            (Some(Some(left)), Some(Some(right))) => equal(left, right, keys),
            _ => left == right,
        },
    }
}

/// `left + right`: items that both have stay where they are on the left, as they are on the right.
pub(super) fn merged(left: &[Value], right: &[Value], by: &Keys) -> Vec<Value> {
    let mut all = left.to_vec();
    let mut places: HashMap<String, usize> =
        left.iter().enumerate().map(|(at, it)| (key(by, it), at)).collect();
    for it in right {
        match places.get(&key(by, it)) {
            Some(at) => all[*at] = it.clone(),
            None => {
                if *by == Keys::Set {
                    places.insert(key(by, it), all.len());
                }
                all.push(it.clone());
            }
        }
    }
    all
}

/// What an item is told apart by.
fn key(by: &Keys, item: &Value) -> String {
    let (Keys::Map(names), Value::Map(_)) = (by, item) else { return shown(item) };
    let text = |it: &String| value::field(item, it).map_or_else(String::new, shown);
    names.iter().map(|it| text(it) + ";").collect()
}

fn shown(value: &Value) -> String {
    Shown(value).to_string()
}

/// The same text for the same value, and another for another.
struct Shown<'a>(&'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::List(all) => {
                f.write_str("[")?;
                all.iter().try_for_each(|it| write!(f, "{},", Shown(it)))?;
                f.write_str("]")
            }
            Value::Map(fields) => {
                let mut all: Vec<_> = fields.map.iter().collect();
                all.sort_by_key(|(key, _)| *key);
                f.write_str("{")?;
                for (key, it) in all {
                    write!(f, "{:?}:{},", key.to_string(), Shown(it))?;
                }
                f.write_str("}")
            }
            // A whole number is the same, however it is written.
            Value::Float(it) if it.fract() == 0.0 && it.abs() < 9e15 => write!(f, "Int({it:.0})"),
            Value::UInt(it) => write!(f, "Int({it})"),
            other => write!(f, "{other:?}"),
        }
    }
}
