//! Approves, signs and forgets certificate signing requests.
//!
//! As on EKS, a kubelet's request for a serving certificate is approved when the node asks for
//! itself and for names and addresses that are its own. Requests that a person approves are signed
//! too.
//!
//! Upstream: `pkg/controller/certificates`; the check of a node's names is EKS's
//! (`eks-certificates-controller` in spirit). Deviation: an approved request whose certificate
//! cannot be made gets a `Failed` condition for any reason.

mod approve;
mod sign;

use std::time::Duration;

use controller::{Action, ApplyError, Key, Queue, object};
use k8s_openapi::api::{
    certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition},
    core::v1::Node,
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tracing::{debug, info};

use self::approve::Verdict;
use crate::Context;

/// How soon to look again at a request whose node is not known well enough yet.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Upstream's `cleaner.go`.
const KEEP_DECIDED: Duration = Duration::from_secs(3600);
const KEEP_PENDING: Duration = Duration::from_secs(24 * 3600);

pub(crate) async fn run(context: Context) {
    let queue = Queue::new();
    let on = queue.clone();
    context.caches.requests.subscribe(move |it| on.add(it.key.clone()));
    let (on, requests) = (queue.clone(), context.caches.requests.clone());
    context.caches.nodes.subscribe(move |change| {
        let addresses = |it: &Node| it.status.as_ref().and_then(|it| it.addresses.clone());
        let old = change.old.as_deref().and_then(addresses);
        if old != change.new.as_deref().and_then(addresses) {
            requests.keys().into_iter().for_each(|it| on.add(it));
        }
    });
    controller::run("certificates", queue, 4, |it| reconcile(&context, it)).await;
}

async fn reconcile(context: &Context, key: Key) -> Result<Action, ApplyError> {
    let Some(request) = context.caches.requests.get(&key) else { return Ok(Action::Done) };
    let now = context.clock.now();
    if has(&request, "Denied") || has(&request, "Failed") || is_signed(&request) {
        return forget_after(context, &request, KEEP_DECIDED).await;
    }
    if has(&request, "Approved") {
        return match context.is_on("certificatesigningrequest-signing-controller") {
            true => sign(context, &request).await,
            false => Ok(Action::Done),
        };
    }
    if !context.is_on("certificatesigningrequest-approving-controller") {
        return forget_after(context, &request, KEEP_PENDING).await;
    }
    match approve::verdict(&request, |node, dns, ips| names_belong(context, node, dns, ips)) {
        Verdict::Approve { reason } => {
            info!(request = %key, user = request.spec.username, reason, "approving");
            approve(context, &request, reason, now).await?;
            Ok(Action::Done)
        }
        Verdict::NotYet { reason } => {
            debug!(request = %key, reason, "not approved yet");
            Ok(Action::After(LOOK_AGAIN))
        }
        Verdict::NotOurs => forget_after(context, &request, KEEP_PENDING).await,
    }
}

/// Whether the names in a serving certificate's request are the node's own.
fn names_belong(context: &Context, node: &str, dns: &[String], ips: &[std::net::IpAddr]) -> bool {
    if let Some(check) = &context.config.node_names {
        return check(node, dns, ips);
    }
    let node = context.caches.nodes.get(&Key::cluster(node));
    node.is_some_and(|it| approve::are_of_node(&it, dns, ips))
}

async fn approve(
    context: &Context,
    request: &CertificateSigningRequest,
    reason: &'static str,
    now: jiff::Timestamp,
) -> Result<(), ApplyError> {
    let mut approved = request.clone();
    let conditions = approved.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.push(CertificateSigningRequestCondition {
        type_: "Approved".into(),
        status: "True".into(),
        reason: Some("AutoApproved".into()),
        message: Some(reason.into()),
        last_update_time: Some(object::time(now)),
        last_transition_time: Some(object::time(now)),
    });
    let name = request.metadata.name.as_deref().unwrap_or_default();
    // Upstream's controller does not approve serving certificates, and its account may not.
    let client = match request.spec.signer_name == approve::KUBELET_SERVING {
        true => context.accounts.first(),
        false => context.client.clone(),
    };
    let api = Api::<CertificateSigningRequest>::all(client);
    let written =
        api.replace_subresource("approval", name, &PostParams::default(), &approved).await;
    written.map_err(|it| ApplyError::new::<CertificateSigningRequest>("approve", name, it))?;
    Ok(())
}

async fn sign(
    context: &Context,
    request: &CertificateSigningRequest,
) -> Result<Action, ApplyError> {
    if !sign::is_ours(request) {
        return Ok(Action::Done);
    }
    let now = context.clock.now();
    let status = match sign::sign(&context.config, request, now) {
        Ok(pem) => {
            json!({ "status": { "certificate": k8s_openapi::ByteString(pem.into_bytes()) } })
        }
        Err(error) => {
            let message = telemetry::chain(&error).to_string();
            let mut conditions =
                request.status.as_ref().and_then(|it| it.conditions.clone()).unwrap_or_default();
            conditions.push(CertificateSigningRequestCondition {
                type_: "Failed".into(),
                status: "True".into(),
                reason: Some("SignerValidationFailure".into()),
                message: Some(message),
                last_update_time: Some(object::time(now)),
                last_transition_time: Some(object::time(now)),
            });
            json!({ "status": { "conditions": conditions } })
        }
    };
    let name = request.metadata.name.as_deref().unwrap_or_default();
    let api = Api::<CertificateSigningRequest>::all(context.client.clone());
    let written = api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await;
    written.map_err(|it| ApplyError::new::<CertificateSigningRequest>("sign", name, it))?;
    Ok(Action::Done)
}

async fn forget_after(
    context: &Context,
    request: &CertificateSigningRequest,
    keep: Duration,
) -> Result<Action, ApplyError> {
    if !context.is_on("certificatesigningrequest-cleaner-controller") {
        return Ok(Action::Done);
    }
    let left = context.clock.until(object::created_at(request) + keep);
    if !left.is_zero() {
        return Ok(Action::After(left));
    }
    let api = Api::<CertificateSigningRequest>::all(context.client.clone());
    controller::apply::delete_with(&api, request, DeleteParams::default()).await?;
    Ok(Action::Done)
}

fn has(request: &CertificateSigningRequest, kind: &str) -> bool {
    let conditions = request.status.iter().flat_map(|it| it.conditions.iter().flatten());
    conditions.into_iter().any(|it| it.type_ == kind && it.status != "False")
}

fn is_signed(request: &CertificateSigningRequest) -> bool {
    let certificate = request.status.as_ref().and_then(|it| it.certificate.as_ref());
    certificate.is_some_and(|it| !it.0.is_empty())
}
