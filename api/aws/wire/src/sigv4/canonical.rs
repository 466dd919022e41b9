//! The one text of a request that both sides compute.

use http::{HeaderMap, Method, Uri};

use super::ALGORITHM;
use crate::percent;

/// The canonical request, hashed by the caller into the string to sign.
pub(super) fn request(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    signed_headers: &[String],
    payload_hash: &str,
    service: &str,
) -> String {
    // S3's keys may hold what a path is normalized by, so theirs are signed as they are sent.
    let path = if service == "s3" { uri.path().to_owned() } else { path(uri.path()) };
    let mut text = format!("{method}\n{path}\n{}\n", query(uri.query()));
    for name in signed_headers {
        text.push_str(name);
        text.push(':');
        text.push_str(&header(name, headers, uri));
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&signed_headers.join(";"));
    text.push('\n');
    text.push_str(payload_hash);
    text
}

pub(super) fn string_to_sign(date: &str, scope: &str, canonical_request: &str) -> String {
    format!(
        "{ALGORITHM}\n{date}\n{scope}\n{}",
        super::key::sha256_hex(canonical_request.as_bytes())
    )
}

/// Normalized, and encoded once more than on the wire (all services but S3).
fn path(raw: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in raw.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    let mut normal = format!("/{}", segments.join("/"));
    if raw.ends_with('/') && normal.len() > 1 {
        normal.push('/');
    }
    percent::encode_path(&normal)
}

/// Sorted, strictly encoded, and without the signature itself.
fn query(raw: Option<&str>) -> String {
    let mut pairs: Vec<(String, String)> = percent::pairs(raw.unwrap_or_default())
        .iter()
        .filter(|(name, _)| name != "X-Amz-Signature")
        .map(|(name, value)| (percent::encode(name), percent::encode(value)))
        .collect();
    pairs.sort();
    let pairs = pairs.into_iter().map(|(name, value)| name + "=" + &value);
    pairs.collect::<Vec<_>>().join("&")
}

/// All values of a header, each with its spaces collapsed. HTTP/2 has its host in the URI.
fn header(name: &str, headers: &HeaderMap, uri: &Uri) -> String {
    let values: Vec<String> = headers
        .get_all(name)
        .iter()
        .map(|value| {
            let text = String::from_utf8_lossy(value.as_bytes());
            text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
        })
        .collect();
    if values.is_empty() && name == "host" {
        return uri.authority().map_or_else(String::new, ToString::to_string);
    }
    values.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalized_and_encoded_again() {
        for (raw, expected) in [
            ("/", "/"),
            ("//a/./b/../c", "/a/c"),
            ("/a/", "/a/"),
            ("/a%20b", "/a%2520b"),
            ("/../..", "/"),
        ] {
            assert_eq!(path(raw), expected, "{raw}");
        }
    }

    #[test]
    fn queries_are_sorted_by_their_encoded_form() {
        assert_eq!(query(Some("b=2&a=1&a=0&c&X-Amz-Signature=x")), "a=0&a=1&b=2&c=");
        assert_eq!(query(Some("p=a+b&q=%2f")), "p=a%20b&q=%2F");
        assert_eq!(query(None), "");
    }
}
