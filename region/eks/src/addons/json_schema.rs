//! As much of JSON Schema as the add-ons' schemas use, with the messages that EKS gives.
//!
//! Known: `type`, `format` (`boolean` and `integer`, of strings), `properties`, `additionalProperties`,
//! `required`, `minProperties`, `items`.

use serde_json::Value;

/// The first thing in `value` that the schema does not allow; `path` is where it is, from `$`.
pub(crate) fn violation(schema: &Value, value: &Value, path: &str) -> Option<String> {
    if let Some(why) = of_type(&schema["type"], value).or_else(|| of_format(schema, value)) {
        return Some(format!("{path}: {why}"));
    }
    match value {
        Value::Object(_) => of_object(schema, value, path),
        Value::Array(items) if schema["items"].is_object() => {
            let mut items = items.iter().enumerate();
            items.find_map(|(at, it)| violation(&schema["items"], it, &format!("{path}[{at}]")))
        }
        _ => None,
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(it) if it.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn of_type(wanted: &Value, value: &Value) -> Option<String> {
    let found = type_of(value);
    let fits = match wanted {
        Value::String(it) => it == found,
        Value::Array(any) => any.iter().any(|it| it == found),
        _ => true,
    };
    let expected = match wanted {
        Value::String(it) => it.clone(),
        other => other.to_string(),
    };
    (!fits).then(|| format!("{found} found, {expected} expected"))
}

fn of_format(schema: &Value, value: &Value) -> Option<String> {
    let (format, text) = (schema["format"].as_str()?, value.as_str()?);
    let fits = match format {
        "boolean" => matches!(text, "true" | "false"),
        "integer" => text.parse::<u32>().is_ok(),
        _ => true,
    };
    (!fits).then(|| format!("does not match the {format} format"))
}

fn of_object(schema: &Value, value: &Value, path: &str) -> Option<String> {
    let fields = value.as_object()?;
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for name in required {
        if !fields.contains_key(name) {
            return Some(format!("{path}.{name}: is missing but it is required"));
        }
    }
    let least = schema["minProperties"].as_u64().unwrap_or(0);
    if u64::try_from(fields.len()).is_ok_and(|it| it < least) {
        return Some(format!("{path}: should have at least {least} properties"));
    }
    fields.iter().find_map(|(name, field)| {
        let path = format!("{path}.{name}");
        match (schema["properties"].get(name), &schema["additionalProperties"]) {
            (Some(known), _) => violation(known, field, &path),
            (None, Value::Bool(false)) => Some(format!(
                "{path}: is not defined in the schema and the schema does not allow additional \
                 properties"
            )),
            (None, others) => violation(others, field, &path),
        }
    })
}
