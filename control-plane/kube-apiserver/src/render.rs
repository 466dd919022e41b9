//! From answers to bytes: objects, lists, tables, Status, in the form that the client asked for.

use std::{borrow::Cow, collections::HashSet, io::Write, ops::Range, sync::Arc, thread};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderValue, Response, StatusCode, header};
use kube_protobuf::ProtobufError;
use mvcc::Record;
use serde_json::{Value, json};
use transport::Body;

use crate::{
    negotiate::{Accept, Form, Format, Meta},
    registry,
    resources::Resource,
    server::Call,
    status::Status,
    table::{self, View},
};

/// Answers longer than this are compressed for clients that can take it (upstream: 128 KiB).
const GZIP_FROM: usize = 128 * 1024;

/// Objects of a list that is worth a thread.
const LONG_LIST: usize = 1000;

/// What a verb found or did.
pub(crate) enum Answer {
    /// One object, as JSON with its `resourceVersion`.
    Object(StatusCode, Bytes),
    List(Page),
    /// A list of objects that are not stored.
    Made(Vec<Value>),
    /// Ready to go.
    Response(Response<Body>),
}

/// A page of a list.
pub(crate) struct Page {
    pub(crate) records: Vec<Arc<Record>>,
    pub(crate) revision: u64,
    pub(crate) next: Option<String>,
    pub(crate) remaining: Option<usize>,
    /// The records as a program has converted them, in their order.
    pub(crate) converted: Option<Vec<Bytes>>,
}

impl Page {
    /// The record of this number as the resource shows it.
    fn item(&self, resource: &Resource, index: usize) -> Bytes {
        match &self.converted {
            Some(all) => all[index].clone(),
            None => record_at(resource, &self.records[index], self.records[index].mod_revision),
        }
    }

    /// The same, behind what is there already; most records are shown as they are stored.
    fn push_item(&self, out: &mut Vec<u8>, resource: &Resource, index: usize) {
        if resource.stored_as.is_some() || resource.custom.is_some() {
            out.extend_from_slice(&self.item(resource, index));
        } else {
            let record = &self.records[index];
            registry::write_item(out, &record.value, record.mod_revision);
        }
    }

    fn metadata(&self) -> Value {
        let mut metadata = json!({ "resourceVersion": self.revision.to_string() });
        if let Some(next) = &self.next {
            metadata["continue"] = next.clone().into();
            if let Some(remaining) = self.remaining {
                metadata["remainingItemCount"] = remaining.into();
            }
        }
        metadata
    }
}

/// A response with this body, of this format.
pub(crate) fn response(code: StatusCode, format: Format, json: Bytes) -> Response<Body> {
    match formatted(format, json) {
        Ok(bytes) => ready(code, format, bytes),
        Err(error) => status(&unencodable(&error), Format::Json),
    }
}

fn ready(code: StatusCode, format: Format, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(transport::full(bytes));
    *response.status_mut() = code;
    let media = HeaderValue::from_static(format.media_type());
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    response
}

fn formatted(format: Format, json: Bytes) -> Result<Bytes, ProtobufError> {
    Ok(match format {
        Format::Json => json,
        Format::Yaml => yaml(&json),
        Format::Protobuf => kube_protobuf::encode(&json)?.into(),
    })
}

/// As upstream answers for what has no message.
fn unencodable(error: &ProtobufError) -> Status {
    tracing::warn!(%error, "an answer could not be encoded as protobuf");
    let message = format!("the object cannot be encoded to a protobuf message: {error}");
    Status::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
}

fn yaml(json: &Bytes) -> Bytes {
    let value: Value = serde_json::from_slice(json).unwrap_or_default();
    match serde_saphyr::to_string(&value) {
        Ok(text) => text.into(),
        // JSON is YAML.
        Err(_) => json.clone(),
    }
}

pub(crate) fn status(status: &Status, format: Format) -> Response<Body> {
    if status.is_text {
        return text(status.code, &status.message);
    }
    let mut response = response(status.code, format, status.to_json().to_string().into());
    if let Some(seconds) = status.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    let aside = status.aside.as_ref();
    warn(&mut response, aside.map_or(&[], |it| &it.warnings));
    response
}

