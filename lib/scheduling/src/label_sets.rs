//! Interned label sets: the pods of one ReplicaSet share a number.
//!
//! A selector is matched once per distinct set instead of once per pod.

use std::collections::{BTreeMap, HashMap};

use kube::core::{Selector, SelectorExt};

/// The number of a (namespace, labels) pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LabelSetId(usize);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LabelSet {
    pub(crate) namespace: String,
    pub(crate) labels: BTreeMap<String, String>,
}

/// All sets in use, counted so that unused ones are forgotten.
#[derive(Clone, Debug, Default)]
pub(crate) struct LabelSets {
    ids: HashMap<LabelSet, LabelSetId>,
    sets: Vec<Option<(LabelSet, usize)>>,
    free: Vec<LabelSetId>,
}

impl LabelSets {
    pub(crate) fn take(&mut self, set: LabelSet) -> LabelSetId {
        if let Some(&id) = self.ids.get(&set) {
            if let Some((_, users)) = &mut self.sets[id.0] {
                *users += 1;
            }
            return id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.sets.push(None);
            LabelSetId(self.sets.len() - 1)
        });
        self.sets[id.0] = Some((set.clone(), 1));
        self.ids.insert(set, id);
        id
    }

    pub(crate) fn release(&mut self, id: LabelSetId) {
        let Some((set, users)) = &mut self.sets[id.0] else { return };
        *users -= 1;
        if *users == 0 {
            self.ids.remove(set);
            self.sets[id.0] = None;
            self.free.push(id);
        }
    }

    /// For each id, whether `matches` holds.
    pub(crate) fn matching(&self, matches: impl Fn(&LabelSet) -> bool) -> Matching {
        let hits = self.sets.iter().map(|it| it.as_ref().is_some_and(|(set, _)| matches(set)));
        Matching(hits.collect())
    }

    /// The sets of one namespace that a selector selects.
    pub(crate) fn selected(&self, namespace: &str, selector: &Selector) -> Matching {
        self.matching(|set| set.namespace == namespace && selector.matches(&set.labels))
    }
}

/// The answer of [`LabelSets::matching`].
#[derive(Clone, Debug)]
pub(crate) struct Matching(Vec<bool>);

impl Matching {
    pub(crate) fn has(&self, id: LabelSetId) -> bool {
        self.0.get(id.0).copied().unwrap_or(false)
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.0.contains(&true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_lives_as_long_as_it_has_users() {
        let set = |value: &str| LabelSet {
            namespace: "default".into(),
            labels: [("app".to_owned(), value.to_owned())].into(),
        };
        let mut sets = LabelSets::default();
        let (a, again, b) = (sets.take(set("a")), sets.take(set("a")), sets.take(set("b")));
        assert_eq!(a, again);
        assert_ne!(a, b);
        sets.release(a);
        assert!(sets.matching(|it| it.labels["app"] == "a").has(a));
        sets.release(a);
        assert!(sets.matching(|it| it.labels["app"] == "a").is_empty());
        assert_eq!(sets.take(set("c")), a);
    }
}
