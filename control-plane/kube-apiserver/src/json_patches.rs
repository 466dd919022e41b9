//! JSON patches (RFC 6902) of strangers: applied so that they can't make an object outgrow memory
//! or stack.
//!
//! What must hold: the sizes of all that a patch copies are at most a request's body together, and
//! nothing lies deeper than what is read as JSON may, before the operation is applied. A chain of
//! copies doubles an object each time; a chain of additions nests it.
//!
//! Deviation: upstream admits 10,000 levels; here they are as many as our JSON reader admits.
//!
//! Upstream: `patchOperation` limits of k8s.io/apiserver (`AccumulatedCopySizeLimit`).

use std::io;

use http::StatusCode;
use json_patch::{Patch, PatchError, PatchErrorKind, PatchOperation};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::status::Status;

/// Operations in one patch (upstream's limit).
const MAX_OPERATIONS: usize = 10_000;
/// Bytes that one patch may copy: those of a body.
const MAX_COPIED: usize = 3 << 20;
/// As deep as `serde_json` reads.
const MAX_DEPTH: usize = 127;

/// Why a patch was not applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooMany(usize),
    #[error(
        "unable to complete the copy, the accumulated size increase of copy is {0}, exceeding the \
         limit {MAX_COPIED}"
    )]
    CopiesTooMuch(usize),
    #[error("operation '/{0}' nests deeper than {MAX_DEPTH} levels")]
    TooDeep(usize),
    #[error("an operation cannot be carried out")]
    Unknown(#[source] serde_json::Error),
    #[error(transparent)]
    Patch(#[from] PatchError),
}

impl Fault {
    /// A `test` that found another value.
    pub(crate) fn is_failed_test(&self) -> bool {
        matches!(self, Self::Patch(error) if matches!(error.kind, PatchErrorKind::TestFailed))
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        if let Fault::TooMany(_) = fault {
            return Self::too_large(MAX_OPERATIONS);
        }
        // What is at fault is not told, as upstream.
        let message = "the server rejected our request due to an error in our request";
        let mut status = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message);
        status.details = json!({});
        status
    }
}

/// Reads a patch. One whose operations cannot be carried out is another fault than what is no patch.
pub(crate) fn read(text: &[u8], value: Option<Value>) -> Result<Patch, Status> {
    // Of a member that stands twice the last counts.
    let read = |error| value.as_ref().map_or(Err(error), Patch::deserialize);
    serde_json::from_slice(text).or_else(read).map_err(|error| {
        if value.as_ref().is_some_and(are_operations) {
            return Fault::Unknown(error).into();
        }
        Status::bad_request(format!("error decoding patch: {error}"))
    })
}

/// Whether these are operations, known or not.
fn are_operations(value: &Value) -> bool {
    let is_text = |it: Option<&Value>| it.is_none_or(|it| it.is_string() || it.is_null());
    let is_one = |it: &Value| {
        it.is_object() && ["op", "path", "from"].iter().all(|name| is_text(it.get(name)))
    };
    value.as_array().is_some_and(|all| all.iter().all(is_one))
}

/// Applies a patch. After a fault the object is of no use.
pub(crate) fn apply(object: &mut Value, patch: &Patch) -> Result<(), Fault> {
    if patch.0.len() > MAX_OPERATIONS {
        return Err(Fault::TooMany(patch.0.len()));
    }
    let mut copied = 0;
    for (index, operation) in patch.0.iter().enumerate() {
        let added = added(object, operation);
        let depth = operation.path().count() + added.map_or(0, |it| depth(it, MAX_DEPTH));
        if depth > MAX_DEPTH {
            return Err(Fault::TooDeep(index));
        }
        if let (PatchOperation::Copy(_), Some(added)) = (operation, added) {
            copied += size(added);
            if copied > MAX_COPIED {
                return Err(Fault::CopiesTooMuch(copied));
            }
        }
        json_patch::patch(object, std::slice::from_ref(operation))?;
    }
    Ok(())
}

/// What an operation puts at its path.
fn added<'a>(object: &'a Value, operation: &'a PatchOperation) -> Option<&'a Value> {
    match operation {
        PatchOperation::Add(it) => Some(&it.value),
        PatchOperation::Replace(it) => Some(&it.value),
        PatchOperation::Copy(it) => object.pointer(it.from.as_str()),
        PatchOperation::Move(it) => object.pointer(it.from.as_str()),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => None,
    }
}

/// How many levels of objects and lists lie in a value; `limit` and one more if it is deeper.
fn depth(value: &Value, limit: usize) -> usize {
    let deepest = |below: &mut dyn Iterator<Item = &Value>| {
        if limit == 0 { 1 } else { 1 + below.map(|it| depth(it, limit - 1)).max().unwrap_or(0) }
    };
    match value {
        Value::Object(fields) => deepest(&mut fields.values()),
        Value::Array(items) => deepest(&mut items.iter()),
        _ => 0,
    }
}

fn size(value: &Value) -> usize {
    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, value).map_or(usize::MAX, |()| counter.0)
}

struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patch(operations: Vec<Value>) -> Patch {
        serde_json::from_value(Value::Array(operations)).unwrap()
    }

    #[test]
    fn copies_that_double_an_object_are_refused_before_they_fill_the_memory() {
        let double = json!({"op": "copy", "from": "/data", "path": "/data/x"});
        let mut object = json!({"data": {"a": "b"}});
        let error = apply(&mut object, &patch(vec![double; 200])).unwrap_err();
        assert!(matches!(error, Fault::TooDeep(_) | Fault::CopiesTooMuch(_)), "{error}");

        let wide = |to: usize| json!({"op": "copy", "from": "/data", "path": format!("/{to}")});
        let mut object = json!({"data": "x".repeat(1 << 20)});
        assert!(apply(&mut object, &patch(vec![wide(1), wide(2)])).is_ok());
        let error = apply(&mut object, &patch((3..7).map(wide).collect())).unwrap_err();
        assert!(matches!(error, Fault::CopiesTooMuch(_)), "{error}");
    }

    #[test]
    fn no_patch_nests_deeper_than_what_can_be_read_again() {
        let mut path = String::new();
        let nest: Vec<Value> = (0..2000)
            .map(|_| {
                path.push_str("/a");
                json!({"op": "add", "path": path, "value": {}})
            })
            .collect();
        let mut object = json!({});
        let error = apply(&mut object, &patch(nest.clone())).unwrap_err();
        assert!(matches!(error, Fault::TooDeep(_)), "{error}");
        let mut object = json!({});
        apply(&mut object, &patch(nest[..MAX_DEPTH - 1].to_vec())).unwrap();
        serde_json::from_str::<Value>(&object.to_string()).unwrap();
    }

    #[test]
    fn an_ordinary_patch_is_applied() {
        let mut object = json!({"a": {"b": 1}, "l": [1]});
        let operations = vec![
            json!({"op": "test", "path": "/a/b", "value": 1}),
            json!({"op": "copy", "from": "/a", "path": "/c"}),
            json!({"op": "move", "from": "/a/b", "path": "/l/-"}),
            json!({"op": "remove", "path": "/l/0"}),
        ];
        apply(&mut object, &patch(operations)).unwrap();
        assert_eq!(object, json!({"a": {}, "c": {"b": 1}, "l": [1]}));
    }
}
