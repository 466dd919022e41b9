//! What must hold of pods' validation.

use serde_json::{Value, json};

use super::{changes, faults, pod, resource};
use crate::{strategy::Part, validation::update};

/// A pod with one container, of which these fields are changed.
fn with(container: Value, spec: Value) -> Value {
    let mut own = json!({ "name": "a", "image": "x" });
    own.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
    let mut all = json!({ "containers": [own], "serviceAccountName": "s" });
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    pod(all)
}

fn told(container: Value, spec: Value) -> Vec<String> {
    faults("", "pods", with(container, spec))
}

/// Each change of a container, and what upstream says to it.
fn of_container(cases: Vec<(Value, &[&str])>) {
    for (change, expected) in cases {
        let at: Vec<String> =
            expected.iter().map(|it| format!("spec.containers[0].{it}")).collect();
        assert_eq!(told(change.clone(), json!({})), at, "{change}");
    }
}

/// Each change of a spec, and what upstream says to it.
fn of_spec(cases: Vec<(Value, &[&str])>) {
    for (change, expected) in cases {
        let at: Vec<String> = expected.iter().map(|it| format!("spec.{it}")).collect();
        assert_eq!(told(json!({}), change.clone()), at, "{change}");
    }
}

#[test]
fn variables_come_from_one_source_that_pods_have() {
    let from = |source: Value| json!({ "env": [{ "name": "A", "valueFrom": source }] });
    of_container(vec![
        (from(json!({ "fieldRef": { "fieldPath": "status.podIP" } })), &[]),
        (from(json!({ "fieldRef": { "fieldPath": "metadata.labels['app']" } })), &[]),
        (
            from(json!({ "fieldRef": { "fieldPath": "spec.image" } })),
            &[
                "env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.image\": error converting fieldPath: field label not supported: spec.image",
            ],
        ),
        (
            from(json!({ "fieldRef": { "fieldPath": "status.phase" } })),
            &[
                "env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"status.phase\": supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
            ],
        ),
        (
            from(json!({ "resourceFieldRef": { "resource": "limits.cpu", "divisor": "2" } })),
            &[
                "env[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource",
            ],
        ),
        (
            from(json!({ "configMapKeyRef": { "name": "c", "key": "" } })),
            &["env[0].valueFrom.configMapKeyRef.key: Required value"],
        ),
        (
            json!({ "envFrom": [{}] }),
            &["envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`"],
        ),
    ]);
}

#[test]
fn mounts_and_devices_do_not_share_a_volume() {
    let volume = json!({ "volumes": [{ "name": "v", "emptyDir": {} }] });
    let both = json!({
        "volumeMounts": [{ "name": "v", "mountPath": "/m" }],
        "volumeDevices": [{ "name": "v", "devicePath": "/d" }],
    });
    assert_eq!(
        told(both, volume.clone()),
        [
            "spec.containers[0].volumeMounts[0].name: Invalid value: \"v\": must not already exist in volumeDevices",
            "spec.containers[0].volumeDevices[0].name: Invalid value: \"v\": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
            "spec.containers[0].volumeDevices[0].name: Invalid value: \"v\": must not already exist in volumeMounts",
        ]
    );
    let mount = |more: Value| {
        let mut mount = json!({ "name": "v", "mountPath": "/m" });
        mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        told(json!({ "volumeMounts": [mount] }), volume.clone())
    };
    let list = "spec.containers[0].volumeMounts";
    assert_eq!(
        mount(json!({ "subPath": "../x" })),
        [format!("{list}.subPath: Invalid value: \"../x\": must not contain '..'")]
    );
    assert_eq!(
        mount(json!({ "mountPropagation": "Bidirectional" })),
        [format!(
            "{list}.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers"
        )]
    );
    assert_eq!(
        mount(json!({ "recursiveReadOnly": "Enabled" })),
        [format!(
            "{list}.recursiveReadOnly: Forbidden: may only be specified when readOnly is true"
        )]
    );
}

