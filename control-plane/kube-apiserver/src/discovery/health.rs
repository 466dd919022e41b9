//! `/healthz`, `/livez`, `/readyz`: whether requests can be answered.
//!
//! `etcd` is the store, whatever keeps it: an empty commit asks etcd, or finds out whether a disk
//! that has failed takes writes again. `poststarthook/…` says what has been begun: what the start
//! itself does is over before the first request is answered, what follows the store for ever begins
//! with [`crate::ApiServer::maintain`]. The body of a failure names the checks and, as upstream's,
//! withholds reasons; they are in the log.
//!
//! Upstream: `healthz` of k8s.io/apiserver.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use http::{Response, StatusCode};
use tracing::warn;
use transport::Body;

use super::plain;
use crate::{request::query_pairs, server::Server, status::Status};

const CHECKS: [&str; 3] = ["ping", "log", "etcd"];
/// What `/readyz` asks besides.
const OF_READYZ: [&str; 2] = ["etcd-readiness", "informer-sync"];
/// Done by the start, by upstream's names of what does it there.
const STARTED: [&str; 12] = [
    "poststarthook/start-apiserver-admission-initializer",
    "poststarthook/start-kube-apiserver-admission-initializer",
    "poststarthook/generic-apiserver-start-informers",
    "poststarthook/priority-and-fairness-filter",
    "poststarthook/apiservice-openapi-controller",
    "poststarthook/crd-informer-synced",
    "poststarthook/start-service-ip-repair-controllers",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/priority-and-fairness-config-consumer",
    "poststarthook/kube-apiserver-autoregistration",
    "autoregister-completion",
];
/// What goes on for ever.
const MAINTAINED: [&str; 14] = [
    "poststarthook/start-apiextensions-informers",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/bootstrap-controller",
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/start-cluster-authentication-info-controller",
    "poststarthook/start-legacy-token-tracking-controller",
    "poststarthook/start-kubernetes-service-cidr-controller",
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/start-kube-aggregator-informers",
    "poststarthook/apiservice-registration-controller",
    // One before 1.32, two since.
    "poststarthook/apiservice-status-available-controller",
    "poststarthook/apiservice-status-local-available-controller",
    "poststarthook/apiservice-status-remote-available-controller",
    "poststarthook/apiservice-discovery-controller",
];
/// Upstream's `etcd-healthcheck-timeout`.
const LIMIT: Duration = Duration::from_secs(2);

/// All checks but those that the query excludes.
pub(super) async fn all(server: &Server, name: &str, query: &str) -> Response<Body> {
    let mut excluded: BTreeSet<String> =
        query_pairs(query).filter(|it| it.0 == "exclude").map(|it| it.1).collect();
    let (mut lines, mut is_well) = (String::new(), true);
    for check in checks(name) {
        let found = if excluded.remove(check) {
            "[+]{} excluded: ok\n"
        } else if passes(server, name, check).await {
            "[+]{} ok\n"
        } else {
            is_well = false;
            "[-]{} failed: reason withheld\n"
        };
        lines.push_str(&found.replace("{}", check));
    }
    if !excluded.is_empty() {
        let names: Vec<_> = excluded.iter().map(|it| format!("{it:?}")).collect();
        let names = names.join(", ");
        lines.push_str("warn: some health checks cannot be excluded: no matches for ");
        lines.push_str(&format!("{names}\n"));
    }
    if !is_well {
        let mut response = plain(format!("{lines}{name} check failed\n"));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return response;
    }
    match query_pairs(query).any(|it| it.0 == "verbose") {
        true => plain(format!("{lines}{name} check passed\n")),
        false => plain("ok"),
    }
}

/// One check of an endpoint, by its name.
pub(super) async fn one(
    server: &Server,
    name: &str,
    check: &str,
) -> Result<Response<Body>, Status> {
    if !checks(name).any(|it| it == check) {
        return Err(Status::page_not_found());
    }
    let is_well = passes(server, name, check).await;
    let mut response =
        plain(if is_well { "ok" } else { "internal server error: reason withheld\n" });
    if !is_well {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    Ok(response)
}

/// What `/healthz`, `/livez` or `/readyz` asks, in this order.
fn checks(name: &str) -> impl Iterator<Item = &'static str> {
    let of_readyz = if name == "readyz" { &OF_READYZ[..] } else { &[] };
    CHECKS.iter().chain(of_readyz).chain(&STARTED).chain(&MAINTAINED).copied()
}

/// What comes of a check; it is counted for `/metrics/slis`.
async fn passes(server: &Server, endpoint: &str, check: &str) -> bool {
    let is_well = match check {
        "etcd" | "etcd-readiness" => stores(server).await,
        _ if MAINTAINED.contains(&check) => server.is_maintained.load(Ordering::Relaxed),
        _ => true,
    };
    let endpoint = ["healthz", "livez", "readyz"].into_iter().find(|it| *it == endpoint);
    let check = checks("readyz").find(|it| *it == check);
    if let (Some(endpoint), Some(check)) = (endpoint, check) {
        server.metrics.checked(check, endpoint, is_well);
    }
    is_well
}

/// Whether the store can be written.
async fn stores(server: &Server) -> bool {
    match tokio::time::timeout(LIMIT, server.store.check()).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            warn!(error = %telemetry::chain(&error), "the store is not healthy");
            false
        }
        Err(_) => {
            warn!("the store has not answered in {} s", LIMIT.as_secs());
            false
        }
    }
}
