//! What an instance is launched with: the launch template's word, overridden by the request's.

use std::collections::BTreeMap;

use aws_ec2::{
    common::TagSpecification,
    launch_template_request::RequestLaunchTemplateData,
    run_instances::{CpuOptionsRequest, RunInstancesRequest},
};
use aws_wire::Fault;

use crate::{
    Call, capacity_reservations, faults,
    network_interfaces::{
        WantedIpv6, connection_tracking as tracking, count, parse_address, parse_ipv6_address,
        parse_prefix, wanted_ipv6,
    },
    placement_groups,
    records::{ConnectionTracking, MetadataOptions, Preference, Tags},
    tagging,
};

/// Merged parameters of a launch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Launch {
    pub image_id: Option<String>,
    pub instance_type: Option<String>,
    pub key_name: Option<String>,
    pub user_data: Option<String>,
    /// Name or ARN.
    pub profile: Option<String>,
    pub security_group_ids: Vec<String>,
    pub security_group_names: Vec<String>,
    pub subnet_id: Option<String>,
    pub zone: Option<String>,
    pub private_address: Option<String>,
    pub ipv6_count: Option<usize>,
    pub ipv6_addresses: Vec<std::net::Ipv6Addr>,
    pub interfaces: Vec<InterfaceSpec>,
    pub block_devices: Vec<BlockDeviceSpec>,
    pub metadata: MetadataOptions,
    /// By resource type.
    pub tags: BTreeMap<&'static str, Tags>,
    pub is_monitored: bool,
    pub is_ebs_optimized: bool,
    pub disable_api_termination: bool,
    pub disable_api_stop: bool,
    pub can_hibernate: bool,
    pub shutdown_behavior: Option<String>,
    pub is_spot: bool,
    pub capacity: Preference,
    pub cpu_credits: Option<String>,
    pub cpu_options: Option<CpuOptionsRequest>,
    pub group: placement_groups::Wanted,
}

/// One interface of a launch.
#[derive(Clone, Debug, Default)]
pub(crate) struct InterfaceSpec {
    pub device_index: i64,
    pub network_interface_id: Option<String>,
    pub subnet_id: Option<String>,
    pub groups: Vec<String>,
    pub description: Option<String>,
    pub associate_public_address: Option<bool>,
    pub delete_on_termination: Option<bool>,
    pub primary: Option<std::net::Ipv4Addr>,
    pub secondary: Vec<std::net::Ipv4Addr>,
    pub secondary_count: usize,
    pub prefixes: Vec<ipnet::Ipv4Net>,
    pub prefix_count: usize,
    pub ipv6: WantedIpv6,
    pub network_card_index: i64,
    pub interface_type: Option<String>,
    pub tracking: Option<ConnectionTracking>,
}

/// One volume of a launch; unset fields come from the image.
#[derive(Clone, Debug, Default)]
pub(crate) struct BlockDeviceSpec {
    pub device_name: String,
    pub is_removed: bool,
    pub size_gib: Option<i64>,
    pub volume_type: Option<String>,
    pub iops: Option<i64>,
    pub throughput: Option<i64>,
    pub is_encrypted: Option<bool>,
    pub kms_key: Option<String>,
    pub delete_on_termination: Option<bool>,
}

/// The types that RunInstances may tag (of those that exist here).
const TAGGABLE: [&str; 4] = ["instance", "volume", "network-interface", "spot-instances-request"];

