//! What claims ask for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    Faults, configuration, fields, fully_qualified, items, label, selectors, text, toleration,
    twins,
};
use crate::status::FieldError;

/// `DeviceRequestsMaxSize`, and the same of constraints.
pub(super) const REQUESTS: usize = 32;
const ALTERNATIVES: usize = 8;
const MODES: &[&str] = &["All", "ExactCount"];
const ONE_KIND: &str = "exactly one of `exactly` or `firstAvailable` is required";

/// The requests of a claim, each with its alternatives.
pub(super) struct Names<'a>(BTreeMap<&'a str, BTreeSet<&'a str>>);

impl<'a> Names<'a> {
    pub(super) fn of(spec: &'a Value) -> Self {
        let alternatives =
            |it: &'a Value| items(it, "firstAvailable").map(|(_, it)| text(it, "name")).collect();
        let requests = items(&spec["devices"], "requests");
        Self(requests.map(|(_, it)| (text(it, "name"), alternatives(it))).collect())
    }

    /// `request`, or `request/alternative`.
    pub(super) fn check(&self, faults: &mut Faults, field: &str, name: &str) {
        const WHY: &str = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
        let parts: Vec<&str> = name.split('/').collect();
        let is_known = match parts[..] {
            [request] => self.0.contains_key(request),
            [request, sub] => self.0.get(request).is_some_and(|it| it.contains(sub)),
            _ => return faults.invalid(field, name, WHY),
        };
        for part in parts {
            label(faults, field, part);
        }
        if !is_known {
            faults.invalid(field, name, WHY);
        }
    }

    pub(super) fn check_all(&self, faults: &mut Faults, field: &str, list: &Value) {
        if !super::is_short(faults, field, list, REQUESTS) {
            return;
        }
        for (index, name) in list.as_array().into_iter().flatten().enumerate() {
            let name = name.as_str().unwrap_or_default();
            self.check(faults, &format!("{field}[{index}]"), name);
        }
        twins(faults, field, list, |it| (it.to_string(), it.clone()));
    }
}

pub(super) fn check(faults: &mut Faults, at: &str, spec: &Value) {
    let (at, devices) = (format!("{at}.devices"), &spec["devices"]);
    let list = format!("{at}.requests");
    if super::is_short(faults, &list, &devices["requests"], REQUESTS) {
        for (index, it) in items(devices, "requests") {
            request(faults, &format!("{list}[{index}]"), it);
        }
        twins(faults, &list, &devices["requests"], super::name_of("name"));
    }
    let names = Names::of(spec);
    let list = format!("{at}.constraints");
    if super::is_short(faults, &list, &devices["constraints"], REQUESTS) {
        for (index, it) in items(devices, "constraints") {
            constraint(faults, &format!("{list}[{index}]"), it, &names);
        }
    }
    let list = format!("{at}.config");
    configuration::all(faults, &list, &devices["config"], Some(&names), false);
}

fn request(faults: &mut Faults, at: &str, request: &Value) {
    name(faults, at, request);
    let alternatives = &request["firstAvailable"];
    let has_alternatives = items(request, "firstAvailable").next().is_some();
    match (request["exactly"].is_object(), has_alternatives) {
        (true, false) => devices(faults, &format!("{at}.exactly"), &request["exactly"]),
        (false, false) => faults.add(FieldError::required(at, ONE_KIND)),
        (true, true) => {
            faults.invalid(at, Value::Null, format!("{ONE_KIND}, but multiple fields are set"));
        }
        (false, true) => {
            let list = format!("{at}.firstAvailable");
            if !super::is_short(faults, &list, alternatives, ALTERNATIVES) {
                return;
            }
            for (index, sub) in items(request, "firstAvailable") {
                let at = format!("{list}[{index}]");
                name(faults, &at, sub);
                devices(faults, &at, sub);
            }
            twins(faults, &list, alternatives, super::name_of("name"));
        }
    }
}

fn name(faults: &mut Faults, at: &str, request: &Value) {
    match text(request, "name") {
        "" => faults.required(format!("{at}.name")),
        name => label(faults, &format!("{at}.name"), name),
    }
}

/// Which devices, and how many.
fn devices(faults: &mut Faults, at: &str, request: &Value) {
    fields::object_name(faults, &format!("{at}.deviceClassName"), &request["deviceClassName"]);
    selectors::check(faults, &format!("{at}.selectors"), &request["selectors"], false);
    let (count, field) = (request["count"].as_i64().unwrap_or(0), format!("{at}.count"));
    match text(request, "allocationMode") {
        "All" if count != 0 => {
            faults.invalid(field, count, "must not be specified when allocationMode is 'All'");
        }
        "ExactCount" if count <= 0 => faults.invalid(field, count, "must be greater than zero"),
        "All" | "ExactCount" => {}
        mode => {
            faults.add(FieldError::not_supported(format!("{at}.allocationMode"), mode, MODES));
        }
    }
    for (index, it) in items(request, "tolerations") {
        toleration(faults, &format!("{at}.tolerations[{index}]"), it);
    }
}

fn constraint(faults: &mut Faults, at: &str, constraint: &Value, names: &Names<'_>) {
    names.check_all(faults, &format!("{at}.requests"), &constraint["requests"]);
    for kind in ["matchAttribute", "distinctAttribute"] {
        if let Some(name) = constraint[kind].as_str() {
            return fully_qualified(faults, &format!("{at}.{kind}"), name);
        }
    }
    let why = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
    faults.add(FieldError::required(at, why));
}
