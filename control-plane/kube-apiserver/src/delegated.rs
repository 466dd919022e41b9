//! APIs that another server in this process serves, and the APIService objects of all of them.
//!
//! A request to a delegated group passes authentication and authorization here and is handed on as
//! it came, with its user in headers. What is served there is asked once, at the start.
//!
//! Upstream: kube-aggregator.
//!
//! Deviation: APIServices that name a Service are refused: only servers of this process are
//! aggregated. Custom resources have no APIService object.

use std::{convert::Infallible, fmt, sync::Arc};

use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, header};
use serde_json::{Value, json};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};
use transport::Body;

use crate::{
    bootstrap::StartError,
    request::{RequestInfo, UserInfo},
    resources::{Catalog, Resource},
    status::Status,
};

/// A list of resources is short.
const ANSWER_LIMIT: usize = 1 << 20;
/// Upstream's priorities: the built-in groups stand above the others.
const BUILTIN_PRIORITY: i64 = 17_000;
const DELEGATED_PRIORITY: i64 = 100;

type Local = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// One version of a group, and who serves it.
#[derive(Clone)]
pub struct Delegate {
    group: String,
    version: String,
    service: Local,
}

impl Delegate {
    pub fn new<S>(group: &str, version: &str, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
    {
        let service = BoxCloneSyncService::new(service);
        Self { group: group.into(), version: version.into(), service }
    }

    fn is(&self, group: &str, version: &str) -> bool {
        self.group == group && self.version == version
    }

    /// The `APIResourceList` of the version.
    async fn resources(&self) -> Result<Vec<Arc<Resource>>, StartError> {
        let path = format!("/apis/{}/{}", self.group, self.version);
        let failed = |message: String| StartError::Delegate { path: path.clone(), message };
        let request = Request::get(&path).body(transport::empty());
        let request = request.map_err(|error| failed(error.to_string()))?;
        let Ok(answer) = answered(self.service.clone(), request).await;
        let status = answer.status();
        let body = transport::collect(answer.into_body(), ANSWER_LIMIT).await;
        let body = body.map_err(|error| failed(error.to_string()))?.unwrap_or_default();
        if !status.is_success() {
            return Err(failed(format!("{status}: {}", String::from_utf8_lossy(&body))));
        }
        let list: Value =
            serde_json::from_slice(&body).map_err(|error| failed(error.to_string()))?;
        let entries = list["resources"].as_array().into_iter().flatten();
        Ok(entries.map(|entry| Arc::new(self.resource(entry))).collect())
    }

    fn resource(&self, entry: &Value) -> Resource {
        let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        let verbs = entry["verbs"].as_array().into_iter().flatten();
        let verbs = verbs.filter_map(|it| it.as_str().map(str::to_owned)).collect();
        Resource {
            group: self.group.clone(),
            version: self.version.clone(),
            kind: text("kind"),
            plural: text("name"),
            singular: text("singularName"),
            namespaced: entry["namespaced"] == true,
            is_virtual: true,
            delegated: Some(verbs),
            ..Resource::default()
        }
    }
}

impl fmt::Debug for Delegate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Delegate").field(&self.group).field(&self.version).finish()
    }
}

/// All delegates, and what they serve.
#[derive(Debug, Default)]
pub(crate) struct Delegates {
    all: Vec<Delegate>,
    resources: Vec<Arc<Resource>>,
}

impl Delegates {
    pub(crate) async fn learn(all: Vec<Delegate>) -> Result<Self, StartError> {
        let mut resources = Vec::new();
        for delegate in &all {
            resources.extend(delegate.resources().await?);
        }
        Ok(Self { all, resources })
    }

    pub(crate) fn resources(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    /// Boxed, or the compiler cannot see that whoever awaits it is `Send`.
    pub(crate) fn answer(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        mut head: http::request::Parts,
        body: Body,
    ) -> BoxFuture<'static, Result<Response<Body>, Status>> {
        let delegate = self.all.iter().find(|it| it.is(&info.group, &info.version));
        let service = delegate.map(|it| it.service.clone());
        introduce(user, &mut head);
        Box::pin(async move {
            let service = service.ok_or_else(Status::no_such_path)?;
            let Ok(answer) = answered(service, Request::from_parts(head, body)).await;
            Ok(answer)
        })
    }
}

fn answered(
    service: Local,
    request: Request<Body>,
) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
    Box::pin(service.oneshot(request))
}

/// The user in the front proxy's headers, and nothing of what the client said about itself.
fn introduce(user: &UserInfo, head: &mut http::request::Parts) {
    head.extensions.clear();
    let headers = &mut head.headers;
    headers.remove(header::AUTHORIZATION);
    let said: Vec<_> =
        headers.keys().filter(|it| it.as_str().starts_with("x-remote-")).cloned().collect();
    for name in said {
        headers.remove(name);
    }
    let groups = user.groups.iter().map(|it| ("x-remote-group", it.as_str()));
    for (name, value) in std::iter::once(("x-remote-user", user.username.as_str())).chain(groups) {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.append(name, value);
        }
    }
}

/// An APIService for each version that is built in or delegated, the most wanted first.
pub(crate) fn services(catalog: &Catalog) -> Vec<Value> {
    let core = (String::new(), vec!["v1".to_owned()]);
    let mut services = Vec::new();
    for (group, versions) in std::iter::once(&core).chain(catalog.groups()) {
        for (index, version) in versions.iter().enumerate() {
            let Some(first) = catalog.of_version(group, version).next() else { continue };
            if first.custom.is_some() {
                continue;
            }
            let is_delegated = first.delegated.is_some();
            let priority = if is_delegated { DELEGATED_PRIORITY } else { BUILTIN_PRIORITY };
            let below = i64::try_from(index).unwrap_or(0);
            services.push(json!({
                "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                "metadata": {
                    "name": format!("{version}.{group}"),
                    "labels": { "kube-aggregator.kubernetes.io/automanaged": "onstart" },
                },
                "spec": {
                    "group": group, "version": version, "groupPriorityMinimum": priority,
                    "versionPriority": 100 - below,
                },
            }));
        }
    }
    services
}

/// Fills in the status: what is served here is always available.
pub(crate) fn prepare(service: &mut Value, now: &str) {
    let known = service["status"]["conditions"].as_array().into_iter().flatten();
    let since = known.into_iter().find(|it| it["type"] == "Available");
    let since = since.map_or_else(|| now.into(), |it| it["lastTransitionTime"].clone());
    service["status"] = json!({ "conditions": [{
        "type": "Available", "status": "True", "reason": "Local",
        "message": "Local APIServices are always available", "lastTransitionTime": since,
    }] });
}

/// `v1.apps`: the name that an APIService's group and version make.
pub(crate) fn expected_name(service: &Value) -> String {
    let part = |field: &str| service["spec"][field].as_str().unwrap_or_default();
    format!("{}.{}", part("version"), part("group"))
}
