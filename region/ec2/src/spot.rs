//! Spot Instances: their prices, and their interruption.
//!
//! Who is to be interrupted is recommended a rebalance at once; two minutes before the end comes the
//! warning, on the bus and in the instance's metadata, and then EC2 terminates the instance. It
//! begins when somebody asks for it ([`crate::Ec2::interrupt`]), or when the market has no room
//! left where the instance runs.
//!
//! Source: EC2 user guide, "Spot Instance interruption notices" and "EC2 instance rebalance
//! recommendations"; FIS user guide, `aws:ec2:send-spot-instance-interruptions`. Deviation: an
//! interrupted instance is terminated, never stopped or hibernated. There is no FIS to ask.

use aws_ec2::spot::{DescribeSpotPriceHistoryRequest, DescribeSpotPriceHistoryResult, SpotPrice};
use aws_wire::Fault;
use instance_types::{Arch, InstanceType};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::{
    Call,
    events::Event,
    faults,
    market::Period,
    names,
    query::{self, Values, one},
    records::{Instance, InstanceState, Interruption, StateReason},
    state::State,
};

/// The warning comes so long before the end.
const WARNING: SignedDuration = SignedDuration::from_mins(2);
const LONGEST: SignedDuration = SignedDuration::from_mins(15);
/// Prices are known for so long.
const HISTORY: SignedDuration = SignedDuration::from_hours(90 * 24);
/// EC2 gives no more at once.
const MOST_AT_ONCE: i64 = 1000;
const PRODUCT: &str = "Linux/UNIX";

// === prices ===

pub(crate) fn describe_prices(
    call: &Call<'_>,
    _: &State,
    request: DescribeSpotPriceHistoryRequest,
) -> Result<DescribeSpotPriceHistoryResult, Fault> {
    let since = moment(request.start_time.as_deref(), "StartTime")?;
    let since = since.unwrap_or(call.now - HISTORY).max(call.now - HISTORY);
    let until = moment(request.end_time.as_deref(), "EndTime")?.unwrap_or(call.now).min(call.now);
    let most = request.max_results.unwrap_or(MOST_AT_ONCE).min(MOST_AT_ONCE);
    let most = usize::try_from(most).ok().filter(|it| *it > 0);
    let most =
        most.ok_or_else(|| faults::invalid_value("MaxResults", request.max_results.unwrap_or(0)))?;
    let token = request.next_token.as_deref().filter(|it| !it.is_empty());
    let begin: usize = token.map_or(Ok(0), str::parse).map_err(|_| {
        let token = token.unwrap_or_default();
        Fault::new("InvalidNextToken", format!("The token '{token}' is invalid"))
    })?;
    let products = &request.product_descriptions;
    let is_ours = |it: &String| it == PRODUCT || it == "Linux/UNIX (Amazon VPC)";
    if !products.is_empty() && !products.iter().any(is_ours) {
        return Ok(DescribeSpotPriceHistoryResult::default());
    }
    let pools = pools(call, &request)?;
    let price = |period: Period, facts: &InstanceType, zone: &str| {
        let price = call.config.market().price_in(facts, zone, period).unwrap_or_default();
        SpotPrice {
            availability_zone: Some(zone.to_owned()),
            instance_type: Some(facts.name.to_owned()),
            product_description: Some(PRODUCT.to_owned()),
            spot_price: Some(format!("{price:.6}")),
            timestamp: Some(names::date(period.begin())),
        }
    };
    // The newest first; the price that held at the beginning is the last, whenever it came.
    let periods = std::iter::successors(Some(Period::of_prices(until)), |it| Some(it.before()));
    let mut is_over = false;
    let periods = periods.take_while(|it| !std::mem::replace(&mut is_over, it.begin() <= since));
    let mut all = periods.flat_map(|period| pools.iter().map(move |pool| (period, pool)));
    let page = all.by_ref().skip(begin).take(most);
    let spot_price_history: Vec<SpotPrice> =
        page.map(|(period, (facts, zone))| price(period, facts, zone)).collect();
    let has_more = all.next().is_some();
    let next_token = has_more.then(|| (begin + spot_price_history.len()).to_string());
    Ok(DescribeSpotPriceHistoryResult { spot_price_history, next_token })
}

fn moment(text: Option<&str>, name: &str) -> Result<Option<Timestamp>, Fault> {
    let read = text.map(|it| it.parse().map_err(|_| faults::invalid_value(name, it)));
    read.transpose()
}

