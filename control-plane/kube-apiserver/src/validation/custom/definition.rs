//! CustomResourceDefinitions: names, versions, columns, selectable fields, conversion.
//!
//! Where all versions have one schema, faults are told of `spec.validation`, as upstream's internal
//! form has it there.
//!
//! Upstream: k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation.

use std::collections::HashSet;

use serde_json::Value;

use super::super::{Faults, fields, items, text, webhook_client};
use super::structure;
use crate::{
    custom_resources::approval::{self, Approval},
    status::FieldError,
    table,
};

/// Of a deprecation warning, in bytes.
const LONGEST_WARNING: usize = 256;
const MOST_SELECTABLE: usize = 8;

fn check(faults: &mut Faults, object: &Value, old: Option<&Value>) {
    let spec = &object["spec"];
    let (group, names) = (text(spec, "group"), &spec["names"]);
    let name = text(&object["metadata"], "name");
    if name != format!("{}.{group}", text(names, "plural")) {
        faults.invalid("metadata.name", name, "must be spec.names.plural+\".\"+spec.group");
    }
    if group.is_empty() {
        faults.required("spec.group");
    } else {
        faults.each("spec.group", group, fields::subdomain(group));
        if !group.contains('.') {
            faults.invalid("spec.group", group, "should be a domain with at least one dot");
        }
    }
    faults.one_of("spec.scope", &spec["scope"], &["Cluster", "Namespaced"]);
    if spec["preserveUnknownFields"] == true
        && old.is_none_or(|it| it["spec"]["preserveUnknownFields"] != true)
    {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
                   spec.versions[*].schema instead";
        faults.invalid("spec.preserveUnknownFields", true, why);
    }
    name_parts(faults, names);
    versions(faults, spec, old.map(|it| &it["spec"]));
    conversion(faults, &spec["conversion"]);
}

fn name_parts(faults: &mut Faults, names: &Value) {
    for field in ["plural", "singular", "kind", "listKind"] {
        let (value, path) = (text(names, field), format!("spec.names.{field}"));
        if value.is_empty() {
            // The others are made from the kind.
            if matches!(field, "plural" | "kind") {
                faults.required(path);
            }
        } else {
            let lower = value.to_lowercase();
            faults.each(&path, &lower, fields::label_1035(&lower));
        }
    }
    for list in ["shortNames", "categories"] {
        for (index, it) in items(names, list) {
            let value = it.as_str().unwrap_or_default();
            faults.each(&format!("spec.names.{list}[{index}]"), value, fields::label_1035(value));
        }
    }
    let kind = text(names, "kind");
    if !kind.is_empty() && kind == text(names, "listKind") {
        faults.invalid("spec.names.listKind", kind, "kind and listKind may not be the same");
    }
}

/// Kubernetes' own groups are for what its community has approved, or for who says that it has not.
pub(in crate::validation) fn create(faults: &mut Faults, object: &Value) {
    check(faults, object, None);
    let Some((approval, why)) = approval::of(object) else { return };
    let field = format!("metadata.annotations[{}]", approval::ANNOTATION);
    match approval {
        Approval::Missing => faults.add(FieldError::required(field, why)),
        Approval::Invalid => {
            let value = text(&object["metadata"]["annotations"], approval::ANNOTATION);
            faults.invalid(field, value, why);
        }
        Approval::Bypassed | Approval::Approved => {}
    }
}

fn versions(faults: &mut Faults, spec: &Value, old: Option<&Value>) {
    let all = spec["versions"].as_array().map_or(&[][..], Vec::as_slice);
    let names: HashSet<&str> = all.iter().map(|it| text(it, "name")).collect();
    if names.len() < all.len() {
        let why = "must contain unique version names";
        faults.invalid("spec.versions", spec["versions"].clone(), why);
    }
    if all.iter().filter(|it| it["storage"] == true).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        faults.invalid("spec.versions", spec["versions"].clone(), why);
    }
    let is_same = |field: &str| all.iter().all(|it| it[field] == all[0][field]);
    for (index, version) in all.iter().enumerate() {
        let at = format!("spec.versions[{index}]");
        version_itself(faults, &at, version);
        let own = |field: &str, inner: &str, shared: &str| {
            let is_shared = is_same(field);
            let is_told = !is_shared || index == 0;
            is_told.then(|| if is_shared { shared.to_owned() } else { format!("{at}.{inner}") })
        };
        let before = old.and_then(|it| {
            let mut all = it["versions"].as_array().into_iter().flatten();
            all.find(|it| it["name"] == version["name"])
        });
        let schema = &version["schema"]["openAPIV3Schema"];
        if let Some(at) = own("schema", "schema.openAPIV3Schema", "spec.validation.openAPIV3Schema")
            && schema.is_object()
        {
            structure::check(
                faults,
                &at,
                schema,
                before.map(|it| &it["schema"]["openAPIV3Schema"]),
            );
        }
        if let Some(at) = own("subresources", "subresources", "spec.subresources") {
            subresources(faults, &at, &version["subresources"]);
        }
        let (columns, fields) = ("additionalPrinterColumns", "selectableFields");
        if let Some(at) = own(columns, columns, "spec.additionalPrinterColumns") {
            printed(faults, &at, version);
        }
        if let Some(at) = own(fields, fields, "spec.selectableFields") {
            selectable(faults, &at, version);
        }
    }
}

