//! From a request's body to an object: JSON, YAML or protobuf, field validation, and the two fields
//! that say what it is.
//!
//! Upstream: the codec factory and the `fieldValidation` parameter (KEP-2885).

use std::{cell::RefCell, fmt, sync::Arc};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::options::DuplicateKeyPolicy;

use crate::{
    resources::{Resource, custom::Custom},
    schema::{
        self, Object,
        check::{self, Check},
        structural::shaping,
    },
    status::Status,
};

/// The limit on bodies (`MaxRequestBodyBytes`).
pub(crate) const BODY_LIMIT: usize = 3 * 1024 * 1024;

const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// What to do about unknown and duplicate fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

impl FieldValidation {
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, Status> {
        match text {
            None | Some("") => Ok(Self::default()),
            Some("Ignore") => Ok(Self::Ignore),
            Some("Warn") => Ok(Self::Warn),
            Some("Strict") => Ok(Self::Strict),
            Some(other) => Err(Status::bad_request(format!(
                "fieldValidation: Unsupported value: \"{other}\": supported values: \"Ignore\", \
                 \"Warn\", \"Strict\""
            ))),
        }
    }
}

/// A decoded value, and what is said of fields that stood in it twice.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) value: Value,
    pub(crate) duplicates: Vec<String>,
}

/// Reads a body of the content type that the client named.
pub(crate) fn body(content_type: &str, bytes: &[u8]) -> Result<Decoded, Status> {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    match media {
        "" | "application/json" => json(bytes),
        kube_protobuf::MEDIA_TYPE => {
            let value = kube_protobuf::decode(bytes).map_err(|error| malformed(&error))?;
            Ok(Decoded { value, duplicates: Vec::new() })
        }
        "application/yaml" | "application/x-yaml" | "text/yaml" => yaml(bytes),
        _ => Err(Status::unsupported_media_type(ACCEPTED)),
    }
}

pub(crate) fn json(bytes: &[u8]) -> Result<Decoded, Status> {
    let duplicates = RefCell::new(Vec::new());
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let seed = Seed { at: &Place::Root, duplicates: &duplicates };
    let value = seed.deserialize(&mut deserializer).and_then(|it| deserializer.end().map(|()| it));
    let value = value.map_err(|error| malformed(&error))?;
    let duplicates = duplicates.into_inner().into_iter();
    let duplicates = duplicates.map(|path| format!("duplicate field \"{path}\"")).collect();
    Ok(Decoded { value, duplicates })
}

/// Here, too, the last of two fields wins. Of several that stand twice, the first is told.
fn yaml(bytes: &[u8]) -> Result<Decoded, Status> {
    let text = std::str::from_utf8(bytes).map_err(|error| malformed(&error))?;
    let failed = |error: &serde_saphyr::Error| {
        malformed(&format!("error converting YAML to JSON: yaml: {error}"))
    };
    match serde_saphyr::from_str(text) {
        Ok(value) => Ok(Decoded { value, duplicates: Vec::new() }),
        Err(error) => {
            let serde_saphyr::Error::DuplicateMappingKey { key, location } =
                error.without_snippet()
            else {
                return Err(failed(&error));
            };
            let told = format!(
                "error converting YAML to JSON: yaml: unmarshal errors:\n  line {}: key {:?} \
                 already set in map",
                location.line(),
                key.as_deref().unwrap_or_default()
            );
            let lenient = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::LastWins };
            let value = serde_saphyr::from_str_with_options(text, lenient);
            let value = value.map_err(|error| failed(&error))?;
            Ok(Decoded { value, duplicates: vec![told] })
        }
    }
}

fn malformed(error: &dyn fmt::Display) -> Status {
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type Object): {error}"
    ))
}

/// Makes a decoded body an object of `resource`: checks `apiVersion` and `kind`, drops what the
/// type does not have. Returns warnings.
pub(crate) fn object(
    resource: &Resource,
    decoded: Decoded,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    identified(resource, decoded, validation, check::object)
}

/// As [`object`], of a configuration that is applied: in it what is empty counts.
pub(crate) fn applied(
    resource: &Resource,
    decoded: Decoded,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    identified(resource, decoded, validation, check::applied)
}

fn identified(
    resource: &Resource,
    decoded: Decoded,
    validation: FieldValidation,
    check: Check,
) -> Result<(Value, Vec<String>), Status> {
    let Decoded { mut value, duplicates } = decoded;
    identify(resource, &mut value)?;
    let Some(shape) = shape(resource) else { return Ok((value, Vec::new())) };
    let findings = findings(resource, &shape, &mut value, check);
    let warnings = told(resource, findings, &duplicates, validation)?;
    Ok((value, warnings))
}

/// The type of a resource's objects.
pub(crate) fn shape(resource: &Resource) -> Option<Arc<Object>> {
    match &resource.custom {
        Some(custom) => Some(custom.shape.clone()),
        None => schema::find(&resource.schema),
    }
}

/// Checks a value against a type; see [`object`].
pub(crate) fn typed(
    resource: &Resource,
    shape: &Arc<Object>,
    value: &mut Value,
    duplicates: &[String],
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    told(resource, findings(resource, shape, value, check::object), duplicates, validation)
}

fn findings(
    resource: &Resource,
    shape: &Arc<Object>,
    value: &mut Value,
    check: Check,
) -> check::Findings {
    match &resource.custom {
        None => check(value, shape),
        Some(custom) => own(custom, value, check),
    }
}

