//! APIs that another server in this process serves.
//!
//! A request to a delegated group passes authentication and authorization here and is handed on as
//! it came, with its user in headers. What is served there is asked once, at the start.
//!
//! A server behind a Service of the cluster whose APIService takes the version over comes first: see
//! [`crate::aggregation`].

use std::{convert::Infallible, fmt, sync::Arc};

use futures::future::BoxFuture;
use http::{Request, Response};
use serde_json::Value;
use tower::{Service, ServiceExt, util::BoxCloneSyncService};
use transport::Body;

use crate::{
    aggregation,
    bootstrap::StartError,
    request::{RequestInfo, UserInfo},
    resources::Resource,
    status::Status,
};

/// A list of resources is short.
const ANSWER_LIMIT: usize = 1 << 20;

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
        head.extensions.clear();
        aggregation::introduce(user, &mut head.headers);
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
