//! Reviews over HTTP: read one, answer one.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::body::Body as HttpBody;
use serde_json::Value;
use transport::{Body, BoxError};

/// Upstream reads no more of a review.
const LIMIT: usize = 1 << 20;

/// The review in a `POST` of `path`; what to answer where there is none.
pub(crate) async fn read<B>(request: Request<B>, path: &str) -> Result<Value, Response<Body>>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    if request.uri().path() != path {
        return Err(plain(StatusCode::NOT_FOUND, "not found"));
    }
    if request.method() != Method::POST {
        return Err(plain(StatusCode::METHOD_NOT_ALLOWED, "expected POST"));
    }
    let body = transport::collect(request.into_body(), LIMIT).await;
    let Ok(Some(body)) = body else {
        return Err(plain(StatusCode::BAD_REQUEST, "expected a request body of at most 1 MiB"));
    };
    serde_json::from_slice(&body)
        .map_err(|_| plain(StatusCode::BAD_REQUEST, "expected a request body to be a review"))
}

pub(crate) fn json(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(transport::full(body.to_string()));
    *response.status_mut() = status;
    let value = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, value);
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(transport::full(text));
    *response.status_mut() = status;
    response
}

/// The strings of an array, or of nothing.
pub(crate) fn words(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}
