//! Webhooks over TLS, asked by the whole server.

use std::{convert::Infallible, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{Request, Response, header::WARNING};
use hyper::body::Incoming;
use lifecycle::Scope;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;
use transport::{Body, Place, tls};

use crate::tests::Cluster;

mod answers;
mod configurations;
mod custom;
mod hostile;
mod reviews;
mod subresources;

const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

type Asked = Arc<Mutex<Vec<Value>>>;

/// A program that answers reviews; `None` is silence.
struct Hook {
    url: String,
    bundle: String,
    asked: Asked,
    _scope: Scope,
}

impl Hook {
    async fn start(
        answer: impl Fn(&Value) -> Option<Value> + Clone + Send + Sync + 'static,
    ) -> Self {
        let asked = Asked::default();
        let heard = asked.clone();
        let service = tower::service_fn(move |request: Request<Incoming>| {
            let (answer, heard) = (answer.clone(), heard.clone());
            async move { Ok::<_, Infallible>(reply(request, &answer, &heard).await) }
        });
        Self::serving(true, asked, service)
    }

    fn serving<S>(has_tls: bool, asked: Asked, service: S) -> Self
    where
        S: tower::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
    {
        let ca = pki::Ca::new("hooks").unwrap();
        let identity = ca
            .issue(&pki::Profile {
                cn: "hook".into(),
                organizations: Vec::new(),
                sans: vec!["127.0.0.1".into()],
                usages: vec![pki::Usage::Server],
                not_after: "2100-01-01T00:00:00Z".parse().unwrap(),
            })
            .unwrap();
        let identity =
            tls::Identity { certificate_pem: identity.certificate_pem, key_pem: identity.key_pem };
        let listener = Place::Here.listen(([127, 0, 0, 1], 0).into()).unwrap();
        let url = format!("https://{}/review", listener.local_addr().unwrap());
        let scope = Scope::new();
        let tls = has_tls.then(|| tls::server(&identity, None).unwrap());
        let serving = transport::serve(listener, tls, service, scope.clone());
        drop(scope.spawn("hook", serving));
        Self { url, bundle: STANDARD.encode(ca.certificate_pem()), asked, _scope: scope }
    }

    /// One that lets everything pass.
    async fn friendly() -> Self {
        Self::start(|_| Some(json!({"allowed": true}))).await
    }

    fn webhook(&self, name: &str, more: Value) -> Value {
        let mut webhook = json!({
            "name": name,
            "clientConfig": {"url": self.url, "caBundle": self.bundle},
            "rules": [{
                "operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"],
                "resources": ["configmaps"],
            }],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            webhook[key] = value.clone();
        }
        webhook
    }

    fn count(&self) -> usize {
        self.asked.lock().len()
    }
}

async fn reply(
    request: Request<Incoming>,
    answer: &impl Fn(&Value) -> Option<Value>,
    heard: &Asked,
) -> Response<Body> {
    let body = transport::collect(request.into_body(), 1 << 20).await.unwrap().unwrap();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let asked = review["request"].clone();
    heard.lock().push(asked.clone());
    let Some(mut response) = answer(&asked) else { return std::future::pending().await };
    if response.get("uid").is_none() {
        response["uid"] = asked["uid"].clone();
    }
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response,
    });
    Response::new(transport::full(review.to_string()))
}

fn patch(operations: &Value) -> Value {
    json!({
        "allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(operations.to_string()),
    })
}

async fn configure(cluster: &Cluster, kind: &str, name: &str, webhooks: Vec<Value>) {
    let path = format!("{CONFIGURATIONS}/{kind}webhookconfigurations");
    let made = cluster.post(&path, json!({"metadata": {"name": name}, "webhooks": webhooks})).await;
    assert_eq!(made.0, 201, "{}", made.1);
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"a": "b"}})
}

