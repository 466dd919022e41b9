//! Trust bundles, and what they and signing requests say about a signer.
//!
//! Upstream: pkg/apis/certificates/validation, pkg/apis/core/validation/names.go.

use std::collections::BTreeMap;

use serde_json::Value;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Faults, fields, text, volumes};
use crate::status::FieldError;

/// Of the certificates of one bundle together.
const MAX_TRUST_BUNDLE_SIZE: usize = 1024 * 1024;
const MAX_DOMAIN: usize = 253;
/// A domain, a slash, a namespace, a dot, a name.
const MAX_SIGNER_NAME: usize = MAX_DOMAIN + 1 + 63 + 1 + 253;

/// `example.com/signer-name`.
pub(super) fn signer_name(faults: &mut Faults, field: &str, name: &str) {
    if name.is_empty() {
        return faults.required(field);
    }
    let parts: Vec<&str> = name.split('/').collect();
    let [domain, path] = parts[..] else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return faults.invalid(field, name, why);
    };
    if domain.len() > MAX_DOMAIN {
        faults.add(FieldError::too_long(field, MAX_DOMAIN));
    }
    first_bad_part(faults, field, domain, fields::label);
    if !domain.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        faults.invalid(field, domain, why);
    }
    first_bad_part(faults, field, path, fields::subdomain);
    if name.len() > MAX_SIGNER_NAME {
        faults.add(FieldError::too_long(field, MAX_SIGNER_NAME));
    }
}

/// Later parts are not looked at: nobody could tell whose fault is whose.
fn first_bad_part(
    faults: &mut Faults,
    field: &str,
    whole: &str,
    check: impl Fn(&str) -> Vec<String>,
) {
    let parts = whole.split('.').map(|part| (part, check(part)));
    let Some((part, found)) = parts.into_iter().find(|(_, found)| !found.is_empty()) else {
        return;
    };
    for why in found {
        faults.invalid(field, whole, format!("validating label {part:?}: {why}"));
    }
}

/// How a bundle of that signer may be called; of no signer where it is empty.
pub(super) fn trust_bundle_name(signer: &str, name: &str) -> Vec<String> {
    if signer.is_empty() {
        if name.contains(':') {
            let why = "ClusterTrustBundle without signer name must not have \":\" in its name";
            return vec![why.to_owned()];
        }
        return fields::subdomain(name);
    }
    let prefix = format!("{}:", signer.replace('/', ":"));
    match name.strip_prefix(&prefix) {
        Some(rest) => fields::subdomain(rest),
        None => vec![format!(
            "ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"
        )],
    }
}

/// The signer that a bundle's name stands for.
fn signer_of(name: &str) -> String {
    name.rsplit_once(':').map_or_else(String::new, |(signer, _)| signer.replace(':', "/"))
}

pub(super) fn trust_bundle(faults: &mut Faults, object: &Value) {
    let signer = text(&object["spec"], "signerName");
    if !signer.is_empty() {
        signer_name(faults, "spec.signerName", signer);
    }
}

/// Content that stays is not read again: what reads it may have become stricter.
pub(super) fn trust_bundle_update(faults: &mut Faults, old: &Value, new: &Value) {
    let signer = |it: &Value| Value::from(text(&it["spec"], "signerName"));
    if old["spec"]["trustBundle"] != new["spec"]["trustBundle"] {
        trust_anchors(faults, new);
    }
    faults.immutable("spec.signerName", &signer(old), &signer(new));
}

/// Certificates of authorities in PEM, each once, and at least one.
pub(super) fn trust_anchors(faults: &mut Faults, object: &Value) {
    const FIELD: &str = "spec.trustBundle";
    let bundle = text(&object["spec"], "trustBundle");
    if bundle.len() > MAX_TRUST_BUNDLE_SIZE {
        return faults.add(FieldError::too_long(FIELD, MAX_TRUST_BUNDLE_SIZE));
    }
    let mut bad = |why: String| faults.invalid(FIELD, "<value omitted>", why);
    let mut places: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    let mut is_whole = true;
    for (index, block) in pki::pem_blocks(bundle).into_iter().enumerate() {
        match block_fault(&block) {
            Some(fault) => {
                bad(format!("entry {index} {fault}"));
                is_whole = false;
            }
            None => places.entry(block.content).or_default().push(index),
        }
    }
    if !is_whole {
        return;
    }
    if places.is_empty() {
        bad("at least one trust anchor must be provided".to_owned());
    }
    let mut repeated: Vec<_> = places.into_values().filter(|it| it.len() > 1).collect();
    repeated.sort_unstable();
    for indices in repeated {
        let indices: Vec<String> = indices.iter().map(ToString::to_string).collect();
        bad(format!("duplicate trust anchor (indices [{}])", indices.join(" ")));
    }
}

fn block_fault(block: &pki::PemBlock) -> Option<String> {
    if block.label != "CERTIFICATE" {
        return Some(format!("has bad block type: {}", block.label));
    }
    if block.has_headers {
        return Some("has PEM block headers".to_owned());
    }
    match X509Certificate::from_der(&block.content) {
        Ok(([], certificate)) if certificate.is_ca() => None,
        Ok(([], _)) => Some("does not have the CA bit set".to_owned()),
        _ => Some("does not parse as X.509".to_owned()),
    }
}

/// `clusterTrustBundle` among the sources of a projected volume.
pub(super) fn trust_bundle_projection(faults: &mut Faults, at: &str, source: &Value) {
    let selector = &source["labelSelector"];
    match (source["name"].as_str(), source["signerName"].as_str()) {
        (Some(_), Some(_)) => {
            faults.invalid(at, source.clone(), "only one of name and signerName may be used");
        }
        (Some(name), None) => {
            let field = format!("{at}.name");
            if name.is_empty() {
                faults.add(FieldError::required(&field, "must be a valid object name"));
            }
            for why in trust_bundle_name(&signer_of(name), name) {
                faults.invalid(&field, name, format!("not a valid clustertrustbundlename: {why}"));
            }
            if !selector.is_null() {
                let why = "labelSelector must be unset if name is specified";
                faults.invalid(format!("{at}.labelSelector"), selector.clone(), why);
            }
        }
        (None, Some(signer)) => {
            let field = format!("{at}.signerName");
            if signer.is_empty() {
                faults.add(FieldError::required(&field, "must be a valid signer name"));
            }
            signer_name(faults, &field, signer);
            fields::selector(faults, &format!("{at}.labelSelector"), selector);
        }
        (None, None) => {
            let why = "either name or signerName must be specified";
            faults.add(FieldError::required(at, why));
        }
    }
    volumes::local_path(faults, format!("{at}.path"), text(source, "path"));
}

#[cfg(test)]
mod tests;
