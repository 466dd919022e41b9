//! Extenders as HTTP servers: what they are sent, what they may answer, and how they fail.

use std::{sync::Arc, time::Duration};

use http::{Response, StatusCode};
use lifecycle::Scope;
use parking_lot::Mutex;
use scheduling::{PodInfo, Reason, Verdict};
use serde_json::{Value, json};
use tower::service_fn;
use transport::{Body, Place, full};

use super::*;

/// A server on the loopback: what it was sent, and what it answers.
struct Fake {
    url: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    scope: Scope,
}

impl Fake {
    fn start(answer: impl Fn(&str) -> (StatusCode, Value) + Send + Sync + 'static) -> Self {
        Self::start_with(None, Duration::ZERO, answer)
    }

    fn start_with(
        tls: Option<Arc<tokio_rustls::rustls::ServerConfig>>,
        delay: Duration,
        answer: impl Fn(&str) -> (StatusCode, Value) + Send + Sync + 'static,
    ) -> Self {
        let listener = Place::Here.listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let asked = Arc::<Mutex<Vec<_>>>::default();
        let (noted, answer) = (asked.clone(), Arc::new(answer));
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let (noted, answer) = (noted.clone(), answer.clone());
            async move {
                let path = request.uri().path().to_owned();
                let body = transport::collect(request.into_body(), 1 << 20).await.unwrap().unwrap();
                noted.lock().push((path.clone(), serde_json::from_slice(&body).unwrap()));
                tokio::time::sleep(delay).await;
                let (code, value) = answer(&path);
                let mut response: Response<Body> = Response::new(full(value.to_string()));
                *response.status_mut() = code;
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let scope = Scope::new();
        drop(scope.spawn("fake", transport::serve(listener, tls, service, scope.clone())));
        Self { url: format!("{scheme}://{address}/scheduler/"), asked, scope }
    }

    fn extender(&self, config: Value) -> Extender {
        let mut config: ExtenderConfig = serde_json::from_value(config).unwrap();
        config.url_prefix.clone_from(&self.url);
        dialled(&[config]).unwrap().remove(0)
    }

    fn asked(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut *self.asked.lock())
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

fn of<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn pod() -> Pod {
    of(json!({ "metadata": { "name": "p", "namespace": "ns", "uid": "u" },
        "spec": { "containers": [{ "name": "c" }] } }))
}

fn nodes() -> Vec<Node> {
    ["a", "b", "c"].map(|it| of(json!({ "metadata": { "name": it } }))).into()
}

async fn filter(extender: &Extender) -> Result<Filtered, String> {
    let nodes = nodes();
    let asked: Vec<&Node> = nodes.iter().collect();
    let filtered = extender.filter(&pod(), &asked).await;
    filtered.map_err(|it| telemetry::chain(&it).to_string())
}

fn refused(message: &str) -> Vec<Reason> {
    vec![Reason::Extender { message: message.into() }]
}

#[tokio::test]
async fn an_extender_with_a_cache_of_its_own_is_asked_by_name_and_says_who_fails() {
    let fake = Fake::start(|_| {
        (
            StatusCode::OK,
            json!({ "NodeNames": ["b"],
            "FailedNodes": { "a": "too hot", "c": "too hot" },
            "FailedAndUnresolvableNodes": { "c": "too far" } }),
        )
    });
    let extender = fake.extender(json!({ "filterVerb": "filter", "nodeCacheCapable": true }));
    let filtered = filter(&extender).await.unwrap();
    assert_eq!(filtered.nodes, ["b"]);
    assert_eq!(filtered.refused["a"], Verdict::Refused(refused("too hot")));
    assert_eq!(filtered.refused["c"], Verdict::Hopeless(refused("too far")));
    let (path, body) = fake.asked().remove(0);
    assert_eq!(path, "/scheduler/filter");
    assert_eq!(body["Pod"]["metadata"]["uid"], "u");
    assert_eq!((&body["Nodes"], &body["NodeNames"]), (&Value::Null, &json!(["a", "b", "c"])));
}

#[tokio::test]
async fn an_extender_without_one_gets_whole_nodes_and_its_answer_may_be_in_small_letters() {
    let fake = Fake::start(|_| {
        (
            StatusCode::OK,
            json!({ "nodes": { "items": [{ "metadata": { "name": "c" } }] },
            "failednodes": { "a": "no" }, "error": "" }),
        )
    });
    let filtered = filter(&fake.extender(json!({ "filterVerb": "f" }))).await.unwrap();
    assert_eq!(filtered.nodes, ["c"]);
    assert_eq!(filtered.refused["a"], Verdict::Refused(refused("no")));
    let (_, body) = fake.asked().remove(0);
    let names = body["Nodes"]["items"].as_array().unwrap().iter();
    let names: Vec<_> = names.map(|it| it["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!((names, &body["NodeNames"]), (vec!["a", "b", "c"], &Value::Null));
}

#[tokio::test]
async fn an_extender_that_fails_is_told_in_upstreams_words() {
    let fake = Fake::start(|path| match path {
        "/scheduler/error" => (StatusCode::OK, json!({ "Error": "out of luck" })),
        "/scheduler/code" => (StatusCode::INTERNAL_SERVER_ERROR, json!({})),
        "/scheduler/stranger" => (StatusCode::OK, json!({ "NodeNames": ["z"] })),
        _ => (StatusCode::OK, json!("nothing")),
    });
    let ask = async |verb: &str| {
        let config = json!({ "filterVerb": verb, "nodeCacheCapable": true });
        filter(&fake.extender(config)).await.unwrap_err()
    };
    assert_eq!(ask("error").await, "out of luck");
    let url = &fake.url;
    let code = format!("failed code with extender at URL {url}code, code 500");
    assert_eq!(ask("code").await, code);
    let stranger = format!(
        "extender \"{url}\" claims a filtered node \"z\" which is not found in the input node list"
    );
    assert_eq!(ask("stranger").await, stranger);
    assert!(ask("text").await.contains("no object"));
}

#[tokio::test]
async fn an_extender_has_its_time_and_no_more() {
    let slow = Duration::from_secs(60);
    let fake = Fake::start_with(None, slow, |_| (StatusCode::OK, json!({})));
    let before = std::time::Instant::now();
    let told = filter(&fake.extender(json!({ "filterVerb": "f", "httpTimeout": "100ms" }))).await;
    let told = told.unwrap_err();
    assert!(told.contains("100ms") && told.starts_with("Post \"http://"), "{told}");
    assert!(before.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn scores_are_weighted_and_brought_to_the_plug_ins_scale() {
    let fake = Fake::start(|_| {
        (StatusCode::OK, json!([{ "Host": "a", "Score": 10 }, { "host": "b", "score": 3 }]))
    });
    let nodes = nodes();
    let nodes: Vec<&Node> = nodes.iter().collect();
    let extender = fake.extender(json!({ "prioritizeVerb": "p", "weight": 2 }));
    let scores = extender.prioritize(&pod(), &nodes).await.unwrap();
    assert_eq!(scores, [("a".to_owned(), 200), ("b".to_owned(), 60)].into());
}

#[tokio::test]
async fn an_extender_that_preempts_chooses_among_candidates_and_victims() {
    let fake = Fake::start(|path| {
        let pods = if path.ends_with("none") { json!([]) } else { json!([{ "UID": "v2" }]) };
        let victims = json!({ "b": { "Pods": pods, "NumPDBViolations": 1 } });
        (StatusCode::OK, json!({ "NodeNameToMetaVictims": victims }))
    });
    let victim =
        |uid: &str| Arc::new(PodInfo::new(&of(json!({ "metadata": { "name": uid, "uid": uid } }))));
    let candidate = |node: &str| Candidate {
        node: node.into(),
        victims: vec![victim("v1"), victim("v2")],
        violations: 0,
    };
    let ask = async |config: Value| {
        let whole = |it: &PodInfo| Some(json!({ "metadata": { "uid": it.uid } }));
        let there = |node: &str, uid: &str| (node == "b").then(|| victim(uid));
        let all = [candidate("a"), candidate("b")];
        let left = fake.extender(config).preempt(&pod(), &all, whole, there).await;
        left.map_err(|it| it.to_string())
    };
    let left = ask(json!({ "preemptVerb": "preempt", "nodeCacheCapable": true })).await.unwrap();
    let [left] = &left[..] else { panic!("{left:?}") };
    assert_eq!((left.node.as_str(), left.violations), ("b", 1));
    assert_eq!(left.victims.iter().map(|it| it.uid.as_str()).collect::<Vec<_>>(), ["v2"]);
    let (_, body) = fake.asked().remove(0);
    assert_eq!(body["NodeNameToVictims"], Value::Null);
    let meta = json!({ "Pods": [{ "UID": "v1" }, { "UID": "v2" }], "NumPDBViolations": 0 });
    assert_eq!(body["NodeNameToMetaVictims"]["a"], meta);

    let none = ask(json!({ "preemptVerb": "none" })).await.unwrap_err();
    assert_eq!(none, "expected at least one victim pod on node \"b\"");
    let (_, body) = fake.asked().remove(0);
    assert_eq!(body["NodeNameToVictims"]["a"]["Pods"][0]["metadata"]["uid"], "v1");
    let passed = ask(json!({ "preemptVerb": "none", "ignorable": true })).await.unwrap();
    assert!(passed.is_empty(), "the node is left out");
}

#[tokio::test]
async fn the_first_extender_that_binds_binds_unless_it_may_fail() {
    let fake = Fake::start(|path| {
        let told = if path.ends_with("fails") { "taken" } else { "" };
        (StatusCode::OK, json!({ "Error": told }))
    });
    let bound = async |config: Value| {
        let all = [fake.extender(json!({ "filterVerb": "f" })), fake.extender(config)];
        let bound = bind(&all, &pod(), "a").await;
        bound.map(|it| it.map_err(|it| it.to_string()))
    };
    assert_eq!(bound(json!({ "bindVerb": "bind" })).await, Some(Ok(())));
    let (path, body) = fake.asked().remove(0);
    let expected = json!({ "PodName": "p", "PodNamespace": "ns", "PodUID": "u", "Node": "a" });
    assert_eq!((path.as_str(), body), ("/scheduler/bind", expected));
    assert_eq!(bound(json!({ "bindVerb": "fails" })).await, Some(Err("taken".into())));
    assert_eq!(bound(json!({ "bindVerb": "fails", "ignorable": true })).await, None);
    let managed = json!([{ "name": "example.com/gpu" }]);
    assert_eq!(bound(json!({ "bindVerb": "bind", "managedResources": managed })).await, None);
}

#[test]
fn an_extender_is_about_pods_that_ask_for_what_it_manages() {
    let exchange: Exchange = Arc::new(|_| unreachable!("nobody is asked"));
    let config = json!({ "managedResources": [{ "name": "example.com/gpu" }] });
    let manages = Extender::new(of(config), exchange.clone());
    let asks = |containers: &str, side: &str| -> Pod {
        let gpu = json!([{ "name": "g", "resources": { side: { "example.com/gpu": "1" } } }]);
        let mut spec = json!({ "containers": [{ "name": "c" }] });
        spec[containers] = gpu;
        of(json!({ "spec": spec }))
    };
    for pod in [asks("containers", "limits"), asks("initContainers", "requests")] {
        assert!(manages.is_interested(&pod));
    }
    assert!(!manages.is_interested(&pod()));
    assert!(Extender::new(of(json!({})), exchange).is_interested(&pod()), "it manages nothing");
}

#[tokio::test]
async fn an_extender_is_known_by_its_certificate_unless_the_file_says_otherwise() {
    let ca = pki::Ca::new("extenders").unwrap();
    let profile = pki::Profile {
        cn: "extender.example".to_owned(),
        organizations: Vec::new(),
        sans: vec!["extender.example".to_owned()],
        usages: vec![pki::Usage::Server],
        not_after: clock::Clock::system().now() + Duration::from_secs(3600),
    };
    let identity = ca.issue(&profile).unwrap();
    let tls = transport::tls::server(&identity, None).unwrap();
    let fake = Fake::start_with(Some(tls), Duration::ZERO, |_| {
        (StatusCode::OK, json!({ "NodeNames": ["a"] }))
    });
    let encode = |pem: &str| {
        use base64::Engine;
        base64::prelude::BASE64_STANDARD.encode(pem)
    };
    let with = async |more: Value| {
        let mut config = json!({ "filterVerb": "f", "nodeCacheCapable": true });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        filter(&fake.extender(config)).await.map(|it| it.nodes)
    };
    let ca_data = encode(ca.certificate_pem());
    let named = json!({ "serverName": "extender.example", "caData": ca_data });
    assert_eq!(with(json!({ "tlsConfig": named })).await.unwrap(), ["a"]);
    let unnamed = with(json!({ "tlsConfig": { "caData": ca_data } })).await.unwrap_err();
    assert!(unnamed.contains("certificate"), "its name is another: {unnamed}");
    let other = encode(pki::Ca::new("others").unwrap().certificate_pem());
    let foreign = json!({ "serverName": "extender.example", "caData": other });
    assert!(with(json!({ "tlsConfig": foreign })).await.is_err());
    assert_eq!(with(json!({ "enableHTTPS": true })).await.unwrap(), ["a"]);
    assert_eq!(with(json!({ "tlsConfig": { "insecure": true } })).await.unwrap(), ["a"]);
}
