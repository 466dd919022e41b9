//! Session tokens: what is needed to check one is in it, signed.

use base64::{Engine, engine::general_purpose::URL_SAFE};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;

/// Seconds that a session may last: EC2 user guide, "Use IMDSv2".
pub(crate) const TTLS: std::ops::RangeInclusive<u32> = 1..=21600;

const SIGNATURE_LEN: usize = 32;

/// Makes and checks tokens. The key is this process's own, so a token ends with it and clients ask
/// for a new one, as they do after any 401.
#[derive(Clone)]
pub(crate) struct Sessions {
    key: [u8; 32],
}

impl Sessions {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// A token that `instance` can use for `ttl` seconds from `now`.
    pub(crate) fn issue(&self, instance: &str, ttl: u32, now: Timestamp) -> String {
        let until = now.as_second() + i64::from(ttl);
        let mut token = until.to_be_bytes().to_vec();
        token.extend_from_slice(&self.signer(instance, until).finalize().into_bytes());
        URL_SAFE.encode(token)
    }

    /// The seconds that are left of `token`, if it is one of this instance's and not over.
    pub(crate) fn check(&self, token: &str, instance: &str, now: Timestamp) -> Option<i64> {
        let bytes = URL_SAFE.decode(token).ok()?;
        let (until, signature) = bytes.split_first_chunk::<8>()?;
        if signature.len() != SIGNATURE_LEN {
            return None;
        }
        let until = i64::from_be_bytes(*until);
        // Compares in constant time.
        self.signer(instance, until).verify_slice(signature).ok()?;
        let left = until - now.as_second();
        (left > 0).then_some(left)
    }

    fn signer(&self, instance: &str, until: i64) -> Hmac<Sha256> {
        let mut signer = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes any key");
        signer.update(&until.to_be_bytes());
        signer.update(instance.as_bytes());
        signer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_instance_and_its_time() {
        let sessions = Sessions::new([7; 32]);
        let now = Timestamp::UNIX_EPOCH;
        let token = sessions.issue("i-1", 10, now);
        assert_eq!(sessions.check(&token, "i-1", now), Some(10));
        assert_eq!(sessions.check(&token, "i-2", now), None);
        let later = Timestamp::from_second(10).unwrap();
        assert_eq!(sessions.check(&token, "i-1", later), None);
        assert_eq!(Sessions::new([8; 32]).check(&token, "i-1", now), None);
    }

    #[test]
    fn nonsense_is_not_a_token() {
        let sessions = Sessions::new([7; 32]);
        let good = sessions.issue("i-1", 10, Timestamp::UNIX_EPOCH);
        for token in ["", "AAAA", "!!!", &good[..8], &format!("{good}A"), &"A".repeat(5000)] {
            assert_eq!(sessions.check(token, "i-1", Timestamp::UNIX_EPOCH), None, "{token}");
        }
    }
}