/// What becomes of findings: a refusal, or warnings.
fn told(
    resource: &Resource,
    findings: check::Findings,
    duplicates: &[String],
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    let (kind, version) = (&resource.kind, &resource.version);
    let failed = |why: &str| {
        Status::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"
        ))
    };
    if let Some(wrong) = findings.wrong {
        return Err(failed(&wrong));
    }
    let unknown = findings.unknown.iter().map(|path| format!("unknown field \"{path}\""));
    let found: Vec<String> = unknown.chain(duplicates.iter().cloned()).collect();
    match validation {
        FieldValidation::Strict if !found.is_empty() => {
            Err(failed(&format!("strict decoding error: {}", found.join(", "))))
        }
        FieldValidation::Warn => Ok(found),
        _ => Ok(Vec::new()),
    }
}

/// A custom resource: its metadata has a type, the rest has a schema. What does not fit into the
/// schema is told by validation.
fn own(custom: &Custom, value: &mut Value, check: Check) -> check::Findings {
    let metadata = schema::find(schema::METADATA);
    let found = match (metadata, value.get_mut("metadata")) {
        (Some(shape), Some(metadata)) => check(metadata, &shape),
        _ => check::Findings::default(),
    };
    let mut unknown = Vec::new();
    shaping::prune(value, custom.node(), &mut unknown);
    unknown.extend(found.unknown.iter().map(|it| format!("metadata.{it}")));
    let wrong = found
        .wrong
        .map(|it| it.replace("struct field ObjectMeta.", "struct field ObjectMeta.metadata."));
    check::Findings { unknown, wrong }
}

/// Checks what the body says that it is, and fills in what it does not say.
fn identify(resource: &Resource, value: &mut Value) -> Result<(), Status> {
    let Some(fields) = value.as_object_mut() else {
        let message = "couldn't get version/kind; json parse error: the body is not an object";
        return Err(Status::bad_request(message));
    };
    let (api_version, kind) = (resource.api_version(), resource.kind.clone());
    for (field, wanted) in [("apiVersion", &api_version), ("kind", &kind)] {
        match fields.get(field).map(|it| it.as_str()) {
            None | Some(Some("")) => drop(fields.insert(field.into(), wanted.clone().into())),
            Some(Some(found)) if found == wanted => {}
            Some(found) => {
                let found = found.unwrap_or_default();
                return Err(Status::bad_request(format!(
                    "the {field} in the data ({found}) does not match the expected {field} \
                     ({wanted})"
                )));
            }
        }
    }
    if !fields.get("metadata").is_some_and(Value::is_object) {
        fields.insert("metadata".into(), Value::Object(Map::new()));
    }
    Ok(())
}

/// Builds a [`Value`] and notes fields that occur twice; the last one wins, as upstream.
struct Seed<'a> {
    at: &'a Place<'a>,
    duplicates: &'a RefCell<Vec<String>>,
}

/// Where a value stands. It becomes a text only where it has to be told.
enum Place<'a> {
    Root,
    Field(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => f.write_str(name),
            Self::Field(place, name) => write!(f, "{place}.{name}"),
            Self::Item(place, index) => write!(f, "{place}[{index}]"),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        loop {
            let at = Place::Item(self.at, out.len());
            match items.next_element_seed(Seed { at: &at, duplicates: self.duplicates })? {
                Some(item) => out.push(item),
                None => return Ok(Value::Array(out)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let at = Place::Field(self.at, &key);
            if out.contains_key(&key) {
                self.duplicates.borrow_mut().push(at.to_string());
            }
            let value = entries.next_value_seed(Seed { at: &at, duplicates: self.duplicates })?;
            if out.len() > 1_000_000 {
                return Err(A::Error::custom("too many fields"));
            }
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Catalog;

    fn deployment(text: &str, validation: FieldValidation) -> Result<(Value, Vec<String>), Status> {
        let resource = Catalog::builtin().find("apps", "v1", "deployments").unwrap();
        object(&resource, json(text.as_bytes())?, validation)
    }

    const ODD: &str = r#"{"metadata":{"name":"a"},"spec":{"foo":1,"replicas":1,"replicas":2}}"#;

    #[test]
    fn strict_refuses_what_warn_only_mentions() {
        let error = deployment(ODD, FieldValidation::Strict).unwrap_err();
        assert_eq!(
            error.message,
            "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding \
             error: unknown field \"spec.foo\", duplicate field \"spec.replicas\""
        );
        let (value, warnings) = deployment(ODD, FieldValidation::Warn).unwrap();
        assert_eq!(warnings, ["unknown field \"spec.foo\"", "duplicate field \"spec.replicas\""]);
        assert_eq!(value["spec"], serde_json::json!({"replicas": 2}));
        assert!(deployment(ODD, FieldValidation::Ignore).unwrap().1.is_empty());
    }

    #[test]
    fn yaml_with_a_key_twice_is_told_with_its_line() {
        let text = b"apiVersion: apps/v1\nspec:\n  replicas: 1\n  replicas: 2\n";
        let decoded = body("application/yaml", text).unwrap();
        assert_eq!(decoded.value["spec"]["replicas"], 2);
        let told = "line 4: key \"replicas\" already set in map";
        assert!(decoded.duplicates[0].ends_with(told), "{:?}", decoded.duplicates);
    }

    #[test]
    fn a_body_of_another_kind_is_refused() {
        let error = deployment(r#"{"kind":"Pod"}"#, FieldValidation::Warn).unwrap_err();
        assert_eq!(
            error.message,
            "the kind in the data (Pod) does not match the expected kind (Deployment)"
        );
        assert_eq!(json(b"{nope").unwrap_err().code, 400);
        assert_eq!(body("application/cbor", b"").unwrap_err().code, 415);
    }
}
