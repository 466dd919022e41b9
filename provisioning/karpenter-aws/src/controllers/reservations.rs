//! Capacity reservations: those that a class selects, the room that they have left, and nodes whose
//! reservation is no more; behind the gate `ReservedCapacity`, which is open.
//!
//! The room is what EC2 said last, less what was launched since and what claims are to have. An
//! instance whose reservation has ended goes on as On-Demand, and its claim and node say so from then
//! on. A Capacity Block takes its instances with it: EC2 begins to end them half an hour before its
//! own end, so from forty minutes before it nothing is launched into it, and its nodes are drained.
//! Upstream: `pkg/providers/capacityreservation` and `pkg/controllers/capacityreservation` of
//! aws/karpenter-provider-aws.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use api_kube::karpenter::{
    CapacityReservation, CapacityReservationSelectorTerm, Ec2NodeClass, Ec2NodeClassStatus,
    NodeClaim, capacity_types, labels,
};
use aws_ec2::{capacity_reservation, instance::Instance};
use controller::{ApplyError, object};
use jiff::{SignedDuration, Timestamp};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tracing::{info, warn};

use super::Context;
use crate::{Reserved, cloud::instance_id, market::spoken_for};

/// How often blocks are looked at.
const PERIOD: Duration = Duration::from_secs(60);
/// EC2 begins to end a block's instances half an hour before its end, and says so ten minutes before.
const BEFORE_END: SignedDuration = SignedDuration::from_mins(40);
/// The state of a block that is about to end.
const ENDING: &str = "expiring";

impl Context {
    /// Looks up what the class selects, and notes how much room there is.
    pub(super) async fn find_reservations(
        &self,
        class: &Ec2NodeClass,
        status: &mut Ec2NodeClassStatus,
    ) -> Result<bool, String> {
        let terms = &class.spec.capacity_reservation_selector_terms;
        let found = self.cloud.reservations(terms).await;
        let found = found.map_err(|error| telemetry::chain(&error).to_string())?;
        let mut left = self.reservations.lock();
        for it in &found {
            let count = it.available_instance_count.unwrap_or(0);
            let count = u32::try_from(count).unwrap_or(0);
            left.extend(it.capacity_reservation_id.clone().map(|id| (id, count)));
        }
        drop(left);
        let now = self.clock.now();
        let found = found.into_iter();
        status.capacity_reservations = found.filter_map(|it| selected(it, now)).collect();
        // That there is none is no failure: then there is no such capacity.
        Ok(true)
    }

    /// How many claims are to have room of each reservation and are not launched yet, by its id. What
    /// decides in the meantime must not count on the same room.
    pub(super) fn coming(&self) -> BTreeMap<String, u32> {
        let launched = self.launched.lock();
        let is_coming = |it: &NodeClaim| {
            let uid = it.metadata.uid.as_deref().unwrap_or_default();
            !object::is_terminating(it) && !it.is_true("Launched") && !launched.contains_key(uid)
        };
        spoken_for(self.claims.all().iter().map(|it| &**it).filter(|it| is_coming(it)))
    }

    /// The room that a class's reservations have, without what is kept.
    pub(super) fn reserved(
        &self,
        status: &Ec2NodeClassStatus,
        kept: &BTreeMap<String, u32>,
    ) -> Vec<Reserved> {
        if !self.config.gates.reserved_capacity {
            return Vec::new();
        }
        let left = self.reservations.lock();
        let room = |of: &BTreeMap<String, u32>, id: &str| of.get(id).copied().unwrap_or(0);
        let each = status.capacity_reservations.iter().map(|it| {
            let left = room(&left, &it.id).saturating_sub(room(kept, &it.id));
            Reserved::of(it, left)
        });
        each.collect()
    }

    /// One instance more is in a reservation, or there turned out to be no room.
    pub(super) fn take_room(&self, id: &str, is_full: bool) {
        if let Some(left) = self.reservations.lock().get_mut(id) {
            *left = if is_full { 0 } else { left.saturating_sub(1) };
        }
    }

