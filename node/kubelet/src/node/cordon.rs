//! Tells when the node takes no more pods because somebody said so, and when it takes them again.
//!
//! Upstream: `recordNodeSchedulableEvent` in `pkg/kubelet/kubelet_node_status.go`.

use crate::context::Context;

pub(super) async fn tell(context: &Context) {
    let mut changes = context.node_object.changes();
    let mut was = false;
    loop {
        let is = context.node_object.known().is_some_and(|it| it.is_unschedulable);
        if is != was {
            let reason = if is { "NodeNotSchedulable" } else { "NodeSchedulable" };
            let name = &context.settings.node_name;
            let message = format!("Node {name} status is now: {reason}");
            context.recorder.node_normal(reason, message);
            was = is;
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}
