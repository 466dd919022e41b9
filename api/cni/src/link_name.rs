//! What the host's end of a pod's link is called.
//!
//! Calico and the network policy agent find a pod's link by this name, and ipamd tells by it whether
//! a sandbox still exists.

use sha1::{Digest, Sha1};

/// A prefix and eleven digits of the SHA-1 of `namespace.pod`.
pub fn host_link_name(prefix: &str, namespace: &str, pod: &str) -> String {
    let digest = Sha1::digest(format!("{namespace}.{pod}"));
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{prefix}{}", &digits[..11])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_end_is_named_after_the_pod_as_upstream_does() {
        // `printf default.web-0 | sha1sum`
        assert_eq!(host_link_name("eni", "default", "web-0"), "eni0d7763386da");
    }
}
