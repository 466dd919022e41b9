//! A world for the region's services that is only said to be there: instances report that they run
//! when they are to run, and control planes are Kubernetes APIs without anything in them, but for the
//! key that tokens are signed with. Nothing of it needs root.

use std::{convert::Infallible, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use lifecycle::Scope;
use pki::ServiceAccountKey;
use region_ec2::{
    Ec2,
    records::{HostReport, InstanceState, StatusCheck},
};
use region_eks::{Cluster, ControlPlane, ControlPlaneError, ControlPlanes, reconcile};
use region_gateway::Side;
use serde_json::{Value, json};

use super::super::Region;

/// Brings the region's services to life; their endpoint. `key` signs the tokens of all clusters.
pub(super) fn start(region: &Region, key: &Arc<ServiceAccountKey>, scope: &Scope) -> String {
    let listener = transport::Place::Here.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let service = region.gateway.service(Side::Host);
    drop(scope.spawn("AWS", transport::serve(listener, None, service, scope.child())));
    drop(scope.spawn("hosts", hosts(region.ec2.clone())));
    let autoscaling = region_autoscaling::AutoScaling::clone(&region.autoscaling);
    drop(scope.spawn("Auto Scaling", autoscaling.run(region.ec2.changes())));
    let balancing =
        region_elasticloadbalancing::ElasticLoadBalancing::clone(&region.load_balancing);
    drop(scope.spawn("Elastic Load Balancing", balancing.run()));
    let planes = Arc::new(Planes(key.clone()));
    let context = reconcile::Context::new(region.eks.clone(), planes, scope.child());
    drop(scope.spawn("EKS", reconcile::run(context)));
    let snapshot = region.ec2.begin_snapshot("a root file system").unwrap();
    region.ec2.complete_snapshot(&snapshot, 1).unwrap();
    format!("http://{address}")
}

/// Every instance is at once what it is to be.
async fn hosts(ec2: Arc<Ec2>) {
    let mut changes = ec2.changes();
    loop {
        changes.mark_unchanged();
        ec2.settle().unwrap();
        for instance in ec2.view().instances.iter() {
            let report = match instance.state {
                InstanceState::Pending => HostReport::Started,
                // It has been rebooted.
                InstanceState::Running if instance.check != StatusCheck::Ok => HostReport::Started,
                InstanceState::Stopping => HostReport::Stopped,
                InstanceState::ShuttingDown => HostReport::Terminated,
                _ => continue,
            };
            ec2.report(&instance.id, &report).unwrap();
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

struct Planes(Arc<ServiceAccountKey>);

impl ControlPlanes for Planes {
    fn ensure<'a>(
        &'a self,
        _: &'a Cluster,
    ) -> BoxFuture<'a, Result<ControlPlane, ControlPlaneError>> {
        let key = self.0.clone();
        let api = tower::service_fn(move |request| {
            let key = key.clone();
            async move { empty(&key, request).await }
        });
        let client = kube::Client::new(api, "default");
        Box::pin(std::future::ready(Ok(ControlPlane {
            certificate_authority_pem: String::new(),
            host_endpoint: "https://127.0.0.1:6443".to_owned(),
            client,
            fargate: None,
        })))
    }

    fn remove<'a>(&'a self, _: &'a Cluster) -> BoxFuture<'a, Result<(), ControlPlaneError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A Kubernetes API that takes everything and has nothing.
async fn empty(
    key: &ServiceAccountKey,
    request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    if head.uri.query().is_some_and(|it| it.contains("watch=")) {
        // No event, ever.
        std::future::pending::<()>().await;
    }
    // `/api/v1/KIND`, `/apis/GROUP/VERSION/namespaces/NAME/KIND`.
    let parts: Vec<&str> = head.uri.path().trim_matches('/').split('/').collect();
    let of_kind = parts.len() - if parts[0] == "api" { 2 } else { 3 };
    let (status, body) = match head.method {
        Method::GET if head.uri.path() == "/openid/v1/jwks" => {
            (StatusCode::OK, key.jwks().to_string().into_bytes())
        }
        Method::POST if parts.last() == Some(&"tokenreviews") => {
            (StatusCode::OK, reviewed(&body.collect().await.unwrap().to_bytes()))
        }
        Method::GET if matches!(of_kind, 1 | 3) => {
            let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": []});
            (StatusCode::OK, list.to_string().into_bytes())
        }
        Method::GET => {
            let status = json!({"apiVersion": "v1", "kind": "Status", "metadata": {},
                "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found"});
            (StatusCode::NOT_FOUND, status.to_string().into_bytes())
        }
        Method::DELETE => {
            let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Success"});
            (StatusCode::OK, status.to_string().into_bytes())
        }
        _ => (StatusCode::OK, body.collect().await.unwrap().to_bytes().to_vec()),
    };
    Ok(Response::builder().status(status).body(Body::from(body)).unwrap())
}

/// Vouches for who the token says that it is, in a pod that there never was.
fn reviewed(review: &[u8]) -> Vec<u8> {
    let mut review: Value = serde_json::from_slice(review).unwrap();
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    let claims = token.split('.').nth(1).and_then(|it| URL_SAFE_NO_PAD.decode(it).ok());
    let claims: Option<Value> = claims.and_then(|it| serde_json::from_slice(&it).ok());
    review["status"] = match claims {
        None => json!({"authenticated": false}),
        Some(claims) => json!({"authenticated": true, "audiences": claims["aud"], "user": {
            "username": claims["sub"], "extra": {
                "authentication.kubernetes.io/pod-name": ["p"],
                "authentication.kubernetes.io/pod-uid": ["u"],
            },
        }}),
    };
    review.to_string().into_bytes()
}
