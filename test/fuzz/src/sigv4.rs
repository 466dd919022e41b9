//! A request that claims to be signed: it never panics the verifier, none is ever accepted that was
//! not signed with the key, and what was signed with it is.
//!
//! The input's lines are: method, path and query, then headers as `name: value`; after an empty
//! line comes the body.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::LazyLock,
};

use aws_wire::{
    credentials::Credentials,
    sigv4::{Presented, Signer},
};
use http::{HeaderName, HeaderValue, Method, Request, Uri, request::Parts};
use jiff::Timestamp;

/// Another one in each run: no input of a corpus can have been signed with it.
static SECRET: LazyLock<String> = LazyLock::new(|| {
    let half = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", half(), half())
});

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
    let now: Timestamp = "2015-08-30T12:36:00Z".parse().expect("a date");
    there_and_back(&request, body, now);
    let Ok(Some(presented)) = Presented::read(&request) else { return };
    assert!(presented.verify(&request, body, &SECRET, now).is_err(), "a forgery was accepted");
    // Whatever is claimed, asking about it is harmless.
    let _ = presented.signs("host");
}

/// The same method, path and body, signed by us: accepted as they are and in no other way.
fn there_and_back(request: &Parts, body: &[u8], now: Timestamp) {
    if request.uri.query().is_some_and(|it| it.to_ascii_lowercase().contains("x-amz-")) {
        // It claims a signature of its own.
        return;
    }
    let own = Request::builder().method(&request.method).uri(&request.uri);
    let Ok(own) = own.header("host", "sts.us-east-1.amazonaws.com").body(()) else { return };
    let mut own = own.into_parts().0;
    let credentials = Credentials::new("AKIDEXAMPLE", SECRET.as_str());
    let (region, service) = ("us-east-1", "sts");
    Signer { credentials: &credentials, region, service, now }.sign(&mut own, body);
    let presented = Presented::read(&own).ok().flatten().expect("it is signed");
    let verified = presented.verify(&own, body, &SECRET, now);
    assert!(verified.is_ok(), "what was signed was refused: {verified:?}");
    let mut other = body.to_vec();
    match other.last_mut() {
        Some(last) => *last ^= 1,
        None => other.push(b'x'),
    }
    assert!(presented.verify(&own, &other, &SECRET, now).is_err(), "another body was accepted");
}
