//! What must hold of `validation`.

mod devices;
mod pods;
mod statuses;
mod storage;
mod workloads;

use serde_json::json;

use super::*;
use crate::{defaults, resources::Catalog};

fn resource(group: &str, plural: &str) -> std::sync::Arc<Resource> {
    let catalog = Catalog::builtin();
    catalog.all().iter().find(|it| it.is(group, plural)).unwrap().clone()
}

/// The faults of a defaulted object, as text.
fn faults(group: &str, plural: &str, mut object: Value) -> Vec<String> {
    let resource = resource(group, plural);
    defaults::apply(&resource, &mut object);
    create(&resource, &object).iter().map(ToString::to_string).collect()
}

fn changes(group: &str, plural: &str, mut old: Value, mut new: Value) -> Vec<String> {
    let resource = resource(group, plural);
    defaults::apply(&resource, &mut old);
    defaults::apply(&resource, &mut new);
    update(&resource, Part::Main, &old, &new).0.iter().map(ToString::to_string).collect()
}

fn pod(spec: Value) -> Value {
    json!({"metadata": {"name": "p"}, "spec": spec})
}

fn template(labels: Value) -> Value {
    json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "x"}]}})
}

#[test]
fn names_must_fit_into_dns() {
    let found = faults("", "configmaps", json!({"metadata": {"name": "A_b"}}));
    assert_eq!(found, [format!("metadata.name: Invalid value: \"A_b\": {}", fields::SUBDOMAIN)]);
    assert!(
        faults(
            "",
            "services",
            json!({"metadata": {"name": "1a"}, "spec": {"ports": [{"port": 1}]}})
        )[0]
        .contains("DNS-1035")
    );
    assert!(
        faults("rbac.authorization.k8s.io", "roles", json!({"metadata": {"name": "system:A"}}))
            .is_empty()
    );
    assert_eq!(
        faults("", "configmaps", json!({"metadata": {}})),
        ["metadata.name: Required value: name or generateName is required"]
    );
}

#[test]
fn a_policys_end_port_needs_a_number_to_begin_with() {
    let of = |port: Value| {
        let spec = json!({"podSelector": {}, "ingress": [{"ports": [port]}]});
        let object = json!({"metadata": {"name": "a"}, "spec": spec});
        faults("networking.k8s.io", "networkpolicies", object)
    };
    let at = "spec.ingress[0].ports[0].endPort: Invalid value: 80:";
    let named = of(json!({"port": "http", "endPort": 80}));
    assert_eq!(named, [format!("{at} may not be specified when `port` is non-numeric")]);
    let without = of(json!({"endPort": 80}));
    assert_eq!(without, [format!("{at} may not be specified when `port` is not specified")]);
    assert!(of(json!({"port": 70, "endPort": 80})).is_empty());
}

#[test]
fn what_does_not_fit_into_a_config_map_is_refused_in_upstreams_words() {
    let map = |data: Value, binary: Value| {
        let object = json!({"metadata": {"name": "a"}, "data": data, "binaryData": binary});
        faults("", "configmaps", object)
    };
    let mebibyte = "x".repeat(1 << 20);
    assert_eq!(map(json!({"a": mebibyte}), Value::Null), Vec::<String>::new());
    let found = map(json!({"a": format!("{mebibyte}x")}), Value::Null);
    assert_eq!(found, ["[]: Too long: may not be more than 1048576 bytes"]);
    // What base64 stands for counts, not what it takes.
    let most = "A".repeat((1 << 20) / 3 * 4);
    assert_eq!(map(Value::Null, json!({"a": most})), Vec::<String>::new());
}

