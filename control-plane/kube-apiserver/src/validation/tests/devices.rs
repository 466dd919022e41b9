//! What must hold of devices, and of claims to them.

use serde_json::json;

use super::*;

const GROUP: &str = "resource.k8s.io";
const NONE: [&str; 0] = [];

fn slice(more: Value) -> Value {
    let mut spec = json!({
        "driver": "gpu.example.com", "nodeName": "a",
        "pool": { "name": "a", "generation": 1, "resourceSliceCount": 1 },
        "devices": [{ "name": "gpu-0" }],
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "metadata": { "name": "s" }, "spec": spec })
}

fn of_slice(more: Value) -> Vec<String> {
    faults(GROUP, "resourceslices", slice(more))
}

fn of_device(mut device: Value) -> Vec<String> {
    device["name"] = "d".into();
    of_slice(json!({ "devices": [device] }))
}

fn claim(exactly: Value) -> Value {
    let request = json!({ "name": "gpu", "exactly": exactly });
    let spec = json!({ "devices": { "requests": [request] } });
    json!({ "metadata": { "name": "c", "namespace": "n" }, "spec": spec })
}

fn of_claim(exactly: Value) -> Vec<String> {
    faults(GROUP, "resourceclaims", claim(exactly))
}

#[test]
fn a_slice_says_where_its_devices_are_in_one_way_and_stays_the_nodes() {
    let way = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    assert_eq!(of_slice(json!({})), NONE);
    assert_eq!(of_slice(json!({ "nodeName": null })), [format!("spec: Required value: {way}")]);
    assert_eq!(
        of_slice(json!({ "allNodes": true })),
        [format!(
            "spec: Invalid value: \"{{`nodeName`, `allNodes`}}\": {way}, but multiple fields are set"
        )]
    );
    let found = of_slice(json!({ "pool": { "name": "a" }, "driver": "" }));
    assert_eq!(found[0], "spec.driver: Required value");
    let count = "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero";
    assert_eq!(found.last().unwrap(), count);
    let many: Vec<_> = (0..129).map(|it| json!({ "name": format!("d{it}") })).collect();
    assert_eq!(
        of_slice(json!({ "devices": many })),
        ["spec.devices: Too many: 129: must have at most 128 items"]
    );
    assert_eq!(
        of_slice(json!({ "devices": [{ "name": "d" }, { "name": "d" }] })),
        ["spec.devices[1]: Duplicate value: \"d\""]
    );
    let moved =
        changes(GROUP, "resourceslices", slice(json!({})), slice(json!({ "nodeName": "b" })));
    assert_eq!(moved, ["spec.nodeName: Invalid value: \"b\": field is immutable"]);
}

#[test]
fn devices_of_a_slice_are_somewhere_each_where_the_slice_says_so() {
    let each = |device: Value| {
        let mut device = device;
        device["name"] = "d".into();
        of_slice(json!({ "nodeName": null, "perDeviceNodeSelection": true, "devices": [device] }))
    };
    let why = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    assert_eq!(each(json!({ "allNodes": true })), NONE);
    assert_eq!(each(json!({})), [format!("spec.devices[0]: Required value: {why}")]);
    let alone = of_device(json!({ "allNodes": true }));
    assert!(
        alone[0].ends_with(
            "can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec"
        ),
        "{alone:?}"
    );
}

#[test]
fn attributes_of_a_device_have_one_value_and_a_name_of_their_form() {
    let of = |name: &str, value: Value| of_device(json!({ "attributes": { name: value } }));
    for (name, value) in [
        ("model", json!({ "string": "x" })),
        ("example.com/model", json!({ "int": 1 })),
        ("v", json!({ "version": "1.2.3-rc.1+build.5" })),
    ] {
        assert_eq!(of(name, value), NONE, "{name}");
    }
    let at = "spec.devices[0].attributes[a]";
    let one = "exactly one value must be specified";
    assert_eq!(of("a", json!({})), [format!("{at}: Invalid value: \"\": {one}")]);
    for version in ["1.2", "01.2.3", "1.2.3-01", "1.2.3-", "v1.2.3", "1.2.3+a_b"] {
        let why = "must be a string compatible with semver.org spec 2.0.0";
        let told = format!("{at}.version: Invalid value: \"{version}\": {why}");
        assert_eq!(of("a", json!({ "version": version })), [told]);
    }
    assert_eq!(
        of("a", json!({ "string": "x".repeat(65) })),
        [format!("{at}.string: Too long: may not be more than 64 bytes")]
    );
    for (name, why) in [
        ("1a", "a valid C identifier must start"),
        ("/a", "the domain must not be empty"),
        ("a/", "the name must not be empty"),
    ] {
        let found = of(name, json!({ "bool": true }));
        assert!(found[0].contains(why), "{found:?}");
    }
}