fn version_itself(faults: &mut Faults, at: &str, version: &Value) {
    let name = text(version, "name");
    faults.each(&format!("{at}.name"), name, fields::label_1035(name));
    if !version["schema"]["openAPIV3Schema"].is_object() {
        let path = format!("{at}.schema.openAPIV3Schema");
        faults.add(FieldError::required(path, "schemas are required"));
    }
    let Some(warning) = version["deprecationWarning"].as_str() else { return };
    let path = format!("{at}.deprecationWarning");
    if version["deprecated"] != true {
        faults.invalid(path.clone(), warning, "can only be set for deprecated versions");
    }
    if warning.len() > LONGEST_WARNING {
        let why = format!("must be <= {LONGEST_WARNING} characters");
        faults.invalid(path.clone(), warning, why);
    }
    if warning.is_empty() {
        faults.invalid(path, warning, "must not be an empty string");
    } else if warning.chars().any(char::is_control) {
        let why = "must only contain printable UTF-8 characters; non-printable character found";
        faults.invalid(path, warning, why);
    }
}

fn subresources(faults: &mut Faults, at: &str, subresources: &Value) {
    let Some(scale) = subresources.get("scale").filter(|it| it.is_object()) else { return };
    for (field, root) in [
        ("specReplicasPath", ".spec."),
        ("statusReplicasPath", ".status."),
        ("labelSelectorPath", ""),
    ] {
        let (path, value) = (format!("{at}.scale.{field}"), text(scale, field));
        if value.is_empty() {
            if !root.is_empty() {
                faults.required(path);
            }
        } else if value.contains(['[', ']', '*']) || !value.starts_with('.') {
            let why = "should be a json path without array notation";
            faults.invalid(path, value, why);
        } else if root.is_empty() && !value.starts_with(".spec.") && !value.starts_with(".status.")
        {
            let why = "should be a json path under either .spec or .status";
            faults.invalid(path, value, why);
        } else if !value.starts_with(root) {
            let under = root.trim_end_matches('.');
            faults.invalid(path, value, format!("should be a json path under {under}"));
        }
    }
}

fn printed(faults: &mut Faults, at: &str, version: &Value) {
    for (index, column) in items(version, "additionalPrinterColumns") {
        let at = format!("{at}[{index}]");
        for field in ["name", "type", "jsonPath"] {
            faults.text(format!("{at}.{field}"), &column[field]);
        }
        let kinds = ["boolean", "date", "integer", "number", "string"];
        let kind = text(column, "type");
        if !kind.is_empty() && !kinds.contains(&kind) {
            let why = format!("must be one of {}", kinds.join(","));
            faults.invalid(format!("{at}.type"), kind, why);
        }
        let formats =
            ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
        let format = text(column, "format");
        if !format.is_empty() && !formats.contains(&format) {
            let why = format!("must be one of {}", formats.join(","));
            faults.invalid(format!("{at}.format"), format, why);
        }
        let path = text(column, "jsonPath");
        if !path.is_empty() && (!path.starts_with(['.', '[', '$']) || !is_balanced(path)) {
            let why = "must be a simple json path starting with .".to_owned();
            faults.invalid(format!("{at}.jsonPath"), path, why);
        }
    }
}

fn is_balanced(path: &str) -> bool {
    path.matches('[').count() == path.matches(']').count()
}

