//! All that is known before the first pod is placed, and what is worked out on the way and kept.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use scheduling::PodInfo;

use crate::{
    bits::Bits,
    catalog::{Catalog, Reservations},
    class::{Alternative, Relaxation, Shared, Wishes, signature, tolerates},
    requirement::{Requirement, Requirements},
    topology::{DomainId, Group, GroupId, Groups, Key, KeyId, Kind, LabelId, LabelSet, Matcher},
    world::{Dimensions, MinValues, Preferences, Vector, World, by_weight},
};

pub(crate) type ClassId = usize;
type AlternativeId = usize;
pub(crate) type ShapeId = usize;

/// What of a class decides whether it fits on a new node, whoever else is there: its request, its
/// alternatives, the pools whose taints it tolerates, its host ports.
type Shape = (Vector, Vec<AlternativeId>, Vec<bool>, String);

pub(crate) type SetId = usize;

/// Pods that are alike, at one stage of giving up preferences.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) pod: Shared,
    kind: usize,
    pub(crate) relaxation: Relaxation,
    pub(crate) label: LabelId,
    pub(crate) shape: ShapeId,
    pub(crate) request: Vector,
    pub(crate) alternatives: Vec<AlternativeId>,
    /// By pool: whether its taints are tolerated.
    pub(crate) pools: Vec<bool>,
    pub(crate) tolerant: bool,
    /// The groups that it has.
    pub(crate) owned: Vec<GroupId>,
    /// The groups that select it.
    pub(crate) counted: Vec<GroupId>,
    counted_until: usize,
    /// Keys whose domain has to be fixed, and whether a node without the key will not do.
    pub(crate) keys: Vec<(KeyId, bool)>,
}

/// What a new node of a pool may be: a set of requirements, and the options that satisfy them.
#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) requirements: Requirements,
    pub(crate) options: Bits,
    pub(crate) has_min_values: bool,
}

/// The sets of one pool, each made once.
#[derive(Debug, Default)]
struct Sets {
    all: Vec<Set>,
    ids: HashMap<Requirements, SetId>,
    joined: HashMap<(SetId, AlternativeId), Option<SetId>>,
    pinned: HashMap<(SetId, KeyId, DomainId), Option<SetId>>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) world: World,
    pub(crate) dimensions: Dimensions,
    pub(crate) catalogs: Vec<Catalog>,
    pub(crate) reservations: Reservations,
    sets: Vec<Sets>,
    pub(crate) classes: Vec<Class>,
    class_ids: HashMap<(usize, Relaxation), ClassId>,
    kinds: HashMap<String, usize>,
    pub(crate) shapes: HashMap<Shape, ShapeId>,
    alternatives: Vec<Alternative>,
    alternative_ids: HashMap<Alternative, AlternativeId>,
    pub(crate) groups: Groups,
    /// Per node: the labels of its pods, and the anti-affinity groups that they have.
    pub(crate) members: Vec<Vec<LabelId>>,
    pub(crate) owners: Vec<Vec<GroupId>>,
    /// The order in which nodes are tried.
    pub(crate) node_order: Vec<usize>,
}

impl Engine {
    pub(crate) fn new(mut world: World) -> Self {
        by_weight(&mut world.pools);
        let dimensions = Dimensions::of(&world);
        let reservations = Reservations::of(&world);
        let catalog = |it| Catalog::new(&world, it, &dimensions, &reservations);
        let catalogs: Vec<Catalog> = world.pools.iter().map(catalog).collect();
        let mut node_order: Vec<usize> = (0..world.nodes.len()).collect();
        node_order.sort_by_key(|at| {
            let node = &world.nodes[*at];
            (!node.is_initialized, node.name.clone())
        });
        let mut engine = Self {
            sets: world.pools.iter().map(|_| Sets::default()).collect(),
            members: Vec::new(),
            owners: Vec::new(),
            world,
            dimensions,
            catalogs,
            reservations,
            classes: Vec::new(),
            class_ids: HashMap::new(),
            kinds: HashMap::new(),
            shapes: HashMap::new(),
            alternatives: Vec::new(),
            alternative_ids: HashMap::new(),
            groups: Groups::default(),
            node_order,
        };
        engine.read_nodes();
        engine.read_pools();
        engine
    }

