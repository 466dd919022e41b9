//! Spread constraints and (anti-)affinity between pods: who counts where.
//!
//! A group is one constraint, shared by all pods that have it. It counts, per domain of its key, the
//! pods that it selects, and for anti-affinity those that own it, because these repel whom the group
//! selects. For `kubernetes.io/hostname` each node is a domain; a new node can always be made, so
//! the least count of a spread is zero there.
//!
//! Deviation: a pod that any group of another key selects fixes its new node's domain of that key at
//! once. Upstream leaves several possible and either does not count the pod (spread, affinity) or
//! blocks all of them (anti-affinity).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use api_kube::karpenter::labels;
use kube::core::{Selector, SelectorExt};
use scheduling::Term;

use crate::{class::Alternative, world::Namespaces};

pub(crate) type GroupId = usize;
/// The number of a namespace with a set of labels.
pub(crate) type LabelId = usize;
/// The number of a topology key that is not the hostname, and of a domain of it.
pub(crate) type KeyId = usize;
pub(crate) type DomainId = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Spread { max_skew: i64, min_domains: usize },
    Affinity,
    AntiAffinity,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) kind: Kind,
    /// `None`: the hostname.
    pub(crate) key: Option<KeyId>,
    matcher: Matcher,
    /// Of a spread: the domains that count.
    pub(crate) eligible: Vec<DomainId>,
    /// Of a spread: the nodes, and the pools, whose pods do not count, by place.
    pub(crate) ignored_nodes: Vec<bool>,
    pub(crate) ignored_pools: Vec<bool>,
    /// Of a spread: only pods on nodes that satisfy one of them count; none: all do.
    pub(crate) filter: Vec<Alternative>,
    /// By [`LabelId`].
    selects: Vec<bool>,
}

/// Which pods a group is about.
#[derive(Debug)]
pub(crate) enum Matcher {
    Selector {
        namespace: String,
        selector: Selector,
    },
    /// All of them.
    Terms(Vec<Term>),
}

impl Matcher {
    fn selects(&self, set: &LabelSet, namespaces: &Namespaces) -> bool {
        match self {
            Self::Selector { namespace, selector } => {
                *namespace == set.namespace && selector.matches(&set.labels)
            }
            Self::Terms(terms) => {
                terms.iter().all(|it| it.selects(&set.namespace, &set.labels, namespaces))
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LabelSet {
    pub(crate) namespace: String,
    pub(crate) labels: BTreeMap<String, String>,
}

/// A topology key and its domains.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: Arc<str>,
    pub(crate) domains: Vec<Arc<str>>,
}

impl Key {
    pub(crate) fn domain(&self, value: &str) -> Option<DomainId> {
        self.domains.iter().position(|it| &**it == value)
    }
}

/// All groups, and all sets of labels that they are asked about.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    pub(crate) all: Vec<Group>,
    ids: HashMap<String, GroupId>,
    label_sets: Vec<LabelSet>,
    label_ids: HashMap<LabelSet, LabelId>,
    pub(crate) keys: Vec<Key>,
}

impl Groups {
    pub(crate) fn label(&mut self, set: LabelSet, namespaces: &Namespaces) -> LabelId {
        if let Some(id) = self.label_ids.get(&set) {
            return *id;
        }
        let id = self.label_sets.len();
        for group in &mut self.all {
            let selects = group.matcher.selects(&set, namespaces);
            group.selects.push(selects);
        }
        self.label_sets.push(set.clone());
        self.label_ids.insert(set, id);
        id
    }

    /// The group of that name; `make` tells what it is about where it is new.
    pub(crate) fn group(
        &mut self,
        name: String,
        namespaces: &Namespaces,
        make: impl FnOnce(&mut Self) -> (Kind, Option<KeyId>, Matcher),
    ) -> (GroupId, bool) {
        if let Some(id) = self.ids.get(&name) {
            return (*id, false);
        }
        let (kind, key, matcher) = make(self);
        let selects = self.label_sets.iter().map(|it| matcher.selects(it, namespaces)).collect();
        let id = self.all.len();
        self.all.push(Group {
            kind,
            key,
            matcher,
            eligible: Vec::new(),
            ignored_nodes: Vec::new(),
            ignored_pools: Vec::new(),
            filter: Vec::new(),
            selects,
        });
        self.ids.insert(name, id);
        (id, true)
    }

    pub(crate) fn selects(&self, group: GroupId, label: LabelId) -> bool {
        self.all[group].selects[label]
    }

    /// `None` for the hostname; a new key begins with the domains that `domains` lists.
    pub(crate) fn key(
        &mut self,
        name: &str,
        domains: impl FnOnce() -> Vec<Arc<str>>,
    ) -> Option<KeyId> {
        if name == labels::HOSTNAME {
            return None;
        }
        let found = self.keys.iter().position(|it| &*it.name == name);
        Some(found.unwrap_or_else(|| {
            self.keys.push(Key { name: name.into(), domains: domains() });
            self.keys.len() - 1
        }))
    }
}

/// What a group has counted: by node and new node for the hostname, else by domain.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter {
    /// Pods that count, or may count once it is known what their new node is.
    pub(crate) matched: Counts,
    /// Pods that count whatever their new node becomes.
    pub(crate) certain: Counts,
    pub(crate) owners: Counts,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    by_place: Vec<i64>,
    total: i64,
}

impl Counts {
    pub(crate) fn at(&self, place: usize) -> i64 {
        self.by_place.get(place).copied().unwrap_or(0)
    }

    pub(crate) fn add(&mut self, place: usize, count: i64) {
        if self.by_place.len() <= place {
            self.by_place.resize(place + 1, 0);
        }
        self.by_place[place] += count;
        self.total += count;
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.total == 0
    }
}

impl Group {
    /// The least count of a spread over the domains that count.
    pub(crate) fn least(&self, counter: &Counter) -> i64 {
        let Kind::Spread { min_domains, .. } = self.kind else { return 0 };
        if self.key.is_none() || self.eligible.len() < min_domains {
            return 0;
        }
        self.eligible.iter().map(|it| counter.certain.at(*it)).min().unwrap_or(0)
    }

    /// Whether one more pod may be at the place (a node, a new node or a domain).
    ///
    /// `own`: whether the group selects the pod; `least` is [`Self::least`].
    pub(crate) fn allows(&self, counter: &Counter, place: usize, own: bool, least: i64) -> bool {
        let here = counter.matched.at(place);
        match self.kind {
            Kind::Spread { max_skew, .. } => here + i64::from(own) - least <= max_skew,
            Kind::Affinity => here > 0 || (own && counter.matched.is_zero()),
            Kind::AntiAffinity => here == 0,
        }
    }
}
