//! Paths with labels: `/clusters/{name}/node-groups/{nodegroupName}`.

use serde_json::{Map, Value};

use crate::percent;

/// The labels' values, if the path is one of the template's. A trailing slash is ignored.
pub fn match_path(template: &str, path: &str) -> Option<Map<String, Value>> {
    let mut labels = Map::new();
    let mut wanted = template.split('/');
    let mut given = path.strip_suffix('/').filter(|it| !it.is_empty()).unwrap_or(path).split('/');
    loop {
        let (wanted, given) = match (wanted.next(), given.next()) {
            (None, None) => return Some(labels),
            (Some(wanted), Some(given)) => (wanted, given),
            _ => return None,
        };
        match label(wanted) {
            None if wanted == given => {}
            None => return None,
            Some(_) if given.is_empty() => return None,
            Some(label) => {
                labels.insert(label.to_owned(), Value::String(percent::decode(given)));
            }
        }
    }
}

/// How many segments of the template are literal: the most specific template wins.
pub fn literals(template: &str) -> usize {
    template.split('/').filter(|it| label(it).is_none()).count()
}

/// Fills the template and takes its labels out of the fields.
pub(crate) fn fill_path(template: &str, fields: &mut Map<String, Value>) -> String {
    let segments = template.split('/').map(|segment| match label(segment) {
        None => segment.to_owned(),
        Some(label) => {
            let value = fields.remove(label).unwrap_or_default();
            percent::encode(value.as_str().unwrap_or_default())
        }
    });
    segments.collect::<Vec<_>>().join("/")
}

/// The rest of the fields as query parameters; a list repeats its name.
pub(crate) fn query_pairs(fields: &Map<String, Value>) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for (name, value) in fields {
        match value {
            Value::Null => {}
            Value::Array(items) => {
                pairs.extend(items.iter().map(|item| (name.clone(), text(item))));
            }
            Value::Object(_) => {}
            _ => pairs.push((name.clone(), text(value))),
        }
    }
    pairs
}

/// Query parameters as fields; a repeated name becomes a list.
pub fn query_fields(pairs: impl IntoIterator<Item = (String, String)>) -> Map<String, Value> {
    let mut fields = Map::new();
    for (name, value) in pairs {
        let value = Value::String(value);
        match fields.get_mut(&name) {
            None => drop(fields.insert(name, value)),
            Some(Value::Array(items)) => items.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    fields
}

fn text(value: &Value) -> String {
    match value {
        Value::String(it) => it.clone(),
        other => other.to_string(),
    }
}

fn label(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEMPLATE: &str = "/clusters/{name}/node-groups/{nodegroupName}";

    #[test]
    fn labels_come_out_of_a_path_as_they_went_in() {
        let mut fields = json!({"name": "a b/c", "nodegroupName": "ü", "x": 1});
        let fields = fields.as_object_mut().unwrap();
        let path = fill_path(TEMPLATE, fields);
        assert_eq!(path, "/clusters/a%20b%2Fc/node-groups/%C3%BC");
        let labels = match_path(TEMPLATE, &path).unwrap();
        assert_eq!(Value::Object(labels), json!({"name": "a b/c", "nodegroupName": "ü"}));
        assert_eq!(Value::Object(fields.clone()), json!({"x": 1}));
    }

    #[test]
    fn other_paths_do_not_match() {
        for path in ["/clusters/a", "/clusters/a/node-groups/b/c", "/clusters//node-groups/b", "/"]
        {
            assert_eq!(match_path(TEMPLATE, path), None, "{path}");
        }
        assert!(match_path("/clusters", "/clusters/").is_some());
    }
}
