//! What EKS checks of an association before it writes it down.
//!
//! Deviation: the messages for namespaces, names and tags are ours; those about roles are EKS's.

use aws_eks::CreatePodIdentityAssociationRequest;
use aws_wire::Fault;
use iam_policy::{Kind, Policy};

use super::SERVICE;
use crate::{Eks, faults, service::Trust};

const LABEL: usize = 63;
const SUBDOMAIN: usize = 253;
const LONGEST_POLICY: usize = 2048;
const MOST_TAGS: usize = 50;

pub(super) fn new(eks: &Eks, request: &CreatePodIdentityAssociationRequest) -> Result<(), Fault> {
    if !is_label(&request.namespace) {
        return Err(invalid("namespace", &request.namespace));
    }
    if !is_subdomain(&request.service_account) {
        return Err(invalid("serviceAccount", &request.service_account));
    }
    for (key, value) in &request.tags {
        let is_reserved = key.to_ascii_lowercase().starts_with("aws:");
        let length = key.chars().count();
        if is_reserved || !(1..=128).contains(&length) || value.chars().count() > 256 {
            return Err(invalid("tags", key));
        }
    }
    if request.tags.len() > MOST_TAGS {
        return Err(faults::invalid_parameter("A resource cannot have more than 50 tags."));
    }
    target_role(request.target_role_arn.as_deref().unwrap_or_default())?;
    policy(request.policy.as_deref(), request.disable_session_tags.unwrap_or(false))?;
    role(eks, &request.role_arn)
}

/// The role must be there, of this account, and trust the service, under whatever conditions: these
/// are known only when a pod asks.
pub(crate) fn role(eks: &Eks, arn: &str) -> Result<(), Fault> {
    if !is_role(arn) {
        return Err(invalid("roleArn", arn));
    }
    let account = &eks.0.config.account;
    if !arn.starts_with(&format!("arn:aws:iam::{account}:")) {
        return Err(faults::invalid_parameter("Cross-account pass role is not allowed."));
    }
    match eks.0.config.roles.trust(arn, SERVICE) {
        Trust::NoRole => {
            Err(faults::invalid_parameter("Role provided in the request does not exist."))
        }
        Trust::Other => {
            Err(faults::invalid_parameter("Trust policy of the role provided is invalid"))
        }
        Trust::Named => Ok(()),
    }
}

/// Of any account; empty: none. Whether it can be assumed turns out when a pod asks.
pub(super) fn target_role(arn: &str) -> Result<(), Fault> {
    if arn.is_empty() || is_role(arn) { Ok(()) } else { Err(invalid("targetRoleArn", arn)) }
}

pub(super) fn policy(document: Option<&str>, disables_tags: bool) -> Result<(), Fault> {
    let Some(document) = document.filter(|it| !it.is_empty()) else { return Ok(()) };
    if !disables_tags {
        return Err(faults::invalid_parameter(
            "disableSessionTags must be true when a policy is specified.",
        ));
    }
    if document.len() > LONGEST_POLICY {
        return Err(faults::invalid_parameter(format!(
            "The policy cannot be longer than {LONGEST_POLICY} characters."
        )));
    }
    match Policy::parse(document, Kind::Identity) {
        Ok(_) => Ok(()),
        Err(error) => Err(faults::invalid_parameter(format!("The policy is invalid: {error}"))),
    }
}

fn invalid(field: &str, value: &str) -> Fault {
    faults::invalid_parameter(format!("The value of {field} is not valid: {value}"))
}

fn is_role(arn: &str) -> bool {
    let rest = arn.strip_prefix("arn:aws:iam::");
    rest.and_then(|it| it.split_once(":role/")).is_some_and(|(account, name)| {
        account.len() == 12 && account.bytes().all(|it| it.is_ascii_digit()) && !name.is_empty()
    })
}

/// A DNS label (RFC 1123).
fn is_label(name: &str) -> bool {
    name.len() <= LABEL && is_part(name)
}

/// A DNS subdomain: it is bounded as a whole.
fn is_subdomain(name: &str) -> bool {
    name.len() <= SUBDOMAIN && name.split('.').all(is_part)
}

fn is_part(part: &str) -> bool {
    let is_end = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    ends.iter().all(|it| it.is_some_and(|it| is_end(*it)))
        && bytes.iter().all(|it| is_end(*it) || *it == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_kubernetes() {
        assert!(is_label("kube-system") && is_subdomain("my.account-1"));
        for bad in ["", "-a", "a-", "A", "a/b", &"a".repeat(64)] {
            assert!(!is_label(bad), "{bad}");
        }
        for bad in ["", ".a", "a..b", "a_b", &"a".repeat(254)] {
            assert!(!is_subdomain(bad), "{bad}");
        }
    }

    #[test]
    fn a_policy_limits_only_where_no_tags_are_set() {
        let document = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow",
            "Action":"s3:*","Resource":"*"}}"#;
        assert!(policy(Some(document), true).is_ok());
        assert!(policy(Some(document), false).is_err());
        assert!(policy(Some("{}"), true).is_err());
        assert!(policy(Some(""), false).is_ok());
    }

    #[test]
    fn a_target_role_may_be_of_another_account() {
        assert!(target_role("arn:aws:iam::444455556666:role/path/reader").is_ok());
        assert!(target_role("").is_ok());
        for bad in ["reader", "arn:aws:iam::1:role/x", "arn:aws:iam::444455556666:user/x"] {
            assert!(target_role(bad).is_err(), "{bad}");
        }
    }
}