    fn read_nodes(&mut self) {
        let nodes = std::mem::take(&mut self.world.nodes);
        for node in &nodes {
            let labels = node.pods.iter().map(|it| self.label(it)).collect();
            self.members.push(labels);
            self.owners.push(Vec::new());
        }
        self.world.nodes = nodes;
        for at in 0..self.world.nodes.len() {
            let pods: Vec<Shared> = self.world.nodes[at].pods.clone();
            for pod in pods.iter().filter(|it| !it.anti_affinity.is_empty()) {
                let terms: Vec<_> = pod.anti_affinity.iter().collect();
                let groups: Vec<GroupId> =
                    terms.iter().map(|it| self.term_group(Kind::AntiAffinity, it, &[it])).collect();
                self.owners[at].extend(groups);
            }
        }
    }

    fn read_pools(&mut self) {
        for at in 0..self.world.pools.len() {
            let requirements = self.world.pools[at].requirements.clone();
            let options = self.options(at, &requirements);
            self.keep_set(at, requirements, options);
        }
    }

    fn label(&mut self, pod: &PodInfo) -> LabelId {
        let set = LabelSet { namespace: pod.namespace.clone(), labels: pod.labels.clone() };
        self.groups.label(set, &self.world.namespaces)
    }

    // === classes ===

    /// The class of a pod that has given nothing up (or everything, where preferences are ignored).
    pub(crate) fn class_of(&mut self, pod: &Shared) -> ClassId {
        let next = self.kinds.len();
        let kind = *self.kinds.entry(signature(pod)).or_insert(next);
        let relaxation = match self.world.preferences {
            Preferences::Respect => Relaxation::default(),
            Preferences::Ignore => Relaxation::all(pod),
        };
        self.class(kind, pod, relaxation)
    }

    /// The class with one preference less.
    pub(crate) fn relaxed(&mut self, class: ClassId) -> Option<ClassId> {
        let (kind, pod) = (self.classes[class].kind, self.classes[class].pod.clone());
        let relaxation = self.classes[class].relaxation.next(&pod)?;
        Some(self.class(kind, &pod, relaxation))
    }

    fn class(&mut self, kind: usize, pod: &Shared, relaxation: Relaxation) -> ClassId {
        if let Some(id) = self.class_ids.get(&(kind, relaxation)) {
            return *id;
        }
        let label = self.label(pod);
        let wishes = Wishes::new(pod, relaxation);
        let owned = self.owned(pod, &wishes);
        let alternatives: Vec<AlternativeId> =
            wishes.alternatives.into_iter().map(|it| self.alternative(it)).collect();
        let mut requests = pod.requests.clone();
        requests.pods = 1;
        let pools = self.world.pools.iter();
        let pools = pools.map(|it| tolerates(&it.taints, &pod.tolerations, wishes.tolerant));
        let (pools, request): (Vec<bool>, _) = (pools.collect(), self.dimensions.vector(&requests));
        let ports = match pod.host_ports.is_empty() {
            true => String::new(),
            false => format!("{:?}", pod.host_ports),
        };
        let next = self.shapes.len();
        let shape = (request.clone(), alternatives.clone(), pools.clone(), ports);
        let shape = *self.shapes.entry(shape).or_insert(next);
        let id = self.classes.len();
        self.classes.push(Class {
            pod: pod.clone(),
            kind,
            relaxation,
            label,
            shape,
            request,
            alternatives,
            pools,
            tolerant: wishes.tolerant,
            owned,
            counted: Vec::new(),
            counted_until: 0,
            keys: Vec::new(),
        });
        self.class_ids.insert((kind, relaxation), id);
        id
    }

