//! How much may run at once: by the account's quota, and by what the machine can hold.
//!
//! Deviation: one quota of vCPUs for all families, of 1152 (an account's usual quota for its
//! standard families), for on-demand and for spot instances each.

use aws_wire::{Fault, StatusCode};
use instance_types::InstanceType;

use crate::{Call, records::InstanceState, state::State};

const VCPUS: u32 = 1152;

/// What one call has been granted and is not in the state yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Granted {
    pub(crate) vcpus: u32,
    pub(crate) spot_vcpus: u32,
    pub(crate) hosts: usize,
}

impl Granted {
    pub(crate) fn add(&mut self, facts: &InstanceType, is_spot: bool) {
        let vcpus = if is_spot { &mut self.spot_vcpus } else { &mut self.vcpus };
        *vcpus += facts.vcpus;
        self.hosts += 1;
    }
}

/// Refuses one more instance of this type beyond the quota.
pub(crate) fn check(
    state: &State,
    facts: &InstanceType,
    is_spot: bool,
    granted: Granted,
) -> Result<(), Fault> {
    let counts = |state| matches!(state, InstanceState::Pending | InstanceState::Running);
    let running = state.instances.iter().filter(|it| it.is_spot == is_spot && counts(it.state));
    let vcpus = running.filter_map(|it| instance_types::find(&it.instance_type)).map(|it| it.vcpus);
    let granted = if is_spot { granted.spot_vcpus } else { granted.vcpus };
    if vcpus.sum::<u32>() + granted + facts.vcpus <= VCPUS {
        return Ok(());
    }
    if is_spot {
        return Err(Fault::new("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded"));
    }
    Err(Fault::new(
        "VcpuLimitExceeded",
        format!(
            "You have requested more vCPU capacity than your current vCPU limit of {VCPUS} allows \
             for the instance bucket that the specified instance type belongs to. Please visit \
             http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit."
        ),
    ))
}

/// Refuses one more host than there is room for.
pub(crate) fn check_capacity(
    call: &Call<'_>,
    state: &State,
    facts: &InstanceType,
    zone: &str,
    granted: Granted,
) -> Result<(), Fault> {
    let has_host = |state| !matches!(state, InstanceState::Stopped | InstanceState::Terminated);
    let hosts = state.instances.iter().filter(|it| has_host(it.state)).count();
    if hosts + granted.hosts < call.config.capacity {
        return Ok(());
    }
    let name = facts.name;
    Err(Fault::new(
        "InsufficientInstanceCapacity",
        format!(
            "We currently do not have sufficient {name} capacity in the Availability Zone you \
             requested ({zone}). This region's machine has room for {} instances.",
            call.config.capacity
        ),
    )
    .with_status(StatusCode::INTERNAL_SERVER_ERROR))
}

/// Refuses a Spot Instance where the market has no room.
pub(crate) fn check_spot(call: &Call<'_>, facts: &InstanceType, zone: &str) -> Result<(), Fault> {
    if call.config.market().has_capacity(facts.name, zone, call.now) {
        return Ok(());
    }
    Err(Fault::new(
        "InsufficientInstanceCapacity",
        format!(
            "There is no Spot capacity available that matches your request: {} in {zone}.",
            facts.name
        ),
    )
    .with_status(StatusCode::INTERNAL_SERVER_ERROR))
}
