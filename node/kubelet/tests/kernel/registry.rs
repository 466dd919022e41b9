//! Images of a registry that wants a password: with the pod's secret, with a plugin, and not at all.

use std::{
    collections::HashMap, convert::Infallible, fs, os::unix::fs::PermissionsExt, process::Command,
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use lifecycle::Scope;
use serde_json::{Value, json};
use transport::{Body, Place};

use crate::support::{self, Bed};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry with one image under every name, for `nst` with the password `right`.
struct Registry {
    /// By digest, and the manifest by its tag too.
    blobs: HashMap<String, Bytes>,
    manifest: String,
}

impl Registry {
    /// Starts it, and returns its address.
    fn start(bed: &Bed, scope: &Scope) -> String {
        let archive = bed.path("image.tar");
        let folder = bed.path("registry");
        fs::create_dir_all(&folder).unwrap();
        let unpacked = Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&folder).status();
        assert!(unpacked.unwrap().success());
        let index = fs::read_to_string(folder.join("index.json")).unwrap();
        let index: Value = serde_json::from_str(&index).unwrap();
        let manifest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
        let files = fs::read_dir(folder.join("blobs/sha256")).unwrap().flatten();
        let blobs = files.map(|it| {
            let digest = format!("sha256:{}", it.file_name().to_string_lossy());
            (digest, Bytes::from(fs::read(it.path()).unwrap()))
        });
        let registry = Arc::new(Self { blobs: blobs.collect(), manifest });
        let listener = Place::Here.listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let service = tower::service_fn(move |request: Request<Incoming>| {
            let answer = registry.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        drop(scope.spawn("registry", transport::serve(listener, None, service, scope.clone())));
        address
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let given = request.headers().get("authorization").and_then(|it| it.to_str().ok());
        let wanted = format!("Basic {}", BASE64_STANDARD.encode("nst:right"));
        if given != Some(wanted.as_str()) {
            let refusal = Response::builder().status(StatusCode::UNAUTHORIZED);
            let refusal = refusal.header("www-authenticate", "Basic realm=\"nst\"");
            return refusal.body(transport::empty()).unwrap();
        }
        let path = request.uri().path();
        if path == "/v2/" {
            return Response::new(transport::empty());
        }
        let name = path.rsplit('/').next().unwrap_or_default();
        let is_manifest = path.contains("/manifests/");
        let digest = if is_manifest { self.manifest.as_str() } else { name };
        let Some(blob) = self.blobs.get(digest) else {
            let none = Response::builder().status(StatusCode::NOT_FOUND);
            return none.body(transport::empty()).unwrap();
        };
        let kind = if is_manifest { MANIFEST } else { "application/octet-stream" };
        let found = Response::builder().header("content-type", kind);
        let found = found.header("docker-content-digest", digest);
        let found = found.header("content-length", blob.len());
        let is_head = request.method() == http::Method::HEAD;
        let body = if is_head { transport::empty() } else { transport::full(blob.clone()) };
        found.body(body).unwrap()
    }
}

fn pod(bed: &Bed, name: &str, image: &str, secrets: &[&str]) -> Value {
    let mut container = bed.container("main", "exec sleep 1000");
    container["image"] = json!(image);
    let secrets: Vec<_> = secrets.iter().map(|it| json!({ "name": it })).collect();
    json!({
        "metadata": { "name": name },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "imagePullSecrets": secrets,
            "containers": [container],
        },
    })
}

impl Bed {
    async fn create_docker_secret(&self, name: &str, registry: &str, password: &str) {
        let auth = json!({ "auths": { registry: { "username": "nst", "password": password } } });
        let secret = json!({
            "metadata": { "name": name },
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": { ".dockerconfigjson": auth.to_string() },
        });
        self.create(&Api::<Secret>::namespaced(self.client(), self.namespace()), secret).await;
    }

    async fn until_not_pulled(&self, name: &str) {
        let waits = |it: &_| support::waiting(it).is_some_and(|it| it.contains("Pull"));
        self.until(name, waits).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_behind_a_password_is_for_pods_that_have_it() {
    let Some(bed) = Bed::own("registry").await else { return };
    let scope = Scope::new();
    let registry = Registry::start(&bed, &scope);
    let kubelet = bed.ready().await;
    let image = format!("{registry}/team/tool:1");
    bed.create_docker_secret("right", &registry, "right").await;
    bed.create_docker_secret("wrong", &registry, "wrong").await;
    bed.create_pod(pod(&bed, "none", &image, &[])).await;
    bed.create_pod(pod(&bed, "wrong", &image, &["wrong"])).await;
    for name in ["none", "wrong"] {
        bed.until_not_pulled(name).await;
    }
    bed.create_pod(pod(&bed, "right", &image, &["absent", "wrong", "right"])).await;
    bed.until_ready("right").await;
    bed.until_event("right FailedToRetrieveImagePullSecret: Unable to retrieve some image pull secrets (absent); attempting to pull the image may not succeed.").await;
    // It is on the node now, and still for nobody who has no password.
    bed.create_pod(pod(&bed, "later", &image, &[])).await;
    bed.until_not_pulled("later").await;
    for name in ["none", "wrong", "right", "later"] {
        bed.end_pod(name).await;
    }
    // Another kubelet would not know how long they may take.
    bed.until_nothing_is_left().await;
    kubelet.kill().await;

    let plugin = bed.path("provider");
    let auth = json!({ &registry: { "username": "nst", "password": "right" } });
    let answer = json!({
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderResponse",
        "cacheKeyType": "Registry", "cacheDuration": "1h", "auth": auth,
    });
    fs::write(&plugin, format!("#!/bin/sh\ncat > \"$0.asked\"\necho '{answer}'\n")).unwrap();
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig",
        "providers": [{
            "name": "provider", "matchImages": [&registry], "defaultCacheDuration": "1h",
            "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        }],
    });
    let (file, folder) = (bed.path("providers.json"), bed.folder().to_owned());
    fs::write(&file, config.to_string()).unwrap();
    let kubelet = bed
        .start_kubelet_configured(|settings| {
            settings.credential_provider_config = Some(file);
            settings.credential_provider_bin_dir = Some(folder);
        })
        .await;
    bed.until_node("True", "").await;
    bed.create_pod(pod(&bed, "plugin", &format!("{registry}/team/other:1"), &[])).await;
    bed.until_ready("plugin").await;
    let asked = fs::read_to_string(bed.path("provider.asked")).unwrap();
    assert!(asked.contains(&format!("\"image\":\"{registry}/team/other:1\"")), "{asked}");
    bed.end_pod("plugin").await;
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
    scope.drain(support::LIMIT).await;
}