#[test]
fn counters_and_conditions_of_a_device_are_complete() {
    let counters = json!({ "memory": { "value": "1Gi" } });
    let taken = |set: Value| of_device(json!({ "consumesCounters": [set] }));
    assert_eq!(taken(json!({ "counterSet": "a", "counters": counters })), NONE);
    assert_eq!(
        taken(json!({})),
        [
            "spec.devices[0].consumesCounters[0].counterSet: Required value",
            "spec.devices[0].consumesCounters[0].counters: Required value"
        ]
    );
    assert_eq!(
        of_device(json!({ "bindingConditions": ["a"] })),
        [
            "spec.devices[0].bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use bindingConditions"
        ]
    );
    assert_eq!(
        of_device(json!({ "taints": [{ "key": "a", "effect": "Never" }] })),
        [
            "spec.devices[0].taints[0].effect: Unsupported value: \"Never\": supported values: \"NoExecute\", \"NoSchedule\", \"None\""
        ]
    );
}

#[test]
fn parts_of_a_capacity_are_asked_for_within_its_policy() {
    let of = |policy: Value| {
        let capacity = json!({ "memory": { "value": "10Gi", "requestPolicy": policy } });
        of_device(json!({ "allowMultipleAllocations": true, "capacity": capacity }))
    };
    let at = "spec.devices[0].capacity[memory].requestPolicy";
    assert_eq!(
        of(json!({ "default": "1Gi", "validRange": { "min": "1Gi", "step": "1Gi" } })),
        NONE
    );
    assert_eq!(of(json!({ "default": "1Gi", "validValues": ["1Gi", "2Gi"] })), NONE);
    assert_eq!(
        of(json!({ "validValues": ["1Gi"] })),
        [format!("{at}.default: Required value: required when validValues is defined")]
    );
    assert_eq!(
        of(json!({ "default": "3Gi", "validValues": ["2Gi", "1Gi"] })),
        [
            format!(
                "{at}.validValues[1]: Invalid value: \"1Gi\": values must be sorted in ascending order"
            ),
            format!(
                "{at}.validValues: Invalid value: \"3Gi\": default value is not valid according to the requestPolicy"
            ),
        ]
    );
    assert_eq!(
        of(json!({ "default": "1Gi", "validRange": { "min": "2Gi", "max": "20Gi" } })),
        [
            format!("{at}.validRange.min: Invalid value: \"1Gi\": default is less than min: 2Gi"),
            format!(
                "{at}.validRange.max: Invalid value: \"20Gi\": max is larger than capacity value: 10Gi"
            ),
        ]
    );
}

#[test]
fn a_claim_asks_for_devices_that_exist_as_it_says() {
    assert_eq!(of_claim(json!({ "deviceClassName": "gpu" })), NONE);
    let at = "spec.devices.requests[0]";
    assert_eq!(of_claim(json!({})), [format!("{at}.exactly.deviceClassName: Required value")]);
    let mut neither = claim(json!({}));
    neither["spec"]["devices"]["requests"][0] = json!({ "name": "gpu" });
    assert_eq!(
        faults(GROUP, "resourceclaims", neither),
        [format!("{at}: Required value: exactly one of `exactly` or `firstAvailable` is required")]
    );
    let with =
        |name: &str, value: Value| of_claim(json!({ "deviceClassName": "gpu", name: value }));
    assert_eq!(
        with("allocationMode", json!("Some")),
        [format!(
            "{at}.exactly.allocationMode: Unsupported value: \"Some\": supported values: \"All\", \"ExactCount\""
        )]
    );
    assert_eq!(
        with("count", json!(-1)),
        [format!("{at}.exactly.count: Invalid value: -1: must be greater than zero")]
    );
    assert_eq!(
        with("tolerations", json!([{ "operator": "Exists", "value": "x" }])),
        [format!(
            "{at}.exactly.tolerations[0].value: Invalid value: \"x\": must be empty for operator `Exists`"
        )]
    );
    let selects = |text: &str| with("selectors", json!([{ "cel": { "expression": text } }]));
    assert_eq!(selects("device.driver == 'a' && device.attributes['a'].b == 1"), NONE);
    for text in [
        "device.attributes['a'].version.isLessThan(semver('2.0.0'))",
        "cel.bind(it, device.attributes['a'], it.b == 1 && it.c)",
    ] {
        assert_eq!(selects(text), NONE, "{text}");
    }
    for (text, why) in [
        ("cel.bind(it, device.driver, it + 1 == 2)", "found no matching overload"),
        ("device.drivers == 'a'", "undefined field 'drivers'"),
        ("device.driver", "must evaluate to bool or the unknown type, not string"),
        ("device.", "compilation failed"),
        ("device.attributes['a'].b.includes('c')", "undeclared reference to 'includes'"),
    ] {
        let found = selects(text);
        assert!(found.len() == 1 && found[0].contains(why), "{text}: {found:?}");
    }
}

