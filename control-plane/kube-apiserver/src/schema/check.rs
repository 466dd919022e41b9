//! Checks a decoded body against its type: unknown fields, and values of the wrong type.
//!
//! Unknown fields are dropped, and reported in the words of upstream's strict decoder; a wrong
//! type is an error in the words of Go's. `null` is dropped as Go drops it, and so is what is empty
//! where upstream's type leaves that out.
//!
//! A required field that is absent is the business of validation, not of decoding, as upstream.

use std::sync::Arc;

use base64::{
    DecodeError, Engine, alphabet,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::{Map, Value};

use super::{Object, Shape};

/// What was found in a body.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Findings {
    /// Paths of fields that the type does not have.
    pub(crate) unknown: Vec<String>,
    /// The first wrong type, as a message.
    pub(crate) wrong: Option<String>,
}

/// A check of a value against a type.
pub(crate) type Check = fn(&mut Value, &Arc<Object>) -> Findings;

/// Removes unknown fields, nulls and what is as good as absent from `value`, and says what was unknown
/// or wrong.
pub(crate) fn object(value: &mut Value, object: &Arc<Object>) -> Findings {
    check(value, object, false)
}

/// As [`object`], but what is empty stays: whoever applies it owns it.
pub(crate) fn applied(value: &mut Value, object: &Arc<Object>) -> Findings {
    check(value, object, true)
}

fn check(value: &mut Value, object: &Arc<Object>, keeps_empty: bool) -> Findings {
    let mut findings = Findings::default();
    let mut path = Path { text: String::new(), owner: object.clone(), keeps_empty };
    match value {
        Value::Object(fields) => walk_object(fields, object, &mut path, &mut findings),
        other => path.wrong(other, &object.name, &mut findings),
    }
    findings
}

struct Path {
    text: String,
    /// The Go struct that holds the current field.
    owner: Arc<Object>,
    keeps_empty: bool,
}

impl Path {
    fn within<T>(&mut self, part: &str, then: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.text.len();
        if !part.starts_with('[') && length > 0 {
            self.text.push('.');
        }
        self.text.push_str(part);
        let result = then(self);
        self.text.truncate(length);
        result
    }

    fn wrong(&self, value: &Value, wanted: &str, findings: &mut Findings) {
        if findings.wrong.is_some() {
            return;
        }
        let found = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            // One that does not fit is shown.
            Value::Number(number)
                if wanted.starts_with("int") && wanted != "intstr.IntOrString" =>
            {
                format!("number {number}")
            }
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        // Go names the fields without the indices of lists.
        let mut field = String::new();
        let mut depth = 0;
        for it in self.text.chars() {
            match it {
                '[' => depth += 1,
                ']' => depth -= 1,
                it if depth == 0 => field.push(it),
                _ => {}
            }
        }
        let place = if field.is_empty() {
            "value".to_owned()
        } else {
            format!("struct field {}.{field}", self.owner.name)
        };
        findings.wrong =
            Some(format!("json: cannot unmarshal {found} into Go {place} of type {wanted}"));
    }
}

fn walk_object(
    fields: &mut Map<String, Value>,
    object: &Arc<Object>,
    path: &mut Path,
    findings: &mut Findings,
) {
    let owner = std::mem::replace(&mut path.owner, object.clone());
    fields.retain(|name, value| {
        let Some(field) = object.fields.get(name) else {
            if !object.is_open {
                findings.unknown.push(path.within(name, |path| path.text.clone()));
            }
            return object.is_open;
        };
        if value.is_null() {
            return false;
        }
        path.within(name, |path| walk(value, &field.shape, path, findings));
        path.keeps_empty || !field.is_left_out_empty || !is_empty(value)
    });
    path.owner = owner;
}

pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
    }
}

