//! Agents ask for the tokens of their channels.

use aws_ssm::channel::{
    CreateControlChannelRequest, CreateControlChannelResponse, CreateDataChannelRequest,
    CreateDataChannelResponse, SCHEMA,
};
use aws_wire::Fault;
use region_gateway::Caller;

use super::Channel;
use crate::{Ssm, faults, instances::must_be};

pub(crate) fn create_control(
    ssm: &Ssm,
    caller: &Caller,
    request: CreateControlChannelRequest,
) -> Result<CreateControlChannelResponse, Fault> {
    let instance = request.channel_id;
    must_be(caller, &instance)?;
    if !ssm.is_running(&instance) {
        return Err(faults::not_connected(&instance));
    }
    let token_value = ssm.hub().issue(Channel::Control(instance));
    Ok(CreateControlChannelResponse { message_schema_version: SCHEMA.to_owned(), token_value })
}

/// The agent of the session's instance, and no other.
pub(crate) fn create_data(
    ssm: &Ssm,
    caller: &Caller,
    request: CreateDataChannelRequest,
) -> Result<CreateDataChannelResponse, Fault> {
    let session = ssm.active(&request.session_id)?;
    must_be(caller, &session.target)?;
    let token_value = ssm.hub().issue(Channel::Agent(session.id.clone()));
    Ok(CreateDataChannelResponse { message_schema_version: SCHEMA.to_owned(), token_value })
}
