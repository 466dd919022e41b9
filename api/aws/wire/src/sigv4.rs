//! Signature Version 4: signing, presigning and verifying requests.
//!
//! A signature covers the method, the path, the query, chosen headers, the body and the time, under
//! a key that is derived from the secret for one day, region and service. Signing and verifying
//! share one [`canonical`] form, so neither can drift from the other.
//!
//! Deviation: chunked payloads (`STREAMING-…`) are S3's alone; their chunks' own signatures are not
//! verified. This region has no S3: who answers such requests sees to that.
//!
//! Source: "Signature Version 4 signing process", AWS General Reference.

mod canonical;
mod key;
mod sign;
mod verify;

pub use self::{
    sign::{Signer, presign},
    verify::{Presented, Problem, Style},
};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// How far the clocks of the caller and the service may be apart.
const SKEW: std::time::Duration = std::time::Duration::from_secs(15 * 60);

/// What stands for the body's hash when the body is not covered.
const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

#[cfg(test)]
mod tests;
