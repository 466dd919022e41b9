//! What goes over the wire beside the objects: codes, headers, formats, discovery.

use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH,
    WARNING,
};
use lifecycle::Scope;
use serde_json::json;

use super::Cluster;
use crate::{decode::BODY_LIMIT, request::UserInfo};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn bad_bodies_get_the_codes_of_upstream() {
    let cluster = Cluster::start().await;
    let long = format!("{{\"data\":{{\"a\":\"{}\"}}}}", "x".repeat(BODY_LIMIT));
    let cases: [(&str, String, u16, &str); 4] = [
        ("application/json", "{nope".into(), 400, "BadRequest"),
        ("application/yaml", "a: [".into(), 400, "BadRequest"),
        ("application/xml", "<a/>".into(), 415, "UnsupportedMediaType"),
        ("application/json", long, 413, "RequestEntityTooLarge"),
    ];
    for (media, body, code, reason) in cases {
        let (head, status) = cluster.send("POST", MAPS, &[(CONTENT_TYPE, media)], body).await;
        assert_eq!((head.status.as_u16(), status["reason"].as_str().unwrap()), (code, reason));
        assert_eq!(status["kind"], "Status");
        assert!(head.headers.contains_key("audit-id"));
    }
}

fn serve(cluster: &Cluster) -> (String, Scope) {
    let listener = transport::Place::Here.listen(([127, 0, 0, 1], 0).into()).unwrap();
    let url = format!("http://{}{MAPS}", listener.local_addr().unwrap());
    let scope = Scope::new();
    let service = cluster.api.service_as(UserInfo::master("admin"));
    drop(scope.spawn("server", transport::serve(listener, None, service, scope.clone())));
    (url, scope)
}

/// In HTTP/2 a body after the answer's head is a fault of the stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_has_its_answer_over_both_versions_of_http() {
    if std::process::Command::new("curl").arg("--version").output().is_err() {
        eprintln!("not run: there is no curl");
        return;
    }
    let cluster = Cluster::start().await;
    let (url, _scope) = serve(&cluster);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let mut curl = tokio::process::Command::new("curl");
        let output = curl.args(["-sSI", "--max-time", "20", version, &url]).output().await.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{version}: {errors}");
        let head = String::from_utf8_lossy(&output.stdout);
        assert!(head.lines().next().unwrap().contains(" 405"), "{version}: {head}");
    }
}

/// Served for real, by the client that shows a reset as "error 92".
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_long_gets_its_answer_over_both_versions_of_http() {
    if std::process::Command::new("curl").arg("--version").output().is_err() {
        eprintln!("not run: there is no curl");
        return;
    }
    let cluster = Cluster::start().await;
    let (url, _scope) = serve(&cluster);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    std::fs::write(&file, vec![b'x'; 4 * BODY_LIMIT]).unwrap();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let mut curl = tokio::process::Command::new("curl");
        curl.args(["-sS", "--max-time", "20", version, "-H", "Content-Type: application/json"]);
        curl.args(["-H", "Expect:", "--data-binary"]).arg(format!("@{}", file.display()));
        let output = curl.arg(&url).output().await.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{version}: {errors}");
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((status["code"].as_u64(), status["kind"].as_str()), (Some(413), Some("Status")));
    }
}

