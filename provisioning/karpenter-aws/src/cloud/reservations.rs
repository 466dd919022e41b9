//! On-Demand Capacity Reservations that a class selects.

use std::collections::BTreeMap;

use api_kube::karpenter::CapacityReservationSelectorTerm;
use aws_ec2::capacity_reservation::{
    CapacityReservation, DescribeCapacityReservations, DescribeCapacityReservationsRequest,
};
use aws_wire::client::CallError;

use super::{Cloud, all_pages, by_tags, filter};

impl Cloud {
    /// The reservations in effect that any of the terms selects.
    pub(crate) async fn reservations(
        &self,
        terms: &[CapacityReservationSelectorTerm],
    ) -> Result<Vec<CapacityReservation>, CallError> {
        let mut found: BTreeMap<String, CapacityReservation> = BTreeMap::new();
        for term in terms {
            let mut filters = by_tags(&term.tags);
            filters.push(filter("state", ["active".to_owned()]));
            filters.extend(term.owner_id.iter().map(|it| filter("owner-id", [it.clone()])));
            let criteria = term.instance_match_criteria.iter();
            filters.extend(criteria.map(|it| filter("instance-match-criteria", [it.clone()])));
            let request = DescribeCapacityReservationsRequest {
                filters,
                capacity_reservation_ids: term.id.iter().cloned().collect(),
                ..DescribeCapacityReservationsRequest::default()
            };
            let all = match term.id {
                None => {
                    all_pages!(self, DescribeCapacityReservations, request, capacity_reservations)
                }
                // What is named comes in one page, and may be gone.
                Some(_) => match self.aws.call::<DescribeCapacityReservations>(request).await {
                    Ok(answer) => answer.capacity_reservations,
                    Err(error) if error.is("InvalidCapacityReservationId.NotFound") => Vec::new(),
                    Err(error) => return Err(error),
                },
            };
            let named =
                all.into_iter().filter_map(|it| Some((it.capacity_reservation_id.clone()?, it)));
            found.extend(named);
        }
        Ok(found.into_values().collect())
    }
}
