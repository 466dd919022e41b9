//! Subnet CIDR reservations: a part of a subnet from which EC2 picks no single address by itself.
//!
//! From one of type `prefix` it takes the prefixes that are asked for by number, before it looks
//! elsewhere; what lies in one of type `explicit` is given to who names it.
//!
//! Upstream: VPC User Guide, "Subnet CIDR reservations". Deviation: no pages and no filters but by
//! reservation type: a subnet has few of them.

use aws_ec2::subnet_reservation::{
    CreateSubnetCidrReservationRequest, CreateSubnetCidrReservationResponse,
    DeleteSubnetCidrReservationRequest, DeleteSubnetCidrReservationResponse,
    GetSubnetCidrReservationsRequest, GetSubnetCidrReservationsResponse, SubnetCidrReservation,
};
use aws_wire::Fault;
use ipnet::Ipv4Net;

use crate::{
    Call, faults,
    records::{Reservation, ReservationType},
    state::State,
    tagging,
};

const TYPE: &str = "subnet-cidr-reservation";

pub(crate) fn create(
    call: &Call<'_>,
    state: &mut State,
    request: CreateSubnetCidrReservationRequest,
) -> Result<CreateSubnetCidrReservationResponse, Fault> {
    let tags = tagging::of_specifications(call, &request.tag_specifications, TYPE, &[TYPE])?;
    let subnet = state.subnets.find(&request.subnet_id)?;
    let text = &request.cidr;
    let cidr: Ipv4Net = text.parse().map_err(|_| faults::invalid_value("cidr", text))?;
    let kind = match request.reservation_type.as_str() {
        "prefix" => ReservationType::Prefix,
        "explicit" => ReservationType::Explicit,
        other => return Err(faults::invalid_value("reservationType", other)),
    };
    if cidr.trunc() != cidr || !subnet.cidr.contains(&cidr) {
        return Err(faults::invalid(format!(
            "Reservation CIDR {cidr} is not within the CIDR {} of subnet {}",
            subnet.cidr, subnet.id
        )));
    }
    let overlaps = |it: &Reservation| it.cidr.contains(&cidr) || cidr.contains(&it.cidr);
    if subnet.reservations.iter().any(overlaps) {
        return Err(faults::invalid(format!(
            "Reservation CIDR {cidr} has overlap with existing reserved CIDR block"
        )));
    }
    let made = Reservation {
        id: entropy::aws_id("scr"),
        cidr,
        kind,
        description: request.description,
        tags,
    };
    state.subnets.edit(&request.subnet_id)?.reservations.push(made.clone());
    Ok(CreateSubnetCidrReservationResponse {
        subnet_cidr_reservation: Some(answer(call, &request.subnet_id, &made)),
    })
}

pub(crate) fn delete(
    call: &Call<'_>,
    state: &mut State,
    request: DeleteSubnetCidrReservationRequest,
) -> Result<DeleteSubnetCidrReservationResponse, Fault> {
    let id = &request.subnet_cidr_reservation_id;
    let owner = state.subnets.iter().find(|it| it.reservations.iter().any(|it| it.id == *id));
    let Some(subnet_id) = owner.map(|it| it.id.clone()) else {
        return Err(Fault::new(
            "InvalidSubnetCidrReservationId.NotFound",
            format!("The subnet CIDR reservation ID '{id}' does not exist"),
        ));
    };
    let subnet = state.subnets.edit(&subnet_id)?;
    let (gone, kept) = std::mem::take(&mut subnet.reservations)
        .into_iter()
        .partition::<Vec<_>, _>(|it| it.id == *id);
    subnet.reservations = kept;
    Ok(DeleteSubnetCidrReservationResponse {
        deleted_subnet_cidr_reservation: gone.first().map(|it| answer(call, &subnet_id, it)),
    })
}

pub(crate) fn get(
    call: &Call<'_>,
    state: &State,
    request: GetSubnetCidrReservationsRequest,
) -> Result<GetSubnetCidrReservationsResponse, Fault> {
    let subnet = state.subnets.find(&request.subnet_id)?;
    let mut kinds: Option<Vec<String>> = None;
    for filter in &request.filters {
        match filter.name.as_deref() {
            Some("reservationType" | "reservation-type") => kinds = Some(filter.values.clone()),
            other => return Err(faults::invalid_value("filter", other.unwrap_or_default())),
        }
    }
    let is_meant = |it: &&Reservation| {
        kinds.as_ref().is_none_or(|kinds| kinds.iter().any(|kind| kind == it.kind.name()))
    };
    let found = subnet.reservations.iter().filter(is_meant);
    Ok(GetSubnetCidrReservationsResponse {
        subnet_ipv4_cidr_reservations: found.map(|it| answer(call, &subnet.id, it)).collect(),
        ..Default::default()
    })
}

fn answer(call: &Call<'_>, subnet_id: &str, reservation: &Reservation) -> SubnetCidrReservation {
    SubnetCidrReservation {
        subnet_cidr_reservation_id: Some(reservation.id.clone()),
        subnet_id: Some(subnet_id.to_owned()),
        cidr: Some(reservation.cidr.to_string()),
        reservation_type: Some(reservation.kind.name().to_owned()),
        owner_id: Some(call.config.account.clone()),
        description: reservation.description.clone(),
        tags: tagging::answer(&reservation.tags),
    }
}
