//! The answer to requests for services that this region does not have.
//!
//! Nobody here knows their shapes, but the form of their errors can be told from the request, so
//! that clients print what is wrong and not that they cannot read it.

use aws_wire::{
    Fault,
    codec::{self, Form},
    service,
    sigv4::Presented,
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderName},
    request::Parts,
};

const SMITHY_PROTOCOL: HeaderName = HeaderName::from_static("smithy-protocol");
const CBOR: &str = "rpc-v2-cbor";
/// Services whose errors are XML although their requests are no forms.
const REST_XML: [&str; 3] = ["cloudfront", "route53", "s3control"];

/// `presented`: the request's signature, which names the service that it is for.
pub(crate) fn answer(
    parts: &Parts,
    presented: Option<&Presented>,
    request_id: &str,
) -> Response<Bytes> {
    let name = presented.map(|it| it.service.as_str()).unwrap_or_default();
    let message = message(name);
    let says = |name: HeaderName, value: &str| {
        let found = parts.headers.get(name).and_then(|it| it.to_str().ok());
        found.is_some_and(|it| it.starts_with(value))
    };
    let (guess, fault) = if says(SMITHY_PROTOCOL, CBOR) {
        return in_cbor(&message, request_id);
    } else if name.starts_with("s3") && !REST_XML.contains(&name) {
        return of_s3(&message, request_id);
    } else if says(CONTENT_TYPE, "application/x-www-form-urlencoded") || REST_XML.contains(&name) {
        ("sts", Fault::new("InvalidAction", message))
    } else if parts.headers.contains_key("x-amz-target") {
        ("ssm", Fault::new("UnknownOperationException", message))
    } else {
        let fault = Fault::new("UnknownOperationException", message);
        ("eks", fault.with_status(StatusCode::NOT_FOUND))
    };
    let guess = service::find(guess).expect("it is in the table of services");
    codec::encode_fault(guess, &fault, request_id, Form::Native)
}

fn message(name: &str) -> String {
    // What was signed for goes back to the client: a name of a service, or nothing.
    let is_name = !name.is_empty()
        && name.len() < 64
        && name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-');
    let which = if is_name { format!("The service '{name}'") } else { "This service".to_owned() };
    let all: Vec<_> = service::names().collect();
    format!("{which} is not part of this region. Nodestead has: {}.", all.join(", "))
}

/// S3's errors have no envelope. A client of a request without an answer's body (HEAD) prints what
/// the status says.
fn of_s3(message: &str, request_id: &str) -> Response<Bytes> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NotImplemented</Code>\
         <Message>{message}</Message><RequestId>{request_id}</RequestId></Error>"
    );
    let headers = [(CONTENT_TYPE, "application/xml")];
    respond(StatusCode::NOT_IMPLEMENTED, headers, body.into(), "x-amz-request-id", request_id)
}

/// A map of two texts.
fn in_cbor(message: &str, request_id: &str) -> Response<Bytes> {
    let mut body = vec![0xa2];
    for text in ["__type", "UnknownOperationException", "message", message] {
        // Major type 3, a length of two bytes.
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        body.push(0x79);
        body.extend(length.to_be_bytes());
        body.extend(text.bytes().take(length.into()));
    }
    let headers = [(CONTENT_TYPE, "application/cbor"), (SMITHY_PROTOCOL, CBOR)];
    respond(StatusCode::NOT_FOUND, headers, body.into(), "x-amzn-requestid", request_id)
}

fn respond<const N: usize>(
    status: StatusCode,
    headers: [(HeaderName, &'static str); N],
    body: Bytes,
    id_header: &'static str,
    request_id: &str,
) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let all: &mut HeaderMap = response.headers_mut();
    all.extend(headers.map(|(name, value)| (name, HeaderValue::from_static(value))));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        all.insert(id_header, id);
    }
    response
}
