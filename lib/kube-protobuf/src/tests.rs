//! Messages byte for byte, every field of every type there and back, and hostile bodies.

mod newer;

use std::{collections::BTreeSet, fs::File, io::Read};

use flate2::read::GzDecoder;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    MAGIC, ProtobufError, decode, encode, event, items, list,
    plan::{self, Field, Kind, Many, Message},
    pointers::{ALWAYS, POINTERS},
};

fn bytes(number: u8, inner: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2, u8::try_from(inner.len()).unwrap()];
    out.extend_from_slice(inner);
    out
}

fn envelope(api_version: &str, kind: &str, object: &[u8]) -> Vec<u8> {
    let meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), bytes(1, &meta), bytes(2, object), bytes(3, b""), bytes(4, b"")].concat()
}

/// A list of these, each in a piece of its own.
fn list_of<T: AsRef<[u8]>>(api_version: &str, kind: &str, metadata: &Value, all: &[T]) -> Vec<u8> {
    let pieces = all.iter().map(|it| items(api_version, kind, [it].into_iter(), 0).unwrap());
    list(api_version, kind, metadata, &pieces.collect::<Vec<_>>()).unwrap()
}

/// Writes and reads it.
fn there_and_back(object: &Value) -> Value {
    decode(&encode(object.to_string().as_bytes()).unwrap()).unwrap()
}

#[test]
fn zeros_are_absent_unless_they_are_held_by_pointer() {
    let metadata = [bytes(1, b"d"), bytes(3, b""), vec![7 << 3, 0], bytes(8, b"")];
    let deployment = [bytes(1, &metadata.concat()), bytes(2, &[8, 0, 5 << 3, 0])].concat();
    let object = decode(&envelope("apps/v1", "Deployment", &deployment)).unwrap();
    assert_eq!(
        object,
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
               "spec": {"replicas": 0}})
    );
}

#[test]
fn what_a_kubelet_or_a_default_says_in_a_zero_is_kept() {
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
        "status": {"features": {"supplementalGroupsPolicy": false}},
    });
    assert_eq!(there_and_back(&node)["status"]["features"], node["status"]["features"]);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {
            "containers": [{"name": "c", "readinessProbe": {"grpc": {"port": 1, "service": ""}}}],
            "dnsConfig": {"options": [{"name": "edns0", "value": ""}]},
            "volumes": [{"name": "h", "hostPath": {"path": "/x", "type": ""}}],
        },
    });
    let back = there_and_back(&pod);
    assert_eq!(back["spec"]["volumes"], pod["spec"]["volumes"]);
    assert_eq!(back["spec"]["dnsConfig"], pod["spec"]["dnsConfig"]);
    let probe = &back["spec"]["containers"][0]["readinessProbe"];
    assert_eq!(probe["grpc"], json!({"port": 1, "service": ""}));
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"},
        "spec": {"storageClassName": ""},
    });
    assert_eq!(there_and_back(&claim)["spec"], claim["spec"]);
}

#[test]
fn a_zero_that_means_something_comes_back() {
    let schema = json!({"minimum": 0.0, "maxItems": 0, "default": false});
    let version = json!({"name": "v", "schema": {"openAPIV3Schema": schema}});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "spec": {"versions": [version]},
    });
    assert_eq!(there_and_back(&definition), definition);
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "ports": [{"name": "", "port": 0}],
        "endpoints": [{"addresses": ["::1"], "conditions": {"ready": false}}],
    });
    assert_eq!(there_and_back(&slice), slice);
}

#[test]
fn maps_inlined_sources_and_int_or_string_are_read() {
    let label = [bytes(1, b"k"), bytes(2, b"v")].concat();
    let source = bytes(2, &[]);
    let volume = [bytes(1, b"v"), bytes(2, &source)].concat();
    let pod = [bytes(1, &bytes(11, &label)), bytes(2, &bytes(1, &volume))].concat();
    let object = decode(&envelope("v1", "Pod", &pod)).unwrap();
    assert_eq!(object["metadata"]["labels"], json!({"k": "v"}));
    assert_eq!(object["spec"]["volumes"], json!([{"name": "v", "emptyDir": {}}]));
    let port = [vec![3 << 3, 80], bytes(4, &[&[8, 1][..], &bytes(3, b"http")].concat())].concat();
    let service = bytes(2, &bytes(1, &port));
    let object = decode(&envelope("v1", "Service", &service)).unwrap();
    assert_eq!(object["spec"]["ports"], json!([{"port": 80, "targetPort": "http"}]));
}

