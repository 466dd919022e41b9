//! The cluster's limits: nodes, cores, memory.

use std::collections::BTreeMap;

use crate::{node, options::Options, registry::Registry, template::Template, world::World};

/// What there is, with what is coming.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) nodes: i64,
    /// In whole cores, as upstream counts.
    pub(crate) cores: i64,
    pub(crate) memory: i64,
}

impl Totals {
    pub(crate) fn of(
        world: &World,
        templates: &BTreeMap<String, Template>,
        registry: &Registry,
    ) -> Self {
        let mut totals = Self::default();
        let mut per_group = BTreeMap::<&str, i64>::new();
        for it in &world.nodes {
            if node::has_taint(it, node::TO_BE_DELETED) {
                continue;
            }
            if let Some(group) = world.group_of(it) {
                *per_group.entry(&group.name).or_default() += 1;
            }
            let capacity = resources::node_capacity(it);
            totals.add(1, capacity.cpu_millis / 1000, capacity.memory);
        }
        for group in &world.groups {
            let there = per_group.get(group.name.as_str()).copied().unwrap_or(0);
            let long = registry.of(&group.name).long_unregistered;
            let coming = (group.target - there - long).max(0);
            let capacity = templates.get(&group.name).map(|it| it.capacity.clone());
            let capacity = capacity.unwrap_or_default();
            let cores = coming.saturating_mul(capacity.cpu_millis / 1000);
            totals.add(coming, cores, coming.saturating_mul(capacity.memory));
        }
        totals
    }

    fn add(&mut self, nodes: i64, cores: i64, memory: i64) {
        self.nodes = self.nodes.saturating_add(nodes);
        self.cores = self.cores.saturating_add(cores);
        self.memory = self.memory.saturating_add(memory);
    }

    /// How many nodes the cluster may still get.
    pub(crate) fn nodes_left(&self, options: &Options) -> i64 {
        match options.max_nodes_total {
            0 => i64::MAX,
            max => (max - self.nodes).max(0),
        }
    }

    /// What one more node would go beyond.
    pub(crate) fn exceeded(&self, options: &Options, template: &Template) -> Vec<&'static str> {
        let mut names = Vec::new();
        if self.cores + template.capacity.cpu_millis / 1000 > options.cores.max {
            names.push("cpu");
        }
        if self.memory + template.capacity.memory > options.memory.max {
            names.push("memory");
        }
        names
    }

    /// As many of the wanted nodes as the limits allow.
    pub(crate) fn capped(&self, options: &Options, template: &Template, wanted: i64) -> i64 {
        let left = |max: i64, used: i64, each: i64| match each {
            0 => i64::MAX,
            each => ((max - used) / each).max(0),
        };
        let capacity = &template.capacity;
        wanted.min(left(options.cores.max, self.cores, capacity.cpu_millis / 1000)).min(left(
            options.memory.max,
            self.memory,
            capacity.memory,
        ))
    }
}