#[test]
fn constraints_and_configurations_name_requests_of_the_claim() {
    let of = |part: &str, value: Value| {
        let mut claim = claim(json!({ "deviceClassName": "gpu" }));
        claim["spec"]["devices"][part] = json!([value]);
        faults(GROUP, "resourceclaims", claim)
    };
    let why = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    assert_eq!(of("constraints", json!({ "requests": ["gpu"], "matchAttribute": "a.b/c" })), NONE);
    assert_eq!(
        of("constraints", json!({ "requests": ["x"], "matchAttribute": "c" })),
        [
            format!("spec.devices.constraints[0].requests[0]: Invalid value: \"x\": {why}"),
            "spec.devices.constraints[0].matchAttribute: Invalid value: \"c\": a fully qualified name must be a domain and a name separated by a slash".into(),
        ]
    );
    assert_eq!(
        of("config", json!({ "requests": ["gpu/a"] })),
        [
            format!("spec.devices.config[0].requests[0]: Invalid value: \"gpu/a\": {why}"),
            "spec.devices.config[0].opaque: Required value".into(),
        ]
    );
    assert_eq!(
        of("config", json!({ "opaque": { "driver": "a.b", "parameters": [] } })),
        [
            "spec.devices.config[0].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object"
        ]
    );
}

#[test]
fn what_a_claim_asks_for_and_was_given_stays() {
    let gpu = || claim(json!({ "deviceClassName": "gpu" }));
    let other = claim(json!({ "deviceClassName": "other" }));
    let changed = changes(GROUP, "resourceclaims", gpu(), other);
    assert!(changed[0].ends_with("field is immutable"), "{changed:?}");
    let resource = resource(GROUP, "resourceclaims");
    let told = |old: Value, new: Value| -> Vec<String> {
        let with = |status: Value| {
            let mut claim = gpu();
            claim["status"] = status;
            claim
        };
        let found = update(&resource, Part::Status, &with(old), &with(new)).0;
        found.iter().map(ToString::to_string).collect()
    };
    let consumer = json!([{ "resource": "pods", "name": "p", "uid": "u" }]);
    let given = |device: &str| {
        let result = json!({ "request": "gpu", "driver": "a.b", "pool": "p", "device": device });
        json!({ "devices": { "results": [result] } })
    };
    assert_eq!(
        told(json!({}), json!({ "reservedFor": consumer })),
        ["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"]
    );
    let first = json!({ "allocation": given("a"), "reservedFor": consumer });
    assert_eq!(told(json!({}), first.clone()), NONE);
    let other = told(first.clone(), json!({ "allocation": given("b") }));
    assert!(other[0].starts_with("status.allocation: Invalid value"), "{other:?}");
    assert!(other[0].ends_with("field is immutable"), "{other:?}");
    assert_eq!(told(first.clone(), json!({})), NONE);

    let seen = |device: Value| {
        let mut after = first.clone();
        after["devices"] = json!([device]);
        told(first.clone(), after)
    };
    let ips = json!({ "ips": ["10.0.0.1/24"] });
    let device = json!({ "driver": "a.b", "pool": "p", "device": "a", "networkData": ips });
    assert_eq!(seen(device), NONE);
    assert_eq!(
        seen(json!({ "driver": "a.b", "pool": "p", "device": "b" })),
        ["status.devices[0]: Invalid value: \"a.b/p/b\": must be an allocated device in the claim"]
    );
}
