//! `scale`: one number of several kinds, behind one type.
//!
//! Upstream: `ScaleREST` of the workload types, and the scale subresource of custom resources.

use http::{StatusCode, header};
use serde_json::{Map, Value, json};

use crate::{
    admission::{self, Operation},
    apply,
    convert::custom,
    decode, json_patches, managed_fields, registry,
    render::Answer,
    resources::{Resource, meta},
    schema,
    selectors::Labels,
    server::Call,
    status::{FieldError, Status},
    strategic,
    verbs::{latest, modify, namespace, write},
};

const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";

/// Asks admission about a change, which it sees as one of the Scale.
pub(super) async fn admit(call: &mut Call, old: &Value, new: &mut Value) -> Result<(), Status> {
    let paths = paths(&call.resource);
    let (before, mut wanted) = (scale_of(old, &paths), scale_of(new, &paths));
    let replicas = wanted["spec"]["replicas"].clone();
    admission::admit(call, Operation::Update, Some(&before), &mut wanted).await?;
    if wanted["spec"]["replicas"] != replicas {
        set(new, &paths.replicas, wanted["spec"]["replicas"].clone());
    }
    Ok(())
}

/// Where a kind keeps what a Scale shows.
struct Paths {
    replicas: String,
    status_replicas: String,
    selector: Option<String>,
}

fn paths(resource: &Resource) -> Paths {
    let pointer = |path: &Value| {
        path.as_str()
            .map(|it| it.trim_start_matches('.').replace('.', "/"))
            .map(|it| format!("/{it}"))
    };
    let scale = resource.custom.as_ref().map(|it| &it.scale);
    let or = |name: &str, default: &str| {
        scale.and_then(|it| pointer(&it[name])).unwrap_or_else(|| default.into())
    };
    Paths {
        replicas: or("specReplicasPath", "/spec/replicas"),
        status_replicas: or("statusReplicasPath", "/status/replicas"),
        selector: scale
            .map_or(Some("/spec/selector".into()), |it| pointer(&it["labelSelectorPath"])),
    }
}

pub(crate) async fn answer(call: &mut Call) -> Result<Answer, Status> {
    let name = call.name().to_owned();
    let paths = paths(&call.resource);
    match call.info.verb.as_str() {
        "get" => {
            let key = call.resource.key(namespace(call), &name);
            let record = latest::record(call, &key).await?;
            let record =
                record.ok_or_else(|| Status::not_found(&call.resource.qualified(), &name))?;
            let object = registry::decode(&record);
            let object = custom::read_one(&call.server, &call.resource, object).await?;
            Ok(shown(&object, &paths))
        }
        "update" | "patch" => change(call, &name, &paths).await,
        verb => Err(Status::method_not_allowed(verb, &call.resource.qualified())),
    }
}

/// Server-side apply: the number is applied to the object itself.
async fn apply(call: &mut Call, name: &str, paths: &Paths) -> Result<Answer, Status> {
    let applied = decode::body("application/yaml", &call.body)?.value;
    if applied["apiVersion"] != "autoscaling/v1" || applied["kind"] != "Scale" {
        let found = applied["apiVersion"].as_str().unwrap_or_default();
        return Err(Status::bad_request(format!(
            "Incorrect version specified in apply patch. Specified patch version: {found}, \
             expected: autoscaling/v1"
        )));
    }
    let mut object = json!({
        "apiVersion": call.resource.api_version(), "kind": call.resource.kind, "metadata": {},
    });
    let version = meta(&applied, "resourceVersion");
    if !version.is_empty() {
        object["metadata"]["resourceVersion"] = version.into();
    }
    if let Some(replicas) = applied["spec"]["replicas"].as_i64() {
        check(replicas, &call.resource.qualified_kind(), name)?;
        set(&mut object, &paths.replicas, replicas.into());
    }
    let manager = managed_fields::manager(call);
    let request = apply::Request::of(call, manager, object, super::WHOLE);
    let object =
        modify::modify(call, name, super::WHOLE, |live| apply::plan::plan(live, &request)).await?;
    Ok(shown(&serde_json::from_slice(&object).unwrap_or_default(), paths))
}

