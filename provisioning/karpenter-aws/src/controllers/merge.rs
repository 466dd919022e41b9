//! What a merge patch has to say for an object to become what is wanted.
//!
//! A merge patch leaves alone what it does not name, and empty lists and unset fields are named by
//! nobody: whatever is no more has to be sent as `null`, or it stays.

use serde::Serialize;
use serde_json::{Value, json};

/// The patch of an object's status.
pub(super) fn status<T: Serialize>(known: Option<&T>, wanted: &T) -> Value {
    let value = |it| serde_json::to_value(it).unwrap_or(Value::Null);
    let known = known.map_or(Value::Null, value);
    json!({ "status": replacing(&known, &value(wanted)) })
}

/// The patch that makes `wanted` of `known`: all of `wanted`, and `null` for what only `known` has.
fn replacing(known: &Value, wanted: &Value) -> Value {
    let (Value::Object(before), Value::Object(after)) = (known, wanted) else {
        return wanted.clone();
    };
    let gone = before.keys().filter(|it| !after.contains_key(*it));
    let gone = gone.map(|it| (it.clone(), Value::Null));
    let kept = after.iter().map(|(key, it)| {
        let patch = before.get(key).map_or_else(|| it.clone(), |known| replacing(known, it));
        (key.clone(), patch)
    });
    Value::Object(gone.chain(kept).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_more_is_sent_as_null_at_every_depth_but_within_lists() {
        let known = json!({ "gone": [1], "kept": 1, "amounts": { "cpu": "1", "gpu": "1" },
            "list": [{ "a": 1, "b": 2 }] });
        let wanted =
            json!({ "kept": 2, "amounts": { "cpu": "2" }, "list": [{ "a": 1 }], "new": 3 });
        let expected = json!({ "gone": null, "kept": 2, "amounts": { "cpu": "2", "gpu": null },
            "list": [{ "a": 1 }], "new": 3 });
        assert_eq!(replacing(&known, &wanted), expected);
        assert_eq!(replacing(&Value::Null, &wanted), wanted);
    }
}
