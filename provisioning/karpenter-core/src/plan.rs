//! Decisions about what the API server says; whoever carries them out, or only shows them, asks here.

use std::{collections::BTreeSet, sync::Arc};

use api_kube::karpenter::NodePool;
use jiff::Timestamp;

use crate::{
    disruption::{Command, Fleet, Gates, Kept},
    outcome::Outcome,
    snapshot::{Pending, Snapshot},
    solve::{Effort, solve},
    world::{InstanceType, World},
};

/// Where the pending pods go, and which nodes are made for them.
pub fn provision(
    snapshot: &Snapshot,
    types: impl Fn(&NodePool) -> Option<Arc<[InstanceType]>>,
    pending: Pending,
    effort: Effort,
) -> (World, Outcome) {
    let world = snapshot.world(types, pending);
    let outcome = solve(world.clone(), effort);
    (world, outcome)
}

/// Which nodes go, one command after the other, each on what the one before leaves, no more than
/// `most`; and which stay, and why.
pub fn disrupt(
    snapshot: &Snapshot,
    types: impl Fn(&NodePool) -> Option<Arc<[InstanceType]>>,
    now: Timestamp,
    gates: Gates,
    most: usize,
) -> (Vec<Command>, Vec<Kept>) {
    let mut after = snapshot.clone();
    let (mut commands, mut kept) = (Vec::new(), Vec::new());
    while commands.len() < most {
        let mut fleet = Fleet::new(&after, &types, now, gates);
        let command = fleet.next_command();
        kept = fleet.kept;
        let Some(command) = command else { break };
        after.apply(&command, &types);
        commands.push(command);
    }
    // Not of those that are to come.
    let known: BTreeSet<_> =
        snapshot.nodes.iter().filter_map(|it| it.metadata.name.as_ref()).collect();
    kept.retain(|it| known.contains(&it.node));
    (commands, kept)
}
