//! Plugins that are real programs, which write down what they are asked.

use std::os::unix::fs::PermissionsExt;

use http::{Request, Response as HttpResponse};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

const HOST: &str = "registry.example";

/// A folder with a plugin `p` that notes each question in a file of its own.
struct Bed {
    folder: tempfile::TempDir,
    /// How often a token was asked for.
    tokens: Arc<Mutex<u32>>,
}

impl Bed {
    fn new(answer: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            "#!/bin/sh\nq=$(cat)\nprintf '%s\\n' \"$q\" >> \"$0.log\"\nprintf '%s|%s\\n' \"$*\" \"$WORD\" >> \"$0.env\"\n{answer}\n"
        );
        let plugin = folder.path().join("p");
        std::fs::write(&plugin, script).unwrap();
        std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder, tokens: Arc::default() }
    }

    /// Answers with this response.
    fn answering(more: Value) -> Self {
        let mut response = json!({
            "apiVersion": config::V1,
            "kind": "CredentialProviderResponse",
            "cacheKeyType": "Image",
            "auth": { HOST: { "username": "u", "password": "w" } },
        });
        for (name, value) in more.as_object().unwrap() {
            response[name] = value.clone();
        }
        Self::new(&format!("echo '{response}'"))
    }

    fn load(&self, more: Value) -> Providers {
        let mut provider = json!({
            "name": "p",
            "matchImages": ["*.example", "other.example:5000/team"],
            "defaultCacheDuration": "1h",
            "apiVersion": config::V1,
            "args": ["get", "-v"],
            "env": [{ "name": "WORD", "value": "of the node" }],
        });
        for (name, value) in more.as_object().unwrap() {
            provider[name] = value.clone();
        }
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1",
            "kind": "CredentialProviderConfig",
            "providers": [provider],
        });
        let path = self.folder.path().join("config.json");
        std::fs::write(&path, config.to_string()).unwrap();
        let metrics = Arc::default();
        Providers::load(&path, self.folder.path(), self.client(), metrics).unwrap()
    }

    /// An API server with the service accounts `plain` and `marked`.
    fn client(&self) -> Client {
        let tokens = self.tokens.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let path = request.uri().path().to_owned();
            let name = path.rsplit('/').find(|it| *it != "token").unwrap_or_default();
            let answer = if path.ends_with("/token") {
                let mut count = tokens.lock();
                *count += 1;
                json!({
                    "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                    "metadata": {}, "spec": { "audiences": [] },
                    "status": {
                        "token": format!("token-{count}"),
                        "expirationTimestamp": "1970-01-01T01:00:00Z",
                    },
                })
            } else {
                let marks = json!({ "example.com/role": "puller", "example.com/other": "x" });
                let annotations = if name == "marked" { marks } else { json!({}) };
                json!({
                    "apiVersion": "v1", "kind": "ServiceAccount",
                    "metadata": {
                        "name": name, "namespace": "ns", "uid": format!("uid-{name}"),
                        "annotations": annotations,
                    },
                })
            };
            let body = Body::from(answer.to_string().into_bytes());
            std::future::ready(Ok::<_, std::convert::Infallible>(HttpResponse::new(body)))
        });
        Client::new(service, "default")
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn questions(&self) -> Vec<Value> {
        self.lines("p.log").iter().map(|it| serde_json::from_str(it).unwrap()).collect()
    }
}

fn pod(name: &str, account: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "ns", "uid": format!("uid-{name}") },
        "spec": { "containers": [], "serviceAccountName": account },
    }))
    .unwrap()
}

fn image(name: &str) -> String {
    format!("{HOST}/{name}:1")
}

async fn passwords(providers: &Providers, pod: &Pod, image: &str, at: i64) -> Vec<String> {
    let now = Timestamp::from_second(at).unwrap();
    let (all, _) = providers.entries(pod, image, now).await;
    all.into_iter().map(|it| it.entry.password).collect()
}

