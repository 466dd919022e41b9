//! What must hold of `defaults`.

use super::*;
use crate::resources::Catalog;

fn defaulted(group: &str, plural: &str, mut object: Value) -> Value {
    let catalog = Catalog::builtin();
    let resource = catalog.all().iter().find(|it| it.is(group, plural)).unwrap().clone();
    apply(&resource, &mut object);
    let once = object.clone();
    apply(&resource, &mut object);
    assert_eq!(object, once, "defaulting twice changes nothing");
    object
}

#[test]
fn a_bare_pod_gets_what_upstream_gives_it() {
    let pod = defaulted(
        "",
        "pods",
        json!({"spec": {"containers": [{"name": "a", "image": "nginx",
        "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1"}},
        "readinessProbe": {"httpGet": {"port": 80}}}], "volumes": [{"name": "v"}]}}),
    );
    assert_eq!(
        pod["spec"],
        json!({
            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler", "terminationGracePeriodSeconds": 30,
            "securityContext": {}, "enableServiceLinks": true,
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{
                "name": "a", "image": "nginx", "imagePullPolicy": "Always",
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
                "readinessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                    "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
            }],
        })
    );
}

#[test]
fn a_negative_grace_is_a_second_for_a_pod_and_stays_in_a_template() {
    let spec = json!({"terminationGracePeriodSeconds": -1, "containers": []});
    let pod = defaulted("", "pods", json!({ "spec": spec }));
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 1);
    let template = defaulted("", "podtemplates", json!({"template": {"spec": spec}}));
    assert_eq!(template["template"]["spec"]["terminationGracePeriodSeconds"], -1);
}

#[test]
fn the_states_of_a_container_are_there_if_empty() {
    let status = json!({"containerStatuses": [{"name": "a", "state": {"waiting": {}}}]});
    let pod = defaulted("", "pods", json!({"spec": {"containers": []}, "status": status}));
    let container = &pod["status"]["containerStatuses"][0];
    assert_eq!(*container, json!({"name": "a", "state": {"waiting": {}}, "lastState": {}}));
}

#[test]
fn only_unpinned_images_are_always_pulled() {
    for (image, expected) in [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.2", "IfNotPresent"),
        ("registry:5000/nginx", "Always"),
        ("nginx@sha256:00", "IfNotPresent"),
    ] {
        let pod = defaulted("", "pods", json!({"spec": {"containers": [{"image": image}]}}));
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], expected, "{image}");
    }
}

#[test]
fn secrets_hide_their_plain_text_form() {
    let secret = defaulted("", "secrets", json!({"stringData": {"a": "b"}}));
    assert_eq!(secret, json!({"type": "Opaque", "data": {"a": "Yg=="}}));
}

#[test]
fn services_get_their_types_fields() {
    let service = defaulted("", "services", json!({"spec": {"ports": [{"port": 80}]}}));
    assert_eq!(
        service["spec"]["ports"],
        json!([{"port": 80, "protocol": "TCP", "targetPort": 80}])
    );
    assert_eq!(service["spec"]["internalTrafficPolicy"], "Cluster");
    let external =
        defaulted("", "services", json!({"spec": {"type": "ExternalName", "externalName": "x"}}));
    assert!(external["spec"].get("ipFamilies").is_none());
}

#[test]
fn an_address_of_a_load_balancer_is_its_own_unless_something_else_is_said() {
    let ingress =
        json!([{"ip": "1.2.3.4"}, {"ip": "1.2.3.5", "ipMode": "Proxy"}, {"hostname": "h"}]);
    let service = json!({"spec": {"type": "LoadBalancer"},
        "status": {"loadBalancer": {"ingress": ingress}}});
    let service = defaulted("", "services", service);
    let modes = service["status"]["loadBalancer"]["ingress"].as_array().unwrap();
    assert_eq!([&modes[0]["ipMode"], &modes[1]["ipMode"]], ["VIP", "Proxy"]);
    assert!(modes[2]["ipMode"].is_null());
}

#[test]
fn a_deployment_rolls_by_quarters() {
    let deployment = defaulted("apps", "deployments", json!({"spec": {"template": {}}}));
    assert_eq!(
        deployment["spec"]["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
    );
}
