//! On-Demand Capacity Reservations.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Tags, record};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct CapacityReservation {
    pub id: String,
    pub instance_type: String,
    pub zone: String,
    pub total: i64,
    pub is_ebs_optimized: bool,
    pub state: ReservationState,
    /// `open` or `targeted`.
    pub match_criteria: String,
    pub created_at: Timestamp,
    /// When it is to end; none: when it is cancelled.
    pub end_date: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub tags: Tags,
}

record!(
    CapacityReservation,
    "capacity-reservation",
    "cr-",
    "InvalidCapacityReservationId",
    "capacity reservation"
);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum ReservationState {
    #[default]
    Active,
    Expired,
    Cancelled,
}

impl ReservationState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Into which reservations an instance may be launched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Preference {
    /// Into an open one that fits; without, as any other instance.
    #[default]
    Open,
    /// Into none.
    None,
    /// Into an open one that fits, or not at all.
    Only,
    /// Into this one.
    Target(String),
}
