//! Managed instances: what EC2 says of them, what their agents say, and whether these are connected.
//!
//! What agents say is kept in memory: they say it again every few minutes.
//!
//! Deviation: an instance that has stopped, or whose agent has not said a word since the region was
//! started, is not listed; on AWS it is for a while, as `ConnectionLost`.

use std::collections::BTreeMap;

use aws_ssm::{
    instance::{
        DescribeInstanceInformationRequest, DescribeInstanceInformationResponse,
        InstanceInformation, UpdateInstanceInformationRequest, UpdateInstanceInformationResponse,
    },
    session::{GetConnectionStatusRequest, GetConnectionStatusResponse},
};
use aws_wire::Fault;
use jiff::Timestamp;
use region_gateway::{Caller, Target};

use crate::{Ssm, channels::Channel, faults, pages, parameters::epoch};

/// What EC2 knows of instances.
pub trait Instances: Send + Sync + 'static {
    fn find(&self, id: &str) -> Option<Instance>;
}

/// An instance, as EC2 has it.
#[derive(Clone, Debug, Default)]
pub struct Instance {
    pub is_running: bool,
    pub tags: BTreeMap<String, String>,
}

/// What an agent has said.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    at: Timestamp,
    by: UpdateInstanceInformationRequest,
}

impl Ssm {
    pub(crate) fn instance(&self, id: &str) -> Option<Instance> {
        self.config().instances.find(id)
    }

    pub(crate) fn is_running(&self, id: &str) -> bool {
        self.instance(id).is_some_and(|it| it.is_running)
    }

    /// Whether the agent of a running instance is connected.
    pub(crate) fn is_connected(&self, id: &str) -> bool {
        self.is_running(id) && self.hub().is_open(&Channel::Control(id.to_owned()))
    }

    /// An instance as IAM is asked about it, with its tags.
    pub(crate) fn instance_target(&self, id: &str) -> Target {
        let config = self.config();
        let arn = format!("arn:aws:ec2:{}:{}:instance/{id}", config.region, config.account);
        let instance = self.instance(id).unwrap_or_default();
        let tags = || instance.tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        Target::resource(arn)
            .with_tags("aws:ResourceTag", tags())
            .with_tags("ssm:resourceTag", tags())
    }
}

/// The caller is the instance itself, by the credentials of its own metadata service: a session's
/// name can be anything, what the metadata service says of its sessions cannot.
pub(crate) fn must_be(caller: &Caller, instance: &str) -> Result<(), Fault> {
    let source = caller.session_context.get("ec2:SourceInstanceArn");
    let is_it =
        source.and_then(|it| it.rsplit_once(":instance/")).is_some_and(|it| it.1 == instance);
    if is_it { Ok(()) } else { Err(faults::not_the_instance(caller, instance)) }
}

pub(crate) fn update(
    ssm: &Ssm,
    caller: &Caller,
    request: UpdateInstanceInformationRequest,
) -> Result<UpdateInstanceInformationResponse, Fault> {
    must_be(caller, &request.instance_id)?;
    let (id, told) = (request.instance_id.clone(), Told { at: ssm.now(), by: request });
    let mut all = ssm.told().lock();
    all.retain(|id, _| ssm.is_running(id));
    all.insert(id, told);
    Ok(UpdateInstanceInformationResponse::default())
}

pub(crate) fn describe(
    ssm: &Ssm,
    _caller: &Caller,
    request: DescribeInstanceInformationRequest,
) -> Result<DescribeInstanceInformationResponse, Fault> {
    let older = request.instance_information_filter_list.into_iter();
    let older = older.map(|it| (it.key, it.value_set));
    let newer = request.filters.into_iter().map(|it| (it.key, it.values));
    let filters: Vec<(String, Vec<String>)> = older.chain(newer).collect();
    let told = ssm.told().lock().clone();
    let mut found = Vec::new();
    for (id, told) in &told {
        let Some(instance) = ssm.instance(id).filter(|it| it.is_running) else { continue };
        let is_connected = ssm.hub().is_open(&Channel::Control(id.clone()));
        let item = information(id, told, is_connected);
        if passes(&item, &instance.tags, &filters)? {
            found.push(item);
        }
    }
    let key = |it: &InstanceInformation| it.instance_id.clone().unwrap_or_default();
    let page = pages::cut(found, request.max_results, request.next_token.as_deref(), 50, key)?;
    Ok(DescribeInstanceInformationResponse {
        instance_information_list: page.items,
        next_token: page.next,
    })
}

fn information(id: &str, told: &Told, is_connected: bool) -> InstanceInformation {
    let by = told.by.clone();
    InstanceInformation {
        instance_id: Some(id.to_owned()),
        ping_status: Some(if is_connected { "Online" } else { "ConnectionLost" }.to_owned()),
        last_ping_date_time: Some(epoch(told.at)),
        agent_version: by.agent_version,
        is_latest_version: Some(true),
        platform_type: by.platform_type,
        platform_name: by.platform_name,
        platform_version: by.platform_version,
        resource_type: Some("EC2Instance".to_owned()),
        ip_address: by.ip_address,
        computer_name: by.computer_name,
        source_id: Some(id.to_owned()),
        source_type: Some("AWS::EC2::Instance".to_owned()),
    }
}

fn passes(
    item: &InstanceInformation,
    tags: &BTreeMap<String, String>,
    filters: &[(String, Vec<String>)],
) -> Result<bool, Fault> {
    for (key, values) in filters {
        let has = |it: Option<&str>| values.iter().any(|value| Some(value.as_str()) == it);
        let is_met = match key.as_str() {
            "InstanceIds" => has(item.instance_id.as_deref()),
            "PingStatus" => has(item.ping_status.as_deref()),
            "AgentVersion" => has(item.agent_version.as_deref()),
            "PlatformTypes" => has(item.platform_type.as_deref()),
            "ResourceType" => has(item.resource_type.as_deref()) || has(Some("ManagedInstance")),
            "SourceIds" => has(item.source_id.as_deref()),
            "SourceTypes" => has(item.source_type.as_deref()),
            "tag-key" => tags.keys().any(|it| has(Some(it))),
            other => match other.strip_prefix("tag:") {
                Some(name) => tags.get(name).is_some_and(|it| has(Some(it))),
                None => return Err(faults::filter_key(other)),
            },
        };
        if !is_met {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(crate) fn connection(
    ssm: &Ssm,
    _caller: &Caller,
    request: GetConnectionStatusRequest,
) -> Result<GetConnectionStatusResponse, Fault> {
    let status = if ssm.is_connected(&request.target) { "connected" } else { "notconnected" };
    Ok(GetConnectionStatusResponse {
        target: Some(request.target),
        status: Some(status.to_owned()),
    })
}
