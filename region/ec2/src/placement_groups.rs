//! Placement groups, and the place that an instance gets in one.
//!
//! All instances here are on one machine: what is kept is what EC2 promises to refuse. A cluster is in
//! one zone, a spread has no more than seven running instances in each, and an instance of a partition
//! is told which one it is in. A stopped instance keeps its group and its partition, and needs room as
//! any other when it starts.
//!
//! Source: EC2 user guide, "Placement strategies for your placement groups".
//! Deviation: spreads over hosts are for Outposts, which are not there; groups are not shared.

use aws_ec2::placement_group::{
    self, CreatePlacementGroupRequest, CreatePlacementGroupResult, DeletePlacementGroupRequest,
    DeletePlacementGroupResponse, DescribePlacementGroupsRequest, DescribePlacementGroupsResult,
};
use aws_wire::{Fault, StatusCode};
use instance_types::InstanceType;
use region_gateway::{Caller, Target};

use crate::{
    Call, Ec2, faults,
    query::{self, Values, maybe, one},
    records::{Instance, InstanceState, Placed, PlacementGroup, Strategy},
    state::State,
    tagging,
    targets::of_id,
};

const TYPE: &str = "placement-group";
/// In each zone, of a spread.
const MOST_SPREAD: usize = 7;
const MOST_PARTITIONS: u32 = 7;

/// What a launch says of its group; which one of id and name is given does not matter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) group_id: Option<String>,
    pub(crate) group_name: Option<String>,
    pub(crate) partition: Option<i64>,
}

// === operations ===

pub(crate) fn create(
    call: &Call<'_>,
    state: &mut State,
    request: CreatePlacementGroupRequest,
) -> Result<CreatePlacementGroupResult, Fault> {
    let name = request.group_name.clone().ok_or_else(|| faults::missing("groupName"))?;
    if name.is_empty() || name.len() > 255 || !name.is_ascii() {
        return Err(faults::invalid_value("groupName", name));
    }
    let strategy = strategy(&request)?;
    if state.placement_groups.iter().any(|it| it.name == name) {
        return Err(Fault::new(
            "InvalidPlacementGroup.Duplicate",
            format!("The placement group '{name}' already exists."),
        ));
    }
    let group = PlacementGroup {
        id: entropy::aws_id("pg"),
        name,
        strategy,
        tags: tagging::of_specifications(call, &request.tag_specifications, TYPE, &[TYPE])?,
    };
    let answer = answer(call, &group);
    state.placement_groups.insert(group);
    Ok(CreatePlacementGroupResult { placement_group: Some(answer) })
}

fn strategy(request: &CreatePlacementGroupRequest) -> Result<Strategy, Fault> {
    let name = request.strategy.as_deref().unwrap_or("cluster");
    if request.partition_count.is_some() && name != "partition" {
        return Err(faults::combination(
            "The parameter PartitionCount can be used with the strategy 'partition' only.",
        ));
    }
    match request.spread_level.as_deref() {
        None => {}
        Some(_) if name != "spread" => {
            return Err(faults::combination(
                "The parameter SpreadLevel can be used with the strategy 'spread' only.",
            ));
        }
        Some("rack") => {}
        Some("host") => {
            return Err(faults::unsupported(
                "Placement groups that spread over hosts are not supported in this region.",
            ));
        }
        Some(other) => return Err(faults::invalid_value("spreadLevel", other)),
    }
    match name {
        "cluster" => Ok(Strategy::Cluster),
        "spread" => Ok(Strategy::Spread),
        "partition" => {
            let asked = request.partition_count.unwrap_or(2);
            let count = u32::try_from(asked).ok().filter(|it| (1..=MOST_PARTITIONS).contains(it));
            let count = count.ok_or_else(|| faults::invalid_value("partitionCount", asked))?;
            Ok(Strategy::Partition { count })
        }
        other => Err(faults::invalid_value("strategy", other)),
    }
}

