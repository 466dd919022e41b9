//! `watch`: a stream of events from a revision, with bookmarks and streaming lists.
//!
//! Selectors see an object before and after each change, so an object that comes to match is
//! `ADDED` and one that ceases to is `DELETED`, whatever happened to it.
//!
//! Upstream: the watch cache of k8s.io/apiserver, and KEP-3157 for `sendInitialEvents`.

mod converted;

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use api_kube::annotations::INITIAL_EVENTS_END;
use bytes::{Bytes, BytesMut};
use futures::stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use mvcc::{Event, Record, Watcher};
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep};

use crate::{
    attributes::Selection,
    negotiate::{Accept, Form, Format},
    render::{self, Answer},
    resources::Resource,
    server::{Call, Server},
    status::Status,
    table::View,
    verbs::{
        get,
        latest::{self, Read},
        namespace,
    },
};

/// How often a bookmark is sent when nothing else is (upstream: about once a minute).
const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);

/// The longest watch when the client names none (upstream: 30 to 60 minutes, at random).
const MIN_TIMEOUT: u64 = 1800;

/// The longest watch that is kept: ten years, which a clock can count.
const MAX_TIMEOUT: u64 = 10 * 365 * 24 * 3600;

/// Events are put into one chunk until it is this long.
const CHUNK: usize = 64 * 1024;

/// One client's stream.
struct Stream {
    server: Arc<Server>,
    resource: Arc<Resource>,
    selection: Selection,
    accept: Accept,
    view: View,
    watcher: Watcher,
    /// Records to send as `ADDED` before anything else.
    initial: VecDeque<Arc<Record>>,
    /// The revision of the initial records, if their end is to be marked.
    mark_end: Option<u64>,
    wants_bookmarks: bool,
    bookmarks: Interval,
    deadline: Pin<Box<Sleep>>,
    sent_columns: bool,
    last_bookmark: u64,
    /// Nothing comes after what was told last.
    is_over: bool,
    /// How many events were sent, of this resource's watches together.
    sent: Arc<AtomicU64>,
}