#[tokio::test]
async fn the_parts_of_the_control_plane_say_whether_they_run_with_a_warning() {
    let cluster = Cluster::start().await;
    let components = cluster.api.components().clone();
    components.add("scheduler", || true);
    components.add("controller-manager", || false);
    let path = "/api/v1/componentstatuses";
    let (head, list) = cluster.send("GET", path, &[], "").await;
    let warning = head.headers.get(WARNING).unwrap();
    assert_eq!(warning, "299 - \"v1 ComponentStatus is deprecated in v1.19+\"");
    assert_eq!(list["kind"], "ComponentStatusList");
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let (_, table) = cluster.send("GET", path, &[(ACCEPT, table)], "").await;
    let cells: Vec<_> = table["rows"].as_array().unwrap().iter().map(|it| &it["cells"]).collect();
    assert_eq!(*cells[0], json!(["scheduler", "Healthy", "ok", ""]));
    assert_eq!(*cells[1], json!(["controller-manager", "Unhealthy", "", "it does not run"]));
    assert_eq!(*cells[2], json!(["etcd-0", "Healthy", "ok", ""]));
    let one = cluster.get(&format!("{path}/etcd-0")).await;
    assert_eq!(
        (&one["kind"], &one["conditions"][0]["status"]),
        (&json!("ComponentStatus"), &json!("True"))
    );
    let (head, status) = cluster.send("GET", &format!("{path}/nobody"), &[], "").await;
    assert_eq!(
        (head.status.as_u16(), &status["message"]),
        (500, &json!("Component not found: nobody"))
    );
    let by_name = cluster.get(&format!("{path}?fieldSelector=metadata.name%3Dscheduler")).await;
    assert_eq!(by_name["items"].as_array().unwrap().len(), 1);
    assert_eq!(cluster.post(path, json!({})).await.0, 405);
}

#[tokio::test]
async fn unknown_fields_warn_and_can_be_refused() {
    let cluster = Cluster::start().await;
    let body = json!({"metadata": {"name": "a"}, "dada": {}}).to_string();
    let strict = format!("{MAPS}?fieldValidation=Strict");
    let (_, refused) = cluster.send("POST", &strict, &[], body.clone()).await;
    assert_eq!(
        refused["message"],
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: \
         unknown field \"dada\""
    );
    let (head, _) = cluster.send("POST", MAPS, &[], body).await;
    assert_eq!(head.status, 201);
    assert_eq!(head.headers[WARNING], "299 - \"unknown field \\\"dada\\\"\"");
}

#[tokio::test]
async fn yaml_goes_in_and_out() {
    let cluster = Cluster::start().await;
    let yaml = "metadata:\n  name: yam\ndata:\n  a: b\n";
    let headers = [(CONTENT_TYPE, "application/yaml"), (ACCEPT, "application/yaml")];
    let (head, _) = cluster.send("POST", MAPS, &headers, yaml).await;
    assert_eq!(head.status, 201);
    assert_eq!(head.headers[CONTENT_TYPE], "application/yaml");
    assert_eq!(cluster.get(&format!("{MAPS}/yam")).await["data"], json!({"a": "b"}));
}

