//! `CreateFleet` of type `instant`: for each instance that is wanted, the first of the overrides that
//! can be had, in the order of the allocation strategy.
//!
//! What an override lacks is an error of the answer, with the override in it; the call itself fails
//! only where it is wrong. An override that has failed is not tried again. `lowest-price` goes by
//! the price of the day, `prioritized` by the overrides' priorities; the strategies that look at
//! Spot capacity go by the price too: a pool of the market here has room or has none.
//!
//! Deviation: fleets of type `request` and `maintain`, weighted capacity, Capacity Blocks,
//! least capacities, highest prices, single types or zones, and a mix of On-Demand and Spot in one call
//! are refused. The answer's overrides have the zone of their subnet. The caller needs the right to
//! `CreateFleet` on all that may be launched, and none to `RunInstances` besides.

use aws_ec2::{
    common::TagSpecification,
    fleet::{
        CreateFleetError, CreateFleetInstance, CreateFleetRequest, CreateFleetResult,
        FleetLaunchTemplateConfigRequest, FleetLaunchTemplateOverrides,
        FleetLaunchTemplateOverridesRequest, FleetLaunchTemplateSpecification,
        LaunchTemplateAndOverrides, PlacementResponse, TargetCapacitySpecificationRequest,
    },
    run_instances::{InstanceMarketOptionsRequest, RunInstancesRequest},
};
use aws_wire::Fault;
use region_gateway::{Caller, Target};

use super::{rights, run};
use crate::{
    Call, Ec2, capacity_reservations, client_tokens, faults, launch_templates, state::State,
    targets::of_creation,
};

/// EC2's limit of overrides in one call.
const MOST_OVERRIDES: usize = 300;
/// EC2's limit of instances of one instant fleet.
const MOST_INSTANCES: i64 = 1000;

/// A template with one of its overrides.
#[derive(Clone, Debug)]
struct Offer {
    config: FleetLaunchTemplateConfigRequest,
    with: FleetLaunchTemplateOverridesRequest,
}

