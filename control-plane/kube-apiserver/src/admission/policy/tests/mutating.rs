//! What mutating policies make of objects.

use super::*;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

async fn mutating(cluster: &Cluster, name: &str, spec: Value) {
    let spec = with(json!({"reinvocationPolicy": "Never"}), spec);
    made(cluster, &format!("{GROUP}/mutatingadmissionpolicies"), name, spec).await;
    let path = format!("{GROUP}/mutatingadmissionpolicybindings");
    made(cluster, &path, name, json!({"policyName": name})).await;
}

fn configuration(expression: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

fn patch(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

fn of(resource: &str, group: &str, mutations: Value) -> Value {
    json!({
        "matchConstraints": {"resourceRules": [{
            "operations": ["CREATE", "UPDATE"], "apiGroups": [group], "apiVersions": ["v1"],
            "resources": [resource],
        }]},
        "mutations": mutations,
    })
}

fn deployment(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"a": "b"}}, "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "x"}},
        "template": {
            "metadata": {"labels": {"app": "x"}},
            "spec": {"containers": [
                {"name": "one", "image": "i", "env": [{"name": "A", "value": "a"}]},
                {"name": "two", "image": "i"},
            ]},
        },
    }})
}

#[tokio::test]
async fn an_apply_configuration_is_merged_as_server_side_apply_does() {
    let cluster = Cluster::start().await;
    let expression = "Object{
        metadata: Object.metadata{labels: {'by': 'policy'}},
        spec: Object.spec{
            replicas: object.spec.replicas + 1,
            template: Object.spec.template{spec: Object.spec.template.spec{
                containers: object.spec.template.spec.containers.map(c,
                    Object.spec.template.spec.containers{
                        name: c.name,
                        env: [Object.spec.template.spec.containers.env{name: 'B', value: 'b'}]
                    })
            }}
        }
    }";
    mutating(&cluster, "m", of("deployments", "apps", json!([configuration(expression)]))).await;
    let (code, made) = cluster.post(DEPLOYMENTS, deployment("one")).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["metadata"]["labels"], json!({"a": "b", "by": "policy"}));
    assert_eq!(made["spec"]["replicas"], 2);
    let containers = &made["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers[0]["image"], "i");
    let (a, b) = (json!({"name": "A", "value": "a"}), json!({"name": "B", "value": "b"}));
    assert_eq!((&containers[0]["env"], &containers[1]["env"]), (&json!([a, b]), &json!([b])));
}

#[tokio::test]
async fn a_json_patch_is_applied_and_one_that_tests_in_vain_is_none() {
    let cluster = Cluster::start().await;
    let mutations = json!([
        patch("[JSONPatch{op: 'add', path: '/metadata/labels', value: {'team/x': 'y'}}]"),
        patch(
            "[JSONPatch{op: 'replace', \
               path: '/metadata/labels/' + jsonpatch.escapeKey('team/x'), value: 'z'}]"
        ),
        patch(
            "[JSONPatch{op: 'test', path: '/data/a', value: 'other'}, \
               JSONPatch{op: 'remove', path: '/data/a'}]"
        ),
        patch(
            "has(object.data.b) ? [JSONPatch{op: 'move', from: '/data/b', path: '/data/c'}] : []"
        ),
    ]);
    mutating(&cluster, "m", of("configmaps", "", mutations)).await;
    let (code, made) = post(&cluster, "one", json!({"a": "1", "b": "2"})).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["metadata"]["labels"], json!({"team/x": "z"}));
    assert_eq!(made["data"], json!({"a": "1", "c": "2"}));
}

