//! What an update leaves as it was, as upstream's tests of ratcheting have it: a schema has become
//! stricter than the objects that are there.

use serde_json::{Value, json};

use super::{changed, resource, warned};

/// The places at which every kind of parent has the field.
const PLACES: [&str; 6] =
    ["field", "list[0].field", "list[1].field", "map.bar.field", "map.foo.field", "struct.field"];

/// A schema that has `field` at each place where what is old can be found again.
fn everywhere(field: &Value) -> Value {
    let with = |more: Value| {
        let mut properties = json!({"field": field, "other": {"type": "string"}});
        properties.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"type": "object", "properties": properties})
    };
    let mut item = with(json!({"key": {"type": "string"}}));
    item["required"] = json!(["key"]);
    with(json!({
        "struct": with(json!({})),
        "list": {"type": "array", "maxItems": 5, "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["key"], "items": item},
        "map": {"type": "object", "maxProperties": 5, "additionalProperties": with(json!({}))},
    }))
}

fn object(field: &str, more: &Value) -> Value {
    let with = |more: &Value| {
        let mut all = json!({"field": field});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let keyed = |key: &str| {
        let mut item = with(more);
        item["key"] = key.into();
        item
    };
    let mut object = with(more);
    object["struct"] = with(more);
    object["list"] = json!([keyed("foo"), keyed("bar")]);
    object["map"] = json!({"foo": with(more), "bar": with(more)});
    object
}

/// Where something is wrong, without what.
fn places(faults: &[String]) -> Vec<String> {
    let place = |it: &String| it.split(": ").next().unwrap_or_default().replace("spec.", "");
    let mut places: Vec<String> = faults.iter().map(place).collect();
    places.sort();
    places
}

fn rule(rule: &str) -> Value {
    json!({"type": "string", "maxLength": 5, "x-kubernetes-validations": [{"rule": rule}]})
}

/// The places as rules name them.
fn of_rules() -> Vec<String> {
    let mut places =
        PLACES.map(|it| it.replace("map.bar", "map[bar]").replace("map.foo", "map[foo]"));
    places.sort();
    places.to_vec()
}

#[test]
fn what_is_left_in_maps_structs_and_keyed_lists_passes_and_what_changes_does_not() {
    let strict = json!({"type": "string", "enum": ["good"]});
    let (old, more) = (object("bad", &json!({})), json!({"other": "new"}));
    let resource = resource(everywhere(&strict));
    assert_eq!(changed(&resource, Some(old.clone()), object("bad", &more)), [""; 0]);
    let refused = changed(&resource, Some(old.clone()), object("worse", &more));
    assert_eq!(places(&refused), PLACES);
    assert_eq!(changed(&resource, Some(old), object("good", &more)), [""; 0]);
}

#[test]
fn a_rule_that_does_not_hold_any_more_is_told_where_its_value_changes() {
    let resource = resource(everywhere(&rule("self == 'good'")));
    let (old, more) = (object("bad", &json!({})), json!({"other": "new"}));
    assert_eq!(changed(&resource, Some(old.clone()), object("bad", &more)), [""; 0]);
    let refused = changed(&resource, Some(old), object("worse", &more));
    assert_eq!(places(&refused), of_rules());
}

#[test]
fn who_leaves_what_a_rule_would_refuse_is_warned_and_what_the_schema_would_is_not_told() {
    let (old, more) = (object("bad", &json!({})), json!({"other": "new"}));
    let ruled = resource(everywhere(&rule("self == 'good'")));
    let told = warned(&ruled, old.clone(), object("bad", &more));
    assert_eq!(places(&told), of_rules());
    assert_eq!(told[0], "spec.field: Invalid value: \"bad\": failed rule: self == 'good'");
    let strict = resource(everywhere(&json!({"type": "string", "enum": ["good"]})));
    assert_eq!(warned(&strict, old, object("bad", &more)), [""; 0]);
}

#[test]
fn elements_of_sets_and_atomic_lists_are_not_found_again() {
    for item in [
        json!({"type": "string", "enum": ["x"]}),
        json!({"type": "string", "x-kubernetes-validations": [{"rule": "self == 'x'"}]}),
    ] {
        let schema = json!({"type": "object", "properties": {
            "atomic": {"type": "array", "items": item},
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": item},
        }});
        let resource = resource(schema);
        let old = json!({"atomic": ["a", "b"], "set": ["a", "b"]});
        let more = json!({"atomic": ["a", "b", "x"], "set": ["a", "b", "x"]});
        let refused = places(&changed(&resource, Some(old.clone()), more));
        assert_eq!(refused, ["atomic[0]", "atomic[1]", "set[0]", "set[1]"], "{item}");
        assert_eq!(changed(&resource, Some(old.clone()), old), [""; 0], "as a whole they are");
    }
}

#[test]
fn a_rule_about_the_change_is_asked_also_where_there_is_none() {
    for transition in [
        rule("self != oldSelf"),
        json!({"type": "string", "maxLength": 5, "x-kubernetes-validations": [
            {"rule": "!oldSelf.hasValue() || self != oldSelf.value()", "optionalOldSelf": true}]}),
    ] {
        let resource = resource(everywhere(&transition));
        let old = object("foo", &json!({}));
        assert_eq!(changed(&resource, None, old.clone()), [""; 0], "nothing was there");
        let refused = changed(&resource, Some(old.clone()), old.clone());
        assert_eq!(places(&refused), of_rules());
        assert_eq!(changed(&resource, Some(old), object("new", &json!({}))), [""; 0]);
    }
}
