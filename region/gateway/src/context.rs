//! The condition keys of a request: AWS's global ones, the session's, and the target's own.
//!
//! A key that AWS leaves out of a request is left out here too: conditions tell an absent key from
//! an empty one.
//!
//! Deviation: a call from within a VPC has `aws:SourceVpc` and the caller's own address, as over a
//! VPC endpoint, and also where its subnet has none: nothing translates addresses on the way to the
//! region. `aws:SourceVpce`, `aws:referer` and the keys of organizations are never there.
//!
//! Source: "AWS global condition context keys", IAM User Guide.

use iam_policy::Context;

use crate::{Caller, CallerKind, Source, Target};

pub(crate) fn context(caller: &Caller, target: &Target) -> Context {
    let mut context = Context::new()
        .with("aws:userid", &caller.user_id)
        .with("aws:ViaAWSService", "false")
        .with("aws:RequestedRegion", &caller.region)
        .with("aws:UserAgent", &caller.user_agent)
        .with("aws:CurrentTime", caller.at.to_string())
        .with("aws:EpochTime", caller.at.as_second().to_string());
    of_principal(&mut context, caller);
    of_network(&mut context, &caller.source);
    if let Some(arn) = &caller.source_arn {
        context.set("aws:SourceArn", arn);
        context.set("aws:SourceAccount", account(arn));
    }
    let owner = account(&target.resource);
    let owner = if target.resource == "*" { caller.account.as_str() } else { owner };
    if !owner.is_empty() {
        context.set("aws:ResourceAccount", owner);
    }
    for (key, value) in &caller.session_context {
        context.set(key, value);
    }
    for (key, values) in &target.context {
        context.set_all(key, values.clone());
    }
    context
}

fn of_principal(context: &mut Context, caller: &Caller) {
    let kind = match &caller.kind {
        CallerKind::Root => "Account",
        CallerKind::User { .. } => "User",
        CallerKind::AssumedRole { .. } => "AssumedRole",
        CallerKind::Service(_) => "AWSService",
        CallerKind::Anonymous => "Anonymous",
    };
    context.set("aws:PrincipalType", kind);
    for (key, value) in &caller.tags {
        context.set(&format!("aws:PrincipalTag/{key}"), value);
    }
    if caller.kind == CallerKind::Anonymous {
        context.set("aws:PrincipalAccount", "anonymous");
        return;
    }
    context.set("aws:PrincipalAccount", &caller.account);
    context.set("aws:PrincipalArn", caller.principal_arn());
    context.set("aws:PrincipalIsAWSService", caller.is_service().to_string());
    match &caller.kind {
        CallerKind::User { name } => context.set("aws:username", name),
        CallerKind::Service(name) => {
            context.set("aws:PrincipalServiceName", name);
            context.set("aws:PrincipalServiceNamesList", name);
        }
        _ => {}
    }
}

fn of_network(context: &mut Context, source: &Source) {
    match source {
        Source::Vpc { vpc_id, address } => {
            context.set("aws:SourceVpc", vpc_id);
            context.set("aws:SourceIp", address.to_string());
            context.set("aws:VpcSourceIp", address.to_string());
            context.set("aws:SecureTransport", "true");
        }
        Source::Host => {
            context.set("aws:SourceIp", "127.0.0.1");
            context.set("aws:SecureTransport", "false");
        }
        // A service's own call never leaves the process.
        Source::Internal => context.set("aws:SecureTransport", "true"),
    }
}

/// Whose resource an ARN names; empty where it does not say.
fn account(arn: &str) -> &str {
    arn.split(':').nth(4).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::*;

    const ACCOUNT: &str = "111122223333";

    fn root() -> Caller {
        Caller::root(ACCOUNT, "us-east-1", Timestamp::UNIX_EPOCH)
    }

    fn value(caller: &Caller, key: &str) -> Option<String> {
        let target = Target::resource(format!("arn:aws:iam::{ACCOUNT}:role/r"));
        context(caller, &target).values(key).map(|it| it.join(","))
    }

    #[test]
    fn a_session_brings_its_keys_and_nobody_else_has_them() {
        let issued = ("aws:TokenIssueTime".to_owned(), "2026-11-23T12:00:00Z".to_owned());
        let session = Caller { session_context: BTreeMap::from([issued]), ..root() };
        let key = "aws:TokenIssueTime";
        assert_eq!(value(&session, key).as_deref(), Some("2026-11-23T12:00:00Z"));
        assert_eq!(value(&root(), key), None);
    }

    #[test]
    fn an_unsigned_request_has_no_principal() {
        let nobody = Caller { kind: CallerKind::Anonymous, ..root() };
        assert_eq!(value(&nobody, "aws:PrincipalArn"), None);
        assert_eq!(value(&nobody, "aws:PrincipalIsAWSService"), None);
        assert_eq!(value(&nobody, "aws:PrincipalAccount").as_deref(), Some("anonymous"));
        assert_eq!(value(&nobody, "aws:EpochTime").as_deref(), Some("0"));
        assert_eq!(value(&nobody, "aws:SourceIp").as_deref(), Some("127.0.0.1"));
    }

    #[test]
    fn a_service_is_named_and_a_resource_has_an_owner() {
        let eks = Caller::service("eks.amazonaws.com", ACCOUNT, "us-east-1", Timestamp::UNIX_EPOCH);
        assert_eq!(value(&eks, "aws:PrincipalServiceName").as_deref(), Some("eks.amazonaws.com"));
        assert_eq!(value(&eks, "aws:SourceIp"), None);
        assert_eq!(value(&eks, "aws:ResourceAccount").as_deref(), Some(ACCOUNT));
        let public = Target::resource("arn:aws:ec2:us-east-1::image/ami-1");
        assert_eq!(context(&root(), &public).values("aws:ResourceAccount"), None);
    }
}
