//! Custom resources between their versions.
//!
//! One version is stored. Whoever asks for another gets what the definition's webhook makes of the
//! stored object, or the same object under another name. What comes back may differ in everything but
//! its identity: of its metadata, only labels and annotations are taken over.
//!
//! Deviation: admission webhooks that ask for another version of a custom resource than the request's
//! (`matchPolicy: Equivalent`) get it converted only where no webhook converts.
//!
//! Upstream: pkg/apiserver/conversion of k8s.io/apiextensions-apiserver.

use std::{borrow::Cow, time::Duration};

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    admission::Endpoint,
    resources::{Resource, custom::Custom},
    schema::structural::shaping,
    server::Server,
    status::Status,
    validation,
};

/// Upstream's limit for a conversion.
const LIMIT: Duration = Duration::from_secs(30);

/// The program that converts the objects of a definition.
pub(crate) struct Webhook {
    endpoint: Result<Endpoint, String>,
    /// Of `ConversionReview`: the first that is known here.
    version: Option<&'static str>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Webhook {
    /// Of `spec.conversion`, if its strategy is `Webhook`.
    pub(crate) fn of(conversion: &Value) -> Option<Self> {
        if conversion["strategy"] != "Webhook" {
            return None;
        }
        let webhook = &conversion["webhook"];
        let versions = webhook["conversionReviewVersions"].as_array().into_iter().flatten();
        let version = versions.filter_map(Value::as_str).find_map(|it| match it {
            "v1" => Some("v1"),
            "v1beta1" => Some("v1beta1"),
            _ => None,
        });
        Some(Self { endpoint: Endpoint::of(&webhook["clientConfig"], LIMIT), version })
    }

    async fn ask(
        &self,
        server: &Server,
        objects: &[Value],
        to: &str,
    ) -> Result<Vec<Value>, String> {
        let version = self.version.ok_or("no supported conversion review versions")?;
        let endpoint = self.endpoint.as_ref().map_err(Clone::clone)?;
        let uid = entropy::uuid();
        let api_version = format!("apiextensions.k8s.io/{version}");
        let review = json!({
            "kind": "ConversionReview", "apiVersion": api_version,
            "request": { "uid": uid, "desiredAPIVersion": to, "objects": objects },
        });
        let review = server.admission.ask(endpoint, &review).await?;
        if version == "v1" {
            check_review(&review, &uid)?;
        }
        let response = &review["response"];
        if !response.is_object() {
            return Err("no response provided".to_owned());
        }
        let result = &response["result"];
        if result["status"] != "Success" {
            let status = result["status"].as_str().unwrap_or_default();
            return Err(match result["message"].as_str().unwrap_or_default() {
                "" => format!("response.result.status was '{status}', not 'Success'"),
                message => message.to_owned(),
            });
        }
        Ok(response["convertedObjects"].as_array().cloned().unwrap_or_default())
    }
}

/// Whether an answer is one, and to this question.
fn check_review(review: &Value, uid: &str) -> Result<(), String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&review["apiVersion"]), text(&review["kind"]));
    let wanted = "apiextensions.k8s.io/v1, Kind=ConversionReview";
    let found = format!("{version}, Kind={kind}");
    if found != wanted {
        return Err(format!("expected webhook response of {wanted}, got {found}"));
    }
    let found = text(&review["response"]["uid"]);
    if review["response"].is_object() && found != uid {
        return Err(format!("expected response.uid={uid:?}, got {found:?}"));
    }
    Ok(())
}

/// Objects of one resource as this version has them.
async fn convert(
    server: &Server,
    resource: &Resource,
    custom: &Custom,
    objects: Objects,
    to: &str,
) -> Result<Vec<Value>, Status> {
    let is_list = matches!(objects, Objects::List(_));
    let (Objects::List(objects) | Objects::One(objects)) = objects;
    let Some(webhook) = &custom.webhook else {
        return Ok(objects.into_iter().map(|it| renamed(it, to)).collect());
    };
    let sent: Vec<Value> = objects.iter().filter(|it| it["apiVersion"] != to).cloned().collect();
    let Some(first) = sent.first() else { return Ok(objects) };
    let list = if is_list { "List" } else { "" };
    let kind = format!(
        "{}, Kind={}{list}",
        first["apiVersion"].as_str().unwrap_or_default(),
        resource.kind
    );
    let failed = |why: String| {
        let why = format!("conversion webhook for {kind} {why}");
        Status::new(StatusCode::INTERNAL_SERVER_ERROR, "", why)
    };
    let answered = webhook.ask(server, &sent, to).await;
    let answered = answered.map_err(|why| failed(format!("failed: {why}")))?;
    if answered.len() != sent.len() {
        let (found, wanted) = (answered.len(), sent.len());
        return Err(failed(format!("returned {found} objects, expected {wanted}")));
    }
    let mut converted = Vec::with_capacity(objects.len());
    let mut answered = answered.into_iter();
    let mut place = 0;
    for object in objects {
        if object["apiVersion"] == to {
            converted.push(object);
        } else if let Some(answer) = answered.next() {
            // Upstream counts on before it looks.
            place += 1;
            let settled = settled(&object, answer, to);
            let told = |why: Invalid| failed(why.told(is_list.then_some(place)));
            converted.push(settled.map_err(told)?);
        }
    }
    Ok(converted)
}

/// Objects that were asked for as a list, or one alone.
enum Objects {
    List(Vec<Value>),
    One(Vec<Value>),
}

