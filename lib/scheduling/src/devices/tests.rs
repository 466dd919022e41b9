//! What must hold of devices.

use std::sync::Arc;

use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use serde_json::{Value, json};

use super::{AllocateError, ClaimRequest, Effort, Given, Inventory, Taken, cel, cel_value};
use crate::{NodeInfo, testing::node};

const DRIVER: &str = "gpu.example.com";

fn slice(name: &str, place: Value, devices: Value) -> ResourceSlice {
    let mut spec = json!({
        "driver": DRIVER, "devices": devices,
        "pool": { "name": name, "generation": 1, "resourceSliceCount": 1 },
    });
    spec.as_object_mut().unwrap().extend(place.as_object().unwrap().clone());
    serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).unwrap()
}

fn gpu(name: &str, memory: &str, card: i64) -> Value {
    json!({
        "name": name,
        "attributes": { "model": { "string": "a100" }, "card": { "int": card },
            "example.org/version": { "version": "1.2.3" } },
        "capacity": { "memory": { "value": memory } },
    })
}

fn claim(devices: Value) -> ClaimRequest {
    try_claim(devices).unwrap()
}

fn try_claim(devices: Value) -> Result<ClaimRequest, String> {
    let claim: ResourceClaim =
        serde_json::from_value(json!({ "metadata": {}, "spec": { "devices": devices } })).unwrap();
    let class: DeviceClass = serde_json::from_value(json!({
        "metadata": { "name": "gpu" },
        "spec": { "selectors": [{ "cel": { "expression": format!("device.driver == {DRIVER:?}") } }] },
    }))
    .unwrap();
    let class = Arc::new(class);
    let found = ClaimRequest::new(&claim, |it| (it == "gpu").then(|| class.clone()));
    found.map_err(|it| it.0)
}

fn exactly(name: &str, more: Value) -> Value {
    let mut exact = json!({ "deviceClassName": "gpu" });
    exact.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "name": name, "exactly": exact })
}

fn selecting(expression: &str) -> Value {
    json!({ "selectors": [{ "cel": { "expression": expression } }] })
}

fn names(given: &[Given]) -> Vec<&str> {
    given.iter().map(|it| it.id.device.as_str()).collect()
}

#[test]
fn selectors_speak_of_driver_attributes_and_capacity() {
    let device = serde_json::from_value(gpu("d", "40Gi", 3)).unwrap();
    let says = |text: &str| cel_value::selects(&cel::parse(text)?, DRIVER, &device);
    for text in [
        "device.driver == 'gpu.example.com'",
        "device.attributes[\"gpu.example.com\"].model == \"a100\" && true",
        "device.attributes['gpu.example.com'].card >= 3 || false",
        "!(device.attributes['gpu.example.com'].card in [1, 2])",
        "device.capacity['gpu.example.com'].memory.compareTo(quantity('40Gi')) >= 0",
        "device.capacity['gpu.example.com'].memory.isGreaterThan(quantity('39Gi'))",
        "device.attributes['example.org'].version.isLessThan(semver('2.0.0'))",
        "'model' in device.attributes['gpu.example.com']",
        "'example.org' in device.attributes && !('other' in device.attributes)",
        "has(device.attributes['gpu.example.com'].card)",
        "!has(device.attributes['gpu.example.com'].none)",
        "device.attributes['gpu.example.com'].model.startsWith('a')",
        "cel.bind(gpu, device.attributes['gpu.example.com'], gpu.model == 'a100' && gpu.card > 2)",
        "cel.bind(a, 1, cel.bind(b, a, [a, b] == [1, 1] && cel.bind(a, 2, a > b)))",
        // An error beside what decides is none.
        "device.attributes['x'].y == 1 || device.driver.endsWith('example.com')",
    ] {
        assert_eq!(says(text), Ok(true), "{text}");
    }
    assert_eq!(says("device.attributes['x'].y == 1").unwrap_err(), "no such key: y");
    for text in
        ["device.driver.matches('g.*')", "cel.bind(a.b, 1, true)", "cel.x", "1 + 1 == 2", "a", "("]
    {
        assert!(says(text).is_err(), "{text}");
    }
    assert!(cel::parse(&"(".repeat(100_000)).is_err());
    let mut twice = "a0 == 0".to_owned();
    for at in 0..30 {
        let next = at + 1;
        twice = format!("cel.bind(a{at}, [a{next}, a{next}], {twice})");
    }
    let told = cel::parse(&format!("cel.bind(a30, 1, {twice})")).unwrap_err();
    assert_eq!(told, "it has too many operators");
}

