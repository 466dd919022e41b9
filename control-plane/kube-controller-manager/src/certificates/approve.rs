//! Whether a request may be approved without a person.
//!
//! **Invariant:** a node gets a certificate for nobody but itself: the user who asks is the subject,
//! and a serving certificate names nothing but that node's own names and addresses.
//!
//! Upstream: `k8s.io/api/certificates/v1` (`IsKubeletServingCSR`, `IsKubeletClientCSR`).

use std::net::IpAddr;

use k8s_openapi::api::{certificates::v1::CertificateSigningRequest, core::v1::Node};
use pki::CsrContents;

pub(super) const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub(super) const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const NODES: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Approve {
        reason: &'static str,
    },
    /// It may be approved when more is known about the node.
    NotYet {
        reason: &'static str,
    },
    /// A person decides.
    NotOurs,
}

/// `names_belong` says whether names and addresses are those of a node.
pub(super) fn verdict(
    request: &CertificateSigningRequest,
    names_belong: impl Fn(&str, &[String], &[IpAddr]) -> bool,
) -> Verdict {
    let spec = &request.spec;
    let pem = String::from_utf8_lossy(&spec.request.0);
    let Ok(contents) = pki::parse_csr(&pem) else { return Verdict::NotOurs };
    let Some(node) = node_of(&contents) else { return Verdict::NotOurs };
    // Nobody may ask in another node's name.
    let asks_for_itself = spec.username.as_deref() == Some(contents.subject.common_name.as_str())
        && spec.groups.iter().flatten().any(|it| it == NODES);
    let usages: Vec<_> = spec.usages.iter().flatten().map(String::as_str).collect();
    match spec.signer_name.as_str() {
        KUBELET_CLIENT if asks_for_itself && is_client(&contents, &usages) => Verdict::Approve {
            reason: "Auto approving self kubelet client certificate after SubjectAccessReview.",
        },
        KUBELET_SERVING if asks_for_itself && is_serving(&contents, &usages) => {
            if names_belong(node, &contents.dns_names, &contents.ip_addresses) {
                return Verdict::Approve {
                    reason: "Auto approving kubelet server certificate after verifying that its \
                             names are the node's.",
                };
            }
            Verdict::NotYet { reason: "the names are not known to be the node's" }
        }
        _ => Verdict::NotOurs,
    }
}

/// The node that a subject stands for, when it is a node's subject exactly.
fn node_of(contents: &CsrContents) -> Option<&str> {
    let subject = &contents.subject;
    let node = subject.common_name.strip_prefix(NODE_PREFIX)?;
    (subject.organizations == [NODES] && !node.is_empty()).then_some(node)
}

fn is_client(contents: &CsrContents, usages: &[&str]) -> bool {
    has_no_names(contents) && are_exactly(usages, "client auth")
}

fn is_serving(contents: &CsrContents, usages: &[&str]) -> bool {
    let has_names = !contents.dns_names.is_empty() || !contents.ip_addresses.is_empty();
    has_names
        && contents.email_addresses.is_empty()
        && contents.uris.is_empty()
        && are_exactly(usages, "server auth")
}

fn has_no_names(contents: &CsrContents) -> bool {
    contents.dns_names.is_empty()
        && contents.ip_addresses.is_empty()
        && contents.email_addresses.is_empty()
        && contents.uris.is_empty()
}

/// The purpose and signatures, with or without key encipherment (RSA keys), and nothing else.
fn are_exactly(usages: &[&str], purpose: &str) -> bool {
    let allowed = ["digital signature", "key encipherment", purpose];
    usages.contains(&purpose)
        && usages.contains(&"digital signature")
        && usages.iter().all(|it| allowed.contains(it))
}

/// Whether all of these are among the addresses that the Node object shows.
pub(super) fn are_of_node(node: &Node, dns: &[String], ips: &[IpAddr]) -> bool {
    let known = node.status.iter().flat_map(|it| it.addresses.iter().flatten());
    let known: Vec<_> = known.map(|it| it.address.as_str()).collect();
    dns.iter().all(|it| known.contains(&it.as_str()))
        && ips.iter().all(|it| known.iter().any(|known| known.parse() == Ok(*it)))
}

#[cfg(test)]
mod tests;
