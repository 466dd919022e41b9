//! On-Demand Capacity Reservations: room for instances that is kept, and the instances that take it.
//!
//! Room that is reserved is counted as if it were used: against the machine's room and against the
//! quota. So whoever launches into a reservation gets the instance, and whoever does not cannot take
//! what is kept for others. An open reservation takes every launch that fits and names no other, and
//! instances of this kind that run already when it is made, opened or enlarged; a targeted one takes
//! those that name it. What a reservation is no more (it ended, or was cancelled) its
//! instances go on without.
//!
//! Source: EC2 user guide, "Reserve compute capacity with EC2 On-Demand Capacity Reservations";
//! Service Quotas ("…Capacity Reservations count towards your On-Demand Instance limits").
//! Deviation: no future-dated reservations, Capacity Blocks, interruptible or shared reservations,
//! placement groups and Outposts; the platform is Linux/UNIX, the tenancy default. Resource groups of
//! reservations cannot be named.

use aws_ec2::capacity_reservation::{
    self, CancelCapacityReservationRequest, CancelCapacityReservationResult,
    CapacityReservationSpecification, CreateCapacityReservationRequest,
    CreateCapacityReservationResult, DescribeCapacityReservationsRequest,
    DescribeCapacityReservationsResult, ModifyCapacityReservationRequest,
    ModifyCapacityReservationResult,
};
use aws_wire::{Fault, StatusCode};
use instance_types::{Arch, InstanceType};
use jiff::{SignedDuration, Timestamp};

use crate::{
    Call, client_tokens, faults,
    instances::quota::{self, Granted},
    names,
    query::{self, Values, maybe, one, query_of},
    records::{CapacityReservation, Instance, InstanceState, Preference, ReservationState},
    state::State,
    tagging,
};

const TYPE: &str = "capacity-reservation";
const PLATFORM: &str = "Linux/UNIX";
/// EC2's limit of one reservation.
const MOST_INSTANCES: i64 = 1000;
/// What has ended is described for so long.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(1);

// === operations ===

pub(crate) fn create(
    call: &Call<'_>,
    state: &mut State,
    request: CreateCapacityReservationRequest,
) -> Result<CreateCapacityReservationResult, Fault> {
    let token = request.client_token.clone();
    let action = "CreateCapacityReservation";
    let id = client_tokens::once(call, state, action, token.as_deref(), request, |state, it| {
        made(call, state, &it)
    })?;
    let reservation = state.capacity_reservations.find(&id)?;
    Ok(CreateCapacityReservationResult {
        capacity_reservation: Some(answer(call, state, reservation)),
    })
}

fn made(
    call: &Call<'_>,
    state: &mut State,
    request: &CreateCapacityReservationRequest,
) -> Result<String, Fault> {
    refuse_unsupported(request)?;
    let name = &request.instance_type;
    let facts = instance_types::find(name).filter(|it| it.price.is_some());
    let facts = facts.ok_or_else(|| faults::invalid_value("instanceType", name))?;
    if facts.arch != Arch::X86_64 {
        return Err(faults::unsupported(
            "Capacity Reservations of this architecture are not supported in this region.",
        ));
    }
    let zone = zone(call, request)?;
    let criteria = criteria(request.instance_match_criteria.as_deref())?.unwrap_or("open");
    let end = end(call, request.end_date_type.as_deref(), request.end_date.as_deref())?;
    let count = count(request.instance_count)?;
    let reservation = CapacityReservation {
        id: entropy::aws_id("cr"),
        instance_type: facts.name.to_owned(),
        zone,
        total: count,
        is_ebs_optimized: request.ebs_optimized.unwrap_or(false),
        state: ReservationState::Active,
        match_criteria: criteria.to_owned(),
        created_at: call.now,
        end_date: end.flatten(),
        ended_at: None,
        tags: tagging::of_specifications(call, &request.tag_specifications, TYPE, &[TYPE])?,
    };
    let joining = joining(state, &reservation, count);
    grow(call, state, facts, &reservation.zone, count - number(joining.len()))?;
    let id = reservation.id.clone();
    state.capacity_reservations.insert(reservation);
    take_in(state, &id, joining)?;
    Ok(id)
}