#[test]
fn devices_are_found_where_they_are_and_given_once() {
    let devices = json!([gpu("g0", "40Gi", 0), gpu("g1", "80Gi", 0)]);
    let slices = [
        slice("a", json!({ "nodeName": "a" }), devices),
        slice("net", json!({ "allNodes": true }), json!([gpu("n0", "1Gi", 1)])),
    ];
    let inventory = Inventory::new(&slices);
    let (a, b) = (NodeInfo::new(&node("a", "1", "1", 1)), NodeInfo::new(&node("b", "1", "1", 1)));
    let none = Taken::default();
    let big = "device.capacity['gpu.example.com'].memory.compareTo(quantity('50Gi')) > 0";
    let wants = claim(json!({ "requests": [exactly("r", selecting(big))] }));
    let given = inventory.allocate(&a, &[&wants], &none, &mut Effort::default()).unwrap().unwrap();
    assert_eq!(names(&given[0]), ["g1"]);
    assert!(given[0][0].is_local);
    assert_eq!(inventory.allocate(&b, &[&wants], &none, &mut Effort::default()).unwrap(), None);
    let taken: Taken = given[0].iter().map(|it| it.id.clone()).collect();
    assert_eq!(inventory.allocate(&a, &[&wants], &taken, &mut Effort::default()).unwrap(), None);
    // Who only looks takes nothing.
    let mut admin = selecting(big);
    admin["adminAccess"] = json!(true);
    let admin = claim(json!({ "requests": [exactly("r", admin)] }));
    assert!(inventory.allocate(&a, &[&admin], &taken, &mut Effort::default()).unwrap().is_some());
    // Two claims of one pod are served together.
    let any = claim(json!({ "requests": [exactly("r", json!({ "count": 2 }))] }));
    let given = inventory.allocate(&a, &[&any, &any], &none, &mut Effort::default()).unwrap();
    assert_eq!(given, None);
    let one = claim(json!({ "requests": [exactly("r", json!({}))] }));
    let given =
        inventory.allocate(&a, &[&one, &any], &none, &mut Effort::default()).unwrap().unwrap();
    assert_eq!((names(&given[0]), names(&given[1])), (vec!["g0"], vec!["g1", "n0"]));
    let all = claim(json!({ "requests": [exactly("r", json!({ "allocationMode": "All" }))] }));
    assert_eq!(
        names(&inventory.allocate(&a, &[&all], &none, &mut Effort::default()).unwrap().unwrap()[0])
            .len(),
        3
    );
    assert_eq!(inventory.allocate(&a, &[&all], &taken, &mut Effort::default()).unwrap(), None);
}

