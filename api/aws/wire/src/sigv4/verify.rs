//! The service's side: what a request presents, and whether it is true.

use std::time::Duration;

use http::{HeaderMap, header::AUTHORIZATION, request::Parts};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use subtle::ConstantTimeEq;

use super::{
    ALGORITHM, SKEW, UNSIGNED_PAYLOAD, canonical,
    key::{self, Scope},
    sign::amz_date,
};
use crate::percent;

/// Where the signature is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Header,
    /// In the query, good for a while.
    Presigned {
        expires: Duration,
    },
}

/// The claims of a signed request. Nothing in it is true before [`Presented::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    pub access_key_id: String,
    pub session_token: Option<String>,
    pub region: String,
    pub service: String,
    pub style: Style,
    pub date: Timestamp,
    amz_date: String,
    day: String,
    signed_headers: Vec<String>,
    signature: String,
}

/// Why a request is not authentic. The gateway gives it the code of the service's protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("{0}")]
    Incomplete(String),
    #[error("{0}")]
    Expired(String),
    #[error(
        "The request signature we calculated does not match the signature you provided. Check \
         your AWS Secret Access Key and signing method. Consult the service documentation for \
         details."
    )]
    Mismatch,
}

impl Presented {
    /// Reads the claims. `None`: the request is not signed at all.
    pub fn read(request: &Parts) -> Result<Option<Self>, Problem> {
        if let Some(header) = request.headers.get(AUTHORIZATION) {
            let text =
                header.to_str().map_err(|_| incomplete("Authorization header is not text"))?;
            return Self::from_header(text, &request.headers).map(Some);
        }
        let query = request.uri.query().unwrap_or_default();
        if !query.contains("X-Amz-") {
            return Ok(None);
        }
        let pairs = percent::pairs(query);
        if !pairs.iter().any(|(name, _)| name == "X-Amz-Signature" || name == "X-Amz-Algorithm") {
            return Ok(None);
        }
        Self::from_query(&pairs).map(Some)
    }

    fn from_header(text: &str, headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(rest) = text.strip_prefix(ALGORITHM) else {
            return Err(incomplete(&format!(
                "Unsupported or missing signing algorithm in Authorization header: '{text}'."
            )));
        };
        let field = |name: &str| {
            let fields = rest.split(',').filter_map(|it| it.trim().split_once('='));
            let mut values = fields.filter(|(key, _)| *key == name).map(|(_, value)| value);
            values.next().filter(|it| !it.is_empty()).ok_or_else(|| {
                incomplete(&format!(
                    "Authorization header requires '{name}' parameter. Authorization={text}"
                ))
            })
        };
        let (credential, signed) = (field("Credential")?, field("SignedHeaders")?);
        let signature = field("Signature")?;
        let Some(date) = headers.get("x-amz-date").and_then(|it| it.to_str().ok()) else {
            return Err(incomplete(&format!(
                "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' \
                 header. Authorization={text}"
            )));
        };
        let token = headers.get("x-amz-security-token").and_then(|it| it.to_str().ok());
        let claims = Claims { credential, signed, signature, date, token };
        let presented = Self::from_claims(claims, Style::Header)?;
        presented.check_coverage(headers)?;
        Ok(presented)
    }

    fn from_query(pairs: &[(String, String)]) -> Result<Self, Problem> {
        let find = |name: &str| -> Result<Option<&str>, Problem> {
            let mut values = pairs.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
            match (values.next(), values.next()) {
                (found, None) => Ok(found.map(|(_, value)| value.as_str())),
                _ => Err(incomplete(&format!("AWS query-string parameter {name} is not unique"))),
            }
        };
        let need = |name: &str| {
            find(name)?.ok_or_else(|| {
                incomplete(&format!(
                    "AWS query-string parameters must include '{name}'. Re-examine the \
                     query-string parameters."
                ))
            })
        };
        if need("X-Amz-Algorithm")? != ALGORITHM {
            return Err(incomplete("Unsupported AWS 'algorithm' in the query string"));
        }
        let seconds = match find("X-Amz-Expires")? {
            None => SKEW.as_secs(),
            Some(text) => text
                .parse::<u64>()
                .ok()
                .filter(|it| *it <= MAX_EXPIRES)
                .ok_or_else(|| incomplete("X-Amz-Expires must be a number from 0 to 604800"))?,
        };
        let claims = Claims {
            credential: need("X-Amz-Credential")?,
            signed: need("X-Amz-SignedHeaders")?,
            signature: need("X-Amz-Signature")?,
            date: need("X-Amz-Date")?,
            token: find("X-Amz-Security-Token")?,
        };
        Self::from_claims(claims, Style::Presigned { expires: Duration::from_secs(seconds) })
    }

