//! Definitions and objects, in upstream's words.

mod ratcheting;

use serde_json::{Value, json};

use super::{super::Faults, definition_create, definition_update, validate};
use crate::{
    custom_resources,
    resources::{Catalog, Resource, custom},
    schema::structural::shaping,
};

/// A definition whose objects have this schema for `spec`.
fn defined(spec: Value) -> Value {
    let mut definition = json!({
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {
                "openAPIV3Schema": {"type": "object", "properties": {"spec": spec}},
            }}],
        },
    });
    custom_resources::prepare(&mut definition, "2026-01-01T00:00:00Z", &Catalog::builtin());
    definition
}

fn told(faults: Faults) -> Vec<String> {
    faults.found.iter().map(ToString::to_string).collect()
}

/// What is wrong with a definition.
fn refused(definition: &Value) -> Vec<String> {
    let mut faults = Faults::default();
    definition_create(&mut faults, definition);
    told(faults)
}

pub(super) fn of_schema(spec: Value) -> Vec<String> {
    refused(&defined(spec))
}

pub(super) fn resource(spec: Value) -> std::sync::Arc<Resource> {
    let definition = defined(spec);
    assert_eq!(refused(&definition), [""; 0]);
    custom::resources(&definition).remove(0)
}

/// What is wrong with an object of that `spec`, as an update of another.
pub(super) fn changed(resource: &Resource, old: Option<Value>, spec: Value) -> Vec<String> {
    let custom = resource.custom.as_ref().unwrap();
    let object = |spec: Value| {
        let mut object = json!({"apiVersion": "example.com/v1", "kind": "Thing",
            "metadata": {"name": "t"}, "spec": spec});
        shaping::prune(&mut object, custom.node(), &mut Vec::new());
        shaping::default(&mut object, custom.node());
        object
    };
    let mut faults = Faults::default();
    validate(&mut faults, custom, &object(spec), old.map(object).as_ref());
    told(faults)
}

/// Of what an update that is accepted is warned.
pub(super) fn warned(resource: &Resource, old: Value, spec: Value) -> Vec<String> {
    let custom = resource.custom.as_ref().unwrap();
    let object = |spec: Value| json!({"metadata": {"name": "t"}, "spec": spec});
    let mut faults = Faults::default();
    validate(&mut faults, custom, &object(spec), Some(&object(old)));
    assert_eq!(faults.found, []);
    faults.left.iter().map(ToString::to_string).collect()
}

pub(super) fn faults(schema: Value, spec: Value) -> Vec<String> {
    changed(&resource(schema), None, spec)
}

pub(super) fn rule(rule: &str, message: &str) -> Value {
    json!([{"rule": rule, "message": message}])
}

#[test]
fn values_are_checked_at_every_level_in_upstreams_words() {
    let schema = json!({"type": "object", "required": ["name"], "properties": {
        "name": {"type": "string", "pattern": "^[a-z]+$", "minLength": 2, "maxLength": 4},
        "count": {"type": "integer", "minimum": 1, "maximum": 9, "multipleOf": 3},
        "at": {"type": "string", "format": "date-time"},
        "kind": {"type": "string", "enum": ["a", "b"]},
        "list": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "integer"}},
        "map": {"type": "object", "maxProperties": 1, "additionalProperties": {"type": "string"}},
        "port": {"x-kubernetes-int-or-string": true},
        "maybe": {"type": "string", "nullable": true},
    }});
    let faults = |spec: Value| changed(&resource(schema.clone()), None, spec);
    let good = json!({"name": "abc", "count": 6.0, "at": "2026-01-01T00:00:00Z", "kind": "a",
        "list": [1], "map": {"x": "y"}, "port": "http", "maybe": null});
    assert_eq!(faults(good), [""; 0]);
    assert_eq!(
        faults(json!({"count": 10, "at": "soon", "kind": "c", "list": [], "port": true})),
        [
            "spec.name: Required value",
            "spec.at: Invalid value: \"soon\": spec.at in body must be of type date-time: \"soon\"",
            "spec.count: Invalid value: 10: spec.count in body should be a multiple of 3",
            "spec.count: Invalid value: 10: spec.count in body should be less than or equal to 9",
            "spec.kind: Unsupported value: \"c\": supported values: \"a\", \"b\"",
            "spec.list: Invalid value: 0: spec.list in body should have at least 1 items",
            "spec.port: Invalid value: \"boolean\": spec.port in body must be of type \
             integer,string: \"boolean\"",
        ]
    );
    assert_eq!(
        faults(json!({"name": "A", "list": ["x", 2, 3], "map": {"a": "b", "c": 1}})),
        [
            "spec.list: Too many: 3: must have at most 2 items",
            "spec.list[0]: Invalid value: \"string\": spec.list[0] in body must be of type \
             integer: \"string\"",
            "spec.map: Too many: 2: must have at most 1 item",
            "spec.map.c: Invalid value: \"integer\": spec.map.c in body must be of type string: \
             \"integer\"",
            "spec.name: Invalid value: \"A\": spec.name in body should be at least 2 chars long",
            "spec.name: Invalid value: \"A\": spec.name in body should match '^[a-z]+$'",
        ]
    );
}

