//! Whether the server behind an APIService's Service is there: the condition `Available`.
//!
//! It is looked at when an APIService, its Service or an endpoint changes, twice a minute, and sooner
//! as long as it is not there. Who is there is asked what it serves, too.
//!
//! Upstream: pkg/controllers/status/remote of kube-aggregator.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{StreamExt, future, stream::FuturesUnordered};
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{AVAILABLE, Aggregator, Api, GROUP, PLURAL, Remote, condition, introduce, services};
use crate::{
    authz::{items, text},
    bootstrap, conditions, proxy, registry,
    request::UserInfo,
    server::{Server, timestamp},
};

/// Upstream's resync, and its limit of a discovery request.
const PERIOD: Duration = Duration::from_secs(30);
pub(super) const LIMIT: Duration = Duration::from_secs(5);
/// After a failure; doubled each time, up to the period.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Between two looks at what keeps changing.
const PAUSE: Duration = Duration::from_millis(200);

const SERVICES: (&str, &str) = ("", "services");
const SLICES: (&str, &str) = ("discovery.k8s.io", "endpointslices");

/// What was found the last time.
struct Checked {
    /// Of what it depends on here.
    seen: Value,
    due: Instant,
    failures: u32,
}

/// One condition, as far as it is found out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    status: &'static str,
    reason: &'static str,
    message: String,
}

impl Found {
    fn not(reason: &'static str, message: String) -> Self {
        Self { status: "False", reason, message }
    }
}

impl Server {
    /// Keeps the APIServices' conditions, and those of custom resources themselves, for ever.
    pub(crate) async fn follow_api_services(self: &Arc<Self>) {
        let mut known: HashMap<Api, Checked> = HashMap::new();
        loop {
            let from = self.store.revision();
            if let Err(error) = services::follow_definitions(self).await {
                tracing::warn!(%error, "the APIServices of custom resources could not be kept");
            }
            let table = self.aggregator.table();
            known.retain(|api, _| table.remotes.contains_key(api));
            let seen: Vec<(Arc<Remote>, Value)> =
                table.remotes.values().map(|it| (it.clone(), self.aggregator.seen(it))).collect();
            let now = Instant::now();
            let due = seen.into_iter().filter(|(remote, seen)| {
                known.get(&remote.api).is_none_or(|it| it.due <= now || it.seen != *seen)
            });
            let checks: FuturesUnordered<_> =
                due.map(|(remote, seen)| self.clone().look(remote, seen)).collect();
            for (api, seen, is_well) in checks.collect::<Vec<_>>().await {
                let failures = match known.get(&api) {
                    _ if is_well => 0,
                    Some(it) if it.seen == seen => it.failures + 1,
                    _ => 1,
                };
                let wait = match failures {
                    0 => PERIOD,
                    some => PERIOD.min(FIRST_RETRY * 2_u32.pow(some.min(6) - 1)),
                };
                known.insert(api, Checked { seen, due: Instant::now() + wait, failures });
            }
            let next = known.values().map(|it| it.due).min();
            self.something_to_see(from, next, !known.is_empty()).await;
        }
    }

    /// One remote, and whether it is there.
    async fn look(self: Arc<Self>, remote: Arc<Remote>, seen: Value) -> (Api, Value, bool) {
        let found = self.aggregator.check(&remote).await;
        let is_well = found.status == "True";
        if is_well {
            self.aggregator.learn(&remote).await;
        } else {
            self.aggregator.doubt(&remote);
        }
        if let Err(error) = self.tell(&remote, &found).await {
            tracing::warn!(%error, name = remote.name, "an APIService's status was not written");
        }
        (remote.api.clone(), seen, is_well)
    }

    async fn tell(
        self: &Arc<Self>,
        remote: &Remote,
        found: &Found,
    ) -> Result<(), bootstrap::StartError> {
        let Some(mut object) = self.objects.get(GROUP, PLURAL, "", &remote.name) else {
            return Ok(());
        };
        let same = |it: &Value| {
            it["status"] == found.status
                && it["reason"] == found.reason
                && it["message"] == found.message
        };
        let is_other = Remote::of(&object).is_none_or(|it| it.service != remote.service);
        if is_other || condition(&object).is_some_and(same) {
            return Ok(());
        }
        let condition = json!({
            "type": AVAILABLE, "status": found.status, "reason": found.reason,
            "message": found.message,
        });
        conditions::set(&mut object, condition, &timestamp(self.clock.now()));
        let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{}/status", remote.name);
        let tolerated = &[StatusCode::CONFLICT, StatusCode::NOT_FOUND];
        bootstrap::send(self, Method::PUT, path, &object, tolerated).await
    }