#[tokio::test]
async fn a_mutating_webhook_changes_what_is_stored_and_a_validating_one_sees_it() {
    let cluster = Cluster::start().await;
    let change = json!([
        {"op": "add", "path": "/metadata/labels", "value": {"by": "hook"}},
        {"op": "add", "path": "/unknown", "value": 1},
    ]);
    let mutating = Hook::start(move |_| Some(patch(&change))).await;
    let validating = Hook::friendly().await;
    let hook = mutating.webhook("m.example.com", json!({}));
    configure(&cluster, "mutating", "m", vec![hook]).await;
    let hook = validating.webhook("v.example.com", json!({}));
    configure(&cluster, "validating", "v", vec![hook]).await;
    let (code, made) = cluster.post(MAPS, map("one")).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["metadata"]["labels"]["by"], "hook");
    assert!(made.get("unknown").is_none(), "what the type does not have is dropped: {made}");
    let asked = validating.asked.lock()[0].clone();
    assert_eq!(asked["object"]["metadata"]["labels"]["by"], "hook");
    assert_eq!(asked["kind"], json!({"group": "", "version": "v1", "kind": "ConfigMap"}));
    assert_eq!(asked["resource"], json!({"group": "", "version": "v1", "resource": "configmaps"}));
    assert_eq!((&asked["operation"], &asked["name"]), (&json!("CREATE"), &json!("one")));
    assert_eq!((&asked["namespace"], &asked["oldObject"]), (&json!("default"), &Value::Null));
    assert_eq!(asked["userInfo"]["username"], "admin");
    assert_eq!(
        (&asked["dryRun"], &asked["options"]["kind"]),
        (&json!(false), &json!("CreateOptions"))
    );

    let (code, _) = cluster.delete(&format!("{MAPS}/one")).await;
    assert_eq!(code, 500, "a deleted object cannot be changed");
    let asked = mutating.asked.lock().last().unwrap().clone();
    assert_eq!((&asked["operation"], &asked["object"]), (&json!("DELETE"), &Value::Null));
    assert_eq!(asked["oldObject"]["metadata"]["name"], "one");
}

#[tokio::test]
async fn a_refusal_is_told_in_the_webhooks_words_and_nothing_is_stored() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(|asked| {
        Some(match asked["name"].as_str() {
            Some("silent") => json!({"allowed": false}),
            Some("coded") => json!({
                "allowed": false, "status": {"code": 403, "reason": "Forbidden", "message": "no b"},
            }),
            _ => json!({"allowed": true, "warnings": ["careful"]}),
        })
    })
    .await;
    let webhook = hook.webhook("v.example.com", json!({}));
    configure(&cluster, "validating", "v", vec![webhook]).await;
    let (code, status) = cluster.post(MAPS, map("silent")).await;
    assert_eq!(code, 400, "{status}");
    let told = "admission webhook \"v.example.com\" denied the request without explanation";
    assert_eq!(status["message"], told);
    let (code, status) = cluster.post(MAPS, map("coded")).await;
    assert_eq!((code.as_u16(), &status["reason"]), (403, &json!("Forbidden")));
    let told = "admission webhook \"v.example.com\" denied the request: no b";
    assert_eq!(status["message"], told);
    assert_eq!(cluster.get(&format!("{MAPS}/coded")).await["code"], 404);
    let (head, _) = cluster.send("POST", MAPS, &[], map("fine").to_string()).await;
    assert_eq!(
        (head.status.as_u16(), &head.headers[WARNING]),
        (201, &"299 - \"careful\"".parse().unwrap())
    );
}

#[tokio::test]
async fn only_what_rules_selectors_and_conditions_name_is_asked_about() {
    let cluster = Cluster::start().await;
    let hook = Hook::friendly().await;
    let more = json!({
        "objectSelector": {"matchLabels": {"ask": "yes"}},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}},
        "matchConditions": [
            {"name": "not-skipped", "expression": "!(request.name.startsWith('skip'))"},
            {"name": "has-data", "expression": "object.data.size() == 1"},
        ],
    });
    let webhook = hook.webhook("v.example.com", more);
    configure(&cluster, "validating", "v", vec![webhook]).await;
    let asked = |name: &str| {
        let mut map = map(name);
        map["metadata"]["labels"] = json!({"ask": "yes"});
        map
    };
    assert_eq!(cluster.post(MAPS, asked("one")).await.0, 201);
    assert_eq!(hook.count(), 1);
    assert_eq!(cluster.post(MAPS, map("unlabelled")).await.0, 201);
    assert_eq!(cluster.post(MAPS, asked("skipped")).await.0, 201);
    let elsewhere = MAPS.replace("default", "kube-system");
    assert_eq!(cluster.post(&elsewhere, asked("elsewhere")).await.0, 201);
    let secrets = MAPS.replace("configmaps", "secrets");
    let mut secret = asked("secret");
    secret["data"] = json!({});
    assert_eq!(cluster.post(&secrets, secret).await.0, 201);
    assert_eq!(hook.count(), 1);
    // A condition that cannot be decided is a failure, and this policy refuses.
    let mut odd = asked("odd");
    odd.as_object_mut().unwrap().remove("data");
    let (code, status) = cluster.post(MAPS, odd).await;
    assert_eq!((code.as_u16(), hook.count()), (403, 1), "{status}");
    let told = "configmaps \"odd\" is forbidden: expression 'object.data.size() == 1' resulted in \
                error: no such key: data";
    assert_eq!(status["message"], told);
    let measures = cluster.text("/metrics").await;
    let of = "kind=\"webhook\",name=\"v.example.com\",operation=\"CREATE\",type=\"validating\"";
    for (name, count) in
        [("evaluation_seconds_count", 3), ("exclusions_total", 1), ("evaluation_errors_total", 1)]
    {
        let line = format!("apiserver_admission_match_condition_{name}{{{of}}} {count}");
        assert!(measures.lines().any(|it| it == line), "{line}");
    }
}

