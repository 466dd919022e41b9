//! Why a pod has no place: how far it got in each NodePool, and what it missed there.
//!
//! The options of a pool are put through one condition after the other. The first that leaves none
//! is the miss; the later it comes, the nearer it was.

use std::{fmt, sync::Arc};

use resources::{Format, Quantity};
use serde::Serialize;

use crate::{
    bits::Bits,
    engine::{ClassId, Engine},
    place,
    requirement::{Requirement, Requirements},
    state::State,
};

/// What became of a pod in one NodePool.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Miss {
    pub pool: String,
    pub reason: Reason,
    /// The conditions in their order, with how many instance types each left.
    pub funnel: Vec<(String, usize)>,
}

/// The condition that left nothing, the earlier ones first.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// The pool has no instance type that its own requirements allow.
    NoTypes,
    Taint {
        key: String,
        value: String,
        effect: String,
    },
    /// The pool or its types do not have what the pod asks for.
    Label {
        key: String,
        wanted: String,
        offered: String,
    },
    /// No type is large enough; the nearest one, and what it lacks.
    Resource {
        resource: String,
        wanted: String,
        instance_type: Arc<str>,
        has: String,
    },
    /// All that would do is out of capacity.
    Unavailable {
        types: usize,
    },
    MinValues {
        key: String,
        wanted: u32,
        left: usize,
    },
    Limit {
        resource: String,
        left: String,
    },
    /// Spread or affinity allows no domain.
    Topology {
        key: String,
    },
    HostPort,
}

impl Reason {
    fn rank(&self) -> usize {
        match self {
            Self::NoTypes => 0,
            Self::Taint { .. } => 1,
            Self::Label { .. } => 2,
            Self::Resource { .. } => 3,
            Self::Unavailable { .. } => 4,
            Self::MinValues { .. } => 5,
            Self::Limit { .. } => 6,
            Self::Topology { .. } | Self::HostPort => 7,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTypes => f.write_str("no instance type satisfies its requirements"),
            Self::Taint { key, value, effect } => {
                write!(f, "the pod does not tolerate {key}={value}:{effect}")
            }
            Self::Label { key, wanted, offered } => {
                write!(f, "the pod wants {key} {wanted}, and it offers {offered}")
            }
            Self::Resource { resource, wanted, instance_type, has } => write!(
                f,
                "the pod wants {wanted} of {resource}; the nearest type, {instance_type}, has {has} for pods"
            ),
            Self::Unavailable { types } => {
                write!(f, "the {types} types that would do are out of capacity")
            }
            Self::MinValues { key, wanted, left } => {
                write!(f, "minValues wants {wanted} values of {key}, and {left} are left")
            }
            Self::Limit { resource, left } => {
                write!(f, "its limit leaves {left} of {resource}")
            }
            Self::Topology { key } => {
                write!(f, "spread or affinity over {key} allows no node now")
            }
            Self::HostPort => f.write_str("its ports are taken on every node"),
        }
    }
}

/// A NodePool that no new node can be of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Barren {
    pub pool: String,
    /// Something can be had, but less than its `minValues` want.
    pub is_by_min_values: bool,
}

pub(crate) fn barren(engine: &Engine) -> Vec<Barren> {
    let each = engine.catalogs.iter().enumerate().filter_map(|(pool, catalog)| {
        let mut options = engine.set(pool, 0).options.clone();
        let is_by_min_values = options.keep(&catalog.available);
        let name = engine.world.pools[pool].name.clone();
        let has_some = is_by_min_values && engine.is_flexible(pool, 0, &options);
        (!has_some).then_some(Barren { pool: name, is_by_min_values })
    });
    each.collect()
}

/// The nearest of the misses in a sentence.
pub(crate) fn nearest(misses: &[Miss]) -> String {
    misses.first().map_or_else(
        || "no NodePool takes part".to_owned(),
        |it| format!("NodePool {}: {}", it.pool, it.reason),
    )
}