fn refuse_unsupported(request: &CreateCapacityReservationRequest) -> Result<(), Fault> {
    let refused =
        |what: &str| Err(faults::unsupported(format!("{what} are not supported in this region.")));
    if request.instance_platform != PLATFORM {
        return refused("Capacity Reservations of other platforms than Linux/UNIX");
    }
    if request.tenancy.as_deref().is_some_and(|it| it != "default") {
        return refused("Dedicated Capacity Reservations");
    }
    if request.start_date.is_some()
        || request.commitment_duration.is_some()
        || request.delivery_preference.is_some()
    {
        return refused("Future-dated Capacity Reservations");
    }
    if request.outpost_arn.is_some() || request.placement_group_arn.is_some() {
        return refused("Capacity Reservations on Outposts and in placement groups");
    }
    if request.ephemeral_storage == Some(true) {
        return refused("Capacity Reservations with ephemeral storage");
    }
    Ok(())
}

fn zone(call: &Call<'_>, request: &CreateCapacityReservationRequest) -> Result<String, Fault> {
    let zones = &call.config.zones;
    match (request.availability_zone.as_deref(), request.availability_zone_id.as_deref()) {
        (Some(_), Some(_)) => Err(faults::combination(
            "The parameters AvailabilityZone and AvailabilityZoneId cannot be used together.",
        )),
        (Some(name), None) => match zones.iter().find(|(it, _)| it == name) {
            Some((name, _)) => Ok(name.clone()),
            None => Err(faults::invalid_value("availabilityZone", name)),
        },
        (None, Some(id)) => match zones.iter().find(|(_, it)| it == id) {
            Some((name, _)) => Ok(name.clone()),
            None => Err(faults::invalid_value("availabilityZoneId", id)),
        },
        (None, None) => Err(faults::missing("AvailabilityZone")),
    }
}

fn criteria(given: Option<&str>) -> Result<Option<&str>, Fault> {
    match given {
        None | Some("open" | "targeted") => Ok(given),
        Some(other) => Err(faults::invalid_value("instanceMatchCriteria", other)),
    }
}

fn count(given: i64) -> Result<i64, Fault> {
    match (1..=MOST_INSTANCES).contains(&given) {
        true => Ok(given),
        false => Err(faults::invalid_value("instanceCount", given)),
    }
}

/// When it is to end, if anything is said of that: `Some(None)` is never.
fn end(
    call: &Call<'_>,
    kind: Option<&str>,
    date: Option<&str>,
) -> Result<Option<Option<Timestamp>>, Fault> {
    match (kind, date) {
        (None, None) => Ok(None),
        (Some("unlimited"), None) => Ok(Some(None)),
        (Some("unlimited"), Some(_)) => Err(faults::combination(
            "The parameter EndDate cannot be used with the EndDateType 'unlimited'.",
        )),
        (Some("limited"), None) => Err(faults::missing("EndDate")),
        (None | Some("limited"), Some(date)) => {
            let at: Timestamp = date.parse().map_err(|_| faults::invalid_value("endDate", date))?;
            match at > call.now {
                true => Ok(Some(Some(at))),
                false => Err(faults::invalid_value("endDate", date)),
            }
        }
        (Some(other), _) => Err(faults::invalid_value("endDateType", other)),
    }
}

/// Sets so much more room aside, where there is so much.
fn grow(
    call: &Call<'_>,
    state: &State,
    facts: &InstanceType,
    zone: &str,
    count: i64,
) -> Result<(), Fault> {
    let mut granted = Granted::default();
    for _ in 0..count {
        quota::check(state, facts, false, granted)?;
        quota::check_capacity(call, state, facts, zone, granted)?;
        granted.add(facts, false);
    }
    Ok(())
}