    /// Takes notice of groups that were made since the class was last looked at.
    pub(crate) fn refresh(&mut self, class: ClassId) {
        let it = &mut self.classes[class];
        if it.counted_until == self.groups.all.len() {
            return;
        }
        for group in it.counted_until..self.groups.all.len() {
            if self.groups.selects(group, it.label) {
                it.counted.push(group);
            }
        }
        it.counted_until = self.groups.all.len();
        let mut keys: Vec<(KeyId, bool)> = Vec::new();
        let owned = it.owned.iter().map(|it| (*it, true));
        for (group, is_owned) in owned.chain(it.counted.iter().map(|it| (*it, false))) {
            let Group { key: Some(key), kind, .. } = self.groups.all[group] else { continue };
            let is_needed = is_owned && kind != Kind::AntiAffinity;
            match keys.iter_mut().find(|it| it.0 == key) {
                Some(known) => known.1 |= is_needed,
                None => keys.push((key, is_needed)),
            }
        }
        it.keys = keys;
    }

    fn alternative(&mut self, alternative: Alternative) -> AlternativeId {
        let next = self.alternatives.len();
        let id = *self.alternative_ids.entry(alternative.clone()).or_insert(next);
        if id == next {
            self.alternatives.push(alternative);
        }
        id
    }

    pub(crate) fn alternatives(&self, class: ClassId) -> impl Iterator<Item = &Alternative> {
        self.classes[class].alternatives.iter().map(|it| &self.alternatives[*it])
    }

    // === groups ===

    fn owned(&mut self, pod: &Shared, wishes: &Wishes) -> Vec<GroupId> {
        let mut owned = Vec::new();
        for term in &wishes.affinity {
            owned.push(self.term_group(Kind::Affinity, term, &wishes.affinity));
        }
        for term in &wishes.preferred_affinity {
            owned.push(self.term_group(Kind::Affinity, term, &[term]));
        }
        for term in &wishes.anti_affinity {
            owned.push(self.term_group(Kind::AntiAffinity, term, &[term]));
        }
        for spread in &wishes.spread {
            let filter = match spread.honors_node_affinity {
                true => &wishes.required[..],
                false => &[],
            };
            let name = format!("{}\u{1}{spread:?}\u{1}{filter:?}", pod.namespace);
            let kind = Kind::Spread { max_skew: spread.max_skew, min_domains: spread.min_domains };
            let key = self.key(&spread.topology_key);
            let (id, is_new) = self.groups.group(name, &self.world.namespaces, |_| {
                let namespace = pod.namespace.clone();
                (kind, key, Matcher::Selector { namespace, selector: spread.selector.clone() })
            });
            if is_new {
                let taints = spread.honors_taints.then_some((&**pod, wishes.tolerant));
                self.limit_spread(id, filter, spread.honors_node_affinity, taints);
            }
            owned.push(id);
        }
        owned
    }

    fn term_group(
        &mut self,
        kind: Kind,
        term: &scheduling::Term,
        all: &[&scheduling::Term],
    ) -> GroupId {
        let name = format!("{kind:?}\u{1}{}\u{1}{all:?}", term.topology_key);
        let key = self.key(&term.topology_key);
        let terms: Vec<scheduling::Term> = all.iter().map(|it| (*it).clone()).collect();
        let made = |_: &mut Groups| (kind, key, Matcher::Terms(terms));
        self.groups.group(name, &self.world.namespaces, made).0
    }

    fn key(&mut self, name: &str) -> Option<KeyId> {
        let (world, catalogs) = (&self.world, &self.catalogs);
        self.groups.key(name, || {
            let mut domains: BTreeSet<Arc<str>> = BTreeSet::new();
            for (pool, catalog) in world.pools.iter().zip(catalogs) {
                let listed = pool.requirements.get(name);
                match catalog.has_label(name) {
                    true => domains.extend(
                        catalog.values(name).filter(|it| listed.is_none_or(|r| r.has(it))).cloned(),
                    ),
                    false => domains.extend(
                        listed.and_then(Requirement::listed).into_iter().flatten().cloned(),
                    ),
                }
            }
            let nodes = world.nodes.iter().filter_map(|it| it.labels.get(name));
            domains.extend(nodes.map(|it| Arc::from(it.as_str())));
            domains.into_iter().collect()
        })
    }