#[test]
fn constraints_and_alternatives_are_searched_for() {
    let devices = json!([gpu("x0", "1", 0), gpu("y0", "1", 1), gpu("y1", "1", 1)]);
    let slices = [slice("a", json!({ "nodeName": "a" }), devices)];
    let inventory = Inventory::new(&slices);
    let (a, none) = (NodeInfo::new(&node("a", "1", "1", 1)), Taken::default());
    let constraint = |kind: &str| json!([{ kind: "gpu.example.com/card" }]);
    let pair = json!([exactly("r", json!({ "count": 2 }))]);
    let same = claim(json!({ "requests": pair, "constraints": constraint("matchAttribute") }));
    let given = inventory.allocate(&a, &[&same], &none, &mut Effort::default()).unwrap().unwrap();
    assert_eq!(names(&given[0]), ["y0", "y1"]);
    let other = claim(json!({ "requests": pair, "constraints": constraint("distinctAttribute") }));
    let given = inventory.allocate(&a, &[&other], &none, &mut Effort::default()).unwrap().unwrap();
    assert_eq!(names(&given[0]), ["x0", "y0"]);
    let sub =
        |name: &str, count: i64| json!({ "name": name, "deviceClassName": "gpu", "count": count });
    let first = json!({ "name": "r", "firstAvailable": [sub("many", 4), sub("few", 1)] });
    let first = claim(json!({ "requests": [first] }));
    let given = inventory.allocate(&a, &[&first], &none, &mut Effort::default()).unwrap().unwrap();
    assert_eq!((names(&given[0]), given[0][0].request.as_str()), (vec!["x0"], "r/few"));
}

#[test]
fn what_cannot_be_done_is_said_and_what_is_tainted_or_incomplete_is_left() {
    let error = try_claim(json!({ "requests": [{ "name": "r",
        "exactly": { "deviceClassName": "none" } }] }));
    assert_eq!(error.unwrap_err(), "request r: device class none does not exist");
    let error = try_claim(json!({ "requests": [exactly("r", selecting("device.foo() == 1"))] }));
    assert_eq!(
        error.unwrap_err(),
        "request r: CEL expression of the request: `foo()` is not supported"
    );
    let mut tainted = gpu("t", "1", 0);
    tainted["taints"] = json!([{ "key": "broken", "effect": "NoSchedule" }]);
    let mut part = slice("b", json!({ "nodeName": "a" }), json!([gpu("p", "1", 0)]));
    part.spec.pool.resource_slice_count = 2;
    let slices = [slice("a", json!({ "nodeName": "a" }), json!([tainted])), part];
    let inventory = Inventory::new(&slices);
    let (a, none) = (NodeInfo::new(&node("a", "1", "1", 1)), Taken::default());
    let plain = claim(json!({ "requests": [exactly("r", json!({}))] }));
    assert_eq!(inventory.allocate(&a, &[&plain], &none, &mut Effort::default()).unwrap(), None);
    let tolerant = json!({ "tolerations": [{ "key": "broken", "operator": "Exists" }] });
    let tolerant = claim(json!({ "requests": [exactly("r", tolerant)] }));
    assert_eq!(
        names(
            &inventory.allocate(&a, &[&tolerant], &none, &mut Effort::default()).unwrap().unwrap()
                [0]
        ),
        ["t"]
    );
    let wrong =
        claim(json!({ "requests": [exactly("r", selecting("device.capacity['x'].y == 1"))] }));
    let error = inventory.allocate(&a, &[&wrong], &none, &mut Effort::default());
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with("device gpu.example.com/a/t: selector #1: CEL runtime error"),
        "{error}"
    );
}

#[test]
fn no_selector_is_so_long_or_so_deep_that_a_stack_ends() {
    let deep = format!("device{} == 1", ".a".repeat(4000));
    assert_eq!(cel::parse(&deep).unwrap_err(), "it has too many operators");
    let wide = vec!["true"; 1000].join(" && ");
    assert_eq!(cel::parse(&wide).unwrap_err(), "it has too many operators");
    let long = format!("device.driver == '{}'", "x".repeat(11_000));
    assert_eq!(cel::parse(&long).unwrap_err(), "it is longer than 10240 bytes");
    let usual = vec!["device.driver == 'a'"; 100].join(" || ");
    assert!(cel::parse(&usual).is_ok());
}

