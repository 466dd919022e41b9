//! Why a node was refused, and the sentence that users read about all nodes together.
//!
//! The wording is upstream's, since people search for it and tests match it. A reason knows the
//! plug-in that it comes from, which decides what change in the cluster could help.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// The plug-in that refuses; in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plugin {
    NodeUnschedulable,
    NodeName,
    TaintToleration,
    NodeAffinity,
    NodePorts,
    NodeResourcesFit,
    VolumeRestrictions,
    NodeVolumeLimits,
    VolumeBinding,
    VolumeZone,
    DynamicResources,
    PodTopologySpread,
    InterPodAffinity,
    /// An extender of the scheduler, which is none of ours: not among [`Plugin::ALL`].
    Extender,
}

impl Plugin {
    /// All that are built in.
    pub const ALL: [Self; 13] = [
        Self::NodeUnschedulable,
        Self::NodeName,
        Self::TaintToleration,
        Self::NodeAffinity,
        Self::NodePorts,
        Self::NodeResourcesFit,
        Self::VolumeRestrictions,
        Self::NodeVolumeLimits,
        Self::VolumeBinding,
        Self::VolumeZone,
        Self::DynamicResources,
        Self::PodTopologySpread,
        Self::InterPodAffinity,
    ];
}

/// Why one node does not do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    Unschedulable,
    NodeName,
    UntoleratedTaint,
    NodeAffinity,
    /// The profile's own affinity (`addedAffinity`).
    EnforcedAffinity,
    /// The pod names its node by affinity, as a DaemonSet's does, and this is another one.
    NotPreselected,
    HostPorts,
    TooManyPods,
    Insufficient {
        resource: String,
    },
    /// Another pod has a claim that one pod at a time may have.
    ClaimInUse,
    TooManyVolumes,
    VolumeNodeAffinity,
    NoVolumeToBind,
    /// A volume cannot be made for want of room.
    NotEnoughStorage,
    VolumeZone,
    /// A claim is allocated already, and not there.
    ClaimElsewhere,
    NoDevices,
    /// Whether there are enough would take too long to find out.
    DevicesTimedOut,
    SpreadSkew,
    SpreadMissingLabel,
    PodAffinity,
    PodAntiAffinity,
    ExistingAntiAffinity,
    /// In an extender's words.
    Extender {
        message: String,
    },
}

impl Reason {
    pub fn plugin(&self) -> Plugin {
        match self {
            Self::Unschedulable => Plugin::NodeUnschedulable,
            Self::NodeName => Plugin::NodeName,
            Self::UntoleratedTaint => Plugin::TaintToleration,
            Self::NodeAffinity | Self::EnforcedAffinity | Self::NotPreselected => {
                Plugin::NodeAffinity
            }
            Self::HostPorts => Plugin::NodePorts,
            Self::TooManyPods | Self::Insufficient { .. } => Plugin::NodeResourcesFit,
            Self::ClaimInUse => Plugin::VolumeRestrictions,
            Self::TooManyVolumes => Plugin::NodeVolumeLimits,
            Self::VolumeNodeAffinity | Self::NoVolumeToBind | Self::NotEnoughStorage => {
                Plugin::VolumeBinding
            }
            Self::VolumeZone => Plugin::VolumeZone,
            Self::ClaimElsewhere | Self::NoDevices | Self::DevicesTimedOut => {
                Plugin::DynamicResources
            }
            Self::SpreadSkew | Self::SpreadMissingLabel => Plugin::PodTopologySpread,
            Self::PodAffinity | Self::PodAntiAffinity | Self::ExistingAntiAffinity => {
                Plugin::InterPodAffinity
            }
            Self::Extender { .. } => Plugin::Extender,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Unschedulable => "node(s) were unschedulable",
            Self::NodeName => "node(s) didn't match the requested node name",
            Self::UntoleratedTaint => "node(s) had untolerated taint(s)",
            Self::NodeAffinity => "node(s) didn't match Pod's node affinity/selector",
            Self::EnforcedAffinity => "node(s) didn't match scheduler-enforced node affinity",
            Self::NotPreselected => "node(s) didn't satisfy plugin(s) [NodeAffinity]",
            Self::HostPorts => "node(s) didn't have free ports for the requested pod ports",
            Self::TooManyPods => "Too many pods",
            Self::Insufficient { resource } => return write!(f, "Insufficient {resource}"),
            Self::ClaimInUse => {
                "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod \
                 access mode"
            }
            Self::TooManyVolumes => "node(s) exceed max volume count",
            Self::VolumeNodeAffinity => "node(s) didn't match PersistentVolume's node affinity",
            Self::NoVolumeToBind => "node(s) didn't find available persistent volumes to bind",
            Self::NotEnoughStorage => "node(s) did not have enough free storage",
            Self::VolumeZone => "node(s) had no available volume zone",
            Self::ClaimElsewhere => "resourceclaim not available on the node",
            Self::NoDevices => "cannot allocate all claims",
            Self::DevicesTimedOut => "timed out trying to allocate devices",
            Self::SpreadSkew => "node(s) didn't match pod topology spread constraints",
            Self::SpreadMissingLabel => {
                "node(s) didn't match pod topology spread constraints (missing required label)"
            }
            Self::PodAffinity => "node(s) didn't match pod affinity rules",
            Self::PodAntiAffinity => "node(s) didn't match pod anti-affinity rules",
            Self::ExistingAntiAffinity => {
                "node(s) didn't satisfy existing pods anti-affinity rules"
            }
            Self::Extender { message } => message,
        };
        f.write_str(text)
    }
}

