//! A NodeClaim becomes an instance: one CreateFleet call over all that would do.
//!
//! One way to pay is chosen: room of a capacity reservation where there is some, else Spot where it is
//! allowed; types are cut to the 60 cheapest, each in the
//! subnet of its zone with the most free addresses. What EC2 has not is remembered for three minutes,
//! and a claim that nothing can be had for is deleted, so that its pods are decided on anew.
//!
//! **Invariant:** a claim is one instance. The call carries the claim's uid as its client token; where
//! EC2 knows the token with another request (prices and capacity have changed since), the instance of
//! the first call is found by its tag.

pub(super) mod interfaces;
mod volumes;
mod way;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api_kube::karpenter::{Ec2NodeClass, NodeClaim, capacity_types, labels};
use aws_ec2::{
    capacity_reservation::{CapacityReservationSpecification, CapacityReservationTarget},
    common::{TagInput, TagSpecification},
    fleet::{
        CreateFleet, CreateFleetRequest, CreateFleetResult, FleetLaunchTemplateConfigRequest,
        FleetLaunchTemplateOverridesRequest, OnDemandOptionsRequest,
        ReservedCapacityOptionsRequest, SpotOptionsRequest, TargetCapacitySpecificationRequest,
    },
    instance::Instance,
    launch_template_request::{
        LaunchTemplateIamInstanceProfileSpecificationRequest,
        LaunchTemplateInstanceMarketOptionsRequest, LaunchTemplateInstanceMetadataOptionsRequest,
        LaunchTemplatesMonitoringRequest, RequestLaunchTemplateData,
    },
    run_instances::CpuOptionsRequest,
};
use aws_eks::Cluster;
use aws_wire::client::CallError;
use karpenter_core::{InstanceType, Offering, Requirements};
use resources::Amounts;

use self::way::Way;
use super::{Context, placement_groups};
use crate::{
    Group,
    cloud::{CLUSTER_TAG, NODE_CLAIM_TAG, Template},
    is_ready, user_data,
};

/// No more types than these in one call (upstream's).
const MOST_TYPES: usize = 60;
/// EC2 takes as many overrides in one fleet.
const MOST_OVERRIDES: usize = 300;
/// What is wrong where a type cannot be had in a zone now.
const LACKS: [&str; 7] = [
    "InsufficientInstanceCapacity",
    "MaxSpotInstanceCountExceeded",
    "VcpuLimitExceeded",
    "UnfulfillableCapacity",
    "Unsupported",
    "InsufficientFreeAddressesInSubnet",
    "MaxFleetCountExceeded",
];
/// What is wrong where a capacity reservation has no room: it is full, has ended, or is forgotten.
const NO_ROOM: [&str; 3] = [
    "ReservationCapacityExceeded",
    "InvalidCapacityReservationState",
    "InvalidCapacityReservationId.NotFound",
];

/// What has been launched.
#[derive(Clone)]
pub(super) struct Launched {
    pub(super) provider_id: String,
    pub(super) image_id: String,
    /// The instance profile that it has.
    pub(super) profile: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) capacity: Amounts,
    pub(super) allocatable: Amounts,
}