    /// Drains the nodes of Capacity Blocks that are about to end.
    pub(super) async fn watch_blocks(&self) {
        if !self.config.gates.reserved_capacity {
            return;
        }
        loop {
            if let Err(error) = self.leave_blocks().await {
                warn!(error = %telemetry::chain(&error), "left for the next round");
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    async fn leave_blocks(&self) -> Result<(), ApplyError> {
        let claims = self.claims.all();
        let named = claims.iter().filter_map(|it| reservation_of(it));
        let ids: BTreeSet<&str> = named.collect();
        let term = |id: &str| CapacityReservationSelectorTerm {
            id: Some(id.to_owned()),
            ..CapacityReservationSelectorTerm::default()
        };
        let terms: Vec<_> = ids.into_iter().map(term).collect();
        let failed = |error| ApplyError::other(telemetry::chain(&error).to_string());
        let found = self.cloud.reservations(&terms).await.map_err(failed)?;
        let now = self.clock.now();
        let ending: Vec<CapacityReservation> =
            found.into_iter().filter_map(|it| selected(it, now)).filter(is_ending).collect();
        for claim in claims.iter().filter(|it| !object::is_terminating(&***it)) {
            let id = reservation_of(claim);
            if ending.iter().any(|it| Some(it.id.as_str()) == id) {
                self.delete_claim(claim, "its Capacity Block ends").await?;
            }
        }
        Ok(())
    }

    /// Claims whose instances are in no reservation any more are claims of On-Demand capacity.
    pub(super) async fn demote(&self, instances: &[Instance]) -> Result<(), ApplyError> {
        for claim in self.claims.all() {
            if object::is_terminating(&*claim) || capacity_type(&claim) != capacity_types::RESERVED
            {
                continue;
            }
            let provider = claim.status.as_ref().and_then(|it| it.provider_id.as_deref());
            let id = provider.and_then(instance_id);
            let is_it = |it: &&Instance| id.is_some() && it.instance_id.as_deref() == id;
            let is_out = |it: &Instance| it.capacity_reservation_id.is_none();
            if instances.iter().find(is_it).is_some_and(is_out) {
                self.demote_one(&claim).await?;
            }
        }
        Ok(())
    }

    async fn demote_one(&self, claim: &NodeClaim) -> Result<(), ApplyError> {
        info!(claim = claim.name(), "its reservation is no more: it is On-Demand from now on");
        let patch = json!({ "metadata": { "labels": {
            labels::CAPACITY_TYPE: capacity_types::ON_DEMAND,
            labels::CAPACITY_RESERVATION_ID: null,
            labels::CAPACITY_RESERVATION_TYPE: null,
            labels::CAPACITY_RESERVATION_INTERRUPTIBLE: null } } });
        // The node first: a claim that says so already is not looked at again.
        if let Some(node) = self.node_of(claim) {
            self.patch_node(node.metadata.name.as_deref().unwrap_or_default(), &patch).await?;
        }
        let api = Api::<NodeClaim>::all(self.client.clone());
        match api.patch(claim.name(), &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(ApplyError::new::<NodeClaim>("patch", claim.name(), error)),
            Ok(_) => Ok(()),
        }
    }
}

fn reservation_of(claim: &NodeClaim) -> Option<&str> {
    let marks = claim.metadata.labels.as_ref();
    marks.and_then(|it| it.get(labels::CAPACITY_RESERVATION_ID)).map(String::as_str)
}

fn is_ending(it: &CapacityReservation) -> bool {
    it.state.as_deref() == Some(ENDING)
}

pub(super) fn capacity_type(claim: &NodeClaim) -> &str {
    let marks = claim.metadata.labels.as_ref();
    marks.and_then(|it| it.get(labels::CAPACITY_TYPE)).map_or("", String::as_str)
}

/// A reservation as a class's status shows it.
fn selected(
    it: capacity_reservation::CapacityReservation,
    now: Timestamp,
) -> Option<CapacityReservation> {
    let end: Option<Timestamp> = it.end_date.and_then(|it| it.parse().ok());
    let is_block = it.reservation_type.as_deref() == Some("capacity-block");
    let is_ending = is_block && end.is_some_and(|it| it.duration_since(now) <= BEFORE_END);
    let state = if is_ending { Some(ENDING.to_owned()) } else { it.state };
    Some(CapacityReservation {
        availability_zone: it.availability_zone?,
        end_time: end.map(object::time),
        id: it.capacity_reservation_id?,
        instance_match_criteria: it.instance_match_criteria?,
        instance_type: it.instance_type?,
        interruptible: it.interruptible.filter(|it| *it),
        owner_id: it.owner_id?,
        reservation_type: it.reservation_type,
        state,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_block_is_used_until_forty_minutes_before_its_end_and_a_reservation_to_its_end() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (kind, end, state, left) in [
            ("capacity-block", "2026-01-01T00:41:00Z", "active", 2),
            ("capacity-block", "2026-01-01T00:40:00Z", "expiring", 0),
            ("default", "2026-01-01T00:01:00Z", "active", 2),
        ] {
            let found = serde_json::from_value(json!({ "capacityReservationId": "cr-1",
                "ownerId": "1", "availabilityZone": "a", "instanceType": "p5.48xlarge",
                "instanceMatchCriteria": "targeted", "state": "active", "endDate": end,
                "reservationType": kind }))
            .unwrap();
            let shown = selected(found, now).unwrap();
            assert_eq!(shown.state.as_deref(), Some(state), "{kind} {end}");
            assert_eq!(Reserved::of(&shown, 2).left, left, "{kind} {end}");
        }
    }
}
