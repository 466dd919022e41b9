//! kube-controller-manager of upstream, as `system:kube-controller-manager`: its start, what it follows,
//! and the service accounts that its controllers act as.

use super::*;

const ACCOUNTS: &str = "/api/v1/namespaces/kube-system/serviceaccounts";
const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
     application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

/// What its shared informers follow.
const FOLLOWED: &[&str] = &[
    "/api/v1/configmaps",
    "/api/v1/endpoints",
    "/api/v1/namespaces",
    "/api/v1/nodes",
    "/api/v1/persistentvolumeclaims",
    "/api/v1/persistentvolumes",
    "/api/v1/pods",
    "/api/v1/podtemplates",
    "/api/v1/replicationcontrollers",
    "/api/v1/resourcequotas",
    "/api/v1/secrets",
    "/api/v1/serviceaccounts",
    "/api/v1/services",
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "/apis/apps/v1/controllerrevisions",
    "/apis/apps/v1/daemonsets",
    "/apis/apps/v1/deployments",
    "/apis/apps/v1/replicasets",
    "/apis/apps/v1/statefulsets",
    "/apis/autoscaling/v2/horizontalpodautoscalers",
    "/apis/batch/v1/cronjobs",
    "/apis/batch/v1/jobs",
    "/apis/certificates.k8s.io/v1/certificatesigningrequests",
    "/apis/coordination.k8s.io/v1/leases",
    "/apis/discovery.k8s.io/v1/endpointslices",
    "/apis/networking.k8s.io/v1/ipaddresses",
    "/apis/networking.k8s.io/v1/servicecidrs",
    "/apis/policy/v1/poddisruptionbudgets",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "/apis/resource.k8s.io/v1/deviceclasses",
    "/apis/resource.k8s.io/v1/resourceclaims",
    "/apis/resource.k8s.io/v1/resourceclaimtemplates",
    "/apis/resource.k8s.io/v1/resourceslices",
    "/apis/storage.k8s.io/v1/csidrivers",
    "/apis/storage.k8s.io/v1/csinodes",
    "/apis/storage.k8s.io/v1/storageclasses",
    "/apis/storage.k8s.io/v1/volumeattachments",
    "/apis/storage.k8s.io/v1/volumeattributesclasses",
];

#[tokio::test]
async fn the_controller_manager_of_upstream_waits_for_the_server_and_discovers_all_of_it() {
    let cluster = cluster().await;
    let _upkeep = cluster.upkeep().await;
    let manager = Component::new(&cluster, "system:kube-controller-manager");
    let (head, body) = manager.send("GET", "/healthz", &[(ACCEPT, ACCEPTED)], "").await;
    assert_eq!((head.status.as_u16(), &body[..]), (200, &b"ok"[..]));
    for path in ["/api", "/apis"] {
        let (head, body) = manager.send("GET", path, &[(ACCEPT, DISCOVERY)], "").await;
        let media = head.headers[CONTENT_TYPE].to_str().unwrap();
        assert_eq!(media, "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
        let document: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(document["items"][0]["versions"][0]["freshness"], "Current", "{path}");
    }
    let of_one = done(manager.ask("GET", "/apis/apps/v1").await);
    let mut names = of_one["resources"].as_array().unwrap().iter().map(|it| &it["name"]);
    assert!(names.any(|it| it == "deployments/scale"));
    let nopeer = format!("{DISCOVERY};profile=nopeer");
    let (head, _) = manager.send("GET", "/apis", &[(ACCEPT, &nopeer)], "").await;
    assert_eq!(head.status, 200);
}

#[tokio::test(start_paused = true)]
async fn the_controller_manager_of_upstream_lists_and_watches_all_it_needs_as_itself() {
    let cluster = cluster().await;
    let manager = Component::new(&cluster, "system:kube-controller-manager");
    for path in FOLLOWED {
        manager.follow(path).await;
    }
}

/// What can be listed, watched and deleted, as the garbage collector finds it.
async fn deletable(manager: &Component<'_>) -> Vec<String> {
    let mut paths = Vec::new();
    for root in ["/api", "/apis"] {
        let (_, body) = manager.send("GET", root, &[(ACCEPT, DISCOVERY)], "").await;
        let document: Value = serde_json::from_slice(&body).unwrap();
        for group in document["items"].as_array().unwrap() {
            let name = group["metadata"]["name"].as_str();
            let version = &group["versions"][0];
            let base = match name {
                Some(name) => format!("{root}/{name}"),
                None => root.to_owned(),
            };
            let base = format!("{base}/{}", version["version"].as_str().unwrap());
            let all = version["resources"].as_array().unwrap().iter();
            let all = all.filter(|it| {
                let verbs: Vec<&str> =
                    it["verbs"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
                ["delete", "list", "watch"].iter().all(|verb| verbs.contains(verb))
            });
            paths.extend(all.map(|it| format!("{base}/{}", it["resource"].as_str().unwrap())));
        }
    }
    paths
}

#[tokio::test(start_paused = true)]
async fn the_garbage_collector_of_upstream_follows_the_metadata_of_everything() {
    let cluster = cluster().await;
    let manager = Component::new(&cluster, "system:kube-controller-manager");
    let paths = deletable(&manager).await;
    assert!(paths.len() > 50, "{paths:?}");
    for path in paths {
        for object in manager.stream(&path, METADATA).await {
            assert_eq!(object["kind"], "PartialObjectMetadata", "{path}");
        }
        let pages = format!("{path}?limit=500&resourceVersion=0");
        let (head, body) = manager.send("GET", &pages, &[(ACCEPT, METADATA_LIST)], "").await;
        let (code, list) = read(&path, &head, &body);
        assert_eq!((code, &list["kind"]), (200, &json!("PartialObjectMetadataList")), "{path}");
    }
}

#[tokio::test]
async fn the_controller_manager_of_upstream_makes_accounts_and_tokens_for_its_controllers() {
    let cluster = cluster().await;
    let manager = Component::new(&cluster, "system:kube-controller-manager");
    let path = format!("{ACCOUNTS}/deployment-controller");
    assert_eq!(manager.ask("GET", &path).await.0, 404);
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "deployment-controller", "namespace": "kube-system"},
    });
    done(manager.write("POST", ACCOUNTS, &account).await);
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "metadata": {"name": "deployment-controller", "namespace": "kube-system"},
        "spec": {"expirationSeconds": 7200},
    });
    let answer = done(manager.write("POST", &format!("{path}/token"), &request).await);
    let bearer = format!("Bearer {}", answer["status"]["token"].as_str().unwrap());
    let request = Request::get("/apis/apps/v1/deployments?limit=500&resourceVersion=0")
        .header(AUTHORIZATION, bearer)
        .header(ACCEPT, ACCEPTED)
        .body(transport::empty())
        .unwrap();
    let response = cluster.api.service().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200, "by the role of its controller");
}

#[tokio::test]
async fn the_controller_manager_of_upstream_is_elected_by_its_lease() {
    let cluster = cluster().await;
    let manager = Component::new(&cluster, "system:kube-controller-manager");
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "kube-controller-manager", "namespace": "kube-system"},
        "spec": {"holderIdentity": "host_1", "leaseDurationSeconds": 15},
    });
    let made = done(manager.write("POST", leases, &lease).await);
    done(manager.write("PUT", &format!("{leases}/kube-controller-manager"), &made).await);
}
