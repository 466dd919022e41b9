//! FlowSchemas and PriorityLevelConfigurations.
//!
//! Upstream: pkg/apis/flowcontrol/validation.

use serde_json::Value;

use super::{Faults, fields, items, text};
use crate::{flow, resources::meta, status::FieldError};

const HIGHEST_PRECEDENCE: i64 = 10_000;

pub(super) fn schema(faults: &mut Faults, object: &Value) {
    let (spec, name) = (&object["spec"], meta(object, "name"));
    unchanged_if_mandatory(faults, "FlowSchema", object);
    let precedence = spec["matchingPrecedence"].as_i64().unwrap_or_default();
    if precedence <= 0 {
        faults.invalid("spec.matchingPrecedence", precedence, "must be a positive value");
    }
    if precedence > HIGHEST_PRECEDENCE {
        let why = format!("must not be greater than {HIGHEST_PRECEDENCE}");
        faults.invalid("spec.matchingPrecedence", precedence, why);
    }
    if precedence == 1 && name != "exempt" {
        let why = "only the schema named 'exempt' may have matchingPrecedence 1";
        faults.invalid("spec.matchingPrecedence", precedence, why);
    }
    if spec["distinguisherMethod"].is_object() {
        let kind = &spec["distinguisherMethod"]["type"];
        faults.one_of("spec.distinguisherMethod.type", kind, &["ByNamespace", "ByUser"]);
    }
    let level = text(&spec["priorityLevelConfiguration"], "name");
    if level.is_empty() {
        let why = "must reference a priority level";
        faults.add(FieldError::required("spec.priorityLevelConfiguration.name", why));
    } else {
        faults.each("spec.priorityLevelConfiguration.name", level, fields::subdomain(level));
    }
    for (index, rule) in items(spec, "rules") {
        rules(faults, &format!("spec.rules[{index}]"), rule);
    }
}

fn rules(faults: &mut Faults, at: &str, rule: &Value) {
    if items(rule, "subjects").next().is_none() {
        let why = "subjects must contain at least one value";
        faults.add(FieldError::required(format!("{at}.subjects"), why));
    }
    let is_empty = |field: &str| items(rule, field).next().is_none();
    if is_empty("resourceRules") && is_empty("nonResourceRules") {
        let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
        faults.add(FieldError::required(at, why));
    }
    for (index, subject) in items(rule, "subjects") {
        let at = format!("{at}.subjects[{index}]");
        let field = match text(subject, "kind") {
            "User" => "user",
            "Group" => "group",
            "ServiceAccount" => "serviceAccount",
            other => {
                let supported = &["Group", "ServiceAccount", "User"];
                faults.add(FieldError::not_supported(format!("{at}.kind"), other, supported));
                continue;
            }
        };
        if text(&subject[field], "name").is_empty() {
            faults.required(format!("{at}.{field}.name"));
        }
        if field == "serviceAccount" && text(&subject[field], "namespace").is_empty() {
            faults.add(FieldError::required(
                format!("{at}.serviceAccount.namespace"),
                "must specify namespace for service account",
            ));
        }
    }
    for (index, rule) in items(rule, "resourceRules") {
        let at = format!("{at}.resourceRules[{index}]");
        lists(faults, &at, rule, &["verbs", "apiGroups", "resources"]);
        if rule["clusterScope"] != true && items(rule, "namespaces").next().is_none() {
            let why =
                "resource rules that are not cluster scoped must supply at least one namespace";
            faults.add(FieldError::required(format!("{at}.namespaces"), why));
        }
    }
    for (index, rule) in items(rule, "nonResourceRules") {
        let at = format!("{at}.nonResourceRules[{index}]");
        lists(faults, &at, rule, &["verbs", "nonResourceURLs"]);
    }
}

/// Lists that have something, and nothing else where they have `*`.
fn lists(faults: &mut Faults, at: &str, rule: &Value, names: &[&str]) {
    for name in names {
        let all: Vec<&str> = items(rule, name).filter_map(|(_, it)| it.as_str()).collect();
        if all.is_empty() {
            let why = format!("{name} must contain at least one value");
            faults.add(FieldError::required(format!("{at}.{name}"), why));
        } else if all.contains(&"*") && all.len() > 1 {
            let why = "if '*' is present, must not specify other values";
            faults.invalid(format!("{at}.{name}"), rule[name].clone(), why);
        }
    }
}

