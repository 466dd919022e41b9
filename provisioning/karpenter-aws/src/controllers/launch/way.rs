//! How an instance is paid for: as Spot, On-Demand, or out of a capacity reservation.

use std::collections::BTreeMap;

use api_kube::karpenter::{capacity_types, labels};
use aws_ec2::instance::Instance;
use karpenter_core::Offering;

/// How an instance is paid for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) capacity_type: &'static str,
    /// The capacity reservation whose room it takes.
    pub(super) reservation: Option<String>,
}

impl Way {
    pub(super) fn bought(is_spot: bool) -> Self {
        let capacity_type = if is_spot { capacity_types::SPOT } else { capacity_types::ON_DEMAND };
        Self { capacity_type, reservation: None }
    }

    pub(super) fn reserved(id: &str) -> Self {
        Self { capacity_type: capacity_types::RESERVED, reservation: Some(id.to_owned()) }
    }

    /// How an instance was made. One that names no reservation may be in an open one: it was bought.
    pub(super) fn of(instance: &Instance) -> Self {
        let wanted = instance.capacity_reservation_specification.as_ref();
        let target = wanted.and_then(|it| it.capacity_reservation_target.as_ref());
        let named = target.and_then(|it| it.capacity_reservation_id.as_ref());
        match named.filter(|it| instance.capacity_reservation_id.as_ref() == Some(it)) {
            Some(id) => Self::reserved(id),
            None => Self::bought(instance.instance_lifecycle.as_deref() == Some("spot")),
        }
    }

    /// What is known of an instance whose offering is there no more.
    pub(super) fn labels(&self, zone: &str) -> BTreeMap<String, String> {
        let id = self.reservation.iter().map(|it| (labels::CAPACITY_RESERVATION_ID, it.as_str()));
        let all = [(labels::ZONE, zone), (labels::CAPACITY_TYPE, self.capacity_type)];
        let all = all.into_iter().chain(id);
        all.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    pub(super) fn is_spot(&self) -> bool {
        self.capacity_type == capacity_types::SPOT
    }

    pub(super) fn is_of(&self, offering: &Offering) -> bool {
        let reservation = offering.reservation.as_ref().map(|it| &*it.id);
        offering.capacity_type() == self.capacity_type && reservation == self.reservation.as_deref()
    }
}