/// Why nothing was launched.
pub(super) enum Failed {
    /// Nothing that would do can be had: the claim goes.
    Capacity(String),
    /// The class cannot be used: the claim goes too.
    Class(String),
    /// What EC2 has, or what overlays say of it, has not been looked at since the start.
    NotYet,
    /// It may work another time: the condition's reason and message.
    Call { reason: &'static str, message: String },
}

impl From<CallError> for Failed {
    fn from(error: CallError) -> Self {
        let message = telemetry::chain(&error).to_string();
        let reason = match error.fault().map(|it| it.code.as_ref()) {
            Some("UnauthorizedOperation") => "UnauthorizedOperation",
            Some("InvalidLaunchTemplateName.NotFoundException") => "LaunchTemplateNotFound",
            Some("RequestLimitExceeded") => "RequestLimitExceeded",
            Some(_) if message.contains("iamInstanceProfile.name") => "InstanceProfileNameInvalid",
            Some("AuthFailure.ServiceLinkedRoleCreationNotPermitted") => "SpotSLRCreationFailed",
            _ => "LaunchFailed",
        };
        Self::Call { reason, message }
    }
}

/// A type in a zone.
struct Offer {
    kind: usize,
    zone: String,
    price: f64,
    /// A NodeOverlay has said the price, which EC2 knows nothing of.
    is_overlaid: bool,
}

impl Context {
    pub(super) async fn launch(&self, claim: &NodeClaim) -> Result<Launched, Failed> {
        let name = &claim.spec.node_class_ref.name;
        let Some(class) = self.class(name) else {
            self.events.unresolved_class(claim);
            return Err(Failed::Class(format!("EC2NodeClass {name} is not there")));
        };
        if !is_ready(&class) {
            return Err(Failed::Class(format!("EC2NodeClass {name} is not ready")));
        }
        let types = self.types_for(claim, &class).ok_or(Failed::NotYet)?;
        let wanted = Requirements::from_api(&claim.spec.requirements);
        let (way, options) = options(claim, &wanted, &types)
            .ok_or_else(|| Failed::Capacity("all that would do is out of capacity".to_owned()))?;
        let group = self.group_of(&class)?;
        let request = self.fleet(claim, &class, &types, &way, &options, group.as_ref()).await?;
        let answer = match self.cloud.aws.call::<CreateFleet>(request).await {
            Ok(answer) => answer,
            // It has been made before, over what could be had then.
            Err(error) if error.is("IdempotentParameterMismatch") => {
                let found = self.cloud.instance_of(claim).await?.ok_or_else(|| {
                    Failed::Capacity("an earlier call for it has brought no instance".to_owned())
                })?;
                return adopted(&found, &types);
            }
            Err(error) => return Err(error.into()),
        };
        self.learn_errors(&answer, &way, group.as_ref());
        let Some(launched) = answer.instances.first() else {
            let codes: Vec<String> = answer
                .errors
                .iter()
                .map(|it| {
                    let part = |it: &Option<String>| it.clone().unwrap_or_default();
                    format!("{}: {}", part(&it.error_code), part(&it.error_message))
                })
                .collect();
            return Err(Failed::Capacity(codes.join("; ")));
        };
        let with = launched.launch_template_and_overrides.clone().unwrap_or_default();
        let with = with.overrides.unwrap_or_default();
        let (zone, image) = (with.availability_zone.unwrap_or_default(), with.image_id);
        let id = launched.instance_ids.first().cloned().unwrap_or_default();
        let kind = launched.instance_type.as_deref().unwrap_or_default();
        let partition = self.partition(group.as_ref(), &id).await?;
        let profile = class.status.as_ref().and_then(|it| it.instance_profile.clone());
        let made = made(&types, kind, &zone, &way, &id, image, partition)
            .map(|it| Launched { profile, ..it });
        if let (Ok(_), Some(id)) = (&made, &way.reservation) {
            self.take_room(id, false);
        }
        made
    }

    fn learn_errors(&self, answer: &CreateFleetResult, way: &Way, group: Option<&Group>) {
        for error in &answer.errors {
            let code = error.error_code.as_deref().unwrap_or_default();
            let is_full = NO_ROOM.contains(&code);
            if let Some(id) = way.reservation.as_ref().filter(|_| is_full) {
                self.take_room(id, true);
                continue;
            }
            let with = error.launch_template_and_overrides.clone().unwrap_or_default();
            let with = with.overrides.unwrap_or_default();
            let (Some(kind), Some(zone)) = (with.instance_type, with.availability_zone) else {
                continue;
            };
            if LACKS.contains(&code) {
                let message = error.error_message.as_deref().unwrap_or_default();
                let (kind, way) = placement_groups::lacking(message, &kind, way.capacity_type);
                self.mark_unavailable(group.map_or("", |it| &it.id), kind, &zone, way);
            }
        }
    }

