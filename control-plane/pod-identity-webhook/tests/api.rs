//! The webhook beside a real API server: asked over TLS on the loopback, with no rights but its
//! role's.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use clock::Clock;
use futures::future::BoxFuture;
use http::{Request, header::WARNING};
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    core::v1::{Event, Namespace, Pod, ServiceAccount},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use kube_apiserver::{ApiServer, request::UserInfo};
use lifecycle::Scope;
use pod_identity_webhook::{Associations, Config, Endpoint, NAME, Webhook};
use serde_json::{Value, json};
use tower::ServiceExt;
use transport::{Place, tls};

const ROLE: &str = "arn:aws:iam::111122223333:role/app";
const USER: &str = "eks:pod-identity-mutating-webhook";

/// Those of the namespace `shop`.
struct Known(BTreeSet<&'static str>);

impl Associations for Known {
    fn has<'a>(&'a self, namespace: &'a str, account: &'a str) -> BoxFuture<'a, bool> {
        let is_known = namespace == "shop" && self.0.contains(account);
        Box::pin(std::future::ready(is_known))
    }
}

struct Cluster {
    server: ApiServer,
    client: Client,
    scope: Scope,
}

impl Cluster {
    async fn start() -> Self {
        let clock = Clock::system();
        let config = kube_apiserver::Config::new(mvcc::Store::memory(), clock);
        let server = ApiServer::start(config).await.unwrap();
        let (client, scope) = (server.client(UserInfo::master("admin")), Scope::new());
        let cluster = Self { client, scope, server };
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": "shop"}})).unwrap();
        let api = Api::<Namespace>::all(cluster.client.clone());
        api.create(&PostParams::default(), &namespace).await.unwrap();
        cluster.serve(clock).await;
        cluster
    }

    async fn serve(&self, clock: Clock) {
        let ca = pki::Ca::new("cluster").unwrap();
        let identity = ca
            .issue(&pki::Profile {
                cn: "pod-identity-webhook".into(),
                organizations: Vec::new(),
                sans: vec!["127.0.0.1".into()],
                usages: vec![pki::Usage::Server],
                not_after: "2100-01-01T00:00:00Z".parse().unwrap(),
            })
            .unwrap();
        let client = self.server.client(UserInfo::new(USER, &[]));
        let config = Config {
            region: Some("us-east-1".to_owned()),
            sts_regional_endpoints: true,
            authority_pem: Some("-----BEGIN CERTIFICATE-----\n".to_owned()),
            ..Config::default()
        };
        let known = Arc::new(Known(BTreeSet::from(["associated"])));
        let webhook = Webhook::new(client, config, known);
        let listener = Place::Here.listen(([127, 0, 0, 1], 0).into()).unwrap();
        let url = format!("https://{}/mutate", listener.local_addr().unwrap());
        let tls = Some(tls::server(&identity, None).unwrap());
        let serving = transport::serve(listener, tls, webhook.service(), self.scope.clone());
        drop(self.scope.spawn("webhook", serving));
        let endpoint = Endpoint { url, ca_pem: ca.certificate_pem().to_owned() };
        webhook.announce(&endpoint).await;
        let running = pod_identity_webhook::run(webhook, endpoint, clock, self.scope.child());
        drop(self.scope.spawn("audit", running));
    }

    fn accounts(&self) -> Api<ServiceAccount> {
        Api::namespaced(self.client.clone(), "shop")
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "shop")
    }

    async fn account(&self, name: &str, annotations: Value) {
        let account = json!({"metadata": {"name": name, "annotations": annotations}});
        let account = serde_json::from_value(account).unwrap();
        self.accounts().create(&PostParams::default(), &account).await.unwrap();
    }

    async fn pod(&self, name: &str, account: &str) -> Value {
        let pod = serde_json::from_value(pod(name, account)).unwrap();
        let made = self.pods().create(&PostParams::default(), &pod).await.unwrap();
        serde_json::to_value(made).unwrap()
    }

    /// The `Warning` headers of a pod's creation.
    async fn warnings(&self, name: &str, account: &str) -> Vec<String> {
        let request = Request::post("/api/v1/namespaces/shop/pods")
            .header("content-type", "application/json")
            .body(transport::full(pod(name, account).to_string()))
            .unwrap();
        let service = self.server.service_as(UserInfo::master("admin"));
        let answer = service.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 201);
        let all = answer.headers().get_all(WARNING).iter();
        all.map(|it| it.to_str().unwrap().to_owned()).collect()
    }

    /// Waits for an event about a pod.
    async fn event(&self, pod: &str, reason: &str) -> String {
        let api = Api::<Event>::namespaced(self.client.clone(), "shop");
        for _ in 0..200 {
            let events = api.list(&ListParams::default()).await.unwrap();
            let found = events.items.into_iter().find(|it| {
                it.involved_object.name.as_deref() == Some(pod)
                    && it.reason.as_deref() == Some(reason)
            });
            if let Some(event) = found {
                assert_eq!(event.type_.as_deref(), Some("Warning"));
                return event.message.unwrap_or_default();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no event {reason} about {pod}");
    }
}

fn pod(name: &str, account: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"serviceAccountName": account, "containers": [{"name": "main", "image": "i"}]},
    })
}

