//! CertificateApproval, CertificateSigning, CertificateSubjectRestriction, ClusterTrustBundleAttest; and
//! who asked.
//!
//! Upstream: plugin/pkg/admission/certificates, pkg/registry/certificates.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{Attributes, Operation};
use crate::{
    authz::{Authorizer, Decision, text},
    request::RequestInfo,
    status::Status,
};

const GROUP: &str = "certificates.k8s.io";
const RESOURCE: &str = "certificatesigningrequests";

pub(super) async fn admit(
    authorizer: &Authorizer,
    attributes: &Attributes<'_>,
    request: &mut Value,
) -> Result<(), Status> {
    if attributes.info.group != GROUP || attributes.info.resource != RESOURCE {
        return Ok(());
    }
    let old = attributes.old.unwrap_or(&Value::Null);
    match (attributes.operation, attributes.info.subresource.as_str()) {
        (Operation::Create, "") => {
            name_requester(attributes, request);
            check_subject(attributes, request)
        }
        (Operation::Update, "approval") => {
            check_signer(authorizer, attributes, old, "approve").await
        }
        (Operation::Update, "status")
            if old.pointer("/status/certificate") != request.pointer("/status/certificate") =>
        {
            check_signer(authorizer, attributes, old, "sign").await
        }
        _ => Ok(()),
    }
}

/// Who writes a bundle of a signer speaks for that signer.
pub(super) async fn check_attest(
    authorizer: &Authorizer,
    attributes: &Attributes<'_>,
    bundle: &Value,
) -> Result<(), Status> {
    let is_write = matches!(attributes.operation, Operation::Create | Operation::Update);
    // Unlike a request's, a bundle's signer cannot change: the new object tells it as well.
    if !is_write
        || !attributes.is_about(GROUP, "clustertrustbundles")
        || text(bundle, "/spec/signerName").is_empty()
        || attributes.old.is_some_and(|old| changes_upkeep_only(old, bundle))
    {
        return Ok(());
    }
    check_signer(authorizer, attributes, bundle, "attest").await
}

/// What garbage collection and storage migration change.
fn changes_upkeep_only(old: &Value, new: &Value) -> bool {
    let rest = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            for field in ["ownerReferences", "finalizers", "selfLink", "managedFields"] {
                metadata.remove(field);
            }
        }
        object
    };
    rest(old) == rest(new)
}

/// The requester is who was authenticated, never who the object says.
fn name_requester(attributes: &Attributes<'_>, request: &mut Value) {
    let user = attributes.user;
    if !request["spec"].is_object() {
        return;
    }
    request["spec"]["username"] = user.username.clone().into();
    request["spec"]["groups"] = json!(user.groups);
    let spec = request["spec"].as_object_mut().expect("checked to be an object above");
    spec.remove("uid");
    spec.remove("extra");
    if !user.uid.is_empty() {
        spec.insert("uid".into(), user.uid.clone().into());
    }
    if !user.extra.is_empty() {
        spec.insert("extra".into(), json!(user.extra));
    }
}

fn check_subject(attributes: &Attributes<'_>, request: &Value) -> Result<(), Status> {
    if text(request, "/spec/signerName") != "kubernetes.io/kube-apiserver-client" {
        return Ok(());
    }
    let pem = STANDARD.decode(text(request, "/spec/request")).unwrap_or_default();
    let contents = pki::parse_csr(&String::from_utf8_lossy(&pem));
    let Ok(contents) = contents else {
        return Err(attributes.forbidden(request, "failed to parse CSR"));
    };
    if contents.subject.organizations.iter().any(|it| it == "system:masters") {
        let why = "use of kubernetes.io/kube-apiserver-client signer with system:masters group is \
                   not allowed";
        return Err(attributes.forbidden(request, why));
    }
    Ok(())
}

/// `approve` or `sign` on the signer by name, or on all signers of its domain.
async fn check_signer(
    authorizer: &Authorizer,
    attributes: &Attributes<'_>,
    stored: &Value,
    verb: &str,
) -> Result<(), Status> {
    let signer = text(stored, "/spec/signerName");
    let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
    for name in [signer.to_owned(), format!("{domain}/*")] {
        let question = RequestInfo {
            verb: verb.into(),
            group: GROUP.into(),
            version: "*".into(),
            resource: "signers".into(),
            name,
            is_resource: true,
            ..RequestInfo::default()
        };
        let decision = authorizer.authorize(attributes.user, &question).await;
        if matches!(decision, Decision::Allow(_)) {
            return Ok(());
        }
    }
    let why = match verb {
        "approve" => format!("user not permitted to approve requests with signerName {signer:?}"),
        "attest" => format!("user not permitted to attest for signerName {signer:?}"),
        _ => format!("user not permitted to sign requests with signerName {signer:?}"),
    };
    Err(attributes.forbidden(stored, &why))
}