/// What is asked of IAM: the fleet itself, and what `RunInstances` of each override would name, since
/// any of them may be the one that is launched.
pub(crate) fn targets(ec2: &Ec2, caller: &Caller, request: &CreateFleetRequest) -> Vec<Target> {
    let is_spot = lifecycle(request) == "spot";
    let tags = request.tag_specifications.iter();
    let of_fleet: Vec<TagSpecification> =
        tags.filter(|it| it.resource_type.as_deref() == Some("fleet")).cloned().collect();
    let mut targets = of_creation(ec2, "CreateFleet", "fleet", &of_fleet);
    // A call with more of them is refused, whoever asks.
    for offer in offers(request).iter().take(MOST_OVERRIDES) {
        let launch = offer.request(request, is_spot);
        for target in rights::targets_in(ec2, caller, &launch, &offer.place()) {
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
    }
    targets
}

pub(crate) fn create(
    call: &Call<'_>,
    state: &mut State,
    request: CreateFleetRequest,
) -> Result<CreateFleetResult, Fault> {
    let token = request.client_token.clone();
    let token = token.as_deref();
    // An instant fleet is no more than its answer.
    let internal = |it: serde_json::Error| Fault::internal(it.to_string());
    let made = client_tokens::once(call, state, "CreateFleet", token, request, |state, it| {
        serde_json::to_string(&launch_all(call, state, &it)?).map_err(internal)
    });
    serde_json::from_str(&made?).map_err(internal)
}

fn launch_all(
    call: &Call<'_>,
    state: &mut State,
    request: &CreateFleetRequest,
) -> Result<CreateFleetResult, Fault> {
    let count = check(request)?;
    let is_spot = lifecycle(request) == "spot";
    let mut offers = offers(request);
    if offers.is_empty() || offers.len() > MOST_OVERRIDES {
        return Err(faults::invalid_value("LaunchTemplateConfigs", offers.len()));
    }
    for offer in &offers {
        offer.template(state)?;
    }
    let order = strategy(request, is_spot)?;
    let is_reserved_first = uses_reservations_first(request)? && !is_spot;
    let fleet_id = format!("fleet-{}", entropy::uuid());
    let mut result = CreateFleetResult { fleet_id: Some(fleet_id), ..CreateFleetResult::default() };
    sort(&mut offers, order, |it| it.price(call, state, is_spot));
    for _ in 0..count {
        if is_reserved_first {
            // Who had room before may have none now. The order among those with room of a
            // reservation, and among the others, stays.
            sort(&mut offers, order, |it| it.price(call, state, is_spot));
            offers.sort_by_cached_key(|it| it.reservation(call, state).is_none());
        }
        launch_one(call, state, request, is_spot, &mut offers, &mut result);
    }
    Ok(result)
}

/// How many instances are wanted; what cannot be had here is refused.
fn check(request: &CreateFleetRequest) -> Result<i64, Fault> {
    if request.r#type.as_deref() != Some("instant") {
        return Err(faults::unsupported(
            "Only fleets of type instant are supported in this region.",
        ));
    }
    let Some(target) = &request.target_capacity_specification else {
        return Err(faults::missing("TargetCapacitySpecification"));
    };
    let total = target.total_target_capacity;
    if !(1..=MOST_INSTANCES).contains(&total) {
        return Err(faults::invalid_value("TotalTargetCapacity", total));
    }
    match target.default_target_capacity_type.as_deref() {
        None | Some("spot" | "on-demand") => {}
        Some("capacity-block" | "reserved-capacity") => {
            return Err(faults::unsupported(
                "Capacity Blocks and interruptible Capacity Reservations are not supported in this \
                 region.",
            ));
        }
        Some(other) => return Err(faults::invalid_value("DefaultTargetCapacityType", other)),
    }
    let (on_demand, spot) = split(target);
    if on_demand < 0 || spot < 0 {
        return Err(faults::invalid_value("OnDemandTargetCapacity", on_demand));
    }
    if on_demand > 0 && spot > 0 {
        return Err(faults::unsupported(
            "On-Demand and Spot Instances in one fleet are not supported in this region.",
        ));
    }
    let units = target.target_capacity_unit_type.as_deref();
    if units.is_some_and(|it| it != "units") {
        return Err(faults::unsupported("Only units are supported as capacity in this region."));
    }
    if has_bounds(request) {
        return Err(faults::unsupported(
            "MinTargetCapacity, SingleInstanceType, SingleAvailabilityZone, MaxTotalPrice and \
             MaxPrice are not supported in this region.",
        ));
    }
    let mut overrides = request.launch_template_configs.iter().flat_map(|it| &it.overrides);
    if overrides.any(|it| it.weighted_capacity.is_some_and(|it| (it - 1.0).abs() > f64::EPSILON)) {
        return Err(faults::unsupported("Weighted capacity is not supported in this region."));
    }
    Ok(total)
}

/// Whether less, or dearer, than is wanted is to be no answer.
fn has_bounds(request: &CreateFleetRequest) -> bool {
    let spot = request.spot_options.as_ref().is_some_and(|it| {
        it.min_target_capacity.is_some()
            || it.max_total_price.is_some()
            || it.single_instance_type == Some(true)
            || it.single_availability_zone == Some(true)
    });
    let on_demand = request.on_demand_options.as_ref().is_some_and(|it| {
        it.min_target_capacity.is_some()
            || it.max_total_price.is_some()
            || it.single_instance_type == Some(true)
            || it.single_availability_zone == Some(true)
    });
    let mut overrides = request.launch_template_configs.iter().flat_map(|it| &it.overrides);
    spot || on_demand || overrides.any(|it| it.max_price.is_some())
}

/// How many of each.
fn split(target: &TargetCapacitySpecificationRequest) -> (i64, i64) {
    let total = target.total_target_capacity;
    match (target.on_demand_target_capacity, target.spot_target_capacity) {
        (Some(on_demand), Some(spot)) => (on_demand, spot),
        (Some(on_demand), None) => (on_demand, total.saturating_sub(on_demand)),
        (None, Some(spot)) => (total.saturating_sub(spot), spot),
        (None, None) if target.default_target_capacity_type.as_deref() == Some("spot") => {
            (0, total)
        }
        (None, None) => (total, 0),
    }
}

