//! Hibernation: which instances can, and what begins it.
//!
//! Source: EC2 user guide, "Hibernate your Amazon EC2 instance" and its prerequisites.
//! Deviation: Spot Instances are never hibernated: launching one that is configured for it is refused.

use aws_wire::Fault;
use instance_types::InstanceType;

use super::{launch::Launch, reports::transition_reason};
use crate::{
    Call,
    records::{BlockDevice, Image, Instance, StateReason},
};

/// Of x86-64. Newer ones than the guide named when this was read are missing.
const FAMILIES: [&str; 27] = [
    "c3", "c4", "c5", "c5d", "c6i", "c6id", "i3", "i3en", "m3", "m4", "m5", "m5a", "m5ad", "m5d",
    "m6i", "m6id", "m7i", "m7i-flex", "r3", "r4", "r5", "r5a", "r5ad", "r5d", "t2", "t3", "t3a",
];
/// Of memory, in MiB: less than 150 GB.
const MOST_MEMORY: u64 = 150_000_000_000 >> 20;

/// Whether instances of this type can hibernate.
pub(crate) fn is_supported(facts: &InstanceType) -> bool {
    let family = facts.family();
    FAMILIES.contains(&family) && !facts.is_bare_metal && facts.memory_mib < MOST_MEMORY
}

fn unsupported(message: impl Into<String>) -> Fault {
    Fault::new("UnsupportedHibernationConfiguration", message)
}

/// Refuses a launch that asks for hibernation and does not meet what that takes.
pub(crate) fn check(
    launch: &Launch,
    facts: &InstanceType,
    image: &Image,
    devices: &[BlockDevice],
) -> Result<(), Fault> {
    if !launch.can_hibernate {
        return Ok(());
    }
    if launch.is_spot {
        return Err(unsupported("Hibernation of Spot Instances is not supported in this region."));
    }
    if !is_supported(facts) {
        return Err(unsupported(format!(
            "Hibernation is not supported for the instance type '{}'.",
            facts.name
        )));
    }
    let root = devices.iter().find(|it| it.device_name == image.root_device_name);
    let Some(root) = root else {
        return Err(unsupported("Hibernation requires a root volume."));
    };
    if !root.is_encrypted {
        return Err(unsupported("Hibernation requires an encrypted root volume."));
    }
    if !["gp2", "gp3", "io1", "io2"].contains(&root.volume_type.as_str()) {
        return Err(unsupported(format!(
            "Hibernation is not supported for root volumes of the type '{}'.",
            root.volume_type
        )));
    }
    let size = u64::try_from(root.size_gib).unwrap_or(0) << 10;
    match size > facts.memory_mib {
        true => Ok(()),
        false => Err(unsupported(format!(
            "The root volume of {} GiB is too small to hold the {} MiB of memory of the instance \
             type '{}'.",
            root.size_gib, facts.memory_mib, facts.name
        ))),
    }
}

pub(crate) fn check_configured(instance: &Instance) -> Result<(), Fault> {
    match instance.can_hibernate {
        true => Ok(()),
        false => Err(unsupported(format!(
            "The instance can't be hibernated because it was not configured at launch for \
             hibernation: {}",
            instance.id
        ))),
    }
}

/// Of an instance that is stopping by its user's wish.
pub(crate) fn begin(call: &Call<'_>, instance: &mut Instance) {
    instance.is_hibernated = true;
    instance.transition_reason = transition_reason(call, "User initiated hibernate");
    instance.state_reason = Some(StateReason {
        code: "Client.UserInitiatedHibernate".to_owned(),
        message: "Client.UserInitiatedHibernate: User initiated hibernate".to_owned(),
    });
}