fn variables(pod: &Value) -> Vec<String> {
    let env = pod["spec"]["containers"][0]["env"].as_array().into_iter().flatten();
    env.map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_new_pod_of_an_account_with_a_role_comes_back_with_its_token_and_variables() {
    let cluster = Cluster::start().await;
    cluster.account("app", json!({"eks.amazonaws.com/role-arn": ROLE})).await;
    let pod = cluster.pod("p", "app").await;
    assert_eq!(pod["spec"]["volumes"][0]["name"], "aws-iam-token");
    assert!(pod["spec"]["volumes"][1]["name"].as_str().unwrap().starts_with("kube-api-access-"));
    let names = variables(&pod);
    assert!(names.contains(&"AWS_ROLE_ARN".to_owned()), "{names:?}");
    assert!(names.contains(&"AWS_CA_BUNDLE".to_owned()), "{names:?}");
}

#[tokio::test]
async fn pods_that_have_no_role_or_opt_out_stay_as_they_were_written() {
    let cluster = Cluster::start().await;
    cluster.account("plain", json!({})).await;
    cluster.account("app", json!({"eks.amazonaws.com/role-arn": ROLE})).await;
    assert!(variables(&cluster.pod("p", "plain").await).is_empty());
    let mut asked = pod("q", "app");
    asked["metadata"]["labels"] = json!({"eks.amazonaws.com/skip-pod-identity-webhook": "true"});
    let asked = serde_json::from_value(asked).unwrap();
    let made = cluster.pods().create(&PostParams::default(), &asked).await.unwrap();
    assert!(variables(&serde_json::to_value(made).unwrap()).is_empty());
}

#[tokio::test]
async fn an_association_gives_the_agents_address_and_a_label() {
    let cluster = Cluster::start().await;
    cluster.account("associated", json!({"eks.amazonaws.com/role-arn": ROLE})).await;
    let pod = cluster.pod("p", "associated").await;
    let names = variables(&pod);
    assert!(names.contains(&"AWS_CONTAINER_CREDENTIALS_FULL_URI".to_owned()), "{names:?}");
    assert!(!names.contains(&"AWS_ROLE_ARN".to_owned()), "{names:?}");
    assert_eq!(pod["metadata"]["labels"]["eks.amazonaws.com/pod-identity"], "enabled");
}

#[tokio::test]
async fn a_role_that_is_none_is_told_to_the_creator_and_as_an_event() {
    let cluster = Cluster::start().await;
    cluster.account("app", json!({"eks.amazonaws.com/role-arn": "role/app"})).await;
    let warnings = cluster.warnings("p", "app").await;
    assert!(warnings[0].contains("is not the ARN of an IAM role"), "{warnings:?}");
    let message = cluster.event("p", "InvalidServiceAccountAnnotation").await;
    assert!(message.contains("role/app"), "{message}");
}

#[tokio::test]
async fn a_role_that_came_later_than_the_pod_is_an_event_on_the_pod() {
    let cluster = Cluster::start().await;
    cluster.account("app", json!({})).await;
    assert!(variables(&cluster.pod("p", "app").await).is_empty());
    let patch = json!({"metadata": {"annotations": {"eks.amazonaws.com/role-arn": ROLE}}});
    let params = PatchParams::default();
    cluster.accounts().patch("app", &params, &Patch::Merge(&patch)).await.unwrap();
    let message = cluster.event("p", "CredentialsNotInjected").await;
    assert!(message.contains(ROLE) && message.contains("create the pod anew"), "{message}");
}

#[tokio::test]
async fn its_configuration_is_put_back_when_somebody_deletes_it() {
    let cluster = Cluster::start().await;
    let api = Api::<MutatingWebhookConfiguration>::all(cluster.client.clone());
    // The watch that notices has to be there first.
    tokio::time::sleep(Duration::from_millis(500)).await;
    api.delete(NAME, &DeleteParams::default()).await.unwrap();
    for _ in 0..200 {
        if api.get_opt(NAME).await.unwrap().is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the configuration is gone");
}
