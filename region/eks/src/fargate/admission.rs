//! New pods that a profile selects are Fargate's: they get its scheduler and the profile's name.
//!
//! As on EKS a mutating webhook does it, which never refuses a pod, and which is there as long as the
//! cluster has a profile: other clusters' pods do not wait for it.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tower::Service;
use transport::{Body, BoxError};

use super::selector::{self, LABEL};
use crate::Eks;

/// EKS's names.
const NAME: &str = "0500-amazon-eks-fargate-mutation.amazonaws.com";
const WEBHOOK: &str = "0500-amazon-eks-fargate-mutation.amazonaws.com";
pub(crate) const SCHEDULER: &str = "fargate-scheduler";
/// A review holds a pod.
const LIMIT: usize = 8 << 20;

/// Where an API server finds the webhook of its cluster.
#[derive(Clone, Debug)]
pub struct FargateEndpoint {
    /// `https://…/mutate`
    pub url: String,
    /// Who signs its certificate, in PEM.
    pub ca_pem: String,
}

/// The webhook of one cluster, for a server over TLS.
#[derive(Clone)]
pub struct FargateWebhook {
    eks: Eks,
    cluster: String,
}

impl FargateWebhook {
    pub fn new(eks: Eks, cluster: &str) -> Self {
        Self { eks, cluster: cluster.to_owned() }
    }

    /// The patch for a new pod; empty: it is none of Fargate's.
    pub(crate) fn patch(&self, namespace: &str, pod: &Value) -> Vec<Value> {
        let profiles = self.eks.fargate_profiles(&self.cluster);
        let profiles = profiles.iter().map(AsRef::as_ref);
        let Some(profile) = selector::profile_of(profiles, namespace, pod) else {
            return Vec::new();
        };
        // Whoever has a scheduler of their own has chosen.
        let scheduler = pod["spec"]["schedulerName"].as_str().unwrap_or_default();
        if !matches!(scheduler, "" | "default-scheduler" | SCHEDULER) {
            return Vec::new();
        }
        let mut patch = vec![json!({
            "op": "add", "path": "/spec/schedulerName", "value": SCHEDULER,
        })];
        if pod["metadata"]["labels"].as_object().is_none_or(serde_json::Map::is_empty) {
            let labels = json!({ LABEL: profile.name });
            patch.push(json!({ "op": "add", "path": "/metadata/labels", "value": labels }));
        } else {
            let path = format!("/metadata/labels/{}", LABEL.replace('/', "~1"));
            patch.push(json!({ "op": "add", "path": path, "value": profile.name }));
        }
        patch
    }

    fn reviewed(&self, review: &Value) -> Value {
        let request = &review["request"];
        let namespace = request["namespace"].as_str().unwrap_or_default();
        let patch = match request["operation"] == "CREATE" {
            true => self.patch(namespace, &request["object"]),
            false => Vec::new(),
        };
        let mut response = json!({ "uid": request["uid"], "allowed": true });
        if !patch.is_empty() {
            response["patchType"] = "JSONPatch".into();
            response["patch"] = BASE64_STANDARD.encode(Value::from(patch).to_string()).into();
        }
        let version = review["apiVersion"].as_str().unwrap_or("admission.k8s.io/v1");
        json!({ "apiVersion": version, "kind": "AdmissionReview", "response": response })
    }
}

impl<B> Service<Request<B>> for FargateWebhook
where
    B: hyper::body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let webhook = self.clone();
        Box::pin(async move {
            let body = transport::collect_request(request.into_body(), LIMIT).await;
            let review = body.ok().flatten().and_then(|it| serde_json::from_slice(&it).ok());
            let review = review.filter(|it: &Value| it["request"].is_object());
            let Some(review) = review else {
                let mut response = Response::new(transport::full("expected an AdmissionReview"));
                *response.status_mut() = StatusCode::BAD_REQUEST;
                return Ok(response);
            };
            let answer = webhook.reviewed(&review).to_string();
            let mut response = Response::new(transport::full(answer));
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            Ok(response)
        })
    }
}

/// Has the API server ask the webhook. Saying it twice changes nothing.
pub(super) async fn ensure(client: &Client, endpoint: &FargateEndpoint) -> Result<(), kube::Error> {
    let api = Api::<MutatingWebhookConfiguration>::all(client.clone());
    let wanted = Patch::Apply(configuration(endpoint));
    api.patch(NAME, &PatchParams::apply("eks").force(), &wanted).await.map(drop)
}

/// One that is not there is no error.
pub(super) async fn remove(client: &Client) -> Result<(), kube::Error> {
    let api = Api::<MutatingWebhookConfiguration>::all(client.clone());
    match api.delete(NAME, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        result => result.map(drop),
    }
}

fn configuration(endpoint: &FargateEndpoint) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": { "name": NAME },
        "webhooks": [{
            "name": WEBHOOK,
            "clientConfig": {
                "url": endpoint.url, "caBundle": BASE64_STANDARD.encode(&endpoint.ca_pem),
            },
            "rules": [{
                "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
                "resources": ["pods"], "scope": "*",
            }],
            "failurePolicy": "Ignore",
            "matchPolicy": "Equivalent",
            "reinvocationPolicy": "IfNeeded",
            "sideEffects": "None",
            "timeoutSeconds": 5,
            "admissionReviewVersions": ["v1", "v1beta1"],
        }],
    })
}
