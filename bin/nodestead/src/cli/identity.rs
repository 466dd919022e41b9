//! The commands about identities: who may do what, and with whose credentials.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{At, InCluster, Output, pod_name};

#[derive(Args, Debug)]
pub(crate) struct ExplainAccess {
    #[command(flatten)]
    pub(crate) at: At,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Who asks: `NAME`, `role/NAME` or `user/NAME` of the account, an ARN (of a role's session or
    /// the account's root too), or the name of a service (`pods.eks.amazonaws.com`)
    #[arg(long, value_parser = principal)]
    pub(crate) principal: String,
    /// What for: `SERVICE:ACTION`
    #[arg(long, value_parser = action)]
    pub(crate) action: String,
    /// On what: an ARN, or `*` for calls that name nothing
    #[arg(long, default_value = "*", value_parser = resource)]
    pub(crate) resource: String,
    /// A condition key of the request, `KEY=VALUE[,VALUE…]`; may be given several times
    #[arg(long = "context", value_parser = pair)]
    pub(crate) context: Vec<(String, Vec<String>)>,
}

#[derive(Args, Debug)]
pub(crate) struct ExplainPodCredentials {
    #[command(flatten)]
    pub(crate) at: At,
    #[command(flatten)]
    pub(crate) within: InCluster,
    #[command(flatten)]
    pub(crate) output: Output,
    /// `NAMESPACE/NAME`, or a name in `default`
    #[arg(value_parser = pod_name)]
    pub(crate) pod: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DoctorCommand {
    /// Permissions on node roles that nodes do not need, the pods that inherit them, and the policy
    /// that the recorded calls would need
    #[command(after_help = "Examples:\n  nodestead doctor iam\n  \
        nodestead doctor iam --role my-app -o json | jq .proposal\n\n\
        Ends with 1 where a node role gives pods what only an application needs.")]
    Iam(DoctorIam),
}

#[derive(Args, Debug)]
pub(crate) struct DoctorIam {
    #[command(flatten)]
    pub(crate) at: At,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Propose a policy for this role instead, from the calls that it was recorded to make
    #[arg(long)]
    pub(crate) role: Option<String>,
    /// The record of calls [default: the region's, with the older part that was moved aside]
    #[arg(long, requires = "role")]
    pub(crate) log: Option<PathBuf>,
}

/// An ARN of somebody, a service, or a name as IAM takes them.
fn principal(text: &str) -> Result<String, String> {
    let known = ["iam", "sts"].iter().any(|it| text.starts_with(&format!("arn:aws:{it}::")));
    let name = text.strip_prefix("role/").or_else(|| text.strip_prefix("user/")).unwrap_or(text);
    let is_name = |it: &str| {
        let fits = |it: char| it.is_ascii_alphanumeric() || "+=,.@_-".contains(it);
        !it.is_empty() && it.len() <= 64 && it.chars().all(fits)
    };
    if known || is_name(name) || (name != text && name.split('/').all(is_name)) {
        return Ok(text.to_owned());
    }
    Err("a principal is `NAME`, `role/NAME`, `user/NAME`, `arn:aws:iam::ACCOUNT:…`, \
         `arn:aws:sts::ACCOUNT:…` or the name of a service"
        .to_owned())
}

fn action(text: &str) -> Result<String, String> {
    let is_action = text.split_once(':').is_some_and(|(service, name)| {
        !service.is_empty() && !name.is_empty() && !text.contains(['*', '?', ' '])
    });
    match is_action {
        true => Ok(text.to_owned()),
        false => Err("an action is `SERVICE:ACTION`, without wildcards".to_owned()),
    }
}

fn resource(text: &str) -> Result<String, String> {
    match text == "*" || text.starts_with("arn:") {
        true => Ok(text.to_owned()),
        false => Err("a resource is an ARN or `*`".to_owned()),
    }
}

fn pair(text: &str) -> Result<(String, Vec<String>), String> {
    match text.split_once('=') {
        Some((key, values)) if key.contains(':') => {
            Ok((key.to_owned(), values.split(',').map(str::to_owned).collect()))
        }
        _ => Err("a condition key is `KEY=VALUE`, such as `aws:SourceIp=10.0.0.1`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_is_a_name_an_arn_or_a_service() {
        for good in [
            "node",
            "role/node",
            "user/team/bob@example.com",
            "pods.eks.amazonaws.com",
            "arn:aws:sts::111122223333:assumed-role/node/i-1",
        ] {
            assert_eq!(principal(good).as_deref(), Ok(good));
        }
        for bad in ["", "role/", "group/node", "a b", "arn:aws:ec2:us-east-1:1:instance/i-1", "*"] {
            assert!(principal(bad).is_err(), "{bad}");
        }
    }
}