    /// Which domains and nodes a spread counts: those that the pod could use.
    fn limit_spread(
        &mut self,
        group: GroupId,
        filter: &[Alternative],
        is_filtered: bool,
        taints: Option<(&PodInfo, bool)>,
    ) {
        let is_ignored = |node: &crate::world::Node| {
            let is_other = is_filtered && !filter.iter().any(|it| accepts(it, node));
            let is_repelled =
                taints.is_some_and(|(pod, _)| !tolerates(&node.taints, &pod.tolerations, true));
            is_other || is_repelled
        };
        let ignored: Vec<bool> = self.world.nodes.iter().map(is_ignored).collect();
        if let Some(key) = self.groups.all[group].key {
            let Key { name, domains } = &self.groups.keys[key];
            let is_open = |value: &str| {
                let wanted =
                    |it: &Alternative| it.requirements.get(name).is_none_or(|r| r.has(value));
                !is_filtered || filter.iter().any(wanted)
            };
            let on_pools = |value: &str| {
                self.world.pools.iter().zip(&self.catalogs).any(|(pool, catalog)| {
                    let is_tolerated = taints
                        .is_none_or(|(pod, _)| tolerates(&pool.taints, &pod.tolerations, true));
                    let is_known = match catalog.has_label(name) {
                        true => catalog.values(name).any(|it| &**it == value),
                        false => pool.requirements.get(name).is_some(),
                    };
                    is_tolerated
                        && is_known
                        && pool.requirements.get(name).is_none_or(|it| it.has(value))
                })
            };
            let on_nodes = |value: &str| {
                let nodes = self.world.nodes.iter().zip(&ignored);
                nodes
                    .filter(|(_, is_ignored)| !**is_ignored)
                    .any(|(node, _)| node.labels.get(&**name).is_some_and(|it| it == value))
            };
            let eligible = domains.iter().enumerate();
            let eligible = eligible.filter(|(_, it)| is_open(it) && (on_pools(it) || on_nodes(it)));
            self.groups.all[group].eligible = eligible.map(|(at, _)| at).collect();
        }
        let is_repelled = |pool: &crate::world::Pool| {
            taints.is_some_and(|(pod, _)| !tolerates(&pool.taints, &pod.tolerations, true))
        };
        let ignored_pools = self.world.pools.iter().map(is_repelled).collect();
        let is_trivial = |it: &Alternative| it.names.is_none() && it.requirements.is_empty();
        let group = &mut self.groups.all[group];
        (group.ignored_nodes, group.ignored_pools) = (ignored, ignored_pools);
        if is_filtered && !filter.iter().any(is_trivial) {
            group.filter = filter.to_vec();
        }
    }

    /// Whether a new node may, and whether it will in any case, be one whose pods a group counts.
    pub(crate) fn counts(&self, group: &Group, claim: &crate::state::Claim) -> (bool, bool) {
        if group.ignored_pools.get(claim.pool).is_some_and(|it| *it) {
            return (false, false);
        }
        if group.filter.is_empty() {
            return (true, true);
        }
        let catalog = &self.catalogs[claim.pool];
        let have = &self.set(claim.pool, claim.set).requirements;
        let (mut may, mut will) = (false, false);
        for alternative in group.filter.iter().filter(|it| it.names.is_none()) {
            let wanted = &alternative.requirements;
            if self.conflict(claim.pool, have, wanted).is_some() {
                continue;
            }
            let mut options = claim.options.clone();
            let mut is_sure = true;
            for (key, requirement) in wanted.iter() {
                match catalog.selected(key, requirement) {
                    Some(selected) => {
                        options.keep(&selected);
                    }
                    None => is_sure &= have.get(key).is_some_and(|it| it.and(requirement) == *it),
                }
            }
            may |= !options.is_empty();
            will |= is_sure && options == claim.options;
        }
        (may, will)
    }

    // === sets ===

    fn options(&self, pool: usize, requirements: &Requirements) -> Bits {
        let catalog = &self.catalogs[pool];
        let mut options = catalog.available.clone();
        for (key, requirement) in requirements.iter() {
            if let Some(selected) = catalog.selected(key, requirement) {
                options.keep(&selected);
            }
        }
        options
    }