pub(crate) fn modify(
    call: &Call<'_>,
    state: &mut State,
    request: ModifyCapacityReservationRequest,
) -> Result<ModifyCapacityReservationResult, Fault> {
    let id = &request.capacity_reservation_id;
    let known = active(state, id)?.clone();
    if request.start_date.is_some() || request.additional_info.is_some() {
        return Err(faults::unsupported(
            "Future-dated Capacity Reservations are not supported in this region.",
        ));
    }
    if request.accept == Some(true) {
        return Err(faults::unsupported("Shared reservations are not supported in this region."));
    }
    let end = end(call, request.end_date_type.as_deref(), request.end_date.as_deref())?;
    let criteria = criteria(request.instance_match_criteria.as_deref())?;
    let total = request.instance_count.map_or(Ok(known.total), count)?;
    let used = used(state, id);
    if total < used {
        return Err(faults::invalid(format!(
            "The Capacity Reservation {id} has {used} instances in use: its instance count cannot \
             be {total}."
        )));
    }
    let criteria = criteria.filter(|it| *it != known.match_criteria);
    if criteria.is_some() && used > 0 {
        return Err(faults::invalid(format!(
            "The Capacity Reservation {id} has {used} instances in use: its instance match criteria \
             can be modified only while it has none."
        )));
    }
    let changed = CapacityReservation {
        match_criteria: criteria.unwrap_or(&known.match_criteria).to_owned(),
        ..known.clone()
    };
    let joining = joining(state, &changed, total - used);
    if let Some(facts) = instance_types::find(&known.instance_type) {
        // Those that join count already.
        let more = (total - known.total - number(joining.len())).max(0);
        grow(call, state, facts, &known.zone, more)?;
    }
    let reservation = state.capacity_reservations.edit(id)?;
    reservation.total = total;
    if let Some(end) = end {
        reservation.end_date = end;
    }
    reservation.match_criteria = changed.match_criteria;
    take_in(state, id, joining)?;
    Ok(ModifyCapacityReservationResult { return_value: Some(true) })
}

pub(crate) fn cancel(
    call: &Call<'_>,
    state: &mut State,
    request: CancelCapacityReservationRequest,
) -> Result<CancelCapacityReservationResult, Fault> {
    let id = active(state, &request.capacity_reservation_id)?.id.clone();
    finish(call, state, &id, ReservationState::Cancelled)?;
    Ok(CancelCapacityReservationResult { return_value: Some(true) })
}

fn active<'a>(state: &'a State, id: &str) -> Result<&'a CapacityReservation, Fault> {
    let reservation = state.capacity_reservations.find(id)?;
    match reservation.state {
        ReservationState::Active => Ok(reservation),
        ended => Err(Fault::new(
            "InvalidCapacityReservationState",
            format!("The Capacity Reservation '{id}' is in the state '{}'.", ended.name()),
        )),
    }
}

/// Its instances go on as On-Demand Instances that nothing is kept for.
fn finish(
    call: &Call<'_>,
    state: &mut State,
    id: &str,
    ended: ReservationState,
) -> Result<(), Fault> {
    let reservation = state.capacity_reservations.edit(id)?;
    (reservation.state, reservation.ended_at) = (ended, Some(call.now));
    let of_it = |it: &&Instance| it.capacity_reservation.as_deref() == Some(id);
    let instances: Vec<String> =
        state.instances.iter().filter(of_it).map(|it| it.id.clone()).collect();
    for instance in instances {
        state.instances.edit(&instance)?.capacity_reservation = None;
    }
    Ok(())
}

/// Ends what has come to its date, and forgets what ended long ago. Says when the next is due.
pub(crate) fn settle(call: &Call<'_>, state: &mut State) -> Result<Option<Timestamp>, Fault> {
    let is_over = |it: &&CapacityReservation| {
        it.state == ReservationState::Active && it.end_date.is_some_and(|at| at <= call.now)
    };
    let over: Vec<String> =
        state.capacity_reservations.iter().filter(is_over).map(|it| it.id.clone()).collect();
    for id in over {
        finish(call, state, &id, ReservationState::Expired)?;
    }
    let is_old =
        |it: &&CapacityReservation| it.ended_at.is_some_and(|at| at + REMEMBERED <= call.now);
    let old: Vec<String> =
        state.capacity_reservations.iter().filter(is_old).map(|it| it.id.clone()).collect();
    for id in old {
        state.capacity_reservations.remove(&id)?;
    }
    let due = state.capacity_reservations.iter().filter_map(|it| match it.ended_at {
        None => it.end_date,
        Some(at) => Some(at + REMEMBERED),
    });
    Ok(due.min())
}

