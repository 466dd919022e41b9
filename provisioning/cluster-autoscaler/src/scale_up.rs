//! Which groups grow, by how much, and why; and why pods stay without a node.
//!
//! Upstream: `core/scaleup/orchestrator`. One kind of group grows in a pass: what pods are still
//! without a place then is looked at again in the next one.
//! Deviation: no ProvisioningRequests, no groups made on the fly, no `--salvo-scale-up`.

mod balance;
mod estimate;
mod limits;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use scheduling::{Cluster, Verdict, filter_node};

pub(crate) use self::limits::Totals;
use crate::{
    expander::{self, Priorities},
    options::Options,
    registry::{NotSafe, Registry},
    snapshot,
    template::Template,
    world::{Group, PodFact, World},
};

const MAX_SIZE: &str = "max node group size reached";
const BACKED_OFF: &str = "in backoff after failed scale-up";
const NOT_READY: &str = "not ready for scale-up";
const MAX_TOTAL: &str = "max total nodes in cluster reached";

/// The outcome, as a value.
#[derive(Clone, Debug, Default)]
pub struct ScaleUp {
    pub increases: Vec<Increase>,
    /// How the group was chosen.
    pub reason: Option<String>,
    /// The pods that the new nodes are for.
    pub triggered: Vec<PodFact>,
    /// The pods that no group can help.
    pub helpless: Vec<Helpless>,
    /// The pods for which something is done, or will be.
    pub awaiting: Vec<PodFact>,
    /// The limits of the cluster that kept groups from growing, once for each group.
    pub limited: Vec<String>,
}

/// A group's new size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Increase {
    pub group: String,
    pub from: i64,
    pub to: i64,
    pub max: i64,
}

impl std::fmt::Display for Increase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{{{} {}->{} (max: {})}}", self.group, self.from, self.to, self.max)
    }
}

/// A pod that no group can help, and why.
#[derive(Clone, Debug)]
pub struct Helpless {
    pub pod: PodFact,
    /// Of every group.
    pub reasons: BTreeMap<String, Vec<String>>,
    pub is_of_total: bool,
}

impl Helpless {
    /// As the event says it.
    pub fn message(&self) -> String {
        if self.is_of_total {
            return format!("pod didn't trigger scale-up: {MAX_TOTAL}");
        }
        let mut counts = BTreeMap::<&str, usize>::new();
        for reason in self.reasons.values().flatten() {
            *counts.entry(reason).or_default() += 1;
        }
        let told: Vec<_> = counts.iter().map(|(it, count)| format!("{count} {it}")).collect();
        format!("pod didn't trigger scale-up: {}", told.join(", "))
    }
}

/// A way to help: a group, how many nodes of it, and for which pods.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub group: String,
    pub nodes: i64,
    pub pods: Vec<PodFact>,
    pub(crate) template: Template,
}

/// What a decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub world: &'a World,
    pub registry: &'a Registry,
    pub options: &'a Options,
    pub priorities: Option<&'a Priorities>,
    pub templates: &'a BTreeMap<String, Template>,
    /// Nodes that are there or coming, with every pod that has a place.
    pub cluster: &'a Cluster,
    pub now: Timestamp,
    /// Decides what is left to chance.
    pub lot: u64,
}

/// Plans for pods that have no place in the cluster.
pub fn plan(question: Question<'_>, pods: &[PodFact]) -> ScaleUp {
    if pods.is_empty() {
        return ScaleUp::default();
    }
    let totals = Totals::of(question.world, question.templates, question.registry);
    let room = totals.nodes_left(question.options);
    if room == 0 {
        let helpless = pods.iter().map(|pod| Helpless {
            pod: pod.clone(),
            reasons: BTreeMap::new(),
            is_of_total: true,
        });
        return ScaleUp { helpless: helpless.collect(), ..ScaleUp::default() };
    }
    let asked: Vec<_> =
        question.world.groups.iter().map(|it| ask(question, &totals, it, pods)).collect();
    let candidates: Vec<&Candidate> = asked.iter().filter_map(|it| it.candidate.as_ref()).collect();
    let expanders = &question.options.expanders;
    let chosen = expander::choose(candidates, expanders, question.priorities, question.lot);
    let limited: Vec<String> = asked.iter().flat_map(|it| it.exceeded.clone()).collect();
    let Some((chosen, reason)) = chosen else {
        return ScaleUp { helpless: helpless(pods, &asked), limited, ..ScaleUp::default() };
    };
    let increases = spread(question, &totals, &asked, chosen, room);
    let triggered: Vec<PodFact> = match increases.is_empty() {
        true => Vec::new(),
        false => chosen.pods.clone(),
    };
    let done: BTreeSet<&str> = triggered.iter().map(|it| it.info.uid.as_str()).collect();
    let rest: Vec<_> =
        pods.iter().filter(|it| !done.contains(it.info.uid.as_str())).cloned().collect();
    let of_rest = helpless(&rest, &asked);
    let lost: BTreeSet<String> = of_rest.iter().map(|it| it.pod.info.uid.clone()).collect();
    let awaiting = rest.into_iter().filter(|it| !lost.contains(&it.info.uid)).collect();
    let reason = Some(format!("{}: {reason}", chosen.group));
    ScaleUp { increases, reason, triggered, helpless: of_rest, awaiting, limited }
}

/// What asking one group came to.
struct Asked {
    group: String,
    candidate: Option<Candidate>,
    /// Why it cannot help any pod.
    skipped: Option<String>,
    /// The limits of the cluster that it would go beyond.
    exceeded: Vec<String>,
    /// Why it cannot help some.
    rejected: BTreeMap<String, Vec<String>>,
}

