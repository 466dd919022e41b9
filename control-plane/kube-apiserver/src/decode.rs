//! From a request's body to an object: JSON, YAML or protobuf, field validation, and the two fields
//! that say what it is.
//!
//! Upstream: the codec factory and the `fieldValidation` parameter (KEP-2885).

pub(crate) mod strict;

use std::{fmt, sync::Arc};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::options::DuplicateKeyPolicy;

use self::strict::{Faults, Lines};
use crate::{
    resources::{Resource, custom::Custom, meta},
    schema::{
        self, Object,
        check::{self, Check},
        structural::shaping,
    },
    status::{FieldError, Status},
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
pub(crate) struct Decoded<'a> {
    pub(crate) value: Value,
    pub(crate) twice: Twice<'a>,
}

/// Fields that stood twice.
#[derive(Debug)]
pub(crate) enum Twice<'a> {
    /// Faults of that JSON.
    Json(&'a [u8], Vec<String>),
    /// Lines that Go's reader of YAML tells.
    Yaml(Vec<String>),
}

impl Twice<'_> {
    const NONE: Self = Self::Yaml(Vec::new());

    /// As warnings.
    pub(crate) fn warnings(self) -> Vec<String> {
        let (Self::Json(_, all) | Self::Yaml(all)) = self;
        all
    }

    /// As they stand in a refusal.
    fn faults(self) -> Vec<String> {
        match self {
            Self::Yaml(lines) if !lines.is_empty() => vec![unmarshal_errors(&lines)],
            other => other.warnings(),
        }
    }
}

fn unmarshal_errors(lines: &[String]) -> String {
    format!("yaml: unmarshal errors:\n  {}", lines.join("\n  "))
}

/// Reads a body of the content type that the client named.
pub(crate) fn body<'a>(content_type: &str, bytes: &'a [u8]) -> Result<Decoded<'a>, Status> {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    match media {
        "" | "application/json" => json(bytes),
        kube_protobuf::MEDIA_TYPE => {
            let value = kube_protobuf::decode(bytes).map_err(|error| malformed(&error))?;
            Ok(Decoded { value, twice: Twice::NONE })
        }
        "application/yaml" | "application/x-yaml" | "text/yaml" => yaml(bytes),
        _ => Err(Status::unsupported_media_type(ACCEPTED)),
    }
}

pub(crate) fn json(bytes: &[u8]) -> Result<Decoded<'_>, Status> {
    let faults = Faults::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let seed = Seed { at: &Place::Root, faults: &faults };
    let value = seed.deserialize(&mut deserializer).and_then(|it| deserializer.end().map(|()| it));
    let value = value.map_err(|error| malformed(&error))?;
    Ok(Decoded { value, twice: Twice::Json(bytes, faults.into_inner()) })
}

/// Here, too, the last of two fields wins.
fn yaml(bytes: &[u8]) -> Result<Decoded<'_>, Status> {
    let text = std::str::from_utf8(bytes).map_err(|error| malformed(&error))?;
    let failed = |error: &serde_saphyr::Error| {
        malformed(&format!("error converting YAML to JSON: yaml: {error}"))
    };
    match serde_saphyr::from_str(text) {
        Ok(value) => Ok(Decoded { value, twice: Twice::NONE }),
        Err(error) => {
            let serde_saphyr::Error::DuplicateMappingKey { .. } = error.without_snippet() else {
                return Err(failed(&error));
            };
            let lenient =
                || serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::LastWins };
            let value = serde_saphyr::from_str_with_options(text, lenient());
            let value = value.map_err(|error| failed(&error))?;
            let lines = serde_saphyr::from_str_with_options::<Lines>(text, lenient());
            let Lines(lines) = lines.map_err(|error| failed(&error))?;
            Ok(Decoded { value, twice: Twice::Yaml(lines) })
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
    decoded: Decoded<'_>,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let Decoded { mut value, twice } = decoded;
    check_custom_kind(resource, &value)?;
    identify(resource, &mut value)?;
    let Some(shape) = shape(resource) else { return Ok((value, Vec::new())) };
    let findings = findings(resource, &shape, &mut value, check::object);
    let faults = match twice {
        _ if validation == FieldValidation::Ignore => Vec::new(),
        Twice::Json(_, all) if all.is_empty() && findings.unknown.is_empty() => Vec::new(),
        Twice::Json(text, _) if resource.custom.is_none() => strict::of_type(text, &shape),
        twice => {
            let is_strict = validation == FieldValidation::Strict;
            let mut all = if is_strict { twice.faults() } else { twice.warnings() };
            all.extend(unknown(&findings));
            all
        }
    };
    let warnings =
        told(findings.wrong, faults, validation).map_err(|why| refused(resource, &why))?;
    Ok((value, warnings))
}

/// As [`object`], of a configuration that is applied: in it what is empty counts. What the type does not
/// have is told by whoever applies it.
pub(crate) fn applied(
    resource: &Resource,
    mut value: Value,
    validation: FieldValidation,
) -> Result<Value, Status> {
    identify(resource, &mut value)?;
    if let Some(shape) = shape(resource) {
        let findings = findings(resource, &shape, &mut value, check::applied);
        told(findings.wrong, Vec::new(), validation).map_err(|why| refused(resource, &why))?;
    }
    Ok(value)
}

/// What becomes of fields that stand twice in a configuration that is applied.
pub(crate) fn applied_twice(
    twice: Twice<'_>,
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    let lines = twice.warnings();
    match validation {
        FieldValidation::Strict if !lines.is_empty() => Err(Status::bad_request(format!(
            "error strict decoding YAML: error converting YAML to JSON: {}",
            unmarshal_errors(&lines)
        ))),
        FieldValidation::Warn => Ok(lines),
        _ => Ok(Vec::new()),
    }
}

