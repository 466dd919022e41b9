//! What must hold of `validation/signing_requests`.

use pki::Ca;
use serde_json::json;

use super::*;
use crate::{
    resources::{Catalog, Resource},
    validation,
};

const REQUEST: &str = include_str!("../../tests/every_resource/request.txt");

fn resource() -> std::sync::Arc<Resource> {
    let catalog = Catalog::builtin();
    let is_it =
        |it: &&std::sync::Arc<Resource>| it.is("certificates.k8s.io", "certificatesigningrequests");
    catalog.all().iter().find(is_it).unwrap().clone()
}

fn asked(change: Value) -> Value {
    let mut spec = json!({
        "request": REQUEST, "signerName": "example.com/s", "usages": ["client auth"],
    });
    spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    json!({ "metadata": { "name": "r" }, "spec": spec })
}

fn with(conditions: Value, certificate: &str) -> Value {
    let mut object = asked(json!({}));
    object["status"] = json!({ "conditions": conditions });
    if !certificate.is_empty() {
        object["status"]["certificate"] = BASE64_STANDARD.encode(certificate).into();
    }
    object
}

fn told(faults: Vec<FieldError>) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

fn created(change: Value) -> Vec<String> {
    told(validation::create(&resource(), &asked(change)))
}

fn changed(part: Part, old: &Value, new: &Value) -> Vec<String> {
    told(validation::update(&resource(), part, old, new).0)
}

#[test]
fn a_request_is_one_for_usages_that_are_known_each_once() {
    assert_eq!(created(json!({})), [""; 0]);
    let found = created(json!({ "request": BASE64_STANDARD.encode("no PEM") }));
    assert!(found[0].ends_with("PEM block type must be CERTIFICATE REQUEST"), "{found:?}");
    assert_eq!(created(json!({ "usages": [] })), ["spec.usages: Required value"]);
    let found = created(json!({ "usages": ["any", "any", "all"] }));
    assert_eq!(found[0], "spec.usages[1]: Duplicate value: \"any\"");
    assert!(found[1].starts_with("spec.usages[2]: Unsupported value: \"all\""), "{found:?}");
    let found = created(json!({ "signerName": LEGACY }));
    assert!(found[0].ends_with("the legacy signerName is not allowed via this API version"));
}

#[test]
fn a_certificate_is_set_once_by_status_and_is_nothing_but_certificates() {
    let (one, two) = (Ca::new("a").unwrap(), Ca::new("b").unwrap());
    let (one, two) = (one.certificate_pem(), two.certificate_pem());
    let bare = with(json!([]), "");
    let set = |part: Part, content: &str| changed(part, &bare, &with(json!([]), content));
    assert_eq!(set(Part::Status, one), [""; 0]);
    assert_eq!(set(Part::Status, &format!("a chain\n{one}\n{two}")), [""; 0]);
    for part in [Part::Main, Part::Approval] {
        let why = "status.certificate: Forbidden: updates may not set certificate content";
        assert_eq!(set(part, one), [why], "{part:?}");
    }
    let key = pki::pem_text("PRIVATE KEY", b"x");
    let headed = one.replacen("-----\n", "-----\nProc-Type: 4\n\n", 1);
    let rubbish = pki::pem_text("CERTIFICATE", b"x");
    for (content, why) in [
        ("some", "must contain at least one CERTIFICATE PEM block"),
        (&*format!("{one}{key}"), "only CERTIFICATE PEM blocks are allowed, found \"PRIVATE KEY\""),
        (&*headed, "no PEM block headers are permitted"),
        (&*rubbish, "x509: malformed certificate"),
    ] {
        let prefix = "status.certificate: Invalid value: \"<certificate data>\": ";
        assert_eq!(set(Part::Status, content), [format!("{prefix}{why}")]);
    }
    let issued = with(json!([]), one);
    assert_eq!(
        changed(Part::Status, &issued, &with(json!([]), two)),
        ["status.certificate: Forbidden: updates may not modify existing certificate content"]
    );
    // What was stored unchecked stays.
    let old = with(json!([]), "some");
    assert_eq!(changed(Part::Status, &old, &old), [""; 0]);
}

#[test]
fn approvals_are_given_by_approval_alone_and_never_taken_back() {
    let condition = |kind: &str, status: &str| json!({ "type": kind, "status": status });
    let approved = with(json!([condition("Approved", "True")]), "");
    let bare = with(json!([]), "");
    assert_eq!(changed(Part::Approval, &bare, &approved), [""; 0]);
    assert_eq!(
        changed(Part::Status, &bare, &approved),
        ["status.conditions: Forbidden: updates may not add a condition of type \"Approved\""]
    );
    assert_eq!(
        changed(Part::Approval, &approved, &bare),
        ["status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""]
    );
    let both = with(json!([condition("Approved", "True"), condition("Denied", "True")]), "");
    assert_eq!(
        changed(Part::Approval, &approved, &both),
        [
            "status.conditions[1].type: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive"
        ]
    );
    let doubtful = with(json!([condition("Denied", "False")]), "");
    let found = changed(Part::Approval, &bare, &doubtful);
    assert_eq!(
        found,
        ["status.conditions[0].status: Unsupported value: \"False\": supported values: \"True\""]
    );
    let failed = with(json!([condition("Failed", "True"), condition("Mine", "Unknown")]), "");
    assert_eq!(changed(Part::Status, &bare, &failed), [""; 0]);
}