fn walk(value: &mut Value, shape: &Shape, path: &mut Path, findings: &mut Findings) {
    match (shape, value) {
        (Shape::Any, _) | (Shape::AnyObject, Value::Object(_)) => {}
        (Shape::Time, Value::String(text)) => time(text, findings),
        (Shape::Bytes, Value::String(text)) => bytes(text, findings),
        (Shape::String, Value::String(_))
        | (Shape::Number, Value::Number(_))
        | (Shape::Boolean, Value::Bool(_))
        | (Shape::IntOrString, Value::String(_) | Value::Number(_)) => {}
        (Shape::Quantity, value @ (Value::String(_) | Value::Number(_))) => {
            quantity(value, findings);
        }
        (Shape::Integer(kind), Value::Number(number)) => {
            let fits =
                number.as_i64().is_some_and(|it| *kind != "int32" || i32::try_from(it).is_ok());
            if !fits {
                path.wrong(&Value::Number(number.clone()), kind, findings);
            }
        }
        (Shape::Named(_) | Shape::Inline(_), Value::Object(fields)) => {
            if let Some(object) = shape.object() {
                walk_object(fields, &object, path, findings);
            }
        }
        (Shape::List(inner), Value::Array(items)) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.within(&format!("[{index}]"), |path| walk(item, inner, path, findings));
            }
        }
        (Shape::Map(inner), Value::Object(entries)) => {
            entries.retain(|_, value| !value.is_null() || matches!(**inner, Shape::String));
            for (key, value) in entries {
                if value.is_null() {
                    *value = Value::String(String::new());
                }
                path.within(key, |path| walk(value, inner, path, findings));
            }
        }
        (shape, value) => path.wrong(value, &go_type(shape), findings),
    }
}

/// Quantities are stored in their canonical form (`1000m` is `1`).
fn quantity(value: &mut Value, findings: &mut Findings) {
    let text = match &*value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.parse::<resources::Quantity>() {
        Ok(quantity) => *value = quantity.to_string().into(),
        Err(error) => {
            findings.wrong.get_or_insert_with(|| error.to_string());
        }
    }
}

fn time(text: &str, findings: &mut Findings) {
    if text.parse::<jiff::Timestamp>().is_err() {
        let wrong = format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\"");
        findings.wrong.get_or_insert(wrong);
    }
}

/// As Go reads base64: lines may be broken, and what is left of the last symbol is not looked at.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Bytes are stored in their canonical form, too.
fn bytes(text: &mut String, findings: &mut Findings) {
    text.retain(|it| !matches!(it, '\r' | '\n'));
    match LENIENT.decode(&*text) {
        Ok(bytes) => *text = LENIENT.encode(bytes),
        Err(error) => {
            let at = match error {
                DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
                DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => text.len(),
            };
            findings.wrong.get_or_insert(format!("illegal base64 data at input byte {at}"));
        }
    }
}

