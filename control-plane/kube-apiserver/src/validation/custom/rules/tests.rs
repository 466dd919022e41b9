//! What rules cost at most, and what they make of lists whose items are told apart.

use serde_json::{Value, json};

use super::{bounds::bound_of, types::type_of};
use crate::{
    cel::{self, Environment, Type},
    schema::structural::Node,
    validation::custom::tests::{changed, faults, of_schema, resource, rule},
};

/// What a rule of a place with that schema can cost.
fn cost(schema: &Value, rule: &str) -> u64 {
    let node = Node::of(schema);
    let of = type_of(&node, false).unwrap();
    let environment = Environment::default().with("self", of.clone()).with("oldSelf", of);
    let bound = bound_of(&node, false).unwrap();
    cel::estimate(rule, &environment, &[Type::Bool], &bound).unwrap().1
}

fn kind(name: &str) -> Value {
    match name {
        "duration" | "date" | "date-time" => json!({"type": "string", "format": name}),
        "int-or-string" => json!({"x-kubernetes-int-or-string": true}),
        other => json!({"type": other}),
    }
}

fn list(of: &Value, most: Option<u64>) -> Value {
    let mut schema = json!({"type": "array", "items": of});
    most.into_iter().for_each(|it| schema["maxItems"] = it.into());
    schema
}

fn map(of: &Value, most: Option<u64>) -> Value {
    let mut schema = json!({"type": "object", "additionalProperties": of});
    most.into_iter().for_each(|it| schema["maxProperties"] = it.into());
    schema
}

fn words(most: Option<u64>) -> Value {
    let mut schema = json!({"type": "string"});
    most.into_iter().for_each(|it| schema["maxLength"] = it.into());
    schema
}

/// The numbers are those of upstream's tests.
#[test]
fn lists_and_maps_without_limits_are_as_long_as_a_request_can_hold() {
    let each = "self.all(x, true)";
    for (of, unlimited, most, limited) in [
        ("number", 4_718_591, 10, 32),
        ("string", 3_145_727, 20, 62),
        ("boolean", 1_887_437, 5, 17),
        ("int-or-string", 4_718_591, 10, 32),
        ("duration", 2_359_295, 5, 17),
        ("date", 725_936, 15, 47),
        ("date-time", 428_963, 25, 77),
    ] {
        assert_eq!(cost(&list(&kind(of), None), each), unlimited, "{of}");
        assert_eq!(cost(&list(&kind(of), Some(most)), each), limited, "{of}");
    }
    for (of, unlimited, most, limited) in [
        ("number", 1_348_169, 10, 32),
        ("string", 1_179_647, 3, 11),
        ("boolean", 943_718, 100, 302),
        ("int-or-string", 1_348_169, 15, 47),
        ("duration", 1_048_577, 5, 17),
        ("date", 524_288, 10, 32),
        ("date-time", 349_526, 25, 77),
    ] {
        assert_eq!(cost(&map(&kind(of), None), each), unlimited, "{of}");
        assert_eq!(cost(&map(&kind(of), Some(most)), each), limited, "{of}");
    }
    let numbers = list(&kind("number"), None);
    assert_eq!(cost(&list(&numbers, None), each), 3_145_727);
    assert_eq!(cost(&list(&numbers, Some(100)), each), 302);
}