#[test]
fn resources_have_names_and_what_cannot_be_shared_is_asked_for_exactly() {
    let of = |resources: Value| json!({ "resources": resources });
    of_container(vec![
        (
            of(json!({ "limits": { "gpu": "1" } })),
            &[
                "resources.limits[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified",
                "resources.limits[gpu]: Invalid value: \"gpu\": must be a standard resource for containers",
                "resources.requests[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified",
                "resources.requests[gpu]: Invalid value: \"gpu\": must be a standard resource for containers",
            ],
        ),
        (
            of(json!({ "requests": { "example.com/gpu": "1" } })),
            &[
                "resources.limits: Required value: Limit must be set for non overcommitable resources",
            ],
        ),
        (
            of(
                json!({ "requests": { "example.com/gpu": "1" }, "limits": { "example.com/gpu": "2" } }),
            ),
            &[
                "resources.requests: Invalid value: \"1\": must be equal to example.com/gpu limit of 2",
            ],
        ),
        (
            of(json!({ "limits": { "hugepages-2Mi": "2Mi" } })),
            &["resources: Forbidden: HugePages require cpu or memory"],
        ),
        (
            of(json!({ "claims": [{ "name": "c" }] })),
            &[
                "resources.claims[0]: Not found: \"c\": must be one of the names in pod.spec.resourceClaims which is empty",
            ],
        ),
    ]);
    let own = json!({ "resources": { "requests": { "cpu": "2" } } });
    let of_pod = json!({ "resources": { "requests": { "cpu": "1" } } });
    assert_eq!(
        told(own, of_pod),
        [
            "spec.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate container requests of 2"
        ]
    );
}

#[test]
fn a_container_is_probed_and_stopped_in_upstreams_bounds() {
    let exec = json!({ "exec": { "command": ["x"] } });
    let mut readiness = exec.clone();
    readiness["terminationGracePeriodSeconds"] = 5.into();
    of_container(vec![
        (
            json!({ "readinessProbe": readiness }),
            &[
                "readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes",
            ],
        ),
        (
            json!({ "lifecycle": { "preStop": { "sleep": { "seconds": 31 } } } }),
            &[
                "lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
            ],
        ),
        (
            json!({ "livenessProbe": { "httpGet": { "port": 1, "httpHeaders": [{ "name": "a b" }] } } }),
            &[
                "livenessProbe.httpGet.httpHeaders: Invalid value: \"a b\": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
            ],
        ),
        (
            json!({ "resizePolicy": [{ "resourceName": "disk", "restartPolicy": "NotRequired" }] }),
            &["resizePolicy: Unsupported value: \"disk\": supported values: \"cpu\", \"memory\""],
        ),
    ]);
    let rules = |policy: Value, rule: Value| json!({ "restartPolicy": policy, "restartPolicyRules": [rule] });
    let rule = json!({ "action": "Restart", "exitCodes": { "operator": "In", "values": [42] } });
    of_container(vec![
        (rules(json!("Never"), rule.clone()), &[]),
        (
            rules(Value::Null, rule),
            &[
                "restartPolicy: Required value: must specify restartPolicy when restart rules are used",
            ],
        ),
        (
            rules(json!("Never"), json!({ "action": "Restart" })),
            &["restartPolicyRules[0].exitCodes: Required value: must be specified"],
        ),
    ]);
}