pub(crate) fn describe(
    call: &Call<'_>,
    state: &State,
    request: DescribeCapacityReservationsRequest,
) -> Result<DescribeCapacityReservationsResult, Fault> {
    let query = query_of!(request, capacity_reservation_ids);
    let of = |it: &CapacityReservation, name: &str| attribute(call, it, name);
    let (found, next_token) = query::run(&state.capacity_reservations, query, of)?;
    let capacity_reservations = found.into_iter().map(|it| answer(call, state, it)).collect();
    Ok(DescribeCapacityReservationsResult { capacity_reservations, next_token })
}

fn attribute(call: &Call<'_>, it: &CapacityReservation, name: &str) -> Values {
    match name {
        "instance-type" => one(&it.instance_type),
        "owner-id" => one(&call.config.account),
        "instance-platform" => one(PLATFORM),
        "availability-zone" => one(&it.zone),
        "tenancy" => one("default"),
        "state" => one(it.state.name()),
        "start-date" => one(names::date(it.created_at)),
        "end-date" => maybe(it.end_date.map(names::date)),
        "end-date-type" => one(end_type(it)),
        "instance-match-criteria" => one(&it.match_criteria),
        "outpost-arn" | "placement-group-arn" => Some(Vec::new()),
        _ => None,
    }
}

fn end_type(it: &CapacityReservation) -> &'static str {
    if it.end_date.is_some() { "limited" } else { "unlimited" }
}

fn answer(
    call: &Call<'_>,
    state: &State,
    it: &CapacityReservation,
) -> capacity_reservation::CapacityReservation {
    let text = |it: &str| Some(it.to_owned());
    let is_active = it.state == ReservationState::Active;
    capacity_reservation::CapacityReservation {
        capacity_reservation_id: text(&it.id),
        owner_id: text(&call.config.account),
        capacity_reservation_arn: Some(call.config.arn(TYPE, &it.id)),
        availability_zone_id: call.config.zone_id(&it.zone).map(str::to_owned),
        instance_type: text(&it.instance_type),
        instance_platform: text(PLATFORM),
        availability_zone: text(&it.zone),
        tenancy: text("default"),
        total_instance_count: Some(if is_active { it.total } else { 0 }),
        available_instance_count: Some(left(state, it)),
        ebs_optimized: Some(it.is_ebs_optimized),
        ephemeral_storage: Some(false),
        state: text(it.state.name()),
        start_date: Some(names::date(it.created_at)),
        end_date: it.end_date.map(names::date),
        end_date_type: text(end_type(it)),
        instance_match_criteria: text(&it.match_criteria),
        create_date: Some(names::date(it.created_at)),
        tags: tagging::answer(&it.tags),
        reservation_type: text("default"),
        interruptible: Some(false),
    }
}

// === who is in which ===

/// The running instances that an open reservation takes in when it is made or changed: those that fit,
/// would have been launched into it and are in none, the oldest first, as many as it has room for.
fn joining(state: &State, reservation: &CapacityReservation, room: i64) -> Vec<String> {
    if reservation.match_criteria != "open" {
        return Vec::new();
    }
    let is_there = |state| matches!(state, InstanceState::Pending | InstanceState::Running);
    let fits = |it: &&Instance| {
        let is_free = it.capacity_reservation.is_none() && !it.is_spot;
        is_free
            && it.capacity_preference == Preference::Open
            && is_there(it.state)
            && it.instance_type == reservation.instance_type
            && it.zone == reservation.zone
    };
    let mut found: Vec<&Instance> = state.instances.iter().filter(fits).collect();
    found.sort_by(|a, b| a.launched_at.cmp(&b.launched_at).then_with(|| a.id.cmp(&b.id)));
    let room = usize::try_from(room).unwrap_or(0);
    found.into_iter().take(room).map(|it| it.id.clone()).collect()
}

