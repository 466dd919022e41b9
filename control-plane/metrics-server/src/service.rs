//! Requests of the group, one after the other: what is asked, who has to be measured, the answer.

use std::{
    collections::HashSet,
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode, header};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client, api::ListParams};
use serde_json::Value;
use tokio::time::Instant;
use transport::Body;

use crate::{GROUP, MetricsServer, VERSION, answer, samples::Step, scrape};

/// Over how long the first answer after a pause measures.
const FIRST_WINDOW: Duration = Duration::from_secs(1);
/// Kubelets asked at once.
const PARALLEL: usize = 16;

/// The group as a tower service, for the API server.
#[derive(Clone, Debug)]
pub struct MetricsService {
    server: MetricsServer,
}

impl MetricsService {
    pub(crate) fn new(server: MetricsServer) -> Self {
        Self { server }
    }
}

impl tower::Service<Request<Body>> for MetricsService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.server.clone();
        Box::pin(async move {
            let (head, _) = request.into_parts();
            Ok(server.answer(&head).await.unwrap_or_else(|Refusal(response)| *response))
        })
    }
}

/// An answer that ends a request early.
struct Refusal(Box<Response<Body>>);

impl From<kube::Error> for Refusal {
    fn from(error: kube::Error) -> Self {
        let kube::Error::Api(status) = &error else {
            let message = telemetry::chain(&error).to_string();
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", &message);
        };
        let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        refuse(code, &status.reason, &status.message)
    }
}

fn refuse(code: StatusCode, reason: &str, message: &str) -> Refusal {
    Refusal(Box::new(answer::status(code, reason, message)))
}

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
enum Asked<'a> {
    Resources,
    Nodes(Option<&'a str>),
    Pods { namespace: Option<&'a str>, name: Option<&'a str> },
}

fn asked(path: &str) -> Option<Asked<'_>> {
    let rest = path.strip_prefix("/apis/")?.strip_prefix(GROUP)?.strip_prefix('/')?;
    let rest = rest.strip_prefix(VERSION)?.trim_matches('/');
    let parts: Vec<&str> = rest.split('/').collect();
    Some(match parts.as_slice() {
        [""] => Asked::Resources,
        ["nodes"] => Asked::Nodes(None),
        ["nodes", name] => Asked::Nodes(Some(name)),
        ["pods"] => Asked::Pods { namespace: None, name: None },
        ["namespaces", namespace, "pods"] => Asked::Pods { namespace: Some(namespace), name: None },
        ["namespaces", namespace, "pods", name] => {
            Asked::Pods { namespace: Some(namespace), name: Some(name) }
        }
        _ => return None,
    })
}

/// The selectors of a list, handed on as they came.
fn list_params(query: &str) -> ListParams {
    let mut params = ListParams::default();
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value);
        match key {
            "labelSelector" if !value.is_empty() => params.label_selector = Some(value),
            "fieldSelector" if !value.is_empty() => params.field_selector = Some(value),
            _ => {}
        }
    }
    params
}