/// As Go's `http.Error` writes it.
pub(crate) fn text(code: StatusCode, line: &str) -> Response<Body> {
    let mut response = Response::new(transport::full(format!("{line}\n")));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    let media = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, media);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Renders what a verb answered.
pub(crate) fn answer(call: &Call, answer: Answer) -> Result<Response<Body>, Status> {
    let mut response = match answer {
        Answer::Response(response) => response,
        Answer::Object(code, bytes) => {
            if call.accept.form == Form::PartialMetadataList && !is_status(&bytes) {
                let wanted = "PartialObjectMetadataList, but the requested object is not a list";
                return Err(not_of_form(&call.resource, wanted, ""));
            }
            let bytes = object(&call.resource, call.accept, bytes, view(call));
            response(code, call.accept.format, bytes)
        }
        Answer::Made(objects) => {
            let bytes = made(&call.resource, call.accept, objects, json!({}), view(call));
            response(StatusCode::OK, call.accept.format, bytes)
        }
        Answer::List(_) if call.accept.form == Form::PartialMetadata => {
            let wanted = "PartialObjectMetadata, but the requested object is a list";
            return Err(not_of_form(&call.resource, wanted, "List"));
        }
        Answer::List(page) => {
            let bytes = match call.accept.format {
                Format::Protobuf => messages(&call.resource, call.accept, &page),
                format => formatted(format, list(&call.resource, call.accept, &page, view(call))),
            };
            let bytes = bytes.map_err(|error| unencodable(&error))?;
            compressed(call, ready(StatusCode::OK, call.accept.format, Bytes::new()), bytes)
        }
    };
    warn(&mut response, &call.warnings);
    Ok(response)
}

fn is_status(bytes: &Bytes) -> bool {
    serde_json::from_slice::<Value>(bytes).is_ok_and(|it| it["kind"] == "Status")
}

/// Of a list there is no single form, and the other way round; Go's type of it is told.
fn not_of_form(resource: &Resource, wanted: &str, suffix: &str) -> Status {
    let package = match resource.group.split('.').next() {
        _ if resource.custom.is_some() => "unstructured",
        None | Some("" | "events") => "core",
        Some(package) => package,
    };
    let kind = if resource.custom.is_some() { "Unstructured" } else { &resource.kind };
    let message = format!("you requested {wanted} (*{package}.{kind}{suffix})");
    Status::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
}

/// Adds warnings, as `kubectl` shows them.
pub(crate) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in told(warnings) {
        let text = warning.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

/// Each once. Of more text than headers should hold, the beginning of each.
///
/// Upstream: `WithWarningRecorder` of k8s.io/apiserver.
fn told(warnings: &[String]) -> Vec<Cow<'_, str>> {
    const MOST: usize = 4096;
    const MOST_OF_ONE: usize = 256;
    let mut seen = HashSet::new();
    let all: Vec<Cow<'_, str>> = warnings
        .iter()
        .filter(|it| !it.is_empty() && seen.insert(it.as_str()))
        .map(Into::into)
        .collect();
    let length = |it: &str| it.chars().count();
    if all.iter().map(|it| length(it)).sum::<usize>() <= MOST {
        return all;
    }
    let mut given = 0;
    let mut shortened = Vec::new();
    for warning in all {
        if given >= MOST {
            break;
        }
        let cut: String = warning.chars().take(MOST_OF_ONE).collect();
        given += length(&cut);
        shortened.push(cut.into());
    }
    shortened
}

fn compressed(call: &Call, mut response: Response<Body>, bytes: Bytes) -> Response<Body> {
    let accepts = call.header(header::ACCEPT_ENCODING).contains("gzip");
    if accepts && bytes.len() >= GZIP_FROM {
        let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 8), Compression::fast());
        if encoder.write_all(&bytes).is_ok()
            && let Ok(packed) = encoder.finish()
        {
            response
                .headers_mut()
                .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response
                .headers_mut()
                .insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
            *response.body_mut() = transport::full(packed);
            return response;
        }
    }
    *response.body_mut() = transport::full(bytes);
    response
}