#[tokio::test]
async fn long_lists_are_compressed_for_those_who_can_take_it() {
    let cluster = Cluster::start().await;
    for number in 0..4 {
        let body =
            json!({"metadata": {"name": format!("m{number}")}, "data": {"a": "x".repeat(50_000)}});
        cluster.post(MAPS, body).await;
    }
    let (head, _) = cluster.send("GET", MAPS, &[(ACCEPT_ENCODING, "gzip")], "").await;
    assert_eq!(head.headers[CONTENT_ENCODING], "gzip");
    let (head, list) = cluster.send("GET", MAPS, &[], "").await;
    assert!(!head.headers.contains_key(CONTENT_ENCODING));
    assert_eq!(list["items"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn dry_runs_answer_and_store_nothing() {
    let cluster = Cluster::start().await;
    let body = json!({"metadata": {"generateName": "g-"}});
    let (code, made) = cluster.post(&format!("{MAPS}?dryRun=All"), body.clone()).await;
    assert_eq!(code, 201);
    let name = made["metadata"]["name"].as_str().unwrap();
    assert_eq!(name.len(), 7);
    assert_eq!(cluster.get(MAPS).await["items"], json!([]));
    let (_, one) = cluster.post(MAPS, body.clone()).await;
    let (_, two) = cluster.post(MAPS, body).await;
    assert_ne!(one["metadata"]["name"], two["metadata"]["name"]);
}

#[tokio::test]
async fn discovery_says_the_same_in_both_forms() {
    let cluster = Cluster::start().await;
    let plain = cluster.get("/apis/apps/v1").await;
    let names = |list: &serde_json::Value, field: &str| -> Vec<String> {
        let items = list.as_array().unwrap().iter();
        items
            .filter_map(|it| it[field].as_str())
            .filter(|it| !it.contains('/'))
            .map(str::to_owned)
            .collect()
    };
    let accept =
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let (head, aggregated) = cluster.send("GET", "/apis", &[(ACCEPT, accept)], "").await;
    assert!(head.headers[CONTENT_TYPE].to_str().unwrap().contains("apidiscovery.k8s.io"));
    let groups = aggregated["items"].as_array().unwrap();
    let apps = groups.iter().find(|it| it["metadata"]["name"] == "apps").unwrap();
    let found = names(&apps["versions"][0]["resources"], "resource");
    assert_eq!(found, names(&plain["resources"], "name"));
    assert_eq!(cluster.get("/version").await["gitVersion"], "v1.36.2-eks-nodestead");
    assert!(!cluster.serves("/apis/nope/v1").await);
}

#[tokio::test]
async fn openapi_documents_close_over_their_references() {
    let cluster = Cluster::start().await;
    let index = cluster.get("/openapi/v3").await;
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let document = cluster.get(url).await;
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let text = document["components"].to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name}");
    }
    let spec = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(spec["x-kubernetes-patch-merge-key"], "name");
    let second = cluster.get("/openapi/v2").await;
    let spec = &second["definitions"]["io.k8s.api.core.v1.Pod"]["properties"]["spec"];
    assert_eq!(spec["$ref"], "#/definitions/io.k8s.api.core.v1.PodSpec");
    assert!(spec["description"].is_string() && spec["allOf"].is_null(), "{spec}");
}

#[tokio::test]
async fn those_without_rights_are_told_which_they_lack() {
    let cluster = Cluster::start().await;
    let client = cluster.api.client(UserInfo::new("eve", &[]));
    let maps = kube::Api::<k8s_openapi::api::core::v1::ConfigMap>::namespaced(client, "default");
    let error = maps.get("x").await.unwrap_err().to_string();
    assert!(
        error.contains(
            "configmaps \"x\" is forbidden: User \"eve\" cannot get resource \"configmaps\" in API \
             group \"\" in the namespace \"default\""
        ),
        "{error}"
    );
}

#[tokio::test]
async fn requests_without_credentials_reach_health_only() {
    let cluster = Cluster::start().await;
    let (api, scope) = (cluster.api.clone(), Scope::new());
    drop(scope.spawn("upkeep", async move { api.maintain().await }));
    tokio::task::yield_now().await;
    use tower::ServiceExt;
    for (path, code) in
        [("/healthz", 200), ("/livez", 200), ("/version", 401), ("/api/v1/nodes", 401)]
    {
        let request = http::Request::get(path).body(transport::empty()).unwrap();
        let response = cluster.api.service().oneshot(request).await.unwrap();
        assert_eq!(response.status(), code, "{path}");
    }
}

#[tokio::test]
async fn health_names_what_has_begun_and_fails_until_all_has() {
    let cluster = Cluster::start().await;
    let readyz = async |path: &str| {
        let (head, body) = cluster.exchange("GET", path, &[], "").await;
        (head.status.as_u16(), String::from_utf8(body.into()).unwrap())
    };
    let (code, said) = readyz("/readyz").await;
    assert_eq!(code, 500, "{said}");
    assert!(said.contains("[+]poststarthook/rbac/bootstrap-roles ok\n"), "{said}");
    let waited_for = "poststarthook/start-apiextensions-controllers";
    assert!(said.contains(&format!("[-]{waited_for} failed: reason withheld\n")), "{said}");
    assert_eq!(readyz(&format!("/livez/{waited_for}")).await.0, 500);

    let (api, scope) = (cluster.api.clone(), Scope::new());
    drop(scope.spawn("upkeep", async move { api.maintain().await }));
    tokio::task::yield_now().await;
    assert_eq!(readyz(&format!("/livez/{waited_for}")).await, (200, "ok".to_owned()));
    let (code, said) = readyz("/readyz?verbose").await;
    assert!(code == 200 && said.ends_with("readyz check passed\n"), "{code} {said}");
    assert_eq!(readyz("/readyz/informer-sync").await.0, 200);
    assert_eq!(readyz("/livez/informer-sync").await.0, 404);
}

#[tokio::test]
async fn aggregated_discovery_is_not_sent_again_to_who_has_it() {
    let cluster = Cluster::start().await;
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let (head, _) = cluster.exchange("GET", "/apis", &[(ACCEPT, accept)], "").await;
    let etag = head.headers[ETAG].to_str().unwrap();
    let known = [(ACCEPT, accept), (IF_NONE_MATCH, etag)];
    let (same, body) = cluster.exchange("GET", "/apis", &known, "").await;
    assert_eq!((same.status.as_u16(), body.len()), (304, 0));
    let (other, _) = cluster.exchange("GET", "/api", &known, "").await;
    assert_eq!(other.status.as_u16(), 200);
}

#[tokio::test]
async fn both_event_groups_show_one_set_of_events() {
    let cluster = Cluster::start().await;
    let event = json!({
        "metadata": {"name": "e"}, "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "R", "note": "N", "type": "Normal", "action": "A",
        "reportingController": "c", "reportingInstance": "i",
        "eventTime": "2026-01-01T00:00:00.000000Z",
    });
    let (code, made) =
        cluster.post("/apis/events.k8s.io/v1/namespaces/default/events", event).await;
    assert_eq!((code.as_u16(), made["note"].as_str()), (201, Some("N")), "{made}");
    let core = cluster.get("/api/v1/namespaces/default/events/e").await;
    assert_eq!((&core["message"], &core["involvedObject"]["name"]), (&json!("N"), &json!("p")));
    let path = "/apis/events.k8s.io/v1/namespaces/default/events?fieldSelector=regarding.name%3Dp";
    assert_eq!(cluster.get(path).await["items"][0]["apiVersion"], "events.k8s.io/v1");
}

#[tokio::test]
async fn an_autoscaler_can_be_written_in_one_version_and_read_in_the_other() {
    const V1: &str = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
    const V2: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let cluster = Cluster::start().await;
    let target = json!({"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"});
    let old = json!({
        "metadata": {"name": "h"},
        "spec": {"scaleTargetRef": target, "maxReplicas": 3, "targetCPUUtilizationPercentage": 70},
    });
    let (code, made) = cluster.post(V1, old).await;
    assert_eq!(
        (code.as_u16(), made["apiVersion"].as_str()),
        (201, Some("autoscaling/v1")),
        "{made}"
    );
    assert_eq!(made["spec"]["targetCPUUtilizationPercentage"], 70, "{made}");
    let new = cluster.get(&format!("{V2}/h")).await;
    let metric = &new["spec"]["metrics"][0]["resource"];
    assert_eq!(
        (&metric["name"], &metric["target"]["averageUtilization"]),
        (&json!("cpu"), &json!(70))
    );
    let listed = cluster.get(V1).await;
    let first = &listed["items"][0];
    assert_eq!(
        (&listed["kind"], &first["spec"]["minReplicas"]),
        (&json!("HorizontalPodAutoscalerList"), &json!(1))
    );
    assert!(first["spec"].get("metrics").is_none(), "{listed}");
    let patch = [(CONTENT_TYPE, "application/merge-patch+json")];
    let body = r#"{"spec":{"targetCPUUtilizationPercentage":40}}"#;
    cluster.send("PATCH", &format!("{V1}/h"), &patch, body).await;
    let new = cluster.get(&format!("{V2}/h")).await;
    assert_eq!(new["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 40, "{new}");
    let group = cluster.get("/apis/autoscaling").await;
    assert_eq!(group["preferredVersion"]["version"], "v2", "{group}");
}

#[tokio::test]
async fn the_same_audit_id_comes_back() {
    let cluster = Cluster::start().await;
    let header = (HeaderName::from_static("audit-id"), "abc");
    let (head, _) = cluster.send("GET", "/api/v1/nodes", &[header], "").await;
    assert_eq!(head.headers["audit-id"], "abc");
}

#[tokio::test]
async fn an_answer_says_of_which_flow_it_is() {
    let cluster = Cluster::start().await;
    let flows = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let uid = |object: serde_json::Value| object["metadata"]["uid"].as_str().unwrap().to_owned();
    let schema = uid(cluster.get(&format!("{flows}/flowschemas/exempt")).await);
    let level = uid(cluster.get(&format!("{flows}/prioritylevelconfigurations/exempt")).await);
    for path in ["/api/v1/nodes", "/api/v1/namespaces/none/pods/nope"] {
        let (head, _) = cluster.send("GET", path, &[], "").await;
        assert_eq!(head.headers["x-kubernetes-pf-flowschema-uid"], schema, "{path}");
        assert_eq!(head.headers["x-kubernetes-pf-prioritylevel-uid"], level, "{path}");
    }
    let dangling = cluster.get(&format!("{flows}/flowschemas/system-nodes")).await;
    assert_eq!(dangling["status"]["conditions"][0]["status"], "False");
}

#[tokio::test]
async fn a_start_over_what_is_there_already_writes_nothing() {
    let store = mvcc::Store::memory();
    let first = Cluster::over(store.clone()).await;
    first.api.set_endpoints(&["192.0.2.1".parse().unwrap()]).await.unwrap();
    drop(first);
    Cluster::over(store.clone())
        .await
        .api
        .set_endpoints(&["192.0.2.1".parse().unwrap()])
        .await
        .unwrap();
    let revision = store.revision();
    Cluster::over(store.clone())
        .await
        .api
        .set_endpoints(&["192.0.2.1".parse().unwrap()])
        .await
        .unwrap();
    let prefixes = ["flowcontrol.apiserver.k8s.io/", "networking.k8s.io/", "core/services/"];
    let mut written = Vec::new();
    let mut watcher = store.watch("", revision).unwrap();
    while let Some(event) = watcher.try_next() {
        written.extend(event.record.as_ref().map(|it| it.key.to_string()));
    }
    written.retain(|it| prefixes.iter().any(|prefix| it.starts_with(prefix)));
    assert_eq!(written, [""; 0]);
}

#[tokio::test]
async fn a_default_binding_of_another_role_is_made_anew_at_the_next_start() {
    let store = mvcc::Store::memory();
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    let path = format!("{bindings}/system:basic-user");
    let first = Cluster::over(store.clone()).await;
    let made = first.get(&path).await;
    assert_eq!(made["roleRef"]["name"], "system:basic-user");
    let mut other = made.clone();
    other["metadata"] = json!({"name": "system:basic-user"});
    other["roleRef"]["name"] = "cluster-admin".into();
    assert_eq!(first.delete(&path).await.0, 200);
    assert_eq!(first.post(bindings, other).await.0, 201);
    let again = Cluster::over(store).await.get(&path).await;
    assert_eq!((&again["roleRef"], &again["subjects"]), (&made["roleRef"], &made["subjects"]));
}

#[tokio::test]
async fn namespaces_go_one_by_one() {
    let cluster = Cluster::start().await;
    let (code, answer) = cluster.delete("/api/v1/namespaces").await;
    assert_eq!((code.as_u16(), &answer["reason"]), (405, &json!("MethodNotAllowed")));
    let list = cluster.get("/api/v1").await;
    let entry = list["resources"].as_array().unwrap().iter().find(|it| it["name"] == "namespaces");
    assert!(!entry.unwrap()["verbs"].as_array().unwrap().contains(&json!("deletecollection")));
}

#[tokio::test]
async fn a_field_that_cannot_be_selected_by_is_told_in_the_words_of_its_kind() {
    let cluster = Cluster::start().await;
    for (plural, told) in [
        ("pods", "field label not supported: spec.x"),
        (
            "configmaps",
            "\"spec.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
        ),
    ] {
        let path = format!("/api/v1/namespaces/default/{plural}?fieldSelector=spec.x%3Dy");
        let refused = cluster.get(&path).await;
        assert_eq!((&refused["code"], &refused["message"]), (&400.into(), &told.into()));
    }
}
