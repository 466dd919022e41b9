//! Checks what a token asks us to send before anything is sent.
//!
//! The URL comes from whoever wants in, and we perform it: so it must be `GetCallerIdentity` of an
//! STS endpoint and nothing else, or it would be a request of the attacker's choice.
//!
//! Upstream: pkg/token/token.go.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Uri;
use jiff::{Timestamp, ToSpan, civil::DateTime, tz::TimeZone};

pub(crate) const PREFIX: &str = "k8s-aws-v1.";
pub(crate) const CLUSTER_HEADER: &str = "x-k8s-aws-id";

const MAX_LENGTH: usize = 4096;

/// STS accepts the signature for as long, whatever `X-Amz-Expires` says.
const LIFE_MINUTES: i64 = 15;
const MAX_EXPIRES: u64 = 900;

const ALLOWED_KEYS: [&str; 9] = [
    "action",
    "version",
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
];

/// Which endpoints are STS.
#[derive(Clone, Debug)]
pub struct TokenRules {
    /// `aws`, `aws-cn` or `aws-us-gov`.
    pub partition: String,
    /// Further origins (`http://127.0.0.1:4566`) that the same STS is known by: the region's own
    /// listeners, so that `aws eks get-token` works with `AWS_ENDPOINT_URL`.
    pub origins: Vec<String>,
}

impl Default for TokenRules {
    fn default() -> Self {
        Self { partition: "aws".into(), origins: Vec::new() }
    }
}

/// A URL that may be performed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedUrl {
    pub(crate) uri: Uri,
    pub(crate) access_key_id: String,
}

/// Why a token is refused before STS is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("token is too large")]
    TooLarge,
    #[error("token is missing expected \"k8s-aws-v1.\" prefix")]
    Prefix,
    #[error("token is not base64url of a URL")]
    Encoding,
    #[error("unexpected scheme {scheme:?} in pre-signed URL")]
    Scheme { scheme: String },
    #[error("unexpected hostname {host:?} in pre-signed URL")]
    Host { host: String },
    #[error("unexpected path in pre-signed URL")]
    Path,
    #[error("non-whitelisted query parameter {key:?}")]
    Parameter { key: String },
    #[error("query parameter {key:?} with multiple values not supported")]
    Repeated { key: String },
    #[error("unexpected action parameter in pre-signed URL")]
    Action,
    #[error("client did not sign the x-k8s-aws-id header in the pre-signed URL")]
    UnsignedCluster,
    #[error("invalid X-Amz-Expires parameter in pre-signed URL")]
    Expires,
    #[error("X-Amz-Date parameter is missing or not a date in pre-signed URL")]
    Date,
    #[error("X-Amz-Date parameter is expired")]
    Expired,
    #[error("X-Amz-Credential or X-Amz-Signature is missing in pre-signed URL")]
    Unsigned,
}

impl TokenRules {
    /// Checks a token; nothing is sent.
    pub fn check(&self, token: &str, now: Timestamp) -> Result<VerifiedUrl, TokenError> {
        if token.len() > MAX_LENGTH {
            return Err(TokenError::TooLarge);
        }
        let encoded = token.strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let decoded = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenError::Encoding)?;
        let text = String::from_utf8(decoded).map_err(|_| TokenError::Encoding)?;
        if text.contains(['#', '\\']) || text.chars().any(|it| it.is_ascii_control()) {
            return Err(TokenError::Encoding);
        }
        let uri: Uri = text.parse().map_err(|_| TokenError::Encoding)?;
        self.check_origin(&uri)?;
        if uri.path() != "/" {
            return Err(TokenError::Path);
        }
        let query = Query::parse(uri.query().unwrap_or_default())?;
        if query.get("action") != Some("GetCallerIdentity") {
            return Err(TokenError::Action);
        }
        let signed = query.get("x-amz-signedheaders").unwrap_or_default();
        if !signed.split(';').any(|name| name.eq_ignore_ascii_case(CLUSTER_HEADER)) {
            return Err(TokenError::UnsignedCluster);
        }
        let expires = query.get("x-amz-expires").and_then(|it| it.parse::<u64>().ok());
        if expires.is_none_or(|it| it > MAX_EXPIRES) {
            return Err(TokenError::Expires);
        }
        let date = query.get("x-amz-date").and_then(parse_date).ok_or(TokenError::Date)?;
        if now >= date + LIFE_MINUTES.minutes() {
            return Err(TokenError::Expired);
        }
        let credential = query.get("x-amz-credential").unwrap_or_default();
        let access_key_id = credential.split('/').next().unwrap_or_default().to_owned();
        if access_key_id.is_empty() || query.get("x-amz-signature").is_none() {
            return Err(TokenError::Unsigned);
        }
        Ok(VerifiedUrl { uri, access_key_id })
    }

    fn check_origin(&self, uri: &Uri) -> Result<(), TokenError> {
        let scheme = uri.scheme_str().unwrap_or_default();
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        if self.origins.contains(&format!("{scheme}://{authority}")) {
            return Ok(());
        }
        if scheme != "https" {
            return Err(TokenError::Scheme { scheme: scheme.to_owned() });
        }
        if !self.is_sts(authority) {
            return Err(TokenError::Host { host: authority.to_owned() });
        }
        Ok(())
    }

    /// The whole authority is compared, so user information and ports do not match.
    fn is_sts(&self, host: &str) -> bool {
        let suffix = match self.partition.as_str() {
            "aws-cn" => ".amazonaws.com.cn",
            _ => ".amazonaws.com",
        };
        if host == "sts.amazonaws.com" {
            return self.partition == "aws";
        }
        let region =
            host.strip_prefix("sts.").or_else(|| host.strip_prefix("sts-fips.")).and_then(|rest| {
                rest.strip_suffix(suffix).or_else(|| {
                    rest.strip_suffix(".api.aws").filter(|_| self.partition != "aws-cn")
                })
            });
        region.is_some_and(|region| self.has_region(region))
    }

    fn has_region(&self, region: &str) -> bool {
        let parts: Vec<&str> = region.split('-').collect();
        let [area, middle @ .., number] = parts.as_slice() else { return false };
        let is_word = |it: &str| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_lowercase());
        let is_region = area.len() == 2
            && is_word(area)
            && !middle.is_empty()
            && middle.iter().all(|it| is_word(it))
            && number.len() == 1
            && number.bytes().all(|byte| byte.is_ascii_digit());
        let partition = match (*area, middle.first()) {
            ("cn", _) => "aws-cn",
            ("us", Some(&"gov")) => "aws-us-gov",
            _ => "aws",
        };
        is_region && partition == self.partition
    }
}

/// A query without repetitions, by lower-case key.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(query: &str) -> Result<Self, TokenError> {
        let mut found: Vec<(String, String)> = Vec::new();
        for (key, value) in aws_wire::percent::pairs(query) {
            let lower = key.to_ascii_lowercase();
            if !ALLOWED_KEYS.contains(&lower.as_str()) {
                return Err(TokenError::Parameter { key });
            }
            if found.iter().any(|(known, _)| *known == lower) {
                return Err(TokenError::Repeated { key });
            }
            found.push((lower, value));
        }
        Ok(Self(found))
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }
}

/// `YYYYMMDDTHHMMSSZ`
fn parse_date(text: &str) -> Option<Timestamp> {
    let civil = DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests;
