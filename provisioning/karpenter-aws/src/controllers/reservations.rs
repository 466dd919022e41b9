//! Capacity reservations: those that a class selects, the room that they have left, and nodes whose
//! reservation is no more; behind the gate `ReservedCapacity`, which is open.
//!
//! The room is what EC2 said last, less what was launched since and what claims are to have. An
//! instance whose reservation has ended goes on as On-Demand, and its claim and node say so from then
//! on. Upstream:
//! `pkg/providers/capacityreservation`, `pkg/controllers/nodeclaim/capacityreservation` of
//! aws/karpenter-provider-aws.

use std::collections::BTreeMap;

use api_kube::karpenter::{
    CapacityReservation, Ec2NodeClass, Ec2NodeClassStatus, NodeClaim, capacity_types, labels,
};
use aws_ec2::{capacity_reservation, instance::Instance};
use controller::{ApplyError, object};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tracing::info;

use super::Context;
use crate::{Reserved, cloud::instance_id};

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
        status.capacity_reservations = found.into_iter().filter_map(selected).collect();
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
        let mut counts = BTreeMap::new();
        for claim in self.claims.all().iter().filter(|it| is_coming(it)) {
            let mut wanted = claim.spec.requirements.iter();
            let named = wanted.find(|it| it.key == labels::CAPACITY_RESERVATION_ID);
            if let Some([id]) = named.map(|it| it.values.as_slice()) {
                *counts.entry(id.clone()).or_default() += 1;
            }
        }
        counts
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
        let each = status.capacity_reservations.iter().map(|it| Reserved {
            id: it.id.clone(),
            kind: it.reservation_type.clone().unwrap_or_else(|| "default".to_owned()),
            instance_type: it.instance_type.clone(),
            zone: it.availability_zone.clone(),
            left: room(&left, &it.id).saturating_sub(room(kept, &it.id)),
        });
        each.collect()
    }

    /// One instance more is in a reservation, or there turned out to be no room.
    pub(super) fn take_room(&self, id: &str, is_full: bool) {
        if let Some(left) = self.reservations.lock().get_mut(id) {
            *left = if is_full { 0 } else { left.saturating_sub(1) };
        }
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

pub(super) fn capacity_type(claim: &NodeClaim) -> &str {
    let marks = claim.metadata.labels.as_ref();
    marks.and_then(|it| it.get(labels::CAPACITY_TYPE)).map_or("", String::as_str)
}

/// A reservation as a class's status shows it.
fn selected(it: capacity_reservation::CapacityReservation) -> Option<CapacityReservation> {
    Some(CapacityReservation {
        availability_zone: it.availability_zone?,
        end_time: it.end_date.and_then(|it| it.parse().ok()).map(object::time),
        id: it.capacity_reservation_id?,
        instance_match_criteria: it.instance_match_criteria?,
        instance_type: it.instance_type?,
        interruptible: it.interruptible.filter(|it| *it),
        owner_id: it.owner_id?,
        reservation_type: it.reservation_type,
        state: it.state,
    })
}