#[test]
fn a_pod_needs_named_containers_with_images_and_known_volumes() {
    assert_eq!(faults("", "pods", pod(json!({}))), ["spec.containers: Required value"]);
    let twins = json!({"containers": [{"name": "a", "image": "x"}, {"name": "a", "image": ""}]});
    assert_eq!(
        faults("", "pods", pod(twins)),
        [
            "spec.containers[1].image: Required value",
            "spec.containers[1].name: Duplicate value: \"a\""
        ]
    );
    let mount = json!({"containers": [{"name": "a", "image": "x", "volumeMounts": [{"name": "v", "mountPath": "/x"}]}]});
    assert_eq!(
        faults("", "pods", pod(mount)),
        ["spec.containers[0].volumeMounts[0].name: Not found: \"v\""]
    );
}

#[test]
fn requests_stay_within_limits() {
    let found = faults(
        "",
        "pods",
        pod(json!({"containers": [{"name": "a", "image": "x", "resources":
        {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}]})),
    );
    assert_eq!(
        found,
        [
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"
        ]
    );
}

#[test]
fn probes_name_exactly_one_handler() {
    let probe = |probe: Value| {
        faults(
            "",
            "pods",
            pod(json!({"containers": [{"name": "a", "image": "x", "livenessProbe": probe}]})),
        )
    };
    assert_eq!(
        probe(json!({})),
        ["spec.containers[0].livenessProbe: Required value: must specify a handler type"]
    );
    let two = json!({"exec": {"command": ["x"]}, "tcpSocket": {"port": 1}});
    assert_eq!(
        probe(two),
        [
            "spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"
        ]
    );
    let often = json!({"exec": {"command": ["x"]}, "successThreshold": 2});
    assert_eq!(
        probe(often),
        ["spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"]
    );
}

#[test]
fn a_running_pod_may_change_its_images_and_little_else() {
    let old = pod(json!({"containers": [{"name": "a", "image": "x"}]}));
    let image = pod(json!({"containers": [{"name": "a", "image": "y"}]}));
    let mut image = image;
    image["spec"]["containers"][0]["imagePullPolicy"] = "Always".into();
    assert!(changes("", "pods", old.clone(), image).is_empty());
    let command = pod(json!({"containers": [{"name": "a", "image": "x", "command": ["z"]}]}));
    let found = changes("", "pods", old.clone(), command);
    assert!(found[0].starts_with(
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
    ));
    let more =
        pod(json!({"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "x"}]}));
    assert_eq!(
        changes("", "pods", old, more),
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
}

#[test]
fn a_deployments_selector_matches_its_template_and_never_changes() {
    let deployment = |selector: Value, labels: Value| json!({"metadata": {"name": "d"}, "spec": {"selector": selector, "template": template(labels)}});
    assert_eq!(
        faults(
            "apps",
            "deployments",
            deployment(json!({"matchLabels": {"a": "1"}}), json!({"a": "2"}))
        ),
        [
            "spec.template.metadata.labels: Invalid value: {\"a\":\"2\"}: `selector` does not match template `labels`"
        ]
    );
    assert_eq!(
        faults("apps", "deployments", deployment(json!({}), json!({"a": "2"}))),
        ["spec.selector: Invalid value: {}: empty selector is invalid for deployment"]
    );
    let (one, two) = (json!({"matchLabels": {"a": "1"}}), json!({"matchLabels": {"b": "1"}}));
    let labels = json!({"a": "1", "b": "1"});
    assert_eq!(
        changes("apps", "deployments", deployment(one, labels.clone()), deployment(two, labels)),
        ["spec.selector: Invalid value: {\"matchLabels\":{\"b\":\"1\"}}: field is immutable"]
    );
}

#[test]
fn services_need_ports_with_names_when_there_are_several() {
    let service =
        |spec: Value| faults("", "services", json!({"metadata": {"name": "s"}, "spec": spec}));
    assert_eq!(service(json!({})), ["spec.ports: Required value"]);
    assert_eq!(service(json!({"clusterIP": "None"})), Vec::<String>::new());
    assert_eq!(
        service(json!({"ports": [{"port": 80, "name": "a"}, {"port": 0}]})),
        [
            "spec.ports[1].name: Required value",
            "spec.ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[1].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive"
        ]
    );
    let before = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "10.100.0.5", "ports": [{"port": 1}]}});
    let mut after = before.clone();
    after["spec"]["clusterIP"] = "10.100.0.6".into();
    assert_eq!(
        changes("", "services", before, after),
        ["spec.clusterIPs[0]: Invalid value: [\"10.100.0.6\"]: may not change once set"]
    );
}

#[test]
fn immutable_config_maps_stay_as_they_are() {
    let old = json!({"metadata": {"name": "c"}, "immutable": true, "data": {"a": "1"}});
    let mut new = old.clone();
    new["data"]["a"] = "2".into();
    assert_eq!(
        changes("", "configmaps", old, new),
        ["data: Forbidden: field is immutable when `immutable` is set"]
    );
    let bad = json!({"metadata": {"name": "c"}, "data": {"a/b": ""}});
    assert!(
        faults("", "configmaps", bad)[0]
            .starts_with("data[a/b]: Invalid value: \"a/b\": a valid config key")
    );
}

#[test]
fn labels_and_qualified_names_have_their_forms() {
    for good in ["a", "A_b.c-1", "example.com/x"] {
        assert!(fields::qualified_name(good).is_empty(), "{good}");
    }
    for bad in ["", "-a", "a/", "/a", "a/b/c", "Ex.com/x", &"a".repeat(64)] {
        assert!(!fields::qualified_name(bad).is_empty(), "{bad}");
    }
    assert!(fields::label_value("").is_empty());
    assert!(!fields::label_value("a b").is_empty());
}

#[test]
fn a_pod_with_users_of_its_own_shares_no_other_namespace_with_the_host() {
    let of = |change: Value| {
        let mut spec = json!({
            "containers": [{ "name": "a", "image": "x" }], "hostUsers": false,
        });
        spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        faults("", "pods", pod(spec))
    };
    assert_eq!(of(json!({})), Vec::<String>::new());
    let why = "Forbidden: when `hostUsers` is false";
    for (field, told) in
        [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")]
    {
        assert_eq!(of(json!({ field: true })), [format!("spec.{told}: {why}")]);
    }
}

#[test]
fn proc_is_unmasked_in_a_user_namespace_only() {
    let of = |mount: &str, host_users: Value| {
        let container = json!({
            "name": "a", "image": "x", "securityContext": { "procMount": mount },
        });
        faults("", "pods", pod(json!({ "containers": [container], "hostUsers": host_users })))
    };
    assert_eq!(of("Default", Value::Null), Vec::<String>::new());
    assert_eq!(of("Unmasked", json!(false)), Vec::<String>::new());
    for host_users in [Value::Null, json!(true)] {
        assert_eq!(
            of("Unmasked", host_users),
            [
                "spec.containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`"
            ]
        );
    }
    assert_eq!(
        of("Open", Value::Null),
        [
            "spec.containers[0].securityContext.procMount: Unsupported value: \"Open\": supported values: \"Default\", \"Unmasked\""
        ]
    );
}

#[test]
fn sysctls_have_names_of_their_form_and_each_once() {
    let named = |names: &[&str]| {
        let sysctls: Vec<_> = names.iter().map(|it| json!({"name": it, "value": "1"})).collect();
        faults(
            "",
            "pods",
            pod(json!({
                "containers": [{"name": "a", "image": "x"}], "securityContext": {"sysctls": sysctls},
            })),
        )
    };
    assert_eq!(named(&["kernel.shm_rmid_forced", "net/ipv4/conf/eth0-1/x"]), Vec::<String>::new());
    for wrong in ["foo-", "bar..", "", "Upper.case"] {
        assert_eq!(named(&[wrong]).len(), 1, "{wrong}");
    }
    let twice = named(&["a.b", "a.b"]);
    assert_eq!(twice, ["spec.securityContext.sysctls[1].name: Duplicate value: \"a.b\""]);
}

#[test]
fn a_claim_may_ask_for_less_again_but_not_for_less_than_it_has() {
    let claim = |size: &str| {
        json!({
            "metadata": {"name": "c"}, "status": {"phase": "Bound", "capacity": {"storage": "2Gi"}},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "volumeName": "v", "storageClassName": "s",
                "resources": {"requests": {"storage": size}},
            },
        })
    };
    let of = |from: &str, to: &str| changes("", "persistentvolumeclaims", claim(from), claim(to));
    assert_eq!(of("2Gi", "4Gi"), Vec::<String>::new());
    assert_eq!(of("4Gi", "3Gi"), Vec::<String>::new(), "it could not grow");
    let why = "spec.resources.requests.storage: Forbidden: field can not be less than \
               status.capacity";
    assert_eq!(of("4Gi", "1Gi"), [why]);
}

#[test]
fn quotas_of_scopes_that_are_unknown_contradict_or_count_something_else_are_refused() {
    let quota = |scopes: &[&str], resource: &str| {
        faults(
            "",
            "resourcequotas",
            json!({"metadata": {"name": "q"},
            "spec": {"scopes": scopes, "hard": {resource: "1"}}}),
        )
    };
    assert_eq!(quota(&["Terminating"], "pods"), [] as [&str; 0]);
    assert_eq!(quota(&["BestEffort"], "count/pods.example.com"), [] as [&str; 0]);
    for (scopes, resource, told) in [
        (&["BestEffort", "NotBestEffort"][..], "pods", "conflicting scopes"),
        (&["Some"], "pods", "unsupported scope"),
        (&["BestEffort"], "cpu", "unsupported scope applied to resource"),
    ] {
        let found = quota(scopes, resource);
        assert!(found.iter().any(|it| it.ends_with(told)), "{found:?}");
    }
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    let range = json!({"metadata": {"name": "l"}, "spec": {"limits": [
        {"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}, {"type": "Container"},
        {"type": "Pod", "default": {"cpu": "1"}}]}});
    let found = faults("", "limitranges", range);
    for told in [
        "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
        "spec.limits[1].type: Duplicate value: \"Container\"",
        "spec.limits[2].default: Forbidden: may not be specified when `type` is 'Pod'",
    ] {
        assert!(found.iter().any(|it| it == told), "{told}: {found:?}");
    }
}

#[test]
fn an_event_is_of_its_objects_namespace_and_only_goes_on() {
    let event = |namespace: &str| {
        json!({"metadata": {"name": "e", "namespace": "n"}, "involvedObject": {"namespace": namespace},
            "eventTime": "2026-01-01T00:00:00.000000Z", "reportingComponent": "c",
            "reportingInstance": "i", "action": "a", "reason": "r", "type": "Normal"})
    };
    assert_eq!(faults("events.k8s.io", "events", event("n")), [] as [&str; 0]);
    let told = "involvedObject.namespace: Invalid value: \"m\": does not match event.namespace";
    assert_eq!(faults("", "events", event("m")), [told]);
    let mut next = event("n");
    next["series"] = json!({"count": 1, "lastObservedTime": "2026-01-01T00:00:01.000000Z"});
    next["message"] = "other".into();
    assert_eq!(
        changes("events.k8s.io", "events", event("n"), next.clone()),
        [
            "series.count: Invalid value: \"\": should be at least 2",
            "message: Invalid value: \"other\": field is immutable",
        ]
    );
    next["series"]["count"] = 2.into();
    assert_eq!(changes("", "events", event("n"), next), [] as [&str; 0]);
    let mut same = event("n");
    same["involvedObject"]["fieldPath"] = "".into();
    for (field, empty) in [("message", json!("")), ("count", json!(0)), ("source", json!({}))] {
        same[field] = empty;
    }
    assert_eq!(changes("events.k8s.io", "events", event("n"), same), [] as [&str; 0]);
}