/// How the client wants its tables.
fn view(call: &Call) -> View {
    View::parse(call.parameter("includeObject"), call.accept.meta, call.server.clock)
}

/// One object, in the wanted form.
pub(crate) fn object(resource: &Resource, accept: Accept, bytes: Bytes, view: View) -> Bytes {
    match accept.form {
        Form::Table => {
            let object: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            if object["kind"] == "Status" {
                return bytes;
            }
            let version = object["metadata"]["resourceVersion"].clone();
            let metadata = json!({ "resourceVersion": version });
            table::render(resource, std::slice::from_ref(&object), metadata, view)
                .to_string()
                .into()
        }
        Form::PartialMetadata => {
            let object: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            if object["kind"] == "Status" {
                return bytes;
            }
            partial(&object, accept.meta).to_string().into()
        }
        _ => bytes,
    }
}

pub(crate) fn partial(object: &Value, meta: Meta) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": meta.api_version(),
        "metadata": object["metadata"],
    })
}

fn partial_list(objects: &[Value], meta: Meta, metadata: &Value) -> Value {
    let items: Vec<Value> = objects.iter().map(|it| partial(it, meta)).collect();
    json!({
        "kind": "PartialObjectMetadataList", "apiVersion": meta.api_version(),
        "metadata": metadata, "items": items,
    })
}

/// A record as the resource shows it, at a revision.
pub(crate) fn record_at(resource: &Resource, record: &Record, revision: u64) -> Bytes {
    let bytes = registry::bytes_at(record, revision);
    if resource.stored_as.is_none() && resource.custom.is_none() {
        return bytes;
    }
    let mut object: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    crate::convert::from_storage(resource, &mut object);
    object.to_string().into()
}

/// What a `deletecollection` took away, each as JSON.
pub(crate) fn gone(call: &Call, items: &[Bytes]) -> Answer {
    let resource = &call.resource;
    let metadata = json!({ "resourceVersion": call.server.store.revision().to_string() });
    let bytes = if call.accept.form == Form::Object {
        let mut list = list_head(resource, &metadata).into_bytes();
        list.extend(items.join(&b","[..]));
        list.extend_from_slice(b"]}");
        list.into()
    } else {
        let objects = items.iter().map(|it| serde_json::from_slice(it).unwrap_or_default());
        made(resource, call.accept, objects.collect(), metadata, view(call))
    };
    Answer::Response(response(StatusCode::OK, call.accept.format, bytes))
}

/// A list of objects that are not stored, or no longer.
fn made(
    resource: &Resource,
    accept: Accept,
    objects: Vec<Value>,
    metadata: Value,
    view: View,
) -> Bytes {
    let list = match accept.form {
        Form::Table => table::render(resource, &objects, metadata, view),
        Form::PartialMetadata | Form::PartialMetadataList => {
            partial_list(&objects, accept.meta, &metadata)
        }
        _ => json!({
            "kind": resource.list_kind(), "apiVersion": resource.api_version(),
            "metadata": metadata, "items": objects,
        }),
    };
    list.to_string().into()
}

fn list(resource: &Resource, accept: Accept, page: &Page, view: View) -> Bytes {
    let objects = || -> Vec<Value> {
        let shown = (0..page.records.len()).map(|index| page.item(resource, index));
        shown.map(|it| serde_json::from_slice(&it).unwrap_or_default()).collect()
    };
    match accept.form {
        Form::Table => {
            table::render(resource, &objects(), page.metadata(), view).to_string().into()
        }
        Form::PartialMetadata | Form::PartialMetadataList => {
            partial_list(&objects(), accept.meta, &page.metadata()).to_string().into()
        }
        _ => plain_list(resource, page),
    }
}