#[test]
fn the_cost_of_texts_is_that_of_reading_them() {
    for (rule, unlimited, most, limited) in [
        ("self.contains('test')", 314_574, 10, 5),
        ("self.startsWith('test')", 2, 15, 2),
        ("self.endsWith('test')", 2, 30, 2),
        ("size(self + 'hello') > size('hello')", 314_578, 4, 7),
        ("self.matches('x')", 314_574, 50, 22),
        (r#""".matches("(((((((((())))))))))[0-9]")"#, 7, 10, 7),
        ("self.matches('')", 1, 100, 1),
        ("self == 'x'", 2, 0, 1),
        ("self.find('[0-9]+') == ''", 629_147, 10, 11),
        ("self.lowerAscii() == 'lower!'", 314_575, 10, 6),
    ] {
        assert_eq!(cost(&words(None), rule), unlimited, "{rule}");
        assert_eq!(cost(&words(Some(most)), rule), limited, "{rule}");
    }
    let mut choice = json!({"type": "string", "enum": ["A", "B", "C", "LongValue"]});
    assert_eq!(cost(&choice, "self.contains('A')"), 2);
    choice["maxLength"] = 1000.into();
    assert_eq!(cost(&choice, "self.contains('A')"), 401);
    let bytes = json!({"type": "string", "format": "byte", "maxLength": 0});
    assert_eq!(cost(&bytes, "self == b'x'"), 1);
}

#[test]
fn what_is_read_in_lists_and_maps_costs_what_the_schema_says_of_it() {
    let numbers = |most| list(&kind("number"), most);
    let texts = |most| list(&words(most), most);
    for (schema, rule, wanted) in [
        (numbers(None), "self[1] == 0.0", 2),
        (list(&kind("string"), Some(8)), "self[1] == self[1]", 314_577),
        (numbers(Some(10)), "self.all(x, self.all(y, true))", 352),
        (numbers(Some(10)), "self.all(x, self.all(y, self.all(z, true)))", 3552),
        (numbers(None), "self.all(x, x == 0.0)", 6_291_454),
        (numbers(Some(3 * 1024 * 2048)), "self.all(x, x == 0.0)", 25_165_826),
        (list(&kind("int-or-string"), None), "self[0] == 5", 3),
        (list(&numbers(None), None), "self[0][0] == -1.0", 3),
        (list(&map(&kind("number"), None), Some(12)), "self.all(x, x.y == 25.2)", 74),
        (list(&kind("duration"), None), "self[0].getHours() == 2", 4),
        (map(&kind("number"), None), "self['x'] == 0.0", 2),
        (map(&kind("date-time"), None), "self['a'] == self['b']", 8),
        (map(&kind("duration"), None), "self['c'] == self['d']", 8),
        (map(&kind("integer"), None), "oldSelf.size() == self.size()", 5),
        (map(&kind("string"), None), "self.all(x, x.contains(self[x]))", 2_752_507),
        (map(&words(Some(10)), Some(10)), "self.all(x, x.contains(self[x]))", 72),
        (texts(None), "self.join(' ') == 'aa bb'", 329_853_068_905),
        (texts(Some(10)), "self.join(' ') == 'aa bb'", 43),
        (texts(None), "self.isSorted() == true", 329_854_432_052),
        (texts(Some(10)), "self.isSorted() == true", 52),
    ] {
        assert_eq!(cost(&schema, rule), wanted, "{rule}");
    }
    assert!(cost(&numbers(None), "self.all(x, self.all(y, true))") > 10_000_000);
    let object = |most| {
        json!({"type": "object", "properties": {"str": words(most), "separator": words(most),
            "before": words(Some(2)), "after": words(Some(4))}})
    };
    let replace = "self.str.replace(self.before, self.after) == 'does not matter'";
    assert_eq!(cost(&object(None), replace), 629_154);
    assert_eq!(cost(&object(Some(4)), replace), 12);
    let split = "self.str.split(self.separator) == []";
    assert_eq!(cost(&object(None), split), 629_160);
    assert_eq!(cost(&object(Some(10)), split), 22);
}

/// They cost what they are written out as.
#[test]
fn macros_of_two_names_cost_as_much_as_those_of_one() {
    let numbers = list(&kind("number"), Some(10));
    for (two, one) in [
        ("self.all(i, x, x > 0.0)", "self.all(x, x > 0.0)"),
        ("self.exists(i, x, x > 0.0)", "self.exists(x, x > 0.0)"),
        ("self.existsOne(i, x, x > 0.0)", "self.exists_one(x, x > 0.0)"),
        ("self.transformList(i, x, x).size() > 1", "self.map(x, x).size() > 1"),
        ("self.transformList(i, x, x > 0.0, x).size() > 1", "self.map(x, x > 0.0, x).size() > 1"),
    ] {
        assert_eq!(cost(&numbers, two), cost(&numbers, one), "{two}");
    }
}

const TRY: &str = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where \
                   arrays, maps, and strings are declared)";

#[test]
fn a_definition_with_a_rule_that_could_cost_too_much_is_refused() {
    let at = "spec.validation.openAPIV3Schema.properties[spec]";
    let schema = |rules: Value, more: Value| {
        let mut list = list(&kind("number"), None);
        list["x-kubernetes-validations"] = rules;
        more.as_object().unwrap().iter().for_each(|(name, it)| list[name] = it.clone());
        json!({"type": "object", "properties": {"list": list}})
    };
    let loops = rule("self.all(x, self.all(y, x == y))", "m");
    assert_eq!(
        of_schema(schema(loops.clone(), json!({}))),
        [
            format!(
                "{at}.properties[list].x-kubernetes-validations[0].rule: Forbidden: estimated rule \
                 cost exceeds budget by factor of more than 100x {TRY}"
            ),
            format!(
                "{at}.properties[list].x-kubernetes-validations[0].rule: Forbidden: contributed to \
                 estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
            ),
            format!(
                "spec.validation.openAPIV3Schema: Forbidden: x-kubernetes-validations estimated rule \
                 cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x \
                 {TRY}"
            ),
        ]
    );
    assert_eq!(of_schema(schema(loops, json!({"maxItems": 100}))), [""; 0]);
    let told =
        json!([{"rule": "self.size() < 9", "messageExpression": "'has ' + string(self.size())"}]);
    let found = of_schema(schema(told, json!({})));
    assert!(
        found[0]
            .contains(".messageExpression: Forbidden: estimated messageExpression cost exceeds"),
        "{found:?}"
    );
    let once = rule("self.all(x, x > 0.0 && x < 9.0 && x != 3.0)", "m");
    assert_eq!(
        of_schema(schema(once, json!({}))),
        [format!(
            "{at}.properties[list].x-kubernetes-validations[0].rule: Forbidden: estimated rule cost \
             exceeds budget by factor of 1.258291x {TRY}"
        )]
    );
}