#[test]
fn alternatives_are_counted() {
    let schema = |word: &str| {
        json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            word: [{"required": ["a"]}, {"required": ["b"]}]})
    };
    let none = json!({});
    let both = json!({"a": "x", "b": "y"});
    assert_eq!(
        faults(schema("oneOf"), none.clone()),
        [
            "<nil>: Invalid value: \"\": \"spec\" must validate one and only one schema (oneOf). \
             Found none valid",
            "spec.a: Required value",
        ]
    );
    assert_eq!(
        faults(schema("oneOf"), both.clone()),
        ["<nil>: Invalid value: \"\": \"spec\" must validate one and only one schema (oneOf). \
          Found 2 valid alternatives"]
    );
    assert!(faults(schema("anyOf"), none)[0].contains("at least one schema (anyOf)"));
    assert_eq!(faults(schema("anyOf"), both), [""; 0]);
}

#[test]
fn items_of_sets_and_maps_are_there_once() {
    let schema = json!({"type": "object", "properties": {
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "map": {"type": "array", "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "required": ["name"], "properties": {
                "name": {"type": "string"}, "x": {"type": "integer"}}}},
    }});
    let twice = json!({"set": ["a", "b", "a"], "map": [{"name": "n", "x": 1}, {"name": "n"}]});
    let all =
        ["spec.map[1]: Duplicate value: {\"name\":\"n\"}", "spec.set[2]: Duplicate value: \"a\""];
    let resource = resource(schema);
    assert_eq!(changed(&resource, None, twice.clone()), all);
    assert_eq!(changed(&resource, Some(json!({})), twice.clone()), all);
    assert_eq!(changed(&resource, Some(twice.clone()), twice), [""; 0], "it was so before");
}

#[test]
fn what_an_update_leaves_as_it_was_is_not_looked_at_again() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "string", "pattern": "^x$"},
        "b": {"type": "string", "x-kubernetes-validations": rule("self == 'x'", "must be x")},
    }});
    let resource = resource(schema);
    let old = json!({"a": "old", "b": "old"});
    assert_eq!(changed(&resource, Some(old.clone()), json!({"a": "old", "b": "old"})), [""; 0]);
    assert_eq!(
        changed(&resource, Some(old), json!({"a": "new", "b": "new"})),
        [
            "spec.a: Invalid value: \"new\": spec.a in body should match '^x$'",
            "spec.b: Invalid value: \"new\": must be x",
        ]
    );
}

#[test]
fn rules_see_scalars_lists_maps_and_objects() {
    let schema = json!({"type": "object",
    "x-kubernetes-validations": rule("self.low <= self.high", "low must not exceed high"),
    "properties": {
        "low": {"type": "integer"}, "high": {"type": "integer"},
        "a-b": {"type": "string"},
        "list": {"type": "array", "items": {"type": "string",
            "x-kubernetes-validations": rule("self.startsWith('x')", "must start with x")}},
        "map": {"type": "object", "additionalProperties": {"type": "integer",
            "x-kubernetes-validations": rule("self > 0", "must be positive")}},
        "wait": {"type": "string", "format": "duration",
            "x-kubernetes-validations": rule("self < duration('1m')", "too long")},
        "more": {"type": "object",
            "x-kubernetes-validations": rule("!has(self.c__dash__d) || self.c__dash__d != ''", ""),
            "properties": {"c-d": {"type": "string"}}},
    }});
    assert_eq!(
        faults(
            schema,
            json!({"low": 3, "high": 2, "list": ["xa", "b"], "map": {"k.k": 0},
            "wait": "2m", "more": {"c-d": ""}})
        ),
        [
            "spec: Invalid value: low must not exceed high",
            "spec.list[1]: Invalid value: \"b\": must start with x",
            "spec.map[k.k]: Invalid value: 0: must be positive",
            "spec.more: Invalid value: failed rule: !has(self.c__dash__d) || self.c__dash__d != ''",
            "spec.wait: Invalid value: \"2m\": too long",
        ]
    );
}

