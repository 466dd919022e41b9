//! What must hold of the entries of `managedFields`.

use serde_json::{Value, json};

use super::entries::{self, Owner};
use crate::{
    apply::typed::{self, Kind},
    resources::Catalog,
};

fn owner(manager: &str) -> Owner {
    Owner {
        manager: manager.into(),
        operation: "Update",
        api_version: "v1".into(),
        subresource: String::new(),
    }
}

fn difference(schema: &str, old: &Value, new: &Value) -> typed::Change {
    typed::difference(old, new, &Kind::root(crate::schema::find(schema)))
}

fn maps(old: &Value, new: &Value) -> typed::Change {
    difference("io.k8s.api.core.v1.ConfigMap", old, new)
}

fn of_data(fields: &[&str]) -> Value {
    json!({"metadata": {"name": "m"}, "data": fields.iter().map(|it| (*it, "x")).collect::<std::collections::BTreeMap<_, _>>()})
}

fn set_of(entry: &Value) -> &Value {
    &entry["fieldsV1"]
}

#[test]
fn who_creates_a_pod_owns_what_it_sent_as_upstream_writes_it() {
    let pod = json!({
        "metadata": {"name": "p", "namespace": "n", "labels": {"a": "b"}, "ownerReferences": [{"uid": "u"}]},
        "spec": {
            "containers": [{"name": "c", "image": "i", "resources": {}, "env": [{"name": "e", "value": "f"}],
                "ports": [{"containerPort": 80, "protocol": "TCP"}]}],
            "securityContext": {}, "nodeSelector": {"x": "y"},
        },
    });
    let change = difference("io.k8s.api.core.v1.Pod", &json!({}), &pod);
    let made = entries::changed(Vec::new(), change, &owner("kubectl-create"), "t");
    assert_eq!(
        *set_of(&made[0]),
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:a": {}},
                "f:ownerReferences": {".": {}, "k:{\"uid\":\"u\"}": {}}},
            "f:spec": {
                "f:containers": {"k:{\"name\":\"c\"}": {
                    ".": {}, "f:env": {".": {}, "k:{\"name\":\"e\"}": {".": {}, "f:name": {}, "f:value": {}}},
                    "f:image": {}, "f:name": {},
                    "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {
                        ".": {}, "f:containerPort": {}, "f:protocol": {}}},
                    "f:resources": {},
                }},
                "f:nodeSelector": {}, "f:securityContext": {},
            },
        })
    );
}

#[test]
fn a_change_moves_its_fields_and_their_time_and_nothing_else() {
    let (one, two) = (of_data(&["a", "b"]), json!({"data": {"a": "x", "b": "y", "c": "z"}}));
    let made = entries::changed(Vec::new(), maps(&json!({}), &one), &owner("one"), "t1");
    let both = entries::changed(made.clone(), maps(&one, &two), &owner("two"), "t2");
    assert_eq!(*set_of(&both[0]), json!({"f:data": {".": {}, "f:a": {}}}));
    assert_eq!(both[0]["time"], "t1");
    assert_eq!(*set_of(&both[1]), json!({"f:data": {"f:b": {}, "f:c": {}}}));
    let same = entries::changed(made.clone(), maps(&one, &one), &owner("two"), "t2");
    assert_eq!(same, made, "who changes nothing owns nothing");
    let gone = entries::changed(both, maps(&two, &of_data(&["a"])), &owner("one"), "t3");
    assert_eq!(gone.len(), 1, "who has nothing more has no entry: {gone:?}");
    assert_eq!(gone[0]["time"], "t1", "and who only removes has not written");
}

#[test]
fn of_more_than_ten_updates_the_oldest_become_one() {
    let mut known = Vec::new();
    let mut old = json!({});
    let names: Vec<String> = (0..13).map(|it| format!("f{it:02}")).collect();
    for (at, name) in names.iter().enumerate() {
        let mut new = old.clone();
        new["data"][name] = "x".into();
        let time = format!("2026-01-01T00:00:{at:02}Z");
        known = entries::changed(known, maps(&old, &new), &owner(&format!("m{at:02}")), &time);
        old = new;
    }
    assert_eq!(known.len(), 10);
    let ancient = known.iter().find(|it| it["manager"] == "ancient-changes").unwrap();
    let wanted = json!({"f:data": {".": {}, "f:f00": {}, "f:f01": {}, "f:f02": {}, "f:f03": {}}});
    assert_eq!((set_of(ancient), &ancient["time"]), (&wanted, &json!("2026-01-01T00:00:03Z")));
}

