//! `DescribeInstances`: pages of instances, grouped by reservation.

use std::collections::BTreeMap;

use aws_ec2::instance::{DescribeInstancesRequest, DescribeInstancesResponse};
use aws_wire::Fault;

use super::shape;
use crate::{
    Call,
    query::{self, query_of},
    records::Instance,
    state::State,
};

pub(crate) fn describe(
    call: &Call<'_>,
    state: &State,
    request: DescribeInstancesRequest,
) -> Result<DescribeInstancesResponse, Fault> {
    let query = query_of!(request, instance_ids);
    let (found, next_token) =
        query::run(&state.instances, query, |it, name| shape::attribute(call, state, it, name))?;
    let mut reservations: BTreeMap<&str, Vec<&Instance>> = BTreeMap::new();
    for instance in found {
        reservations.entry(&instance.reservation_id).or_default().push(instance);
    }
    // One look at all interfaces, not one for each instance.
    let attached = state.attached_interfaces();
    let reservations = reservations
        .into_iter()
        .map(|(id, instances)| shape::reservation(call, state, id, &instances, &attached))
        .collect();
    Ok(DescribeInstancesResponse { next_token, reservations })
}