    /// Waits for a change of what the conditions depend on, or until one is due.
    async fn something_to_see(&self, from: u64, due: Option<Instant>, has_remotes: bool) {
        let definitions = ("apiextensions.k8s.io", "customresourcedefinitions");
        let mut watched = vec![(GROUP, PLURAL), definitions];
        if has_remotes {
            watched.extend([SERVICES, SLICES]);
        }
        let changes = watched.into_iter().map(|(group, plural)| {
            let watcher = self.store.watch(&registry::prefix(group, plural, ""), from);
            Box::pin(async move {
                if let Ok(mut watcher) = watcher {
                    drop(watcher.next().await);
                }
            })
        });
        let due = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            _ = future::select_all(changes) => tokio::time::sleep(PAUSE).await,
            () = due => {}
        }
    }
}

impl Aggregator {
    /// What of the objects here the condition depends on.
    fn seen(&self, remote: &Remote) -> Value {
        let service = self.objects.get("", "services", &remote.namespace, &remote.service);
        let service = service.map(|it| it["spec"].clone());
        let slices: Vec<Value> =
            self.slices(remote).iter().map(|it| json!([it["endpoints"], it["ports"]])).collect();
        json!([
            remote.service,
            remote.namespace,
            remote.port,
            remote.authority,
            remote.is_unverified,
            service,
            slices
        ])
    }

    fn slices(&self, remote: &Remote) -> Vec<Value> {
        let (group, plural) = SLICES;
        let all = self.objects.list_mentioning(group, plural, &remote.namespace, &remote.service);
        let label = "/metadata/labels/kubernetes.io~1service-name";
        all.into_iter().filter(|it| text(it, label) == remote.service).collect()
    }

    async fn check(&self, remote: &Remote) -> Found {
        if let Some(found) = self.check_objects(remote) {
            return found;
        }
        match self.ask(remote, &remote.root(), "application/json").await {
            Ok(_) => {
                Found { status: "True", reason: "Passed", message: "all checks passed".into() }
            }
            Err(why) => Found::not("FailedDiscoveryCheck", why),
        }
    }

    /// Whether there is somebody to ask.
    fn check_objects(&self, remote: &Remote) -> Option<Found> {
        let Remote { namespace, service: name, port, .. } = remote;
        let about = format!("service/{name} in {namespace:?}");
        let Some(service) = self.objects.get("", "services", namespace, name) else {
            return Some(Found::not("ServiceNotFound", format!("{about} is not present")));
        };
        if text(&service, "/spec/type") != "ClusterIP" {
            return None;
        }
        let ports = items(&service, "/spec/ports");
        let Some(found) = ports.iter().find(|it| it["port"] == *port) else {
            let why = format!("{about} is not listening on port {port}");
            return Some(Found::not("ServicePortError", why));
        };
        let slices = self.slices(remote);
        if slices.is_empty() {
            let why = format!("cannot find endpointslices for {about}");
            return Some(Found::not("EndpointsNotFound", why));
        }
        let port_name = text(found, "/name");
        let serves = |slice: &Value| {
            let has_port = items(slice, "/ports").iter().any(|it| text(it, "/name") == port_name);
            let is_ready =
                |it: &Value| it.pointer("/conditions/ready") != Some(&Value::Bool(false));
            has_port && items(slice, "/endpoints").iter().any(is_ready)
        };
        if !slices.iter().any(serves) {
            let why =
                format!("endpoints for {about} have no addresses with port name {port_name:?}");
            return Some(Found::not("MissingEndpoints", why));
        }
        None
    }

    /// What the server says at a path; its media type and body.
    pub(super) async fn ask(
        &self,
        remote: &Remote,
        path: &str,
        accept: &str,
    ) -> Result<(String, bytes::Bytes), String> {
        let address = self.resolve(remote).map_err(|status| {
            format!("failing or missing response from {path}: {}", status.message)
        })?;
        let url = format!("https://{address}{path}");
        let failed = |why: String| format!("failing or missing response from {url}: {why}");
        let secure = remote.secure(self.identity.as_ref()).map_err(failed)?;
        let mut request = Request::get(path)
            .header(http::header::ACCEPT, accept)
            .body(transport::empty())
            .map_err(|error| failed(error.to_string()))?;
        introduce(
            &UserInfo::new("system:kube-aggregator", &["system:masters"]),
            request.headers_mut(),
        );
        let asked = async {
            let answer = proxy::hand_on(&self.proxy, address, secure, request).await;
            let answer = answer.map_err(|status| {
                let why = status.message;
                let why = why.trim_start_matches("error trying to reach service: ").to_owned();
                failed(format!("Get \"{url}\": {why}"))
            })?;
            let status = answer.status();
            if !status.is_success() {
                return Err(failed(format!("bad status from {url}: {}", status.as_u16())));
            }
            let media = answer.headers().get(http::header::CONTENT_TYPE);
            let media = media.and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned();
            let body = transport::collect(answer.into_body(), super::documents::LIMIT).await;
            let body = body.map_err(|error| failed(error.to_string()))?;
            Ok((media, body.ok_or_else(|| failed("the answer is too long".into()))?))
        };
        let late = |_| failed(format!("Get \"{url}\": context deadline exceeded"));
        tokio::time::timeout(LIMIT, asked).await.map_err(late)?
    }
}
