//! Where a pod may run: affinities, spreading, gates.
//!
//! Upstream: `validateAffinity`, `validateTopologySpreadConstraints` in pkg/apis/core/validation.

use std::collections::HashSet;

use serde_json::Value;

use crate::{
    status::FieldError,
    validation::{Faults, fields, items, node_selector, text},
};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const IN_BOTH: &str = "exists in both matchLabelKeys and labelSelector";

pub(super) fn affinity(faults: &mut Faults, at: &str, affinity: &Value) {
    let node = &affinity["nodeAffinity"];
    let node_at = format!("{at}.nodeAffinity");
    if node[REQUIRED].is_object() {
        node_selector::check(faults, &format!("{node_at}.{REQUIRED}"), &node[REQUIRED]);
    }
    for (index, weighted) in items(node, PREFERRED) {
        let at = format!("{node_at}.{PREFERRED}[{index}]");
        weight(faults, &at, weighted);
        node_selector::term(faults, &format!("{at}.preference"), &weighted["preference"], false);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let at = format!("{at}.{kind}");
        for (index, it) in items(&affinity[kind], REQUIRED) {
            term(faults, &format!("{at}.{REQUIRED}[{index}]"), it);
        }
        for (index, weighted) in items(&affinity[kind], PREFERRED) {
            let at = format!("{at}.{PREFERRED}[{index}]");
            weight(faults, &at, weighted);
            term(faults, &format!("{at}.podAffinityTerm"), &weighted["podAffinityTerm"]);
        }
    }
}

fn weight(faults: &mut Faults, at: &str, term: &Value) {
    let weight = term["weight"].as_i64().unwrap_or_default();
    if !(1..=100).contains(&weight) {
        faults.invalid(format!("{at}.weight"), weight, "must be in the range 1-100");
    }
}

fn term(faults: &mut Faults, at: &str, term: &Value) {
    for selector in ["labelSelector", "namespaceSelector"] {
        fields::selector(faults, &format!("{at}.{selector}"), &term[selector]);
    }
    for (_, namespace) in items(term, "namespaces") {
        let name = namespace.as_str().unwrap_or_default();
        faults.each(&format!("{at}.namespace"), name, fields::label(name));
    }
    label_keys(faults, at, term);
    let key = text(term, "topologyKey");
    let field = format!("{at}.topologyKey");
    if key.is_empty() {
        faults.add(FieldError::required(&*field, "can not be empty"));
    }
    faults.each(&field, key, fields::qualified_name(key));
}

/// Labels of the pod itself that others must have too, or must not.
fn label_keys(faults: &mut Faults, at: &str, term: &Value) {
    for list in ["matchLabelKeys", "mismatchLabelKeys"] {
        let list_at = format!("{at}.{list}");
        if items(term, list).next().is_some() && !term["labelSelector"].is_object() {
            faults.forbidden(list_at, "must not be specified when labelSelector is not set");
            continue;
        }
        for (index, key) in items(term, list) {
            let key = key.as_str().unwrap_or_default();
            faults.each(&format!("{list_at}[{index}]"), key, fields::qualified_name(key));
        }
    }
    let index_of = |list: &str, key: &str| items(term, list).find(|(_, it)| *it == key);
    let selector = &term["labelSelector"];
    let labels = selector["matchLabels"].as_object();
    let mut seen: HashSet<&str> = labels.into_iter().flatten().map(|(key, _)| &**key).collect();
    for (_, expression) in items(selector, "matchExpressions") {
        let key = text(expression, "key");
        // The server made an expression of each key, which is the first.
        if let Some((index, _)) = index_of("matchLabelKeys", key)
            && seen.contains(key)
        {
            faults.invalid(format!("{at}[{index}]"), key, IN_BOTH);
        }
        seen.insert(key);
    }
    for (index, key) in items(term, "matchLabelKeys") {
        let key = key.as_str().unwrap_or_default();
        if index_of("mismatchLabelKeys", key).is_some() {
            let why = "exists in both matchLabelKeys and mismatchLabelKeys";
            faults.invalid(format!("{at}.matchLabelKeys[{index}]"), key, why);
        }
    }
}

