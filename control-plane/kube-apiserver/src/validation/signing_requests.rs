//! CertificateSigningRequests: what is asked for, who may say what of it, and the certificate.
//!
//! What was stored before it was checked stays, as upstream lets it.
//!
//! Upstream: pkg/apis/certificates/validation. Deviation: whether a request is signed by its own key is
//! seen when it is signed.

use std::collections::HashSet;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};

use super::{Faults, certificates, items, text};
use crate::{status::FieldError, strategy::Part};

const LEGACY: &str = "kubernetes.io/legacy-unknown";
const CONDITIONS: &str = "status.conditions";
const CERTIFICATE: &str = "status.certificate";
/// Once true they stay so.
const FINAL: [&str; 3] = ["Approved", "Denied", "Failed"];
const APPROVALS: [&str; 2] = ["Approved", "Denied"];
const STATES: &[&str] = &["False", "True", "Unknown"];
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

pub(super) fn create(faults: &mut Faults, object: &Value) {
    common(faults, None, object);
}

pub(super) fn update(faults: &mut Faults, part: Part, old: &Value, new: &Value) {
    common(faults, Some(old), new);
    for kind in FINAL {
        if of(new, kind).len() < of(old, kind).len() {
            let why = format!("updates may not remove a condition of type {kind:?}");
            faults.forbidden(CONDITIONS, why);
        }
    }
    for kind in APPROVALS.into_iter().filter(|_| part != Part::Approval) {
        let (before, after) = (of(old, kind), of(new, kind));
        if after.len() > before.len() {
            let why = format!("updates may not add a condition of type {kind:?}");
            faults.forbidden(CONDITIONS, why);
        } else if after.len() == before.len() && before != after {
            let why = format!("updates may not modify a condition of type {kind:?}\n");
            faults.forbidden(CONDITIONS, why);
        }
    }
    let (was, is) = (text(&old["status"], "certificate"), text(&new["status"], "certificate"));
    if was != is && part != Part::Status {
        faults.forbidden(CERTIFICATE, "updates may not set certificate content");
    } else if was != is && !was.is_empty() {
        faults.forbidden(CERTIFICATE, "updates may not modify existing certificate content");
    }
}

fn conditions(object: &Value) -> impl Iterator<Item = (usize, &Value)> {
    items(&object["status"], "conditions")
}

fn of<'a>(object: &'a Value, kind: &str) -> Vec<&'a Value> {
    conditions(object).map(|(_, it)| it).filter(|it| it["type"] == kind).collect()
}

fn common(faults: &mut Faults, old: Option<&Value>, object: &Value) {
    let spec = &object["spec"];
    if let Err(why) = request(text(spec, "request")) {
        faults.invalid("spec.request", spec["request"].clone(), why);
    }
    usages(faults, old, spec);
    let signer = text(spec, "signerName");
    let was_legacy = old.is_some_and(|it| it["spec"]["signerName"] == LEGACY);
    if signer == LEGACY && !was_legacy {
        let why = "the legacy signerName is not allowed via this API version";
        faults.invalid("spec.signerName", signer, why);
    } else {
        certificates::signer_name(faults, "spec.signerName", signer);
    }
    if let Some(seconds) = spec["expirationSeconds"].as_i64().filter(|it| *it < 600) {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        faults.invalid("spec.expirationSeconds", seconds, why);
    }
    told(faults, old, object);
    let own = text(&object["status"], "certificate");
    let known = old.map(|it| text(&it["status"], "certificate"));
    let is_open = known.is_some_and(|it| it == own || certificate(it).is_err());
    if let Err(why) = certificate(own)
        && !is_open
    {
        faults.invalid(CERTIFICATE, "<certificate data>", why);
    }
}

fn usages(faults: &mut Faults, old: Option<&Value>, spec: &Value) {
    let list = |spec: &Value| -> Vec<String> {
        items(spec, "usages").map(|(_, it)| it.as_str().unwrap_or_default().to_owned()).collect()
    };
    let (all, before) = (list(spec), old.map(|it| list(&it["spec"])).unwrap_or_default());
    if all.is_empty() {
        faults.required("spec.usages");
    }
    let is_unknown = |it: &String| !USAGES.contains(&it.as_str());
    let has_twins = |all: &[String]| all.iter().collect::<HashSet<_>>().len() < all.len();
    let mut seen = HashSet::new();
    for (index, usage) in all.iter().enumerate() {
        let field = format!("spec.usages[{index}]");
        if is_unknown(usage) && !before.iter().any(is_unknown) {
            faults.add(FieldError::not_supported(&*field, usage.as_str(), USAGES));
        }
        if !seen.insert(usage) && !has_twins(&before) {
            faults.add(FieldError::duplicate(field, usage.as_str()));
        }
    }
}

/// The conditions by themselves.
fn told(faults: &mut Faults, old: Option<&Value>, object: &Value) {
    let before: Vec<&str> =
        old.into_iter().flat_map(conditions).map(|(_, it)| text(it, "type")).collect();
    let had_both = APPROVALS.iter().all(|it| before.contains(it));
    let had_twins = before.iter().collect::<HashSet<_>>().len() < before.len();
    let mut seen = HashSet::new();
    for (index, condition) in conditions(object) {
        let (at, kind) = (format!("{CONDITIONS}[{index}]"), text(condition, "type"));
        if kind.is_empty() && !before.contains(&"") {
            faults.required(format!("{at}.type"));
        }
        let known: &[&str] = if FINAL.contains(&kind) { &["True"] } else { STATES };
        faults.one_of(&format!("{at}.status"), &condition["status"], known);
        let other = APPROVALS.iter().find(|it| APPROVALS.contains(&kind) && **it != kind);
        if other.is_some_and(|it| seen.contains(it)) && !had_both {
            let why = "Approved and Denied conditions are mutually exclusive";
            faults.invalid(format!("{at}.type"), kind, why);
        }
        if !seen.insert(kind) && !had_twins {
            faults.add(FieldError::duplicate(format!("{at}.type"), kind));
        }
    }
}

fn decoded(base64: &str) -> String {
    String::from_utf8_lossy(&BASE64_STANDARD.decode(base64).unwrap_or_default()).into_owned()
}

fn request(base64: &str) -> Result<(), &'static str> {
    let blocks = pki::pem_blocks(&decoded(base64));
    let block = blocks.first().filter(|it| it.label == "CERTIFICATE REQUEST");
    let block = block.ok_or("PEM block type must be CERTIFICATE REQUEST")?;
    match X509CertificationRequest::from_der(&block.content) {
        Ok(([], _)) => Ok(()),
        Ok(_) => Err("asn1: syntax error: trailing data"),
        Err(_) => Err("asn1: structure error: malformed certificate request"),
    }
}

/// Certificates and nothing else; none at all is none issued yet.
fn certificate(base64: &str) -> Result<(), String> {
    if base64.is_empty() {
        return Ok(());
    }
    let blocks = pki::pem_blocks(&decoded(base64));
    for block in &blocks {
        if block.label != "CERTIFICATE" {
            let label = &block.label;
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {label:?}"));
        }
        if block.has_headers {
            return Err("no PEM block headers are permitted".to_owned());
        }
        if block.content.is_empty() {
            return Err("found CERTIFICATE PEM block containing 0 certificates".to_owned());
        }
        let mut rest = &block.content[..];
        while !rest.is_empty() {
            let parsed = X509Certificate::from_der(rest);
            rest = parsed.map_err(|_| "x509: malformed certificate".to_owned())?.0;
        }
    }
    if blocks.is_empty() {
        return Err("must contain at least one CERTIFICATE PEM block".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
