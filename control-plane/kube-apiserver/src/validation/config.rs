//! ConfigMaps and Secrets.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

use super::{Faults, fields, text};
use crate::status::FieldError;

/// All values together (`MaxSecretSize`).
const LIMIT: usize = 1024 * 1024;

pub(super) fn config_map(faults: &mut Faults, object: &Value) {
    let mut size = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in object[field].as_object().into_iter().flatten() {
            faults.each(&format!("{field}[{key}]"), key, fields::config_key(key));
            let is_twice = field == "data" && !object["binaryData"][key].is_null();
            if is_twice {
                faults.invalid(
                    format!("data[{key}]"),
                    key.as_str(),
                    "duplicate of key present in binaryData",
                );
            }
            let text = value.as_str().unwrap_or_default();
            size += if field == "data" { text.len() } else { decoded(text) };
        }
    }
    if size > LIMIT {
        // Upstream's path to nothing.
        faults.add(FieldError::too_long("[]", LIMIT));
    }
}

/// How many bytes this base64 stands for.
fn decoded(text: &str) -> usize {
    let padding = text.len() - text.trim_end_matches('=').len();
    (text.len() / 4 * 3).saturating_sub(padding)
}

pub(super) fn secret(faults: &mut Faults, object: &Value) {
    let mut size = 0;
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        faults.each(&format!("data[{key}]"), key, fields::config_key(key));
        size += value.as_str().map_or(0, decoded);
    }
    if size > LIMIT {
        faults.add(FieldError::too_long("data", LIMIT));
    }
    let data = &object["data"];
    match text(object, "type") {
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if data[key].is_null() {
                    faults.required(format!("data[{key}]"));
                }
            }
        }
        "kubernetes.io/dockerconfigjson" => json_key(faults, data, ".dockerconfigjson"),
        "kubernetes.io/dockercfg" => json_key(faults, data, ".dockercfg"),
        "kubernetes.io/basic-auth" if data["username"].is_null() && data["password"].is_null() => {
            faults.required("data[username]");
            faults.required("data[password]");
        }
        "kubernetes.io/ssh-auth" if data["ssh-privatekey"].is_null() => {
            faults.required("data[ssh-privatekey]");
        }
        "kubernetes.io/service-account-token" => {
            let name = &object["metadata"]["annotations"]["kubernetes.io/service-account.name"];
            faults.text("metadata.annotations[kubernetes.io/service-account.name]", name);
        }
        _ => {}
    }
}

fn json_key(faults: &mut Faults, data: &Value, key: &str) {
    let field = format!("data[{key}]");
    let Some(text) = data[key].as_str() else {
        faults.required(field);
        return;
    };
    let bytes = BASE64_STANDARD.decode(text).unwrap_or_default();
    if serde_json::from_slice::<Value>(&bytes).is_err() {
        faults.invalid(field, "<secret contents redacted>", "invalid character in JSON");
    }
}

pub(super) fn update(faults: &mut Faults, old: &Value, new: &Value) {
    if old["kind"] == "Secret" {
        faults.immutable("type", &old["type"], &new["type"]);
    }
    if old["immutable"] != true {
        return;
    }
    const WHY: &str = "field is immutable when `immutable` is set";
    for field in ["immutable", "data", "binaryData"] {
        if old[field] != new[field] {
            faults.add(FieldError::forbidden(field, WHY));
        }
    }
}