#[test]
fn what_is_not_an_envelope_is_refused() {
    assert_eq!(decode(b"{}").unwrap_err(), ProtobufError::NoPrefix);
    assert_eq!(decode(b"k8s\0\x0a\xff").unwrap_err(), ProtobufError::Malformed);
    let unknown = decode(&envelope("v1", "Nope", b"")).unwrap_err();
    assert!(matches!(unknown, ProtobufError::UnknownKind { .. }));
    let unknown = encode(br#"{"apiVersion":"x.io/v1","kind":"Pod"}"#).unwrap_err();
    assert!(matches!(unknown, ProtobufError::UnknownKind { .. }));
}

#[test]
fn an_object_is_written_as_go_writes_it() {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"},
        "data": {"k": "v"}, "binaryData": {"b": "AQI="}, "immutable": true,
    });
    let entry = |value: &[u8], key: &[u8]| [bytes(1, key), bytes(2, value)].concat();
    let object = encode(object.to_string().as_bytes()).unwrap();
    let fields = [
        bytes(3, &entry(&[1, 2], b"b")),
        bytes(2, &entry(b"v", b"k")),
        vec![4 << 3, 1],
        bytes(1, &bytes(1, b"a")),
    ];
    assert_eq!(object, envelope("v1", "ConfigMap", &fields.concat()));
}

#[test]
fn a_list_has_its_metadata_and_its_items() {
    let metadata = json!({"resourceVersion": "9", "continue": "c", "remainingItemCount": 3});
    let items = [r#"{"metadata":{"name":"a"}}"#, r#"{"metadata":{"name":"b"}}"#];
    let written = list_of("v1", "Secret", &metadata, &items);
    let meta = [bytes(3, b"c"), vec![4 << 3, 3], bytes(2, b"9")].concat();
    let item = |name: &[u8]| bytes(2, &bytes(1, &bytes(1, name)));
    let fields = [bytes(1, &meta), item(b"a"), item(b"b")].concat();
    assert_eq!(written, envelope("v1", "SecretList", &fields));
    let read = decode(&written).unwrap();
    assert_eq!(encode(read.to_string().as_bytes()).unwrap().len(), written.len());
    assert_eq!(read["metadata"], metadata);
    assert_eq!(read["items"][1], json!({"metadata": {"name": "b"}}));
}

#[test]
fn an_event_stands_behind_its_length_with_its_object_in_an_envelope() {
    let written = event("ADDED", br#"{"kind":"Pod","apiVersion":"v1","metadata":{}}"#).unwrap();
    let object = bytes(2, &bytes(1, &envelope("v1", "Pod", &bytes(1, b""))));
    let message = [bytes(1, b"ADDED"), object].concat();
    assert_eq!(written[..4], u32::try_from(message.len()).unwrap().to_be_bytes());
    assert_eq!(written[4..], message);
}

#[test]
fn long_messages_have_long_lengths() {
    for size in [100, 127, 128, 200, 16_383, 16_384, 70_000, 3_000_000] {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "x".repeat(size)},
            "metadata": {"name": "a"},
        });
        assert_eq!(there_and_back(&object), object, "{size}");
    }
}

#[test]
fn numbers_times_and_texts_are_kept_whatever_they_are() {
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": "ä\"\\\n\u{1f600}", "annotations": {"a\"b/c": "\t"},
            "creationTimestamp": "1969-12-31T23:59:59Z",
        },
        "spec": {"renewTime": "2026-01-02T03:04:05.000006Z", "leaseTransitions": -1},
    });
    assert_eq!(there_and_back(&lease), lease);
    let revision = json!({
        "apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": i64::MAX,
        "data": {"spec": {"z": [1, null, "]}\""], "a": {}}},
    });
    assert_eq!(there_and_back(&revision), revision);
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "spec": {"hard": {"cpu": 2, "memory": "1Gi"}},
    });
    let hard = &there_and_back(&quota)["spec"]["hard"];
    assert_eq!(*hard, json!({"cpu": "2", "memory": "1Gi"}));
}

