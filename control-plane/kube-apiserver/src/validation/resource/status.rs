//! What a claim was given, and to whom.

use serde_json::{Value, json};

use super::{
    Faults,
    claims::{Names, REQUESTS},
    conditions_to_bind, configuration, items, label, node_selector, pool, text, twins, volumes,
};
use crate::status::FieldError;

/// `ResourceClaimReservedForMaxSize`
const CONSUMERS: usize = 256;
/// `AllocationResultsMaxSize`
const RESULTS: usize = REQUESTS;
const CONDITIONS: usize = 8;
const DATA_LENGTH: usize = 10 * 1024;
const ADDRESSES: usize = 16;
const INTERFACE_LENGTH: usize = 256;
const HARDWARE_LENGTH: usize = 128;

/// What is given stays given: only the whole of it goes.
pub(in crate::validation) fn claim_status(faults: &mut Faults, old: &Value, new: &Value) {
    let is_going = !new["metadata"]["deletionTimestamp"].is_null();
    let names = Names::of(&new["spec"]);
    let (old, new) = (&old["status"], &new["status"]);
    consumers(faults, old, new, is_going);
    let given = &new["allocation"];
    for (index, device) in items(new, "devices") {
        device_status(faults, &format!("status.devices[{index}]"), device, given);
    }
    twins(faults, "status.devices", &new["devices"], |it| {
        let id = device_id(it);
        (id.to_string(), id)
    });
    if !old["allocation"].is_null() && !given.is_null() {
        faults.immutable("status.allocation", &old["allocation"], given);
    } else if given.is_object() {
        allocation(faults, "status.allocation", given, &names);
    }
}

fn consumers(faults: &mut Faults, old: &Value, new: &Value, is_going: bool) {
    let list = |status: &Value| -> Vec<Value> {
        items(status, "reservedFor").map(|(_, it)| it.clone()).collect()
    };
    let field = "status.reservedFor";
    if super::is_short(faults, field, &new["reservedFor"], CONSUMERS) {
        for (index, consumer) in items(new, "reservedFor") {
            for part in ["resource", "name", "uid"] {
                faults.text(format!("{field}[{index}].{part}"), &consumer[part]);
            }
        }
        twins(faults, field, &new["reservedFor"], super::name_of("uid"));
    }
    let (before, now) = (list(old), list(new));
    if !now.is_empty() && new["allocation"].is_null() {
        faults.forbidden(field, "may not be specified when `allocated` is not set");
    } else if is_going && now.iter().any(|it| !before.contains(it)) {
        let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        faults.forbidden(field, why);
    }
}

fn allocation(faults: &mut Faults, at: &str, allocation: &Value, names: &Names<'_>) {
    let (list, devices) = (format!("{at}.devices.results"), &allocation["devices"]);
    if super::is_short(faults, &list, &devices["results"], RESULTS) {
        for (index, result) in items(devices, "results") {
            let at = format!("{list}[{index}]");
            names.check(faults, &format!("{at}.request"), text(result, "request"));
            identity(faults, &at, result);
            conditions_to_bind(faults, &at, result);
        }
    }
    let list = format!("{at}.devices.config");
    let most = 2 * configuration::CONFIGURATIONS;
    if super::is_short(faults, &list, &devices["config"], most) {
        for (index, it) in items(devices, "config") {
            let at = format!("{list}[{index}]");
            faults.one_of(&format!("{at}.source"), &it["source"], &["FromClaim", "FromClass"]);
            names.check_all(faults, &format!("{at}.requests"), &it["requests"]);
            configuration::opaque(faults, &format!("{at}.opaque"), &it["opaque"], false);
        }
    }
    if allocation["nodeSelector"].is_object() {
        node_selector::check(faults, &format!("{at}.nodeSelector"), &allocation["nodeSelector"]);
    }
}

/// Which device it is.
fn identity(faults: &mut Faults, at: &str, it: &Value) {
    volumes::driver(faults, &format!("{at}.driver"), text(it, "driver"));
    pool(faults, &format!("{at}.pool"), text(it, "pool"));
    label(faults, &format!("{at}.device"), text(it, "device"));
    if let Some(share) = it["shareID"].as_str() {
        uid(faults, format!("{at}.shareID"), share);
    }
}

fn uid(faults: &mut Faults, field: String, uid: &str) {
    let is_part = |(index, it): (usize, u8)| match index {
        8 | 13 | 18 | 23 => it == b'-',
        _ => matches!(it, b'0'..=b'9' | b'a'..=b'f'),
    };
    if uid.len() != 36 {
        let why = format!("error validating uid: invalid UUID length: {}", uid.len());
        faults.invalid(field, uid, why);
    } else if !uid.bytes().enumerate().all(is_part) {
        let why = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters";
        faults.invalid(field, uid, why);
    }
}

fn device_id(it: &Value) -> Value {
    json!([it["driver"], it["pool"], it["device"], it["shareID"]])
}

fn device_status(faults: &mut Faults, at: &str, device: &Value, given: &Value) {
    identity(faults, at, device);
    let id = device_id(device);
    if !items(&given["devices"], "results").any(|(_, it)| device_id(it) == id) {
        let parts = ["driver", "pool", "device", "shareID"].map(|it| text(device, it));
        let shown = parts.into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join("/");
        faults.invalid(at, shown, "must be an allocated device in the claim");
    }
    super::is_short(faults, &format!("{at}.conditions"), &device["conditions"], CONDITIONS);
    if !device["data"].is_null() {
        configuration::object(faults, &format!("{at}.data"), &device["data"], DATA_LENGTH);
    }
    let (at, network) = (format!("{at}.networkData"), &device["networkData"]);
    for (field, most) in [("interfaceName", INTERFACE_LENGTH), ("hardwareAddress", HARDWARE_LENGTH)]
    {
        if text(network, field).len() > most {
            faults.add(FieldError::too_long(format!("{at}.{field}"), most));
        }
    }
    let list = format!("{at}.ips");
    if super::is_short(faults, &list, &network["ips"], ADDRESSES) {
        for (index, address) in items(network, "ips") {
            interface_address(faults, format!("{list}[{index}]"), address);
        }
        twins(faults, &list, &network["ips"], |it| (it.to_string(), it.clone()));
    }
}

/// An address with the length of its network's prefix.
fn interface_address(faults: &mut Faults, field: String, address: &Value) {
    let address = address.as_str().unwrap_or_default();
    let Ok(parsed) = address.parse::<ipnet::IpNet>() else {
        let why = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
        return faults.invalid(field, address, why);
    };
    let canonical = parsed.to_string();
    if canonical != address {
        faults.invalid(field, address, format!("must be in canonical form (\"{canonical}\")"));
    }
}