fn decode(text: &str) -> String {
    let (mut bytes, mut out) = (text.bytes(), Vec::new());
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')];
                let digits = std::str::from_utf8(&digits).unwrap_or_default();
                out.extend(u8::from_str_radix(digits, 16));
            }
            byte => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl MetricsServer {
    async fn answer(&self, head: &http::request::Parts) -> Result<Response<Body>, Refusal> {
        let query = head.uri.query().unwrap_or_default();
        let is_watch = query.split('&').any(|it| it == "watch=true" || it == "watch=1");
        if head.method != Method::GET || is_watch {
            let message = "the server does not allow this method on the requested resource";
            return Err(refuse(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message));
        }
        let not_found = |message: &str| refuse(StatusCode::NOT_FOUND, "NotFound", message);
        let asked = asked(head.uri.path())
            .ok_or_else(|| not_found("the server could not find the requested resource"))?;
        let params = list_params(query);
        let (objects, is_list, kind) = match asked {
            Asked::Resources => {
                return Ok(answer::json_response(StatusCode::OK, &answer::resources()));
            }
            Asked::Nodes(name) => (self.nodes(name, &params).await?, name.is_none(), "NodeMetrics"),
            Asked::Pods { namespace, name } => {
                (self.pods(namespace, name, &params).await?, name.is_none(), "PodMetrics")
            }
        };
        if !is_list && objects.is_empty() {
            let name = head.uri.path().rsplit('/').next().unwrap_or_default();
            let (resource, name) = match asked {
                Asked::Pods { namespace: Some(namespace), .. } => {
                    ("podmetrics", format!("{namespace}/{name}"))
                }
                _ => ("nodemetrics", name.to_owned()),
            };
            return Err(not_found(&format!("{resource}.{GROUP} \"{name}\" not found")));
        }
        let accept = head.headers.get(header::ACCEPT).and_then(|it| it.to_str().ok());
        let body = answer::render(objects, is_list, kind, accept.unwrap_or_default());
        Ok(answer::json_response(StatusCode::OK, &body))
    }

    fn client(&self) -> Result<&Client, Refusal> {
        self.inner.client.get().ok_or_else(|| {
            let message = "the server is currently unable to handle the request";
            refuse(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
        })
    }

    async fn nodes(&self, name: Option<&str>, params: &ListParams) -> Result<Vec<Value>, Refusal> {
        let client = self.client()?;
        let api = Api::<Node>::all(client.clone());
        let nodes = match name {
            Some(name) => api.get_opt(name).await?.into_iter().collect(),
            None => api.list(params).await?.items,
        };
        let answering = nodes.iter().filter(|it| answers(it));
        let names = answering.filter_map(|it| it.metadata.name.clone()).collect();
        self.measure(client, names).await?;
        let samples = self.inner.samples.lock();
        Ok(nodes.iter().filter_map(|it| answer::node(it, &samples)).collect())
    }

    async fn pods(
        &self,
        namespace: Option<&str>,
        name: Option<&str>,
        params: &ListParams,
    ) -> Result<Vec<Value>, Refusal> {
        let client = self.client()?;
        let api = match namespace {
            Some(namespace) => Api::<Pod>::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let pods = match name {
            Some(name) => api.get_opt(name).await?.into_iter().collect(),
            None => api.list(params).await?.items,
        };
        let nodes = pods.iter().filter_map(|it| it.spec.as_ref()?.node_name.clone()).collect();
        self.measure(client, nodes).await?;
        let samples = self.inner.samples.lock();
        Ok(pods.iter().filter_map(|it| answer::pod(it, &samples)).collect())
    }

    /// Sees to it that the use of these nodes is known, as far as their kubelets answer.
    async fn measure(&self, client: &Client, wanted: HashSet<String>) -> Result<(), Refusal> {
        let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?.items;
        let answering: HashSet<String> = nodes
            .iter()
            .filter(|it| answers(it))
            .filter_map(|it| it.metadata.name.clone())
            .collect();
        self.inner.samples.lock().retain(|name| answering.contains(name));
        self.inner.asking.lock().retain(|name, _| answering.contains(name));
        let here: Vec<String> = wanted.into_iter().filter(|it| answering.contains(it)).collect();
        let measuring = stream::iter(here).map(|name| async move {
            self.measure_node(client, &name).await;
        });
        measuring.buffer_unordered(PARALLEL).collect::<()>().await;
        Ok(())
    }

    async fn measure_node(&self, client: &Client, name: &str) {
        let asking = self.inner.asking.lock().entry(name.to_owned()).or_default().clone();
        let _one_at_a_time = asking.lock().await;
        let step = self.inner.samples.lock().step(name, Instant::now());
        match step {
            Step::Nothing => {}
            Step::Once => {
                self.scrape(client, name, false).await;
            }
            Step::Twice => {
                if self.scrape(client, name, true).await {
                    tokio::time::sleep(FIRST_WINDOW).await;
                    self.scrape(client, name, false).await;
                }
            }
        }
    }

    /// Takes one sample of a node, and says whether it gave one.
    async fn scrape(&self, client: &Client, name: &str, is_first: bool) -> bool {
        let clock = self.inner.clock;
        let sample = scrape::node(client, name, || clock.now()).await;
        let mut samples = self.inner.samples.lock();
        match sample {
            Ok(sample) => {
                samples.put(name, sample, Instant::now(), is_first);
                true
            }
            Err(error) => {
                samples.fail(name, Instant::now());
                tracing::warn!(error = %telemetry::chain(&error), "a node was not measured");
                false
            }
        }
    }
}

/// A node whose kubelet is known to be silent is not waited for.
fn answers(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|it| it.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|it| it.type_ == "Ready");
    ready.is_none_or(|it| it.status != "Unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_nodes_and_pods() {
        let root = "/apis/metrics.k8s.io/v1beta1";
        let of = |path: &str| asked(&format!("{root}{path}")).map(|it| format!("{it:?}"));
        assert_eq!(asked(root), Some(Asked::Resources));
        assert_eq!(of("/nodes/n").unwrap(), "Nodes(Some(\"n\"))");
        assert_eq!(
            asked(&format!("{root}/pods")),
            Some(Asked::Pods { namespace: None, name: None })
        );
        let one = format!("{root}/namespaces/a/pods/b");
        assert_eq!(asked(&one), Some(Asked::Pods { namespace: Some("a"), name: Some("b") }));
        for path in ["/services", "/pods/p", "/nodes/n/x", "/namespaces/a"] {
            assert_eq!(of(path), None, "{path}");
        }
        assert_eq!(asked("/apis/metrics.k8s.io/v1/nodes"), None);
    }

    #[test]
    fn selectors_are_handed_on_decoded() {
        let params = list_params("labelSelector=app%3Dweb%2Ca+in+%28b%29&limit=5");
        assert_eq!(params.label_selector.as_deref(), Some("app=web,a in (b)"));
        assert_eq!(params.field_selector, None);
    }
}