#[test]
fn what_is_null_is_not_there() {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "spec": null,
        "metadata": {"creationTimestamp": null, "labels": {"a": null}},
    });
    let read = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"a": ""}}});
    assert_eq!(there_and_back(&pod), read);
}

#[test]
fn what_a_field_cannot_hold_is_left_out_alone() {
    let secret = |data: Value| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "data": data, "type": "t",
            "metadata": {"name": "a", "creationTimestamp": "yesterday", "labels": ["x"]},
        })
    };
    let read =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "type": "t"});
    assert_eq!(there_and_back(&secret(json!({"a": "no base64"}))), read);
    assert_eq!(there_and_back(&secret(json!(7))), read);
}

#[test]
fn a_schema_is_a_schema_a_list_or_a_word() {
    let schema = json!({
        "type": "object", "default": {"a": [1]}, "enum": ["x", 1], "maximum": 1.5,
        "items": {"type": "string"}, "additionalProperties": true,
        "properties": {
            "b": {"items": [{"type": "a"}, {"type": "b"}], "additionalItems": {"type": "c"}},
            "c": {"additionalProperties": false, "$ref": "r"},
        },
        "dependencies": {"d": ["x", "y"], "e": {"type": "f"}},
        "x-kubernetes-int-or-string": true,
    });
    let version = json!({
        "name": "v1", "served": false, "storage": true, "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    });
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "spec": {
            "group": "g", "scope": "Cluster", "names": {"plural": "p", "kind": "K"},
            "versions": [version],
        },
    });
    assert_eq!(there_and_back(&definition), definition);
}

#[test]
fn what_one_message_holds_may_come_in_pieces() {
    let names = |name: &[u8]| bytes(1, &bytes(3, name));
    let spec = bytes(34, &[names(b"a"), names(b"b")].concat());
    // A field's number above fifteen takes two bytes.
    let spec = [vec![0x92, 0x02], spec[1..].to_vec()].concat();
    let pod = decode(&envelope("v1", "Pod", &bytes(2, &spec))).unwrap();
    assert_eq!(pod["spec"]["ephemeralContainers"], json!([{"command": ["a", "b"]}]));
}

/// An object with every field, down to some depth.
fn whole(message: &Message, depth: usize) -> Value {
    let fields = message.fields.iter().filter(|it| depth > 0 || !is_nested(it.kind));
    fields.map(|field| (field.name.clone(), field_of(field, depth))).collect()
}

fn is_nested(kind: Kind) -> bool {
    use Kind::{Message, SchemaOrBoolean, SchemaOrSchemas, SchemaOrTexts};
    matches!(kind, Message(_) | SchemaOrBoolean(_) | SchemaOrSchemas(_) | SchemaOrTexts(_))
}

fn field_of(field: &Field, depth: usize) -> Value {
    let one = match field.kind {
        Kind::Text => json!("text"),
        Kind::Bytes => json!("AAEC"),
        Kind::Integer => json!(-300),
        Kind::Boolean => json!(true),
        Kind::Double => json!(-0.5),
        Kind::Time => json!("2026-11-30T05:00:00Z"),
        Kind::MicroTime => json!("2026-11-30T05:00:00.123456Z"),
        Kind::Quantity => json!("1500m"),
        Kind::IntOrString => json!("25%"),
        Kind::Raw => json!({"any": ["thing", 1, null]}),
        Kind::Texts => json!(["a", "b"]),
        Kind::Message(index) | Kind::SchemaOrBoolean(index) | Kind::SchemaOrTexts(index) => {
            whole(plan::message(index), depth - 1)
        }
        Kind::SchemaOrSchemas(index) => json!([whole(plan::message(index), depth - 1)]),
    };
    match field.many {
        Many::One => one,
        Many::List => json!([one, one]),
        Many::Map => json!({"a": one, "b/c": one}),
    }
}

#[test]
fn every_field_of_every_kind_comes_back() {
    let mut count = 0;
    for (api_version, kind) in plan::kinds() {
        let message = plan::of_kind(api_version, kind).unwrap();
        let mut object = whole(message, 6);
        object["apiVersion"] = api_version.into();
        object["kind"] = kind.into();
        let read = there_and_back(&object);
        assert!(read == object, "{api_version} {kind}: {read:#}");
        let items = [object.to_string()];
        let list = decode(&list_of(api_version, kind, &json!({}), &items)).unwrap();
        assert_eq!(list["items"][0]["metadata"], object["metadata"]);
        count += 1;
    }
    assert!(count > 70, "{count}");
}

