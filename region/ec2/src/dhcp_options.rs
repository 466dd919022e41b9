//! DHCP options: the domain in which the instances of a VPC look for short names.
//!
//! An instance is told at its next boot.
//!
//! Deviation: the only name server is the VPC's own, also for a VPC whose options are `default` (none),
//! and there are no NTP and NetBIOS servers.

use aws_ec2::{
    common::AttributeValue,
    dhcp_options::{
        AssociateDhcpOptionsRequest, AssociateDhcpOptionsResponse, CreateDhcpOptionsRequest,
        CreateDhcpOptionsResponse, DeleteDhcpOptionsRequest, DeleteDhcpOptionsResponse,
        DescribeDhcpOptionsRequest, DescribeDhcpOptionsResponse, DhcpConfiguration, DhcpOptions,
    },
};
use aws_wire::Fault;

use crate::{
    Call, faults,
    query::{self, many, one, query_of},
    records,
    state::State,
    tagging,
};

const TYPE: &str = "dhcp-options";
const DOMAIN_NAME: &str = "domain-name";
const SERVERS: &str = "domain-name-servers";
const OWN_SERVER: &str = "AmazonProvidedDNS";
/// What stands for no options at all.
const NONE: &str = "default";

pub(crate) fn create(
    call: &Call<'_>,
    state: &mut State,
    request: CreateDhcpOptionsRequest,
) -> Result<CreateDhcpOptionsResponse, Fault> {
    let mut options = records::DhcpOptions {
        id: entropy::aws_id("dopt"),
        tags: tagging::of_specifications(call, &request.tag_specifications, TYPE, &[TYPE])?,
        ..Default::default()
    };
    let mut has_server = false;
    for configuration in &request.dhcp_configurations {
        match (configuration.key.as_deref(), configuration.values.as_slice()) {
            (Some(DOMAIN_NAME), [name]) => options.domain_name.clone_from(name),
            (Some(SERVERS), [server]) if server == OWN_SERVER => has_server = true,
            (Some(SERVERS), _) => {
                return Err(faults::unsupported(format!(
                    "Name servers other than {OWN_SERVER} are not supported in this region."
                )));
            }
            (Some(key), values) => {
                let values = values.join(", ");
                return Err(faults::unsupported(format!(
                    "The DHCP option {key} = {values} is not supported in this region."
                )));
            }
            (None, _) => return Err(faults::missing("Key")),
        }
    }
    if !has_server {
        return Err(faults::unsupported(format!(
            "DHCP options without {SERVERS} = {OWN_SERVER} are not supported in this region."
        )));
    }
    let dhcp_options = Some(answer(call, &options));
    state.dhcp_options.insert(options);
    Ok(CreateDhcpOptionsResponse { dhcp_options })
}

pub(crate) fn associate(
    _call: &Call<'_>,
    state: &mut State,
    request: AssociateDhcpOptionsRequest,
) -> Result<AssociateDhcpOptionsResponse, Fault> {
    let id = request.dhcp_options_id;
    if id != NONE {
        state.dhcp_options.find(&id)?;
    }
    state.vpcs.edit(&request.vpc_id)?.dhcp_options_id = id;
    Ok(AssociateDhcpOptionsResponse { r#return: Some(true) })
}

pub(crate) fn delete(
    _call: &Call<'_>,
    state: &mut State,
    request: DeleteDhcpOptionsRequest,
) -> Result<DeleteDhcpOptionsResponse, Fault> {
    let id = state.dhcp_options.find(&request.dhcp_options_id)?.id.clone();
    if state.vpcs.iter().any(|it| it.dhcp_options_id == id) {
        return Err(faults::dependency(format!(
            "The dhcpOptions '{id}' has dependencies and cannot be deleted."
        )));
    }
    state.dhcp_options.remove(&id)?;
    Ok(DeleteDhcpOptionsResponse { r#return: Some(true) })
}

pub(crate) fn describe(
    call: &Call<'_>,
    state: &State,
    request: DescribeDhcpOptionsRequest,
) -> Result<DescribeDhcpOptionsResponse, Fault> {
    let query = query_of!(request, dhcp_options_ids);
    let (found, next_token) = query::run(&state.dhcp_options, query, |it, name| match name {
        "dhcp-options-id" => one(&it.id),
        "key" => many([DOMAIN_NAME, SERVERS]),
        "value" => many([it.domain_name.as_str(), OWN_SERVER]),
        "owner-id" => one(&call.config.account),
        _ => None,
    })?;
    let dhcp_options = found.into_iter().map(|it| answer(call, it)).collect();
    Ok(DescribeDhcpOptionsResponse { next_token, dhcp_options })
}

fn answer(call: &Call<'_>, options: &records::DhcpOptions) -> DhcpOptions {
    let configuration = |key: &str, value: &str| DhcpConfiguration {
        key: Some(key.to_owned()),
        values: vec![AttributeValue { value: Some(value.to_owned()) }],
    };
    let domain = Some(options.domain_name.as_str()).filter(|it| !it.is_empty());
    let domain = domain.map(|it| configuration(DOMAIN_NAME, it));
    DhcpOptions {
        owner_id: Some(call.config.account.clone()),
        tags: tagging::answer(&options.tags),
        dhcp_options_id: Some(options.id.clone()),
        dhcp_configurations: domain
            .into_iter()
            .chain([configuration(SERVERS, OWN_SERVER)])
            .collect(),
    }
}
