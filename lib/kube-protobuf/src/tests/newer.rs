//! The fields that `newer.json` adds, byte for byte: each group of them as Go writes it, and back.

use serde_json::{Value, json};

use super::{bytes, envelope};
use crate::{decode, encode, items, list};

/// A field whose number is above fifteen, which takes two bytes.
fn far(number: u8, inner: &[u8]) -> Vec<u8> {
    let key = [number << 3 | 2 | 0x80, number >> 4];
    [&key[..], &bytes(0, inner)[1..]].concat()
}

/// A field that is true or false.
fn flag(number: u8, is_on: bool) -> Vec<u8> {
    vec![number << 3, u8::from(is_on)]
}

/// An entry of a map.
fn entry(key: &[u8], value: &[u8]) -> Vec<u8> {
    [bytes(1, key), bytes(2, value)].concat()
}

fn check(api_version: &str, kind: &str, mut object: Value, message: &[u8]) {
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    let written = envelope(api_version, kind, message);
    assert_eq!(encode(object.to_string().as_bytes()).unwrap(), written, "{object}");
    assert_eq!(decode(&written).unwrap(), object);
}

#[test]
fn the_older_list_of_metadata_has_its_fields_the_other_way_round() {
    let (api_version, kind) = ("meta.k8s.io/v1beta1", "PartialObjectMetadata");
    let object =
        json!({"items": [{"metadata": {"name": "a"}}], "metadata": {"resourceVersion": "7"}});
    let message = [bytes(1, &bytes(1, &bytes(1, b"a"))), bytes(2, &bytes(2, b"7"))].concat();
    check(api_version, "PartialObjectMetadataList", object, &message);
    let items = items(api_version, kind, [r#"{"metadata":{"name":"a"}}"#].iter(), 0).unwrap();
    let whole = list(api_version, kind, &json!({"resourceVersion": "7"}), &[items]).unwrap();
    let message = [bytes(2, &bytes(2, b"7")), bytes(1, &bytes(1, &bytes(1, b"a")))].concat();
    assert_eq!(whole, envelope(api_version, "PartialObjectMetadataList", &message));
}

#[test]
fn a_pod_names_its_scheduling_group() {
    let pod = |group: Value| json!({"spec": {"schedulingGroup": group}});
    let group = bytes(2, &far(43, &bytes(1, b"workers")));
    check("v1", "Pod", pod(json!({"podGroupName": "workers"})), &group);
    check("v1", "Pod", pod(json!({"podGroupName": ""})), &bytes(2, &far(43, &bytes(1, b""))));
}

#[test]
fn a_pod_tells_what_its_claims_took_of_the_node() {
    let claim = json!({
        "resourceClaimName": "c", "containers": ["a", "b"], "resources": {"cpu": "2"},
    });
    let message =
        [bytes(2, b"a"), bytes(2, b"b"), bytes(1, b"c"), bytes(3, &entry(b"cpu", &bytes(1, b"2")))];
    // JSON's fields come in the order of their names.
    let status = bytes(3, &far(21, &message.concat()));
    check(
        "v1",
        "Pod",
        json!({"status": {"nodeAllocatableResourceClaimStatuses": [claim]}}),
        &status,
    );
}

#[test]
fn a_container_tells_why_a_resource_is_ill_and_which_image_a_volume_is() {
    let status = json!({
        "name": "a",
        "allocatedResourcesStatus": [{"name": "r", "resources": [
            {"health": "Unhealthy", "message": "too hot", "resourceID": "1"},
        ]}],
        "volumeMounts": [
            {"mountPath": "/m", "name": "v", "volumeStatus": {"image": {"imageRef": "sha256:0"}}},
        ],
    });
    let object = json!({"status": {"containerStatuses": [status]}});
    let mut read = object.clone();
    read["apiVersion"] = "v1".into();
    read["kind"] = "Pod".into();
    let written = encode(read.to_string().as_bytes()).unwrap();
    let health = [bytes(2, b"Unhealthy"), bytes(6, b"too hot"), bytes(1, b"1")].concat();
    let image = bytes(5, &bytes(1, &bytes(1, b"sha256:0")));
    for part in [health, image] {
        assert!(written.windows(part.len()).any(|it| it == part), "{part:?}");
    }
    assert_eq!(decode(&written).unwrap(), read);
}

#[test]
fn a_device_has_lists_as_attributes_and_says_what_it_takes_of_the_node() {
    let attributes = |it: Value| json!({"spec": {"devices": [{"attributes": {"a": it}}]}});
    let device = |attribute: &[u8]| {
        let device = bytes(2, &entry(b"a", attribute));
        bytes(2, &bytes(6, &device))
    };
    let cases = [
        (json!({"ints": [1, 0]}), vec![6 << 3, 1, 6 << 3, 0]),
        (json!({"bools": [true, false]}), [flag(7, true), flag(7, false)].concat()),
        (json!({"strings": ["x", ""]}), [bytes(8, b"x"), bytes(8, b"")].concat()),
        (json!({"versions": ["1.0.0"]}), bytes(9, b"1.0.0")),
    ];
    for (attribute, message) in cases {
        check("resource.k8s.io/v1", "ResourceSlice", attributes(attribute), &device(&message));
    }
    let mapping = json!({"cpu": {"allocationMultiplier": "2", "capacityKey": "dra.example/cores"}});
    let message = [bytes(2, &bytes(1, b"2")), bytes(1, b"dra.example/cores")].concat();
    let message = bytes(2, &bytes(6, &bytes(13, &entry(b"cpu", &message))));
    let slice = json!({"spec": {"devices": [{"nodeAllocatableResourceMappings": mapping}]}});
    check("resource.k8s.io/v1", "ResourceSlice", slice, &message);
}

#[test]
fn numbers_and_flags_that_come_packed_are_read() {
    let packed = [bytes(6, &[1, 2]), bytes(7, &[1, 0])].concat();
    let slice = bytes(2, &bytes(6, &bytes(2, &entry(b"a", &packed))));
    let read = decode(&envelope("resource.k8s.io/v1", "ResourceSlice", &slice)).unwrap();
    let attribute = &read["spec"]["devices"][0]["attributes"]["a"];
    assert_eq!(*attribute, json!({"ints": [1, 2], "bools": [true, false]}));
}

#[test]
fn a_driver_says_whether_pods_wait_for_it() {
    for is_on in [true, false] {
        let driver = json!({"spec": {"preventPodSchedulingIfMissing": is_on}});
        check("storage.k8s.io/v1", "CSIDriver", driver, &bytes(2, &flag(11, is_on)));
    }
}

#[test]
fn a_list_says_which_shard_it_is() {
    let selector = "shardRange(object.metadata.uid, '0x0', '0x8')";
    let list = json!({"metadata": {"shardInfo": {"selector": selector}}, "items": []});
    let metadata = bytes(5, &bytes(1, selector.as_bytes()));
    check("v1", "PodList", list, &bytes(1, &metadata));
}