#[tokio::test]
async fn a_webhook_that_hangs_lies_or_is_gone_refuses_or_is_passed_by() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(|asked| match asked["name"].as_str() {
        Some("hangs") => None,
        Some("lies") => Some(json!({"uid": "another", "allowed": true})),
        Some("patches") => Some(patch(&json!([]))),
        _ => Some(json!({"allowed": true})),
    })
    .await;
    let webhook = |more| hook.webhook("v.example.com", more);
    let strict = webhook(json!({"timeoutSeconds": 1}));
    configure(&cluster, "validating", "v", vec![strict]).await;
    let prefix = "Internal error occurred: failed calling webhook \"v.example.com\": ";
    let begun = Instant::now();
    let (code, status) = cluster.post(MAPS, map("hangs")).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    let late = format!(
        "{prefix}failed to call webhook: Post \"{}?timeout=1s\": context deadline exceeded",
        hook.url
    );
    assert_eq!((code.as_u16(), &status["message"]), (500, &json!(late)));
    let (_, status) = cluster.post(MAPS, map("lies")).await;
    let message = status["message"].as_str().unwrap();
    assert!(
        message.starts_with(&format!(
            "{prefix}received invalid webhook response: expected response.uid="
        )),
        "{message}"
    );
    let (_, status) = cluster.post(MAPS, map("patches")).await;
    let told = format!(
        "{prefix}received invalid webhook response: validating webhook may not return response.patch"
    );
    assert_eq!(status["message"], told);
    // Nobody listens, and the policy is to go on.
    let lenient = json!({
        "failurePolicy": "Ignore", "clientConfig": {"url": "https://127.0.0.1:1/x"},
    });
    let path = format!("{CONFIGURATIONS}/validatingwebhookconfigurations/v");
    let mut configuration = cluster.get(&path).await;
    configuration["webhooks"] = json!([webhook(lenient)]);
    assert_eq!(cluster.put(&path, configuration).await.0, 200);
    assert_eq!(cluster.post(MAPS, map("hangs")).await.0, 201);
}

#[tokio::test]
async fn a_service_without_endpoints_is_told_of() {
    let cluster = Cluster::start().await;
    let hook = Hook::friendly().await;
    let service = json!({"clientConfig": {
        "service": {"namespace": "default", "name": "hooks", "path": "/v"},
    }});
    let webhook = hook.webhook("v.example.com", service);
    configure(&cluster, "validating", "v", vec![webhook]).await;
    let (code, status) = cluster.post(MAPS, map("one")).await;
    assert_eq!(code, 500);
    assert_eq!(
        status["message"],
        "Internal error occurred: failed calling webhook \"v.example.com\": failed to call webhook: \
         Post \"https://hooks.default.svc:443/v?timeout=10s\": service \"hooks\" not found"
    );
    // The way out is not barred.
    let path = format!("{CONFIGURATIONS}/validatingwebhookconfigurations/v");
    assert_eq!(cluster.delete(&path).await.0, 200);
    assert_eq!(cluster.post(MAPS, map("one")).await.0, 201);
}

