//! What must hold of `audit`.

use futures::StreamExt;
use http::Request;
use tower::ServiceExt;

use super::*;
use crate::{ApiServer, Config};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

struct Audited {
    api: ApiServer,
    log: Log,
    folder: tempfile::TempDir,
}

impl Audited {
    async fn start(rules: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{rules}");
        let rotation = Rotation { bytes: 1 << 20, backups: 0 };
        let log = Log::open(&folder.path().join("a"), Policy::parse(&text).unwrap(), rotation);
        let mut config = Config::new(mvcc::Store::memory(), Clock::system());
        let log = log.unwrap();
        config.audit = Some(log.clone());
        Self { api: ApiServer::start(config).await.unwrap(), log, folder }
    }

    async fn send(&self, user: &UserInfo, request: Request<Body>) -> Response<Body> {
        self.api.service_as(user.clone()).oneshot(request).await.unwrap()
    }

    async fn events(&self) -> Vec<Value> {
        self.log.written().await;
        let text = std::fs::read_to_string(self.folder.path().join("a")).unwrap();
        text.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
    }
}

fn post(body: &Value) -> Request<Body> {
    Request::post(MAPS)
        .header(header::USER_AGENT, "test/1")
        .header("audit-id", "the-id")
        .header("accept-encoding", "gzip")
        .body(transport::full(body.to_string()))
        .unwrap()
}

#[tokio::test]
async fn a_write_is_told_of_with_what_came_and_what_was_answered() {
    let rules = "- {level: RequestResponse, users: [eve, root], omitStages: [RequestReceived]}";
    let audited = Audited::start(rules).await;
    let map = json!({"metadata": {"name": "m"}, "data": {"k": "v".repeat(200_000)}});
    let root = UserInfo::master("root");
    let response = audited.send(&root, post(&map)).await;
    assert_eq!(response.status(), 201);
    audited.send(&UserInfo::new("eve", &[]), post(&map)).await;
    let events = audited.events().await;
    assert_eq!(events.len(), 2, "the server's own requests fit no rule");
    let made = &events[0];
    assert_eq!((&made["stage"], &made["verb"]), (&json!("ResponseComplete"), &json!("create")));
    assert_eq!((&made["auditID"], &made["userAgent"]), (&json!("the-id"), &json!("test/1")));
    let reference = json!({"resource": "configmaps", "namespace": "default", "name": "m",
        "apiVersion": "v1"});
    assert_eq!(made["objectRef"], reference);
    assert_eq!(made["requestObject"], map);
    assert!(made["responseObject"]["metadata"]["uid"].is_string());
    assert_eq!(made["annotations"]["authorization.k8s.io/decision"], "allow");
    let refused = &events[1];
    assert_eq!(refused["responseStatus"]["code"], 403);
    assert_eq!(refused["annotations"]["authorization.k8s.io/decision"], "forbid");
}

#[tokio::test]
async fn a_client_that_leaves_before_its_answer_is_told_of_all_the_same() {
    let rules = "- {level: Metadata, users: [root], omitStages: [RequestReceived]}";
    let audited = Audited::start(rules).await;
    let service = audited.api.service_as(UserInfo::master("root"));
    // Its body never ends, so that there is no answer.
    let body = futures::stream::pending::<Result<Frame<Bytes>, transport::BoxError>>();
    let request = Request::post(MAPS).body(StreamBody::new(body).boxed_unsync()).unwrap();
    let mut asked = Box::pin(service.oneshot(request));
    assert!(futures::poll!(&mut asked).is_pending());
    drop(asked);
    let events = audited.events().await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["stage"], "ResponseComplete");
    assert!(events[0].get("responseStatus").is_none());
}

