//! The caller's side.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Uri, header::AUTHORIZATION, request::Parts};
use jiff::{Timestamp, tz::TimeZone};

use super::{
    ALGORITHM, canonical,
    key::{self, Scope},
};
use crate::{credentials::Credentials, percent};

/// Signs requests to one service.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    pub credentials: &'a Credentials,
    pub region: &'a str,
    pub service: &'a str,
    pub now: Timestamp,
}

impl Signer<'_> {
    /// Adds the date, the session token and the signature. The `Host` header must be set.
    ///
    /// A value that a header cannot hold is left out, and the service refuses the signature.
    pub fn sign(&self, request: &mut Parts, body: &[u8]) {
        let date = amz_date(self.now);
        set(&mut request.headers, "x-amz-date", &date);
        if let Some(token) = &self.credentials.session_token {
            set(&mut request.headers, "x-amz-security-token", token);
        }
        let signed = signed_headers(&request.headers);
        let hash = key::sha256_hex(body);
        let text = canonical::request(
            &request.method,
            &request.uri,
            &request.headers,
            &signed,
            &hash,
            self.service,
        );
        let scope = Scope { day: &date[..8], region: self.region, service: self.service };
        let to_sign = canonical::string_to_sign(&date, &scope.to_string(), &text);
        let signature = key::signature(&self.credentials.secret_access_key, &scope, &to_sign);
        let value = format!(
            "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
            self.credentials.access_key_id,
            signed.join(";"),
        );
        if let Ok(value) = HeaderValue::from_str(&value) {
            request.headers.insert(AUTHORIZATION, value);
        }
    }
}

/// Signs a `GET` of `url` into its query, for whoever holds the URL within `expires`.
///
/// `headers` must be sent along as they are here: the EKS token's `x-k8s-aws-id` is one. Gives
/// `None` when `url` has no host.
pub fn presign(
    signer: &Signer<'_>,
    url: &Uri,
    headers: &[(&str, &str)],
    expires: Duration,
) -> Option<String> {
    let host = url.authority()?.as_str();
    let date = amz_date(signer.now);
    let scope = Scope { day: &date[..8], region: signer.region, service: signer.service };
    let mut with_host = HeaderMap::new();
    set(&mut with_host, "host", host);
    for (name, value) in headers {
        set(&mut with_host, &name.to_ascii_lowercase(), value);
    }
    let signed = signed_headers(&with_host);

    let mut pairs = percent::pairs(url.query().unwrap_or_default());
    let mut add = |name: &str, value: String| pairs.push((name.to_owned(), value));
    add("X-Amz-Algorithm", ALGORITHM.to_owned());
    add("X-Amz-Credential", format!("{}/{scope}", signer.credentials.access_key_id));
    add("X-Amz-Date", date.clone());
    add("X-Amz-Expires", expires.as_secs().to_string());
    if let Some(token) = &signer.credentials.session_token {
        add("X-Amz-Security-Token", token.clone());
    }
    add("X-Amz-SignedHeaders", signed.join(";"));
    let query = percent::join(pairs.iter().map(|(name, value)| (&**name, &**value)));

    let scheme = url.scheme_str().unwrap_or("https");
    let path = url.path();
    let unsigned: Uri = format!("{scheme}://{host}{path}?{query}").parse().ok()?;
    let hash = key::sha256_hex(b"");
    let text =
        canonical::request(&Method::GET, &unsigned, &with_host, &signed, &hash, signer.service);
    let to_sign = canonical::string_to_sign(&date, &scope.to_string(), &text);
    let signature = key::signature(&signer.credentials.secret_access_key, &scope, &to_sign);
    Some(format!("{unsigned}&X-Amz-Signature={signature}"))
}

/// `YYYYMMDDTHHMMSSZ`
pub(super) fn amz_date(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn set(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) =
        (http::HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
    {
        headers.insert(name, value);
    }
}

/// All headers that proxies leave alone, sorted.
fn signed_headers(headers: &HeaderMap) -> Vec<String> {
    const UNSIGNED: [&str; 6] = [
        "authorization",
        "connection",
        "expect",
        "transfer-encoding",
        "user-agent",
        "x-amzn-trace-id",
    ];
    let mut names: Vec<String> = headers
        .keys()
        .map(|it| it.as_str().to_owned())
        .filter(|it| !UNSIGNED.contains(&it.as_str()))
        .collect();
    names.sort();
    names
}