/// Two shapes with the same fields say the same thing.
macro_rules! interface_spec {
    ($spec:expr) => {{
        let spec = $spec;
        let mut primary = spec.private_ip_address.as_deref().map(parse_address).transpose()?;
        let mut secondary = Vec::new();
        for item in &spec.private_ip_addresses {
            let Some(address) = item.private_ip_address.as_deref() else { continue };
            let address = parse_address(address)?;
            match item.primary {
                Some(true) => primary = Some(address),
                _ => secondary.push(address),
            }
        }
        let prefixes = spec.ipv4_prefixes.iter().filter_map(|it| it.ipv4_prefix.as_deref());
        InterfaceSpec {
            device_index: spec.device_index.unwrap_or(0),
            network_interface_id: spec.network_interface_id.clone(),
            subnet_id: spec.subnet_id.clone(),
            groups: spec.groups.clone(),
            description: spec.description.clone(),
            associate_public_address: spec.associate_public_ip_address,
            delete_on_termination: spec.delete_on_termination,
            primary,
            secondary,
            secondary_count: count(spec.secondary_private_ip_address_count)?,
            prefixes: prefixes.map(parse_prefix).collect::<Result<_, _>>()?,
            prefix_count: count(spec.ipv4_prefix_count)?,
            ipv6: wanted_ipv6!(spec)?,
            network_card_index: spec.network_card_index.unwrap_or(0),
            interface_type: spec.interface_type.clone(),
            tracking: tracking(spec.connection_tracking_specification)?,
        }
    }};
}

macro_rules! block_device_spec {
    ($mapping:expr) => {{
        let mapping = $mapping;
        let ebs = mapping.ebs.as_ref();
        BlockDeviceSpec {
            device_name: mapping.device_name.clone().unwrap_or_default(),
            is_removed: mapping.no_device.is_some(),
            size_gib: ebs.and_then(|it| it.volume_size),
            volume_type: ebs.and_then(|it| it.volume_type.clone()),
            iops: ebs.and_then(|it| it.iops),
            throughput: ebs.and_then(|it| it.throughput),
            is_encrypted: ebs.and_then(|it| it.encrypted),
            kms_key: ebs.and_then(|it| it.kms_key_id.clone()).filter(|it| !it.is_empty()),
            delete_on_termination: ebs.and_then(|it| it.delete_on_termination),
        }
    }};
}

/// Fields that both sources have under the same name and meaning.
macro_rules! overlay {
    ($launch:expr, $source:expr) => {{
        let (launch, source) = ($launch, $source);
        set(&mut launch.image_id, &source.image_id);
        set(&mut launch.instance_type, &source.instance_type);
        set(&mut launch.key_name, &source.key_name);
        set(&mut launch.user_data, &source.user_data);
        set(&mut launch.shutdown_behavior, &source.instance_initiated_shutdown_behavior);
        if let Some(profile) = &source.iam_instance_profile {
            launch.profile = profile.arn.clone().or_else(|| profile.name.clone());
        }
        if !source.security_group_ids.is_empty() || !source.security_groups.is_empty() {
            launch.security_group_ids = source.security_group_ids.clone();
            launch.security_group_names = source.security_groups.clone();
        }
        if let Some(placement) = &source.placement {
            set(&mut launch.zone, &placement.availability_zone);
            let group = &mut launch.group;
            if placement.group_id.is_some() || placement.group_name.is_some() {
                *group = placement_groups::Wanted::default();
            }
            set(&mut group.group_id, &placement.group_id);
            set(&mut group.group_name, &placement.group_name);
            set_value(&mut group.partition, &placement.partition_number.map(Some));
        }
        if !source.network_interfaces.is_empty() {
            launch.interfaces.clear();
            for spec in &source.network_interfaces {
                launch.interfaces.push(interface_spec!(spec));
            }
        }
        for mapping in &source.block_device_mappings {
            launch.set_block_device(block_device_spec!(mapping));
        }
        if let Some(options) = &source.metadata_options {
            set_value(&mut launch.metadata.http_tokens, &options.http_tokens);
            set_value(&mut launch.metadata.http_endpoint, &options.http_endpoint);
            set_value(&mut launch.metadata.http_protocol_ipv6, &options.http_protocol_ipv6);
            set_value(&mut launch.metadata.instance_metadata_tags, &options.instance_metadata_tags);
            set_value(
                &mut launch.metadata.http_put_response_hop_limit,
                &options.http_put_response_hop_limit,
            );
        }
        if let Some(options) = &source.hibernation_options {
            set_value(&mut launch.can_hibernate, &options.configured);
        }
        set_value(&mut launch.is_ebs_optimized, &source.ebs_optimized);
        set_value(&mut launch.disable_api_termination, &source.disable_api_termination);
        set_value(&mut launch.disable_api_stop, &source.disable_api_stop);
        if let Some(options) = &source.instance_market_options {
            launch.is_spot = is_spot(options.market_type.as_deref())?;
        }
        if let Some(wanted) = &source.capacity_reservation_specification {
            launch.capacity = capacity_reservations::preference(wanted)?;
        }
        if let Some(credits) = &source.credit_specification {
            launch.cpu_credits = Some(credits.cpu_credits.clone());
        }
        if let Some(options) = &source.cpu_options {
            launch.cpu_options = Some(options.clone());
        }
    }};
}

