//! `/health` on 8080, `/ready` on 8181, `/metrics` on 9153.

use std::{convert::Infallible, sync::Arc};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use transport::Body;

use crate::server::Server;

pub async fn health(_: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    Ok(answer(StatusCode::OK, "OK".to_owned()))
}

/// Ready when the first lists are complete.
pub async fn ready(
    _: Request<Incoming>,
    server: Arc<Server>,
) -> Result<Response<Body>, Infallible> {
    Ok(match server.is_ready() {
        true => answer(StatusCode::OK, "OK".to_owned()),
        false => answer(StatusCode::SERVICE_UNAVAILABLE, "kubernetes".to_owned()),
    })
}

pub async fn metrics(
    _: Request<Incoming>,
    server: Arc<Server>,
) -> Result<Response<Body>, Infallible> {
    Ok(answer(StatusCode::OK, server.metrics.render()))
}

fn answer(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(transport::full(text));
    *response.status_mut() = status;
    response
}
