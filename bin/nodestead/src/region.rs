//! What the region's own EC2 says about its subnets and what is reserved, asked as a customer asks it.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use aws_ec2::{
    capacity_reservation::{
        CapacityReservation, DescribeCapacityReservations, DescribeCapacityReservationsRequest,
    },
    common::Filter,
    network_interface::{
        DescribeNetworkInterfaces, DescribeNetworkInterfacesRequest, NetworkInterface,
    },
    subnet::{DescribeSubnets, DescribeSubnetsRequest, Subnet},
    vpc::{DescribeVpcs, DescribeVpcsRequest, Vpc},
};
use aws_wire::{
    Client,
    client::{Config, Endpoints, Exchange},
};
use clock::Clock;
use transport::Place;

use crate::{admin::DaemonStatus, layout::Layout, root_key};

/// One attempt of one call.
const LIMIT: Duration = Duration::from_secs(30);

/// See the module.
pub(crate) struct Network(Client);

/// A client of the region's services, as its root user.
pub(crate) fn client(layout: &Layout, status: &DaemonStatus) -> anyhow::Result<Client> {
    Ok(Client::new(Config {
        region: status.region.clone(),
        endpoints: Endpoints::single(&status.aws_endpoint),
        exchange: Exchange::http(Place::Here, None, LIMIT),
        credentials: Some(Arc::new(root_key::credentials(layout)?)),
        clock: Clock::system(),
        attempts: 3,
    }))
}

impl Network {
    pub(crate) fn of(layout: &Layout, status: &DaemonStatus) -> anyhow::Result<Self> {
        Ok(Self(client(layout, status)?))
    }

    pub(crate) async fn subnets(&self) -> anyhow::Result<Vec<Subnet>> {
        let mut found = Vec::new();
        let mut request = DescribeSubnetsRequest::default();
        loop {
            let page = self.0.call::<DescribeSubnets>(request.clone()).await;
            let page = page.context("the region does not tell its subnets")?;
            found.extend(page.subnets);
            request.next_token = page.next_token.filter(|it| !it.is_empty());
            if request.next_token.is_none() {
                return Ok(found);
            }
        }
    }

    /// The interfaces of a subnet, or of all.
    pub(crate) async fn interfaces(
        &self,
        subnet: Option<&str>,
    ) -> anyhow::Result<Vec<NetworkInterface>> {
        let filters = subnet
            .map(|id| Filter { name: Some("subnet-id".to_owned()), values: vec![id.to_owned()] });
        let mut request = DescribeNetworkInterfacesRequest {
            filters: filters.into_iter().collect(),
            ..Default::default()
        };
        let mut found = Vec::new();
        loop {
            let page = self.0.call::<DescribeNetworkInterfaces>(request.clone()).await;
            let page = page.context("the region does not tell its network interfaces")?;
            found.extend(page.network_interfaces);
            request.next_token = page.next_token.filter(|it| !it.is_empty());
            if request.next_token.is_none() {
                return Ok(found);
            }
        }
    }

    pub(crate) async fn capacity_reservations(&self) -> anyhow::Result<Vec<CapacityReservation>> {
        let mut found = Vec::new();
        let mut request = DescribeCapacityReservationsRequest::default();
        loop {
            let page = self.0.call::<DescribeCapacityReservations>(request.clone()).await;
            let page = page.context("the region does not tell its capacity reservations")?;
            found.extend(page.capacity_reservations);
            request.next_token = page.next_token.filter(|it| !it.is_empty());
            if request.next_token.is_none() {
                return Ok(found);
            }
        }
    }

    pub(crate) async fn vpcs(&self) -> anyhow::Result<Vec<Vpc>> {
        let answer = self.0.call::<DescribeVpcs>(DescribeVpcsRequest::default()).await;
        Ok(answer.context("the region does not tell its VPCs")?.vpcs)
    }
}