pub(super) fn level(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    unchanged_if_mandatory(faults, "PriorityLevelConfiguration", object);
    match text(spec, "type") {
        "Exempt" => {
            if meta(object, "name") != "exempt" {
                let why = "must be 'Limited' if `name` is not 'exempt'";
                faults.invalid("spec.type", "Exempt", why);
            }
            if spec["limited"].is_object() {
                let why = "must be nil if the type is not Limited";
                faults.add(FieldError::forbidden("spec.limited", why));
            }
        }
        "Limited" => limited(faults, spec),
        other => {
            faults.add(FieldError::not_supported("spec.type", other, &["Exempt", "Limited"]));
        }
    }
}

fn limited(faults: &mut Faults, spec: &Value) {
    const AT: &str = "spec.limited";
    let limited = &spec["limited"];
    if spec["exempt"].is_object() {
        let why = "must be nil if the type is Limited";
        faults.add(FieldError::forbidden("spec.exempt", why));
    }
    if !limited.is_object() {
        faults.add(FieldError::required(AT, "must not be empty when type is Limited"));
        return;
    }
    faults.not_negative(
        &format!("{AT}.nominalConcurrencyShares"),
        &limited["nominalConcurrencyShares"],
    );
    if let Some(percent) = limited["lendablePercent"].as_i64()
        && !(0..=100).contains(&percent)
    {
        let why = "must be between 0 and 100, inclusive";
        faults.invalid(format!("{AT}.lendablePercent"), percent, why);
    }
    faults.not_negative(&format!("{AT}.borrowingLimitPercent"), &limited["borrowingLimitPercent"]);
    let response = &limited["limitResponse"];
    let at = format!("{AT}.limitResponse");
    match text(response, "type") {
        "Reject" if response["queuing"].is_object() => {
            let why = "must be nil if limited.limitResponse.type is not Limited";
            faults.add(FieldError::forbidden(format!("{at}.queuing"), why));
        }
        "Reject" => {}
        "Queue" => queuing(faults, &format!("{at}.queuing"), &response["queuing"]),
        other => {
            let supported = &["Queue", "Reject"];
            faults.add(FieldError::not_supported(format!("{at}.type"), other, supported));
        }
    }
}

fn queuing(faults: &mut Faults, at: &str, queuing: &Value) {
    if !queuing.is_object() {
        let why = "must not be empty if limited.limitResponse.type is Limited";
        faults.add(FieldError::required(at, why));
        return;
    }
    let number = |field: &str| queuing[field].as_i64().unwrap_or_default();
    for field in ["queueLengthLimit", "queues", "handSize"] {
        if number(field) <= 0 {
            faults.invalid(format!("{at}.{field}"), number(field), "must be positive");
        }
    }
    if number("handSize") > number("queues") {
        let why = format!("should not be greater than queues ({})", number("queues"));
        faults.invalid(format!("{at}.handSize"), number("handSize"), why);
    }
}

/// Those that the server cannot do without are as it has them.
fn unchanged_if_mandatory(faults: &mut Faults, kind: &str, object: &Value) {
    let wanted = flow::bootstrap_objects().iter().find(|it| {
        flow::is_mandatory(it) && it["kind"] == kind && meta(it, "name") == meta(object, "name")
    });
    if let Some(wanted) = wanted
        && !flow::has_spec_of(object, wanted)
    {
        let why = "spec of 'SPEC' must equal the fixed value";
        faults.invalid("spec", object["spec"].clone(), why.replace("SPEC", meta(object, "name")));
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
    fn a_schema_names_its_level_and_whom_it_is_for() {
        let found = faults_of(
            schema,
            json!({"metadata": {"name": "a"}, "spec": {"matchingPrecedence": 1, "rules": [{}]}}),
        );
        for part in ["only the schema named 'exempt'", "must reference", "at least one value"] {
            assert!(found.iter().any(|it| it.contains(part)), "{part}: {found:?}");
        }
    }

    #[test]
    fn a_level_queues_or_rejects_and_the_fixed_ones_stay_as_they_are() {
        let of = |name: &str, spec: Value| {
            faults_of(level, json!({"metadata": {"name": name}, "spec": spec}))
        };
        let reject = json!({"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}});
        assert!(of("a", reject.clone()).is_empty());
        assert!(of("catch-all", reject)[0].contains("must equal the fixed value"));
        assert!(of("a", json!({"type": "Exempt"}))[0].contains("if `name` is not 'exempt'"));
        let queue = json!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue"}}});
        assert!(of("a", queue)[0].starts_with("spec.limited.limitResponse.queuing: Required"));
    }

    #[test]
    fn what_every_cluster_has_is_valid() {
        for object in flow::bootstrap_objects() {
            let mut object = object.clone();
            let check: fn(&mut Faults, &Value) =
                if object["kind"] == "FlowSchema" { schema } else { level };
            object["metadata"]["labels"] = json!({});
            assert_eq!(faults_of(check, object.clone()), [""; 0], "{object}");
        }
    }
}
