//! Why a pod has no node: what each plug-in of the scheduler says about each node, the nearest miss
//! first.
//!
//! The scheduler's own message tells the first objection of each node only, and no names.

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use scheduling::{Explanation, Objection};
use serde::Serialize;

use super::plain_table;

/// How many nodes are shown as text; all are in the JSON.
const SHOWN: usize = 20;
const OURS: &str = "default-scheduler";

/// What a pod without a node waits for.
#[derive(Debug, Default, Serialize)]
pub(super) struct Scheduling {
    /// It is another scheduler's business.
    other_scheduler: Option<String>,
    /// Nobody schedules it as long as these are there.
    gates: Vec<String>,
    /// What no node can mend.
    prerequisite: Option<String>,
    /// The nearest miss first.
    nodes: Vec<Node>,
    /// What removing other pods would come to.
    preemption: Option<String>,
    /// Why the question could not be answered.
    unknown: Option<String>,
}

#[derive(Debug, Serialize)]
struct Node {
    node: String,
    objections: Vec<Why>,
}

#[derive(Debug, Serialize)]
struct Why {
    plugin: String,
    reason: String,
    detail: Option<String>,
    /// Whether it would be lifted if other pods went.
    is_for_want_of_room: bool,
}

pub(super) async fn of(client: &Client, pod: &Pod) -> Scheduling {
    let spec = pod.spec.clone().unwrap_or_default();
    let gates = spec.scheduling_gates.into_iter().flatten().map(|it| it.name).collect();
    let name = spec.scheduler_name.filter(|it| !it.is_empty() && it != OURS);
    let known = Scheduling { other_scheduler: name, gates, ..Scheduling::default() };
    match kube_scheduler::explain(client, pod).await {
        Ok(explanation) => with(known, explanation),
        Err(error) => Scheduling { unknown: Some(telemetry::chain(&error).to_string()), ..known },
    }
}

fn with(known: Scheduling, explanation: Explanation) -> Scheduling {
    let prerequisite = explanation.prerequisite;
    let nodes = explanation.nodes.into_iter();
    Scheduling {
        preemption: explanation.preemption,
        prerequisite: prerequisite.map(|(plugin, message)| format!("{plugin:?}: {message}")),
        nodes: nodes
            .map(|it| Node {
                node: it.node,
                objections: it.objections.into_iter().map(why).collect(),
            })
            .collect(),
        ..known
    }
}

fn why(it: Objection) -> Why {
    Why {
        plugin: format!("{:?}", it.plugin),
        reason: it.reason,
        detail: it.detail,
        is_for_want_of_room: it.is_for_want_of_room,
    }
}

impl Why {
    fn text(&self) -> String {
        let detail = self.detail.as_ref().map(|it| format!(" ({it})"));
        format!("{}{}", self.reason, detail.unwrap_or_default())
    }
}

pub(super) fn rendered(it: &Scheduling) -> String {
    let mut text = String::new();
    if let Some(name) = &it.other_scheduler {
        text += &format!("It is left to the scheduler `{name}`; this is what ours would say.\n");
    }
    if !it.gates.is_empty() {
        text += &format!("It waits for its scheduling gates to go: {}\n", it.gates.join(", "));
    }
    if let Some(why) = &it.prerequisite {
        text += &format!("No node is asked: {why}\n");
    }
    if let Some(why) = &it.unknown {
        text += &format!("The nodes could not be asked: {why}\n");
    }
    let fits: Vec<_> =
        it.nodes.iter().filter(|it| it.objections.is_empty()).map(|it| it.node.as_str()).collect();
    if !fits.is_empty() {
        text += &format!("It would fit now on: {}\n", fits.join(", "));
    }
    text += &misses(&it.nodes);
    if let Some(preemption) = &it.preemption {
        text += &format!("Preemption: {preemption}\n");
    }
    text
}

fn misses(nodes: &[Node]) -> String {
    let misses: Vec<_> = nodes.iter().filter(|it| !it.objections.is_empty()).collect();
    let Some(nearest) = misses.first() else { return String::new() };
    let mut table = plain_table();
    table.set_header(["NODE", "PLUGIN", "OBJECTION"]);
    for node in misses.iter().take(SHOWN) {
        let mut name = node.node.as_str();
        for why in &node.objections {
            table.add_row([name, why.plugin.as_str(), why.text().as_str()]);
            name = "";
        }
    }
    let mut text = format!("\n{}\n", table.trim_fmt());
    if misses.len() > SHOWN {
        text += &format!("{} more nodes: see `-o json`.\n", misses.len() - SHOWN);
    }
    let whys: Vec<_> = nearest.objections.iter().map(Why::text).collect();
    text += &format!("\nNearest miss: {}: {}\n", nearest.node, whys.join("; "));
    if nearest.objections.iter().all(|it| it.is_for_want_of_room) {
        text += "It would do if other pods went.\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, objections: &[(&str, &str, Option<&str>, bool)]) -> Node {
        let why = |(plugin, reason, detail, room): &(&str, &str, Option<&str>, bool)| Why {
            plugin: (*plugin).to_owned(),
            reason: (*reason).to_owned(),
            detail: detail.map(str::to_owned),
            is_for_want_of_room: *room,
        };
        Node { node: name.to_owned(), objections: objections.iter().map(why).collect() }
    }

    #[test]
    fn each_node_is_shown_with_its_plug_ins_and_the_nearest_at_the_end() {
        let cpu =
            ("NodeResourcesFit", "Insufficient cpu", Some("asks for 2, 500m of 4 is free"), true);
        let affinity =
            ("NodeAffinity", "node(s) didn't match Pod's node affinity/selector", None, false);
        let scheduling = Scheduling {
            nodes: vec![node("a", &[cpu]), node("b", &[affinity, cpu])],
            preemption: Some("on a it would take the place of default/p".into()),
            ..Scheduling::default()
        };
        let text = rendered(&scheduling);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|it| it.split_whitespace().collect())
            .filter(|it: &Vec<_>| !it.is_empty())
            .collect();
        let words: Vec<String> = lines.iter().map(|it| it.join(" ")).collect();
        assert_eq!(
            words,
            [
                "NODE PLUGIN OBJECTION",
                "a NodeResourcesFit Insufficient cpu (asks for 2, 500m of 4 is free)",
                "b NodeAffinity node(s) didn't match Pod's node affinity/selector",
                "NodeResourcesFit Insufficient cpu (asks for 2, 500m of 4 is free)",
                "Nearest miss: a: Insufficient cpu (asks for 2, 500m of 4 is free)",
                "It would do if other pods went.",
                "Preemption: on a it would take the place of default/p",
            ]
        );
    }

    #[test]
    fn gates_other_schedulers_and_missing_claims_are_told_instead() {
        let scheduling = Scheduling {
            other_scheduler: Some("mine".into()),
            gates: vec!["example.com/quota".into()],
            prerequisite: Some("VolumeBinding: persistentvolumeclaim \"data\" not found".into()),
            ..Scheduling::default()
        };
        assert_eq!(
            rendered(&scheduling),
            "It is left to the scheduler `mine`; this is what ours would say.\n\
             It waits for its scheduling gates to go: example.com/quota\n\
             No node is asked: VolumeBinding: persistentvolumeclaim \"data\" not found\n"
        );
    }
}
