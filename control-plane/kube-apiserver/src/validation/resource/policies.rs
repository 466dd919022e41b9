//! How much of a shared device's capacity may be asked for.

use resources::Quantity;
use serde_json::Value;

use super::{Faults, fields, items};
use crate::status::FieldError;

const OPTIONS: usize = 10;

/// The policy of a capacity.
pub(super) fn check(faults: &mut Faults, at: &str, capacity: &Value) {
    let policy = &capacity["requestPolicy"];
    let Some(most) = fields::quantity(&capacity["value"]) else { return };
    let has_values = items(policy, "validValues").next().is_some();
    let has_range = policy["validRange"].is_object();
    let kind = match (has_values, has_range) {
        (true, true) => {
            let why = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
            return faults.forbidden(at, why);
        }
        (false, false) => return,
        (true, false) => "validValues",
        (false, true) => "validRange",
    };
    let Some(default) = fields::quantity(&policy["default"]) else {
        let why = format!("required when {kind} is defined");
        return faults.add(FieldError::required(format!("{at}.default"), why));
    };
    let field = format!("{at}.{kind}");
    if has_values {
        values(faults, &field, &policy["validValues"], default, most);
    } else {
        range(faults, &field, &policy["validRange"], default, most);
    }
}

fn values(faults: &mut Faults, field: &str, list: &Value, default: Quantity, most: Quantity) {
    let all: Vec<Quantity> =
        list.as_array().into_iter().flatten().filter_map(fields::quantity).collect();
    for (index, pair) in all.windows(2).enumerate() {
        if pair[0] > pair[1] {
            let why = "values must be sorted in ascending order";
            faults.invalid(format!("{field}[{}]", index + 1), pair[1].to_string(), why);
        }
    }
    if super::is_short(faults, field, list, OPTIONS) {
        for (index, it) in all.iter().enumerate().filter(|(_, it)| **it > most) {
            let why = format!("option is larger than capacity value: {most}");
            faults.invalid(format!("{field}[{index}]"), it.to_string(), why);
        }
        super::twins(faults, field, list, |it| {
            let value = fields::quantity(it).map_or(0, |it| it.value());
            (value, value.to_string().into())
        });
    }
    if !all.contains(&default) {
        let why = "default value is not valid according to the requestPolicy";
        faults.invalid(field, default.to_string(), why);
    }
}

fn range(faults: &mut Faults, field: &str, range: &Value, default: Quantity, most: Quantity) {
    let at = |name: &str| format!("{field}.{name}");
    let Some(least) = fields::quantity(&range["min"]) else {
        let why = "required when validRange is defined";
        return faults.add(FieldError::required(at("min"), why));
    };
    if least > most {
        let why = format!("min is larger than capacity value: {most}");
        faults.invalid(at("min"), least.to_string(), why);
    }
    if default < least {
        faults.invalid(
            at("min"),
            default.to_string(),
            format!("default is less than min: {least}"),
        );
    }
    let highest = fields::quantity(&range["max"]);
    if let Some(max) = highest {
        if least > max {
            faults.invalid(at("max"), least.to_string(), format!("min is larger than max: {max}"));
        }
        if max > most {
            let why = format!("max is larger than capacity value: {most}");
            faults.invalid(at("max"), max.to_string(), why);
        }
        if default > max {
            faults.invalid(
                at("max"),
                default.to_string(),
                format!("default is more than max: {max}"),
            );
        }
    }
    let Some(step) = fields::quantity(&range["step"]) else { return };
    let first = least.plus(step);
    if first > most {
        let why = format!("one step {first} is larger than capacity value: {most}");
        faults.invalid(at("step"), step.to_string(), why);
    }
    for value in [Some(default), highest].into_iter().flatten() {
        let distance = value.value() - least.value();
        if distance.checked_rem(step.value()) != Some(0) {
            let why = format!("value is not a multiple of a given step ({step}) from ({least})");
            faults.invalid(at("step"), value.to_string(), why);
        }
    }
}