#[tokio::test]
async fn a_plugin_is_asked_about_images_that_fit_with_its_arguments_and_variables() {
    let bed = Bed::answering(json!({}));
    let providers = bed.load(json!({}));
    let pod = pod("a", "plain");
    assert_eq!(passwords(&providers, &pod, &image("x"), 0).await, ["w"]);
    assert_eq!(passwords(&providers, &pod, "other.example:5000/team/x:1", 0).await, ["w"]);
    for other in ["other.example:5000/else/x:1", "a.b.example/x:1", "docker.io/library/x:1"] {
        assert_eq!(passwords(&providers, &pod, other, 0).await, Vec::<String>::new(), "{other}");
    }
    let expected = json!({
        "apiVersion": config::V1, "kind": "CredentialProviderRequest", "image": image("x"),
    });
    assert_eq!(bed.questions()[0], expected);
    assert_eq!(bed.lines("p.env"), ["get -v|of the node"; 2]);
    assert_eq!(*bed.tokens.lock(), 0, "it did not ask for any");
}

#[tokio::test]
async fn an_answer_is_kept_for_an_image_a_registry_or_everything() {
    for (kind, asked) in [("Image", 3), ("Registry", 2), ("Global", 1)] {
        let bed = Bed::answering(json!({ "cacheKeyType": kind }));
        let providers = bed.load(json!({}));
        let pod = pod("a", "");
        for image in [image("x"), image("y"), image("x"), "second.example/x:1".to_owned()] {
            assert_eq!(passwords(&providers, &pod, &image, 0).await, ["w"]);
        }
        assert_eq!(bed.questions().len(), asked, "{kind}");
    }
    let bed = Bed::answering(json!({ "cacheKeyType": "Something" }));
    let providers = bed.load(json!({}));
    assert!(passwords(&providers, &pod("a", ""), &image("x"), 0).await.is_empty());
}

#[tokio::test]
async fn an_answer_is_good_for_as_long_as_it_says_or_as_is_configured() {
    for (said, until) in [(json!({}), 3600), (json!({ "cacheDuration": "10m" }), 600)] {
        let bed = Bed::answering(said);
        let providers = bed.load(json!({}));
        for (at, asked) in [(0, 1), (until - 1, 1), (until, 2)] {
            assert_eq!(passwords(&providers, &pod("a", ""), &image("x"), at).await, ["w"]);
            assert_eq!(bed.questions().len(), asked);
        }
    }
    // Zero is not at all, wherever it stands.
    let never = Bed::answering(json!({ "cacheDuration": "0s" }));
    let bed = Bed::answering(json!({}));
    for (bed, config) in [(never, json!({})), (bed, json!({ "defaultCacheDuration": "0s" }))] {
        let providers = bed.load(config);
        for asked in 1..3 {
            passwords(&providers, &pod("a", ""), &image("x"), 0).await;
            assert_eq!(bed.questions().len(), asked);
        }
    }
}

#[tokio::test]
async fn pods_that_want_the_same_at_once_wait_for_one_answer() {
    let answer = json!({
        "apiVersion": config::V1, "kind": "CredentialProviderResponse", "cacheKeyType": "Image",
        "cacheDuration": "0s", "auth": { HOST: { "username": "u", "password": "w" } },
    });
    let bed = Bed::new(&format!("sleep 0.3; echo '{answer}'"));
    let providers = bed.load(json!({}));
    let (a, b, image) = (pod("a", ""), pod("b", ""), image("x"));
    let (first, second) =
        tokio::join!(passwords(&providers, &a, &image, 0), passwords(&providers, &b, &image, 0));
    assert_eq!((first, second), (vec!["w".to_owned()], vec!["w".to_owned()]));
    assert_eq!(bed.questions().len(), 1);
    // One whose only pod has gone is asked anew.
    let brief = Duration::from_millis(50);
    drop(tokio::time::timeout(brief, passwords(&providers, &a, &image, 0)).await);
    assert_eq!(passwords(&providers, &b, &image, 0).await, ["w"]);
}