#[test]
fn security_profiles_name_a_file_where_they_need_one_and_nowhere_else() {
    let of = |context: Value| json!({ "securityContext": context });
    of_spec(vec![
        (
            of(json!({ "seccompProfile": { "type": "Localhost" } })),
            &[
                "securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
            ],
        ),
        (
            of(json!({ "appArmorProfile": { "type": "Unconfined", "localhostProfile": "p" } })),
            &[
                "securityContext.appArmorProfile.localhostProfile: Invalid value: \"p\": can only be set when AppArmor type is Localhost",
            ],
        ),
        (
            of(json!({ "supplementalGroups": [-1] })),
            &[
                "securityContext.supplementalGroups[0]: Invalid value: -1: must be between 0 and 2147483647, inclusive",
            ],
        ),
        (
            of(json!({ "fsGroupChangePolicy": "Never" })),
            &[
                "securityContext.fsGroupChangePolicy: Unsupported value: \"Never\": supported values: \"Always\", \"OnRootMismatch\"",
            ],
        ),
        (
            json!({
                "hostNetwork": true, "securityContext": { "sysctls": [{ "name": "net.x", "value": "1" }] },
            }),
            &[
                "securityContext.sysctls[0].name: Invalid value: \"net.x\": may not be specified when 'hostNetwork' is true",
            ],
        ),
        (
            json!({ "os": { "name": "linux" }, "securityContext": { "windowsOptions": {} } }),
            &[
                "securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
            ],
        ),
        (
            json!({ "os": { "name": "windows" }, "hostPID": true }),
            &["hostPID: Forbidden: cannot be set for a windows pod"],
        ),
        (
            json!({ "os": { "name": "mars" } }),
            &["os: Unsupported value: \"mars\": supported values: \"linux\", \"windows\""],
        ),
    ]);
}

#[test]
fn a_pod_says_where_it_may_run_in_selectors_that_can_match() {
    let required = |expression: Value| {
        let term = json!({ "matchExpressions": [expression] });
        let selector = json!({ "nodeSelectorTerms": [term] });
        let field = "requiredDuringSchedulingIgnoredDuringExecution";
        json!({ "affinity": { "nodeAffinity": { field: selector } } })
    };
    let at = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0]";
    let found = told(json!({}), required(json!({ "key": "a", "operator": "Gt", "values": [] })));
    assert_eq!(
        found,
        [format!(
            "spec.{at}.values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'"
        )]
    );
    let found =
        told(json!({}), required(json!({ "key": "a", "operator": "In", "values": ["b c"] })));
    assert!(found[0].starts_with(&format!("spec.{at}.values[0]: Invalid value: \"b c\"")));
    let spread = |more: Value| {
        let mut it = json!({
            "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {},
        });
        it.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        it
    };
    of_spec(vec![
        (
            json!({ "topologySpreadConstraints": [spread(json!({})), spread(json!({}))] }),
            &[
                "topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: \"{zone, ScheduleAnyway}\"",
            ],
        ),
        (
            json!({ "topologySpreadConstraints": [spread(json!({ "minDomains": 2 }))] }),
            &[
                "topologySpreadConstraints[0].minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
            ],
        ),
        (
            json!({ "schedulingGates": [{ "name": "a" }], "nodeName": "n" }),
            &["nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"],
        ),
        (
            json!({ "dnsConfig": { "nameservers": ["1.1.1.1", "1.1.1.1", "1.1.1.1", "no"] } }),
            &[
                "dnsConfig.nameservers: Invalid value: [\"1.1.1.1\",\"1.1.1.1\",\"1.1.1.1\",\"no\"]: must not have more than 3 nameservers",
                "dnsConfig.nameservers[3]: Invalid value: \"no\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ],
        ),
        (
            json!({ "ephemeralContainers": [{ "name": "e", "image": "x" }] }),
            &["ephemeralContainers: Forbidden: cannot be set on create"],
        ),
    ]);
}

