//! What goes over the wire, under Go's names for it, which know no case when they are read.
//!
//! Upstream: `k8s.io/kube-scheduler/extender/v1`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use scheduling::{Candidate, PodInfo, Reason, Verdict};
use serde_json::{Map, Value, json};

/// What an extender says of the nodes that it was asked about.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Filtered {
    pub(super) nodes: Vec<String>,
    pub(super) refused: BTreeMap<String, Verdict>,
}

/// Whom an extender would have go from one node.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Victims {
    pub(super) uids: Vec<String>,
    pub(super) violations: usize,
}

/// `ExtenderArgs`.
pub(super) fn arguments(pod: &Pod, nodes: &[&Node], by_name: bool) -> Value {
    let names = || nodes.iter().filter_map(|it| it.metadata.name.as_deref()).collect::<Vec<_>>();
    let (whole, names) = match by_name {
        true => (Value::Null, json!(names())),
        false => (json!({ "metadata": {}, "items": nodes }), Value::Null),
    };
    json!({ "Pod": pod, "Nodes": whole, "NodeNames": names })
}

/// `ExtenderFilterResult`; the extender's own words where it could not tell.
pub(super) fn filtered(answer: Value, by_name: bool) -> Result<Filtered, String> {
    let mut fields = fields(answer)?;
    if let Some(message) = said(&mut fields) {
        return Err(message);
    }
    let names = take(&mut fields, "NodeNames");
    let whole = take(&mut fields, "Nodes");
    let nodes = match names {
        Value::Array(names) if by_name => names.iter().filter_map(text).collect(),
        _ => {
            let items = self::fields(whole).map(|mut it| take(&mut it, "items"));
            let items = items.unwrap_or_default();
            let items = items.as_array().into_iter().flatten();
            items.filter_map(|it| text(it.pointer("/metadata/name")?)).collect()
        }
    };
    let verdicts = |map: Value, verdict: fn(Vec<Reason>) -> Verdict| -> BTreeMap<String, Verdict> {
        let Value::Object(map) = map else { return BTreeMap::new() };
        let all = map.into_iter().filter_map(|(node, message)| {
            Some((node, verdict(vec![Reason::Extender { message: text(&message)? }])))
        });
        all.collect()
    };
    let mut refused = verdicts(take(&mut fields, "FailedNodes"), Verdict::Refused);
    let hopeless = take(&mut fields, "FailedAndUnresolvableNodes");
    refused.extend(verdicts(hopeless, Verdict::Hopeless));
    Ok(Filtered { nodes, refused })
}

/// `HostPriorityList`.
pub(super) fn scores(answer: Value) -> Result<Vec<(String, i64)>, String> {
    let Value::Array(list) = answer else { return Err(format!("no list of scores: {answer}")) };
    let scores = list.into_iter().map(|it| {
        let mut fields = fields(it)?;
        let (host, score) = (take(&mut fields, "Host"), take(&mut fields, "Score"));
        Ok((text(&host).unwrap_or_default(), score.as_i64().unwrap_or(0)))
    });
    scores.collect()
}

/// `ExtenderPreemptionArgs`; `whole` is a victim as the API server has it.
pub(super) fn preemption(
    pod: &Pod,
    candidates: &[Candidate],
    by_uid: bool,
    whole: impl Fn(&PodInfo) -> Option<Value>,
) -> Value {
    let each = |it: &PodInfo| if by_uid { Some(json!({ "UID": it.uid })) } else { whole(it) };
    let victims = candidates.iter().map(|it| {
        let pods: Vec<_> = it.victims.iter().filter_map(|it| each(it)).collect();
        (it.node.clone(), json!({ "Pods": pods, "NumPDBViolations": it.violations }))
    });
    let victims: Map<String, Value> = victims.collect();
    let (whole, meta) =
        if by_uid { (Value::Null, victims.into()) } else { (victims.into(), Value::Null) };
    json!({ "Pod": pod, "NodeNameToVictims": whole, "NodeNameToMetaVictims": meta })
}

/// `ExtenderPreemptionResult`.
pub(super) fn victims(answer: Value) -> Result<BTreeMap<String, Victims>, String> {
    let mut fields = fields(answer)?;
    let Value::Object(by_node) = take(&mut fields, "NodeNameToMetaVictims") else {
        return Ok(BTreeMap::new());
    };
    let victims = by_node.into_iter().map(|(node, victims)| {
        let mut fields = self::fields(victims).unwrap_or_default();
        let pods = take(&mut fields, "Pods");
        let uids = pods.as_array().into_iter().flatten().filter_map(|it| {
            let mut fields = self::fields(it.clone()).ok()?;
            text(&take(&mut fields, "UID"))
        });
        let violations = take(&mut fields, "NumPDBViolations").as_u64().unwrap_or(0);
        let violations = usize::try_from(violations).unwrap_or(usize::MAX);
        (node, Victims { uids: uids.collect(), violations })
    });
    Ok(victims.collect())
}

/// `ExtenderBindingArgs`.
pub(super) fn binding(pod: &Pod, node: &str) -> Value {
    json!({
        "PodName": pod.name_any(), "PodNamespace": pod.namespace(), "PodUID": pod.uid(),
        "Node": node,
    })
}

/// What an extender says went wrong.
pub(super) fn error(answer: Value) -> Option<String> {
    said(&mut fields(answer).ok()?)
}

fn said(fields: &mut Map<String, Value>) -> Option<String> {
    text(&take(fields, "Error")).filter(|it| !it.is_empty())
}

fn fields(value: Value) -> Result<Map<String, Value>, String> {
    match value {
        Value::Object(fields) => Ok(fields),
        Value::Null => Ok(Map::new()),
        other => Err(format!("no object: {other}")),
    }
}

fn take(fields: &mut Map<String, Value>, name: &str) -> Value {
    let key = fields.keys().find(|it| it.eq_ignore_ascii_case(name)).cloned();
    key.and_then(|it| fields.remove(&it)).unwrap_or_default()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}