/// What is wrong with an object that came back.
enum Invalid {
    Type(String),
    Object(String),
    Metadata(String),
}

impl Invalid {
    /// `place` is that in a list.
    fn told(&self, place: Option<usize>) -> String {
        match (self, place) {
            (Self::Type(why) | Self::Object(why), Some(at)) => {
                format!("returned invalid converted object at index {at}: {why}")
            }
            (Self::Metadata(why), Some(at)) => {
                format!("returned invalid metadata in object at index {at}: {why}")
            }
            (Self::Type(why), None) => format!("returned invalid object at index 0: {why}"),
            (Self::Object(why), None) => format!("returned invalid object: {why}"),
            (Self::Metadata(why), None) => format!("returned invalid metadata: {why}"),
        }
    }
}

/// The same object under the name of another version.
fn renamed(mut object: Value, to: &str) -> Value {
    object["apiVersion"] = to.into();
    object
}

/// What the webhook answered, as the object that it was asked about.
fn settled(object: &Value, mut answer: Value, to: &str) -> Result<Value, Invalid> {
    let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
    let typed = |what: &str, wanted: &str, found: &Value| {
        let found = text(found);
        let why = || format!("invalid {what} (expected {wanted}, received {found})");
        if found == wanted { Ok(()) } else { Err(Invalid::Type(why())) }
    };
    typed("groupVersion", to, &answer["apiVersion"])?;
    typed("kind", &text(&object["kind"]), &answer["kind"])?;
    for (what, field) in [("name", "name"), ("namespace", "namespace"), ("UID", "uid")] {
        let [before, after] = [object, &answer].map(|it| text(&it["metadata"][field]));
        if before != after {
            let why = format!("must have the same {what}: {before} != {after}");
            return Err(Invalid::Object(why));
        }
    }
    answer["metadata"] =
        metadata(&object["metadata"], &answer["metadata"]).map_err(Invalid::Metadata)?;
    Ok(answer)
}

/// Metadata with the labels and annotations of an answer's.
fn metadata(before: &Value, answered: &Value) -> Result<Value, String> {
    let mut metadata = before.clone();
    for field in ["labels", "annotations"] {
        let wanted = &answered[field];
        let shape =
            || format!("invalid metadata.{field} of type {} in converted object", go(wanted));
        let wanted = match wanted {
            Value::Null => None,
            Value::Object(fields) => Some(fields).filter(|it| !it.is_empty()),
            _ => return Err(shape()),
        };
        if let Some((name, odd)) = wanted.into_iter().flatten().find(|(_, it)| !it.is_string()) {
            let odd = go(odd);
            return Err(format!(
                "metadata.{field}[{name}] must be a string, but is {odd} in converted object"
            ));
        }
        if before[field].as_object() != wanted {
            validation::converted(field, &answered[field])?;
        }
        if let Some(fields) = metadata.as_object_mut() {
            fields.remove(field);
            fields.extend(wanted.map(|it| (field.to_owned(), it.clone().into())));
        }
    }
    Ok(metadata)
}

/// The type as which Go reads it.
fn go(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Whether a stored object has to be asked for before it can be shown.
pub(crate) fn needs_webhook(resource: &Resource) -> bool {
    resource.custom.as_ref().is_some_and(|it| it.webhook.is_some())
}

/// A list of stored objects in the version of the resource.
pub(crate) async fn read(
    server: &Server,
    resource: &Resource,
    objects: Vec<Value>,
) -> Result<Vec<Value>, Status> {
    shown(server, resource, Objects::List(objects)).await
}

async fn shown(
    server: &Server,
    resource: &Resource,
    objects: Objects,
) -> Result<Vec<Value>, Status> {
    let Some(custom) = &resource.custom else {
        let (Objects::List(objects) | Objects::One(objects)) = objects;
        return Ok(objects);
    };
    let to = resource.api_version();
    let mut converted = convert(server, resource, custom, objects, &to).await?;
    converted.iter_mut().for_each(|it| settle(resource, custom, it));
    Ok(converted)
}

/// A stored object in the version of the resource.
pub(crate) async fn read_one(
    server: &Server,
    resource: &Resource,
    object: Value,
) -> Result<Value, Status> {
    if resource.custom.is_none() {
        return Ok(object);
    }
    let mut all = shown(server, resource, Objects::One(vec![object])).await?;
    all.pop().ok_or_else(|| Status::internal("no object was converted"))
}

/// An object of the resource's version as it is stored.
pub(crate) async fn stored<'a>(
    server: &Server,
    resource: &Resource,
    object: &'a Value,
) -> Result<Cow<'a, Value>, Status> {
    let Some(custom) = &resource.custom else { return Ok(Cow::Borrowed(object)) };
    let objects = Objects::One(vec![object.clone()]);
    let mut all = convert(server, resource, custom, objects, &custom.stored).await?;
    all.pop().map(Cow::Owned).ok_or_else(|| Status::internal("no object was converted"))
}

/// A converted object, or one that needs no program for that: without what the version does not have,
/// with its defaults.
pub(super) fn settle(resource: &Resource, custom: &Custom, object: &mut Value) {
    let version = resource.api_version();
    if custom.webhook.is_some() && object["apiVersion"] != version.as_str() {
        return;
    }
    object["apiVersion"] = version.into();
    shaping::prune(object, custom.node(), &mut Vec::new());
    shaping::make_whole(object);
    shaping::default(object, custom.node());
}
