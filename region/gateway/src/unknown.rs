//! The answer to requests for services that this region does not have.
//!
//! Nobody here knows their shapes, but the form of their errors can be told from the request, so
//! that clients print what is wrong and not that they cannot read it.

use aws_wire::{
    Fault,
    codec::{self, Form},
    service::{self, Service},
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
    let fault = match guess(parts, name) {
        Guess::S3 => {
            Fault::new("NotImplemented", message(name)).with_status(StatusCode::NOT_IMPLEMENTED)
        }
        Guess::Service("sts") => Fault::new("InvalidAction", message(name)),
        Guess::Service("ssm") => Fault::new("UnknownOperationException", message(name)),
        _ => Fault::new("UnknownOperationException", message(name))
            .with_status(StatusCode::NOT_FOUND),
    };
    refuse(parts, name, &fault, request_id)
}

/// Whose form the client of a service expects: the service's own name is all that is known.
enum Guess {
    Cbor,
    S3,
    /// One that this region has, and that has the same form.
    Service(&'static str),
}

/// A refusal, in the form of the service that the request was signed for.
pub(crate) fn refuse(
    parts: &Parts,
    name: &str,
    fault: &Fault,
    request_id: &str,
) -> Response<Bytes> {
    match guess(parts, name) {
        Guess::Cbor => in_cbor(fault, request_id),
        Guess::S3 => of_s3(fault, request_id),
        Guess::Service(like) => {
            let like = service::find(like).expect("it is in the table of services");
            codec::encode_fault(like, fault, request_id, Form::Native)
        }
    }
}

/// The service whose faults are worded as those of `name` may be.
pub(crate) fn alike(parts: &Parts, name: &str) -> &'static Service {
    let own = service::find(name).or_else(|| match guess(parts, name) {
        Guess::Service(like) => service::find(like),
        Guess::Cbor | Guess::S3 => service::find("sts"),
    });
    own.expect("it is in the table of services")
}

fn guess(parts: &Parts, name: &str) -> Guess {
    let says = |name: HeaderName, value: &str| {
        let found = parts.headers.get(name).and_then(|it| it.to_str().ok());
        found.is_some_and(|it| it.starts_with(value))
    };
    if says(SMITHY_PROTOCOL, CBOR) {
        Guess::Cbor
    } else if name.starts_with("s3") && !REST_XML.contains(&name) {
        Guess::S3
    } else if says(CONTENT_TYPE, "application/x-www-form-urlencoded") || REST_XML.contains(&name) {
        Guess::Service("sts")
    } else if parts.headers.contains_key("x-amz-target") {
        Guess::Service("ssm")
    } else {
        Guess::Service("eks")
    }
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
fn of_s3(fault: &Fault, request_id: &str) -> Response<Bytes> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{}</Code>\
         <Message>{}</Message><RequestId>{request_id}</RequestId></Error>",
        fault.code,
        escaped(&fault.message),
    );
    let headers = [(CONTENT_TYPE, "application/xml")];
    respond(fault.status, headers, body.into(), "x-amz-request-id", request_id)
}

/// Who asks has a say in what a denial names.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A map of two texts.
fn in_cbor(fault: &Fault, request_id: &str) -> Response<Bytes> {
    let mut body = vec![0xa2];
    for text in ["__type", &*fault.code, "message", &*fault.message] {
        // Major type 3, a length of two bytes; a text that is cut within a character is none.
        let text = &text[..text.floor_char_boundary(u16::MAX.into())];
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        body.push(0x79);
        body.extend(length.to_be_bytes());
        body.extend(text.bytes());
    }
    let headers = [(CONTENT_TYPE, "application/cbor"), (SMITHY_PROTOCOL, CBOR)];
    respond(fault.status, headers, body.into(), "x-amzn-requestid", request_id)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_of_cbor_is_cut_between_characters() {
        let fault = Fault::new("Code", "é".repeat(40_000));
        let body = in_cbor(&fault, "id").into_body();
        let text = body.windows(8).position(|it| it.starts_with(b"\x79\xff")).unwrap();
        let length = usize::from(u16::from_be_bytes([body[text + 1], body[text + 2]]));
        assert_eq!(body.len(), text + 3 + length, "the length is the text's");
        assert!(std::str::from_utf8(&body[text + 3..]).is_ok_and(|it| it.ends_with('é')));
    }
}