/// Per pool, the nearest miss first.
pub(crate) fn misses(engine: &mut Engine, state: &State, class: ClassId) -> Vec<Miss> {
    let each = (0..engine.catalogs.len()).map(|pool| miss(engine, state, class, pool));
    let mut all: Vec<Miss> = each.collect();
    all.sort_by_key(|it| {
        std::cmp::Reverse((it.reason.rank(), it.funnel.last().map_or(0, |it| it.1)))
    });
    all
}

/// Options that are left, and what left them.
struct Funnel<'a> {
    engine: &'a Engine,
    pool: usize,
    options: Bits,
    steps: Vec<(String, usize)>,
}

impl Funnel<'_> {
    fn types(&self, options: &Bits) -> usize {
        let catalog = &self.engine.catalogs[self.pool];
        let mut kinds: Vec<u32> = options.iter().map(|it| catalog.choices[it].kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds.len()
    }

    /// Whether anything is left; if not, the options stay as they were.
    fn keep(&mut self, step: &str, selected: &Bits) -> bool {
        let mut next = self.options.clone();
        let is_any = next.keep(selected);
        self.steps.push((step.to_owned(), self.types(&next)));
        if is_any {
            self.options = next;
        }
        is_any
    }
}

fn miss(engine: &Engine, state: &State, class: ClassId, pool: usize) -> Miss {
    let catalog = &engine.catalogs[pool];
    let mut all = Bits::none(catalog.choices.len());
    (0..catalog.choices.len()).for_each(|it| all.set(it));
    let mut funnel = Funnel { engine, pool, options: all, steps: Vec::new() };
    let reason = reason(&mut funnel, state, class);
    Miss { pool: engine.world.pools[pool].name.clone(), reason, funnel: funnel.steps }
}

fn reason(funnel: &mut Funnel, state: &State, class: ClassId) -> Reason {
    let (engine, pool) = (funnel.engine, funnel.pool);
    let (it, catalog) = (&engine.classes[class], &engine.catalogs[pool]);
    let own = &engine.world.pools[pool].requirements;
    if narrowed(funnel, own, "the NodePool's requirement on ").is_some() {
        return Reason::NoTypes;
    }
    if funnel.options.is_empty() {
        return Reason::NoTypes;
    }
    let taints = &engine.world.pools[pool].taints;
    if !it.pools[pool] {
        let effects = ["NoSchedule", "NoExecute", "PreferNoSchedule"];
        let found = scheduling::find_untolerated(taints, &it.pod.tolerations, &effects);
        if let Some(taint) = found {
            return Reason::Taint {
                key: taint.key.clone(),
                value: taint.value.clone().unwrap_or_default(),
                effect: taint.effect.clone(),
            };
        }
    }
    // Of several alternatives the last one tells; most pods have one.
    let Some(wanted) = engine.alternatives(class).last() else {
        return Reason::Label {
            key: "the node affinity".to_owned(),
            wanted: "of no term".to_owned(),
            offered: "nothing".to_owned(),
        };
    };
    if wanted.names.is_some() {
        return Reason::Label {
            key: "metadata.name".to_owned(),
            wanted: "of a node that there is".to_owned(),
            offered: "new ones".to_owned(),
        };
    }
    let label = |key: &str, offered: String| Reason::Label {
        key: key.to_owned(),
        wanted: wanted.requirements.get(key).map_or_else(String::new, ToString::to_string),
        offered,
    };
    if let Some(key) = engine.conflict(pool, own, &wanted.requirements) {
        let offered = own.get(key).map_or_else(|| "nothing".to_owned(), Requirement::to_string);
        return label(key, offered);
    }
    if let Some(key) = narrowed(funnel, &wanted.requirements, "the pod's ") {
        let offered =
            Requirement::of(catalog.values_in(&key, &funnel.options).iter().map(|it| &**it));
        return label(&key, offered.to_string());
    }
    if let Some(reason) = too_small(funnel, &it.request) {
        return reason;
    }
    let mut free = funnel.options.clone();
    if !catalog.keep_free(&mut free, &it.pod.host_ports) {
        return Reason::HostPort;
    }
    funnel.options = free;
    let would_do = funnel.types(&funnel.options);
    if !funnel.keep("capacity", &catalog.available) {
        return Reason::Unavailable { types: would_do };
    }
    let mut both = own.clone();
    both.add_all(&wanted.requirements);
    for (key, requirement) in both.iter() {
        let left = catalog.values_in(key, &funnel.options).len();
        if let Some(wanted) = requirement.min_values.filter(|it| left < *it as usize) {
            return Reason::MinValues { key: key.to_string(), wanted, left };
        }
    }
    limited(funnel, state).unwrap_or_else(|| {
        let key = it.keys.first().map(|(key, _)| engine.groups.keys[*key].name.to_string());
        let is_host = !it.owned.is_empty() && key.is_none();
        match (key, is_host) {
            (Some(key), _) => Reason::Topology { key },
            (None, true) => {
                Reason::Topology { key: api_kube::karpenter::labels::HOSTNAME.to_owned() }
            }
            (None, false) => Reason::HostPort,
        }
    })
}