    fn from_claims(claims: Claims<'_>, style: Style) -> Result<Self, Problem> {
        // Access key ids hold no slash, so the scope is the last four parts.
        let parts: Vec<&str> = claims.credential.split('/').collect();
        let [access_key_id, day, region, service, "aws4_request"] = parts[..] else {
            return Err(incomplete(
                "Credential must have exactly 5 slash-delimited elements, e.g. \
                 keyid/date/region/service/term",
            ));
        };
        let date = parse_date(claims.date)
            .ok_or_else(|| incomplete("Date must be in ISO-8601 'basic format'"))?;
        if !claims.date.starts_with(day) || day.len() != 8 {
            return Err(incomplete(&format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date \
                 from HTTP: '{day}' != '{}', from '{}'.",
                claims.date.get(..8).unwrap_or_default(),
                claims.date,
            )));
        }
        let mut signed_headers: Vec<String> =
            claims.signed.split(';').map(str::to_ascii_lowercase).collect();
        signed_headers.sort();
        if !signed_headers.iter().any(|it| it == "host") {
            return Err(incomplete(
                "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
            ));
        }
        Ok(Self {
            access_key_id: access_key_id.to_owned(),
            session_token: claims.token.map(str::to_owned),
            region: region.to_owned(),
            service: service.to_owned(),
            style,
            date,
            amz_date: claims.date.to_owned(),
            day: day.to_owned(),
            signed_headers,
            signature: claims.signature.to_owned(),
        })
    }

    /// What decides about the request must be covered by its signature.
    fn check_coverage(&self, headers: &HeaderMap) -> Result<(), Problem> {
        const DECISIVE: [&str; 4] =
            ["x-amz-date", "x-amz-target", "x-amz-security-token", "x-amz-content-sha256"];
        for name in DECISIVE {
            if headers.contains_key(name) && !self.signs(name) {
                return Err(incomplete(&format!(
                    "There were headers present in the request which were not signed: {name}"
                )));
            }
        }
        Ok(())
    }

    /// Whether the signature covers this header (in lower case).
    pub fn signs(&self, header: &str) -> bool {
        self.signed_headers.iter().any(|it| it == header)
    }

    /// Whether the holder of `secret` made this request, and not too long ago.
    pub fn verify(
        &self,
        request: &Parts,
        body: &[u8],
        secret: &str,
        now: Timestamp,
    ) -> Result<(), Problem> {
        self.check_time(now)?;
        let hash = payload_hash(&self.service, &request.headers, body)?;
        let text = canonical::request(
            &request.method,
            &request.uri,
            &request.headers,
            &self.signed_headers,
            &hash,
            &self.service,
        );
        let scope = Scope { day: &self.day, region: &self.region, service: &self.service };
        let to_sign = canonical::string_to_sign(&self.amz_date, &scope.to_string(), &text);
        let expected = key::signature(secret, &scope, &to_sign);
        let is_equal = expected.as_bytes().ct_eq(self.signature.as_bytes());
        if bool::from(is_equal) { Ok(()) } else { Err(Problem::Mismatch) }
    }

    fn check_time(&self, now: Timestamp) -> Result<(), Problem> {
        if self.date > now + SKEW {
            return Err(Problem::Expired(format!(
                "Signature not yet current: {} is still later than {} ({} + 15 min.)",
                self.amz_date,
                amz_date(now + SKEW),
                amz_date(now),
            )));
        }
        let limit = match self.style {
            Style::Header => SKEW,
            // STS ignores `X-Amz-Expires`: an EKS token says 60 s and lives for 15 minutes.
            Style::Presigned { .. } if self.service == "sts" => SKEW,
            Style::Presigned { expires } => expires,
        };
        if self.date + limit < now {
            return Err(Problem::Expired(format!(
                "Signature expired: {} is now earlier than {} ({} - {} min.)",
                self.amz_date,
                amz_date(now - limit),
                amz_date(now),
                limit.as_secs() / 60,
            )));
        }
        Ok(())
    }
}

/// Seven days.
const MAX_EXPIRES: u64 = 604_800;

struct Claims<'a> {
    credential: &'a str,
    signed: &'a str,
    signature: &'a str,
    date: &'a str,
    token: Option<&'a str>,
}

fn incomplete(message: &str) -> Problem {
    Problem::Incomplete(message.to_owned())
}

fn parse_date(text: &str) -> Option<Timestamp> {
    let date = DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    // Far ends of the calendar have no neighbours to compare with.
    if !(1970..=9000).contains(&date.year()) {
        return None;
    }
    Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn payload_hash(service: &str, headers: &HeaderMap, body: &[u8]) -> Result<String, Problem> {
    let computed = key::sha256_hex(body);
    let Some(declared) = headers.get("x-amz-content-sha256") else { return Ok(computed) };
    let declared = declared.to_str().unwrap_or_default();
    let is_in_chunks = service == "s3" && declared.starts_with("STREAMING-");
    if declared == UNSIGNED_PAYLOAD || declared == computed || is_in_chunks {
        return Ok(declared.to_owned());
    }
    Err(Problem::Mismatch)
}