#[tokio::test]
async fn a_mutation_that_cannot_be_done_refuses_in_upstreams_words() {
    let cluster = Cluster::start().await;
    let whole =
        "Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: {'a': 'b'}}}}";
    let wrong = "Object{spec: Object.spec{replica: 1}}";
    let expression = format!("object.metadata.name == 'atomic' ? {whole} : {wrong}");
    mutating(&cluster, "m", of("deployments", "apps", json!([configuration(&expression)]))).await;
    let prefix = "policy 'm' with binding 'm' denied request: error applying patch: ";
    for (name, why) in [
        (
            "atomic",
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: \
             .spec.selector",
        ),
        (
            "wrong",
            "failed to convert patch object to typed object: .spec.replica: field not declared in \
             schema",
        ),
    ] {
        let (code, status) = cluster.post(DEPLOYMENTS, deployment(name)).await;
        assert_eq!((code.as_u16(), &status["message"]), (403, &json!(format!("{prefix}{why}"))));
        assert_eq!(status["details"]["causes"], json!([{"message": format!("{prefix}{why}")}]));
    }
    let path = format!("{GROUP}/mutatingadmissionpolicies/m");
    let mut lenient = cluster.get(&path).await;
    lenient["spec"]["failurePolicy"] = "Ignore".into();
    assert_eq!(cluster.put(&path, lenient).await.0, 200);
    assert_eq!(cluster.post(DEPLOYMENTS, deployment("wrong")).await.0, 201);
}

#[tokio::test]
async fn who_wants_to_sees_what_later_policies_made_and_validation_sees_all() {
    let cluster = Cluster::start().await;
    let seen = "[JSONPatch{op: 'add', path: '/data/seen', value: string(has(object.data.late))}]";
    let spec =
        with(of("configmaps", "", json!([patch(seen)])), json!({"reinvocationPolicy": "IfNeeded"}));
    mutating(&cluster, "a", spec).await;
    let once = "[JSONPatch{op: 'add', path: '/data/once', value: string(has(object.data.late))}]";
    mutating(&cluster, "b", of("configmaps", "", json!([patch(once)]))).await;
    let late = "[JSONPatch{op: 'add', path: '/data/late', value: 'x'}]";
    mutating(&cluster, "c", of("configmaps", "", json!([patch(late)]))).await;
    policy(&cluster, one("has(object.data.late)"), &["Deny"]).await;
    let (code, made) = post(&cluster, "one", json!({"a": "b"})).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["data"], json!({"a": "b", "late": "x", "once": "false", "seen": "true"}));
    assert_eq!(cluster.delete(&format!("{MAPS}/one")).await.0, 422, "object is null");
}

#[tokio::test]
async fn conditions_parameters_and_variables_hold_for_mutations_too() {
    let cluster = Cluster::start().await;
    let spec = with(
        of(
            "configmaps",
            "",
            json!([patch("[JSONPatch{op: 'add', path: '/data/set', value: variables.value}]")]),
        ),
        json!({
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "matchConditions": [{"name": "c", "expression": "object.metadata.name != 'skip'"}],
            "variables": [{"name": "value", "expression": "params.data.value"}],
        }),
    );
    made(&cluster, &format!("{GROUP}/mutatingadmissionpolicies"), "m", spec_of(spec)).await;
    assert_eq!(post(&cluster, "param", json!({"value": "v"})).await.0, 201);
    let reference = json!({"name": "param", "parameterNotFoundAction": "Allow"});
    let binding = json!({"policyName": "m", "paramRef": reference});
    made(&cluster, &format!("{GROUP}/mutatingadmissionpolicybindings"), "m", binding).await;
    let made = post(&cluster, "one", json!({"a": "b"})).await.1;
    assert_eq!(made["data"], json!({"a": "b", "set": "v"}));
    assert_eq!(post(&cluster, "skip", json!({"a": "b"})).await.1["data"], json!({"a": "b"}));
}

fn spec_of(spec: Value) -> Value {
    with(json!({"reinvocationPolicy": "Never"}), spec)
}

#[tokio::test]
async fn a_policy_does_not_move_an_object_to_another_namespace() {
    let cluster = Cluster::start().await;
    let move_it =
        r#"[JSONPatch{op: "replace", path: "/metadata/namespace", value: "kube-system"}]"#;
    mutating(&cluster, "m", of("configmaps", "", json!([patch(move_it)]))).await;
    let (code, refused) = post(&cluster, "a", json!({"a": "b"})).await;
    assert_eq!(code, 400, "{refused}");
    let told =
        "the namespace of the provided object does not match the namespace sent on the request";
    assert_eq!(refused["message"], told);
}