pub(crate) async fn watch(call: &Call) -> Result<Answer, Status> {
    let body = match open(call, selection(call)?).await {
        Ok(stream) => {
            let frames = stream::unfold(stream, |mut stream| async move {
                let chunk = stream.next_chunk().await?;
                Some((Ok::<_, transport::BoxError>(Frame::data(chunk)), stream))
            });
            StreamBody::new(frames).boxed_unsync()
        }
        // As etcd would tell: in the stream.
        Err(status) if status.code == StatusCode::GONE => {
            transport::full(lone_error(call, &status))
        }
        Err(status) => return Err(status),
    };
    let mut response = Response::new(body);
    let media = match call.accept.format {
        Format::Protobuf => kube_protobuf::STREAM_MEDIA_TYPE,
        _ => "application/json",
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    Ok(Answer::Response(response))
}

/// A stream that ends with why it could not begin.
fn lone_error(call: &Call, status: &Status) -> Bytes {
    let object = status.to_json().to_string();
    if call.accept.format == Format::Protobuf {
        return kube_protobuf::event("ERROR", object.as_bytes()).unwrap_or_default().into();
    }
    let mut line = BytesMut::new();
    push_line(&mut line, "ERROR", object.as_bytes());
    line.freeze()
}

/// A name in the path (`/watch/…/NAME`) selects like `metadata.name=NAME`: it is what was
/// authorized.
fn selection(call: &Call) -> Result<Selection, Status> {
    let mut selection = get::selection(call)?;
    if call.info.is_named {
        let name = &call.info.name;
        let fields = std::mem::take(&mut selection.fields);
        if !fields.is_empty() && fields.exact("metadata.name") != Some(name) {
            return Err(Status::bad_request(
                "fieldSelector metadata.name doesn't match requested name",
            ));
        }
        selection.fields = fields.with("metadata.name", name);
    }
    Ok(selection)
}

/// Where a watch begins.
async fn open(call: &Call, selection: Selection) -> Result<Stream, Status> {
    let store = &call.server.store;
    let prefix = call.resource.prefix(namespace(call));
    let version = get::revision(call)?;
    let sends_initial =
        call.parameter("sendInitialEvents").map(|text| text == "true" || text == "1");
    check_initial_events(call, sends_initial)?;
    let wants_bookmarks = call.is_set("allowWatchBookmarks");
    let starts_with_list = sends_initial.unwrap_or(version.unwrap_or_default() == 0);
    let (initial, from) = if starts_with_list {
        let known = latest::settle(call, Read::Prefix(&prefix), version).await?;
        let range = store.range(&prefix, None, None, None).map_err(|error| gone(&error))?;
        let records = get::selected(call, &selection, range.records).await?;
        (records.into(), range.revision.max(known))
    } else {
        let from = match version {
            Some(from) if from > 0 => from,
            // From now on: what was acknowledged before is not told.
            version => latest::settle(call, Read::Prefix(&prefix), version).await?,
        };
        (VecDeque::new(), from)
    };
    let watcher = store.watch(&prefix, from).map_err(|error| gone(&error))?;
    let mark_end = (sends_initial == Some(true) && wants_bookmarks).then_some(from);
    let timeout = match call.parameter("timeoutSeconds").and_then(|it| it.parse().ok()) {
        Some(seconds) if seconds > 0 => seconds,
        _ => MIN_TIMEOUT + entropy::below(MIN_TIMEOUT),
    };
    let mut bookmarks = tokio::time::interval_at(Instant::now() + BOOKMARK_PERIOD, BOOKMARK_PERIOD);
    bookmarks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Ok(Stream {
        server: call.server.clone(),
        resource: call.resource.clone(),
        selection,
        accept: call.accept,
        view: View::parse(call.parameter("includeObject"), call.accept.meta, call.server.clock),
        watcher,
        initial,
        mark_end,
        wants_bookmarks,
        bookmarks,
        deadline: Box::pin(tokio::time::sleep(Duration::from_secs(timeout.min(MAX_TIMEOUT)))),
        sent_columns: false,
        // None is of an older revision than where the watch began.
        last_bookmark: from.saturating_sub(1),
        is_over: false,
        sent: call.server.metrics.watched(&call.resource),
    })
}

fn check_initial_events(call: &Call, sends_initial: Option<bool>) -> Result<(), Status> {
    let matching = call.parameter("resourceVersionMatch");
    let fault = match (sends_initial, matching) {
        (Some(_), None) => {
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting \
             resourceVersionMatch to NotOlderThan"
        }
        (None, Some(_)) => {
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless \
             sendInitialEvents is provided"
        }
        (Some(_), Some(other)) if other != "NotOlderThan" => {
            "resourceVersionMatch: Unsupported value: supported values: \"NotOlderThan\""
        }
        _ => return Ok(()),
    };
    let kind = "ListOptions.meta.k8s.io";
    let mut status = Status::invalid(kind, "", &[]);
    status.message = format!("{kind} \"\" is invalid: {fault}");
    Err(status)
}

fn gone(error: &mvcc::Compacted) -> Status {
    Status::gone(format!("too old resource version: {} ({})", error.asked, error.oldest))
}

impl Stream {
    /// The next bytes to send; `None` ends the stream.
    async fn next_chunk(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        let mut chunk = BytesMut::new();
        while let Some(record) = self.initial.pop_front() {
            self.push_object(&mut chunk, "ADDED", &record, record.mod_revision).await;
            if chunk.len() >= CHUNK {
                return Some(chunk.freeze());
            }
        }
        if let Some(revision) = self.mark_end.take() {
            self.push_bookmark(&mut chunk, revision, true);
        }
        if !chunk.is_empty() {
            return Some(chunk.freeze());
        }
        while chunk.is_empty() {
            if self.is_over {
                return None;
            }
            tokio::select! {
                event = self.watcher.next() => {
                    let event = event?;
                    self.push_event(&mut chunk, &event).await;
                }
                _ = self.bookmarks.tick(), if self.wants_bookmarks => self.push_progress(&mut chunk),
                () = &mut self.deadline => return self.last_words(),
            }
        }
        while chunk.len() < CHUNK
            && !self.is_over
            && let Some(event) = self.watcher.try_next()
        {
            self.push_event(&mut chunk, &event).await;
        }
        Some(chunk.freeze())
    }

    /// A bookmark just before the end, so that the client resumes from there.
    fn last_words(&mut self) -> Option<Bytes> {
        if !self.wants_bookmarks {
            return None;
        }
        self.wants_bookmarks = false;
        let mut chunk = BytesMut::new();
        self.push_progress(&mut chunk);
        (!chunk.is_empty()).then(|| chunk.freeze())
    }

    async fn push_event(&mut self, chunk: &mut BytesMut, event: &Event) {
        if self.selection.is_of_shown() {
            return self.push_shown(chunk, event).await;
        }
        let selected =
            |record: &Option<Arc<Record>>| record.clone().filter(|it| self.selection.matches(it));
        let revision = event.revision;
        match (selected(&event.previous), selected(&event.record)) {
            (None, None) => {}
            (None, Some(record)) => self.push_object(chunk, "ADDED", &record, revision).await,
            (Some(_), Some(record)) => {
                self.push_object(chunk, "MODIFIED", &record, revision).await;
            }
            // The last state that matched, at the revision at which it ceased to.
            (Some(record), None) => {
                self.push_object(chunk, "DELETED", &record, revision).await;
            }
        }
    }

    async fn push_object(
        &mut self,
        chunk: &mut BytesMut,
        kind: &str,
        record: &Record,
        revision: u64,
    ) {
        let bytes = match get::shown(&self.server, &self.resource, record, revision).await {
            Ok(bytes) => bytes,
            Err(status) => return self.fail(chunk, &status),
        };
        self.push_bytes(chunk, kind, bytes);
    }

    /// The stream cannot tell what happened: its client begins anew.
    fn fail(&mut self, chunk: &mut BytesMut, status: &Status) {
        self.push(chunk, "ERROR", status.to_json().to_string().as_bytes());
        self.initial.clear();
        self.is_over = true;
    }

    /// Sends an object of the resource's version in the form that was asked for.
    fn push_bytes(&mut self, chunk: &mut BytesMut, kind: &str, bytes: Bytes) {
        let bytes = match self.accept.form {
            Form::Object => bytes,
            Form::PartialMetadataList => {
                let object: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                render::partial(&object, self.accept.meta).to_string().into()
            }
            Form::Table => self.table(bytes),
            _ => render::object(&self.resource, self.accept, bytes, self.view),
        };
        self.push(chunk, kind, &bytes);
    }

    /// Nothing follows what could not be told: the client would believe that it knows all.
    fn push(&mut self, chunk: &mut BytesMut, kind: &str, object: &[u8]) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        if self.accept.format != Format::Protobuf {
            return push_line(chunk, kind, object);
        }
        match kube_protobuf::event(kind, object) {
            _ if self.is_over => {}
            Ok(event) => chunk.extend_from_slice(&event),
            Err(error) => {
                tracing::warn!(%error, "an event could not be encoded as protobuf");
                self.is_over = true;
            }
        }
    }

    /// Only the first table of a stream names its columns.
    fn table(&mut self, bytes: Bytes) -> Bytes {
        let bytes = render::object(&self.resource, self.accept, bytes, self.view);
        if !std::mem::replace(&mut self.sent_columns, true) {
            return bytes;
        }
        let mut table: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        table["columnDefinitions"] = Value::Null;
        table.to_string().into()
    }

    fn push_progress(&mut self, chunk: &mut BytesMut) {
        // Only a revision of which this stream has told everything may be marked.
        let Some(revision) = self.watcher.progress() else { return };
        if revision > self.last_bookmark {
            self.push_bookmark(chunk, revision, false);
        }
    }

    fn push_bookmark(&mut self, chunk: &mut BytesMut, revision: u64, is_end: bool) {
        self.last_bookmark = revision;
        let mut metadata =
            json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
        if is_end {
            metadata["annotations"] = json!({ INITIAL_EVENTS_END: "true" });
        }
        let meta = self.accept.meta.api_version();
        let (kind, api_version) = match self.accept.form {
            Form::Table => ("Table".into(), meta.into()),
            Form::PartialMetadata | Form::PartialMetadataList => {
                ("PartialObjectMetadata".into(), meta.into())
            }
            _ => (self.resource.kind.clone(), self.resource.api_version()),
        };
        let mut object = json!({ "kind": kind, "apiVersion": api_version, "metadata": metadata });
        if self.accept.form == Form::Table {
            let row = json!({ "cells": [], "object": {
                "kind": "PartialObjectMetadata", "apiVersion": meta, "metadata": metadata,
            }});
            object["metadata"] = json!({ "resourceVersion": revision.to_string() });
            object["columnDefinitions"] = Value::Null;
            object["rows"] = json!([row]);
        }
        self.push(chunk, "BOOKMARK", object.to_string().as_bytes());
    }
}

fn push_line(chunk: &mut BytesMut, kind: &str, object: &[u8]) {
    chunk.reserve(object.len() + 40);
    chunk.extend_from_slice(b"{\"type\":\"");
    chunk.extend_from_slice(kind.as_bytes());
    chunk.extend_from_slice(b"\",\"object\":");
    chunk.extend_from_slice(object);
    chunk.extend_from_slice(b"}\n");
}