#[test]
fn a_rule_says_what_it_wants_where_and_why() {
    let schema = json!({"type": "object", "x-kubernetes-validations": [
        {"rule": "self.a == 1", "messageExpression": "'a is %d'.format([self.a])"},
        {"rule": "self.a == 1", "reason": "FieldValueForbidden", "fieldPath": ".a", "message": "m"},
        {"rule": "self.a == 1", "reason": "FieldValueRequired", "fieldPath": ".a", "message": "m"},
    ], "properties": {"a": {"type": "integer"}}});
    assert_eq!(
        faults(schema, json!({"a": 2})),
        ["spec: Invalid value: a is 2", "spec.a: Forbidden: m", "spec.a: Required value: m"]
    );
}

#[test]
fn transition_rules_run_where_there_is_an_old_value() {
    let schema = json!({"type": "object", "properties": {
        "fixed": {"type": "string",
            "x-kubernetes-validations": rule("self == oldSelf", "is immutable")},
        "once": {"type": "string", "x-kubernetes-validations": [{
            "rule": "!oldSelf.hasValue() || self == oldSelf.value()",
            "message": "is set once", "optionalOldSelf": true}]},
        "new": {"type": "string", "x-kubernetes-validations": [{
            "rule": "oldSelf.hasValue() || self == 'first'",
            "message": "begins as first", "optionalOldSelf": true}]},
        "parts": {"type": "array", "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "required": ["name"],
                "properties": {"name": {"type": "string"}, "n": {"type": "integer",
                    "x-kubernetes-validations": rule("self >= oldSelf", "only grows")}}}},
    }});
    let resource = resource(schema);
    assert_eq!(
        changed(&resource, None, json!({"fixed": "a", "once": "a", "new": "b"})),
        ["spec.new: Invalid value: \"b\": begins as first"]
    );
    let old =
        json!({"fixed": "a", "once": "a", "parts": [{"name": "x", "n": 1}, {"name": "y", "n": 5}]});
    let new =
        json!({"fixed": "b", "once": "b", "parts": [{"name": "y", "n": 4}, {"name": "z", "n": 0}]});
    assert_eq!(
        changed(&resource, Some(old), new),
        [
            "spec.fixed: Invalid value: \"b\": is immutable",
            "spec.once: Invalid value: \"b\": is set once",
            "spec.parts[0].n: Invalid value: 4: only grows",
        ]
    );
}

#[test]
fn rules_wait_for_an_object_that_is_of_the_right_types() {
    let schema = json!({"type": "object", "required": ["a"],
        "x-kubernetes-validations": rule("self.a == 1", "m"),
        "properties": {"a": {"type": "integer"}}});
    let found = faults(schema, json!({}));
    assert_eq!(found[0], "spec.a: Required value");
    assert_eq!(
        found[1],
        "<nil>: Invalid value: null: some validation rules were not checked because the object was \
         invalid; correct the existing errors to complete validation"
    );
}

#[test]
fn a_rule_that_costs_too_much_ends_the_evaluation() {
    let loops = "self.all(a, self.all(b, self.all(c, a + b + c >= 0)))";
    let schema = json!({"type": "object", "properties": {"list": {"type": "array", "maxItems": 100,
        "items": {"type": "integer"}, "x-kubernetes-validations": rule(loops, "never told")}}});
    let found = faults(schema, json!({"list": vec![1; 100]}));
    assert_eq!(
        found,
        [
            "spec.list: Invalid value: \"array\": 'operation cancelled: actual cost limit exceeded': no \
          further validation rules will be run due to call cost exceeds limit for rule: never told"
        ]
    );
    let each = rule(&format!("self.all(x, x{} >= 0)", " + x".repeat(20)), "m");
    let schema = json!({"type": "object", "properties": {"all": {"type": "array",
        "maxItems": 55, "items": {"type": "array", "maxItems": 4000,
            "items": {"type": "integer"}, "x-kubernetes-validations": each}}}});
    let found = faults(schema, json!({"all": vec![vec![1; 4000]; 55]}));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].ends_with(
        "validation failed due to running out of cost budget, no further validation rules will be run"
    ));
}

