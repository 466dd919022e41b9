//! How much may run at once: by the account's quota, and by what the machine can hold.
//!
//! Deviation: one quota of vCPUs for all families, of 1152 (an account's usual quota for its
//! standard families), for on-demand and for spot instances each.

use aws_wire::{Fault, StatusCode};
use instance_types::InstanceType;

use crate::{
    Call, capacity_reservations, faults,
    records::{InstanceState, Preference},
    state::State,
};

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

/// How an instance is paid for, and whose room it may take.
pub(crate) struct Capacity<'a> {
    pub(crate) is_spot: bool,
    pub(crate) preference: &'a Preference,
}

impl Capacity<'_> {
    /// Refuses one more instance than there is room for; else the reservation whose room it takes, if
    /// it takes any's.
    pub(crate) fn grant(
        &self,
        call: &Call<'_>,
        state: &State,
        facts: &InstanceType,
        zone: &str,
    ) -> Result<Option<String>, Fault> {
        let granted = Granted::default();
        if !self.is_spot {
            let reservation = capacity_reservations::choose(state, facts, zone, self.preference)?;
            // What is kept for it has been counted already.
            if reservation.is_none() {
                check(state, facts, false, granted)?;
                check_capacity(call, state, facts, zone, granted)?;
            }
            return Ok(reservation);
        }
        if matches!(self.preference, Preference::Only | Preference::Target(_)) {
            return Err(faults::combination(
                "Spot Instances cannot be launched into Capacity Reservations.",
            ));
        }
        check(state, facts, true, granted)?;
        check_capacity(call, state, facts, zone, granted)?;
        check_spot(call, facts, zone)?;
        Ok(None)
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
    let (granted, kept) = match is_spot {
        true => (granted.spot_vcpus, 0),
        false => (granted.vcpus, capacity_reservations::kept(state).1),
    };
    if vcpus.sum::<u32>() + kept + granted + facts.vcpus <= VCPUS {
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

/// Refuses one more host than there is room for, beside what is kept by reservations.
pub(crate) fn check_capacity(
    call: &Call<'_>,
    state: &State,
    facts: &InstanceType,
    zone: &str,
    granted: Granted,
) -> Result<(), Fault> {
    let has_host = |state| !matches!(state, InstanceState::Stopped | InstanceState::Terminated);
    let hosts = state.instances.iter().filter(|it| has_host(it.state)).count();
    let kept = capacity_reservations::kept(state).0;
    if hosts + kept + granted.hosts < call.config.capacity {
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
fn check_spot(call: &Call<'_>, facts: &InstanceType, zone: &str) -> Result<(), Fault> {
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