fn lifecycle(request: &CreateFleetRequest) -> &'static str {
    match &request.target_capacity_specification {
        Some(target) if split(target).1 > 0 => "spot",
        _ => "on-demand",
    }
}

/// In which order overrides are tried.
#[derive(Clone, Copy)]
enum Order {
    Price,
    Priority,
}

fn strategy(request: &CreateFleetRequest, is_spot: bool) -> Result<Order, Fault> {
    let named = match is_spot {
        true => request.spot_options.as_ref().and_then(|it| it.allocation_strategy.as_deref()),
        false => {
            request.on_demand_options.as_ref().and_then(|it| it.allocation_strategy.as_deref())
        }
    };
    match (is_spot, named) {
        (_, None | Some("lowest-price" | "lowestPrice"))
        | (true, Some("price-capacity-optimized" | "capacity-optimized" | "diversified")) => {
            Ok(Order::Price)
        }
        (true, Some("capacity-optimized-prioritized")) | (false, Some("prioritized")) => {
            Ok(Order::Priority)
        }
        (_, Some(other)) => Err(faults::invalid_value("AllocationStrategy", other)),
    }
}

/// Whether what is paid for already is to be used up before.
fn uses_reservations_first(request: &CreateFleetRequest) -> Result<bool, Fault> {
    let options = request.on_demand_options.as_ref();
    let options = options.and_then(|it| it.capacity_reservation_options.as_ref());
    match options.and_then(|it| it.usage_strategy.as_deref()) {
        None => Ok(false),
        Some("use-capacity-reservations-first") => Ok(true),
        Some(other) => Err(faults::invalid_value("UsageStrategy", other)),
    }
}

fn sort(offers: &mut Vec<Offer>, order: Order, price: impl Fn(&Offer) -> f64) {
    let key = |it: &Offer| match order {
        Order::Price => price(it),
        Order::Priority => it.with.priority.unwrap_or(f64::INFINITY),
    };
    let mut keyed: Vec<(f64, Offer)> = offers.drain(..).map(|it| (key(&it), it)).collect();
    keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
    offers.extend(keyed.into_iter().map(|(_, it)| it));
}

fn offers(request: &CreateFleetRequest) -> Vec<Offer> {
    let each = request.launch_template_configs.iter().flat_map(|config| {
        let template = FleetLaunchTemplateConfigRequest {
            launch_template_specification: config.launch_template_specification.clone(),
            overrides: Vec::new(),
        };
        let mut overrides = config.overrides.clone();
        if overrides.is_empty() {
            overrides.push(FleetLaunchTemplateOverridesRequest::default());
        }
        overrides.into_iter().map(move |with| Offer { config: template.clone(), with })
    });
    each.collect()
}

impl Offer {
    fn zone<'a>(&'a self, state: &'a State) -> &'a str {
        let subnet = self.with.subnet_id.as_deref().and_then(|it| state.subnets.get(it));
        let zone = subnet.map(|it| it.zone.as_str()).or(self.with.availability_zone.as_deref());
        zone.unwrap_or_default()
    }

    /// The reservation whose room an instance of it would take.
    fn reservation(&self, call: &Call<'_>, state: &State) -> Option<String> {
        let launch = run::merged_in(call, state, &self.request_bare(), &self.place()).ok()?;
        let facts = launch.instance_type.as_deref().and_then(instance_types::find)?;
        capacity_reservations::choose(state, facts, self.zone(state), &launch.capacity).ok()?
    }

    /// US dollars per hour, as things are.
    fn price(&self, call: &Call<'_>, state: &State, is_spot: bool) -> f64 {
        let kind = self.with.instance_type.as_deref().and_then(instance_types::find);
        let price = kind.and_then(|it| match is_spot {
            true => call.config.market().price(it, self.zone(state), call.now),
            false => it.price,
        });
        price.unwrap_or(f64::INFINITY)
    }

    fn place(&self) -> run::Place {
        run::Place {
            subnet_id: self.with.subnet_id.clone(),
            zone: self.with.availability_zone.clone(),
        }
    }