    fn keep_set(&mut self, pool: usize, requirements: Requirements, options: Bits) -> SetId {
        let sets = &mut self.sets[pool];
        let next = sets.all.len();
        let id = *sets.ids.entry(requirements.clone()).or_insert(next);
        if id == next {
            let has_min_values = requirements.iter().any(|(_, it)| it.min_values.is_some());
            sets.all.push(Set { requirements, options, has_min_values });
        }
        id
    }

    pub(crate) fn set(&self, pool: usize, set: SetId) -> &Set {
        &self.sets[pool].all[set]
    }

    /// Whether the options are as many as the set's `minValues` want, and any.
    pub(crate) fn is_flexible(&self, pool: usize, set: SetId, options: &Bits) -> bool {
        let set = self.set(pool, set);
        let is_enough = !set.has_min_values
            || self.world.min_values == MinValues::BestEffort
            || self.catalogs[pool].is_flexible(&set.requirements, options);
        is_enough && !options.is_empty()
    }

    /// Changes what new nodes of a pool begin with.
    pub(crate) fn set_base(&mut self, pool: usize, options: Bits) {
        self.sets[pool].all[0].options = options;
    }

    /// A set with an alternative's requirements too; `None` where they do not go together.
    pub(crate) fn joined(
        &mut self,
        pool: usize,
        set: SetId,
        alternative: AlternativeId,
    ) -> Option<SetId> {
        if let Some(known) = self.sets[pool].joined.get(&(set, alternative)) {
            return *known;
        }
        let Alternative { requirements: wanted, names } = &self.alternatives[alternative];
        let have = &self.sets[pool].all[set].requirements;
        let is_possible = names.is_none() && self.conflict(pool, have, wanted).is_none();
        let result = is_possible.then(|| {
            let mut both = have.clone();
            both.add_all(wanted);
            both
        });
        let result = result.and_then(|both| self.set_of(pool, both));
        self.sets[pool].joined.insert((set, alternative), result);
        result
    }

    /// The label on which a pod's wishes fail: what types have is for the options to tell.
    pub(crate) fn conflict<'a>(
        &self,
        pool: usize,
        have: &Requirements,
        wanted: &'a Requirements,
    ) -> Option<&'a Arc<str>> {
        let catalog = &self.catalogs[pool];
        let mut known = have.clone();
        for (key, requirement) in wanted.iter().filter(|(key, _)| catalog.has_label(key)) {
            if known.get(key).is_none() {
                known.set(key, requirement.clone());
            }
        }
        known.conflict(wanted)
    }

    /// A set whose domain of a key is fixed.
    pub(crate) fn pinned(
        &mut self,
        pool: usize,
        set: SetId,
        key: KeyId,
        domain: DomainId,
    ) -> Option<SetId> {
        if let Some(known) = self.sets[pool].pinned.get(&(set, key, domain)) {
            return *known;
        }
        let Key { name, domains } = &self.groups.keys[key];
        let mut requirements = self.sets[pool].all[set].requirements.clone();
        let is_possible = match requirements.get(name) {
            Some(it) => it.has(&domains[domain]),
            None => self.catalogs[pool].has_label(name),
        };
        let name = name.clone();
        let value = Requirement::one(&domains[domain]);
        let result = is_possible.then(|| {
            requirements.add(&name, value);
            requirements
        });
        let result = result.and_then(|it| self.set_of(pool, it));
        self.sets[pool].pinned.insert((set, key, domain), result);
        result
    }

    fn set_of(&mut self, pool: usize, requirements: Requirements) -> Option<SetId> {
        let options = self.options(pool, &requirements);
        (!options.is_empty()).then(|| self.keep_set(pool, requirements, options))
    }
}

/// Whether a node that there is satisfies an alternative.
pub(crate) fn accepts(alternative: &Alternative, node: &crate::world::Node) -> bool {
    alternative.names.as_ref().is_none_or(|it| it.contains(&node.name))
        && alternative.requirements.accept(&node.labels)
}
