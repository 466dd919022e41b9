//! A request that claims to be signed: it never panics the verifier, and none is ever accepted that
//! was not signed with the key.
//!
//! The input's lines are: method, path and query, then headers as `name: value`; after an empty
//! line comes the body.

use aws_wire::sigv4::Presented;
use http::{HeaderName, HeaderValue, Method, Request, Uri, request::Parts};
use jiff::Timestamp;

/// Nobody can guess it, and the fuzzer does not read it.
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn request(head: &str) -> Option<Parts> {
    let mut lines = head.lines();
    let method: Method = lines.next()?.parse().ok()?;
    let uri: Uri = lines.next()?.parse().ok()?;
    let mut request = Request::builder().method(method).uri(uri).body(()).ok()?;
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value))
        else {
            continue;
        };
        request.headers_mut().append(name, value);
    }
    Some(request.into_parts().0)
}

pub(crate) fn run(data: &[u8]) {
    let end = data.windows(2).position(|it| it == b"\n\n").unwrap_or(data.len());
    let (head, body) = data.split_at(end);
    let Ok(head) = std::str::from_utf8(head) else { return };
    let Some(request) = request(head) else { return };
    let Ok(Some(presented)) = Presented::read(&request) else { return };
    let now: Timestamp = "2015-08-30T12:36:00Z".parse().expect("a date");
    assert!(presented.verify(&request, body, SECRET, now).is_err(), "a forgery was accepted");
    // Whatever is claimed, asking about it is harmless.
    let _ = presented.signs("host");
}
