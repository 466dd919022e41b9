//! Selectors: refused or understood; what is understood is written and read again as the same, and a
//! list has exactly what the selector matches.
//!
//! The input's first line is a label selector, the second a value that a field is selected by.

use std::collections::BTreeMap;

use aws_wire::percent;
use kube_apiserver::selectors::{Fields, Labels};
use serde_json::Value;

use crate::kube::{self, MAPS};

pub(crate) fn run(data: &[u8]) {
    let (selector, value) = kube::first_line(data);
    by_labels(&selector);
    by_field(&String::from_utf8_lossy(value));
}

fn by_labels(text: &str) {
    let parsed = Labels::parse(text);
    if let Ok(labels) = &parsed {
        let again = Labels::parse(&labels.to_string());
        assert_eq!(again.as_ref(), Ok(labels), "it was written as `{labels}`");
    }
    kube::with(|server| {
        let query = format!("{MAPS}?labelSelector={}", percent::encode(text));
        let Some((code, list)) = server.try_send("GET", &query, "application/json", "") else {
            return;
        };
        let Ok(labels) = parsed else { return assert_eq!(code, 400, "{list}") };
        assert_eq!(code, 200, "{list}");
        let (_, all) = server.get(MAPS);
        let names = |list: &Value, is_wanted: &dyn Fn(&Value) -> bool| -> Vec<Value> {
            let items = list["items"].as_array().into_iter().flatten();
            items.filter(|it| is_wanted(it)).map(|it| it["metadata"]["name"].clone()).collect()
        };
        let matches = |object: &Value| {
            let held: BTreeMap<String, String> =
                serde_json::from_value(object["metadata"]["labels"].clone()).unwrap_or_default();
            labels.matches(&held)
        };
        assert_eq!(names(&list, &|_| true), names(&all, &matches), "{text}");
    });
}

/// Whatever a value is, escaped it selects just that.
fn by_field(value: &str) {
    drop(Fields::parse(value));
    let escaped = value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
    let fields = Fields::parse(&format!("metadata.name={escaped},metadata.namespace!=x"));
    let fields = fields.unwrap_or_else(|why| panic!("{why}"));
    assert!(fields.matches(|field| if field == "metadata.name" { value } else { "default" }));
    assert_eq!(fields.exact("metadata.name"), Some(value));
}