#[test]
fn a_search_that_would_take_too_long_is_given_up_for_its_node_and_at_last_for_all() {
    // No two devices of one card, and one device too few of another: every choice has to be tried.
    let devices: Vec<_> = (0..24).map(|it| gpu(&format!("g{it}"), "1Gi", it / 2)).collect();
    let slices = [slice("a", json!({ "nodeName": "a" }), json!(devices))];
    let inventory = Inventory::new(&slices);
    let constraint = json!([{ "distinctAttribute": "gpu.example.com/card" }]);
    let pair = json!([exactly("r", json!({ "count": 13 }))]);
    let wants = claim(json!({ "requests": pair, "constraints": constraint }));
    let (a, none) = (NodeInfo::new(&node("a", "1", "1", 1)), Taken::default());
    let mut effort = Effort::of(150_000);
    for _ in 0..2 {
        let found = inventory.allocate(&a, &[&wants], &none, &mut effort);
        assert_eq!(found, Err(AllocateError::TimedOut));
    }
    // Nothing is left for what would be easy.
    let one = claim(json!({ "requests": [exactly("r", json!({}))] }));
    let found = inventory.allocate(&a, &[&one], &none, &mut effort);
    assert_eq!(found, Err(AllocateError::TimedOut));
    assert!(inventory.allocate(&a, &[&one], &none, &mut Effort::default()).unwrap().is_some());
}

fn one_node() -> NodeInfo {
    NodeInfo::new(&node("a", "1", "1", 1))
}

/// The names of what is given, or nothing.
fn given_on(inventory: &Inventory<'_>, wants: &ClaimRequest, taken: &Taken) -> Option<Vec<Given>> {
    let found = inventory.allocate(&one_node(), &[wants], taken, &mut Effort::default());
    found.unwrap().map(|mut it| it.remove(0))
}

fn asking(capacity: &str, count: i64) -> ClaimRequest {
    let mut exact = json!({ "count": count });
    if !capacity.is_empty() {
        exact["capacity"] = json!({ "requests": { "gpu.example.com/bandwidth": capacity } });
    }
    claim(json!({ "requests": [exactly("r", exact)] }))
}

#[test]
fn a_device_that_several_may_share_is_given_until_its_capacity_is_used_up() {
    let policy =
        json!({ "default": "1Gi", "validRange": { "min": "1Gi", "step": "2Gi", "max": "9Gi" } });
    let shared = json!({ "name": "nic", "allowMultipleAllocations": true, "capacity": {
        "bandwidth": { "value": "10Gi", "requestPolicy": policy }, "queues": { "value": "0" } } });
    let slices = [slice("a", json!({ "nodeName": "a" }), json!([shared]))];
    let inventory = Inventory::new(&slices);
    let bandwidth = |given: &Given| given.consumed.clone().unwrap()["bandwidth"].to_string();
    let none = Taken::default();
    for (asked, consumed) in [("", "1Gi"), ("1", "1Gi"), ("2Gi", "3Gi"), ("3Gi", "3Gi")] {
        let given = given_on(&inventory, &asking(asked, 1), &none).unwrap();
        assert_eq!(bandwidth(&given[0]), consumed, "{asked}");
        assert!(given[0].consumed.clone().unwrap()["queues"].is_zero(), "all are told");
    }
    assert_eq!(given_on(&inventory, &asking("10Gi", 1), &none), None, "the range ends before");
    let twice = given_on(&inventory, &asking("5Gi", 2), &none).unwrap();
    assert_eq!(names(&twice), ["nic", "nic"], "one request may have several shares");
    assert_eq!(given_on(&inventory, &asking("5Gi", 3), &none), None);
    let mut taken = Taken::default();
    taken.share(twice[0].id.clone(), twice[0].consumed.clone().unwrap());
    assert_eq!(given_on(&inventory, &asking("7Gi", 1), &taken), None);
    assert!(given_on(&inventory, &asking("5Gi", 1), &taken).is_some());
}

