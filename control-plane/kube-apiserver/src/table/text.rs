//! The small texts that cells are made of.

use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) const NONE: &str = "<none>";

/// Text at a pointer, empty where there is none.
pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Text at a pointer, or the given word.
pub(super) fn text_or(object: &Value, pointer: &str, otherwise: &str) -> Value {
    match text(object, pointer) {
        "" => otherwise.into(),
        found => found.into(),
    }
}

pub(super) fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

pub(super) fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(super) fn name(object: &Value) -> Value {
    text(object, "/metadata/name").into()
}

/// The time since the object was made.
pub(super) fn age(object: &Value, now: Timestamp) -> Value {
    since(text(object, "/metadata/creationTimestamp"), now)
}

/// The time since a timestamp, `<unknown>` if it is none.
pub(super) fn since(time: &str, now: Timestamp) -> Value {
    match time.parse::<Timestamp>() {
        Ok(time) => duration(now.as_second() - time.as_second()).into(),
        Err(_) => "<unknown>".into(),
    }
}

/// A duration as people read it: two units where the first alone would be too coarse.
///
/// Upstream: `HumanDuration` of k8s.io/apimachinery.
pub(super) fn duration(seconds: i64) -> String {
    let pair = |large: i64, unit: &str, small: i64, rest: &str| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{rest}") }
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    match seconds {
        it if it < -1 => "<invalid>".into(),
        it if it < 0 => "0s".into(),
        it if it < 120 => format!("{it}s"),
        _ if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => pair(days, "d", hours % 24, "h"),
        _ if years < 2 => format!("{days}d"),
        _ if years < 8 => pair(years, "y", days % 365, "d"),
        _ => format!("{years}y"),
    }
}

/// The names and images of a pod template's containers, for `-o wide`.
pub(super) fn containers(object: &Value, pointer: &str) -> [Value; 2] {
    let all = items(object, pointer);
    let join = |field: &str| {
        let texts: Vec<&str> =
            all.iter().map(|it| it[field].as_str().unwrap_or_default()).collect();
        Value::from(texts.join(","))
    };
    [join("name"), join("image")]
}

/// A label selector in the query syntax.
pub(super) fn selector(selector: &Value) -> Value {
    match crate::selectors::Labels::of(selector).map(|it| it.to_string()) {
        Ok(text) if !text.is_empty() => text.into(),
        _ => NONE.into(),
    }
}

/// A plain map of labels, `a=b,c=d`.
pub(super) fn labels(map: &Value) -> Value {
    let pairs: Vec<String> = map
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if pairs.is_empty() { NONE.into() } else { pairs.join(",").into() }
}

/// How many entries a map has.
pub(super) fn count(map: &Value) -> Value {
    json!(map.as_object().map_or(0, serde_json::Map::len))
}

/// The first three of a list, and how many more there are.
pub(super) fn first_three(all: &[String]) -> Value {
    match all.len() {
        0 => NONE.into(),
        1..=3 => all.join(",").into(),
        many => format!("{} + {} more...", all[..3].join(","), many - 3).into(),
    }
}
