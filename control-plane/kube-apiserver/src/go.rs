//! Values as Go prints them: some of upstream's messages have them in them.

use serde_json::Value;

/// `%v`.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", joined(items.iter().map(shown), " ")),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, it)| format!("{name}:{}", shown(it)));
            format!("map[{}]", joined(fields, " "))
        }
        other => other.to_string(),
    }
}

/// `%#v`.
pub(crate) fn source(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::Array(items) => {
            format!("[]interface {{}}{{{}}}", joined(items.iter().map(source), ", "))
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, it)| format!("{name:?}:{}", source(it)));
            format!("map[string]interface {{}}{{{}}}", joined(fields, ", "))
        }
        other => other.to_string(),
    }
}

/// `%T`.
pub(crate) fn name_of_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(it) if it.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn joined(parts: impl Iterator<Item = String>, by: &str) -> String {
    parts.collect::<Vec<_>>().join(by)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_printed_as_go_prints_it() {
        let value = json!({"a": [1, true, null], "b": "x y"});
        assert_eq!(shown(&value), "map[a:[1 true <nil>] b:x y]");
        assert_eq!(
            source(&value),
            "map[string]interface {}{\"a\":[]interface {}{1, true, interface {}(nil)}, \"b\":\"x y\"}"
        );
        assert_eq!(name_of_type(&value), "map[string]interface {}");
    }
}