fn ask(question: Question<'_>, totals: &Totals, group: &Group, pods: &[PodFact]) -> Asked {
    let mut asked = Asked {
        group: group.name.clone(),
        candidate: None,
        skipped: None,
        exceeded: Vec::new(),
        rejected: BTreeMap::new(),
    };
    let template = match usable(question, totals, group) {
        Ok(template) => template,
        Err(skipped) => {
            asked.skipped = Some(skipped.to_string());
            if let Skipped::Limited(exceeded) = skipped {
                asked.exceeded = exceeded;
            }
            return asked;
        }
    };
    let mut suitable = Vec::new();
    let mut cluster = question.cluster.clone();
    let name = format!("template-node-for-{}", group.name);
    template.add_to(&mut cluster, &name);
    let classes = snapshot::classes(pods);
    let mut known = BTreeMap::<usize, Vec<String>>::new();
    for (pod, class) in pods.iter().zip(classes) {
        let reasons = known.entry(class).or_insert_with(|| objections(&cluster, pod, &name));
        if reasons.is_empty() {
            suitable.push(pod.clone());
        } else {
            asked.rejected.insert(pod.info.uid.clone(), reasons.clone());
        }
    }
    if suitable.is_empty() {
        return asked;
    }
    let most = i64::try_from(question.options.max_nodes_per_scale_up).unwrap_or(i64::MAX);
    let limit = match question.options.balance_similar {
        // Groups like it take what is beyond its own size.
        true => most,
        false => most.min(group.max - group.target),
    };
    let found = estimate::estimate(question.cluster, template, &suitable, limit);
    if found.nodes > 0 {
        let template = template.clone();
        let (nodes, pods) = (found.nodes, found.pods);
        asked.candidate = Some(Candidate { group: group.name.clone(), nodes, pods, template });
    }
    asked
}

/// Why a group is not asked.
enum Skipped {
    For(&'static str),
    /// By these limits of the cluster.
    Limited(Vec<String>),
}

impl std::fmt::Display for Skipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::For(reason) => f.write_str(reason),
            Self::Limited(names) => {
                write!(f, "max cluster {} limit reached", names.join(", "))
            }
        }
    }
}

/// The template of a group that may grow, or why it may not.
fn usable<'a>(
    question: Question<'a>,
    totals: &Totals,
    group: &Group,
) -> Result<&'a Template, Skipped> {
    match question.registry.can_grow(group, question.options, question.now) {
        Err(NotSafe::BackedOff) => return Err(Skipped::For(BACKED_OFF)),
        Err(NotSafe::Unhealthy) => return Err(Skipped::For(NOT_READY)),
        Ok(()) => {}
    }
    if group.target >= group.max {
        return Err(Skipped::For(MAX_SIZE));
    }
    let is_empty = question.registry.of(&group.name).registered() == 0;
    let Some(template) = question.templates.get(&group.name) else {
        return Err(Skipped::For(NOT_READY));
    };
    if is_empty && group.target == 0 && !question.options.scale_up_from_zero {
        return Err(Skipped::For(NOT_READY));
    }
    let exceeded = totals.exceeded(question.options, template);
    match exceeded.is_empty() {
        true => Ok(template),
        false => Err(Skipped::Limited(exceeded.into_iter().map(str::to_owned).collect())),
    }
}

fn objections(cluster: &Cluster, pod: &PodFact, node: &str) -> Vec<String> {
    match filter_node(cluster, &pod.info, node) {
        None | Some(Verdict::Fits) => Vec::new(),
        Some(verdict) => verdict.reasons().iter().map(ToString::to_string).collect(),
    }
}

/// The pods that no group would take at all.
fn helpless(pods: &[PodFact], asked: &[Asked]) -> Vec<Helpless> {
    let mut helpless = Vec::new();
    for pod in pods {
        let mut reasons = BTreeMap::new();
        for it in asked {
            let of_pod = it.rejected.get(&pod.info.uid);
            match (&it.skipped, of_pod) {
                (Some(skipped), _) => drop(reasons.insert(it.group.clone(), vec![skipped.clone()])),
                (None, Some(of_pod)) => drop(reasons.insert(it.group.clone(), of_pod.clone())),
                (None, None) => {}
            }
        }
        if reasons.len() == asked.len() {
            helpless.push(Helpless { pod: pod.clone(), reasons, is_of_total: false });
        }
    }
    helpless
}

/// The new sizes: of the chosen group, and of those like it where that is asked for.
fn spread(
    question: Question<'_>,
    totals: &Totals,
    asked: &[Asked],
    chosen: &Candidate,
    room: i64,
) -> Vec<Increase> {
    let world = question.world;
    let wanted = chosen.nodes.min(room);
    let wanted = totals.capped(question.options, &chosen.template, wanted);
    let mut groups: Vec<&Group> = world.group(&chosen.group).into_iter().collect();
    if question.options.balance_similar {
        let helps = |group: &&Group| {
            let it = asked.iter().find(|it| it.group == group.name);
            let takes_all = |it: &Asked| {
                it.skipped.is_none()
                    && chosen.pods.iter().all(|pod| !it.rejected.contains_key(&pod.info.uid))
            };
            group.name != chosen.group
                && it.is_some_and(takes_all)
                && question.templates.get(&group.name).is_some_and(|other| {
                    balance::are_similar(&chosen.template, other, &question.options.similarity)
                })
        };
        groups.extend(world.groups.iter().filter(helps));
    }
    balance::share(&groups, wanted)
}

#[cfg(test)]
mod tests;
