//! The derived key, hashes and signatures.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

type HmacSha256 = Hmac<Sha256>;

pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The signature of `text` under the key for this day, region and service.
pub(super) fn signature(secret: &str, scope: &Scope<'_>, text: &str) -> String {
    let key = hmac(format!("AWS4{secret}").as_bytes(), scope.day);
    let key = hmac(&key, scope.region);
    let key = hmac(&key, scope.service);
    let key = hmac(&key, "aws4_request");
    hex::encode(hmac(&key, text))
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = HmacSha256::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// What a derived key is good for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    /// `YYYYMMDD`
    pub(super) day: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

impl std::fmt::Display for Scope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}/aws4_request", self.day, self.region, self.service)
    }
}