#[test]
fn a_rule_counts_as_often_as_its_place_can_be_there() {
    let place = |outer: Option<u64>| {
        let text = json!({"type": "string", "maxLength": 5000,
            "x-kubernetes-validations": rule("self.contains('keyword')", "m")});
        json!({"type": "object", "properties": {"list": list(&text, outer)}})
    };
    assert_eq!(of_schema(place(Some(1000))), [""; 0]);
    for outer in [None, Some(100_000)] {
        let found = of_schema(place(outer));
        assert!(found[0].contains("estimated rule cost exceeds budget"), "{found:?}");
    }
}

#[test]
fn a_default_that_breaks_the_rules_of_its_place_is_refused() {
    let schema = |default: Value| {
        json!({"type": "object", "properties": {"range": {"type": "object", "default": default,
            "properties": {"low": {"type": "integer"}, "high": {"type": "integer"}},
            "x-kubernetes-validations": [
                {"rule": "self.low <= self.high", "message": "low must not exceed high"},
                {"rule": "self.low == oldSelf.low", "message": "is immutable"}]}}})
    };
    assert_eq!(of_schema(schema(json!({"low": 1, "high": 2}))), [""; 0]);
    assert_eq!(
        of_schema(schema(json!({"low": 3, "high": 2}))),
        [
            "spec.validation.openAPIV3Schema.properties[spec].properties[range].default: Invalid value: \
          low must not exceed high"
        ]
    );
}

#[test]
fn rules_within_alternatives_are_refused_with_the_definition() {
    for word in ["allOf", "anyOf", "oneOf"] {
        let schema = json!({"type": "object", "properties": {"a": {"type": "integer",
            word: [{"x-kubernetes-validations": rule("self > 0", "m")}]}}});
        assert_eq!(
            of_schema(schema),
            [format!(
                "spec.validation.openAPIV3Schema.properties[spec].properties[a].{word}[0]\
                 .x-kubernetes-validations: Forbidden: must be empty to be structural"
            )]
        );
    }
}

#[test]
fn lists_of_sets_and_maps_are_equal_in_any_order() {
    let kept = |list: Value| {
        let mut list = list;
        list["x-kubernetes-validations"] = rule("self == oldSelf", "is immutable");
        list["maxItems"] = 10.into();
        resource(json!({"type": "object", "properties": {"list": list}}))
    };
    let is_kept = |list: Value, old: Value, new: Value| {
        changed(&kept(list), Some(json!({"list": old})), json!({"list": new})).is_empty()
    };
    let words = json!({"type": "string", "maxLength": 9});
    let plain = json!({"type": "array", "items": words});
    let mut set = plain.clone();
    set["x-kubernetes-list-type"] = "set".into();
    assert!(!is_kept(plain, json!(["a", "b"]), json!(["b", "a"])));
    assert!(is_kept(set.clone(), json!(["a", "b"]), json!(["b", "a"])));
    assert!(!is_kept(set, json!(["a", "b"]), json!(["b", "c"])));
    let keyed = json!({"type": "array", "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["the-name"], "items": {"type": "object",
            "required": ["the-name"], "properties": {"the-name": words, "n": {"type": "integer"}}}});
    let one = json!({"the-name": "a", "n": 1});
    let two = json!({"the-name": "b", "n": 2});
    assert!(is_kept(keyed.clone(), json!([one, two]), json!([two, one])));
    let other = json!({"the-name": "b", "n": 3});
    assert!(!is_kept(keyed, json!([one, two]), json!([other, one])));
}

#[test]
fn adding_to_sets_and_maps_merges() {
    let schema = |sum: &str| {
        json!({"type": "object", "x-kubernetes-validations": rule(sum, "m"), "properties": {
            "set": {"type": "array", "x-kubernetes-list-type": "set", "maxItems": 9,
                "items": {"type": "string", "maxLength": 9}},
            "map": {"type": "array", "x-kubernetes-list-type": "map", "maxItems": 9,
                "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object", "required": ["k"],
                    "properties": {"k": {"type": "string", "maxLength": 9},
                        "n": {"type": "integer"}}}}}})
    };
    let object = json!({"set": ["a", "b"], "map": [{"k": "x", "n": 1}, {"k": "y", "n": 2}]});
    for holds in [
        "self.set + ['b', 'c'] == ['c', 'b', 'a']",
        "(self.set + ['b']).size() == 2",
        "(self.map + self.map).size() == 2",
        "(self.map + [self.map[0]]) == self.map",
        "self.set + ['c'] != ['a', 'b', 'd']",
    ] {
        assert_eq!(faults(schema(holds), object.clone()), [""; 0], "{holds}");
    }
}