pub(crate) fn delete(
    _call: &Call<'_>,
    state: &mut State,
    request: DeletePlacementGroupRequest,
) -> Result<DeletePlacementGroupResponse, Fault> {
    let group = by_name(state, &request.group_name)?;
    let (id, name) = (group.id.clone(), group.name.clone());
    let mut members = state.instances.iter().filter(|it| is_in(it, &id));
    if members.any(|it| it.state != InstanceState::Terminated) {
        return Err(Fault::new(
            "InvalidPlacementGroup.InUse",
            format!("The placement group '{name}' is in use and may not be deleted."),
        ));
    }
    state.placement_groups.remove(&id)?;
    Ok(DeletePlacementGroupResponse { r#return: Some(true) })
}

/// Policies know groups by their names.
pub(crate) fn delete_targets(
    ec2: &Ec2,
    _: &Caller,
    request: &DeletePlacementGroupRequest,
) -> Vec<Target> {
    match by_name(&ec2.view(), &request.group_name) {
        Ok(group) => vec![of_id(ec2.config(), &ec2.view(), &group.id)],
        Err(_) => vec![Target::resource(ec2.config().arn(TYPE, &request.group_name))],
    }
}

pub(crate) fn describe(
    call: &Call<'_>,
    state: &State,
    request: DescribePlacementGroupsRequest,
) -> Result<DescribePlacementGroupsResult, Fault> {
    let mut found = state.placement_groups.named(&request.group_ids)?;
    for name in &request.group_names {
        by_name(state, name)?;
    }
    found.retain(|it| request.group_names.is_empty() || request.group_names.contains(&it.name));
    let found = query::select(found, &request.filters, |it| &it.tags, attribute)?;
    let placement_groups = found.into_iter().map(|it| answer(call, it)).collect();
    Ok(DescribePlacementGroupsResult { placement_groups })
}

fn attribute(group: &PlacementGroup, name: &str) -> Values {
    match name {
        "group-name" => one(&group.name),
        "state" => one("available"),
        "strategy" => one(group.strategy.name()),
        "spread-level" => maybe(spread_level(group)),
        "group-arn" => Some(Vec::new()),
        _ => None,
    }
}

fn spread_level(group: &PlacementGroup) -> Option<&'static str> {
    (group.strategy == Strategy::Spread).then_some("rack")
}

fn answer(call: &Call<'_>, group: &PlacementGroup) -> placement_group::PlacementGroup {
    let partition_count = match group.strategy {
        Strategy::Partition { count } => Some(count.into()),
        Strategy::Cluster | Strategy::Spread => None,
    };
    placement_group::PlacementGroup {
        group_name: Some(group.name.clone()),
        state: Some("available".to_owned()),
        strategy: Some(group.strategy.name().to_owned()),
        partition_count,
        group_id: Some(group.id.clone()),
        tags: tagging::answer(&group.tags),
        group_arn: Some(call.config.arn(TYPE, &group.name)),
        spread_level: spread_level(group).map(str::to_owned),
    }
}

// === places ===

/// How a type's instances can be placed.
pub(crate) fn strategies(kind: &InstanceType) -> Vec<&'static str> {
    match kind.family().starts_with('t') {
        true => vec!["partition", "spread"],
        false => vec!["cluster", "partition", "spread"],
    }
}

fn by_name<'a>(state: &'a State, name: &str) -> Result<&'a PlacementGroup, Fault> {
    state.placement_groups.iter().find(|it| it.name == name).ok_or_else(|| {
        Fault::new(
            "InvalidPlacementGroup.Unknown",
            format!("The placement group '{name}' is unknown."),
        )
    })
}

fn is_in(instance: &Instance, group: &str) -> bool {
    instance.placed.as_ref().is_some_and(|it| it.group_id == group)
}

