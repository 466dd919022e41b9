//! Fields of a file that its kind does not have.
//!
//! Upstream: strict decoding, whose faults lenient decoding only warns about.

use serde_json::Value;

/// The paths of what was written and is not among the known fields. What a field of `open` holds may
/// have any name.
pub fn unknown_fields(written: &Value, known: &Value, open: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    search(written, known, open, "", &mut found);
    found
}

fn search(written: &Value, known: &Value, open: &[&str], at: &str, found: &mut Vec<String>) {
    let (Value::Object(written), Value::Object(known)) = (written, known) else { return };
    for (name, value) in written {
        let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        match known.get(name) {
            None => found.push(path),
            Some(_) if open.contains(&name.as_str()) => {}
            Some(inner) => search(value, inner, open, &path, found),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_nobody_knows_is_named_wherever_it_is() {
        let written = json!({
            "port": 1, "prot": 2, "deep": { "a": 1, "b": { "c": 1 } }, "gates": { "Any": true },
        });
        let known = json!({ "port": 0, "deep": { "b": {} }, "gates": {} });
        assert_eq!(unknown_fields(&written, &known, &["gates"]), ["deep.a", "deep.b.c", "prot"]);
        assert_eq!(unknown_fields(&known, &known, &[]), Vec::<String>::new());
    }
}