/// What is asked about: types in zones.
fn pools<'a>(
    call: &'a Call<'_>,
    request: &DescribeSpotPriceHistoryRequest,
) -> Result<Vec<(&'static InstanceType, &'a str)>, Fault> {
    let (types, zone) = (&request.instance_types, request.availability_zone.as_deref());
    let zones = &call.config.zones;
    if let Some(unknown) = zone.filter(|it| !zones.iter().any(|(name, _)| name == it)) {
        return Err(faults::invalid_value("availabilityZone", unknown));
    }
    let sold = instance_types::all().filter(|it| it.arch == Arch::X86_64 && it.price.is_some());
    let mut found = Vec::new();
    for facts in sold.filter(|it| types.is_empty() || types.iter().any(|name| name == it.name)) {
        for (name, _) in zones.iter().filter(|(name, _)| zone.is_none_or(|it| it == name)) {
            let of = |attribute: &str| -> Values {
                match attribute {
                    "availability-zone" => one(name),
                    "instance-type" => one(facts.name),
                    "product-description" => one(PRODUCT),
                    _ => None,
                }
            };
            if query::passes(&request.filters, query::no_tags(), of)? {
                found.push((facts, name.as_str()));
            }
        }
    }
    Ok(found)
}

// === interruptions ===

/// Begins the interruption of each, or of none; when each ends.
pub(crate) fn interrupt(
    call: &Call<'_>,
    state: &mut State,
    ids: &[String],
    wait: SignedDuration,
) -> Result<Vec<(String, Timestamp)>, Fault> {
    if !(WARNING..=LONGEST).contains(&wait) {
        return Err(faults::invalid_value("durationBeforeInterruption", wait));
    }
    let mut ends = Vec::new();
    for id in ids {
        let instance = state.instances.find(id)?;
        if !instance.is_spot {
            return Err(faults::invalid(format!("The instance '{id}' is not a Spot Instance.")));
        }
        if instance.state != InstanceState::Running {
            return Err(faults::incorrect_state(format!(
                "The instance '{id}' is not in a state from which it can be interrupted."
            )));
        }
        ends.push((id.clone(), begin(call, state, id, wait)?));
    }
    settle(call, state)?;
    Ok(ends)
}

/// Recommends a rebalance now; the end comes after `wait`, or when it was to come already.
fn begin(
    call: &Call<'_>,
    state: &mut State,
    id: &str,
    wait: SignedDuration,
) -> Result<Timestamp, Fault> {
    let instance = state.instances.edit(id)?;
    if let Some(known) = &instance.interruption {
        return Ok(known.at);
    }
    let at = call.now + wait;
    instance.interruption = Some(Interruption { recommended_at: call.now, at, is_warned: false });
    let kind = "EC2 Instance Rebalance Recommendation";
    state.tell(Event::of_instance(call.config, id, kind, json!({})));
    Ok(at)
}

/// Takes interruptions as far as they have come, and says when the next thing is due.
pub(crate) fn settle(call: &Call<'_>, state: &mut State) -> Result<Option<Timestamp>, Fault> {
    let market = call.config.market();
    let runs = |it: &&Instance| it.is_spot && it.state == InstanceState::Running;
    let dry: Vec<String> = state
        .instances
        .iter()
        .filter(runs)
        .filter(|it| it.interruption.is_none())
        .filter(|it| !market.has_capacity(&it.instance_type, &it.zone, call.now))
        .map(|it| it.id.clone())
        .collect();
    for id in dry {
        begin(call, state, &id, WARNING)?;
    }
    let on_the_way: Vec<(String, Interruption)> = state
        .instances
        .iter()
        .filter(runs)
        .filter_map(|it| Some((it.id.clone(), it.interruption.clone()?)))
        .collect();
    let mut due = Vec::new();
    for (id, interruption) in on_the_way {
        due.extend(advance(call, state, &id, &interruption)?);
    }
    if state.instances.iter().any(|it| runs(&it)) {
        due.extend(market.next_change(call.now));
    }
    Ok(due.into_iter().min())
}

/// One interruption; when it goes on.
fn advance(
    call: &Call<'_>,
    state: &mut State,
    id: &str,
    interruption: &Interruption,
) -> Result<Option<Timestamp>, Fault> {
    let warning = interruption.at - WARNING;
    if call.now < warning {
        return Ok(Some(warning));
    }
    if !interruption.is_warned {
        if let Some(it) = &mut state.instances.edit(id)?.interruption {
            it.is_warned = true;
        }
        let kind = "EC2 Spot Instance Interruption Warning";
        let detail = json!({ "instance-action": "terminate" });
        state.tell(Event::of_instance(call.config, id, kind, detail));
    }
    if call.now < interruption.at {
        return Ok(Some(interruption.at));
    }
    let instance = state.instances.edit(id)?;
    let reason = "Server.SpotInstanceTermination";
    instance.state = InstanceState::ShuttingDown;
    instance.transition_reason = reason.to_owned();
    instance.state_reason = Some(StateReason {
        code: reason.to_owned(),
        message: format!("{reason}: Spot instance termination"),
    });
    Ok(None)
}