/// The group that a launch names, if it names one.
pub(crate) fn group_of<'a>(
    state: &'a State,
    wanted: &Wanted,
) -> Result<Option<&'a PlacementGroup>, Fault> {
    match (&wanted.group_id, &wanted.group_name) {
        (Some(_), Some(_)) => Err(faults::combination(
            "The parameters GroupId and GroupName cannot be used together.",
        )),
        (Some(id), None) => state.placement_groups.find(id).map(Some),
        (None, Some(name)) => by_name(state, name).map(Some),
        (None, None) if wanted.partition.is_some() => {
            Err(faults::combination("PartitionNumber needs the name of a placement group."))
        }
        (None, None) => Ok(None),
    }
}

/// The place of a new instance of this type in a zone, or why there is none.
pub(crate) fn place(
    state: &State,
    wanted: &Wanted,
    kind: &InstanceType,
    zone: &str,
) -> Result<Option<Placed>, Fault> {
    let Some(group) = group_of(state, wanted)? else { return Ok(None) };
    if group.strategy == Strategy::Cluster && !strategies(kind).contains(&"cluster") {
        return Err(faults::combination(format!(
            "Cluster placement groups are not supported by the '{}' instance type. Specify a \
             supported instance type or change the placement group strategy, and try again.",
            kind.name
        )));
    }
    check_room(state, group, kind.name, zone)?;
    Ok(Some(Placed {
        group_id: group.id.clone(),
        group_name: group.name.clone(),
        partition: partition(state, group, wanted.partition, zone)?,
    }))
}

/// Refuses one more that runs than the group has room for in a zone.
pub(crate) fn check_room(
    state: &State,
    group: &PlacementGroup,
    kind: &str,
    zone: &str,
) -> Result<(), Fault> {
    let runs = |it: &&Instance| matches!(it.state, InstanceState::Pending | InstanceState::Running);
    let members = state.instances.iter().filter(|it| is_in(it, &group.id)).filter(runs);
    let zones: Vec<&str> = members.map(|it| it.zone.as_str()).collect();
    let message = match group.strategy {
        Strategy::Spread if zones.iter().filter(|it| **it == zone).count() >= MOST_SPREAD => {
            "You've reached the limit of instances in this spread placement group. A spread \
             placement group can have up to seven instances per Availability Zone."
                .to_owned()
        }
        Strategy::Cluster if zones.iter().any(|it| *it != zone) => format!(
            "We currently do not have sufficient {kind} capacity in the Availability Zone you \
             requested ({zone}): the cluster placement group '{}' is in another one.",
            group.name
        ),
        _ => return Ok(()),
    };
    Err(Fault::new("InsufficientInstanceCapacity", message)
        .with_status(StatusCode::INTERNAL_SERVER_ERROR))
}

/// The one that is asked for, or the one with the fewest instances in the zone.
fn partition(
    state: &State,
    group: &PlacementGroup,
    asked: Option<i64>,
    zone: &str,
) -> Result<Option<u32>, Fault> {
    let Strategy::Partition { count } = group.strategy else {
        return match asked {
            None => Ok(None),
            Some(_) => Err(faults::combination(format!(
                "PartitionNumber cannot be used with the placement group '{}', whose strategy is \
                 '{}'.",
                group.name,
                group.strategy.name()
            ))),
        };
    };
    if let Some(asked) = asked {
        let number = u32::try_from(asked).ok().filter(|it| (1..=count).contains(it));
        return number.map(Some).ok_or_else(|| faults::invalid_value("partitionNumber", asked));
    }
    let members = |number: &u32| {
        let is_there = |it: &&Instance| {
            let placed = it.placed.as_ref();
            it.zone == zone
                && it.state != InstanceState::Terminated
                && placed.is_some_and(|it| it.group_id == group.id && it.partition == Some(*number))
        };
        state.instances.iter().filter(is_there).count()
    };
    Ok((1..=count).min_by_key(members))
}
