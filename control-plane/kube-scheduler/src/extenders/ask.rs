//! The extenders' part of one attempt: which nodes are left, what is added to their scores, and whose
//! place the pod would take.
//!
//! The picture is looked at under its lock and the extenders are asked without it; what was decided
//! in between is looked at again when the node is chosen.

use std::{collections::BTreeMap, sync::Arc};

use controller::Key;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Node, Pod};
use scheduling::{
    Budget, Candidate, Diagnosis, Feasible, NodeInfo, PodInfo, Preemption, Verdict, candidates,
    evaluate_one, feasible, least,
};

use super::{Extender, ExtenderError, passed_by};
use crate::{Context, pass, state::State};

/// What extenders leave.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) nodes: Vec<String>,
    /// What is added to the nodes' scores.
    pub(crate) scores: BTreeMap<String, i64>,
    pub(crate) asked: usize,
    /// What was said of the others, if none is left.
    pub(crate) diagnosis: Diagnosis,
    /// Where no node is left and extenders had a say in it.
    pub(crate) preemption: Option<Preemption>,
}

/// Asks those that are interested in the pod; `None`: nobody is.
pub(crate) async fn ask(
    context: &Context,
    key: &Key,
    pod: &Pod,
    info: &PodInfo,
    budgets: &[Budget],
) -> Result<Option<Passed>, ExtenderError> {
    let all = context.settings.extenders.iter();
    let extenders: Vec<&Extender> = all.filter(|it| it.is_interested(pod)).collect();
    if extenders.is_empty() {
        return Ok(None);
    }
    let promised = look(context, key, info, |state| {
        let (node, _) = state.nominated.get(key)?;
        let there = evaluate_one(&state.cluster, info, node)?;
        Some(Feasible { nodes: there.best, asked: there.asked, refused: BTreeMap::new() })
    });
    if let Some(promised) = promised {
        let passed = pass(context, &extenders, pod, promised).await?;
        if !passed.nodes.is_empty() {
            return Ok(Some(passed));
        }
    }
    let found = look(context, key, info, |state| feasible(&state.cluster, info, state.next_start));
    let mut passed = match found {
        Ok(found) => pass(context, &extenders, pod, found).await?,
        Err(diagnosis) => Passed::none(diagnosis),
    };
    if passed.nodes.is_empty() {
        let asked: Vec<_> = extenders.into_iter().filter(|it| it.preempts()).collect();
        passed.preemption = preempt(context, key, pod, info, budgets, &asked, &passed).await;
    }
    Ok(Some(passed))
}

impl Passed {
    fn none(diagnosis: Diagnosis) -> Self {
        let (nodes, scores) = Default::default();
        Self { nodes, scores, asked: 0, diagnosis, preemption: None }
    }
}

/// Looks at the picture as the decision will see it.
fn look<T>(context: &Context, key: &Key, info: &PodInfo, at: impl FnOnce(&mut State) -> T) -> T {
    let mut state = context.state.lock();
    let added = state.with_nominated(key, info);
    let seen = at(&mut state);
    state.without_nominated(added);
    seen
}

/// One extender after the other is asked about what the one before has left.
async fn pass(
    context: &Context,
    extenders: &[&Extender],
    pod: &Pod,
    found: Feasible,
) -> Result<Passed, ExtenderError> {
    let nodes = context.stores.nodes.all().len();
    let mut diagnosis = Diagnosis { nodes, verdicts: found.refused, ..Diagnosis::default() };
    let mut left: Vec<Arc<Node>> = stored(context, &found.nodes);
    for extender in extenders {
        if left.is_empty() {
            break;
        }
        let asked: Vec<&Node> = left.iter().map(|it| &**it).collect();
        match extender.filter(pod, &asked).await {
            Ok(filtered) => {
                diagnosis.verdicts.extend(filtered.refused);
                left = stored(context, &filtered.nodes);
            }
            Err(error) if extender.is_ignorable() => passed_by(extender, &error),
            Err(error) => return Err(error),
        }
    }
    let nodes: Vec<&Node> = left.iter().map(|it| &**it).collect();
    let mut scores = BTreeMap::new();
    if nodes.len() > 1 {
        let all = join_all(extenders.iter().map(|it| it.prioritize(pod, &nodes))).await;
        for (extender, given) in extenders.iter().zip(all) {
            match given {
                Ok(given) => add(&mut scores, given),
                // What it would have liked better is no reason not to go on.
                Err(error) => passed_by(extender, &error),
            }
        }
    }
    let nodes = nodes.iter().filter_map(|it| it.metadata.name.clone()).collect();
    Ok(Passed { nodes, scores, asked: found.asked, diagnosis, preemption: None })
}

fn add(scores: &mut BTreeMap<String, i64>, given: BTreeMap<String, i64>) {
    for (node, score) in given {
        let sum = scores.entry(node).or_default();
        *sum = sum.saturating_add(score);
    }
}

fn stored(context: &Context, names: &[String]) -> Vec<Arc<Node>> {
    names.iter().filter_map(|it| context.stores.nodes.get(&Key::cluster(it))).collect()
}

/// Whose place the pod takes, as far as the extenders let it; `None`: it takes nobody's, or they have
/// no say.
async fn preempt(
    context: &Context,
    key: &Key,
    pod: &Pod,
    info: &PodInfo,
    budgets: &[Budget],
    extenders: &[&Extender],
    passed: &Passed,
) -> Option<Preemption> {
    if extenders.is_empty() || !info.profile.preempts || passed.diagnosis.nodes == 0 {
        return None;
    }
    let found = look(context, key, info, |state| {
        let is_leaving = pass::victims_are_leaving(state, key, info);
        (!is_leaving).then(|| candidates(&mut state.cluster, info, &passed.diagnosis, budgets))
    });
    let mut left: Vec<Candidate> = match found? {
        Ok(candidates) => candidates,
        Err(why) => return Some(Preemption::Futile(why)),
    };
    for extender in extenders {
        if left.is_empty() {
            break;
        }
        let whole = |it: &PodInfo| {
            let pod = context.stores.pods.get(&Key::new(&it.namespace, &it.name))?;
            serde_json::to_value(&*pod).ok()
        };
        let there = |node: &str, uid: &str| {
            let state = context.state.lock();
            let mut pods = state.cluster.node(node).into_iter().flat_map(NodeInfo::pods);
            pods.find(|it| it.uid == uid).cloned()
        };
        match extender.preempt(pod, &left, whole, there).await {
            Ok(chosen) => left = chosen,
            Err(error) if extender.is_ignorable() => passed_by(extender, &error),
            Err(error) => return Some(Preemption::Futile(telemetry::chain(&error).to_string())),
        }
    }
    Some(least(left))
}

/// What a node is refused for that did not do any more when it was to be chosen.
pub(crate) fn gone(passed: &Passed, verdict: impl Fn(&str) -> Option<Verdict>) -> Diagnosis {
    let mut diagnosis = passed.diagnosis.clone();
    for node in &passed.nodes {
        let refused = verdict(node).filter(|it| *it != Verdict::Fits);
        diagnosis.verdicts.extend(refused.map(|it| (node.clone(), it)));
    }
    diagnosis
}