    async fn fleet(
        &self,
        claim: &NodeClaim,
        class: &Ec2NodeClass,
        types: &Arc<[InstanceType]>,
        way: &Way,
        options: &[Offer],
        group: Option<&Group>,
    ) -> Result<CreateFleetRequest, Failed> {
        let status = class.status.clone().unwrap_or_default();
        let cluster = self.described_cluster(class).await?;
        // One template per number of pods, which is in the user data.
        let mut templates: BTreeMap<i64, Template> = BTreeMap::new();
        let mut by_template: BTreeMap<Template, Vec<FleetLaunchTemplateOverridesRequest>> =
            BTreeMap::new();
        for option in options {
            let kind = &types[option.kind];
            let arch = kind.labels.get(labels::ARCH).map_or("", String::as_str);
            let fits = |it: &&api_kube::karpenter::Ami| {
                it.requirements.iter().any(|it| it.values.iter().any(|it| it == arch))
            };
            let Some(ami) = status.amis.iter().find(fits) else { continue };
            let Some(subnet) = status.subnets.iter().find(|it| it.zone == option.zone) else {
                continue;
            };
            let pods = kind.capacity.pods;
            let template = match templates.get(&pods) {
                Some(known) => known.clone(),
                None => {
                    let made = self.template(claim, class, &cluster, way, pods, group).await?;
                    templates.insert(pods, made.clone());
                    made
                }
            };
            by_template.entry(template).or_default().push(FleetLaunchTemplateOverridesRequest {
                instance_type: Some(kind.name.to_string()),
                subnet_id: Some(subnet.id.clone()),
                availability_zone: Some(option.zone.clone()),
                image_id: Some(ami.id.clone()),
                priority: Some(option.price),
                ..FleetLaunchTemplateOverridesRequest::default()
            });
        }
        let configs =
            by_template.into_iter().map(|(template, overrides)| FleetLaunchTemplateConfigRequest {
                launch_template_specification: Some(template.specification()),
                overrides,
            });
        let (is_spot, kind) = (way.is_spot(), way.target());
        let is_on_demand = kind == capacity_types::ON_DEMAND;
        let (of_spot, of_on_demand) = strategies(options);
        Ok(CreateFleetRequest {
            // A claim is one call, however often its answer is lost.
            client_token: claim.metadata.uid.clone(),
            r#type: Some("instant".to_owned()),
            launch_template_configs: configs.collect(),
            target_capacity_specification: Some(TargetCapacitySpecificationRequest {
                total_target_capacity: 1,
                default_target_capacity_type: Some(kind.to_owned()),
                ..TargetCapacitySpecificationRequest::default()
            }),
            spot_options: is_spot.then(|| SpotOptionsRequest {
                allocation_strategy: Some(of_spot.to_owned()),
                ..SpotOptionsRequest::default()
            }),
            on_demand_options: is_on_demand.then(|| OnDemandOptionsRequest {
                allocation_strategy: Some(of_on_demand.to_owned()),
                ..OnDemandOptionsRequest::default()
            }),
            reserved_capacity_options: way
                .reservation_types()
                .map(|reservation_types| ReservedCapacityOptionsRequest { reservation_types }),
            tag_specifications: self.tags(claim, class),
            context: class.spec.context.clone(),
            ..CreateFleetRequest::default()
        })
    }

    /// Only some families' user data says anything of the cluster.
    async fn described_cluster(&self, class: &Ec2NodeClass) -> Result<Cluster, CallError> {
        match user_data::family(class) {
            "Custom" => Ok(Cluster::default()),
            _ => self.cloud.cluster().await,
        }
    }

