//! How long an interface's security groups remember connections on which nothing happens.
//!
//! Source: EC2 user guide, "Amazon EC2 security group connection tracking", Idle connection tracking
//! timeout.

use aws_ec2::network_interface::{
    ConnectionTrackingSpecification, ConnectionTrackingSpecificationRequest,
};
use aws_wire::Fault;

use crate::{
    faults,
    records::{ConnectionTracking, NetworkInterface},
};

/// What is asked for, within EC2's bounds.
pub(crate) fn of(
    asked: Option<ConnectionTrackingSpecificationRequest>,
) -> Result<Option<ConnectionTracking>, Fault> {
    let Some(asked) = asked else { return Ok(None) };
    let within = |name: &str, value: Option<i64>, least: u32, most: u32| {
        let Some(value) = value else { return Ok(None) };
        let good = u32::try_from(value).ok().filter(|it| (least..=most).contains(it));
        let good = good.ok_or_else(|| {
            faults::invalid(format!(
                "Value ({value}) for parameter ConnectionTrackingSpecification.{name} is invalid. \
                 It must be between {least} and {most} seconds."
            ))
        });
        good.map(Some)
    };
    Ok(Some(ConnectionTracking {
        tcp_established: within(
            "TcpEstablishedTimeout",
            asked.tcp_established_timeout,
            60,
            432_000,
        )?,
        udp_stream: within("UdpStreamTimeout", asked.udp_stream_timeout, 60, 180)?,
        udp: within("UdpTimeout", asked.udp_timeout, 30, 60)?,
    }))
}

pub(crate) fn answer(interface: &NetworkInterface) -> Option<ConnectionTrackingSpecification> {
    interface.tracking.map(|it| ConnectionTrackingSpecification {
        tcp_established_timeout: it.tcp_established.map(i64::from),
        udp_stream_timeout: it.udp_stream.map(i64::from),
        udp_timeout: it.udp.map(i64::from),
    })
}
