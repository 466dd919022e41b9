//! Formats: names, labels, ports, quantities, selectors.
//!
//! Upstream: k8s.io/apimachinery/pkg/util/validation.

use resources::Quantity;
use serde_json::Value;

use super::{Faults, items, text};
use crate::status::FieldError;

pub(super) const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const NAME_PART: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";
pub(super) const IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

fn too_long(limit: usize) -> String {
    format!("must be no more than {limit} bytes")
}

fn has_form(text: &str, inner: impl Fn(char) -> bool, edge: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.starts_with(&edge) && text.ends_with(&edge) && text.chars().all(inner)
}

fn is_lower(it: char) -> bool {
    it.is_ascii_lowercase() || it.is_ascii_digit()
}

fn is_word(it: char) -> bool {
    it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.')
}

fn is_label_form(text: &str) -> bool {
    has_form(text, |it| is_lower(it) || it == '-', is_lower)
}

pub(super) fn subdomain(name: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if name.len() > 253 {
        faults.push(too_long(253));
    }
    if !name.split('.').all(is_label_form) {
        faults.push(SUBDOMAIN.into());
    }
    faults
}

pub(super) fn label(name: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if name.len() > 63 {
        faults.push(too_long(63));
    }
    if !is_label_form(name) {
        faults.push(LABEL.into());
    }
    faults
}

pub(super) fn label_1035(name: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if name.len() > 63 {
        faults.push(too_long(63));
    }
    if !is_label_form(name) || !name.starts_with(|it: char| it.is_ascii_lowercase()) {
        faults.push(LABEL_1035.into());
    }
    faults
}

/// Where a resolver looks; names of services begin with an underscore.
pub(super) fn subdomain_with_underscore(name: &str) -> Vec<String> {
    const FORM: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?(\\.[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?)*')";
    let mut faults = Vec::new();
    if name.len() > 253 {
        faults.push(too_long(253));
    }
    let is_edge = |it: char| is_lower(it) || it == '_';
    if !name.split('.').all(|it| has_form(it, |it| is_edge(it) || it == '-', is_edge)) {
        faults.push(FORM.into());
    }
    faults
}

/// `*.example.com`
pub(super) fn wildcard_subdomain(name: &str) -> Vec<String> {
    const FORM: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    let mut faults = Vec::new();
    if name.len() > 253 {
        faults.push(too_long(253));
    }
    if !name.strip_prefix("*.").is_some_and(|it| it.split('.').all(is_label_form)) {
        faults.push(FORM.into());
    }
    faults
}

/// The name of an object that is needed.
pub(super) fn object_name(faults: &mut Faults, field: &str, name: &Value) {
    match name.as_str().unwrap_or_default() {
        "" => faults.required(field),
        name => faults.each(field, name, subdomain(name)),
    }
}

/// `example.com/controller`
pub(super) fn domain_prefixed_path(faults: &mut Faults, field: &str, path: &str) {
    if path.is_empty() {
        return faults.required(field);
    }
    let parts =
        path.split_once('/').filter(|(domain, rest)| !domain.is_empty() && !rest.is_empty());
    let Some((domain, rest)) = parts else {
        let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        return faults.invalid(field, path, why);
    };
    faults.each(field, domain, subdomain(domain));
    let is_good = |it: char| it.is_ascii_alphanumeric() || "/:@!$&'()*+,;=-._~%".contains(it);
    if !rest.chars().all(is_good) {
        let why = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        faults.invalid(field, path, why);
    }
}

pub(super) fn ip(faults: &mut Faults, field: &str, address: &str) {
    if address.parse::<std::net::IpAddr>().is_err() {
        faults.invalid(field, address, IP);
    }
}

pub(super) fn cidr(faults: &mut Faults, field: &str, cidr: &str) {
    if cidr.parse::<ipnet::IpNet>().is_err() {
        let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        faults.invalid(field, cidr, why);
    }
}

pub(super) fn quantity(value: &Value) -> Option<Quantity> {
    value.as_str()?.parse().ok()
}

/// What Go has as the zero value of a field, as far as JSON tells.
pub(super) fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(it) => it.is_empty(),
        Value::Array(it) => it.is_empty(),
        Value::Object(it) => it.is_empty(),
        Value::Bool(it) => !it,
        Value::Number(it) => it.as_i64() == Some(0),
    }
}

/// Names that only must fit into a path (RBAC).
pub(super) fn path_segment(name: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if matches!(name, "." | "..") {
        faults.push(format!("may not be '{name}'"));
    }
    for bad in ["/", "%"] {
        if name.contains(bad) {
            faults.push(format!("may not contain '{bad}'"));
        }
    }
    faults
}

pub(super) fn label_value(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 63 {
        faults.push(too_long(63));
    }
    if !value.is_empty() && !has_form(value, is_word, |it| it.is_ascii_alphanumeric()) {
        faults.push(LABEL_VALUE.into());
    }
    faults
}

