//! What is to be attached to a node, reported of it, and detached from it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use controller::object;
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Node, Pod},
    storage::v1::VolumeAttachment,
};
use sha2::{Digest, Sha256};

/// Upstream's `maxWaitForUnmountDuration`.
const UNMOUNT: Duration = Duration::from_secs(6 * 60);
/// How long a driver has before that is told.
const ATTACH: Duration = Duration::from_secs(120);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// A persistent volume of a CSI driver.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Volume {
    /// The persistent volume's.
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) handle: String,
    /// One node at a time may have it.
    pub(super) is_exclusive: bool,
    /// Those of the node that need it.
    pub(super) pods: Vec<Arc<Pod>>,
}

impl Volume {
    /// As node statuses name it.
    pub(super) fn unique_name(&self) -> String {
        format!("kubernetes.io/csi/{}^{}", self.driver, self.handle)
    }

    /// As the kubelet looks for it.
    pub(super) fn attachment_name(&self, node: &str) -> String {
        let digest = Sha256::digest(format!("{}{}{node}", self.handle, self.driver));
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("csi-{hex}")
    }
}

/// Another node that has a volume, and its pods that use it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct User {
    pub(super) node: String,
    pub(super) pods: Vec<Arc<Pod>>,
}

/// What is known of a node.
pub(super) struct World<'a> {
    pub(super) name: &'a str,
    pub(super) node: Option<&'a Node>,
    pub(super) wanted: &'a [Volume],
    pub(super) own: &'a [(Arc<VolumeAttachment>, Volume)],
    pub(super) elsewhere: &'a dyn Fn(&Volume) -> Vec<User>,
    /// Since when nobody needs an attachment.
    pub(super) unwanted: &'a BTreeMap<String, Timestamp>,
    pub(super) now: Timestamp,
}

/// What is to be done, in this order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) notes: Vec<Note>,
    pub(super) attach: Vec<Volume>,
    /// The whole list for the node's status, where it changes.
    pub(super) report: Option<Vec<String>>,
    /// Volumes that have become attached, and the pods that waited.
    pub(super) attached: Vec<(String, Vec<Arc<Pod>>)>,
    pub(super) detach: Vec<Detach>,
    pub(super) again: Option<Duration>,
}