#[tokio::test]
async fn metadata_alone_tells_no_bodies() {
    let audited = Audited::start("- {level: Metadata, users: [root]}").await;
    let secret = json!({"metadata": {"name": "s"}, "data": {"k": "hidden"}});
    audited.send(&UserInfo::master("root"), post(&secret)).await;
    let events = audited.events().await;
    let stages: Vec<_> = events.iter().map(|it| it["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["RequestReceived", "ResponseComplete"]);
    assert!(!events.iter().any(|it| it.to_string().contains("hidden")));
    assert_eq!(events[1]["objectRef"]["name"], "s");
}

#[tokio::test]
async fn a_watch_is_told_of_when_it_starts_and_when_it_ends() {
    let audited = Audited::start("- {level: Metadata, verbs: [watch]}").await;
    let request = Request::get(format!("{MAPS}?watch=true")).body(transport::empty()).unwrap();
    let response = audited.send(&UserInfo::master("root"), request).await;
    let stages = |events: Vec<Value>| -> Vec<String> {
        events.iter().map(|it| it["stage"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(stages(audited.events().await), ["RequestReceived", "ResponseStarted"]);
    let mut body = response.into_body().into_data_stream();
    assert!(futures::poll!(body.next()).is_pending());
    drop(body);
    assert_eq!(stages(audited.events().await)[2..], ["ResponseComplete"]);
}

#[tokio::test]
async fn a_pod_that_a_namespace_audits_is_told_of_with_what_it_violates() {
    let audited =
        Audited::start("- {level: Metadata, resources: [{resources: [deployments], group: apps}]}")
            .await;
    let root = UserInfo::master("root");
    let labels = json!({"pod-security.kubernetes.io/audit": "baseline"});
    let patch = json!({"metadata": {"labels": labels}}).to_string();
    let request = Request::patch("/api/v1/namespaces/default")
        .header(header::CONTENT_TYPE, "application/merge-patch+json")
        .body(transport::full(patch))
        .unwrap();
    assert_eq!(audited.send(&root, request).await.status(), 200);
    let pods = json!({"hostPID": true, "containers": [{"name": "c", "image": "i"}]});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": pods}}});
    let request = Request::post("/apis/apps/v1/namespaces/default/deployments")
        .body(transport::full(deployment.to_string()))
        .unwrap();
    assert_eq!(audited.send(&root, request).await.status(), 201);
    let last = audited.events().await.pop().unwrap();
    assert_eq!(
        last["annotations"]["pod-security.kubernetes.io/audit-violations"],
        "would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true)"
    );
}

#[tokio::test]
async fn a_tunnel_is_told_of_as_ended_when_it_ends_not_when_it_opens() {
    let audited = Audited::start("- {level: Metadata, users: [nobody]}").await;
    let info = RequestInfo::parse(&http::Method::POST, "/api/v1/namespaces/n/pods/p/exec", "");
    let head = Request::post("/exec").body(()).unwrap().into_parts().0;
    let (nobody, clock) = (UserInfo::new("nobody", &[]), Clock::system());
    let trace = audited.log.begin("id", &nobody, &info, &head, clock).unwrap();
    let (tunnel, mut response) = (Tunnel::default(), Response::new(transport::empty()));
    response.extensions_mut().insert(tunnel.clone());
    let response = trace.finish(response, None, true).await;
    assert!(response.extensions().get::<Tunnel>().is_none());
    drop(response);
    let last = async || audited.events().await.pop().unwrap()["stage"].clone();
    assert_eq!(last().await, "ResponseStarted");
    drop(tunnel);
    assert_eq!(last().await, "ResponseComplete");
}

#[tokio::test]
async fn who_acts_as_another_is_told_of_as_both_and_a_stranger_as_nobody() {
    let audited =
        Audited::start("- {level: Metadata, resources: [{group: '', resources: [nodes]}]}").await;
    let request = || Request::get("/api/v1/nodes");
    let as_eve = request().header("impersonate-user", "eve").body(transport::empty()).unwrap();
    audited.send(&UserInfo::master("root"), as_eve).await;
    let bad = request().header("authorization", "Bearer x").body(transport::empty()).unwrap();
    audited.api.service().oneshot(bad).await.unwrap();
    let events = audited.events().await;
    let last = |name: &str| {
        events
            .iter()
            .rfind(|it| it["user"]["username"] == name && it["stage"] == "ResponseComplete")
    };
    let acted = last("root").unwrap();
    assert_eq!(acted["impersonatedUser"]["username"], "eve");
    assert_eq!(acted["responseStatus"]["code"], 403);
    assert_eq!(last("").unwrap()["responseStatus"]["code"], 401);
}

#[tokio::test]
async fn what_policies_say_is_in_the_log() {
    let audited = Audited::start("- {level: Metadata, users: [root]}").await;
    let root = UserInfo::master("root");
    let group = "/apis/admissionregistration.k8s.io/v1";
    let make = async |plural: &str, name: &str, spec: Value| {
        let body = json!({"metadata": {"name": name}, "spec": spec}).to_string();
        let request = Request::post(format!("{group}/{plural}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(transport::full(body));
        let answer = audited.send(&root, request.unwrap()).await;
        assert_eq!(answer.status(), 201);
    };
    let spec = json!({
        "matchConstraints": {"resourceRules": [{
            "operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"],
            "resources": ["configmaps"],
        }]},
        "validations": [{"expression": "true"}, {"expression": "object.data.k == 'w'"}],
        "auditAnnotations": [
            {"key": "value", "valueExpression": "'k is ' + object.data.k"},
            {"key": "none", "valueExpression": "null"},
        ],
    });
    make("validatingadmissionpolicies", "p", spec).await;
    let binding = json!({"policyName": "p", "validationActions": ["Audit"]});
    make("validatingadmissionpolicybindings", "b", binding).await;
    let map = json!({"metadata": {"name": "m"}, "data": {"k": "v"}});
    assert_eq!(audited.send(&root, post(&map)).await.status(), 201);
    let event = audited.events().await.pop().unwrap();
    let annotations = &event["annotations"];
    assert_eq!(annotations["p/value"], "k is v");
    assert!(annotations.get("p/none").is_none());
    assert_eq!(annotations["authorization.k8s.io/decision"], "allow");
    let failures = annotations["validation.policy.admission.k8s.io/validation_failure"].as_str();
    assert_eq!(
        serde_json::from_str::<Value>(failures.unwrap()).unwrap(),
        json!([{
            "message": "failed expression: object.data.k == 'w'", "policy": "p", "binding": "b",
            "expressionIndex": 1, "validationActions": ["Audit"],
        }])
    );
}
