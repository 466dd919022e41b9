//! `/metrics` on 61678 and what ipamd knows, as JSON, on 127.0.0.1:61679.

use std::{convert::Infallible, sync::Arc};

use http::{Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::body::Incoming;
use serde_json::{Value, json};
use transport::Body;

use crate::{datastore::Datastore, ipamd::Ipamd};

/// Answers `/metrics`.
pub async fn metrics(
    request: Request<Incoming>,
    ipamd: Arc<Ipamd>,
) -> Result<Response<Body>, Infallible> {
    if request.uri().path() != "/metrics" {
        return Ok(plain(StatusCode::NOT_FOUND, "text/plain", "404 page not found\n".to_owned()));
    }
    ipamd.measure();
    Ok(plain(StatusCode::OK, "text/plain; version=0.0.4", ipamd.metrics.render()))
}

/// Answers `/v1/enis`, `/v1/pool` and `/v1/ipamd-env-settings`.
///
/// Deviation: `/v1/pool` is ours: the next step of the pool and its reason.
pub async fn introspect(
    request: Request<Incoming>,
    ipamd: Arc<Ipamd>,
) -> Result<Response<Body>, Infallible> {
    let answer = match request.uri().path() {
        "/v1/enis" => enis(&ipamd.snapshot()),
        "/v1/pool" => {
            let plan = ipamd.plan();
            json!({ "step": format!("{:?}", plan.step), "reason": plan.reason })
        }
        "/v1/ipamd-env-settings" => json!({ "config": format!("{:?}", ipamd.parts.config) }),
        _ => json!(["/v1/enis", "/v1/pool", "/v1/ipamd-env-settings"]),
    };
    Ok(plain(StatusCode::OK, "application/json", answer.to_string()))
}

/// Without container ids: whoever can read this port need not know them.
fn enis(store: &Datastore) -> Value {
    let stock = store.stock();
    let mut enis = serde_json::Map::new();
    for eni in store.enis() {
        let addresses: serde_json::Map<String, Value> = eni
            .holders()
            .map(|(address, holder, released)| {
                let released = released.map(|it| it.to_string());
                let row = json!({ "Assigned": holder.is_some(), "UnassignedTime": released });
                (address.to_string(), row)
            })
            .collect();
        let attached = &eni.attached;
        let row = json!({
            "ID": attached.id,
            "IsPrimary": attached.is_primary(),
            "DeviceNumber": attached.device_number,
            "SubnetID": attached.subnet_id,
            "IPv4Addresses": addresses,
            "IPv4Prefixes": attached.prefixes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        enis.insert(attached.id.clone(), row);
    }
    json!({ "TotalIPs": stock.total, "AssignedIPs": stock.assigned, "ENIs": enis })
}

fn plain(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(transport::full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
