//! The bus: the account's default one, which nobody makes and nobody deletes.

use aws_events::event::{
    DescribeEventBusRequest, DescribeEventBusResponse, EventBus, ListEventBusesRequest,
    ListEventBusesResponse,
};
use aws_wire::Fault;
use region_gateway::Caller;

use crate::{EventBridge, records::BUS};

pub(crate) fn describe(
    service: &EventBridge,
    _caller: &Caller,
    request: DescribeEventBusRequest,
) -> Result<DescribeEventBusResponse, Fault> {
    service.check_bus(request.name.as_deref())?;
    Ok(DescribeEventBusResponse {
        name: Some(BUS.to_owned()),
        arn: Some(service.bus_arn()),
        ..Default::default()
    })
}

pub(crate) fn list(
    service: &EventBridge,
    _caller: &Caller,
    request: ListEventBusesRequest,
) -> Result<ListEventBusesResponse, Fault> {
    let is_meant = request.name_prefix.is_none_or(|it| BUS.starts_with(&it));
    let bus =
        EventBus { name: Some(BUS.to_owned()), arn: Some(service.bus_arn()), ..Default::default() };
    let event_buses = if is_meant { vec![bus] } else { Vec::new() };
    Ok(ListEventBusesResponse { event_buses, next_token: None })
}
