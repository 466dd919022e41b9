//! Upstream's own components as clients: the requests that they make from their start on, byte for byte
//! in their protobuf, with their parameters and headers, each as its own user.
//!
//! Upstream: cmd/kube-scheduler, cmd/kube-controller-manager, cmd/kubelet, cmd/kube-proxy, and client-go's
//! reflectors, elections and recorders.

mod controller_manager;
mod controllers;
mod kubelet;
mod kubelet_volumes;
mod node_certificates;
mod proxy;
mod recorders;
mod scheduler;

use std::sync::LazyLock;

use bytes::Bytes;
use http::{
    Request,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName},
    response::Parts,
};
use kube_protobuf::{MEDIA_TYPE, STREAM_MEDIA_TYPE, decode, encode};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{Cluster, protobuf::events};
use crate::{ApiServer, Config, authn, request::UserInfo};

/// What a client asks for that was told `--kube-api-content-type` only.
const ACCEPTED: &str = "application/vnd.kubernetes.protobuf, */*";

/// What the metadata client asks for, of lists and of one object or a watch.
const METADATA_LIST: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;\
     g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,\
     application/json";
const METADATA: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;\
     g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,\
     application/json";

/// How a reflector begins; upstream's last for some minutes.
const STREAMED_LIST: &str = "allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&\
     sendInitialEvents=true&timeout=1s&timeoutSeconds=1&watch=true";

const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// With the accounts of services, as every control plane has them.
async fn cluster() -> Cluster {
    static KEY: LazyLock<pki::ServiceAccountKey> =
        LazyLock::new(|| pki::ServiceAccountKey::generate().unwrap());
    let issuer = "https://kubernetes.default.svc".to_owned();
    let mut config = Config::new(mvcc::Store::memory(), clock::Clock::system());
    config.authn.service_accounts = Some(authn::ServiceAccounts {
        audiences: vec![issuer.clone()],
        jwks_uri: format!("{issuer}/openid/v1/jwks"),
        issuer,
        keys: authn::SigningKeys::new(vec![KEY.clone()]),
        legacy_keys: authn::SigningKeys::default(),
    });
    config.authn.client_ca_pem = Some(pki::Ca::new("kubernetes").unwrap().certificate_pem().into());
    Cluster { api: ApiServer::start(config).await.unwrap() }
}

/// A component: who it is to the server.
struct Component<'a> {
    cluster: &'a Cluster,
    user: UserInfo,
}

impl<'a> Component<'a> {
    fn new(cluster: &'a Cluster, name: &str) -> Self {
        Self { cluster, user: UserInfo::new(name, &[]) }
    }

    fn node(cluster: &'a Cluster, name: &str) -> Self {
        let user = UserInfo::new(&format!("system:node:{name}"), &["system:nodes"]);
        Self { cluster, user }
    }

    /// A controller with the credentials of its own service account.
    fn controller(cluster: &'a Cluster, name: &str) -> Self {
        let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system"];
        let name = format!("system:serviceaccount:kube-system:{name}");
        Self { cluster, user: UserInfo::new(&name, &groups) }
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(HeaderName, &str)],
        body: impl Into<Bytes>,
    ) -> (Parts, Bytes) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request.body(transport::full(body)).unwrap();
        let service = self.cluster.api.service_as(self.user.clone());
        let (head, body) = service.oneshot(request).await.unwrap().into_parts();
        let body = transport::collect(body, 64 << 20).await.unwrap().unwrap();
        (head, body)
    }

    /// An answer in protobuf: its code, and what it says.
    async fn ask(&self, method: &str, path: &str) -> (u16, Value) {
        let (head, body) = self.send(method, path, &[(ACCEPT, ACCEPTED)], "").await;
        read(&format!("{method} {path}"), &head, &body)
    }

    /// Sends protobuf and takes it.
    async fn write(&self, method: &str, path: &str, object: &Value) -> (u16, Value) {
        let body = encode(object.to_string().as_bytes()).unwrap();
        let headers = [(CONTENT_TYPE, MEDIA_TYPE), (ACCEPT, ACCEPTED)];
        let (head, body) = self.send(method, path, &headers, body).await;
        read(&format!("{method} {path}"), &head, &body)
    }

    async fn patch(&self, path: &str, media: &str, patch: &Value) -> (u16, Value) {
        let headers = [(CONTENT_TYPE, media), (ACCEPT, ACCEPTED)];
        let (head, body) = self.send("PATCH", path, &headers, patch.to_string()).await;
        read(&format!("PATCH {path}"), &head, &body)
    }

    /// Lists by a watch, then by pages, as a reflector does and as one did that was denied the former.
    /// Returns what there is.
    async fn follow(&self, path: &str) -> Vec<Value> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let listed = self.stream(path, ACCEPTED).await;
        let (code, list) =
            self.ask("GET", &format!("{path}{joint}limit=500&resourceVersion=0")).await;
        assert_eq!(code, 200, "{path}: {list}");
        let count = list["items"].as_array().map_or(0, Vec::len);
        assert_eq!(count, listed.len(), "{path}");
        listed
    }

    async fn stream(&self, path: &str, accept: &str) -> Vec<Value> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{joint}{STREAMED_LIST}");
        let (head, body) = self.send("GET", &path, &[(ACCEPT, accept)], "").await;
        assert_eq!(head.status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        assert_eq!(head.headers[CONTENT_TYPE], STREAM_MEDIA_TYPE, "{path}");
        let mut told = events(&body).into_iter();
        let mut listed = Vec::new();
        for (kind, object) in told.by_ref() {
            if kind == "BOOKMARK" {
                let mark = &object["metadata"]["annotations"]["k8s.io/initial-events-end"];
                assert_eq!(mark, "true", "{path}");
                return listed;
            }
            assert_eq!(kind, "ADDED", "{path}");
            listed.push(object);
        }
        panic!("{path}: the list did not end");
    }
}

fn read(what: &str, head: &Parts, body: &Bytes) -> (u16, Value) {
    assert_eq!(head.headers[CONTENT_TYPE], MEDIA_TYPE, "{what}");
    (head.status.as_u16(), decode(body).unwrap())
}

/// Asserts that it succeeded, and gives what came of it.
#[track_caller]
fn done((code, object): (u16, Value)) -> Value {
    assert!((200..300).contains(&code), "{code} {object}");
    object
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "x"}]},
    })
}

impl Cluster {
    async fn made(&self, path: &str, object: Value) -> Value {
        let (code, made) = self.post(path, object).await;
        assert_eq!(code, 201, "{made}");
        made
    }

    /// A node with room, as its kubelet would make it.
    async fn with_node(&self, name: &str) {
        let node = json!({"metadata": {"name": name}, "status": {
            "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"},
            "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
        }});
        self.made("/api/v1/nodes", node).await;
    }
}
