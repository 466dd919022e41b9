//! What can be said of a token without its issuer's keys: whether it is one, and when it ends.
//!
//! Nothing is verified: EKS Auth does that. What cannot be a token costs no call, no more.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::Value;

/// Why a request is refused before EKS Auth hears of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("Service account token cannot be empty")]
    Empty,
    #[error("Service account token cannot be parsed: {0}")]
    Malformed(&'static str),
    #[error("Service account token is expired: it ended at {0}")]
    Expired(Timestamp),
}

/// EKS Auth takes none that is longer.
const LONGEST: usize = 20_000;

/// When the token ends.
pub fn check(token: &str, now: Timestamp) -> Result<Timestamp, TokenError> {
    if token.is_empty() {
        return Err(TokenError::Empty);
    }
    if token.len() > LONGEST {
        return Err(TokenError::Malformed("it is too long"));
    }
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts.as_slice() else {
        return Err(TokenError::Malformed("token contains an invalid number of segments"));
    };
    if signature.is_empty() {
        return Err(TokenError::Malformed("it has no signature"));
    }
    let part = |text: &str, what| -> Result<Value, TokenError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed(what))?;
        serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed(what))
    };
    part(header, "could not decode header")?;
    let claims = part(payload, "could not decode claims")?;
    let seconds = claims["exp"].as_i64().ok_or(TokenError::Malformed("it does not say its end"))?;
    let end = Timestamp::from_second(seconds)
        .map_err(|_| TokenError::Malformed("its end is not a date"))?;
    if end <= now { Err(TokenError::Expired(end)) } else { Ok(end) }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A token that says that it ends then; `name` makes it another one.
    pub(crate) fn token(name: &str, end: Timestamp) -> String {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({"sub": name, "exp": end.as_second()});
        format!("{}.{}.c2ln", part(json!({"alg": "RS256"})), part(claims))
    }

    #[test]
    fn what_is_no_token_is_refused_with_the_reason() {
        let now = Timestamp::from_second(1000).unwrap();
        let end = Timestamp::from_second(1001).unwrap();
        assert_eq!(check(&token("a", end), now), Ok(end));
        assert_eq!(check(&token("a", now), now), Err(TokenError::Expired(now)));
        assert_eq!(check("", now), Err(TokenError::Empty));
        let good = token("a", end);
        for bad in ["x", "a.b", "a.b.c", &format!("Bearer {good}"), &format!("{good}."), "e30..x"] {
            assert!(matches!(check(bad, now), Err(TokenError::Malformed(_))), "{bad}");
        }
    }
}