#[test]
fn every_pointer_is_a_field_of_some_message() {
    for pointer in [POINTERS, ALWAYS].into_iter().flatten() {
        let (message, name) = pointer.split_once('.').unwrap_or(("", pointer));
        let is_it = |(it, all): &(&String, &Message)| {
            it.ends_with(message) && all.fields.iter().any(|it| it.name == name)
        };
        assert!(plan::messages().any(|it| is_it(&it)), "{pointer}");
    }
}

#[test]
fn every_field_of_the_served_schemas_is_one_of_a_message() {
    let schemas = "/../../control-plane/kube-apiserver/schemas/kubernetes.json.gz";
    let file = File::open(format!("{}{schemas}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let mut lacking = BTreeSet::new();
    for (name, schema) in document["schemas"].as_object().unwrap() {
        let fields = plan::named(name).map_or(&[][..], |it| &it.fields);
        for property in schema["properties"].as_object().into_iter().flatten().map(|it| it.0) {
            // The envelope has these; nested objects that have them are told apart by the others.
            let is_type = matches!(property.as_str(), "apiVersion" | "kind");
            if !is_type && fields.iter().all(|it| it.name != *property) {
                let short: Vec<&str> = name.rsplit('.').take(3).collect();
                lacking.insert(format!("{}.{}.{}.{property}", short[2], short[1], short[0]));
            }
        }
    }
    assert_eq!(lacking, BTreeSet::new());
}

/// A pod with a bit of everything.
fn body() -> Vec<u8> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{
            "name": "a", "resources": {"limits": {"cpu": "1"}},
            "livenessProbe": {"httpGet": {"port": 80}},
        }]},
    });
    encode(pod.to_string().as_bytes()).unwrap()
}

#[test]
fn a_body_that_ends_anywhere_is_read_or_refused() {
    let body = body();
    let read = (0..body.len()).filter(|end| decode(&body[..*end]).is_ok()).count();
    // Only behind whole fields of the envelope.
    assert_eq!(read, 3);
    assert!(decode(&body).is_ok());
}

#[test]
fn a_body_that_claims_more_than_it_has_allocates_nothing() {
    for length in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xff; 9], &[0xff; 12]] {
        let claim = [MAGIC, &[2 << 3 | 2], length, &[1]].concat();
        assert_eq!(decode(&claim).unwrap_err(), ProtobufError::Malformed);
        let inner = [&[1 << 3 | 2][..], length].concat();
        let claim = envelope("v1", "Pod", &inner);
        assert_eq!(decode(&claim).unwrap_err(), ProtobufError::Malformed);
    }
}

#[test]
fn messages_that_lie_too_deep_are_refused() {
    let nest = |depth: usize| {
        let mut schema = json!({"type": "string"});
        for _ in 0..depth {
            schema = json!({"not": schema});
        }
        let version = json!({"name": "v1", "schema": {"openAPIV3Schema": schema}});
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "spec": {"versions": [version]},
        });
        decode(&encode(definition.to_string().as_bytes()).unwrap()).map(drop)
    };
    assert_eq!(nest(90), Ok(()));
    assert_eq!(nest(110), Err(ProtobufError::Malformed));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_but_never_panic(
        tail in prop::collection::vec(any::<u8>(), 0..100)
    ) {
        drop(decode(&envelope("v1", "Pod", &tail)));
        drop(decode(&[MAGIC, &tail].concat()));
    }

    #[test]
    fn a_changed_body_is_read_or_refused_and_what_is_read_can_be_written(
        at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut body = body();
        let at = at.index(body.len());
        body[at] = byte;
        if let Ok(object) = decode(&body) {
            let again = encode(object.to_string().as_bytes());
            prop_assert!(again.is_ok(), "{object}: {again:?}");
        }
    }

    #[test]
    fn text_that_is_no_json_is_refused_but_never_panics(text in ".{0,60}") {
        drop(encode(text.as_bytes()));
        let pod = format!(r#"{{"kind":"Pod","apiVersion":"v1","metadata":{text}"#);
        drop(encode(pod.as_bytes()));
        let pod = format!(r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"labels":{text}}}}}"#);
        drop(encode(pod.as_bytes()));
    }
}
