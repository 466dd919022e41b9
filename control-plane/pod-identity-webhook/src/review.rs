//! `POST /mutate`: an AdmissionReview with a pod in, one with a patch out.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::body::Body as HttpBody;
use serde_json::{Value, json};
use tower::Service;
use transport::{Body, BoxError};

use crate::{Mutation, Webhook};

const PATH: &str = "/mutate";
const HEALTH: &str = "/healthz";
/// A review holds a pod, and at the most its older self.
const LIMIT: usize = 8 << 20;

/// The webhook as a service, for a server over TLS or for anybody in this process.
#[derive(Clone)]
pub struct WebhookService(pub(crate) Webhook);

impl<B> Service<Request<B>> for WebhookService
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let webhook = self.0.clone();
        Box::pin(async move { Ok(answer(&webhook, request).await) })
    }
}

async fn answer<B>(webhook: &Webhook, request: Request<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    match (request.uri().path(), request.method()) {
        (HEALTH, &Method::GET) => return text(StatusCode::OK, "ok"),
        (PATH, &Method::POST) => {}
        (PATH, _) => return text(StatusCode::METHOD_NOT_ALLOWED, "expected POST"),
        _ => return text(StatusCode::NOT_FOUND, "not found"),
    }
    let body = transport::collect_request(request.into_body(), LIMIT).await;
    let Some(body) = body.ok().flatten() else {
        return text(StatusCode::BAD_REQUEST, "expected a body of at most 8 MiB");
    };
    match serde_json::from_slice::<Value>(&body) {
        Ok(review) if review["request"].is_object() => {
            json_answer(&reviewed(webhook, &review).await)
        }
        _ => text(StatusCode::BAD_REQUEST, "expected an AdmissionReview"),
    }
}

/// The review, answered.
async fn reviewed(webhook: &Webhook, review: &Value) -> Value {
    let request = &review["request"];
    let is_new_pod = request["operation"] == "CREATE"
        && request["resource"]["resource"] == "pods"
        && request["subResource"].as_str().unwrap_or_default().is_empty();
    let mutation = match is_new_pod {
        true => {
            let namespace = request["namespace"].as_str().unwrap_or_default();
            webhook.mutation(namespace, &request["object"]).await
        }
        false => Mutation::default(),
    };
    let mut response = json!({"uid": request["uid"], "allowed": true});
    if !mutation.patch.is_empty() {
        let patch = Value::from(mutation.patch).to_string();
        response["patchType"] = "JSONPatch".into();
        response["patch"] = BASE64_STANDARD.encode(patch).into();
    }
    if !mutation.warnings.is_empty() {
        response["warnings"] = mutation.warnings.into();
    }
    let version = review["apiVersion"].as_str().unwrap_or("admission.k8s.io/v1");
    json!({"apiVersion": version, "kind": "AdmissionReview", "response": response})
}

fn json_answer(body: &Value) -> Response<Body> {
    let mut response = Response::new(transport::full(body.to_string()));
    let value = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, value);
    response
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(transport::full(text));
    *response.status_mut() = status;
    response
}
