//! `get` and `list`.
//!
//! Reads are of memory. Without a `resourceVersion` it is as new as the request, whoever wrote
//! ([`super::latest`]); as a lower bound it is met by what is there, or waited for; an exact older
//! one is read where the client asks for it.
//!
//! Upstream: the semantics of `resourceVersion` and `resourceVersionMatch` in the API concepts.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::StatusCode;
use mvcc::Record;
use serde_json::{Value, json};

use crate::{
    attributes::Selection,
    convert::custom,
    registry,
    render::{Answer, Page, record_at},
    resources::Resource,
    server::{Call, Server},
    status::Status,
    verbs::{
        latest::{self, Read},
        namespace,
    },
};

pub(crate) async fn get(call: &Call) -> Result<Answer, Status> {
    let key = call.resource.key(namespace(call), call.name());
    latest::settle(call, Read::Key(&key), revision(call)?).await?;
    let record = call.server.store.get(&key);
    let record =
        record.ok_or_else(|| Status::not_found(&call.resource.qualified(), call.name()))?;
    let bytes = shown(&call.server, &call.resource, &record, record.mod_revision).await?;
    Ok(Answer::Object(StatusCode::OK, bytes))
}

/// A record in the version of the resource; a program may have to be asked for it.
pub(crate) async fn shown(
    server: &Server,
    resource: &Resource,
    record: &Record,
    revision: u64,
) -> Result<Bytes, Status> {
    if !custom::needs_webhook(resource) {
        return Ok(record_at(resource, record, revision));
    }
    let mut object = registry::decode(record);
    object["metadata"]["resourceVersion"] = revision.to_string().into();
    Ok(custom::read_one(server, resource, object).await?.to_string().into())
}

pub(crate) async fn list(call: &Call) -> Result<Answer, Status> {
    let selection = selection(call)?;
    let mut page = page(call, &selection).await?;
    if custom::needs_webhook(&call.resource) {
        // All of them in one question.
        let objects = page.records.iter().map(|it| registry::decode(it)).collect();
        let objects = custom::read(&call.server, &call.resource, objects).await?;
        page.converted = Some(objects.iter().map(|it| it.to_string().into()).collect());
    }
    Ok(Answer::List(page))
}

pub(crate) fn selection(call: &Call) -> Result<Selection, Status> {
    Selection::parse(
        &call.resource,
        call.parameter("labelSelector"),
        call.parameter("fieldSelector"),
    )
}

/// What a list request asks for.
struct Plan {
    /// The exact revision.
    at: Option<u64>,
    /// The oldest that will do; `None`: the request's own moment.
    oldest: Option<u64>,
    after: Option<String>,
    limit: Option<usize>,
}

fn plan(call: &Call) -> Result<Plan, Status> {
    let limit = call.parameter("limit").map(limit).transpose()?.flatten();
    let version = revision(call)?;
    if let Some(token) = call.parameter("continue") {
        if version.is_some_and(|it| it > 0) {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let (revision, after) = read_continue(token)?;
        return Ok(Plan { at: revision, oldest: revision, after: Some(after), limit });
    }
    let is_exact = call.parameter("resourceVersionMatch") == Some("Exact");
    let at = version.filter(|_| is_exact);
    Ok(Plan { at, oldest: version, after: None, limit })
}

/// As upstream: what is not above zero is no limit.
fn limit(text: &str) -> Result<Option<usize>, Status> {
    let parsed = text.parse::<i64>().map_err(|_| {
        Status::bad_request(format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))
    })?;
    Ok(usize::try_from(parsed).ok().filter(|it| *it > 0))
}

/// `resourceVersion` of the query.
pub(crate) fn revision(call: &Call) -> Result<Option<u64>, Status> {
    let Some(text) = call.parameter("resourceVersion") else { return Ok(None) };
    let parsed = text.parse().map_err(|_| {
        Status::bad_request(format!("resourceVersion: Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax"))
    });
    parsed.map(Some)
}

/// The page that the request asks for. With selectors it is filled from as many records as needed.
pub(crate) async fn page(call: &Call, selection: &Selection) -> Result<Page, Status> {
    let Plan { at, oldest, after, limit } = plan(call)?;
    let prefix = call.resource.prefix(namespace(call));
    let known = latest::settle(call, Read::Prefix(&prefix), oldest).await?;
    let store = &call.server.store;
    let batch = if selection.is_empty() { limit } else { None };
    let range =
        store.range(&prefix, after.as_deref(), batch, at).map_err(|_| expired(after.as_deref()))?;
    let revision = at.unwrap_or(range.revision.max(known));
    if selection.is_empty() {
        let remaining = range.remaining;
        let last = range.records.last().filter(|_| remaining > 0);
        let next = last.map(|it| write_continue(Some(revision), &it.key));
        let (records, remaining) = (range.records, Some(remaining));
        return Ok(Page { records, revision, next, remaining, converted: None });
    }
    let is_of_shown = selection.is_of_shown();
    let records = match is_of_shown {
        true => selected(call, selection, range.records).await?,
        false => range.records,
    };
    let mut selected = records.into_iter().filter(|it| is_of_shown || selection.matches(it));
    let records: Vec<_> = selected.by_ref().take(limit.unwrap_or(usize::MAX)).collect();
    let has_more = limit.is_some() && selected.next().is_some();
    let next =
        records.last().filter(|_| has_more).map(|it| write_continue(Some(revision), &it.key));
    Ok(Page { records, revision, next, remaining: None, converted: None })
}

/// Those of the records that are selected.
pub(crate) async fn selected(
    call: &Call,
    selection: &Selection,
    mut records: Vec<Arc<Record>>,
) -> Result<Vec<Arc<Record>>, Status> {
    if !selection.is_of_shown() {
        records.retain(|it| selection.matches(it));
        return Ok(records);
    }
    // All of them in one question.
    let objects = records.iter().map(|it| registry::decode(it)).collect();
    let shown = custom::read(&call.server, &call.resource, objects).await?;
    let both = records.into_iter().zip(shown);
    Ok(both.filter(|(_, it)| selection.matches_shown(it)).map(|(record, _)| record).collect())
}

/// Its revision is no longer there; what is left of a list, `after` a key, can be had as it is now.
fn expired(after: Option<&str>) -> Status {
    let Some(key) = after else {
        return Status::gone("The resourceVersion for the provided list is too old.");
    };
    let status = Status::gone(
        "The provided continue parameter is too old to display a consistent list result. You can \
         start a new list without the continue parameter, or use the continue token in this \
         response to retrieve the remainder of the results. Continuing with the provided token \
         results in an inconsistent list - objects that were created, modified, or deleted between \
         the time the first chunk was returned and now may show up in the list.",
    );
    status.going_on(write_continue(None, key))
}

/// Upstream's for "as it is now" in a token.
const NOW: i64 = -1;

/// Without a revision the list goes on as it is when the token is used.
fn write_continue(revision: Option<u64>, key: &str) -> String {
    let revision = revision.map_or(json!(NOW), |it| json!(it));
    let token = json!({ "v": "meta.k8s.io/v1", "rv": revision, "start": key });
    BASE64_URL_SAFE_NO_PAD.encode(token.to_string())
}

fn read_continue(token: &str) -> Result<(Option<u64>, String), Status> {
    let read = || {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
        let token: Value = serde_json::from_slice(&bytes).ok()?;
        let revision = match &token["rv"] {
            now if *now == NOW => None,
            revision => Some(revision.as_u64()?),
        };
        Some((revision, token["start"].as_str()?.to_owned()))
    };
    read().ok_or_else(|| Status::bad_request("continue key is not valid: incorrect format"))
}