/// Why a volume is not attached, for each of its pods.
#[derive(Debug, PartialEq)]
pub(super) struct Note {
    pub(super) volume: String,
    /// By this it is known whether it was told.
    pub(super) message: String,
    pub(super) pods: Vec<(Arc<Pod>, String)>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Detach {
    pub(super) attachment: Arc<VolumeAttachment>,
    pub(super) unique_name: String,
    /// Whether the node says that it is in use makes no difference.
    pub(super) is_forced: bool,
}

pub(super) fn plan(world: World) -> Plan {
    let mut plan = Plan::default();
    let mut reported = Vec::new();
    let before = reported_by(world.node);
    for volume in world.wanted {
        let own = world.own.iter().find(|(_, it)| it.name == volume.name);
        match own {
            None => attach(&world, volume, &mut plan),
            Some((it, _)) if object::is_terminating(&**it) => {}
            Some((it, _)) if is_attached(it) => {
                let name = volume.unique_name();
                if !before.contains(&name) {
                    plan.attached.push((volume.name.clone(), volume.pods.clone()));
                }
                reported.push(name);
            }
            Some((it, _)) => wait(&world, it, volume, &mut plan),
        }
    }
    for (attachment, volume) in world.own {
        let is_wanted = world.wanted.iter().any(|it| it.name == volume.name);
        if is_wanted || object::is_terminating(&**attachment) {
            continue;
        }
        if !detach(&world, attachment, volume, &mut plan) && is_attached(attachment) {
            reported.push(volume.unique_name());
        }
    }
    reported.sort();
    let mut known = before;
    known.sort();
    if world.node.is_some() && (known != reported || !plan.detach.is_empty()) {
        plan.report = Some(reported);
    }
    plan
}

fn attach(world: &World, volume: &Volume, plan: &mut Plan) {
    let users = if volume.is_exclusive { (world.elsewhere)(volume) } else { Vec::new() };
    if users.is_empty() {
        return plan.attach.push(volume.clone());
    }
    let others: Vec<_> = users.iter().flat_map(|it| &it.pods).collect();
    let told = |pod: &Arc<Pod>| {
        let why = exclusively(pod, &others);
        format!("Multi-Attach error for volume \"{}\" {why}", volume.name)
    };
    let nodes: Vec<_> = users.iter().map(|it| it.node.as_str()).collect();
    plan.notes.push(Note {
        volume: volume.name.clone(),
        message: format!("used on {}", nodes.join(", ")),
        pods: volume.pods.iter().map(|it| (it.clone(), told(it))).collect(),
    });
}

/// Pods of other namespaces are counted, not named.
fn exclusively(pod: &Pod, others: &[&Arc<Pod>]) -> String {
    let namespace = &pod.metadata.namespace;
    let local = others.iter().filter(|it| it.metadata.namespace == *namespace);
    let mut local: Vec<_> = local.filter_map(|it| it.metadata.name.as_deref()).collect();
    local.sort_unstable();
    let foreign = others.len() - local.len();
    match (local.is_empty(), foreign) {
        (true, 0) => "Volume is already exclusively attached to one node and can't be attached to \
                      another"
            .to_owned(),
        (true, _) => format!("Volume is already used by {foreign} pod(s) in different namespaces"),
        (false, 0) => format!("Volume is already used by pod(s) {}", local.join(", ")),
        (false, _) => format!(
            "Volume is already used by pod(s) {} and {foreign} pod(s) in different namespaces",
            local.join(", ")
        ),
    }
}

/// Tells what the driver says, or that it says nothing.
fn wait(world: &World, it: &VolumeAttachment, volume: &Volume, plan: &mut Plan) {
    let error = it.status.as_ref().and_then(|it| it.attach_error.clone());
    let due = object::created_at(it) + ATTACH;
    let why = match error {
        Some(error) => error.message.unwrap_or_default(),
        None if due <= world.now => format!(
            "timed out waiting for external-attacher of {} CSI driver to attach volume {}",
            volume.driver, volume.handle
        ),
        None => {
            let left = Duration::try_from(due.duration_since(world.now)).unwrap_or(ATTACH);
            return sooner(plan, left);
        }
    };
    let message = format!("AttachVolume.Attach failed for volume \"{}\" : {why}", volume.name);
    plan.notes.push(Note {
        volume: volume.name.clone(),
        pods: volume.pods.iter().map(|it| (it.clone(), message.clone())).collect(),
        message,
    });
    sooner(plan, ATTACH);
}

fn sooner(plan: &mut Plan, after: Duration) {
    plan.again = Some(plan.again.map_or(after, |it| it.min(after)));
}

/// Whether it is detached now.
fn detach(
    world: &World,
    attachment: &Arc<VolumeAttachment>,
    volume: &Volume,
    plan: &mut Plan,
) -> bool {
    let unique_name = volume.unique_name();
    // Of a node that is gone it is not known.
    let is_mounted = world.node.is_none_or(|it| is_in_use(it, &unique_name));
    let is_healthy = world.node.is_some_and(is_healthy);
    let since = world.unwanted.get(&volume.attachment_name(world.name)).copied();
    let due = since.unwrap_or(world.now) + UNMOUNT;
    let is_forced = world.node.is_some_and(is_out_of_service) || (!is_healthy && due <= world.now);
    if is_mounted && !is_forced {
        if !is_healthy {
            let left = Duration::try_from(due.duration_since(world.now)).unwrap_or(UNMOUNT);
            sooner(plan, left);
        }
        return false;
    }
    plan.detach.push(Detach { attachment: attachment.clone(), unique_name, is_forced });
    true
}

fn is_attached(it: &VolumeAttachment) -> bool {
    it.status.as_ref().is_some_and(|it| it.attached)
}

fn reported_by(node: Option<&Node>) -> Vec<String> {
    let attached = node.and_then(|it| it.status.as_ref()?.volumes_attached.as_ref());
    attached.into_iter().flatten().map(|it| it.name.clone()).collect()
}

/// Whether a node's status names nothing that might have to be taken out.
pub(super) fn reports_nothing(node: &Node) -> bool {
    reported_by(Some(node)).is_empty()
}

pub(super) fn is_in_use(node: &Node, unique_name: &str) -> bool {
    let in_use = node.status.as_ref().and_then(|it| it.volumes_in_use.as_ref());
    in_use.is_some_and(|it| it.iter().any(|it| it == unique_name))
}

pub(super) fn is_healthy(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|it| it.conditions.iter().flatten());
    conditions.into_iter().any(|it| it.type_ == "Ready" && it.status == "True")
}

/// An administrator has said that nothing runs there any more.
pub(super) fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|it| it.taints.as_ref());
    taints
        .is_some_and(|it| it.iter().any(|it| it.key == OUT_OF_SERVICE && it.effect == "NoExecute"))
}

#[cfg(test)]
mod tests;