#[test]
fn rules_that_cannot_work_are_refused_with_the_definition() {
    let of_rule = |rule: Value, more: Value| {
        let mut schema = json!({"type": "object", "properties": {"a": {"type": "integer"}},
            "x-kubernetes-validations": [rule]});
        for (key, value) in more.as_object().into_iter().flatten() {
            schema[key] = value.clone();
        }
        of_schema(schema)
    };
    let at = "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0]";
    let found = of_rule(json!({"rule": "self.b == 1"}), json!({}));
    let wanted = format!(
        "{at}.rule: Invalid value: apiextensions.ValidationRule{{Rule:\"self.b == 1\", \
         Message:\"\", MessageExpression:\"\", Reason:(*apiextensions.FieldValueErrorReason)(nil), \
         FieldPath:\"\", OptionalOldSelf:(*bool)(nil)}}: compilation failed: ERROR: <input>:1:5: \
         undefined field 'b'"
    );
    assert!(found[0].starts_with(&wanted), "{}\n{wanted}", found[0]);
    for (rule, why) in [
        (json!({"rule": "self.a"}), "cel expression must evaluate to a bool"),
        (json!({"rule": ""}), ".rule: Required value: rule is not specified"),
        (
            json!({"rule": "self.a == 1 &&\nself.a > 0"}),
            "message must be specified if rule contains",
        ),
        (json!({"rule": "self.a == 1", "message": "a\nb"}), "message must not contain line breaks"),
        (
            json!({"rule": "self.a == 1", "messageExpression": "self.a"}),
            "messageExpression must evaluate to a string",
        ),
        (
            json!({"rule": "self.a == 1", "reason": "Other"}),
            ".reason: Unsupported value: \"Other\"",
        ),
        (
            json!({"rule": "self.a == 1", "fieldPath": ".b"}),
            "fieldPath must be a valid path: does not refer to a valid field",
        ),
        (
            json!({"rule": "self.a == 1", "optionalOldSelf": true}),
            ".optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule",
        ),
    ] {
        let found = of_rule(rule.clone(), json!({}));
        assert!(found.len() == 1 && found[0].contains(why), "{rule}: {found:?}");
    }
    let list = json!({"type": "array", "items": {"type": "object",
        "properties": {"a": {"type": "integer",
            "x-kubernetes-validations": rule("self == oldSelf", "m")}}}});
    assert_eq!(
        of_schema(json!({"type": "object", "properties": {"list": list}})),
        ["spec.validation.openAPIV3Schema.properties[spec].properties[list].items.properties[a]\
          .x-kubernetes-validations[0].rule: Invalid value: \"self == oldSelf\": oldSelf cannot be \
          used on the uncorrelatable portion of the schema within \
          spec.validation.openAPIV3Schema.properties[spec].properties[list]"]
    );
}

