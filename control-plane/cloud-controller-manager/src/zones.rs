//! The ids of Availability Zones by their names, which EC2 is asked for once.
//!
//! Upstream: `zoneCache` in `pkg/providers/v1` of cloud-provider-aws.

use std::collections::HashMap;

use aws_ec2::zone::{DescribeAvailabilityZones, DescribeAvailabilityZonesRequest};
use aws_wire::{CallError, Client};
use parking_lot::Mutex;

#[derive(Default)]
pub(crate) struct Zones(Mutex<HashMap<String, String>>);

impl Zones {
    /// `use1-az1` for `us-east-1a`; `None` for a zone that EC2 does not know.
    pub(crate) async fn id_of(
        &self,
        ec2: &Client,
        zone: &str,
    ) -> Result<Option<String>, CallError> {
        if let Some(known) = self.0.lock().get(zone) {
            return Ok(Some(known.clone()));
        }
        let request = DescribeAvailabilityZonesRequest::default();
        let found = ec2.call::<DescribeAvailabilityZones>(request).await?.availability_zones;
        let found = found.into_iter().filter_map(|it| Some((it.zone_name?, it.zone_id?)));
        let mut known = self.0.lock();
        known.extend(found);
        Ok(known.get(zone).cloned())
    }
}