/// Fields that selectors may look at: texts, numbers and flags that the schema has.
fn selectable(faults: &mut Faults, at: &str, version: &Value) {
    let all: Vec<_> = items(version, "selectableFields").collect();
    if all.len() > MOST_SELECTABLE {
        faults.add(FieldError::too_many(at, all.len(), MOST_SELECTABLE));
    }
    let mut known = HashSet::new();
    for (index, field) in all {
        let (path, wanted) = (format!("{at}[{index}].jsonPath"), text(field, "jsonPath"));
        if wanted.is_empty() {
            faults.required(path);
            continue;
        }
        if wanted.contains(['[', ']', '*', '(', '"']) || !wanted.starts_with('.') {
            let why = "is an invalid path: must be a simple json path starting with .";
            faults.invalid(path, wanted, why);
            continue;
        }
        if !known.insert(wanted) {
            faults.add(FieldError::duplicate(path.clone(), wanted));
        }
        if wanted == ".metadata" || wanted.starts_with(".metadata.") {
            faults.invalid(path, wanted, "must not point to fields in metadata");
            continue;
        }
        let mut schema = &version["schema"]["openAPIV3Schema"];
        for part in table::path_parts(wanted) {
            schema = &schema["properties"][part];
        }
        match text(schema, "type") {
            "string" | "boolean" | "integer" => {}
            "" => {
                let why = "is an invalid path: does not refer to a valid field".to_owned();
                faults.invalid(path, wanted, why);
            }
            _ => faults.invalid(
                path,
                wanted,
                "must point to a field of type string, boolean or integer. Enum string fields and \
                 strings with formats are allowed.",
            ),
        }
    }
}

fn conversion(faults: &mut Faults, conversion: &Value) {
    let at = "spec.conversion";
    faults.one_of(&format!("{at}.strategy"), &conversion["strategy"], &["None", "Webhook"]);
    let webhook = &conversion["webhook"];
    if conversion["strategy"] != "Webhook" {
        if webhook.is_object() {
            let why = "should not be set when strategy is not set to Webhook";
            faults.add(FieldError::forbidden(format!("{at}.webhook"), why));
        }
        return;
    }
    let client = &webhook["clientConfig"];
    if !client.is_object() {
        let why = "required when strategy is set to Webhook";
        faults.add(FieldError::required(format!("{at}.webhook.clientConfig"), why));
    } else {
        webhook_client::client(faults, &format!("{at}.webhook.clientConfig"), client);
    }
    let versions: Vec<&str> =
        items(webhook, "conversionReviewVersions").filter_map(|(_, it)| it.as_str()).collect();
    let path = format!("{at}.webhook.conversionReviewVersions");
    if versions.is_empty() {
        faults.required(path);
    } else if !versions.contains(&"v1") {
        let why = "must include at least one of v1, v1beta1";
        if !versions.contains(&"v1beta1") {
            faults.invalid(path, webhook["conversionReviewVersions"].clone(), why);
        }
    }
}

pub(in crate::validation) fn update(faults: &mut Faults, old: &Value, new: &Value) {
    check(faults, new, Some(old));
    let is_established = |it: &Value| {
        let mut all = it["status"]["conditions"].as_array().into_iter().flatten();
        all.any(|it| it["type"] == "Established" && it["status"] == "True")
    };
    faults.immutable("spec.group", &old["spec"]["group"], &new["spec"]["group"]);
    let (before, after) = (&old["spec"]["names"], &new["spec"]["names"]);
    faults.immutable("spec.names.plural", &before["plural"], &after["plural"]);
    if is_established(old) {
        faults.immutable("spec.scope", &old["spec"]["scope"], &new["spec"]["scope"]);
        faults.immutable("spec.names.kind", &before["kind"], &after["kind"]);
    }
    stored(faults, new);
}

pub(in crate::validation) fn status(faults: &mut Faults, new: &Value) {
    stored(faults, new);
}

/// Versions that objects may be stored in have to stay.
fn stored(faults: &mut Faults, new: &Value) {
    let names: Vec<&str> =
        items(&new["spec"], "versions").map(|(_, it)| text(it, "name")).collect();
    let mut has_current = false;
    let storage = items(&new["spec"], "versions").find(|(_, it)| it["storage"] == true);
    let storage = storage.map_or("", |(_, it)| text(it, "name"));
    for (index, version) in items(&new["status"], "storedVersions") {
        let version = version.as_str().unwrap_or_default();
        has_current |= version == storage;
        if !names.contains(&version) {
            let why = format!(
                "missing from spec.versions; {version} was previously a storage version, and must \
                 remain in spec.versions until a storage migration ensures no data remains \
                 persisted in {version} and removes {version} from status.storedVersions"
            );
            faults.invalid(format!("status.storedVersions[{index}]"), version, why);
        }
    }
    if !has_current && !storage.is_empty() && new["status"].is_object() {
        let why = format!("must have the storage version {storage}");
        faults.invalid("status.storedVersions", new["status"]["storedVersions"].clone(), why);
    }
}