#[tokio::test]
async fn what_is_no_answer_costs_the_credentials_and_tells_no_secret() {
    let other = json!({ "apiVersion": "credentialprovider.kubelet.k8s.io/v1beta1" });
    for bed in [
        Bed::new("echo secret >&2; exit 3"),
        Bed::new("echo no JSON"),
        Bed::answering(other),
        Bed::answering(json!({ "kind": "Something" })),
        Bed::answering(json!({ "surprise": "x" })),
        Bed::answering(json!({ "cacheDuration": "soon" })),
    ] {
        let providers = bed.load(json!({}));
        assert!(passwords(&providers, &pod("a", ""), &image("x"), 0).await.is_empty());
        assert_eq!(bed.questions().len(), 1);
    }
    // Nor does one that is not read.
    let deaf = Bed::new("");
    let script = "#!/bin/sh\nexec 0<&-\necho '{\"kind\":\"CredentialProviderResponse\",\"apiVersion\":\"credentialprovider.kubelet.k8s.io/v1\",\"cacheKeyType\":\"Global\"}'\n";
    std::fs::write(deaf.folder.path().join("p"), script).unwrap();
    assert!(passwords(&deaf.load(json!({})), &pod("a", ""), &image("x"), 0).await.is_empty());
}

fn attributes(cache: &str, more: Value) -> Value {
    let mut attributes = json!({
        "serviceAccountTokenAudience": "registry", "cacheType": cache,
        "requireServiceAccount": true,
    });
    for (name, value) in more.as_object().unwrap() {
        attributes[name] = value.clone();
    }
    json!({ "tokenAttributes": attributes })
}

#[tokio::test]
async fn a_plugin_acts_for_the_pods_service_account_with_a_token_of_it() {
    let bed = Bed::answering(json!({ "cacheKeyType": "Global" }));
    let providers = bed.load(attributes(
        "ServiceAccount",
        json!({
            "requiredServiceAccountAnnotationKeys": ["example.com/role"],
            "optionalServiceAccountAnnotationKeys": ["example.com/absent"],
        }),
    ));
    let image = image("x");
    let now = Timestamp::UNIX_EPOCH;
    let (given, _) = providers.entries(&pod("a", "marked"), &image, now).await;
    assert!(given[0].account.as_ref().is_some_and(|it| it.contains("uid-marked")));
    let question = &bed.questions()[0];
    assert_eq!(question["serviceAccountToken"], "token-1");
    assert_eq!(question["serviceAccountAnnotations"], json!({ "example.com/role": "puller" }));
    // Another pod of the account has the same, one of another account has not.
    assert_eq!(passwords(&providers, &pod("b", "marked"), &image, 0).await, ["w"]);
    assert_eq!(bed.questions().len(), 1);
    assert!(passwords(&providers, &pod("c", "plain"), &image, 0).await.is_empty());
    assert!(passwords(&providers, &pod("d", ""), &image, 0).await.is_empty());
    assert_eq!(bed.questions().len(), 1, "without the annotation it is not asked");
}

#[tokio::test]
async fn an_answer_for_one_token_or_account_is_no_answer_for_another() {
    let image = image("x");
    for (cache, asked) in [("ServiceAccount", 2), ("Token", 3)] {
        let bed = Bed::answering(json!({ "cacheKeyType": "Global" }));
        let providers = bed.load(attributes(cache, json!({})));
        for (name, account) in [("a", "marked"), ("a", "marked"), ("b", "marked"), ("c", "plain")] {
            assert_eq!(passwords(&providers, &pod(name, account), &image, 0).await, ["w"]);
        }
        assert_eq!(bed.questions().len(), asked, "{cache}");
    }
    // Static pods have no service account; a plugin may do without.
    let bed = Bed::answering(json!({}));
    let providers = bed.load(attributes("Token", json!({ "requireServiceAccount": false })));
    let (given, _) = providers.entries(&pod("s", ""), &image, Timestamp::UNIX_EPOCH).await;
    assert_eq!(given[0].account, None);
    assert_eq!(bed.questions()[0].get("serviceAccountToken"), None);
}
