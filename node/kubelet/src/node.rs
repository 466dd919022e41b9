//! The Node object: registered once, kept up to date, renewed by a lease.

pub(crate) mod capacity;
mod conditions;
mod cordon;
mod info;
mod lease;
mod register;
mod status;
mod warnings;

use std::{collections::BTreeMap, sync::Arc};

use self::capacity::Machine;
pub(crate) use self::{
    conditions::Pressure,
    status::{NodeStatusLoop, StatusWake},
    warnings::has_swap,
};
use crate::{context::Context, settings::Settings};

/// The labels that this node registers with.
pub(crate) fn labels(settings: &Settings, machine: &Machine) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> = [
        ("kubernetes.io/hostname", settings.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", machine.architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", machine.architecture),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    labels.extend(settings.node_labels.clone());
    labels
}

/// Registers the node, and keeps its status and its lease until the scope ends.
pub(crate) async fn run(context: Arc<Context>, mut status: NodeStatusLoop) {
    if context.settings.is_standalone {
        return status.run().await;
    }
    if context.settings.config.register_node {
        register::until_registered(&context).await;
    }
    context.recorder.node_normal("Starting", "Starting kubelet.");
    warnings::tell(&context);
    if context.settings.config.enforce_node_allocatable.iter().any(|it| it == "pods") {
        let text = "Updated Node Allocatable limit across pods";
        context.recorder.node_normal("NodeAllocatableEnforced", text);
    }
    let lease = lease::run(context.clone());
    tokio::join!(lease, status.run(), cordon::tell(&context));
}