#[test]
fn what_a_client_writes_is_taken_if_it_can_be_read() {
    let entry = |fields: Value| {
        json!({"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
               "fieldsV1": fields})
    };
    assert!(entries::of_client(json!([entry(json!({"f:data": {".": {}, "f:x": {}}}))])).is_some());
    for wrong in [json!({"data": {}}), json!({"f:data": 1}), json!({"k:{": {}}), json!({"v:": {}})]
    {
        assert!(entries::of_client(json!([entry(wrong.clone())])).is_none(), "{wrong}");
    }
    let mut other = entry(json!({}));
    other["operation"] = "Delete".into();
    assert!(entries::of_client(json!([other])).is_none());
    assert!(entries::is_reset(&json!([])) && entries::is_reset(&json!([{}])));
    assert!(!entries::is_reset(&Value::Null), "who says nothing of it forgets nothing");
}

#[test]
fn a_list_that_had_duplicates_is_owned_again_when_it_has_none() {
    let pod = |names: &[&str]| {
        let env: Vec<Value> = names.iter().map(|it| json!({"name": it, "value": "v"})).collect();
        json!({"spec": {"containers": [{"name": "c", "env": env}]}})
    };
    let of_env = |old: &[&str], new: &[&str]| {
        let change = difference("io.k8s.api.core.v1.Pod", &pod(old), &pod(new));
        let path = "/f:spec/f:containers/k:{\"name\":\"c\"}/f:env/k:{\"name\":\"e\"}";
        let find = |it: Value| it.pointer(path).cloned().unwrap_or_default();
        (find(change.set.to_json()), find(change.removed.to_json()))
    };
    let all = json!({".": {}, "f:name": {}, "f:value": {}});
    assert_eq!(of_env(&["e"], &["e", "e"]), (json!({}), all.clone()));
    assert_eq!(of_env(&["e", "e"], &["e"]), (all, json!({})));
    assert_eq!(of_env(&["e", "e"], &["e", "e", "x"]), (Value::Null, Value::Null));
}

#[test]
fn entries_that_admission_has_broken_are_as_they_were() {
    let entry = json!({"manager": "m", "operation": "Update", "apiVersion": "v1",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}}});
    let object = |list: Value| json!({"metadata": {"managedFields": list}});
    let before = object(json!([entry]));
    for (made, left) in [
        (json!([{"manager": "m", "operation": "Other"}]), json!([entry])),
        (json!([entry, entry]), json!([entry, entry])),
        (json!([]), json!([])),
    ] {
        let mut after = object(made);
        entries::keep_readable(&before, &mut after);
        assert_eq!(after, object(left));
    }
}

#[test]
fn what_is_new_is_owned_as_a_change_from_nothing_is() {
    let twice = json!({"name": "E", "value": "v"});
    let spec = json!({"containers": [{"name": "c", "env": [twice, twice], "resources": {}}],
        "securityContext": {}, "tolerations": [{"key": "x"}], "nodeSelector": {}});
    let metadata = json!({"name": "n", "uid": "u", "labels": {"a": "b"}, "annotations": {},
        "finalizers": ["x/y"], "ownerReferences": [{"uid": "u"}], "generateName": "n-"});
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": spec});
    for (group, plural, mut object) in [
        ("", "pods", json!({"spec": spec, "status": {"phase": "Pending"}})),
        ("", "configmaps", json!({"data": {"a": "1"}, "immutable": true})),
        ("", "replicationcontrollers", json!({"spec": {"template": template, "selector": {}}})),
        (
            "",
            "services",
            json!({"spec": {"ports": [{"port": 80}]}, "status": {"loadBalancer": {}}}),
        ),
        (
            "apps",
            "deployments",
            json!({"spec": {"template": template, "strategy": {},
            "selector": {"matchLabels": {"a": "b"}}}}),
        ),
        ("networking.k8s.io", "networkpolicies", json!({"spec": {"podSelector": {}}})),
        (
            "networking.k8s.io",
            "networkpolicies",
            json!({"spec": {"podSelector": {"matchLabels": {"a": "b"}}, "ingress": []}}),
        ),
        ("rbac.authorization.k8s.io", "clusterroles", json!({"rules": []})),
    ] {
        object["apiVersion"] = "v1".into();
        object["kind"] = "K".into();
        object["metadata"] = metadata.clone();
        let catalog = Catalog::builtin();
        let resource = catalog.all().iter().find(|it| it.is(group, plural)).unwrap();
        let kind = Kind::root(crate::schema::find(&resource.schema));
        let change = typed::difference(&json!({}), &object, &kind);
        let change = super::change_within(change, resource, crate::strategy::Part::Main);
        let wanted = super::owned(change.set).to_json();
        assert_eq!(Value::from(super::of_new(resource, &object, &kind)), wanted, "{plural}");
    }
}
