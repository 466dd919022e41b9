//! What IAM decides on: the ARNs, tags and facts of the resources that a call touches.
//!
//! Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon EC2".

mod related;

use aws_ec2::common::TagSpecification;
use region_gateway::{Caller, Target};

pub(crate) use self::related::*;
use crate::{Config, Ec2, records::Tags, state::State};

/// One target per id, with the tags that the resource carries.
pub(crate) fn of_ids<S: AsRef<str>>(ec2: &Ec2, _caller: &Caller, ids: &[S]) -> Vec<Target> {
    let view = ec2.view();
    match ids {
        [] => vec![Target::any()],
        _ => ids.iter().map(|it| of_id(ec2.config(), &view, it.as_ref())).collect(),
    }
}

/// The resource of that id; of one that does not exist only the id is known.
pub(crate) fn of_id(config: &Config, state: &State, id: &str) -> Target {
    let found = state.all_tags().find(|(_, it, _)| *it == id);
    let Some((kind, _, tags)) = found else { return Target::resource(config.arn("*", id)) };
    let pair = state.key_pairs.get(id).map(|it| it.name.as_str());
    let named = pair.or_else(|| state.placement_groups.get(id).map(|it| it.name.as_str()));
    let arn = match (kind, named) {
        // Policies know key pairs and placement groups by their names, and images of all accounts.
        (_, Some(name)) => config.arn(kind, name),
        ("image" | "snapshot", _) => format!("arn:aws:ec2:{}::{kind}/{id}", config.region),
        _ => config.arn(kind, id),
    };
    let facts = facts(config, state, id);
    facts
        .into_iter()
        .fold(tagged(Target::resource(arn), tags), |target, (key, value)| target.with(key, [value]))
}

/// With the tags that a resource has.
pub(crate) fn tagged(target: Target, tags: &Tags) -> Target {
    let pairs = || tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    target.with_tags("aws:ResourceTag", pairs()).with_tags("ec2:ResourceTag", pairs())
}

/// EC2's own condition keys for a resource.
fn facts(config: &Config, state: &State, id: &str) -> Vec<(&'static str, String)> {
    let vpc = |id: &str| ("ec2:Vpc", config.arn("vpc", id));
    let id_as = |key| (key, id.to_owned());
    if state.vpcs.get(id).is_some() {
        return vec![id_as("ec2:VpcID")];
    }
    if let Some(subnet) = state.subnets.get(id) {
        let zone = ("ec2:AvailabilityZone", subnet.zone.clone());
        return vec![id_as("ec2:SubnetID"), vpc(&subnet.vpc_id), zone];
    }
    if let Some(group) = state.security_groups.get(id) {
        return vec![id_as("ec2:SecurityGroupID"), vpc(&group.vpc_id)];
    }
    if let Some(table) = state.route_tables.get(id) {
        return vec![id_as("ec2:RouteTableID"), vpc(&table.vpc_id)];
    }
    if let Some(interface) = state.network_interfaces.get(id) {
        return vec![
            id_as("ec2:NetworkInterfaceID"),
            vpc(&interface.vpc_id),
            ("ec2:Subnet", config.arn("subnet", &interface.subnet_id)),
            ("ec2:AvailabilityZone", interface.zone.clone()),
        ];
    }
    if let Some(group) = state.placement_groups.get(id) {
        return vec![
            ("ec2:PlacementGroupName", group.name.clone()),
            ("ec2:PlacementGroupStrategy", group.strategy.name().to_owned()),
        ];
    }
    let Some(instance) = state.instances.get(id) else { return Vec::new() };
    let mut facts = vec![
        id_as("ec2:InstanceID"),
        ("ec2:InstanceType", instance.instance_type.clone()),
        ("ec2:AvailabilityZone", instance.zone.clone()),
        ("ec2:Tenancy", "default".to_owned()),
    ];
    facts.extend(instance.profile.iter().map(|it| ("ec2:InstanceProfile", it.arn.clone())));
    facts
}

/// Making a resource of type `kind`, and tagging it while it is made.
pub(crate) fn of_creation(
    ec2: &Ec2,
    action: &str,
    kind: &str,
    specifications: &[TagSpecification],
) -> Vec<Target> {
    let all: Vec<(&str, &str)> = specifications
        .iter()
        .flat_map(|it| &it.tags)
        .map(|it| (it.key.as_deref().unwrap_or_default(), it.value.as_deref().unwrap_or_default()))
        .collect();
    let arn = ec2.config().arn(kind, "*");
    let made = Target::resource(&arn).with_tags("aws:RequestTag", all.iter().copied());
    let mut targets = vec![made];
    targets.extend(tagging_of(&arn, action, all));
    targets
}

/// The right to tag what `action` makes; nothing without tags.
pub(crate) fn tagging_of(arn: &str, action: &str, tags: Vec<(&str, &str)>) -> Option<Target> {
    let target = Target::action("ec2:CreateTags", arn)
        .with("ec2:CreateAction", [action.to_owned()])
        .with_tags("aws:RequestTag", tags.iter().copied());
    (!tags.is_empty()).then_some(target)
}