    fn tags(&self, claim: &NodeClaim, class: &Ec2NodeClass) -> Vec<TagSpecification> {
        let mut tags = class.spec.tags.clone();
        let of = |key: &str| claim.metadata.labels.as_ref().and_then(|it| it.get(key)).cloned();
        for (key, value) in [
            ("Name".to_owned(), claim.name().to_owned()),
            (format!("kubernetes.io/cluster/{}", self.cloud.cluster), "owned".to_owned()),
            (CLUSTER_TAG.to_owned(), self.cloud.cluster.clone()),
            (NODE_CLAIM_TAG.to_owned(), claim.name().to_owned()),
            (labels::NODE_POOL.to_owned(), of(labels::NODE_POOL).unwrap_or_default()),
            (labels::NODE_CLASS.to_owned(), class.name().to_owned()),
        ] {
            tags.insert(key, value);
        }
        let tags: Vec<TagInput> = tags
            .into_iter()
            .map(|(key, value)| TagInput { key: Some(key), value: Some(value) })
            .collect();
        let each = ["instance", "volume", "network-interface"].map(|kind| TagSpecification {
            resource_type: Some(kind.to_owned()),
            tags: tags.clone(),
        });
        each.into()
    }

    /// The launch template, and the version of it.
    async fn template(
        &self,
        claim: &NodeClaim,
        class: &Ec2NodeClass,
        cluster: &Cluster,
        way: &Way,
        max_pods: i64,
        group: Option<&Group>,
    ) -> Result<Template, Failed> {
        let of = |key: &str| claim.metadata.labels.as_ref().and_then(|it| it.get(key)).cloned();
        let node_labels = [
            (labels::NODE_POOL.to_owned(), of(labels::NODE_POOL).unwrap_or_default()),
            (labels::CAPACITY_TYPE.to_owned(), way.capacity_type.to_owned()),
        ];
        let user_data = user_data::render(class, cluster, &node_labels, max_pods)
            .map_err(|message| Failed::Call { reason: "LaunchFailed", message })?;
        let status = class.status.clone().unwrap_or_default();
        let options = &class.spec.metadata_options;
        let mut data = RequestLaunchTemplateData {
            user_data: Some(user_data),
            iam_instance_profile: Some(LaunchTemplateIamInstanceProfileSpecificationRequest {
                name: status.instance_profile,
                ..Default::default()
            }),
            block_device_mappings: volumes::of(class),
            capacity_reservation_specification: self.reservation_of(way),
            placement: group.map(|it| {
                let wanted = Requirements::from_api(&claim.spec.requirements);
                placement_groups::placement(it, &wanted)
            }),
            cpu_options: class.spec.cpu_options.as_ref().map(|it| CpuOptionsRequest {
                nested_virtualization: it.nested_virtualization.clone(),
                ..CpuOptionsRequest::default()
            }),
            instance_market_options: way.market.map(|it| {
                LaunchTemplateInstanceMarketOptionsRequest {
                    market_type: Some(it.to_owned()),
                    ..LaunchTemplateInstanceMarketOptionsRequest::default()
                }
            }),
            monitoring: class
                .spec
                .detailed_monitoring
                .map(|it| LaunchTemplatesMonitoringRequest { enabled: Some(it) }),
            metadata_options: Some(LaunchTemplateInstanceMetadataOptionsRequest {
                http_tokens: Some(options.http_tokens.clone()),
                http_put_response_hop_limit: Some(options.http_put_response_hop_limit),
                http_endpoint: Some(options.http_endpoint.clone()),
                http_protocol_ipv6: Some(options.http_protocol_ipv6.clone()),
                ..Default::default()
            }),
            ..RequestLaunchTemplateData::default()
        };
        let groups = status.security_groups.into_iter().map(|it| it.id).collect();
        interfaces::add(&mut data, class, groups);
        let template = self.cloud.template(class.name(), data).await?;
        self.templates.lock().insert(template.name.clone(), self.clock.now());
        Ok(template)
    }