fn go_type(shape: &Shape) -> String {
    match shape {
        Shape::Any => "interface {}".into(),
        Shape::AnyObject => "map[string]interface {}".into(),
        Shape::String => "string".into(),
        Shape::Bytes => "[]uint8".into(),
        Shape::Time => "time.Time".into(),
        Shape::Integer(kind) => (*kind).into(),
        Shape::Number => "float64".into(),
        Shape::Boolean => "bool".into(),
        Shape::IntOrString => "intstr.IntOrString".into(),
        Shape::Quantity => "resource.Quantity".into(),
        Shape::Named(name) => {
            let mut parts = name.rsplit('.');
            let kind = parts.next().unwrap_or_default();
            format!("{}.{kind}", parts.next().unwrap_or_default())
        }
        Shape::Inline(_) => "map[string]interface {}".into(),
        Shape::List(inner) => format!("[]{}", go_type(inner)),
        Shape::Map(inner) => format!("map[string]{}", go_type(inner)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bytes_are_base64_as_go_reads_it_and_times_are_times() {
        let secret = |fields: Value| {
            let (mut value, shape) = (fields, crate::schema::find("io.k8s.api.core.v1.Secret"));
            let findings = object(&mut value, &shape.unwrap());
            (value, findings.wrong)
        };
        let (value, wrong) = secret(json!({"data": {"a": "YW\nI=\n", "b": "YR==", "c": ""}}));
        assert_eq!(value["data"], json!({"a": "YWI=", "b": "YQ==", "c": ""}));
        assert_eq!(wrong, None);
        let (_, wrong) = secret(json!({"data": {"a": "YW-="}}));
        assert_eq!(wrong.unwrap(), "illegal base64 data at input byte 2");
        let (_, wrong) = secret(json!({"metadata": {"creationTimestamp": "yesterday"}}));
        let said = "parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\"";
        assert_eq!(wrong.unwrap(), said);
    }

    fn check(mut value: Value) -> (Value, Findings) {
        let deployment = crate::schema::find("io.k8s.api.apps.v1.Deployment").unwrap();
        let findings = object(&mut value, &deployment);
        (value, findings)
    }

    #[test]
    fn unknown_fields_are_dropped_and_named_by_their_path() {
        let (value, findings) = check(json!({
            "spec": {"foo": 1, "template": {"spec": {"containers": [{"name": "a", "imag": "b"}]}}},
        }));
        assert_eq!(findings.unknown, ["spec.foo", "spec.template.spec.containers[0].imag"]);
        assert_eq!(value["spec"]["template"]["spec"]["containers"], json!([{"name": "a"}]));
    }

    #[test]
    fn a_wrong_type_is_reported_in_the_words_of_go() {
        let (_, findings) = check(json!({"spec": {"replicas": "three"}}));
        assert_eq!(
            findings.wrong.unwrap(),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of \
             type int32"
        );
    }

    #[test]
    fn a_number_that_does_not_fit_is_shown() {
        let told = |fields: Value| check(json!({"spec": fields})).1.wrong.unwrap();
        let of = "into Go struct field DeploymentSpec.spec";
        assert_eq!(
            told(json!({"replicas": 3_000_000_000_u32})),
            format!("json: cannot unmarshal number 3000000000 {of}.replicas of type int32")
        );
        assert_eq!(
            told(json!({"replicas": 1.5})),
            format!("json: cannot unmarshal number 1.5 {of}.replicas of type int32")
        );
        assert_eq!(
            told(json!({"paused": 1.5})),
            format!("json: cannot unmarshal number {of}.paused of type bool")
        );
    }

    #[test]
    fn what_is_empty_and_left_out_by_upstream_counts_as_absent() {
        let pod = |fields: Value| {
            let (mut value, shape) = (fields, crate::schema::find("io.k8s.api.core.v1.Pod"));
            assert_eq!(object(&mut value, &shape.unwrap()), Findings::default());
            value
        };
        let found = pod(json!({
            "metadata": {"labels": {}, "annotations": {}, "finalizers": [], "generateName": "",
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "", "uid": "",
                    "controller": false}]},
            "spec": {"nodeName": "", "hostNetwork": false, "volumes": [], "nodeSelector": {},
                "priority": 0, "automountServiceAccountToken": false, "securityContext":
                {"fsGroup": 0, "sysctls": []}, "affinity": {}, "containers": [{"name": "", "args": [],
                "env": [{"name": "A", "value": ""}], "resources": {"limits": {}},
                "livenessProbe": {"periodSeconds": 0, "terminationGracePeriodSeconds": 0}}]},
        }));
        assert_eq!(
            found["metadata"],
            json!({"ownerReferences": [
            {"apiVersion": "v1", "kind": "Node", "name": "", "uid": "", "controller": false}]})
        );
        assert_eq!(
            found["spec"],
            json!({
                "priority": 0, "automountServiceAccountToken": false, "securityContext": {"fsGroup": 0},
                "affinity": {}, "containers": [{"name": "", "env": [{"name": "A"}], "resources": {},
                    "livenessProbe": {"terminationGracePeriodSeconds": 0}}],
            })
        );
        assert_eq!(pod(json!({"spec": {"containers": []}}))["spec"], json!({"containers": []}));
    }

    #[test]
    fn what_selects_by_being_empty_stays_and_so_does_what_is_applied() {
        let of = |name: &str, check: Check, mut value: Value| {
            check(&mut value, &crate::schema::find(name).unwrap());
            value
        };
        let policy = json!({"spec": {"podSelector": {}, "ingress": [{}]}});
        let policy_type = "io.k8s.api.networking.v1.NetworkPolicy";
        assert_eq!(of(policy_type, object, policy.clone()), policy);
        let role = json!({"rules": []});
        assert_eq!(of("io.k8s.api.rbac.v1.ClusterRole", object, role.clone()), role);
        let scaled = json!({"spec": {"replicas": 0, "paused": false}});
        let deployment = "io.k8s.api.apps.v1.Deployment";
        assert_eq!(of(deployment, object, scaled.clone())["spec"], json!({"replicas": 0}));
        assert_eq!(of(deployment, applied, scaled.clone()), scaled);
    }

    #[test]
    fn null_counts_as_absent() {
        let (value, findings) = check(json!({"metadata": {"creationTimestamp": null}}));
        assert_eq!((value, findings), (json!({"metadata": {}}), Findings::default()));
    }
}
