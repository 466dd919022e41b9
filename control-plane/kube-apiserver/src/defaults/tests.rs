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

#[test]
fn a_template_has_less_than_its_pods() {
    let container = json!({
        "name": "a", "image": "x", "ports": [{"containerPort": 80}],
        "resources": {"limits": {"cpu": "1"}},
    });
    let spec = json!({"hostNetwork": true, "containers": [container]});
    let set = defaulted("apps", "replicasets", json!({"spec": {"template": {"spec": spec}}}));
    let template = &set["spec"]["template"]["spec"];
    assert!(template.get("enableServiceLinks").is_none(), "{template}");
    let container = &template["containers"][0];
    assert_eq!(container["resources"], json!({"limits": {"cpu": "1"}}));
    assert!(container["ports"][0].get("hostPort").is_none(), "{container}");
    let pod = defaulted("", "pods", json!({"spec": spec}));
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["resources"]["requests"], json!({"cpu": "1"}));
    assert_eq!(container["ports"][0]["hostPort"], 80);
}

#[test]
fn a_pods_own_requests_follow_its_containers_and_then_its_limits() {
    let of = |resources: Value| {
        let part =
            |cpu: &str| json!({"name": "c", "image": "x", "resources": {"requests": {"cpu": cpu}}});
        let spec = json!({
            "resources": resources, "containers": [part("100m"), part("200m")],
            "initContainers": [part("250m")],
        });
        let pod = defaulted("", "pods", json!({"spec": spec}));
        pod["spec"]["resources"].clone()
    };
    let limits = json!({"cpu": "1", "memory": "1Gi"});
    assert_eq!(of(json!({"limits": limits}))["requests"], json!({"cpu": "300m", "memory": "1Gi"}));
    assert_eq!(of(json!({})), json!({}));
    let known = json!({"limits": limits, "requests": {"cpu": "1", "memory": "1Gi"}});
    assert_eq!(of(known.clone()), known);
}

#[test]
fn what_volumes_are_made_of_is_completed_in_pods_and_in_volumes() {
    let pod = defaulted(
        "",
        "pods",
        json!({"spec": {"volumes": [
            {"name": "a", "image": {"reference": "x"}}, {"name": "b", "rbd": {"image": "i"}},
            {"name": "c", "image": {"reference": "x:1"}},
        ]}}),
    );
    let volumes = &pod["spec"]["volumes"];
    assert_eq!(volumes[0]["image"]["pullPolicy"], "Always");
    assert_eq!(volumes[2]["image"]["pullPolicy"], "IfNotPresent");
    let rbd = json!({"image": "i", "pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"});
    assert_eq!(volumes[1]["rbd"], rbd);
    let volume = defaulted(
        "",
        "persistentvolumes",
        json!({"spec": {
            "hostPath": {"path": "/a"}, "capacity": {"storage": "1500u"},
        }}),
    );
    assert_eq!(volume["spec"]["hostPath"], json!({"path": "/a", "type": ""}));
    assert_eq!(volume["spec"]["capacity"], json!({"storage": "2m"}), "rounded up");
}

#[test]
fn jobs_take_their_labels_from_their_pods_and_sets_do_not() {
    let labels = json!({"app": "a"});
    let spec = json!({"template": {"metadata": {"labels": labels}}});
    for (group, plural, is_labelled) in [
        ("batch", "jobs", true),
        ("", "replicationcontrollers", true),
        ("apps", "replicasets", false),
        ("apps", "daemonsets", false),
    ] {
        let made = defaulted(group, plural, json!({"metadata": {}, "spec": spec}));
        assert_eq!(made["metadata"]["labels"] == labels, is_labelled, "{plural}");
    }
}

#[test]
fn an_autoscaler_that_says_how_it_goes_says_all_of_it() {
    let of =
        |spec: Value| defaulted("autoscaling", "horizontalpodautoscalers", json!({"spec": spec}));
    assert!(of(json!({}))["spec"].get("behavior").is_none());
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    assert_eq!(
        of(json!({"behavior": {"scaleUp": {"selectPolicy": "Min"}}}))["spec"]["behavior"],
        json!({
            "scaleUp": {
                "selectPolicy": "Min", "policies": [pods, percent], "stabilizationWindowSeconds": 0,
            },
            "scaleDown": {"selectPolicy": "Max", "policies": [percent]},
        })
    );
}

#[test]
fn a_service_that_is_reached_from_outside_says_how() {
    let of = |spec: Value| {
        let made = defaulted("", "services", json!({"spec": spec}));
        made["spec"]["externalTrafficPolicy"].clone()
    };
    assert_eq!(of(json!({"externalIPs": ["1.2.3.4"]})), "Cluster");
    assert_eq!(of(json!({"type": "NodePort"})), "Cluster");
    assert!(of(json!({})).is_null());
}

#[test]
fn a_stateful_set_that_names_its_way_to_roll_says_no_more() {
    let of = |strategy: Value| {
        let made = defaulted("apps", "statefulsets", json!({"spec": {"updateStrategy": strategy}}));
        made["spec"]["updateStrategy"].clone()
    };
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}});
    assert_eq!(of(json!({})), rolling);
    assert_eq!(of(json!({"type": "RollingUpdate", "rollingUpdate": {}})), rolling);
    assert_eq!(of(json!({"type": "RollingUpdate"})), json!({"type": "RollingUpdate"}));
}