impl Launch {
    pub(crate) fn from_template(
        call: &Call<'_>,
        data: &RequestLaunchTemplateData,
    ) -> Result<Self, Fault> {
        let mut launch = Self::default();
        overlay!(&mut launch, data);
        set_value(&mut launch.is_monitored, &data.monitoring.as_ref().and_then(|it| it.enabled));
        for kind in TAGGABLE {
            for specification in &data.tag_specifications {
                if specification.resource_type.as_deref() == Some(kind) {
                    let tags = launch.tags.entry(kind).or_default();
                    tagging::merge(call, tags, &specification.tags)?;
                }
            }
        }
        Ok(launch)
    }

    /// The request's word is the last.
    pub(crate) fn with_request(
        mut self,
        call: &Call<'_>,
        request: &RunInstancesRequest,
    ) -> Result<Self, Fault> {
        let launch = &mut self;
        overlay!(&mut *launch, request);
        set(&mut launch.subnet_id, &request.subnet_id);
        set(&mut launch.private_address, &request.private_ip_address);
        launch.ipv6_count = request.ipv6_address_count.map(|it| count(Some(it))).transpose()?;
        let named = request.ipv6_addresses.iter().filter_map(|it| it.ipv6_address.as_deref());
        launch.ipv6_addresses = named.map(parse_ipv6_address).collect::<Result<_, _>>()?;
        if let Some(monitoring) = &request.monitoring {
            launch.is_monitored = monitoring.enabled;
        }
        for kind in TAGGABLE {
            let specifications: &[TagSpecification] = &request.tag_specifications;
            let tags = tagging::of_specifications(call, specifications, kind, &TAGGABLE)?;
            launch.tags.entry(kind).or_default().extend(tags);
        }
        Ok(self)
    }

    pub(crate) fn tags_for(&self, kind: &str) -> Tags {
        self.tags.get(kind).cloned().unwrap_or_default()
    }

    fn set_block_device(&mut self, spec: BlockDeviceSpec) {
        self.block_devices.retain(|it| it.device_name != spec.device_name);
        self.block_devices.push(spec);
    }
}

/// How the instance is bought, as the request's market type says it.
fn is_spot(market: Option<&str>) -> Result<bool, Fault> {
    match market {
        None => Ok(false),
        Some("spot") => Ok(true),
        Some("capacity-block" | "interruptible-capacity-reservation") => Err(faults::unsupported(
            "Capacity Blocks and interruptible Capacity Reservations are not supported in this region.",
        )),
        Some(other) => Err(faults::invalid_value("marketType", other)),
    }
}

/// Clients send empty strings for what they do not mean to say.
fn set(field: &mut Option<String>, value: &Option<String>) {
    if let Some(value) = value.as_ref().filter(|it| !it.is_empty()) {
        *field = Some(value.clone());
    }
}

fn set_value<T: Clone>(field: &mut T, value: &Option<T>) {
    if let Some(value) = value {
        *field = value.clone();
    }
}