fn take_in(state: &mut State, id: &str, instances: Vec<String>) -> Result<(), Fault> {
    for instance in instances {
        state.instances.edit(&instance)?.capacity_reservation = Some(id.to_owned());
    }
    Ok(())
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// How many instances are in a reservation.
fn used(state: &State, id: &str) -> i64 {
    let holds = |state| !matches!(state, InstanceState::Stopped | InstanceState::Terminated);
    let mut count = 0;
    for it in state.instances.iter() {
        count += i64::from(holds(it.state) && it.capacity_reservation.as_deref() == Some(id));
    }
    count
}

/// How many more there is room for.
fn left(state: &State, reservation: &CapacityReservation) -> i64 {
    match reservation.state {
        ReservationState::Active => (reservation.total - used(state, &reservation.id)).max(0),
        ReservationState::Expired | ReservationState::Cancelled => 0,
    }
}

/// Room that is kept and that nobody uses: how many instances, and their vCPUs.
pub(crate) fn kept(state: &State) -> (usize, u32) {
    let (mut instances, mut vcpus) = (0, 0);
    for it in state.capacity_reservations.iter() {
        let left = u32::try_from(left(state, it)).unwrap_or(0);
        let each = instance_types::find(&it.instance_type).map_or(0, |it| it.vcpus);
        instances += usize::try_from(left).unwrap_or(0);
        vcpus += left * each;
    }
    (instances, vcpus)
}

/// What a launch says of reservations.
pub(crate) fn preference(given: &CapacityReservationSpecification) -> Result<Preference, Fault> {
    let target = given.capacity_reservation_target.as_ref();
    if target.is_some_and(|it| it.capacity_reservation_resource_group_arn.is_some()) {
        return Err(faults::unsupported(
            "Resource groups of Capacity Reservations are not supported in this region.",
        ));
    }
    let target = target.and_then(|it| it.capacity_reservation_id.clone());
    let named = given.capacity_reservation_preference.as_deref();
    match (named, target) {
        (None | Some("capacity-reservations-only"), Some(id)) => Ok(Preference::Target(id)),
        (Some(_), Some(_)) => Err(faults::combination(
            "A CapacityReservationTarget cannot be used with the CapacityReservationPreference \
             'open' or 'none'.",
        )),
        (None | Some("open"), None) => Ok(Preference::Open),
        (Some("none"), None) => Ok(Preference::None),
        (Some("capacity-reservations-only"), None) => Ok(Preference::Only),
        (Some(other), None) => Err(faults::invalid_value("capacityReservationPreference", other)),
    }
}

/// The reservation that an On-Demand Instance is launched into, if into any.
pub(crate) fn choose(
    state: &State,
    facts: &InstanceType,
    zone: &str,
    preference: &Preference,
) -> Result<Option<String>, Fault> {
    match preference {
        Preference::None => Ok(None),
        Preference::Target(id) => targeted(state, facts, zone, id).map(Some),
        Preference::Open => Ok(open(state, facts, zone)),
        Preference::Only => match open(state, facts, zone) {
            Some(id) => Ok(Some(id)),
            None => Err(exceeded(format!(
                "There is no open Capacity Reservation with available capacity for {} in {zone}.",
                facts.name
            ))),
        },
    }
}

/// An open reservation of the type in the zone that has room; of several the oldest.
pub(crate) fn open(state: &State, facts: &InstanceType, zone: &str) -> Option<String> {
    let fits = |it: &&CapacityReservation| {
        it.match_criteria == "open"
            && it.instance_type == facts.name
            && it.zone == zone
            && left(state, it) > 0
    };
    let found = state.capacity_reservations.iter().filter(fits);
    found.min_by_key(|it| (it.created_at, it.id.clone())).map(|it| it.id.clone())
}

fn targeted(state: &State, facts: &InstanceType, zone: &str, id: &str) -> Result<String, Fault> {
    let reservation = active(state, id)?;
    if reservation.instance_type != facts.name || reservation.zone != zone {
        return Err(faults::invalid(format!(
            "The requested instance attributes ({}, {zone}) do not match the attributes of the \
             Capacity Reservation '{id}' ({}, {}).",
            facts.name, reservation.instance_type, reservation.zone
        )));
    }
    if left(state, reservation) < 1 {
        return Err(exceeded(format!(
            "The requested reservation '{id}' does not have sufficient compatible and available \
             capacity for this request."
        )));
    }
    Ok(id.to_owned())
}

fn exceeded(message: String) -> Fault {
    Fault::new("ReservationCapacityExceeded", message)
        .with_status(StatusCode::INTERNAL_SERVER_ERROR)
}