/// The label whose requirement leaves nothing.
fn narrowed(funnel: &mut Funnel, wanted: &Requirements, of: &str) -> Option<Arc<str>> {
    for (key, requirement) in wanted.iter() {
        let selected = funnel.engine.catalogs[funnel.pool].selected(key, requirement);
        if let Some(selected) = selected
            && !funnel.keep(&format!("{of}{key} {requirement}"), &selected)
        {
            return Some(key.clone());
        }
    }
    None
}

fn too_small(funnel: &mut Funnel, request: &[i64]) -> Option<Reason> {
    let engine = funnel.engine;
    let catalog = &engine.catalogs[funnel.pool];
    for (dimension, wanted) in request.iter().enumerate().filter(|(_, it)| **it > 0) {
        let name = &engine.dimensions.names()[dimension];
        let mut roomy = Bits::none(catalog.choices.len());
        let room = |option: usize| catalog.room[catalog.choices[option].kind as usize][dimension];
        let options = funnel.options.iter();
        options.filter(|it| room(*it) >= *wanted).for_each(|it| roomy.set(it));
        if !funnel.keep(name, &roomy) {
            let nearest = funnel.options.iter().max_by_key(|it| room(*it))?;
            return Some(Reason::Resource {
                resource: name.clone(),
                wanted: written(name, *wanted),
                instance_type: catalog.kind(nearest).name.clone(),
                has: written(name, room(nearest).max(0)),
            });
        }
    }
    None
}

fn limited(funnel: &mut Funnel, state: &State) -> Option<Reason> {
    let engine = funnel.engine;
    let left = state.left[funnel.pool].as_ref()?;
    if let Some(nodes) = left.nodes.filter(|it| *it < 1) {
        return Some(Reason::Limit {
            resource: "nodes".to_owned(),
            left: nodes.max(0).to_string(),
        });
    }
    let affordable = place::affordable(engine, state, funnel.pool);
    if affordable.as_ref().is_some_and(|it| funnel.keep("limits", it)) {
        return None;
    }
    let (dimension, amount) = left.amounts.iter().min_by_key(|(_, amount)| *amount)?;
    let resource = engine.dimensions.names()[*dimension].clone();
    Some(Reason::Limit { left: written(&resource, (*amount).max(0)), resource })
}

/// An amount as Kubernetes writes it.
fn written(resource: &str, amount: i64) -> String {
    match resource {
        "cpu" => Quantity::from_millis(amount).to_string(),
        "memory" | "ephemeral-storage" => Quantity::new(amount, Format::BinarySi).to_string(),
        _ => amount.to_string(),
    }
}