fn unknown(findings: &check::Findings) -> impl Iterator<Item = String> {
    findings.unknown.iter().map(|path| format!("unknown field \"{path}\""))
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
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    patched(resource, shape, value, Vec::new(), validation).map_err(|why| refused(resource, &why))
}

/// As [`typed`], of what became of an object by a patch that had these faults.
pub(crate) fn patched(
    resource: &Resource,
    shape: &Arc<Object>,
    value: &mut Value,
    mut faults: Vec<String>,
    validation: FieldValidation,
) -> Result<Vec<String>, String> {
    let findings = findings(resource, shape, value, check::object);
    faults.extend(unknown(&findings));
    told(findings.wrong, faults, validation)
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
    wrong: Option<String>,
    faults: Vec<String>,
    validation: FieldValidation,
) -> Result<Vec<String>, String> {
    match validation {
        _ if wrong.is_some() => Err(wrong.unwrap_or_default()),
        FieldValidation::Strict if !faults.is_empty() => {
            Err(format!("strict decoding error: {}", faults.join(", ")))
        }
        FieldValidation::Warn => Ok(faults),
        _ => Ok(Vec::new()),
    }
}

fn refused(resource: &Resource, why: &str) -> Status {
    let (kind, version) = (&resource.kind, &resource.version);
    Status::bad_request(format!(
        "{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"
    ))
}

/// A custom resource: its metadata has a type, the rest has a schema. What does not fit into the
/// schema is told by validation.
fn own(custom: &Custom, value: &mut Value, check: Check) -> check::Findings {
    let metadata = schema::find(schema::METADATA);
    let found = match (metadata, value.get_mut("metadata")) {
        (Some(shape), Some(metadata)) => check(metadata, &shape),
        _ => check::Findings::default(),
    };
    let unknown = found.unknown.iter().map(|it| format!("metadata.{it}"));
    let mut unknown: Vec<String> = unknown.collect();
    let within = shaping::prune(value, custom.node(), &mut unknown);
    shaping::make_whole(value);
    let wrong = found
        .wrong
        .map(|it| it.replace("struct field ObjectMeta.", "struct field ObjectMeta.metadata."))
        .or(within);
    check::Findings { unknown, wrong }
}

/// The kind of a custom resource is a matter of its validation.
fn check_custom_kind(resource: &Resource, value: &Value) -> Result<(), Status> {
    let is_of_version = value["apiVersion"].as_str().is_none_or(|it| it == resource.api_version());
    let Some(found) = value["kind"].as_str().filter(|it| !it.is_empty() && is_of_version) else {
        return Ok(());
    };
    if resource.custom.is_none() || found == resource.kind {
        return Ok(());
    }
    let fault = FieldError::invalid("kind", found, format!("must be {}", resource.kind));
    let (kind, name) = (format!("{found}.{}", resource.group), meta(value, "name"));
    Err(Status::invalid(&kind, name, &[fault]))
}

/// Checks what the body says that it is, and fills in what it does not say.
fn identify(resource: &Resource, value: &mut Value) -> Result<(), Status> {
    let Some(fields) = value.as_object_mut() else {
        let message = "couldn't get version/kind; json parse error: the body is not an object";
        return Err(Status::bad_request(message));
    };
    let (api_version, kind) = (resource.api_version(), resource.kind.clone());
    for (field, shown, wanted) in
        [("apiVersion", "API version", &api_version), ("kind", "kind", &kind)]
    {
        match fields.get(field).map(|it| it.as_str()) {
            None | Some(Some("")) => drop(fields.insert(field.into(), wanted.clone().into())),
            Some(Some(found)) if found == wanted => {}
            Some(found) => {
                let found = found.unwrap_or_default();
                return Err(Status::bad_request(format!(
                    "the {shown} in the data ({found}) does not match the expected {shown} \
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
    faults: &'a Faults,
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
            match items.next_element_seed(Seed { at: &at, faults: self.faults })? {
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
                self.faults.twice(&at);
            }
            let value = entries.next_value_seed(Seed { at: &at, faults: self.faults })?;
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
    fn every_key_that_stands_twice_in_yaml_is_told_with_its_line() {
        let text = b"apiVersion: apps/v1\nspec:\n  replicas: 1\n  odd: 1\n  replicas: 2\n  template:\n    \
                     spec:\n      containers:\n      - name: a\n        name: b\n  odd: 2\n";
        let lines = [
            "line 5: key \"replicas\" already set in map",
            "line 10: key \"name\" already set in map",
            "line 11: key \"odd\" already set in map",
        ];
        let deployments = Catalog::builtin().find("apps", "v1", "deployments").unwrap();
        let decoded = || body("application/yaml", text).unwrap();
        let (value, told) = object(&deployments, decoded(), FieldValidation::Warn).unwrap();
        assert_eq!(value["spec"]["replicas"], 2);
        assert_eq!(
            (&told[..3], &*told[3]),
            (&lines.map(String::from)[..], "unknown field \"spec.odd\"")
        );
        let refused = object(&deployments, decoded(), FieldValidation::Strict).unwrap_err();
        assert_eq!(
            refused.message,
            format!(
                "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: \
                 yaml: unmarshal errors:\n  {}, unknown field \"spec.odd\"",
                lines.join("\n  ")
            )
        );
        let refused = applied_twice(decoded().twice, FieldValidation::Strict).unwrap_err();
        assert!(refused.message.starts_with(
            "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 5"
        ));
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