/// What the first plug-in that objects says about a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Fits,
    /// Removing pods may help.
    Refused(Vec<Reason>),
    /// Removing pods cannot help.
    Hopeless(Vec<Reason>),
}

impl Verdict {
    pub fn reasons(&self) -> &[Reason] {
        match self {
            Self::Fits => &[],
            Self::Refused(reasons) | Self::Hopeless(reasons) => reasons,
        }
    }
}

/// Why a pod fits nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// How many nodes there are, asked or not.
    pub nodes: usize,
    /// What was said about each, by name.
    pub verdicts: BTreeMap<String, Verdict>,
    /// Something about the pod itself that makes asking the nodes pointless.
    pub prerequisite: Option<(Plugin, String)>,
    /// What looking for claims to free came to; `None` where it was not done.
    pub deallocation: Option<&'static str>,
    /// What preemption came to.
    pub preemption: Option<String>,
}

/// Of the plug-in `DynamicResources`, for pods that nobody's claim stands in the way of.
pub const NO_CLAIMS_TO_FREE: &str = "no new claims to deallocate";
pub const CLAIM_IS_FREED: &str = "deallocation of ResourceClaim completed";

impl Diagnosis {
    /// The plug-ins that objected anywhere.
    pub fn plugins(&self) -> BTreeSet<Plugin> {
        let reasons = self.verdicts.values().flat_map(Verdict::reasons);
        let plugins = reasons.map(Reason::plugin);
        plugins.chain(self.prerequisite.iter().map(|(plugin, _)| *plugin)).collect()
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available:", self.nodes)?;
        match &self.prerequisite {
            Some((_, message)) => write!(f, " {message}.")?,
            None => {
                let reasons = self.verdicts.values().flat_map(Verdict::reasons);
                write!(f, " {}.", histogram(reasons.map(ToString::to_string)))?;
            }
        }
        let preemption = self.preemption.iter().map(|it| format!("preemption: {it}"));
        let after: Vec<_> =
            self.deallocation.iter().map(ToString::to_string).chain(preemption).collect();
        if after.is_empty() { Ok(()) } else { write!(f, " {}", after.join(", ")) }
    }
}

/// `1 Insufficient cpu, 2 Too many pods`: counted, and sorted as text.
pub(crate) fn histogram(reasons: impl Iterator<Item = String>) -> String {
    let mut counts = BTreeMap::<String, usize>::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    let mut parts: Vec<_> = counts.iter().map(|(it, count)| format!("{count} {it}")).collect();
    parts.sort();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_upstreams() {
        let not_ready = || Verdict::Hopeless(vec![Reason::UntoleratedTaint]);
        let cpu = Verdict::Refused(vec![Reason::Insufficient { resource: "cpu".into() }]);
        let verdicts =
            [("a".to_owned(), cpu), ("b".into(), not_ready()), ("c".into(), not_ready())];
        let preemption = "0/3 nodes are available: \
             3 No preemption victims found for incoming pod.";
        let diagnosis = Diagnosis {
            nodes: 3,
            verdicts: verdicts.into(),
            prerequisite: None,
            deallocation: Some(NO_CLAIMS_TO_FREE),
            preemption: Some(preemption.into()),
        };
        assert_eq!(
            diagnosis.to_string(),
            "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s). \
             no new claims to deallocate, preemption: 0/3 nodes are available: \
             3 No preemption victims found for incoming pod."
        );
    }

    #[test]
    fn an_empty_cluster_and_a_missing_claim_have_their_own_words() {
        assert_eq!(Diagnosis::default().to_string(), "no nodes available to schedule pods");
        let message = "pod has unbound immediate PersistentVolumeClaims".to_owned();
        let diagnosis = Diagnosis {
            nodes: 2,
            prerequisite: Some((Plugin::VolumeBinding, message)),
            preemption: Some(
                "0/2 nodes are available: 2 Preemption is not helpful for scheduling.".into(),
            ),
            ..Diagnosis::default()
        };
        assert_eq!(
            diagnosis.to_string(),
            "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. \
             preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
        );
    }
}