#[test]
fn schemas_have_to_be_structural() {
    let at = "spec.validation.openAPIV3Schema.properties[spec]";
    for (schema, why) in [
        (
            json!({"properties": {}}),
            ".type: Required value: must not be empty for specified object fields",
        ),
        (json!({"type": "array"}), ".items: Required value: must be specified"),
        (
            json!({"type": "array", "items": {}}),
            ".items.type: Required value: must not be empty for specified array items",
        ),
        (
            json!({"type": "string", "pattern": "("}),
            ".pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: error \
             parsing regexp: missing closing ): `(`",
        ),
        (
            json!({"type": "object", "additionalProperties": false}),
            ".additionalProperties: Forbidden: additionalProperties cannot be set to false",
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"},
            "properties": {"a": {"type": "string"}}}),
            ".additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
        ),
        (
            json!({"type": "array", "uniqueItems": true, "items": {"type": "string"}}),
            ".uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity \
             becomes quadratic",
        ),
        (
            json!({"type": "string", "default": 1}),
            ".default: Invalid value: \"integer\": spec.validation.openAPIV3Schema.properties[spec]\
             .default in body must be of type string: \"integer\"",
        ),
        (
            json!({"type": "object", "anyOf": [{"properties": {"a": {"minLength": 1}}}]}),
            ".properties[a]: Required value: because it is defined in spec.validation\
             .openAPIV3Schema.properties[spec].anyOf[0].properties[a]",
        ),
        (
            json!({"type": "string", "anyOf": [{"type": "string"}]}),
            ".anyOf[0].type: Forbidden: must be empty to be structural",
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}}),
            ".x-kubernetes-list-map-keys: Required value: must not be empty if \
             x-kubernetes-list-type is map",
        ),
        (
            json!({"type": "string", "x-kubernetes-list-type": "set"}),
            ".type: Invalid value: \"string\": must be array if x-kubernetes-list-type is specified",
        ),
        (
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false}),
            ".x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined",
        ),
    ] {
        assert_eq!(of_schema(schema), [format!("{at}{why}")]);
    }
    assert_eq!(
        of_schema(json!({"x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}]})),
        [""; 0]
    );
}

#[test]
fn definitions_keep_what_objects_depend_on() {
    let old = defined(json!({"type": "object"}));
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut new = old.clone();
        change(&mut new);
        custom_resources::prepare(&mut new, "2026-01-02T00:00:00Z", &Catalog::builtin());
        let mut faults = Faults::default();
        definition_update(&mut faults, &old, &new);
        told(faults)
    };
    assert_eq!(changed(&|_| {}), [""; 0]);
    let scope = changed(&|it| it["spec"]["scope"] = "Cluster".into());
    assert_eq!(scope, ["spec.scope: Invalid value: \"Cluster\": field is immutable"]);
    let versions = changed(&|it| it["spec"]["versions"][0]["name"] = "v2".into());
    assert_eq!(versions.len(), 1, "{versions:?}");
    assert!(versions[0].starts_with(
        "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1 was previously a \
         storage version"
    ));
}

/// Those that this repository installs for Karpenter; their rules are of upstream's shape.
#[test]
fn karpenters_definitions_are_taken_and_their_rules_work() {
    for mut definition in api_kube::karpenter::definitions() {
        custom_resources::prepare(&mut definition, "2026-01-01T00:00:00Z", &Catalog::builtin());
        assert_eq!(refused(&definition), [""; 0]);
        let resource = custom::resources(&definition).remove(0);
        let custom = resource.custom.as_ref().unwrap();
        if resource.kind != "NodePool" {
            continue;
        }
        let pool = |spec: Value| {
            let mut pool = json!({"metadata": {"name": "p"}, "spec": spec});
            shaping::default(&mut pool, custom.node());
            pool
        };
        let class = json!({"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "d"});
        let template = json!({"spec": {"nodeClassRef": class, "requirements": []}});
        let good = pool(json!({"template": template}));
        let mut faults = Faults::default();
        validate(&mut faults, custom, &good, None);
        assert_eq!(told(faults), [""; 0]);
        assert_eq!(good["spec"]["disruption"]["budgets"][0]["nodes"], "10%");
        let fixed = pool(json!({"template": template, "replicas": 1, "weight": 3}));
        let mut faults = Faults::default();
        validate(&mut faults, custom, &fixed, Some(&good));
        let found = told(faults);
        assert!(
            found[0].starts_with("spec: Invalid value: Cannot transition NodePool"),
            "{found:?}"
        );
        assert_eq!(found[1], "spec: Invalid value: 'weight' is not supported on static NodePools");

        let faults_of = |spec: Value| {
            let mut faults = Faults::default();
            validate(&mut faults, custom, &pool(spec), None);
            told(faults)
        };
        let limits = |cpu: Value| faults_of(json!({"template": template, "limits": {"cpu": cpu}}));
        assert_eq!([limits(json!("1k")), limits(json!(8))].concat(), [""; 0]);
        let found = limits(json!("ten"));
        assert!(
            found.len() == 1 && found[0].starts_with("spec.limits.cpu: Invalid value: \"ten\""),
            "{found:?}"
        );
        for (key, word) in [
            ("karpenter.sh/nodepool", "label \"karpenter.sh/nodepool\" is restricted"),
            ("kubernetes.io/hostname", "label \"kubernetes.io/hostname\" is restricted"),
            ("karpenter.sh/registered", "label domain \"karpenter.sh\" is restricted"),
        ] {
            let wanted = json!([{"key": key, "operator": "Exists"}]);
            let template = json!({"spec": {"nodeClassRef": class, "requirements": wanted}});
            let found = faults_of(json!({"template": template}));
            assert!(found.len() == 1 && found[0].ends_with(word), "{key}: {found:?}");
        }
    }
}