fn check(replicas: i64, kind: &str, name: &str) -> Result<(), Status> {
    if replicas >= 0 {
        return Ok(());
    }
    let why = "must be greater than or equal to 0";
    Err(Status::invalid(kind, name, &[FieldError::invalid("spec.replicas", replicas, why)]))
}

async fn change(call: &mut Call, name: &str, paths: &Paths) -> Result<Answer, Status> {
    if managed_fields::is_apply(call) {
        return apply(call, name, paths).await;
    }
    let validation = write::field_validation(call)?;
    let media = call.header(header::CONTENT_TYPE).split(';').next().unwrap_or_default().to_owned();
    let is_patch = call.info.verb == "patch";
    let body = call.body.clone();
    let kind = call.resource.qualified_kind();
    let object = modify::modify(call, name, super::WHOLE, |object| {
        let current = scale_of(object, paths);
        let mut wanted = current.clone();
        if is_patch {
            patch(&media, &body, &mut wanted)?;
        } else {
            wanted = decode::body(&media, &body)?.value;
        }
        let findings = schema::find(SCALE).map(|shape| schema::check::object(&mut wanted, &shape));
        if let Some(findings) = findings {
            if let Some(wrong) = findings.wrong {
                return Err(Status::bad_request(wrong));
            }
            if validation == decode::FieldValidation::Strict && !findings.unknown.is_empty() {
                let unknown = findings.unknown.join("\", unknown field \"");
                return Err(Status::bad_request(format!(
                    "strict decoding error: unknown field \"{unknown}\""
                )));
            }
        }
        let replicas = wanted["spec"]["replicas"].as_i64().unwrap_or_default();
        check(replicas, &kind, name)?;
        let mut object = object.clone();
        let version = meta(&wanted, "resourceVersion");
        if !version.is_empty() {
            object["metadata"]["resourceVersion"] = version.into();
        }
        set(&mut object, &paths.replicas, replicas.into());
        Ok(object)
    })
    .await?;
    Ok(shown(&serde_json::from_slice(&object).unwrap_or_default(), paths))
}

fn patch(media: &str, body: &[u8], scale: &mut Value) -> Result<(), Status> {
    let value = || decode::json(body).map(|it| it.value);
    match media {
        "application/json-patch+json" => {
            let patch: json_patch::Patch = serde_json::from_slice(body)
                .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
            json_patches::apply(scale, &patch).map_err(Status::from)
        }
        "application/merge-patch+json" => {
            json_patch::merge(scale, &value()?);
            Ok(())
        }
        "application/strategic-merge-patch+json" => {
            let shape = schema::find(SCALE);
            strategic::apply(scale, &value()?, shape.as_ref())
                .map_err(|error| Status::bad_request(error.to_string()))
        }
        _ => Err(Status::unsupported_media_type(
            "application/json-patch+json, application/merge-patch+json, \
             application/strategic-merge-patch+json",
        )),
    }
}

fn set(object: &mut Value, pointer: &str, value: Value) {
    let mut place = object;
    for part in pointer.split('/').skip(1) {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        place = &mut place[part];
    }
    *place = value;
}

fn shown(object: &Value, paths: &Paths) -> Answer {
    Answer::Object(StatusCode::OK, scale_of(object, paths).to_string().into())
}

fn scale_of(object: &Value, paths: &Paths) -> Value {
    let number =
        |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
    let metadata = &object["metadata"];
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": { "replicas": number(&paths.replicas) },
        "status": { "replicas": number(&paths.status_replicas) },
    });
    let selector = paths.selector.as_ref().and_then(|it| object.pointer(it));
    if let Some(text) = selector.map(selector_text).filter(|it| !it.is_empty()) {
        scale["status"]["selector"] = text.into();
    }
    scale
}

/// A selector in the query syntax.
fn selector_text(selector: &Value) -> String {
    match selector {
        Value::String(text) => text.clone(),
        selector => {
            Labels::of(&as_label_selector(selector)).map(|it| it.to_string()).unwrap_or_default()
        }
    }
}

/// ReplicationControllers select by a plain map.
fn as_label_selector(selector: &Value) -> Value {
    let is_full =
        selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some();
    if is_full { selector.clone() } else { json!({ "matchLabels": selector }) }
}