    /// The launch of one instance of it.
    fn request(&self, fleet: &CreateFleetRequest, is_spot: bool) -> RunInstancesRequest {
        let market = InstanceMarketOptionsRequest {
            market_type: Some("spot".to_owned()),
            ..InstanceMarketOptionsRequest::default()
        };
        let tags = fleet.tag_specifications.iter();
        RunInstancesRequest {
            tag_specifications: tags
                .filter(|it| it.resource_type.as_deref() != Some("fleet"))
                .cloned()
                .collect(),
            instance_market_options: is_spot.then_some(market),
            ..self.request_bare()
        }
    }

    /// Without what all of the fleet have.
    fn request_bare(&self) -> RunInstancesRequest {
        RunInstancesRequest {
            min_count: 1,
            max_count: 1,
            launch_template: self.config.launch_template_specification.clone(),
            image_id: self.with.image_id.clone(),
            instance_type: self.with.instance_type.clone(),
            placement: self.with.placement.clone(),
            ..RunInstancesRequest::default()
        }
    }

    /// The template has to be there, whatever else fails.
    fn template(&self, state: &State) -> Result<FleetLaunchTemplateSpecification, Fault> {
        let Some(named) = &self.config.launch_template_specification else {
            return Err(faults::missing("LaunchTemplateSpecification"));
        };
        let (template, version) = launch_templates::resolve(
            state,
            named.launch_template_id.as_deref(),
            named.launch_template_name.as_deref(),
            named.version.as_deref(),
        )?;
        let number = template.versions.iter().find(|(_, it)| *it == version);
        Ok(FleetLaunchTemplateSpecification {
            launch_template_id: Some(template.id.clone()),
            launch_template_name: None,
            version: number.map(|(number, _)| number.to_string()),
        })
    }

    fn described(&self, state: &State) -> LaunchTemplateAndOverrides {
        let subnet = self.with.subnet_id.as_deref().and_then(|it| state.subnets.get(it));
        let zone = self.with.availability_zone.clone();
        LaunchTemplateAndOverrides {
            launch_template_specification: self.template(state).ok(),
            overrides: Some(FleetLaunchTemplateOverrides {
                instance_type: self.with.instance_type.clone(),
                max_price: self.with.max_price.clone(),
                subnet_id: self.with.subnet_id.clone(),
                availability_zone: zone.or_else(|| subnet.map(|it| it.zone.clone())),
                weighted_capacity: self.with.weighted_capacity,
                priority: self.with.priority,
                image_id: self.with.image_id.clone(),
                placement: self
                    .with
                    .placement
                    .as_ref()
                    .map(|it| PlacementResponse { group_name: it.group_name.clone() }),
            }),
        }
    }
}

/// One instance of the first offer that can be had; the others are taken off the list.
fn launch_one(
    call: &Call<'_>,
    state: &mut State,
    request: &CreateFleetRequest,
    is_spot: bool,
    offers: &mut Vec<Offer>,
    result: &mut CreateFleetResult,
) {
    while let Some(offer) = offers.first() {
        let described = Some(offer.described(state));
        let lifecycle = Some(lifecycle(request).to_owned());
        let mut attempt = state.clone();
        let launch = offer.request(request, is_spot);
        match run::run_in(call, &mut attempt, &launch, &offer.place()) {
            Ok(id) => {
                *state = attempt;
                let instance_type = offer.with.instance_type.clone();
                let same = result
                    .instances
                    .iter_mut()
                    .find(|it| it.launch_template_and_overrides == described);
                match same {
                    Some(known) => known.instance_ids.push(id),
                    None => result.instances.push(CreateFleetInstance {
                        launch_template_and_overrides: described,
                        lifecycle,
                        instance_ids: vec![id],
                        instance_type,
                    }),
                }
                return;
            }
            Err(fault) => {
                result.errors.push(CreateFleetError {
                    launch_template_and_overrides: described,
                    lifecycle,
                    error_code: Some(fault.code.into_owned()),
                    error_message: Some(fault.message),
                });
                offers.remove(0);
            }
        }
    }
}