#[test]
fn a_device_that_is_given_whole_must_have_the_capacity_that_is_asked_for() {
    let with = |name: &str, bandwidth: &str| {
        json!({ "name": name,
        "capacity": { "bandwidth": { "value": bandwidth } } })
    };
    let devices = json!([gpu("none", "1", 0), with("slow", "1"), with("fast", "10")]);
    let slices = [slice("a", json!({ "nodeName": "a" }), devices)];
    let inventory = Inventory::new(&slices);
    let given = given_on(&inventory, &asking("5", 1), &Taken::default()).unwrap();
    assert_eq!((names(&given), given[0].consumed.clone()), (vec!["fast"], None));
    let valid = json!({ "name": "v", "allowMultipleAllocations": true, "capacity": { "bandwidth": {
        "value": "10", "requestPolicy": { "default": "2", "validValues": ["2", "4"] } } } });
    let slices = [slice("a", json!({ "nodeName": "a" }), json!([valid]))];
    let inventory = Inventory::new(&slices);
    let given = given_on(&inventory, &asking("3", 1), &Taken::default()).unwrap();
    assert_eq!(given[0].consumed.clone().unwrap()["bandwidth"].to_string(), "4");
    assert_eq!(given_on(&inventory, &asking("5", 1), &Taken::default()), None);
}

#[test]
fn parts_of_a_larger_device_are_given_as_long_as_its_counters_last() {
    let part = |name: &str, memory: &str| {
        json!({ "name": name, "consumesCounters": [
        { "counterSet": "card", "counters": { "memory": { "value": memory } } }] })
    };
    let counters = json!({ "nodeName": "a", "sharedCounters": [
        { "name": "card", "counters": { "memory": { "value": "40Gi" } } }] });
    let parts = [part("whole", "40Gi"), part("half-0", "20Gi"), part("half-1", "20Gi")];
    let mut slices =
        [slice("p", counters, json!([])), slice("p", json!({ "nodeName": "a" }), json!(parts))];
    slices.iter_mut().for_each(|it| it.spec.pool.resource_slice_count = 2);
    let inventory = Inventory::new(&slices);
    let (one, two) = (asking("", 1), asking("", 2));
    let none = Taken::default();
    assert_eq!(names(&given_on(&inventory, &one, &none).unwrap()), ["whole"]);
    assert_eq!(names(&given_on(&inventory, &two, &none).unwrap()), ["half-0", "half-1"]);
    let half = given_on(&inventory, &two, &none).unwrap().remove(0);
    let taken: Taken = [half.id].into_iter().collect();
    assert_eq!(names(&given_on(&inventory, &one, &taken).unwrap()), ["half-1"]);
    assert_eq!(given_on(&inventory, &two, &taken), None);
    let mut look = json!({ "count": 2 });
    look["adminAccess"] = json!(true);
    let look = claim(json!({ "requests": [exactly("r", look)] }));
    assert!(given_on(&inventory, &look, &taken).is_some(), "who only looks uses nothing");
}

#[test]
fn devices_that_have_to_be_made_ready_come_last_and_say_what_must_hold() {
    let mut fabric = gpu("fabric", "1", 0);
    fabric["bindingConditions"] = json!(["attached"]);
    fabric["bindingFailureConditions"] = json!(["broken"]);
    fabric["bindsToNode"] = json!(true);
    let slices = [slice("a", json!({ "allNodes": true }), json!([fabric, gpu("plain", "1", 0)]))];
    let inventory = Inventory::new(&slices);
    let given = given_on(&inventory, &asking("", 2), &Taken::default()).unwrap();
    assert_eq!(names(&given), ["plain", "fabric"]);
    let binding = &given[1].binding;
    assert_eq!((&binding.conditions[..], binding.is_to_node), (&["attached".to_owned()][..], true));
    assert_eq!(binding.failures, ["broken"]);
    assert_eq!(given[0].binding, super::Binding::default());
}