pub(super) fn qualified_name(name: &str) -> Vec<String> {
    let (prefix, part) = match name.split_once('/') {
        None => (None, name),
        Some((_, part)) if part.contains('/') => {
            return vec![format!(
                "a qualified name {NAME_PART} with an optional DNS subdomain prefix and '/' (e.g. \
                 'example.com/MyName')"
            )];
        }
        Some((prefix, part)) => (Some(prefix), part),
    };
    let mut faults = Vec::new();
    match prefix {
        Some("") => faults.push("prefix part must be non-empty".into()),
        Some(prefix) => {
            faults.extend(subdomain(prefix).into_iter().map(|it| format!("prefix part {it}")));
        }
        None => {}
    }
    if part.is_empty() {
        faults.push("name part must be non-empty".into());
    } else if part.len() > 63 {
        faults.push(format!("name part {}", too_long(63)));
    }
    if !has_form(part, is_word, |it| it.is_ascii_alphanumeric()) {
        faults.push(format!("name part {NAME_PART}"));
    }
    faults
}

pub(super) fn config_key(key: &str) -> Vec<String> {
    const FORM: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
    let mut faults = Vec::new();
    if key.len() > 253 {
        faults.push(too_long(253));
    }
    if key.is_empty() || !key.chars().all(is_word) {
        faults.push(FORM.into());
    }
    if key == "." || key == ".." {
        faults.push(format!("must not be '{key}'"));
    } else if key.starts_with("..") {
        faults.push("must not start with '..'".into());
    }
    faults
}

/// Names of environment variables, in the relaxed form (KEP-4369).
pub(super) fn environment_name(name: &str) -> Vec<String> {
    let is_good = !name.is_empty() && name.chars().all(|it| matches!(it, ' '..='~') && it != '=');
    if is_good {
        Vec::new()
    } else {
        vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".into()]
    }
}

pub(super) fn port_name(name: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if name.len() > 15 {
        faults.push("must be no more than 15 characters".to_owned());
    }
    if !name.chars().all(|it| is_lower(it) || it == '-') || name.is_empty() {
        faults
            .push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !name.chars().any(|it| it.is_ascii_lowercase()) {
        faults.push("must contain at least one letter (a-z)".into());
    }
    if name.contains("--") {
        faults.push("must not contain consecutive hyphens".into());
    }
    if name.starts_with('-') || name.ends_with('-') {
        faults.push("must not begin or end with a hyphen".into());
    }
    faults
}

/// A port number that is required.
pub(super) fn port(faults: &mut Faults, field: &str, value: &Value) {
    let number = value.as_i64().unwrap_or_default();
    if !(1..=65535).contains(&number) {
        faults.invalid(field, number, PORT_RANGE);
    }
}

/// A port by number or name.
pub(super) fn port_or_name(faults: &mut Faults, field: &str, value: &Value) {
    match value {
        Value::String(name) => faults.each(field, name, port_name(name)),
        other => port(faults, field, other),
    }
}

/// A whole number or a percentage.
pub(super) fn int_or_percent(faults: &mut Faults, field: &str, value: &Value) {
    match value {
        Value::String(text) => {
            let digits = text.strip_suffix('%').filter(|it| it.parse::<u32>().is_ok());
            if digits.is_none() {
                faults.invalid(
                    field,
                    text.as_str(),
                    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                );
            }
        }
        other => faults.not_negative(field, other),
    }
}

pub(super) fn labels(faults: &mut Faults, field: &str, labels: &Value) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        faults.each(field, key, qualified_name(key));
        let value = value.as_str().unwrap_or_default();
        faults.each(field, value, label_value(value));
    }
}

/// A `LabelSelector` object. Values that no label can have are taken: they were once.
pub(super) fn selector(faults: &mut Faults, field: &str, selector: &Value) {
    requirements(faults, field, selector, false);
}

/// The same, whose values have to be those of labels.
pub(super) fn strict_selector(faults: &mut Faults, field: &str, selector: &Value) {
    requirements(faults, field, selector, true);
}

fn requirements(faults: &mut Faults, field: &str, selector: &Value, checks_values: bool) {
    labels(faults, &format!("{field}.matchLabels"), &selector["matchLabels"]);
    for (index, expression) in items(selector, "matchExpressions") {
        let at = format!("{field}.matchExpressions[{index}]");
        let has_values = expression["values"].as_array().is_some_and(|it| !it.is_empty());
        match text(expression, "operator") {
            "In" | "NotIn" if !has_values => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                faults.add(FieldError::required(format!("{at}.values"), why));
            }
            "Exists" | "DoesNotExist" if has_values => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                faults.add(FieldError::forbidden(format!("{at}.values"), why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                faults.invalid(format!("{at}.operator"), other, "not a valid selector operator");
            }
        }
        let key = text(expression, "key");
        faults.each(&format!("{at}.key"), key, qualified_name(key));
        for (index, value) in items(expression, "values").filter(|_| checks_values) {
            let value = value.as_str().unwrap_or_default();
            faults.each(&format!("{at}.values[{index}]"), value, label_value(value));
        }
    }
}
