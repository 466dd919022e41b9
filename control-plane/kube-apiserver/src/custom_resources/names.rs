//! Names of definitions: of two in one group, the first has them.
//!
//! Upstream: pkg/controller/status/naming_controller.go of k8s.io/apiextensions-apiserver.

use serde_json::{Map, Value, json};

use super::{defined, is_true, set_condition};
use crate::resources::Catalog;

/// Which names a definition gets, and the first that it does not get: the condition's reason, and why.
pub(super) struct Verdict {
    accepted: Map<String, Value>,
    conflict: Option<(&'static str, String)>,
}

/// Compares a definition's names with those that others of its group have.
pub(super) fn judge(definition: &Value, catalog: &Catalog) -> Verdict {
    let (group, plural) = defined(definition);
    let others = || {
        let all = catalog.all().iter().filter(|it| it.custom.is_some() && it.group == group);
        all.filter(|it| it.plural != plural)
    };
    let is_resource = |name: &str| {
        others().any(|it| {
            it.plural == name || it.singular == name || it.short_names.iter().any(|it| it == name)
        })
    };
    let is_kind = |name: &str| others().any(|it| it.kind == name || it.list_kind() == name);
    let wanted = &definition["spec"]["names"];
    let before = &definition["status"]["acceptedNames"];
    let mut accepted = before.as_object().cloned().unwrap_or_default();
    let mut conflict = None;
    for (field, reason) in [
        ("plural", "PluralConflict"),
        ("singular", "SingularConflict"),
        ("shortNames", "ShortNamesConflict"),
        ("kind", "KindConflict"),
        ("listKind", "ListKindConflict"),
    ] {
        let is_taken = |name: &str| match field {
            "kind" | "listKind" => is_kind(name),
            _ => is_resource(name),
        };
        let all = match &wanted[field] {
            Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
            one => Vec::from_iter(one.as_str()),
        };
        let is_kept = wanted[field] == before[field];
        match all.iter().find(|it| !is_kept && is_taken(it)) {
            Some(name) => {
                conflict = Some((reason, format!("{name:?} is already in use")));
            }
            None if wanted[field].is_null() => drop(accepted.remove(field)),
            None => drop(accepted.insert(field.to_owned(), wanted[field].clone())),
        }
    }
    match &wanted["categories"] {
        Value::Null => drop(accepted.remove("categories")),
        categories => drop(accepted.insert("categories".to_owned(), categories.clone())),
    }
    Verdict { accepted, conflict }
}

/// Writes a verdict down.
pub(super) fn write(definition: &mut Value, verdict: Verdict, now: &str) {
    let is_established = is_true(definition, "Established");
    let Verdict { mut accepted, conflict } = verdict;
    for always in ["plural", "kind"] {
        accepted.entry(always).or_insert_with(|| "".into());
    }
    definition["status"]["acceptedNames"] = Value::Object(accepted);
    let is_accepted = conflict.is_none();
    let condition = match conflict {
        None => json!({ "type": "NamesAccepted", "status": "True", "reason": "NoConflicts",
            "message": "no conflicts found" }),
        Some((reason, why)) => json!({ "type": "NamesAccepted", "status": "False",
            "reason": reason, "message": why }),
    };
    set_condition(definition, condition, now);
    let established = if is_accepted || is_established {
        json!({ "type": "Established", "status": "True", "reason": "InitialNamesAccepted",
            "message": "the initial names have been accepted" })
    } else {
        json!({ "type": "Established", "status": "False", "reason": "NotAccepted",
            "message": "not all names are accepted" })
    };
    set_condition(definition, established, now);
}
