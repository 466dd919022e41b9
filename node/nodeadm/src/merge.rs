//! Merging of documents: maps key by key, everything else by replacement.

use serde_json::{Map, Value};

/// Lays `over` on `base`. `null` in `over` changes nothing, as an absent key does.
pub(crate) fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (_, Value::Null) => {}
        (Value::Object(base), Value::Object(over)) => merge_maps(base, over),
        (base, over) => *base = over,
    }
}

fn merge_maps(base: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        merge(base.entry(key).or_insert(Value::Null), value);
    }
}

/// Lays `over` on `base`, in TOML.
pub(crate) fn merge_toml(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over)) => merge_toml(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_are_merged_and_lists_replaced() {
        let mut base = json!({"a": {"x": 1, "y": [1, 2]}, "b": 1});
        merge(&mut base, json!({"a": {"y": [3], "z": 2}, "b": null, "c": {}}));
        assert_eq!(base, json!({"a": {"x": 1, "y": [3], "z": 2}, "b": 1, "c": {}}));
    }

    #[test]
    fn tables_are_merged_too() {
        let mut base: toml::Table = toml::from_str("v = 1\n[a.b]\nx = 1\ny = 2\n").unwrap();
        merge_toml(&mut base, toml::from_str("[a.b]\ny = 3\n[c]\n").unwrap());
        assert_eq!(base["a"]["b"]["y"].as_integer(), Some(3));
        assert_eq!(base["a"]["b"]["x"].as_integer(), Some(1));
        assert!(base.contains_key("c"));
    }
}
