//! The parameters of a watch: it is refused, or tells events in the order of their revisions, those of
//! before and those of now. A version that is forgotten is told of in the stream, by an error alone.
//!
//! The input is a query.

use aws_wire::percent;
use serde_json::{Value, json};

use crate::kube::{self, MAPS};

const PATH: &str = "/api/v1/namespaces/default/configmaps/watched";

/// The query, as far as it can be one.
fn query(data: &[u8]) -> String {
    let text = String::from_utf8_lossy(data);
    let pairs = text.trim_end_matches('\n').split('&').map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        format!("{}={}", percent::encode(name), percent::encode(value))
    });
    pairs.collect::<Vec<_>>().join("&")
}

fn version(event: &Value) -> Option<u64> {
    event["object"]["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

pub(crate) fn run(data: &[u8]) {
    let path = format!("{MAPS}?watch=1&{}", query(data));
    kube::with(|server| {
        let Some((code, mut body)) = server.watch(&path) else { return };
        // A version that is not there yet is waited for, and not for ever.
        assert!(code < 500 || code == 504, "{path}: {code}");
        if code != 200 {
            return;
        }
        let mut text = Vec::new();
        let mut has_ended = server.read(&mut body, &mut text);
        let initial = text.iter().filter(|it| **it == b'\n').count();
        let media = "application/json";
        let map = r#"{"metadata":{"name":"watched","labels":{"app":"a"}}}"#;
        assert_eq!(server.send("POST", MAPS, media, map).0, 201);
        assert_eq!(server.send("DELETE", PATH, media, "").0, 200);
        has_ended |= server.read(&mut body, &mut text);
        check(&text, initial, has_ended);
    });
}

fn check(text: &[u8], initial: usize, has_ended: bool) {
    let lines: Vec<_> = text.split(|it| *it == b'\n').collect();
    let (last, lines) = lines.split_last().expect("one at least");
    assert!(last.is_empty() || has_ended, "an event is cut off");
    let mut latest = 0;
    for (index, line) in lines.iter().enumerate() {
        let event: Value = serde_json::from_slice(line).expect("a line is an event");
        let kind = event["type"].as_str().unwrap_or_default();
        if kind == "ERROR" {
            assert_eq!((&event["object"]["code"], lines.len()), (&json!(410), 1), "{event}");
            continue;
        }
        assert!(["ADDED", "MODIFIED", "DELETED", "BOOKMARK"].contains(&kind), "{event}");
        let Some(version) = version(&event) else { continue };
        // The first ones are a list, in the order of names.
        if index >= initial {
            assert!(version >= latest, "{event}");
        }
        latest = latest.max(version);
    }
}