#[test]
fn volumes_are_of_one_kind_with_what_it_needs() {
    let of = |source: Value| {
        let mut volume = json!({ "name": "v" });
        volume.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        json!({ "volumes": [volume] })
    };
    of_spec(vec![
        (
            of(json!({ "nfs": { "server": "s", "path": "rel" } })),
            &["volumes[0].nfs.path: Invalid value: \"rel\": must be an absolute path"],
        ),
        (
            of(json!({ "rbd": {} })),
            &["volumes[0].rbd.monitors: Required value", "volumes[0].rbd.image: Required value"],
        ),
        (
            of(json!({ "hostPath": { "path": "/x", "type": "Any" } })),
            &[
                "volumes[0].hostPath.type: Unsupported value: \"Any\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
            ],
        ),
        (
            of(json!({ "secret": { "secretName": "s", "defaultMode": 512 } })),
            &[
                "volumes[0].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
            ],
        ),
        (
            of(json!({ "downwardAPI": { "items": [{ "path": "p" }] } })),
            &[
                "volumes[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required",
            ],
        ),
        (
            of(json!({ "ephemeral": { "volumeClaimTemplate": {
                "metadata": { "name": "n" },
                "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
            } } })),
            &["volumes[0].ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set"],
        ),
        (
            of(json!({ "emptyDir": {}, "hostPath": { "path": "/x" } })),
            &["volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
        ),
    ]);
    let token =
        of(json!({ "projected": { "sources": [{ "serviceAccountToken": { "path": "t" } }] } }));
    let mut nobodys = with(json!({}), token);
    nobodys["spec"].as_object_mut().unwrap().remove("serviceAccountName");
    assert_eq!(
        faults("", "pods", nobodys),
        [
            "spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set"
        ]
    );
}

#[test]
fn annotations_that_the_server_knows_are_understood() {
    let of = |key: &str, value: &str| {
        let mut pod = with(json!({}), json!({}));
        pod["metadata"]["annotations"] = json!({ key: value });
        faults("", "pods", pod)
    };
    let cost = "controller.kubernetes.io/pod-deletion-cost";
    assert_eq!(of(cost, "-100"), [""; 0]);
    assert_eq!(
        of(cost, "much"),
        [format!("metadata.annotations[{cost}]: Invalid value: \"much\": must be a 32bit integer")]
    );
    let profile = "container.apparmor.security.beta.kubernetes.io/b";
    assert_eq!(
        of(profile, "unconfined"),
        [format!("metadata.annotations[{profile}]: Invalid value: \"b\": container not found")]
    );
}

#[test]
fn a_gated_pod_is_only_ever_narrowed() {
    let gated = |more: Value| {
        let mut spec =
            json!({ "schedulingGates": [{ "name": "g" }], "nodeSelector": { "a": "b" } });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with(json!({}), spec)
    };
    let old = gated(json!({}));
    let of = |more: Value| changes("", "pods", old.clone(), gated(more));
    assert_eq!(of(json!({ "nodeSelector": { "a": "b", "c": "d" } })), [""; 0]);
    assert_eq!(
        of(json!({ "nodeSelector": { "c": "d" } })),
        [
            "spec.nodeSelector: Invalid value: {\"c\":\"d\"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        ]
    );
    assert_eq!(
        of(json!({ "schedulingGates": [{ "name": "g" }, { "name": "h" }] })),
        [
            "spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new scheduling gate 'h'"
        ]
    );
    assert_eq!(of(json!({ "schedulingGates": null })), [""; 0]);
}

#[test]
fn a_resize_changes_processors_and_memory_and_removes_nothing() {
    let sized = |resources: Value| with(json!({ "resources": resources }), json!({}));
    let told = |old: Value, new: Value| -> Vec<String> {
        let (mut old, mut new) = (sized(old), sized(new));
        let resource = resource("", "pods");
        crate::defaults::apply(&resource, &mut old);
        crate::defaults::apply(&resource, &mut new);
        let found = update(&resource, Part::Resize, &old, &new).0;
        found.iter().map(ToString::to_string).collect()
    };
    let one = json!({ "requests": { "cpu": "1", "memory": "1Gi" } });
    let two = json!({ "requests": { "cpu": "2", "memory": "1Gi" } });
    assert_eq!(told(one.clone(), two), [""; 0]);
    assert_eq!(
        told(one.clone(), json!({ "requests": { "cpu": "1" } })),
        ["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"]
    );
    let disk = json!({ "requests": { "cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi" } });
    assert_eq!(
        told(one.clone(), disk),
        ["spec: Forbidden: only cpu and memory resources are mutable"]
    );
    let found = told(
        one,
        json!({
            "requests": { "cpu": "1", "memory": "1Gi" }, "limits": { "cpu": "1", "memory": "1Gi" },
        }),
    );
    assert!(found[0].contains("Pod QOS Class may not change as a result of resizing"), "{found:?}");
}