#[tokio::test]
async fn who_wants_to_know_is_asked_again_after_a_later_change() {
    let cluster = Cluster::start().await;
    let first = Hook::start(|asked| {
        let seen = asked["object"]["data"]["late"].is_string().to_string();
        Some(patch(&json!([{"op": "add", "path": "/data/seen", "value": seen}])))
    })
    .await;
    let change = json!([{"op": "add", "path": "/data/late", "value": "x"}]);
    let second = Hook::start(move |_| Some(patch(&change))).await;
    let again = first.webhook("a.example.com", json!({"reinvocationPolicy": "IfNeeded"}));
    let once = second.webhook("b.example.com", json!({}));
    configure(&cluster, "mutating", "m", vec![again, once]).await;
    let (_, made) = cluster.post(MAPS, map("one")).await;
    assert_eq!(made["data"], json!({"a": "b", "late": "x", "seen": "true"}));
    assert_eq!((first.count(), second.count()), (2, 1));
}

#[tokio::test]
async fn a_dry_run_asks_only_those_without_effects() {
    let cluster = Cluster::start().await;
    let hook = Hook::friendly().await;
    let webhook = hook.webhook("v.example.com", json!({"sideEffects": "NoneOnDryRun"}));
    configure(&cluster, "validating", "v", vec![webhook]).await;
    let (code, _) = cluster.post(&format!("{MAPS}?dryRun=All"), map("one")).await;
    assert_eq!((code.as_u16(), &hook.asked.lock()[0]["dryRun"]), (201, &json!(true)));
}

#[tokio::test]
async fn a_configuration_that_could_not_work_is_refused() {
    let cluster = Cluster::start().await;
    let hook = Hook::friendly().await;
    let webhook = hook.webhook(
        "short",
        json!({
            "sideEffects": "Some", "timeoutSeconds": 31, "admissionReviewVersions": ["v7"],
            "clientConfig": {"url": "http://example.com"},
            "matchConditions": [{"name": "c", "expression": "object."}],
        }),
    );
    let path = format!("{CONFIGURATIONS}/validatingwebhookconfigurations");
    let body = json!({"metadata": {"name": "v"}, "webhooks": [webhook]});
    let (code, status) = cluster.post(&path, body).await;
    assert_eq!(code, 422);
    let causes = status["details"]["causes"].as_array().unwrap();
    let fields: Vec<_> = causes.iter().map(|it| it["field"].as_str().unwrap()).collect();
    let expected = [
        "name",
        "sideEffects",
        "timeoutSeconds",
        "clientConfig.url",
        "matchConditions[0].expression",
        "admissionReviewVersions",
    ];
    assert_eq!(fields, expected.map(|it| format!("webhooks[0].{it}")));
}

#[tokio::test]
async fn a_stream_into_a_pod_is_refused_by_who_is_asked_about_connections() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(|asked| {
        let is_denied = asked["name"] == "to-be-attached-pod";
        let why = json!({"message": "attaching to pod 'to-be-attached-pod' is not allowed"});
        Some(json!({"allowed": !is_denied, "status": why}))
    })
    .await;
    let mut webhook = hook.webhook("v.example.com", json!({}));
    webhook["rules"] = json!([{"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"],
        "resources": ["pods/attach"]}]);
    configure(&cluster, "validating", "v", vec![webhook]).await;
    let pods = "/api/v1/namespaces/default/pods";
    let path = format!("{pods}/to-be-attached-pod/attach?container=c&stdin=true&stdout=true");
    let (head, refused) = cluster.send("POST", &path, &[], "").await;
    assert_eq!(head.status, 400, "{refused}");
    let told = "admission webhook \"v.example.com\" denied the request: attaching to pod \
                'to-be-attached-pod' is not allowed";
    assert_eq!(refused["message"], told);
    let asked = hook.asked.lock()[0].clone();
    assert_eq!((&asked["operation"], &asked["subResource"]), (&json!("CONNECT"), &json!("attach")));
    let options = json!({"kind": "PodAttachOptions", "apiVersion": "v1", "container": "c",
        "stdin": true, "stdout": true});
    assert_eq!((&asked["object"], &asked["oldObject"]), (&options, &Value::Null));
    assert_eq!(asked["kind"]["kind"], "PodAttachOptions");
    let (head, _) = cluster.send("POST", &format!("{pods}/other/attach"), &[], "").await;
    assert_eq!(head.status, 404, "it is let through, to a pod that is not there");
}
