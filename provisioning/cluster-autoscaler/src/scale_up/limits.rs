//! The cluster's limits: nodes, cores, memory, GPUs of each type.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;

use crate::{node, options::Options, registry::Registry, template::Template, world::World};

/// What there is, with what is coming.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) nodes: i64,
    /// In whole cores, as upstream counts.
    pub(crate) cores: i64,
    pub(crate) memory: i64,
    pub(crate) gpus: BTreeMap<String, i64>,
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
            totals.add_gpus(1, it);
        }
        for group in &world.groups {
            let there = per_group.get(group.name.as_str()).copied().unwrap_or(0);
            let long = registry.of(&group.name).long_unregistered;
            let coming = (group.target - there - long).max(0);
            let template = templates.get(&group.name);
            let capacity = template.map(|it| it.capacity.clone()).unwrap_or_default();
            if let Some(template) = template {
                totals.add_gpus(coming, &template.node);
            }
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

    fn add_gpus(&mut self, nodes: i64, each: &Node) {
        if let Some((kind, count)) = node::gpus(each) {
            let known = self.gpus.entry(kind.to_owned()).or_default();
            *known = known.saturating_add(nodes.saturating_mul(count));
        }
    }

    /// What a node has of GPUs that are limited: their type, how many there may be and are, how many
    /// it has.
    fn limited_gpus<'a>(
        &self,
        options: &Options,
        template: &'a Template,
    ) -> Option<(&'a str, i64, i64, i64)> {
        let (kind, each) = node::gpus(&template.node)?;
        let most = options.gpus.get(kind)?.max;
        Some((kind, most, self.gpus.get(kind).copied().unwrap_or(0), each))
    }

    /// How many nodes the cluster may still get.
    pub(crate) fn nodes_left(&self, options: &Options) -> i64 {
        match options.max_nodes_total {
            0 => i64::MAX,
            max => (max - self.nodes).max(0),
        }
    }

    /// What one more node would go beyond.
    pub(crate) fn exceeded<'a>(&self, options: &Options, template: &'a Template) -> Vec<&'a str> {
        let mut names: Vec<&str> = Vec::new();
        if self.cores + template.capacity.cpu_millis / 1000 > options.cores.max {
            names.push("cpu");
        }
        if self.memory + template.capacity.memory > options.memory.max {
            names.push("memory");
        }
        if let Some((kind, most, used, each)) = self.limited_gpus(options, template)
            && used + each > most
        {
            names.push(kind);
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
        let of_gpus = self.limited_gpus(options, template);
        wanted
            .min(left(options.cores.max, self.cores, capacity.cpu_millis / 1000))
            .min(left(options.memory.max, self.memory, capacity.memory))
            .min(of_gpus.map_or(i64::MAX, |(_, most, used, each)| left(most, used, each)))
    }
}
