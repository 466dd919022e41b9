//! `/healthz`, `/livez`, `/readyz`: whether requests can be answered.
//!
//! `etcd` is the store, whatever keeps it: an empty commit asks etcd, or finds out whether a disk
//! that has failed takes writes again. The body of a failure names the checks and, as upstream's,
//! withholds reasons; they are in the log.
//!
//! Upstream: `healthz` of k8s.io/apiserver.

use std::time::Duration;

use http::{Response, StatusCode};
use tracing::warn;
use transport::Body;

use super::plain;
use crate::{request::query_pairs, server::Server, status::Status};

const CHECKS: [&str; 2] = ["ping", "etcd"];
/// Upstream's `etcd-healthcheck-timeout`.
const LIMIT: Duration = Duration::from_secs(2);

/// All checks but those that the query excludes.
pub(super) async fn all(server: &Server, name: &str, query: &str) -> Response<Body> {
    let excluded: Vec<String> =
        query_pairs(query).filter(|it| it.0 == "exclude").map(|it| it.1).collect();
    let (mut lines, mut is_well) = (String::new(), true);
    for check in CHECKS {
        let found = if excluded.iter().any(|it| it == check) {
            "[+]{} excluded: ok\n"
        } else if passes(server, check).await {
            "[+]{} ok\n"
        } else {
            is_well = false;
            "[-]{} failed: reason withheld\n"
        };
        lines.push_str(&found.replace("{}", check));
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

/// One check, by its name.
pub(super) async fn one(server: &Server, check: &str) -> Result<Response<Body>, Status> {
    if !CHECKS.contains(&check) {
        return Err(Status::no_such_path());
    }
    let is_well = passes(server, check).await;
    let mut response =
        plain(if is_well { "ok" } else { "internal server error: reason withheld\n" });
    if !is_well {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    Ok(response)
}

async fn passes(server: &Server, check: &str) -> bool {
    if check == "ping" {
        return true;
    }
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