/// The list as stored bytes beside each other: nothing is parsed.
fn plain_list(resource: &Resource, page: &Page) -> Bytes {
    let size: usize = page.records.iter().map(|it| it.value.len() + 40).sum();
    let mut out = Vec::with_capacity(size + 256);
    out.extend_from_slice(list_head(resource, &page.metadata()).as_bytes());
    for index in 0..page.records.len() {
        if index > 0 {
            out.push(b',');
        }
        page.push_item(&mut out, resource, index);
    }
    out.extend_from_slice(b"]}");
    out.into()
}

fn list_head(resource: &Resource, metadata: &Value) -> String {
    let (kind, version) = (resource.list_kind(), resource.api_version());
    format!(
        "{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":["
    )
}

/// The list, or that of the objects' metadata, as protobuf: from the stored bytes at once.
fn messages(resource: &Resource, accept: Accept, page: &Page) -> Result<Bytes, ProtobufError> {
    let (api_version, kind) = match accept.form {
        Form::PartialMetadata | Form::PartialMetadataList => {
            (accept.meta.api_version().to_owned(), "PartialObjectMetadata")
        }
        _ => (resource.api_version(), &*resource.kind),
    };
    let pieces = in_pieces(thread::Builder::new(), page.records.len(), |range| {
        let size = page.records[range.clone()].iter().map(|it| it.value.len() + 40).sum();
        let items = range.map(|index| {
            let mut item = Vec::with_capacity(page.records[index].value.len() + 40);
            page.push_item(&mut item, resource, index);
            item
        });
        kube_protobuf::items(&api_version, kind, items, size)
    })?;
    kube_protobuf::list(&api_version, kind, &page.metadata(), &pieces).map(Bytes::from)
}

/// Of a long list one half is written on another core, where there is a thread to be had.
fn in_pieces<T: Send, E: Send>(
    other: thread::Builder,
    count: usize,
    write: impl Fn(Range<usize>) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    if count < LONG_LIST {
        return Ok(vec![write(0..count)?]);
    }
    let middle = count / 2;
    thread::scope(|scope| {
        let Ok(first) = other.spawn_scoped(scope, || write(0..middle)) else {
            return Ok(vec![write(0..count)?]);
        };
        let second = write(middle..count);
        let first = first.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(vec![first?, second?])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_given_once_and_many_long_ones_are_shortened() {
        let texts = |of: &[String]| told(of).into_iter().map(Cow::into_owned).collect::<Vec<_>>();
        let some = ["a", "", "b", "a"].map(str::to_owned);
        assert_eq!(texts(&some), ["a", "b"]);
        let fitting = ["ä".repeat(4095), "b".to_owned()];
        assert_eq!(texts(&fitting), fitting);
        let many: Vec<String> = (10..40).map(|it| format!("{it}{}", "ä".repeat(400))).collect();
        let given = texts(&many);
        assert_eq!(given.len(), 16, "4096 characters in all");
        assert_eq!(given[0], format!("10{}", "ä".repeat(254)));
    }

    #[test]
    fn the_pieces_of_a_list_are_all_of_it_in_its_order() {
        for count in [0, 1, LONG_LIST, LONG_LIST + 1] {
            let whole = |range: Range<usize>| Ok::<_, ()>(range.collect::<Vec<_>>());
            let pieces = in_pieces(thread::Builder::new(), count, whole).unwrap();
            assert_eq!(pieces.concat(), (0..count).collect::<Vec<_>>());
        }
        let second = |range: Range<usize>| if range.start > 0 { Err(range.start) } else { Ok(()) };
        let told = in_pieces(thread::Builder::new(), LONG_LIST, second);
        assert_eq!(told, Err(LONG_LIST / 2));
    }

    #[test]
    fn a_list_is_written_whole_where_no_thread_can_be_had() {
        // No address space has room for such a stack.
        let none = || thread::Builder::new().stack_size(1 << 47);
        assert!(none().spawn(|| ()).is_err());
        let whole = |range: Range<usize>| Ok::<_, ()>(range.len());
        assert_eq!(in_pieces(none(), LONG_LIST, whole), Ok(vec![LONG_LIST]));
    }
}
