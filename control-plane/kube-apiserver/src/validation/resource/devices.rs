//! What a device is: its attributes, capacities, counters and taints.

use serde_json::Value;

use super::{Faults, conditions_to_bind, items, label, policies, qualified, taint, text, twins};
use crate::status::FieldError;

const ATTRIBUTES_AND_CAPACITIES: usize = 32;
const VALUE_LENGTH: usize = 64;
const TAINTS: usize = 16;
/// Sets of counters that one device takes from.
const CONSUMED_SETS: usize = 2;
const COUNTERS: usize = 32;
/// A domain, a slash and an identifier; longer keys are shown shortened.
const KEY_LENGTH: usize = 63 + 1 + 32;

pub(super) fn check(faults: &mut Faults, at: &str, device: &Value, before: Option<&Value>) {
    label(faults, &format!("{at}.name"), text(device, "name"));
    let entries = |map: &'static str| device[map].as_object().into_iter().flatten();
    let count = entries("attributes").count() + entries("capacity").count();
    if count > ATTRIBUTES_AND_CAPACITIES {
        let why = format!(
            "the total number of attributes and capacities must not exceed {ATTRIBUTES_AND_CAPACITIES}"
        );
        faults.invalid(at, count, why);
    }
    for (name, value) in entries("attributes") {
        let field = format!("{at}.attributes[{}]", shortened(name, KEY_LENGTH));
        qualified(faults, &field, name);
        attribute(faults, &field, value);
    }
    let is_shared = device["allowMultipleAllocations"] == true;
    for (name, capacity) in entries("capacity") {
        let field = format!("{at}.capacity[{}]", shortened(name, KEY_LENGTH));
        qualified(faults, &field, name);
        let field = format!("{field}.requestPolicy");
        if !capacity["requestPolicy"].is_object() {
            continue;
        } else if is_shared {
            policies::check(faults, &field, capacity);
        } else {
            faults.forbidden(field, "allowMultipleAllocations must be true");
        }
    }
    let list = format!("{at}.taints");
    let is_new = before.is_none_or(|it| it["taints"] != device["taints"]);
    if is_new && super::is_short(faults, &list, &device["taints"], TAINTS) {
        for (index, it) in items(device, "taints") {
            taint(faults, &format!("{list}[{index}]"), it);
        }
    }
    consumed(faults, &format!("{at}.consumesCounters"), device);
    conditions_to_bind(faults, at, device);
}

fn consumed(faults: &mut Faults, list: &str, device: &Value) {
    let sets = &device["consumesCounters"];
    if !super::is_short(faults, list, sets, CONSUMED_SETS) {
        return;
    }
    for (index, set) in items(device, "consumesCounters") {
        counters(faults, &format!("{list}[{index}]"), set, "counterSet");
    }
    twins(faults, list, sets, super::name_of("counterSet"));
}

/// A set of counters, whose name is in that field.
pub(super) fn counters(faults: &mut Faults, at: &str, set: &Value, name: &str) {
    let name_at = format!("{at}.{name}");
    match text(set, name) {
        "" => faults.required(name_at),
        name => label(faults, &name_at, name),
    }
    let field = format!("{at}.counters");
    let all = set["counters"].as_object();
    match all.map_or(0, serde_json::Map::len) {
        0 => faults.required(field),
        count if count > COUNTERS => faults.add(FieldError::too_many(field, count, COUNTERS)),
        _ => {
            for name in all.into_iter().flat_map(serde_json::Map::keys) {
                label(faults, &format!("{field}[{}]", shortened(name, 63)), name);
            }
        }
    }
}

fn attribute(faults: &mut Faults, at: &str, attribute: &Value) {
    let has = |kind: &&&str| !attribute[**kind].is_null();
    if let Some(value) = attribute["string"].as_str() {
        is_short(faults, format!("{at}.string"), value);
    }
    if let Some(value) = attribute["version"].as_str() {
        let field = format!("{at}.version");
        if !is_semantic_version(value) {
            let why = "must be a string compatible with semver.org spec 2.0.0";
            faults.invalid(&*field, value, why);
        }
        is_short(faults, field, value);
    }
    match ["bool", "int", "string", "version"].iter().filter(has).count() {
        1 => {}
        0 => faults.invalid(at, "", "exactly one value must be specified"),
        _ => faults.invalid(at, attribute.clone(), "exactly one value must be specified"),
    }
}

fn is_short(faults: &mut Faults, field: String, value: &str) {
    if value.len() > VALUE_LENGTH {
        faults.add(FieldError::too_long(field, VALUE_LENGTH));
    }
}

fn is_semantic_version(text: &str) -> bool {
    let (rest, build) = text.split_once('+').map_or((text, None), |(it, of)| (it, Some(of)));
    let (numbers, before) = rest.split_once('-').map_or((rest, None), |(it, of)| (it, Some(of)));
    let is_word =
        |it: &str| !it.is_empty() && it.chars().all(|it| it.is_ascii_alphanumeric() || it == '-');
    let is_number = |it: &str| it.chars().all(|it| it.is_ascii_digit());
    let is_plain =
        |it: &str| !it.is_empty() && is_number(it) && (it == "0" || !it.starts_with('0'));
    let is_step = |it: &str| is_word(it) && (!is_number(it) || is_plain(it));
    numbers.split('.').count() == 3
        && numbers.split('.').all(is_plain)
        && before.is_none_or(|it| it.split('.').all(is_step))
        && build.is_none_or(|it| it.split('.').all(is_word))
}

/// A key as it is shown.
fn shortened(key: &str, most: usize) -> String {
    if key.len() <= most || !key.is_ascii() {
        return key.to_owned();
    }
    let rest = most - 3;
    format!("{}...{}", &key[..rest.div_ceil(2)], &key[key.len() - rest / 2..])
}
