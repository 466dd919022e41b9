//! ServiceCIDRs and IPAddresses.
//!
//! Upstream: pkg/apis/networking/validation.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::{Faults, fields, items, text};
use crate::status::FieldError;

/// An IPAddress is called what it is.
pub(super) fn address_name(name: &str) -> Vec<String> {
    match name.parse::<IpAddr>() {
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()],
        Ok(address) if address.to_string() != name => {
            vec!["must be a canonical format IP address".into()]
        }
        Ok(_) => Vec::new(),
    }
}

pub(super) fn address(faults: &mut Faults, object: &Value) {
    const AT: &str = "spec.parentRef";
    let parent = &object["spec"]["parentRef"];
    if !parent.is_object() {
        faults.required(AT);
        return;
    }
    let group = text(parent, "group");
    if !group.is_empty() {
        faults.each(&format!("{AT}.group"), group, fields::subdomain(group));
    }
    for field in ["resource", "name"] {
        let value = text(parent, field);
        let at = format!("{AT}.{field}");
        if value.is_empty() {
            faults.required(at);
        } else {
            faults.each(&at, value, fields::path_segment(value));
        }
    }
    let namespace = text(parent, "namespace");
    faults.each(&format!("{AT}.namespace"), namespace, fields::path_segment(namespace));
}

pub(super) fn range(faults: &mut Faults, object: &Value) {
    const AT: &str = "spec.cidrs";
    let spec = &object["spec"];
    let all: Vec<(usize, &str)> =
        items(spec, "cidrs").map(|(index, it)| (index, it.as_str().unwrap_or_default())).collect();
    match all.len() {
        0 => faults.add(FieldError::required(AT, "at least one CIDR required")),
        1 | 2 => {}
        _ => faults.invalid(AT, spec["cidrs"].clone(), "may only hold up to 2 values"),
    }
    let mut families = Vec::new();
    for (index, cidr) in &all {
        let field = format!("{AT}[{index}]");
        match cidr.parse::<IpNet>() {
            Err(_) => {
                let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
                faults.invalid(field, *cidr, why);
            }
            Ok(range) if range.trunc() != range => {
                let why = "must not have bits set beyond the prefix length";
                faults.invalid(field, *cidr, why);
            }
            Ok(range) if range.to_string() != *cidr => {
                let why = format!("must be in canonical form (\"{range}\")");
                faults.invalid(field, *cidr, why);
            }
            Ok(range) => families.push(range.addr().is_ipv4()),
        }
    }
    if families.len() == 2 && families[0] == families[1] {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and \
                   2001:db8::/64";
        faults.invalid(AT, spec["cidrs"].clone(), why);
    }
}

/// A range of the other family may be added; nothing else changes.
pub(super) fn range_update(faults: &mut Faults, old: &Value, new: &Value) {
    let list = |it: &Value| it["spec"]["cidrs"].as_array().cloned().unwrap_or_default();
    let (before, after) = (list(old), list(new));
    if !after.starts_with(&before) {
        faults.immutable("spec.cidrs", &old["spec"]["cidrs"], &new["spec"]["cidrs"]);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults_of(check: fn(&mut Faults, &Value), object: Value) -> Vec<String> {
        let mut faults = Faults::default();
        check(&mut faults, &object);
        faults.found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_address_is_named_in_its_one_canonical_form() {
        for good in ["255.255.255.255", "fe80::42:1dff:fe84:f9e2"] {
            assert!(address_name(good).is_empty(), "{good}");
        }
        assert_eq!(address_name("FE80::1"), ["must be a canonical format IP address"]);
        assert_eq!(address_name("a.b").len(), 1);
    }

    #[test]
    fn an_address_belongs_to_something() {
        assert_eq!(faults_of(address, json!({"spec": {}})), ["spec.parentRef: Required value"]);
        let nameless = json!({"spec": {"parentRef": {"resource": "services"}}});
        assert_eq!(faults_of(address, nameless), ["spec.parentRef.name: Required value"]);
    }

    #[test]
    fn a_range_is_one_of_each_family_without_stray_bits() {
        let of = |cidrs: Value| faults_of(range, json!({"spec": {"cidrs": cidrs}}));
        assert!(of(json!(["203.0.113.0/24", "2001:db8::/64"])).is_empty());
        assert_eq!(of(json!([])), ["spec.cidrs: Required value: at least one CIDR required"]);
        assert!(of(json!(["203.0.113.1/24"]))[0].contains("must not have bits set beyond"));
        assert!(of(json!(["10.0.0.0/8", "11.0.0.0/8"]))[0].contains("for each IP family"));
        let (old, new) = (
            json!({"spec": {"cidrs": ["10.0.0.0/8"]}}),
            json!({"spec": {"cidrs": [
            "11.0.0.0/8"]}}),
        );
        let mut faults = Faults::default();
        range_update(&mut faults, &old, &new);
        assert!(faults.found[0].to_string().contains("field is immutable"));
    }
}
