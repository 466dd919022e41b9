//! Which calls AWS denied, by the words that IAM says it with, wherever they are quoted: in a pod's
//! events, in what a container waits for, in a step that failed.
//!
//! Source: AWS's error messages, "Troubleshoot access denied error messages" in the IAM user guide:
//! `User: ARN is not authorized to perform: ACTION on resource: ARN because …`.

use serde::Serialize;

const BEFORE: &str = "User: ";
const BETWEEN: &str = " is not authorized to perform: ";
const RESOURCE: &str = " on resource: ";

/// A call that was denied to a principal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Denial {
    pub action: String,
    pub principal: String,
    pub resource: Option<String>,
}

/// Each denial once, in the order in which they are quoted.
pub(super) fn denials<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<Denial> {
    let mut found: Vec<Denial> = Vec::new();
    for text in texts {
        for (at, _) in text.match_indices(BETWEEN) {
            let denial = denial(&text[..at], &text[at + BETWEEN.len()..]);
            found.extend(denial.filter(|it| !found.contains(it)));
        }
    }
    found
}

fn denial(before: &str, after: &str) -> Option<Denial> {
    let (_, principal) = before.rsplit_once(BEFORE)?;
    let is_action = |it: char| it.is_ascii_alphanumeric() || it == ':' || it == '-';
    let end = after.find(|it: char| !is_action(it)).unwrap_or(after.len());
    let (action, rest) = after.split_at(end);
    let resource = rest.strip_prefix(RESOURCE).and_then(|it| it.split_whitespace().next());
    // It is shown in a command: whoever writes events must not write commands.
    let is_of_arn = |it: char| it.is_ascii_alphanumeric() || ":/_+=,.@-".contains(it);
    let is_named = action.contains(':') && principal.chars().all(is_of_arn);
    is_named.then(|| Denial {
        action: action.to_owned(),
        principal: principal.to_owned(),
        resource: resource.map(str::to_owned),
    })
}

pub(super) fn rendered(all: &[Denial]) -> String {
    let line = |it: &Denial| {
        let Denial { action, principal, .. } = it;
        format!(
            "AWS denied {action} to {principal}; `nodestead explain access --principal {principal} --action {action}` says why\n"
        )
    };
    all.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_action_and_the_principal_are_read_out_of_what_aws_says() {
        let ecr = "401 Unauthorized; error execing plugin: AccessDeniedException: User: arn:aws:sts::1:assumed-role/r/i-1 is not authorized to perform: ecr:GetAuthorizationToken on resource: * because no identity-based policy allows it";
        let ec2 = "You are not authorized to perform this operation. User: arn:aws:iam::1:user/u is not authorized to perform: ec2:DescribeInstances because no identity-based policy allows it";
        let all = denials([ecr, ecr, ec2, "User: x, is not authorized to perform: sleep"]);
        let told: Vec<_> =
            all.iter().map(|it| (it.action.as_str(), it.principal.as_str())).collect();
        assert_eq!(
            told,
            [
                ("ecr:GetAuthorizationToken", "arn:aws:sts::1:assumed-role/r/i-1"),
                ("ec2:DescribeInstances", "arn:aws:iam::1:user/u"),
            ]
        );
        assert_eq!((all[0].resource.as_deref(), &all[1].resource), (Some("*"), &None));
        assert!(rendered(&all).starts_with("AWS denied ecr:GetAuthorizationToken to arn:aws:sts"));
        let command = "User: $(reboot) is not authorized to perform: ec2:DescribeInstances";
        assert!(denials([command]).is_empty(), "that is no principal");
    }
}