    /// What is not counted on takes no room that others may count on.
    fn reservation_of(&self, way: &Way) -> Option<CapacityReservationSpecification> {
        let is_on = self.config.gates.reserved_capacity;
        let target = way.reservation.clone().map(|id| CapacityReservationTarget {
            capacity_reservation_id: Some(id),
            ..CapacityReservationTarget::default()
        });
        let preference = if target.is_some() { "capacity-reservations-only" } else { "none" };
        is_on.then(|| CapacityReservationSpecification {
            capacity_reservation_preference: Some(preference.to_owned()),
            capacity_reservation_target: target,
        })
    }
}

/// How EC2 is to choose, Spot and On-Demand: by its prices, or by ours, which are the priorities.
fn strategies(options: &[Offer]) -> (&'static str, &'static str) {
    match options.iter().any(|it| it.is_overlaid) {
        true => ("capacity-optimized-prioritized", "prioritized"),
        false => ("price-capacity-optimized", "lowest-price"),
    }
}

/// What an instance is to its claim.
fn made(
    types: &[InstanceType],
    kind: &str,
    zone: &str,
    way: &Way,
    id: &str,
    image: Option<String>,
    partition: Option<i64>,
) -> Result<Launched, Failed> {
    let kind = types.iter().find(|it| &*it.name == kind).ok_or_else(|| Failed::Call {
        reason: "LaunchFailed",
        message: format!("{id} is an instance of the type {kind}, which is not known"),
    })?;
    let mut all = kind.labels.clone();
    let mut offerings = kind.offerings.iter();
    let offering = offerings.find(|it| it.zone() == zone && way.is_of(it));
    all.extend(offering.map_or_else(|| way.labels(zone), |it| it.labels.clone()));
    // Of its offerings in all partitions it is any.
    all.remove(labels::PLACEMENT_GROUP_PARTITION);
    let label = labels::PLACEMENT_GROUP_PARTITION.to_owned();
    all.extend(partition.map(|it| (label, it.to_string())));
    Ok(Launched {
        provider_id: format!("aws:///{zone}/{id}"),
        image_id: image.unwrap_or_default(),
        profile: None,
        labels: all,
        capacity: kind.capacity.clone(),
        allocatable: kind.allocatable.clone(),
    })
}

/// The same, of an instance whose launch was answered to nobody.
fn adopted(instance: &Instance, types: &[InstanceType]) -> Result<Launched, Failed> {
    let way = Way::of(instance);
    let zone = instance.placement.as_ref().and_then(|it| it.availability_zone.as_deref());
    let text = |it: &Option<String>| it.clone().unwrap_or_default();
    let profile = instance.iam_instance_profile.as_ref().and_then(|it| it.arn.as_deref());
    let profile = profile.and_then(|it| it.rsplit('/').next()).map(str::to_owned);
    let found = made(
        types,
        &text(&instance.instance_type),
        zone.unwrap_or_default(),
        &way,
        &text(&instance.instance_id),
        instance.image_id.clone(),
        placement_groups::partition_of(instance),
    );
    found.map(|it| Launched { profile, ..it })
}

/// The way to pay, and what would do, the cheapest first.
fn options(
    claim: &NodeClaim,
    wanted: &Requirements,
    types: &[InstanceType],
) -> Option<(Way, Vec<Offer>)> {
    let requests = Amounts::from_list(Some(&claim.spec.resources.requests));
    let mut found: Vec<(Offer, &Offering)> = Vec::new();
    for (at, kind) in types.iter().enumerate() {
        let fits = |name: &str| requests.amount(name) <= kind.allocatable.amount(name);
        let has_room = ["cpu", "memory", "ephemeral-storage"].into_iter().all(fits)
            && requests.scalars.keys().all(|it| fits(it));
        if !has_room || !allows(wanted, &kind.labels) {
            continue;
        }
        let offered = |it: &&Offering| it.is_available && allows(wanted, &it.labels);
        for offering in kind.offerings.iter().filter(offered) {
            let option = Offer {
                kind: at,
                zone: offering.zone().to_owned(),
                price: offering.price,
                is_overlaid: offering.is_overlaid,
            };
            found.push((option, offering));
        }
    }
    let is_of = |it: &Offering, kind: &str| it.capacity_type() == kind;
    // One call names one reservation: the one with the cheapest type, and of equal ones one that ends
    // when it is told to.
    let reserved = found.iter().filter_map(|(offer, it)| Some((offer.price, Way::reserved(it)?)));
    let reserved = reserved.min_by(|(a, one), (b, other)| {
        a.total_cmp(b).then(one.market.is_some().cmp(&other.market.is_some()))
    });
    let is_spot = || found.iter().any(|(_, it)| is_of(it, capacity_types::SPOT));
    let way = reserved.map_or_else(|| Way::bought(is_spot()), |(_, way)| way);
    let on_demand = found.iter().filter(|(_, it)| is_of(it, capacity_types::ON_DEMAND));
    let cheapest_on_demand = on_demand.map(|it| it.0.price).fold(f64::INFINITY, f64::min);
    // Spot that is dearer than the cheapest On-Demand is of no use.
    let is_kept = |it: &(Offer, &Offering)| {
        way.is_of(it.1) && (!way.is_spot() || it.0.price <= cheapest_on_demand)
    };
    let mut kept: Vec<Offer> = found.into_iter().filter(is_kept).map(|(it, _)| it).collect();
    kept.sort_by(|a, b| a.price.total_cmp(&b.price));
    let mut kinds: Vec<usize> = Vec::new();
    kept.retain(|it| {
        let is_new = !kinds.contains(&it.kind);
        if is_new && kinds.len() < MOST_TYPES {
            kinds.push(it.kind);
        }
        kinds.contains(&it.kind)
    });
    // Partitions are no places of their own to EC2.
    let mut places = BTreeSet::new();
    kept.retain(|it| places.insert((it.kind, it.zone.clone())));
    kept.truncate(MOST_OVERRIDES);
    (!kept.is_empty()).then_some((way, kept))
}

/// Whether none of these labels is another than what is wanted.
fn allows(wanted: &Requirements, labels: &BTreeMap<String, String>) -> bool {
    labels.iter().all(|(key, value)| wanted.get(key).is_none_or(|it| it.has(value)))
}

#[cfg(test)]
mod tests {
    use karpenter_core::Reservation;

