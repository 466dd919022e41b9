//! Expressions: refused, or evaluated within their budget; and the same thing each time.
//!
//! The input's first line is an object as JSON, the rest an expression over it.

use std::time::{Duration, Instant};

use kube_apiserver::probe;
use serde_json::Value;

use crate::kube;

/// Far more than the budget lasts, without optimization and on a busy machine.
const LONGEST: Duration = Duration::from_secs(9);

pub(crate) fn run(data: &[u8]) {
    let (object, expression) = kube::first_line(data);
    let Ok(expression) = std::str::from_utf8(expression) else { return };
    let object: Value = serde_json::from_str(&object).unwrap_or(Value::Null);
    let begun = Instant::now();
    let found = probe::evaluate(expression, &object);
    assert!(begun.elapsed() < LONGEST, "it took {:?}", begun.elapsed());
    assert_eq!(probe::evaluate(expression, &object), found, "it is not the same again");
}