pub(super) fn spread(faults: &mut Faults, list: &str, spec: &Value) {
    for (index, constraint) in items(spec, "topologySpreadConstraints") {
        let at = format!("{list}[{index}]");
        let skew = constraint["maxSkew"].as_i64().unwrap_or_default();
        if skew <= 0 {
            faults.invalid(format!("{at}.maxSkew"), skew, "must be greater than zero");
        }
        if text(constraint, "topologyKey").is_empty() {
            faults.add(FieldError::required(format!("{at}.topologyKey"), "can not be empty"));
        }
        supported(
            faults,
            &at,
            constraint,
            "whenUnsatisfiable",
            &["DoNotSchedule", "ScheduleAnyway"],
        );
        repeated(faults, &at, spec, index);
        domains(faults, &format!("{at}.minDomains"), constraint);
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if !constraint[field].is_null() {
                supported(faults, &at, constraint, field, &["Honor", "Ignore"]);
            }
        }
        keys(faults, &format!("{at}.matchLabelKeys"), constraint);
        fields::selector(faults, &format!("{at}.labelSelector"), &constraint["labelSelector"]);
    }
}

fn supported(faults: &mut Faults, at: &str, of: &Value, field: &str, supported: &[&str]) {
    let value = text(of, field);
    if !supported.contains(&value) {
        faults.add(FieldError::not_supported(format!("{at}.{field}"), value, supported));
    }
}

fn repeated(faults: &mut Faults, at: &str, spec: &Value, index: usize) {
    let pair =
        |it: &Value| (text(it, "topologyKey").to_owned(), text(it, "whenUnsatisfiable").to_owned());
    let own = pair(&spec["topologySpreadConstraints"][index]);
    let mut later = items(spec, "topologySpreadConstraints").skip(index + 1);
    if later.any(|(_, it)| pair(it) == own) {
        let field = format!("{at}.{{topologyKey, whenUnsatisfiable}}");
        faults.add(FieldError::duplicate(field, format!("{{{}, {}}}", own.0, own.1)));
    }
}

fn domains(faults: &mut Faults, field: &str, constraint: &Value) {
    let Some(least) = constraint["minDomains"].as_i64() else { return };
    if least <= 0 {
        faults.invalid(field, least, "must be greater than zero");
    }
    let action = text(constraint, "whenUnsatisfiable");
    if action != "DoNotSchedule" {
        let why =
            format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
        faults.invalid(field, least, why);
    }
}

fn keys(faults: &mut Faults, at: &str, constraint: &Value) {
    if items(constraint, "matchLabelKeys").next().is_none() {
        return;
    }
    let selector = &constraint["labelSelector"];
    if !selector.is_object() {
        faults.forbidden(at, "must not be specified when labelSelector is not set");
    }
    for (index, key) in items(constraint, "matchLabelKeys") {
        let key = key.as_str().unwrap_or_default();
        faults.each(&format!("{at}[{index}]"), key, fields::qualified_name(key));
        // What the server made of the key itself is an expression with one value.
        let is_label = !selector["matchLabels"][key].is_null();
        let mut expressions = items(selector, "matchExpressions");
        if is_label || expressions.any(|(_, it)| text(it, "key") == key && !is_made(it)) {
            faults.invalid(format!("{at}[{index}]"), key, IN_BOTH);
        }
    }
}

fn is_made(expression: &Value) -> bool {
    expression["operator"] == "In" && items(expression, "values").count() == 1
}

pub(super) fn gates(faults: &mut Faults, list: &str, spec: &Value) {
    let mut seen = HashSet::new();
    for (index, gate) in items(spec, "schedulingGates") {
        let (at, name) = (format!("{list}[{index}]"), text(gate, "name"));
        faults.each(&at, name, fields::qualified_name(name));
        if !seen.insert(name) {
            faults.add(FieldError::duplicate(at, name));
        }
    }
}