    use super::*;

    #[test]
    fn an_instance_found_again_is_reserved_only_where_it_was_launched_into_the_reservation() {
        let room = Reservation { id: "cr-1".into(), left: 0 };
        let mut reserved = Offering::reserved("a", room, 1.0);
        for (key, value) in [
            (labels::CAPACITY_RESERVATION_TYPE, "default"),
            (labels::CAPACITY_RESERVATION_INTERRUPTIBLE, "false"),
        ] {
            reserved.labels.insert(key.to_owned(), value.to_owned());
        }
        let kind = InstanceType {
            name: "m5.large".into(),
            offerings: vec![Offering::new("a", "on-demand", 1.0), reserved],
            ..InstanceType::default()
        };
        for (is_in, named, expected) in [
            (None, None, "on-demand"),
            (Some("cr-1"), Some("cr-1"), "reserved"),
            // An open reservation has taken it in.
            (Some("cr-1"), None, "on-demand"),
            // It has ended since.
            (None, Some("cr-1"), "on-demand"),
            // Its class does not select it any more.
            (Some("cr-2"), Some("cr-2"), "reserved"),
        ] {
            let instance: Instance = serde_json::from_value(serde_json::json!({
                "instanceId": "i-1", "instanceType": "m5.large",
                "iamInstanceProfile": { "arn": "arn:aws:iam::1:instance-profile/karpenter/a" },
                "placement": { "availabilityZone": "a" }, "capacityReservationId": is_in,
                "capacityReservationSpecification": {
                    "capacityReservationTarget": { "capacityReservationId": named } } }))
            .unwrap();
            let Ok(found) = adopted(&instance, std::slice::from_ref(&kind)) else {
                panic!("it is known")
            };
            assert_eq!(found.labels[labels::CAPACITY_TYPE], expected, "{is_in:?} {named:?}");
            assert_eq!(found.labels[labels::ZONE], "a");
            assert_eq!(found.profile.as_deref(), Some("a"));
            let id = found.labels.get(labels::CAPACITY_RESERVATION_ID).map(String::as_str);
            assert_eq!(id, is_in.filter(|_| expected == "reserved"));
        }
    }
}
