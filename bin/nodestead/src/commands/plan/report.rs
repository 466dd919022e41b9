//! A plan as a value, and as text.

use std::{collections::BTreeMap, fmt::Write};

use api_kube::karpenter::NodePool;
use comfy_table::{Table, presets::NOTHING};
use karpenter_core::{
    Miss, NewClaim, Outcome, World,
    disruption::{self, Command, Destination},
};
use serde::Serialize;

/// Other choices than the cheapest that are shown.
const SHOWN_OPTIONS: usize = 10;

/// What `-o json` prints. Prices are US dollars per hour.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plan {
    /// New nodes.
    coming: Vec<Coming>,
    /// Nodes that could go, in the order in which they would.
    going: Vec<Going>,
    /// Pending pods that go to nodes that there are.
    placed: Vec<Placed>,
    /// Pods without a place.
    pending: Vec<Pending>,
    /// Nodes that cannot be disrupted.
    kept: Vec<Kept>,
    price: Price,
    notes: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Price {
    coming: f64,
    /// No choice of nodes costs less.
    lower_bound: f64,
    /// What first-fit decreasing alone would cost.
    first_fit: f64,
    /// How many pods that would leave without a place.
    first_fit_pending: usize,
    saving: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Coming {
    node_pool: String,
    instance_type: String,
    zone: String,
    capacity_type: String,
    price: f64,
    requests: BTreeMap<String, String>,
    pods: Vec<String>,
    /// How many instance types would do.
    instance_types: usize,
    /// The cheapest choices, the one above first.
    options: Vec<karpenter_core::OptionOf>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Going {
    nodes: Vec<GoingNode>,
    reason: &'static str,
    why: String,
    saving: f64,
    replacements: Vec<Coming>,
    moves: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct GoingNode {
    name: String,
    node_pool: String,
    instance_type: String,
    capacity_type: String,
    price: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Placed {
    pod: String,
    node: String,
}

#[derive(Debug, Serialize)]
struct Pending {
    pod: String,
    /// The nearest miss.
    reason: String,
    misses: Vec<Miss>,
}

#[derive(Debug, Serialize)]
struct Kept {
    node: String,
    why: String,
}

impl Plan {
    pub(super) fn new(world: &World, outcome: &Outcome, notes: Vec<String>) -> Self {
        let name = |pod: usize| {
            let pod = &world.pods[pod];
            format!("{}/{}", pod.namespace, pod.name)
        };
        let coming = outcome.claims.iter().map(|it| {
            let pods = it.pods.iter().map(|it| name(*it)).collect();
            coming(it, pods)
        });
        let pending = outcome.unschedulable.iter().map(|it| Pending {
            pod: name(it.pod),
            reason: it.reason.clone(),
            misses: it.misses.clone(),
        });
        let placed = outcome
            .existing
            .iter()
            .map(|(pod, node)| Placed { pod: name(*pod), node: world.nodes[*node].name.clone() });
        Self {
            coming: coming.collect(),
            placed: placed.collect(),
            pending: pending.collect(),
            price: Price {
                coming: outcome.price,
                lower_bound: outcome.lower_bound,
                first_fit: outcome.first_fit_price,
                first_fit_pending: outcome.first_fit_left_over,
                saving: 0.0,
            },
            notes,
            ..Self::default()
        }
    }

    pub(super) fn note(&mut self, notes: impl IntoIterator<Item = String>) {
        self.notes.extend(notes);
    }

    /// New nodes that no pod has asked for: every choice has them.
    pub(super) fn add_static(&mut self, claims: &[NewClaim]) {
        let price: f64 = claims.iter().map(NewClaim::price).sum();
        self.coming.extend(claims.iter().map(|it| coming(it, Vec::new())));
        for it in [&mut self.price.coming, &mut self.price.lower_bound, &mut self.price.first_fit] {
            *it += price;
        }
    }

    /// Claims that a static pool has more than it says.
    pub(super) fn add_surplus(&mut self, pool: &NodePool, claims: Vec<String>) {
        let wanted = pool.spec.replicas.unwrap_or(0);
        let nodes = claims.into_iter().map(|name| GoingNode {
            name,
            node_pool: pool.name().to_owned(),
            instance_type: String::new(),
            capacity_type: String::new(),
            price: None,
        });
        self.going.push(Going {
            nodes: nodes.collect(),
            reason: "Scaling",
            why: format!("NodePool {} is to have {wanted} nodes", pool.name()),
            saving: 0.0,
            replacements: Vec::new(),
            moves: BTreeMap::new(),
        });
    }

    /// How many new nodes each pool would have in each zone.
    pub(super) fn coming_by_zone(&self) -> BTreeMap<(&str, &str), i64> {
        let mut counts = BTreeMap::new();
        for it in &self.coming {
            *counts.entry((it.node_pool.as_str(), it.zone.as_str())).or_default() += 1;
        }
        counts
    }

    pub(super) fn add_consolidation(&mut self, commands: &[Command], kept: Vec<disruption::Kept>) {
        self.going = commands.iter().map(going).collect();
        self.kept = kept.into_iter().map(|it| Kept { node: it.node, why: it.why }).collect();
        self.price.saving = self.going.iter().map(|it| it.saving).sum();
    }
}

fn coming(claim: &NewClaim, pods: Vec<String>) -> Coming {
    let first = claim.options.first();
    let text = |of: fn(&karpenter_core::OptionOf) -> String| first.map(of).unwrap_or_default();
    let requests = claim.requests.to_list().into_iter().map(|(name, it)| (name, it.0));
    Coming {
        node_pool: claim.pool.clone(),
        instance_type: text(|it| it.instance_type.to_string()),
        zone: text(|it| it.zone.to_string()),
        capacity_type: text(|it| it.capacity_type.to_string()),
        price: claim.price(),
        requests: requests.collect(),
        pods,
        instance_types: claim.types().len(),
        options: claim.options.iter().take(SHOWN_OPTIONS).cloned().collect(),
    }
}

fn going(command: &Command) -> Going {
    let nodes = command.nodes.iter().map(|it| GoingNode {
        name: it.name.clone(),
        node_pool: it.pool.clone(),
        instance_type: it.instance_type.clone(),
        capacity_type: it.capacity_type.clone(),
        price: it.price,
    });
    let replaced = command.replacements.iter().enumerate().map(|(at, it)| {
        let here = |to: &Destination| *to == Destination::Replacement(at);
        let pods = command.moves.iter().filter(|(_, to)| here(to)).map(|(pod, _)| pod.clone());
        coming(it, pods.collect())
    });
    let moves = command.moves.iter().map(|(pod, to)| {
        let to = match to {
            Destination::Node(name) => name.clone(),
            Destination::Replacement(at) => format!("replacement {at}"),
        };
        (pod.clone(), to)
    });
    Going {
        nodes: nodes.collect(),
        reason: command.reason.as_str(),
        why: command.why.clone(),
        saving: command.saving,
        replacements: replaced.collect(),
        moves: moves.collect(),
    }
}

/// What people read. Writing to a String cannot fail.
pub(super) fn rendered(plan: &Plan) -> String {
    let mut text = String::new();
    for note in &plan.notes {
        writeln!(text, "Note: {note}.").unwrap_or_default();
    }
    if !plan.notes.is_empty() {
        text.push('\n');
    }
    let notes = text.len();
    coming_text(plan, &mut text);
    if !plan.placed.is_empty() {
        writeln!(text, "{} pods fit onto nodes that there are.\n", plan.placed.len())
            .unwrap_or_default();
    }
    going_text(plan, &mut text);
    pending_text(plan, &mut text);
    if text.len() == notes {
        text.push_str("Nothing is pending, and nothing could go.\n");
    }
    text
}

/// Nodes of one kind that come together.
struct Alike {
    nodes: usize,
    pods: usize,
    /// Of each.
    price: f64,
    /// The fewest instance types that one of them may become.
    choice: usize,
}

fn coming_text(plan: &Plan, text: &mut String) {
    if plan.coming.is_empty() {
        return;
    }
    let mut groups = BTreeMap::<_, Alike>::new();
    for it in &plan.coming {
        let key = [&*it.node_pool, &*it.instance_type, &*it.capacity_type, &*it.zone];
        let first = || Alike { nodes: 0, pods: 0, price: it.price, choice: it.instance_types };
        let group = groups.entry(key).or_insert_with(first);
        group.nodes += 1;
        group.pods += it.pods.len();
        group.choice = group.choice.min(it.instance_types);
    }
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header([
        "COMING", "TYPE", "CAPACITY", "ZONE", "NODEPOOL", "PODS", "$/H EACH", "$/H", "CHOICE",
    ]);
    for ([pool, kind, capacity, zone], Alike { nodes, pods, price, choice }) in groups {
        let count_of = u32::try_from(nodes).map_or(f64::INFINITY, f64::from);
        table.add_row([
            nodes.to_string(),
            kind.to_owned(),
            capacity.to_owned(),
            zone.to_owned(),
            pool.to_owned(),
            pods.to_string(),
            format!("{price:.4}"),
            format!("{:.4}", price * count_of),
            format!("{choice} types"),
        ]);
    }
    writeln!(text, "{}", table.trim_fmt()).unwrap_or_default();
    let price = &plan.price;
    let left_over = match price.first_fit_pending {
        count if count == plan.pending.len() => String::new(),
        count => format!(" and {count} pods without a place"),
    };
    // Where what there is has room for everything that can be counted, the bound says nothing.
    let bound = match price.lower_bound > 0.0 {
        true => format!("No choice costs less than ${:.4}/h; first-fit", price.lower_bound),
        false => "First-fit".to_owned(),
    };
    writeln!(
        text,
        "\n{} nodes for ${:.4}/h. {bound} decreasing alone: ${:.4}/h{left_over}.\n",
        plan.coming.len(),
        price.coming,
        price.first_fit
    )
    .unwrap_or_default();
}

fn going_text(plan: &Plan, text: &mut String) {
    if plan.going.is_empty() {
        return;
    }
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["GOING", "TYPE", "REASON", "$/H", "INSTEAD", "SAVES $/H"]);
    for it in &plan.going {
        let names: Vec<&str> = it.nodes.iter().map(|it| it.name.as_str()).collect();
        let kinds: Vec<&str> = it.nodes.iter().map(|it| it.instance_type.as_str()).collect();
        let price: f64 = it.nodes.iter().filter_map(|it| it.price).sum();
        let instead: Vec<String> = it
            .replacements
            .iter()
            .map(|it| format!("{} ({})", it.instance_type, it.capacity_type))
            .collect();
        table.add_row([
            names.join("\n"),
            kinds.join("\n"),
            it.reason.to_owned(),
            format!("{price:.4}"),
            if instead.is_empty() { "-".to_owned() } else { instead.join("\n") },
            format!("{:.4}", it.saving),
        ]);
    }
    writeln!(text, "{}", table.trim_fmt()).unwrap_or_default();
    writeln!(text, "\nOne after the other they save ${:.4}/h.\n", plan.price.saving)
        .unwrap_or_default();
}

fn pending_text(plan: &Plan, text: &mut String) {
    if plan.pending.is_empty() {
        return;
    }
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for it in &plan.pending {
        reasons.entry(&it.reason).or_default().push(&it.pod);
    }
    for (reason, pods) in reasons {
        let more = match pods.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        writeln!(text, "No place for {}{more}: {reason}", pods[0]).unwrap_or_default();
    }
    for miss in plan.pending.first().into_iter().flat_map(|it| &it.misses) {
        writeln!(text, "  {} ({}):", miss.pool, miss.reason).unwrap_or_default();
        for (step, left) in &miss.funnel {
            writeln!(text, "    {left:>5} types after {step}").unwrap_or_default();
        }
    }
}
